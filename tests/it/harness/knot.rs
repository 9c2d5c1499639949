//! A Knot DNS server on loopback, with zones, TSIG keys and dynamic updates.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};

/// A running server; killed when dropped.
pub struct Knot {
    pub address: SocketAddr,
    child: Child,
    dir: tempfile::TempDir,
}

/// A TSIG key.
#[derive(Clone)]
pub struct Key {
    pub name: &'static str,
    pub algorithm: &'static str,
    pub secret: Vec<u8>,
}

impl Key {
    pub fn new(name: &'static str, algorithm: &'static str) -> Self {
        let mut secret = vec![0; 32];
        aws_lc_rs::rand::fill(&mut secret).unwrap();
        Self { name, algorithm, secret }
    }
}

impl Knot {
    /// Starts a server on this port of 127.0.0.1 (and of `more` loopback addresses), with these zones (apex and zone
    /// file), which these keys may update.
    pub fn start(address: SocketAddr, more: &[&str], keys: &[Key], zones: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("db")).unwrap();
        let at = dir.path().display();
        let mut conf = format!("server:\n  rundir: \"{at}\"\n  udp-workers: 1\n  tcp-workers: 2\n");
        conf += "  udp-max-payload: 4096\n";
        conf += "  background-workers: 1\n";
        for host in [&*address.ip().to_string()].iter().chain(more) {
            writeln!(conf, "  listen: {host}@{}", address.port()).unwrap();
        }
        writeln!(conf, "database:\n  storage: \"{at}/db\"\n  journal-db-max-size: 16M").unwrap();
        conf += "  kasp-db-max-size: 8M\n  timer-db-max-size: 8M\n";
        conf += "log:\n  - target: stderr\n    any: info\nkey:\n";
        for key in keys {
            let secret = STANDARD.encode(&key.secret);
            writeln!(conf, "  - id: {}\n    algorithm: {}\n    secret: {secret}", key.name, key.algorithm).unwrap();
        }
        let names = keys.iter().map(|k| k.name).collect::<Vec<_>>().join(", ");
        writeln!(conf, "acl:\n  - id: update\n    key: [{names}]\n    action: update\nzone:").unwrap();
        for (apex, records) in zones {
            let soa = format!("$ORIGIN {apex}.\n$TTL 60\n@ SOA ns1 admin 1 3600 600 86400 60\n@ NS ns1\n");
            fs::write(dir.path().join(format!("{apex}.zone")), format!("{soa}ns1 A 127.0.0.1\n{records}")).unwrap();
            writeln!(conf, "  - domain: {apex}\n    storage: \"{at}\"\n    file: {apex}.zone\n    acl: update")
                .unwrap();
        }
        let file = dir.path().join("knot.conf");
        fs::write(&file, conf).unwrap();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new("/usr/sbin/knotd")
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("knotd is missing: run tests/run, which installs it");
        let mut knot = Self { address, child, dir };
        let began = Instant::now();
        for (apex, _) in zones {
            while knot.ask(apex, RecordType::SOA).is_none_or(|m| m.answers.is_empty()) {
                let ended = knot.child.try_wait().unwrap();
                assert!(ended.is_none() && began.elapsed() < Duration::from_secs(20), "knotd: {}", knot.log());
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        knot
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// The TXT values at a name, asked for over UDP; only for sets that fit a packet of 4,096 bytes.
    pub fn txt(&self, name: &str) -> BTreeSet<String> {
        let answer = self.ask(name, RecordType::TXT).unwrap_or_else(|| panic!("no answer; knotd: {}", self.log()));
        assert!(!answer.truncation, "the set is too large for this test");
        let values =
            answer.answers.iter().filter_map(|r| if let RData::TXT(t) = &r.data { Some(&t.txt_data) } else { None });
        values.map(|parts| String::from_utf8(parts.concat()).unwrap()).collect()
    }

    fn ask(&self, name: &str, kind: RecordType) -> Option<Message> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut question = Message::new(4_711, MessageType::Query, OpCode::Query);
        question.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), kind));
        let mut edns = hickory_proto::op::Edns::new();
        edns.set_max_payload(4_096).set_version(0);
        question.set_edns(edns);
        // Connected, so that a server that is not there yet is known at once.
        socket.connect(self.address).ok()?;
        socket.send(&question.to_vec().unwrap()).ok()?;
        let mut buffer = [0; 4_096];
        let length = socket.recv(&mut buffer).ok()?;
        Message::from_vec(&buffer[..length]).ok()
    }
}

impl Drop for Knot {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
