//! The lint: what relying parties would refuse is found before anything is signed (RFC 5280 sections 4 and 6, X509-SVID).
//!
//! Two readers look at the very bytes that are to be signed. Ours reads every element and holds the table of rules below.
//! Then webpki verifies the whole chain with a signature that stands for the one to come: [`Pending`] accepts it for exactly
//! these bytes under exactly the issuer's key, and every other signature is verified as ever. Below a CA, a leaf that it could
//! issue is verified too, since nobody verifies a CA alone.
//!
//! Refuses to know the time: whether the chain is valid now was decided before.

use core::fmt;
use std::rc::Rc;

use rustls::pki_types::{
    AlgorithmIdentifier, CertificateDer, InvalidSignature, ServerName, SignatureVerificationAlgorithm, UnixTime,
};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::codec::ca::certificate::{self, id, is_location, usage};
use crate::codec::ca::strict::{self, Extension};
use crate::codec::ca::{Above, ToSign, assemble, key_id, strength};
use crate::codec::der::{self, Reader};
use crate::codec::write::Writer;
use crate::codec::x509::{GeneralName, MOST_NAMES, Parsed, oid};
use crate::codec::{intern, verify};
use crate::domain::authority::{Leaf, SerialNumber};
use crate::domain::certificate::Purposes;
use crate::domain::key::{Digest, KeyAlgorithm};
use crate::domain::name::{Name, NameSet};
use crate::domain::spiffe::{SpiffeId, TrustDomain};
use crate::domain::time::Timestamp;

/// A rule that is broken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flaw {
    /// Where it stands.
    pub rule: &'static str,
    /// What was found, and what was expected.
    pub text: String,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.rule)
    }
}

/// Certificates above one another; as deep as chains are verified.
const MOST_ABOVE: usize = 6;

/// Looks at a TBSCertificate. `above` are the certificates above it (DER), its issuer first and the root last; nothing for a
/// root. `others` are those of other generations, current and past: a CA shares neither name nor key with any of them.
///
/// # Errors
/// Every flaw that was found.
pub fn lint<C: AsRef<[u8]>, O: AsRef<[u8]>>(to_sign: &ToSign, above: &[C], others: &[O]) -> Result<(), Vec<Flaw>> {
    lint_from(Origin::Here, to_sign, above, others)
}

/// Where a certificate was made. What was made elsewhere may do what the standard leaves open in another way: derive key
/// identifiers otherwise, leave out the authority's of a root, have further extensions that are not critical.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Here,
    Elsewhere,
}

/// As [`lint`], for a certificate of this origin.
pub(super) fn lint_from<C: AsRef<[u8]>, O: AsRef<[u8]>>(
    origin: Origin,
    to_sign: &ToSign,
    above: &[C],
    others: &[O],
) -> Result<(), Vec<Flaw>> {
    let above: Vec<&[u8]> = above.iter().map(AsRef::as_ref).collect();
    let others: Vec<&[u8]> = others.iter().map(AsRef::as_ref).collect();
    let mut flaws = Flaws::default();
    // What is not even well formed is not looked at further.
    if let Err(why) = strict::element(&to_sign.bytes) {
        flaws.add("X.690 section 10", format!("what is to be signed {why}"));
        return flaws.verdict();
    }
    let stand_in = assemble(to_sign, STAND_IN);
    match Subject::read(&stand_in, &above) {
        Err(flaw) => flaws.0.push(flaw),
        Ok(subject) => {
            subject.fields(to_sign, &mut flaws);
            subject.extensions(origin, &mut flaws);
            if subject.is_ca() {
                subject.ca(&mut flaws)
            } else {
                subject.leaf(&mut flaws)
            }
            subject.strangers(&others, &mut flaws);
            subject.links(&mut flaws);
            if flaws.0.is_empty() {
                subject.rehearse(to_sign, &mut flaws);
            }
        }
    }
    flaws.verdict()
}

#[derive(Default)]
struct Flaws(Vec<Flaw>);

impl Flaws {
    fn add(&mut self, rule: &'static str, text: impl Into<String>) {
        self.0.push(Flaw { rule, text: text.into() });
    }

    /// Adds the flaw unless this holds.
    fn expect(&mut self, holds: bool, rule: &'static str, text: impl FnOnce() -> String) {
        if !holds {
            self.add(rule, text());
        }
    }

    fn verdict(self) -> Result<(), Vec<Flaw>> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }
}

