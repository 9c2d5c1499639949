//! CAs that shorten what they issue: what is taken, what is refused, and how often it is tried again.

use std::time::Duration;

use keyward::domain::id::CredentialId;
use keyward::domain::inventory::Estate;
use keyward::domain::plan::HeldReason;
use keyward::domain::state::CredentialRecord;
use keyward::domain::time::{DAY, HOUR, MINUTE};
use keyward::ports::{Clock, Store};
use keyward::sim::world::{Life, World};

use crate::harness::estate::{add, cid, credential, estate, iid, managed, start};

fn one(issuers: &[&str]) -> Estate {
    // Without limits of the CA: what is spared is spared by itself.
    let all: Vec<_> = issuers.iter().map(|id| (*id, &[][..])).collect();
    let mut estate = estate(&all);
    add(&mut estate, credential("portal", managed(&["review.example.com"], issuers)));
    estate
}

fn portal() -> CredentialId {
    cid("portal")
}

fn record(world: &World) -> CredentialRecord {
    let state = keyward::sim::clock::run(&world.clock, world.store.recovered().load()).unwrap().unwrap();
    CredentialRecord::clone(&state.credential(&portal()))
}

/// What entries with this code say of the certificate's end.
fn entries(world: &World, code: &str) -> Vec<serde_json::Value> {
    let all = keyward::sim::clock::run(&world.clock, world.store.recovered().entries(None, 10_000)).unwrap().unwrap();
    let all = all.iter().rev().map(|e| serde_json::from_slice::<serde_json::Value>(&e.bytes).unwrap());
    all.filter(|e| e["data"]["code"] == code).collect()
}

fn shorten(world: &World, issuer: &str, lifetime: Duration) {
    world.ca.behave(&iid(issuer), |b| b.lifetime = lifetime);
}

fn orders(world: &World, issuer: &str) -> u64 {
    world.ca.tally(&iid(issuer)).orders
}

#[test]
fn a_ca_that_revokes_and_shortens_at_once_is_followed() {
    let mut world = World::new(1, start(), one(&["le"]));
    world.ca.behave(&iid("le"), |b| (b.ari, b.revoked_from) = (true, Some(start().plus(DAY * 10))));
    assert_eq!(world.live(DAY * 9), Life::Over);
    shorten(&world, "le", DAY * 6);
    assert_eq!(world.live(DAY * 3), Life::Over);
    assert_eq!((orders(&world, "le"), world.host.installs()), (2, 2), "one order, and it is installed");
    let installed = entries(&world, "KW2006");
    let says = |n: usize| installed[n]["data"]["facts"]["ends_earlier"].to_string();
    assert_eq!(says(0), "null");
    assert!(says(1).contains("its CA asks for a renewal by its window"), "{}", installed[1]);
    assert!(world.notifier.notices().iter().any(|n| n.code == "KW2006" && n.text.contains("its CA asks")));
}

#[test]
fn what_the_ca_wants_but_could_not_be_followed_in_time_is_refused() {
    let mut world = World::new(1, start(), one(&["le"]));
    world.ca.behave(&iid("le"), |b| (b.ari, b.revoked_from) = (true, Some(start().plus(DAY * 10))));
    world.live(DAY * 9);
    shorten(&world, "le", HOUR * 12);
    world.live(DAY * 20);
    assert_eq!((orders(&world, "le"), world.host.installs()), (2, 1));
    assert_eq!(entries(&world, "KW2208").len(), 1);
}

#[test]
fn without_a_wish_of_the_ca_what_ends_earlier_is_refused_once_and_held() {
    let mut world = World::new(1, start(), one(&["le"]));
    world.live(DAY * 30);
    shorten(&world, "le", DAY * 10);
    let clock = world.clock.clone();
    // Due at 60 days; the emergency point is at 85.5.
    let life = world.live_with(DAY * 55, |engine| async move {
        clock.sleep(DAY * 35).await;
        let held = engine.credential(&portal()).unwrap().held.unwrap();
        assert_eq!(held.reason, HeldReason::EndsEarlier);
        assert_eq!(held.until, Some(start().plus(HOUR * 2_052)));
    });
    assert_eq!(life, Life::Over);
    assert_eq!((orders(&world, "le"), world.host.installs()), (2, 1), "one try in 25 days");
    assert_eq!(entries(&world, "KW2202").len(), 1);
    world.live(DAY);
    assert_eq!((orders(&world, "le"), world.host.installs()), (3, 2), "by now it ends later");
}

#[test]
fn a_person_may_take_it_all_the_same() {
    let mut world = World::new(1, start(), one(&["le"]));
    world.live(DAY * 30);
    shorten(&world, "le", DAY * 10);
    world.live(DAY * 35);
    assert_eq!(world.host.installs(), 1);
    world.live_with(MINUTE, |engine| async move { World::ask_renewal(&engine, &portal(), "uid:1000").unwrap() });
    assert_eq!((orders(&world, "le"), world.host.installs()), (3, 2));
}

#[test]
fn nothing_expires_because_nobody_asked_and_few_orders_are_spent_on_that() {
    let mut world = World::new(1, start(), one(&["le"]));
    world.live(DAY * 30);
    shorten(&world, "le", HOUR * 6);
    let mut before = 0;
    for _ in 0..61 * 24 {
        world.live(HOUR);
        let valid = record(&world).current.is_some_and(|g| g.validity.contains(world.clock.now()));
        assert!(valid, "{}", world.clock.now());
        if world.host.installs() == 1 {
            before = orders(&world, "le");
        }
    }
    assert!(world.host.installs() > 1);
    assert!((3..=8).contains(&before), "{before} orders before one could be installed");
}

#[test]
fn another_issuer_has_its_turn() {
    let mut world = World::new(1, start(), one(&["le", "zero"]));
    world.live(DAY * 30);
    shorten(&world, "le", DAY * 10);
    world.live(DAY * 35);
    assert_eq!((orders(&world, "le"), orders(&world, "zero")), (2, 1));
    assert_eq!(world.host.installs(), 2);
}

#[test]
fn a_repair_does_not_make_it_order_again() {
    let mut world = World::new(1, start(), one(&["le"]));
    world.live(DAY * 30);
    shorten(&world, "le", DAY * 10);
    world.live(DAY * 35);
    world.host.delete_files(&portal());
    world.live(DAY * 10);
    assert_eq!((orders(&world, "le"), world.host.installs()), (2, 2), "the files are back");
}
