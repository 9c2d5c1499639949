//! The verdict over a path: every reason, judged again from a file, settled over time, latched, and ahead of time.

use std::sync::Arc;
use std::time::Duration;

use keyward::codec::explanation::{Explanation, SnapshotText};
use keyward::domain::certificate::{CertId, Certificate, Chain, Purpose, Purposes, Trust};
use keyward::domain::freeze::Scope;
use keyward::domain::gate::{self, Verdict, judge};
use keyward::domain::id::{FreezeId, Ulid};
use keyward::domain::inventory::{CrlFacts, CrlSeen, Endpoint, Environment, Estate, Missed, Reopening, Seen, StartTls};
use keyward::domain::key::Digest;
use keyward::domain::limits::LETS_ENCRYPT;
use keyward::domain::snapshot::{Dependency, FreezeOver, Guardian, Part, PartKind, Rules, Snapshot};
use keyward::domain::state::{Latch, LatchOn};
use keyward::domain::time::{Boottime, DAY, HOUR, MINUTE, Timestamp, Validity};
use keyward::engine::{Command, Engine};
use keyward::ports::{Clock, Store};
use keyward::sim::clock::run;
use keyward::sim::world::{Life, World};

#[path = "verdict/history.rs"]
mod history;
#[path = "verdict/latches.rs"]
mod latches;
#[path = "verdict/misses.rs"]
mod misses;

use crate::harness::estate::{add, cid, credential, estate, iid, managed, names, path, pid, served, start};

const SECOND: Duration = Duration::from_secs(1);

fn certificate(name: &str, ends: Timestamp) -> Certificate {
    Certificate {
        fingerprint: Digest::of(name.as_bytes()),
        spki: Digest::of_parts(&[b"key of ", name.as_bytes()]),
        serial: "0a1b".into(),
        subject: format!("CN={name}"),
        issuer: "CN=above".into(),
        names: if name.contains('.') { names(&[name]) } else { names(&[]) },
        validity: Validity { not_before: start().minus(DAY * 10), not_after: ends },
        cert_id: Some(CertId(Arc::from("aki.serial"))),
        may_issue: name != "portal.example.com",
        purposes: Purposes::ALL,
        listing: keyward::domain::certificate::Listing::default(),
    }
}

fn chain() -> Chain {
    Chain {
        leaf: Arc::new(certificate("portal.example.com", start().plus(DAY * 60))),
        above: vec![
            Arc::new(certificate("intermediate", start().plus(DAY * 300))),
            Arc::new(certificate("root", start().plus(DAY * 3_000))),
        ],
        trust: Trust::Anchored,
    }
}

fn below_the_root() -> [Digest; 2] {
    let chain = chain();
    [chain.leaf.fingerprint, chain.above[0].fingerprint]
}

fn crl() -> CrlFacts {
    CrlFacts {
        this_update: start().minus(DAY),
        next_update: Some(start().plus(DAY * 40)),
        covers: below_the_root().into(),
        revokes: [].into(),
    }
}

/// Open, until the list of the intermediate's issuer is out of time.
fn good() -> Snapshot {
    let seen = Seen::Present(Arc::new(chain()));
    let endpoint = Endpoint { host: "portal.example.com".into(), port: 443, sni: None, starttls: StartTls::Smtp };
    let part = Part {
        credential: cid("portal"),
        kind: PartKind::Managed,
        names: Some(names(&["portal.example.com"])),
        purpose: Some(Purpose::Server),
        stored: Some(seen.clone()),
        unseen: false,
        served: vec![(Arc::new(endpoint), Some(seen))],
        missed: vec![],
        crls: vec![(Arc::from("/pki/ca.crl"), Some(CrlSeen::Present(crl())))],
        points: None,
        key_since: Some(start().minus(DAY * 5)),
        compromised: vec![],
        renewer: Some((iid("le"), Some(start().minus(DAY)))),
    };
    Snapshot {
        path: pid("approve"),
        rules: Rules { margin: HOUR * 2, key_limit: Some(DAY * 90), issuer_silence: Some(DAY * 45), misses: 3 },
        environment: Environment::Production,
        at: start(),
        at_boot: Boottime::from_boot(Duration::from_millis(12_345)),
        guardian: Guardian::default(),
        latch: None,
        freezes: vec![],
        parts: vec![part],
        depends: vec![Dependency {
            path: pid("sign-in"),
            reasons: vec![],
            until: start().plus(DAY * 200),
            borne: false,
        }],
    }
}