/// What is looked at, and everything above it.
struct Subject<'a> {
    own: Rc<Parsed<'a>>,
    above: Vec<Rc<Parsed<'a>>>,
    version: Option<&'a [u8]>,
    extensions: Vec<Extension<'a>>,
}

impl<'a> Subject<'a> {
    fn read(der: &'a [u8], above: &[&'a [u8]]) -> Result<Self, Flaw> {
        let flaw = |rule, text: String| Flaw { rule, text };
        if above.len() > MOST_ABOVE {
            return Err(flaw("RFC 5280 section 6.1", format!("more than {MOST_ABOVE} certificates stand above it")));
        }
        let own = Parsed::new(der).map_err(|e| flaw("RFC 5280 section 4.1", format!("the certificate {e}")))?;
        let above = above.iter().map(|der| Parsed::new(der).map(Rc::new)).collect::<Result<Vec<_>, _>>();
        let above = above.map_err(|e| flaw("RFC 5280 section 4.1", format!("a certificate above it {e}")))?;
        let (version, extensions) = rest(own.tbs)
            .ok_or_else(|| flaw("RFC 5280 section 4.1", "the certificate has malformed or no extensions".to_owned()))?;
        Ok(Self { own: Rc::new(own), above, version, extensions })
    }

    fn is_ca(&self) -> bool {
        self.own.basic.is_some_and(|basic| basic.ca)
    }

    fn value(&self, id: &[u8]) -> Option<&'a [u8]> {
        self.extensions.iter().find(|extension| extension.id == id).map(|extension| extension.value)
    }

    /// Its issuer; itself, for a root.
    fn issuer(&self) -> &Parsed<'a> {
        self.above.first().unwrap_or(&self.own)
    }

    /// The fields of section 4.1.2.
    fn fields(&self, to_sign: &ToSign, flaws: &mut Flaws) {
        let own = &self.own;
        flaws.expect(self.version == Some(&[2]), "RFC 5280 section 4.1.2.1", || "the version is not 3".to_owned());
        let serial = own.serial;
        let positive = serial.first().is_some_and(|first| first & 0x80 == 0) && serial != [0];
        flaws.expect(positive && serial.len() <= 20, "RFC 5280 section 4.1.2.2", || {
            format!("the serial number {serial:02x?} is not positive, or longer than 20 bytes")
        });
        // 64 bits that nobody can guess are the least; ours have 158.
        flaws.expect(serial.len() >= 8, "CA/Browser Forum BR section 7.1", || {
            format!("the serial number {serial:02x?} is shorter than 8 bytes")
        });
        let by_key = super::algorithm(self.issuer().spki);
        flaws.expect(by_key == Ok(to_sign.algorithm), "RFC 5280 section 4.1.1.2", || {
            let issuer = by_key.map_or_else(|e| format!("is a key that {e}"), |key| format!("is {key}"));
            format!("it is to be signed by a key of {}, and the issuer's {issuer}", to_sign.algorithm)
        });
        flaws.expect(own.issuer == self.issuer().subject, "RFC 5280 section 4.1.2.4", || {
            "its issuer's name is not, byte for byte, the name in the issuer's certificate".to_owned()
        });
        flaws.expect(own.validity.not_before < own.validity.not_after, "RFC 5280 section 4.1.2.5", || {
            format!("it is valid from {} to {} only", own.validity.not_before, own.validity.not_after)
        });
        for above in &self.above {
            let inside = above.validity.intersection(&own.validity) == own.validity;
            flaws.expect(inside, "RFC 5280 section 6.1", || {
                format!(
                    "it is valid from {} to {}, and {:?} above it from {} to {}",
                    own.validity.not_before,
                    own.validity.not_after,
                    above.title(),
                    above.validity.not_before,
                    above.validity.not_after
                )
            });
        }
        if let Err(weakness) = strength(own.spki) {
            flaws.add("NIST SP 800-57 part 1", format!("its key {weakness}"));
        }
    }

    /// Which extensions there are, and whether they are critical (section 4.2).
    fn extensions(&self, origin: Origin, flaws: &mut Flaws) {
        let no_subject = self.own.subject == certificate::NO_NAME;
        for extension in &self.extensions {
            let (name, critical, rule) = match extension.id {
                oid::BASIC_CONSTRAINTS => ("basic constraints", true, "RFC 5280 section 4.2.1.9"),
                oid::KEY_USAGE => ("the key usage", true, "RFC 5280 section 4.2.1.3"),
                oid::NAME_CONSTRAINTS => ("name constraints", true, "RFC 5280 section 4.2.1.10"),
                oid::SUBJECT_ALT_NAME => ("the subject alternative name", no_subject, "RFC 5280 section 4.2.1.6"),
                oid::EXTENDED_KEY_USAGE => ("the extended key usage", false, "RFC 5280 section 4.2.1.12"),
                oid::SUBJECT_KEY_ID => ("the subject key identifier", false, "RFC 5280 section 4.2.1.2"),
                oid::AUTHORITY_KEY_ID => ("the authority key identifier", false, "RFC 5280 section 4.2.1.1"),
                id::CRL_POINTS => ("CRL distribution points", false, "RFC 5280 section 4.2.1.13"),
                id::AUTHORITY_ACCESS => ("the authority information access", false, "RFC 5280 section 4.2.2.1"),
                _ if origin == Origin::Elsewhere && !extension.is_critical => continue,
                other => {
                    flaws.add("RFC 5280 section 4.2", format!("it has an extension that is not ours: {other:02x?}"));
                    continue;
                }
            };
            flaws.expect(extension.is_critical == critical, rule, || {
                format!("{name} must {}be critical", if critical { "" } else { "not " })
            });
            if let Err(why) = strict::element(extension.value) {
                flaws.add(rule, format!("the value of {name} {why}"));
            }
            let located = match extension.id {
                id::CRL_POINTS => points(extension.value),
                id::AUTHORITY_ACCESS => accesses(extension.value),
                _ => Some(()),
            };
            flaws.expect(located.is_some(), rule, || format!("{name} name something else than HTTP URLs"));
        }
        let own_id = key_id(self.own.key);
        let elsewhere = origin == Origin::Elsewhere;
        let named = self.own.subject_key == Some(&own_id)
            || (elsewhere && self.own.subject_key.is_some_and(|id| !id.is_empty()));
        flaws.expect(named, "RFC 5280 section 4.2.1.2", || {
            "the subject key identifier is missing, or not made of the key".to_owned()
        });
        let issuer_id = self.issuer().subject_key;
        let own_root = elsewhere && self.above.is_empty() && self.own.authority_key.is_none();
        let points = own_root || (issuer_id.is_some() && self.own.authority_key == issuer_id);
        flaws.expect(points, "RFC 5280 section 4.2.1.1", || {
            "the authority key identifier is missing, or not the issuer's subject key identifier".to_owned()
        });
    }

    /// A CA's certificate.
    fn ca(&self, flaws: &mut Flaws) {
        let own = &self.own;
        flaws.expect(own.subject != certificate::NO_NAME, "RFC 5280 section 4.1.2.6", || {
            "a CA has a name, by which verifiers find it".to_owned()
        });
        let signs = key_usage(usage::CERT_SIGN | usage::CRL_SIGN);
        flaws.expect(self.value(oid::KEY_USAGE) == Some(&*signs), "RFC 5280 section 4.2.1.3", || {
            "the key usage of a CA is keyCertSign and cRLSign, nothing more and nothing less".to_owned()
        });
        flaws.expect(own.purposes.is_none(), "RFC 5280 section 4.2.1.12", || {
            "a CA with an extended key usage limits what is below it, where nobody expects it".to_owned()
        });
        let domains = own.names.iter().all(|name| trust_domain(name).is_some());
        flaws.expect(domains && own.names.len() <= 1, "X509-SVID section 3.1", || {
            "a CA has no name but the URI of one trust domain, without a path".to_owned()
        });
    }

    /// A leaf.
    fn leaf(&self, flaws: &mut Flaws) {
        let own = &self.own;
        // CA:FALSE is the default and so not written.
        flaws.expect(
            self.value(oid::BASIC_CONSTRAINTS) == Some(&[der::SEQUENCE, 0]),
            "RFC 5280 section 4.2.1.9",
            || "the basic constraints of a leaf are missing or not empty".to_owned(),
        );
        let rsa = matches!(
            super::algorithm(own.spki),
            Ok(KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096)
        );
        let expected = usage::DIGITAL_SIGNATURE | if rsa { usage::KEY_ENCIPHERMENT } else { 0 };
        flaws.expect(
            self.value(oid::KEY_USAGE) == Some(&*key_usage(expected)),
            "RFC 5280 section 4.2.1.3, X509-SVID section 4.3",
            || {
                format!(
                    "the key usage of a leaf with this key is {expected:08b}, not {:08b}",
                    own.key_usage.unwrap_or(0)
                )
            },
        );
        let purposes = own.purposes.as_deref().unwrap_or_default();
        let expected: [&[&[u8]]; 3] = [&[oid::SERVER_AUTH], &[oid::CLIENT_AUTH], &[oid::SERVER_AUTH, oid::CLIENT_AUTH]];
        flaws.expect(expected.contains(&purposes), "RFC 5280 section 4.2.1.12", || {
            "the extended key usage of a leaf is serverAuth, clientAuth or both, each once".to_owned()
        });
        flaws.expect(own.constraints.is_none(), "RFC 5280 section 4.2.1.10", || {
            "a leaf has no name constraints".to_owned()
        });
        flaws.expect((1..=MOST_NAMES).contains(&own.names.len()), "RFC 5280 section 4.2.1.6", || {
            format!("a leaf has 1 to {MOST_NAMES} names")
        });
        let uris = own.names.iter().filter(|name| name.tag == GeneralName::URI).count();
        flaws.expect(uris <= 1, "X509-SVID section 2", || format!("it has {uris} URIs, expected one at most"));
        for name in &own.names {
            let good = if name.tag == GeneralName::URI { spiffe(name).is_some() } else { is_canonical(name) };
            flaws.expect(good, "RFC 5280 section 4.2.1.6", || {
                format!("{} is no host name in lower case, address or SPIFFE ID", name.describe())
            });
        }
        let mut sorted: Vec<(u8, &[u8])> = own.names.iter().map(|name| (name.tag, name.value)).collect();
        sorted.sort_unstable();
        sorted.dedup();
        flaws.expect(sorted.len() == own.names.len(), "RFC 5280 section 4.2.1.6", || "it has a name twice".to_owned());
        // URIs have no name constraints that all verifiers know, so this is held here.
        let domains = self.above.iter().flat_map(|above| above.names.iter().filter_map(trust_domain));
        let foreign: Vec<String> = domains
            .filter(|domain| own.names.iter().filter_map(spiffe).any(|id| id.trust_domain() != domain.as_str()))
            .map(|domain| domain.to_string())
            .collect();
        flaws.expect(foreign.is_empty(), "X509-SVID section 3.1", || {
            format!("its SPIFFE ID is not in the trust domain of a CA above it: {}", foreign.join(", "))
        });
    }

    /// Every key and every CA's name stands once: verifiers find issuers by name, and one stolen key is one CA's.
    fn strangers(&self, others: &[&[u8]], flaws: &mut Flaws) {
        for above in &self.above {
            self.against(above, "a CA above it", flaws);
        }
        for other in others {
            match Parsed::new(other) {
                Ok(other) => self.against(&other, "of another generation", flaws),
                Err(e) => flaws.add("one name for one CA", format!("a certificate of another generation {e}")),
            }
        }
    }

    fn against(&self, other: &Parsed<'_>, kind: &str, flaws: &mut Flaws) {
        flaws.expect(other.spki != self.own.spki, "one key for one purpose", || {
            format!("its key is that of {:?}, {kind}", other.title())
        });
        flaws.expect(!self.is_ca() || other.subject != self.own.subject, "one name for one CA", || {
            format!("its name is that of {:?}, {kind}", other.title())
        });
    }

    /// The chain above is what it says: each signed by the next, the last by itself.
    fn links(&self, flaws: &mut Flaws) {
        let signers = self.above.iter().skip(1).chain(self.above.last());
        for (signed, signer) in self.above.iter().zip(signers) {
            let good = signed.issuer == signer.subject && verify::is_signed_by(signed, signer);
            flaws.expect(good, "RFC 5280 section 6.1.3", || {
                format!("{:?} above it was not signed by {:?}", signed.title(), signer.title())
            });
        }
    }

    /// Verifies the chain as relying parties will.
    fn rehearse(&self, to_sign: &ToSign, flaws: &mut Flaws) {
        let signed = Pending { message: &to_sign.bytes, key: self.issuer().key };
        let chain = core::iter::once(&self.own).chain(&self.above).cloned();
        if !self.is_ca() {
            return rehearse(&chain.collect::<Vec<_>>(), &[signed], flaws);
        }
        let below = match canary(self.own.der) {
            Ok(below) => below,
            Err(e) => return flaws.add("RFC 5280 section 6.1", format!("nothing can be issued below it: {e}")),
        };
        let der = assemble(&below, STAND_IN);
        let leaf = match Parsed::new(&der) {
            Ok(leaf) => Rc::new(leaf),
            Err(e) => return flaws.add("RFC 5280 section 6.1", format!("what could be issued below it {e}")),
        };
        let pending = [signed, Pending { message: &below.bytes, key: self.own.key }];
        rehearse(&core::iter::once(leaf).chain(chain).collect::<Vec<_>>(), &pending, flaws);
    }
}

