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

mod chain;
mod check;
mod cycle;
mod doors;
mod estate;
mod finalize;
mod guardian;
mod lease;
mod link;
mod questions;
mod log;
mod private;
mod report;
mod servers;
mod simulation;
mod site;
mod verify;

use std::future::Future;

use site::Site;

const USAGE: &str = "usage: bench simulation [YEARS]
       bench lease
       bench chain
       bench link [SECONDS]
       bench ask SOCKET CONNECTIONS SECONDS
       bench check [dir=DIR] [count=TRACKED] [seconds=EACH]
       bench private|requests|finalize|issue|renew|seed|idle|ca|serve|probe|commits|permits|log|questions|verify|cycle [KEY=VALUE…]

keys: dir directory root first count http served in_flight seconds (see benches/bench/site.rs)";

fn main() {
    // cargo bench adds --bench.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["simulation"] => simulation::years(10),
        ["simulation", years] => simulation::years(years.parse().expect("a number of years")),
        ["lease"] => lease::lease(),
        ["check", rest @ ..] => check::check(rest),
        ["ask", socket, connections, seconds] => check::one(socket, connections, seconds),
        ["minimal", workers, dir] => check::minimal(workers, dir.as_ref()),
        ["permits", rest @ ..] => run(lease::permits(&Site::from(rest))),
        ["finalize", rest @ ..] => finalize::finalize(&Site::from(rest)),
        ["chain"] => chain::chain(),
        ["private", rest @ ..] => private::private(&Site::from(rest)),
        ["requests", rest @ ..] => private::requests(&Site::from(rest), &[64]),
        ["issue", rest @ ..] => guardian::issue(&Site::from(rest)),
        ["renew", rest @ ..] => guardian::renew(&Site::from(rest)),
        ["seed", rest @ ..] => guardian::seed(&Site::from(rest)),
        ["idle", rest @ ..] => guardian::idle(&Site::from(rest)),
        ["ca", rest @ ..] => run(servers::ca(&Site::from(rest))),
        ["serve", rest @ ..] => run(servers::serve(&Site::from(rest))),
        ["probe", rest @ ..] => run(doors::probe(&Site::from(rest))),
        ["commits", rest @ ..] => run(doors::commits(&Site::from(rest))),
        ["log", rest @ ..] => run(log::log(&Site::from(rest))),
        ["questions", rest @ ..] => run(questions::questions(&Site::from(rest))),
        ["verify", rest @ ..] => run(verify::verify(&Site::from(rest))),
        ["link"] => run(link::link(3)),
        ["link", seconds] => run(link::link(seconds.parse().expect("a number of seconds"))),
        ["cycle", rest @ ..] => cycle::idle(Site::from(rest).count),
        _ => {
            eprintln!("{USAGE}");
            std::process::exit(64);
        }
    }
}

fn run(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(work);
}
