//! Making a CA's words safe to keep and to show: bounded, without control characters, without secrets.

/// At most `most` bytes of `text`, with `…` where it was cut; control and direction-changing characters become spaces,
/// so that a CA's words can neither break a line of evidence nor turn a page round.
pub(super) fn clean(text: &str, most: usize) -> String {
    let mut out = String::with_capacity(text.len().min(most));
    for c in text.chars() {
        let c = if c.is_control() || is_steering(c) { ' ' } else { c };
        if out.len().saturating_add(c.len_utf8()) > most {
            out.push('…');
            break;
        }
        out.push(c);
    }
    out
}

/// Marks, embeddings, overrides and isolates of Unicode's bidirectional algorithm (UAX #9), and line separators.
fn is_steering(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Replaces every run of 40 or more base64url characters: thumbprints and SHA-256 digests have 43, nonces and EAB keys
/// of most CAs too, ES256 signatures 86. A hostile or chatty CA echoes all of them in its problem documents.
pub(super) fn without_secrets(text: &str) -> String {
    let secret = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+' | '/' | '=');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let run = rest.find(|c| !secret(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(run);
        if run >= 40 && !word.contains("//") {
            out.push_str("[…]");
        } else {
            out.push_str(word);
        }
        let next = after.find(secret).unwrap_or(after.len());
        let (between, after) = after.split_at(next);
        out.push_str(between);
        rest = after;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_at_a_character_and_cleaned() {
        assert_eq!(clean("a\nb\u{202e}c\u{0}d", 100), "a b c d");
        assert_eq!(clean("ääää", 5), "ää…");
        assert_eq!(clean("exact", 5), "exact");
    }

    #[test]
    fn long_base64_is_taken_out_and_words_names_and_links_stay() {
        let thumbprint = "LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ";
        let said = format!("Expected \"tok.{thumbprint}\" from www.example.com (see https://ca.example/docs/a-b)");
        let kept = without_secrets(&said);
        assert_eq!(kept, "Expected \"tok.[…]\" from www.example.com (see https://ca.example/docs/a-b)");
        assert_eq!(without_secrets(&"x".repeat(86)), "[…]");
        assert_eq!(without_secrets(""), "");
    }
}
