//! docs/permits.md against a real PostgreSQL: the statements are taken out of the page.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use keyward::domain::key::Digest;
use keyward::domain::lease::Permit;
use keyward::domain::time::Timestamp;
use keyward::lease::now;
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::lease::{decision, permit, until};

const DECISION: &str = "approve request 7F3K-9Q2M";

/// A server of its own in a temporary directory, as a user without privileges.
struct Postgres {
    dir: tempfile::TempDir,
    bin: PathBuf,
    server: Child,
}

/// The newest that is installed.
fn binaries() -> PathBuf {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .unwrap_or_else(|e| panic!("no PostgreSQL ({e}): start the tests with tests/run"))
        .map(|e| e.unwrap().path().join("bin"))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().expect("no PostgreSQL: start the tests with tests/run")
}

/// PostgreSQL refuses to run as root.
const NOBODY: u32 = 65_534;

fn as_somebody(program: &Path) -> Command {
    let mut command = Command::new(program);
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.env("LC_ALL", "C").current_dir("/").stdin(Stdio::null());
    command
}

impl Postgres {
    fn start() -> Self {
        let (dir, bin) = (tempfile::tempdir().unwrap(), binaries());
        if rustix::process::geteuid().is_root() {
            chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let data = dir.path().join("data");
        let made = as_somebody(&bin.join("initdb"))
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync", "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let server = as_somebody(&bin.join("postgres"))
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(dir.path())
            .args(["-c", "listen_addresses=", "-c", "max_connections=150", "-c", "fsync=off"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let postgres = Self { dir, bin, server };
        until("PostgreSQL", || postgres.psql("SELECT 1").is_ok());
        let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/permits.md")).unwrap();
        let schema = page.split("```sql\n").nth(1).unwrap().split("```").next().unwrap();
        postgres.psql(schema).unwrap();
        postgres.psql("CREATE TABLE decisions (request text, verdict text)").unwrap();
        postgres
    }

    fn client(&self) -> Command {
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "postgres", "-h"])
            .arg(self.dir.path());
        psql
    }

    /// What it prints, or its error.
    fn psql(&self, sql: &str) -> Result<String, String> {
        let run = self.client().args(["-c", sql]).stdin(Stdio::null()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if run.status.success() { Ok(text(&run.stdout)) } else { Err(text(&run.stderr)) }
    }

    fn decide(&self, sql: &str) -> Result<String, String> {
        self.psql(&format!("BEGIN; INSERT INTO decisions VALUES ('7F3K', 'approved'); {sql}; COMMIT"))
    }

    fn decisions(&self) -> String {
        self.psql("SELECT count(*) FROM decisions").unwrap()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Immediate shutdown: there is nothing to keep.
        if let Some(pid) = Pid::from_raw(i32::try_from(self.server.id()).unwrap()) {
            kill_process(pid, Signal::QUIT).ok();
        }
        drop(self.server.wait());
    }
}

/// A permit that a portal has verified and that lives so long.
fn fresh(epoch: u64, sequence: u64, life: u64) -> Permit {
    let mut permit = permit();
    let moment = now();
    (permit.grant.epoch, permit.grant.sequence) = (epoch, sequence);
    permit.grant.not_before = moment.wall;
    permit.grant.expires = moment.wall.plus(Duration::from_secs(life));
    permit
}

fn spend(permit: &Permit, path: &str, audience: &str, decision: &str) -> String {
    let payload = String::from_utf8(permit.json().canonical()).unwrap();
    format!("SELECT keyward_spend('{payload}', '{path}', '{audience}', '{decision}')")
}

fn spent(permit: &Permit) -> String {
    spend(permit, "approve", "portal", DECISION)
}

/// A client that is spoken to line by line.
struct Session {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Session {
    fn open(postgres: &Postgres) -> Self {
        let mut child =
            postgres.client().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, to, from }
    }

    /// Runs it and waits until it is done.
    fn say(&mut self, sql: &str) {
        writeln!(self.to, "{sql};\nSELECT 'done';").unwrap();
        loop {
            let mut line = String::new();
            assert!(self.from.read_line(&mut line).unwrap() > 0, "the client ended");
            if line.trim() == "done" {
                return;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap(), signal).unwrap();
    }

    /// The last words; what it prints on its standard error.
    fn end(mut self, sql: &str) -> (bool, String) {
        writeln!(self.to, "{sql};").unwrap();
        drop(self.to);
        let mut said = String::new();
        let mut errors = self.child.stderr.take().unwrap();
        std::io::Read::read_to_string(&mut errors, &mut said).unwrap();
        (self.child.wait().unwrap().success(), said)
    }
}

#[test]
fn a_permit_is_spent_once_for_its_own_decision_and_never_after_a_later_epoch() {
    assert_eq!(Digest::of(DECISION.as_bytes()), decision());
    let db = Postgres::start();
    let refused = |sql: &str, why: &str| {
        let before = db.decisions();
        let said = db.decide(sql).unwrap_err();
        assert!(said.contains(why), "{sql}: {said}");
        assert_eq!(db.decisions(), before, "the decision went with it");
    };
    let one = fresh(41, 1, 60);
    refused(&spend(&one, "approve", "portal", "approve request 7F3K-9Q2N"), "another decision");
    refused(&spend(&one, "reject", "portal", DECISION), "somebody or something else");
    refused(&spend(&one, "approve", "other", DECISION), "somebody or something else");
    for missing in ["expires", "epoch", "sequence", "issuer", "path", "environment", "decision"] {
        let payload = String::from_utf8(one.json().canonical()).unwrap().replace(&format!("\"{missing}\""), "\"x\"");
        let sql = format!("SELECT keyward_spend('{payload}', 'approve', 'portal', '{DECISION}')");
        assert!(db.decide(&sql).is_err(), "without {missing}");
    }
    let mut staging = one.clone();
    staging.grant.environment = keyward::domain::inventory::Environment::Staging;
    refused(&spent(&staging), "somebody or something else");
    assert_eq!(db.decisions(), "0");
    db.decide(&spent(&one)).unwrap();
    refused(&spent(&one), "keyward_spent_pkey");
    db.decide(&spent(&fresh(41, 2, 60))).unwrap();
    // Another run of the guardian: whatever the earlier one permitted and nobody has spent is over.
    db.decide(&spent(&fresh(50, 1, 60))).unwrap();
    refused(&spent(&fresh(41, 3, 60)), "earlier run of the guardian");
    refused(&spent(&fresh(49, 9, 60)), "earlier run of the guardian");
    db.decide(&spent(&fresh(50, 2, 60))).unwrap();
    // A transaction that was rolled back has spent nothing and raised nothing.
    db.psql(&format!("BEGIN; {}; ROLLBACK", spent(&fresh(90, 1, 60)))).unwrap();
    db.decide(&spent(&fresh(50, 3, 60))).unwrap();
    let mut over = fresh(50, 4, 60);
    over.grant.expires = Timestamp::from_unix(now().wall.unix() - 1);
    refused(&spent(&over), "the permit has ended");
    assert_eq!(db.decisions(), "5");
}

#[test]
fn of_a_hundred_who_spend_one_permit_exactly_one_wins() {
    let db = Postgres::start();
    let permit = fresh(41, 1, 60);
    let won = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..100).map(|_| scope.spawn(|| db.decide(&spent(&permit)))).collect();
        let ended: Vec<_> = racers.into_iter().map(|r| r.join().unwrap()).collect();
        for lost in ended.iter().filter_map(|e| e.as_ref().err()) {
            assert!(lost.contains("keyward_spent_pkey"), "{lost}");
        }
        ended.iter().filter(|e| e.is_ok()).count()
    });
    assert_eq!((won, db.decisions().as_str()), (1, "1"));
}

