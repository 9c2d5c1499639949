//! The moves: one generation, one phase, one durable write.

use core::fmt;

use super::gate::{gate, healthy, is_spent};
use super::{Cross, Facts, Generation, Hold, MOST_LIVE, Member, Phase, Standing, Times, bundle, signer};
use crate::domain::time::{Timestamp, Validity};

/// One move of one generation. It names the phase that it starts from: if another write came first, it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which generation.
    pub generation: u32,
    /// Where it must stand.
    pub from: Phase,
    /// What is done.
    pub kind: Kind,
}

/// The kinds of moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Into the bundle.
    Stage,
    /// Begins to sign.
    Activate,
    /// Ceases to sign, because a newer one does.
    Drain,
    /// Out of the bundle.
    Retire,
    /// Gives up its keys.
    Destroy,
    /// Rolls a new generation back: it stays trusted, signs no more, and drains.
    Abandon,
    /// Rolls back to an old generation that drains: it may sign again.
    Resume,
}

impl Kind {
    /// Every kind with its name.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Stage, "stage"),
        (Self::Activate, "activate"),
        (Self::Drain, "drain"),
        (Self::Retire, "retire"),
        (Self::Destroy, "destroy"),
        (Self::Abandon, "abandon"),
        (Self::Resume, "resume"),
    ];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    /// By its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(kind, _)| *kind)
    }

    /// From where to where it leads.
    #[must_use]
    pub fn moves(self) -> &'static [(Phase, Phase)] {
        match self {
            Self::Stage => &[(Phase::Standby, Phase::Staged)],
            Self::Activate => &[(Phase::Staged, Phase::Signing)],
            Self::Drain => &[(Phase::Signing, Phase::Draining)],
            Self::Retire => &[(Phase::Draining, Phase::Retired)],
            Self::Destroy => &[(Phase::Retired, Phase::Destroyed)],
            // Nobody trusts what is on standby: it needs no draining.
            Self::Abandon => {
                &[(Phase::Standby, Phase::Retired), (Phase::Staged, Phase::Draining), (Phase::Signing, Phase::Draining)]
            }
            Self::Resume => &[(Phase::Draining, Phase::Signing)],
        }
    }

    /// Where it leads from `from`, if it starts there.
    #[must_use]
    pub fn leads(self, from: Phase) -> Option<Phase> {
        self.moves().iter().find(|(start, _)| *start == from).map(|(_, to)| *to)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} generation {}, which is {}", self.kind.as_str(), self.generation, self.from)
    }
}

/// Why a standing stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is none of this number.
    #[error("there is no generation {0}")]
    Unknown(u32),
    /// Another write came first.
    #[error("generation {generation} is {found}, not {expected}: it was moved in the meantime; look again")]
    Moved {
        /// Which.
        generation: u32,
        /// Where the step starts.
        expected: Phase,
        /// Where it stands.
        found: Phase,
    },
    /// No such move.
    #[error("a generation that is {from} cannot {}", .kind.as_str())]
    NoSuchMove {
        /// What was to be done.
        kind: Kind,
        /// From where.
        from: Phase,
    },
    /// Something is missing.
    #[error(transparent)]
    Held(#[from] Hold),
    /// A number out of turn.
    #[error("generation {got} is out of turn: the next is {want}")]
    Number {
        /// What was given.
        got: u32,
        /// What comes next.
        want: u32,
    },
    /// A name or a key that was there before.
    #[error(
        "the {what} {value} is generation {generation}'s already; every generation has a name and a key of its own"
    )]
    Reused {
        /// "name" or "key".
        what: &'static str,
        /// Which.
        value: String,
        /// Whose.
        generation: u32,
    },
    /// A certificate that outlives what is above it, or is over.
    #[error("it would be valid from {} to {}, and has to lie within {} to {}", .validity.not_before, .validity.not_after, .within.not_before, .within.not_after)]
    Validity {
        /// What was given.
        validity: Validity,
        /// What it has to lie in.
        within: Validity,
    },
    /// These two are not to be cross-signed.
    #[error("generation {subject} cannot be cross-signed by generation {issuer}: {why}")]
    Cross {
        /// Whose root.
        subject: u32,
        /// By whose root.
        issuer: u32,
        /// Why not.
        why: &'static str,
    },
}

/// A generation that was just made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct New {
    /// Its number: the one after the last.
    pub number: u32,
    /// Its root: new, or that of the generation that signs.
    pub root: Member,
    /// Its issuing CA: new.
    pub issuing: Member,
}

/// Takes a new generation in, on standby.
///
/// # Errors
/// [`Refused`] if its number is out of turn, a name or key was ever there before, it outlives its root, or another one is
/// on its way.
pub fn admit(standing: &Standing, new: New, facts: Facts<'_>) -> Result<Standing, Refused> {
    let want = standing.generations.last().map_or(1, |g| g.number.saturating_add(1));
    if new.number != want {
        return Err(Refused::Number { got: new.number, want });
    }
    if let Some(other) = under_way(standing, facts) {
        return Err(Hold::UnderWay(other.number).into());
    }
    if standing.generations.iter().filter(|g| g.phase != Phase::Destroyed).count() >= MOST_LIVE {
        return Err(Hold::Full.into());
    }
    let keeps = signer(standing).filter(|s| s.root == new.root && healthy(standing, s, facts).is_ok());
    unused(standing, &new.issuing)?;
    if keeps.is_none() {
        unused(standing, &new.root)?;
    }
    if new.root.key == new.issuing.key || new.root.name == new.issuing.name {
        let what = if new.root.key == new.issuing.key { "key" } else { "name" };
        return Err(Refused::Reused { what, value: new.root.name.to_string(), generation: new.number });
    }
    let within = new.root.validity;
    let (validity, now) = (new.issuing.validity, facts.now);
    let inside = within.not_before <= validity.not_before && validity.not_after <= within.not_after;
    if !inside || validity.not_after <= now || validity.not_after <= validity.not_before {
        return Err(Refused::Validity { validity, within });
    }
    let mut next = standing.clone();
    next.generations.push(Generation {
        number: new.number,
        root: new.root,
        issuing: new.issuing,
        phase: Phase::Standby,
        times: Times::made(now),
        abandoned: None,
    });
    Ok(next)
}

