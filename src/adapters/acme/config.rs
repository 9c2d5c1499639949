//! What an issuer needs to be told, checked before anything is sent.

use core::fmt;
use core::time::Duration;
use std::path::PathBuf;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use url::Url;
use zeroize::Zeroizing;

use crate::domain::id::IssuerId;

/// One CA with the account to use there.
#[derive(Clone)]
pub struct AcmeIssuerConfig {
    /// Its id in the configuration.
    pub id: IssuerId,
    /// URL of the ACME directory.
    pub directory: String,
    /// Contact URLs of the account, for example `mailto:tls@example.com`.
    pub contacts: Vec<String>,
    /// The external account binding, for CAs that want one.
    pub eab: Option<EabConfig>,
    /// Certificates (PEM, several in one are fine, or DER) that the CA's own server chains to. When any is given the
    /// system's roots are neither trusted for this issuer nor loaded for it.
    pub extra_roots: Vec<Vec<u8>>,
    /// Whether the operator agreed to the CA's terms of service.
    pub terms_agreed: bool,
    /// Lets `http://` pass, for test servers only.
    pub allow_http_directory_in_tests: bool,
    /// At most so many requests a second to one host; at least 1.
    pub requests_per_second: u32,
    /// Limits in time.
    pub timeouts: AcmeTimeouts,
    /// URL of an HTTP proxy; settings of the environment are not looked at.
    pub proxy: Option<String>,
}

impl fmt::Debug for AcmeIssuerConfig {
    /// Without the proxy, whose URL may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AcmeIssuerConfig({} at {})", self.id, self.directory)
    }
}

impl AcmeIssuerConfig {
    /// An issuer with defaults: no contacts, no binding, system roots, terms not agreed to, 20 requests a second (Let's
    /// Encrypt's lowest limit that matters, new-nonce, is 20 a second for each address).
    #[must_use]
    pub fn new(id: IssuerId, directory: impl Into<String>) -> Self {
        Self {
            id,
            directory: directory.into(),
            contacts: Vec::new(),
            eab: None,
            extra_roots: Vec::new(),
            terms_agreed: false,
            allow_http_directory_in_tests: false,
            requests_per_second: 20,
            timeouts: AcmeTimeouts::default(),
            proxy: None,
        }
    }
}

/// Limits in time for one issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcmeTimeouts {
    /// Until a connection stands, TLS included.
    pub connect: Duration,
    /// Until the last byte of one answer.
    pub request: Duration,
    /// For one logical call with everything it needs: account, nonces, up to 100 authorizations.
    pub call: Duration,
}

impl Default for AcmeTimeouts {
    /// 10 s to connect; 30 s for a request (a public CA's slowest usual answer, finalize, takes some seconds); 120 s for
    /// a call, four slow requests one after the other.
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), request: Duration::from_secs(30), call: Duration::from_secs(120) }
    }
}

/// The key that a CA gave out to bind an ACME account to an account of its own (RFC 8555 section 7.3.4).
#[derive(Clone)]
pub struct EabConfig {
    /// The key's identifier.
    pub key_id: String,
    /// The HMAC key itself, decoded; wiped when dropped.
    pub hmac: Zeroizing<Vec<u8>>,
}

impl EabConfig {
    /// Decodes the HMAC key from base64url or base64, padded or not: CAs print all four.
    ///
    /// # Errors
    /// The text is no base64, or decodes to nothing. The text itself is not repeated.
    pub fn parse(key_id: &str, hmac: &str) -> Result<Self, AcmeConfigError> {
        let text = hmac.trim().trim_end_matches('=');
        let decoded = BASE64_URL_SAFE_NO_PAD.decode(text).or_else(|_| BASE64_STANDARD_NO_PAD.decode(text));
        match decoded.map(Zeroizing::new) {
            Ok(hmac) if !hmac.is_empty() && !key_id.is_empty() => Ok(Self { key_id: key_id.to_owned(), hmac }),
            _ => Err(AcmeConfigError::Eab),
        }
    }
}

