//! Shards of frozen entries ([`crate::codec::shard`]), read from their directories: each file must be the one that the
//! manifest names, and what is in them must be a run of the log.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use crate::codec::checkpoint::Checkpoint;
use crate::codec::ledger::{
    Beginning, Claimed, Finding, Grade, Handover, LONGEST_BEGINNING, ROTATED, Rule, Signed, Stored, Verifier,
};
use crate::codec::note::{LONGEST_NOTE, Note};
use crate::codec::shard::{
    BEGINNING, CHECKPOINTS, Kept, LONGEST_CHECKPOINTS, LONGEST_MANIFEST, MANIFEST, Manifest, Sum, evidence_path,
};
use crate::codec::tiles::{CHECKPOINT, LEVELS, WIDTH, bundle_path, partial_width, read_bundle, read_tile, tile_path};
use crate::domain::audit::LONGEST_EVIDENCE;
use crate::domain::key::Digest;

use super::{LONGEST_BUNDLE, LONGEST_TILE, NotRead};

/// Shards below one directory: one a month for eighty years.
const MOST_SHARDS: usize = 1_000;

/// A shard.
#[derive(Clone, Debug)]
pub struct Shard {
    dir: PathBuf,
    manifest: Manifest,
    digest: Digest,
}

impl Shard {
    /// Reads the manifest of one.
    ///
    /// # Errors
    /// A finding: it is missing, cannot be read, or is none.
    pub fn open(dir: &Path) -> Result<Self, Box<Finding>> {
        let path = dir.join(MANIFEST);
        let bytes = read(&path, LONGEST_MANIFEST).map_err(|why| unread(&path.display().to_string(), &why))?;
        let manifest = Manifest::parse(&bytes)
            .map_err(|e| tampered(format!("{} is no manifest of a shard: {e}", path.display())))?;
        Ok(Self { dir: dir.to_owned(), manifest, digest: Digest::of(&bytes) })
    }

    /// Every shard of these directories, each of which is one or holds some, in order: from any of them on they follow each
    /// other, and each names the one before it.
    ///
    /// # Errors
    /// A finding: what is missing, or does not follow.
    pub fn chain(dirs: &[PathBuf]) -> Result<Vec<Self>, Box<Finding>> {
        let mut found = BTreeMap::new();
        for dir in dirs {
            let before = found.len();
            for dir in directories(dir)? {
                let shard = Self::open(&dir)?;
                if let Some(other) = found.insert(shard.manifest.from, shard.clone())
                    && other.digest != shard.digest
                {
                    let text = format!(
                        "{} and {} both begin with entry {}",
                        other.shown(),
                        shard.shown(),
                        shard.manifest.from
                    );
                    return Err(tampered(text));
                }
            }
            if found.len() == before && !dirs.is_empty() && directories(dir)?.is_empty() {
                let text = format!("{} holds no shard: {MANIFEST} is missing", dir.display());
                return Err(Box::new(Finding::new(Grade::Incomplete, Rule::Missing, text)));
            }
        }
        let all: Vec<Self> = found.into_values().collect();
        for pair in all.windows(2) {
            let [one, next] = pair else { continue };
            let (end, begin) = (one.until(), next.manifest.from);
            if begin > end {
                let text = format!(
                    "the shard of the entries {end}–{} is missing: {} begins behind it",
                    begin.saturating_sub(1),
                    next.shown()
                );
                return Err(Box::new(Finding::new(Grade::Incomplete, Rule::Frozen, text)));
            }
            if begin < end || next.manifest.before != Some(one.digest) {
                let text =
                    format!("{} does not follow {}: it names another shard before it", next.shown(), one.shown());
                return Err(tampered(text));
            }
        }
        Ok(all)
    }

    /// Its first entry.
    #[must_use]
    pub fn from(&self) -> u64 {
        self.manifest.from
    }

    /// One past its last entry.
    #[must_use]
    pub fn until(&self) -> u64 {
        self.manifest.until()
    }

