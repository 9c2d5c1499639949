//! Finding a directory without being led astray: every step is taken by descriptor, and each is checked.
//!
//! A directory is trusted if it belongs to root or to Keyward's own user and nobody else may exchange its entries: not
//! writable by others or by a foreign group, unless it is sticky (as `/tmp` is). A link on the way is followed only in
//! production and only if root or Keyward's own user made it. The last part of a path is never followed at all: files
//! are written under a new name and renamed over whatever is there.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, fsync, mkdirat, open, openat, readlinkat};
use rustix::io::Errno;

use crate::domain::inventory::Environment;
use crate::ports::HostError;

/// More links than this on the way to one directory are a loop (Linux itself gives up after 40).
const LINKS: u32 = 32;

/// Where absolute paths of the configuration lead: to themselves, or to the same path below a sandbox.
#[derive(Clone, Debug)]
pub(super) struct Root {
    sandbox: Option<PathBuf>,
    environment: Environment,
}

/// What to do when a directory is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// Make the last directory of the path (in a sandbox: all of them).
    Make,
    /// Say so (in a sandbox: make all of them).
    Refuse,
}

/// A trusted directory, held by descriptor.
#[derive(Debug)]
pub(super) struct Dir {
    /// Open for reading and for sync.
    pub(super) fd: OwnedFd,
    /// Where it is, for messages.
    pub(super) shown: PathBuf,
}

impl Root {
    pub(super) fn new(sandbox: Option<PathBuf>, environment: Environment) -> Self {
        Self { sandbox, environment }
    }

    /// Opens a directory of the configuration.
    pub(super) fn dir(&self, path: &str, absent: Absent) -> Result<Dir, HostError> {
        let wanted = parts(path)?;
        let Some(sandbox) = &self.sandbox else {
            if self.environment == Environment::Staging {
                return Err(HostError(format!(
                    "staging has no sandbox, so {path} would be the real one: set a sandbox directory for staging"
                )));
            }
            return Walk::from_the_top(Links::Trusted, absent)?.run(wanted);
        };
        let base = parts(&sandbox.to_string_lossy())?;
        let base = Walk::from_the_top(Links::Trusted, Absent::Make)?.run(base)?;
        Walk { here: base.fd, shown: base.shown, links: Links::None, absent: Absent::Make, every_level: true }
            .run(wanted)
    }

    /// Opens the directory of a file of the configuration; gives it with the file's own name.
    pub(super) fn parent(&self, file: &str) -> Result<(Dir, OsString), HostError> {
        let mut parts = parts(file)?;
        let name = parts.pop_back().ok_or_else(|| HostError(format!("{file:?} names no file")))?;
        if file.ends_with('/') {
            return Err(HostError(format!("{file:?} names a directory; a file is expected")));
        }
        let mut dir = PathBuf::from("/");
        dir.extend(&parts);
        Ok((self.dir(&dir.to_string_lossy(), Absent::Refuse)?, name))
    }
}

/// The components of an absolute path that stays where it says.
fn parts(path: &str) -> Result<VecDeque<OsString>, HostError> {
    if !path.starts_with('/') || path.contains('\0') {
        return Err(HostError(format!("{path:?} is not an absolute path: write it from / on")));
    }
    Path::new(path)
        .components()
        .filter(|c| *c != Component::RootDir)
        .map(|c| match c {
            Component::Normal(name) => Ok(name.to_owned()),
            Component::ParentDir | Component::CurDir | Component::RootDir | Component::Prefix(_) => {
                Err(HostError(format!("{path:?} holds '..': write the path without it")))
            }
        })
        .collect()
}

/// Which links are followed on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Links {
    /// Those that root or our own user made.
    Trusted,
    /// None: nothing may lead out of a sandbox.
    None,
}

struct Walk {
    here: OwnedFd,
    shown: PathBuf,
    links: Links,
    absent: Absent,
    every_level: bool,
}

