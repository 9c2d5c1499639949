//! Private keys in files: a directory for each attempt, with its key, its signing request and its accepted chain.
//!
//! Refuses to know who asks for a certificate and where it is installed.
//!
//! What a crash can leave: a slot without a key (nothing was handed out: a key is made), a key without a request (the
//! key is kept, the request made), temporary files (removed). A key that is there is never overwritten.

mod slot;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use self::slot::{CHAIN, CSR, KEY, Replace, Root, Slot};
use crate::codec::keys::{self, KeyPair};
use crate::codec::live_roots::LiveRoots;
use crate::codec::pem::{self, KeyForm};
use crate::codec::verify::{self, Roots};
use crate::codec::x509::{self, Limits};
use crate::domain::certificate::{Chain, Trust};
use crate::domain::id::{AttemptId, IssuerId};
use crate::domain::inventory::KeyReuse;
use crate::domain::key::{Digest, KeyAlgorithm};
use crate::domain::name::NameSet;
use crate::domain::time::Timestamp;
use crate::ports::{Accepted, Doing, Entropy, Expected, HostError, KeyStore, PrivateKey};

/// Bytes of a key file: RSA 4096 in PEM is 3.3 KiB.
const LONGEST_KEY: u64 = 16 << 10;
/// Bytes of a signing request: 100 names of 253 characters are 26 KiB.
const LONGEST_CSR: u64 = 64 << 10;
/// Bytes of a chain file, as for any chain.
const LONGEST_CHAIN: u64 = 1 << 20;

/// The key store. Cheap to clone.
#[derive(Clone)]
pub struct FileKeyStore {
    inner: Arc<Inner>,
}

struct Inner {
    root: Root,
    /// What each issuer's chains may end in.
    roots: BTreeMap<IssuerId, LiveRoots>,
    /// For issuers without roots of their own.
    default_roots: Arc<Roots>,
    /// All of them: for chains that were accepted before.
    all_roots: LiveRoots,
    entropy: Arc<dyn Entropy>,
}

impl fmt::Debug for FileKeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileKeyStore")
    }
}

impl FileKeyStore {
    /// Opens the directory, or makes it at 0700 (its parent must exist). It must belong to the user of this process.
    /// `all_roots` judge chains that were accepted before.
    ///
    /// # Errors
    /// If it is a link, belongs to somebody else, or cannot be made or opened.
    pub fn open(
        dir: &Path,
        roots: BTreeMap<IssuerId, LiveRoots>,
        default_roots: Arc<Roots>,
        all_roots: LiveRoots,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, HostError> {
        let root = Root::open(dir)?;
        Ok(Self { inner: Arc::new(Inner { root, roots, default_roots, all_roots, entropy }) })
    }

    /// File work and key generation happen on threads that may block.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, HostError> + Send + 'static,
    ) -> Doing<'static, Result<T, HostError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            tokio::task::spawn_blocking(move || work(&inner))
                .await
                .unwrap_or_else(|_| Err(HostError("the key store's worker was stopped".to_owned())))
        })
    }
}