    /// SHA-256 of its manifest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    fn shown(&self) -> String {
        format!("the shard {}", self.dir.display())
    }

    /// What the entries before it leave behind, as it says.
    ///
    /// # Errors
    /// A finding.
    pub fn beginning(&self) -> Result<Beginning, Box<Finding>> {
        if self.manifest.from == 0 {
            return Ok(Beginning::default());
        }
        let bytes = self.file(BEGINNING, LONGEST_BEGINNING)?;
        let beginning =
            Beginning::parse(&bytes).map_err(|e| tampered(format!("{BEGINNING} of {}: {e}", self.shown())))?;
        if beginning.size() == self.manifest.from {
            Ok(beginning)
        } else {
            Err(tampered(format!("{BEGINNING} of {} is of another size than its first entry", self.shown())))
        }
    }

    /// The rotations of the log's key in it: nothing of it is proved yet.
    #[must_use]
    pub fn handovers(&self) -> Vec<Handover> {
        let mut found = Vec::new();
        // What cannot be read is found when it is verified.
        drop(self.entries(|_, body| {
            if body.windows(ROTATED.len()).any(|part| part == ROTATED.as_bytes()) {
                found.extend(Handover::read(body));
            }
            Ok(())
        }));
        found
    }

    /// Tells every entry in order.
    ///
    /// # Errors
    /// The finding that ended it, or the sentence that `each` ended it with.
    pub fn entries(&self, mut each: impl FnMut(u64, &[u8]) -> Result<(), String>) -> Result<(), Box<Finding>> {
        for index in self.manifest.from / WIDTH..self.until() / WIDTH {
            let bundle = self.file(&bundle_path(index, WIDTH), LONGEST_BUNDLE)?;
            for (sequence, body) in (index.saturating_mul(WIDTH)..).zip(self.bundle(index, &bundle)?) {
                each(sequence, body)
                    .map_err(|text| tampered(format!("entry {sequence} of {}: {text}", self.shown())))?;
            }
        }
        Ok(())
    }

    fn bundle<'b>(&self, index: u64, bytes: &'b [u8]) -> Result<Vec<&'b [u8]>, Box<Finding>> {
        let shown = || format!("{} of {}", bundle_path(index, WIDTH), self.shown());
        let entries = read_bundle(bytes).map_err(|e| tampered(format!("{} cannot be taken apart: {e}", shown())))?;
        if u64::try_from(entries.len()) == Ok(WIDTH) {
            Ok(entries)
        } else {
            Err(tampered(format!("{} has {} entries where {WIDTH} must be", shown(), entries.len())))
        }
    }

    /// A file of the manifest.
    fn file(&self, path: &str, cap: usize) -> Result<Vec<u8>, Box<Finding>> {
        let shown = || format!("{path} of {}", self.shown());
        let Some(sum) = self.manifest.files.get(path) else {
            return Err(tampered(format!("{} is not in its manifest", shown())));
        };
        let bytes = read(&self.dir.join(path), cap).map_err(|why| unread(&shown(), &why))?;
        if Sum::of(&bytes) == *sum {
            Ok(bytes)
        } else {
            Err(tampered(format!("{} is not what was frozen: its size or its SHA-256 differs", shown())))
        }
    }

    /// Hands everything to a verifier that is where the shard begins; `told` hears of entries done. What is wrong is a finding
    /// of the verifier; if that is not at the end then, the shard could not be read to its end.
    pub fn verify(&self, verifier: &mut Verifier, told: &mut dyn FnMut(u64)) {
        let mut pass = Pass {
            shard: self,
            verifier,
            unread: self.manifest.files.keys().cloned().collect(),
            hashes: BTreeMap::new(),
        };
        if let Err(finding) = pass.run(told) {
            pass.verifier.find(*finding);
        }
        // Whatever else the manifest names, so that no file of it can be another.
        for path in core::mem::take(&mut pass.unread) {
            if let Err(finding) = self.file(&path, LONGEST_CHECKPOINTS) {
                pass.verifier.find(*finding);
            }
        }
        // Of a shard that could not be read to its end the entry of its freeze may not be read either.
        if verifier.size() == self.until() {
            verifier.claim(Claimed {
                what: self.shown(),
                from: self.manifest.from,
                head: self.manifest.head,
                manifest: self.digest,
            });
        }
    }
}

