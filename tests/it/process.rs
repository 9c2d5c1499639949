//! The daemon as a process: the real binary, its signals, its exit codes, its doors.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::harness::life::{PATIENCE, Place, certificate};

pub struct Daemon {
    child: Child,
    config: PathBuf,
}

impl Daemon {
    pub fn start(config: PathBuf) -> Self {
        let log = fs::File::create(config.with_extension("log")).unwrap();
        let child = keyward().args(["run", "-c"]).arg(&config).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let daemon = Self { child, config };
        daemon.wait("answers", |d| d.cli(&["status", "-o", "json"]).status.code() != Some(1));
        daemon
    }

    pub fn cli(&self, args: &[&str]) -> Output {
        keyward().arg("-c").arg(&self.config).args(args).output().unwrap()
    }

    pub fn says(&self, args: &[&str]) -> String {
        let output = self.cli(args);
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.config.with_extension("log")).unwrap()
    }

    pub fn wait(&self, what: &str, met: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !met(self) {
            assert!(began.elapsed() < PATIENCE, "{what} did not come; the log says\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn signal(&self, name: &str) {
        let done = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(done.success());
    }

    pub fn end(mut self) -> i32 {
        self.signal("TERM");
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(began.elapsed() < PATIENCE, "SIGTERM does not end it");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn keyward() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    command.stdin(Stdio::null());
    command
}

/// A configuration file on a free port of the test's own address.
pub fn write_config(place: &Place, rest: &str) -> PathBuf {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = place.at("keyward.toml");
    fs::write(&config, place.toml(rest).replace("127.0.0.1:9180", &format!("127.0.0.1:{port}"))).unwrap();
    config
}

fn rewrite(config: &PathBuf, edit: impl FnOnce(String) -> String) {
    let text = fs::read_to_string(config).unwrap();
    fs::write(config, edit(text)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_issues_answers_refuses_a_second_daemon_and_ends_cleanly() {
    let place = Place::new().await;
    let config = write_config(&place, &certificate("portal", &["portal.example.com"], ""));
    let daemon = Daemon::start(config.clone());
    daemon.wait("the certificate", |d| d.says(&["cert", "show", "portal"]).contains("\ninstalled "));
    assert!(place.at("live/portal/current/fullchain.pem").exists());
    let why = daemon.says(&["cert", "why", "portal"]);
    assert!(why.contains("because there was none") && why.contains("Next: it renews"), "{why}");

    let mut second = keyward().args(["run", "-c"]).arg(&config).stderr(Stdio::piped()).spawn().unwrap();
    let status = second.wait().unwrap();
    let mut said = String::new();
    second.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("in use") && said.contains(&daemon.child.id().to_string()), "{said}");

    assert_eq!(daemon.cli(&["check"]).status.code(), Some(0), "{}", daemon.says(&["check"]));
    assert_eq!(daemon.end(), 0);
    let after = keyward().arg("-c").arg(&config).arg("status").output().unwrap();
    assert_eq!(after.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&after.stderr).contains("keyward run"), "the hint says how to start it");
    assert_eq!(place.control.orders().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_ends_with_64_and_a_bad_reload_keeps_the_old_one() {
    let place = Place::new().await;
    let config = write_config(&place, &certificate("portal", &["portal.example.com"], ""));
    let daemon = Daemon::start(config.clone());
    daemon.wait("the certificate", |d| d.says(&["cert", "show", "portal"]).contains("\ninstalled "));

    let good = fs::read_to_string(&config).unwrap();
    rewrite(&config, |text| text.replace("[[certificate]]", "[[certificat]]"));
    daemon.signal("HUP");
    daemon.wait("the refusal", |d| d.log().contains("the old configuration stays in force"));
    assert!(daemon.log().contains("did you mean"), "{}", daemon.log());
    assert_eq!(
        daemon.says(&["--socket", place.at("state/admin.sock").to_str().unwrap(), "cert", "list", "-o", "name"]),
        "portal\n"
    );
    let other = keyward().args(["run", "-c"]).arg(&config).output().unwrap();
    assert_eq!(other.status.code(), Some(64));

    fs::write(&config, good).unwrap();
    rewrite(&config, |text| {
        text + &place
            .toml(&certificate("second", &["second.example.com"], ""))
            .split("[[certificate]]")
            .nth(1)
            .map(|t| format!("\n[[certificate]]{t}"))
            .unwrap()
    });
    let planned = daemon.says(&["config", "reload", "--plan"]);
    assert!(planned.contains("adds     second"), "{planned}");
    assert_eq!(place.control.orders().len(), 1, "a plan does nothing");
    daemon.signal("HUP");
    daemon.wait("the second certificate", |d| d.says(&["cert", "show", "second"]).contains("installed"));
    assert_eq!(place.control.orders().len(), 2, "what was there is not ordered again");

    rewrite(&config, |text| text.replace("requests_per_second = 1000", "requests_per_second = 999"));
    let refused = daemon.cli(&["config", "reload"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("takes a restart"), "{refused:?}");
    assert_eq!(daemon.end(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_key_is_rolled_over_on_request_and_recorded() {
    let place = Place::new().await;
    let config = write_config(&place, &certificate("portal", &["portal.example.com"], ""));
    let daemon = Daemon::start(config);
    daemon.wait("the certificate", |d| d.says(&["cert", "show", "portal"]).contains("\ninstalled "));
    let before = fs::read(place.at("state/accounts/ca.key")).unwrap();
    let plan = daemon.says(&["issuer", "rollover", "ca", "--plan"]);
    assert!(plan.contains("keyChange"), "{plan}");
    assert_eq!(fs::read(place.at("state/accounts/ca.key")).unwrap(), before, "a plan does nothing");
    assert_eq!(daemon.cli(&["issuer", "rollover", "nobody"]).status.code(), Some(1));
    assert_eq!(daemon.cli(&["issuer", "rollover", "ca"]).status.code(), Some(0));
    daemon.wait("the new key", |d| d.says(&["status"]).contains("the account has a new key"));
    assert_ne!(fs::read(place.at("state/accounts/ca.key")).unwrap(), before);
    let renewed = daemon.cli(&["cert", "renew", "portal", "--wait"]);
    assert_eq!(renewed.status.code(), Some(0), "the new key works: {renewed:?}");
    assert_eq!(place.control.orders().len(), 2);
}

/// An editor that replaces the file is no fault; a file that stays away is.
#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_is_gone_closes_the_gate_and_its_return_opens_it() {
    let place = Place::new().await;
    let path = "\n[[path]]\nid = \"approve\"\nneeds = [\"portal\"]\nmargin = \"1m\"\n";
    let config = write_config(&place, &format!("{}{path}", certificate("portal", &["portal.example.com"], "")));
    let away = place.at("away.toml");
    let daemon = Daemon::start(config.clone());
    daemon.wait("the gate", |d| d.says(&["gate", "status", "-o", "json"]).contains("\"open\": true"));
    let socket = place.at("state/admin.sock");
    let socket = socket.to_str().unwrap();
    fs::rename(&config, &away).unwrap();
    daemon.wait("the closing", |d| d.says(&["gate", "status", "--socket", socket]).contains("KW4021"));
    fs::rename(&away, &config).unwrap();
    daemon.wait("the opening", |d| d.says(&["gate", "status", "-o", "json"]).contains("\"open\": true"));
    assert_eq!(daemon.end(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_file_behind_swapped_links_is_seen_within_moments() {
    let place = Place::new().await;
    // As Kubernetes mounts a secret: tls.pem -> ..data/tls.pem, ..data -> a versioned directory that is swapped.
    let mount = place.at("mount");
    fs::create_dir_all(mount.join("..v1")).unwrap();
    fs::write(mount.join("..v1/tls.pem"), place.ca.root_pem()).unwrap();
    symlink("..v1", mount.join("..data")).unwrap();
    symlink("..data/tls.pem", mount.join("tls.pem")).unwrap();
    let rest = "\n[[observe]]\nid = \"peer\"\nfile = \"@/mount/tls.pem\"\n";
    // Polls are an hour apart, so only the watch can be what notices.
    let config = write_config(&place, rest);
    rewrite(&config, |text| {
        text.replace("probe_every = \"10s\"", "probe_every = \"1h\"")
            .replace("full_scan = \"1m\"", "full_scan = \"24h\"")
    });
    let daemon = Daemon::start(config);
    daemon.wait("the first look", |d| d.says(&["cert", "show", "peer"]).contains("present"));
    fs::create_dir(mount.join("..v2")).unwrap();
    fs::write(mount.join("..v2/tls.pem"), "no certificate\n").unwrap();
    symlink("..v2", mount.join("..tmp")).unwrap();
    fs::rename(mount.join("..tmp"), mount.join("..data")).unwrap();
    daemon.wait("the swap", |d| d.says(&["cert", "show", "peer"]).contains("KW1003"));
    fs::remove_file(mount.join("tls.pem")).unwrap();
    daemon.wait("the loss", |d| d.says(&["cert", "show", "peer"]).contains("KW1001"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_is_read_through_the_daemon_beside_it_after_it_and_over_a_restart() {
    let place = Place::new().await;
    let config = write_config(&place, &certificate("portal", &["portal.example.com"], ""));
    let daemon = Daemon::start(config.clone());
    daemon.wait("the certificate", |d| d.says(&["cert", "show", "portal"]).contains("\ninstalled "));
    let state = place.at("state").display().to_string();
    let query = ["audit", "query", "--credential", "portal", "-o", "json"];
    let (asked, beside) = (daemon.says(&query), daemon.says(&[&query[..], &["--database", &state]].concat()));
    assert!(asked.contains("KW2006") && asked == beside, "{asked}\n{beside}");
    let id = daemon.says(&["audit", "query", "--code", "KW2006", "-o", "name"]).trim().to_owned();
    let story = daemon.says(&["explain", &id]);
    for part in
        ["was about to issue a certificate", "Policy let it go on", "It rests on acme-exchanges", "came out as success"]
    {
        assert!(story.contains(part), "{part}: {story}");
    }
    let shown = daemon.says(&["audit", "show", &id]);
    assert!(shown.contains("its intent") && shown.contains("KW2006 installed and served"), "{shown}");
    let out = place.at("tail.jsonl");
    let said = fs::File::create(place.at("tail.err")).unwrap();
    let mut follow = keyward();
    follow.arg("-c").arg(&config).args(["audit", "tail", "-f", "-n", "1", "-o", "jsonl"]);
    let mut tail = Tail(follow.stdout(fs::File::create(&out).unwrap()).stderr(said).spawn().unwrap());
    let lines = || fs::read_to_string(&out).unwrap();
    daemon.wait("the newest entry", |_| lines().lines().count() == 1);
    assert_eq!(daemon.end(), 0);
    // Nobody answers: the log is read without a daemon.
    let offline = keyward().args(["audit", "stats", "--database", &state]).output().unwrap();
    assert!(String::from_utf8_lossy(&offline.stdout).contains("KW2402 daemon stopped"), "{offline:?}");
    let daemon = Daemon::start(config);
    daemon.wait("what the new daemon wrote", |_| lines().contains("KW2401"));
    let places: Vec<u64> = lines()
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["sequence"].as_str().unwrap().parse().unwrap())
        .collect();
    assert!(places.windows(2).all(|pair| pair[1] == pair[0] + 1), "each once and in order: {places:?}");
    assert!(lines().contains("KW2402"), "what was written at the end is not lost: {}", lines());
    assert!(Command::new("kill").args(["-INT", &tail.0.id().to_string()]).status().unwrap().success());
    assert_eq!(tail.0.wait().unwrap().code(), Some(0), "{}", place.text("tail.err"));
    assert_eq!(daemon.end(), 0);
}

/// A process that does not outlive its test.
struct Tail(Child);

impl Drop for Tail {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
