//! Verifying the audit log: the library, the command and the independent verifier in Python agree that a log is what was
//! signed, and on what is wrong with one that is not.

mod bits;
mod command;
mod order;
mod outside;
mod proofs;
mod tables;
mod trees;
