//! Files with certificates and keys: PEM with anything around it, DER, PKCS#12 under a fixed password.
#![no_main]

use keyward::codec::x509::{self, Limits};
use keyward::codec::{keys::KeyPair, pem, pkcs12};
use libfuzzer_sys::fuzz_target;

const PASSWORD: &str = "keyward";

fuzz_target!(|bytes: &[u8]| {
    if let Ok(ders) = x509::certificates_from(bytes, &Limits::CHAIN) {
        assert!(!ders.is_empty() && ders.len() <= Limits::CHAIN.certificates);
        assert!(ders.iter().all(|der| der.len() <= Limits::CHAIN.each));
        let text = pem::certificates(&ders);
        let again = pem::certificates_in(text.as_bytes(), ders.len());
        assert_eq!(again.as_ref(), Ok(&ders), "certificates survive their text");
    }
    if let Ok(Some((form, der))) = pem::private_key_in(bytes)
        && let Ok(pair) = KeyPair::read(form, &der)
    {
        assert_eq!(KeyPair::read(form, &der).map(|again| again.spki()).as_ref(), Ok(&pair.spki()));
    }
    if let Ok(bundle) = pkcs12::parse(bytes, PASSWORD) {
        assert!(pkcs12::looks_like(bytes), "what opens looks like PKCS#12");
        assert!(!bundle.certificates.is_empty() && bundle.certificates.len() <= Limits::CHAIN.certificates);
    }
});
