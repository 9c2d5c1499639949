//! The other side: a scripted CA, and a server that serves what is installed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyward::shell::acme_server::{CaConfig, ScriptedCa, Validation};
use keyward::shell::wire;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpListener;

use crate::site::Site;

/// A scripted CA that believes every challenge; writes its root, prints its directory, and runs until it is killed.
pub async fn ca(site: &Site) {
    let config = CaConfig { validation: Validation::Off, ..CaConfig::default() };
    let ca = ScriptedCa::start(config, wire::clock(), wire::entropy()).await.expect("a CA");
    std::fs::write(&site.root, ca.root_pem()).expect("a file");
    println!("{}", ca.directory_url());
    std::future::pending::<()>().await;
}

/// Serves on 127.0.0.1 what `live/LABEL/current` holds at the moment of each handshake.
pub async fn serve(site: &Site) {
    let listener = TcpListener::bind(("127.0.0.1", site.served)).await.expect("a port");
    println!("{}", listener.local_addr().expect("an address").port());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("protocols")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Installed(site.live())));
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            stream.set_nodelay(true).ok();
            if let Ok(mut tls) = acceptor.accept(stream).await {
                tokio::io::AsyncReadExt::read(&mut tls, &mut [0; 64]).await.ok();
            }
        });
    }
}

#[derive(Debug)]
struct Installed(PathBuf);

impl Installed {
    fn read(&self, dir: &Path) -> Option<CertifiedKey> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(dir.join("fullchain.pem")).ok()?.collect();
        let key = PrivateKeyDer::from_pem_file(dir.join("key.pem")).ok()?;
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).ok()?;
        Some(CertifiedKey::new(chain.ok()?, key))
    }
}

impl ResolvesServerCert for Installed {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let label = hello.server_name()?.split('.').next()?;
        self.read(&self.0.join(label).join("current")).map(Arc::new)
    }
}
