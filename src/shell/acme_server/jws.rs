//! Signed requests: flattened JSON Web Signatures (RFC 7515) as RFC 8555 section 6.2 narrows them, keys (RFC 7517) and
//! their thumbprints (RFC 7638).
//!
//! Refuses to know accounts and nonces: it says what a request claims and whether a given key signed it.

use aws_lc_rs::{digest, hmac, signature};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::problem::Problem;

/// The signature algorithms that are taken, for `badSignatureAlgorithm` (RFC 8555 section 6.2).
const ALGORITHMS: [&str; 4] = ["ES256", "ES384", "EdDSA", "RS256"];

/// A JWS before its signature is checked.
#[derive(Debug)]
pub(super) struct Jws {
    pub(super) header: Header,
    /// Empty for POST-as-GET (RFC 8555 section 6.3).
    pub(super) payload: Vec<u8>,
    signed: String,
    signature: Vec<u8>,
}

/// The protected header.
#[derive(Debug, Deserialize)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) url: String,
    #[serde(default)]
    pub(super) nonce: Option<String>,
    #[serde(default)]
    pub(super) jwk: Option<Value>,
    #[serde(default)]
    pub(super) kid: Option<String>,
    #[serde(default)]
    crit: Option<Value>,
    #[serde(default)]
    b64: Option<Value>,
}

/// The flattened serialization; an unprotected header and several signatures are not allowed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Flattened {
    protected: String,
    payload: String,
    signature: String,
}

impl Jws {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Problem> {
        let flat: Flattened = serde_json::from_slice(body)
            .map_err(|e| Problem::malformed(format!("the body is no flattened JWS (RFC 8555 section 6.2): {e}")))?;
        Self::from_flattened(flat)
    }

    pub(super) fn from_value(value: &Value) -> Result<Self, Problem> {
        let flat = Flattened::deserialize(value)
            .map_err(|e| Problem::malformed(format!("the inner object is no flattened JWS: {e}")))?;
        Self::from_flattened(flat)
    }

    fn from_flattened(flat: Flattened) -> Result<Self, Problem> {
        let part = |name: &str, text: &str| {
            B64.decode(text).map_err(|e| Problem::malformed(format!("the JWS's {name} is no base64url: {e}")))
        };
        let header: Header = serde_json::from_slice(&part("protected header", &flat.protected)?).map_err(|e| {
            Problem::malformed(format!("the protected header is not as RFC 8555 section 6.2 asks: {e}"))
        })?;
        if header.crit.is_some() || header.b64.is_some() {
            return Err(Problem::malformed("the protected header uses an extension that is not understood"));
        }
        Ok(Self {
            payload: part("payload", &flat.payload)?,
            signature: part("signature", &flat.signature)?,
            signed: format!("{}.{}", flat.protected, flat.payload),
            header,
        })
    }

    /// Whether `key` made the signature.
    pub(super) fn verify(&self, key: &Jwk) -> Result<(), Problem> {
        if !ALGORITHMS.contains(&&*self.header.alg) {
            let mut problem = Problem::new(
                StatusCode::BAD_REQUEST,
                "badSignatureAlgorithm",
                format!("{:?} is not taken; one of {} is", self.header.alg, ALGORITHMS.join(", ")),
            );
            problem.more = Some(("algorithms", json!(ALGORITHMS)));
            return Err(problem);
        }
        if self.header.alg != key.algorithm() {
            return Err(Problem::malformed(format!(
                "the header says {}, the key is one for {}",
                self.header.alg,
                key.algorithm()
            )));
        }
        let (message, signature) = (self.signed.as_bytes(), &*self.signature);
        let verified = match key {
            Jwk::P256 { .. } => signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, key.point())
                .verify(message, signature),
            Jwk::P384 { .. } => signature::UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, key.point())
                .verify(message, signature),
            Jwk::Ed25519 { x } => signature::UnparsedPublicKey::new(&signature::ED25519, x).verify(message, signature),
            Jwk::Rsa { n, e } => signature::RsaPublicKeyComponents { n, e }.verify(
                &signature::RSA_PKCS1_2048_8192_SHA256,
                message,
                signature,
            ),
        };
        verified.map_err(|_| Problem::malformed("the JWS's signature does not fit its key and content"))
    }

    /// Whether the MAC is HS256 with `key` (RFC 8555 section 7.3.4).
    pub(super) fn verify_mac(&self, key: &[u8]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        self.header.alg == "HS256" && hmac::verify(&key, self.signed.as_bytes(), &self.signature).is_ok()
    }
}

/// A public account key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Jwk {
    P256 { x: Vec<u8>, y: Vec<u8> },
    P384 { x: Vec<u8>, y: Vec<u8> },
    Ed25519 { x: Vec<u8> },
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

#[derive(Deserialize)]
struct JwkText {
    kty: String,
    #[serde(default)]
    crv: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
    #[serde(default)]
    d: Option<Value>,
}

