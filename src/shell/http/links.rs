//! `GET /v1/links`: the enforcing proxies and how they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::server::App;
use crate::domain::link::Status;

/// One link. Fields are only ever added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its id.
    pub id: String,
    /// The path that guards it.
    pub path: String,
    /// `server` or `client`.
    pub side: String,
    /// Where it listens.
    pub listen: String,
    /// Where it passes bytes on to.
    pub forward: String,
    /// Who may be at the other end.
    pub peers: Vec<String>,
    /// Whether it lets anybody through now.
    pub open: bool,
    /// Why it does not.
    pub closed: Option<Closed>,
    /// What could not be read at the last look, even if it goes on with what was read before.
    pub problem: Option<String>,
    /// Its own certificate, if it has one.
    pub certificate: Option<Certificate>,
    /// SHA-256 of roots, revocation lists and peers in force: it stands in the audit log too.
    pub trust: Option<String>,
    /// The private CA whose bundle and lists peers are judged by.
    pub ca: Option<String>,
    /// With a private CA: SHA-256 of the bundle in force.
    pub bundle: Option<String>,
    /// How the last change of trust took effect.
    pub swap: Option<Swap>,
    /// Connections now.
    pub connections: usize,
    /// So many may be.
    pub max_connections: usize,
    /// Connections that were let through.
    pub accepted: u64,
    /// Live connections that were cut.
    pub cut: u64,
    /// Connections that were refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Bytes from whoever connected.
    pub received: u64,
    /// Bytes to whoever connected.
    pub sent: u64,
}

/// How a change of trust took effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    /// When every live peer was judged by it.
    pub at: String,
    /// Milliseconds after the change.
    pub took_ms: u64,
    /// Connections that were cut for it.
    pub cut: u64,
}

/// Why a link lets nobody through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// Stable code.
    pub code: String,
    /// Its name in metrics.
    pub reason: String,
    /// One sentence.
    pub text: String,
}

/// The certificate that a link proves itself with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// SHA-256 of it.
    pub sha256: String,
    /// When it or one of its issuers ends.
    pub not_after: String,
}

impl From<&Status> for Link {
    fn from(status: &Status) -> Self {
        let link = &status.link;
        let closed = status.closed.as_ref().map(|refusal| Closed {
            code: refusal.reason.code().to_owned(),
            reason: refusal.reason.as_str().to_owned(),
            text: refusal.text.clone(),
        });
        let certificate = status.certificate.as_ref().map(|(fingerprint, not_after)| Certificate {
            sha256: fingerprint.to_string(),
            not_after: not_after.to_string(),
        });
        Self {
            id: link.id.to_string(),
            path: link.path.to_string(),
            side: link.side.as_str().to_owned(),
            listen: link.listen.to_string(),
            forward: link.forward.to_string(),
            peers: link.peers.iter().map(ToString::to_string).collect(),
            open: closed.is_none(),
            closed,
            problem: status.problem.clone(),
            certificate,
            trust: status.trust.map(|t| t.to_string()),
            ca: link.ca.as_ref().map(ToString::to_string),
            bundle: status.bundle.map(|(digest, _)| digest.to_string()),
            swap: status.swap.map(|swap| Swap {
                at: swap.at.to_string(),
                took_ms: u64::try_from(swap.took.as_millis()).unwrap_or(u64::MAX),
                cut: swap.cut,
            }),
            connections: status.connections,
            max_connections: link.max_connections,
            accepted: status.accepted,
            cut: status.cut,
            refused: status.refused.iter().map(|(reason, count)| (reason.as_str().to_owned(), *count)).collect(),
            received: status.received,
            sent: status.sent,
        }
    }
}

pub(super) async fn list(State(app): State<Arc<App>>) -> Json<Vec<Link>> {
    Json((app.web.links)().iter().map(Link::from).collect())
}
