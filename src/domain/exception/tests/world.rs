//! A small world around one request: people, rules, freezes, clocks that step, and books of its own that every step is
//! held against.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use core::time::Duration;

use crate::domain::exception::*;
use crate::domain::id::{CredentialId, FreezeId, IssuerId, PathId, Ulid};
use crate::domain::key::{Digest, KeyAlgorithm};
use crate::domain::name::{Name, NameSet};
use crate::domain::time::{Boottime, Timestamp};

pub(super) const START: i64 = 1_800_000_000;
pub(super) const HOUR: i64 = 3_600;

/// Asks, and would like to approve; group a.
pub(super) const ASKS: usize = 0;
/// Approvers of group a.
pub(super) const ANN: usize = 1;
pub(super) const ABE: usize = 2;
/// Approvers of group b.
pub(super) const BEA: usize = 3;
pub(super) const BOB: usize = 4;
/// Approver of both groups, who wrote the rule.
pub(super) const WROTE: usize = 5;
/// Carries things out; approver of group b too.
pub(super) const RUNS: usize = 6;
/// A machine and an agent with every role.
pub(super) const BOT: usize = 7;
pub(super) const AGENT: usize = 8;
/// Incident command, and nothing else.
pub(super) const CHIEF: usize = 9;
/// Nobody.
pub(super) const STRANGER: usize = 10;
/// An agent of Bob's agent.
pub(super) const TOOL: usize = 11;

pub(super) fn who(n: usize) -> PersonId {
    PersonId::new(["asks", "ann", "abe", "bea", "bob", "wrote", "runs", "bot", "agent", "chief", "stranger", "tool"][n])
}

pub(super) fn group(name: &str) -> GroupId {
    GroupId::new(name)
}

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(START + seconds)
}

pub(super) fn freeze(n: u8) -> FreezeId {
    FreezeId(Ulid::new(at(0), [n; 10]))
}

pub(super) fn id(n: u8) -> RequestId {
    RequestId::new([n; 5])
}

pub(super) fn everybody() -> People {
    let person = |groups: &[&str], roles: &[Role], nature: Nature| Person {
        nature,
        groups: groups.iter().map(|g| group(g)).collect(),
        roles: roles.iter().copied().collect(),
        presence: Presence::Here,
        consent: Consent::May { since: at(0) },
        acts_for: None,
    };
    let all = [Role::Requester, Role::Approver, Role::Operator];
    // The agent is Bob's.
    let agent = Person { acts_for: Some(who(BOB)), ..person(&["b"], &all, Nature::Agent) };
    BTreeMap::from([
        (who(ASKS), person(&["a"], &[Role::Requester, Role::Approver], Nature::Human)),
        (who(ANN), person(&["a"], &[Role::Approver], Nature::Human)),
        (who(ABE), person(&["a"], &[Role::Approver], Nature::Human)),
        (who(BEA), person(&["b"], &[Role::Approver], Nature::Human)),
        (who(BOB), person(&["b"], &[Role::Approver], Nature::Human)),
        (who(WROTE), person(&["a", "b"], &[Role::Approver], Nature::Human)),
        (who(RUNS), person(&["b"], &[Role::Approver, Role::Operator], Nature::Human)),
        (who(BOT), person(&["a"], &all, Nature::Machine)),
        (who(AGENT), agent),
        (who(TOOL), Person { acts_for: Some(who(AGENT)), ..person(&[], &[Role::Requester], Nature::Agent) }),
        (who(CHIEF), person(&[], &[Role::Commander], Nature::Human)),
    ])
}

pub(super) fn policy() -> Digest {
    Digest([7; 32])
}

pub(super) fn approvers(id: &str, groups: &[&str], persons: u8) -> Rule {
    let says = Says::Approvers { groups: groups.iter().map(|g| group(g)).collect(), persons };
    Rule { id: Arc::from(id), kinds: BTreeSet::new(), least: Stakes::T1, says, authors: BTreeSet::from([who(WROTE)]) }
}

pub(super) fn says(id: &str, says: Says) -> Rule {
    Rule { says, ..approvers(id, &["a"], 0) }
}

