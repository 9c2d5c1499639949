//! The spool of the simulation: what was kept outlasts a crash, unless its disk is gone too.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::audit::Draft;
use crate::ports::{Doing, HostError, More, Spool, Spooled};

/// Entries on a simulated disk of their own.
#[derive(Debug, Default)]
pub struct MemorySpool {
    disk: Mutex<Disk>,
}

#[derive(Debug, Default)]
struct Disk {
    kept: Spooled,
    dead: bool,
}

impl MemorySpool {
    /// Nothing waits.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// From now on nothing can be kept or read; what is there stays.
    pub fn die(&self) {
        self.disk().dead = true;
    }

    /// It works again.
    pub fn heal(&self) {
        self.disk().dead = false;
    }

    /// What a start would find.
    #[must_use]
    pub fn kept(&self) -> Spooled {
        self.disk().kept.clone()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self) -> Result<MutexGuard<'_, Disk>, HostError> {
        let disk = self.disk();
        if disk.dead { Err(HostError("the simulated spool's disk is gone".into())) } else { Ok(disk) }
    }
}

impl Spool for MemorySpool {
    fn load(&self) -> Doing<'_, Result<Spooled, HostError>> {
        Box::pin(async move { Ok(self.alive()?.kept.clone()) })
    }

    fn keep(&self, draft: &Draft) {
        if let Ok(mut disk) = self.alive() {
            disk.kept.drafts.push(draft.clone());
        }
    }

    fn count(&self, more: More) {
        if let Ok(mut disk) = self.alive() {
            disk.kept.more = Some(more);
        }
    }

    fn clear(&self) {
        if let Ok(mut disk) = self.alive() {
            disk.kept = Spooled::default();
        }
    }

    fn settled(&self) -> Doing<'_, Result<(), HostError>> {
        Box::pin(async move { self.alive().map(drop) })
    }
}
