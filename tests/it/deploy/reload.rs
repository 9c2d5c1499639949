//! Programs, signals and units that make a server take its files.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use keyward::domain::inventory::{Reload, ReloadHow};
use keyward::ports::{Deployer, HostError};

use crate::harness::deploy::{Keys, credential, eventually, production, slot, text};

struct Hook {
    dir: tempfile::TempDir,
}

impl Hook {
    fn new(script: &str) -> Self {
        let hook = Self { dir: tempfile::tempdir().unwrap() };
        let script = script.replace("DIR", &text(hook.dir.path()));
        fs::write(hook.program(), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(hook.program(), fs::Permissions::from_mode(0o755)).unwrap();
        hook
    }

    fn program(&self) -> PathBuf {
        self.at("hook")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The number that the hook wrote into a file.
    fn pid(&self, name: &str) -> i32 {
        fs::read_to_string(self.at(name)).unwrap().trim().parse().unwrap()
    }
}

fn reload(how: ReloadHow, timeout: Duration) -> Reload {
    Reload { how, timeout, tries: 1, in_staging: false }
}

async fn run(how: ReloadHow, timeout: Duration) -> Result<(), HostError> {
    production(&Keys::new([])).reload(&credential(), &reload(how, timeout), slot(0)).await
}

async fn exec(program: &Path, timeout: Duration) -> Result<(), HostError> {
    run(ReloadHow::Exec([text(program), "$(id)".to_owned()].into()), timeout).await
}

/// Gone, or a zombie that nobody waited for.
fn is_dead(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |s| s.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_hook_gets_its_arguments_as_they_are_and_a_clean_environment() {
    let hook = Hook::new("env | sort > DIR/env; pwd > DIR/pwd; echo \"$1\" > DIR/argument; cat > DIR/stdin");
    exec(&hook.program(), LONG).await.unwrap();
    let env = fs::read_to_string(hook.at("env")).unwrap();
    let names: Vec<&str> = env.lines().filter_map(|l| l.split('=').next()).filter(|n| *n != "_").collect();
    assert_eq!(names, ["KEYWARD_CREDENTIAL", "KEYWARD_ENVIRONMENT", "PATH", "PWD"], "the shell itself adds PWD");
    assert!(env.contains("KEYWARD_CREDENTIAL=portal\n") && env.contains("KEYWARD_ENVIRONMENT=production\n"));
    let read = |name: &str| fs::read_to_string(hook.at(name)).unwrap();
    assert_eq!((&*read("pwd"), &*read("argument"), &*read("stdin")), ("/\n", "$(id)\n", ""));
}

#[tokio::test]
async fn a_hook_that_takes_too_long_is_killed_with_everything_it_started() {
    let hook = Hook::new("sleep 300 & echo $! > DIR/child; echo $$ > DIR/own; echo still busy; wait");
    let said = exec(&hook.program(), Duration::from_secs(2)).await.unwrap_err().0;
    assert!(said.contains("was not done after 2 s") && said.ends_with(": still busy"), "{said}");
    let pids = ["own", "child"].map(|n| hook.pid(n));
    eventually("both processes are dead", || pids.into_iter().all(is_dead)).await;
}

#[tokio::test]
async fn a_hook_whose_caller_goes_away_is_killed_too() {
    let hook = Hook::new("sleep 300 & echo $! > DIR/child.new; mv DIR/child.new DIR/child; wait");
    let running = tokio::spawn({
        let program = hook.program();
        async move { exec(&program, LONG).await }
    });
    eventually("the hook runs", || hook.at("child").exists()).await;
    running.abort();
    let pid = hook.pid("child");
    eventually("the process is dead", || is_dead(pid)).await;
}

#[tokio::test]
async fn a_flood_of_output_is_read_to_its_end_and_only_the_last_lines_are_kept() {
    let hook = Hook::new("yes 0123456789 | head -c 55000000; echo 'the last word' >&2; exit 3");
    let said = exec(&hook.program(), LONG).await.unwrap_err().0;
    assert!(said.contains("ended with exit code 3: … ") && said.ends_with("| the last word"), "{said}");
    assert!(said.len() < 1_000, "{} bytes", said.len());

    let hook = Hook::new("head -c 50000000 /dev/zero | tr '\\0' x; kill -9 $$");
    let said = exec(&hook.program(), LONG).await.unwrap_err().0;
    assert!(said.contains("was ended by signal 9") && said.len() < 8_000, "{} bytes", said.len());
}

#[tokio::test]
async fn a_daemon_that_keeps_the_output_open_is_not_waited_for_and_lives_on() {
    let hook = Hook::new("sleep 300 & echo $! > DIR/child; echo started; exit $CODE");
    let script = fs::read_to_string(hook.program()).unwrap();
    for code in [0, 1] {
        fs::write(hook.program(), script.replace("$CODE", &code.to_string())).unwrap();
        let start = Instant::now();
        let result = exec(&hook.program(), LONG).await;
        assert!(start.elapsed() < Duration::from_secs(10), "waited for the daemon");
        assert_eq!(result.is_ok(), code == 0);
        if let Err(e) = result {
            assert!(e.0.ends_with("ended with exit code 1: started"), "{e}");
        }
        let pid = hook.pid("child");
        assert!(!is_dead(pid), "a daemon that the hook started must not be killed");
        Command::new("kill").arg(pid.to_string()).status().unwrap();
    }
}

#[tokio::test]
async fn a_program_that_cannot_be_run_or_trusted_is_refused_with_the_reason() {
    let hook = Hook::new("true");
    let missing = exec(&hook.at("absent"), LONG).await.unwrap_err().0;
    assert!(
        missing.contains("absent cannot be run: No such file") && missing.contains("correct the path"),
        "{missing}"
    );
    let relative = exec(Path::new("true"), LONG).await.unwrap_err().0;
    assert!(relative.contains("not an absolute path"), "{relative}");
    let none = run(ReloadHow::Exec(Vec::new()), LONG).await.unwrap_err().0;
    assert!(none.contains("names no program"), "{none}");
    for (mode, expected) in [(0o644, "not executable"), (0o777, "can be written to by others")] {
        fs::set_permissions(hook.program(), fs::Permissions::from_mode(mode)).unwrap();
        let said = exec(&hook.program(), LONG).await.unwrap_err().0;
        assert!(said.contains(expected), "{said}");
    }
    fs::set_permissions(hook.program(), fs::Permissions::from_mode(0o755)).unwrap();
    let open = hook.at("open");
    fs::create_dir(&open).unwrap();
    fs::copy(hook.program(), open.join("hook")).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    symlink(open.join("hook"), hook.at("link")).unwrap();
    for program in [open.join("hook"), hook.at("link")] {
        let said = exec(&program, LONG).await.unwrap_err().0;
        assert!(said.contains("cannot be trusted") && said.contains("writable by every user"), "{said}");
    }
    fs::write(hook.program(), "#!/no/such/interpreter\n").unwrap();
    let said = exec(&hook.program(), LONG).await.unwrap_err().0;
    assert!(said.contains("interpreter in its first line does not exist"), "{said}");
}

#[tokio::test]
async fn a_unit_that_does_not_exist_is_an_error_that_names_it() {
    // On a host without systemd too: systemctl is missing there, or says so.
    let unit = "keyward-no-such-unit.service";
    let said = run(ReloadHow::Systemd(unit.to_owned()), LONG).await.unwrap_err().0;
    assert!(said.contains("systemctl") && said.len() > "systemctl".len() + 20, "{said}");
}

struct Sleeper(Child);

impl Sleeper {
    fn new() -> Self {
        Self(Command::new("sleep").arg("300").spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test]
async fn a_signal_reaches_the_process_of_the_pid_file() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let mut server = Sleeper::new();
    fs::write(&pid_file, format!("{}\n/var/lib/more\n", server.0.id())).unwrap();
    let how = |signal| ReloadHow::Signal { signal, pid_file: text(&pid_file) };
    run(how(12), LONG).await.unwrap();
    assert_eq!(server.0.wait().unwrap().signal(), Some(12));

    let mut zombie = Sleeper::new();
    let pid = i32::try_from(zombie.0.id()).unwrap();
    fs::write(&pid_file, pid.to_string()).unwrap();
    zombie.0.kill().unwrap();
    eventually("the process is a zombie", || is_dead(pid)).await;
    let said = run(how(1), LONG).await.unwrap_err().0;
    assert!(said.contains("which does not run"), "{said}");

    for (content, expected) in [
        ("1", "above 1 is expected"),
        ("0", "above 1 is expected"),
        ("-1", "above 1 is expected"),
        ("", "above 1 is expected"),
        ("12 34", "above 1 is expected"),
        ("99999999999999999999", "above 1 is expected"),
        (&*std::process::id().to_string(), "names Keyward itself"),
        (&*"9".repeat(1 << 20), "is larger than"),
    ] {
        fs::write(&pid_file, content).unwrap();
        let said = run(how(1), LONG).await.unwrap_err().0;
        assert!(said.contains(expected), "{said}");
    }
    let said = run(how(999), LONG).await.unwrap_err().0;
    assert!(said.contains("999 is no signal"), "{said}");
    fs::remove_file(&pid_file).unwrap();
    let said = run(how(1), LONG).await.unwrap_err().0;
    assert!(said.contains("cannot open"), "{said}");
}
