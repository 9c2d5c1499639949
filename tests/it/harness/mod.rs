//! What several test modules use: processes, ports, waiting.

pub mod acme;
pub mod ca_bytes;
pub mod challenge;
pub mod clocks;
pub mod consent;
pub mod deploy;
pub mod estate;
pub mod fault;
pub mod http;
pub mod keyholder;
pub mod knot;
pub mod lease;
pub mod ledger;
pub mod life;
pub mod link;
pub mod lists;
pub mod memory;
pub mod nginx;
pub mod pebble;
pub mod pki;
pub mod proxy;
pub mod proxies;
pub mod store;
pub mod rotation;
pub mod witness;
