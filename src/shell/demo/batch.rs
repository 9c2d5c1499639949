//! A batch job that asks the policy engine too, with a certificate that was issued by hand, until that is revoked.

use std::net::SocketAddr;
use std::sync::Arc;

use core::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::domain::authority::{RevocationReason, Wish};
use crate::domain::id::{CaId, ProfileId};
use crate::engine::authority::Authority;

use super::mesh::{BATCH_JOB, POLICY_ENGINE, PROFILE};
use super::stage::BY;
use super::tell::instant;

/// Whoever is distrusted is gone within a second; after this it was not the revocation that did it.
const PATIENCE: Duration = Duration::from_secs(10);
/// What it asks.
const LINE: &[u8] = b"batch\n";

/// The job, with its certificate.
pub(super) struct BatchJob {
    pub(super) serial: Arc<str>,
    config: Arc<ClientConfig>,
    door: SocketAddr,
}

/// A connection to the policy engine's link that is let through.
pub(super) struct Live(TlsStream<TcpStream>);

impl BatchJob {
    /// Makes a key, and has it certified as `keyward ca issue` does.
    pub(super) async fn new(authority: &Authority, ca: &CaId, door: SocketAddr) -> Result<Self, String> {
        let said = |e: &dyn core::fmt::Display| format!("the batch job gets no certificate: {e}");
        let (key, csr) = request().map_err(|e| said(&e))?;
        let asked = authority.mint().request(csr.as_bytes()).map_err(|e| said(&e))?;
        let profile = ProfileId::parse(PROFILE).map_err(|e| said(&e))?;
        let wish = Wish { names: asked.names, spiffe: asked.spiffe, spki: asked.spki, lifetime: None };
        let given = authority.issue(ca, &profile, &wish, BY).await.map_err(|e| said(&e))?;
        let bundle = authority.bundle(ca).map_err(|e| said(&e))?;
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(bundle.pem.as_bytes()) {
            roots.add(root.map_err(|e| said(&e))?).map_err(|e| said(&e))?;
        }
        let chain = given.chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|e| said(&e))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .and_then(|builder| builder.with_root_certificates(roots).with_client_auth_cert(chain, key))
            .map_err(|e| said(&e))?;
        Ok(Self { serial: given.serial, config: Arc::new(config), door })
    }

    /// Connects, and is answered: in TLS 1.3 only the answer shows that the other side took the certificate.
    pub(super) async fn connect(&self) -> Result<Live, String> {
        let connected = async {
            let tcp = TcpStream::connect(self.door).await.map_err(|e| e.to_string())?;
            let name = ServerName::try_from(POLICY_ENGINE).map_err(|e| e.to_string())?;
            let tls = TlsConnector::from(self.config.clone()).connect(name, tcp).await.map_err(|e| e.to_string())?;
            let mut live = Live(tls);
            live.ask().await.map(|()| live)
        };
        timeout(PATIENCE, connected).await.unwrap_or_else(|_| Err("there is no answer".to_owned()))
    }

    /// Revokes its certificate as `keyward ca revoke` does. Gives how long after the order the live connection was cut.
    pub(super) async fn revoked(&self, authority: &Authority, live: Live) -> Result<Duration, String> {
        let ordered = instant();
        // Both at once: the connection is cut before the new list is signed and published.
        let order = authority.revoke(&self.serial, RevocationReason::KeyCompromise, BY);
        let (revoked, cut) =
            tokio::join!(order, async { timeout(PATIENCE, live.ended()).await.map(|()| ordered.elapsed()) });
        revoked.map_err(|e| format!("the batch job's certificate is not revoked: {}: {e}", e.code()))?;
        cut.map_err(|_| format!("the batch job is revoked, and {} s later its connection lives", PATIENCE.as_secs()))
    }
}

impl Live {
    async fn ask(&mut self) -> Result<(), String> {
        let said = |e: std::io::Error| e.to_string();
        self.0.write_all(LINE).await.map_err(said)?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\n") {
            let mut some = [0; 64];
            match self.0.read(&mut some).await.map_err(said)? {
                0 => return Err("the connection was closed".to_owned()),
                read => answer.extend(some.iter().take(read)),
            }
        }
        if answer.ends_with(LINE) { Ok(()) } else { Err("it was answered with something else".to_owned()) }
    }

    /// When the other side has ended it, in whatever way.
    async fn ended(mut self) {
        while self.0.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
    }
}

fn request() -> Result<(KeyPair, String), rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names.push(SanType::URI(BATCH_JOB.try_into()?));
    let key = KeyPair::generate()?;
    let csr = params.serialize_request(&key)?.pem()?;
    Ok((key, csr))
}
