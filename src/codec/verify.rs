//! Chains: from a leaf over its issuers to a root that we were told to trust (RFC 5280 section 6).
//!
//! [`Trust::Anchored`] means: every signature is good, every issuer is a CA that may sign certificates, path lengths and
//! name constraints hold, purposes fit, no element has a critical extension that is unknown here, and the last element
//! is in [`Roots`]. Time is *not* part of it, so the answer stays true while the clock moves: whether every element, the
//! root included, is in time is [`Chain::out_of_time`]'s to say.
//!
//! Refuses to know revocation: that is [`crate::codec::crl`].

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;

use crate::codec::x509::{Limits, Parsed, certificates_from, oid};
use crate::codec::{ParseError, intern};
use crate::domain::certificate::{Chain, Trust};
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;

/// Certificates above the leaf. Public chains have two or three, cross-signed ones four.
const DEEPEST: usize = 8;

/// Signatures checked for one chain. Every dead end costs one; 100 is what rustls-webpki spends.
const MOST_SIGNATURES: usize = 100;

/// The certificates that chains may end in: DER by subject, shared by whoever verifies.
#[derive(Clone, Default)]
pub struct Roots {
    by_subject: BTreeMap<Box<[u8]>, Vec<Arc<[u8]>>>,
}

impl core::fmt::Debug for Roots {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Roots({})", self.len())
    }
}

impl Roots {
    /// From a bundle: PEM or one DER certificate, each of which must parse.
    ///
    /// # Errors
    /// As [`certificates_from`]; so an empty bundle is an error, not "trust nothing".
    pub fn from_bundle(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut roots = Self::default();
        for der in certificates_from(bytes, &Limits::ROOTS)? {
            roots.add(&der)?;
        }
        Ok(roots)
    }

    /// Adds one root; adding it twice changes nothing.
    ///
    /// # Errors
    /// If it does not parse.
    pub fn add(&mut self, der: &[u8]) -> Result<(), ParseError> {
        let subject = Parsed::new(der)?.subject;
        let same = self.by_subject.entry(Box::from(subject)).or_default();
        if !same.iter().any(|known| **known == *der) {
            same.push(Arc::from(der));
        }
        Ok(())
    }

    /// Adds all of `other`, sharing its memory.
    pub fn extend(&mut self, other: &Self) {
        for (subject, ders) in &other.by_subject {
            let same = self.by_subject.entry(subject.clone()).or_default();
            for der in ders {
                if !same.contains(der) {
                    same.push(Arc::clone(der));
                }
            }
        }
    }

    /// SHA-256 of each.
    #[must_use]
    pub fn fingerprints(&self) -> std::collections::BTreeSet<Digest> {
        self.by_subject.values().flatten().map(|der| Digest::of(der)).collect()
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_subject.values().map(Vec::len).sum()
    }

    /// Whether there is none, so that nothing is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_subject.is_empty()
    }

    fn named(&self, subject: &[u8]) -> &[Arc<[u8]>] {
        self.by_subject.get(subject).map_or(&[], Vec::as_slice)
    }

    fn contains(&self, certificate: &Parsed<'_>) -> bool {
        self.named(certificate.subject).iter().any(|der| **der == *certificate.der)
    }
}

/// Finds the best way from the first certificate to a root. The others may come in any order, and unrelated ones do no
/// harm. Of several good ways, the one whose shortest-lived element lives longest is taken.
///
/// # Errors
/// Only if one of the certificates does not parse; everything else is [`Trust::Untrusted`] with the reason.
pub fn chain<C: AsRef<[u8]>>(ders: &[C], roots: &Roots) -> Result<Chain, ParseError> {
    let (path, trust) = path(ders, roots)?;
    // A path begins with the leaf.
    let Some(leaf) = path.first() else { return Err(ParseError::new("holds no certificate")) };
    let above = path.iter().skip(1).map(|p| intern::certificate(p.der, || p.facts()));
    Ok(Chain { leaf: Arc::new(leaf.facts()?), above: above.collect::<Result<_, _>>()?, trust })
}

