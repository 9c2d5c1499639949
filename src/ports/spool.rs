//! The door to where entries wait that could not be written into the log.

use super::{Doing, HostError};
use crate::domain::audit::Draft;
use crate::domain::id::EntryId;
use crate::domain::time::Timestamp;

/// Entries about what removed authority that could not be written into the log when it happened: such acts wait for
/// nobody, so their entries wait here, and nothing reopens before they are in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spooled {
    /// In the order in which it happened.
    pub drafts: Vec<Draft>,
    /// Those that found no room any more.
    pub more: Option<More>,
    /// Lines that nobody understands: cut off by a power cut, or of a newer version.
    pub unreadable: Vec<String>,
}

/// How many entries found no room in the spool, and when they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct More {
    /// Of the entry that says so.
    pub id: EntryId,
    /// At least so many.
    pub count: u64,
    /// The first of them.
    pub since: Timestamp,
    /// The last of them, as far as is known.
    pub until: Timestamp,
}

/// Keeps spooled entries beyond the end of the process, as far as that can be had: an act that removes authority waits
/// neither for this nor for the log. Nothing here blocks but [`Spool::load`] and [`Spool::settled`], which are bounded.
pub trait Spool: Send + Sync {
    /// What an earlier life left.
    ///
    /// # Errors
    /// If it cannot be told whether anything is there: whoever asks must take it that there is.
    fn load(&self) -> Doing<'_, Result<Spooled, HostError>>;
    /// Keeps one more entry; its evidence is not kept.
    fn keep(&self, draft: &Draft);
    /// Keeps the count of those that found no room; a later count takes the place of an earlier one.
    fn count(&self, more: More);
    /// All of it is in the log now.
    fn clear(&self);
    /// Waits, for a second at most, until what was said above is on the disk; says why it is not.
    fn settled(&self) -> Doing<'_, Result<(), HostError>>;
}
