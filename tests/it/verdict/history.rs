//! Histories drawn from a seed: everything that a verdict looks at goes wrong and right again, endpoints are missed, the
//! guardian dies. A path that is open stands on nothing that was known to be bad for five seconds, on nothing that has
//! ended, and on no endpoint without a good look in this life; and no miss opens it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{Either, select};
use keyward::domain::certificate::{Certificate, Chain, Listing, Purposes, Trust};
use keyward::domain::inventory::{
    Care, Credential, CrlFacts, CrlSeen, Endpoint, Estate, ListSource, Reopening, Seen, Source, StartTls,
};
use keyward::domain::key::Digest;
use keyward::domain::name::NameSet;
use keyward::domain::time::{Timestamp, Validity};
use keyward::engine::{Command, Engine};
use keyward::ports::{Clock as _, Doing, HostError, Ports, Prober};
use keyward::sim::clock::{SimClock, run};
use keyward::sim::world::{World, draw};

use super::{SECOND, reopen};
use crate::harness::estate::{add, cid, estate, path as add_path, pid, start};

/// So long something may be bad and a path be open, at most.
const FIVE: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(250);
const MISSES: u32 = 3;
const FIFTEEN: Duration = Duration::from_secs(15);

/// How an endpoint answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Right,
    Wrong,
    Bare,
    /// After so long nobody is reached.
    Away(Duration),
}

/// What a guardian could know of an endpoint in this life.
#[derive(Clone, Debug, Default)]
struct Known {
    /// The last answer was the right one.
    good: bool,
    misses: u32,
    /// When the first of them began.
    since: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Bad {
    Compromised,
    Revoked,
    Wrong,
    Clock,
    Audit,
    Log,
    Configuration,
}

struct Inner {
    /// When it ends: leaf, the one above it, the root; of the portal and of the peer.
    ends: [[Timestamp; 3]; 2],
    ways: Vec<Way>,
    revoked: bool,
    next_update: Option<Timestamp>,
    /// The looks that began, by the chain that they met; which of them counted last; what they have brought.
    looks: Vec<Arc<Chain>>,
    counted: usize,
    pending: Vec<(usize, usize, Duration, Way)>,
    known: Vec<Known>,
    /// What was seen to end when: of the portal, the peer, the list.
    seen_ends: [Option<Timestamp>; 3],
    /// Since when something is bad, as far as the guardian was told.
    bad: BTreeMap<Bad, Duration>,
}

/// The files, endpoints and lists of a history.
struct Place {
    clock: Arc<SimClock>,
    inner: Mutex<Inner>,
}

impl Place {
    fn now(&self) -> Duration {
        self.clock.boottime().as_duration()
    }

    fn chain(inner: &Inner, which: usize, other: bool) -> Arc<Chain> {
        let element = |level: usize| {
            let name = format!("{which} {level}{}", if other && level == 0 { " other" } else { "" });
            let validity =
                Validity { not_before: start().minus(SECOND * 864_000), not_after: inner.ends[which][level] };
            // A renewal is another certificate with the same key.
            let print = Digest::of(format!("{name} {}", inner.ends[which][level]).as_bytes());
            Arc::new(Certificate {
                fingerprint: print,
                spki: Digest::of(name.as_bytes()),
                serial: print.short().into(),
                subject: name,
                issuer: "sim".into(),
                names: NameSet::default(),
                validity,
                cert_id: None,
                may_issue: level > 0,
                purposes: Purposes::ALL,
                listing: Listing::default(),
                faults: keyward::domain::certificate::Faults::default(),
            })
        };
        Arc::new(Chain { leaf: element(0), above: vec![element(1), element(2)], trust: Trust::Anchored })
    }

    fn bad(inner: &mut Inner, what: Bad, is: bool, now: Duration) {
        if is {
            inner.bad.entry(what).or_insert(now);
        } else {
            inner.bad.remove(&what);
        }
    }
}

fn end(chain: &Chain) -> Timestamp {
    chain.elements().map(|c| c.validity.not_after).min().unwrap()
}

impl Prober for Place {
    fn stored<'a>(&'a self, _: &'a Credential) -> Doing<'a, Seen> {
        unreachable!()
    }

    fn source<'a>(&'a self, source: &'a Source) -> Doing<'a, Seen> {
        let Source::File { path, .. } = source else { unreachable!() };
        let which = usize::from(path.ends_with("peer"));
        Box::pin(async move {
            let mut inner = self.inner.lock().unwrap();
            let chain = Self::chain(&inner, which, false);
            match which {
                0 => inner.looks.push(chain.clone()),
                _ => inner.seen_ends[which] = Some(end(&chain)),
            }
            Seen::Present(chain)
        })
    }

