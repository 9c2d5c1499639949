//! Gate checks over TLS: what is served, what replaces it, and what does not.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keyward::shell::config::{GateTls, Listen};
use keyward::shell::http::{BindError, bind, serve};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};

use crate::harness::http::Still;
use crate::http::two_paths;

const PATIENCE: Duration = Duration::from_secs(10);

/// Writes a new certificate with its key; gives back the certificate.
fn renew(dir: &Path) -> String {
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec!["gate.test".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
    std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
    std::fs::write(dir.join("cert.pem"), &cert).unwrap();
    cert
}

fn listen(dir: &Path, address: SocketAddr) -> Listen {
    Listen {
        http: "127.0.0.1:0".parse().unwrap(),
        gate_socket: None,
        gate_tls: Some(GateTls {
            listen: address,
            certificate_file: dir.join("cert.pem"),
            key_file: dir.join("key.pem"),
        }),
        admin_socket: dir.join("admin.sock"),
    }
}

/// One question by a client that trusts this certificate alone.
fn ask(address: SocketAddr, trusted: &str, url: &str) -> Result<String, String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("gate.test").unwrap();
    let mut session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = TcpStream::connect(address).map_err(|e| e.to_string())?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut tls = rustls::Stream::new(&mut session, &mut stream);
    let request = format!("GET {url} HTTP/1.1\r\nHost: gate.test\r\nConnection: close\r\n\r\n");
    tls.write_all(request.as_bytes()).map_err(|e| e.to_string())?;
    let mut answer = String::new();
    tls.read_to_string(&mut answer).map_err(|e| e.to_string())?;
    Ok(answer)
}

fn becomes(what: &str, met: impl Fn() -> bool) {
    let began = Instant::now();
    while !met() {
        assert!(began.elapsed() < PATIENCE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_new_certificate_is_taken_and_a_broken_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let first = renew(dir.path());
    let web = Still::new(two_paths()).web();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listen = listen(dir.path(), address);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let listeners = bind(&listen).await.unwrap();
            serve(Arc::new(web), listeners, async { drop(stopped.await) }).await;
        });
    });
    becomes("the listener", || TcpStream::connect(address).is_ok());
    let status = |url: &str, trusted: &str| ask(address, trusted, url).map(|a| a[..12].to_owned());
    assert_eq!(status("/v1/gate/approve", &first).as_deref(), Ok("HTTP/1.1 200"));
    assert_eq!(status("/v1/gate/broken", &first).as_deref(), Ok("HTTP/1.1 403"));
    for url in ["/v1/status", "/v1/lease/approve?audience=portal", "/v1/permits"] {
        let answer = ask(address, &first, url).unwrap();
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("KW5"), "this door answers gates only: {answer}");
    }
    let second = renew(dir.path());
    becomes("the new certificate", || status("/v1/gate/approve", &second).is_ok());
    assert!(status("/v1/gate/approve", &first).is_err());
    // A key of another certificate, an empty file, none: what works stays.
    let key = std::fs::read(dir.path().join("key.pem")).unwrap();
    for broken in [KeyPair::generate().unwrap().serialize_pem(), String::new(), "-----BEGIN".to_owned()] {
        std::fs::write(dir.path().join("key.pem"), broken).unwrap();
        let began = Instant::now();
        // Longer than it takes to look at the files again.
        becomes("time to look", || began.elapsed() > Duration::from_millis(2_200));
        assert_eq!(status("/v1/gate/approve", &second).as_deref(), Ok("HTTP/1.1 200"));
    }
    std::fs::write(dir.path().join("key.pem"), key).unwrap();
    drop(stop);
    thread.join().unwrap();
}

#[test]
fn a_daemon_does_not_start_with_files_that_do_not_belong_together() {
    let dir = tempfile::tempdir().unwrap();
    let bound = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(bind(&listen(dir.path(), "127.0.0.1:0".parse().unwrap())))
    };
    let why = |says: &str| {
        let error = bound().unwrap_err();
        assert!(matches!(error, BindError::Certificate(_)), "{error}");
        let text = error.to_string();
        assert!(text.contains(says) && text.contains("KW4504"), "{text}");
        assert!(!dir.path().join("admin.sock").exists(), "nothing stays bound");
    };
    why("cert.pem cannot be read");
    renew(dir.path());
    assert!(bound().is_ok());
    std::fs::write(dir.path().join("key.pem"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    why("key.pem");
    std::fs::write(dir.path().join("cert.pem"), "nothing").unwrap();
    why("holds no certificate");
}