/// Version and extensions of a TBSCertificate.
fn rest(tbs: &[u8]) -> Option<(Option<&[u8]>, Vec<Extension<'_>>)> {
    let mut r = Reader::inside(tbs, der::SEQUENCE)?;
    let version = match r.optional(0xa0)? {
        None => None,
        Some(explicit) => Reader::new(explicit).expect(der::INTEGER),
    };
    // Serial number, algorithm, issuer, validity, subject, key: read by Parsed.
    for _ in 0..6 {
        r.element()?;
    }
    // No unique identifiers: those are of version 2, and nobody uses them.
    let extensions = Reader::inside(r.expect(0xa3)?, der::SEQUENCE)?.rest();
    r.end()?;
    strict::extensions(extensions).map(|extensions| (version, extensions))
}

/// The value of the extension, in its only encoding.
fn key_usage(bits: u8) -> Vec<u8> {
    let mut w = Writer::default();
    w.named_bits(bits);
    w.into_bytes()
}

fn uri<'a>(name: &GeneralName<'a>) -> Option<&'a str> {
    core::str::from_utf8(name.value).ok().filter(|_| name.tag == GeneralName::URI)
}

fn spiffe(name: &GeneralName<'_>) -> Option<SpiffeId> {
    uri(name).and_then(SpiffeId::parse)
}

