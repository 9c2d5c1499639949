//! Doors for the ACME client's tests: real time, the system's randomness, a meter that remembers, and an issuance from
//! newOrder to the chain.

use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use keyward::adapters::acme::{AcmeIssuerConfig, AcmeIssuers};
use keyward::domain::id::{IssuerId, PathId};
use keyward::domain::name::{Name, NameSet};
use keyward::domain::time::{Boottime, Timestamp};
use keyward::ports::{
    ChallengeKind, Clock, Count, Doing, Entropy, Issuer, IssuerError, Meter, OrderRequest, OrderStatus, OrderView, Tick,
};

use super::pebble::Pebble;

/// Real time since the first look, plus what a test adds.
pub struct TestClock {
    start: Instant,
    added: Mutex<Duration>,
    stepped: AtomicI64,
}

impl TestClock {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), added: Mutex::new(Duration::ZERO), stepped: AtomicI64::new(0) })
    }

    pub fn advance(&self, span: Duration) {
        *self.added.lock().unwrap() += span;
    }

    /// Only the wall clock jumps, by seconds.
    pub fn step(&self, secs: i64) {
        self.stepped.fetch_add(secs, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Timestamp::from_unix(now.as_secs() as i64 + self.stepped.load(Ordering::Relaxed))
            .plus(*self.added.lock().unwrap())
    }
    fn boottime(&self) -> Boottime {
        Boottime::from_boot(self.start.elapsed() + *self.added.lock().unwrap())
    }
    fn boot_id(&self) -> Arc<str> {
        Arc::from("test")
    }
    fn sleep(&self, span: Duration) -> Doing<'_, ()> {
        Box::pin(tokio::time::sleep(span))
    }
}

pub struct TestEntropy;
impl Entropy for TestEntropy {
    fn fill(&self, out: &mut [u8]) {
        std::fs::File::open("/dev/urandom").unwrap().read_exact(out).unwrap();
    }
}

#[derive(Default)]
pub struct TestMeter(pub Mutex<Vec<Count>>);
impl Meter for TestMeter {
    fn count(&self, count: Count) {
        self.0.lock().unwrap().push(count);
    }

    fn gate(&self, _: &PathId, _: &'static str) -> Tick {
        Arc::new(|| ())
    }
}

impl TestMeter {
    /// How many exchanges there were with an endpoint.
    pub fn requests(&self, endpoint: &str) -> usize {
        let is = |c: &&Count| matches!(c, Count::AcmeRequest { endpoint: e, .. } if *e == endpoint);
        self.0.lock().unwrap().iter().filter(is).count()
    }

    /// How many problem documents of a type there were.
    pub fn problems(&self, kind: &str) -> usize {
        let is = |c: &&Count| matches!(c, Count::AcmeError { problem, .. } if problem == kind);
        self.0.lock().unwrap().iter().filter(is).count()
    }
}

/// The issuers under test with what they use.
pub struct Acme {
    pub issuers: AcmeIssuers,
    pub clock: Arc<TestClock>,
    pub meter: Arc<TestMeter>,
    pub id: IssuerId,
}

impl Acme {
    pub fn new(config: AcmeIssuerConfig, accounts: &Path) -> Self {
        let (clock, meter, id) = (TestClock::new(), Arc::new(TestMeter::default()), config.id.clone());
        let issuers = AcmeIssuers::new(vec![config], accounts, clock.clone(), Arc::new(TestEntropy), meter.clone());
        Self { issuers: issuers.unwrap(), clock, meter, id }
    }

    pub async fn new_order(&self, names: &[&str]) -> Result<Arc<str>, IssuerError> {
        self.issuers.new_order(&self.id, &request(names)).await
    }

    pub async fn order(&self, url: &str) -> Result<OrderView, IssuerError> {
        self.issuers.order(&self.id, url).await
    }

    /// From newOrder to the chain in PEM; panics on any error that becomes visible.
    pub async fn issue(&self, pebble: &Pebble, names: &[&str], kind: ChallengeKind) -> String {
        let url = self.new_order(names).await.unwrap();
        self.finish(pebble, names, kind, &url).await
    }

    pub async fn finish(&self, pebble: &Pebble, names: &[&str], kind: ChallengeKind, url: &str) -> String {
        let view = self.order(url).await.unwrap();
        for authorization in &view.authorizations {
            if authorization.valid {
                continue;
            }
            let challenge = authorization.challenges.iter().find(|c| c.kind == kind).expect("challenge on offer");
            match kind {
                ChallengeKind::Dns01 => {
                    let value = BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, challenge.key_authorization.as_bytes()));
                    pebble.set_txt(&authorization.name.to_string(), &value);
                }
                ChallengeKind::Http01 => pebble.add_http01(&challenge.token, &challenge.key_authorization),
                ChallengeKind::TlsAlpn01 => panic!("not offered by the harness"),
            }
            self.issuers.challenge_ready(&self.id, &challenge.url).await.unwrap();
        }
        self.until(url, OrderStatus::Ready).await;
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let csr = rcgen::CertificateParams::new(names).unwrap().serialize_request(&key).unwrap();
        self.issuers.finalize(&self.id, url, csr.der()).await.unwrap();
        self.until(url, OrderStatus::Valid).await;
        self.issuers.download(&self.id, url).await.unwrap()
    }

    /// Polls until the order has a status.
    pub async fn until(&self, url: &str, status: OrderStatus) -> OrderView {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let view = self.order(url).await.unwrap();
            if view.status == status {
                return view;
            }
            assert!(view.status != OrderStatus::Invalid, "the order is invalid: {:?}", view.error);
            assert!(Instant::now() < deadline, "the order is still {:?}, expected {status:?}", view.status);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

pub fn request(names: &[&str]) -> OrderRequest {
    let names = NameSet::new(names.iter().map(|n| Name::parse(n).unwrap()));
    OrderRequest { names, profile: None, replaces: None, spiffe: None }
}

/// The DNS names in a chain's first certificate.
pub fn leaf_names(pem: &str) -> Vec<String> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
    let certificate = pem.parse_x509().unwrap();
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    let dns = names.value.general_names.iter().filter_map(|n| {
        let x509_parser::extensions::GeneralName::DNSName(d) = n else { return None };
        Some((*d).to_owned())
    });
    let mut out: Vec<String> = dns.collect();
    out.sort();
    out
}
