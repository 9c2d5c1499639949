//! What a step needs, and why it is held.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use super::{
    Breakage, Canary, Facts, Generation, Kind, MOST_LIVE, Order, Phase, Shows, Standing, Step, breakage, compromised,
    signer, unguarded,
};
use crate::domain::id::RelyingPartyId;
use crate::domain::key::Digest;
use crate::domain::time::{Timestamp, Validity, human_span};

/// Why a step may be taken: one line for each thing that it was judged by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grounds(pub Vec<String>);

impl Grounds {
    fn of(line: impl Into<String>) -> Self {
        Self(vec![line.into()])
    }

    /// Names exactly these grounds.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.0.join("\n").as_bytes())
    }
}

/// Why a step is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Hold {
    /// Not yet time to propose it.
    #[error("not due before {0}")]
    NotDue(Timestamp),
    /// Relying parties have not shown what they must show. Waiting never replaces it.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Missing(Vec<Missing>),
    /// The time of draining is not over.
    #[error("drains until {until}: {} after it ceased to sign", human_span(*.span))]
    Draining {
        /// When it is over.
        until: Timestamp,
        /// Twice the longest life of a leaf, and the skew.
        span: Duration,
    },
    /// Nobody has looked for its leaves since its time of draining was over.
    #[error("nobody has counted the leaves of generation {0} since its time of draining was over")]
    Uncounted(u32),
    /// It still has leaves.
    #[error("{count} leaves of generation {generation} have not expired{}", .latest.map(|l| format!("; the last ends {l}")).unwrap_or_default())]
    Unexpired {
        /// Whose.
        generation: u32,
        /// How many.
        count: u64,
        /// The last of them ends then.
        latest: Option<Timestamp>,
    },
    /// Nothing healthy signs in its place.
    #[error("no other generation signs in place of generation {0}; the replacement comes first")]
    NoReplacement(u32),
    /// A person has to see what breaks.
    #[error("a person has to sign off what breaks: {0}")]
    NotSignedOff(Breakage),
    /// A rollback was ordered, and this would make it impossible.
    #[error("generation {0} is to be rolled back first")]
    RollbackFirst(u32),
    /// Nobody ordered it.
    #[error("nobody has ordered generation {0} to be rolled back")]
    NotOrdered(u32),
    /// It is below a key in other hands.
    #[error("generation {0} is compromised")]
    Compromised(u32),
    /// It was rolled back.
    #[error("generation {number} was rolled back {at}")]
    Abandoned {
        /// Which.
        number: u32,
        /// When.
        at: Timestamp,
    },
    /// The last rotation was rolled back, and nobody has asked for another.
    #[error("generation {number} was rolled back {at}; the next rotation has to be asked for")]
    AfterRollback {
        /// Which.
        number: u32,
        /// When.
        at: Timestamp,
    },
    /// Not valid now.
    #[error("generation {number} is valid from {} to {}", .validity.not_before, .validity.not_after)]
    NotNow {
        /// Which.
        number: u32,
        /// When.
        validity: Validity,
    },
    /// A newer generation signs.
    #[error("generation {signer} signs already, and is newer than generation {number}")]
    Older {
        /// Which.
        number: u32,
        /// What signs.
        signer: u32,
    },
    /// Peers that check revocation would refuse its leaves.
    #[error("generation {0} has no revocation list in force, and who checks revocation would refuse its leaves")]
    NoList(u32),
    /// It has to be in its issuer's revocation list first: the root above it stays trusted.
    #[error("certificate {certificate:?} of retired generation {number} is still good below a root that is trusted")]
    NotRevoked {
        /// Which.
        number: u32,
        /// The certificate.
        certificate: Digest,
    },
    /// Nobody would be trusted any more.
    #[error(transparent)]
    EmptyBundle(#[from] super::EmptyBundle),
    /// Another rotation is under way.
    #[error("generation {0} is on its way already")]
    UnderWay(u32),
    /// Too many generations.
    #[error("{MOST_LIVE} generations are there already; those that drain have to be retired and destroyed first")]
    Full,
}

