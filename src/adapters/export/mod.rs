//! Where the audit log is exported to: a tree of static files, files of lines, or a webhook.
//!
//! Each of them is told the entries in order, and keeps how far it is in a small file ([`crate::codec::export::Reached`]) that is written after
//! what it speaks of is on the disk or was taken by the receiver. So whoever was killed goes on there:
//!
//! ```text
//! open ─► reached? ─► begin(note) ─► entry … entry ─► finish(note)
//!                        │ how far it is is written     │ static files: `checkpoint` is the last file
//! ```
//! Refuses to know whose log it is and whether it is one: the caller has compared entries and signatures.

mod hook;
mod lines;
mod place;
mod shard;
mod tree;

pub use self::hook::{Hook, HookOptions};
pub use self::lines::Lines;
pub use self::shard::{Described, ShardFiles};
pub use self::tree::Tree;

/// How far an export is, beside the files.
const REACHED: &str = "export.json";
