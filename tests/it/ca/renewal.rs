//! A private CA as the issuer of a credential that is kept.

use std::fs;

use super::harness::Mesh;

const WEB: &str = "[[certificate]]\nid = \"web\"\nnames = [\"web.svc.example\"]\nissuers = [\"private\"]\n\
    spiffe = \"spiffe://mesh.example/ns/prod/sa/web\"\n[[certificate.install]]\ndir = \"@/web\"\n\
    [[path]]\nid = \"approve\"\nneeds = [\"web\"]\n";

fn current(mesh: &Mesh) -> Option<String> {
    let shown = mesh.credential("web");
    Some(shown["installed_serial"].as_str()?.to_owned())
}

#[test]
fn a_credential_gets_its_certificate_from_a_private_ca_and_its_path_opens() {
    let mut mesh = Mesh::start(WEB);
    mesh.ok(&["ca", "init", "mesh"]);
    mesh.ok(&["cert", "renew", "web"]);
    let first = mesh.wait("a certificate", current);
    mesh.wait("an open path", |mesh| (mesh.run(&["gate", "check", "approve"]).0 == 0).then_some(()));
    let chain = fs::read_to_string(mesh.dir.path().join("web/current/fullchain.pem")).unwrap();
    assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2);
    // After a restart what was issued is trusted as before, and the CA goes on.
    mesh.restart();
    mesh.wait("an open path", |mesh| (mesh.run(&["gate", "check", "approve"]).0 == 0).then_some(()));
    assert_eq!(current(&mesh).as_deref(), Some(&*first));
    mesh.ok(&["cert", "renew", "web"]);
    mesh.wait("another certificate", |mesh| current(mesh).filter(|serial| *serial != first));
    assert_eq!(mesh.status()["cas"][0]["generations"][0]["leaves"], 2);
}

#[test]
fn a_compromised_key_closes_the_path_until_there_is_a_new_one() {
    let mesh = Mesh::start(WEB);
    mesh.ok(&["ca", "init", "mesh"]);
    mesh.ok(&["cert", "renew", "web"]);
    let serial = mesh.wait("a certificate", current);
    mesh.wait("an open path", |mesh| (mesh.run(&["gate", "check", "approve"]).0 == 0).then_some(()));
    mesh.ok(&["ca", "revoke", &serial, "--reason", "key-compromise"]);
    mesh.wait("a closed path", |mesh| (mesh.run(&["gate", "check", "approve"]).0 == 5).then_some(()));
    // Nobody has to ask for the new one: the window of what is taken back is asked for at once, not with the next poll.
    mesh.wait("an open path", |mesh| (mesh.run(&["gate", "check", "approve"]).0 == 0).then_some(()));
    assert_ne!(current(&mesh), Some(serial));
}
