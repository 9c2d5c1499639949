//! Assertions: each check has a case that fails without it.

use keyward::codec::consent::webauthn::{CredentialKey, Kept, RelyingParty, verify};
use keyward::codec::consent::{Consent, Counting, Decision, Kept as Either, Proof, Refused};
use keyward::domain::exception::{Channel, PersonId, RequestId, Verdict};
use keyward::domain::key::Digest;
use keyward::domain::time::HOUR;
use proptest::prelude::*;

use crate::harness::consent::{ORIGIN, PARTY, Soft, client, data, decision, numbers, party, then};

fn judged(kept: &Kept, by: &Soft) -> Result<Consent, Refused> {
    verify(kept, &decision(), &by.credential(), &party(), then())
}

/// With this client data in place of the right one, rightly signed.
fn with_client(edit: impl Fn(String) -> String) -> Result<Consent, Refused> {
    let key = Soft::p256();
    let client = edit(client("webauthn.get", &decision().challenge().0));
    judged(&key.kept(client.as_bytes(), &data(PARTY, 0x05, 9)), &key)
}

/// With this authenticator data, rightly signed.
fn with_data(data: &[u8]) -> Result<Consent, Refused> {
    let key = Soft::p256();
    judged(&key.kept(client("webauthn.get", &decision().challenge().0).as_bytes(), data), &key)
}

#[test]
fn an_assertion_of_each_algorithm_is_a_consent_to_this_decision() {
    for key in Soft::all() {
        let consent = judged(&key.asserted(&decision()), &key).unwrap();
        let says = consent.authenticator.unwrap();
        assert_eq!((consent.channel, consent.key), (Channel::Passkey, Digest::of(&key.cose())));
        assert!(says.flags.user_present() && says.flags.user_verified() && !says.flags.backup_eligible());
        assert_eq!(says.counter, 9);
        let counting = [8, 9, 10].map(|latest| says.counting(latest));
        assert_eq!(counting, [Counting::Forward, Counting::WentBack, Counting::WentBack]);
    }
    let silent = with_data(&data(PARTY, 0x1d, 0)).unwrap().authenticator.unwrap();
    assert!(silent.flags.backup_eligible() && silent.flags.backed_up());
    assert_eq!((silent.counting(0), silent.counting(1)), (Counting::Unused, Counting::WentBack));
}

#[test]
fn a_consent_to_one_decision_is_none_to_another() {
    let key = Soft::p256();
    let kept = key.asserted(&decision());
    let edits: [fn(&mut Decision); 7] = [
        |d| d.request = RequestId::parse("7F3K-9Q2N").unwrap(),
        |d| d.round = 3,
        |d| d.scope = Digest::of(b"other"),
        |d| d.verdict = Verdict::Reject,
        |d| d.who = PersonId::new("p-other"),
        |d| d.origin = "other.example.com/log".into(),
        |d| d.expires = d.expires.plus(HOUR),
    ];
    for edit in edits {
        let mut other = decision();
        edit(&mut other);
        let refused = verify(&kept, &other, &key.credential(), &party(), then());
        assert!(matches!(refused, Err(Refused::Challenge { .. })), "{refused:?}");
    }
}

#[test]
fn a_decision_that_is_over_is_not_taken() {
    let (key, end) = (Soft::p256(), decision().expires);
    let at = |at| verify(&key.asserted(&decision()), &decision(), &key.credential(), &party(), at);
    assert!(at(end.minus(core::time::Duration::from_secs(1))).is_ok());
    assert_eq!(at(end), Err(Refused::Over { expires: end, at: end }));
}

#[test]
fn each_member_of_the_client_data_is_judged() {
    assert!(with_client(|c| c).is_ok());
    assert!(with_client(|c| c.replace(",\"crossOrigin\":false", "")).is_ok(), "older browsers leave it out");
    assert!(with_client(|c| c.replace('}', ",\"other_keys_can_be_added_here\":{\"a\":[1.5,null]}}")).is_ok());
    let kind = with_client(|c| c.replace("webauthn.get", "webauthn.create"));
    assert!(matches!(kind, Err(Refused::Type { .. })), "{kind:?}");
    for origin in ["https://evil.example.com", "http://keyward.example.com", "https://keyward.example.com:444"] {
        let other = with_client(|c| c.replace(ORIGIN, origin));
        assert!(matches!(other, Err(Refused::Origin { .. })), "{other:?}");
    }
    assert_eq!(with_client(|c| c.replace("false", "true")), Err(Refused::CrossOrigin));
    let framed = with_client(|c| c.replace('}', ",\"topOrigin\":\"https://evil.example.com\"}"));
    assert_eq!(framed, Err(Refused::CrossOrigin));
    let padded = with_client(|c| c.replace("\",\"origin\"", "=\",\"origin\""));
    assert!(matches!(padded, Err(Refused::Challenge { .. })), "{padded:?}");
    let malformed: [fn(String) -> String; 8] = [
        |c| c.replace("false", "null"),
        |c| c.replace("false", "\"false\""),
        |c| c.replace('}', &format!(",\"origin\":\"{ORIGIN}\"}}")),
        |c| c.replace('}', ",\"a\":1,\"\\u0061\":2}"),
        |c| c + "{}",
        |c| format!("\u{feff}{c}"),
        |c| c.replace("\"type\"", "\"kind\""),
        |_| format!("{}0{}", "[".repeat(1_500), "]".repeat(1_500)),
    ];
    for edit in malformed {
        let refused = with_client(edit);
        assert!(matches!(refused, Err(Refused::Malformed { .. })), "{refused:?}");
    }
    let many: String = (0..40).map(|n| format!(",\"m{n}\":0")).collect();
    let refused = with_client(|c| c.replace('}', &format!("{many}}}")));
    assert!(matches!(refused, Err(Refused::Malformed { .. })), "{refused:?}");
    let long = with_client(|c| c + &" ".repeat(4_096));
    assert!(matches!(long, Err(Refused::TooLong { .. })), "{long:?}");
}

