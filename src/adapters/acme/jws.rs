//! Account keys and what they sign: JWS in flattened JSON (RFC 7515 section 7.2.2), ES256 only (RFC 7518 section 3.4).
//!
//! Refuses to know HTTP. Nothing here can be printed.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::config::EabConfig;

/// An account's key pair.
pub(super) struct AccountKey {
    pair: EcdsaKeyPair,
    x: String,
    y: String,
    thumbprint: String,
}

/// A key that cannot be made, read or used; the reason never holds key material.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyError {
    /// Not PKCS#8 PEM of a P-256 key.
    #[error("is no P-256 private key in PKCS#8 PEM")]
    Unreadable,
    /// The cryptographic library refused.
    #[error("cannot be used by the cryptographic library")]
    Library,
}

/// Who signs (RFC 8555 section 6.2).
#[derive(Clone, Copy)]
pub(super) enum Signer<'a> {
    /// The key itself: newAccount only.
    Jwk,
    /// The account's URL.
    Kid(&'a str),
}

impl AccountKey {
    /// Makes a key and returns it as PKCS#8 PEM, to be made durable before it is used.
    pub(super) fn generate_pem() -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(|_| KeyError::Library)?;
        let text = Zeroizing::new(BASE64_STANDARD.encode(pkcs8.as_ref()));
        // 241 bytes are written; enough room from the start, so that no copy is left in freed memory.
        let mut pem = Zeroizing::new(Vec::with_capacity(text.len().saturating_mul(2).saturating_add(128)));
        pem.extend_from_slice(b"-----BEGIN PRIVATE KEY-----\n");
        for line in text.as_bytes().chunks(64) {
            pem.extend_from_slice(line);
            pem.push(b'\n');
        }
        pem.extend_from_slice(b"-----END PRIVATE KEY-----\n");
        Ok(pem)
    }

    /// Reads a key.
    pub(super) fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| KeyError::Unreadable)?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der());
        let pair = pair.map_err(|_| KeyError::Unreadable)?;
        // An uncompressed point: 0x04, 32 bytes of x, 32 bytes of y (SEC 1 section 2.3.3).
        let point = pair.public_key().as_ref();
        let (Some(x), Some(y), 65) = (point.get(1..33), point.get(33..65), point.len()) else {
            return Err(KeyError::Library);
        };
        let (x, y) = (b64(x), b64(y));
        // RFC 7638 section 3.2: the required members in lexicographic order, without white space.
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let thumbprint = b64(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
        Ok(Self { pair, x, y, thumbprint })
    }

    /// The public key as a JWK (RFC 7517).
    pub(super) fn jwk(&self) -> Value {
        json!({ "kty": "EC", "crv": "P-256", "x": self.x, "y": self.y })
    }

    /// The public key's thumbprint (RFC 7638), base64url.
    pub(super) fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// The key authorization for a token (RFC 8555 section 8.1).
    pub(super) fn key_authorization(&self, token: &str) -> String {
        format!("{token}.{}", self.thumbprint)
    }

    /// Signs a request (RFC 8555 section 6.2). A payload of `None` is POST-as-GET: the empty text.
    pub(super) fn sign(
        &self,
        signer: Signer<'_>,
        nonce: &str,
        url: &str,
        payload: Option<&Value>,
    ) -> Result<String, KeyError> {
        let protected = match signer {
            Signer::Jwk => json!({ "alg": "ES256", "jwk": self.jwk(), "nonce": nonce, "url": url }),
            Signer::Kid(kid) => json!({ "alg": "ES256", "kid": kid, "nonce": nonce, "url": url }),
        };
        self.flattened(&protected, payload).map(|v| v.to_string())
    }

    /// The inner JWS of a key change, signed by the new key (RFC 8555 section 7.3.5): no nonce, the outer one's URL.
    pub(super) fn sign_key_change(&self, url: &str, account: &str, old: &Self) -> Result<Value, KeyError> {
        let protected = json!({ "alg": "ES256", "jwk": self.jwk(), "url": url });
        self.flattened(&protected, Some(&json!({ "account": account, "oldKey": old.jwk() })))
    }

    fn flattened(&self, protected: &Value, payload: Option<&Value>) -> Result<Value, KeyError> {
        let protected = b64(protected.to_string().as_bytes());
        let payload = payload.map(|p| b64(p.to_string().as_bytes())).unwrap_or_default();
        let signature = self
            .pair
            .sign(&SystemRandom::new(), format!("{protected}.{payload}").as_bytes())
            .map_err(|_| KeyError::Library)?;
        Ok(json!({ "protected": protected, "payload": payload, "signature": b64(signature.as_ref()) }))
    }

    /// Binds this key to an account at the CA (RFC 8555 section 7.3.4): HS256 over the public key.
    pub(super) fn bind(&self, eab: &EabConfig, url: &str) -> Value {
        let protected = b64(json!({ "alg": "HS256", "kid": eab.key_id, "url": url }).to_string().as_bytes());
        let payload = b64(self.jwk().to_string().as_bytes());
        let key = hmac::Key::new(hmac::HMAC_SHA256, &eab.hmac);
        let tag = hmac::sign(&key, format!("{protected}.{payload}").as_bytes());
        json!({ "protected": protected, "payload": payload, "signature": b64(tag.as_ref()) })
    }
}

