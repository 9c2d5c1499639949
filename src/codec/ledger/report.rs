//! What verifying a log came to.

use super::finding::{Findings, Grade};
use crate::domain::time::Timestamp;
use crate::domain::tree::TreeHead;

/// Deletable pieces, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blobs {
    /// That entries name.
    pub named: u64,
    /// Of those, that are not there any more: they may be deleted.
    pub missing: u64,
}

/// The result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which log, as its checkpoints say.
    pub origin: Option<String>,
    /// The first entry that was read: those before it are frozen.
    pub begins: u64,
    /// Entries of the log up to the last that was read.
    pub entries: u64,
    /// When the first and the newest of them were written, as they say.
    pub span: Option<(Timestamp, Timestamp)>,
    /// The newest checkpoint that is signed by a key that counts and has the root of the entries: those before its size
    /// are proved.
    pub proved: Option<TreeHead>,
    /// Checkpoints that were looked at.
    pub checkpoints: u64,
    /// For each witness the largest size that it saw, and when.
    pub witnessed: Vec<(String, u64, Timestamp)>,
    /// Everything from outside that the log agrees with.
    pub agrees: Vec<String>,
    /// Intents without an outcome.
    pub unresolved: u64,
    /// Evidence.
    pub evidence: Blobs,
    /// Private texts.
    pub private: Blobs,
    /// Everything that was found.
    pub findings: Findings,
}

impl Report {
    /// The exit code of `keyward audit verify`.
    #[must_use]
    pub fn exit(&self) -> u8 {
        self.findings.worst().map_or(0, Grade::exit)
    }

    /// `ok`, or the grade of the worst finding.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        match self.findings.worst() {
            None | Some(Grade::Warning) => "ok",
            Some(grade) => grade.as_str(),
        }
    }

    /// The first entry that is not what was signed, if it is known.
    #[must_use]
    pub fn first_bad(&self) -> Option<u64> {
        self.findings.first_bad()
    }

    /// What can still be believed, in sentences.
    #[must_use]
    pub fn trustworthy(&self) -> Vec<String> {
        let mut out = Vec::new();
        let begins = self.begins;
        if begins > 0 {
            out.push(format!("{} frozen: only the root over them is known", entries(0, begins)));
        }
        let proved = self.proved.map_or(0, |head| head.size);
        match (proved, self.first_bad()) {
            (0, _) if self.entries == 0 && self.proved.is_some() => {
                out.push("the log is empty, and that is signed".into())
            }
            (0, _) => out.push("no entry is proved by a checkpoint".into()),
            (size, Some(bad)) if bad < size => {
                if bad > begins {
                    out.push(format!("{} proved by the checkpoint of size {size}", entries(begins, bad)));
                }
                out.push(format!("entry {bad} is the first that is not what was signed"));
                if bad.saturating_add(1) < size {
                    let rest = entries(bad.saturating_add(1), size);
                    out.push(format!("{rest} proved by the same checkpoint, but for those that are named"));
                }
            }
            (size, _) => out.push(format!("{} proved by the checkpoint of size {size}", entries(begins, size))),
        }
        if proved < self.entries {
            let rest = entries(proved.max(begins), self.entries);
            out.push(format!("{} not proved by any checkpoint", rest));
        }
        out
    }
}

/// `entries 0–411 are`, `entry 0 is`
fn entries(from: u64, to: u64) -> String {
    match to.saturating_sub(1) {
        last if last == from => format!("entry {from} is"),
        last => format!("entries {from}–{last} are"),
    }
}
