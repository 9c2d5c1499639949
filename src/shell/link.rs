//! The links of a daemon: bound, run, changed by a reload, and stopped.
//!
//! A reload is all or nothing, so it has two halves: [`Links::prepare`] binds what is new and can fail, [`Links::adopt`]
//! puts it in force and cannot.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use core::fmt;

use tokio::net::TcpListener;
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinHandle;

use crate::domain::id::LinkId;
use crate::domain::key::Digest;
use crate::domain::link::{Link, Listen, Refusal, Status};
use crate::shell::http::{SocketFiles, unix_socket};
use crate::shell::wire::link::{Doors, Listener, Proxy};

/// All links of a daemon.
pub struct Links {
    doors: Arc<Doors>,
    running: std::sync::Mutex<BTreeMap<LinkId, Running>>,
    /// Two changes at once would each undo the other.
    changing: Mutex<()>,
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Links")
    }
}

struct Running {
    proxy: Proxy,
    link: Arc<Link>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// A change that is ready to be put in force. Dropped, it leaves nothing bound.
#[derive(Debug)]
pub struct Prepared {
    links: Vec<Arc<Link>>,
    bound: BTreeMap<LinkId, (Listener, Option<SocketFiles>)>,
}

impl Links {
    /// None yet.
    #[must_use]
    pub fn new(doors: Arc<Doors>) -> Self {
        Self { doors, running: std::sync::Mutex::default(), changing: Mutex::default() }
    }

    /// Whether a link that runs would have to listen elsewhere, or on its other side: that takes a restart.
    #[must_use]
    pub fn must_restart(&self, links: &[Arc<Link>]) -> bool {
        let running = self.lock();
        links.iter().filter_map(|new| Some((new, running.get(&new.id)?))).any(|(new, running)| {
            let old = &running.link;
            new.listen != old.listen || new.side != old.side
        })
    }

    /// Binds the listeners of links that do not run yet.
    ///
    /// # Errors
    /// What cannot be bound, and how to mend it; nothing stays bound then.
    pub async fn prepare(&self, links: &[Arc<Link>]) -> Result<Prepared, String> {
        let mut bound = BTreeMap::new();
        let new: Vec<&Arc<Link>> = {
            let running = self.lock();
            links.iter().filter(|link| !running.contains_key(&link.id)).collect()
        };
        for link in new {
            bound.insert(link.id.clone(), bind(link).await?);
        }
        Ok(Prepared { links: links.to_vec(), bound })
    }

    /// Puts it in force: new links begin, changed ones go on as they now should, and those that are gone are cut.
    pub async fn adopt(&self, prepared: Prepared) {
        let _turn = self.changing.lock().await;
        let mut bound = prepared.bound;
        let gone: Vec<Running> = {
            let mut running = self.lock();
            let ids: Vec<LinkId> =
                running.keys().filter(|id| !prepared.links.iter().any(|l| l.id == **id)).cloned().collect();
            ids.iter().filter_map(|id| running.remove(id)).collect()
        };
        end(gone).await;
        let mut running = self.lock();
        for link in prepared.links {
            if let Some(known) = running.get_mut(&link.id) {
                if known.link != link {
                    known.proxy.adopt(link.clone());
                    known.link = link;
                }
            } else if let Some((listener, file)) = bound.remove(&link.id) {
                running.insert(link.id.clone(), self.begin(link, listener, file));
            }
        }
    }

    fn begin(&self, link: Arc<Link>, listener: Listener, file: Option<SocketFiles>) -> Running {
        let proxy = Proxy::new(link.clone(), self.doors.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        tracing::info!(link = %link.id, side = link.side.as_str(), at = %link.listen, to = %link.forward, "link ready");
        let serving = proxy.clone();
        let task = tokio::spawn(async move {
            // The file goes with the listener; an error says that whoever stops us is gone.
            let stop = async { drop(stopped.await) };
            serving.run(listener, stop).await;
            drop(file);
        });
        Running { proxy, link, stop, task }
    }

    /// How they are now, in the order of their ids.
    #[must_use]
    pub fn statuses(&self) -> Vec<Status> {
        let proxies: Vec<Proxy> = self.lock().values().map(|r| r.proxy.clone()).collect();
        proxies.iter().map(Proxy::status).collect()
    }

    /// What each goes by: SHA-256 of its roots, or `None` while it has none in force.
    #[must_use]
    pub fn anchors(&self) -> Vec<(Arc<Link>, Option<BTreeSet<Digest>>)> {
        let all: Vec<(Arc<Link>, Proxy)> = self.lock().values().map(|r| (r.link.clone(), r.proxy.clone())).collect();
        all.into_iter().map(|(link, proxy)| (link, proxy.anchors())).collect()
    }

    /// What a link would say to a peer with this chain (DER); `None` if there is no such link.
    #[must_use]
    pub fn canary(&self, id: &str, chain: &[Arc<[u8]>]) -> Option<Result<(), Refusal>> {
        let proxy = self.lock().iter().find(|(own, _)| own.as_str() == id).map(|(_, r)| r.proxy.clone());
        Some(proxy?.judge_chain(chain))
    }

    /// Cuts and ends all.
    pub async fn stop(&self) {
        let all = core::mem::take(&mut *self.lock());
        end(all.into_values().collect()).await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<LinkId, Running>> {
        self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

async fn end(links: Vec<Running>) {
    let tasks: Vec<JoinHandle<()>> = links
        .into_iter()
        .map(|running| {
            // One that is not there any more has ended by itself.
            running.stop.send(()).ok();
            running.task
        })
        .collect();
    for task in tasks {
        if let Err(error) = task.await {
            tracing::error!(%error, "a link broke");
        }
    }
}

async fn bind(link: &Link) -> Result<(Listener, Option<SocketFiles>), String> {
    match &link.listen {
        Listen::Tcp(address) => {
            let listener = TcpListener::bind(address).await.map_err(|e| {
                let (id, port) = (&link.id, address.port());
                format!("the link {id} cannot listen on {address}: {e}; see who does: ss -ltnp 'sport = :{port}'")
            })?;
            Ok((Listener::Tcp(listener), None))
        }
        Listen::Unix { path, mode, group } => {
            let bound = unix_socket(Path::new(path), *mode, group.as_deref());
            let (listener, file) = bound.map_err(|e| format!("the link {}: {e}", link.id))?;
            Ok((Listener::Unix(listener), Some(file)))
        }
    }
}
