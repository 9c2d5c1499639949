//! What a scope is over, and what a freeze lets through.

use std::sync::Arc;

use keyward::domain::execution::{Generation, Stage, Trigger};
use keyward::domain::freeze::Emergency;
use keyward::domain::frozen::{Over, frozen, holds, is_known, last_safe_moment, over_issuer, over_path};
use keyward::domain::id::{AttemptId, Ulid};
use keyward::domain::key::Digest;
use keyward::domain::plan::schedule_of;
use keyward::domain::renewal::Schedule;
use keyward::domain::state::{CredentialRecord, State};
use keyward::domain::time::{DAY, HOUR, Timestamp, Validity};

use super::{fid, freeze, scope, three};
use crate::harness::estate::{cid, iid, names, pid, start};

const SCOPES: [&str; 9] = [
    "all",
    "path:approve",
    "path:sign-in",
    "owner:team portal",
    "owner:team web",
    "issuer:le",
    "issuer:zero",
    "label:app=peer",
    "label:app=nothing",
];

#[test]
fn a_scope_is_over_exactly_what_it_says() {
    let estate = three();
    // By scope: the credentials whose actions at their first issuer it blocks, and the paths that it is over.
    let expected: [(&[&str], &[&str]); 9] = [
        (&["peer", "portal", "web"], &["approve", "sign-in"]),
        (&["peer", "portal"], &["approve"]),
        (&["peer"], &["approve", "sign-in"]),
        (&["portal"], &["approve"]),
        (&["web"], &[]),
        (&["portal", "web"], &[]),
        (&["peer"], &[]),
        (&["peer"], &["approve", "sign-in"]),
        (&[], &[]),
    ];
    for (text, (credentials, paths)) in SCOPES.into_iter().zip(expected) {
        let scope = scope(text);
        let over = Over::new(&scope, &estate);
        let first = |id: &&str| estate.credentials[&cid(id)].managed().unwrap().issuers.first();
        let is_over = |id: &&str| over.is_over(&estate.credentials[&cid(id)], first(id));
        assert_eq!(["peer", "portal", "web"].into_iter().filter(is_over).collect::<Vec<_>>(), credentials, "{text}");
        let over_them = |id: &&str| over_path(&scope, &pid(id), &estate);
        assert_eq!(["approve", "sign-in"].into_iter().filter(over_them).collect::<Vec<_>>(), paths, "{text}");
        assert_eq!(is_known(&scope, &estate), text != "label:app=nothing", "{text}");
    }
    for text in ["path:nobody", "owner:portal", "issuer:nobody", "label:portal=app"] {
        assert!(!is_known(&scope(text), &estate), "{text}");
    }
}

#[test]
fn the_owner_and_labels_of_a_watch_count_for_the_paths_that_stand_on_it() {
    let mut estate = three();
    let watch = keyward::domain::inventory::Watch {
        pattern: "/etc/peers/*.pem".into(),
        password_file: None,
        owner: Some("team watch".into()),
        labels: [("app".to_owned(), "watch".to_owned())].into(),
    };
    estate.watches.insert(cid("peers"), Arc::new(watch));
    let mut approve = (*estate.paths[&pid("approve")]).clone();
    approve.needs.insert(cid("peers"));
    estate.paths.insert(pid("approve"), Arc::new(approve));
    for text in ["owner:team watch", "label:app=watch"] {
        assert!(is_known(&scope(text), &estate) && over_path(&scope(text), &pid("approve"), &estate), "{text}");
        assert!(!over_path(&scope(text), &pid("sign-in"), &estate), "{text}");
    }
}

#[test]
fn paths_in_a_circle_are_walked_once() {
    let mut estate = three();
    let mut sign_in = (*estate.paths[&pid("sign-in")]).clone();
    sign_in.depends_on = [pid("approve"), pid("nobody")].into_iter().collect();
    estate.paths.insert(pid("sign-in"), Arc::new(sign_in));
    assert!(over_path(&scope("owner:team portal"), &pid("sign-in"), &estate));
}

