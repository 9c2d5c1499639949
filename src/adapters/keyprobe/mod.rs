//! Keys that are no certificate's, on this host: read from files, asked of commands, rotated by hooks.
//!
//! Values live in buffers that are wiped, and in a hook's own file; what leaves here are prints and facts. What a command
//! prints is never part of an error: it may be the key.

mod command;
mod local;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::hmac;
use rustix::fs::{Mode, OFlags};
use zeroize::Zeroizing;

use self::command::Program;
use self::local::Local;
use crate::codec::pem;
use crate::codec::public_key;
use crate::domain::id::{AttemptId, IssuerId, KeyId};
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;
use crate::domain::tracked::{Holds, KeyLook, KeyPlace, Print, TrackedKey};
use crate::domain::upkeep::Step;
use crate::ports::{Doing, Entropy, HostError, KeyProbe, Prints};

/// A value is at most this long: RSA private keys in PEM have 3 KiB, bundles of a few tokens some more.
const LONGEST: usize = 64 << 10;
/// Account keys looked for: as many as issuers may be configured.
const MOST_ACCOUNTS: usize = 1_000;

/// Everything the probe needs to know.
pub struct HostKeys {
    local: Arc<Local>,
    accounts: PathBuf,
}

impl core::fmt::Debug for HostKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("HostKeys")
    }
}

impl HostKeys {
    /// With its local key and its private directories in the state directory, where account keys lie too.
    #[must_use]
    pub fn new(state_dir: &Path, entropy: Arc<dyn Entropy>) -> Self {
        Self { local: Arc::new(Local::new(state_dir, entropy)), accounts: state_dir.join("accounts") }
    }

    async fn print(&self, value: Zeroizing<Vec<u8>>, prints: Prints) -> Result<Print, HostError> {
        let local = self.local.clone();
        blocking(move || {
            let key = local.key(prints)?;
            mac(&key, &value).ok_or_else(|| HostError("it is empty".to_owned()))
        })
        .await
    }

    async fn understood(&self, value: Zeroizing<Vec<u8>>, holds: Holds, prints: Prints) -> Result<KeyLook, HostError> {
        match holds {
            Holds::Secret => {
                let print = self.print(value, prints).await?;
                Ok(KeyLook { print, made: None, wrapped: None, weak: None })
            }
            // An RSA key takes some milliseconds.
            Holds::Public => blocking(move || public_key::read(&value).map_err(|e| HostError(e.0))).await,
            Holds::Facts => {
                let (version, made) = facts(&value)?;
                let print = self.print(version, prints).await?;
                Ok(KeyLook { print, made, wrapped: None, weak: None })
            }
        }
    }
}

impl KeyProbe for HostKeys {
    fn look<'a>(&'a self, key: &'a TrackedKey, prints: Prints) -> Doing<'a, Result<KeyLook, HostError>> {
        Box::pin(async move {
            match &key.place {
                KeyPlace::File { path, holds } => {
                    let file = path.clone();
                    let (value, mode, changed) = blocking(move || read(&file)).await?;
                    let look = self.understood(value, *holds, prints).await.map_err(|e| about(path, &e))?;
                    let open = *holds == Holds::Secret && mode & 0o007 != 0;
                    let weak = open.then(|| format!("lies in {path}, which everybody may read or write ({mode:04o})"));
                    Ok(KeyLook { made: look.made.or(Some(changed)), weak: look.weak.or(weak), ..look })
                }
                KeyPlace::Exec { argv, holds } => {
                    let program = Program::new(argv, key);
                    let value = program.ask().await?;
                    self.understood(value, *holds, prints).await.map_err(|e| HostError(format!("{program}: {e}")))
                }
                KeyPlace::Manual => Err(HostError("nobody can look at a manual key".to_owned())),
            }
        })
    }

    fn live<'a>(&'a self, key: &'a TrackedKey, prints: Prints) -> Doing<'a, Result<Print, HostError>> {
        Box::pin(async move {
            let argv = key.live.as_deref().ok_or_else(|| HostError("nothing says how to ask it".to_owned()))?;
            let program = Program::new(argv, key);
            let value = program.ask().await?;
            let holds = match &key.place {
                KeyPlace::File { holds, .. } | KeyPlace::Exec { holds, .. } => *holds,
                KeyPlace::Manual => Holds::Secret,
            };
            let look = self.understood(value, holds, prints).await;
            look.map(|look| look.print).map_err(|e| HostError(format!("{program}: {e}")))
        })
    }

    fn step<'a>(
        &'a self,
        key: &'a TrackedKey,
        step: Step,
        rotation: AttemptId,
    ) -> Doing<'a, Result<Option<Print>, HostError>> {
        Box::pin(async move {
            let turnover = key.turnover.as_ref().ok_or_else(|| HostError("it has no hook".to_owned()))?;
            let (local, id) = (self.local.clone(), key.id.clone());
            let file = blocking(move || local.pending(&id)).await?;
            Program::hook(turnover, key, step, rotation, &file).run().await?;
            let holds = match &key.place {
                KeyPlace::File { holds, .. } | KeyPlace::Exec { holds, .. } => *holds,
                KeyPlace::Manual => Holds::Secret,
            };
            let (local, id) = (self.local.clone(), key.id.clone());
            let value = blocking(move || local.left(&id)).await?;
            match value {
                Some(value) if holds == Holds::Secret => {
                    let print = self.print(value, Prints::Made).await;
                    print.map(Some).map_err(|e| HostError(format!("the new key: {e}")))
                }
                // A private half says nothing of its public one here; it is told apart once that is seen in its place.
                Some(value) if holds == Holds::Public => Ok(public_key::read(&value).ok().map(|look| look.print)),
                // Of facts nobody knows yet what their version will be.
                Some(_) | None => Ok(None),
            }
        })
    }

    fn wipe<'a>(&'a self, key: &'a KeyId) -> Doing<'a, Result<(), HostError>> {
        let (local, id) = (self.local.clone(), key.clone());
        Box::pin(async move { blocking(move || local.wipe(&id)).await })
    }

    fn accounts(&self) -> Doing<'_, BTreeMap<IssuerId, Digest>> {
        let dir = self.accounts.clone();
        Box::pin(async move { blocking(move || Ok(accounts(&dir))).await.unwrap_or_default() })
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HostError> + Send + 'static,
) -> Result<T, HostError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(HostError(format!("it broke off: {error}"))),
    }
}