/// No files, but these lists at distribution points.
fn pointed(snapshot: &mut Snapshot, lists: &[CrlSeen]) {
    let url = |(n, seen): (usize, &CrlSeen)| (Arc::from(format!("http://crl.example/{n}.crl")), seen.clone());
    snapshot.parts[0].crls.clear();
    snapshot.parts[0].points = Some(lists.iter().enumerate().map(url).collect());
}

fn points(snapshot: &mut Snapshot, bend: impl FnOnce(&mut CrlFacts)) {
    let mut facts = crl();
    bend(&mut facts);
    pointed(snapshot, &[CrlSeen::Present(facts)]);
}

fn over(scope: &str, n: u8) -> FreezeOver {
    let id = FreezeId(Ulid::new(start(), [n; 10]));
    FreezeOver { id, scope: Scope::parse(scope).unwrap(), until: start().plus(HOUR) }
}

type Bend = (&'static str, fn(&mut Snapshot));

/// The stored chain, bent; what is served stays.
fn stored(snapshot: &mut Snapshot, bend: impl FnOnce(&mut Chain)) {
    let mut chain = chain();
    bend(&mut chain);
    snapshot.parts[0].stored = Some(Seen::Present(Arc::new(chain)));
}

fn own_crl(snapshot: &mut Snapshot, bend: impl FnOnce(&mut CrlFacts)) {
    let mut facts = crl();
    bend(&mut facts);
    snapshot.parts[0].crls[0].1 = Some(CrlSeen::Present(facts));
}

fn guard(snapshot: &mut Snapshot) -> &mut Guardian {
    &mut snapshot.guardian
}

/// What closes the path, with the one code that says so.
const DIGEST_BEFORE_FREEZES: &str = "c5213324af86eebb1cafccff28f1d7f06e4f89d4eab4620dfd2e590549864e15";

const BENDS: &[Bend] = &[
    (gate::UNKNOWN_CREDENTIAL, |s| s.parts.clear()),
    (gate::UNKNOWN_CREDENTIAL, |s| s.parts[0].kind = PartKind::Unknown),
    (gate::MISSING, |s| s.parts[0].stored = Some(Seen::Missing)),
    (gate::UNREADABLE, |s| s.parts[0].stored = None),
    (gate::UNREADABLE, |s| s.parts[0].stored = Some(Seen::Unreadable("permission denied".into()))),
    (gate::UNREADABLE, |s| s.parts[0].stored = Some(Seen::Unparseable("no PEM".into()))),
    (gate::OUT_OF_TIME, |s| stored(s, |c| Arc::make_mut(&mut c.leaf).validity.not_after = start().minus(SECOND))),
    (gate::OUT_OF_TIME, |s| stored(s, |c| Arc::make_mut(&mut c.above[0]).validity.not_before = start().plus(SECOND))),
    // rustls takes a root that has expired; we do not.
    (gate::OUT_OF_TIME, |s| stored(s, |c| Arc::make_mut(&mut c.above[1]).validity.not_after = start().minus(DAY))),
    (gate::MARGIN, |s| s.rules.margin = DAY * 61),
    (gate::MARGIN, |s| stored(s, |c| Arc::make_mut(&mut c.above[1]).validity.not_after = start().plus(HOUR * 2))),
    (gate::UNTRUSTED, |s| stored(s, |c| c.trust = Trust::Untrusted("no root".into()))),
    (gate::NAMES, |s| s.parts[0].names = Some(names(&["other.example.com"]))),
    (gate::PURPOSE, |s| stored(s, |c| Arc::make_mut(&mut c.leaf).purposes.server = false)),
    (gate::NOT_SERVED, |s| s.parts[0].served[0].1 = None),
    (gate::NOT_SERVED, |s| s.parts[0].served[0].1 = Some(Seen::Missing)),
    (gate::NOT_SERVED, |s| s.parts[0].served[0].1 = Some(Seen::Unreadable("connection refused".into()))),
    // Nothing is borne of what was never seen.
    (gate::NOT_SERVED, |s| s.parts[0].served[0].1 = Some(Seen::Unreachable("connection refused".into()))),
    (gate::NOT_SERVED, |s| miss(s, |missed| missed.times = 3)),
    (gate::NOT_SERVED, |s| miss(s, |missed| missed.since = Boottime::ZERO)),
    (gate::NOT_SERVED, |s| miss(s, |missed| missed.since = s_after())),
    (gate::NOT_SERVED, |s| {
        miss(s, |_| {});
        s.rules.misses = 1;
    }),
    (gate::NOT_SERVED, |s| {
        miss(s, |missed| Arc::make_mut(&mut Arc::make_mut(&mut missed.chain).leaf).fingerprint = Digest::of(b"other"));
    }),
    (gate::NOT_SERVED, |s| {
        miss(s, |_| {});
        s.parts[0].served[0].1 = Some(Seen::Unreadable("not TLS".into()));
    }),
    (gate::NOT_SERVED, |s| {
        miss(s, |_| {});
        s.parts[0].served[0].1 = Some(Seen::Missing);
    }),
    (gate::OUT_OF_TIME, |s| {
        let end = start().minus(SECOND);
        miss(s, |missed| {
            Arc::make_mut(&mut Arc::make_mut(&mut missed.chain).leaf).validity.not_after = end;
        });
    }),
    (gate::NOT_SERVED, |s| {
        stored(s, |c| Arc::make_mut(&mut c.leaf).fingerprint = Digest::of(b"portal.example.com, renewed"));
        own_crl(s, |crl| crl.covers.extend([Digest::of(b"portal.example.com, renewed")]));
    }),
    (gate::CLOCK, |s| guard(s).clock = Some(Arc::from("it stepped"))),
    (gate::AUDIT, |s| guard(s).store = Some(Arc::from("no room"))),
    (gate::SPOOLED, |s| guard(s).unrecorded = Some((Arc::from(gate::SPOOLED), Arc::from("1 entry")))),
    (gate::UNRESOLVED, |s| guard(s).unrecorded = Some((Arc::from(gate::UNRESOLVED), Arc::from("1 outcome")))),
    (gate::BROKEN_LOG, |s| guard(s).unrecorded = Some((Arc::from(gate::BROKEN_LOG), Arc::from("entry 7")))),
    (gate::CONFIGURATION, |s| guard(s).configuration = Some(Arc::from("the file is gone"))),
    (gate::KEY_OVERDUE, |s| s.parts[0].key_since = Some(start().minus(DAY * 90))),
    (gate::COMPROMISED, |s| s.parts[0].compromised = vec![Digest::of(b"key")]),
    (gate::REVOKED, |s| own_crl(s, |crl| crl.revokes = [below_the_root()[1]].into())),
    (gate::REVOCATION_UNKNOWN, |s| own_crl(s, |crl| crl.next_update = Some(start()))),
    (gate::REVOCATION_UNKNOWN, |s| own_crl(s, |crl| crl.next_update = None)),
    (gate::REVOCATION_UNKNOWN, |s| own_crl(s, |crl| crl.this_update = start().plus(SECOND))),
    (gate::REVOCATION_UNKNOWN, |s| own_crl(s, |crl| crl.covers = [below_the_root()[0]].into())),
    (gate::REVOCATION_UNKNOWN, |s| s.parts[0].crls[0].1 = None),
    (gate::REVOCATION_UNKNOWN, |s| s.parts[0].crls[0].1 = Some(CrlSeen::Missing)),
    (gate::REVOCATION_UNKNOWN, |s| s.parts[0].crls[0].1 = Some(CrlSeen::Unreadable("denied".into()))),
    (gate::REVOCATION_UNKNOWN, |s| s.parts[0].crls[0].1 = Some(CrlSeen::Unusable("no list".into()))),
    (gate::REVOKED, |s| points(s, |crl| crl.revokes = [below_the_root()[0]].into())),
    (gate::REVOKED, |s| {
        points(s, |crl| (crl.revokes, crl.next_update) = ([below_the_root()[0]].into(), Some(start())));
        s.parts[0].crls = good().parts[0].crls.clone();
    }),
    (gate::REVOCATION_UNKNOWN, |s| points(s, |crl| crl.next_update = Some(start()))),
    (gate::REVOCATION_UNKNOWN, |s| points(s, |crl| crl.next_update = None)),
    (gate::REVOCATION_UNKNOWN, |s| points(s, |crl| crl.this_update = start().plus(SECOND))),
    (gate::REVOCATION_UNKNOWN, |s| points(s, |crl| crl.covers = [below_the_root()[1]].into())),
    (gate::REVOCATION_UNKNOWN, |s| pointed(s, &[])),
    (gate::REVOCATION_UNKNOWN, |s| pointed(s, &[CrlSeen::Missing])),
    (gate::REVOCATION_UNKNOWN, |s| pointed(s, &[CrlSeen::Unreadable("cannot be fetched".into())])),
    (gate::REVOCATION_UNKNOWN, |s| pointed(s, &[CrlSeen::Unusable("is a delta list".into()), CrlSeen::Missing])),
    (gate::RENEWER, |s| s.parts[0].renewer = Some((iid("le"), None))),
    (gate::RENEWER, |s| s.parts[0].renewer = Some((iid("le"), Some(start().minus(DAY * 45))))),
    (gate::DEPENDENCY, |s| s.depends[0].reasons = vec![Arc::from(gate::MISSING)]),
    (gate::DEPENDENCY, |s| s.depends[0].until = start()),
    (gate::FLAPPING, |s| latch(s, gate::FLAPPING)),
    (gate::BROKEN_LOG, |s| latch(s, gate::BROKEN_LOG)),
    (gate::CLOCK, |s| latch(s, gate::CLOCK)),
    (gate::FLAPPING, |s| latch(s, "KW0000")),
    (gate::FROZEN, |s| s.freezes = vec![over("path:approve", 1)]),
    (gate::FROZEN, |s| s.freezes = vec![over("label:env=prod", 1), over("all", 2)]),
];

fn latch(snapshot: &mut Snapshot, code: &str) {
    snapshot.latch = Some(Latch { at: start(), code: Arc::from(code), text: Arc::from("why"), by: None });
}

/// The endpoint is missed for the second time, since two seconds; bent.
fn miss(snapshot: &mut Snapshot, bend: impl FnOnce(&mut Missed)) {
    let (endpoint, seen) = &mut snapshot.parts[0].served[0];
    let chain = seen.as_ref().and_then(Seen::chain).unwrap().clone();
    let since = Boottime::from_boot(Duration::from_millis(16_345));
    let mut missed = Missed { times: 2, since, seen_at: start().minus(SECOND * 9), chain };
    bend(&mut missed);
    snapshot.at_boot = Boottime::from_boot(Duration::from_millis(18_345));
    *seen = Some(Seen::Unreachable("connection refused".into()));
    snapshot.parts[0].missed = vec![(endpoint.clone(), missed)];
}

/// Later than the moment that is judged.
fn s_after() -> Boottime {
    Boottime::from_boot(SECOND * 60)
}

fn codes(verdict: &Verdict) -> Vec<&'static str> {
    verdict.reasons.iter().map(|r| r.code).collect()
}

