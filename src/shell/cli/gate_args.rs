//! The arguments of `keyward gate` and `keyward snippet`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::args::{Planned, span};
use super::proof::args as proof;
use crate::shell::snippet::Proxy;

#[derive(Debug, Subcommand)]
pub(super) enum Gate {
    /// All approval paths
    Status,
    /// Ask one path, as a proxy would
    #[command(after_help = "\
Example:
  keyward gate check approve && ./release.sh

Exits with 0 if it is open, and 5 if it is closed or nobody can tell.")]
    Check {
        /// The path's id
        path: String,
    },
    /// The public keys of leases, permits and other signed answers
    #[command(after_help = "\
Example:
  keyward gate keys -o name > /etc/portal/keyward.keys

Consumers pin them all: the one in use, and the next one once it is announced.")]
    Keys,
    /// Change the key of leases and permits, in two steps
    #[command(after_help = "\
Examples:
  keyward gate rotate-key            makes the next key and prints it; nothing is signed with it yet
  keyward gate rotate-key --finish   signs with it from now on, and destroys the one before it

Between the two every consumer pins the next key beside the one in use; those that have not done so close with --finish.")]
    RotateKey {
        /// Use the key that was announced
        #[arg(long)]
        finish: bool,
    },
    /// Hold one path closed for a while
    #[command(after_help = proof::HOLD_HELP)]
    Hold(proof::Hold),
    /// Drive the live proxy through all that a gate may do, and say whether what is guarded was ever reached
    #[command(after_help = proof::PROBE_HELP)]
    Probe(proof::Probe),
    /// Find the known ways of failing open in a proxy's configuration
    #[command(after_help = proof::LINT_HELP)]
    Lint(proof::Lint),
    /// What stands on what: issuer, credential, endpoint, path; and approvals that stand on what they repair
    #[command(after_help = proof::GRAPH_HELP)]
    Graph(proof::Graph),
    /// Why a path is as it is, what it stands on, and what opens it
    #[command(after_help = "\
Examples:
  keyward gate explain approve
  keyward gate explain approve --at 2026-12-24T18:00:00Z   # with what is known now, if nothing is renewed
  keyward gate explain approve -o json > why.json          # what `keyward gate replay` judges again

Exits with 0 if it is open then, and 5 if it is closed.")]
    Explain {
        /// The path's id
        path: String,
        /// How it will be at this time (RFC 3339), or was: then from the audit log
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
    },
    /// Judge the inputs of an explanation again and compare; asks no daemon
    #[command(after_help = "\
Exits with 0 if the same comes of it, and 1 if not.")]
    Replay {
        /// A file that `keyward gate explain -o json` wrote
        file: PathBuf,
        /// Also check who said so: a file with the guardian's keys, as `keyward gate keys` prints them
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
    /// Print a line whenever a path opens or closes, until interrupted
    #[command(after_help = "\
Examples:
  keyward gate watch
  keyward gate watch approve --until open --for 10m && ./release.sh

With --until it exits with 0 once the path is so, and with 5 if that did not come to pass in time.")]
    Watch {
        /// Only this path
        path: Option<String>,
        /// End once the path is so
        #[arg(long, value_name = "STATE", requires = "path")]
        until: Option<State>,
        /// End after this long at the latest
        #[arg(long = "for", value_name = "SPAN", value_parser = span)]
        span: Option<core::time::Duration>,
    },
    /// Open a path that only a person opens: it flapped, the clock stepped, the audit log was broken
    #[command(after_help = "\
Example:
  keyward gate reopen approve --reason \"the disk was replaced, the log is verified: INC-4711\"

It opens once everything that it stands on is good. You and the reason stand in the audit log.")]
    Reopen {
        /// The path's id
        path: String,
        /// Why it may be opened
        #[arg(long, value_name = "TEXT", required_unless_present = "plan")]
        reason: Option<String>,
        #[command(flatten)]
        planned: Planned,
    },
    /// Report a key as compromised: whatever stands on it is closed, for ever
    #[command(after_help = "\
There is no way back: the key is never good again, in no certificate. You are named in the audit log.

Example:
  keyward gate compromised portal --plan")]
    Compromised {
        /// A credential, whose present key is meant, or the SHA-256 of a SubjectPublicKeyInfo
        key: String,
        #[command(flatten)]
        planned: Planned,
    },
}

/// How a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum State {
    /// It is open
    Open,
    /// It is closed
    Closed,
}

#[derive(Debug, Args)]
pub(super) struct Snippet {
    /// nginx, envoy (over gRPC), envoy-http, caddy, traefik or haproxy
    #[arg(value_enum, hide_possible_values = true)]
    pub(super) proxy: Proxy,
    /// The path's id, if the configuration has more than one
    #[arg(long, value_name = "PATH")]
    pub(super) path: Option<String>,
    /// Where the proxy is to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    pub(super) listen: core::net::SocketAddr,
    /// What it guards
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(super) portal: core::net::SocketAddr,
}
