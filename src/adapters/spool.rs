//! The spool as a file ([`crate::ports::Spool`]): one line of JSON an entry, appended and flushed by a thread of its own.
//!
//! Whoever removes authority hands an entry over and goes on, though the disk may hang. The file is private, never
//! followed through a link, at most 16 MiB, and emptied when all of it is in the log. A line that cannot be read is given
//! back as it is.

use core::fmt;
use core::time::Duration;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::codec::draft;
use crate::domain::audit::Draft;
use crate::domain::id::{EntryId, Ulid};
use crate::domain::time::Timestamp;
use crate::ports::{Doing, HostError, More, Spool, Spooled};

/// Four times what the engine lets wait in memory; lines of a file that is longer are not read, and it says so.
const LONGEST: u64 = 16 * 1_024 * 1_024;
/// What may be handed over before the disk has taken it: all that the engine lets wait, and some words about it.
const QUEUE: usize = 8_192;
/// How long somebody waits for the disk.
const PATIENCE: Duration = Duration::from_secs(1);
/// A line that nobody understands is given back up to this many bytes.
const LONGEST_STRANGER: usize = 2_048;
/// So many such lines are given back, and then their number.
const MOST_STRANGERS: usize = 64;

/// Entries in a file.
pub struct FileSpool {
    queue: SyncSender<Job>,
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    /// Why the last word did not reach the disk.
    fault: Mutex<Option<String>>,
}

enum Job {
    Line(String),
    Clear,
    Load(oneshot::Sender<Result<Spooled, HostError>>),
    Settled(oneshot::Sender<()>),
}

impl fmt::Debug for FileSpool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSpool").field("path", &self.shared.path).finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MoreLine {
    more: u64,
    id: String,
    since: String,
    until: String,
}

impl FileSpool {
    /// Opens nothing yet: the file is made when the first entry has to wait.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn new(path: &Path) -> Result<Self, HostError> {
        let shared = Arc::new(Shared { path: path.to_owned(), fault: Mutex::default() });
        let (queue, jobs) = sync_channel(QUEUE);
        let known = shared.clone();
        let thread = thread::Builder::new().name("keyward-spool".into());
        thread
            .spawn(move || run(&jobs, &known))
            .map_err(|e| HostError(format!("cannot start the spool's thread: {e}")))?;
        Ok(Self { queue, shared })
    }

    fn hand_over(&self, job: Job) {
        match self.queue.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.shared.note(Err("its disk hangs, and too much waits for it".to_owned())),
            Err(TrySendError::Disconnected(_)) => self.shared.note(Err("its thread has ended".to_owned())),
        }
    }
}

impl Shared {
    fn note(&self, result: Result<(), String>) {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(()) => *fault = None,
            Err(why) => {
                if fault.is_none() {
                    tracing::warn!(path = %self.path.display(), why, "the spool's file was not written");
                }
                *fault = Some(format!("{}: {why}", self.path.display()));
            }
        }
    }

    fn fault(&self) -> Option<String> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Spool for FileSpool {
    fn load(&self) -> Doing<'_, Result<Spooled, HostError>> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            self.hand_over(Job::Load(answer));
            match tokio::time::timeout(PATIENCE, answered).await {
                Ok(Ok(loaded)) => loaded,
                Ok(Err(_)) | Err(_) => Err(HostError(format!("{}: its disk hangs", self.shared.path.display()))),
            }
        })
    }

    fn keep(&self, draft: &Draft) {
        match draft::write(draft) {
            Ok(line) => self.hand_over(Job::Line(line)),
            Err(error) => self.shared.note(Err(format!("{} cannot be kept: {error}", draft.action))),
        }
    }

    fn count(&self, more: More) {
        let line = MoreLine {
            more: more.count,
            id: more.id.to_string(),
            since: more.since.to_string(),
            until: more.until.to_string(),
        };
        match serde_json::to_string(&line) {
            Ok(line) => self.hand_over(Job::Line(line)),
            Err(error) => self.shared.note(Err(error.to_string())),
        }
    }

    fn clear(&self) {
        self.hand_over(Job::Clear);
    }

    fn settled(&self) -> Doing<'_, Result<(), HostError>> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            self.hand_over(Job::Settled(answer));
            let path = self.shared.path.display();
            match tokio::time::timeout(PATIENCE, answered).await {
                Ok(Ok(())) => self.shared.fault().map_or(Ok(()), |why| Err(HostError(why))),
                Ok(Err(_)) => Err(HostError(format!("{path}: its thread has ended"))),
                Err(_) => Err(HostError(format!("{path}: nothing reached the disk within {} s", PATIENCE.as_secs()))),
            }
        })
    }
}

fn run(jobs: &Receiver<Job>, shared: &Shared) {
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Line(line) => shared.note(append(&shared.path, &line)),
            Job::Clear => shared.note(clear(&shared.path)),
            // Whoever asked may have gone.
            Job::Load(answer) => drop(answer.send(load(&shared.path))),
            Job::Settled(answer) => drop(answer.send(())),
        }
    }
}