fn about(path: &str, error: &HostError) -> HostError {
    HostError(format!("{path}: {error}"))
}

/// Over what stands before and after it in no file of a text editor: a final line end makes no other key. `None` if nothing
/// is left.
fn mac(key: &hmac::Key, value: &[u8]) -> Option<Print> {
    let value = value.trim_ascii();
    if value.is_empty() {
        return None;
    }
    let text = Zeroizing::new([b"keyward-key-print-v1\n", value].concat());
    let mut print = [0; 32];
    // In one step: a context is moved to be finished, and what it was moved from stays on the stack, with the value in it.
    hmac::sign_to_buffer(key, &text, &mut print).ok()?;
    Some(Print::Mac(Digest(print)))
}

/// Contents, mode and last change of a regular file.
fn read(path: &str) -> Result<(Zeroizing<Vec<u8>>, u32, Timestamp), HostError> {
    let failed = |why: String| HostError(format!("{path} {why}"));
    // A pipe in its place does not hold us.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd: OwnedFd =
        rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed(format!("cannot be opened: {e}")))?;
    let file = File::from(fd);
    let meta = file.metadata().map_err(|e| failed(format!("cannot be read: {e}")))?;
    if !meta.is_file() {
        return Err(failed("is no regular file".to_owned()));
    }
    let value = take(file).map_err(|e| failed(format!("cannot be read: {e}")))?;
    match value.len() > LONGEST {
        true => Err(failed(format!("is longer than {LONGEST} bytes"))),
        false => Ok((value, meta.mode() & 0o7777, Timestamp::from_unix(meta.mtime()))),
    }
}

/// At most one byte more than a value may have; the buffer never moves.
fn take(source: impl std::io::Read) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let most = LONGEST.saturating_add(1);
    let mut value = Zeroizing::new(Vec::with_capacity(most));
    source.take(u64::try_from(most).unwrap_or(u64::MAX)).read_to_end(&mut value)?;
    Ok(value)
}

/// Lines `version=…`, which must be there, and `created=…`.
fn facts(text: &[u8]) -> Result<(Zeroizing<Vec<u8>>, Option<Timestamp>), HostError> {
    let wrong =
        |what: &str| HostError(format!("printed {what}; expected lines version=… and created=2026-03-01T12:00:00Z"));
    let text = core::str::from_utf8(text).map_err(|_| wrong("no text"))?;
    let (mut version, mut made) = (None, None);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line.split_once('=') {
            Some(("version", value)) if version.is_none() => version = Some(value),
            Some(("created", value)) if made.is_none() => {
                made = Some(Timestamp::parse(value).ok_or_else(|| wrong("a time that is none"))?);
            }
            _ => return Err(wrong("another line")),
        }
    }
    let version = version.ok_or_else(|| wrong("no version"))?;
    Ok((Zeroizing::new(version.as_bytes().to_vec()), made))
}

fn accounts(dir: &Path) -> BTreeMap<IssuerId, Digest> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().take(MOST_ACCOUNTS);
    entries
        .filter_map(|entry| {
            let name = entry.file_name();
            let issuer = IssuerId::parse(name.to_str()?.strip_suffix(".key")?).ok()?;
            let text = take(File::open(entry.path()).ok()?).ok()?;
            let (form, der) = pem::private_key_in(&text).ok()??;
            Some((issuer, crate::codec::keys::KeyPair::read(form, &der).ok()?.spki()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_print_is_of_the_value_and_of_the_local_key_and_not_of_a_line_end() {
        let key = |byte| hmac::Key::new(hmac::HMAC_SHA256, &[byte; 32]);
        assert_eq!(mac(&key(1), b"secret"), mac(&key(1), b"secret\n"));
        assert_ne!(mac(&key(1), b"secret"), mac(&key(2), b"secret"));
        assert_ne!(mac(&key(1), b"secret"), mac(&key(1), b"Secret"));
        assert_eq!(mac(&key(1), b" \n"), None);
    }

    #[test]
    fn facts_are_lines_that_are_known() {
        let found = facts(b"version=v7\ncreated=2026-03-01T12:00:00Z\n").unwrap();
        assert_eq!((&*found.0, found.1), (&b"v7".to_vec(), Timestamp::parse("2026-03-01T12:00:00Z")));
        for bad in ["", "created=2026-03-01T12:00:00Z", "version=1\nversion=2", "version=1\nvalue=s3cret", "s3cret"] {
            let error = facts(bad.as_bytes()).unwrap_err();
            assert!(!error.0.contains("s3cret"), "{error}");
        }
    }
}
