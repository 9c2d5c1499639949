//! Looks at an endpoint that reached nobody: what is remembered over them, and for how long that may stand for an answer.
//!
//! Refuses to know how to look, and what an answer means.

use core::time::Duration;
use std::sync::Arc;

use crate::domain::certificate::Chain;
use crate::domain::time::{Boottime, Timestamp};

/// An endpoint that the newest looks did not reach, with what the look before them saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// How many in a row.
    pub times: u32,
    /// When the first of them began, on the clock that does not step.
    pub since: Boottime,
    /// When the endpoint was seen before.
    pub seen_at: Timestamp,
    /// What it served then.
    pub chain: Arc<Chain>,
}

/// How many looks in a row may miss an endpoint before a path closes, where nothing is configured.
pub const USUAL_MISSES: u32 = 3;
/// And where more is: a missed endpoint is looked at again at once for no longer than that.
pub const MOST_MISSES: u32 = 5;
/// After the first of them has begun, misses are borne for no longer than this, however few they are: what a consumer
/// holds of the time before has ended by itself then, for a lease lives no longer.
pub const MISSED_FOR: Duration = Duration::from_secs(15);
