//! The integration tests: one binary, a module a subject.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "tests fail by panicking, and wait in real time for real servers"
)]

mod architecture;
mod harness;

mod acme;
mod acme_server;
mod ca;
mod challenge;
mod ca_bytes;
mod cli;
mod clocks;
mod config;
mod consent;
mod crash;
mod crl;
mod daemon;
mod demo;
mod deploy;
mod directory;
mod engine;
mod export;
mod fault;
mod freeze;
mod frozen;
mod http;
mod keep;
mod keyholder;
mod keys;
mod keystore;
mod lease;
mod ledger;
mod link;
mod lists;
mod nginx;
mod pebble;
mod permit;
mod plan;
mod policing;
mod process;
mod probe;
mod proof;
mod proxy;
mod relying;
mod replay;
mod review;
mod rotation;
mod sim;
mod store;
mod successor;
mod verdict;
mod witness;
mod workload;
mod x509;
