//! Passkeys: an assertion whose challenge is the decision's (W3C WebAuthn Level 2 and 3, section 7.2), and the registration
//! of a credential without attestation (section 7.1).
//!
//! Refuses to know which credential belongs to whom, and which challenge a registration was given: both are the caller's.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, Visitor};
use url::{Host, Url};

use super::authenticator::{self, Data};
use super::key::{PublicKey, fixed};
use super::{Authenticator, Consent, Decision, Refused};
use crate::codec::{ParseError, der};
use crate::domain::exception::Channel;
use crate::domain::key::{Digest, KeyAlgorithm};
use crate::domain::time::Timestamp;

/// Client data is at most this long: a type, a challenge and an origin have some 200 bytes, and browsers add hints.
pub const LONGEST_CLIENT_DATA: usize = 4 * 1_024;
/// A signature is at most this long: ES384 has up to 104 bytes.
pub const LONGEST_SIGNATURE: usize = 128;
/// Client data has at most so many members: six are known.
const MOST_MEMBERS: usize = 32;
/// A relying party has at most so many origins: one, and another port of it.
const MOST_ORIGINS: usize = 8;

const CLIENT_DATA: &str = "the client data";
const SIGNATURE: &str = "the signature";

/// Our site, as browsers know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelyingParty {
    id: String,
    origins: Vec<String>,
}

impl RelyingParty {
    /// An id (a domain, or `localhost`) and the origins that it is used from.
    ///
    /// # Errors
    /// If an origin is none of that domain: browsers would not use the credential there, and nobody else shall.
    pub fn new<'o>(id: &str, origins: impl IntoIterator<Item = &'o str>) -> Result<Self, ParseError> {
        let origins: Vec<String> = origins.into_iter().map(str::to_owned).collect();
        // Read as a host by the same rules as the origins: lower case, ASCII, no address and no port.
        let host =
            Host::parse(id).map_err(|_| ParseError(format!("has the relying party {id:?}, which is no domain")))?;
        if !matches!(&host, Host::Domain(domain) if domain == id) {
            return Err(ParseError(format!("has the relying party {id:?}; expected a domain in lower-case ASCII")));
        }
        if origins.is_empty() || origins.len() > MOST_ORIGINS {
            return Err(ParseError(format!("has {} origins; expected 1 to {MOST_ORIGINS}", origins.len())));
        }
        match origins.iter().find(|origin| !is_origin_of(origin, id)) {
            None => Ok(Self { id: id.to_owned(), origins }),
            Some(other) => {
                Err(ParseError(format!("has the origin {other:?}; expected https:// and {id} or a domain below it")))
            }
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    fn is_hash_of(&self, hash: &[u8; 32]) -> Result<(), Refused> {
        let right = Digest::of(self.id.as_bytes()).0 == *hash;
        right.then_some(()).ok_or_else(|| Refused::RelyingParty { expected: self.id.clone() })
    }
}

/// Whether it is an origin in its one spelling, of this domain or one below it. Without TLS only on this machine.
fn is_origin_of(origin: &str, id: &str) -> bool {
    let Ok(url) = Url::parse(origin) else { return false };
    let Some(Host::Domain(host)) = url.host() else { return false };
    let below = host.strip_suffix(id).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    let safe = url.scheme() == "https" || (url.scheme() == "http" && host == "localhost");
    safe && below && url.origin().ascii_serialization() == origin
}

/// The public key of a credential (a COSE key), as it was registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialKey {
    cose: Vec<u8>,
    key: PublicKey,
}

impl CredentialKey {
    /// Reads a COSE key of ES256, EdDSA or ES384.
    ///
    /// # Errors
    /// If it is none of these, not in its canonical form, or no key that anybody should have.
    pub fn read(cose: &[u8]) -> Result<Self, Refused> {
        Ok(Self { key: authenticator::key(cose)?, cose: cose.to_vec() })
    }

    /// Its bytes.
    #[must_use]
    pub fn cose(&self) -> &[u8] {
        &self.cose
    }

    /// SHA-256 of these.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.cose)
    }

    /// Its kind.
    #[must_use]
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.key.curve().algorithm()
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), Refused> {
        let curve = self.key.curve();
        if curve.algorithm() == KeyAlgorithm::Ed25519 {
            return self.key.verify(message, signature);
        }
        let numbers = || {
            let mut inside = der::Reader::inside(signature, der::SEQUENCE)?;
            let numbers = [inside.expect(der::INTEGER)?, inside.expect(der::INTEGER)?];
            inside.end()?;
            fixed(numbers, curve.width())
        };
        let numbers =
            numbers().ok_or_else(|| Refused::malformed(SIGNATURE, "it is not two positive numbers in DER"))?;
        self.key.verify(message, &numbers)
    }
}

/// What is kept of an assertion: with the decision, all that an auditor needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The credential's public key, as it was enrolled then (a COSE key).
    pub public_key: Vec<u8>,
    /// `clientDataJSON`, as the browser wrote it.
    pub client_data: Vec<u8>,
    /// `authenticatorData`.
    pub authenticator_data: Vec<u8>,
    /// `signature`.
    pub signature: Vec<u8>,
}

