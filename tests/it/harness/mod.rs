//! What several test modules use: processes, ports, waiting.

pub mod deploy;