    fn matches<'a>(&'a self, _: &'a str) -> Doing<'a, Result<Vec<String>, HostError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn served<'a>(&'a self, endpoint: &'a Endpoint) -> Doing<'a, Seen> {
        let number = usize::from(endpoint.port);
        // Asked in the moment in which the file was read.
        let look = self.inner.lock().unwrap().looks.len() - 1;
        Box::pin(async move {
            let (began, way) = (self.now(), self.inner.lock().unwrap().ways[number]);
            if let Way::Away(after) = way {
                self.clock.sleep(after).await;
            }
            let mut inner = self.inner.lock().unwrap();
            inner.pending.push((look, number, began, way));
            match way {
                Way::Right | Way::Wrong => Seen::Present(Self::chain(&inner, 0, way == Way::Wrong)),
                Way::Bare => Seen::Missing,
                Way::Away(_) => Seen::Unreachable("nobody there".into()),
            }
        })
    }

    /// Asked last in each look: what was seen before is known from now on.
    fn crls<'a>(&'a self, _: &'a Credential, chain: &'a Arc<Chain>) -> Doing<'a, BTreeMap<String, CrlSeen>> {
        Box::pin(async move {
            let now = self.now();
            let mut inner = self.inner.lock().unwrap();
            let inner = &mut *inner;
            let look = inner.looks.iter().position(|one| Arc::ptr_eq(one, chain)).unwrap();
            let all = core::mem::take(&mut inner.pending);
            let (own, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|(one, ..)| *one == look);
            inner.pending = rest;
            // One that began before another that has counted says nothing any more.
            let counts = look >= inner.counted;
            inner.counted = inner.counted.max(look);
            for (_, number, began, way) in own.into_iter().filter(|_| counts) {
                let known = &mut inner.known[number];
                if let Way::Away(_) = way {
                    known.misses += 1;
                    known.since.get_or_insert(began);
                } else {
                    *known = Known { good: way == Way::Right, misses: 0, since: None };
                }
            }
            if counts {
                inner.seen_ends[0] = Some(end(chain));
            }
            let wrong = inner.known.iter().any(|known| !known.good);
            Self::bad(inner, Bad::Wrong, wrong, now);
            let revoked = inner.revoked;
            if counts {
                Self::bad(inner, Bad::Revoked, revoked, now);
                inner.seen_ends[2] = inner.next_update;
            }
            let covers: Vec<Digest> = chain.elements().take(2).map(|c| c.fingerprint).collect();
            let facts = CrlFacts {
                this_update: start().minus(SECOND * 3_600),
                next_update: inner.next_update,
                revokes: covers.iter().take(usize::from(revoked)).copied().collect(),
                covers: covers.into_iter().collect(),
            };
            BTreeMap::from([("/list".to_owned(), CrlSeen::Present(facts))])
        })
    }
}

/// What befalls the world at a moment.
#[derive(Clone, Debug)]
enum Event {
    /// A file is replaced by one of which an element ends so much later; the guardian looks at once.
    Renewed(usize, [Duration; 3]),
    List(Duration),
    Way(usize, Way),
    Revoked(bool),
    Stepped(i64),
    Compromised,
    Audit(bool),
    Log(bool),
    Configuration(bool),
    Person,
    Away(Duration),
}

struct History {
    seed: u64,
    world: World,
    place: Arc<Place>,
    estate: Arc<Estate>,
    /// The next one last.
    events: Vec<(Duration, Event)>,
    span: Duration,
    margin: Duration,
    /// How far the wall clock is off.
    off: i64,
    /// Since when it is.
    stepped: Option<Duration>,
    /// Since when a person has to act: it was off for so long that a guardian has seen it.
    latched: Option<Duration>,
    told: Told,
}

#[derive(Clone, Copy, Debug, Default)]
struct Told {
    opened: u64,
    closed: u64,
    openings: u64,
    /// Open with a miss.
    borne: u64,
}

