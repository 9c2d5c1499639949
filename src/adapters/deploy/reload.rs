//! Making a server take new files: a program, a signal, or systemd. One try; whoever calls decides about more.
//!
//! A program runs without a shell, without Keyward's environment, in a process group of its own that is killed when the
//! time is over or the caller goes away. It has ended when its first process has: what that left running in the
//! background (a daemon) may keep the output open and is not waited for; writing to that output fails from then on, so
//! a daemon has to bring its own.

use core::time::Duration;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use rustix::fs::{AtFlags, CWD, FileType, Mode, statat};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::adapters::deploy::files::read_bounded;
use crate::adapters::deploy::place::{Root, ours};
use crate::domain::id::CredentialId;
use crate::domain::inventory::{Environment, Reload, ReloadHow};
use crate::ports::HostError;

/// The directories of Debian's default PATH.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What is kept of a program's output: its last 8 KiB, about a hundred lines.
const OUTPUT_MAX: usize = 8 << 10;
/// What an error repeats of it: enough for a server's complaint about its configuration.
const LINES_MAX: usize = 12;
/// The same for output without line ends: a screen's worth.
const SAID_MAX: usize = 2_000;
/// After the program has ended, what is still in the pipe comes at once; this is for a slow machine.
const DRAIN: Duration = Duration::from_millis(200);
/// A killed process that is not gone by then hangs in the kernel.
const REAP: Duration = Duration::from_secs(5);
/// A pid file holds a number of at most ten digits and perhaps a few more lines (PostgreSQL writes eight).
const PID_FILE_MAX: u64 = 1 << 10;

/// Reloads once.
pub(super) async fn run(reload: &Reload, credential: &CredentialId, environment: Environment) -> Result<(), HostError> {
    match &reload.how {
        ReloadHow::Exec(argv) => exec(argv, reload.timeout, credential, environment).await,
        ReloadHow::Signal { signal, pid_file } => {
            let (signal, pid_file) = (*signal, pid_file.clone());
            crate::adapters::deploy::blocking(move || send(signal, &pid_file)).await
        }
        ReloadHow::Systemd(unit) => {
            let argv = systemctl(unit)?;
            exec(&argv, reload.timeout, credential, environment).await
        }
    }
}

fn systemctl(unit: &str) -> Result<Vec<String>, HostError> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'-' | b'_' | b'.' | b'@' | b'\\');
    // systemd.unit(5): at most 255 characters of this set; the first may not be taken for an option.
    if unit.is_empty() || unit.len() > 255 || !unit.bytes().all(inner) || unit.starts_with(['-', '.']) {
        return Err(HostError(format!("{unit:?} is no name of a systemd unit, for example nginx.service")));
    }
    let program = ["/usr/bin/systemctl", "/bin/systemctl"].into_iter().find(|p| Path::new(p).exists());
    let program = program.ok_or_else(|| {
        HostError(format!("there is no systemctl on this host to reload {unit}: use a program or a signal instead"))
    })?;
    Ok([program, "--no-ask-password", "reload-or-restart", "--", unit].map(str::to_owned).into())
}

async fn exec(
    argv: &[String],
    limit: Duration,
    credential: &CredentialId,
    environment: Environment,
) -> Result<(), HostError> {
    let (program, arguments) = argv.split_first().ok_or_else(|| HostError("the reload names no program".to_owned()))?;
    let checked = program.clone();
    crate::adapters::deploy::blocking(move || check_program(&checked)).await?;
    let start = || -> std::io::Result<(Running, pipe::Receiver)> {
        let (reader, writer) = std::io::pipe()?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", PATH);
        command.env("KEYWARD_CREDENTIAL", credential.as_str()).env("KEYWARD_ENVIRONMENT", environment.as_str());
        command.current_dir("/").process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let child = command.spawn()?;
        // Dropping the command closes our ends for writing; else the pipe would never end.
        drop(command);
        Ok((Running::new(child), pipe::Receiver::from_owned_fd(reader.into())?))
    };
    let (mut running, mut reader) = start().map_err(|e| {
        let why = if e.kind() == std::io::ErrorKind::NotFound {
            "the interpreter in its first line does not exist".to_owned()
        } else {
            e.to_string()
        };
        HostError(format!("cannot start {program}: {why}"))
    })?;
    let mut output = Tail::default();
    let ended = timeout(limit, async {
        tokio::select! {
            ended = running.child.wait() => ended,
            () = output.fill(&mut reader) => running.child.wait().await,
        }
    })
    .await;
    if ended.is_ok() {
        running.leave_the_rest();
        // Best effort: what a background process writes later is not waited for.
        timeout(DRAIN, output.fill(&mut reader)).await.unwrap_or_default();
    }
    match ended {
        Ok(Ok(status)) => {
            if status.success() {
                return Ok(());
            }
            Err(HostError(format!("{program} {}{}", ending(status), output.said())))
        }
        Ok(Err(e)) => Err(HostError(format!("cannot wait for {program}: {e}"))),
        Err(_) => {
            running.kill().await;
            Err(HostError(format!(
                "{program} was not done after {} s and was killed with everything it started{}",
                limit.as_secs_f32(),
                output.said()
            )))
        }
    }
}

