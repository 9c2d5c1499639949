//! The simulated web servers of CAs with their revocation lists, and what the guardian keeps of these.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::certificate::Chain;
use crate::domain::inventory::CrlSeen;
use crate::domain::key::Digest;
use crate::domain::revocation::KeptList;
use crate::ports::{Clock, Doing, HostError, Lists};
use crate::sim::clock::SimClock;
use crate::sim::host::SimList;

/// A list takes so long to come.
const TAKES: Duration = Duration::from_millis(50);

/// What is kept outlasts a crash of the guardian.
#[derive(Debug)]
pub struct SimLists {
    clock: Arc<SimClock>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By URL; what is not there does not answer.
    served: BTreeMap<Arc<str>, SimList>,
    kept: BTreeMap<Arc<str>, (SimList, KeptList)>,
    /// Why a list did not come.
    failed: BTreeMap<Arc<str>, String>,
    asked: BTreeMap<Arc<str>, u64>,
}

impl SimLists {
    pub(super) fn new(clock: Arc<SimClock>) -> Self {
        Self { clock, inner: Mutex::default() }
    }

    /// The server at this URL has this list from now on; without one it does not answer.
    pub fn serve(&self, url: &str, list: Option<SimList>) {
        let mut inner = self.lock();
        match list {
            Some(list) => inner.served.insert(Arc::from(url), list),
            None => inner.served.remove(url),
        };
    }

    /// How often this URL was asked for.
    #[must_use]
    pub fn asked(&self, url: &str) -> u64 {
        self.lock().asked.get(url).copied().unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lists for SimLists {
    fn about<'a>(&'a self, chain: &'a Arc<Chain>) -> Doing<'a, BTreeMap<Arc<str>, CrlSeen>> {
        Box::pin(async move {
            let inner = self.lock();
            let seen = |url: &Arc<str>| match (inner.kept.get(url), inner.failed.get(url)) {
                (Some((list, _)), _) => list.about(chain),
                (None, Some(why)) => CrlSeen::Unreadable(why.clone()),
                (None, None) => CrlSeen::Missing,
            };
            chain.list_points().into_iter().map(|url| (url.clone(), seen(&url))).collect()
        })
    }

    fn kept(&self, url: &str) -> Option<KeptList> {
        self.lock().kept.get(url).map(|(_, kept)| *kept)
    }

    fn fetch<'a>(&'a self, url: &'a Arc<str>, _: &'a [Arc<Chain>]) -> Doing<'a, Result<KeptList, HostError>> {
        Box::pin(async move {
            self.clock.sleep(TAKES).await;
            let mut inner = self.lock();
            let asked = inner.asked.entry(url.clone()).or_default();
            *asked = asked.saturating_add(1);
            let answer = match inner.served.get(url) {
                None => Err("does not answer".to_owned()),
                Some(SimList::Bad(why)) => Err(why.clone()),
                Some(list @ SimList::Good { this_update, next_update, revoked }) => {
                    let older = inner.kept.get(url).is_some_and(|(_, kept)| *this_update < kept.this_update);
                    let text = revoked.iter().map(String::as_str).collect::<Vec<_>>().join(",");
                    let digest = Digest::of_parts(&[&this_update.text(), &next_update.text(), text.as_bytes()]);
                    let kept = KeptList {
                        this_update: *this_update,
                        next_update: *next_update,
                        entries: revoked.len(),
                        digest,
                    };
                    if older {
                        Err("is older than the list that is known".to_owned())
                    } else {
                        Ok((list.clone(), kept))
                    }
                }
            };
            match answer {
                Ok((list, kept)) => {
                    inner.failed.remove(url);
                    inner.kept.insert(url.clone(), (list, kept));
                    Ok(kept)
                }
                Err(why) => {
                    inner.failed.insert(url.clone(), why.clone());
                    Err(HostError(why))
                }
            }
        })
    }
}
