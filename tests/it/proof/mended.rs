//! A probe that ends in the middle, however, leaves the gate's socket in its place.

use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::life::PATIENCE;
use crate::harness::proxy::{REACHED, Scene};

fn wait(what: &str, mut met: impl FnMut() -> bool) {
    let began = Instant::now();
    while !met() {
        assert!(began.elapsed() < PATIENCE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn inode(scene: &Scene) -> Option<u64> {
    std::fs::symlink_metadata(&scene.gate).ok().map(|m| m.ino())
}

/// Whether the gate itself answers at its socket.
fn answers(scene: &Scene) -> bool {
    use std::io::{Read as _, Write as _};
    let Ok(mut stream) = std::os::unix::net::UnixStream::connect(&scene.gate) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let asked = stream.write_all(b"GET /v1/gate/approve?nonce=abc HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut text = String::new();
    asked.is_ok() && stream.read_to_string(&mut text).is_ok() && text.contains("\"nonce\":\"abc\"")
}

/// A probe whose guarded URL is the portal itself, so that it goes through all cases; returned while the socket is away.
fn interrupted(scene: &Scene, own: u64, timeout: &str) -> Child {
    let url = format!("http://{}/", scene.portal.address);
    let arguments = [
        "gate",
        "probe",
        "approve",
        "--url",
        &url,
        "--expect-open",
        REACHED,
        "--allow-interrupt",
        "--timeout",
        timeout,
    ];
    let child = scene.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait("the interruption", || inode(scene) != Some(own));
    child
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_that_is_told_to_stop_puts_the_socket_back_at_once() {
    let scene = Scene::new().await;
    let _daemon = scene.open();
    let own = inode(&scene).unwrap();
    for name in ["INT", "TERM", "HUP"] {
        let mut child = interrupted(&scene, own, "60s");
        signal(&child, name);
        let began = Instant::now();
        let status = child.wait().unwrap();
        assert!(matches!(status.code(), Some(1 | 3)), "{name}: {status}: stopped is never proven");
        assert!(began.elapsed() < Duration::from_secs(5), "{name}");
        assert_eq!(inode(&scene), Some(own), "{name}: the socket is back");
        assert!(answers(&scene), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_probe_that_was_killed_the_daemon_puts_the_socket_back_and_says_so() {
    let scene = Scene::new().await;
    let daemon = scene.open();
    let own = inode(&scene).unwrap();
    let mut child = interrupted(&scene, own, "1s");
    child.kill().unwrap();
    child.wait().unwrap();
    wait("the socket", || inode(&scene) == Some(own));
    assert!(answers(&scene));
    daemon.wait("it says so", |d| d.log().contains("KW4406").then_some(()));
    let status = String::from_utf8(daemon.cli(&["status"]).stdout).unwrap();
    assert!(status.contains("KW4406"), "{status}");
    daemon.opens();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_probe_mends_what_a_killed_one_left() {
    let scene = Scene::new().await;
    let _daemon = scene.open();
    let own = inode(&scene).unwrap();
    let mut child = interrupted(&scene, own, "60s");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_ne!(inode(&scene), Some(own), "it is away for a minute and more");
    let url = format!("http://{}/", scene.portal.address);
    let probed = scene.probe(&url, &[]);
    assert_eq!((probed.code, probed.case("open").0), (1, "held"), "{}", probed.said);
    assert_eq!(inode(&scene), Some(own));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_was_killed_in_the_middle_begins_anew_with_its_socket_and_says_so() {
    let scene = Scene::new().await;
    let daemon = scene.open();
    let own = inode(&scene).unwrap();
    let mut child = interrupted(&scene, own, "60s");
    child.kill().unwrap();
    child.wait().unwrap();
    daemon.kill();
    assert!(scene.gate.with_file_name(".gate.sock.aside").exists(), "it is still aside");
    let daemon = scene.open();
    assert!(answers(&scene) && !scene.gate.with_file_name(".gate.sock.aside").exists());
    assert!(daemon.log().contains("KW4406"), "{}", daemon.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_is_stopped_in_the_middle_leaves_nothing_behind() {
    let scene = Scene::new().await;
    let daemon = scene.open();
    let own = inode(&scene).unwrap();
    let mut child = interrupted(&scene, own, "60s");
    assert_eq!(daemon.terminate(), 0);
    assert!(!scene.gate.with_file_name(".gate.sock.aside").exists());
    wait("the probe ends by itself", || child.try_wait().unwrap().is_some());
    assert_ne!(child.wait().unwrap().code(), Some(0));
    assert!(!scene.gate.exists(), "no stand-in stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_in_the_place_of_the_socket_is_told_of() {
    let scene = Scene::new().await;
    let daemon = scene.open();
    std::fs::remove_file(&scene.gate).unwrap();
    let _stranger = std::os::unix::net::UnixListener::bind(&scene.gate).unwrap();
    daemon.wait("it says so", |d| d.log().contains("KW4405").then_some(()));
    assert!(String::from_utf8(daemon.cli(&["status"]).stdout).unwrap().contains("is another's"));
    let refused = scene.probe("http://127.0.0.1:1/", &["--allow-interrupt", "--settle", "1s"]);
    assert_ne!(refused.code, 0, "{}", refused.said);
    assert!(scene.gate.exists(), "what is not ours is not touched");
}
