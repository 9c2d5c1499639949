//! What several test modules use: processes, ports, waiting.

pub mod challenge;
pub mod estate;
pub mod http;
pub mod knot;
pub mod store;
pub mod acme;
pub mod pebble;
pub mod pki;
pub mod deploy;
