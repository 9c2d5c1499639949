//! Judging the certificates of a TLS peer: chain, times, purpose, revocation, and who it is.
//!
//! Everything has to be shown good. Every element is in time, the anchor included; the purpose is said, not only not
//! excluded; with revocation lists, every CA of the chain has a fresh one. Refuses to know TLS: that the peer holds the
//! certificate's key is the handshake's to prove.

use std::collections::BTreeSet;
use std::rc::Rc;

use rustls::pki_types::CertificateDer;

use crate::codec::ParseError;
use crate::codec::crl::without_zeros;
use crate::codec::peer_crl::Crl;
use crate::codec::verify::{self, Roots};
use crate::codec::x509::{GeneralName, Parsed, oid};
use crate::domain::certificate::Trust as Anchor;
use crate::domain::key::Digest;
use crate::domain::link::{Admitted, PeerId, Presented, Purpose, Reason, Refusal, allowed};
use crate::domain::name::Name;
use crate::domain::time::{Timestamp, Validity};

/// What peers are judged by.
#[derive(Debug)]
pub struct Trust {
    roots: Roots,
    crls: Vec<Crl>,
    peers: Vec<PeerId>,
    purpose: Purpose,
    /// Whether every CA of a chain needs a fresh list.
    lists: Lists,
    /// Serial numbers without leading zeros that are revoked, whatever lists say.
    revoked: BTreeSet<Box<[u8]>>,
    /// Keys that are in other hands.
    blocked: BTreeSet<Digest>,
}

/// Whether lists are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lists {
    Wanted,
    Unwanted,
}

impl Trust {
    /// Nobody is let in without roots or peers; without revocation lists nobody is asked about revocation.
    #[must_use]
    pub fn new(roots: Roots, crls: Vec<Crl>, peers: Vec<PeerId>, purpose: Purpose) -> Self {
        let lists = if crls.is_empty() { Lists::Unwanted } else { Lists::Wanted };
        Self { roots, crls, peers, purpose, lists, revoked: BTreeSet::new(), blocked: BTreeSet::new() }
    }

    /// Every CA needs a list, also where there is none at all; and these serial numbers and keys are good for nothing,
    /// whatever a list says yet.
    #[must_use]
    pub fn with_register(mut self, revoked: &BTreeSet<Box<[u8]>>, blocked: &BTreeSet<Digest>) -> Self {
        self.lists = Lists::Wanted;
        self.revoked = revoked.iter().map(|serial| without_zeros(serial).into()).collect();
        self.blocked.clone_from(blocked);
        self
    }

    /// SHA-256 of each root.
    #[must_use]
    pub fn anchors(&self) -> std::collections::BTreeSet<Digest> {
        self.roots.fingerprints()
    }