fn trust_domain(name: &GeneralName<'_>) -> Option<TrustDomain> {
    uri(name)?.strip_prefix("spiffe://").and_then(TrustDomain::parse)
}

/// Whether a name is written as we write it, so that nobody can read it otherwise.
fn is_canonical(name: &GeneralName<'_>) -> bool {
    match name.well_formed() {
        Some(Name::Dns(host)) => host.as_bytes() == name.value,
        Some(Name::Ip(_)) => true,
        None => false,
    }
}

/// CRL distribution points as we write them: one, with nothing but URLs.
fn points(value: &[u8]) -> Option<()> {
    let mut all = Reader::inside(value, der::SEQUENCE)?;
    let mut point = Reader::new(all.expect(der::SEQUENCE)?);
    all.end()?;
    let mut names = Reader::new(Reader::new(point.expect(0xa0)?).expect(0xa0)?);
    point.end()?;
    locations(&mut names)
}

fn accesses(value: &[u8]) -> Option<()> {
    let mut all = Reader::inside(value, der::SEQUENCE)?;
    let mut count = 0_usize;
    while !all.is_empty() {
        let mut one = Reader::new(all.expect(der::SEQUENCE)?);
        one.expect(der::OID).filter(|kind| *kind == id::CA_ISSUERS)?;
        locations(&mut one)?;
        count = count.saturating_add(1);
    }
    (1..=certificate::MOST_URLS).contains(&count).then_some(())
}

