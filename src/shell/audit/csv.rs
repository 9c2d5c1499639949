//! Entries as comma-separated values (RFC 4180).

use super::model::Row;
use super::plain;

/// The columns.
pub(in crate::shell) const HEAD: &str =
    "sequence,time,id,code,title,action,phase,outcome,target,actor,tier,correlation,text";

/// One line without its end.
pub(in crate::shell) fn line(row: &Row) -> String {
    let tier = row.tier.map(|t| t.to_string()).unwrap_or_default();
    let fields = [
        &row.sequence,
        &row.time,
        &row.id,
        &row.code,
        &row.title,
        &row.action,
        &row.phase,
        row.outcome.as_ref().unwrap_or(&String::new()),
        &row.target,
        &row.actor,
        &tier,
        row.correlation.as_ref().unwrap_or(&String::new()),
        &row.text,
    ]
    .map(|text| field(text));
    fields.join(",")
}

/// A field, quoted where it must be. What a spreadsheet would take for a formula gets an apostrophe in front.
fn field(text: &str) -> String {
    let text = plain(text);
    // A formula may also hide behind spaces.
    let formula = text.trim_start().starts_with(['=', '+', '-', '@', '|', '%', '＝', '＋', '－', '＠']);
    let text = if formula { format!("'{text}") } else { text };
    if text.contains([',', '"', '\'', ' ']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_quoted_and_never_a_formula() {
        for (from, to) in [
            ("", ""),
            ("KW2001", "KW2001"),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("=cmd|' /C calc'!A0", "\"'=cmd|' /C calc'!A0\""),
            ("  +1", "\"'  +1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("-2", "\"'-2\""),
            ("\t=1", "\"' =1\""),
            ("a\r\nb", "\"a\u{fffd} b\""),
        ] {
            assert_eq!(field(from), to, "{from:?}");
        }
    }

    #[test]
    fn a_line_has_as_many_fields_as_the_head() {
        assert_eq!(line(&Row::default()).matches(',').count(), HEAD.matches(',').count());
    }
}
