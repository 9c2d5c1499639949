//! Histories drawn from a seed: certificates that end and are renewed, margins, clocks that are set, a guardian that dies.
//! Whenever a lease verifies or the gate is open, the verdict that knows everything is open.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{Either, select};
use keyward::domain::certificate::{Certificate, Chain, Purposes, Trust};
use keyward::domain::gate::verdict;
use keyward::domain::inventory::{
    Care, Credential, CrlFacts, CrlSeen, Endpoint, Estate, Leases, ListSource, Observation, Seen, Sighting, Source,
};
use keyward::domain::key::Digest;
use keyward::domain::lease::{Expected, Lease, Machine, Moment};
use keyward::domain::name::NameSet;
use keyward::domain::snapshot::Evidence;
use keyward::domain::state::State;
use keyward::domain::time::{Timestamp, Validity};
use keyward::engine::{Command, Engine};
use keyward::lease::{Holder, Keys, VolatileEpochs};
use keyward::ports::{Clock as _, Doing, HostError, Ports, Prober};
use keyward::sim::clock::run;
use keyward::sim::world::{World, draw};

use crate::harness::estate::{add, cid, estate, names, path as add_path, pid, start};
use crate::harness::lease::audience;

/// What really lies in the watched files, and when it ends.
struct Material {
    files: Mutex<BTreeMap<String, (Timestamp, Seen)>>,
    /// When the revocation list of the first of them ends.
    list_until: Timestamp,
    /// Open until then for whoever knows everything, as long as nothing is replaced.
    open_until: Mutex<Option<Timestamp>>,
}

impl Material {
    fn seen(&self, file: &str) -> Seen {
        self.files.lock().unwrap()[file].1.clone()
    }

    fn put(&self, file: &str, end: Timestamp) {
        self.files.lock().unwrap().insert(file.to_owned(), (end, Self::of(file, end)));
        *self.open_until.lock().unwrap() = None;
    }

    fn of(file: &str, end: Timestamp) -> Seen {
        // Any element may be the one that ends first, the root too.
        let first = Digest::of_parts(&[file.as_bytes(), &end.unix().to_be_bytes()]).0[0] % 3;
        let element = |level: u8| {
            let print = Digest::of_parts(&[file.as_bytes(), &end.unix().to_be_bytes(), &[level]]);
            let not_after = if level == first { end } else { end.plus(Duration::from_secs(u64::from(level) * 7 + 5)) };
            Arc::new(Certificate {
                fingerprint: print,
                spki: print,
                serial: print.short().into(),
                subject: format!("{file} {level}"),
                issuer: "sim".into(),
                names: NameSet::clone(&names(&["peer.example.com"])),
                validity: Validity { not_before: start().minus(Duration::from_secs(864_000)), not_after },
                cert_id: None,
                may_issue: level > 0,
                purposes: Purposes::ALL,
                listing: keyward::domain::certificate::Listing::default(),
                faults: keyward::domain::certificate::Faults::default(),
            })
        };
        let above = vec![element(1), element(2)];
        Seen::Present(Arc::new(Chain { leaf: element(0), above, trust: Trust::Anchored }))
    }

    /// A list that is good until then.
    fn list(&self, chain: &Chain) -> BTreeMap<String, CrlSeen> {
        let facts = CrlFacts {
            this_update: start().minus(Duration::from_secs(3_600)),
            next_update: Some(self.list_until),
            covers: chain.elements().take(2).map(|c| c.fingerprint).collect(),
            revokes: BTreeSet::new(),
        };
        BTreeMap::from([(LIST.to_owned(), CrlSeen::Present(facts))])
    }
}

impl Prober for Material {
    fn stored<'a>(&'a self, credential: &'a Credential) -> Doing<'a, Seen> {
        match &credential.care {
            Care::Observed(source) => self.source(source),
            Care::Managed(_) => unreachable!(),
        }
    }

    fn source<'a>(&'a self, source: &'a Source) -> Doing<'a, Seen> {
        let Source::File { path, .. } = source else { unreachable!() };
        Box::pin(async move { self.seen(path) })
    }

    fn matches<'a>(&'a self, _: &'a str) -> Doing<'a, Result<Vec<String>, HostError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn served<'a>(&'a self, _: &'a Endpoint) -> Doing<'a, Seen> {
        unreachable!()
    }

