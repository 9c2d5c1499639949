//! The key holder as a process: what it signs, what it refuses, and that its keys stay in it.

mod answers;
mod memory;
mod refusals;
mod secrets;
mod socket;
mod token;
