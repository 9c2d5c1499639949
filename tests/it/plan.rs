//! What holds for every plan, over random estates and histories.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use keyward::domain::certificate::CertId;
use keyward::domain::check::check;
use keyward::domain::execution::{Attempt, Failure, Fault, Generation, Stage, Trigger};
use keyward::domain::id::{AttemptId, CredentialId, EntryId, Ulid};
use keyward::domain::inventory::Estate;
use keyward::domain::key::Digest;
use keyward::domain::limits::{BucketKey, LETS_ENCRYPT, LimitKind};
use keyward::domain::plan::{
    Action, ActionKind, Held, HeldReason, Plan, PlanInput, ledger_changes, plan, rests, schedule_of,
};
use keyward::domain::renewal::Rule;
use keyward::domain::state::{AriRecord, Change, CredentialRecord, IssuerRecord, Request, State};
use keyward::domain::time::{DAY, HOUR, Timestamp, Validity};
use proptest::prelude::*;

use crate::harness::estate::{add, cid, credential, estate, iid, managed, names, start};

/// One credential's random past, in a form that shrinks well.
#[derive(Clone, Debug)]
pub struct Past {
    pub lifetime_hours: u64,
    /// Where in its lifetime it is now, in thousandths; above 1,000 is expired.
    pub age_permille: u64,
    pub issued: bool,
    pub ari: Option<(i64, u64)>,
    pub failures: u32,
    pub fault: Fault,
    pub backoff_secs: Option<i64>,
    pub requested: bool,
    pub renamed: bool,
    pub in_flight: Option<u8>,
    pub not_before: Option<i64>,
    pub issuers: u8,
}

fn past() -> impl Strategy<Value = Past> {
    let first =
        (prop::sample::select(vec![2_u64, 160, 47 * 24, 90 * 24, 398 * 24]), 0_u64..1_100, prop::bool::weighted(0.8));
    let second = (prop::option::of((-100_i64..100, 0_u64..50)), 0_u32..8, prop::option::of(-5_000_i64..5_000));
    let third = (prop::bool::weighted(0.1), prop::bool::weighted(0.1), prop::option::weighted(0.2, 0_u8..3));
    let fault = prop::sample::select(vec![Fault::Ours, Fault::Issuer, Fault::Subject, Fault::Network, Fault::Host]);
    (first, second, third, fault, prop::option::of(-5_000_i64..5_000), 1_u8..4).prop_map(
        |((lifetime_hours, age_permille, issued), (ari, failures, backoff_secs), third, fault, not_before, issuers)| {
            let (requested, renamed, in_flight) = third;
            Past {
                lifetime_hours,
                age_permille,
                issued,
                ari,
                failures,
                fault,
                backoff_secs,
                requested,
                renamed,
                in_flight,
                not_before,
                issuers,
            }
        },
    )
}

fn ulid(n: usize) -> Ulid {
    let mut random = [0; 10];
    random[..8].copy_from_slice(&(n as u64).to_be_bytes());
    Ulid::new(start(), random)
}

fn shifted(now: Timestamp, seconds: i64) -> Timestamp {
    Timestamp::from_unix(now.unix() + seconds)
}

pub struct Scene {
    pub estate: Estate,
    pub state: State,
    running: BTreeSet<AttemptId>,
    due: Vec<CredentialId>,
    pub now: Timestamp,
}

