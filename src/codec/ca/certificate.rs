//! TBSCertificates (RFC 5280 section 4.1): of leaves and of CAs.

use std::net::IpAddr;
use std::sync::Arc;

use crate::codec::ParseError;
use crate::codec::ca::{Above, ToSign, algorithm, key_id, signature_algorithm};
use crate::codec::der::{self, Reader};
use crate::codec::write::{SET, UTF8_STRING, Writer};
use crate::codec::x509::{GeneralName, MOST_NAMES, oid};
use crate::domain::authority::{CaCertificate, Constraints, Leaf, SerialNumber};
use crate::domain::key::KeyAlgorithm;
use crate::domain::name::Name;
use crate::domain::time::Validity;

/// Object identifiers that only an issuer writes, as the contents of their DER.
pub(super) mod id {
    pub(in crate::codec::ca) const COMMON_NAME: &[u8] = &[0x55, 4, 3];
    pub(super) const ORGANIZATION: &[u8] = &[0x55, 4, 10];
    pub(in crate::codec::ca) const CRL_POINTS: &[u8] = &[0x55, 0x1d, 31];
    pub(in crate::codec::ca) const AUTHORITY_ACCESS: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 1];
    pub(in crate::codec::ca) const CA_ISSUERS: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 2];
}

/// Bits of key usage (section 4.2.1.3), the highest first.
pub(super) mod usage {
    pub(in crate::codec::ca) const DIGITAL_SIGNATURE: u8 = 0x80;
    pub(in crate::codec::ca) const KEY_ENCIPHERMENT: u8 = 0x20;
    pub(in crate::codec::ca) const CERT_SIGN: u8 = 0x04;
    pub(in crate::codec::ca) const CRL_SIGN: u8 = 0x02;
}

/// Characters of a common name or an organization (section A.1: `ub-common-name`, `ub-organization-name`).
const LONGEST_TEXT: usize = 64;
/// Locations of one kind: mirrors. Each makes every certificate longer.
pub(super) const MOST_URLS: usize = 8;
/// Bytes of a location: what old clients take.
const LONGEST_URL: usize = 1_024;
/// An empty distinguished name.
pub(super) const NO_NAME: &[u8] = &[der::SEQUENCE, 0];

/// The bytes of a leaf: its names stand in the SAN alone, which is critical, because its subject is empty.
///
/// # Errors
/// Says what cannot stand in a certificate: no name, no purpose, an inverted validity, a key of another kind, a bad URL.
pub fn leaf(
    leaf: &Leaf,
    issuer: &Above,
    crl_urls: &[Arc<str>],
    issuer_urls: &[Arc<str>],
) -> Result<ToSign, ParseError> {
    let key = PublicKey::read(&leaf.spki)?;
    let count = leaf.names.len().saturating_add(usize::from(leaf.spiffe.is_some()));
    if count == 0 || count > MOST_NAMES {
        return Err(ParseError(format!("a leaf has 1 to {MOST_NAMES} names, not {count}")));
    }
    if !leaf.purposes.server && !leaf.purposes.client {
        return Err(ParseError::new("a leaf is for servers, for clients or for both, not for nothing"));
    }
    let locations = Locations::new(crl_urls, issuer_urls)?;
    let mut bits = usage::DIGITAL_SIGNATURE;
    if key.is_rsa() {
        // TLS 1.2 without ephemeral keys encrypts to the certificate's key.
        bits |= usage::KEY_ENCIPHERMENT;
    }
    let parts = Parts {
        serial: &leaf.serial,
        algorithm: issuer.algorithm,
        issuer: &issuer.subject,
        validity: leaf.validity,
        subject: NO_NAME,
        spki: &leaf.spki,
    };
    parts.write(|w| {
        critical(w, oid::BASIC_CONSTRAINTS, |w| w.sequence(|_| {}));
        critical(w, oid::KEY_USAGE, |w| w.named_bits(bits));
        plain(w, oid::EXTENDED_KEY_USAGE, |w| {
            w.sequence(|w| {
                if leaf.purposes.server {
                    w.element(der::OID, oid::SERVER_AUTH);
                }
                if leaf.purposes.client {
                    w.element(der::OID, oid::CLIENT_AUTH);
                }
            });
        });
        critical(w, oid::SUBJECT_ALT_NAME, |w| {
            w.sequence(|w| {
                leaf.names.iter().for_each(|name| general_name(w, name));
                if let Some(spiffe) = &leaf.spiffe {
                    w.element(GeneralName::URI, spiffe.as_str().as_bytes());
                }
            });
        });
        key_ids(w, key.bits, &issuer.key_id);
        locations.write(w);
    })
}

