//! Who calls the Workload API.

pub use crate::adapters::caller::{PeerProcess, Programs, Want};
