//! Invariant 9: any byte that is hashed, changed, is another scope, and what was approved is not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use core::time::Duration;

use proptest::prelude::*;

use super::world::*;
use crate::domain::certificate::CertId;
use crate::domain::directory::RowId;
use crate::domain::exception::*;
use crate::domain::id::{AttemptId, CaId, CredentialId, IssuerId, KeyId, PathId, Ulid};
use crate::domain::key::{Digest, KeyAlgorithm};
use crate::domain::name::{Name, NameSet};
use crate::domain::rotation;
use crate::domain::time::Timestamp;

fn text(text: &str) -> Arc<str> {
    Arc::from(text)
}

fn set(all: &[&str]) -> BTreeSet<Arc<str>> {
    all.iter().map(|one| text(one)).collect()
}

fn names(all: &[&str]) -> NameSet {
    NameSet::new(all.iter().map(|name| Name::parse(name).unwrap()))
}

fn other() -> Digest {
    Digest([200; 32])
}

/// Every way in which an action may be another one: none of them equals another.
fn actions() -> Vec<Action> {
    let Action::Issue(first) = issue() else { panic!("no issue") };
    let with = |change: &dyn Fn(&mut Issue)| {
        let mut issue = first.clone();
        change(&mut issue);
        Action::Issue(issue)
    };
    let ca = |id: &str| CaId::parse(id).unwrap();
    let step =
        |generation, from, kind| Action::Rotate { ca: ca("mesh"), step: rotation::Step { generation, from, kind } };
    let install = |slot: u8, certificate: Digest, paths: &[&str]| Action::Install {
        credential: CredentialId::parse("portal").unwrap(),
        slot: AttemptId(Ulid::new(at(0), [slot; 10])),
        certificate,
        placing: Placing { paths: set(paths), ..Placing::default() },
    };
    let waive = |code: &str, target: &str, until: i64| Action::Waive {
        code: text(code),
        target: text(target),
        until: at(until),
    };
    let path = |id: &str, until: i64| Action::OpenPath { path: PathId::parse(id).unwrap(), until: at(until) };
    let new = |before: Digest, after: Digest, authors: &[usize]| Replacement {
        before,
        after,
        authors: authors.iter().map(|n| who(*n)).collect(),
    };
    let account = |url: &str, key: Option<Digest>| Action::Account {
        issuer: IssuerId::parse("le").unwrap(),
        url: text(url),
        key,
    };
    let order = |order: &str, account: &str, of: &[&str]| Action::Order {
        order: RowId::parse(order).unwrap(),
        account: RowId::parse(account).unwrap(),
        names: names(of),
    };
    let run = |argv: &[&str], writes: &[&str]| Action::Run {
        argv: argv.iter().map(|a| text(a)).collect(),
        writes: set(writes),
    };
    let key = |id: &str, version: u32, turnover: &[&str]| Action::ReplaceKey {
        key: KeyId::parse(id).unwrap(),
        version,
        turnover: turnover.iter().map(|a| text(a)).collect(),
    };
    let unlock = |id: &str, failures: u32| Action::Unlock { credential: CredentialId::parse(id).unwrap(), failures };
    let distrust = |generation: u32, breakage: Digest| Action::Distrust { ca: ca("mesh"), generation, breakage };
    let trust = |id: &str, before: Digest, after: Digest| Action::Trust { ca: ca(id), before, after };
    let one = Digest([1; 32]);
    vec![
        issue(),
        with(&|i| i.credential = CredentialId::parse("portal-2").unwrap()),
        with(&|i| i.issuer = IssuerId::parse("le").unwrap()),
        with(&|i| i.directory = text("https://acme.example/directory/")),
        with(&|i| i.names = names(&["review.example.com", "x.example.com"])),
        with(&|i| i.names = names(&["*.example.com"])),
        with(&|i| i.key = Key::New(KeyAlgorithm::P384)),
        with(&|i| i.key = Key::Same(one)),
        with(&|i| i.key = Key::Same(other())),
        with(&|i| i.key = Key::Csr(one)),
        with(&|i| i.profile = Some(text(""))),
        with(&|i| i.profile = Some(text("shortlived"))),
        with(&|i| i.lifetime = Some(Duration::from_secs(0))),
        with(&|i| i.lifetime = Some(Duration::from_secs(u64::MAX))),
        with(&|i| i.lifetime = Some(Duration::from_secs(u64::MAX - 1))),
        with(&|i| i.replaces = Some(CertId(text("a.b")))),
        with(&|i| i.placing.paths = set(&["/etc/a"])),
        with(&|i| i.placing.paths = set(&["/etc/a", "/etc/b"])),
        with(&|i| i.placing.paths = set(&["/etc/a\",\"/etc/b"])),
        with(&|i| i.placing.endpoints = set(&["/etc/a"])),
        with(&|i| i.placing.reload = vec![vec![text("a"), text("b")]]),
        with(&|i| i.placing.reload = vec![vec![text("a b")]]),
        with(&|i| i.placing.reload = vec![vec![text("b"), text("a")]]),
        with(&|i| i.placing.reload = vec![vec![text("a")], vec![text("b")]]),
        install(1, one, &[]),
        install(2, one, &[]),
        install(1, other(), &[]),
        install(1, one, &["/etc/a"]),
        unlock("portal", 2),
        unlock("portal", 3),
        unlock("portal-2", 2),
        key("api", 1, &["x"]),
        key("api", 2, &["x"]),
        key("api", 1, &["x", "y"]),
        key("apj", 1, &["x"]),
        Action::Block { key: one, revoke: set(&[]) },
        Action::Block { key: other(), revoke: set(&[]) },
        Action::Block { key: one, revoke: set(&["01"]) },
        step(1, rotation::Phase::Standby, rotation::Kind::Stage),
        step(2, rotation::Phase::Standby, rotation::Kind::Stage),
        step(1, rotation::Phase::Staged, rotation::Kind::Stage),
        step(1, rotation::Phase::Standby, rotation::Kind::Activate),
        distrust(1, one),
        distrust(2, one),
        distrust(1, other()),
        trust("mesh", one, other()),
        trust("mesh", other(), one),
        trust("mesh-2", one, other()),
        waive("KW4811", "key/api", 1),
        waive("KW4812", "key/api", 1),
        waive("KW4811", "key/apj", 1),
        waive("KW4811", "key/api", 2),
        path("approve", 1),
        path("approve", 2),
        path("deploy", 1),
        Action::Configure(new(one, other(), &[])),
        Action::Configure(new(other(), one, &[])),
        Action::Configure(new(one, other(), &[ANN])),
        Action::SetPolicy(new(one, other(), &[])),
        account("u", None),
        account("u", Some(one)),
        account("v", None),
        order("corp/1", "corp/2", &["a.example.com"]),
        order("corp/2", "corp/2", &["a.example.com"]),
        order("corp/1", "corp/3", &["a.example.com"]),
        order("corp/1", "corp/2", &["b.example.com"]),
        run(&["a"], &[]),
        run(&["a", ""], &[]),
        run(&[], &["a"]),
    ]
}

