//! Links of the real daemon: from the file to the wire, closed by the gate, changed by a reload.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpStream, UnixStream};

use crate::harness::link::{ENGINE, Echo, PORTAL, client, connect, echo, end, pair};
use crate::harness::pki::Ca;
use crate::harness::witness::{Guard, free_address};

/// A guardian that watches `portal.pem`, its own certificate of the link, and a path that stands on it.
struct House {
    dir: tempfile::TempDir,
    ca: Ca,
    echo: Echo,
    guard: Guard,
    address: SocketAddr,
    engine: Arc<ClientConfig>,
}

impl House {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::root("mesh root", |_| {});
        let own = pair(&ca, &[PORTAL], |_| {});
        let at = |name: &str| dir.path().join(name);
        fs::write(at("portal.pem"), own.chain_pem() + &own.key.serialize_pem()).unwrap();
        fs::write(at("roots.pem"), keyward::codec::pem::certificates(&[&ca.der])).unwrap();
        let engine = client(&ca, Some(&pair(&ca, &[ENGINE], |_| {})), &rustls::version::TLS13);
        let echo = Echo::start().await;
        let address = free_address();
        let guard = Guard::new(&at("guard"), "");
        let mut house = Self { dir, ca, echo, guard, address, engine };
        house.guard.configure(&house.toml(&house.link("in", house.address, "")));
        // It waits with blocked threads, and nothing else is to be done meanwhile.
        house.guard.start();
        house.wait("the path is open", |h| h.metric("keyward_link_open{link=\"in\"}") == Some(1)).await;
        house.wait("the link is ready", |h| h.metric("keyward_link_ready{link=\"in\"}") == Some(1)).await;
        house
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn toml(&self, links: &str) -> String {
        let (portal, roots) = (self.at("portal.pem"), self.at("roots.pem"));
        format!(
            "[timing]\nprobe_every = \"10s\"\n[[issuer]]\nid = \"mesh\"\ndirectory = \"https://127.0.0.1:1/directory\"\n\
             terms_agreed = true\nroot_files = [{roots:?}]\n\
             [[observe]]\nid = \"portal\"\nfile = {portal:?}\n\n[[path]]\nid = \"approve\"\nneeds = [\"portal\"]\n{links}"
        )
    }

    fn link(&self, id: &str, listen: SocketAddr, more: &str) -> String {
        let (roots, forward) = (self.at("roots.pem"), self.echo.address);
        format!(
            "\n[[link]]\nid = \"{id}\"\npath = \"approve\"\nside = \"server\"\nlisten = \"{listen}\"\n\
             forward = \"{forward}\"\ncredential = \"portal\"\nroots = [{roots:?}]\npeers = [\"{ENGINE}\"]\n{more}"
        )
    }

    async fn speak(&self, to: SocketAddr) -> std::io::Result<crate::harness::link::Tls> {
        let mut tls = connect(to, &self.engine).await?;
        echo(&mut tls, b"hello").await?;
        Ok(tls)
    }

    fn metric(&self, name: &str) -> Option<u64> {
        self.guard.metric(name)
    }