/// The bytes of a CA's certificate, self-signed without an `issuer`.
///
/// # Errors
/// Says what cannot stand in a certificate: a name that is empty, too long or the issuer's own, an inverted validity, a key
/// of another kind, a bad URL.
pub fn ca_certificate(
    ca: &CaCertificate,
    issuer: Option<&Above>,
    crl_urls: &[Arc<str>],
    issuer_urls: &[Arc<str>],
) -> Result<ToSign, ParseError> {
    let key = PublicKey::read(&ca.spki)?;
    if key.is_rsa() {
        return Err(ParseError(format!("a CA's key is p256, p384 or ed25519, not {}", key.algorithm)));
    }
    let subject = distinguished_name(ca)?;
    if issuer.is_some_and(|issuer| *issuer.subject == *subject) {
        return Err(ParseError(format!(
            "the CA {:?} would have the name of its issuer; each CA has a name of its own",
            ca.common_name
        )));
    }
    if issuer.is_none() && !(crl_urls.is_empty() && issuer_urls.is_empty()) {
        return Err(ParseError::new("a root is on no revocation list and has no issuer, so it names no locations"));
    }
    let constraints = name_constraints(&ca.constraints)?;
    let locations = Locations::new(crl_urls, issuer_urls)?;
    let own_id = key_id(key.bits);
    let parts = Parts {
        serial: &ca.serial,
        algorithm: issuer.map_or(key.algorithm, |issuer| issuer.algorithm),
        issuer: issuer.map_or(&*subject, |issuer| &issuer.subject),
        validity: ca.validity,
        subject: &subject,
        spki: &ca.spki,
    };
    parts.write(|w| {
        critical(w, oid::BASIC_CONSTRAINTS, |w| {
            w.sequence(|w| {
                w.element(der::BOOLEAN, &[0xff]);
                if let Some(length) = ca.path_length {
                    w.unsigned(u64::from(length));
                }
            });
        });
        critical(w, oid::KEY_USAGE, |w| w.named_bits(usage::CERT_SIGN | usage::CRL_SIGN));
        if let Some(domain) = &ca.trust_domain {
            let uri = domain.uri();
            plain(w, oid::SUBJECT_ALT_NAME, |w| w.sequence(|w| w.element(GeneralName::URI, uri.as_bytes())));
        }
        if let Some(constraints) = &constraints {
            critical(w, oid::NAME_CONSTRAINTS, |w| w.raw(constraints));
        }
        key_ids(w, key.bits, issuer.map_or(&own_id, |issuer| &issuer.key_id));
        locations.write(w);
    })
}

/// What every certificate has.
struct Parts<'a> {
    serial: &'a SerialNumber,
    algorithm: KeyAlgorithm,
    issuer: &'a [u8],
    validity: Validity,
    subject: &'a [u8],
    spki: &'a [u8],
}

impl Parts<'_> {
    fn write(&self, extensions: impl FnOnce(&mut Writer)) -> Result<ToSign, ParseError> {
        let Validity { not_before, not_after } = self.validity;
        if not_after <= not_before {
            return Err(ParseError(format!("a certificate would be valid from {not_before} to {not_after} only")));
        }
        // Most certificates have less.
        let mut w = Writer::with_capacity(1_024);
        w.sequence(|w| {
            // Version 3.
            w.nest(0xa0, |w| w.unsigned(2));
            w.element(der::INTEGER, self.serial.bytes());
            w.sequence(|w| w.raw(signature_algorithm(self.algorithm)));
            w.raw(self.issuer);
            w.sequence(|w| {
                w.time(not_before);
                w.time(not_after);
            });
            w.raw(self.subject);
            w.raw(self.spki);
            w.nest(0xa3, |w| w.sequence(extensions));
        });
        Ok(ToSign { bytes: w.into_bytes(), algorithm: self.algorithm })
    }
}

