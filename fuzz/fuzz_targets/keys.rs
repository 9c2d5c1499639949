//! Frames of the key holder's socket, and public keys of anybody: a frame is written one way only, and a key is told apart
//! by its own bytes, however it was wrapped.
#![no_main]

use keyward::codec::holder::{Answer, Request};
use keyward::codec::{ca, pem, public_key};
use keyward::domain::key::Digest;
use keyward::domain::tracked::Print;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = Request::decode(bytes) {
        assert_eq!(request.encode().as_slice(), bytes);
    }
    if let Ok(answer) = Answer::decode(bytes) {
        assert_eq!(answer.encode(), bytes);
    }
    if let Ok(look) = public_key::read(bytes) {
        assert!(matches!(look.print, Print::Spki(_)));
        assert_eq!(look.made.is_some(), look.wrapped.is_some(), "only a certificate says since when");
    }
    // The same bytes as a SubjectPublicKeyInfo: most inputs would never find the armour.
    let text = pem::certificates(&[bytes]).replace(" CERTIFICATE-", " PUBLIC KEY-");
    match public_key::read(text.as_bytes()) {
        Ok(look) => {
            assert_eq!(look.print, Print::Spki(Digest::of(bytes)));
            assert_eq!(look.weak, ca::strength(bytes).err().map(|weakness| weakness.to_string()));
        }
        Err(why) => assert!(text.len() > public_key::LONGEST, "{why}"),
    }
});