pub(super) fn known(rules: Vec<Rule>) -> Rules {
    Rules::Known(RuleSet { policy: policy(), rules, authors: BTreeSet::new() })
}

/// The usual rules, and what may become of them.
pub(super) fn rules(n: usize) -> Rules {
    let usual = || approvers("people", &["a", "b"], 0);
    match n {
        0 => known(vec![usual()]),
        1 => known(vec![usual(), says("routine", Says::Preapprove)]),
        2 => known(vec![usual(), says("never", Says::Deny)]),
        3 => known(vec![]),
        4 => Rules::Unknown(Arc::from("the file is gone")),
        5 => known(vec![usual(), approvers("nobody", &[], 0)]),
        6 => Rules::Known(RuleSet { policy: Digest([8; 32]), rules: vec![usual()], authors: BTreeSet::new() }),
        _ => known(vec![usual(), approvers("bees", &["b"], 1)]),
    }
}

pub(super) const RULES: usize = 8;

pub(super) fn issue() -> Action {
    Action::Issue(Issue {
        credential: CredentialId::parse("portal").unwrap(),
        issuer: IssuerId::parse("zerossl").unwrap(),
        directory: Arc::from("https://acme.example/directory"),
        names: NameSet::new([Name::parse("review.example.com").unwrap()]),
        key: Key::New(KeyAlgorithm::P256),
        profile: None,
        lifetime: None,
        replaces: None,
        placing: Placing::default(),
    })
}

pub(super) fn scope(kind: Kind, stakes: Stakes) -> Scope {
    let until = at(50 * 60);
    let path = || Action::OpenPath { path: PathId::parse("approve").unwrap(), until };
    let waive = || Action::Waive { code: Arc::from("KW4811"), target: Arc::from("key/api"), until: at(3 * HOUR) };
    let action = if kind == Kind::BreakGlass {
        path()
    } else if kind == Kind::Waiver {
        waive()
    } else {
        issue()
    };
    Scope {
        id: id(1),
        round: 1,
        kind,
        stakes,
        assets: BTreeMap::from([(Arc::from("credential/portal"), Some(Digest([1; 32])))]),
        action,
        preconditions: BTreeMap::from([(Arc::from("issuer answers"), Arc::from("yes"))]),
        evidence: Digest([2; 32]),
        policy: policy(),
        rollback: Rollback::Restore,
        window: Window { not_before: at(0), valid_until: if kind == Kind::BreakGlass { until } else { at(2 * HOUR) } },
        despite: if kind == Kind::FreezeOverride { BTreeSet::from([freeze(1)]) } else { BTreeSet::new() },
        renews: None,
    }
}

pub(super) fn opening(scope: Scope) -> Opening {
    let requester = By::Person(who(ASKS));
    Opening { scope, requester, reason: Arc::from("the usual CA failed twice"), decide_by: at(HOUR), follows: None }
}

pub(super) fn preflight(scope: &Scope, now: &Moment) -> Preflight {
    let (assets, preconditions) = (scope.assets.clone(), scope.preconditions.clone());
    Preflight { scope: scope.hash(), at: now.clone(), assets, preconditions }
}

pub(super) fn why() -> Arc<str> {
    Arc::from("because")
}

/// An accepted ballot, as these books have it.
#[derive(Clone, Debug)]
struct Heard {
    person: PersonId,
    scope: Scope,
    channel: Channel,
    hours: Hours,
    at: Timestamp,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) people: People,
    pub(super) rules: Rules,
    pub(super) hours: Hours,
    pub(super) freezes: BTreeSet<FreezeId>,
    pub(super) unreviewed: Vec<RequestId>,
    /// What policy says of each asset.
    pub(super) stakes: BTreeMap<Arc<str>, Stakes>,
    /// The programs of the configuration.
    pub(super) programs: BTreeSet<Argv>,
    pub(super) now: Moment,
    /// The latest moment that was ever seen.
    pub(super) high: Moment,
    /// The scope that it was opened with.
    first: Scope,
    /// How long ago that was in truth, whatever the clocks say.
    passed: u64,
    pub(super) request: Request,
    pub(super) log: Vec<Transition>,
    pub(super) permits: Vec<Permit>,
    pub(super) seen: BTreeSet<&'static str>,
    boots: u32,
    heard: Vec<Heard>,
    said_no: bool,
    asked: BTreeSet<PersonId>,
    began: u32,
    deferred: u32,
    frozen: BTreeSet<FreezeId>,
    begun: Option<Moment>,
    /// The latest wall clock that the request has seen.
    latest: Timestamp,
}