impl Jwk {
    pub(super) fn parse(value: &Value) -> Result<Self, Problem> {
        let bad = |why: String| Problem::new(StatusCode::BAD_REQUEST, "badPublicKey", why);
        let text = JwkText::deserialize(value).map_err(|e| bad(format!("the jwk cannot be read: {e}")))?;
        if text.d.is_some() {
            return Err(bad("the jwk holds a private key, which must never leave its owner".to_owned()));
        }
        let part = |name: &str, text: &str, lengths: core::ops::RangeInclusive<usize>| {
            let bytes = B64.decode(text).map_err(|e| bad(format!("the jwk's {name} is no base64url: {e}")))?;
            if lengths.contains(&bytes.len()) {
                Ok(bytes)
            } else {
                Err(bad(format!("the jwk's {name} has {} bytes", bytes.len())))
            }
        };
        match (&*text.kty, &*text.crv) {
            ("EC", "P-256") => Ok(Self::P256 { x: part("x", &text.x, 32..=32)?, y: part("y", &text.y, 32..=32)? }),
            ("EC", "P-384") => Ok(Self::P384 { x: part("x", &text.x, 48..=48)?, y: part("y", &text.y, 48..=48)? }),
            ("OKP", "Ed25519") => Ok(Self::Ed25519 { x: part("x", &text.x, 32..=32)? }),
            // A modulus of 2048 to 4096 bits.
            ("RSA", _) => Ok(Self::Rsa { n: part("n", &text.n, 256..=512)?, e: part("e", &text.e, 3..=4)? }),
            (kty, crv) => Err(bad(format!(
                "keys of type {kty:?} {crv:?} are not taken; EC P-256, EC P-384, OKP Ed25519 and RSA are"
            ))),
        }
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::P256 { .. } => "ES256",
            Self::P384 { .. } => "ES384",
            Self::Ed25519 { .. } => "EdDSA",
            Self::Rsa { .. } => "RS256",
        }
    }

    /// The uncompressed point of an EC key (SEC 1 section 2.3.3), the key itself of an Ed25519 key.
    fn point(&self) -> Vec<u8> {
        match self {
            Self::P256 { x, y } | Self::P384 { x, y } => [&[4], &**x, &**y].concat(),
            Self::Ed25519 { x } => x.clone(),
            Self::Rsa { n, .. } => n.clone(),
        }
    }

    /// The canonical form of RFC 7638 section 3: required members only, sorted.
    pub(super) fn canonical(&self) -> String {
        let b = |bytes: &[u8]| B64.encode(bytes);
        match self {
            Self::P256 { x, y } => format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, b(x), b(y)),
            Self::P384 { x, y } => format!(r#"{{"crv":"P-384","kty":"EC","x":"{}","y":"{}"}}"#, b(x), b(y)),
            Self::Ed25519 { x } => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, b(x)),
            Self::Rsa { n, e } => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, b(e), b(n)),
        }
    }

    /// Base64url of the SHA-256 of the canonical key (RFC 7638 section 3).
    pub(super) fn thumbprint(&self) -> String {
        B64.encode(digest::digest(&digest::SHA256, self.canonical().as_bytes()))
    }

    /// Whether the key is this DER SubjectPublicKeyInfo's, for revocation by certificate key (RFC 8555 section 7.6).
    pub(super) fn is_spki(&self, spki: &x509_parser::x509::SubjectPublicKeyInfo<'_>) -> bool {
        use x509_parser::public_key::PublicKey;
        match spki.parsed() {
            Ok(PublicKey::RSA(rsa)) => {
                let strip = |b: &[u8]| b.iter().copied().skip_while(|x| *x == 0).collect::<Vec<u8>>();
                matches!(self, Self::Rsa { n, e } if *n == strip(rsa.modulus) && *e == strip(rsa.exponent))
            }
            Ok(_) => !matches!(self, Self::Rsa { .. }) && self.point() == *spki.subject_public_key.data,
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thumbprint_is_that_of_rfc_7638() {
        let key = json!({ "kty": "RSA", "alg": "RS256", "kid": "2011-04-29", "e": "AQAB",
            "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw" });
        let thumbprint = Jwk::parse(&key).map(|k| k.thumbprint());
        assert_eq!(thumbprint.ok().as_deref(), Some("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"));
    }

    #[test]
    fn a_jws_with_an_unprotected_header_is_malformed() {
        let flat = json!({ "protected": "e30", "payload": "", "signature": "", "header": {} });
        assert!(Jws::parse(flat.to_string().as_bytes()).is_err_and(|p| p.kind == "malformed"));
    }

    #[test]
    fn a_private_key_in_a_jwk_is_refused() {
        let key = json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A" });
        assert!(Jwk::parse(&key).is_err_and(|p| p.kind == "badPublicKey"));
    }
}
