//! Proofs of consent and their parts: what is read is written the same again, and nothing that chance made is a consent.
#![no_main]

use std::sync::LazyLock;

use keyward::codec::consent::enrolled::{Enrolled, SshKey};
use keyward::codec::consent::sshsig::{self, Verification};
use keyward::codec::consent::webauthn::{self, CredentialKey, RelyingParty};
use keyward::codec::consent::{Decision, Kept, Proof};
use keyward::domain::time::Timestamp;
use libfuzzer_sys::fuzz_target;

static PARTY: LazyLock<RelyingParty> =
    LazyLock::new(|| RelyingParty::new("localhost", ["http://localhost:8080"]).expect("an origin of its own"));
const REGISTERED: &[u8] = br#"{"type":"webauthn.create","challenge":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","origin":"http://localhost:8080"}"#;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(decision) = Decision::read(bytes) {
        assert_eq!(decision.canonical(), bytes);
    }
    if let Ok(proof) = Proof::read(bytes) {
        assert_eq!(proof.canonical(), bytes);
        judge(&proof);
    }
    for kept in [sshsig::Kept::read(bytes), sshsig::Kept::from_blob(bytes.to_vec())].into_iter().flatten() {
        assert_eq!(sshsig::Kept::read(kept.armoured().as_bytes()).as_ref(), Ok(&kept));
    }
    if let Ok(key) = SshKey::read(bytes) {
        assert_eq!(Enrolled::authorized_key(&key.line()).map(|e| e.key().clone()), Ok(key));
    }
    if let Ok(key) = CredentialKey::read(bytes) {
        assert_eq!(key.cose(), bytes);
    }
    if let Ok(text) = core::str::from_utf8(bytes) {
        for enrolled in Enrolled::allowed_signers(text).unwrap_or_default() {
            assert!(!enrolled.principals().is_empty());
        }
    }
    // Most inputs would never find the client data that goes with what they are.
    if let Ok(made) = webauthn::register(REGISTERED, bytes, &[0; 32], &PARTY) {
        assert!(made.authenticator.flags.user_present() && made.authenticator.flags.user_verified());
        assert_eq!(CredentialKey::read(made.key.cose()), Ok(made.key));
    }
});

/// With the key that the proof itself names: it verifies only if somebody signed it, and then not a second too late.
fn judge(proof: &Proof) {
    let (decision, end) = (&proof.decision, proof.decision.expires);
    for at in [Timestamp::from_unix(0), end] {
        let taken = match &proof.kept {
            Kept::Passkey(kept) => {
                CredentialKey::read(&kept.public_key).and_then(|key| webauthn::verify(kept, decision, &key, &PARTY, at))
            }
            Kept::Ssh(kept) => match named(kept.blob()) {
                Some(key) => match Enrolled::authorized_key(&key.line()) {
                    Ok(enrolled) => sshsig::verify(kept, decision, &enrolled, Verification::NotRequired, at),
                    Err(_) => continue,
                },
                None => continue,
            },
        };
        assert!(taken.is_err() || at < end);
    }
}

/// The key in a signature: after the magic, the version, and its own length.
fn named(blob: &[u8]) -> Option<SshKey> {
    let (length, rest) = blob.get(10..)?.split_first_chunk::<4>()?;
    let key = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    SshKey::read(key).ok()
}
