//! Leases and permits: what it costs to make, to verify and to hold one, and how many permits a disk takes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use futures_util::stream::{StreamExt, iter};
use keyward::adapters::store::{LogOptions, SqliteStore};
use keyward::domain::id::{AudienceId, CredentialId, PathId};
use keyward::domain::inventory::{ApprovalPath, Care, Credential, Estate, Leases, Seen, Source};
use keyward::domain::key::Digest;
use keyward::domain::lease::{Expected, Moment};
use keyward::domain::time::{DAY, HOUR, Timestamp, Validity};
use keyward::engine::{Engine, Wanted};
use keyward::lease::{Holder, Keys, Memory, VolatileEpochs, verify};
use keyward::ports::{Clock, Doing, HostError, Ports, Prober};
use keyward::shell::wire;
use keyward::sim::world::World;

use crate::report::figure;
use crate::site::Site;

const STATEMENTS: usize = 20_000;
const PERMITS: usize = 20_000;

/// Everything is there and good for a year.
struct Good(Timestamp);

impl Prober for Good {
    fn stored<'a>(&'a self, _: &'a Credential) -> Doing<'a, Seen> {
        Box::pin(async { good(self.0) })
    }

    fn source<'a>(&'a self, _: &'a Source) -> Doing<'a, Seen> {
        Box::pin(async { good(self.0) })
    }

    fn matches<'a>(&'a self, _: &'a str) -> Doing<'a, Result<Vec<String>, HostError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn served<'a>(&'a self, _: &'a keyward::domain::inventory::Endpoint) -> Doing<'a, Seen> {
        Box::pin(async { good(self.0) })
    }
}

fn start() -> Timestamp {
    Timestamp::from_unix(1_795_305_600)
}

fn good(now: Timestamp) -> Seen {
    use keyward::domain::certificate::{Certificate, Chain, Purposes, Trust};
    let names = keyward::domain::name::Name::parse("peer.example.com").expect("a name");
    let leaf = Certificate {
        fingerprint: Digest([1; 32]),
        spki: Digest([1; 32]),
        serial: "1".into(),
        subject: "peer".into(),
        issuer: "bench".into(),
        names: keyward::domain::name::NameSet::new([names]),
        validity: Validity { not_before: now.minus(DAY), not_after: now.plus(DAY * 365) },
        cert_id: None,
        may_issue: false,
        purposes: Purposes::ALL,
        listing: keyward::domain::certificate::Listing::default(),
        faults: keyward::domain::certificate::Faults::default(),
    };
    Seen::Present(Arc::new(Chain { leaf: Arc::new(leaf), above: Vec::new(), trust: Trust::Anchored }))
}

fn path() -> PathId {
    PathId::parse("approve").expect("a path")
}

fn audience() -> AudienceId {
    AudienceId::parse("portal").expect("an audience")
}

/// One path on one watched file.
fn estate() -> Estate {
    let mut estate = crate::estate::empty(Vec::new(), "https://127.0.0.1:1/d");
    let id = CredentialId::parse("peer").expect("an id");
    let source = Source::File { path: "/peer.pem".into(), password_file: None };
    let credential = Credential {
        id: id.clone(),
        owner: None,
        labels: Default::default(),
        care: Care::Observed(source),
        endpoints: Vec::new(),
        purpose: None,
        crls: Vec::new(),
    };
    let approve = ApprovalPath {
        misses: keyward::domain::inventory::USUAL_MISSES,
        id: path(),
        needs: BTreeSet::from([id.clone()]),
        margin: HOUR,
        depends_on: BTreeSet::new(),
        key_limit: None,
        issuer_silence: None,
        guard: keyward::domain::guard::Guard::default(),
        when_frozen: Default::default(),
        leases: Leases { audiences: BTreeSet::from([audience()]), file: None },
    };
    estate.credentials.insert(id, Arc::new(credential));
    estate.paths.insert(path(), Arc::new(approve));
    estate
}

/// Signing, verifying and asking a holder, one after the other.
pub fn lease() {
    let world = World::new(1, start(), estate());
    let ports = Ports { prober: Arc::new(Good(start())), ..world.ports() };
    let clock = world.clock.clone();
    let engine = keyward::sim::clock::run(&clock, async {
        let engine = Engine::start(ports, Arc::new(estate())).await.expect("a start");
        engine.run(world.clock.sleep(std::time::Duration::from_secs(1))).await.expect("a life");
        engine
    });
    let engine = engine.expect("an end");
    let keys = Keys::parse(&engine.statement_keys()[0].text).expect("a key");
    let expected = Expected::here(audience(), path(), "boot-0");
    let now = Moment { wall: clock.now(), boot: clock.boottime() };
    let give = || engine.lease(&path(), &audience(), None).expect("a lease").text;
    let texts: Vec<String> = timed("lease made", give);
    let mut memory = Memory::new(VolatileEpochs::default());
    let mut next = texts.iter();
    timed("lease verified", || {
        let text = next.next().expect("enough of them");
        verify(text.as_bytes(), &keys, &expected, now, &mut memory).expect("a good one")
    });
    let holder = Holder::new(keys, expected, VolatileEpochs::default());
    holder.take(give().as_bytes(), now).expect("a good one");
    timed("holder asked", || assert!(holder.is_open(now)));
}

/// Median and 99th percentile in microseconds.
fn timed<T>(name: &str, mut once: impl FnMut() -> T) -> Vec<T> {
    let mut spans = Vec::with_capacity(STATEMENTS);
    let made = (0..STATEMENTS)
        .map(|_| {
            let began = Instant::now();
            let made = once();
            spans.push(began.elapsed().as_secs_f64() * 1e6);
            made
        })
        .collect();
    spans.sort_by(f64::total_cmp);
    figure(&format!("{name}, median"), "µs", spans[STATEMENTS / 2]);
    figure(&format!("{name}, p99"), "µs", spans[STATEMENTS * 99 / 100]);
    made
}

/// Permits with their durable entries, so many at once.
pub async fn permits(site: &Site) {
    std::fs::create_dir_all(&site.dir).expect("a directory");
    let clock = wire::clock();
    let options = LogOptions::new(clock.now(), wire::entropy());
    let store = Arc::new(SqliteStore::open(&site.dir.join("state"), &options).expect("a store"));
    let (prober, entropy) = (Arc::new(Good(clock.now())), wire::entropy());
    let world = World::new(1, start(), estate());
    let ports = Ports { clock, prober, store, entropy, ..world.ports() };
    let engine = Arc::new(Engine::start(ports, Arc::new(estate())).await.expect("a start"));
    let running = engine.clone();
    let guardian = tokio::spawn(async move { running.run(std::future::pending()).await });
    while !engine.gate(&path()).is_open() {
        tokio::task::yield_now().await;
    }
    let wanted = Wanted { path: path(), audience: audience(), decision: Digest([7; 32]) };
    for at_once in [1, 64, 256] {
        let began = Instant::now();
        let all = iter(0..PERMITS).map(|_| engine.permit(&wanted)).buffer_unordered(at_once);
        all.for_each(|given| async { drop(given.expect("a permit")) }).await;
        figure(&format!("permits, {at_once} at once"), "/s", PERMITS as f64 / began.elapsed().as_secs_f64());
    }
    guardian.abort();
}