/// base64url without padding (RFC 7515 section 2).
pub(super) fn b64(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    fn key() -> AccountKey {
        AccountKey::from_pem(&AccountKey::generate_pem().expect("generate")).expect("read")
    }

    fn part(jws: &Value, name: &str) -> Vec<u8> {
        BASE64_URL_SAFE_NO_PAD.decode(jws[name].as_str().expect("text")).expect("base64url")
    }

    #[test]
    fn a_signature_verifies_with_the_key_that_the_jwk_shows() {
        let key = key();
        let jws = key.sign(Signer::Jwk, "n", "https://ca.example/x", Some(&json!({"a": 1}))).expect("sign");
        let jws: Value = serde_json::from_str(&jws).expect("json");
        let head: Value = serde_json::from_slice(&part(&jws, "protected")).expect("json");
        let mut point = vec![4];
        point.extend(part(&head["jwk"], "x"));
        point.extend(part(&head["jwk"], "y"));
        let message = format!("{}.{}", jws["protected"].as_str().expect("p"), jws["payload"].as_str().expect("p"));
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        public.verify(message.as_bytes(), &part(&jws, "signature")).expect("signature");
        assert_eq!(
            (&head["nonce"], &head["url"], &head["alg"]),
            (&json!("n"), &json!("https://ca.example/x"), &json!("ES256"))
        );
    }

    #[test]
    fn post_as_get_has_an_empty_payload_and_an_account_is_named_by_its_url() {
        let jws = key().sign(Signer::Kid("https://ca.example/a/1"), "n", "u", None).expect("sign");
        let jws: Value = serde_json::from_str(&jws).expect("json");
        assert_eq!(jws["payload"], "");
        let head: Value = serde_json::from_slice(&part(&jws, "protected")).expect("json");
        assert_eq!((head["kid"].as_str(), head.get("jwk")), (Some("https://ca.example/a/1"), None));
    }

    #[test]
    fn the_thumbprint_is_the_one_of_rfc_7638() {
        let key = key();
        let jwk = key.jwk();
        let text = format!("{{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":{},\"y\":{}}}", jwk["x"], jwk["y"]);
        assert_eq!(key.thumbprint(), b64(digest::digest(&digest::SHA256, text.as_bytes()).as_ref()));
        assert_eq!(key.key_authorization("tok"), format!("tok.{}", key.thumbprint()));
    }

    #[test]
    fn what_is_no_p256_key_is_refused_without_repeating_it() {
        for bad in [&b""[..], b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", b"secret"] {
            assert_eq!(AccountKey::from_pem(bad).err(), Some(KeyError::Unreadable));
        }
    }
}