#[test]
fn a_path_is_open_until_the_first_thing_that_it_stands_on_ends() {
    let verdict = judge(&good());
    assert!(verdict.is_open(), "{:?}", verdict.reasons);
    assert_eq!(verdict.until, start().plus(DAY * 40));
    assert_eq!(verdict.weakest.as_deref(), Some("portal: the revocation list for portal.example.com"));
    for (name, end, bend) in [
        (
            "leaf",
            DAY * 60 - HOUR * 2,
            (|s| {
                s.parts[0].crls.clear();
                s.rules.issuer_silence = None;
            }) as fn(&mut Snapshot),
        ),
        ("key", DAY * 20, |s| s.rules.key_limit = Some(DAY * 25)),
        ("issuer", DAY * 29, |s| s.rules.issuer_silence = Some(DAY * 30)),
        ("path", DAY * 3, |s| s.depends[0].until = start().plus(DAY * 3)),
        ("root", DAY * 7 - HOUR * 2, |s| {
            stored(s, |c| Arc::make_mut(&mut c.above[1]).validity.not_after = start().plus(DAY * 7));
        }),
    ] {
        let mut snapshot = good();
        bend(&mut snapshot);
        let verdict = judge(&snapshot);
        assert!(verdict.is_open() && verdict.until == start().plus(end), "{name}: {verdict:?}");
        // At that very moment it is closed, and a moment before it is open.
        for (moment, open) in [(end, false), (end - SECOND, true)] {
            snapshot.at = start().plus(moment);
            assert_eq!(judge(&snapshot).is_open(), open, "{name} at {moment:?}");
        }
    }
}

