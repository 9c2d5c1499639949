//! Every code in the sources is explained, and `docs/codes.md` says the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use keyward::shell::explain;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

#[test]
fn the_published_list_of_codes_is_up_to_date() {
    let path = root().join("docs/codes.md");
    let expected = explain::markdown();
    if std::fs::read_to_string(&path).unwrap_or_default() != expected {
        let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join("codes.md");
        std::fs::write(&fresh, expected).unwrap();
        panic!("docs/codes.md is out of date: cp {} {}", fresh.display(), path.display());
    }
}

#[test]
fn the_audit_logs_page_lists_every_code() {
    const MARKS: (&str, &str) = ("<!-- codes: begin -->\n", "<!-- codes: end -->\n");
    let path = root().join("docs/audit.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(MARKS.0).unwrap();
    let (table, after) = rest.split_once(MARKS.1).unwrap();
    let expected = explain::table();
    if table != expected {
        let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join("audit.md");
        std::fs::write(&fresh, format!("{before}{}{expected}{}{after}", MARKS.0, MARKS.1)).unwrap();
        panic!("docs/audit.md is out of date: cp {} {}", fresh.display(), path.display());
    }
}

#[test]
fn the_gates_page_lists_every_reason_with_who_opens_it_again() {
    const MARKS: (&str, &str) = ("<!-- reasons: begin -->\n", "<!-- reasons: end -->\n");
    let path = root().join("docs/gate.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(MARKS.0).unwrap();
    let (table, after) = rest.split_once(MARKS.1).unwrap();
    let expected = explain::reasons();
    if table != expected {
        let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gate.md");
        std::fs::write(&fresh, format!("{before}{}{expected}{}{after}", MARKS.0, MARKS.1)).unwrap();
        panic!("docs/gate.md is out of date: cp {} {}", fresh.display(), path.display());
    }
}

#[test]
fn every_code_in_the_sources_has_a_row() {
    let mut paths = Vec::new();
    sources(&root().join("src"), &mut paths);
    let mut missing: BTreeMap<String, PathBuf> = BTreeMap::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let product = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (at, _) in product.match_indices("\"KW") {
            let code: String = product[at + 1..].chars().take_while(|c| *c != '"').collect();
            if code.len() == 6 && code[2..].bytes().all(|b| b.is_ascii_digit()) && explain::explain(&code).is_none() {
                missing.insert(code, path.clone());
            }
        }
    }
    assert!(missing.is_empty(), "add rows to src/shell/explain/ for {missing:#?}");
}

#[test]
fn every_code_of_configuration_and_host_is_used() {
    let mut paths = Vec::new();
    sources(&root().join("src/shell/config"), &mut paths);
    let text: String = paths.iter().map(|p| std::fs::read_to_string(p).unwrap()).collect();
    let unused: Vec<_> = explain::all().filter(|e| e.code.starts_with("KW0") && !text.contains(e.code)).collect();
    assert!(unused.is_empty(), "no rule gives {unused:?}");
}

#[test]
fn every_key_that_is_read_is_documented() {
    let (reference, docs) =
        (super::sample("keyward.toml"), std::fs::read_to_string(root().join("docs/configuration.md")).unwrap());
    let mut places: Vec<(String, String)> = reference
        .lines()
        .map(|l| l.split('#').next().unwrap().trim())
        .filter(|l| l.starts_with('['))
        .map(|header| (header.to_owned(), format!("{header}\nzzzzzz = 1")))
        .collect();
    for inline in ["eab = { ", "propagation = { ", "webhook = { "] {
        places.push((inline.to_owned(), format!("{inline}zzzzzz = 1, ")));
    }
    places.push(("state_dir =".to_owned(), "zzzzzz = 1\nstate_dir =".to_owned()));
    assert!(places.len() > 15, "{places:?}");
    let mut undocumented = Vec::new();
    for (at, by) in places {
        assert!(reference.contains(&at), "{at}");
        let error = super::parse(&reference.replacen(&at, &by, 1)).unwrap_err();
        let (_, keys) = error.problems()[0].mend.split_once("may hold: ").unwrap_or_else(|| panic!("{at}: {error}"));
        undocumented
            .extend(keys.split(", ").filter(|k| !docs.contains(&format!("`{k}`"))).map(|k| format!("{at}: {k}")));
    }
    assert!(undocumented.is_empty(), "docs/configuration.md lacks {undocumented:#?}");
}
