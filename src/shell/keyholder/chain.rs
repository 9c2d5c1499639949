//! The holder's own log on the disk: `holder.log`, a line an operation, and `holder.head`, which says how far it goes.
//!
//! ```text
//! commit:  lines ─► holder.log, flushed ─► number and hash of the last ─► holder.head, flushed ─► answers leave
//! ```
//!
//! A crash in between leaves lines beyond the head, which count if they are whole: nobody else can write their codes. Fewer
//! lines than the head says, or a changed one, and the holder does not start.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::codec::holder_log::{LONGEST_LINE, LogKey, Record};
use crate::codec::sealed::{self, Randomness};
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;
use crate::ports::Entropy;

use super::files::Directory;
use super::warrant::Pins;

const LOG: &str = "holder.log";
const HEAD: &str = "holder.head";
/// What keys end in; while there is one, there must be a log.
pub(super) const KEY_SUFFIX: &str = ".key";
/// The head is one sector, so that it is written whole or not at all.
const SECTOR: usize = 512;
/// The place of every 64th line is kept: what lies between is read.
const STRIDE: u64 = 64;
/// Records in one answer.
const MOST_RECORDS: usize = 1_000;
/// The lines of one answer, in bytes: with their numbers and lengths it stays below [`crate::codec::holder::LARGEST_ANSWER`].
const MOST_BYTES: usize = 3 << 20;

/// Where a line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) length: u32,
}

/// What is to be recorded; the log adds number, place and chain.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) at: Timestamp,
    pub(super) facts: Vec<(String, String)>,
    pub(super) entry: Option<(u64, Digest)>,
    pub(super) head: Option<crate::domain::tree::TreeHead>,
    pub(super) answer: Vec<u8>,
}

/// The log, open and believed.
#[derive(Debug)]
pub(super) struct OwnLog {
    log: File,
    head: File,
    key: LogKey,
    /// The number of the next line.
    next: u64,
    /// SHA-256 of the last one.
    last: Digest,
    /// Bytes in the file.
    length: u64,
    /// Lines that are not in the file yet.
    waiting: Vec<u8>,
    /// Where every [`STRIDE`]th line begins.
    marks: Vec<u64>,
}

/// What opening gives besides the log.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) log: OwnLog,
    pub(super) pins: Pins,
}

impl OwnLog {
    /// Opens the log, made if there is none, and reads all of it; `each` hears of every record.
    pub(super) fn open(
        dir: &Directory,
        passphrase: &[u8],
        given: Option<Pins>,
        now: Timestamp,
        entropy: &dyn Entropy,
        mut each: impl FnMut(&Record, Place) -> Result<(), String>,
    ) -> Result<Opened, String> {
        if dir.file(LOG)?.is_none() {
            begin(dir, passphrase, given.as_ref(), now, entropy)?;
        }
        let gone = |name: &str| format!("{} is missing: put the directory back as a whole", dir.join(name).display());
        let log = dir.file(LOG)?.ok_or_else(|| gone(LOG))?;
        let head = dir.file(HEAD)?.ok_or_else(|| gone(HEAD))?;
        let shown = dir.join(LOG);
        let said = |why: String| format!("the holder's own log {} {why}", shown.display());
        let key = unseal(&log, passphrase).map_err(said)?;
        let expected = read_head(&head, &key).map_err(|why| format!("{} {why}", dir.join(HEAD).display()))?;
        let mut own =
            Self { log, head, key, next: 0, last: Digest::of(b""), length: 0, waiting: Vec::new(), marks: Vec::new() };
        let mut pins = None;
        let torn = own
            .walk(expected.0, |record, place| {
                if record.fact("operation") == Some("pin") {
                    pins = Some(Pins::parse(record.fact("keys").unwrap_or_default())?);
                }
                if record.number == expected.0 && record.hash != expected.1 {
                    return Err(format!("has another line {} than its head says: it was changed", record.number));
                }
                each(&record.record, place)
            })
            .map_err(said)?;
        if own.next <= expected.0 {
            return Err(said(format!(
                "ends before line {}, and its head says that it goes to {}: it was cut off; put back what was there, since \
                 a holder that forgot what it signed would sign it again",
                own.next, expected.0
            )));
        }
        if torn {
            own.log.set_len(own.length).and_then(|()| own.log.sync_all()).map_err(|e| said(e.to_string()))?;
        }
        let pins = pins.ok_or_else(|| said("pins no key of a log".to_owned()))?;
        let pins = own.repin(pins, given, now)?;
        Ok(Opened { log: own, pins })
    }

    /// Other keys of the same log are taken because the operator gave them, and that is recorded.
    fn repin(&mut self, pinned: Pins, given: Option<Pins>, now: Timestamp) -> Result<Pins, String> {
        let Some(given) = given.filter(|given| *given != pinned) else { return Ok(pinned) };
        if given.origin() != pinned.origin() {
            return Err(format!(
                "this holder belongs to the log {}, and the keys that were given are of {}: use another directory for another \
                 guardian",
                pinned.origin(),
                given.origin()
            ));
        }
        let facts = vec![("keys".to_owned(), given.text()), ("operation".to_owned(), "pin".to_owned())];
        self.append(Draft { at: now, facts, entry: None, head: None, answer: Vec::new() });
        self.commit().map_err(|e| format!("the new keys of the log cannot be recorded: {e}"))?;
        Ok(given)
    }

