//! Distrust that bites: a link that follows a private CA, and what becomes of a peer whose certificate or key is revoked.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};

use crate::ca::harness::Mesh;
use crate::harness::link::{Anybody, Echo, Tls, connect, echo, end};
use crate::harness::witness::free_address;

const SECOND: Duration = Duration::from_secs(1);

/// A daemon with a private CA, a link that takes its trust from there, and peers with certificates of it.
struct House {
    mesh: Mesh,
    address: SocketAddr,
    _echo: Echo,
}

impl House {
    async fn new() -> Self {
        let (address, echo) = (free_address(), Echo::start().await);
        let text = format!(
            "[[certificate]]\nid = \"own\"\nnames = [\"own.svc.example\"]\nissuers = [\"private\"]\n\
             [[certificate.install]]\ndir = \"@/own\"\n[[path]]\nid = \"approve\"\nneeds = [\"own\"]\n\
             [[link]]\nid = \"in\"\npath = \"approve\"\nside = \"server\"\nlisten = \"{address}\"\nforward = \"{}\"\n\
             credential = \"own\"\nca = \"mesh\"\npeers = [\"spiffe://mesh.example/ns/prod/sa/a\", \"spiffe://mesh.example/ns/prod/sa/b\"]\n",
            echo.address
        );
        let mesh = Mesh::start(&text);
        let house = Self { mesh, address, _echo: echo };
        let said = house.link().await;
        assert!(said["problem"].as_str().unwrap_or_default().contains("keyward ca init mesh"), "{said}");
        house.mesh.ok(&["ca", "init", "mesh"]);
        house.mesh.ok(&["cert", "renew", "own"]);
        house.wait("an open link", |link| link["open"] == true).await;
        house
    }

    async fn link(&self) -> serde_json::Value {
        let out = tokio::task::block_in_place(|| self.mesh.run(&["link", "status", "-o", "json"]).1);
        let all: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"));
        all[0].clone()
    }

