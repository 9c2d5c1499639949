//! The prober: files and servers of every bad kind, and good ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use keyward::adapters::probe::SystemProber;
use keyward::codec::{pem, pkcs12};
use keyward::domain::certificate::Trust;
use keyward::domain::id::CredentialId;
use keyward::domain::inventory::{
    Care, Credential, Endpoint, Format, Install, KeyReuse, Layout, Managed, RenewalRules, Seen, Source, StartTls,
};
use keyward::domain::key::KeyAlgorithm;
use keyward::domain::name::NameSet;
use keyward::ports::Prober;
use rcgen::KeyPair;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::harness::pki::{Ca, Der, nothing, roots};

struct Room {
    dir: tempfile::TempDir,
    root: Ca,
    middle: Ca,
    leaf: Der,
    key: KeyPair,
    prober: SystemProber,
}

fn room() -> Room {
    let root = Ca::root("R", nothing);
    let middle = root.below("I", nothing);
    let (leaf, key) = middle.leaf(&["a.example"], nothing);
    let prober = SystemProber::new(roots(&[&root.der]).into(), None).unwrap();
    Room { dir: tempfile::tempdir().unwrap(), root, middle, leaf, key, prober }
}

impl Room {
    fn chain(&self) -> Vec<Der> {
        vec![self.leaf.clone(), self.middle.der.clone()]
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        fs::write(self.dir.path().join(name), bytes).unwrap();
        self.path(name)
    }

    async fn file(&self, path: &str, password_file: Option<String>) -> Seen {
        self.prober.source(&Source::File { path: path.to_owned(), password_file }).await
    }
}

fn trusted(seen: &Seen) -> bool {
    match seen {
        Seen::Present(chain) => chain.trust == Trust::Anchored,
        other @ (Seen::Missing | Seen::Unreadable(_) | Seen::Unreachable(_) | Seen::Unparseable(_)) => {
            panic!("{other:?}")
        }
    }
}

#[track_caller]
fn unreadable(seen: &Seen, reason: &str) {
    assert!(matches!(seen, Seen::Unreadable(text) if text.contains(reason)), "{reason}: {seen:?}");
}

/// A fault of the way there: it says nothing about what is served.
#[track_caller]
fn unreachable(seen: &Seen, reason: &str) {
    assert!(matches!(seen, Seen::Unreachable(text) if text.contains(reason)), "{reason}: {seen:?}");
}

#[track_caller]
fn unparseable(seen: &Seen, reason: &str) {
    assert!(matches!(seen, Seen::Unparseable(text) if text.contains(reason)), "{reason}: {seen:?}");
}

mod files {
    use super::*;

    #[tokio::test]
    async fn pem_der_and_pkcs12_are_read() {
        let room = room();
        let path = room.write("a.pem", pem::certificates(&room.chain()));
        assert!(trusted(&room.file(&path, None).await));
        let link = room.path("link.pem");
        symlink(&path, &link).unwrap();
        assert!(trusted(&room.file(&link, None).await));
        let path = room.write("a.der", &room.leaf);
        assert!(!trusted(&room.file(&path, None).await), "the intermediate is missing, and that is reported");
        let bundle = pkcs12::build(room.key.serialized_der(), &room.chain(), "secret", "a").unwrap();
        let (path, password) = (room.write("a.p12", &*bundle), room.write("password", "secret\r\n"));
        assert!(trusted(&room.file(&path, Some(password)).await));
        let wrong = room.write("wrong", "hunter2\n");
        let seen = room.file(&path, Some(wrong)).await;
        unparseable(&seen, "password is wrong");
        assert!(!format!("{seen:?}").contains("hunter2"));
        unreadable(&room.file(&path, None).await, "no password file");
        unreadable(&room.file(&path, Some(room.path("none"))).await, "does not exist");
        let path = room.write("b.pem", pem::certificates(&room.chain()));
        assert!(trusted(&room.file(&path, Some(room.path("none"))).await), "PEM needs no password");
    }

