//! dns-01 by a command: `ARGV… present|cleanup`, without a shell and with nothing but the challenge in its environment.
//!
//! | variable | holds |
//! |---|---|
//! | `KEYWARD_CHALLENGE_KIND` | `dns-01` |
//! | `KEYWARD_CHALLENGE_NAME` | the name to prove |
//! | `KEYWARD_CHALLENGE_RECORD` | the record's full name after delegation, without a final dot |
//! | `KEYWARD_CHALLENGE_VALUE` | the TXT value to add to the set, or to take out of it |
//! | `KEYWARD_CHALLENGE_TOKEN` | the CA's token |
//!
//! Exit code 0 is success. Both actions may be repeated, and `cleanup` may come without a `present`.

use core::time::Duration;
use std::collections::VecDeque;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};

use super::dns::{Action, Placed};
use super::{excerpt, failed};
use crate::domain::execution::Fault;
use crate::ports::{ChallengeTask, SolverError};

/// Where commands are looked for by the hook: the usual directories of a system, whoever started us.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Output kept, the newest: about a hundred lines, of which the last are shown.
const MOST_OUTPUT: usize = 8 * 1_024;

/// Lines of output in an error.
const SHOWN_LINES: usize = 5;

/// After the command ended, what it left running may still hold its output open; this long is read on.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);

/// The longest time limit: as long as a record may take to show.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(600);

/// A command.
#[derive(Clone, Debug)]
pub struct Exec {
    /// The program by its absolute path, and its first arguments.
    pub argv: Vec<String>,
    /// When its whole process group is killed, at most ten minutes.
    pub timeout: Duration,
}

/// A checked command.
pub(super) struct Hook {
    program: String,
    arguments: Vec<String>,
    timeout: Duration,
}

impl Hook {
    pub(super) fn start(exec: Exec) -> Result<Self, String> {
        let mut argv = exec.argv.into_iter();
        let Some(program) = argv.next().filter(|p| Path::new(p).is_absolute()) else {
            return Err("the command is not an absolute path; write it as [\"/path/to/program\", …]".to_owned());
        };
        let arguments: Vec<String> = argv.collect();
        if arguments.iter().chain([&program]).any(|a| a.contains('\0')) {
            return Err("the command holds a NUL character".to_owned());
        }
        if exec.timeout.is_zero() || exec.timeout > LONGEST_TIMEOUT {
            let (seen, most) = (exec.timeout.as_secs(), LONGEST_TIMEOUT.as_secs());
            return Err(format!("the command's timeout is {seen} s; expected 1 to {most} s"));
        }
        Ok(Self { program, arguments, timeout: exec.timeout })
    }

    pub(super) async fn run(&self, action: Action, task: &ChallengeTask, placed: &Placed) -> Result<(), SolverError> {
        let record = placed.record.to_ascii();
        let no_pipe = |e: std::io::Error| failed(Fault::Host, format!("no pipe for {}: {e}", self.program));
        // One pipe for both, so that what was said last is last.
        let (reader, writer) = std::io::pipe().map_err(no_pipe)?;
        let other = writer.try_clone().map_err(no_pipe)?;
        let reader = Receiver::from_owned_fd(reader.into()).map_err(no_pipe)?;
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .arg(action.as_str())
            .current_dir("/")
            .env_clear()
            .env("PATH", PATH)
            .env("KEYWARD_CHALLENGE_KIND", task.kind.as_str())
            .env("KEYWARD_CHALLENGE_NAME", task.name.to_string())
            .env("KEYWARD_CHALLENGE_RECORD", record.trim_end_matches('.'))
            .env("KEYWARD_CHALLENGE_VALUE", &placed.value)
            .env("KEYWARD_CHALLENGE_TOKEN", &task.token)
            .stdin(Stdio::null())
            .stdout(other)
            .stderr(writer)
            .process_group(0)
            .spawn();
        let (program, action) = (&self.program, action.as_str());
        let child = child.map_err(|e| failed(Fault::Host, format!("{program} cannot be started: {e}")))?;
        let mut group = Group::of(child);
        let output = Arc::new(Mutex::new(VecDeque::with_capacity(MOST_OUTPUT)));
        let reading = tokio::spawn(keep_newest(reader, output.clone()));
        let ended = tokio::time::timeout(self.timeout, group.wait()).await;
        if ended.is_err() {
            group.kill();
        }
        // What it wrote last may still be in the pipe; and the pipe may be held open by what it left running.
        let stop = reading.abort_handle();
        drop(tokio::time::timeout(OUTPUT_GRACE, reading).await);
        stop.abort();
        let (what, output) = (format!("{program} {action}"), last_lines(&output));
        match ended {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => {
                Err(failed(Fault::Host, format!("{what} ended with {status}; expected 0; its last output: {output}")))
            }
            Ok(Err(e)) => Err(failed(Fault::Host, format!("{what} cannot be waited for: {e}"))),
            Err(_) => {
                let span = self.timeout.as_secs_f32();
                Err(failed(Fault::Host, format!("{what} was killed after {span} s; its last output: {output}")))
            }
        }
    }
}

/// A command with everything it started: killed together when dropped before its end.
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

    async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.id = None;
        status
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

/// Reads to the end and keeps the newest bytes, so that the command never blocks on a full pipe.
async fn keep_newest(mut source: impl AsyncRead + Unpin, output: Arc<Mutex<VecDeque<u8>>>) {
    let mut buffer = [0_u8; 1_024];
    while let Ok(length @ 1..) = source.read(&mut buffer).await {
        let mut kept = output.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(buffer.iter().take(length));
        let over = kept.len().saturating_sub(MOST_OUTPUT);
        kept.drain(..over);
    }
}

/// The last lines, quoted; what the command says of secrets is the command's own doing.
fn last_lines(output: &Mutex<VecDeque<u8>>) -> String {
    let kept = output.lock().unwrap_or_else(PoisonError::into_inner);
    let bytes: Vec<u8> = kept.iter().copied().collect();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(SHOWN_LINES);
    match lines.get(from..).unwrap_or_default() {
        [] => "none".to_owned(),
        last => last.iter().map(|l| excerpt(l, 200)).collect::<Vec<_>>().join(", "),
    }
}
