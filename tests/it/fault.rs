//! A store that cannot be written, hangs, lies or is gone: what adds authority is refused, what removes it is done, and
//! nothing reopens before all of it is in the log.

mod daemon;
mod kills;
mod outcomes;
mod sealed;
pub mod simulated;
