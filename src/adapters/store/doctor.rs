//! What is left of a damaged database, and a new one made of it: the tables that are derived are made again from the log,
//! what cannot be read is named, and nothing is invented. The damaged file is never written to.
//!
//! | seen | then |
//! |---|---|
//! | every entry is there and the root is that of a checkpoint over all of them | everything else can be made anew |
//! | entries are lost | each is named, with the words of the index that are left; what depends on them is unknown |
//! | it cannot be opened as a database | nothing can be said: a backup is needed |

use std::fs;
use std::path::{Path, PathBuf};

use crate::domain::time::Timestamp;
use crate::ports::StoreError;

use super::connection::{self, Trouble};
use super::directory::{self, Lock};
use super::lockfile::LockFile;
use super::mend::NewDatabase;
use super::patient::Patient;
pub use super::patient::Thawed;
use super::{LogOptions, migrations, trust};

/// What to do besides looking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mend {
    /// Nothing.
    Look,
    /// Make a new database beside the damaged one, and put it in its place if the log is whole; the damaged one is kept
    /// under another name.
    Replace,
}

/// How things stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong.
    Sound,
    /// The log is whole: everything that is damaged can be made from it.
    Mendable,
    /// Some of the log is lost, or contradicts its checkpoint: a backup is needed.
    Incomplete,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Stable code.
    pub code: &'static str,
    /// What was seen.
    pub text: String,
}

/// An entry that is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostEntry {
    /// Its place.
    pub sequence: u64,
    /// What was seen there.
    pub why: String,
    /// What the index still says of it.
    pub words: Vec<String>,
}

/// What was found and done.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    /// How things stand.
    pub verdict: Verdict,
    /// Entries that the log had, as far as can be told.
    pub expected: u64,
    /// The first of them that must be here: those before it are frozen.
    pub begins: u64,
    /// Entries that are there.
    pub readable: u64,
    /// The others, the first thousand.
    pub lost: Vec<LostEntry>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What nobody can tell any more.
    pub unknown: Vec<String>,
    /// The new database, if one was made and not put in place.
    pub rebuilt: Option<PathBuf>,
    /// Where the damaged one lies now, if it was replaced.
    pub set_aside: Option<PathBuf>,
}

/// Looks at the database of a state directory that no guardian holds. `thawed` are its frozen entries, if it has some and
/// all their shards are there: without them the state before is unknown, and is never made anew.
///
/// # Errors
/// [`StoreError::InUse`]; [`StoreError::Damaged`] if it cannot be opened at all; [`StoreError::Unavailable`].
pub fn examine(dir: &Path, options: &LogOptions, mend: Mend, thawed: Option<Thawed>) -> Result<Diagnosis, StoreError> {
    let _lock = Lock::take(dir)?;
    let path = dir.join(directory::DATABASE);
    let hopeless = |why: String| {
        let text = format!("KW6310: {} cannot be opened as a database: {why}; restore a backup", path.display());
        StoreError::Damaged(text)
    };
    if !path.exists() {
        return Err(hopeless("it is not there".to_owned()));
    }
    let source = connection::open_reading(&path).map_err(|e| hopeless(e.to_string()))?;
    migrations::check_identity(&source).map_err(|e| hopeless(StoreError::from(e).to_string()))?;
    let size = fs::metadata(&path).map_err(|e| directory::unavailable("look at", &path, &e))?.len();
    let about = |error: Trouble| connection::about(&path, StoreError::from(error));
    let target = match mend {
        Mend::Look => None,
        Mend::Replace => Some(NewDatabase::begin(dir).map_err(about)?),
    };
    let mut patient = Patient::new(source, target, size, lock_note(dir, options), thawed);
    let mut diagnosis = patient.examine().map_err(about)?;
    if let Some(target) = patient.into_new() {
        let rebuilt = target.finish().map_err(about)?;
        match diagnosis.verdict {
            Verdict::Incomplete => diagnosis.rebuilt = Some(rebuilt),
            Verdict::Sound => fs::remove_file(&rebuilt).map_err(|e| directory::unavailable("remove", &rebuilt, &e))?,
            Verdict::Mendable => diagnosis.set_aside = Some(replace(dir, &rebuilt, options.now)?),
        }
    }
    Ok(diagnosis)
}

/// Puts the new database in place; the old one keeps all its files under another name.
fn replace(dir: &Path, rebuilt: &Path, now: Timestamp) -> Result<PathBuf, StoreError> {
    let old = dir.join(directory::DATABASE);
    let aside = dir.join(format!("{}.damaged-{}", directory::DATABASE, now.unix()));
    let beside = |path: &Path, end: &str| PathBuf::from(format!("{}{end}", path.display()));
    for end in ["-wal", "-shm", ""] {
        let (from, to) = (beside(&old, end), beside(&aside, end));
        if from.exists() {
            fs::rename(&from, &to).map_err(|e| directory::unavailable("set aside", &from, &e))?;
        }
    }
    fs::rename(rebuilt, &old).map_err(|e| directory::unavailable("put in place", rebuilt, &e))?;
    directory::flush_directory(dir)?;
    Ok(aside)
}

/// The note of the lock, if there is one that can be read.
fn lock_note(dir: &Path, options: &LogOptions) -> Option<String> {
    let path = options.lock.clone().unwrap_or_else(|| dir.join(trust::LOCK));
    LockFile::open(&path).ok()??.note().map(str::to_owned)
}
