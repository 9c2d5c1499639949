//! Registrations without attestation.

use aws_lc_rs::digest::{SHA256, digest};
use keyward::codec::consent::Refused;
use keyward::codec::consent::webauthn::{Registration, register};

use crate::harness::consent::{PARTY, Soft, client, party};

const CHALLENGE: [u8; 32] = [9; 32];

fn attested(flags: u8, id: &[u8], cose: &[u8]) -> Vec<u8> {
    let length = u16::try_from(id.len()).unwrap().to_be_bytes();
    let hash = digest(&SHA256, PARTY.as_bytes());
    [hash.as_ref(), &[flags, 0, 0, 0, 0], &[0xaa; 16], &length, id, cose].concat()
}

fn object(format: &str, statement: &[u8], data: &[u8]) -> Vec<u8> {
    let text = |text: &str| [&[0x60 + u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let length = u16::try_from(data.len()).unwrap().to_be_bytes();
    let head = if data.len() < 256 { vec![0x58, length[1]] } else { vec![0x59, length[0], length[1]] };
    [&[0xa3][..], &text("fmt"), &text(format), &text("attStmt"), statement, &text("authData"), &head, data].concat()
}

fn registered(object: &[u8]) -> Result<Registration, Refused> {
    register(client("webauthn.create", &CHALLENGE).as_bytes(), object, &CHALLENGE, &party())
}

#[test]
fn a_registration_gives_the_credential() {
    for key in Soft::all() {
        let object = object("none", &[0xa0], &attested(0x45, b"an id", &key.cose()));
        let read = registered(&object).unwrap();
        assert_eq!((&read.id[..], read.aaguid, &read.key), (&b"an id"[..], [0xaa; 16], &key.credential()));
        assert!(read.authenticator.flags.user_verified());
        for cut in 0..object.len() {
            assert!(registered(&object[..cut]).is_err(), "{cut}");
        }
        assert!(registered(&[&object[..], &[0]].concat()).is_err());
    }
}

#[test]
fn the_challenge_is_the_one_that_was_given_and_the_ceremony_is_a_registration() {
    let object = object("none", &[0xa0], &attested(0x45, b"an id", &Soft::p256().cose()));
    let other = register(client("webauthn.create", &[8; 32]).as_bytes(), &object, &CHALLENGE, &party());
    assert!(matches!(other, Err(Refused::Challenge { .. })), "{other:?}");
    let other = register(client("webauthn.get", &CHALLENGE).as_bytes(), &object, &CHALLENGE, &party());
    assert!(matches!(other, Err(Refused::Type { .. })), "{other:?}");
}

#[test]
fn each_part_of_a_registration_is_judged() {
    let cose = Soft::p256().cose();
    let with = |flags, id: &[u8]| registered(&object("none", &[0xa0], &attested(flags, id, &cose)));
    assert!(with(0x45, &[1; 1_023]).is_ok());
    assert!(matches!(with(0x44, b"id"), Err(Refused::NotPresent(_))));
    assert_eq!(with(0x41, b"id"), Err(Refused::NotVerified));
    let malformed = |seen: Result<Registration, Refused>| {
        assert!(matches!(seen, Err(Refused::Malformed { .. })), "{seen:?}");
    };
    malformed(with(0x45, b""));
    malformed(with(0x45, &[1; 1_024]));
    malformed(with(0x05, b"id"));
    malformed(with(0xc5, b"id"));
    let bare = attested(0x05, b"id", &cose)[..37].to_vec();
    malformed(registered(&object("none", &[0xa0], &bare)));
    let good = attested(0x45, b"id", &cose);
    malformed(registered(&object("none", &[0xa1, 0x61, b'x', 0], &good)));
    let packed = registered(&object("packed", &[0xa0], &good));
    assert!(matches!(packed, Err(Refused::Unsupported { .. })), "{packed:?}");
    // A member twice, in place of another.
    let twice = String::from_utf8_lossy(&object("none", &[0xa0], &[])).replace("attStmt", "authDat");
    malformed(registered(twice.as_bytes()));
    let long = registered(&object("none", &[0xa0], &[0; 2_100]));
    assert!(matches!(long, Err(Refused::TooLong { .. })), "{long:?}");
    let other = [digest(&SHA256, b"evil.example.com").as_ref(), &good[32..]].concat();
    let other = registered(&object("none", &[0xa0], &other));
    assert!(matches!(other, Err(Refused::RelyingParty { .. })), "{other:?}");
}
