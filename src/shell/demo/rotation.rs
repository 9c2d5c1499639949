//! Tells how a rotation of the demo's CA goes, phase by phase, whoever ordered it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::id::{CaId, CredentialId};
use crate::domain::rotation::{Canary, Generation, Phase, signer};
use crate::domain::time::human_span;
use crate::engine::Engine;
use crate::engine::authority::{Authority, Denied, LeafStanding, Outlook};

/// What can be told of a generation, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Staged,
    Acknowledged,
    Signing,
    Draining,
    /// All programs show leaves of it.
    Renewed,
    /// No leaf of it that somebody holds is good any more.
    Empty,
    Retired,
    /// The phase, and the key.
    Destroyed,
}

/// Compares how the generations stand with what was told of them.
pub(super) struct Rotation {
    engine: Arc<Engine>,
    authority: Arc<Authority>,
    ca: CaId,
    /// Whose certificates come from the CA.
    members: Vec<CredentialId>,
    told: BTreeMap<u32, BTreeSet<Event>>,
}

impl Rotation {
    /// What is so already is not told.
    pub(super) fn new(
        engine: Arc<Engine>,
        authority: Arc<Authority>,
        ca: CaId,
        members: Vec<CredentialId>,
    ) -> Result<Self, Denied> {
        let mut new = Self { engine, authority, ca, members, told: BTreeMap::new() };
        new.look().map(|_| new)
    }

    /// What is new, in sentences.
    pub(super) fn look(&mut self) -> Result<Vec<String>, Denied> {
        let outlook = self.authority.outlook(&self.ca)?;
        // Between two writes the one before signs as well, and then its leaves are as good.
        let one_signs = outlook.standing.generations.iter().filter(|g| g.phase == Phase::Signing).count() == 1;
        let renewed = one_signs && self.members.iter().all(|id| self.is_renewed(id, &outlook));
        let mut lines = Vec::new();
        // The newest first: that it signs is why the one before ceases to.
        for own in outlook.standing.generations.iter().rev() {
            let told = self.told.entry(own.number).or_default();
            let news = events(own, &outlook, renewed).into_iter().filter(|event| told.insert(*event));
            lines.extend(news.map(|event| sentence(own, event, &outlook)));
        }
        Ok(lines)
    }

    /// Whether what a program shows is from the generation that signs now.
    fn is_renewed(&self, id: &CredentialId, outlook: &Outlook) -> bool {
        let view = self.engine.credential(id);
        let shown = view.as_ref().and_then(|view| view.current()).map(|own| own.serial.clone());
        shown.is_some_and(|serial| self.authority.leaf_standing(&serial, outlook.now) == LeafStanding::Good)
    }
}

/// What has happened to a generation.
fn events(own: &Generation, outlook: &Outlook, renewed: bool) -> Vec<Event> {
    let times = &own.times;
    let signs = signer(&outlook.standing).is_some_and(|g| g.number == own.number);
    let drained = |_| outlook.evidence.leaves.get(&own.number).is_none_or(|leaves| leaves.count() == 0);
    let gone = |_| outlook.evidence.destroyed.contains(&own.issuing.key);
    [
        (Event::Staged, times.staged.is_some()),
        (Event::Acknowledged, own.phase.is_trusted() && is_acknowledged(own, outlook)),
        (Event::Signing, times.signing.is_some()),
        (Event::Draining, times.draining.is_some()),
        (Event::Renewed, signs && renewed),
        (Event::Empty, times.draining.is_some_and(drained)),
        (Event::Retired, times.retired.is_some()),
        (Event::Destroyed, times.destroyed.is_some_and(gone)),
    ]
    .into_iter()
    .filter_map(|(event, is_so)| is_so.then_some(event))
    .collect()
}

/// Whether everybody who relies on the CA goes by this bundle, and let a canary of this generation in.
fn is_acknowledged(own: &Generation, outlook: &Outlook) -> bool {
    outlook.setting.parties.keys().all(|party| {
        let goes_by = outlook.evidence.acknowledged.get(party).is_some_and(|a| a.version == outlook.standing.version);
        let canary = outlook.evidence.canaries.get(&(party.clone(), own.number));
        goes_by && matches!(canary, Some(Canary::Accepted(_)))
    })
}

fn sentence(own: &Generation, event: Event, outlook: &Outlook) -> String {
    let number = own.number;
    let shared = outlook.standing.generations.iter().any(|g| g.number != number && g.root.key == own.root.key);
    match event {
        Event::Staged => {
            let what = if shared { "a new intermediate below the same root" } else { "a new root and intermediate" };
            format!("generation {number} is staged: {what}, which signs nothing before everybody trusts it")
        }
        Event::Acknowledged => {
            let parties: Vec<&str> = outlook.setting.parties.keys().map(|party| party.as_str()).collect();
            format!("generation {number} is acknowledged, and a canary of it let in, by {}", parties.join(", "))
        }
        Event::Signing => format!("generation {number} is signing: what is renewed from now on comes from it"),
        Event::Draining => {
            let span = outlook.setting.leaf_lifetime.saturating_mul(2).saturating_add(outlook.setting.skew);
            format!("generation {number} is draining: trusted for {} more, and issues nothing", human_span(span))
        }
        Event::Empty => {
            format!("generation {number} has no leaf any more: each was renewed from a newer one, or ended")
        }
        Event::Renewed => format!("every program shows a leaf of generation {number}"),
        Event::Retired if shared => format!("generation {number} is retired: the root revokes its intermediate"),
        Event::Retired => format!("generation {number} is retired: its root is not in the bundle any more"),
        Event::Destroyed => format!("generation {number} is destroyed: the key holder has its key no more"),
    }
}