/// The same as certificates taken apart, leaf first.
pub(crate) fn path<'a, C: AsRef<[u8]>>(ders: &'a [C], roots: &'a Roots) -> Result<(Path<'a>, Trust), ParseError> {
    if ders.len() > Limits::CHAIN.certificates {
        return Err(ParseError(format!("holds more than {} certificates", Limits::CHAIN.certificates)));
    }
    let mut presented = ders.iter().map(|der| Parsed::new(der.as_ref()).map(Rc::new));
    let Some(leaf) = presented.next().transpose()? else { return Err(ParseError::new("holds no certificate")) };
    let others: Vec<_> = presented.collect::<Result<_, _>>()?;
    let mut search = Search { roots, others: &others, signatures: 0, best: None, failure: None };
    search.extend(&mut vec![Rc::clone(&leaf)]);
    Ok(match (search.best, search.failure) {
        (Some((_, path)), _) => (path, Trust::Anchored),
        (None, Some(failure)) => (failure.path, Trust::Untrusted(failure.text)),
        // A search without an end notes why; this arm is never taken.
        (None, None) => (vec![Rc::clone(&leaf)], Trust::Untrusted("no way to a root was found".to_owned())),
    })
}

/// The certificates to send to clients: the leaf, then its issuers as they follow one another, without self-signed
/// ones and without what does not belong.
///
/// # Errors
/// If one does not parse.
pub fn to_serve(ders: &[CertificateDer<'static>]) -> Result<Vec<CertificateDer<'static>>, ParseError> {
    let parsed = ders.iter().map(|der| Parsed::new(der)).collect::<Result<Vec<_>, _>>()?;
    let mut order: Vec<usize> = Vec::new();
    let mut next = (!parsed.is_empty()).then_some(0);
    while let Some(at) = next {
        order.push(at);
        let issuer = parsed.get(at).map(|p| p.issuer);
        next = (1..parsed.len()).find(|i| {
            let fits = |p: &Parsed<'_>| Some(p.subject) == issuer && p.subject != p.issuer;
            !order.contains(i) && parsed.get(*i).is_some_and(fits)
        });
    }
    Ok(order.iter().filter_map(|at| ders.get(*at)).cloned().collect())
}

pub(crate) type Path<'a> = Vec<Rc<Parsed<'a>>>;

/// Why there is no good way, ordered by how much it says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Telling {
    /// The issuer was not there.
    Missing,
    /// It was there, but did not sign this.
    Signature,
    /// A way to a root, but not one that may be used.
    Rule,
    /// Too much to look at.
    GaveUp,
}

struct Failure<'a> {
    telling: Telling,
    path: Path<'a>,
    text: String,
}

struct Search<'a, 'o> {
    roots: &'a Roots,
    others: &'o [Rc<Parsed<'a>>],
    signatures: usize,
    best: Option<(Timestamp, Path<'a>)>,
    failure: Option<Failure<'a>>,
}

impl<'a> Search<'a, '_> {
    /// Tries everything that could stand above the path's last element, roots first.
    fn extend(&mut self, path: &mut Path<'a>) {
        let Some(tip) = path.last().cloned() else { return };
        if self.roots.contains(&tip) {
            return self.anchored(path);
        }
        if path.len() > DEEPEST {
            return self.note(Telling::GaveUp, path, format!("the chain is deeper than {DEEPEST} certificates"));
        }
        let (mut seen, mut signed) = (false, false);
        let roots = self.roots.named(tip.issuer).iter().filter_map(|der| Parsed::new(der).ok()).map(Rc::new);
        let others = self.others.iter().filter(|o| o.subject == tip.issuer && !self.roots.contains(o)).cloned();
        let candidates = roots.map(|r| (r, true)).chain(others.map(|o| (o, false)));
        for (candidate, is_root) in candidates.collect::<Vec<_>>() {
            // The same key under the same name once: no loops.
            if path.iter().any(|p| p.spki == candidate.spki && p.subject == candidate.subject) {
                continue;
            }
            seen = true;
            if self.signatures >= MOST_SIGNATURES {
                let text =
                    format!("gave up after {MOST_SIGNATURES} signatures: too many certificates with the same name");
                return self.note(Telling::GaveUp, path, text);
            }
            self.signatures = self.signatures.saturating_add(1);
            if !is_signed_by(&tip, &candidate) {
                continue;
            }
            signed = true;
            path.push(candidate);
            if is_root {
                self.anchored(path)
            } else {
                self.extend(path)
            }
            path.pop();
        }
        if !seen {
            let text = if tip.issuer == tip.subject {
                format!("{} is self-signed and not a configured or system root", quoted(&tip))
            } else {
                format!(
                    "the issuer of {}, {:?}, is neither in the chain nor among the roots: an intermediate certificate is missing, or the root is not configured",
                    quoted(&tip),
                    tip.issuer_title()
                )
            };
            self.note(Telling::Missing, path, text);
        } else if !signed {
            let text = format!(
                "the signature of {} was not made by {:?}, or with an algorithm that is not accepted (SHA-1, RSA below 2048 bits)",
                quoted(&tip),
                tip.issuer_title()
            );
            self.note(Telling::Signature, path, text);
        }
    }

    fn anchored(&mut self, path: &Path<'a>) {
        if let Err(text) = check(path) {
            return self.note(Telling::Rule, path, text);
        }
        let end = path.iter().map(|p| p.validity.not_after).min().unwrap_or(Timestamp::MIN);
        if self.best.as_ref().is_none_or(|(known, _)| *known < end) {
            self.best = Some((end, path.clone()));
        }
    }

    fn note(&mut self, telling: Telling, path: &Path<'a>, text: String) {
        let new = (telling, path.len());
        if self.failure.as_ref().is_none_or(|f| (f.telling, f.path.len()) < new) {
            self.failure = Some(Failure { telling, path: path.clone(), text });
        }
    }
}

