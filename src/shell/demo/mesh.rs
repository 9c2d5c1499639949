//! The private PKI of the demo: a CA whose keys a process of its own holds, three programs with SPIFFE IDs from it, and two
//! mTLS links between them, each with its client side and its server side.
//!
//! ```text
//! portal ─ plain ─► policy-client ══ mTLS ══► policy-server ─ plain ─► policy engine
//! policy engine ─ plain ─► audit-client ══ mTLS ══► audit-server ─ plain ─► audit exporter
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use core::time::Duration;

use crate::domain::id::CaId;
use crate::engine::authority::Authority;
use crate::shell::daemon::Running;

use super::stage::{BY, quoted};
use super::{LOOK_EVERY, PATH};

/// The CA.
pub(super) const CA: &str = "mesh";
/// Its profile.
pub(super) const PROFILE: &str = "workload";
/// The policy engine's name, as whoever connects to it checks it.
pub(super) const POLICY_ENGINE: &str = "policy-engine.demo.test";
/// A program that comes and goes: its certificate is issued by hand, and revoked.
pub(super) const BATCH_JOB: &str = "spiffe://demo.test/batch-job";
/// Who has an identity that is renewed by itself.
const PROGRAMS: [&str; 3] = ["portal", "policy-engine", "audit-exporter"];
/// The key holder starts within a second where a machine is idle; it derives a key from its passphrase first.
const PATIENCE: Duration = Duration::from_secs(30);

/// The name of a program's credential.
fn credential(program: &str) -> String {
    format!("mesh-{program}")
}

/// The credentials that the approval path needs besides the others.
pub(super) fn credentials() -> impl Iterator<Item = String> {
    PROGRAMS.iter().map(|program| credential(program))
}

/// A link from one program to another: both of its sides.
#[derive(Clone, Debug)]
pub(super) struct Hop {
    pub(super) name: &'static str,
    pub(super) from: &'static str,
    pub(super) to: &'static str,
    /// Where the one program connects, plain.
    pub(super) near: PathBuf,
    /// Where its server side listens, with TLS.
    pub(super) door: SocketAddr,
    /// Where the other program listens, plain.
    pub(super) far: PathBuf,
    /// Who else may come through.
    guest: Option<&'static str>,
}

impl Hop {
    /// The two of the demo; plain sides are sockets in its directory, which is its user's alone.
    pub(super) fn both(dir: &Path, policy: SocketAddr, audit: SocketAddr) -> [Self; 2] {
        let [portal, engine, exporter] = PROGRAMS;
        let hop = |name, from, to, door, guest| Self {
            name,
            from,
            to,
            near: dir.join(format!("{name}-client.sock")),
            door,
            far: dir.join(format!("{to}.sock")),
            guest,
        };
        [hop("policy", portal, engine, policy, Some(BATCH_JOB)), hop("audit", engine, exporter, audit, None)]
    }

    /// For people.
    pub(super) fn shown(&self) -> String {
        let Self { name, from, to, door, .. } = self;
        format!("  link {name:<6} spiffe://demo.test/{from} ══ mTLS ══► spiffe://demo.test/{to} at {door}")
    }

    fn configuration(&self) -> String {
        let Self { name, from, to, door, .. } = self;
        let guests: String = self.guest.iter().map(|id| format!(", \"{id}\"")).collect();
        format!(
            r#"
[[link]]
id = "{name}-client"
path = "{PATH}"
side = "client"
listen = {near}
forward = "{door}"
server_name = "{to}.demo.test"
credential = "{own}"
ca = "{CA}"
peers = ["spiffe://demo.test/{to}"]

[[link]]
id = "{name}-server"
path = "{PATH}"
side = "server"
listen = "{door}"
forward = {far}
credential = "{theirs}"
ca = "{CA}"
peers = ["spiffe://demo.test/{from}"{guests}]
"#,
            near = quoted(&self.near),
            far = quoted(&self.far),
            own = credential(from),
            theirs = credential(to),
        )
    }
}

/// The CA, and the issuer that it is for certificates.
pub(super) fn authority() -> String {
    format!(
        r#"
[[ca]]
id = "{CA}"
name = "Keyward Demo Mesh"
trust_domain = "demo.test"
# A rotation makes a new intermediate below the root that is there.
rotate = "issuing"
# Everybody who relies on it is on this machine, under one clock.
skew = "0s"

  [[ca.profile]]
  id = "{PROFILE}"
  # The shortest that there is. The old intermediate drains for two of these lives.
  lifetime = "1m"
  names = ["*.demo.test"]
  spiffe = ["/*"]

[[issuer]]
id = "{CA}"
ca = "{CA}"
ca_profile = "{PROFILE}"
"#
    )
}

/// What stands on the CA, once it is made: certificates and links.
pub(super) fn members(hops: &[Hop]) -> String {
    let certificate = |program: &&str| {
        format!(
            r#"
[[certificate]]
id = "{id}"
names = ["{program}.demo.test"]
spiffe = "spiffe://demo.test/{program}"
issuers = ["{CA}"]
owner = "platform"
"#,
            id = credential(program),
        )
    };
    let certificates: String = PROGRAMS.iter().map(certificate).collect();
    let links: String = hops.iter().map(Hop::configuration).collect();
    certificates + &links
}

/// The id of the CA.
pub(super) fn id() -> Result<CaId, String> {
    CaId::parse(CA).map_err(|e| format!("{CA} {e}"))
}

/// Makes the CA as `keyward ca init` does, as soon as the key holder answers. Gives what is to be told of both.
pub(super) async fn init(running: &Running) -> Result<String, String> {
    let authority = running.authority.as_ref().ok_or("the demo's configuration has no private CA")?;
    let mut why = String::new();
    let holder = tokio::time::timeout(PATIENCE, answering(authority, &mut why)).await;
    let (process, confinement) = holder.map_err(|_| {
        format!(
            "the key holder, which the private CA's keys are with, does not start: {why}; what it says itself stands above. \
             It is this program as a process of its own: try `keyward keyholder --help`"
        )
    })?;
    let made = authority.init(&id()?, BY).await.map_err(|e| format!("{}: {e}", e.code()))?;
    let lacks = if confinement.is_empty() { String::new() } else { format!("; {}", confinement.join("; ")) };
    Ok(format!("{made} is made: root and intermediate; their keys are in process {process}, the key holder{lacks}"))
}

/// The key holder's process, and what of its confinement this machine does not give it.
async fn answering(authority: &Authority, why: &mut String) -> (u32, Vec<String>) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        look.tick().await;
        match authority.standing().await.holder {
            Ok(status) => {
                let lacks = status.confinement.into_iter().filter(|line| line.starts_with("missing"));
                return (status.process, lacks.collect());
            }
            Err(error) => *why = error,
        }
    }
}