#[test]
fn each_part_of_the_authenticator_data_is_judged() {
    let other = with_data(&data("evil.example.com", 0x05, 9));
    assert!(matches!(other, Err(Refused::RelyingParty { .. })), "{other:?}");
    assert!(matches!(with_data(&data(PARTY, 0x04, 9)), Err(Refused::NotPresent(_))));
    assert_eq!(with_data(&data(PARTY, 0x01, 9)), Err(Refused::NotVerified));
    let plain = data(PARTY, 0x05, 9);
    let extended = |map: &[u8]| [&data(PARTY, 0x85, 9), map].concat();
    assert!(with_data(&extended(&[0xa1, 0x63, b'u', b'v', b'm', 0x81, 0x83, 2, 4, 2])).is_ok());
    let credential = [&data(PARTY, 0x45, 9)[..], &[0; 16], &[0, 1, 7], &Soft::p256().cose()].concat();
    let huge = extended(&[0xbb, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    let deep = extended(&[&[0xa1, 0x61, b'a'][..], &[0x81; 1_000], &[0]].concat());
    for bad in [
        plain[..36].to_vec(),
        [&plain[..], &[0]].concat(),
        data(PARTY, 0x15, 9), // backed up, though it cannot be
        credential,
        extended(&[]),
        extended(&[0x80]),
        extended(&[0xa0, 0]),
        huge,
        deep,
    ] {
        let refused = with_data(&bad);
        assert!(matches!(refused, Err(Refused::Malformed { .. })), "{bad:02x?}: {refused:?}");
    }
    let long = with_data(&[&extended(&[0xa1, 0x61, b'a', 0x59, 8, 0])[..], &[0; 2_048]].concat());
    assert!(matches!(long, Err(Refused::TooLong { .. })), "{long:?}");
}

#[test]
fn only_the_enrolled_key_consents() {
    let (own, other) = (Soft::p256(), Soft::p256());
    let refused = judged(&own.asserted(&decision()), &other);
    assert_eq!(
        refused,
        Err(Refused::OtherKey { seen: own.credential().digest(), expected: other.credential().digest() })
    );
    let mut relabelled = own.asserted(&decision());
    relabelled.public_key = other.cose();
    assert_eq!(judged(&relabelled, &other), Err(Refused::Signature));
}

#[test]
fn a_signature_has_one_form() {
    for key in [Soft::p256(), Soft::p384()] {
        let kept = key.asserted(&decision());
        let [r, s] = numbers(&kept.signature);
        let der = |r: &[u8], s: &[u8]| {
            let of = |n: &[u8]| [&[2, u8::try_from(n.len()).unwrap()][..], n].concat();
            let both = [of(r), of(s)].concat();
            [&[0x30, u8::try_from(both.len()).unwrap()][..], &both].concat()
        };
        assert_eq!(der(r, s), kept.signature);
        let negative = [&[0x80][..], s].concat();
        let ber = [&[0x30, 0x81][..], &kept.signature[1..]].concat();
        for bad in [
            der(&[&[0], r].concat(), s), // a needless zero
            der(r, &negative),
            der(&[0], s),
            der(r, &[]),
            ber,
            [&kept.signature[..], &[0]].concat(),
            kept.signature[..kept.signature.len() - 1].to_vec(),
            Vec::new(),
            vec![0x30, 0],
        ] {
            let refused = judged(&Kept { signature: bad.clone(), ..kept.clone() }, &key);
            assert!(matches!(refused, Err(Refused::Malformed { .. })), "{bad:02x?}: {refused:?}");
        }
        let long = judged(&Kept { signature: vec![0x30; 129], ..kept }, &key);
        assert!(matches!(long, Err(Refused::TooLong { .. })), "{long:?}");
    }
    // The order of Ed25519's group added to s: the same signature modulo the order, and no signature (RFC 8032).
    let order = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let key = Soft::ed25519(7);
    let mut kept = key.asserted(&decision());
    let mut carry = 0;
    for (byte, add) in kept.signature[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + add + carry;
        *byte = u8::try_from(sum & 0xff).unwrap();
        carry = sum >> 8;
    }
    assert_eq!(judged(&kept, &key), Err(Refused::Signature));
}

#[test]
fn a_credential_has_one_of_three_kinds_and_one_form() {
    for key in Soft::all() {
        let cose = key.cose();
        assert_eq!(CredentialKey::read(&cose).unwrap().cose(), cose);
        let mut off_curve = cose.clone();
        *off_curve.last_mut().unwrap() ^= 1;
        if !matches!(key, Soft::Ed25519(_)) {
            assert!(matches!(CredentialKey::read(&off_curve), Err(Refused::Weak(_))));
        }
        for cut in 0..cose.len() {
            assert!(CredentialKey::read(&cose[..cut]).is_err());
        }
        let more = [&[cose[0] + 1][..], &cose[1..], &[0x04, 0x81, 0x02]].concat();
        assert!(CredentialKey::read(&more).is_err(), "key_ops has no place here");
        assert!(CredentialKey::read(&[&cose[..], &[0]].concat()).is_err());
    }
    let small = [&[0xa4, 1, 1, 3, 0x27, 0x20, 6, 0x21, 0x58, 32, 1][..], &[0; 31]].concat();
    assert!(matches!(CredentialKey::read(&small), Err(Refused::Weak(_))), "anybody can sign for it");
    let rsa = [0xa4, 1, 3, 3, 0x39, 1, 0, 0x20, 0x41, 1, 0x21, 0x41, 1];
    assert!(matches!(CredentialKey::read(&rsa), Err(Refused::Unsupported { .. })));
    assert!(matches!(CredentialKey::read(&[0; 257]), Err(Refused::TooLong { .. })));
}

#[test]
fn an_origin_is_ours_and_has_tls() {
    for (id, origin) in [
        ("keyward.example.com", "https://keyward.example.com"),
        ("example.com", "https://keyward.example.com:8443"),
        ("localhost", "http://localhost:8080"),
    ] {
        assert!(RelyingParty::new(id, [origin]).is_ok(), "{id} {origin}");
    }
    for (id, origin) in [
        ("example.com", "http://example.com"),
        ("example.com", "https://example.com/"),
        ("example.com", "https://example.com:443"),
        ("example.com", "https://evilexample.com"),
        ("example.com", "https://other.org"),
        ("Example.com", "https://example.com"),
        ("127.0.0.1", "https://127.0.0.1"),
        ("", "https://example.com"),
        ("localhost", "http://127.0.0.1"),
    ] {
        assert!(RelyingParty::new(id, [origin]).is_err(), "{id} {origin}");
    }
    assert!(RelyingParty::new("example.com", []).is_err());
}

#[test]
fn a_proof_is_read_as_it_was_written_and_in_no_other_way() {
    let kept = Soft::ed25519(7).asserted(&decision());
    let proof = Proof { decision: decision(), kept: Either::Passkey(kept) };
    let text = String::from_utf8(proof.canonical()).unwrap();
    assert_eq!(Proof::read(text.as_bytes()).as_ref(), Ok(&proof));
    assert_eq!(Decision::read(&decision().canonical()), Ok(decision()));
    for (from, to) in [
        ("\"v\":1}", "\"v\":2}"),
        ("\"v\":1}", "\"v\":1,\"w\":1}"),
        ("\"v\":1}", "\"v\":1} "),
        ("\"passkey\"", "\"chat\""),
        ("\"passkey\"", "\"ssh_signature\""),
        ("\"round\":2", "\"round\":0"),
        ("\"round\":2", "\"round\":4294967296"),
        ("7F3K-9Q2M", "7f3k-9q2m"),
        ("12:00:00Z", "12:00:00.0Z"),
        ("\"approve\"", "\"maybe\""),
        ("\"who\":\"p-4f1c\"", "\"who\":\"p-4f1c\",\"x\":1"),
        ("\"client_data\":\"", "\"client_data\":\"="),
    ] {
        assert!(text.contains(from), "{from}");
        assert!(Proof::read(text.replace(from, to).as_bytes()).is_err(), "{to}");
    }
    assert!(Proof::read(&vec![b' '; 1 << 20]).is_err());
}

proptest! {
    #[test]
    fn one_changed_byte_anywhere_is_no_consent(kind in 0_usize..3, part in 0_usize..4, place: u16, flip in 1_u8..) {
        let key = &Soft::all()[kind];
        let mut kept = key.asserted(&decision());
        let bytes = match part {
            0 => &mut kept.public_key,
            1 => &mut kept.client_data,
            2 => &mut kept.authenticator_data,
            _ => &mut kept.signature,
        };
        let place = usize::from(place) % bytes.len();
        bytes[place] ^= flip;
        prop_assert!(judged(&kept, key).is_err());
    }
}
