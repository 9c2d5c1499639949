//! TLS 1.3 with certificates on both sides, and nothing that outlives a handshake: no tickets, no sessions, no early
//! data. A resumed session would skip the verifier, so there is none to resume.

use core::fmt;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError, ServerConfig, SignatureScheme,
};

use crate::codec::peer::Trust;
use crate::domain::key::Digest;
use crate::domain::link::{Admitted, Reason, Refusal, Side};
use crate::domain::time::Timestamp;
use crate::ports::{Clock, HostError};

/// Judgements that are kept: peers come back, and each costs some 100 µs. Half a MiB at most; beyond it begins anew.
const MOST_KNOWN: usize = 1_024;

/// What a handshake is made with.
#[derive(Clone, Debug)]
pub(super) enum Tls {
    Server(Arc<ServerConfig>),
    Client(Arc<ClientConfig>),
}

impl Tls {
    /// A whole new configuration: nothing of an older one is shared.
    pub(super) fn new(
        side: Side,
        key: Arc<CertifiedKey>,
        judge: Arc<Judge>,
        alpn: &[String],
    ) -> Result<Self, HostError> {
        let failed = |e: rustls::Error| HostError(format!("TLS cannot be set up: {e}"));
        let provider = judge.provider.clone();
        let versions = &[&rustls::version::TLS13];
        let own = Arc::new(SingleCertAndKey::from(key));
        let alpn: Vec<Vec<u8>> = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        match side {
            Side::Server => {
                let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions);
                let builder = builder.map_err(failed)?.with_client_cert_verifier(judge);
                let mut config = builder.with_cert_resolver(own);
                config.session_storage = Arc::new(NoServerSessionStorage {});
                config.send_tls13_tickets = 0;
                config.max_early_data_size = 0;
                config.alpn_protocols = alpn;
                Ok(Self::Server(Arc::new(config)))
            }
            Side::Client => {
                let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
                let builder = builder.map_err(failed)?.dangerous().with_custom_certificate_verifier(judge);
                let mut config = builder.with_client_cert_resolver(own);
                config.resumption = Resumption::disabled();
                config.enable_early_data = false;
                config.alpn_protocols = alpn;
                Ok(Self::Client(Arc::new(config)))
            }
        }
    }
}

/// The crypto of all links.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A key that rustls can sign with, and the chain to present with it.
pub(super) fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'_>,
) -> Result<Arc<CertifiedKey>, HostError> {
    let key = aws_lc_rs::sign::any_supported_type(key);
    let key = key.map_err(|_| HostError("the private key is of a kind that TLS does not use".to_owned()))?;
    Ok(Arc::new(CertifiedKey::new(chain, key)))
}

/// Judges peers by what is in force, and remembers whom it let in.
pub(super) struct Judge {
    trust: Trust,
    clock: Arc<dyn Clock>,
    provider: Arc<CryptoProvider>,
    known: Mutex<BTreeMap<Digest, Admitted>>,
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Judge")
    }
}

impl Judge {
    pub(super) fn new(trust: Trust, clock: Arc<dyn Clock>, provider: Arc<CryptoProvider>) -> Self {
        Self { trust, clock, provider, known: Mutex::default() }
    }

    /// Whether this chain may speak now. The same bytes under the same trust give the same answer while everything in it
    /// is valid, so that answer is kept; refusals are found again each time.
    pub(super) fn judge(&self, ders: &[CertificateDer<'_>], now: Timestamp) -> Result<Admitted, Refusal> {
        // Each with its length before it, so that no two lists are the same bytes.
        let lengths: Vec<[u8; 8]> = ders.iter().map(|d| u64::try_from(d.len()).unwrap_or(0).to_be_bytes()).collect();
        let parts: Vec<&[u8]> = lengths.iter().zip(ders).flat_map(|(l, d)| [l.as_slice(), d.as_ref()]).collect();
        let digest = Digest::of_parts(&parts);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).cloned();
        if let Some(admitted) = known.filter(|a| a.validity.contains(now)) {
            return Ok(admitted);
        }
        let admitted = self.trust.judge(ders, now)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(digest, admitted.clone());
        Ok(admitted)
    }

    /// SHA-256 of each root that it goes by.
    pub(super) fn anchors(&self) -> std::collections::BTreeSet<Digest> {
        self.trust.anchors()
    }

    fn verify(&self, leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        let all: Vec<CertificateDer<'_>> = core::iter::once(leaf).chain(others).cloned().collect();
        self.judge(&all, self.clock.now()).map(drop).map_err(|refusal| {
            // The peer learns only that its certificate will not do.
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
        })
    }

    fn holds_key(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }
}

/// Only TLS 1.3 is configured, so nobody ever asks.
fn old_version() -> Result<HandshakeSignatureValid, rustls::Error> {
    Err(rustls::Error::General("TLS 1.2 is not spoken here".to_owned()))
}

impl ClientCertVerifier for Judge {
    /// None: which CAs are trusted is told to nobody.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        old_version()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.holds_key(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Judge {
    /// Who may answer stands in the list of peers; the name that was asked for is only how to find them.
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        old_version()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.holds_key(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Why a handshake failed.
pub(super) fn explain(error: &std::io::Error) -> Refusal {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(ours)))) => {
            match ours.downcast_ref::<Refusal>() {
                Some(refusal) => refusal.clone(),
                None => Refusal::new(Reason::Malformed, "what the peer presents cannot be used"),
            }
        }
        Some(rustls::Error::NoCertificatesPresented) => {
            Refusal::new(Reason::NoCertificate, "the peer presents no certificate")
        }
        Some(rustls::Error::InvalidCertificate(_)) => {
            Refusal::new(Reason::Malformed, "the peer does not prove that it holds the key of its certificate")
        }
        Some(other) => Refusal::new(Reason::Handshake, format!("no handshake: {other}")),
        None => Refusal::new(Reason::Handshake, format!("no handshake: {error}")),
    }
}