/// Verifies that the holder of the enrolled key consented to exactly this decision, at a time before it was over, on a page
/// of ours, present and verified.
///
/// # Errors
/// [`Refused`] says which check does not hold.
pub fn verify(
    kept: &Kept,
    decision: &Decision,
    enrolled: &CredentialKey,
    party: &RelyingParty,
    at: Timestamp,
) -> Result<Consent, Refused> {
    decision.open(at)?;
    if kept.public_key != enrolled.cose {
        return Err(Refused::OtherKey { seen: Digest::of(&kept.public_key), expected: enrolled.digest() });
    }
    Refused::bounded(SIGNATURE, &kept.signature, LONGEST_SIGNATURE)?;
    check_client(&kept.client_data, "webauthn.get", &decision.challenge().0, party)?;
    let data = authenticator::data(&kept.authenticator_data)?;
    if data.attested.is_some() {
        return Err(Refused::malformed(authenticator::DATA, "it brings a credential, which an assertion does not"));
    }
    let says = check_data(&data, party)?;
    let signed = [&kept.authenticator_data[..], &Digest::of(&kept.client_data).0].concat();
    enrolled.verify(&signed, &kept.signature)?;
    Ok(Consent { channel: Channel::Passkey, key: enrolled.digest(), authenticator: Some(says) })
}

/// A credential that was registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Its id: what an assertion is asked for by.
    pub id: Vec<u8>,
    /// The model of the authenticator, if it says so; without attestation nothing shows that it is true.
    pub aaguid: [u8; 16],
    /// Its public key.
    pub key: CredentialKey,
    /// What the authenticator said of itself.
    pub authenticator: Authenticator,
}

/// Reads a registration over a challenge that the caller drew and gives out once. The attestation is `none`: whoever enrols
/// is known by other means, and a statement about the device's maker is not asked for.
///
/// # Errors
/// [`Refused`] says which check does not hold.
pub fn register(
    client_data: &[u8],
    attestation_object: &[u8],
    challenge: &[u8; 32],
    party: &RelyingParty,
) -> Result<Registration, Refused> {
    check_client(client_data, "webauthn.create", challenge, party)?;
    let data = authenticator::data(authenticator::unattested(attestation_object)?)?;
    let authenticator = check_data(&data, party)?;
    let none = || Refused::malformed(authenticator::DATA, "it brings no credential, which a registration does");
    let attested = data.attested.ok_or_else(none)?;
    let key = CredentialKey::read(attested.key)?;
    Ok(Registration { id: attested.id.to_vec(), aaguid: attested.aaguid, key, authenticator })
}

fn check_data(data: &Data<'_>, party: &RelyingParty) -> Result<Authenticator, Refused> {
    party.is_hash_of(data.rp_id_hash)?;
    let flags = data.says.flags;
    if !flags.user_present() {
        return Err(Refused::NotPresent(flags));
    }
    if !flags.user_verified() {
        return Err(Refused::NotVerified);
    }
    Ok(data.says)
}

fn check_client(json: &[u8], kind: &'static str, challenge: &[u8; 32], party: &RelyingParty) -> Result<(), Refused> {
    let client = ClientData::read(json)?;
    if client.kind != kind {
        return Err(Refused::Type { seen: client.kind, expected: kind });
    }
    let expected = URL_SAFE_NO_PAD.encode(challenge);
    if client.challenge != expected {
        return Err(Refused::Challenge { seen: client.challenge, expected });
    }
    if !party.origins.contains(&client.origin) {
        return Err(Refused::Origin { seen: client.origin, expected: party.origins.clone() });
    }
    if client.cross_origin || client.has_top_origin { Err(Refused::CrossOrigin) } else { Ok(()) }
}

/// What a browser says of the page that asked (section 5.8.1).
#[derive(Debug, Default)]
struct ClientData {
    kind: String,
    challenge: String,
    origin: String,
    cross_origin: bool,
    has_top_origin: bool,
}

impl ClientData {
    fn read(json: &[u8]) -> Result<Self, Refused> {
        Refused::bounded(CLIENT_DATA, json, LONGEST_CLIENT_DATA)?;
        let mut reader = serde_json::Deserializer::from_slice(json);
        let read = reader.deserialize_map(Members).and_then(|read| reader.end().map(|()| read));
        read.map_err(|why| Refused::malformed(CLIENT_DATA, why.to_string()))
    }
}

/// Browsers may add members, and do so to keep everybody from comparing texts. One that stands twice would be read one way
/// here and another way there.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = ClientData;

    fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("an object with type, challenge and origin")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ClientData, A::Error> {
        let (mut read, mut seen) = (ClientData::default(), BTreeSet::new());
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "type" => read.kind = map.next_value()?,
                "challenge" => read.challenge = map.next_value()?,
                "origin" => read.origin = map.next_value()?,
                "crossOrigin" => read.cross_origin = map.next_value()?,
                "topOrigin" => {
                    read.has_top_origin = true;
                    map.next_value::<IgnoredAny>()?;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
            if seen.len() == MOST_MEMBERS {
                return Err(A::Error::custom(format_args!("more than {MOST_MEMBERS} members")));
            }
            if let Some(twice) = seen.replace(key) {
                return Err(A::Error::custom(format_args!("the member `{twice}` stands there twice")));
            }
        }
        match ["type", "challenge", "origin"].into_iter().find(|key| !seen.contains(*key)) {
            None => Ok(read),
            Some(missing) => Err(A::Error::custom(format_args!("there is no `{missing}`"))),
        }
    }
}
