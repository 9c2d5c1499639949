//! Configuration of proxies that ask the gate, made from the configuration in force: `keyward snippet`.
//!
//! Each is complete: a server, the question, and what is behind. Timeouts are set, nothing is cached, a failure is a
//! denial, and the client's own words never tell what the request is. The tests run the proxies with these very texts.

mod envoy;
mod haproxy;
mod plain;

use core::fmt;
use core::net::SocketAddr;

use crate::domain::id::PathId;
use crate::domain::inventory::Environment;
use crate::shell::config::Settings;

/// A proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Proxy {
    /// nginx with `auth_request`.
    Nginx,
    /// Envoy with ext_authz over gRPC.
    Envoy,
    /// Envoy with ext_authz over HTTP.
    EnvoyHttp,
    /// Caddy, with what `forward_auth` stands for.
    Caddy,
    /// Traefik with `forwardAuth`.
    Traefik,
    /// HAProxy with a health check.
    Haproxy,
}

impl Proxy {
    /// All of them, with the files under `config/integrations/`.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Nginx, "nginx.conf"),
        (Self::Envoy, "envoy.yaml"),
        (Self::EnvoyHttp, "envoy-http.yaml"),
        (Self::Caddy, "Caddyfile"),
        (Self::Traefik, "traefik.yaml"),
        (Self::Haproxy, "haproxy.cfg"),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
            Self::EnvoyHttp => "envoy-http",
            Self::Caddy => "caddy",
            Self::Traefik => "traefik",
            Self::Haproxy => "haproxy",
        }
    }
}

/// What the snippet is about besides the configuration.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// For which proxy.
    pub proxy: Proxy,
    /// Which path; the only one if it is not named.
    pub path: Option<String>,
    /// Where the proxy listens.
    pub listen: SocketAddr,
    /// What it guards.
    pub portal: SocketAddr,
}

/// Why there is no snippet: what was seen, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct NoSnippet {
    /// What was seen.
    pub what: String,
    /// How to mend it.
    pub mend: String,
}

/// What a snippet is made of.
struct Parts<'a> {
    path: &'a str,
    gate: Door<'a>,
    /// Whether the path leaves kinds of request reachable.
    kinds: bool,
    listen: SocketAddr,
    portal: SocketAddr,
}

/// Where the gate is asked.
#[derive(Clone, Copy)]
enum Door<'a> {
    Socket(&'a str),
    Tcp(SocketAddr),
}

impl fmt::Display for Door<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => f.write_str(path),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
}

/// The text for a proxy.
///
/// # Errors
/// [`NoSnippet`].
pub fn render(settings: &Settings, wanted: &Wanted) -> Result<String, NoSnippet> {
    let path = chosen(settings, wanted.path.as_deref())?;
    let socket = settings.listen.gate_socket.as_ref().map(|gate| gate.path.to_string_lossy());
    // Traefik's forwardAuth knows URLs only.
    let gate = match socket.as_deref().filter(|_| wanted.proxy != Proxy::Traefik) {
        Some(socket) => Door::Socket(plain(socket)?),
        None => Door::Tcp(settings.listen.http),
    };
    let guard = settings.estate.paths.get(path).map(|path| &path.guard);
    let parts = Parts {
        path: path.as_str(),
        gate,
        kinds: guard.is_some_and(|guard| !guard.kinds().is_empty()),
        listen: wanted.listen,
        portal: wanted.portal,
    };
    let text = match wanted.proxy {
        Proxy::Nginx => plain::nginx(&parts),
        Proxy::Envoy => envoy::grpc(&parts),
        Proxy::EnvoyHttp => envoy::http(&parts),
        Proxy::Caddy => plain::caddy(&parts),
        Proxy::Traefik => plain::traefik(&parts),
        Proxy::Haproxy => haproxy::config(&parts),
    };
    Ok(format!("{}{text}", head(settings, wanted.proxy, &parts)))
}

/// What everybody should know who reads the snippet.
fn head(settings: &Settings, proxy: Proxy, parts: &Parts<'_>) -> String {
    let mut out = format!("# Made by `keyward snippet {} --path {}`.\n", proxy.name(), parts.path);
    if settings.estate.environment == Environment::Staging {
        out.push_str("# STAGING: this asks the gate of a dry run.\n");
    }
    match (parts.gate, proxy) {
        (Door::Socket(_), _) => {
            let group = settings.listen.gate_socket.as_ref().and_then(|gate| gate.group.as_deref());
            let group = group.unwrap_or("of the socket");
            out.push_str(&format!(
                "# The proxy's user needs to be in the group {group}; nobody but Keyward may write the socket's directory.\n"
            ));
        }
        (Door::Tcp(address), Proxy::Traefik) => out.push_str(&format!(
            "# Traefik asks over TCP only: whoever takes {address} while Keyward is down can answer 200. Where others\n\
             # work on this machine, have the service itself verify a lease.\n"
        )),
        (Door::Tcp(address), _) => out.push_str(&format!(
            "# The gate is asked over TCP: whoever takes {address} while Keyward is down can answer 200. Set\n\
             # `gate_socket` in the configuration, and make this again.\n"
        )),
    }
    if parts.kinds && proxy == Proxy::Haproxy {
        out.push_str("# HAProxy does not tell the gate which request it is about: every request is guarded here.\n");
    }
    out
}

fn chosen<'a>(settings: &'a Settings, name: Option<&str>) -> Result<&'a PathId, NoSnippet> {
    let paths = &settings.estate.paths;
    let names = || paths.keys().take(8).map(PathId::as_str).collect::<Vec<_>>().join(", ");
    match (name, paths.len()) {
        (_, 0) => Err(NoSnippet {
            what: "the configuration has no approval path, so there is nothing to ask".to_owned(),
            mend: "add a [[path]] to the configuration".to_owned(),
        }),
        (Some(name), _) => paths.keys().find(|id| id.as_str() == name).ok_or_else(|| NoSnippet {
            what: format!("the configuration has no approval path {name:?}"),
            mend: format!("there are: {}", names()),
        }),
        (None, 1) => Ok(paths.keys().next()).and_then(|only| {
            only.ok_or_else(|| NoSnippet { what: "there is no path".to_owned(), mend: "add one".to_owned() })
        }),
        (None, count) => Err(NoSnippet {
            what: format!("the configuration has {count} approval paths, and none was named"),
            mend: format!("name one: --path; there are: {}", names()),
        }),
    }
}

/// A socket's path that means the same in every proxy's language.
fn plain(socket: &str) -> Result<&str, NoSnippet> {
    let usual = |b: u8| b.is_ascii_alphanumeric() || b"/._-+@".contains(&b);
    if socket.bytes().all(usual) {
        return Ok(socket);
    }
    Err(NoSnippet {
        what: format!("the gate's socket {socket:?} holds characters that proxies would read in different ways"),
        mend: "choose a path of letters, digits and /._-+@ for `gate_socket`".to_owned(),
    })
}
