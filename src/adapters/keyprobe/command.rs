//! Commands: probes that print something, and hooks that rotate. No shell; nothing in the environment but what the command
//! has to know, and never a key.
//!
//! | variable | holds |
//! |---|---|
//! | `KEYWARD_KEY_ID` | the key's id |
//! | `KEYWARD_KEY_STEP` | hooks: `create`, `set`, `test`, `finish` or `retire`; the last argument too |
//! | `KEYWARD_KEY_ROTATION` | hooks: the same for every try of every step of one rotation |
//! | `KEYWARD_KEY_PENDING` | hooks: the path of a file (0600) in which the new key is handed from step to step |

use core::fmt;
use core::time::Duration;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use zeroize::Zeroizing;

use super::LONGEST;
use crate::domain::id::AttemptId;
use crate::domain::tracked::{TrackedKey, Turnover};
use crate::domain::upkeep::Step;
use crate::ports::HostError;

/// Where commands look for others: the usual directories of a system, whoever started us.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// After the command ended, what left its group may still hold its output open; this long is read on.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);

/// A command that is about to run.
pub(super) struct Program {
    program: String,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    timeout: Duration,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program)
    }
}

impl Program {
    pub(super) fn new(argv: &[String], key: &TrackedKey) -> Self {
        Self {
            program: argv.first().cloned().unwrap_or_default(),
            arguments: argv.iter().skip(1).cloned().collect(),
            environment: vec![("PATH", PATH.to_owned()), ("KEYWARD_KEY_ID", key.id.to_string())],
            timeout: key.timeout,
        }
    }

    pub(super) fn hook(turnover: &Turnover, key: &TrackedKey, step: Step, rotation: AttemptId, file: &Path) -> Self {
        let mut hook = Self::new(&turnover.hook, key);
        hook.arguments.push(step.as_str().to_owned());
        hook.environment.push(("KEYWARD_KEY_STEP", step.as_str().to_owned()));
        hook.environment.push(("KEYWARD_KEY_ROTATION", rotation.to_string()));
        hook.environment.push(("KEYWARD_KEY_PENDING", file.display().to_string()));
        hook.timeout = turnover.timeout;
        hook
    }

    /// What it prints; an exit code other than 0 is an error.
    pub(super) async fn ask(&self) -> Result<Zeroizing<Vec<u8>>, HostError> {
        let value = self.run_to_its_end().await?;
        match value.len() > LONGEST {
            true => Err(HostError(format!("{self} printed more than {LONGEST} bytes"))),
            false => Ok(value),
        }
    }

    /// Has it do its work. What it prints is read, so that it never waits, and dropped: it may be the key.
    pub(super) async fn run(&self) -> Result<(), HostError> {
        self.run_to_its_end().await.map(drop)
    }

    async fn run_to_its_end(&self) -> Result<Zeroizing<Vec<u8>>, HostError> {
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .current_dir("/")
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (*name, value.as_str())))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        let child = child.map_err(|e| HostError(format!("{self} cannot be started: {e}")))?;
        let mut group = Group::of(child);
        let source = group.child.stdout.take();
        let reading = tokio::spawn(first_bytes(source));
        let ended = tokio::time::timeout(self.timeout, group.wait()).await;
        if ended.is_err() {
            group.kill();
        }
        let stop = reading.abort_handle();
        let value = match tokio::time::timeout(OUTPUT_GRACE, reading).await {
            Ok(Ok(value)) => value,
            Ok(Err(_)) | Err(_) => {
                stop.abort();
                Zeroizing::new(Vec::new())
            }
        };
        let said = value.len();
        match ended {
            Ok(Ok(status)) if status.success() => Ok(value),
            Ok(Ok(status)) => Err(HostError(format!(
                "{self} ended with {status}; expected 0 (what it printed, {said} bytes, is not kept: it may hold the key)"
            ))),
            Ok(Err(e)) => Err(HostError(format!("{self} cannot be waited for: {e}"))),
            Err(_) => Err(HostError(format!("{self} was killed after {} s", self.timeout.as_secs_f32()))),
        }
    }
}

/// The first bytes, at most one more than a value may have; the rest is read and dropped.
async fn first_bytes(source: Option<impl AsyncRead + Unpin>) -> Zeroizing<Vec<u8>> {
    let most = LONGEST.saturating_add(1);
    let mut kept = Zeroizing::new(Vec::with_capacity(most));
    let Some(mut source) = source else { return kept };
    let mut buffer = Zeroizing::new([0_u8; 4_096]);
    while let Ok(length @ 1..) = source.read(&mut *buffer).await {
        let room = most.saturating_sub(kept.len());
        kept.extend(buffer.iter().take(length.min(room)));
    }
    kept
}

/// A command with everything it started: killed together at its end, or when dropped before.
struct Group {
    child: Child,
    /// The group's id while its leader is not reaped: only so long it cannot be somebody else's.
    id: Option<Pid>,
}

impl Group {
    fn of(child: Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self { child, id }
    }

    /// Until its leader ends; whatever that left running ends with it.
    async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        if let Some(id) = self.id {
            // It is not reaped before the others are killed: until then the group's id is nobody else's.
            let ended = move || {
                let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
                rustix::io::retry_on_intr(|| waitid(WaitId::Pid(id), options))
            };
            tokio::task::spawn_blocking(ended).await.map_err(std::io::Error::other)??;
            self.kill();
        }
        self.child.wait().await
    }

    fn kill(&mut self) {
        if let Some(id) = self.id.take() {
            // An error means that nobody is left to kill.
            kill_process_group(id, Signal::KILL).unwrap_or_default();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}
