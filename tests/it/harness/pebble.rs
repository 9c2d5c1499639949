//! Pebble, the ACME test server of Let's Encrypt, with its challenge server; both end with the value.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keyward::adapters::acme::AcmeIssuerConfig;
use keyward::domain::id::IssuerId;

/// What Pebble is asked to do.
#[derive(Clone, Copy, Default)]
pub struct Knobs {
    /// Percent of good nonces that are refused.
    pub nonce_reject: u8,
    /// Accounts need an external binding: key id `kid-1`, [`EAB_HMAC`].
    pub eab: bool,
    /// Orders on each page of an account's list; 3 if zero.
    pub orders_per_page: u8,
    /// Percent of valid authorizations that are used again.
    pub authz_reuse: u8,
    /// The port of http-01 is left to the test: [`Pebble::http`].
    pub own_http: bool,
    /// Pebble's default: each validation sleeps up to five seconds.
    pub sleeps: bool,
}

/// The key of `kid-1`, from Pebble's own sample.
pub const EAB_HMAC: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

/// A child that is killed and waited for when dropped.
struct Guard(Child);
impl Drop for Guard {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

pub struct Pebble {
    dir: tempfile::TempDir,
    knobs: Knobs,
    ports: Ports,
    server: Option<Guard>,
    _challenges: Guard,
    root: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Ports {
    acme: u16,
    management: u16,
    http: u16,
    dns: u16,
    challenges: u16,
}

impl Pebble {
    /// Starts both and waits until they answer.
    pub fn start(knobs: Knobs) -> Self {
        // Ports can only be picked, not reserved: another test may take one in between, so try again with others.
        let mut last = String::new();
        for _ in 0..5 {
            match Self::try_start(knobs) {
                Ok(pebble) => return pebble,
                Err(why) => last = why,
            }
        }
        panic!("pebble did not start: {last}; run tests/run, which installs what the tests need");
    }

    fn try_start(knobs: Knobs) -> Result<Self, String> {
        let dir = tempfile::tempdir().unwrap();
        let [acme, management, http, tls, challenges] = free_tcp();
        let ports = Ports { acme, management, http, challenges, dns: free_dns() };
        let root = certificate(dir.path());
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{acme}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": dir.path().join("cert.pem"),
            "privateKey": dir.path().join("key.pem"),
            "httpPort": http,
            "tlsPort": tls,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": knobs.eab,
            "externalAccountMACKeys": { "kid-1": EAB_HMAC },
        }});
        fs::write(dir.path().join("pebble.json"), config.to_string()).unwrap();
        let challenges = spawn(
            Command::new("pebble-challtestsrv")
                .args(["-dns01", &format!("127.0.0.1:{}", ports.dns), "-http01"])
                .arg(if knobs.own_http { String::new() } else { format!("127.0.0.1:{http}") })
                .args(["-https01", "", "-tlsalpn01", "", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""])
                .args(["-management", &format!("127.0.0.1:{challenges}")]),
            dir.path().join("challtestsrv.log"),
        )?;
        let mut pebble = Self { dir, knobs, ports, server: None, _challenges: challenges, root };
        pebble.run()?;
        wait_for(ports.challenges, &mut pebble._challenges).map_err(|e| format!("pebble-challtestsrv: {e}"))?;
        if knobs.own_http {
            return Ok(pebble);
        }
        wait_for(ports.http, &mut pebble._challenges).map_err(|e| format!("pebble-challtestsrv: {e}"))?;
        Ok(pebble)
    }

    fn run(&mut self) -> Result<(), String> {
        let log = self.dir.path().join("pebble.log");
        let mut server = spawn(
            Command::new("pebble")
                .args(["-config".as_ref(), self.dir.path().join("pebble.json").as_os_str()])
                .args(["-dnsserver", &format!("127.0.0.1:{}", self.ports.dns)])
                .env("PEBBLE_VA_NOSLEEP", if self.knobs.sleeps { "0" } else { "1" })
                .env("PEBBLE_WFE_NONCEREJECT", self.knobs.nonce_reject.to_string())
                .env("PEBBLE_WFE_ORDERS_PER_PAGE", self.knobs.orders_per_page.max(3).to_string())
                .env("PEBBLE_AUTHZREUSE", self.knobs.authz_reuse.to_string()),
            log.clone(),
        )?;
        wait_for(self.ports.acme, &mut server)
            .map_err(|e| format!("pebble: {e}: {}", fs::read_to_string(log).unwrap_or_default()))?;
        self.server = Some(server);
        Ok(())
    }

    /// Forgets every account and order, on the same ports.
    pub fn restart(&mut self) {
        self.server = None;
        self.run().unwrap();
    }

    pub fn directory(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.ports.acme)
    }

    /// Where Pebble looks for http-01.
    pub fn http(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports.http))
    }

    /// What to trust: the root of its listener, and that of what it issues, in PEM.
    pub fn roots(&self) -> String {
        let url = format!("https://127.0.0.1:{}/roots/0", self.ports.management);
        // Its own listener's certificate has the same subject as what signed it, which openssl does not take.
        let output = Command::new("curl").args(["-sSfk", &url]).output();
        let output = output.expect("curl is missing: run tests/run");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "pebble's root cannot be fetched: {said}");
        format!("{}\n{}", String::from_utf8_lossy(&self.root), String::from_utf8_lossy(&output.stdout))
    }

    /// An issuer that trusts this server and agrees to its terms.
    pub fn issuer(&self, id: &str) -> AcmeIssuerConfig {
        let mut config = AcmeIssuerConfig::new(IssuerId::parse(id).unwrap(), self.directory());
        config.extra_roots = vec![self.root.clone()];
        config.terms_agreed = true;
        config.contacts = vec!["mailto:tls@example.com".to_owned()];
        config.requests_per_second = 1_000;
        config
    }

    /// Puts a TXT record at `_acme-challenge.` of a name.
    pub fn set_txt(&self, name: &str, value: &str) {
        let body = serde_json::json!({ "host": format!("_acme-challenge.{name}."), "value": value });
        self.manage("/set-txt", &body);
    }

    /// Serves a response for a token.
    pub fn add_http01(&self, token: &str, content: &str) {
        self.manage("/add-http01", &serde_json::json!({ "token": token, "content": content }));
    }

    fn manage(&self, path: &str, body: &serde_json::Value) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.ports.challenges)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let body = body.to_string();
        write!(stream, "POST {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(" 200 "), "pebble-challtestsrv answered {path} with {answer}");
    }
}

fn spawn(command: &mut Command, log: PathBuf) -> Result<Guard, String> {
    let out = File::create(log).unwrap();
    let err = out.try_clone().unwrap();
    let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
    child.map(Guard).map_err(|e| format!("{} cannot be run: {e}", command.get_program().display()))
}

fn wait_for(port: u16, child: &mut Guard) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(status) = child.0.try_wait().unwrap() {
            return Err(format!("ended with {status}"));
        }
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("nothing listens on port {port} after 20 s"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ports that are free now, all different.
fn free_tcp<const N: usize>() -> [u16; N] {
    let held: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|l| l.local_addr().unwrap().port())
}

/// A port that is free for UDP and TCP.
fn free_dns() -> u16 {
    for _ in 0..50 {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free for both UDP and TCP");
}

/// Makes the listener's certificate for 127.0.0.1; returns it as the root to trust.
fn certificate(dir: &std::path::Path) -> Vec<u8> {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    ca.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let root = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    fs::write(dir.join("cert.pem"), leaf.signed_by(&key, &issuer).unwrap().pem()).unwrap();
    fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
    root.into_bytes()
}