#[test]
fn each_thing_that_is_not_good_closes_the_path_for_its_own_reason_alone() {
    for (number, (code, bend)) in BENDS.iter().enumerate() {
        let mut snapshot = good();
        bend(&mut snapshot);
        let verdict = judge(&snapshot);
        let all: std::collections::BTreeSet<_> = codes(&verdict).into_iter().collect();
        assert_eq!(all.into_iter().collect::<Vec<_>>(), [*code], "number {number}: {:?}", verdict.reasons);
        assert!(verdict.until == snapshot.at && verdict.reasons.iter().all(|r| !r.reopens.is_empty()));
    }
    let met: std::collections::BTreeSet<&str> = BENDS.iter().map(|(code, _)| *code).collect();
    // The others are met where time goes by and where nobody is configured.
    let rest = [gate::STALE, gate::UNKNOWN_PATH, gate::SETTLING, gate::MISSED, gate::HELD];
    assert!(gate::REASONS.iter().all(|code| met.contains(code) || rest.contains(code)));
}

/// Nothing is stored to compare it with: what the second endpoint serves may be revoked, and no list was asked about it.
#[test]
fn another_certificate_at_a_second_endpoint_is_not_vouched_for_by_the_lists_of_the_first() {
    let mut snapshot = good();
    let part = &mut snapshot.parts[0];
    (part.kind, part.stored) = (PartKind::Endpoints, None);
    let (endpoint, seen) = part.served[0].clone();
    let second = Arc::new(Endpoint { port: endpoint.port + 1, ..Endpoint::clone(&endpoint) });
    part.served.push((second.clone(), seen.clone()));
    assert!(judge(&snapshot).is_open(), "{:?}", judge(&snapshot).reasons);
    let Some(Seen::Present(mut chain)) = seen else { panic!("it is served") };
    Arc::make_mut(&mut Arc::make_mut(&mut chain).leaf).fingerprint = Digest::of(b"another");
    snapshot.parts[0].served[1] = (second, Some(Seen::Present(chain)));
    assert_eq!(codes(&judge(&snapshot)), [gate::REVOCATION_UNKNOWN]);
}

