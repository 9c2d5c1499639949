//! What is to be done about a CA now: steps, what is held and why, what people have to know, and what is left to be done
//! in the world.

use core::fmt;

use super::gate::{
    distrusts, healthy, is_compromised, is_spent, missing, newest_that_signed, not_final, ordered, pending, unrevoked,
};
use super::step::under_way;
use super::{
    Bundle, Facts, Generation, Grounds, Hold, Kind, Missing, Order, Phase, Renewal, Shows, Standing, Step, bundle,
    gate, signer,
};
use crate::domain::id::RelyingPartyId;
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;

/// What is to be done now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Review {
    /// What may be done at once, the most urgent first. One is done, and then one looks again.
    pub proposals: Vec<Proposal>,
    /// What waits, and for what.
    pub held: Vec<Held>,
    /// What people have to know.
    pub findings: Vec<Finding>,
    /// When a timer next changes something; `None` when only an event can.
    pub wake_at: Option<Timestamp>,
}

/// Something that may be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// What.
    pub what: Proposed,
    /// Why.
    pub why: Why,
    /// What it was judged by.
    pub grounds: Grounds,
    /// Names exactly what it was judged by, for the record.
    pub evidence: Digest,
}

/// What may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proposed {
    /// To make keys and certificates of a new generation, and take it in with [`super::admit`].
    Prepare {
        /// Its number.
        number: u32,
        /// What of it is new.
        renewal: Renewal,
    },
    /// A step, for [`super::apply`].
    Step(Step),
}

/// Why something is proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The CA has no generation yet.
    First,
    /// Its time has come.
    Time,
    /// Somebody asked for it.
    Asked,
    /// A key is in other hands.
    Compromise,
    /// A rollback was ordered.
    Rollback,
    /// Everything is to be distrusted.
    Distrust,
    /// The step before it was taken.
    Next,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "the CA has no generation yet",
            Self::Time => "its time has come",
            Self::Asked => "a rotation was asked for",
            Self::Compromise => "a key is in other hands",
            Self::Rollback => "a rollback was ordered",
            Self::Distrust => "everything is to be distrusted",
            Self::Next => "the step before it was taken",
        })
    }
}

/// Something that waits. A "no" is data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// What; `None` for making the next generation.
    pub step: Option<Step>,
    /// Why.
    pub hold: Hold,
}

/// What people have to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A relying party holds everybody up. Its owner is told; time alone changes nothing.
    Missing(Missing),
    /// The next generation should have begun to sign, and has not.
    Late {
        /// What signs.
        generation: u32,
        /// Since when.
        since: Timestamp,
        /// It is over then.
        ends: Timestamp,
    },
    /// What signs ends so soon that its leaves are cut short.
    Ending {
        /// What signs.
        generation: u32,
        /// When.
        ends: Timestamp,
    },
    /// A generation that should have drained still has leaves, or nobody knows.
    Undrained {
        /// Which.
        generation: u32,
        /// Since when.
        since: Timestamp,
        /// What is found.
        hold: Hold,
    },
    /// A generation is compromised and still trusted.
    Compromised {
        /// Which.
        generation: u32,
        /// What keeps it there.
        hold: Option<Hold>,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(missing) => missing.fmt(f),
            Self::Late { generation, since, ends } => {
                write!(f, "generation {generation} should have been replaced since {since}; it is over {ends}")
            }
            Self::Ending { generation, ends } => {
                write!(f, "generation {generation} is over {ends}, and its leaves live no longer")
            }
            Self::Undrained { generation, since, hold } => {
                write!(f, "generation {generation} should have drained by {since}: {hold}")
            }
            Self::Compromised { generation, hold: Some(hold) } => {
                write!(f, "generation {generation} is compromised and still trusted: {hold}")
            }
            Self::Compromised { generation, hold: None } => {
                write!(f, "generation {generation} is compromised and still trusted; the next step is proposed")
            }
        }
    }
}

