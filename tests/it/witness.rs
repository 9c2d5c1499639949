//! Witnesses: the door of the specification, races, two guardians that witness each other, and what a witness knows better.

mod demand;
mod door;
mod own;
mod sample;