    /// Reads every line; `true` if there is a torn one at the end, beyond what the head vouches for.
    fn walk(
        &mut self,
        vouched: u64,
        mut each: impl FnMut(&Walked, Place) -> Result<(), String>,
    ) -> Result<bool, String> {
        let file = self.log.try_clone().map_err(|e| e.to_string())?;
        let mut reader = BufReader::with_capacity(1 << 18, OffsetReader { file, at: 0 });
        let mut line = Vec::with_capacity(LONGEST_LINE);
        loop {
            line.clear();
            let most = u64::try_from(LONGEST_LINE).unwrap_or(u64::MAX).saturating_add(1);
            std::io::Read::take(&mut reader, most)
                .read_until(b'\n', &mut line)
                .map_err(|e| format!("cannot be read: {e}"))?;
            if line.is_empty() {
                return Ok(false);
            }
            let read = match line.strip_suffix(b"\n") {
                Some(whole) => self.believe(whole),
                None => Err(format!("has a line {} that does not end", self.next)),
            };
            let walked = match read {
                Ok(walked) => walked,
                Err(_) if self.next > vouched => return Ok(true),
                Err(why) => return Err(why),
            };
            let place = self.took(line.len(), walked.hash);
            each(&walked, place)?;
        }
    }

    fn believe(&self, line: &[u8]) -> Result<Walked, String> {
        let number = self.next;
        let record = Record::read(line, Some(&self.key)).map_err(|e| format!("has a line {number} that {e}"))?;
        if record.number != number || record.previous != self.last {
            return Err(format!(
                "has a line {number} that does not follow the one before: lines are missing or swapped"
            ));
        }
        Ok(Walked { number, hash: Digest::of(line), record })
    }

    /// A line of so many bytes, with its newline, now stands at the end.
    fn took(&mut self, bytes: usize, hash: Digest) -> Place {
        let offset = self.length;
        if self.next.is_multiple_of(STRIDE) {
            self.marks.push(offset);
        }
        self.next = self.next.saturating_add(1);
        self.last = hash;
        self.length = offset.saturating_add(u64::try_from(bytes).unwrap_or(0));
        Place { offset, length: u32::try_from(bytes).unwrap_or(u32::MAX) }
    }

    /// Adds a record to what the next commit writes.
    pub(super) fn append(&mut self, draft: Draft) -> (Record, Place) {
        let Draft { at, facts, entry, head, answer } = draft;
        let record = Record { number: self.next, at, facts, entry, head, answer, previous: self.last };
        let mut line = record.line(&self.key);
        let hash = Digest::of(&line);
        line.push(b'\n');
        let place = self.took(line.len(), hash);
        self.waiting.append(&mut line);
        (record, place)
    }

    /// Whether there is anything to commit.
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Writes and flushes all that was appended. After an error what is on the disk is unknown: the process has to end.
    pub(super) fn commit(&mut self) -> std::io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let begin = self.length.saturating_sub(u64::try_from(self.waiting.len()).unwrap_or(0));
        self.log.write_all_at(&self.waiting, begin)?;
        self.log.sync_data()?;
        self.waiting.clear();
        let sector = head_sector(&self.key, self.next.saturating_sub(1), &self.last);
        self.head.write_all_at(&sector, 0)?;
        self.head.sync_data()
    }

    /// Reads a committed record again.
    pub(super) fn record(&self, place: Place) -> Result<Record, String> {
        let line = self.bytes(place.offset, usize::try_from(place.length).unwrap_or(0))?;
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        Record::read(line, Some(&self.key)).map_err(|e| format!("the own log has a line that {e}"))
    }

    /// Committed lines from this number on.
    pub(super) fn lines(&self, from: u64) -> Result<Vec<(u64, String)>, String> {
        let mark = from.checked_div(STRIDE).unwrap_or(0);
        let Some(begin) = usize::try_from(mark).ok().and_then(|m| self.marks.get(m)).copied() else {
            return Ok(Vec::new());
        };
        let committed = self.length.saturating_sub(u64::try_from(self.waiting.len()).unwrap_or(0));
        let file = self.log.try_clone().map_err(|e| e.to_string())?;
        let reader = BufReader::with_capacity(1 << 18, OffsetReader { file, at: begin });
        let reader = std::io::Read::take(reader, committed.saturating_sub(begin));
        let (mut out, mut bytes) = (Vec::new(), 0_usize);
        for (number, line) in (mark.saturating_mul(STRIDE)..).zip(reader.lines()) {
            let line = line.map_err(|e| format!("the own log cannot be read: {e}"))?;
            if number < from {
                continue;
            }
            bytes = bytes.saturating_add(line.len()).saturating_add(12);
            if out.len() == MOST_RECORDS || bytes > MOST_BYTES {
                break;
            }
            out.push((number, line));
        }
        Ok(out)
    }

    fn bytes(&self, offset: u64, length: usize) -> Result<Vec<u8>, String> {
        let mut bytes = vec![0_u8; length.min(LONGEST_LINE.saturating_add(1))];
        self.log.read_exact_at(&mut bytes, offset).map_err(|e| format!("the own log cannot be read: {e}"))?;
        Ok(bytes)
    }
}

