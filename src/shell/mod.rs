//! Configuration, wiring, daemon, command line, HTTP, demo: everything that knows concrete things.

pub mod acme_server;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod explain;
pub mod http;
pub mod wire;

/// Runs the command line.
#[must_use]
pub fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["demo-hook", dir] => demo::hook(std::path::Path::new(dir)),
        ["run", "-c", config] => daemon::run(&daemon::Options { config: config.into(), staging: false }),
        ["demo", ref rest @ ..] => demo::run(&demo::Options {
            seconds: rest.first().and_then(|s| s.parse().ok()),
            lifetime: rest.get(1).and_then(|s| s.parse().ok()),
            break_: match rest.get(2) {
                Some(&"ca") => Some(demo::Break::Ca),
                Some(&"hook") => Some(demo::Break::Hook),
                Some(&"clock") => Some(demo::Break::Clock),
                Some(&"expiry") => Some(demo::Break::Expiry),
                _ => None,
            },
            ..Default::default()
        }),
        _ => std::process::ExitCode::FAILURE,
    }
    cli::main()
}
