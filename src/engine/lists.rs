//! Revocation lists at distribution points: which are tracked, when each is fetched, and what follows when one comes.
//!
//! A list is tracked from the first look at a certificate that names its URL until nobody does any more. It is fetched in its
//! turn; only where a certificate takes the place of another is its list fetched before the look ends, so that a renewal
//! closes no path. What a list says reaches the sightings in the same moment for all who stand on it.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::certificate::Chain;
use crate::domain::id::CredentialId;
use crate::domain::inventory::{Credential, CrlSeen, Sighting};
use crate::domain::key::Digest;
use crate::domain::revocation::{Another, FAILURES_TOLD, KeptList, ListStanding, MOST_LISTS};
use crate::domain::time::{MINUTE, Timestamp};
use crate::engine::agenda::{Agenda, Task};
use crate::engine::looking::Looked;
use crate::engine::{Crew, Desk, Engine, Event, at_once};
use crate::ports::{Doing, HostError};

/// Lists that are fetched at once.
const LISTS_AT_ONCE: usize = 4;
/// Whoever began to fetch a list and did not say what came of it after so long was cut off: the port takes half of it.
const GIVEN_UP: Duration = MINUTE;
/// Between two looks whether a list came that somebody else asked for.
const SHORT_WAIT: Duration = Duration::from_millis(50);
/// A list is believed if one of so many chains with different issuers vouches for it; real URLs serve one issuer.
const MOST_CHAINS: usize = 16;

/// The lists that are tracked.
#[derive(Debug, Default)]
pub(crate) struct Tracked {
    /// By URL.
    pub(super) known: BTreeMap<Arc<str>, ListStanding>,
    /// How many lists have come that were other ones than before.
    pub(super) turn: u64,
    /// How many are being fetched in their turn.
    flying: usize,
    /// Whose sighting may hold what an earlier list said.
    again: BTreeSet<CredentialId>,
}

/// What revocation lists say about a chain.
#[derive(Default)]
pub(super) struct Lists {
    /// Those in files.
    pub(super) files: BTreeMap<String, CrlSeen>,
    /// Those at distribution points.
    pub(super) points: BTreeMap<Arc<str>, CrlSeen>,
    /// [`Tracked::turn`] as it was when the latter were asked.
    pub(super) turn: u64,
}

/// Whether to wait for a list that was never asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Hurry {
    /// It is fetched before anything else.
    Now,
    /// Its turn comes.
    InTurn,
}

/// What came of fetching a list.
pub(crate) struct Answered {
    url: Arc<str>,
    answer: Result<KeptList, HostError>,
    /// What the lists say now about each chain that stands on it, by its leaf.
    says: Vec<(CredentialId, Digest, BTreeMap<Arc<str>, CrlSeen>)>,
    /// [`Tracked::turn`] as it was when that was asked.
    turn: u64,
}

/// What an answer changed.
struct News {
    another: Another,
    /// Somebody is told that a list does not come, or that it does again.
    told: bool,
}

impl Engine {
    /// What the credential's revocation lists, if it has any, say about the chain that stands for it.
    pub(super) async fn look_at_lists(&self, credential: &Credential, chain: &Arc<Chain>, hurry: Hurry) -> Lists {
        let mut lists = Lists::default();
        if credential.list_files().next().is_some() {
            lists.files = self.ports.prober.crls(credential, chain).await;
        }
        if !credential.fetches_lists() {
            return lists;
        }
        lists.turn = self.read().lists.turn;
        lists.points = self.ports.lists.about(chain).await;
        if hurry == Hurry::Now && lists.points.values().any(|seen| *seen == CrlSeen::Missing) {
            self.fetch_missing(&lists.points, chain).await;
            lists.turn = self.read().lists.turn;
            lists.points = self.ports.lists.about(chain).await;
        }
        lists
    }

    /// Fetches those of the lists that nobody asked for yet, and waits for those that somebody else did.
    async fn fetch_missing(&self, points: &BTreeMap<Arc<str>, CrlSeen>, chain: &Arc<Chain>) {
        let own = core::slice::from_ref(chain);
        let wanted = self.claim(points);
        let fetches = wanted.iter().map(|url| {
            let fetch: Doing<'_, _> = Box::pin(async move { (url, self.ports.lists.fetch(url, own).await) });
            fetch
        });
        for (url, answer) in at_once(LISTS_AT_ONCE, fetches.collect()).await {
            if self.take_answer(url, answer).another == Another::Yes {
                self.look_again(url, &BTreeSet::new());
            }
        }
        let under_way = || {
            let desk = self.read();
            let silent = |s: &ListStanding| s.kept.is_none() && s.failures == 0;
            points.keys().any(|url| desk.lists.known.get(url).is_some_and(silent))
        };
        let began = self.ports.clock.boottime();
        while under_way() && self.ports.clock.boottime().since(began) < GIVEN_UP {
            self.ports.clock.sleep(SHORT_WAIT).await;
        }
    }

