//! What a CA asks of its root that no network reaches: a file that a person carries there, and reads before it is signed.
//!
//! Nothing in it is secret. What comes back are certificates and a revocation list, as PEM.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use core::time::Duration;
use serde::{Deserialize, Serialize};

use super::ParseError;
use crate::domain::authority::{BACKDATE, CaCertificate, Constraints, SerialNumber, network};
use crate::domain::key::{Digest, KeyAlgorithm};
use crate::domain::spiffe::TrustDomain;
use crate::domain::time::{Timestamp, Validity};

/// The version of the file.
pub const VERSION: u32 = 1;
/// Bytes of the file: constraints of a thousand subtrees fit.
pub const LONGEST: usize = 128 * 1_024;

/// An issuing CA's certificate is wanted, and the root too where there is none yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// Which generation of which CA, for example `mesh/1`.
    pub generation: String,
    /// The root that is to sign.
    pub root: Root,
    /// The CA that is to be certified.
    pub issuing: Issuing,
}

/// The root that is to sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// SHA-256 of its certificate; a new one is to be made if that is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// What the common name of a new one begins with.
    pub common_name: String,
    /// Its organization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// The trust domain in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_domain: Option<String>,
    /// The kind of its key: `p256`, `p384` or `ed25519`.
    pub key: String,
    /// How long a new one lives.
    pub lifetime_seconds: u64,
}

/// The CA that is to be certified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuing {
    /// Its common name.
    pub common_name: String,
    /// Its organization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// The trust domain in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_domain: Option<String>,
    /// How long it lives, within the root's life.
    pub lifetime_seconds: u64,
    /// Its SubjectPublicKeyInfo: DER as base64.
    pub spki: String,
    /// Trees of names that it may issue for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permitted_dns: Vec<String>,
    /// Trees of names that it may not issue for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded_dns: Vec<String>,
    /// Networks that it may issue for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permitted_ip: Vec<String>,
    /// Networks that it may not issue for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded_ip: Vec<String>,
}

/// What differs from one signing to the next.
#[derive(Clone, Copy, Debug)]
pub struct Fresh {
    /// Now.
    pub now: Timestamp,
    /// The serial number.
    pub serial: SerialNumber,
}

impl Request {
    /// Reads the file.
    ///
    /// # Errors
    /// If it is none, or of another version.
    pub fn read(bytes: &[u8]) -> Result<Self, ParseError> {
        if bytes.len() > LONGEST {
            return Err(ParseError(format!("is larger than {LONGEST} bytes")));
        }
        let read: Self = serde_json::from_slice(bytes)
            .map_err(|e| ParseError(format!("is no request of `keyward ca request`: {e}")))?;
        // It is shown to a person: nothing in it may hide anything.
        let told = serde_json::to_string(&read).unwrap_or_default();
        if told.contains("\\u") || told.chars().any(char::is_control) {
            return Err(ParseError::new("holds control characters"));
        }
        if read.version != VERSION {
            return Err(ParseError(format!("is of version {}, and {VERSION} is understood here", read.version)));
        }
        Ok(read)
    }

    /// A new root's certificate; `unique` keeps its name apart from all others.
    ///
    /// # Errors
    /// Says what in the request cannot stand in a certificate.
    pub fn root(&self, spki: &[u8], unique: u32, fresh: Fresh) -> Result<CaCertificate, ParseError> {
        let Root { common_name, organization, trust_domain, lifetime_seconds, .. } = &self.root;
        Ok(CaCertificate {
            serial: fresh.serial,
            validity: lives(*lifetime_seconds, fresh.now),
            common_name: format!("{common_name} {unique:08x}"),
            organization: organization.as_deref().map(Arc::from),
            trust_domain: domain(trust_domain.as_deref())?,
            path_length: Some(1),
            constraints: Constraints::default(),
            spki: Arc::from(spki),
        })
    }

    /// The kind of a new root's key.
    ///
    /// # Errors
    /// If no root has such a key.
    pub fn root_key(&self) -> Result<KeyAlgorithm, ParseError> {
        KeyAlgorithm::parse(&self.root.key).ok_or_else(|| ParseError(format!("{:?} is no kind of key", self.root.key)))
    }

    /// The root that is wanted, if it is there already.
    ///
    /// # Errors
    /// If that is no digest.
    pub fn known_root(&self) -> Result<Option<Digest>, ParseError> {
        let read = |text: &str| Digest::parse(text).ok_or_else(|| ParseError::new("root.sha256 is no SHA-256"));
        self.root.sha256.as_deref().map(read).transpose()
    }

    /// The issuing CA's certificate below a root with this validity.
    ///
    /// # Errors
    /// As [`Self::root`].
    pub fn issuing(&self, root: Validity, fresh: Fresh) -> Result<CaCertificate, ParseError> {
        let own = &self.issuing;
        let trees = |all: &[String]| all.iter().map(|tree| Arc::from(tree.as_str())).collect();
        let networks = |all: &[String]| {
            let one = |text: &String| {
                let (address, bits) =
                    text.split_once('/').ok_or_else(|| ParseError(format!("{text:?} is no network")))?;
                network(address, bits).map_err(ParseError)
            };
            all.iter().map(one).collect::<Result<Vec<_>, ParseError>>()
        };
        let spki = STANDARD.decode(&own.spki).map_err(|_| ParseError::new("issuing.spki is no base64"))?;
        Ok(CaCertificate {
            serial: fresh.serial,
            validity: lives(own.lifetime_seconds, fresh.now).intersection(&root),
            common_name: own.common_name.clone(),
            organization: own.organization.as_deref().map(Arc::from),
            trust_domain: domain(own.trust_domain.as_deref())?,
            path_length: Some(0),
            constraints: Constraints {
                permitted_dns: trees(&own.permitted_dns),
                excluded_dns: trees(&own.excluded_dns),
                permitted_ip: networks(&own.permitted_ip)?,
                excluded_ip: networks(&own.excluded_ip)?,
            },
            spki: Arc::from(spki),
        })
    }
}

impl Issuing {
    /// Of a certificate that is wanted, which lives for `lifetime`.
    #[must_use]
    pub fn of(wanted: &CaCertificate, lifetime: Duration) -> Self {
        let Constraints { permitted_dns, excluded_dns, permitted_ip, excluded_ip } = &wanted.constraints;
        let trees = |all: &[Arc<str>]| all.iter().map(ToString::to_string).collect();
        let networks = |all: &[(core::net::IpAddr, u8)]| all.iter().map(|(ip, bits)| format!("{ip}/{bits}")).collect();
        Self {
            common_name: wanted.common_name.clone(),
            organization: wanted.organization.as_deref().map(str::to_owned),
            trust_domain: wanted.trust_domain.as_ref().map(|domain| domain.as_str().to_owned()),
            lifetime_seconds: lifetime.as_secs(),
            spki: STANDARD.encode(&wanted.spki),
            permitted_dns: trees(permitted_dns),
            excluded_dns: trees(excluded_dns),
            permitted_ip: networks(permitted_ip),
            excluded_ip: networks(excluded_ip),
        }
    }
}

fn lives(seconds: u64, now: Timestamp) -> Validity {
    Validity { not_before: now.minus(BACKDATE), not_after: now.plus(Duration::from_secs(seconds)) }
}

fn domain(text: Option<&str>) -> Result<Option<TrustDomain>, ParseError> {
    let read = |text| TrustDomain::parse(text).ok_or_else(|| ParseError(format!("{text:?} is no trust domain")));
    text.map(read).transpose()
}