fn locations(names: &mut Reader<'_>) -> Option<()> {
    let mut count = 0_usize;
    while !names.is_empty() {
        names.expect(GeneralName::URI).filter(|url| is_location(url))?;
        count = count.saturating_add(1);
    }
    (1..=certificate::MOST_URLS).contains(&count).then_some(())
}

/// A leaf that this CA could issue: its only name is a SPIFFE ID, which name constraints of hosts and addresses say nothing
/// about.
fn canary(ca: &[u8]) -> Result<ToSign, String> {
    let above = Above::new(ca).map_err(|e| e.to_string())?;
    let parsed = Parsed::new(ca).map_err(|e| e.to_string())?;
    let domain = parsed.names.iter().find_map(trust_domain).map_or("canary.invalid".to_owned(), |d| d.to_string());
    let leaf = Leaf {
        serial: SerialNumber::new([0; 20]),
        validity: above.validity(),
        names: NameSet::default(),
        spiffe: SpiffeId::parse(&format!("spiffe://{domain}/canary")),
        purposes: Purposes::ALL,
        // Nobody uses its key, so that of the CA serves.
        spki: parsed.spki.into(),
    };
    super::leaf(&leaf, &above, &[], &[]).map_err(|e| e.to_string())
}

/// `path` begins with the leaf and ends with the root.
fn rehearse(path: &[Rc<Parsed<'_>>], pending: &[Pending<'_>], flaws: &mut Flaws) {
    // Our own rules: CA flags, key usages, path lengths, name constraints, purposes, critical extensions.
    if let Err(why) = verify::check(path) {
        flaws.add("RFC 5280 section 6.1", why);
    }
    if let Err(why) = theirs(path, pending) {
        flaws.add("RFC 5280 section 6.1, as webpki verifies", why);
    }
}

