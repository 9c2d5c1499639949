//! Actions that wait for the quorum, and a start that a witness forbids, in simulated time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use keyward::domain::inventory::Estate;
use keyward::domain::limits::LETS_ENCRYPT;
use keyward::domain::witness::{Witnessed, Word};
use keyward::engine::{Command, Engine};
use keyward::ports::{Clock as _, Doing, HostError, Ports, Store as _, StoreError, Witnesses};
use keyward::sim::world::World;

use crate::harness::estate::{add, cid, credential, estate, managed, start};

/// Witnesses that sign while they are up.
struct Moody {
    up: AtomicBool,
    asked: AtomicUsize,
    word: Word,
}

impl Moody {
    fn new(up: bool, word: Word) -> Arc<Self> {
        Arc::new(Self { up: AtomicBool::new(up), asked: AtomicUsize::new(0), word })
    }
}

impl Witnesses for Moody {
    fn ask(&self) -> Doing<'_, Vec<(String, Word)>> {
        Box::pin(async { vec![("w".to_owned(), self.word.clone())] })
    }

    fn settled(&self, _: u8) -> Doing<'_, Result<(), HostError>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let up = self.up.load(Ordering::SeqCst);
        Box::pin(async move { if up { Ok(()) } else { Err(HostError("the witness w is away".into())) } })
    }

    fn standing(&self) -> Witnessed {
        Witnessed::default()
    }
}

fn guarded() -> Estate {
    let mut estate = estate(&[("le", &LETS_ENCRYPT)]);
    add(&mut estate, credential("portal", managed(&["portal.example.com"], &["le"])));
    estate
}

fn world() -> World {
    World::new(1, start(), guarded())
}

/// Runs a guardian before these witnesses for `span`.
fn live(world: &World, witnesses: &Arc<Moody>, span: Duration) {
    let ports = Ports { witnesses: witnesses.clone(), ..world.ports() };
    keyward::sim::clock::run(&world.clock, async {
        let engine = Arc::new(Engine::start(ports, Arc::new(guarded())).await.unwrap());
        let (clock, beaten) = (world.clock.clone(), engine.clone());
        let stop = async {
            let end = core::pin::pin!(clock.sleep(span));
            let beats = core::pin::pin!(async {
                loop {
                    clock.sleep(Duration::from_secs(5)).await;
                    beaten.command(Command::Beat).unwrap();
                }
            });
            let _: futures_util::future::Either<_, ((), _)> = futures_util::future::select(end, beats).await;
        };
        engine.run(stop).await.unwrap();
    })
    .unwrap();
}

#[test]
fn nothing_is_ordered_before_the_quorum_has_seen_the_intent_and_it_goes_on_afterwards() {
    let world = world();
    let witnesses = Moody::new(false, Word::Silent("away".into()));
    live(&world, &witnesses, Duration::from_secs(120));
    assert!(witnesses.asked.load(Ordering::SeqCst) >= 1);
    assert!(world.host.installed(&cid("portal")).is_none());
    assert_eq!(world.ca.tally(&keyward::domain::id::IssuerId::parse("le").unwrap()).issued, 0);
    let told = world.notifier.notices().iter().any(|n| n.code == "KW6410" && n.text.contains("the witness w is away"));
    assert!(told, "{:?}", world.notifier.notices());
    let entries = keyward::sim::clock::run(&world.clock, world.store.entries(None, 1_000)).unwrap().unwrap();
    assert!(entries.iter().any(|e| String::from_utf8_lossy(&e.bytes).contains("KW6410")));
    witnesses.up.store(true, Ordering::SeqCst);
    live(&world, &witnesses, Duration::from_secs(86_400));
    assert!(world.host.installed(&cid("portal")).is_some());
}

#[test]
fn a_witness_that_knows_better_forbids_the_start_and_a_silent_one_does_not() {
    for (word, code) in [
        (Word::SawMore { size: 99 }, Some("KW6401")),
        (Word::SawAnother { size: 1 }, Some("KW6402")),
        (Word::Agrees { size: 0 }, None),
        (Word::Silent("away".into()), None),
    ] {
        let world = world();
        let ports = Ports { witnesses: Moody::new(true, word.clone()), ..world.ports() };
        let started = keyward::sim::clock::run(&world.clock, Engine::start(ports, Arc::new(guarded()))).unwrap();
        let found = match started {
            Ok(_) => None,
            Err(StoreError::Distrusted { code, .. }) => Some(code),
            Err(other) => panic!("{other}"),
        };
        assert_eq!(found, code, "{word:?}");
    }
}
