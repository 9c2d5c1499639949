//! Signatures by SSH keys, and the lines that enrol them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyward::codec::consent::enrolled::{Enrolled, SshKey};
use keyward::codec::consent::sshsig::{Kept, Verification, verify};
use keyward::codec::consent::{Consent, Kept as Either, Proof, Refused};
use keyward::domain::exception::Channel;
use keyward::domain::key::Digest;
use proptest::prelude::*;

use crate::harness::consent::{How, NAMESPACE, Soft, decision, strings, then};

const APPLICATION: &str = "ssh:keyward";

fn fido(flags: u8) -> How<'static> {
    How { fido: Some((APPLICATION, flags, 41)), ..How::default() }
}

/// Judged with the key that signed.
fn judged(key: &Soft, how: &How<'_>, verification: Verification) -> Result<Consent, Refused> {
    let enrolled = key.enrolled(how.fido.map(|(application, ..)| application));
    verify(&Kept::from_blob(key.sshsig(&decision().canonical(), how))?, &decision(), &enrolled, verification, then())
}

#[test]
fn a_signature_of_each_kind_and_hash_is_a_consent() {
    for hash in ["sha256", "sha512"] {
        for key in Soft::all() {
            let consent = judged(&key, &How { hash, ..How::default() }, Verification::NotRequired).unwrap();
            assert_eq!((consent.channel, consent.key), (Channel::SshSignature, Digest::of(&key.ssh_blob(None))));
            assert_eq!(consent.authenticator, None);
        }
        for key in [Soft::p256(), Soft::ed25519(7)] {
            let consent = judged(&key, &How { hash, ..fido(0x05) }, Verification::Required).unwrap();
            let says = consent.authenticator.unwrap();
            assert_eq!((says.counter, says.flags.user_verified()), (41, true));
        }
    }
}

#[test]
fn a_fido_key_says_that_somebody_was_there_and_who_if_that_is_asked() {
    let key = Soft::ed25519(7);
    assert!(judged(&key, &fido(0x01), Verification::NotRequired).is_ok());
    assert_eq!(judged(&key, &fido(0x01), Verification::Required), Err(Refused::NotVerified));
    assert_eq!(judged(&key, &How::default(), Verification::Required), Err(Refused::NotVerified), "a key in a file");
    let absent = judged(&key, &fido(0x04), Verification::NotRequired);
    assert!(matches!(absent, Err(Refused::NotPresent(_))), "{absent:?}");
    for flags in [0x41, 0x81] {
        let more = judged(&key, &fido(flags), Verification::NotRequired);
        assert!(matches!(more, Err(Refused::Malformed { .. })), "{more:?}");
    }
    let how = How { fido: Some(("https://evil.example.com", 1, 1)), ..How::default() };
    assert!(Enrolled::authorized_key(&key.ssh_line(how.fido.map(|f| f.0))).is_err(), "sites could have it sign");
    // Flags and counter are signed too.
    let mut blob = key.sshsig(&decision().canonical(), &fido(0x01));
    let place = blob.len() - 5;
    blob[place] |= 0x04;
    let refused = verify(
        &Kept::from_blob(blob).unwrap(),
        &decision(),
        &key.enrolled(Some(APPLICATION)),
        Verification::Required,
        then(),
    );
    assert_eq!(refused, Err(Refused::Signature));
}

#[test]
fn only_this_decision_by_this_key_for_this_purpose_at_this_time() {
    let (own, other) = (Soft::ed25519(7), Soft::ed25519(8));
    let kept = own.signed(&decision(), &How::default());
    let at = |kept: &Kept, by: &Enrolled, at| verify(kept, &decision(), by, Verification::NotRequired, at);
    assert!(at(&kept, &own.enrolled(None), then()).is_ok());
    let refused = at(&kept, &other.enrolled(None), then());
    assert!(matches!(refused, Err(Refused::OtherKey { .. })), "{refused:?}");
    let mut changed = decision();
    changed.round = 3;
    assert_eq!(at(&own.signed(&changed, &How::default()), &own.enrolled(None), then()), Err(Refused::Signature));
    let file = own.signed(&decision(), &How { namespace: "file", ..How::default() });
    let refused = at(&file, &own.enrolled(None), then());
    assert!(matches!(refused, Err(Refused::Namespace { .. })), "{refused:?}");
    let over = at(&kept, &own.enrolled(None), decision().expires);
    assert!(matches!(over, Err(Refused::Over { .. })), "{over:?}");
    // The same key bits as a FIDO key are another key.
    let refused = at(&kept, &own.enrolled(Some(APPLICATION)), then());
    assert!(matches!(refused, Err(Refused::OtherKey { .. })), "{refused:?}");
}

