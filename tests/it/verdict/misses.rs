//! Looks that reach nobody: what is borne, for how long, and what is not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyward::codec::explanation::{Explanation, SnapshotText};
use keyward::domain::certificate::Chain;
use keyward::domain::gate::{self, judge};
use keyward::domain::inventory::{
    Credential, CrlSeen, Endpoint, MISSED_FOR, Observation, Reopening, Seen, Sighting, Source, StartTls,
};
use keyward::domain::standing::Standing;
use keyward::domain::time::{Boottime, MINUTE};
use keyward::engine::{Command, Engine};
use keyward::ports::{Clock as _, Doing, HostError, Ports, Prober};
use keyward::sim::clock::run;
use keyward::sim::host::SimHost;
use keyward::sim::world::World;

use super::{SECOND, chain, codes, good, guarded, miss};
use crate::harness::estate::{cid, pid, start};

#[test]
fn a_miss_is_a_warning_and_bounds_the_verdict_by_what_the_last_look_vouches_for() {
    let mut snapshot = good();
    miss(&mut snapshot, |_| {});
    let verdict = judge(&snapshot);
    assert!(verdict.is_open(), "{:?}", verdict.reasons);
    let [warning] = &verdict.warnings[..] else { panic!("{:?}", verdict.warnings) };
    assert_eq!(warning.code, gate::MISSED);
    assert!(warning.text.contains("missed 2 of 3 times in a row (connection refused)"), "{}", warning.text);
    // Two seconds of fifteen are over.
    assert_eq!(verdict.until, start().plus(SECOND * 13));
    assert!(verdict.weakest.as_deref().unwrap().contains("the last good look at portal.example.com:443"));
    for (later, open) in [(12_999, true), (13_000, false)] {
        snapshot.at_boot = Boottime::from_boot(Duration::from_millis(18_345 + later));
        assert_eq!(judge(&snapshot).is_open(), open, "{later}");
    }
    // A lease that was given before has ended by then.
    assert_eq!(MISSED_FOR, keyward::domain::lease::LIFE);
}

#[test]
fn a_missed_look_is_written_down_and_judged_again_to_the_same() {
    let mut digests = std::collections::BTreeSet::from([good().digest()]);
    let bends: [fn(&mut keyward::domain::inventory::Missed); 5] = [
        |_| {},
        |m| m.times = 1,
        |m| m.since = Boottime::from_boot(Duration::from_millis(16_346)),
        |m| m.seen_at = start(),
        |m| Arc::make_mut(&mut Arc::make_mut(&mut m.chain).leaf).serial = "ff".into(),
    ];
    for bend in bends {
        let mut snapshot = good();
        miss(&mut snapshot, bend);
        assert!(digests.insert(snapshot.digest()));
        assert_eq!(SnapshotText::of(&snapshot).read().unwrap(), snapshot);
        let read = Explanation::parse(&serde_json::to_vec(&Explanation::of(&snapshot)).unwrap()).unwrap();
        let again = read.replay().unwrap();
        assert!(again.differs.is_empty() && again.verdict.warnings.len() == 1, "{:?}", again.differs);
        let mut silent = read;
        silent.verdict.warnings.clear();
        assert!(silent.replay().unwrap().differs[0].starts_with("warnings: "));
    }
}

#[test]
fn a_path_on_one_that_bears_a_miss_stays_open_with_it_and_does_not_open_on_it() {
    let mut snapshot = good();
    let plain = snapshot.digest();
    snapshot.depends[0].borne = true;
    assert_ne!(snapshot.digest(), plain);
    assert_eq!(SnapshotText::of(&snapshot).read().unwrap(), snapshot);
    let verdict = judge(&snapshot);
    let [warning] = &verdict.warnings[..] else { panic!("{:?}", verdict.warnings) };
    assert_eq!((warning.code, verdict.is_open()), (gate::MISSED, true));
    assert!(verdict.as_dependency().borne, "whoever stands on this one stands on the miss too");
    let reopening = Reopening { after: Duration::ZERO, flaps: 0 };
    let mut standing = Standing::default();
    assert!(!standing.next(verdict.clone(), &reopening).verdict.is_open());
    assert!(standing.next(judge(&good()), &reopening).verdict.is_open());
    assert!(standing.next(verdict, &reopening).verdict.is_open());
}

