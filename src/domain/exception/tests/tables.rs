//! What the facts say, row by row.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::world::*;
use crate::domain::exception::*;
use crate::domain::key::Digest;

use Channel::{Passkey, SshSignature};

pub(super) fn submitted(kind: Kind, stakes: Stakes) -> World {
    let mut world = World::new(kind, stakes);
    drop(world.happen(Event::Submitted(By::Person(who(ASKS)))));
    world
}

fn asked(world: &World, n: usize) -> Result<May, WhyNot> {
    may_approve(&world.request, &who(n), &world.ground(), &world.now)
}

#[test]
fn so_many_agree_as_is_at_stake() {
    use Hours::{Business, Out};
    type Row<'a> = (Stakes, Hours, &'a [(usize, Channel)], &'a str);
    let rows: [Row<'_>; 14] = [
        (Stakes::T1, Out, &[], "approved"),
        (Stakes::T2, Out, &[], "review"),
        (Stakes::T2, Out, &[(ANN, Passkey)], "approved"),
        (Stakes::T3, Business, &[], "review"),
        (Stakes::T3, Business, &[(ANN, Passkey)], "approved"),
        (Stakes::T3, Out, &[(ANN, Passkey)], "review"),
        (Stakes::T3, Out, &[(ANN, Passkey), (ABE, Passkey)], "approved"),
        (Stakes::T4, Business, &[(ANN, Passkey)], "review"),
        // One group.
        (Stakes::T4, Business, &[(ANN, Passkey), (ABE, SshSignature)], "review"),
        // One channel: the second is not even taken.
        (Stakes::T4, Business, &[(ANN, Passkey), (BEA, Passkey)], "review"),
        (Stakes::T4, Business, &[(ANN, Passkey), (BEA, SshSignature)], "approved"),
        (Stakes::T4, Out, &[(ANN, SshSignature), (BEA, Passkey)], "approved"),
        (Stakes::T4, Out, &[(ANN, Passkey), (ABE, SshSignature), (BEA, SshSignature)], "approved"),
        // One person is one, whatever they use.
        (Stakes::T4, Out, &[(ANN, Passkey), (ANN, SshSignature)], "review"),
    ];
    for (stakes, hours, votes, state) in rows {
        let mut world = submitted(Kind::IssueElsewhere, stakes);
        world.hours = hours;
        votes.iter().for_each(|(n, channel)| drop(world.approve(*n, *channel)));
        assert_eq!(world.request.state.as_str(), state, "{stakes} {hours:?} {votes:?}");
    }
}

#[test]
fn a_record_with_two_votes_of_one_person_has_the_consent_of_one() {
    for stakes in [Stakes::T3, Stakes::T4] {
        let mut world = submitted(Kind::IssueElsewhere, stakes);
        // Of both groups, and over both channels.
        world.people.get_mut(&who(ANN)).unwrap().groups = BTreeSet::from([group("a"), group("b")]);
        for channel in [Passkey, SshSignature] {
            let ballot = world.ballot(ANN, Verdict::Approve, channel);
            world.request.votes.push(Vote { ballot, at: at(0), hours: Hours::Out });
        }
        let tally = tally(&world.request, None, &world.ground()).unwrap();
        assert!(tally.lacking.contains(&Lacking::Persons { given: 1, needed: 2 }), "{:?}", tally.lacking);
        assert_eq!(tally.lacking.len(), if stakes == Stakes::T4 { 2 } else { 1 });
    }
}

#[test]
fn each_rule_that_names_approvers_has_its_voice() {
    for (rules, votes, state) in [
        (known(vec![approvers("ants", &["a"], 0), approvers("bees", &["b"], 0)]), &[ANN][..], "review"),
        (known(vec![approvers("ants", &["a"], 0), approvers("bees", &["b"], 0)]), &[ANN, BEA], "approved"),
        (known(vec![approvers("people", &["a", "b"], 0), approvers("bees", &["b"], 2)]), &[ANN, BEA], "review"),
        (known(vec![approvers("people", &["a", "b"], 0), approvers("bees", &["b"], 2)]), &[BEA, BOB], "approved"),
        // Of another kind, or of graver matters.
        (
            known(vec![approvers("people", &["a"], 0), Rule { least: Stakes::T4, ..approvers("bees", &["b"], 1) }]),
            &[ANN],
            "approved",
        ),
    ] {
        let mut world = World::new(Kind::IssueElsewhere, Stakes::T3);
        world.rules = rules;
        world.happen(Event::Submitted(By::Guardian)).unwrap();
        votes.iter().for_each(|n| world.approve(*n, Passkey).unwrap());
        assert_eq!(world.request.state.as_str(), state, "{:?}", world.rules);
    }
}

