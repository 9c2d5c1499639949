//! The rotation of the log's key: an entry that names both keys, under a checkpoint that both have signed.

use core::time::Duration;
use std::path::Path;
use std::sync::Arc;

use crate::codec::note::SignerKey;
use crate::domain::audit::{Draft, Target, TargetKind};
use crate::domain::id::{EntryId, Ulid};
use crate::domain::json::Json;
use crate::domain::time::Timestamp;
use crate::domain::tree::Frontier;
use crate::ports::StoreError;

use super::connection::Trouble;
use super::directory::Lock;
use super::key::LogKeys;
use super::known::Known;
use super::lockfile::NotAdvanced;
use super::{LogOptions, checkpoint, connection, directory, key, log, private, sealer, trust};

/// The next key signs from here on, and the one before it until its time is over.
const ROTATED: &str = "KW6440";
/// The key before is destroyed.
const OVER: &str = "KW6441";

/// What a rotation is told.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// Who asked for it, named by the door they came through.
    pub by: Arc<str>,
    /// For how long both keys sign; zero ends the overlap at once.
    pub overlap: Duration,
}

/// What a rotation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The public key before.
    pub old: String,
    /// The public key that signs from now on.
    pub new: String,
    /// The first size of a tree that the new key has signed.
    pub from_size: u64,
    /// When the old key stops signing; it is destroyed at the first start after it.
    pub until: Timestamp,
}

/// Gives the log of a state directory that no daemon holds a new key.
///
/// # Errors
/// As [`super::SqliteStore::open`], and [`StoreError::Unavailable`] while an earlier rotation is not over.
pub fn rotate_key(dir: &Path, options: &LogOptions, rotation: &Rotation) -> Result<Rotated, StoreError> {
    let dir = directory::prepare(dir)?;
    // Held until the end, so that no daemon starts in between.
    let _held = Lock::take(&dir)?;
    let path = directory::database(&dir)?;
    let mut connection = connection::open_writing(&path)?;
    let mut sealer = trust::begin(&mut connection, &dir, options).map_err(|e| connection::about(&path, e))?;
    if let Some((old, until)) = &sealer.keys().old {
        let text = format!(
            "the key of an earlier rotation, {}, signs until {until}; start the guardian after that, or end it by hand: \
             keyward audit rotate-key --end-overlap",
            old.verifier()
        );
        return Err(StoreError::Unavailable(text));
    }
    let until = options.now.plus(rotation.overlap);
    let next = key::prepare(&dir, sealer.keys(), until, &*options.entropy)?;
    let mut tree = sealer.tree().clone();
    let keys = sealer.keys();
    let before = core::mem::replace(&mut keys.current, next);
    let rotated = Rotated {
        old: before.verifier().to_string(),
        new: keys.current.verifier().to_string(),
        from_size: tree.size().saturating_add(1),
        until,
    };
    // The checkpoint over the entry is signed by both, whatever the overlap is.
    let after = until.max(options.now.plus(Duration::from_secs(1)));
    keys.old = Some((before, after));
    let mut draft = draft("audit.rotate-key", ROTATED, options);
    draft.by(&private::person(&connection, &rotation.by, &*options.entropy)?);
    draft.facts = vec![
        ("from_size", Json::show(&rotated.from_size)),
        ("new_key", Json::str(rotated.new.clone())),
        ("old_key", Json::str(rotated.old.clone())),
        ("until", Json::show(&until)),
    ];
    let transaction = connection.transaction().map_err(Trouble::from)?;
    let kept = checkpoint::last_kept(&transaction).map_err(Trouble::from)?;
    log::append(&transaction, &draft, &[], &mut tree, &mut Known::default()).map_err(Trouble::from)?;
    let written = sealer::write_signed(&transaction, sealer.keys(), kept, &tree, options.now).map_err(Trouble::from)?;
    transaction.commit().map_err(Trouble::from)?;
    sealer.committed(tree, &written);
    sealer.acknowledge(&written).map_err(|e| match e {
        NotAdvanced::Refused(text) => StoreError::Unavailable(text),
        NotAdvanced::Lost(text) => StoreError::Lost(text),
    })?;
    key::settle(&dir, Some(written.note()))?;
    Ok(rotated)
}

/// Ends the overlap of a rotation by hand: the old key is destroyed at once. `false` if there is none.
///
/// # Errors
/// As [`super::SqliteStore::open`].
pub fn end_overlap(dir: &Path, options: &LogOptions) -> Result<bool, StoreError> {
    let dir = directory::prepare(dir)?;
    let _held = Lock::take(&dir)?;
    if !key::end_now(&dir)? {
        return Ok(false);
    }
    let path = directory::database(&dir)?;
    let mut connection = connection::open_writing(&path)?;
    trust::begin(&mut connection, &dir, options).map_err(|e| connection::about(&path, e))?;
    Ok(true)
}

/// The public keys with which the log of a state directory signs: the newest first.
///
/// # Errors
/// [`StoreError`] if there is none, or a file must not be believed.
pub fn public_keys(dir: &Path) -> Result<Vec<String>, StoreError> {
    key::public(dir)
}

/// The entry that ends the overlap: the old key counts for trees up to the present size.
pub(super) fn over(keys: &LogKeys, old: &SignerKey, tree: &Frontier, options: &LogOptions) -> Draft {
    let mut draft = draft("audit.destroy-key", OVER, options);
    draft.facts = vec![
        ("key", Json::str(keys.current.verifier().to_string())),
        ("old_key", Json::str(old.verifier().to_string())),
        ("old_to_size", Json::show(&tree.size())),
    ];
    draft
}

fn draft(action: &'static str, code: &'static str, options: &LogOptions) -> Draft {
    let mut random = [0; 10];
    options.entropy.fill(&mut random);
    let id = EntryId(Ulid::new(options.now, random));
    Draft::new(id, options.now, action, code, Target::new(TargetKind::Daemon, "keyward"))
}