pub(super) fn moment(wall: i64, boot: u64, boots: u32) -> Moment {
    Moment {
        wall: at(wall),
        boot: Boottime::from_boot(Duration::from_secs(boot)),
        boot_id: Arc::from(format!("boot-{boots}")),
    }
}

impl World {
    pub(super) fn new(kind: Kind, stakes: Stakes) -> Self {
        Self::of(scope(kind, stakes))
    }

    pub(super) fn of(scope: Scope) -> Self {
        let first = scope.clone();
        let (stakes, programs) = (BTreeMap::from([(Arc::from("credential/portal"), Stakes::T1)]), BTreeSet::new());
        let (people, rules, now) = (everybody(), rules(0), moment(0, 100, 0));
        let none = BTreeSet::new();
        let ground = Ground {
            people: &people,
            rules: &rules,
            hours: Hours::Business,
            freezes: Some(&none),
            unreviewed: Some(&[]),
            stakes: &stakes,
            programs: &programs,
            seen: &now,
        };
        let Stepped { request, transition, permit } = open(opening(scope), None, &ground, &now).unwrap();
        assert!(permit.is_none() && request.state == State::Draft);
        Self {
            people,
            rules,
            hours: Hours::Business,
            freezes: none,
            unreviewed: Vec::new(),
            stakes,
            programs,
            high: now.clone(),
            first,
            passed: 0,
            request,
            log: vec![transition],
            permits: Vec::new(),
            seen: BTreeSet::new(),
            boots: 0,
            heard: Vec::new(),
            said_no: false,
            asked: BTreeSet::from([who(ASKS)]),
            began: 0,
            deferred: 0,
            frozen: BTreeSet::new(),
            begun: None,
            latest: now.wall,
            now,
        }
    }