/// Opened for each line: what was unmounted, removed or full a moment ago may be well again.
fn append(path: &Path, line: &str) -> Result<(), String> {
    let mut file = open(path, true)?.ok_or("it could not be made")?;
    let end = file.seek(SeekFrom::End(0)).map_err(|e| e.to_string())?;
    let bytes = u64::try_from(line.len()).unwrap_or(u64::MAX);
    if end.saturating_add(bytes) >= LONGEST {
        return Err(format!("it has {end} bytes and is full"));
    }
    let written = file.write_all(format!("{line}\n").as_bytes());
    // Half a line would spoil the next one.
    written.map_err(|e| file.set_len(end).err().map_or_else(|| e.to_string(), |worse| format!("{e}, and {worse}")))?;
    // What cannot be flushed stays all the same: it may outlast this process, if not the machine.
    file.sync_data().map_err(|e| format!("cannot be flushed: {e}"))?;
    if end == 0 { flush_directory(path) } else { Ok(()) }
}

fn clear(path: &Path) -> Result<(), String> {
    let Some(file) = open(path, false)? else { return Ok(()) };
    file.set_len(0).and_then(|()| file.sync_data()).map_err(|e| e.to_string())
}

fn load(path: &Path) -> Result<Spooled, HostError> {
    let failed = |why: String| HostError(format!("{}: {why}", path.display()));
    let mut spooled = Spooled::default();
    let Some(file) = open(path, false).map_err(failed)? else { return Ok(spooled) };
    let mut bytes = Vec::new();
    let read = file.take(LONGEST.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| failed(e.to_string()))?;
    if u64::try_from(read).unwrap_or(u64::MAX) > LONGEST {
        return Err(failed(format!("it is longer than {LONGEST} bytes; look at it, and move it away")));
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut strangers = 0_usize;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        if let Ok(draft) = draft::read(line) {
            spooled.drafts.push(draft);
        } else if let Some(more) = more_of(line) {
            spooled.more = Some(more);
        } else {
            strangers = strangers.saturating_add(1);
            if strangers <= MOST_STRANGERS {
                spooled.unreadable.push(line.chars().take(LONGEST_STRANGER).collect());
            }
        }
    }
    if strangers > MOST_STRANGERS {
        let rest = strangers.saturating_sub(MOST_STRANGERS);
        spooled.unreadable.push(format!("and {rest} more lines that are not understood"));
    }
    Ok(spooled)
}

fn more_of(line: &str) -> Option<More> {
    let line: MoreLine = serde_json::from_str(line).ok()?;
    Some(More {
        id: EntryId(Ulid::parse(&line.id)?),
        count: line.more,
        since: Timestamp::parse(&line.since)?,
        until: Timestamp::parse(&line.until)?,
    })
}

/// The file, private and no link; `None` if it is not there and is not to be made.
fn open(path: &Path, make: bool) -> Result<Option<File>, String> {
    let flags = rustix::fs::OFlags::NOFOLLOW.union(rustix::fs::OFlags::NONBLOCK);
    let nofollow = i32::try_from(flags.bits()).unwrap_or(0);
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(make)
        .truncate(false)
        .mode(0o600)
        .custom_flags(nofollow)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(e) if !make && e.kind() == io::ErrorKind::NotFound && path.parent().is_some_and(Path::is_dir) => {
            return Ok(None);
        }
        Err(e) => return Err(format!("cannot be opened: {e}")),
    };
    match file.metadata() {
        Ok(seen) if seen.is_file() => Ok(Some(file)),
        Ok(_) => Err("is no plain file".to_owned()),
        Err(e) => Err(e.to_string()),
    }
}

fn flush_directory(path: &Path) -> Result<(), String> {
    let Some(parent) = path.parent() else { return Ok(()) };
    File::open(parent).and_then(|d| d.sync_all()).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::{Target, TargetKind};

    fn draft(n: u8) -> Draft {
        let at = Timestamp::from_unix(1_790_000_000);
        let id = EntryId(Ulid::new(at, [n; 10]));
        Draft::new(id, at, "gate.close", "KW2302", Target::new(TargetKind::Path, "approve"))
    }

    #[tokio::test]
    async fn what_was_kept_is_there_for_the_next_life_until_it_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let spool = FileSpool::new(&path).unwrap();
        assert_eq!(spool.load().await.unwrap(), Spooled::default());
        let more = |count| More { id: draft(9).id, count, since: draft(9).at, until: draft(9).at };
        spool.keep(&draft(1));
        spool.count(more(1));
        spool.keep(&draft(2));
        spool.count(more(2));
        spool.settled().await.unwrap();
        let expected = Spooled { drafts: vec![draft(1), draft(2)], more: Some(more(2)), unreadable: Vec::new() };
        assert_eq!(FileSpool::new(&path).unwrap().load().await.unwrap(), expected);
        spool.clear();
        assert_eq!(spool.load().await.unwrap(), Spooled::default());
    }

    #[tokio::test]
    async fn a_line_that_is_cut_off_or_strange_is_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let spool = FileSpool::new(&path).unwrap();
        spool.keep(&draft(1));
        spool.settled().await.unwrap();
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"id\":\"cut");
        std::fs::write(&path, text).unwrap();
        let loaded = spool.load().await.unwrap();
        assert_eq!((loaded.drafts.len(), loaded.unreadable), (1, vec!["{\"id\":\"cut".to_owned()]));
    }

    #[tokio::test]
    async fn a_link_a_full_file_and_a_missing_directory_are_said_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, dir.path().join("link")).unwrap();
        std::fs::File::create(dir.path().join("long")).unwrap().set_len(LONGEST + 1).unwrap();
        for name in ["link", "long", "missing/spool"] {
            let spool = FileSpool::new(&dir.path().join(name)).unwrap();
            assert!(spool.load().await.is_err(), "{name}");
            spool.keep(&draft(1));
            assert!(spool.settled().await.is_err(), "{name}");
        }
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    }
}
