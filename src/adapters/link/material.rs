//! What a link stands on, read from disk and key store: its own certificate and key, and what peers are judged by.
//!
//! The two fail apart. Without a readable certificate the one before goes on while it is valid: files are replaced one
//! after the other. Without every root and list there is no trust at all: what cannot be read says nothing good.

use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::Doors;
use super::tls::{Judge, certified};
use crate::codec::keys::KeyPair;
use crate::codec::peer::{Own, Trust};
use crate::codec::peer_crl::{self, Crl, lists_from};
use crate::codec::pem::{self, KeyForm};
use crate::codec::verify::Roots;
use crate::codec::x509::{Limits, certificates_from};
use crate::domain::id::AttemptId;
use crate::domain::key::Digest;
use crate::domain::link::{Identity, Link};
use crate::domain::time::Validity;
use crate::ports::{HostError, Relied};

/// Bytes of a key file: RSA 4096 in PEM is 3.3 KiB; a combined file has the chain beside it.
const LONGEST_KEY: usize = 1 << 20;

/// What peers are judged by.
#[derive(Clone, Debug)]
pub(super) struct Trusted {
    /// SHA-256 of everything that it was made of.
    pub(super) digest: Digest,
    pub(super) judge: Arc<Judge>,
    /// Of a private CA.
    pub(super) bundle: Option<Digest>,
    /// For the log.
    pub(super) roots: usize,
    pub(super) lists: usize,
}

/// What the link proves itself with.
#[derive(Clone)]
pub(super) struct Proof {
    /// Tells one reading from the next.
    digest: Digest,
    pub(super) key: Arc<CertifiedKey>,
    pub(super) fingerprint: Digest,
    pub(super) validity: Validity,
}

/// The same as before, or something new.
pub(super) enum Look<T> {
    Same,
    New(T),
}

type Looked<T> = Result<Look<T>, HostError>;

/// What the private CA of a link says, if it has one.
pub(super) async fn relied(link: &Link, doors: &Doors) -> Result<Option<Relied>, HostError> {
    let Some(ca) = &link.ca else { return Ok(None) };
    let relying = doors.relying.as_ref();
    let relying =
        relying.ok_or_else(|| HostError("the guardian has no private CAs: its state is not believed".to_owned()))?;
    let relied = relying.relied(ca).await?;
    if relied.roots.is_empty() {
        return Err(HostError(format!("the CA {ca} has no generation that is trusted: keyward ca init {ca}")));
    }
    if !relied.whole {
        return Err(HostError(format!("a revocation list of the CA {ca} is missing: keyward ca status")));
    }
    Ok(Some(relied))
}

/// Reads roots and lists. Blocks.
pub(super) fn trust(link: &Link, doors: &Doors, own: Option<&Relied>, before: Option<Digest>) -> Looked<Trusted> {
    let read = |paths: &[String], most| paths.iter().map(|p| file(p, most)).collect::<Result<Vec<_>, _>>();
    let roots = read(&link.roots, Limits::ROOTS.bytes)?;
    let lists = read(&link.crls, peer_crl::LONGEST_FILE)?;
    let peers: Vec<String> = link.peers.iter().map(ToString::to_string).collect();
    let digest = digest_of(link, &roots, &lists, &peers, own);
    if before == Some(digest) {
        return Ok(Look::Same);
    }
    let mut all = Roots::default();
    for (bytes, path) in roots.iter().zip(&link.roots) {
        let own =
            Roots::from_bundle(bytes).map_err(|e| HostError(format!("the roots in {path} cannot be used: it {e}")))?;
        all.extend(&own);
    }
    let mut crls = Vec::new();
    for (bytes, path) in lists.iter().zip(&link.crls) {
        crls.extend(lists_from(bytes).map_err(|e| HostError(format!("{path} cannot be used: it {e}")))?);
    }
    if let Some(own) = own {
        let unusable = |e| HostError(format!("what the private CA made cannot be used: it {e}"));
        own.roots.iter().try_for_each(|root| all.add(root)).map_err(unusable)?;
        for list in &own.lists {
            crls.push(Crl::read(list).map_err(unusable)?);
        }
    }
    let (roots, lists) = (all.len(), crls.len());
    let mut trust = Trust::new(all, crls, link.peers.clone(), link.side.peers_purpose());
    if let Some(own) = own {
        trust = trust.with_register(&own.revoked, &own.blocked);
    }
    let judge = Arc::new(Judge::new(trust, doors.clock.clone(), doors.provider.clone()));
    Ok(Look::New(Trusted { digest, judge, bundle: own.and_then(|own| own.bundle), roots, lists }))
}

/// Every part with its length, so that no two configurations give the same bytes.
fn digest_of(
    link: &Link,
    roots: &[Zeroizing<Vec<u8>>],
    lists: &[Zeroizing<Vec<u8>>],
    peers: &[String],
    own: Option<&Relied>,
) -> Digest {
    let side = link.side.as_str().as_bytes();
    let parts = roots.iter().map(|b| ("root", b.as_slice()));
    let parts = parts.chain(lists.iter().map(|b| ("list", b.as_slice())));
    let parts = parts.chain(own.iter().map(|own| ("ca", own.digest.0.as_slice())));
    let parts = parts.chain(peers.iter().map(|p| ("peer", p.as_bytes()))).chain([("side", side)]);
    let hashed: Vec<u8> =
        parts.flat_map(|(kind, b)| Digest::of_parts(&[kind.as_bytes(), &Digest::of(b).0]).0).collect();
    Digest::of(&hashed)
}

