//! What travels as JSON between daemon and command line. Times are RFC 3339 in UTC.
//!
//! Fields are only ever added: an older command line reads a newer daemon.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The answer of a gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// Which path, as it was asked for.
    pub path: String,
    /// Whether it is open.
    pub open: bool,
    /// Why it is closed; empty when open.
    pub reasons: Vec<Reason>,
    /// What is borne for a while, and closes it if it stays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Reason>,
    /// Since when it is so.
    pub since: Option<String>,
    /// Open at the latest until then.
    pub until: Option<String>,
    /// The part that ends first.
    pub weakest: Option<String>,
    /// When this was found.
    pub evaluated_at: String,
    /// `production` or `staging`: what is open in staging is open nowhere else.
    pub environment: String,
    /// The kind of the request, if it is let through because the path does not guard such requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What the caller sent to be sure of a fresh answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// The freezes over the path, whether it closes for them or not; only in lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freezes: Vec<String>,
}

/// Why a path is closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Stable code.
    pub code: String,
    /// Which credential, if it is about one.
    pub credential: Option<String>,
    /// One sentence.
    pub text: String,
    /// What reopens the path.
    pub reopens: String,
}

/// For which decision a permit is wanted: the body of `POST /v1/permits`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedPermit {
    /// The path that is to be open.
    pub path: String,
    /// Who will rely on it.
    pub audience: String,
    /// SHA-256 of the decision, 64 hexadecimal digits.
    pub digest: String,
}

/// A key that statements are signed with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementKey {
    /// `NAME+ID+KEY`, as consumers pin it.
    pub key: String,
    /// `in use` or `announced`.
    pub standing: String,
}

/// The guardian as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// `production` or `staging`.
    pub environment: String,
    /// Since when it runs.
    pub started: String,
    /// Its present time.
    pub now: String,
    /// Whether its loop turns.
    pub alive: bool,
    /// Why the clock is not believed.
    pub clock_fault: Option<String>,
    /// Why nothing can be written.
    pub store_fault: Option<String>,
    /// Why the guardian runs sealed: it closes every gate and does nothing else until a person has recovered the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Sealed>,
    /// Entries about what was done already that wait to be written into the log.
    #[serde(default)]
    pub spooled: u64,
    /// What people froze.
    #[serde(default)]
    pub freezes: Vec<Freeze>,
    /// Attempts in flight.
    pub in_flight: usize,
    /// Credentials by their worst finding: `ok`, `note`, `warning`, `critical`.
    pub credentials: BTreeMap<String, usize>,
    /// Paths that are open.
    pub gates_open: usize,
    /// Paths that are closed.
    pub gates_closed: usize,
    /// The CAs.
    pub issuers: Vec<Issuer>,
    /// What was said to people lately, newest first.
    pub notices: Vec<Notice>,
}

/// Why a guardian is sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Stable code; `keyward explain CODE` says how to recover.
    pub code: String,
    /// What was seen and what was expected.
    pub text: String,
}

/// A CA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuer {
    /// Its id.
    pub id: String,
    /// Failures of its own fault in a row.
    pub failures: u32,
    /// No order goes there until then.
    pub open_until: Option<String>,
    /// The last success.
    pub last_success: Option<String>,
    /// Tokens left per limit, in the emptiest bucket.
    pub remaining: BTreeMap<String, u32>,
}

/// Something that people were told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// About what.
    pub about: String,
    /// Stable code.
    pub code: String,
    /// What happened, what comes next.
    pub text: String,
    /// Whether somebody has to act.
    pub urgent: bool,
}

/// One credential in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// Its id.
    pub id: String,
    /// `managed` or `observed`.
    pub kind: String,
    /// Who is asked.
    pub owner: Option<String>,
    /// How much hangs on it, 0–4.
    pub tier: u8,
    /// Whose CA issued it, or would: an issuer's id, else the issuer's name in the certificate.
    pub issuer: Option<String>,
    /// The names that it is for.
    pub names: Vec<String>,
    /// `ok`, `note`, `warning` or `critical`.
    pub severity: String,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// `present`, `missing`, `unreadable`, `unparseable`, `unseen` or `none` (only its endpoints are looked at).
    pub stored: String,
    /// Whether every endpoint serves what is stored: `yes`, `no`, `unknown`, `none` (no endpoints) or `staging`.
    pub served: String,
    /// Serial number, hexadecimal.
    pub serial: Option<String>,
    /// SHA-256 of the certificate.
    pub fingerprint: Option<String>,
    /// Start of validity.
    pub not_before: Option<String>,
    /// End of validity.
    pub not_after: Option<String>,
    /// Thousandths of the lifetime that are gone.
    pub life_used_permille: Option<u16>,
    /// When it is due to be renewed.
    pub renew_at: Option<String>,
    /// What comes next, in words.
    pub next: String,
    /// When.
    pub next_at: Option<String>,
    /// Whether an attempt is in flight.
    pub in_flight: bool,
    /// The approval paths that stand on it.
    pub paths: Vec<String>,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable code.
    pub code: String,
    /// `note`, `warning` or `critical`.
    pub severity: String,
    /// One sentence.
    pub text: String,
}

