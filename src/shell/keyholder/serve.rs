//! The socket: who may ask, how much, and how slowly.

use std::collections::VecDeque;
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use core::time::Duration;

use rustix::net::SendFlags;
use zeroize::{Zeroize as _, Zeroizing};

use crate::codec::holder::{Answer, LARGEST_REQUEST, Request};
use crate::codec::tbs::LARGEST_CERTIFICATE;
use crate::domain::audit::LONGEST_ENTRY;
use crate::domain::key::Digest;
use crate::domain::tree::TreeHead;
use crate::ports::{Clock, Operation};

use super::warrant::{self, Lifetimes, Pins};
use super::worker::{Ask, Job, Matter, kind};

/// Connections at once: one guardian has 48.
pub(super) const MOST_CONNECTIONS: usize = 64;
/// A request that has begun is here in whole after this, or the connection is cut; so is one whose answer is not taken.
const PATIENCE: Duration = Duration::from_secs(10);
/// A connection on which nothing is asked for so long is closed: its place may be needed.
const IDLE: Duration = Duration::from_secs(60);
/// A request beyond this is a revocation list, of which one is read at a time: 64 connections then hold 20 MiB at most,
/// and that list.
const USUAL: usize = LARGEST_CERTIFICATE + LONGEST_ENTRY + crate::codec::note::LONGEST_NOTE + 8_192;
/// Bytes that are read at once: a usual request for a leaf has 3 KiB. With 64 connections 512 KiB.
const AHEAD: usize = 8 << 10;
/// Checkpoints that are remembered: requests with an older one are still on their way when those with the next arrive.
const MOST_BELIEVED: usize = 8;
/// A thread checks a signature and a proof, and parses: 512 KiB are plenty.
const STACK: usize = 512 << 10;

/// What every connection needs.
pub(super) struct Door {
    pub(super) pins: Pins,
    /// The checkpoints that were believed last, by the digests of their texts.
    pub(super) newest: Mutex<VecDeque<(Digest, TreeHead)>>,
    pub(super) lives: Lifetimes,
    /// The users that may ask, by number.
    pub(super) peers: Vec<u32>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) jobs: SyncSender<Job>,
    pub(super) large: Mutex<()>,
    pub(super) open: AtomicUsize,
}

impl Door {
    /// What a checkpoint says. Intents that were committed together come with the same one, whose signature is verified once.
    fn head(&self, note: &str) -> Result<TreeHead, String> {
        let digest = Digest::of(note.as_bytes());
        // Held meanwhile: those who come with the same one wait for the answer instead of finding it too.
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, head)) = newest.iter().find(|(of, _)| *of == digest) {
            return Ok(*head);
        }
        let head = warrant::believed(note, &self.pins)?;
        newest.truncate(MOST_BELIEVED.saturating_sub(1));
        newest.push_front((digest, head));
        Ok(head)
    }
}

/// Binds the socket. The mask keeps everybody else out from the first moment.
pub(super) fn bind(path: &Path, mode: u32, group: Option<u32>) -> Result<UnixListener, String> {
    let said = |what: &str, e: std::io::Error| format!("cannot listen on {}: {what}: {e}", path.display());
    if let Ok(found) = std::fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(format!("{} is there and is no socket; move it away, or choose another path", path.display()));
        }
        if UnixStream::connect(path).is_ok() {
            return Err(format!("{} is in use by a running process; stop it first", path.display()));
        }
        std::fs::remove_file(path).map_err(|e| said("removing the socket of a dead process", e))?;
    }
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(path);
    rustix::process::umask(before);
    let listener = bound.map_err(|e| said("binding", e))?;
    if group.is_some() {
        std::os::unix::fs::chown(path, None, group).map_err(|e| said("giving it to its group", e))?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(|e| said("setting its mode", e))?;
    Ok(listener)
}

/// Accepts for ever; ends with what is wrong.
pub(super) fn accept(listener: &UnixListener, door: &Arc<Door>) -> String {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            // The connection was gone before it was taken, or there is no room for it now.
            Err(e) if e.raw_os_error().is_some_and(|code| PASSING.contains(&code)) => continue,
            Err(e) => return format!("the socket broke: {e}"),
        };
        if door.open.fetch_add(1, Ordering::AcqRel) >= MOST_CONNECTIONS {
            door.open.fetch_sub(1, Ordering::AcqRel);
            // Closed without a word: whoever is over the limit would be one more to wait for.
            continue;
        }
        let place = Place(door.clone());
        // Without a thread the connection is closed, and its place free again.
        let begun = std::thread::Builder::new().name("peer".into()).stack_size(STACK).spawn(move || {
            serve(&stream, &place.0);
            drop(place);
        });
        drop(begun);
    }
}

/// Errors of accept(2) that are about one connection.
const PASSING: [i32; 5] = [libc::ECONNABORTED, libc::EPROTO, libc::EMFILE, libc::ENFILE, libc::EAGAIN];