/// Written by the version before there were misses to bear.
#[test]
fn explanations_of_an_older_version_are_judged_again_to_the_same() {
    let all: Vec<serde_json::Value> = serde_json::from_str(include_str!("explanations-v1.json")).unwrap();
    assert_eq!(all.len(), 5);
    for one in all {
        let read = Explanation::parse(one.to_string().as_bytes()).unwrap();
        assert_eq!(read.replay().unwrap().differs, [""; 0], "{:?}", read.verdict.reasons);
    }
}

#[test]
fn only_what_served_something_is_missed_and_every_answer_ends_it() {
    let endpoint = Arc::new(Endpoint { host: "a".into(), port: 443, sni: None, starttls: StartTls::None });
    let boot = |s: u64| Boottime::from_boot(SECOND * u32::try_from(s).unwrap());
    let (mut sighting, mut at) = (Sighting::default(), 0);
    let mut look = |seen: Seen| {
        at += 1;
        sighting.look(&endpoint, Observation { at: start(), seen }, boot(at));
        sighting.missed.get(&endpoint).map(|m| (m.times, m.since))
    };
    let (away, present) = (Seen::Unreachable("refused".into()), Seen::Present(Arc::new(chain())));
    assert_eq!(look(away.clone()), None, "unknown at the start stays unknown");
    assert_eq!(look(present.clone()), None);
    assert_eq!(look(away.clone()), Some((1, boot(3))));
    assert_eq!(look(away.clone()), Some((2, boot(3))));
    assert_eq!(look(present.clone()), None);
    assert_eq!(look(away.clone()), Some((1, boot(6))));
    for answer in [Seen::Missing, Seen::Unreadable("not TLS".into()), Seen::Unparseable("garbage".into())] {
        assert_eq!(look(answer), None);
        assert_eq!(look(away.clone()), None, "a bad answer is not forgotten for a good one before it");
        look(present.clone());
        assert!(look(away.clone()).is_some());
    }
}

/// The simulated machine with endpoints that may not be reached.
struct Way {
    host: Arc<SimHost>,
    clock: Arc<keyward::sim::clock::SimClock>,
    /// How the next looks end: how long they take to reach nobody. An empty list reaches.
    misses: Mutex<Vec<Duration>>,
    /// When looks began.
    looked: Mutex<Vec<Duration>>,
}

impl Prober for Way {
    fn stored<'a>(&'a self, credential: &'a Credential) -> Doing<'a, Seen> {
        self.host.stored(credential)
    }

    fn source<'a>(&'a self, source: &'a Source) -> Doing<'a, Seen> {
        self.host.source(source)
    }

    fn matches<'a>(&'a self, pattern: &'a str) -> Doing<'a, Result<Vec<String>, HostError>> {
        self.host.matches(pattern)
    }

    fn served<'a>(&'a self, endpoint: &'a Endpoint) -> Doing<'a, Seen> {
        self.looked.lock().unwrap().push(self.clock.boottime().as_duration());
        let miss = {
            let mut misses = self.misses.lock().unwrap();
            if misses.is_empty() { None } else { Some(misses.remove(0)) }
        };
        Box::pin(async move {
            let Some(took) = miss else { return self.host.served(endpoint).await };
            self.clock.sleep(took).await;
            Seen::Unreachable("nobody there".into())
        })
    }

    fn crls<'a>(&'a self, credential: &'a Credential, chain: &'a Arc<Chain>) -> Doing<'a, BTreeMap<String, CrlSeen>> {
        self.host.crls(credential, chain)
    }
}

