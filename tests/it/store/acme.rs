//! Samples and strategies of what ACME directories remember.

use std::sync::Arc;

use keyward::domain::certificate::CertId;
use keyward::domain::directory::{
    Account, Authorization, AuthorizationStatus, Challenge, ChallengeKind, ChallengeStatus, Order, RowId, Stage,
    Standing,
};
use keyward::domain::id::ProfileId;
use keyward::domain::name::Name;
use keyward::domain::state::Change;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::random::{names, text, time};
use super::samples::at;

fn id(text: &str) -> RowId {
    RowId::parse(text).unwrap()
}

fn account(full: bool) -> Account {
    Account {
        key: Arc::from("{\"kty\":\"OKP\"}"),
        contacts: full.then(|| Arc::from("mailto:a@example.org\nmailto:b@example.org")),
        standing: if full { Standing::Deactivated } else { Standing::Valid },
        grant: full.then(|| Arc::from("team-web")),
        at: at(1),
    }
}

fn proof(name: &str) -> Authorization {
    let challenge = |kind, status, validated| Challenge { kind, token: Arc::from("t-_1"), status, validated };
    Authorization {
        name: Name::parse(name).unwrap(),
        status: AuthorizationStatus::Pending,
        expires: at(9),
        challenges: vec![
            challenge(ChallengeKind::Http01, ChallengeStatus::Processing, None),
            challenge(ChallengeKind::TlsAlpn01, ChallengeStatus::Valid, Some(at(3))),
        ],
    }
}

fn order(stage: Stage, full: bool) -> Order {
    Order {
        account: u64::MAX,
        names: super::samples::names(&["a.example.org", "10.0.0.1"]),
        profile: ProfileId::parse("workload").unwrap(),
        replaces: full.then(|| CertId(Arc::from("aki.serial"))),
        at: at(2),
        expires: at(9),
        ruled: full.then(|| at(4)),
        stage,
        authorizations: if full { vec![proof("10.0.0.1"), proof("*.a.example.org")] } else { Vec::new() },
        errors: full.then(|| Arc::from("{\"order\":{}}")),
    }
}

fn stages() -> Vec<Stage> {
    let spki: Arc<[u8]> = Arc::from([0, 255].as_slice());
    vec![
        Stage::Open,
        Stage::Waiting { spki: spki.clone(), since: at(5) },
        Stage::Processing { spki, since: at(6) },
        Stage::Valid { serial: Arc::from("4f01") },
        Stage::Invalid,
    ]
}

/// Every kind of change with every field, absent and present, and one over the other.
pub fn every_change() -> Vec<Change> {
    let account = |row: &str, a: Option<Account>| Change::Account(id(row), a.map(Arc::new));
    let mut all = vec![
        account("corp/1", Some(self::account(false))),
        account("corp/1", Some(self::account(true))),
        account("corp/2", Some(self::account(true))),
        account("corp/2", Some(self::account(false))),
        account("corp/3", Some(self::account(true))),
        account("corp/3", None),
        account("corp/ffffffffffffffff", None),
    ];
    let change = |row: &str, o: Option<Order>| Change::Order(id(row), o.map(Arc::new));
    for stage in stages() {
        all.push(change("corp/10", Some(order(stage.clone(), false))));
        all.push(change("corp/11", Some(order(stage, true))));
    }
    all.push(change("corp/11", Some(order(Stage::Open, false))));
    all.push(change("corp/10", None));
    all.push(change("corp/12", None));
    all
}

pub fn change() -> BoxedStrategy<Change> {
    let row = || select(vec!["a/1", "a/2", "b.c/ffffffffffffffff"]).prop_map(id);
    let standing = select(Standing::ALL.to_vec()).prop_map(|(standing, _)| standing);
    let account = (text(), option::of(text()), standing, option::of(text()), time())
        .prop_map(|(key, contacts, standing, grant, at)| Account { key, contacts, standing, grant, at });
    let stage = prop_oneof![
        select(vec![Stage::Open, Stage::Invalid]),
        (any::<Vec<u8>>(), time()).prop_map(|(spki, since)| Stage::Waiting { spki: Arc::from(spki), since }),
        (any::<Vec<u8>>(), time()).prop_map(|(spki, since)| Stage::Processing { spki: Arc::from(spki), since }),
        text().prop_map(|serial| Stage::Valid { serial }),
    ];
    let proofs = select(vec![vec![], vec!["a.example.org"], vec!["*.b.example.org", "2001:db8::1"]]);
    let proofs = (proofs, time()).prop_map(|(names, expires)| {
        names.into_iter().map(|name| Authorization { expires, ..proof(name) }).collect::<Vec<_>>()
    });
    let profile = select(vec!["workload", "x"]).prop_map(|id| ProfileId::parse(id).unwrap());
    let replaces = option::of(text()).prop_map(|id| id.map(CertId));
    let times = (time(), time(), option::of(time()));
    let order = (any::<u64>(), names(), profile, replaces, times, stage, proofs, option::of(text())).prop_map(
        |(account, names, profile, replaces, (at, expires, ruled), stage, authorizations, errors)| Order {
            account,
            names,
            profile,
            replaces,
            at,
            expires,
            ruled,
            stage,
            authorizations,
            errors,
        },
    );
    prop_oneof![
        (row(), option::of(account)).prop_map(|(id, account)| Change::Account(id, account.map(Arc::new))),
        (row(), option::of(order)).prop_map(|(id, order)| Change::Order(id, order.map(Arc::new))),
    ]
    .boxed()
}
