//! Proof at the proxy: whether what is guarded can be reached when it must not be, by driving the live proxy and by reading
//! its configuration; and what stands on what.

pub(super) mod args;
mod ask;
mod cases;
mod graph;
mod lint;
mod probe;
mod standin;
