//! What passes between a log and its witnesses (C2SP tlog-witness), in plain words.

use crate::domain::key::Digest;
use crate::domain::time::Timestamp;
use crate::domain::tree::TreeHead;

/// Why a witness does not cosign a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request cannot be understood.
    #[error("{0}")]
    Malformed(String),
    /// The log is not configured.
    #[error("the origin {0:?} is not known here")]
    UnknownOrigin(String),
    /// No key of the log that is trusted here has signed it.
    #[error("no key that is trusted here for {0:?} has signed the checkpoint")]
    Unsigned(String),
    /// The old size is beyond the checkpoint's.
    #[error("the old size {old} is larger than the checkpoint's {new}")]
    OldAboveNew {
        /// What the request says.
        old: u64,
        /// The checkpoint's size.
        new: u64,
    },
    /// The last checkpoint that was cosigned has another size than the request says.
    #[error("the last checkpoint that was cosigned has the size {recorded}")]
    Stale {
        /// Its size.
        recorded: u64,
    },
    /// Two roots for one size, both signed: the log shows different trees to different people.
    #[error("{origin:?} has forked: at size {size} the root {seen} was cosigned, and now {shown} is shown")]
    Forked {
        /// Which log.
        origin: String,
        /// The size.
        size: u64,
        /// The root that was cosigned.
        seen: Digest,
        /// The root that is shown now.
        shown: Digest,
    },
    /// The signed checkpoint is not shown to continue the one that was cosigned.
    #[error("the checkpoint of {origin:?} at size {new} is not shown to continue that at size {old}: {why}")]
    Inconsistent {
        /// Which log.
        origin: String,
        /// The size that was cosigned.
        old: u64,
        /// The size that is shown now.
        new: u64,
        /// What does not hold.
        why: String,
    },
    /// Too many requests.
    #[error("too many requests: {0}")]
    Busy(String),
    /// What was seen cannot be written down, so nothing is cosigned.
    #[error("what was seen cannot be written down: {0}")]
    Unavailable(String),
}

/// What a witness says about our own log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// It has seen our tree up to this size, and nothing else.
    Agrees {
        /// The size that it cosigned.
        size: u64,
    },
    /// It has seen more than we have: our state was rolled back.
    SawMore {
        /// The size that it cosigned.
        size: u64,
    },
    /// It has seen another tree.
    SawAnother {
        /// The size of ours that it refuses.
        size: u64,
    },
    /// It does not answer, or what it answers makes no sense: nothing is known.
    Silent(String),
}

/// Where a witness of our own log stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What the policy calls it.
    pub name: String,
    /// The largest tree of ours that it cosigned; 0 if none.
    pub size: u64,
    /// When it cosigned that, by its own clock.
    pub at: Option<Timestamp>,
    /// Why the last try failed.
    pub fault: Option<String>,
}

/// What is known of all witnesses of our own log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Witnessed {
    /// Each of them.
    pub witnesses: Vec<Standing>,
    /// Whether the policy says `quorum none`.
    pub quorum_none: bool,
    /// The largest tree of ours that the quorum cosigned.
    pub quorum: Option<TreeHead>,
}