pub(crate) fn is_signed_by(signed: &Parsed<'_>, signer: &Parsed<'_>) -> bool {
    let check = || is_signature(signed.algorithm, signed.tbs, signed.signature, signer);
    if signed.may_issue() { intern::signature(Digest::of(signed.der), Digest::of(signer.spki), check) } else { check() }
}

/// Whether these bytes were signed with this certificate's key: by the one algorithm that both what is signed and the
/// signer's key name, byte for byte. The list has no SHA-1 and no RSA key below 2048 bits.
pub(crate) fn is_signature(algorithm: &[u8], message: &[u8], signature: &[u8], signer: &Parsed<'_>) -> bool {
    is_signature_of(algorithm, message, signature, (signer.key_algorithm, signer.key))
}

/// The same for a bare key: the contents of its AlgorithmIdentifier, and its bits.
pub(crate) fn is_signature_of(algorithm: &[u8], message: &[u8], signature: &[u8], key: (&[u8], &[u8])) -> bool {
    let (key_algorithm, key) = key;
    webpki::ALL_VERIFICATION_ALGS.iter().any(|known| {
        known.signature_alg_id().as_ref() == algorithm
            && known.public_key_alg_id().as_ref() == key_algorithm
            && known.verify_signature(key, message, signature).is_ok()
    })
}

/// The rules for a path from the leaf to a root whose signatures are good (RFC 5280 section 6.1).
pub(crate) fn check(path: &[Rc<Parsed<'_>>]) -> Result<(), String> {
    for element in path {
        if let Some(id) = &element.unknown_critical {
            return Err(format!("{} has the critical extension {id}, which is unknown here", quoted(element)));
        }
    }
    for (at, issuer) in path.iter().enumerate().skip(1) {
        let below = path.get(..at).unwrap_or_default();
        match issuer.basic {
            Some(basic) if basic.ca => {
                // Self-issued certificates do not count, nor does the leaf (section 4.2.1.9).
                let deep = below.iter().skip(1).filter(|p| p.subject != p.issuer).count();
                if basic.path_len.is_some_and(|most| usize::try_from(most).is_ok_and(|most| deep > most)) {
                    return Err(format!("{} has more CAs below it than its path length allows", quoted(issuer)));
                }
            }
            _ => {
                return Err(format!(
                    "{} may not issue certificates: its basic constraints do not say CA",
                    quoted(issuer)
                ));
            }
        }
        if issuer.signs_certificates == Some(false) {
            return Err(format!("{} may not issue certificates: its key usage lacks keyCertSign", quoted(issuer)));
        }
        if let Some(constraints) = &issuer.constraints {
            for (depth, element) in below.iter().enumerate() {
                let counts = depth == 0 || element.subject != element.issuer;
                if let Some(name) = counts.then(|| constraints.violation(element)).flatten() {
                    return Err(format!(
                        "{} may not issue for {name:?}: its name constraints forbid it",
                        quoted(issuer)
                    ));
                }
            }
        }
    }
    purposes(path)
}

/// Every intermediate that limits its purposes must leave one of the leaf's.
fn purposes(path: &[Rc<Parsed<'_>>]) -> Result<(), String> {
    let mut left = path.first().and_then(|leaf| leaf.purposes.clone()).filter(|p| !p.contains(&oid::ANY_PURPOSE));
    let intermediates = path.iter().take(path.len().saturating_sub(1)).skip(1);
    for intermediate in intermediates {
        let Some(own) = intermediate.purposes.as_ref().filter(|p| !p.contains(&oid::ANY_PURPOSE)) else { continue };
        let common = match left {
            None => own.clone(),
            Some(left) => left.into_iter().filter(|p| own.contains(p)).collect(),
        };
        if common.is_empty() {
            return Err(format!("{} may not issue for this extended key usage", quoted(intermediate)));
        }
        left = Some(common);
    }
    Ok(())
}

fn quoted(certificate: &Parsed<'_>) -> String {
    format!("{:?}", certificate.title())
}
