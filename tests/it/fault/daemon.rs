//! The real binary on real disks that fail: full, read-only, failing, hanging, with its database gone or replaced.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use keyward::ports::Store as _;
use serde_json::Value;

use super::simulated::places;
use crate::harness::fault::{Daemon, Ext4, Tracer, Under};
use crate::harness::life::{Place, certificate};
use crate::harness::store::{SmallDisk, block_on, open};

/// A place with a configuration whose state lies in `state`.
struct Scene {
    place: Place,
    config: PathBuf,
    http: SocketAddr,
    state: PathBuf,
}

impl Scene {
    async fn new(state: Option<PathBuf>, more: &str) -> Self {
        let place = Place::new().await;
        let state = state.unwrap_or_else(|| place.at("state"));
        let http = crate::harness::life::free_port(place.ip);
        let config = place.at("keyward.toml");
        let path = "[[path]]\nid = \"approve\"\nneeds = [\"portal\"]\nmargin = \"1h\"\n";
        let rest = format!("{}{path}{more}", certificate("portal", &["portal.example.com"], ""));
        let admin = format!("http = \"{http}\"\nallow_remote = true\nadmin_socket = \"{}\"", place.text("admin.sock"));
        let toml = place
            .toml(&rest)
            .replace(&place.text("state"), state.to_str().unwrap())
            .replace("http = \"127.0.0.1:9180\"", &admin);
        fs::write(&config, toml).unwrap();
        Self { place, config, http, state }
    }

    fn start(&self) -> Daemon {
        Daemon::start(&self.config, self.http, &Under::Nothing)
    }

    fn open(&self) -> Daemon {
        let daemon = self.start();
        daemon.opens();
        daemon
    }

    fn orders(&self) -> usize {
        self.place.control.orders().len()
    }

    /// What is in the log of a daemon that has ended, oldest first.
    fn entries(&self) -> Vec<Value> {
        let store = open(&self.state).unwrap();
        let all = block_on_thread(move || block_on(store.entries(None, 100_000)).unwrap());
        all.iter().rev().map(|e| serde_json::from_slice(&e.bytes).unwrap()).collect()
    }

    /// Every closing that had to wait is in the log before the gate opens for the next time, and it did open then.
    fn waited(&self, closings: usize) {
        let all = self.entries();
        let spooled: Vec<usize> =
            places(&all, "gate.close").into_iter().filter(|at| all[*at]["data"]["facts"]["spooled"] == true).collect();
        let opened = places(&all, "gate.open");
        let tell = || all.iter().map(|e| e["data"].to_string()).collect::<Vec<_>>().join("\n");
        assert_eq!(spooled.len(), closings, "{}", tell());
        for at in spooled {
            assert!(opened.iter().any(|o| *o < at) && opened.iter().any(|o| *o > at), "{}", tell());
        }
        takes_turns(&all);
    }
}

/// Between two openings there is a closing, even where the process died in between.
fn takes_turns(all: &[Value]) {
    let mut turns: Vec<(usize, bool)> = places(all, "gate.open").into_iter().map(|at| (at, true)).collect();
    turns.extend(places(all, "gate.close").into_iter().map(|at| (at, false)));
    turns.sort_unstable();
    assert!(turns.windows(2).all(|pair| !(pair[0].1 && pair[1].1)), "opened twice: {turns:?}");
}

