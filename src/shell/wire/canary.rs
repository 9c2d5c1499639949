//! What shows canaries to relying parties.

pub use crate::adapters::canary::{ProbeAt, key, probe};
