//! One door of [`crate::ports`] each. No adapter imports another; `shell/wire.rs` puts them together.

pub mod acme;
pub mod caller;
pub mod canary;
pub mod challenge;
pub mod clock;
pub mod deploy;
pub mod entropy;
pub mod export;
pub mod holder;
pub mod keystore;
pub mod lease_file;
pub mod link;
pub mod lists;
pub mod meter;
pub mod mint;
pub mod notify;
pub mod probe;
pub mod roots;
pub mod shelf;
pub mod signer;
pub mod spool;
pub mod store;
pub mod tiles;
pub mod watch;
pub mod witness;
