//! Encodings: bytes to domain facts and back. Pure: no I/O, no clock, no randomness but what is handed in or what a
//! signature or a salt needs by its own rules.

pub mod accounts;
pub mod ca;
pub mod canonical;
mod constraints;
pub mod consent;
pub mod crl;
mod der;
mod dn;
mod intern;
pub mod add_checkpoint;
pub mod checkpoint;
pub mod draft;
pub mod follow;
pub mod entry;
pub mod explanation;
pub mod export;
pub mod ext_authz;
pub mod grpc;
pub mod ledger;
pub mod lint;
pub mod network;
pub mod live_roots;
pub mod note;
pub mod offline;
pub mod tlog_policy;
pub mod holder;
pub mod holder_log;
pub mod keys;
pub mod lease;
pub mod ocsf;
pub mod peer;
pub mod peer_crl;
pub mod pem;
pub mod pkcs12;
pub mod public_key;
pub mod replay;
pub mod sds;
pub mod sealed;
pub mod shard;
pub mod signing;
pub mod snapshot;
pub mod statement;
pub mod tbs;
pub mod tiles;
pub mod verify;
pub mod webhook;
pub mod workload_api;
mod write;
pub mod x509;

/// Why bytes are not what they should be: what was seen and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(pub String);

impl ParseError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

#[cfg(test)]
pub(crate) mod test_log;
