//! Taking in looks at endpoints: what an answer ends, and what a miss leaves standing.
//!
//! Refuses to know for how long that may stand: that is [`crate::domain::gate`].

use std::sync::Arc;

use crate::domain::certificate::Chain;
use crate::domain::inventory::{Endpoint, Observation, Seen, Sighting};
use crate::domain::missed::Missed;
use crate::domain::time::Boottime;

impl Sighting {
    /// The same, or what an endpoint served that is not reached any more.
    #[must_use]
    pub fn last_chain(&self) -> Option<&Arc<Chain>> {
        self.chain().or_else(|| self.missed.values().map(|missed| &missed.chain).next())
    }

    /// Takes in a look at an endpoint that began at `began`. Only what was seen before is remembered over a miss: every
    /// answer, good or bad, ends that.
    pub fn look(&mut self, endpoint: &Arc<Endpoint>, new: Observation, began: Boottime) {
        let before = self.served.get(endpoint).and_then(|old| Some((old.at, old.seen.chain()?.clone())));
        match (&new.seen, self.missed.get_mut(endpoint), before) {
            (Seen::Unreachable(_), Some(missed), _) => missed.times = missed.times.saturating_add(1),
            (Seen::Unreachable(_), None, Some((seen_at, chain))) => {
                self.missed.insert(endpoint.clone(), Missed { times: 1, since: began, seen_at, chain });
            }
            (Seen::Unreachable(_), None, None) => {}
            (Seen::Present(_) | Seen::Missing | Seen::Unreadable(_) | Seen::Unparseable(_), ..) => {
                self.missed.remove(endpoint);
            }
        }
        self.served.insert(endpoint.clone(), new);
    }
}
