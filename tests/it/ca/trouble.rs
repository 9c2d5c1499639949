//! Private CAs when something is missing.

use std::fs;
use std::process::Command;

use super::harness::Mesh;

#[test]
fn without_its_key_holder_a_ca_signs_nothing_and_says_so_and_goes_on_when_it_is_back() {
    let mesh = Mesh::made();
    let holder = |mesh: &Mesh| mesh.status()["keyholder"]["process"].as_u64();
    let first = holder(&mesh).unwrap();
    assert!(Command::new("kill").args(["-KILL", &first.to_string()]).status().unwrap().success());
    // The daemon starts it again by itself; what it has seen and signed is still there.
    let second = mesh.wait("another key holder", |mesh| holder(mesh).filter(|process| *process != first));
    assert_ne!(first, second);
    assert_eq!(mesh.status()["keyholder"]["operations"], 6);
    mesh.ok(&["ca", "issue", "mesh", "--profile", "workload", "--name", "a.svc.example", "--out", "@"]);
}

#[test]
fn the_key_holder_ends_with_a_daemon_that_was_killed() {
    let mut mesh = Mesh::made();
    let first = mesh.status()["keyholder"]["process"].as_u64().unwrap();
    mesh.restart();
    let second = mesh.status()["keyholder"]["process"].as_u64().unwrap();
    assert_ne!(first, second, "only one can hold the directory, so the first one is gone");
}

#[test]
fn a_list_that_is_gone_is_made_again_with_a_higher_number() {
    let mesh = Mesh::made();
    let number = |mesh: &Mesh| mesh.status()["cas"][0]["generations"][0]["issuing"]["crl"]["number"].as_u64();
    assert_eq!(number(&mesh), Some(1));
    let file = mesh.dir.path().join("state/pki/mesh-1-issuing.crl");
    fs::remove_file(&file).unwrap();
    // Its number is spent before it is there.
    mesh.wait("a new list", |mesh| (number(mesh) == Some(2) && file.exists()).then_some(()));
    assert!(mesh.list().contains("X509v3 CRL Number: \n                2"));
}

#[test]
fn the_generation_that_signs_is_not_revoked_before_it_has_a_replacement() {
    let mesh = Mesh::made();
    let revoke =
        |number: &str, reason: &str| mesh.run(&["ca", "revoke", "mesh", "--generation", number, "--reason", reason]);
    let (code, said) = revoke("1", "ca-compromise");
    assert_eq!(code, 1, "{said}");
    for expected in ["KW4647", "keyward ca compromised", "keyward ca emergency"] {
        assert!(said.contains(expected), "{expected} is not in {said}");
    }
    let (code, said) = revoke("7", "ca-compromise");
    assert!(code == 1 && said.contains("KW4640") && said.contains("no generation 7"), "{said}");
    let (code, said) = revoke("1", "superseded");
    assert!(code != 0 && said.contains("keyward ca rollback"), "{said}");
    let (code, said) = mesh.run(&["ca", "revoke", "mesh", "--generation", "1"]);
    assert!(code == 2 && said.contains("--reason"), "{said}");
    mesh.ok(&["ca", "issue", "mesh", "--profile", "workload", "--name", "a.svc.example", "--out", "@"]);
}
