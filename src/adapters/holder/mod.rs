//! The key holder over its Unix socket.
//!
//! Connections are kept and used again, one request on each at a time. A connection that broke is not tried again with the
//! same request: whether it was carried out is unknown, and the caller may ask again with the same warrant.

use core::fmt;
use core::time::Duration;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::codec::holder::{Answer, Key, LARGEST_ANSWER, LARGEST_REQUEST, Proof, Request};
use crate::domain::audit::LONGEST_ENTRY;
use crate::domain::key::{Digest, KeyAlgorithm};
use crate::ports::{
    Doing, HeldKey, HolderError, HolderRecord, HolderStatus, KeyHolder, PrivateKey, ToBeSigned, Warrant,
};

/// Requests at once: three quarters of what the holder takes, so that others may ask too.
const MOST_AT_ONCE: usize = 48;
/// Room for a signature with its frame, so that most answers are read at once.
const USUAL_ANSWER: usize = 1_024;
/// To connect, and for one request with its flush; the holder itself gives a request ten seconds to arrive.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the holder is asked.
pub struct SocketHolder {
    path: PathBuf,
    owner: Option<u32>,
    turns: Semaphore,
    idle: Mutex<Vec<UnixStream>>,
}

impl fmt::Debug for SocketHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SocketHolder({})", self.path.display())
    }
}

impl SocketHolder {
    /// Connects when it is asked first. With `owner`, a socket on which another user listens is not believed.
    #[must_use]
    pub fn new(path: &Path, owner: Option<u32>) -> Self {
        Self { path: path.to_owned(), owner, turns: Semaphore::new(MOST_AT_ONCE), idle: Mutex::default() }
    }

    async fn ask(&self, request: Request<'_>) -> Result<Answer, HolderError> {
        let body = request.encode();
        if body.len() > LARGEST_REQUEST {
            let text = format!("the request has {} bytes; at most {LARGEST_REQUEST} are taken", body.len());
            return Err(HolderError::Refused(text));
        }
        // In one piece, so that the holder is woken once.
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
        let frame = [length.as_slice(), &body].concat();
        let exchange = async {
            let _turn = self.turns.acquire().await.map_err(|_| "it is being closed".to_owned())?;
            let mut stream = self.connection().await?;
            // A holder that refuses a connection says so before it is asked, and closes it: what it said still counts.
            let sent = stream.write_all(&frame).await;
            match receive(&mut stream).await {
                Ok(answer) => {
                    if sent.is_ok() && !matches!(answer, Answer::Refused(_) | Answer::Failed(_)) {
                        self.keep(stream);
                    }
                    Ok(answer)
                }
                Err(why) => Err(sent.err().map_or(why, |e| format!("the connection broke: {e}"))),
            }
        };
        let answer = match timeout(PATIENCE, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        let answer = answer.map_err(|why| self.unavailable(&why))?;
        if let Answer::Refused(why) = answer {
            return Err(HolderError::Refused(why));
        }
        if let Answer::Failed(why) = answer {
            return Err(self.unavailable(&why));
        }
        Ok(answer)
    }

    async fn connection(&self) -> Result<UnixStream, String> {
        while let Some(stream) = self.lock().pop() {
            // One that the holder has closed meanwhile can be read, and gives nothing.
            if matches!(stream.try_read(&mut [0]), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock) {
                return Ok(stream);
            }
        }
        let stream = UnixStream::connect(&self.path).await.map_err(|e| format!("connecting: {e}"))?;
        let Some(owner) = self.owner else { return Ok(stream) };
        let found = stream.peer_cred().map_err(|e| format!("who listens cannot be seen: {e}"))?.uid();
        if found == owner { Ok(stream) } else { Err(format!("user {found} listens there, expected user {owner}")) }
    }

    fn keep(&self, stream: UnixStream) {
        let mut idle = self.lock();
        if idle.len() < MOST_AT_ONCE {
            idle.push(stream);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<UnixStream>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unavailable(&self, why: &str) -> HolderError {
        HolderError::Unavailable(format!("{}: {why}", self.path.display()))
    }

    fn unexpected<T>(&self) -> Result<T, HolderError> {
        Err(self.unavailable("it gave the answer to another question"))
    }

    async fn key(&self, request: Request<'_>) -> Result<HeldKey, HolderError> {
        let Answer::Key(key) = self.ask(request).await? else { return self.unexpected() };
        Ok(held(key))
    }
}

async fn receive(stream: &mut UnixStream) -> Result<Answer, String> {
    let broke = |e: std::io::Error| {
        if e.kind() == std::io::ErrorKind::UnexpectedEof {
            return "it closed the connection without an answer".to_owned();
        }
        format!("the connection broke: {e}")
    };
    let mut frame = Vec::with_capacity(USUAL_ANSWER);
    let (mut whole, mut known) = (4_usize, false);
    while frame.len() < whole {
        if stream.read_buf(&mut frame).await.map_err(broke)? == 0 {
            return Err(broke(std::io::ErrorKind::UnexpectedEof.into()));
        }
        let Some(length) = frame.first_chunk::<4>().filter(|_| !known) else { continue };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > LARGEST_ANSWER {
            return Err(format!("an answer of {length} bytes; at most {LARGEST_ANSWER} are read"));
        }
        (whole, known) = (whole.saturating_add(length), true);
        frame.reserve(whole.saturating_sub(frame.len()));
    }
    match frame.split_at_checked(4) {
        Some((_, body)) if frame.len() == whole => Answer::decode(body).map_err(|e| format!("it {e}")),
        _ => Err("it said more than was asked".to_owned()),
    }
}

/// A warrant as it travels.
struct Packed<'a> {
    warrant: &'a Warrant,
    path: Vec<u8>,
}

impl<'a> Packed<'a> {
    fn new(warrant: &'a Warrant) -> Result<Self, HolderError> {
        if warrant.entry.bytes.len() > LONGEST_ENTRY {
            return Err(HolderError::Refused(format!("the entry is longer than {LONGEST_ENTRY} bytes")));
        }
        Ok(Self { warrant, path: warrant.proof.iter().flat_map(|hash| hash.0).collect() })
    }

    fn proof(&self) -> Proof<'_> {
        let entry = &self.warrant.entry;
        Proof { sequence: entry.sequence, entry: &entry.bytes, path: &self.path, note: &self.warrant.note }
    }
}

fn held(key: Key) -> HeldKey {
    HeldKey { spki: key.spki.into(), algorithm: key.algorithm, label: key.label.into(), signatures: key.signatures }
}

impl KeyHolder for SocketHolder {
    fn status(&self) -> Doing<'_, Result<HolderStatus, HolderError>> {
        Box::pin(async {
            let Answer::Status(status) = self.ask(Request::Status).await? else { return self.unexpected() };
            Ok(HolderStatus {
                version: status.version,
                process: status.process,
                operations: status.operations,
                log_size: status.log_size,
                confinement: status.confinement,
            })
        })
    }

