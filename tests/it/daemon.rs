//! The guardian as a whole, over real doors: from the configuration to installed files, against a CA that may lie.

mod host;
mod hostile;
mod issuance;
mod observe;