impl KeyStore for FileKeyStore {
    fn prepare<'a>(
        &'a self,
        slot: AttemptId,
        algorithm: KeyAlgorithm,
        names: &'a NameSet,
        reuse: KeyReuse,
        previous: Option<AttemptId>,
    ) -> Doing<'a, Result<Vec<u8>, HostError>> {
        let names = names.clone();
        let previous = previous.filter(|_| reuse == KeyReuse::Keep);
        self.blocking(move |inner| inner.prepare(slot, algorithm, &names, previous))
    }

    fn accept<'a>(
        &'a self,
        slot: AttemptId,
        issuer: &'a IssuerId,
        pem: &'a str,
        expected: Expected<'a>,
        now: Timestamp,
    ) -> Doing<'a, Result<Accepted, HostError>> {
        if pem.len() > Limits::CHAIN.bytes {
            let text = format!("the downloaded chain is larger than {} bytes", Limits::CHAIN.bytes);
            return Box::pin(async move { Err(HostError(text)) });
        }
        let (issuer, pem) = (issuer.clone(), pem.to_owned());
        let (names, spiffe) = (expected.names.clone(), expected.spiffe.cloned());
        self.blocking(move |inner| {
            let expected = Expected { names: &names, spiffe: spiffe.as_ref() };
            inner.accept(slot, &issuer, &pem, expected, now)
        })
    }

    fn chain(&self, slot: AttemptId) -> Doing<'_, Result<(Arc<Chain>, String), HostError>> {
        self.blocking(move |inner| {
            let found = inner.slot(slot)?.read(CHAIN, LONGEST_CHAIN)?;
            let bytes = found.ok_or_else(|| HostError(format!("slot {slot} has no accepted chain")))?;
            let ders = x509::certificates_from(&bytes, &Limits::CHAIN);
            let chain = ders.and_then(|ders| verify::chain(&ders, &inner.all_roots.now()));
            let chain = chain.map_err(|error| HostError(format!("the chain in slot {slot} {error}")))?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            Ok((Arc::new(chain), text))
        })
    }

    fn private_key(&self, slot: AttemptId) -> Doing<'_, Result<PrivateKey, HostError>> {
        self.blocking(move |inner| {
            let key = read_key(&inner.slot(slot)?)?;
            key.map(PrivateKey).ok_or_else(|| HostError(format!("slot {slot} has no private key")))
        })
    }

    fn destroy(&self, slot: AttemptId) -> Doing<'_, Result<(), HostError>> {
        self.blocking(move |inner| inner.root.remove(slot))
    }

    fn slots(&self) -> Doing<'_, Result<Vec<AttemptId>, HostError>> {
        self.blocking(move |inner| inner.root.slots())
    }
}

impl Inner {
    fn slot(&self, id: AttemptId) -> Result<Slot, HostError> {
        self.root.slot(id)?.ok_or_else(|| HostError(format!("there is no slot {id} in the key store")))
    }

    fn random(&self) -> u64 {
        let mut bytes = [0_u8; 8];
        self.entropy.fill(&mut bytes);
        u64::from_be_bytes(bytes)
    }

    fn prepare(
        &self,
        id: AttemptId,
        algorithm: KeyAlgorithm,
        names: &NameSet,
        previous: Option<AttemptId>,
    ) -> Result<Vec<u8>, HostError> {
        // Looked up first: two slots are never locked at once by two threads in opposite order.
        let kept = previous.filter(|p| *p != id).map(|p| self.kept_key(p, algorithm)).transpose()?.flatten();
        let slot = self.root.make(id)?;
        slot.tidy()?;
        let existing = read_key(&slot)?;
        let pkcs8 = match (&existing, kept) {
            (Some(key), _) => key.clone(),
            (None, Some(key)) => key,
            (None, None) => keys::generate(algorithm).map_err(|e| HostError(e.0))?,
        };
        let pair = KeyPair::read(KeyForm::Pkcs8, &pkcs8)
            .map_err(|error| HostError(format!("the key of slot {id} cannot be used: {error}")))?;
        if existing.is_some()
            && let Some(csr) = existing_request(&slot, id, pair.spki(), names)?
        {
            // A crash may have left names that are visible but not yet durable.
            slot.flush()?;
            self.root.flush()?;
            return Ok(csr);
        }
        if existing.is_none() {
            slot.write(KEY, pem::private_key(&pkcs8).as_bytes(), Replace::Never, self.random())?;
        }
        let csr = pair.signing_request(names).map_err(|e| HostError(e.0))?;
        slot.write(CSR, &csr, Replace::Yes, self.random())?;
        slot.flush()?;
        self.root.flush()?;
        Ok(csr)
    }

    /// The previous key, if it is of the same algorithm.
    fn kept_key(&self, previous: AttemptId, algorithm: KeyAlgorithm) -> Result<Option<Zeroizing<Vec<u8>>>, HostError> {
        let gone = || {
            HostError(format!(
                "the key of attempt {previous} is to be kept, but the key store no longer has it: set key_reuse to \"fresh\", or restore the slot"
            ))
        };
        let slot = self.root.slot(previous)?.ok_or_else(gone)?;
        let key = read_key(&slot)?.ok_or_else(gone)?;
        let pair = KeyPair::read(KeyForm::Pkcs8, &key)
            .map_err(|error| HostError(format!("the key of attempt {previous} cannot be kept: {error}")))?;
        Ok((pair.algorithm() == Some(algorithm)).then_some(key))
    }

