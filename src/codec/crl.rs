//! Certificate revocation lists (RFC 5280 section 5): bytes to facts about one chain.
//!
//! A list counts for the certificates of the chain whose issuer, the next certificate of the chain, signed it, as far as
//! its issuing distribution point reaches. No delta lists are taken, no indirect ones, and none for some reasons only,
//! because what such a list leaves out may well be revoked. Every entry counts, whatever its reason, so a certificate on
//! hold is revoked too.
//!
//! A list is read once, also where it is asked about ten thousand chains: see [`RevocationList`].
//!
//! Refuses to know the time: whether a list is fresh is the gate's to say.

mod list;
mod scope;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::{Error, PemObject as _};

use crate::codec::ParseError;
use crate::codec::der::{self, Reader};
use crate::domain::certificate::{Certificate, Chain, display_name};
use crate::domain::inventory::CrlFacts;
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;

#[cfg(test)]
pub(in crate::codec) use list::time;
pub(in crate::codec) use list::{Extension, List, oid, without_zeros};
use list::{entry_extension, list_extension, malformed};
use scope::Scope;
pub(in crate::codec) use scope::points_in;

/// Bytes of a file. An entry takes 20 at the very least and 40 as a rule, so this is room for 400,000 certificates and
/// never for a million.
pub const LARGEST: usize = 16 << 20;

/// Bytes of a list that was fetched: the largest that public CAs ever published had some 30 MiB.
pub const LARGEST_FETCHED: usize = 32 << 20;

/// Entries of a list: 32 MiB have room for some 800,000 as they are usually written.
const MOST_ENTRIES: usize = 1_000_000;

/// Bytes of all lists that are kept read: two of the largest, or hundreds of usual ones. What does not fit is read again.
const MOST_KEPT: usize = 96 << 20;

/// A CRL number has at most 20 bytes (section 5.2.3).
const LONGEST_NUMBER: usize = 20;

/// What the one list in `bytes` (PEM `X509 CRL` or DER) says about `chain`. The chain must come from
/// [`crate::codec::verify::chain`], which keeps the certificates of its issuers.
///
/// # Errors
/// What is not exactly one well-formed list that an issuer of this chain signed, and that is about one of its certificates.
pub fn facts(bytes: &[u8], chain: &Chain) -> Result<CrlFacts, ParseError> {
    RevocationList::of(bytes, LARGEST, &[chain])?.about(chain)
}

/// A list that was read once: a serial number is found on it without reading it again.
pub struct RevocationList {
    der: Box<[u8]>,
    /// SHA-256 of it.
    digest: Digest,
    scope: Scope,
    /// Where in `der` each serial number begins and ends, without leading zeros, in the order of the numbers' bytes.
    serials: Box<[(u32, u32)]>,
}

impl core::fmt::Debug for RevocationList {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "RevocationList({} of {} entries)", self.digest.short(), self.serials.len())
    }
}

impl RevocationList {
    /// The one list in `bytes`, of at most `most`. It must be about a certificate of one of these chains: what nobody vouches
    /// for is not read any further, and takes no place among what was.
    ///
    /// # Errors
    /// As [`facts`].
    pub fn of(bytes: &[u8], most: usize, chains: &[&Chain]) -> Result<Arc<Self>, ParseError> {
        if bytes.len() > most {
            return Err(ParseError(format!("is larger than {most} bytes")));
        }
        let given = Digest::of(bytes);
        if let Some(known) = kept(&given) {
            let mut why = ParseError::new("is about no chain");
            let about = |chain: &&Chain| known.about(chain).map_err(|e| why = e).is_ok();
            return if chains.iter().any(about) { Ok(known) } else { Err(why) };
        }
        let der = der_in(bytes)?;
        let digest = if *der == *bytes { given } else { Digest::of(&der) };
        let list = List::read(&der, list_extension)?;
        let scope = scope_of(&list)?;
        let mut why = ParseError::new("is about no chain");
        let covers = |chain: &&Chain| covered(&list, digest, &scope, chain).map_err(|e| why = e).is_ok();
        if !chains.iter().any(covers) {
            return Err(why);
        }
        let serials = serials(&list, &der)?;
        let made = Arc::new(Self { der: der.as_ref().into(), digest, scope, serials });
        keep(given, &made);
        Ok(made)
    }

    /// What it says about a chain; see [`facts`].
    ///
    /// # Errors
    /// It is about none of the chain's certificates.
    pub fn about(&self, chain: &Chain) -> Result<CrlFacts, ParseError> {
        let list = List::read(&self.der, list_extension)?;
        let covered = covered(&list, self.digest, &self.scope, chain)?;
        let mut revokes = BTreeSet::new();
        for certificate in &covered {
            let serial = bytes_of(&certificate.serial).ok_or_else(|| {
                ParseError::new("cannot be searched: a serial number of the chain is not hexadecimal")
            })?;
            if self.has(&serial) {
                revokes.insert(certificate.fingerprint);
            }
        }
        Ok(CrlFacts {
            this_update: list.this_update,
            next_update: list.next_update,
            covers: covered.iter().map(|c| c.fingerprint).collect(),
            revokes,
        })
    }