impl Scene {
    pub fn build(pasts: &[Past], breakers: &[(u32, Option<i64>)], spent: &[(usize, u16)], in_flight: usize) -> Self {
        let now = start().plus(DAY * 500);
        let mut estate = estate(&[("le", &LETS_ENCRYPT), ("zero", &LETS_ENCRYPT), ("free", &[])]);
        estate.orders_in_flight = in_flight;
        let mut state = State::default();
        let mut running = BTreeSet::new();
        for (issuer, (failures, open)) in ["le", "zero", "free"].iter().zip(breakers) {
            let open_until = open.map(|s| shifted(now, s));
            let record = IssuerRecord { failures: *failures, open_until, ..IssuerRecord::default() };
            state.issuers.insert(iid(issuer), record);
        }
        for (i, past) in pasts.iter().enumerate() {
            let id = format!("c{i}");
            let name = format!("host-{}.example-{}.com", i, i % 3);
            let issuers = &["le", "zero", "free"][..usize::from(past.issuers)];
            add(&mut estate, credential(&id, managed(&[&name], issuers)));
            let record = record(past, i, &name, now);
            state.credentials.insert(cid(&id), Arc::new(record));
            if let Some(stage) = past.in_flight {
                let stage = match stage {
                    0 => Stage::Begun,
                    1 => Stage::Ordered { url: Arc::from("https://ca/order") },
                    _ => Stage::Issued,
                };
                let attempt = Attempt {
                    id: AttemptId(ulid(10_000 + i)),
                    credential: cid(&id),
                    issuer: iid("le"),
                    names: names(&[&name]),
                    trigger: Trigger::Lifetime,
                    replaces: None,
                    began: now,
                    intent: EntryId(ulid(20_000 + i)),
                    stage,
                    failures: 0,
                    not_before: past.not_before.map(|s| shifted(now, s)),
                };
                if i % 2 == 0 {
                    running.insert(attempt.id);
                }
                state.attempts.insert(attempt.id, Arc::new(attempt));
            }
        }
        for (who, minutes) in spent {
            let Some(credential) = estate.credentials.values().nth(who % estate.credentials.len().max(1)) else {
                continue;
            };
            let key: Arc<str> = credential.managed().unwrap().names.key().clone();
            state.apply(&Change::AutomaticIssuance(key, now.minus(Duration::from_secs(u64::from(*minutes) * 60))));
        }
        let due = estate.credentials.keys().cloned().collect();
        Self { estate, state, running, due, now }
    }

    pub fn input<'a>(
        &'a self,
        sightings: &'a BTreeMap<CredentialId, keyward::domain::inventory::Sighting>,
    ) -> PlanInput<'a> {
        PlanInput {
            estate: &self.estate,
            state: &self.state,
            sightings,
            running: &self.running,
            due: &self.due,
            stopped: None,
            now: self.now,
        }
    }

    /// What the engine does with a plan, as far as the state goes.
    fn carry_out(&mut self, plan: &Plan) {
        for (n, Action { credential, kind }) in plan.actions.iter().enumerate() {
            match kind {
                ActionKind::Issue(issue) => {
                    for change in ledger_changes(&self.state.ledger, &issue.spends, self.now) {
                        self.state.apply(&change);
                    }
                    let attempt = Attempt {
                        id: AttemptId(ulid(50_000 + n)),
                        credential: credential.clone(),
                        issuer: issue.issuer.clone(),
                        names: self.estate.credentials[credential].managed().unwrap().names.clone(),
                        trigger: issue.trigger.clone(),
                        replaces: issue.replaces.clone(),
                        began: self.now,
                        intent: EntryId(ulid(60_000 + n)),
                        stage: Stage::Begun,
                        failures: 0,
                        not_before: None,
                    };
                    self.running.insert(attempt.id);
                    self.state.apply(&Change::Attempt(Arc::new(attempt)));
                }
                ActionKind::Resume(id) => {
                    self.running.insert(*id);
                }
                ActionKind::Reinstall(_) => {}
            }
        }
    }
}

fn record(past: &Past, i: usize, name: &str, now: Timestamp) -> CredentialRecord {
    let lifetime = HOUR * u32::try_from(past.lifetime_hours).unwrap();
    let age = lifetime * u32::try_from(past.age_permille).unwrap() / 1_000;
    let not_before = now.minus(age);
    let cert_id = CertId(Arc::from(format!("aki.{i}")));
    let generation = Generation {
        slot: AttemptId(ulid(i)),
        issuer: iid("le"),
        fingerprint: Digest::of(&i.to_be_bytes()),
        spki: Digest::of(b"key"),
        serial: Arc::from("01"),
        cert_id: Some(cert_id.clone()),
        validity: Validity { not_before, not_after: not_before.plus(lifetime) },
        names: if past.renamed { names(&["old.example.com"]) } else { names(&[name]) },
        trigger: Trigger::First,
        installed_at: not_before,
        verified_at: None,
        key_since: not_before,
    };
    let ari = past.ari.map(|(from, length)| {
        let window =
            (shifted(now, from * 3_600), shifted(now, from * 3_600 + i64::try_from(length).unwrap() * 3_600 + 1));
        AriRecord { cert_id, window: Some(window), picked: Some(window.0), next_poll: now, explanation: None }
    });
    let failed = (past.failures > 0).then(|| Failure {
        at: now,
        code: Arc::from(["KW3001", "KW2202", "KW2208"][past.failures as usize % 3]),
        text: Arc::from("failed"),
        fault: past.fault,
        issuer: Some(iid("le")),
    });
    CredentialRecord {
        current: past.issued.then_some(generation),
        ari: ari.filter(|_| past.issued),
        failures: past.failures,
        last_failure: failed,
        next_attempt: past.backoff_secs.map(|s| shifted(now, s)),
        requested: past.requested.then(|| Request { by: Arc::from("uid:1"), at: now }),
        ..CredentialRecord::default()
    }
}