/// What a relying party has not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Who.
    pub party: RelyingPartyId,
    /// Who is told.
    pub owner: Arc<str>,
    /// For which generation.
    pub generation: u32,
    /// What is missing.
    pub lack: Lack,
    /// Since when.
    pub since: Timestamp,
}

/// What is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// It never acknowledged a bundle; this version is wanted.
    Acknowledgement(u64),
    /// It acknowledged another one.
    Other {
        /// The version that it acknowledged.
        has: u64,
        /// The version that is wanted.
        wants: u64,
    },
    /// No canary was probed since the generation came into the bundle.
    Canary,
    /// It refused the canary.
    Refused(Timestamp),
    /// The canary's answer is too old.
    Old(Timestamp),
    /// Sessions and tickets of the retired generation may still be good there.
    Sessions,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { party, generation, .. } = self;
        match self.lack {
            Lack::Acknowledgement(wants) => {
                write!(f, "{party} has acknowledged no bundle, and version {wants} is wanted")?
            }
            Lack::Other { has, wants } if has == wants => {
                write!(f, "{party} acknowledged a bundle {wants} with other contents")?;
            }
            Lack::Other { has, wants } => write!(f, "{party} acknowledged bundle {has}, and {wants} is wanted")?,
            Lack::Canary => write!(f, "no canary of generation {generation} was probed at {party}")?,
            Lack::Refused(at) => write!(f, "{party} refused the canary of generation {generation} {at}")?,
            Lack::Old(at) => write!(f, "the canary of generation {generation} was last probed at {party} {at}")?,
            Lack::Sessions => write!(f, "{party} has not dropped the sessions of generation {generation}")?,
        }
        write!(f, " (since {}, owner {})", self.since, self.owner)
    }
}

/// Whether a step may be taken now. Timers have no say here.
///
/// # Errors
/// [`Hold`] says what is missing.
pub fn gate(standing: &Standing, step: Step, facts: Facts<'_>) -> Result<Grounds, Hold> {
    let Some(own) = standing.generation(step.generation) else { return Err(Hold::NoReplacement(step.generation)) };
    match step.kind {
        Kind::Stage => stage(standing, own, facts),
        Kind::Activate => activate(standing, own, facts),
        Kind::Drain => drain(standing, own, facts),
        Kind::Retire => retire(standing, own, facts),
        Kind::Destroy => destroy(standing, own, facts),
        Kind::Abandon => abandon(standing, own, facts),
        Kind::Resume => resume(standing, own, facts),
    }
}

fn stage(standing: &Standing, own: &Generation, facts: Facts<'_>) -> Result<Grounds, Hold> {
    healthy(standing, own, facts)?;
    valid(own, facts.now)?;
    Ok(Grounds::of(format!("generation {} has root {}", own.number, own.root.certificate)))
}

fn activate(standing: &Standing, own: &Generation, facts: Facts<'_>) -> Result<Grounds, Hold> {
    healthy(standing, own, facts)?;
    valid(own, facts.now)?;
    let Some(current) = newest_that_signed(standing) else {
        return Ok(Grounds::of("nothing was ever signed, so nobody can be refused"));
    };
    if let Some(signer) = signer(standing).filter(|s| s.number > own.number) {
        return Err(Hold::Older { number: own.number, signer: signer.number });
    }
    if !facts.evidence.lists.contains(&own.number) {
        return Err(Hold::NoList(own.number));
    }
    let missing = missing(standing, own, Some(facts.setting.canary_lifetime), facts);
    if missing.is_empty() {
        return Ok(shown(standing, own, facts));
    }
    // Only a compromise lets a person go on without everybody, and only without those that they saw named.
    if !is_compromised(standing, current, facts) {
        return Err(Hold::Missing(missing));
    }
    signed_off(standing, own, facts)
}

fn drain(standing: &Standing, own: &Generation, facts: Facts<'_>) -> Result<Grounds, Hold> {
    if distrusts(standing, own, facts) {
        return Ok(Grounds::of("everything is to be distrusted"));
    }
    let signer = signer(standing).filter(|s| s.number != own.number).ok_or(Hold::NoReplacement(own.number))?;
    way_back(standing, own, signer, facts)?;
    Ok(Grounds::of(format!("generation {} signs", signer.number)))
}