    /// Judges what a peer presents, leaf first.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn judge<C: AsRef<[u8]>>(&self, ders: &[C], now: Timestamp) -> Result<Admitted, Refusal> {
        let (path, anchor) = verify::path(ders, &self.roots)
            .map_err(|e| Refusal::new(Reason::Malformed, format!("what the peer presents {e}")))?;
        if let Anchor::Untrusted(why) = anchor {
            return Err(Refusal::new(Reason::Untrusted, why));
        }
        let Some(leaf) = path.first() else {
            return Err(Refusal::new(Reason::NoCertificate, "the peer presents no certificate"));
        };
        if let Some(bad) = path.iter().find(|p| !p.validity.contains(now)) {
            let span = bad.validity;
            let text = format!(
                "{:?} is valid from {} to {}, and now it is {now}",
                bad.title(),
                span.not_before,
                span.not_after
            );
            return Err(Refusal::new(Reason::OutOfTime, text));
        }
        self.purpose(leaf)?;
        self.registered(&path)?;
        let mut validity = path.iter().fold(leaf.validity, |all, p| all.intersection(&p.validity));
        if self.lists == Lists::Wanted {
            // The anchor is trusted because it is named here, so nobody revokes it.
            for (element, ca) in path.iter().zip(path.iter().skip(1)) {
                validity = validity.intersection(&self.unrevoked(element, ca, now)?);
            }
        }
        let peer = allowed(&presented(leaf), &self.peers)?;
        Ok(Admitted { peer: peer.clone(), validity })
    }

    fn purpose(&self, leaf: &Parsed<'_>) -> Result<(), Refusal> {
        let refuse = |why: String| Err(Refusal::new(Reason::Purpose, format!("{:?} {why}", leaf.title())));
        if leaf.may_issue() {
            return refuse("is the certificate of a CA, which speaks to nobody".to_owned());
        }
        if leaf.key_usage.is_some_and(|bits| bits & Parsed::DIGITAL_SIGNATURE == 0) {
            return refuse("may not sign handshakes: its key usage lacks digitalSignature".to_owned());
        }
        if !leaf.purposes.as_ref().is_some_and(|all| all.contains(&oid_of(self.purpose))) {
            return refuse(format!("is not made for this: its extended key usage lacks {}", self.purpose.as_str()));
        }
        Ok(())
    }

    /// What is revoked in this very moment may be on no list yet.
    fn registered(&self, path: &[Rc<Parsed<'_>>]) -> Result<(), Refusal> {
        let refuse = |p: &Parsed<'_>, why: &str| Err(Refusal::new(Reason::Revoked, format!("{:?} {why}", p.title())));
        match path.iter().find(|p| self.revoked.contains(without_zeros(p.serial))) {
            Some(p) => return refuse(p, "is revoked"),
            None if self.blocked.is_empty() => return Ok(()),
            None => {}
        }
        match path.iter().find(|p| self.blocked.contains(&Digest::of(p.spki))) {
            Some(p) => refuse(p, "has a key that is in other hands"),
            None => Ok(()),
        }
    }

    /// The time in which lists vouch for an element.
    fn unrevoked(&self, element: &Parsed<'_>, ca: &Parsed<'_>, now: Timestamp) -> Result<Validity, Refusal> {
        let own: Vec<&Crl> = self.crls.iter().filter(|crl| crl.is_by(ca)).collect();
        // Once revoked, always revoked, however old the list is.
        if own.iter().any(|crl| crl.revokes(element)) {
            return Err(Refusal::new(Reason::Revoked, format!("{:?} is revoked", element.title())));
        }
        let fresh = own.iter().map(|crl| crl.validity()).filter(|v| v.contains(now)).max_by_key(|v| v.not_after);
        fresh.ok_or_else(|| {
            let what = match own.iter().map(|crl| crl.validity().not_after).max() {
                Some(ended) => format!("the newest revocation list of {:?} ended {ended}", ca.title()),
                None => format!("there is no revocation list of {:?}", ca.title()),
            };
            let text = format!("whether {:?} is revoked cannot be told: {what}", element.title());
            Refusal::new(Reason::RevocationUnknown, text)
        })
    }
}

fn oid_of(purpose: Purpose) -> &'static [u8] {
    match purpose {
        Purpose::ClientAuth => oid::CLIENT_AUTH,
        Purpose::ServerAuth => oid::SERVER_AUTH,
    }
}

fn presented(leaf: &Parsed<'_>) -> Presented {
    let uri = |n: &&GeneralName<'_>| n.tag == GeneralName::URI;
    Presented {
        uris: leaf.names.iter().filter(uri).map(|n| String::from_utf8_lossy(n.value).into_owned()).collect(),
        dns: leaf.names.iter().filter_map(GeneralName::well_formed).filter(|n| matches!(n, Name::Dns(_))).collect(),
        spki: Digest::of(leaf.spki),
    }
}

/// Our own certificate, as it is to be presented.
#[derive(Clone, Debug)]
pub struct Own {
    /// The leaf and its issuers in order, without the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// SHA-256 of the leaf.
    pub fingerprint: Digest,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub spki: Digest,
    /// In which all of it is valid.
    pub validity: Validity,
}

impl Own {
    /// Makes ready what was read; a certificate without any extended key usage is made for everything.
    ///
    /// # Errors
    /// If it does not parse, or no peer would take it for this purpose.
    pub fn new(ders: &[CertificateDer<'static>], purpose: Purpose) -> Result<Self, ParseError> {
        let chain = verify::to_serve(ders)?;
        let parsed = chain.iter().map(|der| Parsed::new(der)).collect::<Result<Vec<_>, _>>()?;
        let Some(leaf) = parsed.first() else { return Err(ParseError::new("holds no certificate")) };
        let fits = |all: &Vec<&[u8]>| all.contains(&oid_of(purpose)) || all.contains(&oid::ANY_PURPOSE);
        if !leaf.purposes.as_ref().is_none_or(fits) {
            let wanted = purpose.as_str();
            return Err(ParseError(format!("is of no use here: its extended key usage lacks {wanted}")));
        }
        let validity = parsed.iter().fold(leaf.validity, |all, p| all.intersection(&p.validity));
        let (fingerprint, spki) = (Digest::of(leaf.der), Digest::of(leaf.spki));
        Ok(Self { chain, fingerprint, spki, validity })
    }
}