/// One shard that is being verified.
struct Pass<'s, 'v> {
    shard: &'s Shard,
    verifier: &'v mut Verifier,
    /// Files of the manifest that nobody has looked at.
    unread: BTreeSet<String>,
    /// Hashes of complete tiles, by level and place.
    hashes: BTreeMap<(u8, u64), Digest>,
}

impl Pass<'_, '_> {
    fn run(&mut self, told: &mut dyn FnMut(u64)) -> Result<(), Box<Finding>> {
        let shard = self.shard;
        if shard.manifest.from > 0 {
            // Whether it is right says the entry of the freeze before it; where the pass came from there it is the same.
            self.unread.remove(BEGINNING);
            let beginning = shard.beginning()?;
            if beginning != self.verifier.carry() {
                let text = format!("{BEGINNING} of {} is not what the entries before it leave behind", shard.shown());
                self.verifier.find(*tampered(text));
            }
        }
        let mut kept = self.kept()?.into_iter().peekable();
        for index in shard.manifest.from / WIDTH..shard.until() / WIDTH {
            let bundle = self.take(&bundle_path(index, WIDTH), LONGEST_BUNDLE)?;
            let tile = self.take(&tile_path(0, index, WIDTH), LONGEST_TILE)?;
            let leaves = read_tile(&tile).unwrap_or_default();
            let first = index.saturating_mul(WIDTH);
            for (at, body) in shard.bundle(index, &bundle)?.into_iter().enumerate() {
                let sequence = first.saturating_add(u64::try_from(at).unwrap_or(0));
                let Some(leaf) = leaves.get(at).copied() else {
                    return Err(tampered(format!(
                        "{} of {} has too few hashes",
                        tile_path(0, index, WIDTH),
                        shard.shown()
                    )));
                };
                let needs = self.verifier.entry(&Stored { sequence, id: None, at: None, leaf: Some(leaf), body });
                self.hashes.extend(needs.subtrees.iter().map(|(s, hash)| ((s.level / 8, s.place), *hash)));
                needs.evidence.iter().for_each(|named| self.evidence(&named.sha256, named.size));
                // Private texts are not frozen: they are deleted.
                needs.private.iter().for_each(|_| self.verifier.missing_private());
                while let Some(kept) = kept.next_if(|kept| kept.size <= self.verifier.size()) {
                    let signed = Signed { size: Some(kept.size), at: Some(kept.at), note: &kept.note };
                    self.verifier.checkpoint(&signed);
                }
            }
            told(self.verifier.size());
        }
        if let Some(beyond) = kept.next() {
            self.verifier.find(*tampered(format!(
                "{CHECKPOINTS} of {} has one of size {}",
                shard.shown(),
                beyond.size
            )));
        }
        self.end()
    }

    /// Root, upper tiles, checkpoint.
    fn end(&mut self) -> Result<(), Box<Finding>> {
        let (shard, head) = (self.shard, self.verifier.carry().tree.head());
        if head != shard.manifest.head {
            self.verifier
                .find(*tampered(format!("the entries of {} do not have the root of its manifest", shard.shown())));
        }
        for level in 1..LEVELS {
            let count = shard.until().checked_shr(u32::from(level).saturating_mul(8)).unwrap_or(0);
            let before = shard.manifest.from.checked_shr(u32::from(level).saturating_mul(8)).unwrap_or(0);
            for index in before / WIDTH..count.div_ceil(WIDTH) {
                let full = index < count / WIDTH;
                let width = if full { WIDTH } else { partial_width(level, shard.until()) };
                self.upper(level, index, width, before)?;
            }
        }
        let note = self.take(CHECKPOINT, LONGEST_NOTE)?;
        let note = String::from_utf8_lossy(&note).into_owned();
        let said = note.parse::<Note>().ok().and_then(|note| Checkpoint::of(&note).ok());
        if said.is_none_or(|said| said.origin != shard.manifest.origin) {
            self.verifier
                .find(*tampered(format!("the checkpoint of {} is of another log than its manifest", shard.shown())));
        }
        let what = format!("the checkpoint of {}", shard.shown());
        self.verifier.covered(&what, &note, &shard.manifest.consistency);
        Ok(())
    }

