//! Single files in a directory that is held by descriptor: written under a temporary name, compared, removed.
//!
//! Refuses to know what is in them and where they go.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fchmod, fchown, fstat, open, openat, unlinkat};
use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::adapters::deploy::place::{Dir, sync, trouble};
use crate::codec::accounts::number_in;
use crate::domain::inventory::{Format, Install};
use crate::ports::HostError;

/// The start of every temporary name, after a dot that hides it from patterns like `*.pem`.
pub(super) const TEMPORARY: &str = "keyward-";

/// No set has files near this: a chain of ten RSA-4096 certificates takes 25 KiB.
const FILE_MAX: u64 = 1 << 20;
/// A system with 10,000 users has an `/etc/passwd` of about 700 KiB.
const PASSWD_MAX: u64 = 4 << 20;
/// Somebody may put a file back under a temporary name as often as we remove it; then we say so.
const TRIES: u32 = 8;
/// More entries than this in one directory of certificates are not read.
const ENTRIES_MAX: usize = 10_000;

/// Who may read the files of a set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    owner: Option<Uid>,
    group: Option<Gid>,
    key_mode: u32,
    cert_mode: u32,
}

impl Access {
    /// Looks the names up and refuses modes that would publish a key.
    pub(super) fn of(install: &Install) -> Result<Self, HostError> {
        let Install { owner, group, key_mode, cert_mode, .. } = install;
        if key_mode & 0o007 != 0 {
            return Err(HostError(format!(
                "key mode {key_mode:o} would give every user the private key: the last digit must be 0"
            )));
        }
        if (key_mode | cert_mode) & !0o777 != 0 {
            return Err(HostError(format!(
                "modes {key_mode:o} and {cert_mode:o} may hold permissions only: at most 777"
            )));
        }
        Ok(Self {
            owner: owner.as_deref().map(|o| number(o, "/etc/passwd", "user")).transpose()?.map(Uid::from_raw),
            group: group.as_deref().map(|g| number(g, "/etc/group", "group")).transpose()?.map(Gid::from_raw),
            key_mode: *key_mode,
            cert_mode: *cert_mode,
        })
    }

    fn mode(&self, format: Format) -> u32 {
        if format.holds_key() { self.key_mode } else { self.cert_mode }
    }
}

/// A user's or group's number, by name or written as a number.
fn number(who: &str, file: &str, kind: &str) -> Result<u32, HostError> {
    if let Ok(number) = who.parse::<u32>() {
        // The highest number means "leave it" to chown.
        return if number == u32::MAX { Err(HostError(format!("{kind} {who} cannot exist"))) } else { Ok(number) };
    }
    let text = read_bounded(Path::new(file), PASSWD_MAX)?;
    number_in(&String::from_utf8_lossy(&text), who).ok_or_else(|| {
        HostError(format!("there is no {kind} {who:?} in {file}: make it, correct the name, or write its number"))
    })
}

/// Reads a regular file of at most `max` bytes; never waits on a pipe or a device. Links are followed.
pub(super) fn read_bounded(path: &Path, max: u64) -> Result<Zeroizing<Vec<u8>>, HostError> {
    let fd = open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| trouble("open", path, e))?;
    let stat = fstat(&fd).map_err(|e| trouble("look at", path, e))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(HostError(format!("{} is no regular file", path.display())));
    }
    read_fd(fd, max)
        .map_err(|e| HostError(format!("cannot read {}: {e}", path.display())))?
        .ok_or_else(|| HostError(format!("{} is larger than {max} bytes", path.display())))
}

fn read_fd(fd: OwnedFd, max: u64) -> std::io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut file = File::from(fd);
    // With the room reserved at once, no half-read copy of a secret is left behind by a growing buffer.
    let expected = file.metadata()?.len().min(max).saturating_add(1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(expected).unwrap_or(0)));
    (&mut file).take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((u64::try_from(bytes.len()).unwrap_or(u64::MAX) <= max).then_some(bytes))
}