    /// Whoever stands on the list, but these, may hold what an earlier one said.
    fn look_again(&self, url: &Arc<str>, but: &BTreeSet<CredentialId>) {
        let mut guard = self.write();
        let Desk { lists, sightings, .. } = &mut *guard;
        let users = sightings.iter().filter(|(id, s)| s.points.contains_key(url) && !but.contains(*id));
        lists.again.extend(users.map(|(id, _)| id.clone()));
    }

    /// Those of the lists that nobody asked for yet; from now on somebody has.
    fn claim(&self, points: &BTreeMap<Arc<str>, CrlSeen>) -> Vec<Arc<str>> {
        let now = self.ports.clock.now();
        let mut guard = self.write();
        let lists = &mut guard.lists;
        let mut wanted = Vec::new();
        for (url, _) in points.iter().filter(|(_, seen)| **seen == CrlSeen::Missing) {
            if lists.known.contains_key(url) || lists.known.len() >= MOST_LISTS {
                continue;
            }
            lists.known.insert(url.clone(), ListStanding::new(None, now.plus(GIVEN_UP)));
            wanted.push(url.clone());
        }
        wanted
    }

    /// Tracks these lists from now on.
    pub(super) fn know_lists<'u>(&self, urls: impl Iterator<Item = &'u Arc<str>>, now: Timestamp) {
        for url in urls {
            let kept = self.ports.lists.kept(url);
            let lists = &mut self.write().lists;
            if !lists.known.contains_key(url) && lists.known.len() < MOST_LISTS {
                lists.known.insert(url.clone(), ListStanding::new(kept, now));
            }
        }
    }

    /// Puts the next list, and who must be looked at because of one, into the agenda.
    pub(super) fn plan_lists(&self, agenda: &mut Agenda) {
        let now = self.ports.clock.now();
        // Mostly nobody asks for any; and who reads is not to wait for that.
        if self.read().lists.known.is_empty() {
            return agenda.drop_task(&Task::Lists);
        }
        let mut guard = self.write();
        let Desk { lists, estate, .. } = &mut *guard;
        for id in core::mem::take(&mut lists.again) {
            agenda.by(Task::Look(id), now);
        }
        // A clock that was set back, or a new configuration: nothing waits for longer than it may.
        let latest = now.plus(estate.lists_every.max(GIVEN_UP));
        lists.known.values_mut().filter(|s| s.due > latest).for_each(|s| s.due = now);
        match lists.known.values().map(|s| s.due).min() {
            Some(due) if lists.flying < LISTS_AT_ONCE => agenda.set(Task::Lists, due),
            // Whoever comes back plans again.
            Some(_) | None => agenda.drop_task(&Task::Lists),
        }
    }

    /// Begins to fetch the lists whose turn it is, the longest due first.
    pub(super) fn fetch_lists<'a>(&'a self, now: Timestamp, agenda: &mut Agenda, crew: &mut Crew<'a>) {
        let due = {
            let mut guard = self.write();
            let Desk { lists, sightings, .. } = &mut *guard;
            // Nobody names these any more.
            let named = |url: &Arc<str>| sightings.values().any(|s| s.points.contains_key(url));
            lists.known.retain(|url, standing| standing.due > now || named(url));
            let mut due: Vec<_> = lists.known.iter().filter(|(_, s)| s.due <= now).map(|(u, s)| (s.due, u)).collect();
            due.sort_unstable();
            due.truncate(LISTS_AT_ONCE.saturating_sub(lists.flying));
            let due: Vec<Arc<str>> = due.into_iter().map(|(_, url)| url.clone()).collect();
            for url in &due {
                if let Some(standing) = lists.known.get_mut(url) {
                    standing.due = now.plus(GIVEN_UP);
                }
            }
            lists.flying = lists.flying.saturating_add(due.len());
            due
        };
        crew.looks = crew.looks.saturating_add(due.len());
        crew.futures.extend(due.into_iter().map(|url| {
            let fetch: Doing<'a, Event> =
                Box::pin(async move { Event::Looked(Looked::List(self.fetch_list(url).await)) });
            fetch
        }));
        self.plan_lists(agenda);
    }

    async fn fetch_list(&self, url: Arc<str>) -> Answered {
        let mut chains: Vec<Arc<Chain>> = Vec::new();
        for (_, chain) in self.list_users(&url) {
            let same = |other: &Arc<Chain>| {
                let issuers = |c: &Chain| c.above.iter().map(|i| i.fingerprint).collect::<Vec<_>>();
                issuers(other) == issuers(&chain)
            };
            if chains.len() < MOST_CHAINS && !chains.iter().any(same) {
                chains.push(chain);
            }
        }
        let answer = self.ports.lists.fetch(&url, &chains).await;
        let (before, turn) = {
            let desk = self.read();
            (desk.lists.known.get(&url).and_then(|s| s.kept).map(|kept| kept.digest), desk.lists.turn)
        };
        let after = self.ports.lists.kept(&url).map(|kept| kept.digest);
        let mut says = Vec::new();
        if before != after || after.is_none() {
            for (id, chain) in self.list_users(&url) {
                says.push((id, chain.leaf.fingerprint, self.ports.lists.about(&chain).await));
            }
        }
        Answered { url, answer, says, turn }
    }

    /// Who stands on the list, with the chain that names it.
    fn list_users(&self, url: &Arc<str>) -> Vec<(CredentialId, Arc<Chain>)> {
        let desk = self.read();
        let users = desk.sightings.iter().filter(|(_, sighting)| sighting.points.contains_key(url));
        users.filter_map(|(id, sighting)| Some((id.clone(), sighting.last_chain()?.clone()))).collect()
    }

    /// Takes in what came of a list.
    pub(super) fn note_list(&self, answered: Answered, touched: &mut BTreeSet<CredentialId>) {
        let Answered { url, answer, says, turn } = answered;
        // Another list came while these were asked: what they say of that one may be older than what is known of it.
        let overtaken = self.read().lists.turn != turn;
        let news = self.take_answer(&url, answer);
        if news.told {
            touched.extend(self.list_users(&url).into_iter().map(|(id, _)| id));
        }
        let mut heard = BTreeSet::new();
        {
            let mut desk = self.write();
            desk.lists.flying = desk.lists.flying.saturating_sub(1);
            for (id, leaf, points) in says {
                if overtaken {
                    desk.lists.again.insert(id);
                    continue;
                }
                let Some(sighting) = desk.sightings.get_mut(&id) else { continue };
                // If another chain stands there by now, it is looked at again.
                if sighting.last_chain().is_some_and(|chain| chain.leaf.fingerprint == leaf) {
                    sighting.points = points;
                    heard.insert(id);
                }
            }
        }
        if news.another == Another::Yes {
            self.look_again(&url, &heard);
        }
        touched.append(&mut heard);
    }

    /// Writes down what came of a list.
    fn take_answer(&self, url: &Arc<str>, answer: Result<KeptList, HostError>) -> News {
        let now = self.ports.clock.now();
        let kept = self.ports.lists.kept(url);
        let mut guard = self.write();
        let Desk { lists, estate, .. } = &mut *guard;
        let every = estate.lists_every;
        let Some(standing) = lists.known.get_mut(url) else { return News { another: Another::No, told: false } };
        let failed = standing.failures >= FAILURES_TOLD;
        let another = match answer {
            Ok(new) => standing.came(url, new, now, every),
            Err(error) => {
                standing.failed(url, error.0.into(), now, every);
                // One that was over when it came is kept, for what it revokes.
                let another = kept.is_some_and(|kept| standing.kept.is_none_or(|old| old.digest != kept.digest));
                standing.kept = kept.or(standing.kept);
                if another { Another::Yes } else { Another::No }
            }
        };
        let told = failed || standing.failures == FAILURES_TOLD;
        if another == Another::Yes {
            lists.turn = lists.turn.saturating_add(1);
        }
        News { another, told }
    }

    /// How it stands with each list that is fetched, by URL.
    pub fn for_each_list(&self, mut each: impl FnMut(&str, &ListStanding)) {
        self.read().lists.known.iter().for_each(|(url, standing)| each(url, standing));
    }
}