impl Walk {
    fn from_the_top(links: Links, absent: Absent) -> Result<Self, HostError> {
        let shown = PathBuf::from("/");
        let here = open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| trouble("open", &shown, e))?;
        Ok(Self { here, shown, links, absent, every_level: false })
    }

    fn run(mut self, mut todo: VecDeque<OsString>) -> Result<Dir, HostError> {
        self.check(&fstat(&self.here).map_err(|e| trouble("look at", &self.shown, e))?)?;
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            let next = self.open(&name, todo.is_empty())?;
            let shown = self.shown.join(&name);
            let stat = fstat(&next).map_err(|e| trouble("look at", &shown, e))?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            if kind == FileType::Symlink {
                links += 1;
                let target = self.follow(&next, &stat, &shown, links)?;
                if target.is_absolute() {
                    let top = Self::from_the_top(self.links, self.absent)?;
                    (self.here, self.shown) = (top.here, top.shown);
                }
                let steps = target.components().filter(|c| *c != Component::RootDir);
                steps.rev().for_each(|c| todo.push_front(c.as_os_str().to_owned()));
                continue;
            }
            if kind != FileType::Directory {
                return Err(HostError(format!("{} is no directory", shown.display())));
            }
            self.here = next;
            if name == ".." {
                self.shown.pop();
            } else {
                self.shown = shown;
            }
            self.check(&stat)?;
        }
        // The walk held the directory by name only; reading and sync need it open.
        let fd = openat(&self.here, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| trouble("open", &self.shown, e))?;
        Ok(Dir { fd, shown: self.shown })
    }

    fn open(&self, name: &OsStr, last: bool) -> Result<OwnedFd, HostError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let shown = self.shown.join(name);
        match openat(&self.here, name, flags, Mode::empty()) {
            Err(Errno::NOENT) if self.every_level || (self.absent == Absent::Make && last) => {}
            Err(Errno::NOENT) => {
                return Err(HostError(format!(
                    "{} does not exist: make it, owned by root or by Keyward's user",
                    shown.display()
                )));
            }
            other => return other.map_err(|e| trouble("open", &shown, e)),
        }
        match mkdirat(&self.here, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(trouble("make the directory", &shown, e)),
        }
        let parent = openat(&self.here, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        parent.and_then(fsync).map_err(|e| trouble("write to disk", &self.shown, e))?;
        openat(&self.here, name, flags, Mode::empty()).map_err(|e| trouble("open", &shown, e))
    }

    fn follow(&self, link: &OwnedFd, stat: &Stat, shown: &Path, links: u32) -> Result<PathBuf, HostError> {
        let shown = shown.display();
        if self.links == Links::None {
            return Err(HostError(format!("{shown} is a link: below a sandbox none is followed, remove it")));
        }
        if !ours(stat.st_uid) {
            return Err(HostError(format!(
                "{shown} is a link that user {} made: only links of root or of Keyward's user are followed",
                stat.st_uid
            )));
        }
        if links > LINKS {
            return Err(HostError(format!("{shown}: more than {LINKS} links on the way, which looks like a loop")));
        }
        let target =
            readlinkat(link, "", Vec::new()).map_err(|e| HostError(format!("cannot read the link {shown}: {e}")))?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    fn check(&self, stat: &Stat) -> Result<(), HostError> {
        distrust(stat).map_or(Ok(()), |why| {
            Err(HostError(format!(
                "the directory {} {why}: whoever that is could exchange what is in it; expected is a directory of root \
                 or of Keyward's user that nobody else may write to (chown, chmod go-w)",
                self.shown.display()
            )))
        })
    }
}

/// Why a directory cannot be trusted.
fn distrust(stat: &Stat) -> Option<String> {
    let mode = Mode::from_raw_mode(stat.st_mode);
    let sticky = mode.contains(Mode::SVTX);
    let own_group = stat.st_gid == 0 || stat.st_gid == rustix::process::getegid().as_raw();
    if !ours(stat.st_uid) {
        Some(format!("belongs to user {}", stat.st_uid))
    } else if mode.contains(Mode::WOTH) && !sticky {
        Some("is writable by every user".to_owned())
    } else if mode.contains(Mode::WGRP) && !sticky && !own_group {
        Some(format!("is writable by group {}", stat.st_gid))
    } else {
        None
    }
}

/// Whether root or our own user is meant.
pub(super) fn ours(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

/// An operating system's error as a sentence, with how to mend the usual ones.
pub(super) fn trouble(doing: &str, path: &Path, error: Errno) -> HostError {
    let mend = match error {
        Errno::NOSPC | Errno::DQUOT => ": free some space there; the files in use were left as they are",
        Errno::ROFS => ": the file system is mounted read-only",
        Errno::ACCESS | Errno::PERM => ": Keyward's user may not do that there",
        Errno::ISDIR | Errno::NOTEMPTY => ": a directory stands where a file is expected, remove it",
        _ => "",
    };
    HostError(format!("cannot {doing} {}: {error}{mend}", path.display()))
}

/// Makes what was done to a directory's entries durable.
pub(super) fn sync(dir: impl AsFd, shown: &Path) -> Result<(), HostError> {
    fsync(dir).map_err(|e| trouble("write to disk", shown, e))
}