impl fmt::Debug for EabConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EabConfig({}, …)", self.key_id)
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AcmeConfigError {
    /// Two issuers share an id.
    #[error("issuer {0} is configured twice")]
    Twice(IssuerId),
    /// The directory's URL is not usable.
    #[error("issuer {0}: directory {1:?} {2}")]
    Directory(IssuerId, String, String),
    /// A root certificate cannot be read; nothing is trusted in its place.
    #[error("issuer {0}: extra root {1} {2}")]
    Root(IssuerId, usize, String),
    /// The proxy's URL is not usable.
    #[error("issuer {0}: proxy is not usable: {1}")]
    Proxy(IssuerId, String),
    /// The EAB key is not usable.
    #[error("the eab key needs a key id and an hmac key in base64url; what was given does not decode")]
    Eab,
    /// The account directory is not usable.
    #[error("account directory {0} {1}")]
    AccountDir(PathBuf, String),
}

/// Which URLs an issuer may use: its own directory decides.
#[derive(Clone, Debug)]
pub(super) struct UrlRules {
    directory: CaUrl,
}

/// A URL that passed the rules. A CA compares what is signed with its own spelling, so that is kept: parsing drops a
/// `:443`, for example.
#[derive(Clone, Debug)]
pub(super) struct CaUrl {
    text: String,
    parsed: Url,
}

impl CaUrl {
    /// As the CA spelt it.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// To send a request to.
    pub(super) fn parsed(&self) -> &Url {
        &self.parsed
    }
}

/// No CA hands out URLs of more than a few hundred bytes.
const LONGEST_URL: usize = 2_048;

impl UrlRules {
    /// Checks the directory's own URL.
    pub(super) fn new(config: &AcmeIssuerConfig) -> Result<Self, AcmeConfigError> {
        let refused =
            |why: &str| AcmeConfigError::Directory(config.id.clone(), config.directory.clone(), why.to_owned());
        let url = Url::parse(&config.directory).map_err(|e| refused(&format!("is no URL: {e}")))?;
        match url.scheme() {
            "https" => {}
            "http" if config.allow_http_directory_in_tests => {}
            _ => return Err(refused("is not https: an ACME directory is only believed over https")),
        }
        let rules = Self { directory: CaUrl { text: config.directory.clone(), parsed: url } };
        rules.check(&config.directory).map_err(|why| refused(&why))?;
        Ok(rules)
    }

    /// The directory's URL.
    pub(super) fn directory(&self) -> &CaUrl {
        &self.directory
    }

