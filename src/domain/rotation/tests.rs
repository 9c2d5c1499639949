//! Rotations, told as facts.

mod properties;
mod world;
