//! Where the guardian lives: environment, state directory, listeners. In staging everything is apart from production.

use core::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::scalar;
use crate::domain::inventory::Environment;
use crate::shell::config::Overrides;
use crate::shell::config::diagnostic::{Problems, Span, quoted};
use crate::shell::config::raw::{At, Section};
use crate::shell::config::settings::{GateSocket, GateTls, Listen};

/// Where gate checks, metrics and pages are served if the file says nothing.
const HTTP: SocketAddr = SocketAddr::new(core::net::IpAddr::V4(core::net::Ipv4Addr::LOCALHOST), 9_180);

/// What was read; `None` where there was a problem.
pub(super) struct Place {
    pub(super) environment: Environment,
    pub(super) state_dir: Option<PathBuf>,
    /// The state directory of production, whatever the environment is.
    pub(super) production_state: Option<PathBuf>,
    pub(super) listen: Option<Listen>,
}

pub(super) fn read(p: &mut Problems, root: &mut Section<'_>, overrides: &Overrides) -> Place {
    let words = [(Environment::Production, "production"), (Environment::Staging, "staging")];
    let said = root.word(p, "environment", &words).map_or(Environment::Production, |w| w.value);
    let environment = if overrides.staging { Environment::Staging } else { said };
    let production = root.need(p, "state_dir", "\"/var/lib/keyward\"", scalar::path);
    let staging = root.parsed(p, "staging_state_dir", "\"/var/lib/keyward/staging\"", scalar::path);
    apart(p, production.as_ref(), staging.as_ref());
    let production_state = production.as_ref().map(|d| PathBuf::from(&d.value));
    let staging_state =
        staging.map(|d| PathBuf::from(d.value)).or_else(|| production_state.as_ref().map(|d| d.join("staging")));
    let of_the_file = match environment {
        Environment::Production => production_state.clone(),
        Environment::Staging => staging_state,
    };
    let state_dir = match &overrides.state_dir {
        Some(dir) => overriding(p, root, environment, dir, production_state.as_deref()),
        None => of_the_file,
    };
    let section = root.section(p, "listen", "[listen]");
    let state_span = root.value_span("state_dir");
    let listen = listen(p, section, environment, state_dir.as_deref().map(|dir| (dir, state_span)));
    Place { environment, state_dir, production_state, listen }
}

/// A dry run that shares its state with production would not be one.
fn apart(p: &mut Problems, production: Option<&At<String>>, staging: Option<&At<String>>) {
    let (Some(production), Some(staging)) = (production, staging) else { return };
    if production.value == staging.value || Path::new(&production.value).starts_with(&staging.value) {
        let mend = "choose another directory, or leave `staging_state_dir` out: then it is `state_dir`/staging";
        let what = "`staging_state_dir` is, or holds, the state directory of production";
        p.add_with("KW0061", &staging.span, what, "not apart", mend, (&production.span, "production's state"));
    }
}

fn overriding(
    p: &mut Problems,
    root: &Section<'_>,
    environment: Environment,
    dir: &Path,
    production: Option<&Path>,
) -> Option<PathBuf> {
    let at = root.key_span("state_dir");
    if let Err(wrong) = scalar::path(&dir.to_string_lossy()) {
        p.add(wrong.code, &at, format!("--state-dir {}", wrong.what), "overridden here", wrong.mend);
        return None;
    }
    if environment == Environment::Staging && production.is_some_and(|own| own.starts_with(dir)) {
        let mend = "name another directory, or leave --state-dir out: then staging uses `state_dir`/staging";
        p.add("KW0061", &at, "--state-dir is, or holds, the state directory of production", "production's state", mend);
        return None;
    }
    Some(dir.to_path_buf())
}

