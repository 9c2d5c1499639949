//! The controller's loop: lists that are due, leaves that are over, people who have to know.

use core::future::Future;
use core::pin::pin;
use core::time::Duration;
use std::collections::btree_map::Entry;
use std::sync::{Arc, PoisonError};

use futures_util::future::{Either, select};

use crate::domain::json::Json;
use crate::domain::register::Keeper;
use crate::domain::state::Change;
use crate::domain::time::{DAY, HOUR, human_span};
use crate::engine::authority::make::Place;
use crate::engine::authority::{Authority, Beat};
use crate::ports::{Batch, Notice, Urgency};

/// How often it goes round: a revocation that a crash cut off is published so much later.
const EVERY: Duration = Duration::from_secs(10);
/// What expired stays in the register for so long, for clocks that are behind and for people who look.
pub(super) const KEPT: Duration = DAY;
/// So many expired leaves leave the register at once.
const MOST_AT_ONCE: usize = 256;
/// The same trouble is told again after this.
const TOLD_AGAIN: Duration = HOUR;
/// People hear of the end of an offline root's list so long before it, at a third of its life at the latest.
const END_IS_NEAR: Duration = DAY.saturating_mul(30);

impl Authority {
    /// Runs until `stop` is ready. What is in flight is dropped then: every step of it is durable.
    pub async fn run(&self, stop: impl Future<Output = ()> + Send) {
        let mut stop = pin!(stop);
        loop {
            let round = async {
                self.round().await;
                self.engine.ports.clock.sleep(EVERY).await;
            };
            if let Either::Left(_) = select(&mut stop, pin!(round)).await {
                return;
            }
        }
    }

    /// Goes round once.
    pub async fn round(&self) {
        self.anchor();
        // Lists are dated; while the clock is not believed, none is made.
        if self.believe_clock().is_ok() {
            for (id, error) in self.publish_due().await {
                let text = format!("a revocation list of generation {id} could not be made: {error}");
                self.tell(format!("ca/{}/{id}", id.ca), None, error.code(), text, Urgency::Act);
            }
            self.forget_expired().await;
            self.read_offline_lists().await;
            self.rotate_all().await;
            self.warn_of_lists();
        }
        let clock = &self.engine.ports.clock;
        let beat = Beat { at: clock.now(), boot: clock.boottime() };
        *self.beat.write().unwrap_or_else(PoisonError::into_inner) = Some(beat);
    }

    async fn forget_expired(&self) {
        let now = self.now();
        let expired: Vec<Arc<str>> = {
            let desk = self.engine.read();
            let over = desk.state.issued.iter().filter(|(_, i)| i.validity.not_after.plus(KEPT) < now);
            over.map(|(serial, _)| serial.clone()).take(MOST_AT_ONCE).collect()
        };
        let Some(ca) = self.cas().keys().next().cloned().filter(|_| !expired.is_empty()) else { return };
        let mut draft = self.draft("ca.forget", "KW4607", &ca, None);
        draft.facts = vec![("expired", Json::str(expired.len().to_string()))];
        let changes = expired.into_iter().map(|serial| Change::Issued(serial, None)).collect();
        // What cannot be written now is tried again at the next round, and the engine says so.
        drop(self.engine.commit(Batch { changes, entries: vec![draft] }).await);
    }

    /// The list of a root that is outside is made by a person.
    fn warn_of_lists(&self) {
        let generations: Vec<_> = self.cas().keys().flat_map(|ca| self.generations(ca)).collect();
        for (id, generation) in generations.iter().filter(|(_, g)| g.phase.is_trusted()) {
            if generation.root.as_ref().is_none_or(|root| root.keeper != Keeper::Offline) {
                continue;
            }
            // It stands where the root was first.
            let Ok(first) = self.known(&self.owner_of_list(id, Place::Root)) else { continue };
            let Some(list) = first.root.as_ref().and_then(|root| root.list.as_ref()) else { continue };
            let (left, life) = (self.now().until(list.next_update), list.this_update.until(list.next_update));
            if left < END_IS_NEAR.min(life / 3) {
                let left = human_span(left);
                let text = format!(
                    "the revocation list of the root of {id} ends in {left}: sign another one with `keyward ca sign-intermediate DIR`"
                );
                self.tell(format!("ca/{}/{id}", id.ca), None, "KW4661", text, Urgency::Act);
            }
        }
    }

    pub(super) fn tell(&self, what: String, owner: Option<String>, code: &'static str, text: String, urgent: Urgency) {
        let now = self.now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, at| now.since(*at) < TOLD_AGAIN);
        if let Entry::Vacant(first) = told.entry((what.clone(), code)) {
            first.insert(now);
            let about = what.split('/').take(2).collect::<Vec<_>>().join("/");
            self.engine.ports.notifier.notify(Notice { about, owner, code, text, urgent });
        }
    }
}
