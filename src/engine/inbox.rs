//! Commands to the engine from outside its loop, and their answers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use crate::domain::id::{CredentialId, IssuerId};
use crate::domain::inventory::Estate;
use crate::engine::answer::Answer;

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
    /// A person vouches for the present time.
    AcceptClock {
        /// Who.
        by: Arc<str>,
    },
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {MOST_COMMANDS} commands are waiting; try again in a moment")]
pub struct Busy;

/// More commands than this are refused, not queued.
pub const MOST_COMMANDS: usize = 1_024;

/// A bounded queue that wakes the loop.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    queue: Mutex<VecDeque<(Command, Option<Answer>)>>,
    waker: AtomicWaker,
}

impl Inbox {
    pub(crate) fn put(&self, command: Command, answer: Option<Answer>) -> Result<(), Busy> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() >= MOST_COMMANDS {
            return Err(Busy);
        }
        queue.push_back((command, answer));
        drop(queue);
        self.waker.wake();
        Ok(())
    }

    pub(crate) fn poll_take(&self, context: &Context<'_>) -> Poll<(Command, Option<Answer>)> {
        self.waker.register(context.waker());
        let taken = self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        taken.map_or(Poll::Pending, Poll::Ready)
    }
}
