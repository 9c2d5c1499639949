//! Keyward: a certificate and key lifecycle guardian.
//!
//! # The layers, one way only
//!
//! | layer | holds | may import |
//! |---|---|---|
//! | [`domain`] | the rules: pure, told the time | earlier files of itself |
//! | [`ports`] | every door to the world, with its contract | domain |
//! | [`engine`] | the cycle and its use cases; async, knows only doors | domain, ports |
//! | [`codec`] | encodings: bytes to facts and back; pure | domain |
//! | [`adapters`] | one door each; never import each other | domain, ports, codec |
//! | [`sim`] | simulated clock, entropy, store, CA and faults | domain, ports, engine |
//! | [`witness`] | a door for programs that follow logs | domain, codec, adapters |
//! | [`lease`], [`permit`] | doors for programs that rely on a guardian | domain, ports, codec, adapters |
//! | [`shell`] | configuration, wiring, daemon, command line, HTTP, demo | everything |
//!
//! `tests/it/architecture.rs` holds the code to this table.
//!
//! # One cycle
//!
//! observe → assess → plan (and check the plan) → decide → execute → verify → record, then sleep until the plan's
//! `wake_at`, and look at everything again at intervals.
//!
//! # What is true everywhere
//!
//! - The domain never learns the time; it is told. Jitter is a stable hash.
//! - The planner never acts; the executor never chooses.
//! - No effect without a committed intent; no intent without a decision. A "no" is data ([`domain::plan::Held`]).
//! - One transaction writes a change of state and its audit entry.
//! - Private-key bytes never cross [`ports`] except inside [`ports::KeyStore`].
//! - HTTP status codes exist only in `shell/http` and in the ACME server beside it; `shell/wire.rs` alone names concrete
//!   adapters.
//! - Every loop, queue, retry, body, cache and wait has a limit.
//! - What cannot be told is closed.

pub mod adapters;
pub mod codec;
pub mod domain;
pub mod engine;
pub mod lease;
pub mod permit;
pub mod ports;
pub mod shell;
pub mod sim;
pub mod witness;
