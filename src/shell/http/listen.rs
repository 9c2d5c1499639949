//! Sockets: bound completely, with mode and group, before anybody can reach them.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener};

use super::apart::Apart;
use super::keeper;
use super::tls::{BadCertificate, GateCertificate};
use crate::codec::accounts::number_in;
use crate::shell::config::Listen;

/// Why a listener is not there.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A TCP address.
    #[error("cannot listen on {address}: {source}; see who does: ss -ltnp 'sport = :{}'", address.port())]
    Tcp {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A live process answers at the socket.
    #[error("{} is in use by a running process; stop it first, or choose another path", path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// Something else lies there.
    #[error("{} is there and is no socket; move it away, or choose another path", path.display())]
    NoSocket {
        /// Which.
        path: PathBuf,
    },
    /// The group does not exist.
    #[error("group {group:?} of {} is not in /etc/group; create it, or write its number", path.display())]
    Group {
        /// For which socket.
        path: PathBuf,
        /// Which.
        group: String,
    },
    /// What gate checks over TLS are answered with.
    #[error("{0}")]
    Certificate(#[from] BadCertificate),
    /// Nobody to answer.
    #[error("cannot start the threads that answer gates: {0}; see `ulimit -u` and the unit's TasksMax")]
    Threads(io::Error),
    /// Anything else.
    #[error("cannot listen on {}: {what}: {source}", path.display())]
    Unix {
        /// Which.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Bound listeners; nobody is answered before [`super::serve`]. Socket files are removed when this is dropped.
#[derive(Debug)]
pub struct Listeners {
    /// Who answers on `http` and `gate`.
    pub(super) apart: Apart,
    /// Loopback HTTP.
    pub http: TcpListener,
    /// The gate's Unix socket.
    pub gate: Option<UnixListener>,
    /// Gate checks over TLS.
    pub gate_tls: Option<(TcpListener, GateCertificate)>,
    /// The command line's door.
    pub admin: UnixListener,
    /// Socket files to remove.
    pub files: SocketFiles,
    /// Where the gate's socket is.
    pub(super) gate_path: Option<PathBuf>,
    /// What a probe of an earlier run left there.
    pub(super) found: Option<String>,
}

/// Removes socket files when dropped, so that the next start finds none of a dead process.
#[derive(Debug, Default)]
pub struct SocketFiles(Vec<PathBuf>);

impl Drop for SocketFiles {
    fn drop(&mut self) {
        // One that stays is replaced at the next start.
        self.0.iter().for_each(|path| drop(fs::remove_file(path)));
    }
}

/// Binds everything.
///
/// # Errors
/// [`BindError`]: nothing stays bound then.
pub async fn bind(listen: &Listen) -> Result<Listeners, BindError> {
    let address = listen.http;
    let apart = Apart::start().map_err(BindError::Threads)?;
    let http = TcpListener::bind(address).await.and_then(|bound| apart.tcp(bound));
    let http = http.map_err(|source| BindError::Tcp { address, source })?;
    let mut files = SocketFiles::default();
    let admin = unix(&listen.admin_socket, 0o600, None, 0o700)?;
    files.0.push(listen.admin_socket.clone());
    let found = listen.gate_socket.as_ref().and_then(|gate| keeper::sweep(&gate.path));
    let gate = match &listen.gate_socket {
        None => None,
        Some(gate) => {
            let bound = unix(&gate.path, gate.mode, gate.group.as_deref(), 0o755)?;
            files.0.push(gate.path.clone());
            Some(apart.unix(bound).map_err(BindError::Threads)?)
        }
    };
    let gate_path = listen.gate_socket.as_ref().map(|gate| gate.path.clone());
    let gate_tls = match &listen.gate_tls {
        None => None,
        Some(tls) => {
            let certificate = GateCertificate::load(&tls.certificate_file, &tls.key_file)?;
            let address = tls.listen;
            let bound = TcpListener::bind(address).await.map_err(|source| BindError::Tcp { address, source })?;
            Some((bound, certificate))
        }
    };
    Ok(Listeners { apart, http, gate, gate_tls, admin, files, gate_path, found })
}

/// A Unix socket, and what removes its file.
///
/// # Errors
/// [`BindError`].
pub(crate) fn unix_socket(
    path: &Path,
    mode: u32,
    group: Option<&str>,
) -> Result<(UnixListener, SocketFiles), BindError> {
    let listener = unix(path, mode, group, 0o755)?;
    Ok((listener, SocketFiles(vec![path.to_owned()])))
}

/// Binds below a private directory, sets mode and group there, and only then moves the socket to its place.
fn unix(path: &Path, mode: u32, group: Option<&str>, dir_mode: u32) -> Result<UnixListener, BindError> {
    let failed = |what: &'static str| move |source| BindError::Unix { path: path.to_owned(), what, source };
    refuse_if_alive(path)?;
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(dir_mode).create(dir).map_err(failed("making its directory"))?;
    let private = dir.join(format!(".keyward-{}", std::process::id()));
    remove_private(&private);
    DirBuilder::new().mode(0o700).create(&private).map_err(failed("making a private directory beside it"))?;
    let made = (|| {
        let made = private.join("s");
        let handle = fs::File::open(&private).map_err(failed("opening the private directory"))?;
        // A socket address holds 107 bytes; the way through the open directory is always short.
        let short = PathBuf::from(format!("/proc/self/fd/{}/s", handle.as_raw_fd()));
        let fits = made.as_os_str().len() <= 107;
        let listener = UnixListener::bind(if fits { &made } else { &short }).map_err(failed("binding"))?;
        fs::set_permissions(&made, Permissions::from_mode(mode)).map_err(failed("setting its mode"))?;
        if let Some(group) = group {
            let gid = gid(group).ok_or_else(|| BindError::Group { path: path.to_owned(), group: group.to_owned() })?;
            std::os::unix::fs::chown(&made, None, Some(gid)).map_err(failed("giving it to its group"))?;
        }
        fs::rename(&made, path).map_err(failed("moving it to its place"))?;
        Ok(listener)
    })();
    remove_private(&private);
    made
}

fn remove_private(private: &Path) {
    // What is not there need not go; what stays is met when the directory is made.
    drop(fs::remove_file(private.join("s")));
    drop(fs::remove_dir(private));
}

/// A socket file of a dead process may be replaced; one that answers may not.
fn refuse_if_alive(path: &Path) -> Result<(), BindError> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(BindError::NoSocket { path: path.to_owned() });
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => Ok(()),
        // Connected, or busy, or not ours to ask: somebody may live there.
        _ => Err(BindError::InUse { path: path.to_owned() }),
    }
}

/// A group's number: written as such, or as a name in /etc/group (group(5)).
fn gid(group: &str) -> Option<u32> {
    if let Ok(number) = group.parse() {
        return Some(number);
    }
    number_in(&fs::read_to_string("/etc/group").ok()?, group)
}
