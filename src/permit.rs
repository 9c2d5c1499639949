//! For programs that commit decisions: permits of a guardian, each for one decision.
//!
//! ```no_run
//! use keyward::permit::{Digest, Keys, Memory, VolatileEpochs, boot_id, now, verify};
//! use keyward::permit::{AudienceId, Expected, PathId};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (permit, decision) = (Vec::new(), "");
//! let keys = Keys::parse(&std::fs::read_to_string("/etc/portal/keyward.keys")?)?;
//! let expected = Expected::here(AudienceId::parse("portal")?, PathId::parse("approve")?, boot_id());
//! // The database fences epochs; see docs/permits.md.
//! let mut memory = Memory::new(VolatileEpochs::default());
//! let digest = Digest::of(decision.as_bytes());
//! let permit = verify(&permit, &keys, &expected, &digest, now(), &mut memory)?;
//! // Now spend it inside the decision's own transaction: keyward_spend(…).
//! println!("{} {}", permit.grant.epoch, permit.grant.sequence);
//! # Ok(())
//! # }
//! ```
//! That a permit is spent once, and that time has not run out when the decision is committed, only the decision's own
//! database can say: `docs/permits.md` has the function for PostgreSQL.

pub use crate::codec::lease::{
    Epochs, KeptEpochs, Memory, Rejected, VolatileEpochs, read_permit, verify_permit as verify,
};
pub use crate::codec::statement::Keys;
pub use crate::domain::key::Digest;
pub use crate::domain::lease::{Permit, Refused};
pub use crate::lease::{AudienceId, Environment, Expected, Machine, Moment, PathId, SeenFiles, boot_id, now};
