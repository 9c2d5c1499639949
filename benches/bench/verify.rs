//! Verifying a whole log: `cargo bench -- verify count=1000000` writes one where there is none and reads it five times.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use keyward::adapters::store::{Archive, LogOptions, SqliteStore};
use keyward::codec::ledger::{RangedKey, Trust, Verifier};
use keyward::domain::audit::{Draft, Outcome, Phase, Policy, Target, TargetKind};
use keyward::domain::id::{AttemptId, EntryId, Ulid};
use keyward::domain::json::Json;
use keyward::domain::key::Digest;
use keyward::domain::time::Timestamp;
use keyward::ports::{Batch, Store};
use keyward::shell::wire;

use crate::report::{figure, memory};
use crate::site::{Site, name};

/// Entries to a commit while the log is written.
const BATCH: usize = 4_096;
/// Credentials that the entries are about.
const CREDENTIALS: usize = 1_000;

pub async fn verify(site: &Site) {
    let state = site.dir.join("log");
    std::fs::create_dir_all(&site.dir).expect("a directory");
    if !state.join("keyward.db").exists() {
        write(&state, site.count).await;
    }
    let bytes = std::fs::metadata(state.join("keyward.db")).expect("a database").len();
    figure("disk for each entry", "B", bytes as f64 / site.count as f64);
    for _ in 0..5 {
        let began = Instant::now();
        let archive = Archive::open(&state).expect("a log");
        let keys = archive.own_key().into_iter().filter_map(|key| RangedKey::always(key).ok()).collect();
        let verifier = Verifier::new(Trust { keys, witnesses: Vec::new(), gaps: false }, Vec::new());
        let report = archive.verify(verifier, &[7; 16], &mut |_| ());
        figure(&format!("verify {} entries", report.entries), "s", began.elapsed().as_secs_f64());
        assert_eq!((report.exit(), report.entries), (0, site.count as u64), "{:?}", report.findings.kept());
    }
    memory();
}

async fn write(state: &Path, count: usize) {
    let (clock, entropy) = (wire::clock(), wire::entropy());
    let store = SqliteStore::open(state, &LogOptions::new(clock.now(), entropy)).expect("a store");
    // A year of it, so that 8,760 checkpoints are kept.
    let begin = clock.now().unix() - 31_536_000;
    let at = |n: usize| Timestamp::from_unix(begin + (n as i64 * 31_536_000) / count as i64);
    let id = |n: usize| {
        let mut random = [0; 10];
        random[2..].copy_from_slice(&(n as u64).to_be_bytes());
        Ulid::new(at(n), random)
    };
    let draft = |n: usize| {
        let target = Target::new(TargetKind::Credential, name(n / 4 % CREDENTIALS));
        let (action, code) = [
            ("certificate.issue", "KW2001"),
            ("certificate.order", "KW2002"),
            ("certificate.issue", "KW2003"),
            ("certificate.verify", "KW2006"),
        ][n % 4];
        let mut draft = Draft::new(EntryId(id(n)), at(n), action, code, target);
        draft.correlation = Some(AttemptId(id(n / 4 * 4)));
        draft.facts = vec![("issuer", Json::str("le")), ("detail", Json::str("renewed by schedule"))];
        if n.is_multiple_of(4) {
            draft.phase = Phase::Intent;
            let digest = Digest::of(b"policy");
            let rule = Arc::from("a rule");
            draft.policy = Some(Policy { decision: "proceed", rule, version: digest, inputs: digest, tier: 2 });
        } else if n % 4 == 2 {
            draft.phase = Phase::Outcome;
            draft.outcome = Some(Outcome::Success);
            draft.intent = Some(EntryId(id(n - 2)));
        }
        draft
    };
    for first in (0..count).step_by(BATCH) {
        let entries = (first..(first + BATCH).min(count)).map(draft).collect();
        store.commit(Batch { changes: Vec::new(), entries }).await.expect("a commit");
    }
}