#[test]
fn decisions_of_one_epoch_do_not_wait_for_each_other_and_a_raised_fence_stops_those_that_began_before() {
    let db = Postgres::start();
    db.decide(&spent(&fresh(41, 1, 60))).unwrap();
    let mut slow = Session::open(&db);
    slow.say(&format!("BEGIN; INSERT INTO decisions VALUES ('slow', 'approved'); {}", spent(&fresh(41, 2, 60))));
    // It is still open, and others of its epoch and of the next one go on.
    db.decide(&spent(&fresh(41, 3, 60))).unwrap();
    db.decide(&spent(&fresh(42, 1, 60))).unwrap();
    let (good, said) = slow.end("COMMIT");
    assert!(!good && said.contains("earlier run of the guardian"), "{said}");
    assert_eq!(db.decisions(), "3");
}

#[test]
fn a_portal_that_is_stopped_between_the_call_and_the_commit_is_refused_once_the_permit_has_ended() {
    let db = Postgres::start();
    let mut portal = Session::open(&db);
    let permit = fresh(41, 1, 3);
    portal.say(&format!("BEGIN; INSERT INTO decisions VALUES ('7F3K', 'approved'); {}", spent(&permit)));
    portal.signal(Signal::STOP);
    until("the end of the permit", || now().wall >= permit.grant.expires);
    portal.signal(Signal::CONT);
    let (good, said) = portal.end("COMMIT");
    assert!(!good && said.contains("the permit has ended"), "{said}");
    assert_eq!(db.decisions(), "0");
    // The same, in time.
    let mut portal = Session::open(&db);
    portal.say(&format!("BEGIN; INSERT INTO decisions VALUES ('7F3K', 'approved'); {}", spent(&fresh(41, 2, 60))));
    let (good, said) = portal.end("COMMIT");
    assert!(good, "{said}");
    assert_eq!(db.decisions(), "1");
}
