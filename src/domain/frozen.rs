//! What a freeze blocks.
//!
//! ```text
//! an action ──no freeze in force is over it──────────────────────────▶ goes on
//!    └─▶ frozen ──emergencies allowed, and the last safe moment is past──▶ goes on
//!           └─▶ held until the last of its freezes is over
//! ```
//! Blocked are the beginning of an order, whoever asked for it, and whatever changes files or reloads a server: an
//! installation, and a repair. Looking, asking a CA for its renewal windows, and following an order that is at its CA
//! already go on: they change nothing that is served, and what is issued waits in the key store. Refuses to know how a
//! freeze is made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::execution::Stage;
use crate::domain::freeze::{Emergency, Freeze, Scope};
use crate::domain::id::{CredentialId, FreezeId, IssuerId, PathId};
use crate::domain::inventory::{Credential, Estate};
use crate::domain::renewal::Schedule;
use crate::domain::state::State;
use crate::domain::time::Timestamp;

/// Why something is frozen, and when to look again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// The freezes over it that are in force; the one that ends last comes first.
    pub by: Arc<[(FreezeId, Scope)]>,
    /// When the last of them ends, or the last safe moment where that is earlier and emergencies are allowed.
    pub until: Timestamp,
}

/// Whether a credential's actions at `issuer` are blocked now. `schedule` is that of what is installed, if anything is.
#[must_use]
pub fn frozen(
    estate: &Estate,
    state: &State,
    credential: &Credential,
    issuer: Option<&IssuerId>,
    schedule: Option<&Schedule>,
    now: Timestamp,
) -> Option<Frozen> {
    // Almost always there is none.
    if state.freezes.is_empty() {
        return None;
    }
    let mut over: Vec<(Timestamp, FreezeId, &Scope)> = in_force(state, now)
        .filter(|(_, freeze)| Over::new(&freeze.scope, estate).is_over(credential, issuer))
        .map(|(id, freeze)| (freeze.until, *id, &freeze.scope))
        .collect();
    over.sort_unstable_by(|a, b| b.cmp(a));
    let (ends, ..) = *over.first()?;
    let emergency = match estate.freezing.emergency {
        Emergency::Allow => schedule.map(|schedule| last_safe_moment(estate, &credential.id, schedule)),
        Emergency::Block => None,
    };
    if emergency.is_some_and(|at| at <= now) {
        return None;
    }
    let by = over.into_iter().map(|(_, id, scope)| (id, scope.clone())).collect();
    Some(Frozen { by, until: emergency.map_or(ends, |at| at.min(ends)) })
}

/// The freezes that are in force.
pub fn in_force(state: &State, now: Timestamp) -> impl Iterator<Item = (&FreezeId, &Freeze)> {
    state.freezes.iter().filter(move |(_, freeze)| freeze.is_in_force(now))
}

/// Whether a freeze holds an attempt at this stage. An order that is at its CA is followed to its end: its key and what
/// comes of it are kept, and nothing that is served changes; left alone it would expire there and be paid for twice.
#[must_use]
pub fn holds(stage: &Stage) -> bool {
    match stage {
        Stage::Begun | Stage::Issued => true,
        Stage::Ordered { .. } => false,
    }
}

/// From here on a renewal cannot wait any longer without what stands on it closing or lapsing: the emergency point, and
/// as much earlier as the path with the longest margin closes before the certificate ends.
#[must_use]
pub fn last_safe_moment(estate: &Estate, id: &CredentialId, schedule: &Schedule) -> Timestamp {
    let margins = estate.paths.values().filter(|path| path.needs.contains(id)).map(|path| path.margin);
    schedule.emergency_at.minus(margins.max().unwrap_or_default())
}

/// A scope, ready to be compared with credentials.
#[derive(Clone, Debug)]
pub struct Over<'e> {
    scope: &'e Scope,
    /// What the path stands on, however far below, if it is a path's.
    needs: BTreeSet<&'e CredentialId>,
}