    fn crls<'a>(&'a self, _: &'a Credential, chain: &'a Arc<Chain>) -> Doing<'a, BTreeMap<String, CrlSeen>> {
        Box::pin(async move { self.list(chain) })
    }
}

/// What befalls the world at a moment.
#[derive(Clone, Debug)]
enum Event {
    /// The file is replaced by one that lives longer; the guardian hears of it so much later.
    Renewed(usize, Duration, Duration),
    /// The wall clock is set.
    Stepped(i64),
    /// The guardian dies, or ends in order, and is away for so long.
    Away(Duration),
}

struct History {
    seed: u64,
    world: World,
    material: Arc<Material>,
    estate: Arc<Estate>,
    /// The events, the next one last.
    events: Vec<(Duration, Event)>,
    span: Duration,
}

/// What came of a history.
#[derive(Debug, Default)]
struct Told {
    leases: u64,
    verified: u64,
    opened: u64,
    closed: u64,
    epochs: BTreeSet<u64>,
}

const FILES: u64 = 3;
const LIST: &str = "/m/list";

impl History {
    fn new(seed: u64) -> Self {
        let die = |what: &str, n: u64, bound: u64| draw(seed, &[what.as_bytes(), &n.to_be_bytes()], bound);
        let mut estate = estate(&[]);
        let files = 1 + die("files", 0, FILES);
        let material = Material {
            files: Mutex::default(),
            list_until: start().plus(Duration::from_secs(20 + die("list", 0, 200))),
            open_until: Mutex::default(),
        };
        for n in 0..files {
            let file = format!("/m/{n}");
            let source = Source::File { path: file.clone(), password_file: None };
            let credential = Credential {
                id: cid(&format!("m{n}")),
                owner: None,
                labels: BTreeMap::new(),
                care: Care::Observed(source),
                endpoints: Vec::new(),
                purpose: None,
                crls: if n == 0 { vec![ListSource::File(LIST.to_owned())] } else { Vec::new() },
            };
            add(&mut estate, credential);
            material.put(&file, start().plus(Duration::from_secs(15 + die("end", n, 70))));
        }
        let needs: Vec<String> = (0..files).map(|n| format!("m{n}")).collect();
        let needs: Vec<&str> = needs.iter().map(String::as_str).collect();
        let margin = die("margin", 0, 9);
        add_path(&mut estate, "approve", &needs, Duration::from_secs(margin));
        // Where there are several, the last one is another path's.
        let alone = needs.len() > 1;
        add_path(&mut estate, "sign-in", &needs[needs.len() - 1..], Duration::from_secs(margin));
        let mut approve = (*estate.paths[&pid("approve")]).clone();
        if alone {
            approve.needs.remove(&cid(needs[needs.len() - 1]));
            approve.depends_on = BTreeSet::from([pid("sign-in")]);
        }
        approve.leases = Leases { audiences: BTreeSet::from([audience("portal")]), file: None };
        estate.paths.insert(pid("approve"), Arc::new(approve));

        let span = Duration::from_secs(60 + die("span", 0, 40));
        let mut events = Vec::new();
        for n in 0..die("events", 0, 6) {
            let at = Duration::from_millis(die("at", n, u64::try_from(span.as_millis()).unwrap()));
            let event = match die("kind", n, 10) {
                0..5 => {
                    let life = Duration::from_secs(10 + die("life", n, 90));
                    let late = Duration::from_millis(die("late", n, 4_000));
                    Event::Renewed(usize::try_from(die("which", n, files)).unwrap(), life, late)
                }
                5..7 => {
                    let far = i64::try_from(10 + die("far", n, 4_000)).unwrap();
                    Event::Stepped(if die("back", n, 3) == 0 { far } else { -far })
                }
                _ => Event::Away(Duration::from_millis(die("away", n, 20_000))),
            };
            events.push((at, event));
        }
        // So little that no rule can see it; once, because each minute of honesty makes room for another. A margin below
        // what cannot be seen would be no margin.
        if margin >= 4 && die("little", 0, 3) == 0 {
            let at = Duration::from_millis(die("when", 0, 40_000));
            events.push((at, Event::Stepped(i64::try_from(die("much", 0, 7)).unwrap() - 3)));
        }
        events.sort_by_key(|(at, _)| core::cmp::Reverse(*at));
        let estate = Arc::new(estate);
        let world = World::new(seed, start(), (*estate).clone());
        Self { seed, world, material: Arc::new(material), estate, events, span }
    }

