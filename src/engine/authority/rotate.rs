//! Rotating a CA: what is proposed is done, one durable step after the other, and then what follows from it in the world.
//!
//! ```text
//! look ─▶ a step may be taken? ─ yes: one commit, look again
//!           └ no: something is due in the world? ─ yes: done, and recorded as evidence, look again
//!                   └ no: what waits is told to its owner
//! ```
//! All of it is found again after a crash from the state alone, so that a restart goes the same way as a normal run.
//! Refuses to decide anything: that is [`crate::domain::rotation`].

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::id::{CaId, RelyingPartyId};
use crate::domain::json::Json;
use crate::domain::key::Digest;
use crate::domain::register::{CaGeneration, GenerationId, Phase};
use crate::domain::rotating;
use crate::domain::rotation::{
    self, Evidence, Facts, Finding, Kind, Lack, Leaves, Party, Piece, PieceId, PieceOn, Proposed, Renewal, Setting,
    Shows, Standing, Step, Why, due, review,
};
use crate::domain::state::Change;
use crate::domain::time::{MINUTE, Timestamp};
use crate::engine::authority::make::Place;
use crate::engine::authority::{Authority, Denied};
use crate::ports::{Batch, Urgency};

/// Steps and effects in one go: a rotation has six steps, and each generation a dozen effects.
const MOST_AT_ONCE: u32 = 64;
/// The profile under which canaries stand in the register; no configuration can have it.
pub const CANARY: &str = "keyward-canary";
/// Whoever lacks something for so long holds others up; before that it is told what is wanted of it.
const PATIENCE: Duration = MINUTE.saturating_mul(10);

/// How one CA's rotation stands, with all that it is judged by.
#[derive(Clone, Debug)]
pub struct Outlook {
    /// Its generations.
    pub standing: Standing,
    /// What is known.
    pub evidence: Evidence,
    /// By which settings.
    pub setting: Setting,
    /// When this was.
    pub now: Timestamp,
}

impl Outlook {
    /// What steps are judged by.
    #[must_use]
    pub fn facts(&self) -> Facts<'_> {
        Facts { evidence: &self.evidence, setting: &self.setting, now: self.now }
    }
}

