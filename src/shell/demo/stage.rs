//! The stage of the demo: directory, scripted CA, watched credential, configuration.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use core::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::domain::time::{Timestamp, Validity};
use crate::ports::{Clock, Entropy};
use crate::shell::acme_server::pki::base;
use crate::shell::acme_server::{Addresses, CaConfig, Profile, Renewal, ScriptedCa, Validation, Validator};
use crate::shell::config::{self, Overrides, Settings};
use crate::shell::daemon::{self, Reload, Running};
use crate::shell::wire;

use super::clock::DemoClock;
use super::mesh::{self, Hop};
use super::traffic::Service;
use super::{Break, Options, PATH};

/// The configuration of the demo's guardian.
const CONFIG: &str = "keyward.toml";
/// Who orders what the demo orders.
pub(super) const BY: &str = "the demo";

/// The portal looks for this file and reloads when it appears.
pub(super) const RELOAD_MARK: &str = "portal.reload";
/// While this file exists the reload hook fails.
pub(super) const BROKEN_HOOK: &str = "portal.broken";
/// How long the portal's certificate lives.
const LIFETIME: u64 = 120;
/// How long the watched credential lives when `--break expiry` was asked for: long enough to see the gate open first.
const SHORT_WATCH: Duration = Duration::from_secs(45);
/// How long it lives otherwise.
const LONG_WATCH: Duration = Duration::from_secs(30 * 86_400);

/// Everything around the guardian.
pub(super) struct Stage {
    pub(super) dir: PathBuf,
    pub(super) settings: Settings,
    pub(super) portal: SocketAddr,
    pub(super) lifetime: u64,
    pub(super) ca_url: String,
    /// The links, and the programs behind them.
    pub(super) hops: [Hop; 2],
    /// The whole configuration; at first it is without what stands on the private CA.
    whole: String,
    ca: ScriptedCa,
    _services: [Service; 2],
}

impl Stage {
    pub(super) async fn build(options: &Options, clock: Arc<DemoClock>) -> Result<Self, String> {
        let entropy = wire::entropy();
        let dir = directory(options.dir.as_deref(), &*entropy)?;
        let [http, portal, challenge, policy, audit] = free_ports()?;
        let lifetime = options.lifetime.unwrap_or(LIFETIME).max(10);
        let ca = scripted_ca(challenge, lifetime, clock.clone(), entropy.clone()).await?;
        write(&dir.join("demo-ca.pem"), ca.root_pem())?;
        let watch_for = if options.break_ == Some(Break::Expiry) { SHORT_WATCH } else { LONG_WATCH };
        watched(&dir, clock.now(), watch_for, &*entropy)?;
        let program = std::env::current_exe().map_err(|e| format!("this program's own path is unknown: {e}"))?;
        let hops = Hop::both(&dir, loopback(policy), loopback(audit));
        let services = [Service::open(&hops[0].far, "allowed:")?, Service::open(&hops[1].far, "written:")?];
        let ca_url = ca.directory_url();
        let base = configuration(&Places { dir: &dir, ca: &ca_url, program: &program, http, portal, challenge });
        let base = base + &mesh::authority();
        let whole = format!("{base}{}{}", mesh::members(&hops), approval(lifetime));
        write(&dir.join(CONFIG), &base)?;
        let settings = config::load(&dir.join(CONFIG), Overrides::default()).map_err(|e| e.to_string())?;
        let portal = loopback(portal);
        Ok(Self { dir, settings, portal, lifetime, ca_url, hops, whole, ca, _services: services })
    }

    /// What the daemon reads, and what a reload reads again.
    pub(super) fn daemon(&self) -> daemon::Options {
        daemon::Options { config: self.dir.join(CONFIG), staging: false }
    }

    /// Adds what stands on the private CA, and has the daemon read its configuration again.
    pub(super) async fn complete(&self, running: &Running, reload: Reload) -> Result<(), String> {
        write(&self.dir.join(CONFIG), &self.whole)?;
        let parts = running.parts.clone();
        // It reads files and waits for the engine.
        let adopted = tokio::task::spawn_blocking(move || reload(&parts)).await.map_err(|e| e.to_string())?;
        adopted.map(drop).map_err(|e| e.to_string())
    }

    pub(super) fn break_it(&self, what: Break, clock: &DemoClock) -> Result<(), String> {
        match what {
            Break::Ca => self.ca.control().pause(),
            Break::Hook => write(&self.dir.join(BROKEN_HOOK), "broken by the demo\n")?,
            Break::Clock => clock.step(3_600),
            // The credential's short life does it.
            Break::Expiry => {}
        }
        Ok(())
    }

    /// Takes everything down; the directory stays only if it is to be kept.
    pub(super) async fn strike(self, keep: bool) {
        self.ca.stop().await;
        if keep {
            super::tell::say(&format!("everything is left in {}", self.dir.display()));
        } else if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            super::tell::complain(&format!("{} could not be removed: {error}", self.dir.display()));
        }
    }
}