    /// The time as it is, whatever the wall clock says.
    fn truth(&self) -> Timestamp {
        start().plus(self.world.clock.boottime().as_duration())
    }

    fn knows_everything(&self) -> keyward::domain::gate::Verdict {
        let now = self.truth();
        let all = self.material.files.lock().unwrap().keys().cloned().collect::<Vec<_>>();
        let sightings = all.iter().enumerate().map(|(n, file)| {
            let seen = self.material.seen(file);
            let crls = if n == 0 { self.material.list(seen.chain().unwrap()) } else { BTreeMap::new() };
            let stored = Some(Observation { at: now, seen });
            (cid(&format!("m{n}")), Sighting { stored, crls, ..Sighting::default() })
        });
        let sightings = sightings.collect();
        let (state, none, mut paths) = (State::default(), BTreeMap::new(), BTreeMap::new());
        let keys = std::collections::BTreeMap::new();
        let evidence = |paths| Evidence {
            estate: &self.estate,
            state: &state,
            sightings: &sightings,
            keys: &keys,
            paths,
            clock_fault: None,
            store_fault: None,
            configuration_fault: None,
            unrecorded: None,
            now,
            boot: self.world.clock.boottime(),
        };
        let below = verdict(&self.estate.paths[&pid("sign-in")], &evidence(&none));
        paths.insert(pid("sign-in"), below.as_dependency());
        let evidence = Evidence { paths: &paths, ..evidence(&none) };
        verdict(&self.estate.paths[&pid("approve")], &evidence)
    }

    fn moment(&self) -> Moment {
        Moment { wall: self.world.clock.now(), boot: self.world.clock.boottime() }
    }

    /// Nothing that somebody holds says more than is true.
    fn judge(&self, given: &mut Vec<Lease>, holder: &Holder<VolatileEpochs>, told: &mut Told) {
        let here = Machine::Same { boot_id: "boot-0".into() };
        let now = self.moment();
        // What is over by the clock that does not step never comes back.
        given.retain(|lease| now.boot < lease.grant.boot_expires);
        let alive = given.iter().filter(|lease| lease.grant.holds(&here, now).is_ok());
        let (alive, held) = (u64::try_from(alive.count()).unwrap(), holder.is_open(now));
        told.verified += alive;
        let known = *self.material.open_until.lock().unwrap();
        if (alive > 0 || held) && known.is_none_or(|until| self.truth() >= until) {
            let truth = self.knows_everything();
            *self.material.open_until.lock().unwrap() = Some(truth.until);
            assert!(
                truth.is_open(),
                "seed {}: a lease verifies at {}, and {:?}",
                self.seed,
                self.truth(),
                truth.reasons
            );
        }
    }

    /// The gate is open only while what it stands on is good: its margin may be what nobody can see of a clock.
    fn ask(&self, engine: &Engine, told: &mut Told) {
        if !engine.gate(&pid("approve")).is_open() {
            told.closed += 1;
            return;
        }
        told.opened += 1;
        let files = self.material.files.lock().unwrap();
        // A list has no margin, so what nobody can see of a clock stands beyond its end.
        let list = self.material.list_until.plus(Duration::from_secs(3));
        let first = files.values().map(|(end, _)| *end).min().unwrap().min(list);
        assert!(self.truth() <= first, "seed {}: open at {}, and one ended at {first}", self.seed, self.truth());
    }

    fn live(&mut self) -> Told {
        let clock = self.world.clock.clone();
        let mut told = Told::default();
        let mut given: Vec<Lease> = Vec::new();
        let key = self.world.ports().signer.keys()[0].text.clone();
        let expected = Expected::here(audience("portal"), pid("approve"), "boot-0");
        let holder = Holder::new(Keys::parse(&key).unwrap(), expected, VolatileEpochs::default());
        while clock.boottime().as_duration() < self.span {
            let store = Arc::new(self.world.store.recovered());
            self.world.store = store;
            let ports = Ports { prober: self.material.clone(), ..self.world.ports() };
            let estate = self.estate.clone();
            let away = run(&clock, async {
                let engine = Engine::start(ports, estate).await.unwrap();
                let beside = self.beside(&engine, &mut given, &holder, &mut told);
                let guardian = engine.run(core::future::pending());
                match select(core::pin::pin!(beside), core::pin::pin!(guardian)).await {
                    Either::Left((away, _)) => away,
                    Either::Right((ended, _)) => panic!("the guardian ended: {ended:?}"),
                }
            });
            let (away, rest) = away.unwrap();
            self.events = rest;
            // Dead, and whoever has a lease has it still.
            for _ in 0..away.as_millis().div_ceil(500) {
                clock.pass(Duration::from_millis(500));
                self.judge(&mut given, &holder, &mut told);
            }
        }
        told
    }

