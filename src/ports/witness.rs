//! The doors between our log, other logs, and those who witness them.

use super::{Doing, HostError, StoreError};
use crate::domain::key::Digest;
use crate::domain::witness::{Refusal, Witnessed, Word};

/// Keyward as a witness of other logs. What it cosigns is durable before it says so; many requests at once are fine, and
/// never roll back one another.
pub trait Cosigner: Send + Sync {
    /// Judges a request of C2SP tlog-witness `add-checkpoint` and gives the signature line, or says why not.
    fn add_checkpoint(&self, body: Vec<u8>) -> Doing<'_, Result<String, Refusal>>;
    /// Its public key in text form.
    fn key(&self) -> String;
    /// No request is longer than this in bytes.
    fn longest_request(&self) -> usize;
}

/// What the witnesses of our own log are shown.
pub trait OwnLog: Send + Sync {
    /// The newest checkpoint, a signed note; `None` while the log is empty.
    fn checkpoint(&self) -> Doing<'_, Result<Option<String>, StoreError>>;
    /// That the tree of `old` entries is the beginning of that of `new` entries (RFC 9162 section 2.1.4.1); `None` if the
    /// log does not have what it takes.
    fn consistency(&self, old: u64, new: u64) -> Doing<'_, Result<Option<Vec<Digest>>, StoreError>>;
    /// Keeps a checkpoint with its cosignatures: durable on return. Whoever calls has verified them.
    fn keep(&self, note: String) -> Doing<'_, Result<(), StoreError>>;
}

/// The witnesses of our own log.
pub trait Witnesses: Send + Sync {
    /// Shows every witness the newest checkpoint at once, each within a few seconds, and gives what each says. Asked
    /// before anything else happens: a witness may know better than we do what our log was.
    fn ask(&self) -> Doing<'_, Vec<(String, Word)>>;
    /// Returns once everything that was committed before the call is cosigned by the quorum, or says within some ten
    /// seconds why it is not. At once if an action of this tier needs no witness.
    fn settled(&self, tier: u8) -> Doing<'_, Result<(), HostError>>;
    /// What is known now; never waits.
    fn standing(&self) -> Witnessed;
}

/// Nobody witnesses our log: the configuration says nothing about witnesses.
#[derive(Clone, Copy, Debug)]
pub struct Unwitnessed;

impl Witnesses for Unwitnessed {
    fn ask(&self) -> Doing<'_, Vec<(String, Word)>> {
        Box::pin(core::future::ready(Vec::new()))
    }

    fn settled(&self, _: u8) -> Doing<'_, Result<(), HostError>> {
        Box::pin(core::future::ready(Ok(())))
    }

    fn standing(&self) -> Witnessed {
        Witnessed { quorum_none: true, ..Witnessed::default() }
    }
}