impl Desk {
    /// Publishes what lists say about the chain of a credential. Another list may have come since they were asked; then
    /// it is looked at again.
    pub(super) fn put_lists(&mut self, id: &CredentialId, said: Lists) {
        if !said.points.is_empty() && said.turn != self.lists.turn {
            self.lists.again.insert(id.clone());
        }
        let sighting: &mut Sighting = self.sightings.entry(id.clone()).or_default();
        (sighting.crls, sighting.points) = (said.files, said.points);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::inventory::Estate;
    use crate::sim::clock::run;
    use crate::sim::world::World;

    #[test]
    fn what_lists_said_before_another_one_came_is_asked_again_and_not_believed() {
        let (start, estate) = (Timestamp::from_unix(1_800_000_000), Estate::default());
        let world = World::new(1, start, estate.clone());
        let engine = run(&world.clock, Engine::start(world.ports(), Arc::new(estate))).unwrap().unwrap();
        let (id, url) = (CredentialId::parse("portal").unwrap(), Arc::<str>::from("http://lists.sim/0.crl"));
        engine.write().sightings.insert(id.clone(), Sighting::default());
        let answered = |turn| Answered {
            url: url.clone(),
            answer: Err(HostError("away".to_owned())),
            says: vec![(id.clone(), Digest::of(b"leaf"), BTreeMap::new())],
            turn,
        };
        let mut touched = BTreeSet::new();
        engine.note_list(answered(0), &mut touched);
        assert!(engine.read().lists.again.is_empty());
        engine.write().lists.turn = 1;
        engine.note_list(answered(0), &mut touched);
        assert!(engine.read().lists.again.contains(&id) && touched.is_empty());
    }
}