    /// The list that was read lately and has this SHA-256.
    #[must_use]
    pub fn known(digest: &Digest) -> Option<Arc<Self>> {
        kept(digest)
    }

    /// How many certificates stand on it.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.serials.len()
    }

    /// SHA-256 of its DER.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Its DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    fn has(&self, serial: &[u8]) -> bool {
        self.serials.binary_search_by(|place| slice(&self.der, *place).cmp(serial)).is_ok()
    }

    fn size(&self) -> usize {
        self.der.len().saturating_add(self.serials.len().saturating_mul(size_of::<(u32, u32)>()))
    }
}

/// Which list it is: who made it, when, and the how many-th.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issue<'a> {
    issuer: &'a [u8],
    /// The CRL number without leading zeros.
    number: Option<&'a [u8]>,
    /// When it was made.
    pub this_update: Timestamp,
    /// When the next one is due.
    pub next_update: Option<Timestamp>,
}

impl<'a> Issue<'a> {
    /// From a list's DER, whoever signed it.
    ///
    /// # Errors
    /// It is no list, or its number is none (section 5.2.3).
    pub fn read(der: &'a [u8]) -> Result<Self, ParseError> {
        let list = List::read(der, list_extension)?;
        let number = list.extension(oid::CRL_NUMBER).map(|value| number(value).ok_or_else(malformed)).transpose()?;
        Ok(Self { issuer: list.issuer, number, this_update: list.this_update, next_update: list.next_update })
    }

    /// Its number, if it has one that fits into 63 bits.
    #[must_use]
    pub fn count(&self) -> Option<u64> {
        let bytes = self.number.filter(|bytes| bytes.len() <= 8)?;
        let number = bytes.iter().fold(0_u64, |all, byte| (all << 8) | u64::from(*byte));
        (number >> 63 == 0).then_some(number)
    }

    /// Whether it may take the place of an earlier one: the numbers of one issuer never go back, nor do their times
    /// (section 5.2.3). Lists of different issuers are not compared.
    ///
    /// # Errors
    /// The sentence says what went back.
    pub fn may_follow(&self, earlier: &Issue<'_>) -> Result<(), ParseError> {
        if self.issuer != earlier.issuer {
            return Ok(());
        }
        let shown = |number: Option<&[u8]>| match number {
            None => "none".to_owned(),
            Some(bytes) => format!("0x{}", bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()),
        };
        // Without leading zeros the longer number is the larger one.
        let order = |number: &Option<&[u8]>| number.map(|n| (n.len(), n.to_vec()));
        if order(&self.number) < order(&earlier.number) {
            return Err(ParseError(format!(
                "is older than the list that is known: its number is {}, and {} was seen",
                shown(self.number),
                shown(earlier.number)
            )));
        }
        if self.this_update < earlier.this_update {
            return Err(ParseError(format!(
                "is older than the list that is known: it is of {}, and one of {} was seen",
                self.this_update, earlier.this_update
            )));
        }
        Ok(())
    }
}

/// A non-negative INTEGER without its leading zeros.
fn number(value: &[u8]) -> Option<&[u8]> {
    let mut value = Reader::new(value);
    let number = value.expect(der::INTEGER).filter(|n| n.first().is_some_and(|first| first & 0x80 == 0))?;
    value.end()?;
    Some(without_zeros(number)).filter(|n| n.len() <= LONGEST_NUMBER)
}

fn scope_of(list: &List<'_>) -> Result<Scope, ParseError> {
    list.extension(oid::ISSUING_DISTRIBUTION_POINT).map_or_else(|| Ok(Scope::default()), Scope::read)
}

/// The certificates of the chain that a list is about; without any, the reason why.
fn covered<'c>(
    list: &List<'_>,
    digest: Digest,
    scope: &Scope,
    chain: &'c Chain,
) -> Result<Vec<&'c Arc<Certificate>>, ParseError> {
    let (mut covered, mut why) = (Vec::new(), None);
    for (element, issuer) in chain.elements().zip(chain.above.iter()) {
        let about = match list.is_by(digest, issuer) {
            Ok(true) => scope.covers(element),
            Ok(false) => continue,
            Err(error) => Err(error),
        };
        match about {
            Ok(()) => covered.push(element),
            Err(error) => why = why.or(Some(error)),
        }
    }
    if !covered.is_empty() {
        return Ok(covered);
    }
    Err(why.unwrap_or_else(|| {
        let issuers: Vec<String> = chain.above.iter().map(|c| format!("{:?}", display_name(c))).collect();
        let expected = match issuers.is_empty() {
            true => "the chain has no issuer".to_owned(),
            false => format!("expected a list of {}", issuers.join(" or ")),
        };
        ParseError(format!("was made by {:?}, who issued no certificate of this chain; {expected}", list.title()))
    }))
}

