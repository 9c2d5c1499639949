//! The store: one contract for SQLite and for the simulation's memory, then what only a disk can do wrong.

mod contract;
mod crash;
mod disk;
mod faults;
mod questions;
mod random;
pub mod samples;
mod tree;
mod trust;