/// Writes a new file with its owner and mode, durably except for its name. Whatever has that name is removed first, so
/// it must be a temporary one. On failure nothing is left behind.
pub(super) fn write(dir: &Dir, name: &OsStr, format: Format, access: &Access, bytes: &[u8]) -> Result<(), HostError> {
    let shown = dir.shown.join(name);
    let fd = create(dir, name)?;
    let written = (|| {
        if access.owner.is_some() || access.group.is_some() {
            fchown(&fd, access.owner, access.group).map_err(|e| trouble("give away", &shown, e))?;
        }
        // Before the first byte: the mode is never wider than asked, and no umask can change it.
        fchmod(&fd, Mode::from_raw_mode(access.mode(format))).map_err(|e| trouble("set the mode of", &shown, e))?;
        let mut file = File::from(fd);
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|e| {
            let errno = Errno::from_io_error(&e).unwrap_or(Errno::IO);
            trouble("write", &shown, errno)
        })
    })();
    if written.is_err() {
        remove(dir, name)?;
    }
    written
}

fn create(dir: &Dir, name: &OsStr) -> Result<OwnedFd, HostError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for _ in 0..TRIES {
        remove(dir, name)?;
        match openat(&dir.fd, name, flags, Mode::from_raw_mode(0o600)) {
            Err(Errno::EXIST) => {}
            other => return other.map_err(|e| trouble("write", &dir.shown.join(name), e)),
        }
    }
    Err(HostError(format!(
        "{} was put there again each time it was removed: somebody else writes to that directory",
        dir.shown.join(name).display()
    )))
}

/// Removes one entry, never what a link points at; a missing one is no error.
pub(super) fn remove(dir: &Dir, name: &OsStr) -> Result<(), HostError> {
    match unlinkat(&dir.fd, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(trouble("remove", &dir.shown.join(name), e)),
    }
}

/// Whether a file is there that is ours alone, has the owner and mode asked for, and whose content `is_right`.
pub(super) fn holds(
    dir: &Dir,
    name: &OsStr,
    format: Format,
    access: &Access,
    is_right: impl FnOnce(&[u8]) -> bool,
) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let Ok(fd) = openat(&dir.fd, name, flags, Mode::empty()) else { return false };
    let Ok(stat) = fstat(&fd) else { return false };
    let owner = access.owner.unwrap_or(rustix::process::geteuid()).as_raw();
    let right = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        && Mode::from_raw_mode(stat.st_mode) == Mode::from_raw_mode(access.mode(format))
        && stat.st_nlink == 1
        && stat.st_uid == owner
        && access.group.is_none_or(|g| g.as_raw() == stat.st_gid);
    right && read_fd(fd, FILE_MAX).ok().flatten().is_some_and(|bytes| is_right(&bytes))
}

/// The names in a directory, without `.` and `..`.
pub(super) fn entries(dir: &Dir) -> Result<Vec<OsString>, HostError> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(&dir.fd).map_err(|e| trouble("list", &dir.shown, e))? {
        let entry = entry.map_err(|e| trouble("list", &dir.shown, e))?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
        if names.len() > ENTRIES_MAX {
            return Err(HostError(format!(
                "{} has more than {ENTRIES_MAX} entries: give Keyward a directory of its own",
                dir.shown.display()
            )));
        }
    }
    names.sort();
    Ok(names)
}

/// Opens a directory in a directory, unless it is a link or somebody else's.
pub(super) fn subdir(dir: &Dir, name: &OsStr) -> Result<Dir, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(&dir.fd, name, flags, Mode::empty())?;
    if !crate::adapters::deploy::place::ours(fstat(&fd)?.st_uid) {
        return Err(Errno::PERM);
    }
    Ok(Dir { fd, shown: dir.shown.join(name) })
}

/// Removes a directory of plain files, or whatever else has that name, and never follows a link. A directory inside it
/// is not ours: it stays, and that is an error.
pub(super) fn remove_set(dir: &Dir, name: &OsStr) -> Result<(), HostError> {
    let set = match subdir(dir, name) {
        Ok(set) => set,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => return remove(dir, name),
        Err(e) => return Err(trouble("remove", &dir.shown.join(name), e)),
    };
    for entry in entries(&set)? {
        remove(&set, &entry)?;
    }
    match unlinkat(&dir.fd, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => sync(&dir.fd, &dir.shown),
        Err(e) => Err(trouble("remove", &set.shown, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name_only() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:34::/var/www:/sbin/nologin\nbroken\nx:y\n";
        assert_eq!(number_in(passwd, "www-data"), Some(33));
        for not in ["www", "", "broken", "x", "0"] {
            assert_eq!(number_in(passwd, not), None, "{not:?}");
        }
        assert_eq!(number("4711", "/nonexistent", "user"), Ok(4711));
        assert!(number("4294967295", "/etc/passwd", "user").is_err());
    }
}
