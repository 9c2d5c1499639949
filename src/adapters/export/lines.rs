//! Files of lines: 10,000 entries each, whole ones never change again, and the last one grows.

use std::fs::File;
use std::io::{BufWriter, Read as _, Write as _};
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};

use super::REACHED;
use super::place::Place;
use crate::codec::export::{Format, Growing, Reached, Stopped, Why};
use crate::domain::key::Digest;
use crate::domain::tree::Frontier;
use crate::ports::StoredEntry;

/// Entries of a file: some 9 MiB, small enough to be fetched at once and to be written again when the last one grows.
pub(super) const FILE_ENTRIES: u64 = 10_000;
/// Bytes that are copied at once.
const CHUNK: usize = 64 * 1_024;

/// Files of lines.
#[derive(Debug)]
pub struct Lines {
    place: Place,
    format: Format,
    /// The first line of each file.
    head: &'static str,
    reached: Option<Reached>,
    open: Option<Open>,
}

/// The file that is being written.
#[derive(Debug)]
struct Open {
    name: String,
    file: BufWriter<File>,
    hash: Hash,
    bytes: u64,
}

/// SHA-256, piece by piece.
struct Hash(Context);

impl core::fmt::Debug for Hash {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Hash")
    }
}

impl Hash {
    fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    fn digest(&self) -> Digest {
        let mut out = [0; 32];
        // SHA-256 gives 32 bytes, so the lengths always agree.
        out.copy_from_slice(self.0.clone().finish().as_ref());
        Digest(out)
    }
}

impl Lines {
    /// What is in a directory already. Nothing is written. `head` is the first line of each file, or empty.
    ///
    /// # Errors
    /// [`Why::Place`] if something else lies there, [`Why::Host`].
    pub fn open(dir: &Path, format: Format, head: &'static str) -> Result<Self, Stopped> {
        let place = Place::whole(dir)?;
        let reached = place.reached(REACHED)?;
        match &reached {
            Some(other) if other.format != format => {
                let (shown, other) = (place.shown(), other.format.as_str());
                let text = format!("{shown} holds an export as {other}; name another directory");
                return Err(Stopped::new(Why::Place, text));
            }
            None if !place.is_empty()? => {
                let text = format!("{} holds something else than an export; name a new directory", place.shown());
                return Err(Stopped::new(Why::Place, text));
            }
            _ => {}
        }
        Ok(Self { place, format, head, reached, open: None })
    }

    /// How far it is.
    #[must_use]
    pub fn reached(&self) -> Option<&Reached> {
        self.reached.as_ref()
    }

    /// Before the first entry, which is the one after `tree` if nothing was written before.
    ///
    /// # Errors
    /// [`Why::Host`].
    pub fn begin(&mut self, tree: &Frontier, checkpoint: &str) -> Result<(), Stopped> {
        self.place.claim()?;
        let format = self.format;
        let reached =
            self.reached.get_or_insert_with(|| Reached::beginning(format, tree.clone(), checkpoint.to_owned()));
        reached.checkpoint = checkpoint.to_owned();
        self.tell()
    }

    /// The next entry, as a line without its end.
    ///
    /// # Errors
    /// [`Why::Host`]; [`Why::Place`] if the file that grows was changed.
    pub fn entry(&mut self, entry: &StoredEntry, line: &[u8]) -> Result<(), Stopped> {
        if self.open.is_none() {
            self.open = Some(self.go_on(entry.sequence)?);
        }
        let (Some(open), Some(reached)) = (&mut self.open, &mut self.reached) else { return Ok(()) };
        open.write(line).and_then(|()| open.write(b"\n")).map_err(|e| self.place.not_written(&e))?;
        reached.tree.push(entry.leaf, |_, _| {});
        if reached.next().is_multiple_of(FILE_ENTRIES) {
            self.close()?;
        }
        Ok(())
    }

    /// After the last entry.
    ///
    /// # Errors
    /// [`Why::Host`].
    pub fn finish(mut self) -> Result<(), Stopped> {
        self.close()
    }

    /// The file of the next entry, with what was written to it before.
    fn go_on(&self, sequence: u64) -> Result<Open, Stopped> {
        let from = self.reached.as_ref().map_or(0, |reached| reached.from);
        let first = (sequence / FILE_ENTRIES).saturating_mul(FILE_ENTRIES).max(from);
        let suffix = if self.format == Format::Csv { "csv" } else { "jsonl" };
        // Twelve digits sort as they count; no log comes near a million million entries.
        let name = format!("entries-{first:012}.{suffix}");
        let file = BufWriter::with_capacity(CHUNK, self.place.stream()?);
        let mut open = Open { name, file, hash: Hash::new(), bytes: 0 };
        match self.reached.as_ref().and_then(|reached| reached.growing).filter(|_| sequence > first) {
            Some(growing) => self.copy(&mut open, growing)?,
            None if self.head.is_empty() => {}
            None => {
                let head = format!("{}\n", self.head);
                open.write(head.as_bytes()).map_err(|e| self.place.not_written(&e))?;
            }
        }
        Ok(open)
    }

    /// Takes over what was written before; what a run that was killed wrote behind it is left.
    fn copy(&self, open: &mut Open, growing: Growing) -> Result<(), Stopped> {
        let what = format!("{} in {}", open.name, self.place.shown());
        let changed = |how: &str| {
            Stopped::new(Why::Place, format!("{what} was {how} since it was exported; export to a new directory"))
        };
        let mut file = self.place.open_file(&open.name)?.ok_or_else(|| changed("removed"))?.take(growing.bytes);
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = file.read(&mut chunk).map_err(|e| self.place.not_written(&e))?;
            let Some(piece) = chunk.get(..read).filter(|piece| !piece.is_empty()) else { break };
            open.write(piece).map_err(|e| self.place.not_written(&e))?;
        }
        if open.bytes == growing.bytes && open.hash.digest() == growing.sha256 {
            Ok(())
        } else {
            Err(changed("changed"))
        }
    }

    fn close(&mut self) -> Result<(), Stopped> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        open.file.flush().map_err(|e| self.place.not_written(&e))?;
        self.place.place(&open.name, open.file.get_ref())?;
        self.place.settle()?;
        let Some(reached) = &mut self.reached else { return Ok(()) };
        let whole = reached.next().is_multiple_of(FILE_ENTRIES);
        reached.growing = (!whole).then(|| Growing { bytes: open.bytes, sha256: open.hash.digest() });
        self.tell()
    }

    fn tell(&mut self) -> Result<(), Stopped> {
        let Some(reached) = &self.reached else { return Ok(()) };
        self.place.put(REACHED, &reached.to_bytes())?;
        self.place.settle()
    }
}

impl Open {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hash.0.update(bytes);
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.file.write_all(bytes)
    }
}
