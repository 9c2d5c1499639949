//! `keyward gate probe`, `hold`, `lint` and `graph` as operators see them.

use core::time::Duration;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::shell::cli::args::span;

/// Examples and exit codes of `gate hold`.
pub(in crate::shell::cli) const HOLD_HELP: &str = "\
Examples:
  keyward gate hold approve --for 2m
  keyward gate hold approve --release

Closing is always allowed and waits for nothing; it ends by itself. Nothing forces a path open. You are named in the audit
log. A hold does not outlast a restart of the daemon.";
/// Examples and exit codes of `gate probe`.
pub(in crate::shell::cli) const PROBE_HELP: &str = "\
Examples:
  keyward gate probe approve --url https://portal.example.org/approve/probe --expect-open 'probe ok'
  keyward gate probe approve --url http://127.0.0.1:8080/approve/probe --allow-interrupt --lint /etc/nginx/nginx.conf

The gate is open, closed, dead, slow, hangs up, and answers garbage, 302, 500, 503, 204, and a stranger's 200.
Exits with 0 if all is proven, 1 if it failed open, 2 if the command is not understood, 3 if something could not be told.";
/// Examples and exit codes of `gate lint`.
pub(in crate::shell::cli) const LINT_HELP: &str = "\
Examples:
  keyward gate lint /etc/nginx/nginx.conf
  keyward gate lint --kind envoy envoy.json

Includes are followed. What cannot be understood is an error, never clean.
Exits with 0 if nothing was found, 1 if it fails open, 2 if something cannot be read, 3 for warnings only.";
/// Examples and exit codes of `gate graph`.
pub(in crate::shell::cli) const GRAPH_HELP: &str = "\
Examples:
  keyward gate graph
  keyward gate graph --dot | dot -Tsvg > paths.svg

Of the configuration file; with --socket, of the running daemon (/v1/graph).
Exits with 0, or with 3 if there is a ring of approvals.";

#[derive(Debug, Args)]
pub(in crate::shell::cli) struct Probe {
    /// The path's id
    pub(in crate::shell::cli) path: String,
    /// The guarded URL, as a client of the proxy would ask for it; it must be safe to ask for it many times
    #[arg(long)]
    pub(in crate::shell::cli) url: String,
    /// The method
    #[arg(long, default_value = "GET", value_name = "M")]
    pub(in crate::shell::cli) method: String,
    /// A text that stands in the answer whenever what is guarded was reached, and never else
    #[arg(long, value_name = "TEXT")]
    pub(in crate::shell::cli) expect_open: Option<String>,
    /// Without --expect-open: the status by which it is told that it was reached
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u16).range(200..=599))]
    pub(in crate::shell::cli) open_status: u16,
    /// Take the gate's socket away for some seconds at a time, and stand in for it with wrong answers. Every path of this
    /// guardian is closed meanwhile, at every proxy that fails closed
    #[arg(long)]
    pub(in crate::shell::cli) allow_interrupt: bool,
    /// The proxy's configuration, to look through as `keyward gate lint` does
    #[arg(long, value_name = "FILE")]
    pub(in crate::shell::cli) lint: Vec<PathBuf>,
    /// An answer that takes longer is given up
    #[arg(long, default_value = "5s", value_name = "SPAN", value_parser = span)]
    pub(in crate::shell::cli) timeout: Duration,
    /// How long the proxy may take to open again after a case
    #[arg(long, default_value = "20s", value_name = "SPAN", value_parser = span)]
    pub(in crate::shell::cli) settle: Duration,
    /// How long it may stay open after the gate has closed, for proxies that ask now and then only
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub(in crate::shell::cli) grace: Option<Duration>,
    /// Also count it as failing open if a process in the place of the gate's socket is believed
    #[arg(long)]
    pub(in crate::shell::cli) strict: bool,
    /// PEM roots to trust for an https:// URL instead of the system's
    #[arg(long, value_name = "FILE")]
    pub(in crate::shell::cli) ca: Option<PathBuf>,
}

/// Whose configuration it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::shell::cli) enum Proxy {
    /// nginx
    Nginx,
    /// Envoy, YAML or JSON
    Envoy,
    /// Caddy, a Caddyfile or JSON
    Caddy,
    /// HAProxy
    Haproxy,
}

#[derive(Debug, Args)]
pub(in crate::shell::cli) struct Lint {
    /// The files
    #[arg(required = true)]
    pub(in crate::shell::cli) files: Vec<PathBuf>,
    /// Whose they are: nginx, envoy, caddy or haproxy [default: told by name and content]
    #[arg(long, value_enum, hide_possible_values = true)]
    pub(in crate::shell::cli) kind: Option<Proxy>,
}

#[derive(Debug, Args)]
pub(in crate::shell::cli) struct Graph {
    /// For Graphviz
    #[arg(long)]
    pub(in crate::shell::cli) dot: bool,
}

#[derive(Debug, Args)]
pub(in crate::shell::cli) struct Hold {
    /// The path's id
    pub(in crate::shell::cli) path: String,
    /// For how long, at most 5m; a hold that is there already is only made longer
    #[arg(long = "for", default_value = "60s", value_name = "SPAN", value_parser = span)]
    pub(in crate::shell::cli) span: Duration,
    /// End it before its time
    #[arg(long, conflicts_with = "span")]
    pub(in crate::shell::cli) release: bool,
    /// Print what would be done, and do nothing
    #[arg(long)]
    pub(in crate::shell::cli) plan: bool,
}
