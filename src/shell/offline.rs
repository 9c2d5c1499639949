//! A root that no network reaches: a directory on a medium that a person keeps, and what is signed with it by hand.
//!
//! ```text
//! root.pem     its certificate
//! root.key     its key under a passphrase (PKCS#8, `openssl pkcs8` reads it)
//! root.json    the number of its last list, what it certified, what it revoked
//! ```
//! No daemon has to run, and nothing here talks to one.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use core::time::Duration;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::files::create;
use crate::codec::ca::{self, Above, ToSign};
use crate::codec::offline::{Fresh, Request};
use crate::codec::sealed::{self, Randomness};
use crate::codec::signing::SigningKey;
use crate::codec::{ParseError, keys, pem};
use crate::domain::authority::{CaCertificate, RevocationList, RevocationReason, Revoked, SerialNumber};
use crate::domain::key::{Digest, from_hex};
use crate::domain::time::{MINUTE, Timestamp, Validity};
use crate::ports::Entropy;

/// The files.
const CERTIFICATE: &str = "root.pem";
const KEY: &str = "root.key";
const BOOK: &str = "root.json";
/// Bytes of a file that is read.
const LONGEST: u64 = 1 << 20;

/// Its own book.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Book {
    version: u32,
    /// The number of the last list that was signed.
    list: u64,
    certified: Vec<Certified>,
    revoked: Vec<Struck>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Certified {
    serial: String,
    common_name: String,
    not_after: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Struck {
    serial: String,
    at: String,
    reason: String,
}

/// What was signed.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// The root's certificate, the issuing CA's if one was asked for, and the root's list.
    pub(super) pem: String,
    /// What a person should compare.
    pub(super) root: Digest,
    /// Whether the root was made for it.
    pub(super) made: bool,
}

/// The directory, with what it needs to sign.
pub(super) struct Offline<'a> {
    pub(super) dir: &'a Path,
    pub(super) passphrase: Zeroizing<Vec<u8>>,
    pub(super) entropy: &'a dyn Entropy,
    pub(super) now: Timestamp,
    /// How long a list is good.
    pub(super) list_lifetime: Duration,
}

impl core::fmt::Debug for Offline<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Offline({})", self.dir.display())
    }
}

/// Whether there is a root in a directory already.
pub(super) fn holds_root(dir: &Path) -> bool {
    dir.join(CERTIFICATE).exists()
}

struct Root {
    key: SigningKey,
    der: Arc<[u8]>,
    validity: Validity,
    book: Book,
}