impl<'e> Over<'e> {
    /// By the estate as it is now.
    #[must_use]
    pub fn new(scope: &'e Scope, estate: &'e Estate) -> Self {
        let needs = match scope {
            Scope::Path(path) => needs_below(path, estate).collect(),
            Scope::All | Scope::Owner(_) | Scope::Issuer(_) | Scope::Label { .. } => BTreeSet::new(),
        };
        Self { scope, needs }
    }

    /// Whether it is over a credential; `issuer` is the one that the action is about.
    #[must_use]
    pub fn is_over(&self, credential: &Credential, issuer: Option<&IssuerId>) -> bool {
        match self.scope {
            Scope::All => true,
            Scope::Path(_) => self.needs.contains(&credential.id),
            Scope::Owner(owner) => credential.owner.as_deref() == Some(&**owner),
            Scope::Issuer(frozen) => issuer == Some(frozen),
            Scope::Label { key, value } => credential.labels.get(&**key).is_some_and(|own| **own == **value),
        }
    }
}

/// The freeze that is over an issuer's account itself, with its end.
#[must_use]
pub fn over_issuer(state: &State, issuer: &IssuerId, now: Timestamp) -> Option<(FreezeId, Timestamp)> {
    let over = in_force(state, now).filter(|(_, freeze)| match &freeze.scope {
        Scope::All => true,
        Scope::Issuer(frozen) => frozen == issuer,
        Scope::Path(_) | Scope::Owner(_) | Scope::Label { .. } => false,
    });
    over.map(|(id, freeze)| (*id, freeze.until)).max_by_key(|(id, until)| (*until, *id))
}

/// Whether a scope is over a path: over itself, over a path that it stands on, or over anything that these need. A freeze
/// over an issuer is over no path: it changes nothing of what stands there.
#[must_use]
pub fn over_path(scope: &Scope, path: &PathId, estate: &Estate) -> bool {
    let mut about = needs_below(path, estate).filter_map(|id| about(id, estate));
    match scope {
        Scope::All => true,
        Scope::Path(frozen) => stands_on_paths(path, estate).contains(frozen),
        Scope::Owner(frozen) => about.any(|(owner, _)| owner == Some(&**frozen)),
        Scope::Label { key, value } => about.any(|(_, labels)| labels.get(&**key).is_some_and(|own| **own == **value)),
        Scope::Issuer(_) => false,
    }
}

/// Owner and labels; the files that match a watch have those of the watch.
fn about<'e>(id: &CredentialId, estate: &'e Estate) -> Option<(Option<&'e str>, &'e BTreeMap<String, String>)> {
    let credential = estate.credentials.get(id).map(|c| (c.owner.as_deref(), &c.labels));
    credential.or_else(|| estate.watches.get(id).map(|w| (w.owner.as_deref(), &w.labels)))
}

/// Whether there is anything that a scope is over, so that a typing error freezes nothing in silence.
#[must_use]
pub fn is_known(scope: &Scope, estate: &Estate) -> bool {
    let all = || estate.credentials.keys().chain(estate.watches.keys()).filter_map(|id| about(id, estate));
    match scope {
        Scope::All => true,
        Scope::Path(path) => estate.paths.contains_key(path),
        Scope::Owner(known) => all().any(|(owner, _)| owner == Some(&**known)),
        Scope::Issuer(issuer) => estate.issuers.contains_key(issuer),
        Scope::Label { key, value } => all().any(|(_, labels)| labels.get(&**key).is_some_and(|own| **own == **value)),
    }
}

fn needs_below<'e>(path: &'e PathId, estate: &'e Estate) -> impl Iterator<Item = &'e CredentialId> {
    let below = stands_on_paths(path, estate).into_iter();
    below.filter_map(|id| estate.paths.get(id)).flat_map(|path| &path.needs)
}

/// A path with all that it stands on, however far below; a circle is walked once.
fn stands_on_paths<'e>(path: &'e PathId, estate: &'e Estate) -> BTreeSet<&'e PathId> {
    let (mut all, mut open) = (BTreeSet::new(), vec![path]);
    while let Some(next) = open.pop() {
        if all.insert(next) {
            open.extend(estate.paths.get(next).into_iter().flat_map(|path| &path.depends_on));
        }
    }
    all
}