/// A SubjectPublicKeyInfo taken apart.
struct PublicKey<'a> {
    algorithm: KeyAlgorithm,
    bits: &'a [u8],
}

impl<'a> PublicKey<'a> {
    fn read(spki: &'a [u8]) -> Result<Self, ParseError> {
        let algorithm = algorithm(spki).map_err(|e| ParseError(format!("the public key {e}")))?;
        let bits = || {
            let mut info = Reader::inside(spki, der::SEQUENCE)?;
            info.expect(der::SEQUENCE)?;
            info.whole_bits()
        };
        bits().map(|bits| Self { algorithm, bits }).ok_or_else(|| ParseError::new("the public key is not well formed"))
    }

    fn is_rsa(&self) -> bool {
        matches!(self.algorithm, KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096)
    }
}

fn critical(w: &mut Writer, id: &[u8], value: impl FnOnce(&mut Writer)) {
    w.sequence(|w| {
        w.element(der::OID, id);
        w.element(der::BOOLEAN, &[0xff]);
        w.nest(der::OCTET_STRING, value);
    });
}

/// An extension that is not critical, which is the default and so not written (X.690 section 11.5).
pub(super) fn plain(w: &mut Writer, id: &[u8], value: impl FnOnce(&mut Writer)) {
    w.sequence(|w| {
        w.element(der::OID, id);
        w.nest(der::OCTET_STRING, value);
    });
}

fn key_ids(w: &mut Writer, key: &[u8], issuer: &[u8]) {
    plain(w, oid::SUBJECT_KEY_ID, |w| w.element(der::OCTET_STRING, &key_id(key)));
    authority_key(w, issuer);
}

/// The authority key identifier: the issuer's subject key identifier, as it stands there.
pub(super) fn authority_key(w: &mut Writer, issuer: &[u8]) {
    plain(w, oid::AUTHORITY_KEY_ID, |w| w.sequence(|w| w.element(0x80, issuer)));
}

fn general_name(w: &mut Writer, name: &Name) {
    match name {
        Name::Dns(host) => w.element(GeneralName::DNS, host.as_bytes()),
        Name::Ip(IpAddr::V4(ip)) => w.element(GeneralName::IP, &ip.octets()),
        Name::Ip(IpAddr::V6(ip)) => w.element(GeneralName::IP, &ip.octets()),
    }
}

fn distinguished_name(ca: &CaCertificate) -> Result<Vec<u8>, ParseError> {
    let parts = [(id::ORGANIZATION, ca.organization.as_deref()), (id::COMMON_NAME, Some(&*ca.common_name))];
    let mut w = Writer::default();
    for text in parts.iter().filter_map(|(_, text)| *text) {
        let size = text.chars().count();
        if !(1..=LONGEST_TEXT).contains(&size) || text.chars().any(char::is_control) || text.trim() != text {
            return Err(ParseError(format!(
                "{text:?} cannot stand in a CA's name: expected 1 to {LONGEST_TEXT} characters without control characters and without spaces at the ends"
            )));
        }
    }
    w.sequence(|w| {
        for (id, text) in parts {
            let Some(text) = text else { continue };
            w.nest(SET, |w| {
                w.sequence(|w| {
                    w.element(der::OID, id);
                    w.element(UTF8_STRING, text.as_bytes());
                });
            });
        }
    });
    Ok(w.into_bytes())
}