impl Offline<'_> {
    /// Signs what is asked for, after it was shown; and a new list. `revoke` goes into the list, and stays there.
    pub(super) fn sign(
        &self,
        request: Option<&Request>,
        revoke: Option<(&str, RevocationReason)>,
    ) -> Result<Answer, String> {
        let made = !holds_root(self.dir);
        let mut root = match (made, request) {
            (false, _) => self.open()?,
            (true, Some(request)) => self.make(request)?,
            (true, None) => return Err(format!("{} holds no root", self.dir.display())),
        };
        if !root.validity.contains(self.now) {
            return Err(format!("the root is valid from {} to {}", root.validity.not_before, root.validity.not_after));
        }
        let mut certificates = vec![root.der.clone()];
        if let Some(request) = request {
            let known = request.known_root().map_err(|e| e.0)?;
            if let Some(known) = known.filter(|known| *known != Digest::of(&root.der)) {
                return Err(format!("{known} is asked to sign, and {} is here", Digest::of(&root.der)));
            }
            certificates.push(self.certify(&mut root, request)?);
        }
        if let Some((serial, reason)) = revoke {
            strike(&mut root.book, serial, reason, self.now)?;
        }
        let list = self.list(&mut root)?;
        // Before anybody gets it: a number that was given out is never given again.
        self.keep(&root.book)?;
        let pem = [pem::certificates(&certificates), pem::lists(&[list])].concat();
        Ok(Answer { pem, root: Digest::of(&root.der), made })
    }

    fn make(&self, request: &Request) -> Result<Root, String> {
        if request.known_root().map_err(|e| e.0)?.is_some() {
            return Err(format!("the request is for a root that exists, and {} holds none", self.dir.display()));
        }
        let mut dirs = fs::DirBuilder::new();
        dirs.recursive(true).mode(0o700).create(self.dir).map_err(|e| said(self.dir, "made", &e))?;
        let said_so = |e: ParseError| e.0;
        let pkcs8 = keys::generate(request.root_key().map_err(said_so)?).map_err(said_so)?;
        let key = SigningKey::read(&pkcs8).map_err(said_so)?;
        let mut unique = [0; 4];
        self.entropy.fill(&mut unique);
        let wanted = request.root(key.spki(), u32::from_be_bytes(unique), self.fresh()).map_err(said_so)?;
        let der = signed(&key, &wanted, None)?;
        let mut random = [0; 32];
        self.entropy.fill(&mut random);
        let sealed = sealed::seal(&pkcs8, &self.passphrase, Randomness(random)).map_err(said_so)?;
        // The certificate last: a root is there once all of it is.
        drop(fs::remove_file(self.dir.join(KEY)));
        self.write(KEY, 0o600, sealed.as_bytes())?;
        let book = Book { version: 1, ..Book::default() };
        self.keep(&book)?;
        self.write(CERTIFICATE, 0o644, pem::certificates(&[&der]).as_bytes())?;
        Ok(Root { key, der: Arc::from(der), validity: wanted.validity, book })
    }

    fn open(&self) -> Result<Root, String> {
        let text = self.read(CERTIFICATE)?;
        let found = pem::certificates_in(&text, 1).map_err(|e| format!("{} {e}", self.shown(CERTIFICATE)))?;
        let der = found.first().ok_or_else(|| format!("{} is empty", self.shown(CERTIFICATE)))?.to_vec();
        let above = Above::new(&der).map_err(|e| format!("{} {e}", self.shown(CERTIFICATE)))?;
        let sealed = Zeroizing::new(self.read(KEY)?);
        let sealed = core::str::from_utf8(&sealed).map_err(|_| format!("{} is no PEM", self.shown(KEY)))?;
        let pkcs8 = sealed::open(sealed, &self.passphrase).map_err(|e| format!("{} {e}", self.shown(KEY)))?;
        let key = SigningKey::read(&pkcs8).map_err(|e| format!("{} {e}", self.shown(KEY)))?;
        let public = crate::codec::x509::public_key(&der).map_err(|e| e.0)?;
        if key.spki() != public {
            return Err(format!("{} is not the key of {}", self.shown(KEY), self.shown(CERTIFICATE)));
        }
        let book: Book = serde_json::from_slice(&self.read(BOOK)?).map_err(|e| {
            format!("{} is damaged: {e}; without it the numbers of lists would begin anew", self.shown(BOOK))
        })?;
        let validity = above.validity();
        Ok(Root { key, der: Arc::from(der), validity, book })
    }

    fn certify(&self, root: &mut Root, request: &Request) -> Result<Arc<[u8]>, String> {
        let wanted = request.issuing(root.validity, self.fresh()).map_err(|e| e.0)?;
        let der = signed(&root.key, &wanted, Some(&root.der))?;
        root.book.certified.push(Certified {
            serial: wanted.serial.to_string(),
            common_name: wanted.common_name,
            not_after: wanted.validity.not_after.to_string(),
        });
        Ok(Arc::from(der))
    }

    fn list(&self, root: &mut Root) -> Result<Vec<u8>, String> {
        root.book.list = root.book.list.checked_add(1).ok_or("the root has no more list numbers")?;
        let mut revoked = Vec::with_capacity(root.book.revoked.len());
        for struck in &root.book.revoked {
            let damaged = || format!("{} is damaged at {}", self.shown(BOOK), struck.serial);
            revoked.push(Revoked {
                serial: from_hex(&struck.serial).ok_or_else(damaged)?,
                at: Timestamp::parse(&struck.at).ok_or_else(damaged)?,
                reason: RevocationReason::parse(&struck.reason).ok_or_else(damaged)?,
            });
        }
        revoked.sort_by(|a, b| a.serial.cmp(&b.serial));
        let list = RevocationList {
            number: root.book.list,
            this_update: self.now.minus(MINUTE).max(root.validity.not_before),
            next_update: self.now.plus(self.list_lifetime).min(root.validity.not_after),
            revoked,
        };
        let above = Above::new(&root.der).map_err(|e| e.0)?;
        finish(&root.key, &ca::revocation_list(&list, &above).map_err(|e| e.0)?)
    }

    fn fresh(&self) -> Fresh {
        let mut random = [0; 20];
        self.entropy.fill(&mut random);
        Fresh { now: self.now, serial: SerialNumber::new(random) }
    }

    /// In place of the one before, whole or not at all.
    fn keep(&self, book: &Book) -> Result<(), String> {
        let text = serde_json::to_vec_pretty(book).map_err(|e| e.to_string())?;
        let new = format!("{BOOK}.new");
        drop(fs::remove_file(self.dir.join(&new)));
        self.write(&new, 0o644, &text)?;
        fs::rename(self.dir.join(&new), self.dir.join(BOOK)).map_err(|e| said(&self.dir.join(BOOK), "written", &e))?;
        self.sync()
    }

    fn write(&self, name: &str, mode: u32, bytes: &[u8]) -> Result<(), String> {
        let path = self.dir.join(name);
        create(&path, mode, bytes).map_err(|e| said(&path, "written", &e))?;
        self.sync()
    }

    fn sync(&self) -> Result<(), String> {
        fs::File::open(self.dir).and_then(|dir| dir.sync_all()).map_err(|e| said(self.dir, "written", &e))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, String> {
        use std::io::Read as _;
        let path = self.dir.join(name);
        let mut bytes = Vec::new();
        let file = fs::File::open(&path).map_err(|e| said(&path, "read", &e))?;
        file.take(LONGEST).read_to_end(&mut bytes).map_err(|e| said(&path, "read", &e))?;
        Ok(bytes)
    }

    fn shown(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }
}

