//! Leases: the rules, attacks on them, the doors through which they go, and histories in which they must never lie.

mod attacks;
mod daemon;
mod history;
pub mod http;
mod rules;
mod vectors;