/// Refuses what somebody else could have written: it would run with Keyward's rights.
fn check_program(program: &str) -> Result<(), HostError> {
    if !program.starts_with('/') {
        return Err(HostError(format!("{program:?} is not an absolute path: a reload program is written from / on")));
    }
    let stat = statat(CWD, program, AtFlags::empty()).map_err(|e| {
        HostError(format!("the reload program {program} cannot be run: {e}; make it or correct the path"))
    })?;
    let mode = Mode::from_raw_mode(stat.st_mode);
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile
        || !mode.intersects(Mode::XUSR | Mode::XGRP | Mode::XOTH)
    {
        return Err(HostError(format!("the reload program {program} is not executable: chmod +x")));
    }
    let foreign_group = stat.st_gid != 0 && stat.st_gid != rustix::process::getegid().as_raw();
    if !ours(stat.st_uid) || mode.contains(Mode::WOTH) || (mode.contains(Mode::WGRP) && foreign_group) {
        return Err(HostError(format!(
            "the reload program {program} can be written to by others (user {}, mode {:o}): it must belong to root or to \
             Keyward's user, chmod go-w",
            stat.st_uid,
            stat.st_mode & 0o7777
        )));
    }
    // Neither may the directories be, nor, behind a link, those of the file itself.
    let file =
        std::fs::canonicalize(program).map_err(|e| HostError(format!("cannot find out what {program} is: {e}")))?;
    let host = Root::new(None, Environment::Production);
    for path in [program, &*file.to_string_lossy()] {
        host.parent(path).map_err(|e| HostError(format!("the reload program {program} cannot be trusted: {e}")))?;
    }
    Ok(())
}

fn ending(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended strangely".to_owned(),
    }
}

/// A child that leads a process group. Dropped while it runs, the whole group is killed.
struct Running {
    group: Option<Pid>,
    child: Child,
}

impl Running {
    fn new(child: Child) -> Self {
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self { group, child }
    }

    /// The leader has ended: what it left in the background stays.
    fn leave_the_rest(&mut self) {
        self.group = None;
    }

    async fn kill(&mut self) {
        self.kill_group();
        match timeout(REAP, self.child.wait()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "a killed reload program could not be waited for"),
            Err(_) => tracing::warn!("a killed reload program hangs in the kernel"),
        }
    }

    fn kill_group(&mut self) {
        // The number cannot belong to anybody else: the leader was not waited for yet, else `group` would be gone.
        if let Some(Err(error)) = self.group.take().map(|g| kill_process_group(g, Signal::KILL)) {
            tracing::debug!(%error, "no process of the reload was left to kill");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill_group();
    }
}

/// The last part of an output of any length.
#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
    cut: bool,
}

impl Tail {
    /// Reads to the end; may be dropped and called again without loss.
    async fn fill(&mut self, reader: &mut pipe::Receiver) {
        let mut buffer = [0_u8; 4096];
        while let Ok(count @ 1..) = reader.read(&mut buffer).await {
            self.push(buffer.get(..count).unwrap_or_default());
        }
    }

    fn push(&mut self, more: &[u8]) {
        self.bytes.extend_from_slice(more);
        let excess = self.bytes.len().saturating_sub(OUTPUT_MAX);
        self.cut |= excess > 0;
        self.bytes.drain(..excess);
    }

    /// The last lines for an error, without anything that could steer a terminal.
    fn said(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect();
        if lines.is_empty() {
            return " and said nothing".to_owned();
        }
        let from = lines.len().saturating_sub(LINES_MAX);
        let last = lines.get(from..).unwrap_or_default().join(" | ").replace(|c: char| c.is_control(), "\u{fffd}");
        let start = last.char_indices().rev().nth(SAID_MAX - 1).map_or(0, |(at, _)| at);
        let dots = if self.cut || from > 0 || start > 0 { "… " } else { "" };
        format!(": {dots}{}", last.get(start..).unwrap_or_default())
    }
}

/// Sends a signal to the process that a pid file names.
fn send(signal: i32, pid_file: &str) -> Result<(), HostError> {
    let wanted =
        Signal::from_named_raw(signal).ok_or_else(|| HostError(format!("{signal} is no signal: SIGHUP is 1")))?;
    let bytes = read_bounded(Path::new(pid_file), PID_FILE_MAX)?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().next().unwrap_or_default().trim();
    // 1 is init, and 0 and below are whole groups of processes.
    let pid = line.parse::<i32>().ok().filter(|n| *n > 1).and_then(Pid::from_raw).ok_or_else(|| {
        HostError(format!("{pid_file} starts with {line:?} where the number of a process above 1 is expected"))
    })?;
    if pid == rustix::process::getpid() {
        return Err(HostError(format!("{pid_file} names Keyward itself: it must be the server's pid file")));
    }
    // A process that ended and was not waited for takes signals as if it lived.
    let status = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    let dead = status.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X']));
    let gone = || HostError(format!("{pid_file} names process {line}, which does not run: is the server up?"));
    if dead {
        return Err(gone());
    }
    kill_process(pid, wanted).map_err(|e| match e {
        rustix::io::Errno::SRCH => gone(),
        _ => HostError(format!("cannot send signal {signal} to process {line} of {pid_file}: {e}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_name_cannot_become_an_option_or_a_second_word() {
        for bad in ["", "-H", "--host=evil", "a b", "a;b", "a\nb", "../x", ".x", &"a".repeat(256)] {
            let said = systemctl(bad).unwrap_err().0;
            assert!(said.contains("no name of a systemd unit"), "{bad:?}: {said}");
        }
    }

    #[test]
    fn the_tail_keeps_the_end_and_says_that_something_is_missing() {
        let mut tail = Tail::default();
        (0..5_000).for_each(|n| tail.push(format!("line {n}\n").as_bytes()));
        assert!(tail.bytes.len() <= OUTPUT_MAX);
        let said = tail.said();
        assert!(said.starts_with(": … line 4988 | ") && said.ends_with("| line 4999"), "{said}");
    }

    #[test]
    fn what_would_steer_a_terminal_is_shown_and_not_passed_on() {
        let mut tail = Tail::default();
        tail.push(b"\x1b[2Jred\x07\xff\n\n");
        assert_eq!(tail.said(), ": \u{fffd}[2Jred\u{fffd}\u{fffd}");
    }
}
