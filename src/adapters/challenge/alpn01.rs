//! tls-alpn-01 from our own listener (RFC 8737, and RFC 8738 section 6 for addresses): one self-signed certificate a
//! name, shown only to a client that asks for `acme-tls/1` and that name.

use core::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair, SanType};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsAcceptor;

use super::listen::Port;
use super::{Binding, Presented, failed, key_digest};
use crate::domain::execution::Fault;
use crate::domain::name::Name;
use crate::ports::{ChallengeTask, Clock, SolverError};

/// The protocol (RFC 8737 section 6.2).
const ALPN: &[u8] = b"acme-tls/1";

/// The listener.
pub(super) struct Alpn01 {
    table: Arc<Table>,
    port: Mutex<Port>,
}

/// One certificate that is shown now. Two orders may prove one name at once, and a validator does not say which it
/// wants: it is shown the newest.
#[derive(Clone)]
struct Shown {
    sequence: u64,
    sni: String,
    certified: Arc<CertifiedKey>,
}

struct Table(Presented<Shown>);

impl Alpn01 {
    pub(super) fn start(bind: Vec<SocketAddr>, binding: Binding, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let table = Arc::new(Table(Presented::new()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| format!("TLS cannot be set up: {e}"))?
            .with_no_client_auth()
            .with_cert_resolver(table.clone());
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Nobody comes back to a validation: no tickets, no sessions.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let mut port =
            Port::new(bind, binding, clock, Arc::new(move |stream| Box::pin(serve(stream, acceptor.clone()))));
        port.start()?;
        Ok(Self { table, port: Mutex::new(port) })
    }

    pub(super) async fn present(&self, task: &ChallengeTask) -> Result<(), SolverError> {
        let certified = Arc::new(certificate(task).map_err(|e| {
            failed(Fault::Ours, format!("no tls-alpn-01 certificate can be made for {}: {e}", task.name))
        })?);
        let mut port = self.port.lock().await;
        self.table.0.room(task)?;
        port.open()?;
        let sequence = self.table.0.lock().values().map(|s| s.sequence).max().unwrap_or(0).saturating_add(1);
        self.table.0.insert(task, Shown { sequence, sni: sni(&task.name), certified })
    }

    pub(super) async fn cleanup(&self, task: &ChallengeTask) -> Result<(), SolverError> {
        let mut port = self.port.lock().await;
        self.table.0.remove(task);
        if self.table.0.is_empty() {
            port.close().await;
        }
        Ok(())
    }
}

impl ResolvesServerCert for Table {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // A client without ALPN would otherwise be served: rustls refuses only those that offer something else.
        if !hello.alpn()?.any(|protocol| protocol == ALPN) {
            return None;
        }
        let name = hello.server_name()?.to_ascii_lowercase();
        let table = self.0.lock();
        table.values().filter(|s| s.sni == name).max_by_key(|s| s.sequence).map(|s| s.certified.clone())
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Table")
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor) {
    // The handshake is the answer: the connection is closed right after it (RFC 8737 section 4), and what the peer
    // makes of that is its own affair.
    if let Ok(mut tls) = acceptor.accept(stream).await {
        drop(tls.shutdown().await);
    }
}

/// The certificate of RFC 8737 section 3: exactly one subject alternative name, and the critical acmeIdentifier.
fn certificate(task: &ChallengeTask) -> Result<CertifiedKey, String> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![match &task.name {
        Name::Dns(host) => SanType::DnsName((&**host).try_into().map_err(|e: rcgen::Error| e.to_string())?),
        Name::Ip(address) => SanType::IpAddress(*address),
    }];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "ACME challenge");
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(key_digest(task).as_ref())];
    let key = KeyPair::generate().map_err(|e| e.to_string())?;
    let certificate = params.self_signed(&key).map_err(|e| e.to_string())?;
    let signer = aws_lc_rs::default_provider().key_provider.load_private_key(PrivateKeyDer::from(key));
    // Not `CertifiedKey::from_der`: it checks key against certificate by parsing the latter as a server certificate, and
    // refuses the very extension that this one is about.
    Ok(CertifiedKey::new(vec![certificate.der().clone()], signer.map_err(|e| e.to_string())?))
}

/// The server name a validator sends: the name, or an address's reverse name (RFC 8738 section 6).
fn sni(name: &Name) -> String {
    match name {
        Name::Dns(host) => host.to_string(),
        Name::Ip(IpAddr::V4(address)) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        Name::Ip(IpAddr::V6(address)) => {
            let nibbles = address.octets().into_iter().rev().map(|b| format!("{:x}.{:x}.", b & 15, b >> 4));
            format!("{}ip6.arpa", nibbles.collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_asked_for_by_its_reverse_name() {
        for (name, expected) in [
            ("192.0.2.1", "1.2.0.192.in-addr.arpa"),
            ("2001:db8::1", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"),
            ("a.example.com", "a.example.com"),
        ] {
            assert_eq!(sni(&Name::parse(name).unwrap()), expected);
        }
    }
}
