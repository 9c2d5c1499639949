//! For programs that rely on logs: following them, with few dependencies.
//!
//! ```no_run
//! use keyward::witness::{Follower, Note, Policy, SeenFiles, Unsaid};
//!
//! # fn fetch_from_the_log(_: u64, _: u64) -> Result<Vec<keyward::domain::key::Digest>, String> { Ok(Vec::new()) }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let policy = Policy::parse(&std::fs::read("trusted.policy")?, Unsaid::Refused)?;
//! let seen = SeenFiles::open("/var/lib/portal/seen".as_ref())?;
//! let mut follower = Follower::new(policy, seen);
//! let note: Note = std::fs::read_to_string("checkpoint")?.parse()?;
//! let followed = follower.advance(&note, fetch_from_the_log)?;
//! println!("the log has {} entries", followed.satisfied.checkpoint.head.size);
//! # Ok(())
//! # }
//! ```
//! A checkpoint is believed if the policy is satisfied and it continues what was seen before; it is on the disk before
//! [`Follower::advance`] returns. A log that goes back, forks or shows no proof is refused, and what was kept stays.

pub use crate::adapters::witness::SeenFiles;
pub use crate::codec::checkpoint::Checkpoint;
pub use crate::codec::follow::{Followed, Follower, Keep, Refused, Step};
pub use crate::codec::note::Note;
pub use crate::codec::tlog_policy::{Policy, Satisfied, Unsaid, Unsatisfied};
