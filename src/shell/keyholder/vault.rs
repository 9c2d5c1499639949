//! The private keys: a file each, PKCS#8 under the passphrase, named by the digest of the public half; or in a token.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::codec::sealed::{self, Randomness};
use crate::codec::signing::SigningKey;
use crate::codec::{keys, tbs};
use crate::domain::key::{Digest, KeyAlgorithm};
use crate::ports::Entropy;

use super::chain::KEY_SUFFIX;
use super::files::Directory;
use super::token::Token;

/// The keys in memory, and how they are kept.
pub(super) struct Vault {
    passphrase: Zeroizing<Vec<u8>>,
    keys: BTreeMap<Digest, SigningKey>,
    /// If there is one, all keys are in it.
    token: Option<Token>,
}

impl core::fmt::Debug for Vault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Vault({} keys)", self.keys.len())
    }
}

impl Vault {
    pub(super) fn new(passphrase: Zeroizing<Vec<u8>>, token: Option<Token>) -> Self {
        Self { passphrase, keys: BTreeMap::new(), token }
    }

    /// Opens a key that the own log knows.
    pub(super) fn load(&mut self, dir: &Directory, key: Digest) -> Result<(), String> {
        if let Some(token) = &self.token {
            return token.has(&key).then_some(()).ok_or_else(|| "the token does not have it".to_owned());
        }
        let (name, longest) = (file(&key), u64::try_from(sealed::LARGEST).unwrap_or(u64::MAX));
        let shown = dir.join(&name);
        let text = dir.read(&name, longest)?.ok_or_else(|| format!("{} is missing", shown.display()))?;
        let pkcs8 = sealed::open(&text, &self.passphrase).map_err(|e| format!("{} {e}", shown.display()))?;
        let found = SigningKey::read(&pkcs8).map_err(|e| format!("{} {e}", shown.display()))?;
        if found.digest() != key {
            return Err(format!("{} holds the key {}: it was changed or renamed", shown.display(), found.digest()));
        }
        self.keys.insert(key, found);
        Ok(())
    }

    /// Whether keys of this kind can be made here.
    pub(super) fn may_generate(&self, algorithm: KeyAlgorithm) -> Result<(), String> {
        if let Some(token) = &self.token {
            return token.may_generate(algorithm);
        }
        let known = tbs::signature_algorithm(algorithm).is_some();
        known.then_some(()).ok_or_else(|| format!("a private CA has no {algorithm} key: choose p256, p384 or ed25519"))
    }

    /// Whether keys can be taken over.
    pub(super) fn may_import(&self) -> Result<(), String> {
        let why = || "the keys here are made in the token and never outside of it".to_owned();
        self.token.is_none().then_some(()).ok_or_else(why)
    }

    /// Makes a key; its file is durable on return. Gives its SubjectPublicKeyInfo.
    pub(super) fn generate(
        &mut self,
        dir: &Directory,
        algorithm: KeyAlgorithm,
        entropy: &dyn Entropy,
    ) -> Result<Vec<u8>, String> {
        self.may_generate(algorithm)?;
        if let Some(token) = &mut self.token {
            return token.generate(algorithm, entropy);
        }
        let pkcs8 = keys::generate(algorithm).map_err(|e| e.to_string())?;
        self.keep(dir, &pkcs8, entropy)
    }

    /// Takes a key over; as [`Self::generate`].
    pub(super) fn import(
        &mut self,
        dir: &Directory,
        pkcs8: &[u8],
        expected: Digest,
        entropy: &dyn Entropy,
    ) -> Result<Vec<u8>, String> {
        self.may_import()?;
        let found = SigningKey::read(pkcs8).map_err(|e| format!("what is to be imported {e}"))?.digest();
        if found != expected {
            return Err(format!("what is to be imported is the key {found}, and announced is {expected}"));
        }
        self.keep(dir, pkcs8, entropy)
    }

    fn keep(&mut self, dir: &Directory, pkcs8: &[u8], entropy: &dyn Entropy) -> Result<Vec<u8>, String> {
        let key = SigningKey::read(pkcs8).map_err(|e| e.to_string())?;
        let mut random = [0_u8; 32];
        entropy.fill(&mut random);
        let sealed = sealed::seal(pkcs8, &self.passphrase, Randomness(random)).map_err(|e| e.to_string())?;
        dir.make(&file(&key.digest()), sealed.as_bytes())?;
        let spki = key.spki().to_vec();
        self.keys.insert(key.digest(), key);
        Ok(spki)
    }

    /// Signs with a key that is there.
    pub(super) fn sign(&self, key: &Digest, bytes: &[u8]) -> Result<Vec<u8>, String> {
        if let Some(token) = &self.token {
            return token.sign(key, bytes);
        }
        let found = self.keys.get(key).ok_or("its file could not be opened at the start: see what was said then")?;
        found.sign(bytes).map_err(|e| e.to_string())
    }

    /// Destroys a key, in memory and on the disk.
    pub(super) fn destroy(&mut self, dir: &Directory, key: &Digest) -> Result<(), String> {
        if let Some(token) = &mut self.token {
            token.destroy(key)?;
        }
        self.keys.remove(key);
        dir.destroy(&file(key))
    }
}

fn file(key: &Digest) -> String {
    format!("{key}{KEY_SUFFIX}")
}
