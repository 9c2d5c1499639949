//! The door to the revocation lists that CAs publish.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Doing, HostError};
use crate::domain::certificate::Chain;
use crate::domain::inventory::CrlSeen;
use crate::domain::revocation::KeptList;

/// Revocation lists from the distribution points that certificates name (RFC 5280 section 6.3). The last good list of each
/// URL is kept, durably, so that a restart needs no CA. Nothing is fetched but when asked for; whoever asks owns the
/// schedule and the retries. Many calls at once are fine.
pub trait Lists: Send + Sync {
    /// What the kept list of each URL of [`Chain::list_points`] says about the chain, which a look or the key store gave:
    /// every URL has an entry. [`CrlSeen::Missing`] means that none is kept and none was asked for. Whether a list is fresh
    /// is not judged here. Fetches nothing.
    fn about<'a>(&'a self, chain: &'a Arc<Chain>) -> Doing<'a, BTreeMap<Arc<str>, CrlSeen>>;

    /// The list that is kept for a URL, as far as it is known since the start: once [`Lists::about`] was asked for it.
    fn kept(&self, url: &str) -> Option<KeptList>;

    /// Fetches the list at `url`, once, within half a minute and with a limit on its size. It takes the place of the kept one,
    /// durably on return, only if it is about a certificate of one of `chains`, says when the next one is due, is not of a
    /// time to come, and is no older than the kept one (a list with a lower number is refused).
    ///
    /// # Errors
    /// A sentence that follows the URL; also for a list that was over when it came, which is kept all the same if it is newer.
    /// What was kept before stays.
    fn fetch<'a>(&'a self, url: &'a Arc<str>, chains: &'a [Arc<Chain>]) -> Doing<'a, Result<KeptList, HostError>>;
}
