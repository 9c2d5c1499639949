//! The listeners with a simulated guardian behind them.

mod api;
pub mod audit;
mod gate;
mod grpc;
mod kinds;
mod limits;
mod metrics;
pub mod page;
mod sockets;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use keyward::domain::inventory::{Care, Credential, Endpoint, Environment, Estate, Source, StartTls};
use keyward::domain::time::HOUR;

use crate::harness::estate::{add, cid, estate, managed, path, served};

/// A portal that is served and stands under the path `approve`, and a path `broken` on a file that is missing.
pub fn two_paths() -> Estate {
    let mut estate = estate(&[("le", &keyward::domain::limits::LETS_ENCRYPT)]);
    add(&mut estate, served("portal", managed(&["review.example.com", "www.example.com"], &["le"])));
    add(&mut estate, observed("peer", "/peers/missing.pem"));
    path(&mut estate, "approve", &["portal"], HOUR * 2);
    path(&mut estate, "broken", &["portal", "peer"], HOUR * 2);
    estate
}

pub fn observed(id: &str, file: &str) -> Credential {
    Credential {
        id: cid(id),
        owner: Some("team <b>peers</b>".into()),
        labels: Default::default(),
        care: Care::Observed(Source::File { path: file.into(), password_file: None }),
        endpoints: Vec::new(),
        purpose: None,
        crls: Vec::new(),
    }
}

pub fn endpoint(host: &str) -> Arc<Endpoint> {
    Arc::new(Endpoint { host: host.into(), port: 443, sni: None, starttls: StartTls::None })
}

pub fn staging(mut estate: Estate) -> Estate {
    estate.environment = Environment::Staging;
    estate
}

/// Longer than any engine's deadline.
pub const LONG: Duration = Duration::from_secs(3_600);
