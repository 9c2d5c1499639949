//! The audit log: what a durable entry costs in time and bytes, and a start over a million of them.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{StreamExt, iter};
use keyward::adapters::store::{LogOptions, SqliteStore};
use keyward::domain::audit::{Draft, Outcome, Phase, Policy, Target, TargetKind};
use keyward::domain::id::{AttemptId, EntryId, Ulid};
use keyward::domain::json::Json;
use keyward::domain::key::Digest;
use keyward::domain::time::Timestamp;
use keyward::ports::{Batch, Entropy, Store};
use keyward::shell::wire;

use crate::report::figure;
use crate::site::{Site, name};

/// Entries of the long log, unless `count` says otherwise.
const LONG: usize = 1_000_000;
/// Entries in flight, and how many are measured so.
const IN_FLIGHT: usize = 64;
const MANY: usize = 100_000;
/// Entries that are measured one after the other, beside as many flushes of a plain file.
const SINGLE: usize = 3_000;

/// All figures of the log, in the directory of the site.
pub async fn log(site: &Site) {
    let count = if site.count > 1 { site.count } else { LONG };
    let dir = site.dir.join("log");
    fs::remove_dir_all(&dir).ok();
    fs::create_dir_all(&dir).expect("a directory");
    let work = Work { entropy: wire::entropy(), now: wire::clock().now() };

    let store = work.open(&dir);
    let began = Instant::now();
    let all = iter(0..MANY).map(|n| store.commit(work.batch(n, 1))).buffer_unordered(IN_FLIGHT);
    all.for_each(|done| async { done.expect("a commit") }).await;
    figure("durable entries, 64 in flight", "/s", MANY as f64 / began.elapsed().as_secs_f64());
    drop(store);
    let bytes = fs::metadata(dir.join("keyward.db")).expect("a database").len();
    figure("bytes per entry on disk", "B", bytes as f64 / MANY as f64);
    figure("of them the body", "B", work.body(&dir).await);

    let store = work.open(&dir);
    let mut plain = fs::File::create(dir.join("plain")).expect("a file");
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    for n in 0..SINGLE {
        let batch = work.batch(MANY + n, 1);
        let began = Instant::now();
        store.commit(batch).await.expect("a commit");
        ours.push(began.elapsed());
        let began = Instant::now();
        plain.write_all(&[7; 4_096]).and_then(|()| plain.sync_data()).expect("a flush");
        raw.push(began.elapsed());
    }
    for (what, times) in [("single entry", &mut ours), ("4 KiB and fdatasync", &mut raw)] {
        times.sort();
        figure(&format!("{what}, p50"), "ms", milliseconds(times[SINGLE / 2]));
        figure(&format!("{what}, p99"), "ms", milliseconds(times[SINGLE * 99 / 100]));
    }

    let began = Instant::now();
    let mut n = MANY + SINGLE;
    while n < count {
        let size = 512.min(count - n);
        store.commit(work.batch(n, size)).await.expect("a commit");
        n += size;
    }
    let written = count.saturating_sub(MANY + SINGLE);
    figure("entries in batches of 512", "/s", written as f64 / began.elapsed().as_secs_f64());
    drop(store);
    let bytes = fs::metadata(dir.join("keyward.db")).expect("a database").len();
    figure(&format!("bytes per entry on disk, {n} entries"), "B", bytes as f64 / n as f64);
    for _ in 0..5 {
        let began = Instant::now();
        let store = work.open(&dir);
        figure(&format!("start over {n} entries"), "ms", milliseconds(began.elapsed()));
        drop(store);
    }
    fs::remove_dir_all(&dir).ok();
}

fn milliseconds(span: Duration) -> f64 {
    span.as_secs_f64() * 1_000.0
}

struct Work {
    entropy: Arc<dyn Entropy>,
    now: Timestamp,
}

impl Work {
    fn open(&self, dir: &Path) -> SqliteStore {
        // The clock of the entries runs ahead of ours.
        let options = LogOptions::new(self.now.plus(Duration::from_secs(1 << 30)), self.entropy.clone());
        SqliteStore::open(dir, &options).expect("a store")
    }

    fn batch(&self, first: usize, size: usize) -> Batch {
        Batch { changes: Vec::new(), entries: (first..first + size).map(|n| self.entry(n)).collect() }
    }

    /// The `n`-th entry: a thousand credentials are renewed one after the other, each with the five entries of a renewal and
    /// a sign of life of the guardian; one entry in ten seconds.
    fn entry(&self, n: usize) -> Draft {
        let (attempt, step) = (n / 6, n % 6);
        if step == 5 {
            let id = EntryId(self.ulid(n, 0));
            return Draft::new(id, self.at(n), "bench.life", "KW0000", Target::new(TargetKind::Daemon, "keyward"));
        }
        let at = self.at(n);
        let id = |n: usize| EntryId(self.ulid(n, 0));
        let correlation = AttemptId(self.ulid(attempt * 6, 1));
        let (action, code, phase) = [
            ("certificate.order", "KW2001", Phase::Intent),
            ("certificate.ordered", "KW2002", Phase::Event),
            ("certificate.issued", "KW2003", Phase::Outcome),
            ("certificate.install", "KW2004", Phase::Intent),
            ("certificate.installed", "KW2006", Phase::Outcome),
        ][step];
        let target = Target::new(TargetKind::Credential, name(attempt % 1_000));
        let mut draft = Draft::new(id(n), at, action, code, target);
        draft.correlation = Some(correlation);
        draft.phase = phase;
        match phase {
            Phase::Intent => {
                draft.policy = Some(Policy {
                    decision: "proceed",
                    rule: Arc::from("default"),
                    version: Digest::of(b"policy"),
                    inputs: Digest::of(&n.to_be_bytes()),
                    tier: 2,
                });
                draft.facts = vec![
                    ("issuer", Json::str("letsencrypt")),
                    ("names", Json::str(format!("{}.example.com", name(attempt % 1_000)))),
                    ("trigger", Json::str("lifetime")),
                ];
            }
            Phase::Outcome => {
                draft.outcome = Some(Outcome::Success);
                draft.intent = Some(id(if step == 2 { n - 2 } else { n - 1 }));
                draft.target.serial = Some(format!("{attempt:032x}").into());
            }
            Phase::Event => {
                draft.facts.push(("order", Json::str(format!("https://acme.example/order/{attempt}/{n}"))));
            }
        }
        draft
    }

    /// Looks random and is the same again.
    fn ulid(&self, n: usize, kind: usize) -> Ulid {
        let mut random = [0; 10];
        random.copy_from_slice(&Digest::of(&(2 * n + kind).to_be_bytes()).0[..10]);
        Ulid::new(self.at(n), random)
    }

    fn at(&self, n: usize) -> Timestamp {
        self.now.plus(Duration::from_secs(n as u64 * 10))
    }

    /// How long a body is on average.
    async fn body(&self, dir: &Path) -> f64 {
        let entries = self.open(dir).entries(None, 10_000).await.expect("entries");
        entries.iter().map(|entry| entry.bytes.len()).sum::<usize>() as f64 / entries.len() as f64
    }
}
