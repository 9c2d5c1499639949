//! Both directions with the real `ssh-keygen -Y`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use keyward::codec::consent::Decision;
use keyward::codec::consent::enrolled::Enrolled;
use keyward::codec::consent::sshsig::{Kept, Verification, verify};
use tempfile::TempDir;

use crate::harness::consent::{How, NAMESPACE, Soft, decision, then};

fn keygen(dir: &Path, arguments: &[&str], text: &[u8]) -> Result<String, String> {
    fs::write(dir.join("text"), text).unwrap();
    let output = Command::new("ssh-keygen")
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::from(fs::File::open(dir.join("text")).unwrap()))
        .output()
        .expect("ssh-keygen is missing: run tests/run, which installs it");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if output.status.success() { Ok(text) } else { Err(text) }
}

/// What OpenSSH says of our signature.
fn taken(signers: &str, kept: &Kept, decision: &Decision) -> Result<String, String> {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("signers"), signers).unwrap();
    fs::write(dir.path().join("sig"), kept.armoured()).unwrap();
    let arguments = ["-Y", "verify", "-f", "signers", "-I", "alice", "-n", NAMESPACE, "-s", "sig"];
    keygen(dir.path(), &arguments, &decision.canonical())
}

#[test]
fn what_openssh_signs_is_a_consent() {
    for (kind, bits) in [("ed25519", "256"), ("ecdsa", "256"), ("ecdsa", "384")] {
        for hash in ["sha256", "sha512"] {
            let dir = TempDir::new().unwrap();
            keygen(dir.path(), &["-q", "-t", kind, "-b", bits, "-N", "", "-f", "key", "-C", "alice"], b"").unwrap();
            let option = format!("hashalg={hash}");
            let arguments = ["-Y", "sign", "-q", "-f", "key", "-n", NAMESPACE, "-O", &option];
            let text = keygen(dir.path(), &arguments, &decision().canonical()).unwrap();
            let begin = text.find("-----BEGIN").unwrap();
            let kept = Kept::read(&text.as_bytes()[begin..]).unwrap();
            assert!(text.contains(&kept.armoured()), "we armour as OpenSSH does");
            let line = fs::read_to_string(dir.path().join("key.pub")).unwrap();
            let enrolled = Enrolled::authorized_key(line.trim_end()).unwrap();
            assert!(line.starts_with(&enrolled.key().line()));
            let judged = |decision: &Decision| verify(&kept, decision, &enrolled, Verification::NotRequired, then());
            assert_eq!(judged(&decision()).unwrap().key, enrolled.key().digest(), "{kind} {bits} {hash}");
            let mut other = decision();
            other.round = 3;
            assert!(judged(&other).is_err());
            let signers = format!("alice namespaces=\"{NAMESPACE}\" {line}");
            assert!(Enrolled::allowed_signer(signers.trim_end()).is_ok());
            assert!(taken(&signers, &kept, &decision()).is_ok());
        }
    }
}

#[test]
fn an_rsa_key_is_refused_with_a_sentence() {
    let dir = TempDir::new().unwrap();
    keygen(dir.path(), &["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", "key"], b"").unwrap();
    let line = fs::read_to_string(dir.path().join("key.pub")).unwrap();
    let why = Enrolled::authorized_key(line.trim_end()).unwrap_err().to_string();
    assert!(why.starts_with("the SSH key is ssh-rsa; expected ssh-ed25519, "), "{why}");
}

#[test]
fn what_is_signed_here_is_taken_by_openssh_also_by_fido_keys() {
    let fido = || How { fido: Some(("ssh:", 0x05, 3)), ..How::default() };
    let cases = [
        (Soft::ed25519(7), How::default()),
        (Soft::p256(), How { hash: "sha256", ..How::default() }),
        (Soft::p384(), How::default()),
        (Soft::ed25519(7), fido()),
        (Soft::p256(), How { hash: "sha256", ..fido() }),
    ];
    for (key, how) in cases {
        let line = key.ssh_line(how.fido.map(|(application, ..)| application));
        let kept = key.signed(&decision(), &how);
        let ours = |line: &str| {
            let enrolled = Enrolled::allowed_signer(&format!("alice {line}")).unwrap();
            verify(&kept, &decision(), &enrolled, Verification::NotRequired, then())
        };
        assert!(ours(&line).is_ok(), "{line}");
        let said = taken(&format!("alice {line}\n"), &kept, &decision()).unwrap();
        assert!(said.starts_with("Good \"keyward-decision-v1\" signature for alice"), "{said}");
        let mut other = decision();
        other.round = 3;
        assert!(taken(&format!("alice {line}\n"), &kept, &other).is_err());
    }
}