    async fn wait(&self, what: &str, met: impl Fn(&serde_json::Value) -> bool) {
        let began = Instant::now();
        loop {
            let link = self.link().await;
            if met(&link) {
                return;
            }
            assert!(began.elapsed() < crate::harness::life::PATIENCE, "{what} did not come: {link:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A peer with a certificate of the CA: its serial number, and what it connects with.
    fn peer(&self, who: &str) -> (String, Arc<ClientConfig>) {
        let (id, out) = (format!("spiffe://mesh.example/ns/prod/sa/{who}"), format!("@/peer-{who}"));
        let issue = ["ca", "issue", "mesh", "--profile", "workload", "--spiffe", &id, "--out", &out];
        fs::create_dir_all(self.mesh.dir.path().join(format!("peer-{who}"))).unwrap();
        self.mesh.ok(&issue);
        let place = self.mesh.dir.path().join(format!("peer-{who}"));
        let serial = crate::harness::pki::openssl(&place, &["x509", "-in", "cert.pem", "-noout", "-serial"]);
        let serial = serial.trim().trim_start_matches("serial=").to_lowercase();
        let chain: Vec<_> =
            CertificateDer::pem_file_iter(place.join("cert.pem")).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(place.join("key.pem")).unwrap();
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(place.join("ca.pem")).unwrap() {
            roots.add(root.unwrap()).unwrap();
        }
        // The link's own name is another one than the harness asks for; who it is does not matter here.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = Anybody(provider.clone());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
        let builder = builder.unwrap().dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        (serial, Arc::new(builder.with_client_auth_cert(chain, key).unwrap()))
    }

    async fn speak(&self, config: &Arc<ClientConfig>) -> std::io::Result<Tls> {
        let mut tls = connect(self.address, config).await?;
        echo(&mut tls, b"hello").await?;
        Ok(tls)
    }

    /// `openssl s_client` as this peer; whether it heard its word back.
    fn openssl(&self, who: &str, more: &[&str]) -> (bool, String) {
        let place = self.mesh.dir.path().join(format!("peer-{who}"));
        let address = self.address.to_string();
        let mut command = Command::new("openssl");
        command.current_dir(&place).args(["s_client", "-connect", &address, "-tls1_3", "-cert", "cert.pem"]);
        command.args(["-cert_chain", "cert.pem", "-key", "key.pem", "-CAfile", "ca.pem", "-ign_eof"]).args(more);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"a word\n").unwrap();
        // It ends when the other side does; the service says goodbye after the end of what it hears.
        drop(child.stdin.take());
        let began = Instant::now();
        while child.try_wait().unwrap().is_none() && began.elapsed() < 3 * SECOND {
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(child.kill());
        let out = child.wait_with_output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        (said.contains("a word"), said)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_peer_is_gone_within_a_second_and_another_lives_on() {
    let house = House::new().await;
    let (serial, bad) = house.peer("a");
    let (_, good) = house.peer("b");
    let mut kept = house.speak(&good).await.unwrap();
    let mut cut = house.speak(&bad).await.unwrap();
    assert!(house.openssl("a", &["-sess_out", "session.pem"]).0, "it gets through");
    let revoking = Instant::now();
    let (took, ()) = tokio::join!(end(&mut cut), async {
        tokio::task::block_in_place(|| house.mesh.ok(&["ca", "revoke", &serial, "--reason", "key-compromise"]));
    });
    // Within a second of the command's beginning, so of the revocation too.
    assert!(took < SECOND, "{took:?} of {:?}", revoking.elapsed());
    echo(&mut kept, b"still here").await.unwrap();
    assert!(house.speak(&bad).await.is_err(), "a new connection of it is refused");
    let session = house.mesh.dir.path().join("peer-a/session.pem").exists();
    let resumed: &[&str] = if session { &["-sess_in", "session.pem"] } else { &[] };
    let (through, said) = house.openssl("a", resumed);
    assert!(!through && !said.contains("Reused, TLSv1.3"), "nothing is resumed: {said}");
    house.speak(&good).await.unwrap();
    house.wait("it says how long it took", |link| link["swap"]["cut"] == 1 || link["cut"] == 1).await;
    let out = house.mesh.ok(&["audit", "query", "--action", "link.trust", "-o", "json", "--limit", "50"]);
    let log: serde_json::Value = serde_json::from_str(&out).unwrap();
    let facts = |e: &serde_json::Value, key: &str| {
        e["entry"]["data"]["facts"][key].as_str().and_then(|n| n.parse::<u64>().ok())
    };
    let entries = log["entries"].as_array().unwrap();
    let cut = entries.iter().find(|e| facts(e, "cut") == Some(1)).unwrap_or_else(|| panic!("{out}"));
    assert!(facts(cut, "effect_ms").is_some_and(|ms| ms < 1_000), "{cut:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn distrust_needs_no_list_and_so_no_key_holder() {
    let house = House::new().await;
    let (serial, bad) = house.peer("a");
    let mut live = house.speak(&bad).await.unwrap();
    assert_ne!(live.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    // Stopped, it signs nothing: the list that says so cannot be made.
    let holder = house.mesh.status()["keyholder"]["process"].as_u64().unwrap().to_string();
    let signal = |name: &str| assert!(Command::new("kill").args([name, &holder]).status().unwrap().success());
    signal("-STOP");
    let mut revoking = Command::new(env!("CARGO_BIN_EXE_keyward"))
        .args(["ca", "revoke", &serial, "-c"])
        .arg(house.mesh.dir.path().join("keyward.toml"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let took = end(&mut live).await;
    signal("-CONT");
    assert!(took < 2 * SECOND, "{took:?}");
    revoking.wait().unwrap();
    assert!(house.speak(&bad).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_follows_a_ca_names_the_bundle_that_it_took() {
    let house = House::new().await;
    let bundle = house.mesh.status()["cas"][0]["bundle"].clone();
    let link = house.link().await;
    assert!(bundle.is_string() && link["bundle"] == bundle, "{link:#} {bundle}");
    assert_eq!(link["ca"], "mesh");
}

#[test]
fn the_register_of_a_ca_counts_besides_its_lists_and_a_missing_list_is_no_yes() {
    use keyward::codec::peer::Trust;
    use keyward::domain::key::Digest;
    use keyward::domain::link::{PeerId, Purpose, Reason};
    let ca = crate::harness::pki::Ca::root("mesh root", |_| {});
    let own = crate::harness::link::pair(&ca, &[crate::harness::link::ENGINE], |p| {
        p.serial_number = Some(rcgen::SerialNumber::from(0x80_u64));
    });
    let judge = |revoked: &[u8], blocked: Option<Digest>| {
        let peers = vec![PeerId::parse(crate::harness::link::ENGINE).unwrap()];
        let trust = Trust::new(crate::harness::pki::roots(&[&ca.der]), Vec::new(), peers, Purpose::ClientAuth);
        let revoked = [Box::from(revoked)].into_iter().collect();
        let judged = trust.with_register(&revoked, &blocked.into_iter().collect());
        judged.judge(&own.chain, crate::harness::pki::now()).unwrap_err().reason
    };
    assert_eq!(judge(&[0x81], None), Reason::RevocationUnknown);
    assert_eq!(judge(&[0, 0x80], None), Reason::Revoked);
    let spki = Digest::of(&rcgen::PublicKeyData::subject_public_key_info(&own.key));
    assert_eq!(judge(&[0x81], Some(spki)), Reason::Revoked);
}