pub fn scene() -> impl Strategy<Value = Scene> {
    let breakers = prop::collection::vec((0_u32..6, prop::option::of(-1_000_i64..1_000)), 3);
    let spent = prop::collection::vec((0_usize..12, 0_u16..2_000), 0..10);
    (prop::collection::vec(past(), 1..12), breakers, spent, 1_usize..9)
        .prop_map(|(pasts, breakers, spent, in_flight)| Scene::build(&pasts, &breakers, &spent, in_flight))
}

impl std::fmt::Debug for Scene {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scene").field("state", &self.state).finish_non_exhaustive()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_checker_accepts_every_plan(scene in scene()) {
        let sightings = BTreeMap::new();
        let input = scene.input(&sightings);
        let plan = plan(&input);
        prop_assert_eq!(check(&plan, &input), Ok(()));
    }

    #[test]
    fn planning_twice_gives_the_same_and_after_carrying_it_out_nothing_is_added(mut scene in scene()) {
        let sightings = BTreeMap::new();
        let first = plan(&scene.input(&sightings));
        prop_assert_eq!(&first, &plan(&scene.input(&sightings)));
        scene.carry_out(&first);
        let second = plan(&scene.input(&sightings));
        prop_assert_eq!(check(&second, &scene.input(&sightings)), Ok(()));
        let acted: BTreeSet<_> = first.actions.iter().map(|a| &a.credential).collect();
        for action in second.actions {
            prop_assert!(!acted.contains(&action.credential), "{} is acted on twice", action.credential);
        }
    }

    #[test]
    fn what_rests_is_what_a_plan_holds_because_it_is_not_due(scene in scene()) {
        let sightings = BTreeMap::new();
        for id in &scene.due {
            let due = [id.clone()];
            let made = plan(&PlanInput { due: &due, ..scene.input(&sightings) });
            let not_due = |held: &&Held| matches!(held.reason, HeldReason::NotDue(_) | HeldReason::EndsEarlier);
            let rests = rests(&scene.input(&sightings), id);
            prop_assert_eq!(made.held.iter().find(not_due), rests.as_ref());
        }
    }

    #[test]
    fn past_its_emergency_point_only_named_reasons_hold_a_renewal(scene in scene()) {
        let sightings = BTreeMap::new();
        let made = plan(&scene.input(&sightings));
        for held in &made.held {
            let managed = scene.estate.credentials[&held.credential].managed().unwrap();
            let record = scene.state.credential(&held.credential);
            if schedule_of(managed, &record).is_some_and(|s| s.emergency_at <= scene.now) {
                let waits_for_time = matches!(held.reason, HeldReason::NotDue(_) | HeldReason::Window);
                prop_assert!(!waits_for_time, "{}: {:?}", held.credential, held.reason);
            }
        }
    }

    #[test]
    fn the_emergency_point_wins_over_any_window(past in past(), hours in 0_i64..50_000) {
        let mut past = Past { issued: true, ..past };
        past.ari = Some((hours, 10));
        let scene = Scene::build(&[past], &[(0, None); 3], &[], 8);
        let managed = scene.estate.credentials[&cid("c0")].managed().unwrap();
        let schedule = schedule_of(managed, &scene.state.credential(&cid("c0"))).unwrap();
        prop_assert!(schedule.renew_at <= schedule.emergency_at);
        prop_assert_eq!(schedule, schedule_of(managed, &scene.state.credential(&cid("c0"))).unwrap());
        if schedule.renew_at == schedule.emergency_at {
            prop_assert!(matches!(schedule.rule, Rule::Emergency | Rule::Ari));
        }
    }

    #[test]
    fn what_is_held_with_a_time_is_held_into_the_future(scene in scene()) {
        let sightings = BTreeMap::new();
        for held in plan(&scene.input(&sightings)).held {
            if let Some(until) = held.until {
                prop_assert!(until > scene.now, "{}: {:?} until {until}, now {}", held.credential, held.reason, scene.now);
            }
        }
    }
}

