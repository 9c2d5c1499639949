//! Signing requests (RFC 2986) of anybody: a public key whose private half the asker has, and names.
//!
//! Everything else in a request is a wish that nobody grants: key usages, purposes and other extensions are read over, since
//! the profile says what stands in a certificate. Three wishes are refused aloud instead, because whoever makes them would
//! get something else than he thinks: to be a CA, a name of another kind, and a critical extension that is unknown here.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::codec::ca::certificate::{id, usage};
use crate::codec::ca::strength::{parts, strength};
use crate::codec::ca::strict::{self, Extension};
use crate::codec::der::{self, Reader};
use crate::codec::write::{SET, UTF8_STRING};
use crate::codec::x509::{GeneralName, MOST_NAMES, oid};
use crate::codec::{ParseError, verify};
use crate::domain::key::KeyAlgorithm;
use crate::domain::name::{Name, NameSet};
use crate::domain::spiffe::SpiffeId;

/// Bytes of a request: a key of 4096 bits takes 1 KiB, a thousand names of usual length 30 KiB.
pub const LONGEST_REQUEST: usize = 64 << 10;

/// extensionRequest (RFC 2985 section 5.4.2).
const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14];
/// Attributes of a request: the extensions, a challenge password, what Microsoft adds.
const MOST_ATTRIBUTES: usize = 16;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The SubjectPublicKeyInfo (DER). The request is signed with its private half, and nothing is wrong with it
    /// ([`crate::codec::ca::strength()`]).
    pub spki: Arc<[u8]>,
    /// The key's kind.
    pub algorithm: KeyAlgorithm,
    /// Host names and addresses of the subject alternative names.
    pub names: NameSet,
    /// Their only URI.
    pub spiffe: Option<SpiffeId>,
    /// The subject's only common name, if it is a host name or an address. Old clients name their host there and nowhere
    /// else (RFC 8555 section 7.4 allows it); whether it counts is the caller's to say.
    pub common_name: Option<Name>,
}

/// Reads a request, PEM or DER, verifies its signature, and judges its key.
///
/// # Errors
/// Says what is wrong with it.
pub fn request(bytes: &[u8]) -> Result<Request, ParseError> {
    if bytes.len() > LONGEST_REQUEST.saturating_mul(2) {
        return Err(too_long());
    }
    if bytes.first() == Some(&der::SEQUENCE) { from_der(bytes) } else { from_der(&from_pem(bytes)?) }
}

fn too_long() -> ParseError {
    ParseError(format!("is a signing request of more than {LONGEST_REQUEST} bytes"))
}

fn malformed() -> ParseError {
    ParseError::new("is no well-formed signing request (PKCS#10, RFC 2986)")
}

/// The only block of a PEM text.
fn from_pem(text: &[u8]) -> Result<Vec<u8>, ParseError> {
    // The older label is what keytool and Windows write (RFC 7468 section 7).
    let is_frame = |line: &[u8], word: &[u8]| {
        let label = line.strip_prefix(word).and_then(|rest| rest.strip_suffix(b"-----"));
        matches!(label, Some(b"CERTIFICATE REQUEST" | b"NEW CERTIFICATE REQUEST"))
    };
    let mut lines = text.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
    if !lines.by_ref().any(|line| is_frame(line, b"-----BEGIN ")) {
        return Err(ParseError::new("holds no signing request: expected DER or a PEM block CERTIFICATE REQUEST"));
    }
    let mut digits = Vec::new();
    let mut ended = false;
    for line in lines.by_ref() {
        if line.starts_with(b"-----") {
            ended = is_frame(line, b"-----END ");
            break;
        }
        digits.extend_from_slice(line);
    }
    if !ended {
        return Err(ParseError::new("has a signing request without its END line: the file is torn"));
    }
    if lines.any(|line| is_frame(line, b"-----BEGIN ")) {
        return Err(ParseError::new("holds more than one signing request"));
    }
    STANDARD.decode(digits).map_err(|_| ParseError::new("has a signing request that is not base64"))
}

fn from_der(bytes: &[u8]) -> Result<Request, ParseError> {
    if bytes.len() > LONGEST_REQUEST {
        return Err(too_long());
    }
    let outer = Outer::read(bytes).ok_or_else(malformed)?;
    strict::element(bytes).map_err(|why| ParseError(format!("{}: it {why}", malformed())))?;
    let mut found = Found::default();
    for extension in outer.extensions()? {
        found.take(&extension)?;
    }
    let algorithm = strength(outer.spki).map_err(|e| ParseError(format!("asks for a key that {e}")))?;
    let key = parts(outer.spki).ok_or_else(malformed)?;
    if !verify::is_signature_of(outer.algorithm, outer.info, outer.signature, key) {
        return Err(ParseError::new(
            "is not signed with the private half of its own key, or with an algorithm that is not accepted (SHA-1, MD5)",
        ));
    }
    Ok(Request {
        spki: Arc::from(outer.spki),
        algorithm,
        names: NameSet::new(found.names),
        spiffe: found.spiffe,
        common_name: outer.common_name,
    })
}

/// A request taken apart.
struct Outer<'a> {
    /// What is signed.
    info: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
    spki: &'a [u8],
    attributes: &'a [u8],
    common_name: Option<Name>,
}

