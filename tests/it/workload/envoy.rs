//! A real Envoy that takes certificate, key, trust and revocation lists over SDS.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::{DB, House, WEB, workload};
use crate::harness::proxies::envoy_with;
use crate::harness::witness::free_address;

const PATIENCE: Duration = Duration::from_secs(30);

struct Envoy {
    child: Child,
    address: SocketAddr,
    log: std::path::PathBuf,
}

impl Envoy {
    /// Serves `hello` to whoever has a certificate of the trust domain.
    fn start(house: &House, name: &str) -> Self {
        let (dir, address) = (house.mesh.dir.path(), free_address());
        let sds = "{ resource_api_version: V3, api_config_source: { api_type: GRPC, transport_api_version: V3, \
                   grpc_services: [{ envoy_grpc: { cluster_name: keyward } }] } }";
        let text = format!(
            r#"
node: {{ id: test, cluster: test }}
static_resources:
  listeners:
  - address: {{ socket_address: {{ address: "{ip}", port_value: {port} }} }}
    filter_chains:
    - transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          require_client_certificate: true
          common_tls_context:
            tls_certificate_sds_secret_configs:
            - {{ name: "{name}", sds_config: {sds} }}
            combined_validation_context:
              default_validation_context:
                match_typed_subject_alt_names: [{{ san_type: URI, matcher: {{ exact: "{DB}" }} }}]
              validation_context_sds_secret_config: {{ name: "spiffe://mesh.example", sds_config: {sds} }}
      filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: test
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{ match: {{ prefix: "/" }}, direct_response: {{ status: 200, body: {{ inline_string: "hello" }} }} }}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
  clusters:
  - name: keyward
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{ http2_protocol_options: {{}} }}
    load_assignment:
      cluster_name: keyward
      endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ pipe: {{ path: "{socket}" }} }} }} }}] }}]
