//! The scripted CA: spoken to by `instant-acme`, by hand and by lego, obedient and hostile.

mod faults;
mod issuance;
pub mod kit;
mod lego;
mod refusals;
mod validator;
mod load;