type Change = (&'static str, fn(&mut Scope));

/// Every way in which a scope may be another one beside its action.
fn changes() -> Vec<Change> {
    vec![
        ("id", |s| s.id = id(2)),
        ("round", |s| s.round += 1),
        ("kind", |s| s.kind = Kind::NewName),
        ("stakes", |s| s.stakes = Stakes::T2),
        ("an asset more", |s| _ = s.assets.insert(Arc::from("credential/x"), None)),
        ("an asset's print", |s| s.assets = BTreeMap::from([(Arc::from("credential/portal"), Some(Digest([2; 32])))])),
        ("an asset without print", |s| s.assets = BTreeMap::from([(Arc::from("credential/portal"), None)])),
        ("an asset's name", |s| s.assets = BTreeMap::from([(Arc::from("credential/portam"), Some(Digest([1; 32])))])),
        ("a condition less", |s| s.preconditions.clear()),
        ("a condition's value", |s| drop(s.preconditions.insert(Arc::from("issuer answers"), Arc::from("no")))),
        ("a condition's code", |s| s.preconditions = BTreeMap::from([(Arc::from("issuer answer"), Arc::from("yes"))])),
        ("evidence", |s| s.evidence = Digest([3; 32])),
        ("policy", |s| s.policy = Digest([3; 32])),
        ("rollback", |s| s.rollback = Rollback::Run(vec![])),
        ("rollback's program", |s| s.rollback = Rollback::Run(vec![vec![Arc::from("undo")]])),
        ("no rollback", |s| s.rollback = Rollback::Impossible(Arc::from("restore"))),
        ("begin", |s| s.window.not_before = at(1)),
        ("end", |s| s.window.valid_until = at(HOUR)),
        ("a freeze", |s| _ = s.despite.insert(freeze(3))),
        ("a renewal", |s| s.renews = Some(Renewal { of: id(9), count: 1 })),
        ("its count", |s| s.renews = Some(Renewal { of: id(9), count: 2 })),
        ("of what", |s| s.renews = Some(Renewal { of: id(8), count: 1 })),
    ]
}

fn scopes() -> Vec<(String, Scope)> {
    let base = scope(Kind::IssueElsewhere, Stakes::T3);
    let mut all: Vec<(String, Scope)> =
        actions().into_iter().map(|action| (format!("{action:?}"), Scope { action, ..base.clone() })).collect();
    for (what, change) in changes() {
        let mut scope = base.clone();
        change(&mut scope);
        all.push((what.to_owned(), scope));
    }
    all
}

#[test]
fn whatever_is_changed_the_hash_is_another_one() {
    let mut seen: BTreeMap<Digest, String> = BTreeMap::new();
    for (what, scope) in scopes() {
        if let Some(before) = seen.insert(scope.hash(), what.clone()) {
            panic!("{what} and {before} have one hash");
        }
    }
    assert_eq!(seen.len(), actions().len() + changes().len());
}

#[test]
fn an_approval_counts_for_its_own_bytes_only() {
    for (what, other) in scopes().into_iter().skip(1) {
        let mut world = World::new(Kind::IssueElsewhere, Stakes::T3);
        world.agree();
        assert_eq!(tally(&world.request, None, &world.ground()).unwrap().counted.len(), 2);
        let permit = {
            world.begin(By::Guardian).unwrap();
            world.permits.remove(0)
        };
        // A permit is for its own bytes too.
        assert!(matches!(permit.redeem(other.clone(), &world.now), Err(Refusal::OtherBytes { .. })), "{what}");
        world.request.scope = other;
        world.request.state = State::Approved;
        world.request.execution = None;
        let counted = tally(&world.request, None, &world.ground()).map_or(0, |tally| tally.counted.len());
        assert_eq!(counted, 0, "{what} kept its approvals");
        assert!(world.begin(By::Guardian).is_err(), "{what} could be begun");
    }
}

#[test]
fn the_same_bytes_after_planning_again_keep_the_approvals() {
    let mut world = World::new(Kind::IssueElsewhere, Stakes::T3);
    world.agree();
    let (scope, before) = (Box::new(world.request.scope.clone()), world.request.clone());
    let same = world.happen(Event::ScopeChanged { by: By::Guardian, scope, decide_by: at(HOUR) });
    assert_eq!(same, Err(Refusal::SameScope));
    assert_eq!(world.request, before);
    world.begin(By::Guardian).unwrap();
}

#[test]
fn the_canonical_bytes_are_those_of_the_standard() {
    let text = String::from_utf8(scope(Kind::Waiver, Stakes::T3).canonical()).unwrap();
    let expected = concat!(
        r#"{"action":{"do":"waive","with":{"code":"KW4811","target":"key/api","until":"2027-01-15T11:00:00Z"}},"#,
        r#""assets":[{"before":"0101010101010101010101010101010101010101010101010101010101010101","name":"credential/portal"}],"#,
        r#""despite":[],"#,
        r#""evidence":"0202020202020202020202020202020202020202020202020202020202020202","#,
        r#""id":"040G-2081","kind":"waiver","max_executions":1,"#,
        r#""policy":"0707070707070707070707070707070707070707070707070707070707070707","#,
        r#""preconditions":[{"code":"issuer answers","seen":"yes"}],"rollback":"restore","round":1,"stakes":"T3","#,
        r#""window":{"not_before":"2027-01-15T08:00:00Z","valid_until":"2027-01-15T10:00:00Z"}}"#,
    );
    assert_eq!(text, expected);
}

/// Any text in any place of a scope.
fn any_scope() -> impl Strategy<Value = Scope> {
    let word = || "[a-c\"\\\\\\n]{0,3}";
    let assets = proptest::collection::btree_map(word(), proptest::option::of(0..3_u8), 0..3);
    let conditions = proptest::collection::btree_map(word(), word(), 0..3);
    let argv = proptest::collection::vec(word(), 0..3);
    (assets, conditions, argv, word(), 0..3_i64, 1..3_u32).prop_map(|(assets, conditions, argv, why, until, round)| {
        let mut scope = scope(Kind::OpenedByPerson, Stakes::T3);
        scope.assets = assets.into_iter().map(|(n, d)| (Arc::from(n), d.map(|d| Digest([d; 32])))).collect();
        scope.preconditions = conditions.into_iter().map(|(c, s)| (Arc::from(c), Arc::from(s))).collect();
        scope.action = Action::Run { argv: argv.into_iter().map(Arc::from).collect(), writes: BTreeSet::new() };
        scope.rollback = Rollback::Impossible(Arc::from(why));
        scope.window.valid_until = Timestamp::from_unix(until);
        scope.round = round;
        scope
    })
}

proptest! {
    #[test]
    fn two_scopes_have_one_hash_only_if_they_are_one(one in any_scope(), other in any_scope()) {
        prop_assert_eq!(one == other, one.hash() == other.hash());
        prop_assert_eq!(one.hash(), one.clone().hash());
    }
}
