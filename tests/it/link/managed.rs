//! A link that proves itself with what Keyward issues: straight from the key store.

use std::fs;
use std::sync::Arc;
use std::time::Instant;

use keyward::shell::config::{Overrides, parse};
use keyward::shell::link::Links;
use keyward::shell::wire;
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;

use crate::harness::life::{Life, PATIENCE, Place, certificate};
use crate::harness::link::{ENGINE, Echo, Tls, echo, pair};
use crate::harness::pki::Ca;
use crate::harness::witness::free_address;

struct Client {
    config: Arc<rustls::ClientConfig>,
    to: std::net::SocketAddr,
}

impl Client {
    fn new(place: &Place, ca: &Ca, to: std::net::SocketAddr) -> Self {
        let mut roots = RootCertStore::empty();
        let pem = fs::read(place.at("root.pem")).unwrap();
        roots.add(rustls::pki_types::CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        let engine = pair(ca, &[ENGINE], |_| {});
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(engine.chain.clone(), engine.key_der())
            .unwrap();
        Self { config: Arc::new(config), to }
    }

    async fn speak(&self) -> std::io::Result<Tls> {
        let tcp = tokio::net::TcpStream::connect(self.to).await?;
        let name = ServerName::try_from("portal.test").unwrap();
        let mut tls = tokio_rustls::TlsConnector::from(self.config.clone()).connect(name, tcp).await?;
        echo(&mut tls, b"hello").await?;
        Ok(tls)
    }

    /// Once it is served this certificate.
    async fn served(&self, fingerprint: keyward::domain::key::Digest) -> Tls {
        let began = Instant::now();
        loop {
            if let Ok(tls) = self.speak().await {
                let leaf = tls.get_ref().1.peer_certificates().unwrap()[0].clone();
                if keyward::domain::key::Digest::of(&leaf) == fingerprint {
                    return tls;
                }
            }
            assert!(began.elapsed() < PATIENCE, "{fingerprint} is not served");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_is_served_without_a_file_and_without_dropping_anybody() {
    let place = Place::new().await;
    let (ca, service, listen) = (Ca::root("mesh root", |_| {}), Echo::start().await, free_address());
    fs::write(place.at("peers.pem"), keyward::codec::pem::certificates(&[&ca.der])).unwrap();
    let rest = certificate("portal", &["portal.test"], "")
        + &format!(
            "\n[[path]]\nid = \"approve\"\nneeds = [\"portal\"]\n[[link]]\nid = \"in\"\npath = \"approve\"\n\
             side = \"server\"\nlisten = \"{listen}\"\nforward = \"{}\"\ncredential = \"portal\"\n\
             roots = [\"@/peers.pem\"]\npeers = [\"{ENGINE}\"]\n",
            service.address
        );
    let toml = place.toml(&rest);
    let settings = parse("keyward.toml", &toml, Overrides::default()).unwrap_or_else(|e| panic!("{e}"));
    let life: Life = place.start(&toml).await;
    let doors = wire::link::doors(&life.wired.ports, &life.engine, None, &prometheus::Registry::new()).unwrap();
    let links = Links::new(doors);
    links.adopt(links.prepare(&settings.links).await.unwrap()).await;
    let client = Client::new(&place, &ca, listen);
    let first = life.installed("portal").await;
    let mut live = client.served(first.fingerprint).await;
    life.renew("portal");
    let second = life.renewed("portal", &first).await;
    client.served(second.fingerprint).await;
    echo(&mut live, b"still here").await.unwrap();
    let status = &links.statuses()[0];
    assert!(status.cut == 0 && status.problem.is_none(), "{status:?}");
    links.stop().await;
    assert!(client.speak().await.is_err());
    life.stop().await;
}
