//! The guardian as the daemon runs it, over the real adapters: issuing, renewing, starting, idling.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{StreamExt, iter};
use keyward::domain::audit::{Draft, Target, TargetKind};
use keyward::domain::execution::{Generation, Trigger};
use keyward::domain::id::{AttemptId, CredentialId, EntryId, Ulid};
use keyward::domain::state::{Change, CredentialRecord};
use keyward::engine::{Command, Engine};
use keyward::ports::{Batch, Ports};
use keyward::shell::config::Settings;
use keyward::shell::wire::wire;
use tokio::time::sleep;

use crate::report::{figure, memory, processor_time};
use crate::site::{Site, name};

/// Whoever waits for the engine looks this often.
const LOOK: Duration = Duration::from_millis(1);
/// Nothing here takes longer.
const DEADLINE: Duration = Duration::from_secs(120);

/// As many workers as the daemon has.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// Runs a guardian until `work` is done with it.
fn guard<F: Future<Output = ()> + Send>(settings: Settings, work: impl FnOnce(Arc<Engine>) -> F) {
    runtime().block_on(async {
        let wired = wire(&settings).expect("everything can be put together");
        let engine =
            Engine::start(wired.ports.clone(), Arc::new(settings.estate)).await.expect("a state to start from");
        let engine = Arc::new(engine);
        let work = tokio::time::timeout(DEADLINE, work(engine.clone()));
        let work = async {
            if work.await.is_err() {
                panic!("not done in {DEADLINE:?}: {:?}", wired.notices().last());
            }
        };
        engine.run(work).await.expect("a state that can be written");
    });
}

async fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        sleep(LOOK).await;
    }
}

fn installed(engine: &Engine) -> usize {
    let mut count = 0;
    engine.for_each_credential(|_, _, record| count += usize::from(record.is_some_and(|r| r.current.is_some())));
    count
}

/// From the start of the process until everything is issued, installed and, where there is an endpoint, seen served.
pub fn issue(site: &Site) {
    let began = Instant::now();
    guard(site.settings(), async |engine| {
        until(|| installed(&engine) == site.count).await;
        figure("issued and installed", "s", began.elapsed().as_secs_f64());
    });
    memory();
}

/// Renews the first certificate `count` times, one after the other, in a guardian that runs: the time of each.
pub fn renew(site: &Site) {
    let (times, site) = (site.count, Site { count: 1, ..site.clone() });
    let id = CredentialId::parse(&name(0)).expect("a slug");
    guard(site.settings(), async |engine| {
        until(|| installed(&engine) == 1).await;
        for _ in 0..times {
            let serial = |engine: &Engine| engine.credential(&id).and_then(|c| c.current().map(|g| g.serial.clone()));
            let old = serial(&engine);
            let began = Instant::now();
            engine.command(Command::Renew { credential: id.clone(), by: Arc::from("bench") }).expect("room");
            until(|| serial(&engine) != old).await;
            figure("one renewal", "ms", began.elapsed().as_secs_f64() * 1_000.0);
        }
    });
}

/// Fills a state directory with certificates that live 90 days, by the doors that the engine uses.
pub fn seed(site: &Site) {
    let ca = rcgen::KeyPair::generate().expect("a key");
    let mut root = rcgen::CertificateParams::new(Vec::<String>::new()).expect("parameters");
    root.distinguished_name.push(rcgen::DnType::CommonName, "Bench Root");
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    root.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    std::fs::write(&site.root, root.self_signed(&ca).expect("a root").pem()).expect("a file");
    let issuer = rcgen::Issuer::new(root, ca);
    let settings = site.settings();
    let began = Instant::now();
    runtime().block_on(async {
        let ports = wire(&settings).expect("everything can be put together").ports;
        let (ports, settings, issuer) = (&ports, &settings, &issuer);
        let all = iter(0..site.count).map(|i| seed_one(ports, settings, issuer, i)).buffer_unordered(16);
        let changes: Vec<Change> = all.collect().await;
        for part in changes.chunks(4_000) {
            let entry = |_: &[Change]| seed_entry(ports);
            let batch = Batch { changes: part.to_vec(), entries: part.chunks(8).map(entry).collect() };
            ports.store.commit(batch).await.expect("a state that can be written");
        }
    });
    eprintln!("{} certificates in {:?}", site.count, began.elapsed());
}

/// An entry for changes that no engine made.
fn seed_entry(ports: &Ports) -> Draft {
    let mut random = [0; 10];
    ports.entropy.fill(&mut random);
    let (at, target) = (ports.clock.now(), Target::new(TargetKind::Daemon, "keyward"));
    Draft::new(EntryId(Ulid::new(at, random)), at, "bench.seed", "KW0000", target)
}

async fn seed_one(ports: &Ports, settings: &Settings, ca: &rcgen::Issuer<'_, rcgen::KeyPair>, i: usize) -> Change {
    let id = CredentialId::parse(&name(i)).expect("a slug");
    let managed = settings.estate.credentials[&id].managed().expect("a managed one");
    let now = ports.clock.now();
    let mut random = [0; 10];
    ports.entropy.fill(&mut random);
    let slot = AttemptId(Ulid::new(now, random));
    let csr = ports.keys.prepare(slot, managed.key, &managed.names, managed.key_reuse, None).await.expect("a key");
    let mut request = rcgen::CertificateSigningRequestParams::from_der(&csr.into()).expect("a request");
    let (from, to) = (now.minus(Duration::from_secs(3_600)), now.plus(Duration::from_secs(90 * 86_400)));
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    request.params.not_before = epoch + Duration::from_secs(from.unix() as u64);
    request.params.not_after = epoch + Duration::from_secs(to.unix() as u64);
    let pem = request.signed_by(ca).expect("a certificate").pem();
    let issuer = &managed.issuers[0];
    let accepted =
        ports.keys.accept(slot, issuer, &pem, (&managed.names).into(), now).await.expect("what may be installed");
    ports.deployer.install(&id, &managed.installs, slot).await.expect("files");
    let leaf = &accepted.chain.leaf;
    let current = Generation {
        slot,
        issuer: issuer.clone(),
        fingerprint: leaf.fingerprint,
        spki: leaf.spki,
        serial: leaf.serial.clone(),
        cert_id: leaf.cert_id.clone(),
        validity: leaf.validity,
        names: managed.names.clone(),
        trigger: Trigger::First,
        installed_at: now,
        verified_at: Some(now),
        key_since: now,
    };
    let record = CredentialRecord { current: Some(current), last_success: Some(now), ..CredentialRecord::default() };
    Change::Credential(id, Arc::new(record))
}

/// Starts over a seeded directory, until everything was looked at; then idles for `seconds`.
pub fn idle(site: &Site) {
    let began = Instant::now();
    guard(site.settings(), async |engine| {
        let looked = || {
            let mut count = 0;
            engine.for_each_credential(|_, seen, _| count += usize::from(seen.is_some_and(|s| s.chain().is_some())));
            count
        };
        until(|| looked() == site.count).await;
        figure("start", "s", began.elapsed().as_secs_f64());
        figure("start, processor time", "s", cpu_seconds());
        // What the start left to do, and the allocator's own habits, are over.
        sleep(Duration::from_secs(2)).await;
        memory();
        let (cpu, from) = (cpu_seconds(), Instant::now());
        sleep(Duration::from_secs(site.seconds)).await;
        figure("idle", "% of a core", (cpu_seconds() - cpu) / from.elapsed().as_secs_f64() * 100.0);
        memory();
    });
}

/// User and system time of this process so far.
fn cpu_seconds() -> f64 {
    processor_time(std::process::id())
}
