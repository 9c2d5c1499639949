//! Good and bad configurations: a bad one says behind its line what is to be found there (`# finds KW4429`), a JSON file in
//! a list beside it. Nothing else may be found, and nothing at all in a good one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use keyward::codec::lint::{Finding, Kind, LONGEST_FILE, Level, Source, lint};

struct Disk;

impl Source for Disk {
    fn read(&self, path: &str) -> Result<String, String> {
        fs::read_to_string(path).map_err(|e| e.to_string())
    }

    fn matches(&self, pattern: &str) -> Result<Vec<String>, String> {
        let all = glob::glob(pattern).map_err(|e| e.to_string())?;
        Ok(all.map(|p| p.unwrap().display().to_string()).collect())
    }
}

const KINDS: [(Kind, &str); 4] =
    [(Kind::Nginx, "nginx"), (Kind::Envoy, "envoy"), (Kind::Caddy, "caddy"), (Kind::Haproxy, "haproxy")];

fn corpus(prefix: &str) -> Vec<(Kind, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/lint");
    let mut all = Vec::new();
    for (kind, dir) in KINDS {
        let before = all.len();
        for entry in fs::read_dir(root.join(dir)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.starts_with(prefix) && !name.ends_with(".expect") {
                all.push((kind, path));
            }
        }
        assert!(all.len() > before || prefix == "meant", "there is no {prefix} file for {dir}");
    }
    all.sort_by(|a, b| a.1.cmp(&b.1));
    all
}

fn found(kind: Kind, path: &Path) -> Vec<Finding> {
    lint(kind, path.to_str().unwrap(), &Disk)
}

/// Line and code of what is to be found.
fn expected(path: &Path) -> Vec<(usize, String)> {
    let beside = PathBuf::from(format!("{}.expect", path.display()));
    let mut all = Vec::new();
    if let Ok(list) = fs::read_to_string(beside) {
        for line in list.lines() {
            let (line, code) = line.split_once(' ').unwrap();
            all.push((line.parse().unwrap(), code.to_owned()));
        }
    }
    for (n, line) in fs::read_to_string(path).unwrap().lines().enumerate() {
        if let Some((_, codes)) = line.split_once("# finds ") {
            all.extend(codes.split_whitespace().map(|code| (n + 1, code.to_owned())));
        }
    }
    all.sort();
    all
}

#[test]
fn nothing_is_found_in_good_configurations() {
    for (kind, path) in corpus("good") {
        assert_eq!(found(kind, &path), [], "{}", path.display());
    }
}

#[test]
fn each_bad_configuration_is_convicted_on_its_line_and_of_nothing_else() {
    let mut wrong = Vec::new();
    let mut codes = BTreeMap::new();
    for (kind, path) in corpus("bad") {
        let expected = expected(&path);
        assert!(!expected.is_empty(), "{} says not what is to be found", path.display());
        let findings = found(kind, &path);
        let mut seen: Vec<(usize, String)> = findings.iter().map(|f| (f.line, f.code.to_owned())).collect();
        seen.sort();
        if seen != expected {
            wrong.push(format!("{}: expected {expected:?}, found {findings:#?}", path.display()));
        }
        for finding in findings {
            assert!(finding.mend.len() > 10 && keyward::shell::explain::explain(finding.code).is_some(), "{finding:?}");
            *codes.entry(finding.code).or_insert(0) += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(codes.len() >= 17, "the corpus shows only {codes:?}");
}

#[test]
fn what_is_not_understood_is_never_clean() {
    for (kind, path) in corpus("unread") {
        let findings = found(kind, &path);
        assert!(
            findings.iter().any(|f| f.level == Level::Unread && f.code == "KW4420"),
            "{}: {findings:?}",
            path.display()
        );
    }
    for (kind, _) in KINDS {
        assert!(!found(kind, Path::new("/nonexistent/x")).is_empty(), "a missing file");
        assert!(!found(kind, Path::new("/dev/null")).is_empty(), "an empty file guards nothing");
    }
}

#[test]
fn what_is_said_to_be_meant_is_shown_and_does_not_count() {
    for (kind, path) in corpus("meant") {
        let findings = found(kind, &path);
        assert!(findings.iter().all(|f| f.level == Level::Meant) && !findings.is_empty(), "{findings:#?}");
    }
}

/// A source that has one file only.
struct Text<'a>(&'a str);

impl Source for Text<'_> {
    fn read(&self, path: &str) -> Result<String, String> {
        if path == "/x" { Ok(self.0.to_owned()) } else { Err("there is no other file".to_owned()) }
    }

    fn matches(&self, _pattern: &str) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
}

#[test]
fn whatever_is_cut_off_or_changed_is_read_without_harm() {
    for (kind, path) in corpus("good").into_iter().chain(corpus("bad")) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for end in (0..text.len()).step_by(7).filter(|end| text.is_char_boundary(*end)) {
            drop(lint(kind, "/x", &Text(&text[..end])));
            let mut changed = text.clone();
            changed.insert_str(end, ["{", "}", "\"", ";", "[", "\\", "\t", ":"][end % 8]);
            drop(lint(kind, "/x", &Text(&changed)));
        }
    }
    for (kind, _) in KINDS {
        for bomb in ["{".repeat(100_000), "a {\n".repeat(50_000), "[".repeat(100_000), "a: &a\n".repeat(10_000)] {
            assert!(!lint(kind, "/x", &Text(&bomb)).is_empty());
        }
        let long = "#".repeat(LONGEST_FILE + 1);
        assert_eq!(lint(kind, "/x", &Text(&long))[0].code, "KW4420");
    }
}

#[test]
fn the_command_says_file_and_line_and_its_exit_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/lint");
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_keyward"))
            .args(arguments)
            .current_dir(&root)
            .env_clear()
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    for (file, code) in [
        ("nginx/good-status-compared.conf", 0),
        ("nginx/bad-return.conf", 1),
        ("nginx/bad-sloppy-gate.conf", 3),
        ("nginx/unread-quote.conf", 2),
        ("nginx/nonesuch.conf", 2),
        ("nginx/meant-side-door.conf", 0),
    ] {
        let (exit, out, err) = run(&["gate", "lint", file]);
        assert_eq!(exit, code, "{file}: {out}{err}");
    }
    let (_, out, _) = run(&["gate", "lint", "nginx/bad-return.conf"]);
    assert!(out.contains("nginx/bad-return.conf:11: fails open KW4429") && out.contains("mend: "), "{out}");
    let (exit, out, _) = run(&["gate", "lint", "--kind", "envoy", "envoy/bad-failure-mode-allow.yaml", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((exit, json[0]["code"].as_str(), json[0]["level"].as_str()), (1, Some("KW4433"), Some("fails-open")));
    let (exit, _, err) = run(&["gate", "lint", "nginx/parts/gate.inc", "/etc/hosts"]);
    assert!(exit == 2 && err.contains("--kind"), "{err}");
}
