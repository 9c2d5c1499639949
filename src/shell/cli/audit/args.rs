//! `keyward audit …` as operators see it.

use clap::Subcommand;

use super::prove::{CheckProof, Prove};
use super::verify::Verify;

#[derive(Debug, Subcommand)]
pub(in crate::shell::cli) enum Audit {
    /// Check the whole log, without a daemon and without writing anything
    #[command(after_help = super::verify::HELP)]
    Verify(Verify),
    /// Write the proof that an entry is in the log: a file that stands for itself
    #[command(after_help = super::prove::HELP)]
    Prove(Prove),
    /// Check such a file, without daemon, database or network
    #[command(after_help = super::prove::CHECK_HELP)]
    CheckProof(CheckProof),
}
