//! Whatever a file holds, parsing answers: settings or a report.

use proptest::prelude::*;

use super::{parse, parse_staging, samples};

/// Pieces that matter to the reader, to be thrown into samples.
const PIECES: [&str; 24] = [
    "\"",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ".",
    "\n",
    "#",
    "\\u0000",
    "\u{feff}",
    "é",
    "0640",
    "-1",
    "99999999999999999999",
    "1e400",
    "true",
    "1979-05-27T07:32:00Z",
    "''''",
    "[[certificate]]\n",
    "[policy]\n",
    "id = \"portal\"\n",
];

fn answers(text: &str) {
    for result in [parse(text), parse_staging(text)] {
        if let Err(error) = result {
            let report = error.to_string();
            assert!(!error.problems().is_empty() && report.contains("error["), "{report}");
            assert!(error.problems().iter().all(|p| keyward::shell::explain::explain(p.code).is_some()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_sample_never_panics(
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..40, any::<prop::sample::Index>()), 1..12),
    ) {
        let samples = samples();
        let mut text: Vec<char> = which.get(&samples).1.chars().collect();
        for (at, remove, piece) in edits {
            let from = at.index(text.len() + 1);
            let to = (from + remove).min(text.len());
            text.splice(from..to, piece.get(&PIECES).chars());
        }
        answers(&text.into_iter().collect::<String>());
    }

    #[test]
    fn swapped_values_never_panic(
        which in any::<prop::sample::Index>(),
        a in any::<prop::sample::Index>(),
        b in any::<prop::sample::Index>(),
    ) {
        // Valid TOML with values in wrong places goes deeper into the rules than broken TOML does.
        let samples = samples();
        let mut lines: Vec<String> = which.get(&samples).1.lines().map(str::to_owned).collect();
        let (a, b) = (a.index(lines.len()), b.index(lines.len()));
        let value = |l: &String| l.split_once(" = ").map(|(_, v)| v.to_owned());
        let key = |l: &String| l.split_once(" = ").map(|(k, _)| k.to_owned());
        if let (Some(ka), Some(va), Some(kb), Some(vb)) = (key(&lines[a]), value(&lines[a]), key(&lines[b]), value(&lines[b])) {
            lines[a] = format!("{ka} = {vb}");
            lines[b] = format!("{kb} = {va}");
        }
        answers(&lines.join("\n"));
    }

    #[test]
    fn any_text_gets_an_answer(text in "\\PC{0,200}") {
        answers(&text);
    }
}

#[test]
fn deep_nesting_and_odd_tables_get_an_answer() {
    for text in [
        "a = ".to_owned() + &"[".repeat(100_000),
        "a = ".to_owned() + &"{ a = ".repeat(10_000),
        "[".to_owned() + &"a.".repeat(50_000) + "a]",
        "a".repeat(1_000_000),
        "\u{0}".repeat(1_000),
        String::new(),
        "[[certificate]]\n[[certificate]]\n[[observe]]\n[[path]]\n[[issuer]]\n[[solver]]\n[policy]\n[[policy.rule]]"
            .to_owned(),
        "certificate = [1, [2], {}]\npath = {}\nissuer = 5\nlisten = []".to_owned(),
    ] {
        answers(&text);
    }
}
