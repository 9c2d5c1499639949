//! What verifying found, and what it means.

use core::fmt;

/// How bad a finding is. The order is that in which they count: the exit code is that of the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Something that is there is not what was signed, or contradicts the rest.
    Tampered,
    /// All that is there is right, and something outside proves that there was more.
    RolledBack,
    /// Something that was signed is not there.
    Incomplete,
    /// Nothing can be said: no key, no checkpoint, no way to read.
    Unverifiable,
    /// Odd, and no proof of anything.
    Warning,
}

impl Grade {
    /// The exit code of `keyward audit verify`.
    #[must_use]
    pub fn exit(self) -> u8 {
        match self {
            Self::Tampered => 2,
            Self::RolledBack => 3,
            Self::Incomplete => 4,
            Self::Unverifiable => 5,
            Self::Warning => 0,
        }
    }

    /// In a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tampered => "tampered",
            Self::RolledBack => "rolled back",
            Self::Incomplete => "incomplete",
            Self::Unverifiable => "unverifiable",
            Self::Warning => "warning",
        }
    }
}

/// Which rule is broken: each has a stable code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// An entry's bytes have another hash than its leaf.
    Leaf,
    /// An entry does not have the next number.
    Order,
    /// A column is not what the entry's bytes say.
    Column,
    /// Bytes that are no canonical JSON, or no entry.
    Form,
    /// The link to the previous entry about the same target is another.
    Link,
    /// An outcome without its intent, or a second one.
    Pair,
    /// The entries have another root than a checkpoint says.
    Root,
    /// A checkpoint that is not signed as it must be, or is no checkpoint.
    Signature,
    /// What was given from outside has another root for the same entries.
    Fork,
    /// What was given from outside is larger than the log.
    Rollback,
    /// Entries that a checkpoint covers are missing.
    Missing,
    /// Entries that no checkpoint covers.
    Uncovered,
    /// A derived table is not what the entries say.
    Derived,
    /// Evidence or a private text that is not what its hash says.
    Blob,
    /// A witness's signature that is wrong or missing.
    Witness,
    /// There is no checkpoint, or no key for it.
    Unsigned,
    /// The source cannot be read.
    Unreadable,
    /// A time before an earlier entry's.
    Time,
    /// A proof that does not lead from its entry to its checkpoint, or is none.
    Proof,
    /// A shard of frozen entries, or what is kept of them, is not what the log says.
    Shard,
    /// Frozen entries were not read.
    Frozen,
}

impl Rule {
    /// Its stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Leaf => "KW6101",
            Self::Order => "KW6102",
            Self::Column => "KW6103",
            Self::Form => "KW6104",
            Self::Link => "KW6105",
            Self::Pair => "KW6106",
            Self::Root => "KW6107",
            Self::Signature => "KW6108",
            Self::Fork => "KW6109",
            Self::Rollback => "KW6110",
            Self::Missing => "KW6111",
            Self::Uncovered => "KW6112",
            Self::Derived => "KW6113",
            Self::Blob => "KW6114",
            Self::Witness => "KW6115",
            Self::Unsigned => "KW6116",
            Self::Unreadable => "KW6117",
            Self::Time => "KW6118",
            Self::Proof => "KW6119",
            Self::Shard => "KW6120",
            Self::Frozen => "KW6121",
        }
    }
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub grade: Grade,
    /// Which rule.
    pub rule: Rule,
    /// The first entry that it is about, if it is about one.
    pub sequence: Option<u64>,
    /// A sentence: what was seen, and what was expected.
    pub text: String,
}

impl Finding {
    pub(super) fn tampered(rule: Rule, sequence: impl Into<Option<u64>>, text: impl Into<String>) -> Self {
        Self { grade: Grade::Tampered, rule, sequence: sequence.into(), text: text.into() }
    }

    /// A finding about no entry.
    #[must_use]
    pub fn new(grade: Grade, rule: Rule, text: impl Into<String>) -> Self {
        Self { grade, rule, sequence: None, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.rule.code(), self.grade.as_str(), self.text)
    }
}

/// Findings that are kept word for word; the others are only counted.
const MOST_KEPT: usize = 100;

/// All findings: the first of them word for word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    kept: Vec<Finding>,
    more: u64,
    worst: Option<Grade>,
    first: Option<u64>,
}

impl Findings {
    pub(super) fn add(&mut self, finding: Finding) {
        self.worst = Some(self.worst.map_or(finding.grade, |worst| worst.min(finding.grade)));
        if finding.grade == Grade::Tampered
            && let Some(at) = finding.sequence
        {
            self.first = Some(self.first.map_or(at, |first| first.min(at)));
        }
        if self.kept.len() < MOST_KEPT {
            self.kept.push(finding);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    /// The worst grade; `None` without findings.
    #[must_use]
    pub fn worst(&self) -> Option<Grade> {
        self.worst
    }

    /// The first entry that is not what was signed.
    #[must_use]
    pub fn first_bad(&self) -> Option<u64> {
        self.first
    }

    /// The first hundred.
    #[must_use]
    pub fn kept(&self) -> &[Finding] {
        &self.kept
    }

    /// How many there are beyond those.
    #[must_use]
    pub fn more(&self) -> u64 {
        self.more
    }
}
