//! What stands on what: issuer → credential → where it is served → path, and back from a path to the credentials whose
//! actions are approved over it.
//!
//! That way back can close a cycle: the approval that repairs a certificate depends on that certificate. While all is well
//! nobody notices; once it has expired nobody can approve its renewal (Linkerd's users met that: the repair command needed
//! the expired certificate). So it is asked here for the worst day: **everything has expired; what can still be repaired?**
//!
//! Refuses to know who approves, and whether anything has expired now.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use crate::domain::id::{CredentialId, IssuerId, LinkId, PathId};
use crate::domain::inventory::{Credential, Endpoint, Estate, Install, Layout};
use crate::domain::link::{Identity, Link};
use crate::domain::policy::{Act, Approval, Repair, Subject, Tier, Verdict, decide, tier};

/// The tier of what hurts most. People count tiers from T1 to T4; here they are counted from 0, and [`tier`] gives nothing
/// above 3.
pub const GRAVEST: Tier = Tier::GRAVEST;

/// A thing in the graph.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    /// The account at a CA.
    Issuer(IssuerId),
    /// A certificate with its key, or a pattern of watched files.
    Credential(CredentialId),
    /// Where a credential is served over TLS.
    Endpoint(String),
    /// Files that are written.
    Install(String),
    /// An enforcing proxy.
    Link(LinkId),
    /// An approval path.
    Path(PathId),
}

impl Node {
    /// Its kind, in a word.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Issuer(_) => "issuer",
            Self::Credential(_) => "credential",
            Self::Endpoint(_) => "endpoint",
            Self::Install(_) => "install",
            Self::Link(_) => "link",
            Self::Path(_) => "path",
        }
    }

    /// Its name among those of its kind.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Issuer(id) => id.as_str(),
            Self::Credential(id) => id.as_str(),
            Self::Endpoint(name) | Self::Install(name) => name,
            Self::Link(id) => id.as_str(),
            Self::Path(id) => id.as_str(),
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.name())
    }
}

/// How one thing stands on another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Relation {
    /// An issuer issues a credential.
    Issues,
    /// A credential is served at an endpoint.
    ServedAt,
    /// A credential is installed somewhere.
    InstalledAt,
    /// What is served, or a credential that is not, holds a path open.
    Holds,
    /// A path holds another open.
    HoldsPath,
    /// A link proves itself with a credential.
    Identifies,
    /// A path guards a link.
    Guards,
    /// Actions on a credential are approved over a path.
    Approves,
    /// The same, as the way for the day on which the first cannot be gone.
    Repairs,
}

impl Relation {
    /// In words, from the first to the second.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issues => "issues",
            Self::ServedAt => "served at",
            Self::InstalledAt => "installed at",
            Self::Holds => "holds open",
            Self::HoldsPath => "holds open",
            Self::Identifies => "identifies",
            Self::Guards => "guards",
            Self::Approves => "approves",
            Self::Repairs => "approves repairs of",
        }
    }
}

/// Credentials that nobody can repair once all of them have expired: each is approved over a path that stands on the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cycle {
    /// The credentials with the path over which each is approved, in a ring.
    pub ring: Vec<(CredentialId, PathId)>,
    /// The highest tier among them.
    pub tier: Tier,
    /// More credentials that are approved over paths which the ring keeps closed.
    pub behind: usize,
}

impl Cycle {
    /// Whether a configuration with it is refused: only where it hurts most.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.tier >= GRAVEST
    }
}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (credential, path) in &self.ring {
            write!(f, "{credential} is approved over {path}, which stands on ")?;
        }
        match self.ring.first() {
            Some((first, _)) => first.fmt(f),
            None => Ok(()),
        }
    }
}

/// The graph of an estate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    /// Everything, in order.
    pub nodes: BTreeSet<Node>,
    /// From what must be good to what stands on it.
    pub edges: BTreeSet<(Node, Relation, Node)>,
    /// Rings of approvals, each once.
    pub cycles: Vec<Cycle>,
}