fn retire(standing: &Standing, own: &Generation, facts: Facts<'_>) -> Result<Grounds, Hold> {
    if distrusts(standing, own, facts) {
        return Ok(Grounds::of("everything is to be distrusted"));
    }
    let signer = signer(standing).filter(|s| s.number != own.number).ok_or(Hold::NoReplacement(own.number))?;
    if is_compromised(standing, own, facts) {
        healthy(standing, signer, facts).map_err(|_| Hold::NoReplacement(own.number))?;
        return signed_off(standing, signer, facts).or_else(|hold| drained(own, facts).map_err(|_| hold));
    }
    way_back(standing, own, signer, facts)?;
    let mut grounds = drained(own, facts)?;
    // As long as somebody lacks the bundle, the way back stays open.
    let lacking: Vec<Missing> = acknowledgements(standing, signer, facts);
    if !lacking.is_empty() {
        return Err(Hold::Missing(lacking));
    }
    grounds.0.push(format!("generation {} signs", signer.number));
    Ok(grounds)
}

fn destroy(standing: &Standing, own: &Generation, facts: Facts<'_>) -> Result<Grounds, Hold> {
    let lacking = not_final(standing, own, facts);
    if !lacking.is_empty() {
        return Err(Hold::Missing(lacking));
    }
    if let Some(certificate) = unrevoked(standing, own).find(|c| !facts.evidence.revoked.contains(c)) {
        return Err(Hold::NotRevoked { number: own.number, certificate });
    }
    Ok(Grounds::of(format!("nobody relies on generation {} any more", own.number)))
}

fn abandon(standing: &Standing, own: &Generation, facts: Facts<'_>) -> Result<Grounds, Hold> {
    let grounds = if let Some(order) = ordered(own, facts) {
        format!("{} ordered it {}", order.by, order.at)
    } else if is_compromised(standing, own, facts) || distrusts(standing, own, facts) {
        "it is not to be trusted".to_owned()
    } else if is_spent(own, facts) {
        format!("it was over {} before it signed anything", own.validity().not_after)
    } else {
        return Err(Hold::NotOrdered(own.number));
    };
    let other = |g: &&Generation| g.number != own.number && healthy(standing, g, facts).is_ok();
    if own.phase == Phase::Signing && !standing.in_phase(Phase::Signing).any(|g| other(&g)) {
        return Err(Hold::NoReplacement(own.number));
    }
    Ok(Grounds::of(grounds))
}

fn resume(standing: &Standing, own: &Generation, facts: Facts<'_>) -> Result<Grounds, Hold> {
    healthy(standing, own, facts)?;
    valid(own, facts.now)?;
    // It passed its gate once, and has been trusted ever since.
    let signer = signer(standing).filter(|_| own.has_signed()).ok_or(Hold::NotOrdered(own.number))?;
    if pending(signer, facts) || is_compromised(standing, signer, facts) {
        Ok(Grounds::of(format!("generation {} is to sign no more", signer.number)))
    } else {
        Err(Hold::NotOrdered(signer.number))
    }
}

/// What the relying parties have not shown for this generation: each acknowledged the bundle that is current, and let a
/// canary of it in, not longer ago than `fresh` if that is given.
pub(super) fn missing(
    standing: &Standing,
    own: &Generation,
    fresh: Option<Duration>,
    facts: Facts<'_>,
) -> Vec<Missing> {
    let mut lacking = acknowledgements(standing, own, facts);
    let since = own.times.staged.unwrap_or(facts.now);
    for (party, about) in facts.setting.parties.iter().filter(|(_, about)| about.shows != Shows::Word) {
        let lack = match facts.evidence.canaries.get(&(party.clone(), own.number)) {
            // Neither before it was in the bundle nor in the future, when a clock was wrong.
            Some(Canary::Accepted(at) | Canary::Refused(at)) if *at < since || *at > facts.now => Lack::Canary,
            Some(Canary::Accepted(at)) if fresh.is_some_and(|f| facts.now.since(*at) > f) => Lack::Old(*at),
            Some(Canary::Accepted(_)) => continue,
            Some(Canary::Refused(at)) => Lack::Refused(*at),
            None => Lack::Canary,
        };
        if !lacking.iter().any(|m| m.party == *party) {
            lacking.push(Missing {
                party: party.clone(),
                owner: about.owner.clone(),
                generation: own.number,
                lack,
                since,
            });
        }
    }
    lacking
}