/// Due, and nothing ever failed.
pub fn due() -> Past {
    Past {
        lifetime_hours: 90 * 24,
        age_permille: 900,
        issued: true,
        ari: None,
        failures: 0,
        fault: Fault::Ours,
        backoff_secs: None,
        requested: false,
        renamed: false,
        in_flight: None,
        not_before: None,
        issuers: 1,
    }
}

#[test]
fn those_who_wait_for_a_token_of_one_limit_are_told_their_turns_the_most_urgent_first() {
    let ages = [700, 900, 800];
    let pasts: Vec<Past> = ages.iter().map(|age| Past { age_permille: *age, ..due() }).collect();
    let mut scene = Scene::build(&pasts, &[(0, None); 3], &[], 8);
    let orders = LETS_ENCRYPT[0];
    let spent = orders.refill * (orders.capacity - orders.reserve);
    let bucket = BucketKey::new(iid("le"), LimitKind::Orders, Arc::from(""));
    scene.state.apply(&Change::Bucket(bucket, scene.now.plus(spent)));
    let sightings = BTreeMap::new();
    let made = plan(&scene.input(&sightings));
    assert_eq!((made.actions.len(), check(&made, &scene.input(&sightings))), (0, Ok(())));
    let turns: Vec<_> = made.held.iter().map(|h| (h.credential.as_str(), h.until.unwrap())).collect();
    let turn = |n: u32| scene.now.plus(orders.refill * n);
    assert_eq!(turns, [("c1", turn(1)), ("c2", turn(2)), ("c0", turn(3))]);
    let text = made.held[0].reason.text();
    assert!(text.contains("le: its limit orders is reached until"), "{text}");
}

#[test]
fn the_checker_refuses_what_breaks_a_rule() {
    let past = due();
    let scene = Scene::build(&[past.clone(), Past { age_permille: 100, ..past }], &[(0, None); 3], &[], 8);
    let sightings = BTreeMap::new();
    let input = scene.input(&sightings);
    let good = plan(&input);
    assert_eq!((good.actions.len(), check(&good, &input)), (1, Ok(())));
    let action = &good.actions[0];
    let ActionKind::Issue(issue) = &action.kind else { panic!("{action:?}") };
    let bad = |change: &dyn Fn(&mut Plan)| {
        let mut plan = good.clone();
        change(&mut plan);
        check(&plan, &input).err().map(|v| v.what)
    };
    let with = |edit: &dyn Fn(&mut keyward::domain::plan::Issue)| {
        bad(&|p: &mut Plan| {
            let mut issue = issue.clone();
            edit(&mut issue);
            p.actions[0].kind = ActionKind::Issue(issue);
        })
    };
    assert!(bad(&|p| p.actions.push(p.actions[0].clone())).unwrap().contains("two actions"));
    assert!(bad(&|p| p.actions.clear()).unwrap().contains("neither acted on nor held"));
    assert!(bad(&|p| p.actions[0].credential = cid("c1")).unwrap().contains("before it is due"));
    assert!(bad(&|p| p.actions[0].credential = cid("nobody")).unwrap().contains("not managed"));
    assert!(bad(&|p| p.actions[0].kind = ActionKind::Resume(AttemptId(ulid(1)))).unwrap().contains("resumed"));
    assert!(with(&|i| i.issuer = iid("zero")).unwrap().contains("does not name"));
    assert!(with(&|i| i.trigger = Trigger::Manual(Arc::from("me"))).unwrap().contains("human"));
    assert!(with(&|i| i.spends.clear()).unwrap().contains("not exempt"));
}