    pub(super) fn ground(&self) -> Ground<'_> {
        Ground {
            people: &self.people,
            rules: &self.rules,
            hours: self.hours,
            freezes: Some(&self.freezes),
            unreviewed: Some(&self.unreviewed),
            stakes: &self.stakes,
            programs: &self.programs,
            seen: &self.high,
        }
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        let span = Duration::from_secs(seconds);
        self.now.wall = self.now.wall.plus(span);
        // Clocks do not tick in milliseconds.
        self.now.boot = self.now.boot.plus(span).plus(Duration::from_nanos(77));
        self.passed += seconds;
        self.high = self.now.after(&self.high);
    }

    pub(super) fn step_wall(&mut self, seconds: i64) {
        self.now.wall = Timestamp::from_unix(self.now.wall.unix() + seconds);
        self.high = self.now.after(&self.high);
    }

    pub(super) fn reboot(&mut self, seconds: u64) {
        self.boots += 1;
        self.now.wall = self.now.wall.plus(Duration::from_secs(seconds));
        self.now.boot = Boottime::from_boot(Duration::from_secs(1));
        self.now.boot_id = Arc::from(format!("boot-{}", self.boots));
        self.high = self.now.after(&self.high);
    }

    pub(super) fn ballot(&self, n: usize, verdict: Verdict, channel: Channel) -> Ballot {
        Ballot {
            person: who(n),
            round: self.request.scope.round,
            scope: self.request.scope.hash(),
            verdict,
            channel,
            proof: Digest([9; 32]),
            reason: (verdict == Verdict::Reject).then(why),
        }
    }

    pub(super) fn approve(&mut self, n: usize, channel: Channel) -> Result<(), Refusal> {
        let ballot = self.ballot(n, Verdict::Approve, channel);
        self.happen(Event::Voted(ballot))
    }

    pub(super) fn reject(&mut self, n: usize) -> Result<(), Refusal> {
        let ballot = self.ballot(n, Verdict::Reject, Channel::Passkey);
        self.happen(Event::Voted(ballot))
    }

    pub(super) fn begin(&mut self, by: By) -> Result<(), Refusal> {
        let preflight = preflight(&self.request.scope, &self.now);
        self.happen(Event::Begun { by, preflight })
    }

    /// Enough agree, whatever is at stake.
    pub(super) fn agree(&mut self) {
        drop(self.happen(Event::Submitted(By::Guardian)));
        let first = if self.request.scope.kind == Kind::BreakGlass { Channel::SshSignature } else { Channel::Passkey };
        drop(self.approve(ANN, first));
        drop(self.approve(BEA, Channel::SshSignature));
    }

    /// Lets something happen, and holds what comes of it against the books.
    pub(super) fn happen(&mut self, event: Event) -> Result<(), Refusal> {
        let stepped = step(&self.request, &event, &self.ground(), &self.now);
        self.a_no_that_is_due_is_taken(&event, stepped.is_err());
        let Stepped { request, transition, permit } = stepped?;
        let before = core::mem::replace(&mut self.request, request);
        self.seen.insert(self.request.state.as_str());
        assert_eq!(transition.from.as_ref(), Some(&before.state));
        // An entry has whole milliseconds: what is read back from it is what was written.
        assert_eq!(transition.at, transition.at.recorded());
        self.log.push(transition);
        self.note(&event, &before);
        self.what_never_changes(&event, &before);
        assert_eq!(permit.is_some(), matches!(event, Event::Begun { .. }), "a permit comes of beginning alone");
        if let Some(permit) = permit {
            self.it_may_begin(&before, &event, &permit);
            self.permits.push(permit);
        }
        Ok(())
    }

    fn note(&mut self, event: &Event, before: &Request) {
        self.latest = self.latest.max(self.now.wall);
        if let Event::Voted(ballot) = event {
            let asked = (before.scope.hash(), before.scope.round);
            assert_eq!((ballot.scope, ballot.round), asked, "a ballot over something else was taken");
            self.said_no |= ballot.verdict == Verdict::Reject;
            if ballot.verdict == Verdict::Approve {
                let (person, scope) = (ballot.person.clone(), before.scope.clone());
                self.heard.push(Heard { person, scope, channel: ballot.channel, hours: self.hours, at: self.now.wall });
            }
        }
        match event.name() {
            "defer" => self.deferred += 1,
            "begin" => {
                self.began += 1;
                self.begun = Some(self.now.clone());
            }
            _ => {}
        }
        if let Event::ScopeChanged { by: By::Person(id), .. } = event {
            self.asked.insert(id.clone());
            self.asked.extend([who(AGENT), who(TOOL)].contains(id).then(|| who(BOB)));
        }
        if let Event::FreezeLaid(freeze) = event {
            self.frozen.insert(*freeze);
        }
        if let Event::FreezeLifted(freeze) = event {
            self.frozen.remove(freeze);
        }
    }

    /// Invariant 6, its other half: a no of somebody who may say it is heard wherever nothing has begun.
    fn a_no_that_is_due_is_taken(&self, event: &Event, refused: bool) {
        let Event::Voted(ballot) = event else { return };
        let Some(person) = self.people.get(&ballot.person) else { return };
        let eligible = person.nature == Nature::Human
            && person.roles.contains(&Role::Approver)
            && matches!(person.consent, Consent::May { .. })
            && person.groups.contains(&group("b"))
            && ballot.verdict == Verdict::Reject
            && ballot.reason.as_ref().is_some_and(|reason| !reason.trim().is_empty())
            && ballot.scope == self.request.scope.hash()
            && ballot.round == self.request.scope.round;
        let asked = ["review", "deferred", "approved"].contains(&self.request.state.as_str());
        assert!(!(eligible && asked && refused), "a no was not heard: {ballot:?} in {}", self.request.state);
    }

    /// Invariants 3, 5, 6, 9, 10, 11, 13, 14 and 16, after whatever happened.
    fn what_never_changes(&self, event: &Event, before: &Request) {
        let now = &self.request;
        // 13: the entries, one for each step, are the request.
        assert_eq!(replay(&self.log).as_ref(), Ok(now), "the entries make another request");
        // 3: time alone closes, and never opens.
        let by_time = matches!(event, Event::Expired | Event::Resumed(By::Guardian) | Event::Escalated { .. });
        let opens = matches!(now.state, State::Approved | State::Executing) && now.state != before.state;
        assert!(!(by_time && opens), "{} made it {}", event.name(), now.state);
        // 5 and 6.
        assert!(self.began <= 1, "it was begun {} times", self.began);
        assert!(!self.said_no || now.state.is_over(), "somebody said no, and it is {}", now.state);
        // 9: other bytes, no approvals.
        if now.scope != before.scope {
            assert_eq!(now.scope.round, before.scope.round + u32::from(before.state != State::Draft));
            let counted = tally(now, None, &self.ground()).map_or(0, |tally| tally.counted.len());
            assert!(now.votes.is_empty() && counted == 0, "approvals outlived their scope");
            assert!(matches!(event, Event::ScopeChanged { .. }), "{} changed the scope", event.name());
        }
        // 10: an escalation tells more people, and nothing else.
        if let Event::Escalated { step } = event {
            let same = Request { escalation: *step, mark: now.mark.clone(), entries: now.entries, ..before.clone() };
            let rebound = Request { deadline: now.deadline.clone(), ends: now.ends.clone(), ..same };
            assert_eq!(*now, rebound, "an escalation changed something");
            assert!(now.escalation > before.escalation);
        }
        // 11.
        if let State::Deferred(until) = &now.state {
            assert!(until.wall <= now.decide_by && until.wall <= now.scope.window.valid_until);
        }
        assert!(self.deferred <= 2 && u32::from(now.deferrals) == self.deferred);
        // 14: after a crash the world is looked at, and nothing is begun again.
        if before.state == State::Unknown && now.state != before.state {
            assert_eq!(now.state, State::Verifying);
        }
        if before.execution.is_some() {
            assert!(!matches!(now.state, State::Approved | State::Executing) || now.state == before.state);
            assert_eq!(before.execution.as_ref().map(|e| e.permit), now.execution.as_ref().map(|e| e.permit));
        }
    }

    /// Invariant 16, at any moment.
    pub(super) fn what_was_waived_ends(&self) {
        if !self.request.is_in_force(&self.now, &self.high) {
            return;
        }
        let until = self.request.scope.action.lasts_until().unwrap();
        let begun = self.begun.as_ref().unwrap();
        assert!(self.now.wall < until, "in force at {} though it ends {until}", self.now.wall);
        assert!(!self.is_past(until), "in force {} s after it was asked for", self.passed);
        if begun.boot_id == self.now.boot_id {
            assert!(self.now.boot.since(begun.boot) < begun.wall.until(until), "the wall clock was set back");
        }
    }

    /// Whether it is later than this in truth, by more than clocks may differ.
    fn is_past(&self, until: Timestamp) -> bool {
        Duration::from_secs(self.passed) >= at(0).until(until) + STEP_TOLERANCE
    }

    /// Planning again makes nothing less, later or other than it was opened with, and its own programs are no routine.
    fn it_is_what_was_opened(&self, before: &Request, permit: &Permit) {
        let scope = &before.scope;
        assert!(
            scope.stakes >= self.first.stakes,
            "it was opened at {}, and is begun at {}",
            self.first.stakes,
            scope.stakes
        );
        let least = |name: &Arc<str>| self.stakes.get(name).copied().unwrap_or(Stakes::T4);
        assert!(scope.assets.keys().all(|name| scope.stakes >= least(name)), "less at stake than policy says");
        assert!(scope.action.programs().next().is_none() || scope.stakes >= Stakes::T3, "a program below T3");
        assert_eq!(scope.action.lasting(), self.first.action.lasting(), "something else is put in force");
        let last = at(0).plus(scope.kind.longest());
        let ends = [Some(scope.window.valid_until), scope.action.lasts_until(), Some(last)];
        for end in ends.into_iter().flatten() {
            assert!(!self.is_past(end), "begun {} s after it was opened", self.passed);
            let until = permit.until();
            if &*until.boot_id == "boot-0" {
                let boot = Boottime::from_boot(Duration::from_secs(100)).plus(at(0).until(end));
                assert!(until.boot <= boot, "a permit until {:?}, and it is over at {boot:?}", until.boot);
            }
        }
    }

    /// Invariants 1, 2, 4, 8, 12, 15, counted by these books.
    fn it_may_begin(&self, before: &Request, event: &Event, permit: &Permit) {
        let Event::Begun { by, .. } = event else { panic!("no beginning") };
        let scope = &before.scope;
        assert_eq!(before.state, State::Approved);
        // 4: both clocks, and those of the scope's own time.
        let until = scope.window.valid_until;
        assert!(scope.window.not_before <= self.now.wall && self.now.wall < until, "begun at {}", self.now.wall);
        self.it_is_what_was_opened(before, permit);
        assert!(self.now.wall.plus(STEP_TOLERANCE) >= self.latest, "begun by a clock that went back");
        assert!(permit.until().wall <= until);
        // 12.
        let frozen: BTreeSet<_> = self.frozen.union(&self.freezes).collect();
        assert!(frozen.iter().all(|f| scope.despite.contains(f)), "begun under {frozen:?}");
        // 8: the rules are known, whole, of this policy, and some of them are about it.
        let Rules::Known(set) = &self.rules else { panic!("begun by rules that nobody knows") };
        assert_eq!(set.policy, scope.policy, "begun under another policy");
        assert!(!set.rules.is_empty(), "begun without a rule");
        assert!(set.rules.iter().all(|rule| rule.says != Says::Deny), "begun though it is denied");
        let deciding: Vec<&BTreeSet<GroupId>> = set
            .rules
            .iter()
            .filter_map(|rule| match &rule.says {
                Says::Approvers { groups, .. } => Some(groups),
                Says::Deny | Says::Preapprove => None,
            })
            .collect();
        assert!(deciding.iter().all(|groups| !groups.is_empty()), "begun by a rule that names nobody");
        // 1, 2 and 15: distinct people who may, as they are now, over these very bytes.
        let fit: BTreeMap<&PersonId, &Heard> = self
            .heard
            .iter()
            .filter(|heard| {
                let person = self.people.get(&heard.person);
                heard.scope == *scope
                    && *by != By::Person(heard.person.clone())
                    && heard.person != who(WROTE)
                    && !self.asked.contains(&heard.person)
                    && person.is_some_and(|p| {
                        p.nature == Nature::Human
                            && matches!(p.consent, Consent::May { since } if since <= heard.at)
                            && p.roles.contains(&Role::Approver)
                            && deciding.iter().any(|groups| !groups.is_disjoint(&p.groups))
                    })
            })
            .map(|heard| (&heard.person, heard))
            .collect();
        let routine = set.rules.iter().any(|rule| rule.says == Says::Preapprove);
        let grave = scope.kind != Kind::IssueElsewhere;
        let enough = match (scope.stakes, routine && !grave) {
            (Stakes::T1, _) => 0,
            (Stakes::T2, true) => 0,
            (Stakes::T2, false) => 1,
            (Stakes::T3, _) => {
                if fit.values().any(|heard| heard.hours == Hours::Business) {
                    1
                } else {
                    2
                }
            }
            (Stakes::T4, _) => 2,
        };
        assert!(fit.len() >= enough, "begun with {} of {enough}: {:?}", fit.len(), self.heard);
        let in_group = |heard: &Heard, name: &str| self.people[&heard.person].groups.contains(&group(name));
        if scope.stakes == Stakes::T4 {
            let unlike = fit.values().any(|one| {
                fit.values().any(|other| {
                    let channels = one.channel != other.channel || scope.kind == Kind::BreakGlass;
                    one.person != other.person && channels && in_group(one, "a") && in_group(other, "b")
                })
            });
            assert!(unlike, "begun without two of two groups over two channels: {fit:?}");
        }
        if set.rules.iter().any(|rule| &*rule.id == "bees") && !(routine && scope.stakes < Stakes::T3) {
            assert!(fit.values().any(|heard| in_group(heard, "b")), "begun without those whom a rule names");
        }
        if scope.kind == Kind::BreakGlass {
            assert!(fit.values().all(|heard| heard.channel == Channel::SshSignature), "break-glass over the portal");
        } else if scope.stakes >= Stakes::T3 {
            assert!(self.unreviewed.is_empty(), "begun while break-glass waits for its review");
        }
    }
}