/// Who has not acknowledged the bundle that is current.
pub(super) fn acknowledgements(standing: &Standing, own: &Generation, facts: Facts<'_>) -> Vec<Missing> {
    let current = unguarded(standing);
    let lack = |party: &RelyingPartyId| match facts.evidence.acknowledged.get(party) {
        None => Some(Lack::Acknowledgement(current.version)),
        Some(a) if a.version == current.version && a.digest == current.digest => None,
        Some(a) => Some(Lack::Other { has: a.version, wants: current.version }),
    };
    let parties = facts.setting.parties.iter().filter(|(_, about)| about.shows != Shows::Canary);
    parties
        .filter_map(|(party, about)| {
            Some(Missing {
                lack: lack(party)?,
                party: party.clone(),
                owner: about.owner.clone(),
                generation: own.number,
                since: standing.changed,
            })
        })
        .collect()
}

/// What keeps a retirement from being final: everybody took the bundle without it, and dropped what it vouched for.
pub(super) fn not_final(standing: &Standing, own: &Generation, facts: Facts<'_>) -> Vec<Missing> {
    // What was never in the bundle vouched for nobody.
    let (Some(_), Some(retired)) = (own.times.staged, own.times.retired) else { return Vec::new() };
    let mut lacking = acknowledgements(standing, own, facts);
    for (party, about) in &facts.setting.parties {
        let key = (party.clone(), own.number);
        let dropped = match (about.shows, facts.evidence.canaries.get(&key)) {
            (Shows::Both | Shows::Word, _) => facts.evidence.dropped.get(&key).copied(),
            (Shows::Canary, Some(Canary::Refused(at))) => Some(*at),
            // What is over is refused by everybody.
            (Shows::Canary, _) => (own.validity().not_after < facts.now).then_some(facts.now),
        };
        if dropped.is_none_or(|at| at < retired) && !lacking.iter().any(|m| m.party == *party) {
            lacking.push(Missing {
                party: party.clone(),
                owner: about.owner.clone(),
                generation: own.number,
                lack: Lack::Sessions,
                since: retired,
            });
        }
    }
    lacking
}

/// The certificates that make a retired generation's leaves good below roots that are still trusted.
pub(super) fn unrevoked<'a>(standing: &'a Standing, own: &'a Generation) -> impl Iterator<Item = Digest> + 'a {
    let trusted = |g: &Generation| g.phase.is_trusted() && g.number != own.number;
    let shared = standing.generations.iter().any(|g| trusted(g) && g.root.key == own.root.key);
    let crossed = standing
        .crosses
        .iter()
        .filter(move |c| c.subject == own.number && standing.generation(c.issuer).is_some_and(trusted));
    (shared && own.times.staged.is_some())
        .then_some(own.issuing.certificate)
        .into_iter()
        .chain(crossed.map(|c| c.certificate))
}

/// How long a generation drains: a leaf may have been signed in its last second, be taken up late, and is replaced at half
/// of its life; two whole lives hold all that, and the clocks' difference once.
pub(super) fn drain_span(facts: Facts<'_>) -> Duration {
    facts.setting.leaf_lifetime.saturating_mul(2).saturating_add(facts.setting.skew)
}

fn drained(own: &Generation, facts: Facts<'_>) -> Result<Grounds, Hold> {
    let span = drain_span(facts);
    let until = own.times.draining.unwrap_or(facts.now).plus(span);
    if facts.now < until {
        return Err(Hold::Draining { until, span });
    }
    let leaves = facts.evidence.leaves.get(&own.number);
    let leaves = leaves.filter(|l| (until..=facts.now).contains(&l.looked)).ok_or(Hold::Uncounted(own.number))?;
    let over = leaves.latest.is_some_and(|l| l.plus(facts.setting.skew) < facts.now);
    if leaves.count() > 0 && !over {
        return Err(Hold::Unexpired { generation: own.number, count: leaves.count(), latest: leaves.latest });
    }
    let latest = leaves.latest.map_or_else(|| "none".to_owned(), |l| l.to_string());
    Ok(Grounds(vec![
        format!("drained until {until}"),
        format!("leaves looked for {}; the last: {latest}", leaves.looked),
    ]))
}