/// By webpki's rules: at the first and the last second of its life, for each purpose and each name.
fn theirs(path: &[Rc<Parsed<'_>>], pending: &[Pending<'_>]) -> Result<(), String> {
    let [parsed, intermediates @ .., root] = path else {
        return Err("a leaf cannot stand alone".to_owned());
    };
    let root = CertificateDer::from(root.der);
    let anchor = [anchor_from_trusted_cert(&root).map_err(|e| format!("its root is no anchor: {e}"))?];
    let intermediates: Vec<_> = intermediates.iter().map(|above| CertificateDer::from(above.der)).collect();
    let der = CertificateDer::from(parsed.der);
    let certificate = EndEntityCert::try_from(&der).map_err(|e| format!("it cannot be read: {e}"))?;
    let stand_ins: Vec<StandIn<'_>> =
        webpki::ALL_VERIFICATION_ALGS.iter().map(|real| StandIn { real: *real, pending }).collect();
    let algorithms: Vec<&dyn SignatureVerificationAlgorithm> =
        stand_ins.iter().map(|a| -> &dyn SignatureVerificationAlgorithm { a }).collect();
    let purposes = parsed.purposes.as_deref().unwrap_or_default();
    let usages = [(oid::SERVER_AUTH, KeyUsage::server_auth()), (oid::CLIENT_AUTH, KeyUsage::client_auth())];
    for (_, usage) in usages.into_iter().filter(|(id, _)| purposes.contains(id)) {
        for at in [parsed.validity.not_before, parsed.validity.not_after] {
            let Some(time) = unix_time(at) else { return Err(format!("it is valid at {at}, before 1970")) };
            certificate
                .verify_for_usage(&algorithms, &anchor, &intermediates, time, usage, None, None)
                .map_err(|e| format!("at {at} the chain is refused: {e}"))?;
        }
    }
    for name in parsed.names.iter().filter_map(GeneralName::well_formed) {
        // A wildcard is no name that anybody connects to; a host below it is.
        let text = name.to_string();
        let host = text.strip_prefix("*.").map_or(text.clone(), |base| format!("a.{base}"));
        let server = ServerName::try_from(host).map_err(|_| format!("{name} is no name of a server"))?;
        certificate
            .verify_is_valid_for_subject_name(&server)
            .map_err(|e| format!("it does not stand for {name}: {e}"))?;
    }
    Ok(())
}

fn unix_time(at: Timestamp) -> Option<UnixTime> {
    u64::try_from(at.unix()).ok().map(|seconds| UnixTime::since_unix_epoch(core::time::Duration::from_secs(seconds)))
}

/// Stands for a signature that is still to come.
const STAND_IN: &[u8] = b"to be signed";

/// A signature that is to come: by this key over these bytes.
#[derive(Clone, Copy, Debug)]
struct Pending<'a> {
    message: &'a [u8],
    key: &'a [u8],
}

/// A signature algorithm that takes the stand-in for what is pending, and everything else as ever.
struct StandIn<'a> {
    real: &'static dyn SignatureVerificationAlgorithm,
    pending: &'a [Pending<'a>],
}

impl fmt::Debug for StandIn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StandIn({:?})", self.real)
    }
}

impl SignatureVerificationAlgorithm for StandIn<'_> {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        if signature == STAND_IN {
            let known = self.pending.iter().any(|p| p.message == message && p.key == key);
            return if known { Ok(()) } else { Err(InvalidSignature) };
        }
        // A CA's signature is verified once, not with every leaf below it: the same key, bytes and algorithm.
        let signed = Digest::of_parts(&[&Digest::of(message).0, &Digest::of(signature).0]);
        let signer = Digest::of_parts(&[&Digest::of(key).0, self.real.signature_alg_id().as_ref()]);
        let check = || self.real.verify_signature(key, message, signature).is_ok();
        if intern::signature(signed, signer, check) { Ok(()) } else { Err(InvalidSignature) }
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.real.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.real.signature_alg_id()
    }
}