    fn keys(&self) -> Doing<'_, Result<Vec<HeldKey>, HolderError>> {
        Box::pin(async {
            let Answer::Keys(keys) = self.ask(Request::Keys).await? else { return self.unexpected() };
            let mut keys: Vec<HeldKey> = keys.into_iter().map(held).collect();
            keys.sort_by(|one, other| (&one.label, &one.spki).cmp(&(&other.label, &other.spki)));
            Ok(keys)
        })
    }

    fn generate<'a>(
        &'a self,
        algorithm: KeyAlgorithm,
        label: &'a str,
        warrant: &'a Warrant,
    ) -> Doing<'a, Result<HeldKey, HolderError>> {
        Box::pin(async move {
            let packed = Packed::new(warrant)?;
            self.key(Request::Generate(algorithm, label, packed.proof())).await
        })
    }

    fn import<'a>(
        &'a self,
        key: &'a PrivateKey,
        label: &'a str,
        warrant: &'a Warrant,
    ) -> Doing<'a, Result<HeldKey, HolderError>> {
        Box::pin(async move {
            let packed = Packed::new(warrant)?;
            self.key(Request::Import(&key.0, label, packed.proof())).await
        })
    }

    fn sign<'a>(
        &'a self,
        key: Digest,
        kind: ToBeSigned,
        tbs: &'a [u8],
        warrant: &'a Warrant,
    ) -> Doing<'a, Result<Vec<u8>, HolderError>> {
        Box::pin(async move {
            let packed = Packed::new(warrant)?;
            let request = Request::Sign(key, kind.as_str(), tbs, packed.proof());
            let Answer::Signature(bytes) = self.ask(request).await? else { return self.unexpected() };
            Ok(bytes)
        })
    }

    fn destroy<'a>(&'a self, key: Digest, warrant: &'a Warrant) -> Doing<'a, Result<(), HolderError>> {
        Box::pin(async move {
            let packed = Packed::new(warrant)?;
            let Answer::Destroyed = self.ask(Request::Destroy(key, packed.proof())).await? else {
                return self.unexpected();
            };
            Ok(())
        })
    }

    fn records(&self, from: u64) -> Doing<'_, Result<Vec<HolderRecord>, HolderError>> {
        Box::pin(async move {
            let Answer::Records(records) = self.ask(Request::Records(from)).await? else { return self.unexpected() };
            Ok(records.into_iter().map(|(number, line)| HolderRecord { number, line }).collect())
        })
    }
}
