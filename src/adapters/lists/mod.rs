//! Revocation lists from the distribution points of certificates (RFC 5280 section 6.3).
//!
//! What is fetched is believed for its signature alone: the way there is plain HTTP. It takes the place of the list before
//! it only if it is no older, and lies in the state directory from then on, so that a restart needs no CA.
//!
//! Refuses to know when a list is due and whether one is fresh.

mod fetch;
mod keep;

use core::fmt;
use core::time::Duration;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use crate::codec::ParseError;
use crate::codec::crl::{Issue, LARGEST_FETCHED, RevocationList};
use crate::codec::network::Network;
use crate::domain::certificate::Chain;
use crate::domain::inventory::CrlSeen;
use crate::domain::revocation::{KeptList, MOST_LISTS};
use crate::domain::time::Timestamp;
use crate::ports::{Clock, Doing, HostError, Lists};

use fetch::Fetcher;
use keep::Shelf;

/// For fetching one list, waiting for a turn included: 32 MiB at 9 Mbit/s. What comes slower will not come in time either
/// when it matters.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Lists that are fetched at once, and as many that are read: of 32 MiB each, and as much again while one is taken in.
const AT_ONCE: usize = 4;

/// URLs of which something is known; beyond, all of it is found on disk again.
const MOST_KNOWN: usize = 2 * MOST_LISTS;

/// Characters of a sentence about a server, which may say anything.
const LONGEST_WHY: usize = 400;

/// Fetches lists and keeps them. Cheap to clone.
#[derive(Clone)]
pub struct PointLists {
    shelf: Arc<Shelf>,
    fetcher: Arc<Fetcher>,
    clock: Arc<dyn Clock>,
    deadline: Duration,
    /// Who reads does not wait for who fetches.
    fetching: Arc<Semaphore>,
    reading: Arc<Semaphore>,
    known: Arc<Mutex<BTreeMap<Arc<str>, Known>>>,
}

/// What is known of a URL.
#[derive(Clone, Debug, Default)]
struct Known {
    kept: Option<KeptList>,
    /// Nothing lies on the shelf: nobody has to look there again.
    absent: bool,
    /// Why the last try failed.
    why: Option<String>,
}

impl fmt::Debug for PointLists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PointLists")
    }
}