#[test]
fn a_signature_has_one_form() {
    let key = Soft::p256();
    let refused = |how: How<'_>| judged(&key, &how, Verification::NotRequired).unwrap_err();
    assert!(matches!(refused(How { version: 2, ..How::default() }), Refused::Unsupported { .. }));
    assert!(matches!(refused(How { hash: "sha1", ..How::default() }), Refused::Unsupported { .. }));
    assert!(matches!(refused(How { reserved: b"x", ..How::default() }), Refused::Malformed { .. }));
    let blob = key.sshsig(&decision().canonical(), &How::default());
    for cut in 0..blob.len() {
        assert!(Kept::from_blob(blob[..cut].to_vec()).is_err(), "{cut}");
    }
    assert!(Kept::from_blob([&blob[..], &[0]].concat()).is_err());
    assert!(matches!(Kept::from_blob(vec![0; 2_000]), Err(Refused::TooLong { .. })));
    // What the key made: another kind's name, a number in another form, something after it.
    let kind = b"ecdsa-sha2-nistp256";
    let one = strings(&[&[1], &[1]]);
    let long = strings(&[&[0, 1], &[1]]);
    for by in [
        strings(&[b"ecdsa-sha2-nistp384", &one]),
        strings(&[kind, &long]),
        strings(&[kind, &[&one[..], &[0]].concat()]),
        [&strings(&[kind, &one])[..], &[0]].concat(),
        Vec::new(),
    ] {
        let parts = strings(&[&key.ssh_blob(None), NAMESPACE.as_bytes(), b"", b"sha512", &by]);
        let kept = Kept::from_blob([&b"SSHSIG\0\0\0\x01"[..], &parts].concat()).unwrap();
        let refused = verify(&kept, &decision(), &key.enrolled(None), Verification::NotRequired, then());
        assert!(matches!(refused, Err(Refused::Malformed { .. })), "{refused:?}");
    }
}

