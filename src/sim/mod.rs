//! A simulated world: clock, entropy, store, CA, hosts and faults. The engine runs under it unchanged, a decade in
//! seconds, on one thread, the same for the same seed.

pub mod ca;
pub mod clock;
pub mod host;
pub mod lists;
pub mod signer;
pub mod spool;
pub mod store;
pub mod world;