#[test]
fn what_policy_approved_beforehand_is_approved_below_t3_and_below_the_floor_only() {
    for (kind, stakes, state) in [
        (Kind::IssueElsewhere, Stakes::T1, "approved"),
        (Kind::IssueElsewhere, Stakes::T2, "approved"),
        (Kind::IssueElsewhere, Stakes::T3, "review"),
        (Kind::IssueElsewhere, Stakes::T4, "review"),
        (Kind::Waiver, Stakes::T3, "review"),
        (Kind::BreakGlass, Stakes::T3, "review"),
    ] {
        let mut world = World::new(kind, stakes);
        world.rules = rules(1);
        world.happen(Event::Submitted(By::Guardian)).unwrap();
        assert_eq!(world.request.state.as_str(), state, "{kind} {stakes}");
    }
    // Nobody else's approval beforehand reaches above the floor, even if nothing else is said.
    let mut world = World::new(Kind::Waiver, Stakes::T3);
    world.rules = known(vec![says("routine", Says::Preapprove)]);
    let denied = Refusal::Denied(Denied::NoRule(Kind::Waiver, Stakes::T3));
    assert_eq!(world.happen(Event::Submitted(By::Guardian)), Err(denied));
}

#[test]
fn what_lies_above_the_floor_cannot_be_said_to_lie_below_or_be_asked_for_by_another_kind() {
    for stakes in [Stakes::T1, Stakes::T2] {
        let below = BadScope::BelowTheFloor { found: stakes, floor: Stakes::T3 };
        let world = World::new(Kind::Waiver, Stakes::T3);
        assert_eq!(scope(Kind::Waiver, stakes).check(at(0), &world.now), Err(below));
        // Nor does it help to write it into the record.
        let mut record = world.request;
        record.scope.stakes = stakes;
        assert_eq!(record.scope.at_stake(), Stakes::T3);
    }
    let run = Action::Run { argv: vec![Arc::from("sh")], writes: BTreeSet::new() };
    for (kind, action) in [
        (Kind::NewName, scope(Kind::Waiver, Stakes::T3).action),
        (Kind::OpenedByPerson, scope(Kind::BreakGlass, Stakes::T3).action),
        (Kind::Waiver, issue()),
        (Kind::RetryLocked, run.clone()),
    ] {
        let now = moment(0, 1, 0);
        let scope = Scope { kind, action, ..scope(Kind::OpenedByPerson, Stakes::T4) };
        assert!(matches!(scope.check(at(0), &now), Err(BadScope::Action { .. })), "{kind}");
    }
    let program = Scope { action: run, ..scope(Kind::OpenedByPerson, Stakes::T1) };
    assert!(matches!(program.check(at(0), &moment(0, 1, 0)), Err(BadScope::BelowTheFloor { .. })));
    // Whatever only kinds above the floor may ask for is itself above it.
    for (kind, _) in Kind::ALL {
        let action = scope(kind, Stakes::T4).action;
        if action.kinds().iter().all(|kind| kind.is_above_the_floor()) {
            assert_eq!(action.floor(), Stakes::T3, "{}", action.name());
        }
    }
}