#[test]
fn armour_has_nothing_besides() {
    let kept = Soft::p256().signed(&decision(), &How::default());
    let text = kept.armoured();
    assert_eq!(Kept::read(text.as_bytes()).as_ref(), Ok(&kept));
    assert_eq!(Kept::read(text.replace('\n', "\r\n").as_bytes()).as_ref(), Ok(&kept), "as mail carries it");
    assert_eq!(Kept::read(text.trim_end().as_bytes()).as_ref(), Ok(&kept));
    let body = text.lines().nth(1).unwrap();
    for bad in [
        format!("x{text}"),
        format!("\n{text}"),
        format!("{text}x"),
        format!("{text}\n"),
        format!("{text}{text}"),
        text.replace("-----END SSH SIGNATURE-----\n", ""),
        text.replace("END SSH", "END SSL"),
        text.replace("SSH SIGNATURE", "SIGNATURE"),
        text.replace(body, &format!("{body}\n")),
        text.replace(body, &format!(" {body}")),
        text.replace(body, &format!("{body}{body}")),
        text.replace("-----\n", "-----\n!"),
        String::new(),
        "a".repeat(4_096),
    ] {
        assert!(Kept::read(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn an_enrolment_is_limited_as_its_line_says() {
    let key = Soft::ed25519(7);
    let kept = key.signed(&decision(), &How::default());
    let judged = |options: &str| {
        let line = format!("alice,a@b.example {options} {} her key\"", key.ssh_line(None));
        let enrolled = Enrolled::allowed_signer(&line).unwrap();
        assert_eq!(enrolled.principals(), ["alice", "a@b.example"]);
        verify(&kept, &decision(), &enrolled, Verification::NotRequired, then())
    };
    for good in [
        "",
        "namespaces=\"git,keyward-decision-v1\"",
        "namespaces=keyward-decision-v1",
        "valid-after=\"20261201Z\",valid-before=\"20261202Z\"",
        "valid-after=\"20261201110000Z\",valid-before=\"202612011101Z\"",
    ] {
        assert!(judged(good).is_ok(), "{good}");
    }
    assert!(matches!(judged("namespaces=\"git\""), Err(Refused::Namespace { .. })));
    for other in ["valid-after=\"20261201110001Z\"", "valid-before=\"202612011100Z\"", "valid-before=\"20260101Z\""] {
        assert!(matches!(judged(other), Err(Refused::NotThen { .. })), "{other}");
    }
}

#[test]
fn what_a_line_says_and_we_do_not_know_is_an_error() {
    let key = Soft::ed25519(7).ssh_line(None);
    assert!(Enrolled::allowed_signer(&format!("alice {key}")).is_ok());
    for bad in [
        format!("* {key}"),
        format!("!alice {key}"),
        format!("alice, {key}"),
        format!("alice cert-authority {key}"),
        format!("alice cert-authority,namespaces=\"git\" {key}"),
        format!("alice namespaces=\"*\" {key}"),
        format!("alice namespaces=\"git\",namespaces=\"git\" {key}"),
        format!("alice no-touch-required=1 {key}"),
        format!("alice valid-before=\"20261201\" {key}"),
        format!("alice valid-before=\"20261301Z\" {key}"),
        format!("alice valid-before=\"2026-12-1Z\" {key}"),
        format!("alice valid-before=\"20261201Z {key}"),
        format!("alice\0 {key}"),
        format!("alice {}", key.replace("ssh-ed25519", "ssh-rsa")),
        format!("alice {}", key.replace("ssh-ed25519 ", "")),
        format!("alice {key}{}", "x".repeat(3_000)),
        key.clone(),
        "alice".to_owned(),
        String::new(),
    ] {
        assert!(Enrolled::allowed_signer(&bad).is_err(), "{bad}");
    }
    for bad in [format!("restrict {key}"), format!("command=\"true\" {key}"), format!("alice {key}")] {
        assert!(Enrolled::authorized_key(&bad).is_err(), "{bad}");
    }
    let file = format!("# signers\n\nalice {key}\nbob {}\n", Soft::p256().ssh_line(Some(APPLICATION)));
    assert_eq!(Enrolled::allowed_signers(&file).unwrap().len(), 2);
    let why = Enrolled::allowed_signers(&format!("{file}eve x\n")).unwrap_err().to_string();
    assert!(why.contains("line 5"), "{why}");
    assert!(Enrolled::allowed_signers(&"#\n".repeat(200_000)).is_err());
}

#[test]
fn a_key_that_anybody_can_sign_for_or_of_another_kind_is_refused() {
    let small = strings(&[b"ssh-ed25519", &[&[1_u8][..], &[0; 31]].concat()]);
    assert!(matches!(SshKey::read(&small), Err(Refused::Weak(_))));
    let mut point = Soft::p256().public().to_vec();
    point[64] ^= 1;
    let off = strings(&[b"ecdsa-sha2-nistp256", b"nistp256", &point]);
    assert!(matches!(SshKey::read(&off), Err(Refused::Weak(_))));
    let swapped = strings(&[b"ecdsa-sha2-nistp256", b"nistp384", Soft::p384().public()]);
    assert!(matches!(SshKey::read(&swapped), Err(Refused::Malformed { .. })));
    for kind in ["ssh-rsa", "ssh-dss", "ecdsa-sha2-nistp521", "ssh-ed25519-cert-v01@openssh.com"] {
        let why = SshKey::read(&strings(&[kind.as_bytes(), &[3], &[3]])).unwrap_err().to_string();
        assert!(why.starts_with(&format!("the SSH key is {kind}; expected ssh-ed25519, ")), "{why}");
    }
}

proptest! {
    #[test]
    fn one_changed_byte_anywhere_is_no_consent(kind in 0_usize..3, sk: bool, place: u16, flip in 1_u8..) {
        let key = &Soft::all()[kind];
        let how = if sk && kind != 1 { fido(0x05) } else { How::default() };
        let mut blob = key.sshsig(&decision().canonical(), &how);
        let place = usize::from(place) % blob.len();
        blob[place] ^= flip;
        let enrolled = key.enrolled(how.fido.map(|(application, ..)| application));
        let taken = Kept::from_blob(blob)
            .and_then(|kept| verify(&kept, &decision(), &enrolled, Verification::NotRequired, then()));
        prop_assert!(taken.is_err());
    }

    #[test]
    fn what_was_armoured_is_read_again(bits: [u8; 8], sk: bool) {
        let mut changed = decision();
        changed.scope = Digest::of(&bits);
        let kept = Soft::ed25519(bits[0]).signed(&changed, &if sk { fido(bits[1]) } else { How::default() });
        let read = Kept::read(kept.armoured().as_bytes());
        prop_assert_eq!(read.as_ref(), Ok(&kept));
        let proof = Proof { decision: changed, kept: Either::Ssh(kept.clone()) };
        prop_assert_eq!(Proof::read(&proof.canonical()), Ok(proof));
        let inner: String = kept.armoured().lines().filter(|line| !line.starts_with('-')).collect();
        prop_assert_eq!(STANDARD.decode(inner).unwrap(), kept.blob());
    }
}
