//! The same proofs judged by docs/verify_consent.py.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyward::codec::consent::{Decision, Kept, Proof};
use keyward::domain::exception::Verdict;

use crate::harness::consent::{How, ORIGIN, PARTY, Soft, client, data, decision};

const AT: &str = "2026-12-01T11:00:00Z";

/// What the script says of a proof under this key at this time.
fn said(proof: &[u8], key: &str, at: &str) -> Result<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/verify_consent.py");
    let mut child = Command::new("python3")
        .arg("-B")
        .arg(script)
        .args(["--key", key, "--rp", PARTY, "--origin", ORIGIN, "--log", "keyward.example.com/log", "--at", at])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 is missing: run tests/run");
    child.stdin.take().unwrap().write_all(proof).unwrap();
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() || error.starts_with("refused: "), "{error}");
    if output.status.success() { Ok(String::from_utf8_lossy(&output.stdout).into_owned()) } else { Err(error) }
}

fn passkey(key: &Soft, decision: Decision, edit: impl Fn(String) -> String, flags: u8, party: &str) -> Vec<u8> {
    let client = edit(client("webauthn.get", &self::decision().challenge().0));
    let kept = key.kept(client.as_bytes(), &data(party, flags, 9));
    Proof { decision, kept: Kept::Passkey(kept) }.canonical()
}

#[test]
fn another_hand_takes_what_we_take() {
    for key in Soft::all() {
        let cose = URL_SAFE_NO_PAD.encode(key.cose());
        let proof = passkey(&key, decision(), |c| c, 0x05, PARTY);
        assert!(said(&proof, &cose, AT).unwrap().contains("7F3K-9Q2M"));
        let proof = Proof { decision: decision(), kept: Kept::Ssh(key.signed(&decision(), &How::default())) };
        assert!(said(&proof.canonical(), &key.ssh_line(None), AT).unwrap().contains("\"approve\""));
    }
    for key in [Soft::p256(), Soft::ed25519(7)] {
        let how = How { fido: Some(("ssh:x", 0x01, 3)), hash: "sha256", ..How::default() };
        let proof = Proof { decision: decision(), kept: Kept::Ssh(key.signed(&decision(), &how)) };
        assert!(said(&proof.canonical(), &key.ssh_line(Some("ssh:x")), AT).unwrap().contains("\"counter\": 3"));
    }
}

#[test]
fn another_hand_refuses_what_we_refuse() {
    let key = Soft::p256();
    let cose = URL_SAFE_NO_PAD.encode(key.cose());
    let rejected = Decision { verdict: Verdict::Reject, ..decision() };
    let good = passkey(&key, decision(), |c| c, 0x05, PARTY);
    assert!(said(&good, &cose, AT).is_ok());
    for (proof, why) in [
        (passkey(&key, rejected.clone(), |c| c, 0x05, PARTY), "another decision"),
        (passkey(&key, decision(), |c| c.replace(ORIGIN, "https://evil.example.com"), 0x05, PARTY), "another site"),
        (passkey(&key, decision(), |c| c.replace("false", "true"), 0x05, PARTY), "a frame"),
        (passkey(&key, decision(), |c| c.replace("webauthn.get", "payment.get"), 0x05, PARTY), "another ceremony"),
        (passkey(&key, decision(), |c| c.replace('}', ",\"a\":1,\"a\":2}"), 0x05, PARTY), "twice"),
        (passkey(&key, decision(), |c| c, 0x01, PARTY), "not verified"),
        (passkey(&key, decision(), |c| c, 0x05, "evil.example.com"), "another relying party"),
        ([&good[..], b" "].concat(), "canonical"),
    ] {
        let refused = said(&proof, &cose, AT).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
    assert!(said(&good, &URL_SAFE_NO_PAD.encode(Soft::p256().cose()), AT).unwrap_err().contains("another key"));
    assert!(said(&good, &cose, "2026-12-01T12:00:00Z").unwrap_err().contains("over"));
    let ssh = |how: &How<'_>, decision: Decision| {
        let proof = Proof { decision, kept: Kept::Ssh(key.signed(&self::decision(), how)) }.canonical();
        said(&proof, &key.ssh_line(how.fido.map(|f| f.0)), AT)
    };
    assert!(ssh(&How::default(), decision()).is_ok());
    assert!(ssh(&How::default(), rejected).unwrap_err().contains("InvalidSignature"));
    assert!(ssh(&How { namespace: "file", ..How::default() }, decision()).unwrap_err().contains("namespace"));
    let absent = How { fido: Some(("ssh:", 0x04, 3)), ..How::default() };
    assert!(ssh(&absent, decision()).unwrap_err().contains("present"));
}

#[test]
fn the_script_stays_short() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/verify_consent.py");
    let lines = std::fs::read_to_string(script).unwrap().lines().count();
    assert!(lines <= 100, "it has {lines} lines: whoever audits must be able to read it");
}