impl<'a> Outer<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut outer = Reader::inside(bytes, der::SEQUENCE)?;
        let info = outer.element().filter(|e| e.tag == der::SEQUENCE)?;
        let algorithm = outer.expect(der::SEQUENCE)?;
        let signature = outer.whole_bits()?;
        outer.end()?;
        let mut inner = Reader::new(info.value);
        // Version 1 is written as 0.
        inner.expect(der::INTEGER).filter(|version| *version == [0])?;
        let common_name = common_name(inner.expect(der::SEQUENCE)?)?;
        let spki = inner.element().filter(|e| e.tag == der::SEQUENCE)?.raw;
        let attributes = inner.expect(0xa0)?;
        inner.end()?;
        Some(Self { info: info.raw, algorithm, signature, spki, attributes, common_name })
    }

    /// The extensions that are asked for; other attributes mean nothing here.
    fn extensions(&self) -> Result<Vec<Extension<'a>>, ParseError> {
        let mut all = Reader::new(self.attributes);
        let mut found = None;
        let mut count = 0_usize;
        while !all.is_empty() {
            let mut attribute = Reader::new(all.expect(der::SEQUENCE).ok_or_else(malformed)?);
            let kind = attribute.expect(der::OID).ok_or_else(malformed)?;
            let mut values = Reader::new(attribute.expect(SET).ok_or_else(malformed)?);
            attribute.end().ok_or_else(malformed)?;
            count = count.saturating_add(1);
            if count > MOST_ATTRIBUTES {
                return Err(ParseError(format!("has more than {MOST_ATTRIBUTES} attributes")));
            }
            if kind != EXTENSION_REQUEST {
                continue;
            }
            let contents = values.expect(der::SEQUENCE).ok_or_else(malformed)?;
            values.end().ok_or_else(malformed)?;
            if found.replace(contents).is_some() {
                return Err(ParseError::new("asks for extensions in two attributes"));
            }
        }
        match found {
            None => Ok(Vec::new()),
            Some(contents) => strict::extensions(contents)
                .ok_or_else(|| ParseError::new("has malformed extensions, or one of them twice")),
        }
    }
}

/// The only common name of a distinguished name's contents, if it is a host name or an address; `None` outside if the name
/// is malformed.
fn common_name(contents: &[u8]) -> Option<Option<Name>> {
    let mut rdns = Reader::new(contents);
    let mut found = Vec::new();
    while !rdns.is_empty() {
        let mut set = Reader::new(rdns.expect(SET)?);
        while !set.is_empty() {
            let mut pair = Reader::new(set.expect(der::SEQUENCE)?);
            let kind = pair.expect(der::OID)?;
            let value = pair.element()?;
            pair.end()?;
            if kind == id::COMMON_NAME {
                // PrintableString and IA5String are ASCII.
                let text =
                    matches!(value.tag, UTF8_STRING | 0x13 | 0x16).then(|| core::str::from_utf8(value.value).ok());
                found.push(text.flatten().and_then(|text| Name::parse(text).ok()));
            }
        }
    }
    match found.as_mut_slice() {
        [only] => Some(only.take()),
        _ => Some(None),
    }
}

#[derive(Default)]
struct Found {
    names: Vec<Name>,
    spiffe: Option<SpiffeId>,
}

impl Found {
    fn take(&mut self, extension: &Extension<'_>) -> Result<(), ParseError> {
        match extension.id {
            oid::SUBJECT_ALT_NAME => self.names(extension.value),
            oid::BASIC_CONSTRAINTS if asks_for_a_ca(extension.value) => Err(no_ca("its basic constraints say CA")),
            oid::KEY_USAGE if asks_to_sign(extension.value) => Err(no_ca("its key usage has keyCertSign or cRLSign")),
            oid::BASIC_CONSTRAINTS | oid::KEY_USAGE | oid::EXTENDED_KEY_USAGE | oid::SUBJECT_KEY_ID => Ok(()),
            _ if extension.is_critical => {
                Err(ParseError::new("asks for a critical extension that is unknown here; leave it out"))
            }
            _ => Ok(()),
        }
    }

    fn names(&mut self, value: &[u8]) -> Result<(), ParseError> {
        let malformed = || ParseError::new("has malformed subject alternative names");
        let mut all = Reader::inside(value, der::SEQUENCE).ok_or_else(malformed)?;
        let mut count = 0_usize;
        while !all.is_empty() {
            let e = all.element().ok_or_else(malformed)?;
            count = count.saturating_add(1);
            if count > MOST_NAMES {
                return Err(ParseError(format!("has more than {MOST_NAMES} names")));
            }
            let name = GeneralName { tag: e.tag, value: e.value };
            if e.tag == GeneralName::URI {
                let id = core::str::from_utf8(e.value).ok().and_then(SpiffeId::parse);
                let id =
                    id.ok_or_else(|| ParseError(format!("asks for {}, which is no SPIFFE ID", name.describe())))?;
                if self.spiffe.replace(id).is_some() {
                    return Err(ParseError::new("asks for more than one SPIFFE ID (X509-SVID section 2)"));
                }
            } else {
                self.names.push(name.well_formed().ok_or_else(|| {
                    ParseError(format!("asks for {}; expected host names, addresses and a SPIFFE ID", name.describe()))
                })?);
            }
        }
        Ok(())
    }
}

fn no_ca(why: &str) -> ParseError {
    ParseError(format!("asks for a CA's certificate ({why}); leave that out, profiles give leaves only"))
}

/// What cannot be read asks for the worst.
fn asks_for_a_ca(value: &[u8]) -> bool {
    let ca = || Reader::inside(value, der::SEQUENCE)?.optional(der::BOOLEAN);
    !matches!(ca(), Some(None | Some([0])))
}

fn asks_to_sign(value: &[u8]) -> bool {
    let bits = || Reader::new(value).expect(der::BIT_STRING);
    match bits() {
        Some([_]) => false,
        Some([_, bits, ..]) => bits & (usage::CERT_SIGN | usage::CRL_SIGN) != 0,
        Some([]) | None => true,
    }
}
