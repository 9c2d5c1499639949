//! What several test modules use: processes, ports, waiting.

pub mod challenge;
pub mod estate;
pub mod http;
pub mod knot;
pub mod store;