    /// A tile of an upper level: its hashes of this run are those of the entries.
    fn upper(&mut self, level: u8, index: u64, width: u64, before: u64) -> Result<(), Box<Finding>> {
        let path = tile_path(level, index, width);
        let bytes = self.take(&path, LONGEST_TILE)?;
        let found = read_tile(&bytes).unwrap_or_default();
        let first = index.saturating_mul(WIDTH);
        let fits = (first.max(before)..first.saturating_add(width)).all(|place| {
            let at = usize::try_from(place.saturating_sub(first)).unwrap_or(usize::MAX);
            found.get(at).is_some() && found.get(at) == self.hashes.get(&(level, place))
        });
        if !fits || u64::try_from(found.len()) != Ok(width) {
            let text = format!("{path} of {} has other hashes than the entries give", self.shard.shown());
            self.verifier.find(Finding::new(Grade::Tampered, Rule::Derived, text));
        }
        Ok(())
    }

    fn kept(&mut self) -> Result<Vec<Kept>, Box<Finding>> {
        let bytes = self.take(CHECKPOINTS, LONGEST_CHECKPOINTS)?;
        Kept::parse_lines(&bytes)
            .map_err(|e| tampered(format!("{CHECKPOINTS} of {} cannot be read: {e}", self.shard.shown())))
    }

    fn take(&mut self, path: &str, cap: usize) -> Result<Vec<u8>, Box<Finding>> {
        self.unread.remove(path);
        self.shard.file(path, cap)
    }

    fn evidence(&mut self, sha256: &Digest, size: u64) {
        let path = evidence_path(sha256);
        match read(&self.shard.dir.join(&path), LONGEST_EVIDENCE) {
            Err(NotRead::Absent) => self.verifier.missing_evidence(),
            Err(why) => self.verifier.find(*unread(&format!("{path} of {}", self.shard.shown()), &why)),
            Ok(bytes) if Digest::of(&bytes) == *sha256 && u64::try_from(bytes.len()) == Ok(size) => {}
            Ok(_) => {
                let text = format!("{path} of {} has bytes of another hash or size", self.shard.shown());
                self.verifier.find(Finding::new(Grade::Tampered, Rule::Blob, text));
            }
        }
    }
}

/// The directory itself if it is a shard, else those below it that are.
fn directories(dir: &Path) -> Result<Vec<PathBuf>, Box<Finding>> {
    if dir.join(MANIFEST).exists() {
        return Ok(vec![dir.to_owned()]);
    }
    let failed = |e: &std::io::Error| unread(&dir.display().to_string(), &NotRead::Failed(e.to_string()));
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| failed(&e))?.take(MOST_SHARDS) {
        let path = entry.map_err(|e| failed(&e))?.path();
        if path.join(MANIFEST).exists() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// A file, whole.
pub(super) fn read(path: &Path, cap: usize) -> Result<Vec<u8>, NotRead> {
    let mut bytes = Vec::new();
    let most = u64::try_from(cap).unwrap_or(u64::MAX).saturating_add(1);
    match File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)) {
        Ok(_) if bytes.len() > cap => Err(NotRead::TooLong(cap)),
        Ok(_) => Ok(bytes),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Err(NotRead::Absent),
        Err(e) => Err(NotRead::Failed(e.to_string())),
    }
}

fn unread(what: &str, why: &NotRead) -> Box<Finding> {
    Box::new(match why {
        NotRead::Absent => Finding::new(Grade::Incomplete, Rule::Missing, format!("{what} is missing")),
        NotRead::TooLong(cap) => Finding::new(
            Grade::Tampered,
            Rule::Shard,
            format!("{what} is longer than the {cap} bytes that it may have"),
        ),
        NotRead::Failed(error) => {
            Finding::new(Grade::Unverifiable, Rule::Unreadable, format!("{what} cannot be read: {error}"))
        }
    })
}

fn tampered(text: String) -> Box<Finding> {
    Box::new(Finding::new(Grade::Tampered, Rule::Shard, text))
}