impl Graph {
    /// Of a configuration. Pure.
    #[must_use]
    pub fn of(estate: &Estate) -> Self {
        let mut graph = Self { cycles: cycles(estate), ..Self::default() };
        graph.nodes.extend(estate.issuers.keys().cloned().map(Node::Issuer));
        graph.nodes.extend(estate.watches.keys().cloned().map(Node::Credential));
        graph.nodes.extend(estate.paths.keys().cloned().map(Node::Path));
        for credential in estate.credentials.values() {
            graph.credential(estate, credential);
        }
        for path in estate.paths.values() {
            for need in &path.needs {
                let own = Node::Credential(need.clone());
                let served: Vec<Node> = estate.credentials.get(need).map_or(Vec::new(), |c| endpoints(c).collect());
                // Where it is served, the path stands on that too: stored must be served.
                let from = if served.is_empty() { vec![own] } else { served };
                from.into_iter().for_each(|from| graph.edge(from, Relation::Holds, Node::Path(path.id.clone())));
            }
            for other in &path.depends_on {
                graph.edge(Node::Path(other.clone()), Relation::HoldsPath, Node::Path(path.id.clone()));
            }
        }
        graph
    }

    /// Adds links; no approval goes over one, so they are in no ring.
    #[must_use]
    pub fn with_links<'a>(mut self, links: impl Iterator<Item = &'a Link>) -> Self {
        for link in links {
            let own = Node::Link(link.id.clone());
            self.edge(Node::Path(link.path.clone()), Relation::Guards, own.clone());
            let credential = match &link.identity {
                Identity::Managed(credential) => Some(credential),
                Identity::Files { credential, .. } => credential.as_ref(),
            };
            if let Some(credential) = credential {
                self.edge(Node::Credential(credential.clone()), Relation::Identifies, own);
            }
        }
        self
    }

    fn credential(&mut self, estate: &Estate, credential: &Credential) {
        let own = Node::Credential(credential.id.clone());
        self.nodes.insert(own.clone());
        for endpoint in endpoints(credential) {
            self.edge(own.clone(), Relation::ServedAt, endpoint);
        }
        let Some(managed) = credential.managed() else { return };
        for issuer in &managed.issuers {
            self.edge(Node::Issuer(issuer.clone()), Relation::Issues, own.clone());
        }
        for install in &managed.installs {
            self.edge(own.clone(), Relation::InstalledAt, Node::Install(place(install)));
        }
        if let Some(approval) = approval(estate, credential) {
            self.edge(Node::Path(approval.over.clone()), Relation::Approves, own.clone());
            if let Some(Repair::Over(path)) = &approval.repair {
                self.edge(Node::Path(path.clone()), Relation::Repairs, own);
            }
        }
    }

    fn edge(&mut self, from: Node, relation: Relation, to: Node) {
        self.nodes.insert(from.clone());
        self.nodes.insert(to.clone());
        self.edges.insert((from, relation, to));
    }
}

fn endpoints(credential: &Credential) -> impl Iterator<Item = Node> {
    credential.endpoints.iter().map(|e: &std::sync::Arc<Endpoint>| Node::Endpoint(e.to_string()))
}

fn place(install: &Install) -> String {
    match &install.layout {
        Layout::Versioned { dir, .. } => dir.clone(),
        Layout::Plain { files } => files.values().cloned().collect::<Vec<_>>().join(", "),
    }
}

/// Over which path actions on a credential are approved: what it says itself, else what policy says where it sends any
/// action on it to a person.
#[must_use]
pub fn approval<'a>(estate: &'a Estate, credential: &Credential) -> Option<&'a Approval> {
    credential.managed()?;
    let own = estate.policy.approval(&credential.id);
    own.or_else(|| estate.policy.usual_approval().filter(|_| needs_a_person(estate, credential)))
}

fn needs_a_person(estate: &Estate, credential: &Credential) -> bool {
    let paths = paths_on(estate, &credential.id);
    [Act::Issue, Act::Renew, Act::Reissue, Act::Reinstall].into_iter().any(|act| {
        // Of what may come nothing is known, and so nothing is taken to be easier than it may be.
        let owner = credential.owner.as_deref();
        let subject =
            Subject { owner, services: credential.endpoints.len(), ..Subject::new(act, &credential.labels, paths) };
        decide(&subject, &estate.policy).verdict == Verdict::AwaitApproval
    })
}

fn paths_on(estate: &Estate, id: &CredentialId) -> usize {
    estate.paths.values().filter(|p| p.needs.contains(id)).count()
}

