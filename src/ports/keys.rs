//! The door to keys that are no certificate's: looks at them, and calls the hooks that rotate them.

use std::collections::BTreeMap;

use super::{Doing, HostError};
use crate::domain::id::{AttemptId, IssuerId, KeyId};
use crate::domain::key::Digest;
use crate::domain::tracked::{KeyLook, Print, TrackedKey};
use crate::domain::upkeep::Step;

/// Whether prints of secrets were made before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prints {
    /// None yet: the local key that they are made with may be made now.
    None,
    /// Some: without the key that made them nothing can be compared.
    Made,
}

/// Where keys are. No value ever crosses this door, and no error holds any of it. Every look has its own limits; many at once.
pub trait KeyProbe: Send + Sync {
    /// Looks at a key where it lies.
    fn look<'a>(&'a self, key: &'a TrackedKey, prints: Prints) -> Doing<'a, Result<KeyLook, HostError>>;
    /// Which key the live system uses; only for keys that say how to find out.
    fn live<'a>(&'a self, key: &'a TrackedKey, prints: Prints) -> Doing<'a, Result<Print, HostError>>;
    /// Has the hook do a step, once, within its timeout; one that takes longer is killed with all that it started. Gives the
    /// print of the new key, if the hook left it in its private file. May be repeated with the same rotation, also after a
    /// crash.
    fn step<'a>(
        &'a self,
        key: &'a TrackedKey,
        step: Step,
        rotation: AttemptId,
    ) -> Doing<'a, Result<Option<Print>, HostError>>;
    /// Wipes what a rotation left in its private directory; nothing there is fine.
    fn wipe<'a>(&'a self, key: &'a KeyId) -> Doing<'a, Result<(), HostError>>;
    /// SHA-256 of the SubjectPublicKeyInfo of each account key.
    fn accounts(&self) -> Doing<'_, BTreeMap<IssuerId, Digest>>;
}