    /// Checks a URL that the CA handed out: absolute, of the directory's scheme, with a host, without credentials, and no
    /// address of this machine or an IP literal unless the directory is the same host.
    ///
    /// # Errors
    /// A clause that says what is wrong with it.
    pub(super) fn check(&self, text: &str) -> Result<CaUrl, String> {
        let directory = &self.directory.parsed;
        if text.len() > LONGEST_URL {
            return Err(format!("is {} bytes long, more than {LONGEST_URL}", text.len()));
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("holds characters that no URL has".to_owned());
        }
        let url = Url::parse(text).map_err(|e| format!("is no URL: {e}"))?;
        if url.scheme() != directory.scheme() {
            return Err(format!("is {}, but the directory is {}", url.scheme(), directory.scheme()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("holds credentials".to_owned());
        }
        let Some(host) = url.host_str().filter(|h| !h.is_empty()) else { return Err("has no host".to_owned()) };
        let literal = !matches!(url.host(), Some(url::Host::Domain(_)));
        let local = host == "localhost" || host.ends_with(".localhost");
        if (literal || local) && directory.host_str() != Some(host) {
            return Err(format!("points to {host}, which is not the directory's host"));
        }
        Ok(CaUrl { text: text.to_owned(), parsed: url })
    }
}

/// Most extra roots that one issuer may have: a private CA has a handful.
const MOST_ROOTS: usize = 64;

/// Reads the configured roots; an empty list means that the system's roots are meant.
pub(super) fn extra_roots(config: &AcmeIssuerConfig) -> Result<Vec<CertificateDer<'static>>, AcmeConfigError> {
    let mut out: Vec<CertificateDer<'static>> = Vec::new();
    for (index, bytes) in config.extra_roots.iter().enumerate() {
        let refused = |why: String| AcmeConfigError::Root(config.id.clone(), index, why);
        let found: Vec<CertificateDer<'static>> = if bytes.first() == Some(&0x30) {
            vec![CertificateDer::from(bytes.clone())]
        } else {
            CertificateDer::pem_slice_iter(bytes)
                .collect::<Result<_, _>>()
                .map_err(|e| refused(format!("is no PEM: {e}")))?
        };
        if found.is_empty() {
            return Err(refused("holds no certificate".to_owned()));
        }
        out.extend(found);
        if out.len() > MOST_ROOTS {
            return Err(refused(format!("is one of more than {MOST_ROOTS} certificates")));
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(directory: &str) -> AcmeIssuerConfig {
        AcmeIssuerConfig::new(IssuerId::parse("ca").expect("slug"), directory)
    }

    #[test]
    fn a_directory_over_http_is_refused_unless_the_test_switch_is_set() {
        let mut c = config("http://ca.example/dir");
        assert!(UrlRules::new(&c).is_err());
        c.allow_http_directory_in_tests = true;
        assert!(UrlRules::new(&c).is_ok());
        for bad in ["ftp://ca.example/", "nonsense", "https://u:p@ca.example/", "file:///etc/passwd", "https://"] {
            let mut c = config(bad);
            c.allow_http_directory_in_tests = true;
            assert!(UrlRules::new(&c).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_url_that_the_ca_hands_out_is_refused_unless_it_has_the_directorys_scheme() {
        let rules = UrlRules::new(&config("https://ca.example/dir")).expect("rules");
        assert!(rules.check("https://other.example/order/1").is_ok());
        let long = format!("https://ca.example/{}", "a".repeat(3_000));
        for bad in [
            "http://ca.example/order/1",
            "https://u@ca.example/order/1",
            "https://127.0.0.1/x",
            "https://[::1]/x",
            "https://2130706433/x",
            "https://localhost/x",
            "file:///etc/passwd",
            "/relative",
            " https://ca.example/order/1",
            "https://ca.example/or\nder/1",
            &long,
        ] {
            assert!(rules.check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_url_keeps_the_spelling_of_the_ca() {
        let rules = UrlRules::new(&config("https://ca.example:443/dir")).expect("rules");
        let url = rules.check("https://CA.example:443/order/%7e1").expect("url");
        assert_eq!(url.as_str(), "https://CA.example:443/order/%7e1");
        assert_eq!(url.parsed().as_str(), "https://ca.example/order/%7e1");
    }

    #[test]
    fn a_directory_on_an_address_may_hand_out_urls_on_that_address_only() {
        let rules = UrlRules::new(&config("https://127.0.0.1:14000/dir")).expect("rules");
        assert!(rules.check("https://127.0.0.1:15000/order/1").is_ok());
        assert!(rules.check("https://127.0.0.2:14000/order/1").is_err());
    }

    #[test]
    fn an_empty_or_unreadable_root_is_an_error_and_never_the_system_store() {
        for bad in [&b""[..], b"\n", b"-----BEGIN CERTIFICATE-----\n%%\n-----END CERTIFICATE-----\n", b"garbage"] {
            let mut c = config("https://ca.example/dir");
            c.extra_roots = vec![bad.to_vec()];
            assert!(extra_roots(&c).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_eab_key_is_read_in_every_base64_and_never_printed() {
        for text in ["_-8", "/+8=", "_-8=", " /+8 "] {
            let eab = EabConfig::parse("kid", text).expect(text);
            assert_eq!(*eab.hmac, [0xff, 0xef]);
            assert!(!format!("{eab:?}").contains(text.trim()));
        }
        assert!(EabConfig::parse("kid", "%%%").is_err() && EabConfig::parse("kid", "").is_err());
        assert!(EabConfig::parse("", "_-8").is_err());
    }
}
