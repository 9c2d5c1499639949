//! A rotation as an operator meets it: the daemon with its key holder and its links, the command line, and traffic.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::harness::Mesh;
use crate::harness::life::{free_port, own_address};

const ME: &str = "spiffe://mesh.example/ns/prod/sa/web";

/// Two links of one workload that speaks with itself: what comes in plain goes over mTLS and comes out plain.
fn links(inside: SocketAddr, outside: SocketAddr, service: SocketAddr) -> String {
    let both = format!(
        "path = \"approve\"\ncredential = \"web\"\nroots = [\"@/state/pki/mesh.pem\"]\n\
         crls = [\"@/state/pki/mesh.crl.pem\"]\npeers = [\"{ME}\"]\nallow_remote = true\n"
    );
    format!(
        "[[certificate]]\nid = \"web\"\nnames = [\"web.svc.example\"]\nissuers = [\"private\"]\nspiffe = \"{ME}\"\n\
         [[certificate.install]]\ndir = \"@/web\"\n[[path]]\nid = \"approve\"\nneeds = [\"web\"]\n\
         [[link]]\nid = \"in\"\nside = \"server\"\nlisten = \"{outside}\"\nforward = \"{service}\"\n{both}\
         [[link]]\nid = \"out\"\nside = \"client\"\nlisten = \"{inside}\"\nforward = \"{outside}\"\n\
         server_name = \"web.svc.example\"\n{both}"
    )
}

/// Answers every connection with what it says.
fn service() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut said = [0; 5];
                if stream.read_exact(&mut said).is_ok() {
                    drop(stream.write_all(&said));
                }
            });
        }
    });
    address
}

fn once(door: SocketAddr) -> Result<(), String> {
    let mut stream = TcpStream::connect(door).map_err(|e| e.to_string())?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(|e| e.to_string())?;
    stream.write_all(b"hello").map_err(|e| e.to_string())?;
    let mut back = [0; 5];
    stream.read_exact(&mut back).map_err(|e| e.to_string())
}

/// Short connections, until it is dropped.
struct Load {
    done: Arc<AtomicU64>,
    failed: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
}

impl Load {
    fn begin(door: SocketAddr) -> Self {
        let load = Self { done: Arc::default(), failed: Arc::default(), stop: Arc::default() };
        let (done, failed, stop) = (load.done.clone(), load.failed.clone(), load.stop.clone());
        thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                match once(door) {
                    Ok(()) => drop(done.fetch_add(1, Ordering::SeqCst)),
                    Err(why) => failed.lock().unwrap().push(why),
                }
                thread::sleep(Duration::from_millis(10));
            }
        });
        load
    }

    /// None failed, and more come through after this.
    fn check(&self, mesh: &Mesh) {
        let before = self.done.load(Ordering::SeqCst);
        mesh.wait("connections", |_| (self.done.load(Ordering::SeqCst) > before + 20).then_some(()));
        let failed = self.failed.lock().unwrap();
        assert!(failed.is_empty(), "{} failed: {:?}", failed.len(), failed.first());
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn rotation(mesh: &Mesh) -> Value {
    let (_, said) = mesh.run(&["ca", "rotate", "mesh", "--status", "-o", "json"]);
    serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"))
}

fn phases(mesh: &Mesh) -> Vec<String> {
    let shown = rotation(mesh);
    let all = shown["generations"].as_array().unwrap().iter();
    all.map(|g| g["phase"].as_str().unwrap().to_owned()).collect()
}

fn wait_for(mesh: &Mesh, wanted: &[&str]) {
    mesh.wait(&format!("{wanted:?}"), |mesh| (phases(mesh) == wanted).then_some(()));
}

#[test]
fn with_traffic_through_its_links_a_daemon_rotates_and_rolls_back_and_nobody_is_refused() {
    let [inside, outside] = [(); 2].map(|()| free_port(own_address()));
    let mesh = Mesh::start(&links(inside, outside, service()));
    mesh.ok(&["ca", "init", "mesh"]);
    mesh.ok(&["cert", "renew", "web"]);
    mesh.wait("an open path", |mesh| (mesh.run(&["gate", "check", "approve"]).0 == 0).then_some(()));
    mesh.wait("a connection", |_| once(inside).ok());
    // Who relies on it needs no word in the configuration.
    let parties = rotation(&mesh)["parties"].as_array().unwrap().len();
    assert_eq!(parties, 2);
    let (code, plan) = mesh.run(&["ca", "rotate", "mesh", "--plan"]);
    assert!(code == 3 && plan.contains("link.in") && plan.contains("mesh/2 is signing"), "{plan}");

    let load = Load::begin(inside);
    load.check(&mesh);
    // It exits with 3 while something waits for somebody, and links need a second to read what is new.
    let (code, said) = mesh.run(&["ca", "rotate", "mesh", "--reason", "a drill"]);
    assert!([0, 3].contains(&code), "{said}");
    wait_for(&mesh, &["draining", "signing"]);
    load.check(&mesh);
    let chain = || std::fs::read_to_string(mesh.dir.path().join("web/current/fullchain.pem")).unwrap();
    let old = chain();
    mesh.ok(&["cert", "renew", "web"]);
    mesh.wait("a leaf of the new generation", |_| (chain() != old).then_some(()));
    load.check(&mesh);
    let (code, said) = mesh.run(&["ca", "rollback", "mesh", "2", "--reason", "a drill"]);
    assert!([0, 3].contains(&code), "{said}");
    wait_for(&mesh, &["signing", "draining"]);
    load.check(&mesh);
    drop(load);
    let entries = mesh.ok(&["audit", "query", "--limit", "200"]);
    assert!(entries.contains("KW4634") && entries.contains("KW4632"), "{entries}");
}

#[test]
fn killed_in_the_middle_of_a_rotation_it_goes_on_and_a_party_acknowledges_with_its_token() {
    let party =
        "[[relying_party]]\nid = \"edge\"\ncas = [\"mesh\"]\nowner = \"platform\"\ntoken_file = \"@/edge.token\"\n";
    let mut mesh = Mesh::start(party);
    std::fs::write(mesh.dir.path().join("edge.token"), "0123456789abcdefghijklmnop\n").unwrap();
    mesh.ok(&["ca", "init", "mesh"]);
    let (code, _) = mesh.run(&["ca", "rotate", "mesh"]);
    assert!([0, 3].contains(&code));
    mesh.restart();
    wait_for(&mesh, &["signing", "staged"]);
    let shown = rotation(&mesh);
    let said = shown["findings"].to_string();
    assert!(said.contains("KW4621") && said.contains("platform"), "{said}");
    let body = serde_json::json!({
        "party": "edge", "version": shown["bundle_version"], "digest": shown["bundle"],
    })
    .to_string();
    let door = mesh.http();
    for (token, status) in [("another-token-of-some-length", "403"), ("0123456789abcdefghijklmnop", "200")] {
        let mut stream = TcpStream::connect(door).unwrap();
        let head = format!(
            "POST /v1/ca/mesh/acknowledge HTTP/1.1\r\nHost: {door}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
    wait_for(&mesh, &["draining", "signing"]);
    mesh.restart();
    wait_for(&mesh, &["draining", "signing"]);
    let (code, said) = mesh.run(&["ca", "distrust", "mesh", "--all", "--type-name", "mesk"]);
    assert_eq!((code, said.contains("mesk")), (2, true), "{said}");
}
