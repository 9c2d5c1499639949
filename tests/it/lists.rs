//! Revocation lists at distribution points: fetched, refused, kept, and what follows for the gate.

mod daemon;
mod fetch;
mod schedule;
