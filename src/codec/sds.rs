//! Envoy's secret discovery: `envoy.service.secret.v3.SecretDiscoveryService`, the fields that matter.
//!
//! Field numbers are those of envoy/service/discovery/v3/discovery.proto, envoy/extensions/transport_sockets/tls/v3/
//! {secret,common}.proto, envoy/config/core/v3/base.proto, google/protobuf/any.proto and google/rpc/status.proto; unknown
//! fields are skipped, as protobuf demands. Refuses to know how frames travel and who may have what.

use std::sync::Arc;

use prost::Message as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::codec::grpc::{self, Malformed};
use crate::codec::pem;
use crate::domain::key::Digest;

/// Where the service's methods are.
pub const SERVICE: &str = "/envoy.service.secret.v3.SecretDiscoveryService/";
/// What is discovered.
pub const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/// Names of secrets that are heard in one request: Envoy asks for one, SPIRE's users for a handful.
const MOST_NAMES: usize = 64;

/// The methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `StreamSecrets`: secrets, again whenever one changes.
    Stream,
    /// `FetchSecrets`: secrets as they are now.
    Fetch,
    /// `DeltaSecrets`: not offered.
    Delta,
}

impl Method {
    /// By the rest of the path after [`SERVICE`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "StreamSecrets" => Some(Self::Stream),
            "FetchSecrets" => Some(Self::Fetch),
            "DeltaSecrets" => Some(Self::Delta),
            _ => None,
        }
    }
}

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The version that is in use at the other end; empty if there is none.
    pub version: String,
    /// Which answer this is about; empty in the first request.
    pub nonce: String,
    /// Which secrets are wanted.
    pub names: Vec<String>,
    /// Why the answer was not taken, if it was not.
    pub refused: Option<String>,
}

/// Reads a `DiscoveryRequest`.
///
/// # Errors
/// [`Malformed`].
pub fn read(message: &[u8]) -> Result<Asked, Malformed> {
    let bad = |why: String| Malformed::Message("DiscoveryRequest for secrets", why);
    let request = DiscoveryRequest::decode(message).map_err(|e| bad(e.to_string()))?;
    if !matches!(request.type_url.as_str(), "" | SECRET) {
        return Err(bad(format!("its type_url is {:?}; expected {SECRET}", request.type_url)));
    }
    if request.resource_names.len() > MOST_NAMES {
        return Err(bad(format!("it names {} secrets; at most {MOST_NAMES} are taken", request.resource_names.len())));
    }
    // Each is answered once: the same name many times would multiply what is sent.
    let mut names: Vec<String> = Vec::with_capacity(request.resource_names.len());
    for name in request.resource_names {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(Asked {
        version: request.version_info,
        nonce: request.response_nonce,
        names,
        refused: request.error_detail.map(|status| status.message),
    })
}

/// A secret as Envoy takes it.
#[derive(Clone, Copy, Debug)]
pub enum Secret<'a> {
    /// A chain with its key.
    Certificate {
        /// The leaf and its issuers without the root (DER).
        chain: &'a [Arc<[u8]>],
        /// The private key (PKCS#8, DER).
        key: &'a [u8],
    },
    /// What peers' chains may end in.
    Trust {
        /// The anchors (DER).
        anchors: &'a [Arc<[u8]>],
        /// A revocation list for every CA below them (DER), or none.
        lists: &'a [Arc<[u8]>],
    },
}

impl Secret<'_> {
    /// How many bytes it takes in an answer, about: PEM is four for three, with a line end for each 48 and some words around.
    #[must_use]
    pub fn weight(&self) -> usize {
        let pem = |der: &[u8]| (der.len() / 3).saturating_mul(4).saturating_add(der.len() / 48).saturating_add(64);
        let all = |ders: &[Arc<[u8]>]| ders.iter().fold(0_usize, |sum, der| sum.saturating_add(pem(der)));
        match self {
            Self::Certificate { chain, key } => all(chain).saturating_add(pem(key)),
            Self::Trust { anchors, lists } => all(anchors).saturating_add(all(lists)),
        }
    }
}