#[test]
fn one_fresh_list_for_each_certificate_is_enough_wherever_it_lies() {
    let [leaf, middle] = below_the_root().map(|own| CrlFacts { covers: [own].into(), ..crl() });
    let ends = CrlFacts { next_update: Some(start().plus(DAY * 3)), ..leaf.clone() };
    let (gone, over) = (CrlSeen::Missing, CrlSeen::Present(CrlFacts { next_update: Some(start()), ..crl() }));
    let present = |facts: &CrlFacts| CrlSeen::Present(facts.clone());
    for (lists, until) in [
        (vec![present(&crl())], DAY * 40),
        (vec![gone.clone(), present(&leaf), over.clone(), present(&middle)], DAY * 40),
        // The better of two counts, and the end of what is needed closes.
        (vec![present(&ends), present(&middle)], DAY * 3),
        (vec![present(&ends), present(&crl()), gone], DAY * 40),
    ] {
        let mut snapshot = good();
        pointed(&mut snapshot, &lists);
        let verdict = judge(&snapshot);
        assert!(verdict.is_open() && verdict.until == start().plus(until), "{lists:?}: {verdict:?}");
    }
    // A file and a point together cover the chain; but each file that is named must be good.
    let mut snapshot = good();
    own_crl(&mut snapshot, |crl| crl.covers = [below_the_root()[1]].into());
    snapshot.parts[0].points = Some(vec![(Arc::from("http://crl.example/1.crl"), present(&leaf))]);
    assert!(judge(&snapshot).is_open());
    snapshot.parts[0].crls[0].1 = Some(over);
    assert!(!judge(&snapshot).is_open());
    // What is wrong with each is told.
    pointed(&mut snapshot, &[CrlSeen::Missing, CrlSeen::Unreadable("cannot be fetched: it is gone".into())]);
    let text = judge(&snapshot).reasons[0].text.clone();
    assert!(
        text.contains("0.crl was not fetched yet; http://crl.example/1.crl cannot be fetched: it is gone"),
        "{text}"
    );
}

