//! Sets that swap in one rename: `DIR/<attempt>/` holds the files, `DIR/current` is a relative link to it.
//!
//! The order is what makes it safe: the files are written and synced in a directory of a temporary name; that is renamed
//! to its final name; the link is made under a temporary name and renamed over `current`; each rename is synced. A
//! reader that opens `current` once sees one set, old or new. A crash at any point leaves `current` where it was or
//! where it shall be, and the next call completes or redoes the rest.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Mode, OFlags, RenameFlags, fchmod, mkdirat, openat, readlinkat, renameat, renameat_with, symlinkat};
use rustix::io::Errno;

use crate::adapters::deploy::files::{self, Access, TEMPORARY};
use crate::adapters::deploy::place::{Absent, Dir, Root, sync, trouble};
use crate::adapters::deploy::render::Rendering;
use crate::domain::id::{AttemptId, Ulid};
use crate::domain::inventory::Format;
use crate::ports::HostError;

const CURRENT: &str = "current";

/// A complete set on disk that is not yet the current one.
#[derive(Debug)]
pub(super) struct Staged {
    home: Dir,
    version: OsString,
}

/// Writes the set beside the current one, or finds it there complete.
pub(super) fn stage(
    root: &Root,
    dir: &str,
    formats: &BTreeSet<Format>,
    access: &Access,
    material: &Rendering<'_>,
    slot: AttemptId,
) -> Result<Staged, HostError> {
    let home = root.dir(dir, Absent::Make)?;
    let version = OsString::from(slot.to_string());
    if !complete(&home, &version, formats, access, material) {
        let temporary = OsString::from(format!(".{TEMPORARY}{slot}"));
        let written = write(&home, &temporary, formats, access, material)
            .and_then(|()| settle(&home, &temporary, &version))
            .and_then(|()| sync(&home.fd, &home.shown));
        if let Err(error) = written {
            // Best effort: what stays behind is removed before the next try, and by prune.
            files::remove_set(&home, &temporary).unwrap_or_default();
            return Err(error);
        }
    }
    Ok(Staged { home, version })
}

impl Staged {
    /// Makes the set the current one.
    pub(super) fn commit(self) -> Result<(), HostError> {
        let Self { home, version } = self;
        let link = home.shown.join(CURRENT);
        if points_at(&home).as_deref() != Some(&version) {
            let temporary = OsString::from(format!(".{TEMPORARY}{CURRENT}"));
            files::remove(&home, &temporary)?;
            symlinkat(&version, &home.fd, &temporary).map_err(|e| trouble("make the link", &link, e))?;
            if let Err(e) = renameat(&home.fd, &temporary, &home.fd, CURRENT) {
                files::remove(&home, &temporary)?;
                return Err(trouble("put the link in place at", &link, e));
            }
        }
        // Also when it was right already: the call that made it so may have died before this.
        sync(&home.fd, &home.shown)
    }
}

/// Removes the directories of all attempts but `keep` and the current one, and what crashes left behind.
pub(super) fn prune(root: &Root, dir: &str, keep: &[AttemptId]) -> Result<(), HostError> {
    let home = root.dir(dir, Absent::Make)?;
    let current = points_at(&home);
    let keep: BTreeSet<OsString> = keep.iter().map(|slot| OsString::from(slot.to_string())).chain(current).collect();
    for name in files::entries(&home)? {
        let Some(text) = name.to_str() else { continue };
        if let Some(rest) = text.strip_prefix('.').and_then(|t| t.strip_prefix(TEMPORARY)) {
            if rest == CURRENT || Ulid::parse(rest).is_some() {
                files::remove_set(&home, &name)?;
            }
        } else if Ulid::parse(text).is_some() && !keep.contains(&name) && files::subdir(&home, &name).is_ok() {
            // Under a temporary name first: a crash then leaves no half-empty set that looks like a whole one.
            let temporary = OsString::from(format!(".{TEMPORARY}{text}"));
            files::remove_set(&home, &temporary)?;
            renameat(&home.fd, &name, &home.fd, &temporary)
                .map_err(|e| trouble("remove", &home.shown.join(&name), e))?;
            files::remove_set(&home, &temporary)?;
        }
    }
    // Each removal was synced by itself.
    Ok(())
}

/// What `current` points at, if it is a link.
fn points_at(home: &Dir) -> Option<OsString> {
    let target = readlinkat(&home.fd, CURRENT, Vec::new()).ok()?;
    Some(OsStr::from_bytes(target.to_bytes()).to_owned())
}

/// Whether the version's directory holds exactly these files with the right content, owner and mode.
fn complete(
    home: &Dir,
    version: &OsStr,
    formats: &BTreeSet<Format>,
    access: &Access,
    material: &Rendering<'_>,
) -> bool {
    let Ok(set) = files::subdir(home, version) else { return false };
    let Ok(found) = files::entries(&set) else { return false };
    let wanted: BTreeSet<&OsStr> = formats.iter().map(|f| OsStr::new(f.file_name())).collect();
    found.iter().map(OsString::as_os_str).collect::<BTreeSet<_>>() == wanted
        && formats
            .iter()
            .all(|f| files::holds(&set, OsStr::new(f.file_name()), *f, access, |bytes| material.is_rendered(*f, bytes)))
}

fn write(
    home: &Dir,
    temporary: &OsStr,
    formats: &BTreeSet<Format>,
    access: &Access,
    material: &Rendering<'_>,
) -> Result<(), HostError> {
    files::remove_set(home, temporary)?;
    let shown = home.shown.join(temporary);
    mkdirat(&home.fd, temporary, Mode::from_raw_mode(0o700)).map_err(|e| trouble("make the directory", &shown, e))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(&home.fd, temporary, flags, Mode::empty()).map_err(|e| trouble("open", &shown, e))?;
    let set = Dir { fd, shown };
    for format in formats {
        files::write(&set, OsStr::new(format.file_name()), *format, access, &material.render(*format)?)?;
    }
    // Servers under other users pass through; what they may read is up to each file's mode.
    fchmod(&set.fd, Mode::from_raw_mode(0o755)).map_err(|e| trouble("set the mode of", &set.shown, e))?;
    sync(&set.fd, &set.shown)
}

/// Gives the finished directory its final name. What stood there is torn or altered; if it is the current set it is
/// exchanged in one step, so that `current` never points at nothing.
fn settle(home: &Dir, temporary: &OsStr, version: &OsStr) -> Result<(), HostError> {
    let shown = home.shown.join(version);
    let fail = |e| trouble("put the directory in place at", &shown, e);
    match renameat_with(&home.fd, temporary, &home.fd, version, RenameFlags::NOREPLACE) {
        Ok(()) => return Ok(()),
        Err(Errno::EXIST | Errno::INVAL | Errno::NOSYS) => {}
        Err(e) => return Err(fail(e)),
    }
    match renameat_with(&home.fd, temporary, &home.fd, version, RenameFlags::EXCHANGE) {
        Ok(()) => return sync(&home.fd, &home.shown).and_then(|()| files::remove_set(home, temporary)),
        // Nothing to exchange with, or a file system without exchange: remove and rename.
        Err(Errno::NOENT | Errno::INVAL | Errno::NOSYS) => {}
        Err(e) => return Err(fail(e)),
    }
    files::remove_set(home, version)?;
    renameat(&home.fd, temporary, &home.fd, version).map_err(fail)
}
