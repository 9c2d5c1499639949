//! A directory in which files appear whole or not at all.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};

use crate::codec::export::{Reached, Stopped, Why};

/// Owner and group may read what the log says; whoever serves it to the world decides that himself.
const DIRECTORY_MODE: u32 = 0o750;
const FILE_MODE: u32 = 0o640;

/// The directory.
#[derive(Debug)]
pub(super) struct Place {
    dir: PathBuf,
    /// What keeps a second export away.
    lock: Option<String>,
    held: Option<File>,
    temporary: String,
    /// Directories with names that are not on the disk yet.
    touched: BTreeSet<PathBuf>,
}

impl Place {
    /// A directory that is one export's own. It need not be there yet.
    ///
    /// # Errors
    /// [`Why::Place`] if another export writes there.
    pub(super) fn whole(dir: &Path) -> Result<Self, Stopped> {
        Self::open(dir, None, ".keyward-export.new".to_owned())
    }

    /// The directory of one file.
    ///
    /// # Errors
    /// As [`Self::whole`].
    pub(super) fn of_file(dir: &Path, name: &str) -> Result<Self, Stopped> {
        Self::open(dir, Some(format!("{name}.lock")), format!("{name}.new"))
    }

    fn open(dir: &Path, lock: Option<String>, temporary: String) -> Result<Self, Stopped> {
        let mut place = Self { dir: dir.to_owned(), lock, held: None, temporary, touched: BTreeSet::new() };
        if dir.exists() {
            place.hold()?;
        }
        Ok(place)
    }

    /// Makes the directory if it is missing, and keeps others away.
    ///
    /// # Errors
    /// [`Why::Host`] if it cannot be made; as [`Self::whole`].
    pub(super) fn claim(&mut self) -> Result<(), Stopped> {
        if self.held.is_some() {
            return Ok(());
        }
        DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(&self.dir)
            .map_err(|e| host("make", &self.dir, &e))?;
        let parent = self.dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        flush(parent)?;
        self.hold()
    }

