//! The door of a witness as others see it.

use std::path::Path;
use std::process::Command;

use keyward::codec::note::Signs;

use crate::harness::witness::{WitnessProcess, keyward, signer};

const ORIGIN: &str = "log.example/stock";

#[test]
fn a_stock_client_finds_every_status_of_the_specification() {
    let dir = tempfile::tempdir().unwrap();
    let log = signer(ORIGIN, Signs::Notes, 1).verifier().to_string();
    let witness = WitnessProcess::new(dir.path(), "witness.example/stock", &[log]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/witness/client.py");
    let output = Command::new("python3")
        .arg(script)
        .args([&witness.url(), &witness.key, ORIGIN, &"01".repeat(32), &"02".repeat(32)])
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        !said.contains("No module named"),
        "python3 needs its cryptography package: `tests/run` installs it\n{said}"
    );
    assert!(output.status.success() && said.ends_with("all as specified\n"), "{said}\n{}", witness.log());
    let log = witness.log();
    assert!(log.contains("KW6420") && log.contains("KW6421"), "a fork is told: {log}");
}

#[test]
fn what_init_made_is_not_made_again_and_key_prints_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = signer(ORIGIN, Signs::Notes, 1).verifier().to_string();
    let witness = WitnessProcess::new(dir.path(), "witness.example/init", &[log]);
    let run = |args: &[&str]| keyward().args(args).arg("-c").arg(&witness.config).output().unwrap();
    let again = run(&["witness", "init", "--name", "witness.example/other"]);
    assert_eq!(again.status.code(), Some(1));
    let printed = String::from_utf8(run(&["witness", "key"]).stdout).unwrap();
    assert_eq!(printed.trim(), witness.key);
    let second = run(&["witness", "run"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another process holds"));
}