/// One credential with everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detail {
    /// As in the list.
    #[serde(flatten)]
    pub credential: Credential,
    /// `production` or `staging`.
    pub environment: String,
    /// The daemon's present time.
    pub now: String,
    /// Labels for policy.
    pub labels: BTreeMap<String, String>,
    /// The chain, leaf first.
    pub chain: Vec<Element>,
    /// Why the chain is not trusted.
    pub untrusted: Option<String>,
    /// When it was last looked at.
    pub looked_at: Option<String>,
    /// What each endpoint serves.
    pub endpoints: Vec<Endpoint>,
    /// Serial number of the generation that is installed.
    pub installed_serial: Option<String>,
    /// Since when it is installed.
    pub installed_at: Option<String>,
    /// When every endpoint was last seen to serve it.
    pub verified_at: Option<String>,
    /// The renewal window of the CA (RFC 9773).
    pub ari_window: Option<(String, String)>,
    /// Which rule picked the time of renewal.
    pub rule: Option<String>,
    /// From here on nothing but hard limits holds the renewal.
    pub emergency_at: Option<String>,
    /// The attempt in flight.
    pub attempt: Option<Attempt>,
    /// The last failure.
    pub last_failure: Option<Failure>,
    /// Failures in a row.
    pub failures: u32,
    /// The last success.
    pub last_success: Option<String>,
    /// Not before this time, after a failure.
    pub next_attempt: Option<String>,
    /// A renewal that somebody asked for: who and when.
    pub requested: Option<(String, String)>,
    /// Files that are written, or the file that is watched.
    pub files: Vec<String>,
}

/// One certificate of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Element {
    /// Subject.
    pub subject: String,
    /// Issuer.
    pub issuer: String,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Start of validity.
    pub not_before: String,
    /// End of validity.
    pub not_after: String,
    /// SHA-256 of its SubjectPublicKeyInfo.
    #[serde(default)]
    pub spki_sha256: String,
}

/// What one endpoint serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Where.
    pub endpoint: String,
    /// Whether it is what is stored: `yes`, `no` or `unknown`.
    pub serves: String,
    /// What was seen.
    pub text: String,
    /// When.
    pub at: Option<String>,
}

/// An attempt in flight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its id.
    pub id: String,
    /// At which issuer.
    pub issuer: String,
    /// Why.
    pub trigger: String,
    /// `begun`, `ordered` or `issued`.
    pub stage: String,
    /// When it began.
    pub began: String,
    /// How often its present step failed.
    pub failures: u32,
    /// Not before this time.
    pub not_before: Option<String>,
}

/// A failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// When.
    pub at: String,
    /// Stable code.
    pub code: String,
    /// What was seen, what was expected.
    pub text: String,
    /// Whose fault: `ours`, `issuer`, `subject`, `network` or `host`.
    pub fault: String,
}

/// What a renewal would do, or does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// Which credential.
    pub credential: String,
    /// `production` or `staging`.
    pub environment: String,
    /// Whether it would begin now.
    pub goes: bool,
    /// What policy says: `proceed`, `await_approval` or `refuse`.
    pub decision: String,
    /// The rule that decides.
    pub rule: String,
    /// The action's tier.
    pub tier: u8,
    /// What would hold it.
    pub held: Option<String>,
    /// An attempt that goes on instead of a new one.
    pub attempt: Option<Attempt>,
    /// At which issuer.
    pub issuer: Option<String>,
    /// Its directory.
    pub directory: Option<String>,
    /// Why.
    pub trigger: Option<String>,
    /// What it tells the CA that it replaces.
    pub replaces: Option<String>,
    /// The exact names.
    pub names: Vec<String>,
    /// The key that is made.
    pub key: String,
    /// Solvers with the challenges they can do.
    pub solvers: Vec<String>,
    /// Files that would be written.
    pub files: Vec<String>,
    /// What makes the server take them.
    pub reload: Option<String>,
    /// Endpoints that must serve it.
    pub endpoints: Vec<String>,
    /// What is taken from the CA's limits.
    pub limits: Vec<String>,
    /// The installation waits for a window.
    pub windows: bool,
    /// The serial number of what is installed now: a renewal is done when it is another.
    pub serial: Option<String>,
}

