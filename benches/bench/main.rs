//! The figures of docs/benchmarks.md, one measurement a run: `cargo bench -- MEASUREMENT [ARGUMENT…]`.
//!
//! `benches/run` runs all of them beside the peers and makes the table.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "a measurement fails by panicking, tells its figures on standard output, and reads the real clock"
)]

mod estate;
mod report;
mod simulation;

fn main() {
    // cargo bench adds --bench.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["simulation"] => simulation::ten_years(),
        _ => {
            eprintln!("usage: bench simulation");
            std::process::exit(64);
        }
    }
}
