//! The samples of the documentation are what they say.

use std::fs;
use std::path::Path;

use keyward::codec::tlog_policy::{Policy, Unsaid};

use crate::harness::witness::{WitnessProcess, free_address};

fn sample(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)).unwrap()
}

#[test]
fn the_sample_of_a_witness_runs() {
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    let text = sample("witness.toml");
    let state = dir.path().join("state");
    let text = text.replace("/var/lib/keyward-witness", state.to_str().unwrap());
    let text = text.replace("127.0.0.1:9182", &address.to_string());
    let witness = WitnessProcess::of(dir.path(), "witness.example.com/keyward", &text, address);
    assert!(witness.key.starts_with("witness.example.com/keyward+"));
    assert!(witness.log().contains("logs=2"), "{}", witness.log());
}

#[test]
fn the_sample_of_a_policy_is_one() {
    let policy = Policy::parse(sample("witnesses.policy").as_bytes(), Unsaid::Refused).unwrap();
    assert_eq!(policy.witnesses().len(), 2);
    assert!(!policy.needs_no_witness() && policy.witnesses().iter().all(|w| w.url.is_some()));
}
