//! Pairs of certificate and key, a key store that holds them, and a deployer on top.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keyward::adapters::deploy::FileDeployer;
use keyward::domain::certificate::{Certificate, Chain, Trust};
use keyward::domain::id::{AttemptId, CredentialId, IssuerId, Ulid};
use keyward::domain::inventory::{Environment, Format, Install, KeyReuse, Layout};
use keyward::domain::key::{Digest, KeyAlgorithm};
use keyward::domain::name::NameSet;
use keyward::domain::time::{Boottime, Timestamp, Validity};
use keyward::ports::{Accepted, Clock, Doing, Expected, HostError, KeyStore, PrivateKey};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// A leaf with its intermediate as PEM, and its key as PKCS#8.
#[derive(Clone)]
pub struct Pair {
    pub chain: String,
    pub key: Vec<u8>,
}

/// `count` pairs under one intermediate.
pub fn pairs(count: usize) -> Vec<Pair> {
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "test intermediate");
    let ca = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
    (0..count)
        .map(|n| {
            let key = rcgen::KeyPair::generate().unwrap();
            let params = rcgen::CertificateParams::new(vec![format!("host-{n}.example")]).unwrap();
            let leaf = params.signed_by(&key, &ca).unwrap();
            Pair { chain: format!("{}{}", leaf.pem(), ca.as_ref().pem()), key: key.serialize_der() }
        })
        .collect()
}

pub fn slot(n: u32) -> AttemptId {
    AttemptId(Ulid::new(Timestamp::from_unix(1_800_000_000 + i64::from(n)), [7; 10]))
}

pub fn ders(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().unwrap()
}

/// The slots' pairs; slot `n` is `slot(n)`.
pub struct Keys(pub BTreeMap<AttemptId, Pair>);

impl Keys {
    pub fn new(pairs: impl IntoIterator<Item = Pair>) -> Arc<Self> {
        Arc::new(Self((0..).map(slot).zip(pairs).collect()))
    }

    fn pair(&self, slot: AttemptId) -> Result<&Pair, HostError> {
        self.0.get(&slot).ok_or_else(|| HostError(format!("no slot {slot}")))
    }
}

fn not_here<T: Send + 'static>() -> Doing<'static, Result<T, HostError>> {
    Box::pin(async { Err(HostError("these keys are only for reading".to_owned())) })
}

impl KeyStore for Keys {
    fn prepare<'a>(
        &'a self,
        _: AttemptId,
        _: KeyAlgorithm,
        _: &'a NameSet,
        _: KeyReuse,
        _: Option<AttemptId>,
    ) -> Doing<'a, Result<Vec<u8>, HostError>> {
        not_here()
    }
    fn accept<'a>(
        &'a self,
        _: AttemptId,
        _: &'a IssuerId,
        _: &'a str,
        _: Expected<'a>,
        _: Timestamp,
    ) -> Doing<'a, Result<Accepted, HostError>> {
        not_here()
    }
    fn chain(&self, slot: AttemptId) -> Doing<'_, Result<(Arc<Chain>, String), HostError>> {
        Box::pin(async move {
            let pem = self.pair(slot)?.chain.clone();
            let facts = |der: &CertificateDer<'_>| {
                Arc::new(Certificate {
                    fingerprint: Digest::of(der),
                    spki: Digest([0; 32]),
                    serial: Arc::from(""),
                    subject: String::new(),
                    issuer: String::new(),
                    names: NameSet::default(),
                    validity: Validity { not_before: Timestamp::MIN, not_after: Timestamp::MAX },
                    cert_id: None,
                    may_issue: false,
                    purposes: keyward::domain::certificate::Purposes::ALL,
                    listing: keyward::domain::certificate::Listing::default(),
                    faults: keyward::domain::certificate::Faults::default(),
                })
            };
            let all: Vec<_> = ders(&pem).iter().map(facts).collect();
            let chain = Chain { leaf: all[0].clone(), above: all[1..].to_vec(), trust: Trust::Anchored };
            Ok((Arc::new(chain), pem))
        })
    }
    fn private_key(&self, slot: AttemptId) -> Doing<'_, Result<PrivateKey, HostError>> {
        Box::pin(async move { Ok(PrivateKey(self.pair(slot)?.key.clone().into())) })
    }
    fn destroy(&self, _: AttemptId) -> Doing<'_, Result<(), HostError>> {
        not_here()
    }
    fn slots(&self) -> Doing<'_, Result<Vec<AttemptId>, HostError>> {
        Box::pin(async { Ok(self.0.keys().copied().collect()) })
    }
}

struct RealTime(Instant);

impl Clock for RealTime {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix(1_800_000_000)
    }
    fn boottime(&self) -> Boottime {
        Boottime::from_boot(self.0.elapsed())
    }
    fn boot_id(&self) -> Arc<str> {
        Arc::from("test")
    }
    fn sleep(&self, span: Duration) -> Doing<'_, ()> {
        Box::pin(tokio::time::sleep(span))
    }
}

pub fn credential() -> CredentialId {
    CredentialId::parse("portal").unwrap()
}

pub fn production(keys: &Arc<Keys>) -> FileDeployer {
    FileDeployer::new(keys.clone(), None, Environment::Production, Arc::new(RealTime(Instant::now())))
}

pub fn staging(keys: &Arc<Keys>, sandbox: Option<&Path>) -> FileDeployer {
    let sandbox = sandbox.map(Path::to_path_buf);
    FileDeployer::new(keys.clone(), sandbox, Environment::Staging, Arc::new(RealTime(Instant::now())))
}

fn install(layout: Layout) -> Install {
    Install { layout, owner: None, group: None, key_mode: 0o600, cert_mode: 0o644, pkcs12_password_file: None }
}

pub fn versioned(dir: &Path, formats: &[Format]) -> Install {
    install(Layout::Versioned { dir: text(dir), formats: formats.iter().copied().collect() })
}

/// Each format under its usual file name in `dir`.
pub fn plain(dir: &Path, formats: &[Format]) -> Install {
    let files = formats.iter().map(|f| (*f, text(&dir.join(f.file_name())))).collect();
    install(Layout::Plain { files })
}

pub fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Whether these file contents are the certificate and the key of one pair.
pub fn belong_together(fullchain: &str, key: &str) -> bool {
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    rustls::sign::CertifiedKey::from_der(ders(fullchain), key, &provider).is_ok()
}

/// Waits for something that another process or thread does.
pub async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "after 10 s still not: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