/// The generation that is to sign next.
pub(super) fn under_way<'a>(standing: &'a Standing, facts: Facts<'_>) -> Option<&'a Generation> {
    let waits = |g: &&Generation| matches!(g.phase, Phase::Standby | Phase::Staged);
    standing.generations.iter().filter(waits).find(|g| !is_spent(g, facts) && healthy(standing, g, facts).is_ok())
}

fn unused(standing: &Standing, new: &Member) -> Result<(), Refused> {
    for g in &standing.generations {
        for old in [&g.root, &g.issuing] {
            if old.key == new.key {
                return Err(Refused::Reused { what: "key", value: new.key.to_string(), generation: g.number });
            }
            if old.name == new.name {
                return Err(Refused::Reused { what: "name", value: new.name.to_string(), generation: g.number });
            }
        }
    }
    Ok(())
}

/// Takes one step: a new standing, to be written at once if the old one is still there.
///
/// # Errors
/// [`Refused`] if the generation was moved in the meantime, there is no such move, or the gate holds it.
pub fn apply(standing: &Standing, step: Step, facts: Facts<'_>) -> Result<Standing, Refused> {
    let own = standing.generation(step.generation).ok_or(Refused::Unknown(step.generation))?;
    if own.phase != step.from {
        return Err(Refused::Moved { generation: step.generation, expected: step.from, found: own.phase });
    }
    let to = step.kind.leads(step.from).ok_or(Refused::NoSuchMove { kind: step.kind, from: step.from })?;
    gate(standing, step, facts)?;
    let mut next = standing.clone();
    for g in next.generations.iter_mut().filter(|g| g.number == step.generation) {
        g.phase = to;
        g.times.enter(to, facts.now);
        if step.kind == Kind::Abandon {
            g.abandoned = Some(facts.now);
        }
    }
    if step.from.is_trusted() != to.is_trusted() {
        next.version = standing.version.saturating_add(1);
        next.changed = facts.now;
        bundle(&next, facts.evidence.distrust.as_ref()).map_err(|empty| Refused::Held(empty.into()))?;
    }
    Ok(next)
}

impl Times {
    /// A generation comes into this phase.
    pub fn enter(&mut self, phase: Phase, now: Timestamp) {
        match phase {
            Phase::Standby => self.made = now,
            Phase::Staged => self.staged = Some(now),
            Phase::Signing => self.signing = Some(now),
            Phase::Draining => self.draining = Some(now),
            Phase::Retired => self.retired = Some(now),
            Phase::Destroyed => self.destroyed = Some(now),
        }
    }
}

/// Takes in a cross-signature: the root of `subject`, certified by the root of `issuer`.
///
/// # Errors
/// [`Refused`] unless both are trusted and healthy, the issuer's gate was passed, it lies within both roots' validities,
/// and there is none that is still good.
pub fn cross_sign(standing: &Standing, cross: Cross, facts: Facts<'_>) -> Result<Standing, Refused> {
    let subject = standing.generation(cross.subject).ok_or(Refused::Unknown(cross.subject))?;
    let issuer = standing.generation(cross.issuer).ok_or(Refused::Unknown(cross.issuer))?;
    let no = |why| Err(Refused::Cross { subject: cross.subject, issuer: cross.issuer, why });
    healthy(standing, subject, facts)?;
    healthy(standing, issuer, facts)?;
    if subject.root.key == issuer.root.key {
        return no("they have the same root");
    }
    if !subject.phase.is_trusted() {
        return no("relying parties do not have the first one's root in their bundle");
    }
    // Nothing is signed by a generation that has not passed its gate.
    if !matches!(issuer.phase, Phase::Signing | Phase::Draining) || !issuer.has_signed() {
        return no("the second one is not to sign anything now");
    }
    let good = |c: &&Cross| (c.subject, c.issuer) == (cross.subject, cross.issuer) && c.validity.not_after >= facts.now;
    if standing.crosses.iter().any(|c| good(&c)) {
        return no("one that is still good is there");
    }
    let within = subject.root.validity.intersection(&issuer.root.validity);
    let validity = cross.validity;
    if validity.not_before < within.not_before
        || within.not_after < validity.not_after
        || validity.not_after <= facts.now
    {
        return Err(Refused::Validity { validity, within });
    }
    let mut next = standing.clone();
    // What is over matters to nobody, so that the list stays short.
    next.crosses.retain(|c| c.validity.not_after.plus(facts.setting.skew) >= facts.now);
    next.crosses.push(cross);
    Ok(next)
}
