//! Signed requests as Standard Webhooks have them (<https://www.standardwebhooks.com>).
//!
//! ```text
//! webhook-id: msg_…            one for each message, the same when it is sent again
//! webhook-timestamp: …         seconds since 1970
//! webhook-signature: v1,…      base64(HMAC-SHA256(secret, id.timestamp.body))
//! ```

use core::fmt;
use std::net::IpAddr;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::{Host, Url};

use super::ParseError;

/// Standard Webhooks: a secret has 24 to 64 bytes.
const SECRET_BYTES: core::ops::RangeInclusive<usize> = 24..=64;

/// A secret that signs.
pub struct Signer(hmac::Key);

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    /// From its text form, `whsec_` and base64.
    ///
    /// # Errors
    /// If it is not that.
    pub fn parse(text: &[u8]) -> Result<Self, ParseError> {
        let wrong = || ParseError::new("the webhook's secret is not whsec_ and the base64 of 24 to 64 bytes");
        let text = text.strip_prefix(b"whsec_").ok_or_else(wrong)?;
        let bytes = zeroize::Zeroizing::new(STANDARD.decode(text).map_err(|_| wrong())?);
        if !SECRET_BYTES.contains(&bytes.len()) {
            return Err(wrong());
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The value of `webhook-signature`.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

/// A webhook's address: `https`, or `http` to this machine.
///
/// # Errors
/// Says what is wrong with it.
pub fn address(text: &str) -> Result<Url, ParseError> {
    let url = Url::parse(text).map_err(|e| ParseError::new(format!("the webhook's URL cannot be read: {e}")))?;
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::from(ip).is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if loopback => Ok(url),
        other => Err(ParseError::new(format!(
            "the webhook's URL starts with {other}; expected https (http only to this machine)"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_goes_to_this_machine_only() {
        for good in ["https://dns.example/hook", "http://127.0.0.1:8080/", "http://[::1]/x", "http://localhost/x"] {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in ["http://dns.example/", "http://127.0.0.1.example/", "ftp://localhost/", "file:///etc", "", "x"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_is_whsec_and_base64_of_24_to_64_bytes() {
        let key = |text: &str| Signer::parse(text.as_bytes());
        assert!(key(&format!("whsec_{}", STANDARD.encode([7; 32]))).is_ok());
        for bad in
            ["", "whsec_", "whsec_!!!!", &STANDARD.encode([7; 32]), &format!("whsec_{}", STANDARD.encode([7; 8]))]
        {
            assert!(key(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_signature_is_that_of_the_standards_example() {
        // The example of the reference libraries of Standard Webhooks.
        let signer = Signer::parse(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