/// What is seen of a path that is open, second by second, once looks begin to miss.
fn missing(misses: Vec<Duration>, seconds: u32) -> (Vec<bool>, Vec<Duration>, Vec<usize>) {
    missing_beside(misses, seconds, None)
}

/// The same; after so many seconds somebody wants another look.
fn missing_beside(misses: Vec<Duration>, seconds: u32, again: Option<u32>) -> (Vec<bool>, Vec<Duration>, Vec<usize>) {
    let estate = guarded(keyward::domain::inventory::Reopening::default());
    let world = World::new(1, start(), estate.clone());
    let way = Arc::new(Way {
        host: world.host.clone(),
        clock: world.clock.clone(),
        misses: Mutex::default(),
        looked: Mutex::default(),
    });
    let ports = Ports { prober: way.clone(), ..world.ports() };
    let clock = world.clock.clone();
    let (mut open, mut warnings) = (Vec::new(), Vec::new());
    run(&world.clock, async {
        let engine = Engine::start(ports, Arc::new(estate)).await.unwrap();
        let stop = async {
            clock.sleep(MINUTE).await;
            assert!(engine.gate(&pid("approve")).is_open(), "{:?}", engine.gate(&pid("approve")));
            way.looked.lock().unwrap().clear();
            *way.misses.lock().unwrap() = misses;
            let began = clock.boottime().as_duration();
            engine.command(Command::Look(cid("portal"))).unwrap();
            for second in 0..seconds {
                if again == Some(second) {
                    engine.command(Command::Look(cid("portal"))).unwrap();
                }
                clock.sleep(SECOND).await;
                let gate = engine.gate(&pid("approve"));
                assert!(gate.is_open() || codes(&gate).iter().all(|c| *c == gate::NOT_SERVED || *c == gate::MARGIN));
                open.push(gate.is_open());
                warnings.push(gate.warnings.len());
            }
            way.looked.lock().unwrap().iter_mut().for_each(|at| *at -= began);
        };
        engine.run(stop).await.unwrap();
    })
    .unwrap();
    let looked = way.looked.lock().unwrap().clone();
    (open, looked, warnings)
}

#[test]
fn a_look_that_ends_after_a_later_one_says_nothing() {
    let (open, _, warnings) = missing(vec![SECOND * 4], 10);
    assert!(open[0] && warnings[4] == 1, "alone it counts: {open:?} {warnings:?}");
    let (open, again, warnings) = missing_beside(vec![SECOND * 4], 10, Some(1));
    assert_eq!(again[..2], [Duration::ZERO, SECOND]);
    assert!(open.iter().all(|open| *open) && warnings.iter().all(|n| *n == 0), "{open:?} {warnings:?}");
}

#[test]
fn two_misses_are_borne_and_looked_after_at_once() {
    let (open, looked, warnings) = missing(vec![Duration::ZERO; 2], 12);
    assert!(open.iter().all(|open| *open), "{open:?}");
    assert!(looked.len() >= 3 && looked[2] <= SECOND * 5, "{looked:?}");
    assert!(warnings[0] == 1 && warnings[2] == 1 && warnings[7] == 0, "{warnings:?}");
}

#[test]
fn the_third_miss_closes_within_seconds_and_one_that_hangs_within_fifteen() {
    let (open, looked, _) = missing(vec![Duration::ZERO; 99], 12);
    let closed = open.iter().position(|open| !open).unwrap();
    assert!((3..=5).contains(&closed) && open[closed..].iter().all(|open| !open), "{open:?}");
    // Not more than the most that may be configured, and then as often as ever.
    assert!(looked.len() <= 6, "{looked:?}");
    let (open, ..) = missing(vec![SECOND * 5; 99], 20);
    let closed = open.iter().position(|open| !open).unwrap();
    assert!((12..15).contains(&closed) && open[closed..].iter().all(|open| !open), "{open:?}");
}