/// The places of all serial numbers, sorted. Every entry must be well formed.
fn serials(list: &List<'_>, der: &[u8]) -> Result<Box<[(u32, u32)]>, ParseError> {
    let mut places = Vec::new();
    let mut entries = Reader::new(list.entries);
    while !entries.is_empty() {
        let serial = list.entry(&mut entries, entry_extension)?;
        if places.len() >= MOST_ENTRIES {
            return Err(ParseError(format!("has more than {MOST_ENTRIES} entries")));
        }
        places.push(place(der, serial).ok_or_else(malformed)?);
    }
    places.sort_unstable_by(|a, b| slice(der, *a).cmp(slice(der, *b)));
    Ok(places.into())
}

/// Where a part of `der` begins and ends in it.
fn place(der: &[u8], part: &[u8]) -> Option<(u32, u32)> {
    let begin = part.as_ptr().addr().checked_sub(der.as_ptr().addr())?;
    let end = begin.checked_add(part.len()).filter(|end| *end <= der.len())?;
    Some((u32::try_from(begin).ok()?, u32::try_from(end).ok()?))
}

fn slice(der: &[u8], (begin, end): (u32, u32)) -> &[u8] {
    let at = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
    der.get(at(begin)..at(end)).unwrap_or_default()
}

/// The lists that were read, by the SHA-256 of what they were read from: an entry can be missing, but never wrong.
static READ: Mutex<Kept> = Mutex::new(Kept { lists: BTreeMap::new(), size: 0, uses: 0 });

struct Kept {
    /// With the number of the use of each that was the last.
    lists: BTreeMap<Digest, (Arc<RevocationList>, u64)>,
    size: usize,
    uses: u64,
}

fn kept(digest: &Digest) -> Option<Arc<RevocationList>> {
    let mut table = READ.lock().unwrap_or_else(PoisonError::into_inner);
    table.uses = table.uses.saturating_add(1);
    let uses = table.uses;
    let (list, used) = table.lists.get_mut(digest)?;
    *used = uses;
    Some(Arc::clone(list))
}

fn keep(digest: Digest, list: &Arc<RevocationList>) {
    let mut table = READ.lock().unwrap_or_else(PoisonError::into_inner);
    let table = &mut *table;
    table.uses = table.uses.saturating_add(1);
    if let Some((old, _)) = table.lists.insert(digest, (Arc::clone(list), table.uses)) {
        table.size = table.size.saturating_sub(old.size());
    }
    table.size = table.size.saturating_add(list.size());
    // What was not asked for the longest goes first.
    while table.size > MOST_KEPT
        && let Some(oldest) = table.lists.iter().min_by_key(|(_, (_, used))| *used).map(|(digest, _)| *digest)
        && let Some((old, _)) = table.lists.remove(&oldest)
    {
        table.size = table.size.saturating_sub(old.size());
    }
}

/// The DER of the only list in the file.
fn der_in(bytes: &[u8]) -> Result<CertificateRevocationListDer<'_>, ParseError> {
    if bytes.is_empty() {
        return Err(ParseError::new("is empty"));
    }
    if bytes.first() == Some(&der::SEQUENCE) {
        return Ok(CertificateRevocationListDer::from(bytes));
    }
    let mut found = None;
    for list in CertificateRevocationListDer::pem_slice_iter(bytes) {
        match list {
            Ok(_) if found.is_some() => {
                return Err(ParseError::new("holds more than one revocation list: put each into a file of its own"));
            }
            Ok(list) => found = Some(list),
            Err(Error::MissingSectionEnd { .. }) => {
                return Err(ParseError::new("has a PEM block without its END line: the file is torn"));
            }
            Err(Error::IllegalSectionStart { .. }) => return Err(ParseError::new("has a damaged PEM BEGIN line")),
            Err(_) => return Err(ParseError::new("has a PEM block that is not base64")),
        }
    }
    found.ok_or_else(|| ParseError::new("holds no revocation list: expected DER or a PEM block X509 CRL"))
}

/// A serial as [`Certificate::serial`] has it, as bytes without leading zeros.
fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let padded = if hex.len().is_multiple_of(2) { hex.to_owned() } else { format!("0{hex}") };
    let pairs = padded.as_bytes().chunks(2).map(|pair| {
        // A sign is no digit, though the parser would take it.
        let digits = core::str::from_utf8(pair).ok().filter(|p| p.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u8::from_str_radix(digits, 16).ok()
    });
    pairs.collect::<Option<Vec<u8>>>().map(|bytes| without_zeros(&bytes).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_compare_whatever_their_leading_zeros() {
        for (hex, der) in [
            ("0", &[0][..]),
            ("1", &[1]),
            ("ff", &[0, 0xff]),
            ("fff", &[0x0f, 0xff]),
            ("87654321", &[0, 0x87, 0x65, 0x43, 0x21]),
        ] {
            assert_eq!(bytes_of(hex).as_deref(), Some(without_zeros(der)), "{hex}");
        }
        assert_eq!(bytes_of("+1"), None);
        assert_eq!(bytes_of("xy"), None);
        assert_eq!(bytes_of("ä"), None);
    }
}
