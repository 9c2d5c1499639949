//! Faults of time on the running daemon: a wall clock that steps, a machine that sleeps, a process that is stopped.

mod boot;
mod standstill;
mod wall;