/// Says what is to be done now.
#[must_use]
pub fn review(standing: &Standing, facts: Facts<'_>) -> Review {
    let mut out = Review::default();
    match preparation(standing, facts) {
        Some(Ok(proposal)) => out.proposals.push(proposal),
        Some(Err(hold)) => out.hold(None, hold),
        None => {}
    }
    for own in &standing.generations {
        let Some((kind, why)) = wanted(standing, own, facts) else { continue };
        let step = Step { generation: own.number, from: own.phase, kind };
        let due = if kind == Kind::Activate { activation_due(standing, facts).err() } else { None };
        match (gate(standing, step, facts), due) {
            (Ok(_), Some(hold)) => out.hold(Some(step), hold),
            (Ok(grounds), None) => out.proposals.push(proposal(Proposed::Step(step), why, grounds)),
            (Err(hold), due) => {
                // Both are shown: who is missing now will be missed when the time has come.
                due.into_iter().for_each(|due| out.hold(Some(step), due));
                out.hold(Some(step), hold);
            }
        }
    }
    out.proposals.sort_by_key(|p| urgency(p.why));
    find(standing, facts, &mut out);
    out
}

impl Review {
    fn hold(&mut self, step: Option<Step>, hold: Hold) {
        if let Hold::NotDue(at) | Hold::Draining { until: at, .. } = &hold {
            self.wake_at = Some(self.wake_at.map_or(*at, |wake| wake.min(*at)));
        }
        self.held.push(Held { step, hold });
    }
}

fn urgency(why: Why) -> u8 {
    match why {
        Why::Distrust => 0,
        Why::Compromise => 1,
        Why::Rollback => 2,
        Why::Asked | Why::First | Why::Time | Why::Next => 3,
    }
}

fn proposal(what: Proposed, why: Why, grounds: Grounds) -> Proposal {
    Proposal { what, why, evidence: grounds.digest(), grounds }
}

/// The step that a generation should take next, whether or not it may.
fn wanted(standing: &Standing, own: &Generation, facts: Facts<'_>) -> Option<(Kind, Why)> {
    let bad = is_compromised(standing, own, facts);
    let end = if distrusts(standing, own, facts) {
        Some(Why::Distrust)
    } else if bad {
        Some(Why::Compromise)
    } else if is_spent(own, facts) {
        Some(Why::Time)
    } else {
        pending(own, facts).then_some(Why::Rollback)
    };
    let next = end.filter(|why| *why != Why::Rollback).unwrap_or(Why::Next);
    match own.phase {
        Phase::Standby | Phase::Staged => Some(match end {
            Some(why) => (Kind::Abandon, why),
            None if own.phase == Phase::Standby => (Kind::Stage, Why::Next),
            None => (Kind::Activate, why_now(standing, facts).unwrap_or(Why::Time)),
        }),
        Phase::Signing => {
            let signer = signer(standing)?;
            if signer.number != own.number || end == Some(Why::Distrust) {
                return Some((Kind::Drain, next));
            }
            // It gives way to an older one that is signing too; if there is none, that one is resumed first.
            let others = standing.in_phase(Phase::Signing).any(|g| g.number != own.number);
            end.filter(|why| others || *why == Why::Rollback).map(|why| (Kind::Abandon, why))
        }
        Phase::Draining => {
            let back = signer(standing).filter(|s| resumable(standing, s, facts) == Some(own.number));
            Some(match back {
                Some(s) if pending(s, facts) => (Kind::Resume, Why::Rollback),
                Some(_) => (Kind::Resume, Why::Compromise),
                None => (Kind::Retire, next),
            })
        }
        Phase::Retired => Some((Kind::Destroy, next)),
        Phase::Destroyed => None,
    }
}

/// To which generation the signer gives way, if it is to be rolled back or is compromised.
fn resumable(standing: &Standing, signer: &Generation, facts: Facts<'_>) -> Option<u32> {
    let gives_way = pending(signer, facts) || is_compromised(standing, signer, facts);
    let only =
        standing.in_phase(Phase::Signing).all(|g| g.number == signer.number || healthy(standing, g, facts).is_err());
    let back = |g: &&Generation| {
        gate(standing, Step { generation: g.number, from: g.phase, kind: Kind::Resume }, facts).is_ok()
    };
    let candidate = standing.in_phase(Phase::Draining).filter(back).last();
    candidate.filter(|_| gives_way && only).map(|g| g.number)
}

