//! Addresses and sockets: free, ours already, or somebody else's.

use core::net::SocketAddr;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _};
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::Access;

use super::files::{existing, may};
use super::{Found, Group, Report, sh};
use crate::shell::config::settings::{HttpChallenge, Settings, SolverKind};

/// The table of sockets is read up to here: a hundred thousand sockets.
const LONGEST_TABLE: u64 = 16 * 1_024 * 1_024;
/// More processes are not asked for their sockets.
const MOST_PROCESSES: usize = 100_000;

pub(super) fn addresses(report: &mut Report, settings: &Settings) {
    let mut wanted: BTreeSet<SocketAddr> = BTreeSet::from([settings.listen.http]);
    wanted.extend(settings.listen.gate_tls.as_ref().map(|tls| tls.listen));
    wanted.extend(settings.directories.iter().map(|directory| directory.place.listen));
    for solver in &settings.solvers {
        match &solver.kind {
            SolverKind::Http01(HttpChallenge::Listen(listen)) | SolverKind::TlsAlpn01 { listen } => {
                wanted.extend(listen)
            }
            SolverKind::Http01(HttpChallenge::Webroot(_)) | SolverKind::Dns01 { .. } => {}
        }
    }
    wanted.extend(settings.links.iter().filter_map(|link| match &link.listen {
        crate::domain::link::Listen::Tcp(address) => Some(*address),
        crate::domain::link::Listen::Unix { .. } => None,
    }));
    let (mut free, mut allowed) = (Found::default(), Found::default());
    let mut ours = 0_usize;
    for address in &wanted {
        let Err(e) = TcpListener::bind(address) else { continue };
        if e.kind() == io::ErrorKind::PermissionDenied {
            let text = format!("this user may not listen on {address}: ports below 1024 are privileged");
            let fix = format!(
                "sudo sysctl net.ipv4.ip_unprivileged_port_start={}; or systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE",
                address.port()
            );
            allowed.error(text, fix);
        } else if e.kind() == io::ErrorKind::AddrNotAvailable {
            let text = format!("this machine does not have the address {}", address.ip());
            free.error(text, "ip -brief address; then choose one of those, or 0.0.0.0");
        } else if e.kind() == io::ErrorKind::AddrInUse {
            match holder(*address) {
                Some((_, name)) if name == "keyward" => ours = ours.saturating_add(1),
                Some((pid, name)) => {
                    free.error(format!("{address} is in use by {name} (pid {pid})"), taken_fix(*address))
                }
                None => free.error(format!("{address} is in use by a process of another user"), taken_fix(*address)),
            }
        } else {
            free.error(format!("{address} cannot be listened on: {e}"), taken_fix(*address));
        }
    }
    let held = if ours == 0 { String::new() } else { format!(", {ours} of them held by keyward already") };
    report.put("KW0110", Group::Listeners, free, format!("{} addresses are usable{held}", wanted.len()));
    report.put("KW0113", Group::Listeners, allowed, "no address needs more rights than this user has");
}

fn taken_fix(address: SocketAddr) -> String {
    match address.port() {
        80 => "sudo ss -ltnp 'sport = :80'; if it is a web server, give the solver its `webroot` instead of `listen`"
            .into(),
        port => format!("sudo ss -ltnp 'sport = :{port}'; stop that, or choose another port"),
    }
}

/// Which process of those we may look at listens on the port: its number and name.
fn holder(address: SocketAddr) -> Option<(u32, String)> {
    let inodes: BTreeSet<String> =
        ["/proc/net/tcp", "/proc/net/tcp6"].iter().flat_map(|t| listening(t, address.port())).collect();
    for entry in fs::read_dir("/proc").ok()?.flatten().take(MOST_PROCESSES) {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let Ok(files) = fs::read_dir(entry.path().join("fd")) else { continue };
        let holds = files.flatten().filter_map(|f| fs::read_link(f.path()).ok()).any(|link| {
            let link = link.to_string_lossy();
            link.strip_prefix("socket:[").and_then(|l| l.strip_suffix(']')).is_some_and(|inode| inodes.contains(inode))
        });
        if holds {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some((pid, name.trim().chars().filter(|c| !c.is_control()).collect()));
        }
    }
    None
}

/// Inodes of the sockets that listen on a port (proc(5), state 0A).
fn listening(table: &str, port: u16) -> Vec<String> {
    let mut text = String::new();
    let read = fs::File::open(table).and_then(|f| f.take(LONGEST_TABLE).read_to_string(&mut text));
    if read.is_err() {
        return Vec::new();
    }
    let suffix = format!(":{port:04X}");
    let line = |l: &str| {
        let fields: Vec<&str> = l.split_whitespace().collect();
        let listens = fields.get(1)?.ends_with(&suffix) && *fields.get(3)? == "0A";
        listens.then(|| fields.get(9).map(|inode| (*inode).to_owned())).flatten()
    };
    text.lines().filter_map(line).collect()
}

pub(super) fn gate_socket(report: &mut Report, settings: &Settings) {
    let mut found = Found::default();
    let mut sockets = vec![settings.listen.admin_socket.as_path()];
    sockets.extend(settings.listen.gate_socket.as_ref().map(|g| g.path.as_path()));
    for socket in &sockets {
        let dir = socket.parent().unwrap_or(Path::new("/"));
        let there = fs::symlink_metadata(socket);
        // What lies in the state directory is made with it.
        let inside = dir.starts_with(&settings.state_dir);
        if there.is_ok_and(|m| !m.file_type().is_socket()) {
            let text = format!("{} is there and is no socket", socket.display());
            found.error(text, format!("ls -l {0}; rm {0} if it is not needed", sh(socket)));
        } else if !inside && !may(&existing(dir), Access::WRITE_OK) {
            let text = format!("the directory {} of the socket cannot be made or written", dir.display());
            let fix =
                format!("sudo install -d -m 0755 -o \"$(id -u)\" {}; or systemd: RuntimeDirectory=keyward", sh(dir));
            found.error(text, fix);
        }
    }
    if let Some(gate) = &settings.listen.gate_socket {
        takeover(&mut found, gate.path.parent().unwrap_or(Path::new("/")));
    }
    report.put("KW0111", Group::Listeners, found, format!("{} sockets have their directories", sockets.len()));
}

/// Whoever may write the directory of the gate's socket can put another in its place, and answer 200 while we are down.
fn takeover(found: &mut Found, dir: &Path) {
    let Ok(meta) = fs::metadata(dir) else { return };
    if meta.permissions().mode() & 0o022 != 0 {
        let text = format!(
            "{} can be written by others than its owner, who could answer 200 in the gate's place while keyward is down",
            dir.display()
        );
        found.warning(
            text,
            format!("sudo chmod go-w {}; or choose a directory of keyward's own for `gate_socket`", sh(dir)),
        );
    }
}
