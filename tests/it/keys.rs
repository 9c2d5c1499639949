//! Keys that are no certificate's, as an operator meets them: the daemon, files, commands and hooks, all real.

mod gate;
mod harness;
mod hostile;
mod inventory;
mod probe;
mod rotation;
mod secrets;
