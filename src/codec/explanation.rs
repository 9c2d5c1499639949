//! Why a path is as it is, as a file: the snapshot that was judged, and the verdict over it. Whoever has the file judges
//! the snapshot again and compares.
//!
//! Refuses to know how the judging is done: that is [`crate::domain::gate::judge`].

use serde::{Deserialize, Serialize};

use super::ParseError;
pub use super::snapshot::SnapshotText;
use super::statement::{self, Keys, LONGEST_STATEMENT};
use crate::domain::gate::{Reason, Verdict, judge};
use crate::domain::json::Json;
use crate::domain::snapshot::Snapshot;
use crate::domain::statement::Context;

/// What such a file says that it is.
pub const KIND: &str = "keyward-gate-explanation-v1";
/// At most so long in bytes: a thousand credentials with chains of four make some 3 MB.
pub const LONGEST: usize = 16 << 20;

/// The file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Explanation {
    /// [`KIND`].
    pub kind: String,
    /// What was judged.
    pub snapshot: SnapshotText,
    /// What came of it.
    pub verdict: VerdictText,
    /// The same under the guardian's key ([`Context::Explanation`]): digest of the inputs, state, codes, times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
}

/// A verdict as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerdictText {
    /// Whether the path is open.
    pub open: bool,
    /// Why it is closed; empty when open.
    pub reasons: Vec<ReasonText>,
    /// What is borne for a while, and closes it if it stays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<ReasonText>,
    /// Open at the latest until then.
    pub until: String,
    /// The part that ends first.
    pub weakest: Option<String>,
    /// [`Snapshot::digest`].
    pub inputs: String,
}

/// A reason as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReasonText {
    /// Stable code.
    pub code: String,
    /// Which credential, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// One sentence.
    pub text: String,
    /// What reopens the path.
    pub reopens: String,
}

/// What came of judging a file again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// The verdict as it is judged now.
    pub verdict: Verdict,
    /// What differs from the one in the file, in words; empty means nothing.
    pub differs: Vec<String>,
}

impl Explanation {
    /// Judges a snapshot and writes both down.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        let verdict = VerdictText::of(&judge(snapshot));
        Self { kind: KIND.to_owned(), snapshot: SnapshotText::of(snapshot), verdict, statement: None }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// If it is too long or no such file.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        if bytes.len() > LONGEST {
            return Err(ParseError(format!("has {} bytes; an explanation has at most {LONGEST}", bytes.len())));
        }
        let read: Self = serde_json::from_slice(bytes).map_err(|e| ParseError(format!("is no explanation: {e}")))?;
        if read.kind == KIND {
            Ok(read)
        } else {
            Err(ParseError(format!("is of the kind {:?}, expected {KIND:?}", read.kind)))
        }
    }

    /// What is signed: canonical JSON. The digest binds the snapshot.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        let text = |text: &str| Json::str(text.to_owned());
        let VerdictText { open, reasons, warnings: _, until, weakest: _, inputs } = &self.verdict;
        let pairs = [
            ("at", text(&self.snapshot.at)),
            ("inputs", text(inputs)),
            ("open", Json::Bool(*open)),
            ("path", text(&self.snapshot.path)),
            ("reasons", Json::arr(reasons.iter().map(|r| text(&r.code)))),
            ("until", text(until)),
        ];
        Json::obj(pairs).canonical()
    }

    /// Whether a guardian with one of these keys said exactly this; gives its name. What it signed has to be compared with
    /// the snapshot by [`Explanation::replay`].
    ///
    /// # Errors
    /// If nothing is signed, by none of these keys, or something else.
    pub fn said_by(&self, keys: &Keys) -> Result<String, ParseError> {
        let text = self.statement.as_deref().ok_or_else(|| ParseError::new("nobody signed it"))?;
        let opened = statement::open(text.as_bytes(), Context::Explanation, keys, LONGEST_STATEMENT)
            .map_err(|e| ParseError(format!("its statement: {e}")))?;
        if opened.payload == self.payload() {
            Ok(opened.issuer)
        } else {
            Err(ParseError::new("its statement is about something else: the file was changed after it was signed"))
        }
    }

    /// Judges the snapshot again, and compares with what the file says came of it.
    ///
    /// # Errors
    /// If the snapshot holds anything that none can hold.
    pub fn replay(&self) -> Result<Replayed, ParseError> {
        let verdict = judge(&self.snapshot.read()?);
        let (now, then) = (VerdictText::of(&verdict), &self.verdict);
        let mut differs = Vec::new();
        let mut compare = |what: &str, now: String, then: String| {
            if now != then {
                differs.push(format!("{what}: the file says {then}, judged again it is {now}"));
            }
        };
        let state = |open: bool| if open { "open".to_owned() } else { "closed".to_owned() };
        compare("state", state(now.open), state(then.open));
        let codes = |v: &VerdictText| v.reasons.iter().map(|r| r.code.as_str()).collect::<Vec<_>>().join(", ");
        compare("reasons", codes(&now), codes(then));
        compare("texts of the reasons", format!("{:?}", now.reasons), format!("{:?}", then.reasons));
        compare("warnings", format!("{:?}", now.warnings), format!("{:?}", then.warnings));
        compare("holds until", now.until.clone(), then.until.clone());
        let weakest = |v: &VerdictText| v.weakest.clone().unwrap_or_else(|| "nothing".to_owned());
        compare("weakest link", weakest(&now), weakest(then));
        compare("digest of the inputs", now.inputs.clone(), then.inputs.clone());
        Ok(Replayed { verdict, differs })
    }
}

impl VerdictText {
    /// From a verdict.
    #[must_use]
    pub fn of(verdict: &Verdict) -> Self {
        let reason = |r: &Reason| ReasonText {
            code: r.code.to_owned(),
            credential: r.credential.as_ref().map(ToString::to_string),
            text: r.text.clone(),
            reopens: r.reopens.to_owned(),
        };
        Self {
            open: verdict.is_open(),
            reasons: verdict.reasons.iter().map(reason).collect(),
            warnings: verdict.warnings.iter().map(reason).collect(),
            until: verdict.until.to_string(),
            weakest: verdict.weakest.as_deref().map(str::to_owned),
            inputs: verdict.inputs.to_string(),
        }
    }
}