/// The value of the extension (section 4.2.1.10), if there is a constraint.
fn name_constraints(constraints: &Constraints) -> Result<Option<Vec<u8>>, ParseError> {
    if constraints.is_empty() {
        return Ok(None);
    }
    for tree in constraints.permitted_dns.iter().chain(&constraints.excluded_dns) {
        // One label is a tree too: `internal`.
        if Name::parse(tree).is_err() && Name::parse(&format!("a.{tree}")).is_err() || tree.contains('*') {
            return Err(ParseError(format!("{tree:?} is no tree of DNS names")));
        }
    }
    let mut w = Writer::default();
    w.sequence(|w| {
        subtrees(w, 0xa0, &constraints.permitted_dns, &constraints.permitted_ip);
        subtrees(w, 0xa1, &constraints.excluded_dns, &constraints.excluded_ip);
    });
    Ok(Some(w.into_bytes()))
}

fn subtrees(w: &mut Writer, tag: u8, dns: &[Arc<str>], ip: &[(IpAddr, u8)]) {
    if dns.is_empty() && ip.is_empty() {
        return;
    }
    w.nest(tag, |w| {
        for tree in dns {
            w.sequence(|w| w.element(GeneralName::DNS, tree.as_bytes()));
        }
        for (net, bits) in ip {
            w.sequence(|w| w.element(GeneralName::IP, &network(*net, *bits)));
        }
    });
}

/// Address and mask.
fn network(net: IpAddr, bits: u8) -> Vec<u8> {
    let mask = |size: u32| u128::MAX.checked_shl(size.saturating_sub(u32::from(bits))).unwrap_or(0);
    match net {
        IpAddr::V4(v4) => {
            let mask = mask(32).to_be_bytes();
            v4.octets().iter().chain(mask.iter().skip(12)).copied().collect()
        }
        IpAddr::V6(v6) => v6.octets().into_iter().chain(mask(128).to_be_bytes()).collect(),
    }
}

/// Where lists and certificates of the issuer are found (sections 4.2.1.13 and 4.2.2.1).
struct Locations<'a> {
    crl: &'a [Arc<str>],
    issuer: &'a [Arc<str>],
}

impl<'a> Locations<'a> {
    fn new(crl: &'a [Arc<str>], issuer: &'a [Arc<str>]) -> Result<Self, ParseError> {
        for urls in [crl, issuer] {
            if urls.len() > MOST_URLS {
                return Err(ParseError(format!("{} URLs of one kind are more than {MOST_URLS}", urls.len())));
            }
            if let Some(bad) = urls.iter().find(|url| !is_location(url.as_bytes())) {
                return Err(ParseError(format!(
                    "{bad:?} cannot stand in a certificate: expected an http:// or https:// URL of at most {LONGEST_URL} printable ASCII characters"
                )));
            }
        }
        Ok(Self { crl, issuer })
    }

    fn write(&self, w: &mut Writer) {
        if !self.crl.is_empty() {
            // One point with all its URLs: each has the same list.
            plain(w, id::CRL_POINTS, |w| {
                w.sequence(|w| {
                    w.sequence(|w| {
                        w.nest(0xa0, |w| {
                            w.nest(0xa0, |w| {
                                self.crl.iter().for_each(|url| w.element(GeneralName::URI, url.as_bytes()))
                            });
                        });
                    });
                });
            });
        }
        if !self.issuer.is_empty() {
            plain(w, id::AUTHORITY_ACCESS, |w| {
                w.sequence(|w| {
                    for url in self.issuer {
                        w.sequence(|w| {
                            w.element(der::OID, id::CA_ISSUERS);
                            w.element(GeneralName::URI, url.as_bytes());
                        });
                    }
                });
            });
        }
    }
}

/// Whether these bytes can be a location: an IA5String that is an HTTP URL.
pub(super) fn is_location(url: &[u8]) -> bool {
    let rest = url.strip_prefix(b"http://").or_else(|| url.strip_prefix(b"https://"));
    url.len() <= LONGEST_URL
        && rest.is_some_and(|rest| rest.first().is_some_and(u8::is_ascii_alphanumeric) || rest.first() == Some(&b'['))
        && url.iter().all(u8::is_ascii_graphic)
}