/// Whether the next generation is to be made.
fn preparation(standing: &Standing, facts: Facts<'_>) -> Option<Result<Proposal, Hold>> {
    if under_way(standing, facts).is_some() || standing.generations.iter().any(|g| distrusts(standing, g, facts)) {
        return None;
    }
    let number = standing.generations.last().map_or(1, |g| g.number.saturating_add(1));
    let Some(current) = newest_that_signed(standing) else {
        let what = Proposed::Prepare { number, renewal: Renewal::Both };
        return Some(Ok(proposal(what, Why::First, Grounds::default())));
    };
    // An older generation that is healthy takes over at once.
    if standing
        .in_phase(Phase::Signing)
        .any(|g| g.number != current.number && pending(current, facts) && healthy(standing, g, facts).is_ok())
        || resumable(standing, current, facts).is_some()
    {
        return None;
    }
    let why = match why_now(standing, facts) {
        Some(why) => why,
        None => match rolled_back(standing, current, facts) {
            Some((number, at)) => return Some(Err(Hold::AfterRollback { number, at })),
            None if facts.now < current.prepare_at() => return Some(Err(Hold::NotDue(current.prepare_at()))),
            None => Why::Time,
        },
    };
    if standing.generations.iter().filter(|g| g.phase != Phase::Destroyed).count() >= super::MOST_LIVE {
        return Some(Err(Hold::Full));
    }
    let renewal = renewal(current, why, facts);
    let grounds = Grounds(vec![format!("generation {} is over {}", current.number, current.validity().not_after)]);
    Some(Ok(proposal(Proposed::Prepare { number, renewal }, why, grounds)))
}

/// A new root too, unless the one that is there outlasts the time at which it would have to be followed itself.
fn renewal(current: &Generation, why: Why, facts: Facts<'_>) -> Renewal {
    let (root, life) = (current.root.validity, current.issuing.validity.lifetime());
    let root_prepare = root.not_after.minus((root.lifetime() / 2).min(super::PREPARE_BEFORE));
    if why != Why::Compromise && facts.now.plus(life) <= root_prepare { facts.setting.renewal } else { Renewal::Both }
}

/// Why a rotation is wanted before its time.
fn why_now(standing: &Standing, facts: Facts<'_>) -> Option<Why> {
    let current = newest_that_signed(standing)?;
    if is_compromised(standing, current, facts) {
        return Some(Why::Compromise);
    }
    let began = current.times.signing?;
    let since = standing.generations.iter().filter_map(|g| g.abandoned).max().map_or(began, |at| at.max(began));
    let open = |order: &&Order| match order.about {
        // Times are whole seconds: it is over once a newer one signs, or was rolled back after it.
        Some(about) => standing.generations.iter().filter(|g| g.number > about).all(|g| match g.abandoned {
            Some(at) => at < order.at,
            None => !g.has_signed(),
        }),
        None => order.at > since,
    };
    facts.evidence.asked.as_ref().filter(open).map(|_| Why::Asked)
}

/// The newest generation, if a person rolled it back to the one that signs.
fn rolled_back(standing: &Standing, current: &Generation, facts: Facts<'_>) -> Option<(u32, Timestamp)> {
    let ours = |g: &&Generation| g.number > current.number && ordered(g, facts).is_some();
    let newest = standing.generations.last().filter(ours)?;
    Some((newest.number, newest.abandoned?))
}

fn activation_due(standing: &Standing, facts: Facts<'_>) -> Result<(), Hold> {
    let Some(current) = newest_that_signed(standing) else { return Ok(()) };
    let at = current.activate_at();
    if why_now(standing, facts).is_some() || facts.now >= at { Ok(()) } else { Err(Hold::NotDue(at)) }
}