/// A connection's place, free again when it is dropped.
struct Place(Arc<Door>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

fn serve(stream: &UnixStream, door: &Door) {
    let peer = rustix::net::sockopt::socket_peercred(stream).map(|c| c.uid.as_raw());
    let allowed = peer.is_ok_and(|uid| door.peers.contains(&uid));
    if !allowed {
        let who = peer.map_or_else(|_| "an unknown user".to_owned(), |uid| format!("user {uid}"));
        let text = format!("{who} may not ask this key holder; it answers {:?}: --peer USER", door.peers);
        answer(stream, &Answer::Refused(text), door);
        return;
    }
    let mut inbox = Inbox { stream, ahead: Zeroizing::new([0; AHEAD]), from: 0, to: 0 };
    while let Some(more) = exchange(&mut inbox, door) {
        if !more {
            return;
        }
    }
}

/// One request and its answer; `None` if the connection is over, `false` if it must be.
fn exchange(inbox: &mut Inbox<'_>, door: &Door) -> Option<bool> {
    let stream = inbox.stream;
    let mut length = [0_u8; 4];
    let (first, rest) = length.split_at_mut(1);
    inbox.read(first, IDLE, door)?;
    inbox.read(rest, PATIENCE, door)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > LARGEST_REQUEST {
        let text = format!("the request has {length} bytes; at most {LARGEST_REQUEST} are read");
        answer(stream, &Answer::Refused(text), door);
        return Some(false);
    }
    // Held while the large request is here.
    let _turn = if length > USUAL {
        match door.large.try_lock() {
            Ok(turn) => Some(turn),
            Err(_) => {
                answer(stream, &Answer::Failed("another large request is being read; ask again".to_owned()), door);
                return Some(false);
            }
        }
    } else {
        None
    };
    let mut frame = Zeroizing::new(vec![0_u8; length]);
    inbox.read(&mut frame, PATIENCE, door)?;
    let answered = match Request::decode(&frame) {
        Ok(request) => handle(&request, door),
        Err(error) => {
            // Whoever speaks another language goes on in it.
            answer(stream, &Answer::Refused(format!("the request {error}")), door);
            return Some(false);
        }
    };
    Some(answer(stream, &answered, door))
}

fn handle(request: &Request<'_>, door: &Door) -> Answer {
    match ask(request, door) {
        Ok(ask) => {
            let (reply, answered) = sync_channel(1);
            if door.jobs.send(Job { ask, reply }).is_err() {
                return Answer::Failed("the key holder is ending".to_owned());
            }
            answered.recv().unwrap_or_else(|_| Answer::Failed("the key holder is ending".to_owned()))
        }
        Err(why) => Answer::Refused(why),
    }
}

/// Everything that needs no memory of earlier requests is checked here, so that connections do it side by side.
fn ask(request: &Request<'_>, door: &Door) -> Result<Ask, String> {
    let (operation, proof, matter) = match *request {
        Request::Status => return Ok(Ask::Status),
        Request::Keys => return Ok(Ask::Keys),
        Request::Records(from) => return Ok(Ask::Records(from)),
        Request::Generate(algorithm, label, proof) => {
            warrant::check_label(label)?;
            (Operation::Generate { algorithm, label: label.into() }, proof, Matter::Nothing)
        }
        Request::Import(pkcs8, label, proof) => {
            warrant::check_label(label)?;
            let key =
                crate::codec::signing::SigningKey::read(pkcs8).map_err(|e| format!("what is to be imported {e}"))?;
            let matter = Matter::Key(Zeroizing::new(pkcs8.to_vec()));
            (Operation::Import { key: key.digest(), label: label.into() }, proof, matter)
        }
        Request::Sign(key, name, bytes, proof) => {
            let (kind, tbs) = (kind(name)?, Digest::of(bytes));
            let read = warrant::read(kind, bytes, &door.lives, door.clock.now())?;
            (Operation::Sign { key, kind, tbs }, proof, Matter::Bytes(bytes.to_vec(), read))
        }
        Request::Destroy(key, proof) => (Operation::Destroy { key }, proof, Matter::Nothing),
    };
    let allowed = warrant::check(&operation, &proof, door.head(proof.note)?)?;
    Ok(Ask::Do(Box::new((operation, allowed, matter))))
}

/// What a peer sends. A usual request comes in one piece, and is read as one.
struct Inbox<'a> {
    stream: &'a UnixStream,
    /// Read and not yet asked for: from `from` to `to`. It may hold a key that is imported.
    ahead: Zeroizing<[u8; AHEAD]>,
    from: usize,
    to: usize,
}

impl Inbox<'_> {
    /// Reads exactly so much within a span, however slowly it comes; `None` if it does not.
    fn read(&mut self, mut into: &mut [u8], span: Duration, door: &Door) -> Option<()> {
        let until = door.clock.boottime().plus(span);
        loop {
            let count = into.len().min(self.to.saturating_sub(self.from));
            let end = self.from.saturating_add(count);
            let had = self.ahead.get_mut(self.from..end)?;
            into.get_mut(..count)?.copy_from_slice(had);
            had.zeroize();
            self.from = end;
            into = into.get_mut(count..)?;
            if into.is_empty() {
                return Some(());
            }
            let left = until.since(door.clock.boottime());
            if left.is_zero() {
                return None;
            }
            self.stream.set_read_timeout(Some(left)).ok()?;
            match (&mut &*self.stream).read(self.ahead.as_mut_slice()) {
                Ok(0) => return None,
                Ok(count) => (self.from, self.to) = (0, count),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }
}

/// Sends an answer; `false` if the peer does not take it.
fn answer(stream: &UnixStream, answer: &Answer, door: &Door) -> bool {
    let body = answer.encode();
    let mut frame = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    frame.extend_from_slice(&body);
    let (until, mut left) = (door.clock.boottime().plus(PATIENCE), frame.as_slice());
    // Nearly always there is room for all of it; only else it has to be waited for.
    let mut flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    while !left.is_empty() {
        match rustix::net::send(stream, left, flags) {
            Ok(0) => return false,
            Ok(count) => left = left.get(count..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) if flags.contains(SendFlags::DONTWAIT) => flags = SendFlags::NOSIGNAL,
            Err(_) => return false,
        }
        let span = until.since(door.clock.boottime());
        if !left.is_empty() && (span.is_zero() || stream.set_write_timeout(Some(span)).is_err()) {
            return false;
        }
    }
    true
}
