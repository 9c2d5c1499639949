//! A freeze that is made after something was planned: it meets it before its order, at its CA, or before its files.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyward::domain::certificate::Chain;
use keyward::domain::execution::Stage;
use keyward::domain::id::{AttemptId, CredentialId, IssuerId};
use keyward::domain::inventory::{Estate, Install, KeyReuse, Reload};
use keyward::domain::key::KeyAlgorithm;
use keyward::domain::limits::LETS_ENCRYPT;
use keyward::domain::name::NameSet;
use keyward::domain::time::{DAY, HOUR, MINUTE, Timestamp};
use keyward::engine::{Command, Engine, WantedFreeze};
use keyward::ports::{Accepted, Clock, Deployer, Doing, Expected, HostError, KeyStore, Ports, PrivateKey};
use keyward::sim::clock::{SimClock, run};
use keyward::sim::host::SimHost;
use keyward::sim::world::World;
use serde_json::Value;

use super::{code, scope};
use crate::fault::simulated::entries;
use crate::harness::estate::{add, cid, credential, estate, iid, managed, start};

const SECOND: Duration = Duration::from_secs(1);

/// Where the host takes ten seconds, so that something else happens meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slow {
    Keys,
    Orders,
    Chains,
    Files,
    Nowhere,
}

/// The simulated host, which takes its time.
struct Patient {
    host: Arc<SimHost>,
    clock: Arc<SimClock>,
    slow: Mutex<Slow>,
}

impl Patient {
    async fn at(&self, place: Slow) {
        let slow = *self.slow.lock().unwrap() == place;
        if slow {
            self.clock.sleep(SECOND * 10).await;
        }
    }
}

impl KeyStore for Patient {
    fn prepare<'a>(
        &'a self,
        slot: AttemptId,
        algorithm: KeyAlgorithm,
        names: &'a NameSet,
        reuse: KeyReuse,
        previous: Option<AttemptId>,
    ) -> Doing<'a, Result<Vec<u8>, HostError>> {
        Box::pin(async move {
            self.at(Slow::Keys).await;
            self.host.prepare(slot, algorithm, names, reuse, previous).await
        })
    }

    fn accept<'a>(
        &'a self,
        slot: AttemptId,
        issuer: &'a IssuerId,
        pem: &'a str,
        expected: Expected<'a>,
        now: Timestamp,
    ) -> Doing<'a, Result<Accepted, HostError>> {
        Box::pin(async move {
            self.at(Slow::Orders).await;
            self.host.accept(slot, issuer, pem, expected, now).await
        })
    }

    fn chain(&self, slot: AttemptId) -> Doing<'_, Result<(Arc<Chain>, String), HostError>> {
        Box::pin(async move {
            self.at(Slow::Chains).await;
            self.host.chain(slot).await
        })
    }

    fn private_key(&self, slot: AttemptId) -> Doing<'_, Result<PrivateKey, HostError>> {
        self.host.private_key(slot)
    }

    fn destroy(&self, slot: AttemptId) -> Doing<'_, Result<(), HostError>> {
        self.host.destroy(slot)
    }

    fn slots(&self) -> Doing<'_, Result<Vec<AttemptId>, HostError>> {
        self.host.slots()
    }
}

impl Deployer for Patient {
    fn install<'a>(
        &'a self,
        credential: &'a CredentialId,
        installs: &'a [Install],
        slot: AttemptId,
    ) -> Doing<'a, Result<(), HostError>> {
        Box::pin(async move {
            self.at(Slow::Files).await;
            self.host.install(credential, installs, slot).await
        })
    }

    fn reload<'a>(
        &'a self,
        credential: &'a CredentialId,
        reload: &'a Reload,
        slot: AttemptId,
    ) -> Doing<'a, Result<(), HostError>> {
        self.host.reload(credential, reload, slot)
    }

    fn prune<'a>(
        &'a self,
        credential: &'a CredentialId,
        installs: &'a [Install],
        keep: &'a [AttemptId],
    ) -> Doing<'a, Result<(), HostError>> {
        self.host.prune(credential, installs, keep)
    }
}

fn one() -> Estate {
    let mut estate = estate(&[("le", &LETS_ENCRYPT)]);
    add(&mut estate, credential("portal", managed(&["portal.example.com"], &["le"])));
    estate
}