/// What was asked for was taken up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// What happens now, in words.
    pub text: String,
    /// What a renewal does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<Preview>,
}

/// How to renew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renew {
    /// Only say what would be done.
    #[serde(default)]
    pub plan: bool,
}

/// Opens a path that only a person opens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reopen {
    /// Why it may be opened, for the audit log.
    pub reason: String,
}

/// Closes a path for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Which path.
    pub path: String,
    /// For how long.
    pub seconds: u64,
}

/// A path that is held closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Which path.
    pub path: String,
    /// Until then, if nobody ends it before.
    pub until: String,
}

/// Ends a hold before its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Which path.
    pub path: String,
}

/// A freeze that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// Its id.
    pub id: String,
    /// `all`, `path:NAME`, `owner:NAME`, `issuer:NAME` or `label:KEY=VALUE`.
    pub scope: String,
    /// Why.
    pub reason: String,
    /// Who froze.
    pub by: String,
    /// Since when.
    pub since: String,
    /// When it ends by itself.
    pub until: String,
    /// Whether it is in the audit log already.
    pub recorded: bool,
    /// How many managed credentials it is over.
    pub covers: usize,
    /// The credentials of which something is due, and waits for it.
    pub holds: Vec<String>,
    /// The approval paths that it is over.
    pub paths: Vec<String>,
}

/// Freezes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedFreeze {
    /// Over what.
    pub scope: String,
    /// Why.
    pub reason: String,
    /// Until when: a time (RFC 3339), or a span from now on.
    pub until: String,
    /// Only say what it would be over.
    #[serde(default)]
    pub plan: bool,
}

/// Thaws.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thaw {
    /// Why.
    pub reason: String,
}

/// Takes the gate's socket away for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interrupt {
    /// For how long from now on.
    pub seconds: u64,
    /// What the first answer said, to have it longer.
    #[serde(default)]
    pub token: Option<u64>,
}

/// The gate's socket is aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interrupted {
    /// Its usual place.
    pub socket: String,
    /// Its mode.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Whoever knows it may ask for longer.
    pub token: u64,
}

/// What stands on what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Graph {
    /// Everything.
    pub nodes: Vec<Node>,
    /// From what must be good to what stands on it.
    pub edges: Vec<Edge>,
    /// Approvals that stand on what they repair.
    pub cycles: Vec<Cycle>,
}

/// A thing in the graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// `issuer`, `credential`, `endpoint`, `install`, `link` or `path`.
    pub kind: String,
    /// Its name among those of its kind.
    pub name: String,
}

/// One thing stands on another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// What must be good.
    pub from: Node,
    /// How, in words.
    pub relation: String,
    /// What stands on it.
    pub to: Node,
}

/// Credentials that nobody can repair once all of them have expired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cycle {
    /// `KW4471` or `KW4472`.
    pub code: String,
    /// In a sentence.
    pub text: String,
    /// The credentials of the ring.
    pub credentials: Vec<String>,
    /// The paths over which they are approved.
    pub paths: Vec<String>,
    /// The highest tier among them, from 0.
    pub tier: u8,
    /// Whether a configuration with it is refused.
    pub refused: bool,
    /// More credentials whose approval the ring keeps away.
    pub behind: usize,
}

impl From<&crate::domain::graph::Graph> for Graph {
    fn from(graph: &crate::domain::graph::Graph) -> Self {
        let node = |n: &crate::domain::graph::Node| Node { kind: n.kind().to_owned(), name: n.name().to_owned() };
        let edge = |(from, relation, to): &(_, crate::domain::graph::Relation, _)| Edge {
            from: node(from),
            relation: relation.as_str().to_owned(),
            to: node(to),
        };
        let cycle = |c: &crate::domain::graph::Cycle| Cycle {
            code: if c.is_refused() { "KW4471" } else { "KW4472" }.to_owned(),
            text: format!("once expired nobody can approve the repair: {c}"),
            credentials: c.ring.iter().map(|(id, _)| id.to_string()).collect(),
            paths: c.ring.iter().map(|(_, path)| path.to_string()).collect(),
            tier: c.tier.level(),
            refused: c.is_refused(),
            behind: c.behind,
        };
        Self {
            nodes: graph.nodes.iter().map(node).collect(),
            edges: graph.edges.iter().map(edge).collect(),
            cycles: graph.cycles.iter().map(cycle).collect(),
        }
    }
}

/// Why a credential is as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// In order.
    pub sentences: Vec<String>,
}

/// An error (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `urn:keyward:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// Stable code.
    pub code: String,
    /// What was seen, what was expected.
    pub detail: String,
    /// How to mend it.
    pub hint: String,
}
