//! Commands to the engine from outside its loop, and their answers.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use crate::domain::audit::Draft;
use crate::domain::id::{CredentialId, EntryId, FreezeId, IssuerId, PathId};
use crate::domain::inventory::Estate;
use crate::domain::key::Digest;
use crate::engine::answer::Answer;
use crate::ports::StoreError;

/// Something that a person or the shell wants.
#[derive(Clone, Debug)]
pub enum Command {
    /// Renew now. The caller is named in the audit entry.
    Renew {
        /// Which.
        credential: CredentialId,
        /// Who asks.
        by: Arc<str>,
    },
    /// Look at a credential again now: its file changed.
    Look(CredentialId),
    /// Look at everything again now.
    Scan,
    /// Turn the loop once: shows that it is alive.
    Beat,
    /// A new configuration.
    Estate(Arc<Estate>),
    /// Give the account at an issuer a new key.
    Rollover {
        /// Which.
        issuer: IssuerId,
        /// Who asks.
        by: Arc<str>,
    },
    /// Delete texts that an entry commits to.
    Forget(Forget, SyncSender<Result<(), StoreError>>),
    /// Record what was done already.
    Record(Box<Draft>),
    /// End a hold before its time.
    Release {
        /// Over which path.
        path: PathId,
        /// Who asks.
        by: Arc<str>,
    },
    /// Record that the gate's socket is taken away for a while.
    Interrupt {
        /// For how long at most.
        span: Duration,
        /// Who asks.
        by: Arc<str>,
    },
    /// A person opens a path that only a person opens.
    Reopen {
        /// Which.
        path: PathId,
        /// Who.
        by: Arc<str>,
        /// Why, in their words.
        why: Arc<str>,
    },
    /// A person reports a key as compromised.
    Compromise {
        /// SHA-256 of its SubjectPublicKeyInfo.
        spki: Digest,
        /// Who.
        by: Arc<str>,
    },
    /// Record a freeze that is in force already.
    Freeze {
        /// Which.
        id: FreezeId,
        /// The entry about it.
        draft: Box<Draft>,
    },
    /// End a freeze before its time.
    Thaw {
        /// Which.
        id: FreezeId,
        /// Why.
        reason: Arc<str>,
        /// Who asks.
        by: Arc<str>,
    },
    /// A person vouches for the present time.
    AcceptClock {
        /// Who.
        by: Arc<str>,
    },
}

/// What is to be forgotten.
#[derive(Clone, Debug)]
pub struct Forget {
    /// The entry that commits to it.
    pub entry: EntryId,
    /// The commitments, each with its key in the entry (`actor` for who did it).
    pub texts: Vec<(String, Digest)>,
    /// Who asks.
    pub by: Arc<str>,
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {MOST_COMMANDS} commands are waiting; try again in a moment")]
pub struct Busy;

/// More commands than this are refused, not queued.
pub const MOST_COMMANDS: usize = 1_024;
/// So many looks wait one by one; of more than this one scan is made, which looks at everything. A burst of changed files
/// then leaves half of the places to people.
const MOST_LOOKS: usize = MOST_COMMANDS / 2;

impl Command {
    /// Whether `other` adds nothing to this one while it waits.
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Scan, Self::Look(_) | Self::Scan) | (Self::Beat, Self::Beat) => true,
            (Self::Look(waiting), Self::Look(new)) => waiting == new,
            _ => false,
        }
    }
}

/// A bounded queue that wakes the loop.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    queue: Mutex<VecDeque<(Command, Option<Answer>)>>,
    waker: AtomicWaker,
}

impl Inbox {
    pub(crate) fn put(&self, command: Command, answer: Option<Answer>) -> Result<(), Busy> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.iter().any(|(waiting, _)| waiting.covers(&command)) {
            // It adds no authority, and it is as good as done.
            answer.into_iter().for_each(|answer| answer.give(Ok(())));
            return Ok(());
        }
        let is_look = |command: &Command| matches!(command, Command::Look(_));
        let too_many = is_look(&command) && queue.iter().filter(|(waiting, _)| is_look(waiting)).count() >= MOST_LOOKS;
        if too_many {
            queue.retain(|(waiting, _)| !is_look(waiting));
        }
        let command = if too_many { Command::Scan } else { command };
        if queue.len() >= MOST_COMMANDS {
            return Err(Busy);
        }
        queue.push_back((command, answer));
        drop(queue);
        self.waker.wake();
        Ok(())
    }

    /// Nobody will carry out what waits.
    pub(crate) fn refuse_all(&self, error: &StoreError) {
        let waiting = core::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner));
        waiting.into_iter().filter_map(|(_, answer)| answer).for_each(|answer| answer.give(Err(error.clone())));
    }

    pub(crate) fn poll_take(&self, context: &Context<'_>) -> Poll<(Command, Option<Answer>)> {
        self.waker.register(context.waker());
        let taken = self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        taken.map_or(Poll::Pending, Poll::Ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(id: &str) -> Command {
        Command::Look(CredentialId::parse(id).unwrap())
    }

    fn waiting(inbox: &Inbox) -> Vec<String> {
        inbox.queue.lock().unwrap().iter().map(|(command, _)| format!("{command:?}")).collect()
    }

    #[test]
    fn a_burst_of_changes_of_one_file_waits_once() {
        let inbox = Inbox::default();
        for _ in 0..MOST_COMMANDS * 4 {
            inbox.put(look("a"), None).unwrap();
            inbox.put(Command::Beat, None).unwrap();
            inbox.put(look("b"), None).unwrap();
        }
        assert_eq!(waiting(&inbox).len(), 3);
        inbox.put(Command::Scan, None).unwrap();
        inbox.put(look("c"), None).unwrap();
        assert_eq!(waiting(&inbox).len(), 4, "a scan looks at everything");
    }

    #[test]
    fn a_burst_of_changes_of_many_files_becomes_a_scan_and_leaves_room_for_people() {
        let inbox = Inbox::default();
        inbox.put(Command::Beat, None).unwrap();
        (0..MOST_COMMANDS * 4).for_each(|n| inbox.put(look(&format!("c{n}")), None).unwrap());
        assert_eq!(waiting(&inbox), ["Beat", "Scan"]);
        let ask = || Command::Renew { credential: CredentialId::parse("a").unwrap(), by: Arc::from("uid:0") };
        (0..MOST_COMMANDS - 2).for_each(|_| inbox.put(ask(), None).unwrap());
        assert_eq!(inbox.put(ask(), None), Err(Busy), "what people ask for is bounded all the same");
    }
}