/// The store's own runtime is not this test's.
fn block_on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::spawn(work).join().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_closes_refuses_and_opens_again_when_there_is_room() {
    let disk = SmallDisk::new("28m");
    let scene = Scene::new(Some(disk.path().join("state")), "").await;
    let daemon = scene.open();
    let (orders, fill) = (scene.orders(), disk.path().join("fill"));
    fs::write(&fill, vec![0_u8; 20 << 20]).unwrap();
    daemon.renewal_is_refused();
    daemon.closes_for("KW4011");
    daemon.closes_for("KW4013");
    assert_eq!(daemon.metric("keyward_audit_writable"), Some(0.0));
    assert_eq!(daemon.metric("keyward_audit_spool_entries"), Some(1.0));
    assert_eq!(scene.orders(), orders, "what was refused was not done");
    fs::remove_file(&fill).unwrap();
    daemon.opens();
    assert_eq!(daemon.metric("keyward_audit_spool_entries"), Some(0.0));
    assert_eq!(daemon.terminate(), 0);
    scene.waited(1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_becomes_read_only_ends_the_process_with_its_gates_closed() {
    let disk = Ext4::new(64);
    let scene = Scene::new(Some(disk.path().join("state")), "").await;
    // The spool lies on another volume, as the operator was told.
    let spool = format!("[audit]\nspool = \"{}\"\n[timing]", scene.place.text("spool"));
    let text = fs::read_to_string(&scene.config).unwrap().replace("[timing]", &spool);
    fs::write(&scene.config, text).unwrap();
    let daemon = scene.open();
    let orders = scene.orders();
    disk.abort();
    daemon.renewal_is_refused();
    let code = never_opens_again(daemon);
    assert_ne!(code, 0);
    assert_eq!(scene.orders(), orders);
    assert!(fs::read_to_string(scene.place.at("spool")).unwrap().contains("gate.close"));
    disk.unmount();
    disk.mount();
    let daemon = scene.open();
    assert_eq!(fs::read_to_string(scene.place.at("spool")).unwrap(), "");
    assert_eq!(daemon.terminate(), 0);
    scene.waited(1);
}

/// Watches the gate until the process has ended; gives the exit code.
fn never_opens_again(mut daemon: Daemon) -> i32 {
    let (mut closed, began) = (false, std::time::Instant::now());
    loop {
        match daemon.gate() {
            Some((open, codes)) => {
                assert!(!(closed && open), "it opened again: {codes:?}");
                closed |= !open;
            }
            None => {
                if let Some(status) = daemon.ended() {
                    assert!(closed, "it was never seen closed: {}", daemon.log());
                    return status.code().unwrap_or(-1);
                }
            }
        }
        assert!(began.elapsed() < Duration::from_secs(30), "it does not end: {}", daemon.log());
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_that_fails_closes_the_gates_and_ends_the_process() {
    let scene = Scene::new(None, "").await;
    let daemon = scene.open();
    let orders = scene.orders();
    let tracer = Tracer::attach(daemon.id(), "inject=fsync,fdatasync:error=EIO");
    daemon.renewal_is_refused();
    let code = never_opens_again(daemon);
    assert_eq!(code, 1);
    drop(tracer);
    assert_eq!(scene.orders(), orders);
    let log = fs::read_to_string(scene.config.with_extension("log")).unwrap();
    assert!(log.contains("the medium of the state failed"), "{log}");
    let daemon = scene.open();
    assert_eq!(daemon.terminate(), 0);
    // Its file took the line although its flush failed, as a page cache does.
    scene.waited(1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_refuses_within_seconds_and_a_restart_goes_on() {
    let scene = Scene::new(None, "").await;
    let daemon = scene.open();
    let orders = scene.orders();
    let tracer = Tracer::attach(daemon.id(), "inject=fsync,fdatasync:delay_enter=60000000");
    let began = std::time::Instant::now();
    daemon.renewal_is_refused();
    assert!(began.elapsed() < Duration::from_secs(8), "a person waited {:?}", began.elapsed());
    daemon.closes_for("KW4011");
    // What closes goes on closing: the files that the path stands on are gone.
    fs::remove_dir_all(scene.place.at("live/portal")).unwrap();
    daemon.closes_for("KW4002");
    assert_eq!(scene.orders(), orders);
    drop(tracer);
    daemon.kill();
    let daemon = scene.open();
    assert_eq!(daemon.terminate(), 0);
    scene.waited(1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_gone_or_replaced_is_noticed_before_anything_is_done() {
    for replaced in [false, true] {
        let scene = Scene::new(None, "").await;
        let daemon = scene.open();
        let orders = scene.orders();
        let (db, aside) = (scene.state.join("keyward.db"), scene.state.join("aside"));
        fs::rename(&db, &aside).unwrap();
        if replaced {
            fs::copy(&aside, &db).unwrap();
        }
        daemon.renewal_is_refused();
        daemon.closes_for("KW4011");
        daemon.closes_for("KW4013");
        assert_eq!(scene.orders(), orders);
        daemon.kill();
        fs::rename(&aside, &db).unwrap();
        let daemon = scene.open();
        assert_eq!(daemon.terminate(), 0);
        scene.waited(1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_is_rolled_back_seals_the_guardian_until_it_is_put_back() {
    let scene = Scene::new(None, "").await;
    let daemon = scene.open();
    assert_eq!(daemon.terminate(), 0);
    // Yesterday's copy, with what the database's log held by then.
    let files = ["keyward.db", "keyward.db-wal"].map(|name| scene.state.join(name));
    let old = files.each_ref().map(|file| fs::read(file).unwrap_or_default());
    let daemon = scene.open();
    assert_eq!(daemon.terminate(), 0);
    let new = files.each_ref().map(|file| fs::read(file).unwrap_or_default());
    let put =
        |contents: &[Vec<u8>; 2]| files.iter().zip(contents).for_each(|(file, bytes)| fs::write(file, bytes).unwrap());
    put(&old);
    let before = crate::harness::life::snapshot(&scene.state.join("keys"));
    let orders = scene.orders();

    let daemon = scene.start();
    daemon.closes_for("KW6003");
    assert_eq!(daemon.gate().unwrap().1, ["KW6003"]);
    let (status, body) = daemon.get("/healthz").unwrap();
    assert!(status == 200 && body.starts_with("sealed"), "{status} {body}");
    assert_eq!(daemon.metric("keyward_sealed"), Some(1.0));
    assert_eq!(daemon.metric("keyward_audit_writable"), Some(0.0));
    for args in [&["cert", "renew", "portal"][..], &["clock", "accept"], &["cert", "scan"], &["config", "reload"]] {
        let refused = daemon.cli(args);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_ne!(refused.status.code(), Some(0), "{args:?}");
        assert!(said.contains("KW6003"), "{args:?}: {said}");
    }
    let status = daemon.cli(&["status"]);
    assert_eq!(status.status.code(), Some(1));
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(said.contains("sealed") && said.contains("KW6003"), "{said}");
    let (_, page) = daemon.get("/").unwrap();
    assert!(page.contains("Sealed") && page.contains("KW6003"));
    assert_eq!(daemon.terminate(), 0);
    assert_eq!(scene.orders(), orders, "it issued nothing");
    assert_eq!(crate::harness::life::snapshot(&scene.state.join("keys")), before, "and touched nothing");

    // What happened meanwhile only a person knows.
    put(&new);
    let daemon = scene.start();
    daemon.closes_for("KW4051");
    reopened(&daemon);
    // Another daemon that is alive is no seal.
    let second = Daemon::start(&scene.config, scene.http, &Under::Nothing);
    assert_eq!(second.ends(), 1);
    assert_eq!(daemon.terminate(), 0);
    scene.waited(0);
}

/// A person opens the path, who has to say why.
fn reopened(daemon: &Daemon) {
    let refused = daemon.cli(&["gate", "reopen", "approve"]);
    assert_ne!(refused.status.code(), Some(0), "without a reason nothing is opened");
    let done = daemon.cli(&["gate", "reopen", "approve", "--reason", "looked at: INC-4711"]);
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    daemon.opens();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_altered_and_mended_closes_until_a_person_opens() {
    let scene = Scene::new(None, "").await;
    let daemon = scene.open();
    assert_eq!(daemon.terminate(), 0);
    let hand = |sql: &str| {
        let connection = rusqlite::Connection::open(scene.state.join("keyward.db")).unwrap();
        connection.execute_batch(sql).unwrap();
    };
    let alter = |from: &str, to: &str| {
        hand(&format!("UPDATE entry SET body = cast(replace(body, '{from}', '{to}') AS BLOB) WHERE sequence = 0"));
    };
    let guard: String = rusqlite::Connection::open(scene.state.join("keyward.db"))
        .unwrap()
        .query_row("SELECT sql FROM sqlite_schema WHERE name = 'entry_update'", [], |row| row.get(0))
        .unwrap();
    hand("DROP TRIGGER entry_update");
    alter("daemon.start", "daemon.stort");
    let daemon = scene.start();
    daemon.closes_for("KW6001");
    assert_eq!(daemon.terminate(), 0);
    alter("daemon.stort", "daemon.start");
    hand(&guard);
    // The log is whole again, and nobody has said that all is well; nor does another restart.
    for _ in 0..2 {
        let daemon = scene.start();
        daemon.closes_for("KW4051");
        let (open, codes) = daemon.gate().unwrap();
        assert!(!open && !codes.contains(&"KW6001".to_owned()), "{codes:?}");
        assert_eq!(daemon.terminate(), 0);
    }
    let daemon = scene.start();
    daemon.closes_for("KW4051");
    reopened(&daemon);
    assert_eq!(daemon.terminate(), 0);
    let daemon = scene.open();
    assert_eq!(daemon.terminate(), 0);
    let codes: Vec<String> = scene.entries().iter().map(|e| e["data"]["code"].as_str().unwrap().to_owned()).collect();
    for code in ["KW4053", "KW4054", "KW2303", "KW2304"] {
        assert_eq!(codes.iter().filter(|c| *c == code).count(), 1, "{code} in {codes:?}");
    }
}

/// Starts with the n-th flush of each thread failing; says whether the store was hit, and whether the gate was open
/// before. However it ends, a start without faults opens
/// the gate, and the log is sound.
async fn fails_at(n: u32) -> (bool, bool) {
    let scene = Scene::new(None, "").await;
    let inject = format!("inject=fsync,fdatasync:error=EIO:when={n}");
    let mut daemon = Daemon::start(&scene.config, scene.http, &Under::Strace(&inject));
    let began = std::time::Instant::now();
    let (mut was_open, mut lost, mut renewals) = (false, false, 0);
    // Each renewal makes some more flushes, until one fails or it is clear that none will.
    while renewals < 8 && began.elapsed() < Duration::from_secs(if was_open { 10 } else { 4 }) {
        if daemon.ended().is_some() {
            lost = true;
            break;
        }
        if let Some((open, codes)) = daemon.gate() {
            lost |= codes.iter().any(|c| c == "KW4011");
            assert!(!(open && lost), "flush {n}: it opened after the medium was lost");
            was_open |= open;
            if open {
                daemon.cli(&["cert", "renew", "portal"]);
                renewals += 1;
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    if lost {
        assert_ne!(daemon.ends(), 0, "flush {n}");
    } else {
        daemon.kill();
    }
    let daemon = scene.start();
    // Where it was the host's files that failed, a person asks again rather than wait for the backoff.
    daemon.wait("an answer", Daemon::gate);
    if !daemon.gate().is_some_and(|(open, _)| open) {
        daemon.cli(&["cert", "renew", "portal"]);
    }
    daemon.opens();
    assert_eq!(daemon.metric("keyward_audit_spool_entries"), Some(0.0), "flush {n}");
    assert_eq!(daemon.terminate(), 0, "flush {n}");
    takes_turns(&scene.entries());
    let log = fs::read_to_string(scene.config.with_extension("log")).unwrap();
    let said = ["Input/output error", "I/O error"].iter().any(|e| log.contains(e));
    assert!(said || !lost || !was_open, "flush {n}: it ended for another reason: {log}");
    (lost, was_open)
}

async fn fail_at(flushes: impl Iterator<Item = u32>) {
    let (mut at_start, mut later, mut not_at_all) = (0, 0, 0);
    for n in flushes {
        match fails_at(n).await {
            (true, false) => at_start += 1,
            (true, true) => later += 1,
            (false, _) => not_at_all += 1,
        }
    }
    println!("{at_start} before the gate was open, {later} after it, {not_at_all} hit no flush of the store");
    assert!(at_start > 1 && later > 0, "{at_start} before the gate was open, {later} after it: the test tests nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_of_any_flush_of_a_run_is_survived() {
    fail_at((1..=35).step_by(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_of_those_in_between() {
    fail_at((2..=36).step_by(2)).await;
}
