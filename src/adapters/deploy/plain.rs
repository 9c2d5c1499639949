//! Plain files at fixed paths, for servers that cannot follow links. Several files cannot change in one step.
//!
//! All new files are written and synced beside their targets first, so that a full disk or a wrong owner shows before
//! anything is touched. Then each is renamed over its target: files that hold a key first, the leaf last. The leaf is
//! the mark of completion: a watcher that wakes at the new certificate finds its key in place, and a crash in between
//! leaves the old certificate to be seen, so that nobody takes the set for installed. Installing again completes it.
//!
//! A target that is a link, a hard link, a pipe or a socket is replaced as a name; what it leads to is never written.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use rustix::fs::{AtFlags, FileType, renameat, statat};

use crate::adapters::deploy::files::{self, Access, TEMPORARY};
use crate::adapters::deploy::place::{Dir, Root, sync, trouble};
use crate::adapters::deploy::render::Rendering;
use crate::domain::id::{AttemptId, Ulid};
use crate::domain::inventory::Format;
use crate::ports::HostError;

/// Keys first, the leaf last; see above. A combined file is whole by itself and takes the place of both.
const ORDER: [Format; 6] =
    [Format::Key, Format::Chain, Format::Pkcs12, Format::Combined, Format::Fullchain, Format::Cert];

/// New files beside their targets; removed again when dropped before they are committed.
#[derive(Debug)]
pub(super) struct Staged(Vec<Beside>);

#[derive(Debug)]
struct Beside {
    dir: Dir,
    temporary: OsString,
    target: OsString,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// The target is right as it is.
    Right,
    /// The temporary file has to be renamed.
    Written,
}

/// Writes every file beside its target.
pub(super) fn stage(
    root: &Root,
    paths: &BTreeMap<Format, String>,
    access: &Access,
    material: &Rendering<'_>,
    slot: AttemptId,
) -> Result<Staged, HostError> {
    let mut staged = Staged(Vec::new());
    for (format, path) in ORDER.iter().filter_map(|f| Some((*f, paths.get(f)?))) {
        let (dir, target) = root.parent(path)?;
        refuse_a_directory(&dir, &target)?;
        let temporary = temporary(&target, &slot.to_string());
        let state = if files::holds(&dir, &target, format, access, |bytes| material.is_rendered(format, bytes)) {
            State::Right
        } else {
            files::write(&dir, &temporary, format, access, &material.render(format)?)?;
            State::Written
        };
        staged.0.push(Beside { dir, temporary, target, state });
    }
    Ok(staged)
}

impl Staged {
    /// Renames every file over its target, durably and in order.
    pub(super) fn commit(mut self) -> Result<(), HostError> {
        for file in &mut self.0 {
            if file.state == State::Written {
                renameat(&file.dir.fd, &file.temporary, &file.dir.fd, &file.target)
                    .map_err(|e| trouble("put in place", &file.dir.shown.join(&file.target), e))?;
                file.state = State::Right;
            }
            // Each before the next, so that no power cut can turn the order round; also when the file was right already:
            // the call that made it so may have died before this.
            sync(&file.dir.fd, &file.dir.shown)?;
        }
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        for file in self.0.iter().filter(|f| f.state == State::Written) {
            // Best effort: what stays behind is removed before the next try, and by prune.
            files::remove(&file.dir, &file.temporary).unwrap_or_default();
        }
    }
}

/// Removes what crashes left beside the targets: it holds keys.
pub(super) fn prune(root: &Root, paths: &BTreeMap<Format, String>) -> Result<(), HostError> {
    for path in paths.values() {
        let (dir, target) = root.parent(path)?;
        let ours = temporary(&target, "");
        for name in files::entries(&dir)? {
            let rest = name.to_str().zip(ours.to_str()).and_then(|(name, ours)| name.strip_prefix(ours));
            if rest.is_some_and(|rest| Ulid::parse(rest).is_some()) {
                files::remove(&dir, &name)?;
            }
        }
        sync(&dir.fd, &dir.shown)?;
    }
    Ok(())
}

/// `.NAME.keyward-SLOT`.
fn temporary(target: &OsStr, slot: &str) -> OsString {
    let mut name = OsString::from(".");
    name.push(target);
    name.push(format!(".{TEMPORARY}{slot}"));
    name
}

/// Seen before anything is renamed, so that the set is not left half changed.
fn refuse_a_directory(dir: &Dir, target: &OsStr) -> Result<(), HostError> {
    match statat(&dir.fd, target, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => Err(HostError(format!(
            "{} is a directory where a file is expected: remove it or correct the path",
            dir.shown.join(target).display()
        ))),
        _ => Ok(()),
    }
}
