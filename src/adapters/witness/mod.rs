//! Keyward as a witness of other logs, and the witnesses of its own (C2SP tlog-witness).
//!
//! | file | holds |
//! |---|---|
//! | `cosigner` | [`FileCosigner`]: judges and cosigns what other logs show |
//! | `publisher` | [`Publisher`]: shows our own log to its witnesses and keeps their cosignatures |
//! | `client` | one exchange with a witness |
//! | `key` | the private key of a witness |
//! | `files` | [`SeenFiles`]: what was seen last, durably |
//! | `throttle` | how often somebody may ask |

mod client;
mod cosigner;
mod files;
pub mod key;
mod publisher;
mod throttle;

pub use self::client::{Client, ClientConfig};
pub use self::cosigner::FileCosigner;
pub use self::files::{NotWritten, SeenFiles};
pub use self::publisher::{Publisher, PublisherConfig};
pub use self::throttle::Throttle;
