//! Sample changes and entries, and the reading of entries back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keyward::codec::replay::Replay;
use keyward::domain::audit::{Draft, Evidence, Outcome, Phase, Policy, Target, TargetKind, leaf_hash};
use keyward::domain::certificate::CertId;
use keyward::domain::execution::{Attempt, Failure, Fault, Generation, Stage, Trigger};
use keyward::domain::freeze::{Freeze, Scope};
use keyward::domain::id::{AttemptId, CredentialId, EntryId, FreezeId, IssuerId, PathId, Ulid};
use keyward::domain::json::Json;
use keyward::domain::key::Digest;
use keyward::domain::limits::{BucketKey, LimitKind};
use keyward::domain::name::{Name, NameSet};
use keyward::domain::question::{LARGEST_PAGE, Order, Question};
use keyward::domain::state::{
    AriRecord, Change, ClockMark, CredentialRecord, IssuerRecord, Latch, LatchOn, Request, State,
};
use keyward::domain::time::{Boottime, Timestamp, Validity};
use keyward::ports::{Batch, Store, StoredEntry};

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(1_790_000_000 + seconds)
}

pub fn ulid(n: u64) -> Ulid {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&n.to_be_bytes());
    Ulid::new(at(0), random)
}

pub fn credential(id: &str) -> CredentialId {
    CredentialId::parse(id).unwrap()
}

pub fn issuer(id: &str) -> IssuerId {
    IssuerId::parse(id).unwrap()
}

pub fn names(list: &[&str]) -> NameSet {
    NameSet::new(list.iter().map(|n| Name::parse(n).unwrap()))
}

pub fn generation(n: u64) -> Generation {
    Generation {
        slot: AttemptId(ulid(n)),
        issuer: issuer("le"),
        fingerprint: Digest::of(&n.to_be_bytes()),
        spki: Digest::of(&n.to_le_bytes()),
        serial: Arc::from(format!("{n:x}")),
        cert_id: Some(CertId(Arc::from(format!("aki.{n}")))),
        validity: Validity { not_before: at(-10), not_after: at(86_400 * 90) },
        names: names(&["portal.example.org", "*.portal.example.org", "192.0.2.7", "2001:db8::7"]),
        trigger: Trigger::Changed(Arc::from("names were a, are now b")),
        installed_at: at(5),
        verified_at: Some(at(7)),
        key_since: at(if n.is_multiple_of(2) { 5 } else { 1 }),
    }
}

pub fn freeze(scope: &str, n: i64) -> Freeze {
    Freeze {
        scope: Scope::parse(scope).unwrap(),
        reason: Arc::from(format!("incident {n}: “quoted” \\ and all")),
        by: Arc::from("pseudonym"),
        since: at(n),
        until: at(n + 86_400),
    }
}

pub fn latch(n: i64, by: Option<&str>) -> Latch {
    Latch {
        at: at(n),
        code: Arc::from("KW4024"),
        text: Arc::from("it closed 3 times in 10 min"),
        by: by.map(Arc::from),
    }
}

/// A record with everything in it.
pub fn full_record(n: u64) -> CredentialRecord {
    CredentialRecord {
        current: Some(generation(n)),
        previous: Some(Generation { cert_id: None, verified_at: None, ..generation(n + 1) }),
        ari: Some(AriRecord {
            cert_id: CertId(Arc::from("aki.serial")),
            window: Some((at(100), at(200))),
            picked: Some(at(150)),
            next_poll: at(60),
            explanation: Some(Arc::from("https://ca.example/why")),
        }),
        failures: u32::MAX,
        last_failure: Some(Failure {
            at: at(1),
            code: Arc::from("KW2009"),
            text: Arc::from("seen \u{0} and 'quoted'; expected \u{1f512}"),
            fault: Fault::Subject,
            issuer: Some(issuer("le")),
        }),
        next_attempt: Some(at(3_600)),
        last_success: Some(at(-86_400)),
        requested: Some(Request { by: Arc::from("uid:1000"), at: at(9) }),
        rolled_back: Some(AttemptId(ulid(n + 2))),
    }
}

pub fn attempt(n: u64, stage: Stage, trigger: Trigger) -> Attempt {
    Attempt {
        id: AttemptId(ulid(n)),
        credential: credential("portal"),
        issuer: issuer("le"),
        names: names(&["portal.example.org"]),
        trigger,
        replaces: Some(CertId(Arc::from("aki.old"))),
        began: at(2),
        intent: EntryId(ulid(n + 1_000)),
        stage,
        failures: 3,
        not_before: Some(at(70)),
    }
}