/// The frame of a `DiscoveryResponse`.
#[must_use]
pub fn answer(version: &Digest, nonce: u64, secrets: &[(&str, Secret<'_>)]) -> Zeroizing<Vec<u8>> {
    let resources = secrets.iter().map(|(name, secret)| any(name, secret)).collect();
    grpc::frame(&DiscoveryResponse {
        version_info: version.to_string(),
        resources,
        type_url: SECRET.to_owned(),
        nonce: nonce.to_string(),
    })
}

fn any(name: &str, secret: &Secret<'_>) -> Any {
    let inline = |text: &str| Some(DataSource { inline_bytes: text.as_bytes().to_vec() });
    let mut message = SecretMessage { name: name.to_owned(), ..SecretMessage::default() };
    match secret {
        Secret::Certificate { chain, key } => {
            message.tls_certificate = Some(TlsCertificate {
                certificate_chain: inline(&pem::certificates(chain)),
                private_key: inline(&pem::private_key(key)),
            });
        }
        Secret::Trust { anchors, lists } => {
            let crl = Some(pem::lists(lists)).filter(|text| !text.is_empty());
            message.validation_context = Some(CertificateValidationContext {
                trusted_ca: inline(&pem::certificates(anchors)),
                crl: crl.as_deref().and_then(inline),
            });
        }
    }
    Any { type_url: SECRET.to_owned(), value: message.encode_to_vec() }
}

#[derive(Clone, PartialEq, prost::Message)]
struct DiscoveryRequest {
    #[prost(string, tag = "1")]
    version_info: String,
    #[prost(string, repeated, tag = "3")]
    resource_names: Vec<String>,
    #[prost(string, tag = "4")]
    type_url: String,
    #[prost(string, tag = "5")]
    response_nonce: String,
    #[prost(message, optional, tag = "6")]
    error_detail: Option<Status>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DiscoveryResponse {
    #[prost(string, tag = "1")]
    version_info: String,
    #[prost(message, repeated, tag = "2")]
    resources: Vec<Any>,
    #[prost(string, tag = "4")]
    type_url: String,
    #[prost(string, tag = "5")]
    nonce: String,
}

/// Wiped when dropped: what is in it may be a key.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

impl Drop for Any {
    fn drop(&mut self) {
        self.value.zeroize();
    }
}

impl core::fmt::Debug for Any {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Any({})", self.type_url)
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct SecretMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    tls_certificate: Option<TlsCertificate>,
    #[prost(message, optional, tag = "4")]
    validation_context: Option<CertificateValidationContext>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TlsCertificate {
    #[prost(message, optional, tag = "1")]
    certificate_chain: Option<DataSource>,
    #[prost(message, optional, tag = "2")]
    private_key: Option<DataSource>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CertificateValidationContext {
    #[prost(message, optional, tag = "1")]
    trusted_ca: Option<DataSource>,
    #[prost(message, optional, tag = "7")]
    crl: Option<DataSource>,
}

/// Wiped when dropped: what is in it may be a key.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
struct DataSource {
    #[prost(bytes = "vec", tag = "2")]
    inline_bytes: Vec<u8>,
}

impl Drop for DataSource {
    fn drop(&mut self) {
        self.inline_bytes.zeroize();
    }
}

impl core::fmt::Debug for DataSource {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("DataSource(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field with a length below 128.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
    }

    #[test]
    fn a_request_is_read_with_its_refusal_and_what_is_not_ours_is_skipped() {
        let status = [&[8, 13][..], &field(2, b"no such key")].concat();
        let message = [
            field(1, b"v1"),
            field(2, b"a node"),
            field(3, b"spiffe://a/b"),
            field(3, b"spiffe://a"),
            field(4, SECRET.as_bytes()),
            field(5, b"7"),
            field(6, &status),
            field(99 - 84, b"later"),
        ];
        let expected = Asked {
            version: "v1".into(),
            nonce: "7".into(),
            names: vec!["spiffe://a/b".into(), "spiffe://a".into()],
            refused: Some("no such key".into()),
        };
        assert_eq!(read(&message.concat()), Ok(expected));
        assert_eq!(read(b""), Ok(Asked::default()));
        let twice = [field(3, b"b"), field(3, b"a"), field(3, b"b")].concat();
        assert_eq!(read(&twice).map(|asked| asked.names), Ok(vec!["b".to_owned(), "a".to_owned()]));
        assert!(read(&field(4, b"type.googleapis.com/envoy.config.cluster.v3.Cluster")).is_err());
        assert!(read(&field(3, b"a").repeat(MOST_NAMES + 1)).is_err());
        assert!(read(b"GET /").is_err());
    }

    #[test]
    fn an_answer_holds_what_was_put_into_it() {
        let der: Arc<[u8]> = Arc::from(&b"abc"[..]);
        let secrets = [
            ("spiffe://a/b", Secret::Certificate { chain: core::slice::from_ref(&der), key: b"key" }),
            ("spiffe://a", Secret::Trust { anchors: core::slice::from_ref(&der), lists: &[] }),
        ];
        let frame = answer(&Digest([1; 32]), 3, &secrets);
        let response = DiscoveryResponse::decode(&frame[5..]).unwrap();
        assert_eq!((response.nonce.as_str(), response.resources.len()), ("3", 2));
        let secret = SecretMessage::decode(response.resources[0].value.as_slice()).unwrap();
        let own = secret.tls_certificate.as_ref().unwrap();
        let text =
            |source: &Option<DataSource>| String::from_utf8(source.as_ref().unwrap().inline_bytes.clone()).unwrap();
        assert!(text(&own.certificate_chain).contains("YWJj") && text(&own.private_key).contains("PRIVATE KEY"));
        let trust = SecretMessage::decode(response.resources[1].value.as_slice()).unwrap().validation_context.unwrap();
        assert!(text(&trust.trusted_ca).contains("YWJj") && trust.crl.is_none());
        // What it weighs is not far from what it takes.
        let large: Arc<[u8]> = Arc::from(vec![7; 300_000]);
        let secret = Secret::Trust { anchors: core::slice::from_ref(&der), lists: core::slice::from_ref(&large) };
        let taken = answer(&Digest([1; 32]), 3, &[("spiffe://a", secret)]).len();
        assert!(secret.weight().abs_diff(taken) < 1_000, "{} {taken}", secret.weight());
    }
}
