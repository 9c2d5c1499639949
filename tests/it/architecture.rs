//! The layers of `src/lib.rs`, held by reading the sources.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Layer (first path element under `src/`) → the crate layers it may name.
const MAY_IMPORT: [(&str, &[&str]); 10] = [
    ("domain", &["domain"]),
    ("ports", &["domain"]),
    ("engine", &["domain", "ports", "engine"]),
    ("codec", &["domain", "codec"]),
    ("adapters", &["domain", "ports", "codec", "adapters"]),
    ("sim", &["domain", "ports", "engine", "sim"]),
    ("witness", &["domain", "codec", "adapters"]),
    ("lease", &["domain", "ports", "codec", "adapters"]),
    ("permit", &["domain", "codec", "lease"]),
    ("shell", &["domain", "ports", "engine", "codec", "adapters", "sim", "shell"]),
];

fn sources() -> BTreeMap<PathBuf, String> {
    fn walk(dir: &Path, out: &mut BTreeMap<PathBuf, String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, out);
            } else if path.extension().is_some_and(|e| e == "rs") {
                out.insert(path.clone(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut out);
    assert!(out.len() > 30, "the sources were not found");
    out
}

/// Path elements below `src/`, without the extension.
fn rooms(path: &Path) -> Vec<String> {
    let rest = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    rest.with_extension("").iter().map(|c| c.to_string_lossy().into_owned()).collect()
}

/// Code lines without comments, up to the tests at the end of the file.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().take_while(|l| l.trim() != "#[cfg(test)]").filter(|l| !l.trim_start().starts_with("//"))
}

/// Every `crate::a::b` in the code, as its path elements.
fn crate_paths(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for line in code(text) {
        for (at, _) in line.match_indices("crate::") {
            if line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let rest: String =
                line[at + 7..].chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect();
            found.push(rest.split("::").filter(|s| !s.is_empty()).map(str::to_owned).collect());
        }
    }
    found
}

#[test]
fn a_layer_names_only_the_layers_below_it() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(layer, _)| rooms(&path)[0] == *layer) else { continue };
        for target in crate_paths(&text) {
            if !target.is_empty() && !allowed.contains(&target[0].as_str()) {
                wrong.push(format!("{} names crate::{}", path.display(), target.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_file_of_the_domain_names_only_earlier_files() {
    let sources = sources();
    let module = sources.iter().find(|(p, _)| rooms(p) == ["domain", "mod"]).unwrap().1;
    let order: Vec<&str> =
        module.lines().filter_map(|l| l.strip_prefix("pub mod ")).map(|l| l.trim_end_matches(';')).collect();
    let place = |name: &str| order.iter().position(|n| *n == name);
    let mut wrong = Vec::new();
    for (path, text) in &sources {
        let rooms = rooms(path);
        if rooms[0] != "domain" || rooms[1] == "mod" {
            continue;
        }
        let own = place(&rooms[1]).unwrap_or_else(|| panic!("{} is not declared", path.display()));
        for target in crate_paths(text).iter().filter(|t| t.len() > 1) {
            if place(&target[1]).is_none_or(|p| p > own) {
                wrong.push(format!("{} names the later domain::{}", rooms[1], target[1]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_domain_has_no_io_no_clock_no_randomness_no_logging_no_serde_and_no_async() {
    let banned = [
        "std::fs",
        "std::net::Tcp",
        "std::net::Udp",
        "std::process",
        "std::thread",
        "std::time::",
        "tokio",
        "serde",
        "tracing",
        "log::",
        "rand",
        "async ",
        ".await",
        "println!",
        "std::env",
        "Mutex",
        "RwLock",
    ];
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        if rooms(&path)[0] != "domain" {
            continue;
        }
        for line in code(&text) {
            for word in banned.iter().filter(|w| line.contains(**w)) {
                if !(*word == "rand" && line.contains("random")) {
                    wrong.push(format!("{}: {word}: {line}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_engine_and_the_simulation_know_no_runtime() {
    for (path, text) in sources() {
        if matches!(rooms(&path)[0].as_str(), "engine" | "sim" | "codec") {
            for line in code(&text) {
                for word in ["tokio", "std::fs", "reqwest", "axum", "hyper", "rusqlite"] {
                    assert!(!line.contains(word), "{}: {line}", path.display());
                }
            }
        }
    }
}

#[test]
fn an_adapter_imports_no_other_adapter() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let rooms = rooms(&path);
        if rooms[0] != "adapters" || rooms[1] == "mod" {
            continue;
        }
        for target in crate_paths(&text) {
            if target.len() > 1 && target[0] == "adapters" && target[1] != rooms[1] {
                wrong.push(format!("{} names crate::{}", path.display(), target.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn status_codes_exist_only_in_the_http_rooms_of_the_shell() {
    for (path, text) in sources() {
        let rooms = rooms(&path);
        let http = rooms[0] == "shell" && matches!(rooms[1].as_str(), "http" | "acme_server" | "demo");
        if !http {
            for line in code(&text) {
                assert!(!line.contains("StatusCode::"), "{}: {line}", path.display());
            }
        }
    }
}

#[test]
fn only_the_wiring_names_concrete_adapters() {
    for (path, text) in sources() {
        let rooms = rooms(&path);
        if rooms[0] == "shell" && rooms[1] != "wire" {
            for target in crate_paths(&text) {
                assert!(
                    target.first().is_none_or(|t| t != "adapters"),
                    "{} names crate::{}",
                    path.display(),
                    target.join("::")
                );
            }
        }
    }
}

#[test]
fn no_source_file_outgrows_its_room() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= 600, "{} has {lines} lines: split it by what it owns", path.display());
    }
}
