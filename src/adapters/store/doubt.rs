//! That a log was not believed: a mark beside the lock, which outlives whatever a person puts in the log's place. Only the
//! next log that is believed takes it away, with an entry of its own and a latch in its state.
//!
//! Refuses to know why a log is believed: that is [`super::trust`].

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::domain::time::Timestamp;
use crate::ports::StoreError;

use super::directory;

/// A mark is a code, a time and a sentence.
const LONGEST: u64 = 16 * 1_024;

/// What was not believed, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Doubt {
    /// The code of the rule.
    pub(super) code: String,
    /// When.
    pub(super) at: Timestamp,
    /// What was seen.
    pub(super) text: String,
}

/// Where the mark of the log with this lock lies: beside the lock, or in the state directory while the lock's volume is
/// not there.
fn places(dir: &Path, lock: &Path) -> [PathBuf; 2] {
    let mut beside = lock.as_os_str().to_owned();
    beside.push(".doubt");
    [beside.into(), dir.join(super::trust::LOCK).with_extension("lock.doubt")]
}

impl Doubt {
    /// The doubt that an error of a start or of a look raises; one that says nothing about the log raises none.
    pub(super) fn of(error: &StoreError, at: Timestamp) -> Option<Self> {
        match error {
            StoreError::Distrusted { code, text } => Some(Self { code: (*code).to_owned(), at, text: text.clone() }),
            StoreError::Damaged(text) => Some(Self { code: super::trust::DAMAGED.to_owned(), at, text: text.clone() }),
            StoreError::Unavailable(_) | StoreError::InUse(_) | StoreError::Lost(_) => None,
        }
    }

    /// Leaves the mark; one that is there already stays, for it is older.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(super) fn leave(&self, dir: &Path, lock: &Path) -> Result<(), StoreError> {
        let there = |path: &PathBuf| fs::symlink_metadata(path).is_ok();
        let [beside, inside] = places(dir, lock);
        if there(&beside) || there(&inside) {
            return Ok(());
        }
        let path = if directory::parent(&beside).is_dir() { beside } else { inside };
        let text: String = self.text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(2_000).collect();
        let made = directory::make_private(&path, format!("{}\n{}\n{text}\n", self.code, self.at).as_bytes());
        made.and_then(|_| directory::flush_directory(directory::parent(&path)))
    }

    /// What earlier starts left. A mark that cannot be understood is a doubt all the same.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if one cannot be read.
    pub(super) fn left(dir: &Path, lock: &Path) -> Result<Option<Self>, StoreError> {
        for path in places(dir, lock) {
            let mut text = Vec::new();
            match File::open(&path) {
                Ok(file) => {
                    file.take(LONGEST).read_to_end(&mut text).map_err(|e| directory::unavailable("read", &path, &e))?;
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(directory::unavailable("open", &path, &e)),
            }
            let text = String::from_utf8_lossy(&text).into_owned();
            let mut lines = text.lines();
            let code = lines.next().filter(|c| c.len() == 6 && c.starts_with("KW")).unwrap_or(super::trust::DAMAGED);
            let at = lines.next().and_then(Timestamp::parse).unwrap_or(Timestamp::MIN);
            let text = lines.next().unwrap_or("the mark cannot be read").to_owned();
            return Ok(Some(Self { code: code.to_owned(), at, text }));
        }
        Ok(None)
    }

    /// Takes the marks away, once the state says the same.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(super) fn settle(dir: &Path, lock: &Path) -> Result<(), StoreError> {
        for path in places(dir, lock) {
            match fs::remove_file(&path) {
                Ok(()) => directory::flush_directory(directory::parent(&path))?,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(directory::unavailable("remove", &path, &e)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_stays_until_it_is_settled_and_the_first_one_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (state, lock) = (dir.path().join("state"), dir.path().join("volume/keyward.lock"));
        fs::create_dir(&state).unwrap();
        let doubt = |code: &str| Doubt { code: code.into(), at: Timestamp::from_unix(7), text: format!("of\n{code}") };
        assert_eq!(Doubt::left(&state, &lock).unwrap(), None);
        // The lock's volume is not there: the mark lies in the state directory, and is found when it is.
        doubt("KW6004").leave(&state, &lock).unwrap();
        fs::create_dir(dir.path().join("volume")).unwrap();
        doubt("KW6001").leave(&state, &lock).unwrap();
        let left = Doubt::left(&state, &lock).unwrap().unwrap();
        assert_eq!(left, Doubt { text: "of KW6004".into(), ..doubt("KW6004") });
        Doubt::settle(&state, &lock).unwrap();
        assert_eq!(Doubt::left(&state, &lock).unwrap(), None);
        doubt("KW6001").leave(&state, &lock).unwrap();
        fs::remove_dir_all(&state).unwrap();
        fs::create_dir(&state).unwrap();
        assert_eq!(Doubt::left(&state, &lock).unwrap().unwrap().code, "KW6001", "it outlives the state directory");
    }

    #[test]
    fn a_mark_that_nobody_understands_is_a_doubt() {
        let dir = tempfile::tempdir().unwrap();
        let lock = dir.path().join("audit.lock");
        for garbage in [&b""[..], b"\xff\xfe", b"hello\nworld"] {
            fs::write(dir.path().join("audit.lock.doubt"), garbage).unwrap();
            assert_eq!(Doubt::left(dir.path(), &lock).unwrap().unwrap().code, "KW6040");
        }
    }
}