impl History {
    fn new(seed: u64) -> Self {
        let die = |what: &str, n: u64, bound: u64| draw(seed, &[what.as_bytes(), &n.to_be_bytes()], bound);
        let secs = Duration::from_secs;
        let mut estate = estate(&[]);
        // Soon noticed: what cannot be written is learned with the next entry, a broken log with the next look.
        estate.heartbeat = secs(3);
        estate.probe_every = secs(5 + die("probe", 0, 10));
        if die("settles", 0, 3) == 0 {
            estate.reopening = Reopening { after: secs(6), flaps: 0 };
        }
        let number = 1 + usize::try_from(die("endpoints", 0, 2)).unwrap();
        let endpoint = |port: usize| Endpoint {
            host: "portal.example.com".into(),
            port: u16::try_from(port).unwrap(),
            sni: None,
            starttls: StartTls::None,
        };
        let credential = |name: &str, endpoints, crls| Credential {
            id: cid(name),
            owner: None,
            labels: BTreeMap::new(),
            care: Care::Observed(Source::File { path: format!("/m/{name}"), password_file: None }),
            endpoints,
            purpose: None,
            crls,
        };
        let endpoints = (0..number).map(|n| Arc::new(endpoint(n))).collect();
        add(&mut estate, credential("portal", endpoints, vec![ListSource::File("/list".to_owned())]));
        add(&mut estate, credential("peer", Vec::new(), Vec::new()));
        let margin = secs(die("margin", 0, 5));
        add_path(&mut estate, "sign-in", &["peer"], margin);
        add_path(&mut estate, "approve", &["portal"], margin);
        let mut approve = (*estate.paths[&pid("approve")]).clone();
        approve.depends_on = [pid("sign-in")].into();
        estate.paths.insert(pid("approve"), Arc::new(approve));

        let span = secs(40 + die("span", 0, 30));
        let mut events = Vec::new();
        for n in 0..3 + die("events", 0, 6) {
            let at = Duration::from_millis(2_000 + die("at", n, u64::try_from(span.as_millis()).unwrap()));
            let later = at + Duration::from_millis(500 + die("later", n, 20_000));
            let life = |part: u64| secs(8 + die("life", n * 3 + part, 120));
            match die("kind", n, 16) {
                0 => events.push((at, Event::Renewed(usize::from(die("which", n, 2) == 1), [0, 1, 2].map(life)))),
                1 => events.push((at, Event::List(life(0)))),
                2..8 => {
                    let which = usize::try_from(die("endpoint", n, number as u64)).unwrap();
                    let way = match die("way", n, 6) {
                        0 => Way::Wrong,
                        1 => Way::Bare,
                        2..4 => Way::Away(Duration::from_millis(die("hangs", n, 5_000))),
                        _ => Way::Away(Duration::ZERO),
                    };
                    events.extend([(at, Event::Way(which, way)), (later, Event::Way(which, Way::Right))]);
                    // Away, another answer, and away again: what was seen before the answer is over.
                    if die("between", n, 3) == 0 {
                        let other = if die("other", n, 2) == 0 { Way::Wrong } else { Way::Bare };
                        let away = Way::Away(Duration::ZERO);
                        let ways = [(0, away), (3, other), (6, away)];
                        events.extend(ways.map(|(after, way)| (at + secs(after), Event::Way(which, way))));
                    }
                }
                8 => events.extend([(at, Event::Revoked(true)), (later, Event::Revoked(false))]),
                9 => {
                    let far = i64::try_from(10 + die("far", n, 4_000)).unwrap();
                    let far = if die("back", n, 2) == 0 { far } else { -far };
                    events.extend([(at, Event::Stepped(far)), (later, Event::Stepped(-far))]);
                }
                10 if die("rare", n, 4) == 0 => events.push((at, Event::Compromised)),
                11 => events.extend([(at, Event::Audit(true)), (later, Event::Audit(false))]),
                12 => events.extend([(at, Event::Log(true)), (later, Event::Log(false))]),
                13 => events.extend([(at, Event::Configuration(true)), (later, Event::Configuration(false))]),
                14 => events.push((at, Event::Away(Duration::from_millis(die("away", n, 8_000))))),
                _ => events.push((at, Event::Person)),
            }
        }
        events.sort_by_key(|(at, _)| core::cmp::Reverse(*at));
        let first = |n: u64| start().plus(secs(20 + die("ends", n, 150)));
        let inner = Inner {
            ends: [[first(0), first(1), first(2)], [first(3), first(4), first(5)]],
            ways: vec![Way::Right; number],
            next_update: Some(first(6)),
            known: vec![Known::default(); number],
            revoked: false,
            pending: Vec::new(),
            looks: Vec::new(),
            counted: 0,
            seen_ends: [None; 3],
            bad: BTreeMap::new(),
        };
        let estate = Arc::new(estate);
        let world = World::new(seed, start(), (*estate).clone());
        let place = Arc::new(Place { clock: world.clock.clone(), inner: Mutex::new(inner) });
        let told = Told::default();
        Self { seed, world, place, estate, events, span, margin, off: 0, stepped: None, latched: None, told }
    }

