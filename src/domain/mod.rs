//! The rules: pure functions over plain data.
//!
//! Nothing in here performs I/O, reads a clock, draws a random number, logs or knows serde. Time and randomness are
//! arguments. Files stand in the order of the list below and each may name only earlier ones;
//! `tests/it/architecture.rs` holds them to it.

pub mod time;
pub mod key;
pub mod json;
pub mod id;
pub mod name;
pub mod spiffe;
pub mod statement;
pub mod certificate;
pub mod authority;
pub mod rotation;
pub mod limits;
pub mod policy;
pub mod guard;
pub mod freeze;
pub mod missed;
pub mod tracked;
pub mod inventory;
pub mod looked;
pub mod renewal;
pub mod revocation;
pub mod tree;
pub mod private;
pub mod witness;
pub mod words;
pub mod question;
pub mod audit;
pub mod execution;
pub mod register;
pub mod upkeep;
pub mod directory;
pub mod exception;
pub mod state;
pub mod rotating;
pub mod before;
pub mod changes;
pub mod successor;
pub mod assessment;
pub mod keyring;
pub mod frozen;
pub mod held;
pub mod breaker;
pub mod plan;
pub mod check;
pub mod verification;
pub mod snapshot;
pub mod gate;
pub mod nature;
pub mod link;
pub mod workload;
pub mod lease;
pub mod graph;
pub mod standing;
pub mod story;
