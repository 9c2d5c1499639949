//! The simulated guardian's lease key: a real one, made from the seed.

use core::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::domain::key::Digest;
use crate::ports::{Doing, HostError, KeyStanding, Signature, Signer, SigningKey};

/// In whose name the simulated guardian speaks: the origin of the simulated log.
const ISSUER: &str = "keyward/simulation";

/// Keys that are counted from a seed; they outlast a crash.
pub struct SimSigner {
    seed: u64,
    /// How many were used up, and whether the next one is announced.
    turn: Mutex<(u32, bool)>,
    /// The one in use, by its number: to make it takes longer than to sign.
    made: Mutex<Option<(u32, Arc<Made>)>>,
}

/// A key pair, its id and its public text (C2SP signed-note, type 1).
struct Made {
    pair: Ed25519KeyPair,
    id: u32,
    text: String,
}

impl fmt::Debug for SimSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimSigner")
    }
}

impl SimSigner {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, turn: Mutex::default(), made: Mutex::default() }
    }

    fn turn(&self) -> MutexGuard<'_, (u32, bool)> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, turn: u32) -> Result<Arc<Made>, HostError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, key)) = made.as_ref().filter(|(n, _)| *n == turn) {
            return Ok(key.clone());
        }
        let seed = Digest::of_parts(&[b"lease key", &self.seed.to_be_bytes(), &turn.to_be_bytes()]);
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed.0).map_err(|e| HostError(e.to_string()))?;
        let name = format!("{ISSUER}/lease");
        let hash = Digest::of_parts(&[name.as_bytes(), b"\n", &[1], pair.public_key().as_ref()]);
        let id = hash.0.iter().take(4).fold(0, |id: u32, byte| (id << 8) | u32::from(*byte));
        let public = STANDARD.encode([&[1], pair.public_key().as_ref()].concat());
        let key = Arc::new(Made { pair, id, text: format!("{name}+{id:08x}+{public}") });
        *made = Some((turn, key.clone()));
        Ok(key)
    }
}

impl Signer for SimSigner {
    fn issuer(&self) -> Arc<str> {
        Arc::from(ISSUER)
    }

    fn keys(&self) -> Vec<SigningKey> {
        let (turn, announced) = *self.turn();
        let next = turn.saturating_add(1);
        let all = [(turn, KeyStanding::InUse), (next, KeyStanding::Announced)];
        let shown = all.into_iter().take(if announced { 2 } else { 1 });
        shown.filter_map(|(n, standing)| Some(SigningKey { text: self.key(n).ok()?.text.clone(), standing })).collect()
    }

    fn sign(&self, bytes: &[u8]) -> Result<Signature, HostError> {
        let turn = self.turn().0;
        let key = self.key(turn)?;
        let signature = key.pair.sign(bytes);
        let bytes = signature.as_ref().try_into().map_err(|_| HostError("an odd signature".into()))?;
        Ok(Signature { key: key.id, bytes })
    }

    fn announce(&self) -> Doing<'_, Result<String, HostError>> {
        Box::pin(async move {
            let mut turn = self.turn();
            turn.1 = true;
            Ok(self.key(turn.0.saturating_add(1))?.text.clone())
        })
    }

    fn advance(&self) -> Doing<'_, Result<String, HostError>> {
        Box::pin(async move {
            let mut turn = self.turn();
            if !turn.1 {
                return Err(HostError("no next key is announced".into()));
            }
            *turn = (turn.0.saturating_add(1), false);
            Ok(self.key(turn.0)?.text.clone())
        })
    }
}
