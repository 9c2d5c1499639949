//! For programs that guard something: leases of a guardian, verified by every rule.
//!
//! ```no_run
//! use keyward::lease::{Expected, Keys, LeaseHolder, SeenFiles};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let keys = Keys::parse(&std::fs::read_to_string("/etc/portal/keyward.keys")?)?;
//! let seen = SeenFiles::open("/var/lib/portal/epochs".as_ref())?;
//! let holder = LeaseHolder::here(keys, "portal", "approve", seen)?;
//! // Every few seconds, from the file, the gate's socket or the stream:
//! holder.take(&std::fs::read("/run/keyward/approve.lease")?)?;
//! // Before every decision; no I/O:
//! if holder.is_open() {
//!     println!("go on");
//! }
//! # Ok(())
//! # }
//! ```
//! The holder is open while a lease is held whose end has come on neither clock. What a lease is, byte by byte, stands in
//! `docs/lease.md`.

use crate::adapters::clock::SystemClock;
use crate::domain::id::SlugError;
use crate::ports::Clock as _;

pub use crate::adapters::witness::SeenFiles;
pub use crate::codec::lease::{Epochs, Holder, KeptEpochs, Memory, Rejected, VolatileEpochs, agrees, read, verify};
pub use crate::codec::statement::{Keys, NotOpened};
pub use crate::domain::id::{AudienceId, PathId};
pub use crate::domain::inventory::Environment;
pub use crate::domain::lease::{Expected, Grant, LIFE, Lease, Machine, Moment, REFRESH, Refused};
pub use crate::domain::time::{Boottime, Timestamp};

/// Both clocks of this machine.
#[must_use]
pub fn now() -> Moment {
    let clock = SystemClock::default();
    read_clocks(&clock)
}

/// Which boot this is.
#[must_use]
pub fn boot_id() -> String {
    SystemClock::new().boot_id().to_string()
}

/// The wall clock last: whatever stops us after it finds the lease older, not younger.
fn read_clocks(clock: &SystemClock) -> Moment {
    let boot = clock.boottime();
    Moment { wall: clock.now(), boot }
}

/// A [`Holder`] over this machine's clocks.
#[derive(Debug)]
pub struct LeaseHolder<E> {
    holder: Holder<E>,
    clock: SystemClock,
}

impl LeaseHolder<KeptEpochs<SeenFiles>> {
    /// On the guardian's machine, in production; epochs are kept in files.
    ///
    /// # Errors
    /// If audience or path cannot be names.
    pub fn here(keys: Keys, audience: &str, path: &str, seen: SeenFiles) -> Result<Self, SlugError> {
        let expected = Expected::here(AudienceId::parse(audience)?, PathId::parse(path)?, boot_id());
        Ok(Self::new(keys, expected, KeptEpochs(seen)))
    }
}

impl<E: Epochs> LeaseHolder<E> {
    /// Holds nothing yet: closed.
    pub fn new(keys: Keys, expected: Expected, epochs: E) -> Self {
        Self { holder: Holder::new(keys, expected, epochs), clock: SystemClock::new() }
    }

    /// Takes a lease as it came, if every rule holds.
    ///
    /// # Errors
    /// [`Rejected`]: what was held stays, and ends in its own time.
    pub fn take(&self, text: &[u8]) -> Result<(), Rejected> {
        self.holder.take(text, read_clocks(&self.clock))
    }

    /// On another machine than the guardian's: takes the answer to `nonce`, which was sent at `asked` ([`now`]).
    ///
    /// # Errors
    /// As [`LeaseHolder::take`].
    pub fn take_answer(&self, text: &[u8], nonce: &str, asked: Boottime) -> Result<(), Rejected> {
        self.holder.take_answer(text, nonce, asked, read_clocks(&self.clock))
    }

    /// The guardian said that the path is closed: what was held never opens again.
    pub fn close(&self) {
        self.holder.close();
    }

    /// Whether the path is open now: no I/O, no waiting.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.holder.is_open(read_clocks(&self.clock))
    }
}