    fn hold(&mut self) -> Result<(), Stopped> {
        let file = match &self.lock {
            None => File::open(&self.dir),
            Some(name) => {
                let mut options = OpenOptions::new();
                options.write(true).create(true).truncate(false).mode(FILE_MODE).custom_flags(no_link());
                options.open(self.dir.join(name))
            }
        };
        let file = file.map_err(|e| host("open", &self.dir, &e))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|e| match e {
            rustix::io::Errno::WOULDBLOCK => {
                let text = format!("another export writes to {} now; let it end", self.dir.display());
                Stopped::new(Why::Place, text)
            }
            other => host("lock", &self.dir, &other.into()),
        })?;
        self.held = Some(file);
        Ok(())
    }

    pub(super) fn shown(&self) -> std::path::Display<'_> {
        self.dir.display()
    }

    /// Whether anything lies there that is not ours.
    ///
    /// # Errors
    /// [`Why::Host`].
    pub(super) fn is_empty(&self) -> Result<bool, Stopped> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(true),
            Err(e) => return Err(host("list", &self.dir, &e)),
        };
        for entry in entries {
            let entry = entry.map_err(|e| host("list", &self.dir, &e))?;
            if entry.file_name() != *self.temporary {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A name that lies there and is none of these; `None` if there is none.
    ///
    /// # Errors
    /// [`Why::Host`].
    pub(super) fn foreign(&self, known: &[&str]) -> Result<Option<String>, Stopped> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(host("list", &self.dir, &e)),
        };
        for entry in entries {
            let name = entry.map_err(|e| host("list", &self.dir, &e))?.file_name();
            let name = name.to_string_lossy().into_owned();
            if name != self.temporary && !known.contains(&name.as_str()) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// A file, whole; `None` if there is none.
    ///
    /// # Errors
    /// [`Why::Place`] if it is longer than `cap`, [`Why::Host`].
    pub(super) fn read(&self, name: &str, cap: usize) -> Result<Option<Vec<u8>>, Stopped> {
        let path = self.dir.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            Err(e) => return Err(host("open", &path, &e)),
        };
        let mut bytes = Vec::new();
        let most = u64::try_from(cap).unwrap_or(u64::MAX).saturating_add(1);
        file.take(most).read_to_end(&mut bytes).map_err(|e| host("read", &path, &e))?;
        if bytes.len() > cap {
            let text = format!("{} is longer than the {cap} bytes that it may have", path.display());
            return Err(Stopped::new(Why::Place, text));
        }
        Ok(Some(bytes))
    }

    /// How far an export is, as it is kept in a file.
    ///
    /// # Errors
    /// [`Why::Place`] if that is something else, [`Why::Host`].
    pub(super) fn reached(&self, name: &str) -> Result<Option<Reached>, Stopped> {
        let Some(bytes) = self.read(name, crate::codec::export::LONGEST_REACHED)? else { return Ok(None) };
        Reached::parse(&bytes).map(Some).map_err(|e| {
            let path = self.dir.join(name);
            Stopped::new(Why::Place, format!("{} does not say how far an export is: {e}", path.display()))
        })
    }

    /// To read, if it is there.
    ///
    /// # Errors
    /// [`Why::Host`].
    pub(super) fn open_file(&self, name: &str) -> Result<Option<File>, Stopped> {
        let path = self.dir.join(name);
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(host("open", &path, &e)),
        }
    }

    /// Writes a file, unless it is there with these bytes already. Its name is on the disk after [`Self::settle`].
    ///
    /// # Errors
    /// [`Why::Host`].
    pub(super) fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), Stopped> {
        if self.read(name, bytes.len()).is_ok_and(|there| there.is_some_and(|there| there == bytes)) {
            // Its name may be younger than the last crash.
            self.touch(&self.dir.join(name));
            return Ok(());
        }
        let mut file = self.stream()?;
        file.write_all(bytes).map_err(|e| self.not_written(&e))?;
        self.place(name, &file)
    }

    /// A file without a name that lasts.
    ///
    /// # Errors
    /// [`Why::Host`].
    pub(super) fn stream(&self) -> Result<File, Stopped> {
        let path = self.dir.join(&self.temporary);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(FILE_MODE).custom_flags(no_link());
        options.open(&path).map_err(|e| host("make", &path, &e))
    }

    /// Gives a file of [`Self::stream`] its name, in place of what is there.
    ///
    /// # Errors
    /// [`Why::Host`].
    pub(super) fn place(&mut self, name: &str, file: &File) -> Result<(), Stopped> {
        file.sync_all().map_err(|e| self.not_written(&e))?;
        let path = self.dir.join(name);
        self.directory(&path)?;
        fs::rename(self.dir.join(&self.temporary), &path).map_err(|e| host("make", &path, &e))?;
        self.touch(&path);
        Ok(())
    }

    pub(super) fn not_written(&self, error: &io::Error) -> Stopped {
        host("write", &self.dir.join(&self.temporary), error)
    }

    /// The directory of a file; each new one is a name in the one above it.
    fn directory(&mut self, file: &Path) -> Result<(), Stopped> {
        let Some(parent) = file.parent().filter(|parent| *parent != self.dir) else { return Ok(()) };
        if parent.is_dir() {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(parent).map_err(|e| host("make", parent, &e))?;
        // Each new name is in the directory above it.
        let below = parent.ancestors().take_while(|above| *above != self.dir);
        self.touched.extend(below.filter_map(Path::parent).map(Path::to_owned));
        Ok(())
    }

    fn touch(&mut self, path: &Path) {
        self.touched.extend(path.parent().map(Path::to_owned));
    }

    /// Removes a directory with what is in it, if it is there.
    ///
    /// # Errors
    /// [`Why::Host`].
    pub(super) fn clear(&mut self, name: &str) -> Result<(), Stopped> {
        let path = self.dir.join(name);
        match fs::remove_dir_all(&path) {
            Ok(()) => {
                self.touched.remove(&path);
                self.touch(&path);
                Ok(())
            }
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(()),
            Err(e) => Err(host("remove", &path, &e)),
        }
    }

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// [`Why::Host`].
    pub(super) fn remove(&mut self, name: &str) -> Result<(), Stopped> {
        let path = self.dir.join(name);
        match fs::remove_file(&path) {
            Ok(()) => {
                self.touch(&path);
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            Err(e) => Err(host("remove", &path, &e)),
        }
    }

    /// Every name that was given is on the disk after this.
    ///
    /// # Errors
    /// [`Why::Host`].
    pub(super) fn settle(&mut self) -> Result<(), Stopped> {
        // Those within others first: a name counts once all above it do.
        core::mem::take(&mut self.touched).iter().rev().try_for_each(|dir| flush(dir))
    }
}

/// Nobody leads what is written elsewhere.
fn no_link() -> i32 {
    i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0)
}

fn flush(dir: &Path) -> Result<(), Stopped> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(|e| host("flush", dir, &e))
}

fn host(what: &str, path: &Path, error: &io::Error) -> Stopped {
    Stopped::new(Why::Host, format!("cannot {what} {}: {error}", path.display()))
}