fn strike(book: &mut Book, serial: &str, reason: RevocationReason, now: Timestamp) -> Result<(), String> {
    if !book.certified.iter().any(|c| c.serial == serial) {
        return Err(format!("the root certified nothing with the serial number {serial}"));
    }
    // The first time and reason stand.
    if !book.revoked.iter().any(|struck| struck.serial == serial) {
        let (serial, at, reason) = (serial.to_owned(), now.to_string(), reason.as_str().to_owned());
        book.revoked.push(Struck { serial, at, reason });
    }
    Ok(())
}

/// A certificate, linted and signed; self-signed without a root above it.
fn signed(key: &SigningKey, wanted: &CaCertificate, root: Option<&Arc<[u8]>>) -> Result<Vec<u8>, String> {
    let above = root.map(|der| Above::new(der)).transpose().map_err(|e| e.0)?;
    let to_sign = ca::ca_certificate(wanted, above.as_ref(), &[], &[]).map_err(|e| e.0)?;
    let over: Vec<&[u8]> = root.iter().map(|der| &***der).collect();
    ca::lint::<_, &[u8]>(&to_sign, &over, &[])
        .map_err(|flaws| flaws.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    finish(key, &to_sign)
}

fn finish(key: &SigningKey, to_sign: &ToSign) -> Result<Vec<u8>, String> {
    let signature = key.sign(&to_sign.bytes).map_err(|e| e.0)?;
    if !ca::is_signed(to_sign, &signature, key.spki()) {
        return Err("the signature is not good: the memory of this machine is damaged".to_owned());
    }
    Ok(ca::assemble(to_sign, &signature))
}

fn said(path: &Path, what: &str, error: &std::io::Error) -> String {
    let path: PathBuf = path.to_owned();
    format!("{} cannot be {what}: {error}", path.display())
}
