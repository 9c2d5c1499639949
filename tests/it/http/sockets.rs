//! Sockets are bound whole, and nobody's socket is taken away.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use keyward::shell::config::{GateSocket, Listen};
use keyward::shell::http::{BindError, Listeners, bind};

fn listen(dir: &Path, group: Option<&str>) -> Listen {
    Listen {
        http: "127.0.0.1:0".parse().unwrap(),
        gate_socket: Some(GateSocket { path: dir.join("gate.sock"), mode: 0o660, group: group.map(str::to_owned) }),
        gate_tls: None,
        admin_socket: dir.join("state/admin.sock"),
    }
}

fn bound(listen: &Listen) -> Result<Listeners, BindError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // The listeners outlive the runtime's context only to be dropped.
    runtime.block_on(bind(listen))
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn mode_and_group_are_those_of_the_configuration_whatever_the_umask() {
    let dir = tempfile::tempdir().unwrap();
    let gid = rustix::process::getgid().as_raw().to_string();
    let listen = listen(dir.path(), Some(&gid));
    let listeners = bound(&listen).unwrap();
    let gate = dir.path().join("gate.sock");
    assert_eq!((mode(&gate), mode(&listen.admin_socket)), (0o660, 0o600));
    assert_eq!(std::fs::metadata(&gate).unwrap().gid().to_string(), gid);
    assert_eq!(mode(&dir.path().join("state")), 0o700, "the admin socket's directory is its user's alone");
    assert!(UnixStream::connect(&gate).is_ok());
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "nothing private is left behind: {left:?}");
    drop(listeners);
    assert!(!gate.exists() && !listen.admin_socket.exists());
}

#[test]
fn a_dead_processes_socket_is_replaced_and_a_live_ones_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let listen = listen(dir.path(), None);
    let gate = dir.path().join("gate.sock");
    drop(UnixListener::bind(&gate).unwrap());
    assert!(gate.exists(), "as a killed process leaves it");
    let first = bound(&listen).unwrap();
    let second = bound(&listen);
    assert!(matches!(&second, Err(BindError::InUse { .. })), "{second:?}");
    assert!(UnixStream::connect(&gate).is_ok(), "the refused one took nothing away");
    drop(first);
    assert!(bound(&listen).is_ok());
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("gate.sock"), "precious").unwrap();
    let error = bound(&listen(dir.path(), None)).unwrap_err();
    assert!(matches!(error, BindError::NoSocket { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(dir.path().join("gate.sock")).unwrap(), "precious");
    assert!(!dir.path().join("state/admin.sock").exists(), "what was bound before is gone again");
}

#[test]
fn an_unknown_group_and_a_taken_port_are_said_in_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let error = bound(&listen(dir.path(), Some("no-such-group"))).unwrap_err().to_string();
    assert!(error.contains("no-such-group") && error.contains("/etc/group"), "{error}");
    assert!(!dir.path().join("gate.sock").exists());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut listen = listen(dir.path(), None);
    listen.http = taken.local_addr().unwrap();
    let error = bound(&listen).unwrap_err().to_string();
    assert!(error.contains(&listen.http.to_string()) && error.contains("ss -ltnp"), "{error}");
}

#[test]
fn a_socket_may_have_the_longest_path_that_a_client_can_name() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("d".repeat(107 - dir.path().as_os_str().len() - "/".len() - "/gate.sock".len()));
    let mut listen = listen(dir.path(), None);
    listen.gate_socket.as_mut().unwrap().path = deep.join("gate.sock");
    assert_eq!(deep.join("gate.sock").as_os_str().len(), 107);
    let _listeners = bound(&listen).unwrap();
    assert!(UnixStream::connect(deep.join("gate.sock")).is_ok());
}
