//! Shows canaries to relying parties over TLS: whoever lets such a client in trusts the generation that it is of.
//!
//! In TLS 1.3 a client is judged after its handshake is over, so the probe waits for the server's word: an alert, an end, or
//! nothing. A server that answers over HTTP instead (nginx does) is asked for a path. Nothing of the server is judged here:
//! what is asked is what it trusts.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use crate::ports::{CanaryLeaf, HostError, PrivateKey, Probed};

/// Name, connection, handshake and answer together.
const DEADLINE: Duration = Duration::from_secs(5);
/// A server that says nothing for so long after the handshake has let the client in: its word takes one way, and the round
/// trip around the world is 0.3 s.
const SILENCE: Duration = Duration::from_millis(800);
/// Of an HTTP answer only the status line is read.
const LONGEST_ANSWER: usize = 64;

/// Where a relying party is probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeAt {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The name that is asked for (SNI), if it is not the host.
    pub server_name: Option<String>,
    /// The path that is asked for, where the server answers over HTTP.
    pub path: Option<String>,
}

impl fmt::Display for ProbeAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.as_deref().unwrap_or_default();
        if self.host.contains(':') {
            return write!(f, "[{}]:{}{path}", self.host, self.port);
        }
        write!(f, "{}:{}{path}", self.host, self.port)
    }
}

/// A key for a canary (P-256), with its SubjectPublicKeyInfo.
///
/// # Errors
/// If none can be made.
pub fn key() -> Result<(PrivateKey, Arc<[u8]>), HostError> {
    let made = rcgen::KeyPair::generate().map_err(|e| HostError(format!("a key cannot be made: {e}")))?;
    let spki = Arc::from(rcgen::PublicKeyData::subject_public_key_info(&made));
    Ok((PrivateKey(Zeroizing::new(made.serialize_der())), spki))
}

/// Shows a canary. Never longer than some seconds.
pub async fn probe(at: &ProbeAt, canary: &CanaryLeaf) -> Probed {
    match tokio::time::timeout(DEADLINE, ask(at, canary)).await {
        Ok(Ok(probed)) => probed,
        Ok(Err(why)) => Probed::Unreached(format!("{at}: {why}")),
        Err(_) => Probed::Unreached(format!("{at} gave no answer within {} s", DEADLINE.as_secs())),
    }
}

async fn ask(at: &ProbeAt, canary: &CanaryLeaf) -> Result<Probed, String> {
    let asked = Arc::new(Asked { key: certified(canary)?, was: AtomicBool::new(false) });
    let name = at.server_name.as_ref().unwrap_or(&at.host).clone();
    let name = ServerName::try_from(name.clone()).map_err(|_| format!("{name:?} cannot be sent as a server name"))?;
    let tcp = TcpStream::connect((at.host.as_str(), at.port)).await;
    let tcp = tcp.map_err(|e| format!("cannot be connected to: {e}"))?;
    let connector = TlsConnector::from(Arc::new(config(asked.clone())?));
    let mut tls = match connector.connect(name, tcp).await {
        Ok(tls) => tls,
        Err(error) => return refused(&error),
    };
    if !asked.was.load(Ordering::SeqCst) {
        return Ok(Probed::Refused(format!("{at} asked for no client certificate, so it lets everybody in")));
    }
    match &at.path {
        Some(path) => over_http(at, &mut tls, path).await,
        None => silence(&mut tls).await,
    }
}

/// Whether the server breaks off once it has seen the certificate.
async fn silence(tls: &mut TlsStream<TcpStream>) -> Result<Probed, String> {
    let mut byte = [0];
    match tokio::time::timeout(SILENCE, tls.read(&mut byte)).await {
        // It waits for us, or speaks first: both are for those who were let in.
        Err(_) | Ok(Ok(1..)) => Ok(Probed::Accepted),
        Ok(Ok(0)) => Ok(Probed::Refused("it closed the connection right after the handshake".to_owned())),
        Ok(Err(error)) => refused(&error),
    }
}

async fn over_http(at: &ProbeAt, tls: &mut TlsStream<TcpStream>, path: &str) -> Result<Probed, String> {
    let host = at.server_name.as_ref().unwrap_or(&at.host);
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    if let Err(error) = tls.write_all(request.as_bytes()).await {
        return refused(&error);
    }
    let mut answer = Vec::with_capacity(LONGEST_ANSWER);
    let mut chunk = [0; LONGEST_ANSWER];
    while !answer.contains(&b'\n') && answer.len() < LONGEST_ANSWER {
        match tls.read(&mut chunk).await {
            Ok(0) => break,
            Ok(n) => answer.extend_from_slice(chunk.get(..n).unwrap_or_default()),
            Err(error) => return refused(&error),
        }
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status: Option<u16> = text.split(' ').nth(1).and_then(|word| word.parse().ok());
    Ok(match status {
        // 400, 495 and 496 are what nginx says of a bad client certificate.
        Some(status @ (400 | 401 | 403 | 495 | 496 | 500..)) => {
            Probed::Refused(format!("it answered {status} for {path}"))
        }
        Some(_) => Probed::Accepted,
        None => Probed::Refused("what it answered is not HTTP".to_owned()),
    })
}

/// An alert is a word about us; a broken connection may be anybody's.
fn refused(error: &io::Error) -> Result<Probed, String> {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => {
            Ok(Probed::Refused(format!("it refused with the alert {alert:?}")))
        }
        _ => Err(format!("the handshake broke off: {error}")),
    }
}

fn certified(canary: &CanaryLeaf) -> Result<Arc<CertifiedKey>, String> {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(canary.key.0.as_slice()));
    let key = aws_lc_rs::sign::any_supported_type(&key).map_err(|e| format!("the canary's key cannot be used: {e}"))?;
    let chain = canary.chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    Ok(Arc::new(CertifiedKey::new(chain, key)))
}

fn config(asked: Arc<Asked>) -> Result<ClientConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let anyone = Arc::new(Anyone(provider.clone()));
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| format!("TLS cannot be set up: {e}"))?;
    let mut config = builder.dangerous().with_custom_certificate_verifier(anyone).with_client_cert_resolver(asked);
    // A resumed session skips the judgement that is asked for.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The canary, and whether the server asked for a certificate at all.
#[derive(Debug)]
struct Asked {
    key: Arc<CertifiedKey>,
    was: AtomicBool,
}

impl ResolvesClientCert for Asked {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.was.store(true, Ordering::SeqCst);
        Some(self.key.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Who the server is does not matter: nothing is told to it but that a canary is there.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