fn find(standing: &Standing, facts: Facts<'_>, out: &mut Review) {
    for own in &standing.generations {
        let lacking = match own.phase {
            Phase::Staged if healthy(standing, own, facts).is_ok() && newest_that_signed(standing).is_some() => {
                missing(standing, own, Some(facts.setting.canary_lifetime), facts)
            }
            Phase::Signing if signer(standing).is_some_and(|s| s.number == own.number) => {
                super::gate::acknowledgements(standing, own, facts)
            }
            Phase::Retired => not_final(standing, own, facts),
            Phase::Standby | Phase::Staged | Phase::Signing | Phase::Draining | Phase::Destroyed => Vec::new(),
        };
        out.findings.extend(lacking.into_iter().map(Finding::Missing));
        let hold =
            || out.held.iter().find(|h| h.step.is_some_and(|s| s.generation == own.number)).map(|h| h.hold.clone());
        if own.phase.is_trusted() && is_compromised(standing, own, facts) {
            out.findings.push(Finding::Compromised { generation: own.number, hold: hold() });
        } else if let (Phase::Draining, Some(since)) = (own.phase, own.times.draining) {
            let since = since.plus(super::gate::drain_span(facts));
            if let Some(hold @ (Hold::Uncounted(_) | Hold::Unexpired { .. })) = hold() {
                out.findings.push(Finding::Undrained { generation: own.number, since, hold });
            }
        }
    }
    if let Some(own) = signer(standing) {
        let (generation, since, ends) = (own.number, own.activate_at(), own.validity().not_after);
        if facts.now >= since {
            out.findings.push(Finding::Late { generation, since, ends });
        }
        if facts.now.plus(facts.setting.leaf_lifetime) > ends {
            out.findings.push(Finding::Ending { generation, ends });
        }
        let next = [since, ends.minus(facts.setting.leaf_lifetime)].into_iter().filter(|at| *at > facts.now);
        out.wake_at = out.wake_at.into_iter().chain(next).min();
    }
}

/// Something that is still to be done in the world. Doing it twice does no harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// To publish the bundle.
    Publish(Bundle),
    /// To publish a revocation list of this generation.
    List(u32),
    /// To probe this party with a canary leaf of this generation.
    Probe(RelyingPartyId, u32),
    /// To have this party swap its configuration, drop tickets and sessions, and close the connections of peers with
    /// leaves of this generation: a resumed session skips the verifier.
    DropSessions(RelyingPartyId, u32),
    /// To put this CA certificate into its issuer's revocation list.
    Revoke(Digest),
    /// To destroy this key.
    DestroyKey(Digest),
}

/// What is still to be done in the world, in this order: after a crash it is simply asked again.
#[must_use]
pub fn due(standing: &Standing, facts: Facts<'_>) -> Vec<Effect> {
    let evidence = facts.evidence;
    let mut out = Vec::new();
    // A list first: who has the anchor and no list refuses.
    for own in standing.generations.iter().filter(|g| g.phase.is_trusted() && !evidence.lists.contains(&g.number)) {
        out.push(Effect::List(own.number));
    }
    if let Ok(bundle) = bundle(standing, evidence.distrust.as_ref()) {
        let published = evidence.published.is_some_and(|p| (p.version, p.digest) == (bundle.version, bundle.digest));
        if !published {
            out.push(Effect::Publish(bundle));
        }
    }
    for own in &standing.generations {
        match own.phase {
            Phase::Staged => {
                for m in missing(standing, own, Some(facts.setting.canary_lifetime / 2), facts) {
                    out.push(Effect::Probe(m.party, own.number));
                }
            }
            Phase::Retired => {
                out.extend(unrevoked(standing, own).filter(|c| !evidence.revoked.contains(c)).map(Effect::Revoke));
                for m in not_final(standing, own, facts) {
                    let silent = facts.setting.parties.get(&m.party).is_some_and(|p| p.shows == Shows::Canary);
                    let effect = if silent { Effect::Probe } else { Effect::DropSessions };
                    out.push(effect(m.party, own.number));
                }
            }
            Phase::Destroyed => {
                let gone = [own.root.key, own.issuing.key].into_iter().filter(|key| {
                    let uses = |g: &Generation| g.root.key == *key || g.issuing.key == *key;
                    !standing.generations.iter().any(|g| g.phase != Phase::Destroyed && uses(g))
                });
                for key in gone.filter(|key| !evidence.destroyed.contains(key)) {
                    if !out.contains(&Effect::DestroyKey(key)) {
                        out.push(Effect::DestroyKey(key));
                    }
                }
            }
            Phase::Standby | Phase::Signing | Phase::Draining => {}
        }
    }
    out
}