    async fn wait(&self, what: &str, met: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !met(self) {
            assert!(began.elapsed() < crate::harness::life::PATIENCE, "{what} did not come:\n{}", self.guard.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn reload(&self, links: &str) -> (bool, String) {
        self.guard.configure(&self.toml(links));
        self.cli(&["config", "reload"])
    }

    fn cli(&self, args: &[&str]) -> (bool, String) {
        let out = crate::harness::witness::keyward().arg("-c").arg(&self.guard.config).args(args).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        (out.status.success(), said)
    }
}

fn gone(path: &Path) {
    fs::remove_file(path).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_closes_the_gate_cuts_the_link() {
    let house = House::new().await;
    let mut live = house.speak(house.address).await.unwrap();
    let (ok, said) = house.cli(&["link", "status"]);
    assert!(ok && said.contains("open") && said.contains("1/1000"), "{said}");
    gone(&house.at("portal.pem"));
    // Directories are watched, so the guardian sees it within a second or two.
    let removed = Instant::now();
    let (_, _) = tokio::join!(end(&mut live), async {
        // Not before the gate says so, and at most a second later.
        while house.cli(&["gate", "check", "approve"]).0 {
            assert!(removed.elapsed() < Duration::from_secs(20));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let closed = Instant::now();
        while house.echo.live() > 0 {
            assert!(closed.elapsed() < Duration::from_secs(1), "the service still has it");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(house.speak(house.address).await.is_err());
    house
        .wait("it is counted", |h| h.metric("keyward_link_refused_total{link=\"in\",reason=\"gate\"}") > Some(0))
        .await;
    assert_eq!(house.metric("keyward_link_cut_total{link=\"in\"}"), Some(1));
    let (_, said) = house.cli(&["link", "status", "-o", "json"]);
    let links: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"));
    assert_eq!(links[0]["closed"]["code"], "KW4301", "{said}");
    // Told within a second or two.
    let told = |h: &House| {
        let (_, log) = h.cli(&["audit", "query", "-o", "jsonl"]);
        ["link.trust", "link.cut", "link.refuse"].iter().all(|action| log.contains(&format!("\"{action}\"")))
    };
    house.wait("trust, cut and refusal stand in the log", told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_adopts_changed_new_and_removed_links_or_nothing() {
    let house = House::new().await;
    let mut live = house.speak(house.address).await.unwrap();
    let other = free_address();
    let in_ = house.link("in", house.address, "max_connections = 7\n");
    let (ok, said) = house.reload(&(in_.clone() + &house.link("second", other, "")));
    assert!(ok, "{said}");
    house.wait("the second is ready", |h| h.metric("keyward_link_ready{link=\"second\"}") == Some(1)).await;
    house.speak(other).await.unwrap();
    echo(&mut live, b"undisturbed").await.unwrap();
    assert!(house.cli(&["link", "status"]).1.contains("1/7"));
    // A listener that is taken: nothing is adopted.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let third = house.link("third", taken.local_addr().unwrap(), "");
    let (ok, said) = house.reload(&(house.link("in", house.address, "max_connections = 9\n") + &third));
    assert!(!ok && said.contains("cannot listen"), "{said}");
    assert!(house.cli(&["link", "status"]).1.contains("1/7"));
    house.speak(other).await.unwrap();
    let (ok, said) = house.reload(&house.link("in", free_address(), ""));
    assert!(!ok && said.contains("restart"), "{said}");
    let (ok, said) = house.reload(&in_);
    assert!(ok, "{said}");
    assert!(TcpStream::connect(other).await.is_err(), "the second is gone");
    assert_eq!(house.metric("keyward_link_ready{link=\"second\"}"), None);
    echo(&mut live, b"undisturbed").await.unwrap();
    // Another peer instead of the one that is there.
    let (ok, said) = house.reload(&in_.replace(ENGINE, "spiffe://example.com/other"));
    assert!(ok, "{said}");
    end(&mut live).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_side_listens_on_a_socket_of_its_own_mode() {
    let house = House::new().await;
    let socket = house.at("out.sock");
    let roots = house.at("roots.pem");
    let engine = pair(&house.ca, &[ENGINE], |_| {});
    fs::write(house.at("engine.pem"), engine.chain_pem() + &engine.key.serialize_pem()).unwrap();
    let file = house.at("engine.pem");
    let out = format!(
        "\n[[link]]\nid = \"out\"\npath = \"approve\"\nside = \"client\"\nlisten = {socket:?}\nsocket_mode = \"0600\"\n\
         forward = \"{}\"\nserver_name = \"portal.example.com\"\ncert_file = {file:?}\nkey_file = {file:?}\n\
         roots = [{roots:?}]\npeers = [\"{PORTAL}\"]\n",
        house.address
    );
    let (ok, said) = house.reload(&(house.link("in", house.address, "") + &out));
    assert!(ok, "{said}");
    house.wait("it is ready", |h| h.metric("keyward_link_ready{link=\"out\"}") == Some(1)).await;
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&socket).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let mut plain = UnixStream::connect(&socket).await.unwrap();
    echo(&mut plain, b"through two links").await.unwrap();
    let (ok, said) = house.reload(&house.link("in", house.address, ""));
    assert!(ok && !socket.exists(), "{said}");
    let mut rest = Vec::new();
    drop(plain.read_to_end(&mut rest).await);
    assert!(rest.is_empty());
}