fn listen(
    p: &mut Problems,
    section: Option<Section<'_>>,
    environment: Environment,
    state: Option<(&Path, Span)>,
) -> Option<Listen> {
    let (mut http, mut staging_http, mut gate, mut mode, mut group, mut admin) = (None, None, None, None, None, None);
    let mut tls = None;
    if let Some(mut s) = section {
        http = s.parsed(p, "http", "\"127.0.0.1:9180\"", scalar::address);
        staging_http = s.parsed(p, "staging_http", "\"127.0.0.1:9181\"", scalar::address);
        let remote = s.flag(p, "allow_remote").is_some_and(|f| f.value);
        addresses(p, http.as_ref(), staging_http.as_ref(), remote);
        gate = s.parsed(p, "gate_socket", "\"/run/keyward/gate.sock\"", scalar::socket_path);
        let why = "a socket needs read and write for its owner, and no execute bits";
        mode = s.parsed(p, "gate_socket_mode", "\"0660\"", |t| scalar::mode(t, 0o666, 0o600, why));
        group = s.parsed(p, "gate_socket_group", "\"www-data\"", scalar::account);
        admin = s.parsed(p, "admin_socket", "\"/run/keyward/admin.sock\"", scalar::socket_path);
        let section = s.section(p, "gate_tls", "[listen.gate_tls]");
        tls = section.and_then(|t| gate_tls(p, t, remote, environment));
        let alone = ["gate_socket_mode", "gate_socket_group"].into_iter().find(|key| s.has(key));
        if let Some(key) = alone.filter(|_| !s.has("gate_socket")) {
            let what = format!("`{key}` without `gate_socket`");
            p.add("KW0004", &s.key_span(key), what, "of which socket?", "add gate_socket = \"/run/keyward/gate.sock\"");
        }
        s.close(p);
    }
    let (state, state_span) = state?;
    // A staging guardian must never answer at the door of production: its sockets live with its state.
    let place = |said: Option<At<String>>, name: &str| match said {
        Some(said) if environment == Environment::Production => {
            At { value: PathBuf::from(said.value), span: said.span }
        }
        Some(said) => At { value: state.join(name), span: said.span },
        None => At { value: state.join(name), span: state_span.clone() },
    };
    let admin = place(admin, "admin.sock");
    let gate = gate.map(|gate| place(Some(gate), "gate.sock"));
    if let Some(gate) = gate.as_ref().filter(|gate| gate.value == admin.value) {
        let mend = "give each its own path: who may ask the gate must not thereby command the daemon";
        p.add_with(
            "KW0040",
            &gate.span,
            "one path for two sockets",
            "the gate",
            mend,
            (&admin.span, "the command line"),
        );
    }
    for socket in gate.iter().chain([&admin]) {
        if let Err(wrong) = scalar::socket_path(&socket.value.to_string_lossy()) {
            let what = format!("the socket {} {}", quoted(&socket.value.to_string_lossy()), wrong.what);
            let mend =
                "choose a shorter state directory, or name the sockets in [listen]; in staging they lie with the state";
            p.add(wrong.code, &socket.span, what, "too long", mend);
        }
    }
    let mode = mode.map_or(0o660, |m| m.value);
    let gate_socket = gate.map(|g| GateSocket { path: g.value, mode, group: group.map(|g| g.value) });
    let http = in_environment(http.map_or(HTTP, |a| a.value), staging_http.map(|a| a.value), environment);
    Some(Listen { http, gate_socket, gate_tls: tls, admin_socket: admin.value })
}

/// Where gate checks are answered over TLS; checked in staging and not used there: a proxy of production asks it.
fn gate_tls(p: &mut Problems, mut s: Section<'_>, remote: bool, environment: Environment) -> Option<GateTls> {
    let listen = s.need(p, "listen", "\"127.0.0.1:9183\"", scalar::address);
    let certificate = s.need(p, "certificate_file", "\"/etc/keyward/live/gate/current/fullchain.pem\"", scalar::path);
    let key = s.need(p, "key_file", "\"/etc/keyward/live/gate/current/key.pem\"", scalar::path);
    s.close(p);
    if let Some(at) = listen.as_ref().filter(|a| !a.value.ip().is_loopback() && !remote) {
        let mend = "listen on 127.0.0.1, or set `allow_remote = true` if proxies on other machines ask the gate";
        p.add("KW0050", &at.span, "`gate_tls` listens for other machines", "not a loopback address", mend);
    }
    let (certificate_file, key_file) = (PathBuf::from(certificate?.value), PathBuf::from(key?.value));
    let tls = GateTls { listen: listen?.value, certificate_file, key_file };
    (environment == Environment::Production).then_some(tls)
}

fn addresses(p: &mut Problems, http: Option<&At<SocketAddr>>, staging: Option<&At<SocketAddr>>, remote: bool) {
    for (key, address) in [("http", http), ("staging_http", staging)] {
        if let Some(at) = address.filter(|a| !a.value.ip().is_loopback() && !remote) {
            let mend = format!(
                "listen on 127.0.0.1:{} or on the gate socket; only if others must reach it, and a firewall or proxy \
                 decides who, set `allow_remote = true`",
                at.value.port()
            );
            let what = format!("`{key}` listens for other machines, and what it tells is for this one");
            p.add("KW0050", &at.span, what, "not a loopback address", mend);
        }
    }
    let production = http.map_or(HTTP, |a| a.value);
    if let Some(staging) = staging.filter(|s| s.value == production) {
        let mend = "choose another port, or leave `staging_http` out: then it is the next port";
        p.add("KW0061", &staging.span, "`staging_http` is the address of production", "not apart", mend);
    }
}

/// In staging: the address set for it, else the next port.
fn in_environment(http: SocketAddr, staging: Option<SocketAddr>, environment: Environment) -> SocketAddr {
    match environment {
        Environment::Production => http,
        Environment::Staging => staging.unwrap_or_else(|| {
            let next = http.port().checked_add(1).unwrap_or(9_181);
            SocketAddr::new(http.ip(), next)
        }),
    }
}