    #[tokio::test]
    async fn missing_unreadable_and_unparseable_are_three_things() {
        let room = room();
        assert_eq!(room.file(&room.path("none.pem"), None).await, Seen::Missing);
        let dangling = room.path("dangling");
        symlink("nowhere", &dangling).unwrap();
        assert_eq!(room.file(&dangling, None).await, Seen::Missing);
        let circle = room.path("circle");
        symlink(&circle, &circle).unwrap();
        unreadable(&room.file(&circle, None).await, "circle");
        unreadable(&room.file(&room.path(""), None).await, "a directory");
        unreadable(&room.file("/dev/zero", None).await, "a device");
        unparseable(&room.file(&room.write("empty", ""), None).await, "is empty");
        unparseable(&room.file(&room.write("text", "hello"), None).await, "no certificate");
        let whole = pem::certificates(&room.chain());
        unparseable(&room.file(&room.write("torn", &whole[..whole.len() - 30]), None).await, "torn");
        unparseable(&room.file(&room.write("huge", vec![b'\n'; (1 << 20) + 1]), None).await, "more than 1048576");
        let garbage = format!("{whole}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        unparseable(&room.file(&room.write("garbage", garbage), None).await, "no well-formed");
        assert_eq!(room.prober.source(&Source::Endpoints).await, Seen::Missing);
    }

    #[tokio::test]
    async fn a_pipe_does_not_hang_the_reader() {
        let room = room();
        let pipe = room.path("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let from = Instant::now();
        unreadable(&room.file(&pipe, None).await, "a named pipe");
        assert!(from.elapsed() < Duration::from_secs(1));
    }

    #[tokio::test]
    async fn patterns_match_regular_files_and_links_to_them_sorted() {
        let room = room();
        for name in ["b.pem", "a.pem", ".hidden.pem", "c.txt"] {
            room.write(name, "x");
        }
        fs::create_dir(room.path("d.pem")).unwrap();
        symlink(room.path("a.pem"), room.path("l.pem")).unwrap();
        symlink("nowhere", room.path("n.pem")).unwrap();
        let found = room.prober.matches(&room.path("*.pem")).await.unwrap();
        assert_eq!(found, ["a.pem", "b.pem", "l.pem"].map(|n| room.path(n)));
        assert_eq!(room.prober.matches(&room.path("none*")).await.unwrap(), Vec::<String>::new());
        for (pattern, reason) in [("*.pem", "absolute"), ("/etc/**/x", "**"), ("/etc/[", "malformed")] {
            assert!(room.prober.matches(pattern).await.unwrap_err().0.contains(reason));
        }
    }

    #[tokio::test]
    async fn ten_thousand_matches_are_the_limit() {
        let room = room();
        (0..10_000).for_each(|i| drop(fs::File::create(room.path(&format!("{i}.pem"))).unwrap()));
        assert_eq!(room.prober.matches(&room.path("*.pem")).await.unwrap().len(), 10_000);
        room.write("one-more.pem", "");
        assert!(room.prober.matches(&room.path("*.pem")).await.unwrap_err().0.contains("narrow the pattern"));
    }
}

mod installs {
    use super::*;

    fn managed(installs: Vec<Install>) -> Credential {
        Credential {
            id: CredentialId::parse("a").unwrap(),
            owner: None,
            labels: BTreeMap::new(),
            care: Care::Managed(Box::new(Managed {
                names: NameSet::parse_key("a.example").unwrap(),
                spiffe: None,
                key: KeyAlgorithm::P256,
                key_reuse: KeyReuse::Fresh,
                issuers: vec![],
                profile: None,
                solvers: vec![],
                renewal: RenewalRules::default(),
                installs,
                reload: None,
                windows: vec![],
            })),
            endpoints: vec![],
            purpose: None,
            crls: Vec::new(),
        }
    }

    fn install(layout: Layout, password: Option<String>) -> Credential {
        managed(vec![Install {
            layout,
            owner: None,
            group: None,
            key_mode: 0o600,
            cert_mode: 0o644,
            pkcs12_password_file: password,
        }])
    }

    fn versioned(dir: &Path, formats: &[Format]) -> Layout {
        Layout::Versioned {
            dir: dir.to_str().unwrap().to_owned(),
            formats: formats.iter().copied().collect::<BTreeSet<_>>(),
        }
    }

    #[tokio::test]
    async fn every_layout_of_a_set_is_read_and_its_key_compared() {
        let room = room();
        let dir: PathBuf = room.dir.path().join("set");
        fs::create_dir_all(dir.join("v1")).unwrap();
        let key = room.key.serialize_pem();
        let full = pem::certificates(&room.chain());
        let bundle = pkcs12::build(room.key.serialized_der(), &room.chain(), "pw", "a").unwrap();
        let password = room.write("pw", "pw");
        fs::write(dir.join("v1/fullchain.pem"), &full).unwrap();
        fs::write(dir.join("v1/cert.pem"), pem::certificates(&[&room.leaf])).unwrap();
        fs::write(dir.join("v1/chain.pem"), pem::certificates(&[&room.middle.der])).unwrap();
        fs::write(dir.join("v1/key.pem"), &key).unwrap();
        fs::write(dir.join("v1/combined.pem"), format!("{key}{full}")).unwrap();
        fs::write(dir.join("v1/bundle.p12"), &*bundle).unwrap();
        let sets: [&[Format]; 6] = [
            &[Format::Fullchain, Format::Key],
            &[Format::Cert, Format::Chain, Format::Key],
            &[Format::Combined],
            &[Format::Pkcs12],
            &[Format::Fullchain],
            &[Format::Cert, Format::Chain, Format::Fullchain, Format::Key, Format::Combined, Format::Pkcs12],
        ];
        let look = async |formats: &[Format]| {
            room.prober.stored(&install(versioned(&dir, formats), Some(password.clone()))).await
        };
        assert_eq!(look(sets[0]).await, Seen::Missing, "nothing is current yet");
        symlink("v1", dir.join("current")).unwrap();
        for set in sets {
            assert!(trusted(&look(set).await), "{set:?}");
        }
        unreadable(&look(&[Format::Key]).await, "no file with the certificate");
        let alone = install(versioned(&dir, &[Format::Pkcs12]), None);
        unreadable(&room.prober.stored(&alone).await, "no password file");

        let other = KeyPair::generate().unwrap();
        fs::write(dir.join("v1/key.pem"), other.serialize_pem()).unwrap();
        unparseable(&look(sets[0]).await, "does not belong to the certificate");
        fs::write(dir.join("v1/combined.pem"), format!("{}{full}", other.serialize_pem())).unwrap();
        unparseable(&look(sets[2]).await, "does not belong to the certificate");
        fs::write(dir.join("v1/key.pem"), &key[..60]).unwrap();
        let seen = look(sets[0]).await;
        unparseable(&seen, "torn");
        assert!(!format!("{seen:?}").contains(&key[30..50]), "no key in texts");
        fs::write(dir.join("v1/key.pem"), "").unwrap();
        unparseable(&look(sets[0]).await, "no private key");
        fs::remove_file(dir.join("v1/key.pem")).unwrap();
        unparseable(&look(sets[0]).await, "key.pem beside it is missing");
        fs::remove_file(dir.join("v1/fullchain.pem")).unwrap();
        assert_eq!(look(sets[0]).await, Seen::Missing);
        assert_eq!(room.prober.stored(&managed(vec![])).await, Seen::Missing);
    }

    #[tokio::test]
    async fn the_worst_of_all_places_counts_and_is_named() {
        let room = room();
        let (full, key) = (pem::certificates(&room.chain()), room.key.serialize_pem());
        let set = |name: &str, files: &[(Format, &str)]| {
            let dir = room.dir.path().join(name);
            fs::create_dir_all(dir.join("v1")).unwrap();
            files.iter().for_each(|(format, text)| fs::write(dir.join("v1").join(format.file_name()), text).unwrap());
            symlink("v1", dir.join("current")).unwrap();
            let formats: Vec<Format> = files.iter().map(|(format, _)| *format).collect();
            match install(versioned(&dir, &formats), None).care {
                Care::Managed(managed) => managed.installs[0].clone(),
                Care::Observed(_) => unreachable!(),
            }
        };
        let both: &[(Format, &str)] = &[(Format::Fullchain, &full), (Format::Key, &key)];
        let (one, two) = (set("one", both), set("two", both));
        let middle = pem::certificates(&[&room.middle.der]);
        let parts = [set("key", &[(Format::Key, &key)]), set("chain", &[(Format::Chain, &middle)])];
        let all = managed([vec![one, two], parts.to_vec()].concat());
        let look = async || room.prober.stored(&all).await;
        assert!(trusted(&look().await), "a place for the key or the chain alone needs no certificate");

        let restored = async |path: &Path, spoil: &dyn Fn(&Path)| {
            let good = fs::read(path).unwrap();
            spoil(path);
            let seen = look().await;
            fs::write(path, good).unwrap();
            assert!(trusted(&look().await));
            seen
        };
        let at = |name: &str| room.dir.path().join(name);
        let gone = |path: &Path| fs::remove_file(path).unwrap();
        let garbage = |path: &Path| fs::write(path, "garbage").unwrap();
        let seen = restored(&at("two/v1/fullchain.pem"), &gone).await;
        unparseable(&seen, &format!("nothing is installed at {}", at("two").display()));
        unparseable(&restored(&at("two/v1/fullchain.pem"), &garbage).await, "two/current/fullchain.pem");
        unparseable(&restored(&at("two/v1/key.pem"), &gone).await, "two/current/key.pem");
        unparseable(&restored(&at("key/v1/key.pem"), &garbage).await, "key/current/key.pem");
        let other = KeyPair::generate().unwrap();
        let swap = |path: &Path| fs::write(path, other.serialize_pem()).unwrap();
        unparseable(&restored(&at("key/v1/key.pem"), &swap).await, "does not belong");
        unparseable(&restored(&at("chain/v1/chain.pem"), &gone).await, &at("chain").display().to_string());
        let alone = |path: &Path| fs::write(path, pem::certificates(&[&room.leaf])).unwrap();
        assert!(!trusted(&restored(&at("two/v1/fullchain.pem"), &alone).await), "an incomplete chain in one place");
        // Whole by itself, and another certificate than in the first place.
        let renewed = super::room();
        fs::write(at("two/v1/key.pem"), renewed.key.serialize_pem()).unwrap();
        fs::write(at("two/v1/fullchain.pem"), pem::certificates(&renewed.chain())).unwrap();
        unparseable(&look().await, &format!("{} holds serial", at("two").display()));
        fs::write(at("two/v1/key.pem"), &key).unwrap();
        fs::write(at("two/v1/fullchain.pem"), &full).unwrap();
        // What cannot be mended by installing again does not hide what can.
        fs::remove_file(at("one/v1/fullchain.pem")).unwrap();
        fs::create_dir(at("one/v1/fullchain.pem")).unwrap();
        unreadable(&look().await, "one/current/fullchain.pem");
        fs::remove_file(at("two/v1/fullchain.pem")).unwrap();
        unparseable(&look().await, &at("two").display().to_string());
        fs::remove_dir(at("one/v1/fullchain.pem")).unwrap();
        assert_eq!(look().await, Seen::Missing);
    }

    #[tokio::test]
    async fn plain_files_and_old_forms_of_keys_are_read() {
        let room = room();
        let full = room.write("f.pem", pem::certificates(&room.chain()));
        let key = room.write("k.pem", room.key.serialize_pem());
        let files = BTreeMap::from([(Format::Fullchain, full), (Format::Key, key.clone())]);
        let credential = install(Layout::Plain { files }, None);
        assert!(trusted(&room.prober.stored(&credential).await));
        let convert = |args: &str| crate::harness::pki::openssl(room.dir.path(), &args.split(' ').collect::<Vec<_>>());
        convert("pkey -in k.pem -traditional -out t.pem");
        assert!(fs::read_to_string(room.path("t.pem")).unwrap().contains("BEGIN EC PRIVATE KEY"));
        fs::copy(room.path("t.pem"), &key).unwrap();
        assert!(trusted(&room.prober.stored(&credential).await));
        convert("pkey -in t.pem -aes256 -passout pass:x -out e.pem");
        fs::copy(room.path("e.pem"), &key).unwrap();
        assert!(trusted(&room.prober.stored(&credential).await), "an encrypted key cannot be compared");
    }
}

mod servers {
    use super::*;

    fn config(room: &Room, chain: Vec<Der>, versions: &[&'static rustls::SupportedProtocolVersion]) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(room.key.serialize_der()));
        ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap()
    }

    async fn listen() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    /// Serves TLS after `greet`, for as long as the test runs.
    async fn serve<F, G>(config: ServerConfig, greet: F) -> u16
    where
        F: Fn(TcpStream) -> G + Send + Sync + 'static,
        G: Future<Output = TcpStream> + Send + 'static,
    {
        let (listener, port) = listen().await;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let greet = Arc::new(greet);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, greet) = (acceptor.clone(), Arc::clone(&greet));
                tokio::spawn(async move {
                    let tcp = greet(tcp).await;
                    if let Ok(mut tls) = acceptor.accept(tcp).await {
                        drop(tls.read_to_end(&mut Vec::new()).await);
                    }
                });
            }
        });
        port
    }

    async fn plain(tcp: TcpStream) -> TcpStream {
        tcp
    }

    /// Does something else with every connection.
    async fn misbehave<F, G>(act: F) -> u16
    where
        F: Fn(TcpStream) -> G + Send + Sync + 'static,
        G: Future<Output = ()> + Send + 'static,
    {
        let (listener, port) = listen().await;
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(act(tcp));
            }
        });
        port
    }

    fn at(port: u16, starttls: StartTls) -> Endpoint {
        Endpoint { host: "127.0.0.1".to_owned(), port, sni: Some("a.example".to_owned()), starttls }
    }

    #[tokio::test]
    async fn a_chain_is_seen_over_both_versions_with_and_without_a_server_name() {
        let room = room();
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let port = serve(config(&room, room.chain(), &[version]), plain).await;
            let mut endpoint = at(port, StartTls::None);
            assert!(trusted(&room.prober.served(&endpoint).await));
            endpoint.sni = None;
            let seen = room.prober.served(&endpoint).await;
            assert!(trusted(&seen), "again, and never resumed");
            assert_eq!(seen.chain().unwrap().leaf.names.key().as_ref(), "a.example");
            endpoint.host = "localhost".to_owned();
            assert!(trusted(&room.prober.served(&endpoint).await), "by name, over whichever address answers");
        }
    }

    #[tokio::test]
    async fn every_kind_of_key_is_seen() {
        let mut room = room();
        for (algorithm, name) in KeyAlgorithm::ALL {
            room.key = KeyPair::try_from(keyward::codec::keys::generate(algorithm).unwrap().to_vec()).unwrap();
            room.leaf = room.middle.sign(&crate::harness::pki::leaf_params(&["a.example"]), &room.key);
            for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
                let port = serve(config(&room, room.chain(), &[version]), plain).await;
                assert!(trusted(&room.prober.served(&at(port, StartTls::None)).await), "{name}");
            }
        }
    }

    #[tokio::test]
    async fn a_missing_intermediate_is_present_and_untrusted() {
        let room = room();
        let port = serve(config(&room, vec![room.leaf.clone()], rustls::ALL_VERSIONS), plain).await;
        let seen = room.prober.served(&at(port, StartTls::None)).await;
        assert!(!trusted(&seen));
        let Trust::Untrusted(why) = &seen.chain().unwrap().trust else { panic!("trusted") };
        assert!(why.contains("intermediate certificate is missing"), "{why}");
    }

    #[tokio::test]
    async fn a_server_that_wants_a_certificate_from_us_still_shows_its_own() {
        let room = room();
        let mut store = rustls::RootCertStore::empty();
        store.add(room.root.der.clone()).unwrap();
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(store.clone()), Arc::clone(&provider)).build();
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(room.key.serialize_der()));
            let config = ServerConfig::builder_with_provider(provider)
                .with_protocol_versions(&[version])
                .unwrap()
                .with_client_cert_verifier(verifier.unwrap())
                .with_single_cert(room.chain(), key)
                .unwrap();
            let port = serve(config, plain).await;
            assert!(trusted(&room.prober.served(&at(port, StartTls::None)).await), "{version:?}");
        }
    }

    #[tokio::test]
    async fn a_server_that_does_not_hold_the_key_is_not_believed() {
        let room = room();
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let provider = rustls::crypto::aws_lc_rs::default_provider();
            let other = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(KeyPair::generate().unwrap().serialize_der()));
            let key = provider.key_provider.load_private_key(other).unwrap();
            let certified = Arc::new(rustls::sign::CertifiedKey::new(room.chain(), key));
            let config = ServerConfig::builder_with_provider(Arc::new(provider))
                .with_protocol_versions(&[version])
                .unwrap()
                .with_no_client_auth()
                .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
            let port = serve(config, plain).await;
            unreadable(&room.prober.served(&at(port, StartTls::None)).await, "does not prove that it holds the key");
        }
    }

    #[tokio::test]
    async fn a_presented_certificate_that_does_not_parse_is_unparseable() {
        let room = room();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(room.key.serialize_der()));
        let key = provider.key_provider.load_private_key(key).unwrap();
        let garbage = vec![Der::from(vec![0x30, 3, 1, 2, 3])];
        let certified = Arc::new(rustls::sign::CertifiedKey::new(garbage, key));
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
        let port = serve(config, plain).await;
        unparseable(&room.prober.served(&at(port, StartTls::None)).await, "no well-formed X.509");
    }

    #[tokio::test]
    async fn what_does_not_answer_with_tls_is_unreadable_and_bounded() {
        let room = room();
        let (free, port) = listen().await;
        drop(free);
        unreachable(&room.prober.served(&at(port, StartTls::None)).await, "connection refused");
        let closes = misbehave(|tcp| async move { drop(tcp) }).await;
        unreachable(&room.prober.served(&at(closes, StartTls::None)).await, "connection");
        let garbage = misbehave(|mut tcp| async move {
            drop(tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await);
            drop(tcp.read_to_end(&mut Vec::new()).await);
        })
        .await;
        unreadable(&room.prober.served(&at(garbage, StartTls::None)).await, "not TLS");
        let mut nowhere = at(1, StartTls::None);
        nowhere.host = "does-not-exist.invalid".to_owned();
        unreachable(&room.prober.served(&nowhere).await, "cannot resolve");
        nowhere.host = "127.0.0.1".to_owned();
        nowhere.sni = Some("not a name".to_owned());
        unreadable(&room.prober.served(&nowhere).await, "cannot be sent as a server name");
        let hangs = misbehave(|mut tcp| async move { drop(tcp.read_to_end(&mut Vec::new()).await) }).await;
        let from = Instant::now();
        let (plain, smtp) = (at(hangs, StartTls::None), at(hangs, StartTls::Smtp));
        let (a, b) = tokio::join!(room.prober.served(&plain), room.prober.served(&smtp));
        unreachable(&a, "within 5 s");
        unreachable(&b, "within 5 s");
        assert!(from.elapsed() < Duration::from_secs(7));
    }

    #[tokio::test]
    async fn a_server_without_a_certificate_for_the_name_is_missing() {
        let room = room();
        // The alert unrecognized_name (RFC 6066 section 3), fatal, in a record of its own.
        let port = misbehave(|mut tcp| async move {
            let mut hello = [0_u8; 64];
            drop(tcp.read(&mut hello).await);
            drop(tcp.write_all(&[21, 3, 3, 0, 2, 2, 112]).await);
            drop(tcp.read_to_end(&mut Vec::new()).await);
        })
        .await;
        assert_eq!(room.prober.served(&at(port, StartTls::None)).await, Seen::Missing);
    }

    /// A server that says the lines and expects what the client answers, before TLS.
    async fn script(tcp: TcpStream, steps: Steps) -> TcpStream {
        let mut stream = BufReader::new(tcp);
        for (say, expect) in steps {
            drop(stream.write_all(say.as_bytes()).await);
            let mut line = String::new();
            if !expect.is_empty() && stream.read_line(&mut line).await.is_ok() {
                assert_eq!(line.trim_end(), *expect);
            }
        }
        stream.into_inner()
    }

    /// What the server says, and what the client must answer.
    type Steps = &'static [(&'static str, &'static str)];

    const SMTP: Steps = &[
        ("220-mx.example ESMTP\r\n220 welcome\r\n", "EHLO [127.0.0.1]"),
        ("250-mx.example\r\n250-SIZE 1000\r\n250 starttls\r\n", "STARTTLS"),
        ("220 go ahead\r\n", ""),
    ];
    const IMAP: Steps =
        &[("* OK [CAPABILITY IMAP4rev1] ready\r\n", "k1 STARTTLS"), ("* note\r\nk1 OK begin TLS\r\n", "")];

    #[tokio::test]
    async fn starttls_is_spoken_for_smtp_imap_and_postgresql() {
        let room = room();
        let tls = || config(&room, room.chain(), rustls::ALL_VERSIONS);
        let port = serve(tls(), |tcp| script(tcp, SMTP)).await;
        assert!(trusted(&room.prober.served(&at(port, StartTls::Smtp)).await));
        let port = serve(tls(), |tcp| script(tcp, IMAP)).await;
        assert!(trusted(&room.prober.served(&at(port, StartTls::Imap)).await));
        let port = serve(tls(), |mut tcp| async move {
            let mut request = [0_u8; 8];
            drop(tcp.read_exact(&mut request).await);
            assert_eq!(request, [0, 0, 0, 8, 4, 210, 22, 47]);
            drop(tcp.write_all(b"S").await);
            tcp
        })
        .await;
        assert!(trusted(&room.prober.served(&at(port, StartTls::Postgres)).await));
    }

    #[tokio::test]
    async fn what_stands_before_tls_is_checked_line_by_line() {
        let room = room();
        let cases: [(StartTls, Steps, &str); 9] = [
            (StartTls::Smtp, &[("554 no\r\n", "")], "expected 220"),
            (StartTls::Smtp, &[("220 hi\r\n", "EHLO [127.0.0.1]"), ("250 SIZE\r\n", "")], "does not offer STARTTLS"),
            (
                StartTls::Smtp,
                &[("220 x\r\n", "EHLO [127.0.0.1]"), ("250 STARTTLS\r\n", "STARTTLS"), ("454 later\r\n", "")],
                "expected 220",
            ),
            (
                StartTls::Smtp,
                &[("220 x\r\n", "EHLO [127.0.0.1]"), ("250 STARTTLS\r\n", "STARTTLS"), ("220 go\r\n250 evil\r\n", "")],
                "may have added it",
            ),
            (StartTls::Imap, &[("* PREAUTH hi\r\n", "")], "expected \"* OK\""),
            (StartTls::Imap, &[("* OK\r\n", "k1 STARTTLS"), ("k1 NO\r\n", "")], "expected OK"),
            (StartTls::Imap, &[("* OK\r\n", "k1 STARTTLS"), ("k1 OK\r\n* injected\r\n", "")], "may have added it"),
            (StartTls::Postgres, &[("N", "")], "does not offer TLS"),
            (StartTls::Postgres, &[("E", "")], "expected 'S'"),
        ];
        for (protocol, steps, reason) in cases {
            let port = misbehave(move |tcp| async move {
                let mut tcp = script(tcp, steps).await;
                drop(tcp.read_to_end(&mut Vec::new()).await);
            })
            .await;
            unreadable(&room.prober.served(&at(port, protocol)).await, reason);
        }
        let endless = misbehave(|mut tcp| async move { while tcp.write_all(&[b'2'; 1_000]).await.is_ok() {} }).await;
        unreadable(&room.prober.served(&at(endless, StartTls::Smtp)).await, "more than 8192 bytes");
        let mute = misbehave(|tcp| async move { drop(tcp) }).await;
        unreadable(&room.prober.served(&at(mute, StartTls::Imap)).await, "before TLS");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_hundred_endpoints_at_once_are_all_seen() {
        let room = room();
        let mut endpoints = Vec::new();
        for _ in 0..100 {
            endpoints.push(at(serve(config(&room, room.chain(), rustls::ALL_VERSIONS), plain).await, StartTls::None));
        }
        let mut times = Vec::new();
        for _ in 0..5 {
            let from = Instant::now();
            let all = futures_util::future::join_all(endpoints.iter().map(|e| room.prober.served(e))).await;
            times.push(from.elapsed());
            assert!(all.iter().all(trusted));
        }
        println!("100 endpoints: {times:?}");
        assert!(times.iter().min().unwrap() < &Duration::from_secs(2), "{times:?}");
    }
}
