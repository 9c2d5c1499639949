//! A simulated world: clock, entropy, store, CA, hosts and faults. The engine runs under it unchanged.

pub mod store;