    /// The order of the checks is the order of what explains most: a wrong key explains wrong names, not the reverse.
    fn accept(
        &self,
        id: AttemptId,
        issuer: &IssuerId,
        pem: &str,
        Expected { names, spiffe }: Expected<'_>,
        now: Timestamp,
    ) -> Result<Accepted, HostError> {
        let refuse = |why: String| HostError(format!("the chain from {issuer} is refused: {why}"));
        let roots = self.roots.get(issuer).map_or_else(|| self.default_roots.clone(), LiveRoots::now);
        let ders =
            x509::certificates_from(pem.as_bytes(), &Limits::CHAIN).map_err(|e| refuse(format!("the download {e}")))?;
        let chain = verify::chain(&ders, &roots).map_err(|e| refuse(format!("the download {e}")))?;
        let slot = self.slot(id)?;
        let key = read_key(&slot)?.ok_or_else(|| HostError(format!("slot {id} has no private key")))?;
        let own = KeyPair::read(KeyForm::Pkcs8, &key)
            .map_err(|error| HostError(format!("the key of slot {id} cannot be used: {error}")))?
            .spki();
        if chain.leaf.spki != own {
            return Err(refuse(format!(
                "its first certificate is for another key (SPKI {}; expected {}, the key of the signing request)",
                chain.leaf.spki.short(),
                own.short()
            )));
        }
        let leaf = ders.first().map_or(&[][..], AsRef::as_ref);
        let others = x509::other_names(leaf).map_err(|e| refuse(e.0))?;
        let ids = x509::uris(leaf).map_err(|e| refuse(e.0))?;
        let wanted: Vec<&str> = spiffe.iter().map(|id| id.as_str()).collect();
        if chain.leaf.names != *names || ids != wanted || others.len() != ids.len() {
            let beside = if others.is_empty() { String::new() } else { format!(", and {}", others.join(", ")) };
            let id = spiffe.map_or_else(String::new, |id| format!(" and {id}"));
            return Err(refuse(format!("it is for {}{beside}; expected exactly {names}{id}", chain.leaf.names)));
        }
        if !x509::may_serve(leaf).map_err(|e| refuse(e.0))? {
            return Err(refuse("its extended key usage lacks serverAuth, so no client would take it".to_owned()));
        }
        if let Trust::Untrusted(why) = &chain.trust {
            return Err(refuse(format!("{why}; expected a chain to one of {} roots for {issuer}", roots.len())));
        }
        if let Some(element) = chain.out_of_time(now) {
            let v = element.validity;
            return Err(refuse(format!(
                "{:?} is valid from {} to {}, and now it is {now}",
                element.subject, v.not_before, v.not_after
            )));
        }
        let serve = verify::to_serve(&ders).map_err(|e| refuse(e.0))?;
        slot.write(CHAIN, pem::certificates(&serve).as_bytes(), Replace::Yes, self.random())?;
        slot.flush()?;
        Ok(Accepted { chain: Arc::new(chain) })
    }
}

/// The slot's private key as PKCS#8 DER.
fn read_key(slot: &Slot) -> Result<Option<Zeroizing<Vec<u8>>>, HostError> {
    let Some(text) = slot.read(KEY, LONGEST_KEY)? else { return Ok(None) };
    match pem::private_key_in(&text) {
        Ok(Some((KeyForm::Pkcs8, der))) => Ok(Some(der)),
        Ok(_) => Err(HostError(format!("{KEY} holds no PKCS#8 private key"))),
        Err(error) => Err(HostError(format!("{KEY} {error}"))),
    }
}

/// The request that is there, if it belongs to the key; one for other names is refused, because an order may already
/// stand on it.
fn existing_request(slot: &Slot, id: AttemptId, spki: Digest, names: &NameSet) -> Result<Option<Vec<u8>>, HostError> {
    let Some(csr) = slot.read(CSR, LONGEST_CSR)? else { return Ok(None) };
    match keys::request_facts(&csr) {
        Ok((key, own)) if key == spki && own == *names => Ok(Some(csr.to_vec())),
        Ok((key, own)) if key == spki => {
            Err(HostError(format!("slot {id} has a signing request for {own}; expected {names}")))
        }
        _ => Ok(None),
    }
}
