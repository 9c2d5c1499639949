//! The vectors in docs/consent.md: made here again, byte by byte.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyward::codec::consent::sshsig::Verification;
use keyward::codec::consent::{Kept, Proof, sshsig, webauthn};

use crate::harness::consent::{How, Soft, decision, party, then};

#[test]
fn the_page_shows_what_is_made() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/consent.md")).unwrap();
    let key = Soft::ed25519(7);
    let passkey = Proof { decision: decision(), kept: Kept::Passkey(key.asserted(&decision())) };
    let ssh = Proof { decision: decision(), kept: Kept::Ssh(key.signed(&decision(), &How::default())) };
    let text = |proof: &Proof| String::from_utf8(proof.canonical()).unwrap();
    for part in [
        String::from_utf8(decision().canonical()).unwrap(),
        decision().challenge().to_string(),
        URL_SAFE_NO_PAD.encode(key.cose()),
        key.ssh_line(None),
        text(&passkey),
        text(&ssh),
        passkey.digest().to_string(),
        ssh.digest().to_string(),
    ] {
        assert!(page.lines().any(|line| line == part), "docs/consent.md lacks a line\n{part}");
    }
    for proof in [passkey, ssh] {
        let read = Proof::read(text(&proof).as_bytes()).unwrap();
        let verified = match &read.kept {
            Kept::Passkey(kept) => webauthn::verify(kept, &decision(), &key.credential(), &party(), then()),
            Kept::Ssh(kept) => {
                sshsig::verify(kept, &decision(), &key.enrolled(None), Verification::NotRequired, then())
            }
        };
        assert!(verified.is_ok());
    }
}