/// Reads the link's own certificate and key.
pub(super) async fn proof(link: Arc<Link>, doors: Arc<Doors>, before: Option<Digest>) -> Looked<Proof> {
    match &link.identity {
        Identity::Managed(id) => {
            let slot = (doors.installed)(id).ok_or_else(|| {
                HostError(format!("{id} has no installed certificate yet; see: keyward cert why {id}"))
            })?;
            let digest = Digest::of(slot.to_string().as_bytes());
            if before == Some(digest) {
                return Ok(Look::Same);
            }
            let (chain, key) = from_store(&doors, slot).await?;
            made(&link, digest, &chain, &key, (&format!("the chain of {id}"), "its key")).map(Look::New)
        }
        Identity::Files { certificate, key, .. } => {
            let (certificate, key) = (certificate.clone(), key.clone());
            let (shown, shown_key) = (certificate.clone(), key.clone());
            let read = move || Ok((file(&certificate, Limits::CHAIN.bytes)?, file(&key, LONGEST_KEY)?));
            let (chain, key) = blocking(&doors, read).await?;
            let digest = Digest::of_parts(&[&Digest::of(&chain).0, &Digest::of(&key).0]);
            if before == Some(digest) {
                return Ok(Look::Same);
            }
            made(&link, digest, &chain, &key, (&shown, &shown_key)).map(Look::New)
        }
    }
}

/// File work happens on threads that may block.
pub(super) async fn blocking<T: Send + 'static>(
    doors: &Doors,
    work: impl FnOnce() -> Result<T, HostError> + Send + 'static,
) -> Result<T, HostError> {
    let turn = doors.readers.clone().acquire_owned().await;
    let done = tokio::task::spawn_blocking(move || {
        let done = work();
        // Whoever waited for it may have given up, and the thread is still taken until here.
        drop(turn);
        done
    })
    .await;
    done.unwrap_or_else(|_| Err(HostError("reading files broke off".to_owned())))
}

type Pair = (Zeroizing<Vec<u8>>, Zeroizing<Vec<u8>>);

async fn from_store(doors: &Doors, slot: AttemptId) -> Result<Pair, HostError> {
    let (_, chain) = doors.keys.chain(slot).await?;
    let key = doors.keys.private_key(slot).await?;
    Ok((Zeroizing::new(chain.into_bytes()), Zeroizing::new(pem::private_key(&key.0).as_bytes().to_vec())))
}

fn made(
    link: &Link,
    digest: Digest,
    chain: &[u8],
    key: &[u8],
    (shown, shown_key): (&str, &str),
) -> Result<Proof, HostError> {
    let ders = certificates_from(chain, &Limits::CHAIN).map_err(|e| HostError(format!("{shown} {e}")))?;
    let own = Own::new(&ders, link.side.own_purpose()).map_err(|e| HostError(format!("{shown} {e}")))?;
    let found = pem::private_key_in(key).map_err(|e| HostError(format!("{shown_key} {e}")))?;
    let (form, der) = found.ok_or_else(|| HostError(format!("{shown_key} holds no private key in PEM")))?;
    let pair = KeyPair::read(form, &der).map_err(|e| HostError(format!("{shown_key}: {e}")))?;
    if pair.spki() != own.spki {
        return Err(HostError(format!("the key in {shown_key} does not belong to the certificate in {shown}")));
    }
    // Borrowed, so that no copy stays behind in freed memory.
    let key = match form {
        KeyForm::Pkcs8 => PrivateKeyDer::from(PrivatePkcs8KeyDer::from(der.as_slice())),
        KeyForm::Sec1 => PrivateKeyDer::from(PrivateSec1KeyDer::from(der.as_slice())),
        KeyForm::Pkcs1 => PrivateKeyDer::from(PrivatePkcs1KeyDer::from(der.as_slice())),
        // Refused above, where it was read.
        KeyForm::Encrypted => return Err(HostError(format!("{shown_key} is encrypted"))),
    };
    let key = certified(own.chain, &key)?;
    Ok(Proof { digest, key, fingerprint: own.fingerprint, validity: own.validity })
}

impl Proof {
    pub(super) fn digest(&self) -> Digest {
        self.digest
    }
}

/// A regular file, never waiting on a pipe or touching a device.
fn file(path: &str, most: usize) -> Result<Zeroizing<Vec<u8>>, HostError> {
    let failed = |why: String| HostError(format!("{path} {why}"));
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(CWD, path, flags, Mode::empty())
        .map_err(|e| failed(format!("cannot be opened: {}", std::io::Error::from(e))))?;
    let stat =
        rustix::fs::fstat(&fd).map_err(|e| failed(format!("cannot be looked at: {}", std::io::Error::from(e))))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(failed("is no regular file".to_owned()));
    }
    let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
    if size > most {
        return Err(failed(format!("is {size} bytes long, more than {most}")));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(size.saturating_add(64)));
    let limit = u64::try_from(most).unwrap_or(u64::MAX);
    let read = File::from(fd).take(limit).read_to_end(&mut bytes);
    read.map_err(|e| failed(format!("cannot be read: {e}")))?;
    Ok(bytes)
}
