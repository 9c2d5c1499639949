//! The configuration: samples load, mistakes are shown in their place with the way to mend them.

use keyward::shell::config::{self, Overrides};

fn parse(text: &str) -> Result<config::Settings, config::ConfigError> {
    config::parse("keyward.toml", text, Overrides::default())
}

fn samples() -> Vec<(String, String)> {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut found: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "toml"))
        .map(|p| (p.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(&p).unwrap()))
        .collect();
    found.sort();
    assert!(found.len() >= 4, "the samples were not found");
    found
}

#[test]
fn every_sample_loads() {
    for (name, text) in samples() {
        if let Err(e) = parse(&text) {
            panic!("{name}:\n{e}");
        }
    }
}