/// A line that was believed.
struct Walked {
    number: u64,
    /// SHA-256 of the line.
    hash: Digest,
    record: Record,
}

impl Walked {
    fn fact(&self, name: &str) -> Option<&str> {
        self.record.fact(name)
    }
}

/// Reads a file from a place on, without moving the place of others.
struct OffsetReader {
    file: File,
    at: u64,
}

impl std::io::Read for OffsetReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at = self.at.saturating_add(u64::try_from(read).unwrap_or(0));
        Ok(read)
    }
}

/// The first line: it pins the log's keys, and holds the key of the codes under the passphrase.
fn begin(
    dir: &Directory,
    passphrase: &[u8],
    given: Option<&Pins>,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Result<(), String> {
    if dir.names()?.iter().any(|name| name.ends_with(KEY_SUFFIX)) {
        return Err(format!(
            "{} has keys, and the log of what they signed is missing: put the directory back as a whole",
            dir.path().display()
        ));
    }
    let pins = given
        .ok_or("the first start needs the key of the guardian's log: --log-key FILE; keyward audit key prints it")?;
    let (mut key, mut random) = (Zeroizing::new([0_u8; 32]), [0_u8; 32]);
    entropy.fill(key.as_mut_slice());
    entropy.fill(&mut random);
    let seal = sealed::seal(key.as_slice(), passphrase, Randomness(random)).map_err(|e| e.to_string())?;
    let key = LogKey::new(key.as_slice());
    let facts = vec![
        ("keys".to_owned(), pins.text()),
        ("operation".to_owned(), "pin".to_owned()),
        ("seal".to_owned(), STANDARD.encode(seal.as_bytes())),
    ];
    let record =
        Record { number: 0, at: now, facts, entry: None, head: None, answer: Vec::new(), previous: Digest::of(b"") };
    let mut line = record.line(&key);
    let sector = head_sector(&key, 0, &Digest::of(&line));
    line.push(b'\n');
    // Without a log the next start begins anew, whatever head it finds.
    dir.make(HEAD, &sector)?;
    dir.make(LOG, &line)
}

/// Takes the key of the codes out of the first line, which is checked with it afterwards.
fn unseal(log: &File, passphrase: &[u8]) -> Result<LogKey, String> {
    let mut line = Vec::new();
    let file = log.try_clone().map_err(|e| e.to_string())?;
    let most = u64::try_from(LONGEST_LINE).unwrap_or(u64::MAX);
    let mut reader = BufReader::new(std::io::Read::take(OffsetReader { file, at: 0 }, most));
    reader.read_until(b'\n', &mut line).map_err(|e| format!("cannot be read: {e}"))?;
    let line = line.strip_suffix(b"\n").ok_or("has no whole first line")?;
    let record = Record::read(line, None).map_err(|e| format!("has a first line that {e}"))?;
    let seal = record.fact("seal").and_then(|seal| STANDARD.decode(seal).ok());
    let seal = seal.and_then(|seal| String::from_utf8(seal).ok()).ok_or("has no sealed key in its first line")?;
    let key =
        sealed::open(&seal, passphrase).map_err(|e| format!("{e}: is the passphrase the one of this directory?"))?;
    let key = LogKey::new(&key);
    Record::read(line, Some(&key)).map_err(|_| "does not open with this passphrase, or its first line was changed")?;
    Ok(key)
}

fn head_body(number: u64, hash: &Digest) -> String {
    format!("keyward holder head {number} {hash}")
}

fn head_sector(key: &LogKey, number: u64, hash: &Digest) -> Vec<u8> {
    let body = head_body(number, hash);
    let mut sector = format!("{body} {}", key.code(body.as_bytes())).into_bytes();
    sector.resize(SECTOR.saturating_sub(1), b' ');
    sector.push(b'\n');
    sector
}

fn read_head(head: &File, key: &LogKey) -> Result<(u64, Digest), String> {
    let mut sector = vec![0_u8; SECTOR];
    head.read_exact_at(&mut sector, 0).map_err(|e| format!("cannot be read: {e}"))?;
    let text = core::str::from_utf8(&sector).unwrap_or_default().trim_ascii_end();
    let (body, code) = text.rsplit_once(' ').unwrap_or_default();
    let code = Digest::parse(code).filter(|code| key.holds(body.as_bytes(), code));
    let mut fields = body.rsplit(' ');
    let hash = fields.next().and_then(Digest::parse);
    let number = fields.next().and_then(|n| n.parse().ok());
    match (code, number, hash) {
        (Some(_), Some(number), Some(hash)) => Ok((number, hash)),
        _ => Err("is damaged or was changed: put back what was there".to_owned()),
    }
}