/// What a path stands on, the paths that it stands on among that.
fn needs(estate: &Estate, path: &PathId) -> BTreeSet<CredentialId> {
    let (mut seen, mut next, mut all) = (BTreeSet::new(), vec![path.clone()], BTreeSet::new());
    while let Some(id) = next.pop() {
        if let Some(path) = estate.paths.get(&id).filter(|_| seen.insert(id.clone())) {
            all.extend(path.needs.iter().cloned());
            next.extend(path.depends_on.iter().cloned());
        }
    }
    all
}

/// Everything has expired: what can be repaired one after the other, until nothing more can, is no part of a ring.
fn cycles(estate: &Estate) -> Vec<Cycle> {
    let approved: BTreeMap<&CredentialId, &Approval> =
        estate.credentials.values().filter_map(|c| Some((&c.id, approval(estate, c)?))).collect();
    // The same path is the way for many.
    let mut stands: BTreeMap<&PathId, BTreeSet<CredentialId>> = BTreeMap::new();
    for approval in approved.values() {
        let ways = core::iter::once(&approval.over).chain(match &approval.repair {
            Some(Repair::Over(path)) => Some(path),
            Some(Repair::Cli) | None => None,
        });
        for path in ways {
            stands.entry(path).or_insert_with(|| needs(estate, path));
        }
    }
    // Whatever needs nobody's approval, or can be approved without any path, can be repaired.
    let mut stuck: BTreeSet<&CredentialId> =
        approved.iter().filter(|(_, a)| a.repair != Some(Repair::Cli)).map(|(id, _)| *id).collect();
    let blocking = |path: &PathId, stuck: &BTreeSet<&CredentialId>| {
        stands.get(path).and_then(|needs| needs.iter().find(|n| stuck.contains(n)).cloned())
    };
    // Each round but the last opens a path.
    for _ in 0..=estate.paths.len() {
        // A path that is not configured is never open.
        let known = stands.keys().copied().filter(|path| estate.paths.contains_key(*path));
        let open: BTreeSet<&PathId> = known.filter(|path| blocking(path, &stuck).is_none()).collect();
        let before = stuck.len();
        stuck.retain(|id| {
            approved.get(*id).is_some_and(|a| {
                let repaired = matches!(&a.repair, Some(Repair::Over(path)) if open.contains(path));
                !(repaired || open.contains(&a.over))
            })
        });
        if stuck.len() == before {
            break;
        }
    }
    rings(estate, &approved, &stuck, |path| blocking(path, &stuck))
}

/// Each stuck credential leads to another that is stuck: followed to its end, that is a ring.
fn rings(
    estate: &Estate,
    approved: &BTreeMap<&CredentialId, &Approval>,
    stuck: &BTreeSet<&CredentialId>,
    next: impl Fn(&PathId) -> Option<CredentialId>,
) -> Vec<Cycle> {
    // Which ring each credential leads to.
    let mut leads: BTreeMap<CredentialId, usize> = BTreeMap::new();
    let mut found: Vec<Cycle> = Vec::new();
    for start in stuck {
        let mut walk: Vec<(CredentialId, PathId)> = Vec::new();
        let mut at: CredentialId = (*start).clone();
        let ring = loop {
            if let Some(known) = leads.get(&at) {
                break Some(*known);
            }
            if let Some(begin) = walk.iter().position(|(id, _)| *id == at) {
                let ring = walk.get(begin..).unwrap_or_default().to_vec();
                found.push(Cycle { tier: gravest(estate, &ring), ring, behind: 0 });
                break Some(found.len().saturating_sub(1));
            }
            let Some(approval) = approved.get(&at) else { break None };
            let Some(need) = next(&approval.over) else { break None };
            walk.push((core::mem::replace(&mut at, need), approval.over.clone()));
        };
        for (id, _) in walk {
            if let Some(ring) = ring {
                let own = found.get(ring).is_some_and(|c| c.ring.iter().any(|(member, _)| *member == id));
                if let Some(cycle) = found.get_mut(ring).filter(|_| !own && !leads.contains_key(&id)) {
                    cycle.behind = cycle.behind.saturating_add(1);
                }
                leads.insert(id, ring);
            }
        }
    }
    found
}

fn gravest(estate: &Estate, ring: &[(CredentialId, PathId)]) -> Tier {
    let tiers = ring.iter().filter_map(|(id, _)| {
        let credential = estate.credentials.get(id)?;
        Some(tier(&Subject::new(Act::Renew, &credential.labels, paths_on(estate, id))))
    });
    tiers.max().unwrap_or_default()
}
