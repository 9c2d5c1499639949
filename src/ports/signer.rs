//! The door to the key that statements to other programs are signed with.

use std::sync::Arc;

use super::{Doing, HostError};
use crate::domain::statement::SIGNATURE;

/// The guardian's key for leases, permits, checks and explanations: bytes in, signature out. The key never crosses.
///
/// Signing takes microseconds and no I/O; many at once are fine. The key is changed in two steps, so that those who pin it
/// can pin the next one before it is used: [`Signer::announce`], later [`Signer::advance`].
pub trait Signer: Send + Sync {
    /// In whose name statements are made: the origin of the guardian's audit log.
    fn issuer(&self) -> Arc<str>;
    /// The public keys: the one in use, and the one after it once that is announced.
    fn keys(&self) -> Vec<SigningKey>;
    /// Signs these bytes with the key in use (Ed25519, RFC 8032).
    ///
    /// # Errors
    /// If there is no key.
    fn sign(&self, bytes: &[u8]) -> Result<Signature, HostError>;
    /// Makes the next key, durably, and gives its public half; the same one again if it is there already.
    fn announce(&self) -> Doing<'_, Result<String, HostError>>;
    /// From now on the next key signs, and the one before it is destroyed; durable on return. Gives the public half of the
    /// key in use.
    fn advance(&self) -> Doing<'_, Result<String, HostError>>;
}

/// A signature and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The id of the key: the number in the middle of its text.
    pub key: u32,
    /// The signature.
    pub bytes: [u8; SIGNATURE],
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    /// `NAME+ID+KEY`, as consumers pin it.
    pub text: String,
    /// What it is for now.
    pub standing: KeyStanding,
}

/// What a key is for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyStanding {
    /// It signs.
    InUse,
    /// It will sign; consumers may pin it already.
    Announced,
}

impl KeyStanding {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InUse => "in use",
            Self::Announced => "announced",
        }
    }
}

/// A guardian without a key: it says nothing that anybody could rely on.
#[derive(Clone, Copy, Debug)]
pub struct Mute;

impl Mute {
    fn refuse<T: Send + 'static>() -> Result<T, HostError> {
        Err(HostError("the guardian has no lease key, because its state is not believed".into()))
    }
}

impl Signer for Mute {
    fn issuer(&self) -> Arc<str> {
        Arc::from("")
    }

    fn keys(&self) -> Vec<SigningKey> {
        Vec::new()
    }

    fn sign(&self, _bytes: &[u8]) -> Result<Signature, HostError> {
        Self::refuse()
    }

    fn announce(&self) -> Doing<'_, Result<String, HostError>> {
        Box::pin(core::future::ready(Self::refuse()))
    }

    fn advance(&self) -> Doing<'_, Result<String, HostError>> {
        Box::pin(core::future::ready(Self::refuse()))
    }
}
