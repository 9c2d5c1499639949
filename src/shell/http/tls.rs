//! The certificate for gate checks over TLS, read again when its files change.
//!
//! What cannot be read, or does not belong together, never replaces what works.

use core::time::Duration;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

use crate::domain::key::Digest;

/// A handshake takes two turns of the network.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(5);
/// The files are looked at this often: two small reads.
const LOOK: Duration = Duration::from_secs(2);
/// A chain of ten certificates has 30 KiB in PEM.
const LONGEST_FILE: u64 = 256 * 1_024;

/// Why the files are of no use.
#[derive(Debug, thiserror::Error)]
#[error("KW4504 gate checks over TLS need a certificate with its key: {0}")]
pub struct BadCertificate(pub(in crate::shell) String);

/// The certificate in use and where it comes from.
#[derive(Debug)]
pub struct GateCertificate {
    /// For the log.
    what: &'static str,
    certificate_file: PathBuf,
    key_file: PathBuf,
    /// Of the files that are in use.
    digest: Digest,
    config: Arc<ServerConfig>,
    current: Arc<Current>,
}

impl GateCertificate {
    /// Reads the files.
    ///
    /// # Errors
    /// [`BadCertificate`] in a sentence.
    pub fn load(certificate_file: &Path, key_file: &Path) -> Result<Self, BadCertificate> {
        // What is spoken is told by its first bytes; this is what the peer is told.
        Self::speaking("gate checks", &[b"h2", b"http/1.1"], certificate_file, key_file)
    }

    /// Reads the files, for whatever speaks these protocols.
    pub(in crate::shell) fn speaking(
        what: &'static str,
        protocols: &[&[u8]],
        certificate_file: &Path,
        key_file: &Path,
    ) -> Result<Self, BadCertificate> {
        let (digest, certified) = read(certificate_file, key_file)?;
        let current = Arc::new(Current(ArcSwap::from(certified)));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| BadCertificate(e.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(current.clone());
        config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
        let (certificate_file, key_file) = (certificate_file.to_owned(), key_file.to_owned());
        Ok(Self { what, certificate_file, key_file, digest, config: Arc::new(config), current })
    }

    pub(in crate::shell) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.clone())
    }

    /// Takes what is new in the files, until the future is dropped.
    pub(in crate::shell) async fn follow(mut self) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut said = String::new();
        loop {
            ticks.tick().await;
            let (certificate, key) = (self.certificate_file.clone(), self.key_file.clone());
            let Ok(read) = tokio::task::spawn_blocking(move || read(&certificate, &key)).await else { continue };
            match read {
                Ok((digest, certified)) => {
                    if digest != self.digest {
                        self.digest = digest;
                        self.current.0.store(certified);
                        tracing::info!(file = %self.certificate_file.display(), "{} have a new certificate", self.what);
                    }
                    said.clear();
                }
                Err(error) => {
                    let text = error.to_string();
                    if text != said {
                        tracing::warn!("the certificate for {} stays as it was: {text}", self.what);
                        said = text;
                    }
                }
            }
        }
    }
}

#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn read(certificate_file: &Path, key_file: &Path) -> Result<(Digest, Arc<CertifiedKey>), BadCertificate> {
    let certificates = bytes(certificate_file)?;
    let key = bytes(key_file)?;
    let shown = certificate_file.display();
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&certificates)
        .collect::<Result<_, _>>()
        .map_err(|e| BadCertificate(format!("{shown} is no PEM: {e}")))?;
    if chain.is_empty() {
        return Err(BadCertificate(format!("{shown} holds no certificate")));
    }
    let private = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|e| BadCertificate(format!("{} holds no private key in PEM: {e}", key_file.display())))?;
    // Also sees whether the key belongs to the certificate.
    let certified = CertifiedKey::from_der(chain, private, &aws_lc_rs::default_provider())
        .map_err(|e| BadCertificate(format!("{shown} and {}: {e}", key_file.display())))?;
    let both = Zeroizing::new([&certificates[..], &key[..]].concat());
    Ok((Digest::of(&both), Arc::new(certified)))
}

fn bytes(file: &Path) -> Result<Zeroizing<Vec<u8>>, BadCertificate> {
    let unread = |e: std::io::Error| BadCertificate(format!("{} cannot be read: {e}", file.display()));
    let mut bytes = Zeroizing::new(Vec::new());
    let read = File::open(file).and_then(|f| f.take(LONGEST_FILE.saturating_add(1)).read_to_end(&mut bytes));
    let length = read.map_err(unread)?;
    if u64::try_from(length).is_ok_and(|length| length <= LONGEST_FILE) {
        Ok(bytes)
    } else {
        Err(BadCertificate(format!("{} is longer than {LONGEST_FILE} bytes", file.display())))
    }
}
