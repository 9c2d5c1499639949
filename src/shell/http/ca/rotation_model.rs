//! Rotations as JSON.

use serde::{Deserialize, Serialize};

use crate::domain::rotation::{Breakage, Canary, Foreseen, Shows, review};
use crate::engine::authority::{Outlook, describe};

/// How a CA's rotation stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// Which CA.
    pub ca: String,
    /// When this was.
    pub at: String,
    /// Counts the changes of the bundle.
    pub bundle_version: u64,
    /// Its digest; absent while nothing is trusted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bundle: Option<String>,
    /// Its generations, the oldest first.
    pub generations: Vec<Generation>,
    /// Who relies on it.
    pub parties: Vec<Party>,
    /// What may be done now, and is done next.
    pub next: Vec<String>,
    /// What waits, and for what.
    pub waits: Vec<Waits>,
    /// What people have to know.
    pub findings: Vec<Finding>,
    /// When a timer next changes something; absent where only an event can.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub wakes: Option<String>,
}

/// A generation in its rotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Its number.
    pub number: u32,
    /// Where it stands.
    pub phase: String,
    /// Since when.
    pub since: String,
    /// When all of it is over.
    pub ends: String,
    /// When it was rolled back.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rolled_back: Option<String>,
    /// Leaves that have not expired: those in our records, and those that were seen and are not.
    pub leaves: u64,
    /// The last of them ends then.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_leaf_ends: Option<String>,
}

/// A relying party, and what it has shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// Its id.
    pub id: String,
    /// Who is told.
    pub owner: String,
    /// How it shows what it trusts: `word`, `canary` or `both`.
    pub shows: String,
    /// The version that it acknowledged last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub acknowledged: Option<u64>,
    /// What it did with canaries, by generation.
    pub canaries: Vec<String>,
}

/// Something that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waits {
    /// What.
    pub what: String,
    /// For what.
    pub until: String,
}

/// What people have to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Its code.
    pub code: String,
    /// Whose it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub owner: Option<String>,
    /// In words.
    pub text: String,
}

/// The next rotation, played through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Which CA.
    pub ca: String,
    /// Its phases, in the order of time.
    pub phases: Vec<Phase>,
}

/// A phase that is foreseen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// Which generation.
    pub generation: u32,
    /// Into which phase.
    pub phase: String,
    /// Not before then.
    pub at: String,
    /// Who would break if it came with the world as it is now; its gate waits for them.
    pub breaks: Vec<String>,
}

/// What breaks if what is compromised goes at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emergency {
    /// Which CA.
    pub ca: String,
    /// In words; absent while nothing waits for a sign-off.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub breaks: Option<String>,
    /// What is signed off.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub digest: Option<String>,
}

/// Asks for something, with a reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Which generation, where one is meant.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub generation: Option<u32>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// Signs off what breaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignOff {
    /// What was shown.
    pub digest: String,
}

/// Distrusts everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distrust {
    /// The id of the CA, typed by a person.
    pub name: String,
}

/// Certifies one generation's root by another's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrossSign {
    /// Whose root is certified.
    pub subject: u32,
    /// By whose root.
    pub issuer: u32,
}

/// A cross-signature that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crossed {
    /// SHA-256 of the certificate.
    pub sha256: String,
}

/// A relying party goes by a bundle, and has given up the sessions of whoever is not in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledge {
    /// Its id.
    pub party: String,
    /// The bundle's version.
    pub version: u64,
    /// The bundle's digest.
    pub digest: String,
}

impl From<&Outlook> for Rotation {
    fn from(o: &Outlook) -> Self {
        let found = review(&o.standing, o.facts());
        let bundle = crate::domain::rotation::bundle(&o.standing, None).ok();
        Self {
            ca: o.standing.ca.to_string(),
            at: o.now.to_string(),
            bundle_version: o.standing.version,
            bundle: bundle.map(|b| b.digest.to_string()),
            generations: o.standing.generations.iter().map(|g| generation(o, g)).collect(),
            parties: parties(o),
            next: found.proposals.iter().map(|p| next(p.what, &p.why)).collect(),
            waits: found.held.iter().map(waits).collect(),
            findings: found.findings.iter().map(|f| finding(f, o)).collect(),
            wakes: found.wake_at.map(|at| at.to_string()),
        }
    }
}

fn generation(o: &Outlook, g: &crate::domain::rotation::Generation) -> Generation {
    let leaves = o.evidence.leaves.get(&g.number);
    Generation {
        number: g.number,
        phase: g.phase.to_string(),
        since: g.times.since(g.phase).to_string(),
        ends: g.validity().not_after.to_string(),
        rolled_back: g.abandoned.map(|at| at.to_string()),
        leaves: leaves.map_or(0, crate::domain::rotation::Leaves::count),
        last_leaf_ends: leaves.and_then(|l| l.latest).map(|at| at.to_string()),
    }
}

fn parties(o: &Outlook) -> Vec<Party> {
    let canaries = |id: &crate::domain::id::RelyingPartyId| -> Vec<String> {
        let own = o.evidence.canaries.iter().filter(|((party, _), _)| party == id);
        own.map(|((_, number), canary)| match canary {
            Canary::Accepted(at) => format!("let generation {number} in {at}"),
            Canary::Refused(at) => format!("refused generation {number} {at}"),
        })
        .collect()
    };
    let one = |(id, about): (&crate::domain::id::RelyingPartyId, &crate::domain::rotation::Party)| Party {
        id: id.to_string(),
        owner: about.owner.to_string(),
        shows: match about.shows {
            Shows::Both => "both",
            Shows::Word => "word",
            Shows::Canary => "canary",
        }
        .to_owned(),
        acknowledged: o.evidence.acknowledged.get(id).map(|a| a.version),
        canaries: canaries(id),
    };
    o.setting.parties.iter().map(one).collect()
}

fn next(what: crate::domain::rotation::Proposed, why: &crate::domain::rotation::Why) -> String {
    match what {
        crate::domain::rotation::Proposed::Prepare { number, .. } => format!("make generation {number}: {why}"),
        crate::domain::rotation::Proposed::Step(step) => format!("{step}: {why}"),
    }
}

fn waits(held: &crate::domain::rotation::Held) -> Waits {
    let what = held.step.map_or_else(|| "make the next generation".to_owned(), |step| step.to_string());
    Waits { what, until: held.hold.to_string() }
}

fn finding(finding: &crate::domain::rotation::Finding, o: &Outlook) -> Finding {
    let (code, owner, _) = describe(finding, o.now);
    Finding { code: code.to_owned(), owner, text: finding.to_string() }
}

impl Plan {
    pub(super) fn new(o: &Outlook, foreseen: &[Foreseen]) -> Self {
        let phase = |f: &Foreseen| Phase {
            generation: f.generation,
            phase: f.phase.to_string(),
            at: f.at.to_string(),
            breaks: f.breaks.iter().map(ToString::to_string).collect(),
        };
        Self { ca: o.standing.ca.to_string(), phases: foreseen.iter().map(phase).collect() }
    }
}

impl Emergency {
    pub(super) fn new(ca: &crate::domain::id::CaId, breaks: Option<&Breakage>) -> Self {
        Self {
            ca: ca.to_string(),
            breaks: breaks.map(ToString::to_string),
            digest: breaks.map(|b| b.digest().to_string()),
        }
    }
}