impl PointLists {
    /// Keeps the lists in `directory`, which is made with the first one. Connects to public addresses and to those of the
    /// networks in `allow`, and to no others; gives up after `deadline`, which is [`DEADLINE`] but in tests.
    #[must_use]
    pub fn new(directory: PathBuf, allow: Vec<Network>, deadline: Duration, clock: Arc<dyn Clock>) -> Self {
        Self {
            shelf: Arc::new(Shelf::new(directory, clock.now())),
            fetcher: Arc::new(Fetcher::new(allow)),
            clock,
            deadline,
            fetching: Arc::new(Semaphore::new(AT_ONCE)),
            reading: Arc::new(Semaphore::new(AT_ONCE)),
            known: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn know(&self, url: &Arc<str>, change: impl FnOnce(&mut Known)) {
        let mut known = self.lock();
        if known.len() >= MOST_KNOWN && !known.contains_key(url) {
            known.clear();
        }
        change(known.entry(url.clone()).or_default());
    }

    async fn one(&self, url: &Arc<str>, chain: &Arc<Chain>) -> CrlSeen {
        let known = self.lock().get(url).cloned().unwrap_or_default();
        if let Some(list) = known.kept.and_then(|kept| RevocationList::known(&kept.digest)) {
            return seen(list.about(chain));
        }
        let nothing = match &known.why {
            Some(why) => CrlSeen::Unreadable(format!("cannot be fetched: it {why}")),
            None => CrlSeen::Missing,
        };
        if known.absent {
            return nothing;
        }
        match self.load(url, chain).await {
            Ok(Some(list)) => seen(list.about(chain)),
            Ok(None) => nothing,
            Err(Unread::Other(error)) => CrlSeen::Unreadable(error.0),
            Err(Unread::Refused(why)) => CrlSeen::Unusable(why.0),
        }
    }

    /// The list that lies on the shelf, if it is about this chain.
    async fn load(&self, url: &Arc<str>, chain: &Arc<Chain>) -> Result<Option<Arc<RevocationList>>, Unread> {
        let stopped = || Unread::Other(HostError("cannot be read: the guardian stops".to_owned()));
        let place = Arc::clone(&self.reading).acquire_owned().await.map_err(|_| stopped())?;
        let (own, url, chain) = (self.clone(), url.clone(), chain.clone());
        let read = tokio::task::spawn_blocking(move || {
            let found = own.shelf.read(&url).map_err(Unread::Other).and_then(|bytes| match bytes {
                None => Ok(None),
                Some(bytes) => {
                    RevocationList::of(&bytes, LARGEST_FETCHED, &[&chain]).map(Some).map_err(Unread::Refused)
                }
            });
            match &found {
                Ok(None) => own.know(&url, |known| known.absent = true),
                // One that was fetched meanwhile is newer.
                Ok(Some(list)) => own.know(&url, |known| known.kept = known.kept.or_else(|| facts(list))),
                Err(_) => {}
            }
            drop(place);
            found
        });
        read.await.map_err(|_| stopped())?
    }

    /// Takes in what came: the kept list if it may be believed, and why not otherwise.
    fn take(&self, url: &Arc<str>, bytes: &[u8], chains: &[Arc<Chain>]) -> Result<KeptList, HostError> {
        let refused = |error: ParseError| HostError(error.0);
        let now = self.clock.now();
        let chains: Vec<&Chain> = chains.iter().map(|chain| &**chain).collect();
        let list = RevocationList::of(bytes, LARGEST_FETCHED, &chains).map_err(refused)?;
        // Only what is about a certificate that names this place may take the place of what lies there.
        let meant = |chain: &&Chain| {
            list.about(chain).is_ok_and(|said| {
                let mut covered = chain.elements().filter(|c| said.covers.contains(&c.fingerprint));
                covered.any(|c| c.listing.points.iter().any(|point| **point == **url))
            })
        };
        if !chains.iter().any(meant) {
            return Err(HostError("is about no certificate that names it: it is the list of another CA".to_owned()));
        }
        let issue = Issue::read(list.der()).map_err(refused)?;
        let kept = facts(&list)
            .ok_or_else(|| HostError("does not say when the next one is due, so it is never fresh".to_owned()))?;
        if kept.this_update > now {
            return Err(HostError(format!("is of {}, and it is {now}: expected one of the past", kept.this_update)));
        }
        // Two who fetched the same list must not pass each other on the way to the shelf.
        let _turn = self.shelf.lock();
        // A list that cannot be read any more, or was made with another key, has no number that could go back.
        let before = self.shelf.read(url).ok().flatten();
        let same = |bytes: &&[u8]| RevocationList::of(bytes, LARGEST_FETCHED, &chains).is_ok();
        if let Some(Ok(before)) = before.as_deref().filter(same).map(Issue::read) {
            issue.may_follow(&before).map_err(refused)?;
        }
        if before.as_deref() != Some(list.der()) {
            self.shelf.put(url, list.der())?;
        }
        self.know(url, |known| *known = Known { kept: Some(kept), ..Known::default() });
        over(&kept, now)
    }
}

/// Why a kept list does not speak.
enum Unread {
    /// It could not be read.
    Other(HostError),
    /// It is about other chains.
    Refused(ParseError),
}

fn seen(said: Result<crate::domain::inventory::CrlFacts, ParseError>) -> CrlSeen {
    said.map_or_else(|why| CrlSeen::Unusable(why.0), CrlSeen::Present)
}

/// A list's facts for whoever plans; `None` without an end.
fn facts(list: &RevocationList) -> Option<KeptList> {
    let issue = Issue::read(list.der()).ok()?;
    Some(KeptList {
        this_update: issue.this_update,
        next_update: issue.next_update?,
        entries: list.entries(),
        digest: list.digest(),
    })
}

/// A list that was over when it came is kept for what it revokes, but it is no success.
fn over(kept: &KeptList, now: Timestamp) -> Result<KeptList, HostError> {
    if kept.next_update <= now {
        return Err(HostError(format!("was over when it came: the next one was due {}", kept.next_update)));
    }
    Ok(*kept)
}

impl Lists for PointLists {
    fn about<'a>(&'a self, chain: &'a Arc<Chain>) -> Doing<'a, BTreeMap<Arc<str>, CrlSeen>> {
        Box::pin(async move {
            let mut all = BTreeMap::new();
            for url in chain.list_points() {
                let seen = self.one(&url, chain).await;
                all.insert(url, seen);
            }
            all
        })
    }

    fn kept(&self, url: &str) -> Option<KeptList> {
        self.lock().get(url).and_then(|known| known.kept)
    }

    fn fetch<'a>(&'a self, url: &'a Arc<str>, chains: &'a [Arc<Chain>]) -> Doing<'a, Result<KeptList, HostError>> {
        Box::pin(async move {
            let stopped = |_| HostError("was not fetched: the guardian stops".to_owned());
            let fetching = async {
                let place = Arc::clone(&self.fetching).acquire_owned().await.map_err(|_| stopped(()))?;
                let bytes = self.fetcher.fetch(url).await?;
                Ok((place, bytes))
            };
            let late = || HostError(format!("did not come within {} s", self.deadline.as_secs()));
            let came = match tokio::time::timeout(self.deadline, fetching).await.unwrap_or_else(|_| Err(late())) {
                Err(error) => Err(error),
                Ok((place, bytes)) => {
                    let (own, url, chains) = (self.clone(), url.clone(), chains.to_vec());
                    let taking = tokio::task::spawn_blocking(move || {
                        let taken = own.take(&url, &bytes, &chains);
                        drop(place);
                        taken
                    });
                    taking.await.unwrap_or_else(|_| Err(stopped(())))
                }
            };
            came.map_err(|error| {
                let why: String = error.0.chars().take(LONGEST_WHY).collect();
                self.know(url, |known| known.why = Some(why.clone()));
                HostError(why)
            })
        })
    }
}