/// So what was written down before lists were fetched is read and judged as it was.
#[test]
fn a_snapshot_that_asks_for_no_fetched_list_says_nothing_of_them() {
    let file = serde_json::to_string(&SnapshotText::of(&good())).unwrap();
    assert!(!file.contains("points"), "{file}");
    let mut snapshot = good();
    snapshot.parts[0].points = Some(vec![]);
    assert_ne!(snapshot.digest(), good().digest(), "to ask and find none is another thing than not to ask");
}

#[test]
fn a_freeze_closes_until_its_end_and_an_explanation_from_before_there_were_any_is_judged_as_it_was() {
    let mut snapshot = good();
    let before = serde_json::to_string(&Explanation::of(&snapshot)).unwrap();
    assert!(!before.contains("freeze"), "without one nothing says that there could be: {before}");
    // What a guardian without freezes wrote.
    let old = Snapshot { rules: Rules { misses: 1, ..snapshot.rules }, ..good() };
    assert_eq!(old.digest().to_string(), DIGEST_BEFORE_FREEZES);
    snapshot.freezes = vec![over("path:approve", 1)];
    assert_eq!(codes(&judge(&snapshot)), [gate::FROZEN]);
    let text = &judge(&snapshot).reasons[0].text;
    assert!(text.contains("path:approve is frozen until") && text.contains(&over("all", 1).id.to_string()), "{text}");
    snapshot.at = start().plus(HOUR);
    assert!(judge(&snapshot).is_open(), "its time is over");
}

#[test]
fn a_dry_run_asks_no_endpoint() {
    let mut snapshot = good();
    snapshot.environment = Environment::Staging;
    snapshot.parts[0].served[0].1 = None;
    assert!(judge(&snapshot).is_open());
}

#[test]
fn an_explanation_is_judged_again_to_the_same_and_whatever_is_changed_in_it_shows() {
    let mut digests = std::collections::BTreeSet::from([good().digest()]);
    for (number, (_, bend)) in [("", (|_| {}) as fn(&mut Snapshot))].iter().chain(BENDS).enumerate() {
        let mut snapshot = good();
        bend(&mut snapshot);
        assert!(number == 0 || digests.insert(snapshot.digest()), "number {number} has the digest of another");
        let file = serde_json::to_vec(&Explanation::of(&snapshot)).unwrap();
        let read = Explanation::parse(&file).unwrap();
        assert_eq!(SnapshotText::of(&snapshot).read().unwrap(), snapshot, "number {number}");
        assert_eq!(read.replay().unwrap().differs, [""; 0], "number {number}");
        let mut forged = read.clone();
        forged.verdict.open = !forged.verdict.open;
        assert!(forged.replay().unwrap().differs[0].starts_with("state: "), "number {number}");
        // What was judged is another: the digest shows it, whether or not the verdict is the same.
        let mut other = read;
        snapshot.at = snapshot.at.plus(SECOND);
        other.snapshot = SnapshotText::of(&snapshot);
        assert!(!other.replay().unwrap().differs.is_empty(), "number {number}");
    }
}

