//! The lock of decision 0007: a small file, best on another volume, with the last checkpoint that was acknowledged.
//!
//! ```text
//! slot 0: 4 KiB ┐ written in turn, so that a torn one leaves the other; the newest that is whole counts
//! slot 1: 4 KiB ┘
//! ```
//!
//! Refuses to know what a checkpoint says.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::domain::key::Digest;
use crate::ports::StoreError;

use super::directory;

/// Bytes of a slot: a page, so that a disk writes it at once; a note of one signature has some 300.
const SLOT: usize = 4_096;
/// The first line of a slot.
const TITLE: &str = "keyward audit lock 1";

/// The open file, held against every other process.
#[derive(Debug)]
pub(super) struct LockFile {
    file: File,
    path: PathBuf,
    /// What both slots hold: what is there must be this, or somebody else has written.
    slots: [Vec<u8>; 2],
    newest: Option<Slot>,
}

/// The last note of a lock that somebody else may hold and advance meanwhile; `None` if there is no file. Nothing is held,
/// made or changed.
///
/// # Errors
/// [`StoreError::Damaged`] if neither slot is whole; [`StoreError::Unavailable`] if it may not be read.
pub(super) fn peek(path: &Path) -> Result<Option<String>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(directory::unavailable("open", path, &e)),
    };
    // A slot that is being written may be torn; the other is whole then, and of the commit before.
    let slots = read(&file).map_err(|e| directory::unavailable("read", path, &e))?;
    let newest = slots.iter().filter_map(|bytes| Slot::parse(bytes)).max_by_key(|slot| slot.turn);
    let damaged = || StoreError::Damaged(format!("the audit lock {} has no whole slot", path.display()));
    newest.map(|slot| slot.note).ok_or_else(damaged).map(Some)
}

/// What a slot says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Slot {
    turn: u64,
    note: String,
}

/// Why the lock was not advanced.
#[derive(Debug)]
pub(super) enum NotAdvanced {
    /// Somebody else wrote it, or it does not fit.
    Refused(String),
    /// The medium failed.
    Lost(String),
}

impl LockFile {
    /// Opens and holds it; `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process holds it; [`StoreError::Damaged`] if others may write it;
    /// [`StoreError::Unavailable`].
    pub(super) fn open(path: &Path) -> Result<Option<Self>, StoreError> {
        directory::check_parent(path)?;
        let Some(file) = directory::open_private(path)? else { return Ok(None) };
        hold(&file, path)?;
        let slots = read(&file).map_err(|e| directory::unavailable("read", path, &e))?;
        let newest = slots.iter().filter_map(|bytes| Slot::parse(bytes)).max_by_key(|slot| slot.turn);
        Ok(Some(Self { file, path: path.to_owned(), slots, newest }))
    }

    /// Makes it with a first note.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) fn create(path: &Path, note: &str) -> Result<Self, StoreError> {
        directory::check_parent(path)?;
        let first = Slot { turn: 0, note: note.to_owned() };
        let bytes = first.bytes().map_err(StoreError::Damaged)?;
        let slots = [bytes, vec![b'\n'; SLOT]];
        let file = directory::make_private(path, &slots.concat())?;
        hold(&file, path)?;
        Ok(Self { file, path: path.to_owned(), slots, newest: Some(first) })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The last note; `None` if neither slot is whole.
    pub(super) fn note(&self) -> Option<&str> {
        self.newest.as_ref().map(|slot| slot.note.as_str())
    }

    /// Writes the next note and flushes it.
    ///
    /// # Errors
    /// [`NotAdvanced`]; it must not be tried again.
    pub(super) fn advance(&mut self, note: &str) -> Result<(), NotAdvanced> {
        let shown = self.path.display();
        let seen = read(&self.file).map_err(|e| self.lost("read", &e))?;
        if seen != self.slots {
            return Err(NotAdvanced::Refused(format!(
                "the audit lock {shown} is not what this process wrote last: something else has written it"
            )));
        }
        let turn = self.newest.as_ref().map_or(0, |slot| slot.turn).saturating_add(1);
        let slot = Slot { turn, note: note.to_owned() };
        let bytes = slot.bytes().map_err(NotAdvanced::Refused)?;
        let (which, offset) = if turn.is_multiple_of(2) { (0, 0) } else { (1, SLOT) };
        let offset = u64::try_from(offset).unwrap_or(0);
        self.file.write_all_at(&bytes, offset).map_err(|e| self.lost("write", &e))?;
        self.file.sync_data().map_err(|e| self.lost("flush", &e))?;
        if let Some(kept) = self.slots.get_mut(which) {
            *kept = bytes;
        }
        self.newest = Some(slot);
        Ok(())
    }

    fn lost(&self, what: &str, error: &io::Error) -> NotAdvanced {
        NotAdvanced::Lost(format!("cannot {what} the audit lock {}: {error}", self.path.display()))
    }
}

impl Slot {
    /// ```text
    /// keyward audit lock 1
    /// turn 17
    /// sha256 <of everything below this line's empty line, and of the turn's line>
    ///
    /// <the note>
    /// ```
    /// and newlines up to its end.
    fn bytes(&self) -> Result<Vec<u8>, String> {
        let turn = format!("turn {}\n", self.turn);
        let sum = Digest::of_parts(&[turn.as_bytes(), self.note.as_bytes()]);
        let mut bytes = format!("{TITLE}\n{turn}sha256 {sum}\n\n{}", self.note).into_bytes();
        if bytes.len() > SLOT {
            return Err(format!("a checkpoint has {} bytes, too many for the audit lock", self.note.len()));
        }
        bytes.resize(SLOT, b'\n');
        Ok(bytes)
    }

    /// `None` if it is torn, empty or something else.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = core::str::from_utf8(bytes).ok()?.strip_prefix(TITLE)?.strip_prefix("\nturn ")?;
        let (turn, text) = text.split_once("\nsha256 ")?;
        let (_, note) = text.split_once("\n\n")?;
        // A note ends with one newline.
        let slot = Self { turn: turn.parse().ok()?, note: format!("{}\n", note.trim_end_matches('\n')) };
        (slot.bytes().ok()? == bytes).then_some(slot)
    }
}

fn hold(file: &File, path: &Path) -> Result<(), StoreError> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => {
            let text = format!("another process holds the audit lock {}; give each keyward its own", path.display());
            Err(StoreError::InUse(text))
        }
        Err(errno) => Err(directory::unavailable("lock", path, &errno.into())),
    }
}

/// Both slots; what is missing of a file that is too short counts as zeroes.
fn read(file: &File) -> io::Result<[Vec<u8>; 2]> {
    let mut slots = [vec![0; SLOT], vec![0; SLOT]];
    for (slot, offset) in slots.iter_mut().zip([0, SLOT]) {
        let mut done = 0_usize;
        while let Some(rest) = slot.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, u64::try_from(offset.saturating_add(done)).unwrap_or(0)) {
                Ok(0) => break,
                Ok(n) => done = done.saturating_add(n),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(slots)
}
