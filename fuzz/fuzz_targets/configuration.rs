//! Configurations: settings that keep their promises, or a report that names the file and can be shown.
#![no_main]

use keyward::domain::inventory::Environment;
use keyward::shell::config::{self, Overrides};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for staging in [false, true] {
        match config::parse("keyward.toml", text, Overrides { staging, state_dir: None }) {
            Ok(settings) => {
                assert!(settings.state_dir.is_absolute());
                assert!(!staging || settings.estate.environment == Environment::Staging);
                assert_eq!(settings.sandbox_dir.is_some(), settings.estate.environment == Environment::Staging);
                let known = |id| settings.estate.issuers.contains_key(id);
                for credential in settings.estate.credentials.values() {
                    assert!(credential.managed().is_none_or(|m| !m.names.is_empty() && m.issuers.iter().all(known)));
                }
            }
            Err(report) => {
                let shown = report.to_string();
                assert!(shown.contains("keyward.toml"), "{shown}");
            }
        }
    }
});