/// Every kind of change with every field, absent and present, and every stage, trigger, fault and kind of limit.
pub fn every_change() -> Vec<Change> {
    let portal = credential("portal");
    let mut changes = vec![
        Change::Credential(portal.clone(), Arc::new(full_record(1))),
        Change::Credential(credential("empty"), Arc::default()),
        Change::Credential(credential("gone"), Arc::new(full_record(10))),
        Change::Forget(credential("gone")),
        Change::Forget(credential("never-there")),
        Change::Credential(credential("replaced"), Arc::new(full_record(20))),
        Change::Credential(credential("replaced"), Arc::new(CredentialRecord { failures: 1, ..Default::default() })),
        Change::Issuer(issuer("bare"), IssuerRecord::default()),
        Change::Issuer(
            issuer("le"),
            IssuerRecord {
                failures: 4,
                open_until: Some(at(900)),
                last_success: Some(at(-1)),
                terms: Some(Arc::from("https://ca.example/terms")),
            },
        ),
        Change::AutomaticIssuance(Arc::from("a.example.org,b.example.org"), at(0)),
        Change::AutomaticIssuance(Arc::from("a.example.org,b.example.org"), at(50)),
        Change::AutomaticIssuance(Arc::from("a.example.org,b.example.org"), at(0)),
        Change::AutomaticIssuance(Arc::from("c.example.org"), at(0)),
        Change::AutomaticIssuance(Arc::from("c.example.org"), at(86_400)),
        Change::Latch(LatchOn::Key(Digest::of(b"key")), Some(latch(0, Some("pseudonym")))),
        Change::Latch(LatchOn::Path(PathId::parse("approve").unwrap()), Some(latch(1, None))),
        Change::Latch(LatchOn::Path(PathId::parse("approve").unwrap()), Some(latch(2, None))),
        Change::Latch(LatchOn::Path(PathId::parse("gone").unwrap()), Some(latch(3, None))),
        Change::Latch(LatchOn::Path(PathId::parse("gone").unwrap()), None),
        Change::Latch(LatchOn::Path(PathId::parse("never-there").unwrap()), None),
        Change::Freeze(FreezeId(ulid(1)), Some(freeze("all", 1))),
        Change::Freeze(FreezeId(ulid(2)), Some(freeze("label:env=prod = really", 2))),
        Change::Freeze(FreezeId(ulid(2)), Some(freeze("owner:team x: on call", 3))),
        Change::Freeze(FreezeId(ulid(3)), Some(freeze("path:approve", 4))),
        Change::Freeze(FreezeId(ulid(3)), None),
        Change::Freeze(FreezeId(ulid(4)), None),
        Change::Freeze(FreezeId(ulid(5)), Some(freeze("issuer:le", 5))),
        Change::Clock(ClockMark {
            wall: at(0),
            boot: Boottime::from_boot(Duration::from_secs(1)),
            boot_id: Arc::from("first"),
        }),
        Change::Clock(ClockMark {
            wall: at(10),
            boot: Boottime::from_boot(Duration::new(12_345, 999_999_999)),
            boot_id: Arc::from("6f1d"),
        }),
    ];
    for (kind, name) in LimitKind::ALL {
        let key = BucketKey::new(issuer("le"), kind, Arc::from(name));
        changes.push(Change::Bucket(key.clone(), at(1)));
        changes.push(Change::Bucket(key, at(2)));
    }
    let ordered = || Stage::Ordered { url: Arc::from("https://ca.example/order/1") };
    let stages = [Stage::Begun, ordered(), Stage::Issued, Stage::Begun, ordered(), Stage::Issued, Stage::Begun];
    let triggers = [
        Trigger::First,
        Trigger::Changed(Arc::from("names")),
        Trigger::Ari,
        Trigger::Lifetime,
        Trigger::Emergency,
        Trigger::Repair(Arc::from("missing")),
        Trigger::Manual(Arc::from("uid:0")),
    ];
    for (n, (stage, trigger)) in (100..).zip(stages.into_iter().zip(triggers)) {
        changes.push(Change::Attempt(Arc::new(attempt(n, stage, trigger))));
    }
    changes.push(Change::Attempt(Arc::new(Attempt {
        replaces: None,
        not_before: None,
        names: NameSet::default(),
        ..attempt(200, Stage::Begun, Trigger::First)
    })));
    changes.push(Change::Attempt(Arc::new(attempt(201, Stage::Begun, Trigger::First))));
    changes.push(Change::Attempt(Arc::new(attempt(201, Stage::Issued, Trigger::First))));
    changes.push(Change::AttemptEnded(AttemptId(ulid(200))));
    changes.push(Change::AttemptEnded(AttemptId(ulid(999))));
    for (n, fault) in (30..).zip([Fault::Ours, Fault::Issuer, Fault::Subject, Fault::Network, Fault::Host]) {
        let mut record = full_record(n);
        record.last_failure = record.last_failure.map(|f| Failure { fault, issuer: None, ..f });
        record.ari = record.ari.map(|a| AriRecord { window: None, picked: None, explanation: None, ..a });
        changes.push(Change::Credential(credential(fault.as_str()), Arc::new(record)));
    }
    changes.extend(super::authority::every_change());
    changes.extend(super::upkeep::every_change());
    changes.extend(super::acme::every_change());
    changes
}