    /// The time as it is, whatever the wall clock says.
    fn truth(&self) -> Timestamp {
        start().plus(self.place.now())
    }

    /// What must be so of a path that is open now.
    fn judge(&mut self, engine: &Engine, before: &mut (bool, Vec<u32>)) {
        let now = self.place.now();
        let [sign_in, approve] = ["sign-in", "approve"].map(|id| engine.gate(&pid(id)));
        let inner = self.place.inner.lock().unwrap();
        let misses: Vec<u32> = inner.known.iter().map(|known| known.misses).collect();
        let say = |what: &str| format!("seed {} at {now:?}: open although {what}", self.seed);
        for gate in [&sign_in, &approve].into_iter().filter(|gate| gate.is_open()) {
            let own = usize::from(gate.path == pid("sign-in"));
            let ends = [inner.seen_ends[1], inner.seen_ends[0], inner.seen_ends[2]];
            for end in if own == 1 { &ends[..1] } else { &ends[..] } {
                let list = own == 0 && *end == inner.seen_ends[2];
                let margin = if list { Duration::ZERO } else { self.margin };
                let end = end.unwrap_or_else(|| panic!("{}", say("something was not looked at")));
                assert!(
                    self.truth() < end.minus(margin) || list && self.truth() < end,
                    "{}",
                    say(&format!("{end} has ended, {:?}, it is {}", inner.seen_ends, self.truth()))
                );
            }
            for (bad, since) in &inner.bad {
                let shared = matches!(bad, Bad::Clock | Bad::Audit | Bad::Log | Bad::Configuration);
                if shared || own == 0 {
                    assert!(now - *since <= FIVE, "{}", say(&format!("{bad:?} since {since:?}")));
                }
            }
            assert!(self.latched.is_none(), "{}", say("only a person opens it"));
        }
        if approve.is_open() {
            assert!(sign_in.is_open(), "{}", say("what it stands on is closed"));
            for known in &inner.known {
                assert!(known.good, "{}", say("an endpoint was never good, or not at last"));
                assert!(known.misses < MISSES, "{}", say("an endpoint was missed three times"));
                assert!(known.since.is_none_or(|since| now - since <= FIFTEEN + TICK), "{}", say("one is long missed"));
            }
            let opens = !before.0;
            let missed = misses.iter().zip(&before.1).any(|(now, then)| *now > 0 && *then > 0);
            assert!(!(opens && missed), "{}", say("an endpoint is missed, and it opens"));
            self.told.openings += u64::from(opens);
            self.told.borne += u64::from(misses.iter().any(|n| *n > 0));
            self.told.opened += 1;
        } else {
            self.told.closed += 1;
        }
        *before = (approve.is_open(), misses);
    }

    fn live(mut self) -> Told {
        let clock = self.world.clock.clone();
        while self.place.now() < self.span {
            self.world.store = Arc::new(self.world.store.recovered());
            {
                let mut inner = self.place.inner.lock().unwrap();
                let number = inner.known.len();
                (inner.known, inner.pending) = (vec![Known::default(); number], Vec::new());
                inner.seen_ends = [None; 3];
                // Faults of this life alone; a clock that is wrong is wrong still.
                inner.bad.retain(|bad, _| matches!(bad, Bad::Clock | Bad::Compromised));
            }
            let ports = Ports { prober: self.place.clone(), ..self.world.ports() };
            let estate = self.estate.clone();
            let away = run(&clock, async {
                let engine = Engine::start(ports, estate).await.unwrap();
                let beside = self.beside(&engine);
                let guardian = engine.run(core::future::pending());
                match select(core::pin::pin!(beside), core::pin::pin!(guardian)).await {
                    Either::Left((away, _)) => away,
                    Either::Right((ended, _)) => panic!("the guardian ended: {ended:?}"),
                }
            });
            clock.pass(away.unwrap());
        }
        self.told
    }

    /// What happens beside the guardian until it dies, and for how long it is away then.
    async fn beside(&mut self, engine: &Engine) -> Duration {
        let clock = self.world.clock.clone();
        let (mut before, began) = ((false, vec![0; 9]), self.place.now());
        loop {
            clock.sleep(TICK).await;
            let now = self.place.now();
            if now >= self.span {
                return Duration::ZERO;
            }
            while let Some((_, event)) = self.events.pop_if(|(at, _)| *at <= now) {
                if let Event::Away(span) = event {
                    return span;
                }
                let person = matches!(event, Event::Person);
                self.happen(event, engine, now);
                if person {
                    // What a person vouches for is as they saw it.
                    break;
                }
            }
            if self.stepped.is_some_and(|since| now - since > FIVE && now - began > FIVE) {
                self.latched.get_or_insert(now);
            }
            self.judge(engine, &mut before);
        }
    }

