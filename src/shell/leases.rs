//! Keeps the lease files: a fresh lease while a path is open, and no file while it is closed.
//!
//! ```text
//! open ─► lease written at once, and again every 5 s      closed, removed from the configuration, or stopping ─► file gone
//! ```
//! A file that cannot be removed is believed for fifteen seconds at most: a lease ends by itself. Each file has one write
//! or removal under way at a time, so that a disk that hangs keeps nobody else waiting, and the order stays.

use core::future::Future;
use core::pin::pin;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::domain::id::PathId;
use crate::domain::inventory::LeaseFile;
use crate::domain::lease::REFRESH;
use crate::domain::time::Boottime;
use crate::engine::Engine;
use crate::ports::{Notice, Notifier, Ports, Urgency};
use crate::shell::wire;

/// A path's verdict is looked at this often: its file is gone within a fraction of a second after it closes.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What could not be written or removed is tried again after this.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// When everything ends, the files are removed within this time.
const FAREWELL: Duration = Duration::from_secs(2);
/// A lease file cannot be written or removed.
const FILE_FAILS: &str = "KW4107";

/// Keeps the files, and the log's size and root that leases name, until `stop` is ready.
pub async fn keep(engine: &Arc<Engine>, ports: &Ports, stop: impl Future<Output = ()> + Send) {
    let mut stop = pin!(stop);
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut files = Files::default();
    let mut head: Option<Boottime> = None;
    loop {
        tokio::select! {
            () = stop.as_mut() => break,
            _ = tick.tick() => {}
        }
        let now = ports.clock.boottime();
        files.look(engine, &*ports.notifier, now).await;
        if head.is_none_or(|at| now.since(at) >= REFRESH) && engine.seal().is_none() {
            head = Some(now);
            // One that cannot be read is told elsewhere; leases name the one before.
            drop(timeout(TRY_AGAIN, engine.refresh_head()).await);
        }
    }
    drop(timeout(FAREWELL, files.end()).await);
}

#[derive(Debug, Default)]
struct Files(BTreeMap<(PathId, String), Kept>);

/// One file.
#[derive(Debug)]
struct Kept {
    file: LeaseFile,
    /// Something may lie there.
    there: bool,
    /// Not before this.
    next: Option<Boottime>,
    job: Option<JoinHandle<Result<(), String>>>,
    /// People were told.
    told: bool,
}

impl Files {
    async fn look(&mut self, engine: &Arc<Engine>, notifier: &dyn Notifier, now: Boottime) {
        let estate = engine.estate();
        for (id, path) in &estate.paths {
            if let Some(file) = &path.leases.file {
                let key = (id.clone(), file.path.clone());
                // Whoever was here before us may have left something.
                let new = || Kept { file: file.clone(), there: true, next: None, job: None, told: false };
                let kept = self.0.entry(key).or_insert_with(new);
                if kept.file != *file {
                    kept.file = file.clone();
                    kept.next = None;
                }
            }
        }
        for ((id, place), kept) in &mut self.0 {
            kept.settle(id, notifier, now).await;
            let configured = estate.paths.get(id).and_then(|p| p.leases.file.as_ref());
            let wanted = configured.filter(|f| f.path == *place);
            kept.go_on(engine, id, wanted.is_some(), now);
        }
        let gone = |id: &PathId, place: &String| {
            let file = estate.paths.get(id).and_then(|p| p.leases.file.as_ref());
            file.is_none_or(|f| f.path != *place)
        };
        self.0.retain(|(id, place), kept| kept.there || kept.job.is_some() || !gone(id, place));
    }

    async fn end(self) {
        for kept in self.0.into_values() {
            if let Some(job) = kept.job {
                drop(job.await);
            }
            drop(spawn_blocking(move || wire::remove_lease(&kept.file)).await);
        }
    }
}

impl Kept {
    /// Takes in what became of the job.
    async fn settle(&mut self, id: &PathId, notifier: &dyn Notifier, now: Boottime) {
        let Some(job) = self.job.take_if(|job| job.is_finished()) else { return };
        let done = job.await.unwrap_or_else(|e| Err(format!("writing broke off: {e}")));
        let Err(why) = done else {
            self.told = false;
            return;
        };
        // It is not known what lies there now.
        (self.there, self.next) = (true, Some(now.plus(TRY_AGAIN)));
        if !core::mem::replace(&mut self.told, true) {
            let text = format!("{why}. Consumers close when the lease that they have ends");
            notifier.notify(Notice {
                about: id.to_string(),
                owner: None,
                code: FILE_FAILS,
                text,
                urgent: Urgency::Act,
            });
        }
    }

    fn go_on(&mut self, engine: &Engine, id: &PathId, wanted: bool, now: Boottime) {
        if self.job.is_some() {
            return;
        }
        let early = self.next.is_some_and(|next| now < next);
        if wanted && engine.gate(id).is_open() {
            if early {
                return;
            }
            if let Ok(lease) = engine.lease(id, &self.file.audience, None) {
                let file = self.file.clone();
                // One that lives shorter is replaced when it ends, or taken away then.
                (self.there, self.next) = (true, Some(now.plus(REFRESH.min(lease.claims.grant.life()))));
                self.job = Some(spawn_blocking(move || wire::place_lease(&file, &lease.text)));
                return;
            }
        }
        // Closed: at once, but not in a storm while it fails.
        if self.there && !(self.told && early) {
            let file = self.file.clone();
            (self.there, self.next) = (false, None);
            self.job = Some(spawn_blocking(move || wire::remove_lease(&file)));
        }
    }
}
