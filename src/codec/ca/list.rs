//! TBSCertLists (RFC 5280 section 5.1): complete lists of one CA.
//!
//! No issuing distribution point: a list with one is about some certificates only, and every reader here and many elsewhere
//! refuse it. An entry says why only if there is something to say (section 5.3.1).

use crate::codec::ca::certificate::{authority_key, plain};
use crate::codec::ca::{Above, ToSign, signature_algorithm};
use crate::codec::write::{ENUMERATED, Writer};
use crate::codec::{ParseError, crl, der};
use crate::domain::authority::{RevocationList, RevocationReason, Revoked};

/// Object identifiers, as the contents of their DER.
mod id {
    pub(super) const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 20];
    pub(super) const REASON: &[u8] = &[0x55, 0x1d, 21];
}

/// Bytes of a serial number: as much as is read in a certificate, so that whatever was issued can be revoked.
const LONGEST_SERIAL: usize = 64;
/// What signature and frame add to the bytes that are signed: 512 bytes of the longest signature, and its headers.
const ROOM: usize = 1_024;

/// The bytes of a list. Its entries are written in the order of their serial numbers, whatever their order here.
///
/// # Errors
/// If it ends before it begins, has a serial number twice or one that no certificate has, or is longer than readers take.
pub fn revocation_list(list: &RevocationList, issuer: &Above) -> Result<ToSign, ParseError> {
    if list.next_update <= list.this_update {
        return Err(ParseError(format!(
            "a revocation list would be good from {} to {} only",
            list.this_update, list.next_update
        )));
    }
    let entries = sorted(&list.revoked)?;
    // A serial number of 20 bytes, a time and a reason take 53.
    let mut w = Writer::with_capacity(entries.len().saturating_mul(56).saturating_add(512));
    w.sequence(|w| {
        // Version 2.
        w.unsigned(1);
        w.sequence(|w| w.raw(signature_algorithm(issuer.algorithm)));
        w.raw(&issuer.subject);
        w.time(list.this_update);
        w.time(list.next_update);
        // Without entries there is no list of them (section 5.1.2.6).
        if !entries.is_empty() {
            w.sequence(|w| entries.iter().for_each(|revoked| entry(w, revoked)));
        }
        w.nest(0xa0, |w| {
            w.sequence(|w| {
                authority_key(w, &issuer.key_id);
                plain(w, id::CRL_NUMBER, |w| w.unsigned(list.number));
            });
        });
    });
    let bytes = w.into_bytes();
    if bytes.len().saturating_add(ROOM) > crl::LARGEST {
        return Err(ParseError(format!(
            "a revocation list of {} entries takes {} bytes, more than the {} that readers take",
            entries.len(),
            bytes.len(),
            crl::LARGEST
        )));
    }
    Ok(ToSign { bytes, algorithm: issuer.algorithm })
}

fn entry(w: &mut Writer, revoked: &Revoked) {
    w.sequence(|w| {
        w.element(der::INTEGER, &revoked.serial);
        w.time(revoked.at);
        if revoked.reason != RevocationReason::Unspecified {
            w.sequence(|w| plain(w, id::REASON, |w| w.element(ENUMERATED, &[revoked.reason.number()])));
        }
    });
}

/// By number: a shorter one is a smaller one, since none has zeros in front.
fn sorted(revoked: &[Revoked]) -> Result<Vec<&Revoked>, ParseError> {
    if let Some(bad) = revoked.iter().find(|r| !is_serial(&r.serial)) {
        return Err(ParseError(format!(
            "{:02x?} is the serial number of no certificate: expected the shortest form of an INTEGER, at most {LONGEST_SERIAL} bytes",
            bad.serial.get(..LONGEST_SERIAL).unwrap_or(&bad.serial)
        )));
    }
    let mut sorted: Vec<&Revoked> = revoked.iter().collect();
    sorted.sort_by_key(|r| (r.serial.len(), &*r.serial));
    let twice = sorted.windows(2).find_map(|pair| match pair {
        [a, b] if a.serial == b.serial => Some(&a.serial),
        _ => None,
    });
    match twice {
        Some(serial) => Err(ParseError(format!("the serial number {serial:02x?} is revoked twice"))),
        None => Ok(sorted),
    }
}

fn is_serial(bytes: &[u8]) -> bool {
    let shortest = match bytes {
        [] => false,
        [_] => true,
        [0, second, ..] => second & 0x80 != 0,
        [0xff, second, ..] => second & 0x80 == 0,
        [_, ..] => true,
    };
    shortest && bytes.len() <= LONGEST_SERIAL
}
