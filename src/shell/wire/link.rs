//! Puts links together.

use std::sync::Arc;

use super::WireError;
pub use crate::adapters::link::{Doors, LinkMeter, Listener, Proxy};
use crate::engine::Engine;
use crate::engine::authority::Authority;
use crate::ports::{Ports, Trust};

/// What all links need of the guardian; their series go into this registry.
///
/// # Errors
/// [`WireError`] if there are such series already.
pub fn doors(
    ports: &Ports,
    engine: &Arc<Engine>,
    authority: Option<&Arc<Authority>>,
    registry: &prometheus::Registry,
) -> Result<Arc<Doors>, WireError> {
    let meter = LinkMeter::new(registry).map_err(|e| WireError::Host(e.to_string()))?;
    let (asked, looked) = (engine.clone(), engine.clone());
    let gate = Arc::new(move |path: &_| asked.gate(path));
    let installed = Arc::new(move |credential: &_| looked.installed(credential));
    let relying = authority.map(relying);
    // Not that of the ports: a sealed engine has one that refuses everything.
    Ok(Arc::new(Doors::new(ports, engine.store(), gate, installed, meter, relying)))
}

fn relying(authority: &Arc<Authority>) -> Arc<dyn Trust> {
    authority.clone()
}
