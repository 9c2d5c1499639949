//! Questions to a long log: first pages by each index.

use std::time::Instant;

use futures_util::FutureExt as _;
use keyward::adapters::store::{LogOptions, SqliteStore};
use keyward::domain::audit::{Actor, Draft, Outcome, Phase, Policy, Target, TargetKind};
use keyward::domain::id::{AttemptId, EntryId, Ulid};
use keyward::domain::json::Json;
use keyward::domain::key::Digest;
use keyward::domain::question::{Order, Question, Wanted};
use keyward::domain::time::{DAY, Timestamp};
use keyward::domain::words::word;
use keyward::ports::{Batch, Entropy, Log, Store};
use keyward::shell::wire;

use crate::report::figure;
use crate::site::Site;

/// Entries of one attempt.
const CHAPTERS: usize = 6;
/// Credentials that they are about.
const CREDENTIALS: usize = 10_000;
/// Each question is asked so often; the slowest counts.
const ASKED: usize = 20;

/// Fills a log with `count` entries over two years, unless it has them already, and asks.
pub async fn questions(site: &Site) {
    std::fs::create_dir_all(&site.dir).expect("a directory");
    let (clock, entropy) = (wire::clock(), wire::entropy());
    let options = LogOptions::new(clock.now(), entropy.clone());
    let store = SqliteStore::open(&site.dir.join("state"), &options).expect("a store");
    let began = clock.now().minus(DAY * 730);
    let step = DAY.as_secs() as i64 * 730 / site.count.max(1) as i64;
    let had = store.statistics().await.expect("counts").size as usize;
    for first in (had..site.count).step_by(500) {
        let last = (first + 500).min(site.count);
        let at = |n: usize| Timestamp::from_unix(began.unix() + n as i64 * step);
        let entries = (first..last).map(|n| draft(n, at(n), &*entropy)).collect();
        store.commit(Batch { changes: Vec::new(), entries }).await.expect("a commit");
    }
    let size = store.statistics().await.expect("counts");
    figure("entries", "", size.size as f64);
    figure("bytes an entry", "B", size.bytes as f64 / size.size.max(1) as f64);
    let word = |kind: &str, value: &str| vec![Wanted::Word(word(kind, value))];
    let prefix = |text: &str| vec![Wanted::Prefix(text.to_owned())];
    let newest = || Question { limit: 50, ..Question::default() };
    let middle = began.plus(DAY * 365);
    let correlation = Ulid::new(Timestamp::from_unix(0), seed(site.count / CHAPTERS / 2)).to_string();
    for (name, question) in [
        ("newest", newest()),
        ("oldest", Question { order: Order::OldestFirst, ..newest() }),
        ("a page of 1,000", Question { limit: 1_000, ..newest() }),
        ("credential", newest().and(word("credential", "c04711"))),
        ("path", newest().and(word("path", "p7"))),
        ("action by prefix", newest().and(prefix("action:certificate."))),
        ("code", newest().and(word("code", "KW2302"))),
        ("codes by prefix", newest().and(prefix("code:KW23"))),
        ("tier", newest().and(word("tier", "3"))),
        ("actor", newest().and(word("actor", "uid:1000"))),
        ("outcome", newest().and(word("outcome", "failure"))),
        ("correlation", newest().and(word("correlation", &correlation))),
        ("nothing", newest().and(word("credential", "nobody"))),
        ("since", Question { from: Some(middle), ..newest() }),
        ("until", Question { until: Some(middle), ..newest() }),
        ("an hour a year ago", Question { from: Some(middle), until: Some(middle.plus(DAY / 24)), ..newest() }),
        ("credential and outcome", newest().and(word("credential", "c04711")).and(word("outcome", "success"))),
        ("code and a common outcome", newest().and(word("code", "KW2003")).and(word("outcome", "failure"))),
        ("two that never meet", newest().and(word("action", "gate.open")).and(word("code", "KW2302"))),
    ] {
        let mut slowest = 0.0_f64;
        for _ in 0..ASKED {
            let asked = Instant::now();
            store.query(question.clone()).await.expect("a page");
            slowest = slowest.max(asked.elapsed().as_secs_f64() * 1_000.0);
        }
        figure(&format!("first page: {name}"), "ms", slowest);
    }
    let asked = Instant::now();
    store.statistics().await.expect("counts");
    figure("counts over the whole log", "ms", asked.elapsed().as_secs_f64() * 1_000.0);
    assert!(store.checkpoint().now_or_never().is_none_or(|note| note.is_ok()));
}

fn seed(attempt: usize) -> [u8; 10] {
    let mut seed = [0; 10];
    seed[2..].copy_from_slice(&(attempt as u64).to_be_bytes());
    seed
}

/// Six entries of each attempt, every 20th of which fails; now and then a gate.
fn draft(n: usize, at: Timestamp, entropy: &dyn Entropy) -> Draft {
    let mut random = [0; 10];
    entropy.fill(&mut random);
    let (attempt, chapter) = (n / CHAPTERS, n % CHAPTERS);
    let target = Target::new(TargetKind::Credential, format!("c{:05}", attempt * 7 % CREDENTIALS));
    let failed = attempt.is_multiple_of(20);
    let (action, code) = match chapter {
        0 => ("certificate.issue", "KW2001"),
        1 => ("certificate.order", "KW2002"),
        2 if failed => ("certificate.issue", "KW3005"),
        2 => ("certificate.issue", "KW2003"),
        3 => ("certificate.install", "KW2004"),
        4 => ("certificate.install", "KW2006"),
        _ if failed => ("gate.close", "KW2302"),
        _ => ("gate.open", "KW2301"),
    };
    let path = Target::new(TargetKind::Path, format!("p{}", attempt % 50));
    let target = if chapter == 5 { path } else { target };
    let mut draft = Draft::new(EntryId(Ulid::new(at, random)), at, action, code, target);
    draft.correlation = (chapter < 5).then(|| AttemptId(Ulid::new(Timestamp::from_unix(0), seed(attempt))));
    match chapter {
        0 | 3 => {
            draft.phase = Phase::Intent;
            let digest = Digest::of(b"policy");
            let tier = (attempt % 5) as u8;
            draft.policy =
                Some(Policy { decision: "proceed", rule: "default".into(), version: digest, inputs: digest, tier });
            if attempt.is_multiple_of(100) {
                draft.actor = Actor::Human("uid:1000".into());
            }
        }
        2 | 4 => {
            draft.phase = Phase::Outcome;
            draft.outcome = Some(if failed { Outcome::Failure } else { Outcome::Success });
        }
        _ => {}
    }
    draft.facts = vec![("issuer", Json::str("le")), ("names", Json::str(format!("c{:05}.example.com", attempt)))];
    draft
}