    /// What happens beside the guardian until it dies: for how long it is away then, and what is still to come.
    async fn beside(
        &self,
        engine: &Engine,
        given: &mut Vec<Lease>,
        holder: &Holder<VolatileEpochs>,
        told: &mut Told,
    ) -> (Duration, Vec<(Duration, Event)>) {
        let clock = &self.world.clock;
        let mut events = self.events.clone();
        let mut heard: Vec<(Duration, usize)> = Vec::new();
        let portal = audience("portal");
        let mut turn = 0_u64;
        told.epochs.extend(engine.epoch());
        loop {
            clock.sleep(Duration::from_millis(500)).await;
            let now = clock.boottime().as_duration();
            if now >= self.span {
                return (Duration::ZERO, Vec::new());
            }
            while let Some((_, event)) = events.pop_if(|(at, _)| *at <= now) {
                match event {
                    Event::Renewed(n, life, late) => {
                        let end = self.truth().plus(life);
                        let file = format!("/m/{n}");
                        let old = self.material.files.lock().unwrap()[&file].0;
                        self.material.put(&file, end.max(old));
                        heard.push((now + late, n));
                    }
                    Event::Stepped(seconds) => clock.step(seconds),
                    Event::Away(span) => return (span, events),
                }
            }
            heard.retain(|(at, n)| {
                let due = *at <= now;
                if due {
                    engine.command(Command::Look(cid(&format!("m{n}")))).unwrap();
                }
                !due
            });
            self.ask(engine, told);
            turn += 1;
            // At odd moments, so that every age of a verdict is met.
            if turn % 3 == self.seed % 3
                && let Ok(lease) = engine.lease(&pid("approve"), &portal, None)
            {
                told.leases += 1;
                // A signature takes longer to verify than all the rest of a history's second.
                if turn.is_multiple_of(4) {
                    drop(holder.take(lease.text.as_bytes(), self.moment()));
                }
                given.push(lease.claims);
            }
            self.judge(given, holder, told);
        }
    }
}

#[test]
fn no_lease_verifies_and_no_gate_is_open_when_full_knowledge_says_closed() {
    // A debug build proves the same with fewer in a few seconds; KEYWARD_HISTORIES says how many otherwise.
    let usual = if cfg!(debug_assertions) { 3_000 } else { 10_000 };
    let histories = std::env::var("KEYWARD_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(usual);
    let workers = std::thread::available_parallelism().map_or(2, |n| u64::try_from(n.get()).unwrap()).min(8);
    let all: Vec<Told> = std::thread::scope(|scope| {
        let one = |worker: u64| {
            let mut sum = Told::default();
            for seed in (worker..histories).step_by(usize::try_from(workers).unwrap()) {
                let told = History::new(seed).live();
                sum.leases += told.leases;
                sum.verified += told.verified;
                sum.opened += told.opened;
                sum.closed += told.closed;
                let rising: Vec<u64> = told.epochs.iter().copied().collect();
                sum.epochs.extend(rising);
            }
            sum
        };
        let running: Vec<_> = (0..workers).map(|worker| scope.spawn(move || one(worker))).collect();
        running.into_iter().map(|w| w.join().unwrap()).collect()
    });
    let sum = |of: fn(&Told) -> u64| all.iter().map(of).sum::<u64>();
    let (leases, verified, opened, closed) =
        (sum(|t| t.leases), sum(|t| t.verified), sum(|t| t.opened), sum(|t| t.closed));
    println!("{histories} histories: {leases} leases, {verified} verifications, open {opened}, closed {closed}");
    // A property over nothing would hold too.
    assert!(leases > histories * 5 && verified > leases && opened > histories * 10 && closed > histories * 10);
}