#[test]
fn who_can_decide_this_now_and_why_not_me() {
    let mut world = submitted(Kind::IssueElsewhere, Stakes::T3);
    world.people.get_mut(&who(ABE)).unwrap().presence = Presence::Absent(Some(at(60)));
    world.people.get_mut(&who(BOB)).unwrap().consent = Consent::MayNot(Arc::from("leaving"));
    world.approve(RUNS, SshSignature).unwrap();
    world.hours = Hours::Out;
    let both = BTreeSet::from([Passkey, SshSignature]);
    let rows = [
        (ASKS, Err(WhyNot::Requester)),
        (ANN, Ok(May { over: both.clone() })),
        (ABE, Err(WhyNot::Absent(Some(at(60))))),
        (BEA, Ok(May { over: both })),
        (BOB, Err(WhyNot::NoConsent(Arc::from("leaving")))),
        (WROTE, Err(WhyNot::Author)),
        (RUNS, Err(WhyNot::Voted)),
        (BOT, Err(WhyNot::NoHuman(Nature::Machine))),
        (AGENT, Err(WhyNot::NoHuman(Nature::Agent))),
        (CHIEF, Err(WhyNot::NoApprover)),
        (TOOL, Err(WhyNot::NoHuman(Nature::Agent))),
    ];
    let all = who_may_decide(&world.request, &world.ground(), &world.now);
    assert_eq!(all.len(), rows.len());
    for (n, expected) in rows {
        assert_eq!(all[&who(n)], expected, "{}", who(n));
    }
    assert_eq!(asked(&world, STRANGER), Err(WhyNot::Nobody));
    world.people.get_mut(&who(BEA)).unwrap().groups = BTreeSet::from([group("c")]);
    assert_eq!(asked(&world, BEA), Err(WhyNot::NoGroup(BTreeSet::from([group("a"), group("b")]))));
    world.pass(7_200);
    assert_eq!(asked(&world, ANN), Err(WhyNot::Over(at(7_200))));
    let draft = World::new(Kind::IssueElsewhere, Stakes::T3);
    assert_eq!(asked(&draft, ANN), Err(WhyNot::NotAsked("draft")));
}

