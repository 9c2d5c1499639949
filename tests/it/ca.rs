//! Private CAs, as an operator meets them: the daemon with its key holder, and the command line.

pub mod harness;
mod outside;
mod renewal;
mod trouble;

use std::fs;

use harness::Mesh;

use crate::harness::pki::openssl;

#[test]
fn a_ca_is_made_once_and_openssl_takes_what_it_issues() {
    let mesh = Mesh::start("");
    let (code, said) =
        mesh.run(&["ca", "issue", "mesh", "--profile", "workload", "--name", "a.svc.example", "--out", "@"]);
    assert_eq!((code, said.contains("keyward ca init mesh")), (1, true), "{said}");
    let bundle = mesh.ok(&["ca", "init", "mesh"]);
    assert!(bundle.contains("BEGIN CERTIFICATE"), "{bundle}");
    let (code, said) = mesh.run(&["ca", "init", "mesh"]);
    assert_eq!((code, said.contains("KW4611")), (1, true), "{said}");
    let id = "spiffe://mesh.example/ns/prod/sa/a";
    mesh.ok(&["ca", "issue", "mesh", "--profile", "workload", "--name", "a.svc.example", "--spiffe", id, "--out", "@"]);
    let place = mesh.dir.path();
    for (list, whose) in
        [("issuing.crl", &["ca", "crl", "mesh/1"][..]), ("root.crl", &["ca", "crl", "mesh/1", "--root"])]
    {
        let der = mesh.bytes(whose);
        fs::write(place.join("list.der"), der).unwrap();
        openssl(place, &["crl", "-inform", "der", "-in", "list.der", "-out", list]);
    }
    let lists = ["issuing.crl", "root.crl"].map(|l| fs::read_to_string(place.join(l)).unwrap()).concat();
    fs::write(place.join("crls.pem"), lists).unwrap();
    let strict =
        ["-x509_strict", "-crl_check_all", "-CRLfile", "crls.pem", "-CAfile", "ca.pem", "-untrusted", "cert.pem"];
    openssl(place, &[&["verify"], &strict[..], &["cert.pem"]].concat());
    let text = openssl(place, &["x509", "-in", "cert.pem", "-noout", "-text"]);
    assert!(text.contains(&format!("URI:{id}")) && text.contains("DNS:a.svc.example"), "{text}");
    // The key was made where it is used.
    let key = fs::metadata(place.join("key.pem")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&key) & 0o777, 0o600);
    let (code, said) =
        mesh.run(&["ca", "issue", "mesh", "--profile", "workload", "--name", "a.svc.example", "--out", "@"]);
    assert_eq!((code, said.contains("is there already")), (2, true), "{said}");
}

#[test]
fn what_the_profile_does_not_cover_is_refused_by_name() {
    let mesh = Mesh::made();
    for (more, code) in [
        (&["--name", "a.other.example"][..], "KW4612"),
        (&["--name", "*.svc.example"], "KW4612"),
        (&["--spiffe", "spiffe://other.example/ns/a/sa/b"], "KW4612"),
        (&["--spiffe", "spiffe://mesh.example/admin"], "KW4612"),
        (&["--name", "a.svc.example", "--lifetime", "24h", "--profile", "nothing"], "KW4610"),
    ] {
        let profile: &[&str] = if more.contains(&"--profile") { &[] } else { &["--profile", "workload"] };
        let (exit, said) = mesh.run(&[&["ca", "issue", "mesh", "--out", "@"], profile, more].concat());
        assert_eq!((exit, said.contains(code)), (1, true), "{more:?}: {said}");
    }
    assert_eq!(mesh.status()["cas"][0]["generations"][0]["leaves"], 0);
}

#[test]
fn a_revoked_certificate_stands_in_the_next_list_and_its_key_is_never_certified_again() {
    let mesh = Mesh::made();
    let place = mesh.dir.path();
    openssl(
        place,
        &[
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            "k.pem",
            "-out",
            "r.csr",
            "-subj",
            "/CN=x",
            "-addext",
            "subjectAltName=DNS:b.svc.example",
        ],
    );
    let sign = ["ca", "sign", "mesh", "@/r.csr", "--profile", "workload"];
    let serial =
        |out: &str| serde_json::from_str::<serde_json::Value>(out).unwrap()["serial"].as_str().unwrap().to_owned();
    let first = serial(&mesh.ok(&[&sign[..], &["-o", "json"]].concat()));
    let second = serial(&mesh.ok(&[&sign[..], &["-o", "json"]].concat()));
    assert_ne!(first, second);
    mesh.ok(&["ca", "revoke", &first, "--reason", "superseded"]);
    let list = mesh.list();
    assert!(
        list.contains(&first.to_uppercase()) && list.contains("Superseded") && !list.contains(&second.to_uppercase()),
        "{list}"
    );
    // The key goes with everything that was issued for it, and only once.
    let revoked = mesh.ok(&["ca", "revoke", &second, "--reason", "key-compromise"]);
    assert!(revoked.contains(&second) && !revoked.contains(&first), "{revoked}");
    let list = mesh.list();
    assert!(
        list.contains(&second.to_uppercase())
            && list.contains("Key Compromise")
            && list.contains("X509v3 CRL Number: \n                3"),
        "{list}"
    );
    let (exit, said) = mesh.run(&sign);
    assert_eq!((exit, said.contains("KW4613")), (1, true), "{said}");
    let (exit, said) = mesh.run(&["ca", "revoke", "4f00"]);
    assert_eq!((exit, said.contains("KW4610")), (1, true), "{said}");
}

#[test]
fn the_audit_log_announces_every_signature_and_verifies() {
    let mesh = Mesh::made();
    mesh.ok(&["ca", "issue", "mesh", "--profile", "workload", "--name", "a.svc.example", "--out", "@"]);
    let out = mesh.ok(&["audit", "query", "--action", "ca.key", "-o", "json", "--limit", "100"]);
    let answer: serde_json::Value = serde_json::from_str(&out).unwrap();
    let entries = answer["entries"].as_array().unwrap();
    let phase = |phase: &str| entries.iter().filter(|e| e["phase"] == phase).count();
    // Two keys, two certificates, two lists, a leaf.
    assert_eq!((phase("intent"), phase("outcome")), (7, 7), "{out}");
    let state = mesh.dir.path().join("state");
    mesh.ok(&["audit", "verify", state.to_str().unwrap()]);
    assert_eq!(mesh.status()["keyholder"]["operations"], 7);
}
