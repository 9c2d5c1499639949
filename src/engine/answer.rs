//! The answer to a command: whoever adds authority is told that it is recorded, or that nothing happens.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::{Either, select};
use futures_util::task::AtomicWaker;

use crate::engine::inbox::{Busy, Command};
use crate::engine::{Engine, Seal};
use crate::ports::StoreError;

/// What a command that adds authority hears when its entry cannot be acknowledged: nothing was done.
pub const AUDIT_UNAVAILABLE: &str = "KW6030";

/// A commit takes two seconds at most, and at most one stands before the command's own.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Too many wait.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// Its entry could not be written, so nothing was done.
    #[error("audit_unavailable: nothing was done, because it could not be recorded: {0}")]
    AuditUnavailable(StoreError),
    /// The guardian runs sealed.
    #[error("the guardian is sealed and starts nothing: {0}")]
    Sealed(Seal),
    /// No answer came; the command may still be carried out, and then there is an entry about it.
    #[error("there was no answer within {} s; if it was carried out after all, the audit log says so", PATIENCE.as_secs())]
    Silent,
}

impl Refusal {
    /// Stable code; `None` if there is none of its own.
    #[must_use]
    pub fn code(&self) -> Option<&'static str> {
        match self {
            Self::AuditUnavailable(_) => Some(AUDIT_UNAVAILABLE),
            Self::Sealed(seal) => Some(seal.code),
            Self::Busy(_) | Self::Silent => None,
        }
    }
}

impl Engine {
    /// Gives the loop a command and waits until what it is about is recorded.
    ///
    /// # Errors
    /// [`Refusal`] says why nothing was done.
    pub async fn ask(&self, command: Command) -> Result<(), Refusal> {
        if let Some(seal) = self.seal() {
            return Err(Refusal::Sealed(seal));
        }
        let (answer, answered) = pair();
        self.inbox.put(command, Some(answer))?;
        // The loop has ended, or ends now: whoever comes after that has its answer here.
        if let Some(why) = self.medium_lost() {
            return Err(Refusal::AuditUnavailable(StoreError::Lost(why)));
        }
        match select(answered, self.ports.clock.sleep(PATIENCE)).await {
            Either::Left((Some(answer), _)) => answer.map_err(Refusal::AuditUnavailable),
            Either::Left((None, _)) | Either::Right(_) => Err(Refusal::Silent),
        }
    }
}

type Verdict = Result<(), StoreError>;

#[derive(Debug, Default)]
struct Slot {
    verdict: Mutex<(Option<Verdict>, bool)>,
    waker: AtomicWaker,
}

/// The loop's side.
#[derive(Debug)]
pub(crate) struct Answer(Arc<Slot>);

/// The asker's side: `None` if the loop ended without a word.
#[derive(Debug)]
struct Answered(Arc<Slot>);

fn pair() -> (Answer, Answered) {
    let slot = Arc::new(Slot::default());
    (Answer(slot.clone()), Answered(slot))
}

impl Answer {
    pub(crate) fn give(self, verdict: Verdict) {
        self.0.verdict.lock().unwrap_or_else(PoisonError::into_inner).0 = Some(verdict);
        // The drop wakes.
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.0.verdict.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.0.waker.wake();
    }
}

impl Future for Answered {
    type Output = Option<Verdict>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.waker.register(cx.waker());
        let mut slot = self.0.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.1 { Poll::Ready(slot.0.take()) } else { Poll::Pending }
    }
}