"#,
            ip = address.ip(),
            port = address.port(),
            socket = house.socket().display(),
        );
        let file = dir.join("envoy.yaml");
        fs::write(&file, text).unwrap();
        let log = dir.join("envoy.log");
        let out = fs::File::create(&log).unwrap();
        let mut command = envoy_with(&file);
        let child = command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
        Self { child, address, log }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn wait<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(began.elapsed() < PATIENCE, "{what} did not come: {}", self.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A certificate of the CA, from the command line, and what it connects with: nothing is resumed.
fn client(house: &House, id: &str, place: &str) -> (String, Arc<ClientConfig>) {
    let dir = house.mesh.dir.path().join(place);
    fs::create_dir(&dir).unwrap();
    let out = format!("@/{place}");
    house.mesh.ok(&["ca", "issue", "mesh", "--profile", "workload", "--spiffe", id, "--out", &out]);
    let serial = crate::harness::pki::openssl(&dir, &["x509", "-in", "cert.pem", "-noout", "-serial"]);
    (serial.trim().trim_start_matches("serial=").to_lowercase(), config(&dir))
}

fn config(dir: &Path) -> Arc<ClientConfig> {
    let all =
        |name: &str| CertificateDer::pem_file_iter(dir.join(name)).unwrap().map(Result::unwrap).collect::<Vec<_>>();
    let mut roots = RootCertStore::empty();
    all("ca.pem").into_iter().for_each(|root| roots.add(root).unwrap());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.join("key.pem")).unwrap();
    let mut config = builder.with_root_certificates(roots).with_client_auth_cert(all("cert.pem"), key).unwrap();
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

/// One request on a connection of its own; gives the serial number that was served.
fn ask(address: SocketAddr, config: &Arc<ClientConfig>) -> Result<String, String> {
    let failed = |e: std::io::Error| e.to_string();
    let mut tcp = TcpStream::connect(address).map_err(failed)?;
    tcp.set_read_timeout(Some(Duration::from_secs(10))).map_err(failed)?;
    let name = ServerName::try_from("web.svc.example").unwrap();
    let mut connection = ClientConnection::new(config.clone(), name).map_err(|e| e.to_string())?;
    let mut tls = rustls::Stream::new(&mut connection, &mut tcp);
    tls.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").map_err(failed)?;
    let (mut answer, mut some) = (Vec::new(), [0; 4_096]);
    while !answer.ends_with(b"hello") {
        match tls.read(&mut some).map_err(failed)? {
            0 => break,
            read => answer.extend_from_slice(&some[..read]),
        }
    }
    if !answer.ends_with(b"hello") {
        return Err(String::from_utf8_lossy(&answer).into_owned());
    }
    let leaf = connection.peer_certificates().unwrap()[0].to_vec();
    let (_, parsed) = x509_parser::parse_x509_certificate(&leaf).unwrap();
    Ok(parsed.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[test]
fn an_envoy_serves_with_what_it_is_given_and_is_renewed_under_load_without_one_failure() {
    let house = House::new(&workload(WEB, &["unix:uid:0"], "names = [\"web.svc.example\"]"));
    let envoy = Envoy::start(&house, WEB);
    let (_, good) = client(&house, DB, "good");
    let (bad_serial, bad) = client(&house, DB, "bad");
    let (_, stranger) = client(&house, "spiffe://mesh.example/ns/prod/sa/x", "stranger");
    let first = envoy.wait("an Envoy that serves", || ask(envoy.address, &good).ok());
    ask(envoy.address, &bad).unwrap();
    assert!(ask(envoy.address, &stranger).is_err(), "another identity is not let in");
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let load: Vec<_> = (0..2)
        .map(|_| {
            let (stop, asked, good, address) = (stop.clone(), asked.clone(), good.clone(), envoy.address);
            std::thread::spawn(move || {
                let mut failures = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    failures.extend(ask(address, &good).err());
                    asked.fetch_add(1, Ordering::SeqCst);
                }
                failures
            })
        })
        .collect();
    // Superseded three times: each is made anew and pushed.
    let mut served = first;
    for _ in 0..3 {
        house.mesh.ok(&["ca", "revoke", served.trim_start_matches("00"), "--reason", "superseded"]);
        let before = served.clone();
        served =
            envoy.wait("another certificate", || ask(envoy.address, &good).ok().filter(|serial| *serial != before));
    }
    stop.store(true, Ordering::SeqCst);
    let failures: Vec<String> = load.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let asked = asked.load(Ordering::SeqCst);
    assert!(failures.is_empty() && asked > 20, "{} of {asked} failed: {failures:?}\n{}", failures.len(), envoy.said());
    // The lists come with the trust: a revoked client is refused by Envoy too, and the other is not.
    house.mesh.ok(&["ca", "revoke", &bad_serial, "--reason", "key-compromise"]);
    envoy.wait("the refusal of a revoked client", || ask(envoy.address, &bad).err());
    ask(envoy.address, &good).unwrap();
    assert!(house.log("workload.nack").is_empty());
}

#[test]
fn an_envoy_that_asks_for_what_is_not_its_own_gets_nothing() {
    let own = workload(WEB, &["unix:uid:0"], "names = [\"web.svc.example\"]");
    let house = House::new(&(own + &workload(DB, &["unix:uid:1"], "")));
    let _envoy = Envoy::start(&house, DB);
    let told = house
        .mesh
        .wait("the refusal", |_| house.log("workload.refuse").into_iter().find(|entry| entry["code"] == "KW4859"));
    assert!(told["text"].as_str().unwrap().contains(WEB), "it says what it may have: {told}");
    let given = house.log("workload.give");
    assert!(given.iter().all(|entry| !entry.to_string().contains(DB)), "{given:?}");
}

#[test]
fn a_refused_secret_is_told_and_not_sent_again() {
    let house = House::new(&workload(WEB, &["unix:uid:0"], ""));
    house.fetch(&["fetch"]);
    let answer = house.ask(&["nack", WEB]);
    assert_eq!((&answer["answers"], &answer["fetched"]), (&1.into(), &true.into()), "{answer}");
    let told = house.mesh.wait("the refusal", |_| house.log("workload.nack").into_iter().next());
    assert!(told["code"] == "KW4853" && told["text"].as_str().unwrap().contains("no such curve"), "{told}");
    // What to trust holds no key, so nothing is written about a key for it.
    let before = house.log("workload.give").len();
    assert_eq!(house.ask(&["nack", "spiffe://mesh.example"])["answers"], 1);
    assert_eq!(house.log("workload.give").len(), before);
}
