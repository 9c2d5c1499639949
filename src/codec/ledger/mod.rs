//! Verifying an audit log: pure, in one pass, in memory that grows with the number of targets and of open intents only.
//!
//! Whoever drives it hands in the keys that count and what is known from outside ([`Trust`], [`Anchor`]), then every
//! entry and every checkpoint in order, then what derived tables hold. It refuses to know where a log lies: a database, a
//! directory and a web server are all read by the same rules.
//!
//! ```text
//! entries ─► own bytes: canonical? leaf? number, id, time as in the columns?     (inspect)
//!         ─► among each other: next number, link to the previous of the target, intent and outcome, time
//!         ─► tree ─► root at the size of each checkpoint = the root that is signed
//!                 ─► root at the size of what is known from outside = the root that it says
//! ```
//!
//! Where the first entries are frozen (decision 0012), a pass begins behind them with what they leave behind
//! ([`Beginning`]), or with their shards, one after the other.
//!
//! An entry is proved if its bytes have its leaf's hash and a signed checkpoint beyond it has the root over the leaves.

mod beginning;
mod finding;
mod fold;
mod inspect;
mod proof;
mod record;
mod report;
mod trust;
mod verifier;

pub use beginning::{Beginning, Claimed, FREEZE, FROZE, Frozen, LONGEST_BEGINNING, Pending};
pub use finding::{Finding, Findings, Grade, Rule};
pub use fold::{Fold, Secret, WordHash};
pub use inspect::{Stored, expect_rows, inspect};
pub use proof::{FORMAT, LONGEST_DOCUMENT, Proof, Proved};
pub use record::{Named, Record};
pub use report::{Blobs, Report};
pub use trust::{Handover, Judged, Learned, ROTATED, RangedKey, Trust};
pub use verifier::{Anchor, Needs, Signed, Verifier};