/// A first certificate; then a renewal that is asked for, with a freeze over all five seconds after it; then a thaw.
/// Gives what was seen under the freeze and after it, with the log.
fn met(slow: Slow) -> (Seen, Seen, Vec<Value>, World) {
    let world = World::new(1, start(), one());
    let clock = world.clock.clone();
    let patient = Arc::new(Patient { host: world.host.clone(), clock: clock.clone(), slow: Mutex::new(Slow::Nowhere) });
    let ports = Ports { keys: patient.clone(), deployer: patient.clone(), ..world.ports() };
    let mut seen = Vec::new();
    run(&clock, async {
        let engine = Arc::new(Engine::start(ports, Arc::new(one())).await.unwrap());
        let act = async {
            clock.sleep(MINUTE * 5).await;
            *patient.slow.lock().unwrap() = slow;
            engine.command(Command::Renew { credential: cid("portal"), by: Arc::from("uid:0") }).unwrap();
            clock.sleep(SECOND * 5).await;
            let wanted = WantedFreeze { scope: scope("all"), reason: "now".into(), until: clock.now().plus(DAY) };
            let freeze = engine.freeze(&wanted, "uid:0").await.unwrap();
            clock.sleep(HOUR).await;
            *patient.slow.lock().unwrap() = Slow::Nowhere;
            seen.push(Seen::of(&world, &engine));
            let reason = engine.may_thaw(freeze, "over").unwrap();
            engine.ask(Command::Thaw { id: freeze, reason, by: Arc::from("uid:0") }).await.unwrap();
            clock.sleep(HOUR).await;
            seen.push(Seen::of(&world, &engine));
        };
        let stop = async {
            let ((), ()) = futures_util::join!(act, clock.sleep(HOUR * 3));
        };
        engine.run(stop).await.unwrap();
    })
    .unwrap();
    let [under, after] = <[Seen; 2]>::try_from(seen).unwrap();
    let log = entries(&world);
    (under, after, log, world)
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    orders: u64,
    installs: u64,
    slots: usize,
    stage: Option<&'static str>,
    frozen: bool,
    requested: bool,
}

impl Seen {
    fn of(world: &World, engine: &Engine) -> Self {
        let view = engine.credential(&cid("portal")).unwrap();
        Self {
            orders: world.ca.tally(&iid("le")).orders,
            installs: world.host.installs(),
            slots: world.host.slot_count(),
            stage: view.attempt.as_ref().map(|a| Stage::as_str(&a.stage)),
            frozen: view.held.is_some_and(|h| h.reason.frozen_by().is_some()),
            requested: view.record.requested.is_some(),
        }
    }
}

fn count(log: &[Value], wanted: &str) -> usize {
    log.iter().filter(|e| code(e) == wanted).count()
}

#[test]
fn what_has_not_ordered_yet_is_ended_and_planned_anew_after_the_thaw() {
    let (under, after, log, _) = met(Slow::Keys);
    let expected = Seen { orders: 1, installs: 1, slots: 1, stage: None, frozen: true, requested: true };
    assert_eq!(under, expected, "no second order, the unused key is gone, and the wish is kept");
    assert_eq!((after.orders, after.installs, after.stage, after.frozen), (2, 2, None, false));
    let stopped: Vec<&Value> = log.iter().filter(|e| code(e) == "KW4074").collect();
    assert_eq!(stopped.len(), 1);
    let data = &stopped[0]["data"];
    assert_eq!((data["phase"].as_str(), data["outcome"].as_str()), (Some("outcome"), Some("denied")), "{data}");
    assert_eq!(data["facts"]["freezes"].as_array().unwrap().len(), 1, "it says by which: {data}");
    let begun = log.iter().find(|e| e["id"] == data["intent_ref"]).unwrap();
    assert_eq!(begun["data"]["action"], "certificate.issue");
    assert_eq!((count(&log, "KW4071"), count(&log, "KW4072"), count(&log, "KW4073")), (1, 1, 0));
}

#[test]
fn what_is_issued_waits_in_the_key_store_with_the_files_untouched() {
    let (under, after, log, world) = met(Slow::Chains);
    assert_eq!((under.orders, under.installs, under.stage, under.frozen), (2, 1, Some("issued"), true), "{under:?}");
    assert_eq!(
        (after.orders, after.installs, after.stage),
        (2, 2, None),
        "the same certificate is installed: {after:?}"
    );
    let postponed: Vec<&Value> = log.iter().filter(|e| code(e) == "KW4074").collect();
    assert_eq!(postponed.len(), 1);
    assert_eq!(postponed[0]["data"]["action"], "certificate.postpone");
    assert_eq!(world.ca.tally(&iid("le")).violations, 0);
}

#[test]
fn an_installation_that_has_begun_is_finished() {
    let (under, after, log, _) = met(Slow::Files);
    assert_eq!((under.orders, under.installs, under.stage), (2, 2, None), "{under:?}");
    assert_eq!((after.orders, after.installs), (2, 2));
    assert_eq!(count(&log, "KW4074"), 0);
}

#[test]
fn an_order_at_its_ca_is_followed_to_its_certificate_which_then_waits() {
    let (under, after, log, _) = met(Slow::Orders);
    assert_eq!((under.orders, under.installs, under.stage, under.frozen), (2, 1, Some("issued"), true), "{under:?}");
    assert_eq!((after.orders, after.installs, after.stage), (2, 2, None), "{after:?}");
    let (issued, begun) = (log.iter().rposition(|e| code(e) == "KW2003"), log.iter().position(|e| code(e) == "KW4071"));
    assert!(issued > begun, "it was issued under the freeze");
}
