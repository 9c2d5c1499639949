//! The configuration: samples load, mistakes are shown in their place with the way to mend them.

mod codes;
mod directories;
mod host;
mod links;
mod mutations;
mod policies;
mod refusals;
mod settings;
mod workloads;

use keyward::shell::config::{self, ConfigError, Overrides, Settings};

/// Parses as `keyward.toml` of production.
fn parse(text: &str) -> Result<Settings, ConfigError> {
    config::parse("keyward.toml", text, Overrides::default())
}

/// Parses with `--staging`.
fn parse_staging(text: &str) -> Result<Settings, ConfigError> {
    config::parse("keyward.toml", text, Overrides { staging: true, state_dir: None })
}

/// The sample of that name.
fn sample(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Samples of other files than the configuration.
const POLICY_FILES: [&str; 3] = ["policy.toml", "contract.toml", "policy-tests.toml"];

/// Every sample with its name.
fn samples() -> Vec<(String, String)> {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".toml") && !POLICY_FILES.contains(&name.as_str()))
        .collect();
    names.sort();
    assert!(names.len() >= 4, "the samples were not found");
    names.into_iter().map(|name| (name.clone(), sample(&name))).collect()
}

#[test]
fn every_sample_loads() {
    for (name, text) in samples() {
        parse(&text).unwrap_or_else(|e| panic!("{name}:\n{e}"));
    }
}

#[test]
fn a_sample_loads_from_its_file_and_knows_its_path_and_digest() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/keyward.toml");
    let settings = config::load(&path, Overrides::default()).unwrap();
    let text = std::fs::read(&path).unwrap();
    assert_eq!(settings.path.as_deref(), Some(&*path));
    assert_eq!(settings.digest, keyward::domain::key::Digest::of(&text));
}

#[test]
fn what_init_writes_loads_in_production_and_in_staging() {
    let text = config::sample::render("review.example.com", "ops@example.com", "/home/a b/\"keyward\"".as_ref());
    let settings = parse(&text).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(settings.state_dir.to_str(), Some("/home/a b/\"keyward\"/state"));
    assert_eq!((settings.estate.credentials.len(), settings.estate.paths.len(), settings.solvers.len()), (1, 1, 1));
    assert_eq!(settings.issuers[0].contacts, ["mailto:ops@example.com"]);
    let staging = parse_staging(&text).unwrap_or_else(|e| panic!("{e}"));
    assert!(staging.issuers[0].directory.contains("acme-staging"), "{}", staging.issuers[0].directory);
}

#[test]
fn a_directory_too_deep_for_its_sockets_is_refused_before_the_daemon_starts() {
    let dir = format!("/{}", "d".repeat(96));
    let text = config::sample::render("review.example.com", "ops@example.com", dir.as_ref());
    let codes = |e: ConfigError| e.problems().iter().map(|p| p.code).collect::<Vec<_>>();
    assert_eq!(codes(parse(&text).unwrap_err()), ["KW0017"], "state/admin.sock is too long, gate.sock just fits");
}

#[test]
fn a_wrong_domain_or_address_in_init_is_shown_and_not_written_through() {
    let text = config::sample::render("review", "ops", "/srv/keyward".as_ref());
    let codes: Vec<_> = parse(&text).unwrap_err().problems().iter().map(|p| p.code).collect();
    assert_eq!(codes, ["KW0022", "KW0030"]);
    let injected = config::sample::render("a.example\"]\nx = [\"", "o@e.org", "/srv".as_ref());
    assert!(parse(&injected).unwrap_err().problems().iter().all(|p| p.code == "KW0023"), "stays inside its string");
}

#[test]
fn a_missing_file_a_directory_and_bytes_that_are_no_text_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let binary = dir.path().join("binary.toml");
    std::fs::write(&binary, b"state_dir = \"\xff\"").unwrap();
    for (path, says) in
        [(dir.path().join("none.toml"), "No such file"), (dir.path().into(), "directory"), (binary, "UTF-8")]
    {
        let report = config::load(&path, Overrides::default()).unwrap_err().to_string();
        assert!(report.contains("KW0001") && report.contains(says), "{report}");
    }
}

#[test]
fn a_file_beyond_the_limit_is_refused_and_not_read() {
    let text = "#".repeat(config::LONGEST_FILE + 1);
    assert_eq!(parse(&text).unwrap_err().problems()[0].code, "KW0001");
}
