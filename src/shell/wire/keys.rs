//! Keys that are no certificate's: their door.

use std::sync::Arc;

use crate::adapters::keyprobe::HostKeys;
use crate::engine::Engine;
use crate::engine::keys::Tracker;
use crate::shell::config::Settings;

impl super::Wired {
    /// The tracker of keys over an engine.
    #[must_use]
    pub fn tracker(&self, settings: &Settings, engine: &Arc<Engine>) -> Arc<Tracker> {
        let probe = Arc::new(HostKeys::new(&settings.state_dir, self.ports.entropy.clone()));
        Arc::new(Tracker::new(engine.clone(), probe))
    }
}