#[test]
fn what_is_no_explanation_is_refused_in_words() {
    let file = serde_json::to_string(&Explanation::of(&good())).unwrap();
    for (from, to, expected) in [
        ("\"environment\":\"production\"", "\"environment\":\"moon\"", "\"moon\" is no environment"),
        ("\"kind\":\"managed\"", "\"kind\":\"kept\"", "\"kept\" is no kind"),
        ("\"path\":\"approve\"", "\"path\":\"\"", "the path \"\" is empty"),
        ("keyward-gate-explanation-v1", "keyward-gate-explanation-v2", "is of the kind"),
        ("\"margin_s\"", "\"margin\"", "unknown field"),
    ] {
        let bent = file.replacen(from, to, 1);
        assert_ne!(bent, file, "{from}");
        let refusal = Explanation::parse(bent.as_bytes()).and_then(|e| e.replay());
        let text = refusal.expect_err(to).to_string();
        assert!(text.contains(expected), "{to}: {text}");
    }
}

// ---- over time

fn guarded(reopening: Reopening) -> Estate {
    let mut estate = estate(&[("le", &LETS_ENCRYPT)]);
    add(&mut estate, served("portal", managed(&["portal.example.com"], &["le"])));
    add(&mut estate, credential("peer", managed(&["peer.example.com"], &["le"])));
    estate.probe_every = MINUTE;
    estate.reopening = reopening;
    path(&mut estate, "sign-in", &["peer"], HOUR);
    path(&mut estate, "approve", &["portal"], HOUR);
    let mut approve = (*estate.paths[&pid("approve")]).clone();
    approve.depends_on = [pid("sign-in")].into();
    estate.paths.insert(pid("approve"), Arc::new(approve));
    estate
}