#[test]
fn whose_authority_went_between_approval_and_execution_approves_nothing() {
    type Way = (&'static str, fn(&mut World));
    let ways: [Way; 5] = [
        ("left", |w| drop(w.people.remove(&who(ANN)))),
        ("lost the role", |w| _ = w.people.get_mut(&who(ANN)).unwrap().roles.remove(&Role::Approver)),
        ("changed the team", |w| w.people.get_mut(&who(ANN)).unwrap().groups = BTreeSet::from([group("c")])),
        ("is suspended", |w| w.people.get_mut(&who(ANN)).unwrap().consent = Consent::MayNot(why())),
        ("wrote the rule", |w| {
            if let Rules::Known(set) = &mut w.rules {
                set.rules[0].authors.insert(who(ANN));
            }
        }),
    ];
    for (what, change) in ways {
        let mut world = submitted(Kind::IssueElsewhere, Stakes::T3);
        world.approve(ANN, Passkey).unwrap();
        change(&mut world);
        assert!(matches!(world.begin(By::Guardian), Err(Refusal::NotEnough(_))), "{what}");
        // Another voice mends it.
        world.approve(BEA, Passkey).unwrap();
        assert_eq!(world.begin(By::Guardian), Ok(()), "{what}");
    }
    // Of three, those who are left used one channel.
    let mut world = submitted(Kind::IssueElsewhere, Stakes::T4);
    for (n, channel) in [(ANN, Passkey), (ABE, SshSignature), (BEA, SshSignature)] {
        world.approve(n, channel).unwrap();
    }
    drop(world.people.remove(&who(ANN)));
    let lacking = vec![Lacking::Pair(Pair::TwoGroupsTwoChannels)];
    assert_eq!(world.begin(By::Guardian), Err(Refusal::NotEnough(lacking)));
    // Who went home has approved all the same.
    let mut world = submitted(Kind::IssueElsewhere, Stakes::T3);
    world.approve(ANN, Passkey).unwrap();
    world.people.get_mut(&who(ANN)).unwrap().presence = Presence::Absent(None);
    assert_eq!(world.begin(By::Guardian), Ok(()));
}

#[test]
fn who_carries_it_out_does_not_approve_it() {
    let mut world = submitted(Kind::IssueElsewhere, Stakes::T3);
    world.approve(RUNS, Passkey).unwrap();
    assert!(matches!(world.begin(By::Person(who(RUNS))), Err(Refusal::NotEnough(_))));
    assert!(matches!(world.begin(By::Person(who(BOT))), Err(Refusal::NotAllowed { .. })));
    world.approve(ANN, Passkey).unwrap();
    assert_eq!(world.begin(By::Person(who(RUNS))), Ok(()));
}

#[test]
fn a_rejection_has_a_reason_and_ends_it_and_whoever_asked_may_say_it_too() {
    for (n, votes, state) in [(BEA, 0, "rejected"), (ASKS, 0, "rejected"), (WROTE, 1, "revoked"), (ANN, 1, "revoked")] {
        let mut world = submitted(Kind::IssueElsewhere, Stakes::T3);
        if votes > 0 {
            world.approve(ANN, Passkey).unwrap();
        }
        let silent = Ballot { reason: None, ..world.ballot(n, Verdict::Reject, Passkey) };
        assert_eq!(world.happen(Event::Voted(silent)), Err(Refusal::Reason(0)));
        let blank = Ballot { reason: Some(Arc::from(" \n ")), ..world.ballot(n, Verdict::Reject, Passkey) };
        assert!(matches!(world.happen(Event::Voted(blank)), Err(Refusal::Reason(_))));
        world.reject(n).unwrap();
        assert_eq!(world.request.state.as_str(), state);
        assert!(world.begin(By::Guardian).is_err() && world.approve(BOB, Passkey).is_err());
    }
    for n in [BOT, AGENT, CHIEF, STRANGER] {
        assert!(submitted(Kind::IssueElsewhere, Stakes::T3).reject(n).is_err(), "{}", who(n));
    }
    // Also where nobody knows the rules, and while it is put off.
    let mut world = submitted(Kind::IssueElsewhere, Stakes::T3);
    world.happen(Event::Deferred { by: who(ANN), until: at(600), reason: why() }).unwrap();
    world.rules = rules(4);
    world.reject(BEA).unwrap();
    assert_eq!(world.request.state, State::Rejected);
}

#[test]
fn whoever_had_a_hand_in_what_is_asked_does_not_approve_it_in_no_round() {
    let mut world = submitted(Kind::IssueElsewhere, Stakes::T3);
    world.people.get_mut(&who(BEA)).unwrap().roles.insert(Role::Requester);
    let change = |world: &mut World, n: usize, evidence: u8| {
        let scope = Box::new(Scope { evidence: Digest([evidence; 32]), ..world.request.scope.clone() });
        world.happen(Event::ScopeChanged { by: By::Person(who(n)), scope, decide_by: at(HOUR) })
    };
    // Who may not ask may not change either.
    assert!(matches!(change(&mut world, ANN, 3), Err(Refusal::NotAllowed { .. })));
    change(&mut world, BEA, 3).unwrap();
    change(&mut world, AGENT, 4).unwrap();
    // Bob's agent changed it, and is dismissed then: that does not give Bob his voice back.
    world.people.remove(&who(AGENT));
    for n in [ASKS, BEA, BOB] {
        assert_eq!(asked(&world, n), Err(WhyNot::Requester), "{}", who(n));
    }
    world.approve(ANN, Passkey).unwrap();
    assert_eq!(world.begin(By::Guardian), Ok(()));
}

#[test]
fn machines_and_agents_ask_and_recommend_and_it_counts_for_nothing() {
    let mut world = World::new(Kind::IssueElsewhere, Stakes::T3);
    world.happen(Event::Submitted(By::Person(who(AGENT)))).unwrap();
    for n in [BOT, AGENT] {
        world.happen(Event::Recommended { by: who(n), verdict: Verdict::Approve, reason: why() }).unwrap();
        assert!(world.approve(n, Passkey).is_err());
    }
    assert_eq!((world.request.advice.len(), world.request.votes.len()), (2, 0));
    assert_eq!(world.request.state, State::Review);
}

#[test]
fn what_is_frozen_waits_unless_the_freeze_is_named() {
    for (kind, told, known, begins) in [
        (Kind::IssueElsewhere, Some(1), None, false),
        (Kind::IssueElsewhere, None, Some(1), false),
        (Kind::FreezeOverride, Some(1), Some(1), true),
        (Kind::FreezeOverride, Some(1), Some(2), false),
        (Kind::FreezeOverride, Some(2), None, false),
    ] {
        let mut world = submitted(kind, Stakes::T3);
        world.agree();
        world.freezes = known.into_iter().map(freeze).collect();
        if let Some(n) = told {
            world.happen(Event::FreezeLaid(freeze(n))).unwrap();
        }
        assert_eq!(world.begin(By::Guardian).is_ok(), begins, "{kind} {told:?} {known:?}");
    }
    let mut world = submitted(Kind::IssueElsewhere, Stakes::T3);
    world.agree();
    world.happen(Event::FreezeLaid(freeze(1))).unwrap();
    world.happen(Event::FreezeLifted(freeze(1))).unwrap();
    assert_eq!(world.begin(By::Guardian), Ok(()));
}

#[test]
fn from_t3_on_a_person_closes_and_what_is_partly_done_is_never_closed() {
    let rows = [
        (Stakes::T2, None, Some(Found::AsApproved), true),
        (Stakes::T3, None, Some(Found::AsApproved), false),
        (Stakes::T3, Some(RUNS), Some(Found::AsApproved), true),
        (Stakes::T3, Some(RUNS), Some(Found::AsBefore), true),
        (Stakes::T3, Some(RUNS), Some(Found::Partly), false),
        (Stakes::T3, Some(RUNS), None, false),
        (Stakes::T3, Some(BOT), Some(Found::AsApproved), false),
        (Stakes::T4, Some(CHIEF), Some(Found::AsApproved), true),
    ];
    for (stakes, by, found, closes) in rows {
        let mut world = submitted(Kind::IssueElsewhere, stakes);
        world.agree();
        world.begin(By::Guardian).unwrap();
        world.happen(Event::Done).unwrap();
        if let Some(found) = found {
            world.happen(Event::Verified { found, evidence: Digest([1; 32]) }).unwrap();
        }
        let by = by.map_or(By::Guardian, |n| By::Person(who(n)));
        assert_eq!(world.happen(Event::Closed(by.clone())).is_ok(), closes, "{stakes} {by} {found:?}");
    }
}

#[test]
fn what_is_reopened_goes_on_as_a_draft_that_nobody_has_approved() {
    let mut world = submitted(Kind::IssueElsewhere, Stakes::T3);
    world.agree();
    world.begin(By::Guardian).unwrap();
    world.happen(Event::Failed { code: Arc::from("KW2004") }).unwrap();
    world.pass(60);
    world.happen(Event::LookedAt).unwrap();
    world.happen(Event::Reopened(id(5))).unwrap();
    let scope = Scope { id: id(5), ..scope(Kind::IssueElsewhere, Stakes::T3) };
    let next = Opening { follows: Some(id(1)), ..opening(scope) };
    let opened = open_after(&world.request, next.clone(), None, &world.ground(), &world.now).unwrap();
    assert_eq!((opened.request.state, opened.request.votes.len()), (State::Draft, 0));
    let elsewhere = Opening { scope: Scope { id: id(6), ..next.scope.clone() }, ..next };
    assert!(open_after(&world.request, elsewhere, None, &world.ground(), &world.now).is_err());
}

#[test]
fn every_entry_has_a_name_and_all_of_them_are_one_request() {
    let mut world = submitted(Kind::BreakGlass, Stakes::T4);
    world.happen(Event::Recommended { by: who(AGENT), verdict: Verdict::Approve, reason: why() }).unwrap();
    world.happen(Event::Deferred { by: who(ANN), until: at(60), reason: why() }).unwrap();
    world.happen(Event::Resumed(By::Person(who(ANN)))).unwrap();
    let scope = Box::new(Scope { evidence: Digest([3; 32]), ..world.request.scope.clone() });
    world.happen(Event::ScopeChanged { by: By::Guardian, scope, decide_by: at(60) }).unwrap();
    world.happen(Event::Escalated { step: 1 }).unwrap();
    world.happen(Event::FreezeLaid(freeze(2))).unwrap();
    world.happen(Event::FreezeLifted(freeze(2))).unwrap();
    world.approve(ANN, SshSignature).unwrap();
    world.approve(BEA, SshSignature).unwrap();
    world.begin(By::Guardian).unwrap();
    world.happen(Event::Crashed).unwrap();
    world.pass(60);
    world.happen(Event::LookedAt).unwrap();
    world.happen(Event::Verified { found: Found::AsApproved, evidence: Digest([1; 32]) }).unwrap();
    world.happen(Event::TakenBack { by: By::Guardian, reason: why() }).unwrap();
    world.happen(Event::Reviewed { by: who(BOB), reason: why() }).unwrap();
    world.happen(Event::Closed(By::Person(who(RUNS)))).unwrap();
    let codes: Vec<&str> = world.log.iter().map(Transition::code).collect();
    let expected = [
        "request.open",
        "request.submit",
        "request.recommend",
        "request.defer",
        "request.resume",
        "request.change",
        "request.escalate",
        "request.freeze",
        "request.thaw",
        "request.approve",
        "request.approve",
        "request.begin",
        "request.lose",
        "request.look",
        "request.verify",
        "request.take_back",
        "request.review",
        "request.close",
    ];
    assert_eq!(codes, expected);
    // One that is missing, twice there or out of place makes no request, also where it leaves the state alone. Only the last
    // ones can be missing unseen here; the log itself has an end.
    for n in 0..world.log.len() {
        let mut fewer = world.log.clone();
        let gone = fewer.remove(n);
        assert!(n + 1 == world.log.len() || replay(&fewer).is_err(), "{} was left out", gone.code());
        let mut more = world.log.clone();
        more.insert(n, gone);
        assert!(replay(&more).is_err());
        let mut turned = world.log.clone();
        turned.swap(n, (n + 1) % world.log.len());
        assert!(replay(&turned).is_err());
    }
    let mut foreign = world.log.clone();
    foreign[0].request = id(9);
    assert!(replay(&foreign).is_err());
    let mut moved = world.log[..1].to_vec();
    moved[0].to = State::Approved;
    assert!(replay(&moved).is_err());
    let again = Transition { number: 1, from: Some(State::Draft), ..world.log[0].clone() };
    assert!(replay([&world.log[0], &again]).is_err());
    let texts: Vec<&str> = world.log.iter().flat_map(Transition::texts).map(|(key, _)| key).collect();
    assert_eq!(texts.len(), 5, "{texts:?}");
    for entry in &world.log {
        let facts = entry.facts();
        assert!(facts.is_sorted_by(|(one, _), (other, _)| one < other), "{}: {facts:?}", entry.code());
        let said = format!("{facts:?}");
        assert!(!said.contains("because") && !said.contains("failed twice"), "a private text is in {}", entry.code());
    }
}

#[test]
fn a_request_is_limited_in_all_that_it_collects() {
    let mut world = submitted(Kind::IssueElsewhere, Stakes::T4);
    for n in 0..MOST_ROUNDS + 5 {
        let mut scope = Box::new(world.request.scope.clone());
        scope.preconditions.insert(Arc::from("turn"), Arc::from(n.to_string()));
        drop(world.happen(Event::ScopeChanged { by: By::Guardian, scope, decide_by: at(HOUR) }));
    }
    assert_eq!(world.request.scope.round, MOST_ROUNDS);
    for n in 0..=u8::try_from(MOST_VOICES).unwrap() {
        drop(world.happen(Event::FreezeLaid(freeze(n))));
    }
    assert_eq!(world.request.freezes.len(), MOST_VOICES);
    assert!(world.happen(Event::Escalated { step: MOST_STEPS + 1 }).is_err());
    let long = Event::Withdrawn { by: By::Guardian, reason: Arc::from("x".repeat(LONGEST_REASON + 1)) };
    assert_eq!(world.happen(long), Err(Refusal::Reason(LONGEST_REASON + 1)));
    let mut large = scope(Kind::IssueElsewhere, Stakes::T3);
    large.rollback = Rollback::Impossible(Arc::from("x".repeat(LONGEST_SCOPE)));
    assert!(matches!(large.check(at(0), &moment(0, 1, 0)), Err(BadScope::TooMuch { what: "bytes", .. })));
}
