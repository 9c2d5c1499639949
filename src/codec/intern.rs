//! One copy of each CA's facts and of its certificate in memory, and one check of each CA's signature.
//!
//! Ten thousand certificates stand on a handful of CAs. Both tables are keyed by SHA-256 of the bytes that the answer
//! follows from, so that an entry can be missing but never wrong, and both are bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::codec::ParseError;
use crate::domain::certificate::Certificate;
use crate::domain::key::Digest;

/// CAs kept. The web's PKI has about 150 roots and 3,000 intermediates.
const MOST: usize = 4_096;

/// Facts of a CA that is worth sharing: real ones have no names and short titles. A server that presents thousands of
/// monstrous CAs fills no table with them; this many of at most 4 KiB are 16 MiB.
fn is_small(facts: &Certificate) -> bool {
    facts.names.len() <= 16 && facts.subject.len().saturating_add(facts.issuer.len()) <= 1_024
}

/// Bytes of a CA's certificate that is kept: five times what they have with RSA keys of 4096 bits; 4,096 of them are 32 MiB
/// at the very worst.
const LONGEST: usize = 8 << 10;

static CERTIFICATES: Mutex<BTreeMap<Digest, Known>> = Mutex::new(BTreeMap::new());

/// A CA.
struct Known {
    facts: Arc<Certificate>,
    der: Option<Arc<[u8]>>,
}

/// (Fingerprint of the signed certificate, SPKI digest of its signer): the signature is good.
static SIGNED: Mutex<BTreeSet<(Digest, Digest)>> = Mutex::new(BTreeSet::new());

/// What was found wrong with each key, by SHA-256 of its SubjectPublicKeyInfo: an RSA key takes some milliseconds, and most
/// certificates are looked at again and again.
static JUDGED: Mutex<BTreeMap<Digest, Option<Arc<str>>>> = Mutex::new(BTreeMap::new());

/// Keys judged that are kept: those of the most certificates that one guardian has, and their CAs'. A full table is begun anew.
const MOST_JUDGED: usize = 16_384;

/// What is wrong with a key (DER SubjectPublicKeyInfo): the end of a sentence that begins with the key.
pub(crate) fn weakness(spki: &[u8]) -> Option<Arc<str>> {
    let digest = Digest::of(spki);
    if let Some(known) = JUDGED.lock().unwrap_or_else(PoisonError::into_inner).get(&digest) {
        return known.clone();
    }
    let found = crate::codec::ca::strength(spki).err().map(|weakness| Arc::from(weakness.to_string()));
    let mut table = JUDGED.lock().unwrap_or_else(PoisonError::into_inner);
    if table.len() >= MOST_JUDGED {
        table.clear();
    }
    table.insert(digest, found.clone());
    found
}

/// The shared facts of a CA certificate.
pub(crate) fn certificate(
    der: &[u8],
    facts: impl FnOnce() -> Result<Certificate, ParseError>,
) -> Result<Arc<Certificate>, ParseError> {
    let fingerprint = Digest::of(der);
    if let Some(known) = CERTIFICATES.lock().unwrap_or_else(PoisonError::into_inner).get(&fingerprint) {
        return Ok(Arc::clone(&known.facts));
    }
    let made = Arc::new(facts()?);
    if !is_small(&made) {
        return Ok(made);
    }
    let mut table = CERTIFICATES.lock().unwrap_or_else(PoisonError::into_inner);
    if table.len() >= MOST {
        // What nobody holds any more goes first; if all are held, this one is not shared.
        table.retain(|_, known| Arc::strong_count(&known.facts) > 1);
    }
    if table.len() < MOST {
        let der = (der.len() <= LONGEST).then(|| Arc::from(der));
        table.insert(fingerprint, Known { facts: Arc::clone(&made), der });
    }
    Ok(made)
}

/// The certificate of a CA that stands in a chain; kept at least as long as somebody holds that chain. `None` if it is too
/// large or one of too many.
pub(crate) fn der(fingerprint: &Digest) -> Option<Arc<[u8]>> {
    CERTIFICATES.lock().unwrap_or_else(PoisonError::into_inner).get(fingerprint)?.der.clone()
}

/// Checks a CA certificate's signature once; only a good answer is kept.
pub(crate) fn signature(signed: Digest, signer: Digest, check: impl FnOnce() -> bool) -> bool {
    let key = (signed, signer);
    if SIGNED.lock().unwrap_or_else(PoisonError::into_inner).contains(&key) {
        return true;
    }
    let good = check();
    if good {
        let mut table = SIGNED.lock().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= MOST {
            table.clear();
        }
        table.insert(key);
    }
    good
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_signature_is_checked_again_and_a_good_one_is_not() {
        let (a, b) = (Digest::of(b"intern a"), Digest::of(b"intern b"));
        assert!(!signature(a, b, || false));
        assert!(signature(a, b, || true));
        assert!(signature(a, b, || false), "the good answer was kept");
        assert!(!signature(b, a, || false), "the other way round is another question");
    }
}
