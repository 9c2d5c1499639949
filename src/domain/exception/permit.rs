//! The permit: what whoever carries something out must hold, for exactly these bytes, once.
//!
//! It can be had in one way only: from a request that is approved, at the moment in which it is begun, after the approvals
//! were counted over the people as they are then ([`super::step`]). It cannot be copied, made from its parts or kept: the
//! record of the request has its digest alone. Refuses to know how anything is carried out.

use core::time::Duration;

use super::clock::{Deadline, Moment};
use super::name::RequestId;
use super::refusal::Refusal;
use super::request::Request;
use super::scope::Scope;
use super::tally::Tally;
use crate::domain::json::Json;
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;

/// Between the commit that says that it begins and its beginning lies one write; a minute is enough for the slowest disk,
/// and what hangs longer than that has to ask again.
pub const PERMIT_LIFE: Duration = Duration::from_secs(60);

/// Exactly this may be done, once, soon.
#[derive(Debug)]
pub struct Permit {
    request: RequestId,
    round: u32,
    scope: Digest,
    votes: Vec<Digest>,
    issued: Timestamp,
    until: Deadline,
}

/// A permit that was used: what is carried out goes by this.
#[derive(Debug)]
pub struct Redeemed {
    scope: Scope,
    permit: Digest,
}

impl Permit {
    /// Only [`super::step`] calls this: the tally is that of this moment, and enough.
    pub(super) fn issue(request: &Request, tally: &Tally<'_>, now: &Moment) -> Self {
        let soon = now.wall.plus(PERMIT_LIFE).min(request.scope.window.valid_until);
        // Nothing is used after the request, or what it would put in force, is over, under either clock.
        let ends = request.ends.as_ref().map(|ends| ends.bound(now));
        let until = Deadline::at(soon, now).earlier(&request.deadline.bound(now));
        let until = ends.map_or(until.clone(), |ends| until.earlier(&ends));
        Self {
            request: request.id(),
            round: request.scope.round,
            scope: request.scope.hash(),
            votes: tally.counted.iter().map(|vote| vote.digest()).collect(),
            issued: now.wall,
            until,
        }
    }

    /// SHA-256 over its canonical form: its name.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let Self { request, round, scope, votes, issued, until } = self;
        let all = Json::obj([
            ("boot_id", Json::Shared(until.boot_id.clone())),
            ("boot_until_ms", Json::show(&until.boot.as_duration().as_millis())),
            ("issued", Json::Time(*issued)),
            ("request", Json::show(request)),
            ("round", Json::Int(i64::from(*round))),
            ("scope", Json::Hash(*scope)),
            ("until", Json::Time(until.wall)),
            ("votes", Json::arr(votes.iter().map(|vote| Json::Hash(*vote)))),
        ]);
        Digest::of(&all.canonical())
    }

    /// Digests of the votes that it stands on.
    #[must_use]
    pub fn votes(&self) -> &[Digest] {
        &self.votes
    }

    /// Until when it has to be used.
    #[must_use]
    pub fn until(&self) -> &Deadline {
        &self.until
    }

    /// Uses it up for what is to be carried out.
    ///
    /// # Errors
    /// [`Refusal::OtherBytes`] if it is for anything else, [`Refusal::Over`] if its time is over under either clock or the
    /// machine has booted since. It is used up all the same.
    pub fn redeem(self, scope: Scope, now: &Moment) -> Result<Redeemed, Refusal> {
        let found = scope.hash();
        if found != self.scope {
            return Err(Refusal::OtherBytes { permitted: self.scope, found });
        }
        if self.until.is_over(now) || now.boot_id != self.until.boot_id {
            return Err(Refusal::Over(self.until.wall));
        }
        Ok(Redeemed { scope, permit: self.digest() })
    }
}

impl Redeemed {
    /// What is carried out.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The permit's name, for the record.
    #[must_use]
    pub fn permit(&self) -> Digest {
        self.permit
    }
}
