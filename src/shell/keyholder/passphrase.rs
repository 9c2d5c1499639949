//! Where the passphrase comes from: a private file, a credential of systemd, or what a command prints.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use core::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zeroize::Zeroizing;

use crate::ports::Clock;

use super::files;

/// A passphrase has at most so many bytes.
const LONGEST: u64 = 1_024;
/// What opens the files of a thief's copy is this alone: 16 characters of base64 are 96 bits.
const SHORTEST: usize = 16;
/// `age` asks a plugin or a token, and a person may have to touch it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In a file.
    File(PathBuf),
    /// In a credential of systemd, by its name: below the directory that systemd names.
    Credential(String),
    /// What a program prints, which is started without a shell: `age --decrypt --identity FILE FILE`.
    Command(Vec<String>),
}

/// Reads it: the first line.
pub(super) fn read(source: &Source, clock: &Arc<dyn Clock>) -> Result<Zeroizing<Vec<u8>>, String> {
    let found = line(source, clock)?;
    if found.len() < SHORTEST {
        let text = format!("the passphrase has {} bytes, expected at least {SHORTEST}", found.len());
        return Err(format!("{text}: openssl rand -base64 32 makes a good one"));
    }
    Ok(found)
}

/// As [`read`], and it may be short: the PIN of a token.
pub(super) fn line(source: &Source, clock: &Arc<dyn Clock>) -> Result<Zeroizing<Vec<u8>>, String> {
    let text = match source {
        Source::File(path) => files::secret(path, LONGEST)?,
        Source::Credential(name) => files::secret(&credential(name)?, LONGEST)?,
        Source::Command(words) => run(words, clock)?,
    };
    let line = text.trim_end_matches(['\n', '\r']);
    if line.contains(['\n', '\r', '\0']) {
        return Err("the passphrase has more than one line".to_owned());
    }
    Ok(Zeroizing::new(line.as_bytes().to_vec()))
}

fn credential(name: &str) -> Result<PathBuf, String> {
    #[allow(
        clippy::disallowed_methods,
        reason = "systemd says by this variable alone where credentials are (systemd.exec(5))"
    )]
    let dir = std::env::var_os("CREDENTIALS_DIRECTORY");
    let dir = dir.ok_or("there is no $CREDENTIALS_DIRECTORY: start it by systemd with LoadCredentialEncrypted=")?;
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(format!("{name:?} is no name of a credential"));
    }
    Ok(Path::new(&dir).join(name))
}

/// Nothing of the environment but where programs are; no input; errors go where ours go.
fn run(words: &[String], clock: &Arc<dyn Clock>) -> Result<Zeroizing<String>, String> {
    let (program, arguments) = words.split_first().ok_or("the passphrase command is empty")?;
    let said = |why: String| format!("the passphrase command {program} {why}");
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| said(format!("cannot be started: {e}")))?;
    let read = child
        .stdout
        .take()
        .ok_or_else(|| said("has no output".to_owned()))
        .and_then(|out| output(out, clock).map_err(said));
    if read.is_err() {
        // It may have ended by itself.
        drop(child.kill());
    }
    let status = child.wait().map_err(|e| said(format!("cannot be waited for: {e}")))?;
    let text = read?;
    if status.success() { Ok(text) } else { Err(said(format!("failed: {status}"))) }
}

fn output(mut out: std::process::ChildStdout, clock: &Arc<dyn Clock>) -> Result<Zeroizing<String>, String> {
    let most = usize::try_from(LONGEST).unwrap_or(0);
    let (mut buffer, mut filled) = (Zeroizing::new(vec![0_u8; most.saturating_add(1)]), 0_usize);
    let until = clock.boottime().plus(PATIENCE);
    loop {
        let left = until.since(clock.boottime());
        let span = Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(0), tv_nsec: left.subsec_nanos().into() };
        let ready = poll(&mut [PollFd::new(&out, PollFlags::IN)], Some(&span));
        match ready {
            Ok(0) => return Err(format!("did not end within {} s", PATIENCE.as_secs())),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => return Err(format!("cannot be read: {e}")),
        }
        let room = buffer.get_mut(filled..).unwrap_or_default();
        if room.is_empty() {
            return Err(format!("prints more than {LONGEST} bytes"));
        }
        match out.read(room).map_err(|e| format!("cannot be read: {e}"))? {
            0 => break,
            count => filled = filled.saturating_add(count),
        }
    }
    let text = core::str::from_utf8(buffer.get(..filled).unwrap_or_default());
    let text = text.map_err(|_| "prints what is no text".to_owned())?;
    let mut whole = Zeroizing::new(String::with_capacity(most.saturating_add(1)));
    whole.push_str(text);
    Ok(whole)
}