pub fn applied<'a>(changes: impl IntoIterator<Item = &'a Change>) -> State {
    let mut state = State::default();
    changes.into_iter().for_each(|change| state.apply(change));
    state
}

pub fn draft(n: u64, target: &str) -> Draft {
    let target = Target::new(TargetKind::Credential, target);
    Draft::new(EntryId(ulid(n)), at(n as i64), "certificate.order", "KW2001", target)
}

pub fn full_draft(n: u64, target: &str) -> Draft {
    Draft {
        phase: Phase::Outcome,
        outcome: Some(Outcome::Success),
        intent: Some(EntryId(ulid(n + 5_000))),
        correlation: Some(AttemptId(ulid(n + 6_000))),
        policy: Some(Policy {
            decision: "proceed",
            rule: Arc::from("routine"),
            version: Digest::of(b"policy"),
            inputs: Digest::of(b"inputs"),
            tier: 2,
        }),
        evidence: vec![evidence(b"GET /directory 200")],
        facts: vec![("lifetime", Json::Int(90))],
        ..draft(n, target)
    }
}

pub fn evidence(bytes: &[u8]) -> Evidence {
    Evidence {
        name: "acme-exchange".into(),
        sha256: Digest::of(bytes),
        size: bytes.len(),
        media: "application/x-ndjson",
        captured_at: at(1),
        bytes: Arc::from(bytes),
    }
}

/// A batch of one entry and the change that goes with it: credential `c<n>` has failed n times.
pub fn one(n: u64) -> Batch {
    let record = CredentialRecord { failures: n as u32, ..Default::default() };
    let id = format!("c{n}");
    Batch {
        changes: vec![Change::Credential(credential(&id), Arc::new(record))],
        entries: vec![draft(n, &id), draft(n + 1_000_000, "shared")],
    }
}

pub fn entries(list: Vec<Draft>) -> Batch {
    Batch { changes: Vec::new(), entries: list }
}

/// A batch of changes with the entries that have to tell of them: few to each, for a full record is long.
pub fn changes(list: Vec<Change>) -> Batch {
    static NEXT: AtomicU64 = AtomicU64::new(50_000_000);
    let entry = |_: &[Change]| draft(NEXT.fetch_add(1, Ordering::Relaxed), "state");
    Batch { entries: list.chunks(8).map(entry).collect(), changes: list }
}

/// The state that the log gives, with the texts that are there.
pub async fn replayed(store: &Arc<dyn Store>) -> State {
    let mut entries = store.entries(None, usize::MAX).await.unwrap();
    entries.reverse();
    let mut replay = Replay::new();
    entries.iter().for_each(|e| replay.entry(&e.bytes).unwrap());
    let texts = store.private(replay.commitments()).await.unwrap();
    replay.state(|commitment| texts.get(commitment).map(|p| p.text.clone())).unwrap()
}

/// What the log tells of a state: the clocks' marks are no part of it.
pub fn without_clock(state: State) -> State {
    State { clock: None, ..state }
}

/// What an entry says of itself.
pub struct Said {
    pub id: String,
    pub sequence: String,
    pub target: String,
    pub previous: Option<String>,
}

pub fn said(entry: &StoredEntry) -> Said {
    let json: serde_json::Value = serde_json::from_slice(&entry.bytes).unwrap();
    let data = &json["data"];
    let text = |v: &serde_json::Value| v.as_str().unwrap_or_else(|| panic!("no text in {json}")).to_owned();
    Said {
        id: text(&json["id"]),
        sequence: text(&json["sequence"]),
        target: format!("{}/{}", text(&data["target"]["kind"]), text(&data["target"]["id"])),
        previous: data.get("previous_of_target").and_then(|p| p.as_str()).map(str::to_owned),
    }
}

/// Every entry, the oldest first: a log may be longer than what is given at once.
pub async fn whole_log(store: &dyn Store) -> Vec<StoredEntry> {
    let mut log = Vec::new();
    let mut beyond = None;
    loop {
        let question = Question { order: Order::OldestFirst, beyond, limit: LARGEST_PAGE, ..Question::default() };
        let page = store.query(question).await.unwrap();
        log.extend(page.entries);
        beyond = page.next;
        if beyond.is_none() {
            return log;
        }
    }
}

/// Reads the whole log oldest first and checks what every log must satisfy: consecutive numbers from 0, leaf hashes of
/// the stored bytes, each entry linked to the one before it about the same target, ids that are unique.
pub async fn sound_log(store: &dyn Store) -> Vec<StoredEntry> {
    let log = whole_log(store).await;
    let mut newest = std::collections::BTreeMap::new();
    let mut ids = std::collections::BTreeSet::new();
    for (n, entry) in (0..).zip(&log) {
        let said = said(entry);
        assert_eq!(entry.sequence, n);
        assert_eq!(said.sequence, n.to_string());
        assert_eq!(entry.leaf, leaf_hash(&entry.bytes));
        assert_eq!(said.previous, newest.insert(said.target, entry.leaf.to_string()), "entry {n}");
        assert!(ids.insert(said.id));
    }
    log
}
