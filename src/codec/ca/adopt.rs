//! Certificates and lists of a CA that were signed elsewhere: by a root that no network reaches, or before the CA came here.

use super::lint::{Origin, lint_from};
use super::{ToSign, assemble, is_signed};
use crate::codec::crl::Issue;
use crate::codec::peer_crl::Crl;
use crate::codec::x509::Parsed;
use crate::codec::{ParseError, tbs, x509};
use crate::domain::key::KeyAlgorithm;
use crate::domain::time::{Timestamp, Validity};

/// A CA's certificate that was read, linted, and whose signature is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// The common name, or what else names it.
    pub title: String,
    /// Its serial number: the contents of the INTEGER.
    pub serial: Vec<u8>,
    /// Its validity.
    pub validity: Validity,
    /// Its SubjectPublicKeyInfo (DER).
    pub spki: Vec<u8>,
    /// The algorithm of its key.
    pub algorithm: KeyAlgorithm,
    /// What was signed.
    pub tbs: Vec<u8>,
}

/// Reads a CA's certificate; `above` and `others` as for [`super::lint()`].
///
/// # Errors
/// Says what relying parties would refuse, or that the signature is not of the one above.
pub fn adopt<C: AsRef<[u8]>, O: AsRef<[u8]>>(der: &[u8], above: &[C], others: &[O]) -> Result<Adopted, ParseError> {
    let own = Parsed::new(der)?;
    let title = own.title();
    if !own.basic.is_some_and(|basic| basic.ca) {
        return Err(ParseError(format!("{title:?} is no CA: its basic constraints do not say so")));
    }
    let key = |spki: &[u8]| {
        tbs::key_algorithm(spki).filter(|algorithm| tbs::signature_algorithm(*algorithm).is_some()).ok_or_else(|| {
            ParseError(format!("the key of {title:?} is of a kind that no CA here has: P-256, P-384 or Ed25519"))
        })
    };
    let signer = match above.first() {
        Some(der) => x509::public_key(der.as_ref())?,
        None => own.spki.to_vec(),
    };
    let to_sign = ToSign { bytes: own.tbs.to_vec(), algorithm: key(&signer)? };
    lint_from(Origin::Elsewhere, &to_sign, above, others).map_err(|flaws| {
        let flaws: Vec<String> = flaws.iter().map(ToString::to_string).collect();
        ParseError(format!("{title:?}: {}", flaws.join("; ")))
    })?;
    // The same bytes again: nothing was added around what was signed.
    if !is_signed(&to_sign, own.signature, &signer) || assemble(&to_sign, own.signature) != der {
        return Err(ParseError(format!("{title:?} was not signed by the one above it")));
    }
    Ok(Adopted {
        serial: own.serial.to_vec(),
        validity: own.validity,
        spki: own.spki.to_vec(),
        algorithm: key(own.spki)?,
        tbs: to_sign.bytes,
        title,
    })
}

/// A revocation list that was signed elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptedList {
    /// Its number.
    pub number: u64,
    /// When it was made.
    pub this_update: Timestamp,
    /// When it is worth nothing any more.
    pub next_update: Timestamp,
    /// How many certificates it says are revoked.
    pub entries: usize,
}

/// Reads a complete revocation list of a CA (DER).
///
/// # Errors
/// If it is none of this CA's, says less than all, or has no number that can be counted on.
pub fn adopt_list(der: &[u8], ca: &[u8]) -> Result<AdoptedList, ParseError> {
    let list = Crl::read(der)?;
    let ca = Parsed::new(ca)?;
    if !list.is_by(&ca) {
        return Err(ParseError(format!("the revocation list was not signed by {:?}", ca.title())));
    }
    let number = Issue::read(der)?.count().ok_or_else(|| {
        ParseError::new("the revocation list has no number below 2^63, and the next one would have to be larger")
    })?;
    let Validity { not_before, not_after } = list.validity();
    Ok(AdoptedList { number, this_update: not_before, next_update: not_after, entries: list.entries() })
}

/// Whether a list says that a certificate (DER) is revoked.
///
/// # Errors
/// If one of them is none.
pub fn is_revoked(list: &[u8], certificate: &[u8]) -> Result<bool, ParseError> {
    Ok(Crl::read(list)?.revokes(&Parsed::new(certificate)?))
}
