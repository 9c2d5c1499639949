//! A lease as a file: replaced by a rename, so that a reader finds a whole one or none.
//!
//! It is not flushed: a lease is of this boot, so after a power cut no consumer believes what is left of it.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use crate::codec::accounts::number_in;
use crate::domain::inventory::LeaseFile;

/// Puts a lease in its place.
///
/// # Errors
/// A sentence. The one before it may still lie there, and ends in its own time.
pub fn place(file: &LeaseFile, text: &str) -> Result<(), String> {
    let path = Path::new(&file.path);
    let made = beside(path);
    let group = match &file.group {
        None => None,
        Some(name) => Some(gid(name).ok_or_else(|| {
            format!("the group {name:?} of {} is not in /etc/group; create it, or write its number", path.display())
        })?),
    };
    let written = (|| {
        // What a crash left behind; a link is removed, not followed.
        remove_if_there(&made)?;
        let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&made)?;
        new.write_all(text.as_bytes())?;
        new.write_all(b"\n")?;
        if group.is_some() {
            chown(&made, None, group)?;
        }
        new.set_permissions(Permissions::from_mode(file.mode))?;
        fs::rename(&made, path)
    })();
    written.map_err(|e: io::Error| {
        drop(fs::remove_file(&made));
        format!(
            "the lease file {} cannot be written: {e}; its directory must be writable for the guardian",
            path.display()
        )
    })
}

/// Takes it away: the path is closed.
///
/// # Errors
/// A sentence. What lies there ends in its own time.
pub fn remove(file: &LeaseFile) -> Result<(), String> {
    let path = Path::new(&file.path);
    let removed = remove_if_there(&beside(path)).and_then(|()| remove_if_there(path));
    removed.map_err(|e| format!("the lease file {} cannot be removed: {e}", path.display()))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

/// A group's number: written as such, or as a name in /etc/group (group(5)).
fn gid(group: &str) -> Option<u32> {
    if let Ok(number) = group.parse() {
        return Some(number);
    }
    number_in(&fs::read_to_string("/etc/group").ok()?, group)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::domain::id::AudienceId;

    fn file(path: &Path, mode: u32, group: Option<&str>) -> LeaseFile {
        let audience = AudienceId::parse("portal").unwrap();
        LeaseFile { path: path.display().to_string(), audience, mode, group: group.map(str::to_owned) }
    }

    #[test]
    fn a_lease_file_is_replaced_whole_with_its_mode_and_removed_with_what_a_crash_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("approve.lease");
        let file = file(&path, 0o640, Some("0"));
        for text in ["one", "two"] {
            place(&file, text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{text}\n"));
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        }
        fs::write(beside(&path), "half").unwrap();
        remove(&file).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        remove(&file).unwrap();
    }

    #[test]
    fn a_link_laid_in_the_way_is_never_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let (path, victim) = (dir.path().join("approve.lease"), dir.path().join("victim"));
        fs::write(&victim, "safe").unwrap();
        for link in [beside(&path), path.clone()] {
            std::os::unix::fs::symlink(&victim, link).unwrap();
        }
        place(&file(&path, 0o600, None), "lease").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "safe");
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
    }

    #[test]
    fn what_cannot_be_written_says_where_and_why() {
        let dir = tempfile::tempdir().unwrap();
        let missing = file(&dir.path().join("no/approve.lease"), 0o600, None);
        assert!(place(&missing, "x").unwrap_err().contains("no/approve.lease cannot be written"));
        let strange = file(&dir.path().join("approve.lease"), 0o600, Some("no-such-group"));
        assert!(place(&strange, "x").unwrap_err().contains("not in /etc/group"));
    }
}