    fn happen(&mut self, event: Event, engine: &Engine, now: Duration) {
        let truth = self.truth();
        let mut guard = self.place.inner.lock().unwrap();
        let inner = &mut *guard;
        match event {
            Event::Renewed(which, lives) => {
                inner.ends[which] = lives.map(|life| truth.plus(life));
                engine.command(Command::Look(cid(if which == 1 { "peer" } else { "portal" }))).unwrap();
            }
            Event::List(life) => {
                inner.next_update = Some(truth.plus(life));
                engine.command(Command::Look(cid("portal"))).unwrap();
            }
            Event::Way(which, way) => {
                inner.ways[which] = way;
                // Whoever knows asks at once; the others wait for the next look.
                if self.seed.is_multiple_of(2) {
                    engine.command(Command::Look(cid("portal"))).unwrap();
                }
            }
            Event::Revoked(is) => inner.revoked = is,
            Event::Stepped(seconds) => {
                self.world.clock.step(seconds);
                self.off += seconds;
                Place::bad(inner, Bad::Clock, self.off != 0, now);
                self.stepped = (self.off != 0).then_some(now);
            }
            Event::Compromised => {
                let spki = Place::chain(inner, 0, false).leaf.spki;
                engine.command(Command::Compromise { spki, by: Arc::from("uid:0") }).unwrap();
                Place::bad(inner, Bad::Compromised, true, now);
            }
            Event::Audit(fails) => {
                if fails {
                    self.world.store.fail_after(0)
                } else {
                    self.world.store.heal()
                }
                // Healing heals all.
                Place::bad(inner, Bad::Audit, fails, now);
                if !fails {
                    Place::bad(inner, Bad::Log, false, now);
                }
            }
            Event::Log(broken) => {
                if broken {
                    self.world.store.break_log();
                } else {
                    self.world.store.heal();
                    Place::bad(inner, Bad::Audit, false, now);
                }
                Place::bad(inner, Bad::Log, broken, now);
            }
            Event::Configuration(gone) => {
                engine.set_configuration_fault(gone.then(|| "the file is gone".to_owned()));
                Place::bad(inner, Bad::Configuration, gone, now);
            }
            Event::Person => {
                // Nobody vouches for a clock that is wrong.
                if self.off == 0 {
                    engine.command(Command::AcceptClock { by: Arc::from("uid:0") }).unwrap();
                }
                // Who opens what was latched knows how the clock stood.
                (self.latched, self.stepped) = (None, None);
                ["sign-in", "approve"].into_iter().for_each(|path| engine.command(reopen(path)).unwrap());
            }
            Event::Away(_) => unreachable!(),
        }
    }
}

#[test]
fn whatever_is_bad_closes_in_five_seconds_and_a_miss_is_borne_twice_and_opens_nothing() {
    // A debug build proves the same with fewer in a few seconds; KEYWARD_HISTORIES says how many otherwise.
    let usual = if cfg!(debug_assertions) { 3_000 } else { 10_000 };
    let histories = std::env::var("KEYWARD_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(usual);
    let workers = std::thread::available_parallelism().map_or(2, |n| u64::try_from(n.get()).unwrap()).min(8);
    let all: Vec<Told> = std::thread::scope(|scope| {
        let one = |worker: u64| {
            let mut sum = Told::default();
            for seed in (worker..histories).step_by(usize::try_from(workers).unwrap()) {
                let told = History::new(seed).live();
                sum.opened += told.opened;
                sum.closed += told.closed;
                sum.openings += told.openings;
                sum.borne += told.borne;
            }
            sum
        };
        let running: Vec<_> = (0..workers).map(|worker| scope.spawn(move || one(worker))).collect();
        running.into_iter().map(|w| w.join().unwrap()).collect()
    });
    let sum = |of: fn(&Told) -> u64| all.iter().map(of).sum::<u64>();
    let (opened, closed, openings, borne) =
        (sum(|t| t.opened), sum(|t| t.closed), sum(|t| t.openings), sum(|t| t.borne));
    println!("{histories} histories: open {opened} times, closed {closed}, {openings} openings, {borne} with a miss");
    // A property over nothing would hold too.
    assert!(opened > histories * 20 && closed > histories * 20 && openings > histories && borne > histories);
}