async fn scripted_ca(
    challenge: u16,
    lifetime: u64,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> Result<ScriptedCa, String> {
    let profile = Profile { lifetime: Duration::from_secs(lifetime), most_names: 10, addresses: Addresses::Allowed };
    let config = CaConfig {
        name: "Keyward Demo CA".into(),
        profiles: [("demo".to_owned(), profile)].into(),
        default_profile: "demo".into(),
        backdate: Duration::ZERO,
        validation: Validation::On(Box::new(Validator { http_port: challenge, ..Validator::default() })),
        renewal: Renewal::On { retry_after: Duration::from_secs(60) },
        ..CaConfig::default()
    };
    ScriptedCa::start(config, clock, entropy).await.map_err(|e| e.to_string())
}

/// A directory of our own: a given one must not exist or be empty, so that nothing of anybody else's is ever removed.
fn directory(given: Option<&Path>, entropy: &dyn Entropy) -> Result<PathBuf, String> {
    let dir = match given {
        Some(dir) => std::path::absolute(dir).map_err(|e| format!("{}: {e}", dir.display()))?,
        None => {
            let mut random = [0; 8];
            entropy.fill(&mut random);
            let name = format!("keyward-demo-{:016x}", u64::from_be_bytes(random));
            std::env::temp_dir().join(name)
        }
    };
    let failed = |e: std::io::Error| format!("{}: {e}; give another directory with --dir", dir.display());
    if dir.exists() {
        let mut entries = std::fs::read_dir(&dir).map_err(failed)?;
        if entries.next().is_some() {
            return Err(format!("{} is not empty; give a new directory with --dir", dir.display()));
        }
    } else {
        std::fs::DirBuilder::new().mode(0o700).create(&dir).map_err(failed)?;
    }
    dir.canonicalize().map_err(failed)
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Ports that were free a moment ago, all at once, so that none is given twice.
fn free_ports<const N: usize>() -> Result<[u16; N], String> {
    let mut ports = [0; N];
    let mut held = Vec::with_capacity(N);
    for port in &mut ports {
        let listener = TcpListener::bind(loopback(0)).map_err(|e| format!("no free port on loopback: {e}"))?;
        *port = listener.local_addr().map_err(|e| e.to_string())?.port();
        held.push(listener);
    }
    Ok(ports)
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

/// The policy engine's certificate, from a CA of its own that nobody here renews.
fn watched(dir: &Path, now: Timestamp, lifetime: Duration, entropy: &dyn Entropy) -> Result<(), String> {
    let made = || -> Result<(String, String), rcgen::Error> {
        let root_key = KeyPair::generate()?;
        let mut root = params("Policy Root", now, Duration::from_secs(365 * 86_400), entropy);
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root_pem = root.self_signed(&root_key)?.pem();
        let issuer = Issuer::new(root, root_key);
        let key = KeyPair::generate()?;
        let mut leaf = params("policy-engine", now, lifetime, entropy);
        leaf.subject_alt_names = vec![rcgen::SanType::DnsName("policy.demo.test".try_into()?)];
        Ok((root_pem, leaf.signed_by(&key, &issuer)?.pem()))
    };
    let (root, leaf) = made().map_err(|e| format!("the watched certificate cannot be made: {e}"))?;
    write(&dir.join("policy-root.pem"), &root)?;
    write(&dir.join("policy-engine.pem"), &leaf)
}

fn params(name: &str, now: Timestamp, life: Duration, entropy: &dyn Entropy) -> CertificateParams {
    let mut params = base(&Validity { not_before: now, not_after: now.plus(life) }, entropy);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

struct Places<'a> {
    dir: &'a Path,
    ca: &'a str,
    program: &'a Path,
    http: u16,
    portal: u16,
    challenge: u16,
}

/// The path, once all that it needs is there. Its margin leaves the mesh's certificates, which have half a minute left when
/// they are renewed, as much again.
fn approval(lifetime: u64) -> String {
    let mesh: String = mesh::credentials().map(|id| format!(", \"{id}\"")).collect();
    let margin = (lifetime / 6).clamp(2, 15);
    format!(
        r#"
[[path]]
id = "{PATH}"
needs = ["portal", "policy-engine"{mesh}]
margin = "{margin}s"
"#
    )
}

/// A path as it stands in TOML.
pub(super) fn quoted(path: &Path) -> String {
    toml::Value::String(path.to_string_lossy().into_owned()).to_string()
}

fn configuration(p: &Places<'_>) -> String {
    let below = |name: &str| quoted(&p.dir.join(name));
    format!(
        r#"# Made by `keyward demo`.
state_dir = {state}

[listen]
http = "127.0.0.1:{http}"
gate_socket = {gate}

[timing]
probe_every = "10s"

[[issuer]]
id = "demo-ca"
directory = "{ca}"
contacts = ["mailto:demo@example.com"]
terms_agreed = true
root_files = [{root}, {policy_root}]
limits = "none"

[[solver]]
id = "web"
type = "http-01"
listen = ["127.0.0.1:{challenge}"]

[[certificate]]
id = "portal"
names = ["localhost"]
issuers = ["demo-ca"]
solvers = ["web"]
owner = "platform"
labels = {{ env = "demo" }}

  [[certificate.install]]
  dir = {live}
  formats = ["fullchain", "key"]

  [certificate.reload]
  exec = [{program}, "demo-hook", {dir}]
  timeout = "5s"
  tries = 1

  [[certificate.endpoint]]
  connect = "127.0.0.1:{portal}"
  sni = "localhost"

[[observe]]
id = "policy-engine"
file = {watched}
owner = "policy-team"
"#,
        state = below("state"),
        gate = below("gate.sock"),
        root = below("demo-ca.pem"),
        policy_root = below("policy-root.pem"),
        live = below("live"),
        watched = below("policy-engine.pem"),
        program = quoted(p.program),
        dir = quoted(p.dir),
        ca = p.ca,
        http = p.http,
        portal = p.portal,
        challenge = p.challenge,
    )
}