fn life<F>(world: &mut World, span: Duration, act: impl FnOnce(Arc<Engine>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    assert_eq!(world.live_with(span, act), Life::Over);
}

fn reopen(path: &str) -> Command {
    Command::Reopen { path: pid(path), by: Arc::from("uid:0"), why: Arc::from("all is well") }
}

fn coded(world: &World, code: &str) -> usize {
    let all = run(&world.clock, world.store.recovered().entries(None, 10_000)).unwrap().unwrap();
    let json = |e: &keyward::ports::StoredEntry| serde_json::from_slice::<serde_json::Value>(&e.bytes).unwrap();
    all.iter().filter(|e| json(e)["data"]["code"] == code).count()
}

#[test]
fn a_path_that_closed_opens_after_a_minute_and_one_that_stands_on_it_after_another() {
    let mut world = World::new(1, start(), guarded(Reopening::USUAL));
    let (clock, host) = (world.clock.clone(), world.host.clone());
    life(&mut world, HOUR, |engine| async move {
        clock.sleep(MINUTE).await;
        let open = |engine: &Engine| ["sign-in", "approve"].map(|id| engine.gate(&pid(id)).is_open());
        assert_eq!(open(&engine), [true, true], "the first opening does not wait");
        host.delete_files(&cid("peer"));
        engine.command(Command::Look(cid("peer"))).unwrap();
        clock.sleep(SECOND).await;
        assert_eq!(open(&engine), [false, false], "what it stands on closed, and so it is closed at once");
        assert_eq!(codes(&engine.gate(&pid("approve"))), [gate::DEPENDENCY]);
        // The guardian mends it by itself.
        clock.sleep(SECOND * 30).await;
        assert_eq!(codes(&engine.gate(&pid("sign-in"))), [gate::SETTLING]);
        clock.sleep(SECOND * 45).await;
        assert_eq!(open(&engine), [true, false]);
        assert_eq!(codes(&engine.gate(&pid("approve"))), [gate::SETTLING]);
        clock.sleep(SECOND * 70).await;
        assert_eq!(open(&engine), [true, true]);
    });
}

#[test]
fn a_path_that_flaps_stays_closed_over_a_restart_until_a_person_opens_it() {
    let reopening = Reopening { after: SECOND * 20, flaps: 3 };
    let mut world = World::new(1, start(), guarded(reopening));
    let clock = world.clock.clone();
    life(&mut world, HOUR, |engine| async move {
        clock.sleep(MINUTE).await;
        for _ in 0..3 {
            assert!(engine.gate(&pid("sign-in")).is_open());
            engine.set_configuration_fault(Some("the file is gone".to_owned()));
            clock.sleep(SECOND * 6).await;
            engine.set_configuration_fault(None);
            clock.sleep(SECOND * 100).await;
        }
        assert_eq!(codes(&engine.gate(&pid("sign-in"))), [gate::FLAPPING]);
        clock.sleep(MINUTE * 30).await;
        assert_eq!(codes(&engine.gate(&pid("sign-in"))), [gate::FLAPPING], "time alone opens nothing");
    });
    assert_eq!(coded(&world, "KW2303"), 2, "for both paths");
    let clock = world.clock.clone();
    life(&mut world, HOUR, |engine| async move {
        clock.sleep(MINUTE * 5).await;
        assert_eq!(codes(&engine.gate(&pid("sign-in"))), [gate::FLAPPING], "a restart opens nothing");
        engine.command(reopen("sign-in")).unwrap();
        clock.sleep(MINUTE).await;
        assert!(engine.gate(&pid("sign-in")).is_open());
    });
    assert_eq!((coded(&world, "KW2303"), coded(&world, "KW2304")), (2, 1));
    let state = run(&world.clock, Store::load(&world.store.recovered())).unwrap().unwrap();
    assert_eq!(state.latches.keys().collect::<Vec<_>>(), [&LatchOn::Path(pid("approve"))]);
}

#[test]
fn a_compromised_key_is_never_good_again_and_a_renewal_with_another_opens() {
    let mut world = World::new(1, start(), guarded(Reopening::default()));
    let clock = world.clock.clone();
    life(&mut world, HOUR, |engine| async move {
        clock.sleep(MINUTE).await;
        let spki = engine.credential(&cid("portal")).unwrap().sighting.chain().unwrap().leaf.spki;
        engine.command(Command::Compromise { spki, by: Arc::from("uid:0") }).unwrap();
        clock.sleep(SECOND * 10).await;
        assert_eq!(codes(&engine.gate(&pid("approve"))), [gate::COMPROMISED]);
    });
    let clock = world.clock.clone();
    life(&mut world, HOUR, |engine| async move {
        clock.sleep(MINUTE).await;
        assert_eq!(codes(&engine.gate(&pid("approve"))), [gate::COMPROMISED], "nor after a restart");
        engine.command(Command::Renew { credential: cid("portal"), by: Arc::from("uid:0") }).unwrap();
        clock.sleep(MINUTE).await;
        assert!(engine.gate(&pid("approve")).is_open(), "{:?}", engine.gate(&pid("approve")));
    });
    assert_eq!(coded(&world, "KW2305"), 1);
    let state = run(&world.clock, Store::load(&world.store.recovered())).unwrap().unwrap();
    assert!(state.latches.keys().all(|on| matches!(on, LatchOn::Key(_))) && state.latches.len() == 1);
}

#[test]
fn an_unreadable_configuration_closes_and_a_snapshot_ahead_of_time_tells_when_all_ends() {
    let mut world = World::new(1, start(), guarded(Reopening::default()));
    let clock = world.clock.clone();
    life(&mut world, HOUR, |engine| async move {
        clock.sleep(MINUTE).await;
        let now = engine.gate(&pid("approve"));
        let ahead = |at| judge(&engine.snapshot(&pid("approve"), Some(at)).unwrap());
        assert!(ahead(now.until.minus(SECOND)).is_open());
        // Both end within seconds of each other; the path stands on the other, too.
        assert!(!ahead(now.until).is_open() && ahead(now.until).at == now.until);
        assert!(engine.snapshot(&pid("none"), None).is_none());
        let published = engine.snapshot(&pid("approve"), None).unwrap();
        assert!(judge(&published).is_open());
        engine.set_configuration_fault(Some("the file is gone".to_owned()));
        clock.sleep(SECOND * 6).await;
        assert_eq!(codes(&engine.gate(&pid("sign-in"))), [gate::CONFIGURATION]);
        engine.set_configuration_fault(None);
        clock.sleep(SECOND * 6).await;
        assert!(engine.gate(&pid("sign-in")).is_open());
    });
}