fn signed_off(standing: &Standing, replacement: &Generation, facts: Facts<'_>) -> Result<Grounds, Hold> {
    let breaks = breakage(standing, replacement, facts);
    match breaks.signed_off(facts.evidence) {
        Some(by) => Ok(Grounds(vec![format!("{} signed off {}", by.by, by.shown.digest()), breaks.to_string()])),
        None => Err(Hold::NotSignedOff(breaks)),
    }
}

fn shown(standing: &Standing, own: &Generation, facts: Facts<'_>) -> Grounds {
    let current = unguarded(standing);
    let mut lines = vec![format!("bundle {} {}", current.version, current.digest)];
    for party in facts.setting.parties.keys() {
        let acknowledged = facts.evidence.acknowledged.get(party).map(|a| a.at.to_string()).unwrap_or_default();
        let canary = facts.evidence.canaries.get(&(party.clone(), own.number));
        let canary = canary.map(|(Canary::Accepted(at) | Canary::Refused(at))| at.to_string()).unwrap_or_default();
        lines.push(format!("{party} acknowledged {acknowledged}, let the canary in {canary}"));
    }
    Grounds(lines)
}

/// A rollback that was ordered, or that a compromise calls for, is carried out before the way back is closed.
fn way_back(standing: &Standing, own: &Generation, signer: &Generation, facts: Facts<'_>) -> Result<(), Hold> {
    let useful = healthy(standing, own, facts).is_ok() && own.has_signed() && valid(own, facts.now).is_ok();
    let gives_way = pending(signer, facts) || is_compromised(standing, signer, facts);
    if useful && gives_way { Err(Hold::RollbackFirst(signer.number)) } else { Ok(()) }
}

/// Whether a rollback of it was ordered and not carried out yet.
pub(super) fn pending(own: &Generation, facts: Facts<'_>) -> bool {
    own.abandoned.is_none() && ordered(own, facts).is_some()
}

/// Whether it waited to sign for so long that it is over.
pub(super) fn is_spent(own: &Generation, facts: Facts<'_>) -> bool {
    matches!(own.phase, Phase::Standby | Phase::Staged) && own.validity().not_after < facts.now
}

/// An order from before it was made is not about it.
pub(super) fn ordered<'a>(own: &Generation, facts: Facts<'a>) -> Option<&'a Order> {
    facts.evidence.rollbacks.get(&own.number).filter(|order| order.at >= own.times.made)
}

pub(super) fn is_compromised(standing: &Standing, own: &Generation, facts: Facts<'_>) -> bool {
    compromised(standing, facts.evidence).contains(&own.number)
}

/// Neither compromised nor rolled back.
pub(super) fn healthy(standing: &Standing, own: &Generation, facts: Facts<'_>) -> Result<(), Hold> {
    if is_compromised(standing, own, facts) {
        return Err(Hold::Compromised(own.number));
    }
    own.abandoned.map_or(Ok(()), |at| Err(Hold::Abandoned { number: own.number, at }))
}

fn valid(own: &Generation, now: Timestamp) -> Result<(), Hold> {
    let validity = own.validity();
    if validity.contains(now) { Ok(()) } else { Err(Hold::NotNow { number: own.number, validity }) }
}

/// Whether an order to distrust everything names this CA and means this generation.
pub(super) fn distrusts(standing: &Standing, own: &Generation, facts: Facts<'_>) -> bool {
    facts.evidence.distrust.as_ref().is_some_and(|d| d.ca == standing.ca && own.times.made <= d.at)
}

/// What peers' leaves may be from: what signs, or did last.
pub(super) fn newest_that_signed(standing: &Standing) -> Option<&Generation> {
    signer(standing).or_else(|| standing.generations.iter().rfind(|g| g.has_signed()))
}
