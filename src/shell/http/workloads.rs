//! `GET /v1/workloads`: the programs that get SPIFFE IDs and how they are.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::server::App;
use crate::shell::workload::Standing;

/// One workload. Fields are only ever added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Its SPIFFE ID.
    pub spiffe: String,
    /// The private CA that issues for it.
    pub ca: String,
    /// By what its processes are known.
    pub selectors: Vec<String>,
    /// The path that guards it.
    pub path: Option<String>,
    /// Why it gets nothing now.
    pub withheld: Option<String>,
    /// Calls that want it now.
    pub callers: usize,
    /// What went wrong last.
    pub problem: Option<String>,
    /// Its certificate, while it has one.
    pub certificate: Option<Certificate>,
}

/// A workload's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Its serial number in hexadecimal.
    pub serial: String,
    /// When it ends.
    pub not_after: String,
    /// When it is renewed, if somebody wants it then.
    pub renew_at: String,
}

impl From<&Standing> for Workload {
    fn from(standing: &Standing) -> Self {
        let workload = &standing.workload;
        let certificate = standing.certificate.as_ref().map(|(serial, validity, renew_at)| Certificate {
            serial: serial.to_string(),
            not_after: validity.not_after.to_string(),
            renew_at: renew_at.to_string(),
        });
        Self {
            spiffe: workload.spiffe.to_string(),
            ca: workload.ca.to_string(),
            selectors: workload.selectors.iter().map(ToString::to_string).collect(),
            path: workload.path.as_ref().map(ToString::to_string),
            withheld: standing.withheld.clone(),
            callers: standing.callers,
            problem: standing.problem.clone(),
            certificate,
        }
    }
}

pub(super) async fn list(State(app): State<Arc<App>>) -> Json<Vec<Workload>> {
    Json((app.web.workloads)().iter().map(Workload::from).collect())
}