/// Something that somebody has to know, and when it was last told.
pub(super) type Told = BTreeMap<(String, &'static str), Timestamp>;

impl Authority {
    /// How the rotation of a CA stands now.
    ///
    /// # Errors
    /// If there is no such CA.
    pub fn outlook(&self, id: &CaId) -> Result<Outlook, Denied> {
        let ca = self.ca(id)?;
        let configured = self.rotations().get(id).cloned();
        let mut setting = configured.map_or_else(|| Setting::usual(&ca), |s| Setting::clone(&s));
        for here in self.relying.here(id) {
            let party = Party { owner: here.owner, shows: Shows::Both };
            setting.parties.insert(here.party, party);
        }
        let now = self.now();
        let (standing, mut evidence, leaves) = {
            let desk = self.engine.read();
            let standing = rotating::standing(&desk.state, id);
            let leaves = leaves(&desk, &standing, now);
            (standing, rotating::evidence(&desk.state, id), leaves)
        };
        evidence.leaves = leaves;
        evidence.lists = self.listed(id, now);
        evidence.revoked = self.on_lists(id);
        Ok(Outlook { standing, evidence, setting, now })
    }

    /// Does what can be done for all CAs, and tells what cannot.
    pub(super) async fn rotate_all(&self) {
        for id in self.cas().keys() {
            if let Err(error) = self.rotate(id).await {
                self.tell(format!("ca/{id}"), None, error.code(), format!("{id}: {error}"), Urgency::Act);
            }
            self.tell_findings(id);
        }
    }

    /// Does what can be done now for one CA.
    ///
    /// # Errors
    /// The first thing that could not be done; what came before it is done, and the rest is tried again.
    pub async fn rotate(&self, id: &CaId) -> Result<(), Denied> {
        let _alone = self.rotating.lock().await;
        for _ in 0..MOST_AT_ONCE {
            if self.generations(id).is_empty() || self.believe_clock().is_err() {
                return Ok(());
            }
            self.acknowledge_here(id).await?;
            let outlook = self.outlook(id)?;
            let found = review(&outlook.standing, outlook.facts());
            let (mut done, mut failed) = (false, None);
            for proposal in &found.proposals {
                let tried = match proposal.what {
                    // The first one is made when a person says so.
                    Proposed::Prepare { .. } if proposal.why == Why::First => continue,
                    Proposed::Prepare { renewal, .. } => self.prepare(id, renewal, proposal.why).await,
                    Proposed::Step(step) => self.step(id, step, proposal.why).await,
                };
                // One is done, and then one looks again; what fails keeps nothing else waiting.
                done = tried.is_ok();
                failed = failed.or(tried.err());
                if done {
                    break;
                }
            }
            if !done {
                let effects = due(&outlook.standing, outlook.facts());
                let (changed, error) = self.carry_out(id, effects, &outlook).await;
                done = changed;
                failed = failed.or(error);
            }
            if !done {
                return failed.map_or(Ok(()), Err);
            }
        }
        Ok(())
    }

    /// Makes the next generation, or goes on with one that was begun.
    async fn prepare(&self, id: &CaId, renewal: Renewal, why: Why) -> Result<(), Denied> {
        let _turn = self.turn.lock().await;
        let ca = self.ca(id)?;
        let made = self.generation(&ca, renewal, &format!("rotation: {why}")).await?;
        tracing::info!(generation = %made, %why, "a generation is made");
        Ok(())
    }

    /// Takes one step: one commit, if the generation still stands where the step begins.
    pub(super) async fn step(&self, id: &CaId, step: Step, why: Why) -> Result<(), Denied> {
        let _turn = self.turn.lock().await;
        self.step_in_turn(id, step, why, None).await
    }

    pub(super) async fn step_in_turn(&self, id: &CaId, step: Step, why: Why, by: Option<&str>) -> Result<(), Denied> {
        let outlook = self.outlook(id)?;
        let grounds = rotation::gate(&outlook.standing, step, outlook.facts());
        let next = rotation::apply(&outlook.standing, step, outlook.facts())?;
        let number = GenerationId { ca: id.clone(), number: step.generation };
        let to = next.generation(step.generation).ok_or(rotation::Refused::Unknown(step.generation))?;
        let moved = rotating::moved(&*self.known(&number)?, to);
        let mut draft = self.draft("ca.phase", "KW4604", id, by);
        draft.facts = vec![
            ("evidence", Json::opt(grounds.ok().map(|g| Json::show(&g.digest())))),
            ("from", Json::str(step.from.as_str())),
            ("generation", Json::show(&number)),
            ("to", Json::str(to.phase.as_str())),
            ("version", Json::str(next.version.to_string())),
            ("why", Json::str(why.to_string())),
        ];
        let mut changes = vec![Change::Generation(number.clone(), Arc::new(moved))];
        if next.version != outlook.standing.version {
            let bundle = Piece { version: Some(next.version), ..Piece::at(next.changed) };
            changes.push(piece(id, PieceOn::Bundle, bundle));
        }
        if step.kind == Kind::Destroy {
            let desk = self.engine.read();
            let own = desk.state.pieces.keys().filter(|p| p.ca == *id && rotation::is_over(&p.on, step.generation));
            changes.extend(own.map(|p| Change::Piece(p.clone(), None)));
        }
        // Whoever still trusts it could not be told that its key is bad without an outage; from now on nobody does.
        let blocking = self.blocking(&next, &outlook.evidence, None);
        self.commit_blocking(changes, draft, blocking).await?;
        tracing::info!(generation = %number, from = %step.from, to = %to.phase, %why, "a CA generation was moved");
        self.anchor();
        Ok(())
    }

    /// Takes a complete generation in: on standby.
    pub(super) async fn admit(&self, id: &GenerationId, by: &str) -> Result<(), Denied> {
        let own = self.known(id)?;
        let mut complete = CaGeneration::clone(&own);
        complete.phase = Phase::STANDBY;
        complete.times.enter(rotation::Phase::Standby, self.now());
        let outlook = self.outlook(&id.ca)?;
        let new = rotating::admitted(id, &complete)
            .ok_or_else(|| Denied::Broken(format!("generation {id} is not complete")))?;
        rotation::admit(&outlook.standing, new, outlook.facts())?;
        let mut draft = self.draft("ca.phase", "KW4604", &id.ca, None);
        draft.facts = vec![
            ("from", Json::str(own.phase.as_str())),
            ("generation", Json::show(id)),
            ("to", Json::str(complete.phase.as_str())),
            ("why", Json::str(by.to_owned())),
        ];
        let changes = vec![Change::Generation(id.clone(), Arc::new(complete))];
        Ok(self.engine.commit(Batch { changes, entries: vec![draft] }).await?)
    }

    /// Generations whose CAs all have a list in force.
    fn listed(&self, id: &CaId, now: Timestamp) -> std::collections::BTreeSet<u32> {
        let all = self.generations(id);
        let good = |own: &GenerationId, place: Place| {
            let owner = self.owner_of_list(own, place);
            let generation = all.iter().find(|(other, _)| *other == owner).map(|(_, g)| g);
            let key = generation.and_then(|g| place.of(g));
            // An offline root's list is brought by a person, and no leaf needs it.
            let offline = key.is_some_and(|k| k.keeper != crate::domain::register::Keeper::Holder);
            offline || key.and_then(|k| k.list.as_ref()).is_some_and(|l| l.next_update > now)
        };
        let ready = all.iter().filter(|(own, _)| Place::BOTH.iter().all(|place| good(own, *place)));
        ready.map(|(own, _)| own.number).collect()
    }

    fn tell_findings(&self, id: &CaId) {
        let Ok(outlook) = self.outlook(id) else { return };
        if self.generations(id).is_empty() || self.believe_clock().is_err() {
            return;
        }
        for finding in review(&outlook.standing, outlook.facts()).findings {
            let (code, owner, urgent) = describe(&finding, outlook.now);
            let urgency = if urgent { "now" } else { "soon" };
            let what = match &finding {
                Finding::Missing(missing) => format!("ca/{id}/{}/{urgency}", missing.party),
                Finding::Late { .. }
                | Finding::Ending { .. }
                | Finding::Undrained { .. }
                | Finding::Compromised { .. } => format!("ca/{id}/{urgency}"),
            };
            let urgency = if urgent { Urgency::Act } else { Urgency::Routine };
            self.tell(what, owner, code, format!("CA {id}: {finding}"), urgency);
        }
    }
}

/// The code of a finding, whose it is, and whether somebody has to act.
#[must_use]
pub fn describe(finding: &Finding, now: Timestamp) -> (&'static str, Option<String>, bool) {
    match finding {
        Finding::Missing(missing) => {
            let code = match missing.lack {
                Lack::Acknowledgement(_) | Lack::Other { .. } => "KW4621",
                Lack::Canary | Lack::Refused(_) | Lack::Old(_) => "KW4622",
                Lack::Sessions => "KW4623",
            };
            (code, Some(missing.owner.to_string()), missing.since.until(now) >= PATIENCE)
        }
        Finding::Late { .. } => ("KW4624", None, true),
        Finding::Ending { .. } => ("KW4619", None, true),
        Finding::Undrained { since, .. } => ("KW4625", None, since.until(now) >= PATIENCE),
        Finding::Compromised { .. } => ("KW4626", None, true),
    }
}

/// One piece of what is known.
pub(super) fn piece(ca: &CaId, on: PieceOn, piece: Piece) -> Change {
    Change::Piece(PieceId { ca: ca.clone(), on }, Some(Arc::new(piece)))
}

/// The leaves of each generation that have not expired: those in our records, and those that were seen and are not.
fn leaves(desk: &crate::engine::Desk, standing: &Standing, now: Timestamp) -> BTreeMap<u32, Leaves> {
    let none = Leaves { recorded: 0, observed: 0, latest: None, looked: now };
    let mut all: BTreeMap<u32, Leaves> = standing.generations.iter().map(|g| (g.number, none)).collect();
    let of = |issued: &crate::domain::register::Issued| issued.generation.ca == standing.ca;
    for issued in desk.state.issued.values().filter(|i| of(i)) {
        // What is revoked is refused already, and canaries are nobody's.
        if issued.validity.not_after <= now || issued.revoked.is_some() || issued.profile.as_str() == CANARY {
            continue;
        }
        if let Some(own) = all.get_mut(&issued.generation.number) {
            own.recorded = own.recorded.saturating_add(1);
            own.latest = own.latest.max(Some(issued.validity.not_after));
        }
    }
    let mut seen: std::collections::BTreeSet<Digest> = std::collections::BTreeSet::new();
    for sighting in desk.sightings.values() {
        for chain in sighting.stored.iter().chain(sighting.served.values()).filter_map(|o| o.seen.chain()) {
            let leaf = &chain.leaf;
            let known = desk.state.issued.get(&leaf.serial).is_some_and(|i| of(i));
            if known || leaf.validity.not_after <= now || !seen.insert(leaf.fingerprint) {
                continue;
            }
            let above = |g: &&rotation::Generation| chain.above.iter().any(|c| c.spki == g.issuing.key);
            if let Some(own) = standing.generations.iter().find(above).and_then(|g| all.get_mut(&g.number)) {
                own.observed = own.observed.saturating_add(1);
                own.latest = own.latest.max(Some(leaf.validity.not_after));
            }
        }
    }
    all
}

/// Which relying parties a CA has by configuration.
pub type Rotations = BTreeMap<CaId, Arc<Setting>>;

/// Names a party for messages.
pub(super) fn shown(party: &RelyingPartyId) -> String {
    format!("relying party {party}")
}
