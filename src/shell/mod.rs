//! Configuration, wiring, daemon, command line, HTTP, demo: everything that knows concrete things.

pub mod acme_server;
mod audit;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod explain;
mod export;
mod files;
mod offline;
mod freeze;
pub mod http;
mod keyhold;
pub mod snippet;
pub mod link;
pub mod relying;
pub mod keyholder;
pub mod leases;
pub mod texts;
pub mod wire;
pub mod witness;
pub mod workload;

/// Runs the command line.
#[must_use]
pub fn main() -> std::process::ExitCode {
    cli::main()
}
