//! The store: one contract for SQLite and for the simulation's memory, then what only a disk can do wrong.

/// Each fact as a test of its own, for either store.
macro_rules! on_every_store {
    ($($fact:ident)*) => {
        mod sqlite {
            $(#[test] fn $fact() { super::block_on(super::$fact(super::Place::sqlite())); })*
        }
        mod memory {
            $(#[test] fn $fact() { super::block_on(super::$fact(super::Place::memory())); })*
        }
    };
}

mod acme;
mod authority;
mod upkeep;
mod contract;
mod crash;
mod disk;
mod faults;
mod questions;
mod random;
pub mod samples;
mod tree;
mod trust;