/// Ninety days from the start on.
fn record() -> CredentialRecord {
    let generation = Generation {
        slot: AttemptId(Ulid::new(start(), [1; 10])),
        issuer: iid("le"),
        fingerprint: Digest::of(b"leaf"),
        spki: Digest::of(b"key"),
        serial: Arc::from("01"),
        cert_id: None,
        validity: Validity { not_before: start(), not_after: start().plus(DAY * 90) },
        names: names(&["portal.example-portal.com"]),
        trigger: Trigger::First,
        installed_at: start(),
        verified_at: None,
        key_since: start(),
    };
    CredentialRecord { current: Some(generation), ..CredentialRecord::default() }
}

#[test]
fn the_last_safe_moment_is_earlier_by_the_longest_margin_of_a_path() {
    let estate = three();
    let of = |id: &str| -> (Schedule, Timestamp) {
        let schedule = schedule_of(estate.credentials[&cid(id)].managed().unwrap(), &record()).unwrap();
        (schedule, last_safe_moment(&estate, &cid(id), &schedule))
    };
    let (schedule, portal) = of("portal");
    assert_eq!(schedule.emergency_at.since(portal), HOUR * 2);
    let (schedule, web) = of("web");
    assert_eq!(schedule.emergency_at, web);
}

#[test]
fn what_cannot_wait_goes_on_unless_emergencies_are_blocked_and_what_was_never_there_waits() {
    let mut estate = three();
    let portal = estate.credentials[&cid("portal")].clone();
    let schedule = schedule_of(portal.managed().unwrap(), &record()).unwrap();
    let safe = last_safe_moment(&estate, &cid("portal"), &schedule);
    let mut state = State::default();
    let found = |estate: &_, state: &State, schedule: Option<&Schedule>, now| {
        frozen(estate, state, &portal, Some(&iid("le")), schedule, now)
    };
    assert_eq!(found(&estate, &state, Some(&schedule), start()), None, "nothing is frozen");
    let end = start().plus(DAY * 200);
    state.freezes.insert(fid(1), freeze("path:approve", start().plus(DAY)));
    state.freezes.insert(fid(2), freeze("issuer:le", end));
    state.freezes.insert(fid(3), freeze("owner:team web", end));
    let both = found(&estate, &state, Some(&schedule), start()).unwrap();
    let ids: Vec<_> = both.by.iter().map(|(id, _)| *id).collect();
    assert_eq!((ids, both.until), (vec![fid(2), fid(1)], safe), "the one that ends last comes first");
    let after = found(&estate, &state, Some(&schedule), start().plus(DAY)).unwrap();
    assert_eq!(after.by.len(), 1, "at its end a freeze is over");
    let second = core::time::Duration::from_secs(1);
    assert!(found(&estate, &state, Some(&schedule), safe.minus(second)).is_some());
    assert_eq!(found(&estate, &state, Some(&schedule), safe), None);
    assert_eq!(found(&estate, &state, None, safe).unwrap().until, end, "a first certificate is no emergency");
    estate.freezing.emergency = Emergency::Block;
    assert_eq!(found(&estate, &state, Some(&schedule), safe).unwrap().until, end);
    assert_eq!(found(&estate, &state, Some(&schedule), end), None);
}

#[test]
fn an_account_is_frozen_with_its_issuer_and_with_all_and_with_nothing_else() {
    let mut state = State::default();
    let end = start().plus(DAY);
    for (n, text) in (1..).zip(["path:approve", "owner:team portal", "label:app=web", "issuer:zero"]) {
        state.freezes.insert(fid(n), freeze(text, end));
    }
    assert_eq!(over_issuer(&state, &iid("le"), start()), None);
    assert_eq!(over_issuer(&state, &iid("zero"), start()), Some((fid(4), end)));
    assert_eq!(over_issuer(&state, &iid("zero"), end), None);
    state.freezes.insert(fid(9), freeze("all", end.plus(DAY)));
    assert_eq!(over_issuer(&state, &iid("le"), end), Some((fid(9), end.plus(DAY))));
}

#[test]
fn an_order_at_its_ca_is_followed_and_nothing_else() {
    assert!(holds(&Stage::Begun) && holds(&Stage::Issued));
    assert!(!holds(&Stage::Ordered { url: Arc::from("https://ca/order/1") }));
}
