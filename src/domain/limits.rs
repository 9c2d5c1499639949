//! The limits of a CA as a durable ledger: what was spent, what is left, and a reserve that only a human may spend.
//!
//! Each limit is a token bucket in its generic-cell-rate form: one stored time per bucket, exact arithmetic, nothing to
//! prune but full buckets. Let's Encrypt documents its limits in the same form (capacity and refill time).

use core::borrow::Borrow;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::id::IssuerId;
use crate::domain::name::{Name, NameSet, SetKey, hash};
use crate::domain::time::{DAY, HOUR, Timestamp};

/// What a limit counts, and so what its buckets are keyed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LimitKind {
    /// New orders of the account.
    Orders,
    /// Certificates per registered domain.
    RegisteredDomain,
    /// Certificates per exact set of identifiers.
    ExactSet,
    /// Failed authorizations per identifier.
    FailedAuthorizations,
}

impl LimitKind {
    /// Every kind with its stable name.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Orders, "orders"),
        (Self::RegisteredDomain, "registered_domain"),
        (Self::ExactSet, "exact_set"),
        (Self::FailedAuthorizations, "failed_authorizations"),
    ];

    /// Its stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    /// By its stable name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(kind, _)| *kind)
    }
}

/// One limit of a CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What it counts.
    pub kind: LimitKind,
    /// How many tokens a full bucket holds.
    pub capacity: u32,
    /// The time in which one token comes back.
    pub refill: Duration,
    /// Tokens that automation leaves for humans.
    pub reserve: u32,
}

/// Let's Encrypt's production limits (its documentation of 2026-08): 300 orders / 3 h, 50 certificates / 7 d per
/// registered domain, 5 / 7 d per exact set, 5 failed authorizations / h per identifier. The reserves are ours.
pub const LETS_ENCRYPT: [Limit; 4] = [
    Limit { kind: LimitKind::Orders, capacity: 300, refill: Duration::from_secs(36), reserve: 10 },
    Limit { kind: LimitKind::RegisteredDomain, capacity: 50, refill: Duration::from_secs(7 * 86_400 / 50), reserve: 3 },
    Limit { kind: LimitKind::ExactSet, capacity: 5, refill: Duration::from_secs(7 * 86_400 / 5), reserve: 1 },
    Limit { kind: LimitKind::FailedAuthorizations, capacity: 5, refill: Duration::from_secs(3_600 / 5), reserve: 1 },
];

/// Without a human, at most this many issuances per exact set of names in any [`automatic_span`], whatever the CA allows:
/// a renewal loop that runs wild ends here.
pub const AUTOMATIC_ISSUANCES: usize = 2;
/// The longest span of [`AUTOMATIC_ISSUANCES`], and how long issuances are remembered.
pub const AUTOMATIC_SPAN: Duration = DAY;

/// The sliding span of [`AUTOMATIC_ISSUANCES`]: 24 h, or half of the lifetime of what is replaced where that is shorter
/// (a certificate of two hours could not be kept otherwise).
#[must_use]
pub fn automatic_span(lifetime: Option<Duration>) -> Duration {
    lifetime.map_or(AUTOMATIC_SPAN, |l| (l / 2).min(AUTOMATIC_SPAN))
}

/// What tells two automatic issuances of one exact set apart.
const SECOND: Duration = Duration::from_secs(1);

/// Who spends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spender {
    /// Automation: stops at the reserve.
    Automation,
    /// A named human asked for it: may spend the reserve too, never more than the CA allows.
    Human,
}

/// One bucket: an issuer's limit for one key. Sorted by a hash of the key first: names begin alike, and there may be tens
/// of thousands of buckets in one map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BucketKey {
    hash: u64,
    kind: LimitKind,
    key: Arc<str>,
    issuer: IssuerId,
}

impl BucketKey {
    /// Of an issuer's limit, by what it is counted: nothing, a registered domain, a set of names, or a name.
    #[must_use]
    pub fn new(issuer: IssuerId, kind: LimitKind, key: Arc<str>) -> Self {
        Self { hash: hash(&key), kind, key, issuer }
    }

    /// The issuer.
    #[must_use]
    pub fn issuer(&self) -> &IssuerId {
        &self.issuer
    }

    /// The limit.
    #[must_use]
    pub fn kind(&self) -> LimitKind {
        self.kind
    }

    /// What it is counted by.
    #[must_use]
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }
}

/// What a request would take from the ledger: it is refused as a whole or taken as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spend {
    /// The bucket.
    pub bucket: BucketKey,
    /// Its limit.
    pub limit: Limit,
}

/// A refusal by the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exhausted {
    /// Which bucket has no token.
    pub bucket: BucketKey,
    /// The time in which one comes back.
    pub refill: Duration,
    /// When one will be there.
    pub until: Timestamp,
}

/// What was spent so far. Missing buckets are full.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Per bucket the time at which it would be full again.
    pub full_at: BTreeMap<BucketKey, Timestamp>,
    /// Automatic issuances per exact set of names, newest last, none older than [`AUTOMATIC_SPAN`] when written.
    pub automatic: BTreeMap<SetKey, Vec<Timestamp>>,
}

/// What the actions of a plan take, on top of a ledger that stays as it is: a few buckets for each order in flight.
#[derive(Debug, Default)]
pub struct Bookings(Vec<(BucketKey, Timestamp)>);

impl Bookings {
    /// Takes one token more at `now`, and gives the time at which the bucket will be full again.
    pub fn take(&mut self, ledger: &Ledger, spend: &Spend, now: Timestamp) -> Timestamp {
        self.add(spend, self.full_at(ledger, &spend.bucket), now)
    }

    /// Takes one token more for each of `spends` if all of them are possible at `now`, and all of `needs` too, which are
    /// not taken.
    ///
    /// # Errors
    /// The limit that holds longest, of `spends` first. Nothing is taken then.
    pub fn book(
        &mut self,
        ledger: &Ledger,
        spends: &[Spend],
        needs: impl IntoIterator<Item: Borrow<Spend>>,
        spender: Spender,
        now: Timestamp,
    ) -> Result<(), Exhausted> {
        let full_at: Vec<Option<Timestamp>> = spends.iter().map(|s| self.full_at(ledger, &s.bucket)).collect();
        longest(spends.iter().zip(&full_at).filter_map(|(s, full)| exhausted(*full, s, spender, now)))?;
        self.check(ledger, needs, spender, now)?;
        for (spend, full) in spends.iter().zip(full_at) {
            self.add(spend, full, now);
        }
        Ok(())
    }

    /// Takes one token more from a bucket that was to be full at `full_at` before this plan took anything of it.
    fn add(&mut self, spend: &Spend, full_at: Option<Timestamp>, now: Timestamp) -> Timestamp {
        if let Some((_, full)) = self.0.iter_mut().find(|(bucket, _)| *bucket == spend.bucket) {
            *full = after(Some(*full), spend, now);
            return *full;
        }
        let full = after(full_at, spend, now);
        self.0.push((spend.bucket.clone(), full));
        full
    }

    /// Whether every spend of `spends` is possible at `now` with what was taken already.
    ///
    /// # Errors
    /// The limit that holds longest.
    pub fn check(
        &self,
        ledger: &Ledger,
        spends: impl IntoIterator<Item: Borrow<Spend>>,
        spender: Spender,
        now: Timestamp,
    ) -> Result<(), Exhausted> {
        longest(spends.into_iter().filter_map(|spend| {
            let spend = spend.borrow();
            exhausted(self.full_at(ledger, &spend.bucket), spend, spender, now)
        }))
    }

    fn full_at(&self, ledger: &Ledger, bucket: &BucketKey) -> Option<Timestamp> {
        let booked = self.0.iter().find(|(own, _)| own == bucket).map(|(_, full)| full);
        booked.or_else(|| ledger.full_at.get(bucket)).copied()
    }
}

/// How many tokens `limit` has left at `now` in a bucket that will be full at that time.
fn left(full_at: Option<Timestamp>, limit: &Limit, now: Timestamp) -> u32 {
    let debt = full_at.map_or(Duration::ZERO, |full| now.until(full));
    let refill = limit.refill.as_secs().max(1);
    let spent = u32::try_from(debt.as_secs().div_ceil(refill)).unwrap_or(u32::MAX);
    limit.capacity.saturating_sub(spent)
}

fn exhausted(full_at: Option<Timestamp>, spend: &Spend, spender: Spender, now: Timestamp) -> Option<Exhausted> {
    let reserve = match spender {
        Spender::Automation => spend.limit.reserve.min(spend.limit.capacity.saturating_sub(1)),
        Spender::Human => 0,
    };
    if left(full_at, &spend.limit, now) > reserve {
        return None;
    }
    // There must be reserve + 1 tokens: the debt may be at most (capacity - reserve - 1) refills.
    let allowed = spend.limit.refill.saturating_mul(spend.limit.capacity.saturating_sub(reserve).saturating_sub(1));
    let until = full_at.unwrap_or(now).minus(allowed).max(now);
    Some(Exhausted { bucket: spend.bucket.clone(), refill: spend.limit.refill, until })
}

fn longest(exhausted: impl Iterator<Item = Exhausted>) -> Result<(), Exhausted> {
    exhausted.max_by_key(|e| e.until).map_or(Ok(()), Err)
}

fn after(full_at: Option<Timestamp>, spend: &Spend, now: Timestamp) -> Timestamp {
    full_at.unwrap_or(now).max(now).plus(spend.limit.refill)
}

impl Ledger {
    /// How many tokens `limit` has left in `bucket` at `now`.
    #[must_use]
    pub fn remaining(&self, bucket: &BucketKey, limit: &Limit, now: Timestamp) -> u32 {
        left(self.full_at.get(bucket).copied(), limit, now)
    }

    /// Whether every spend of `spends` is possible at `now`.
    ///
    /// # Errors
    /// The limit that holds longest.
    pub fn check(&self, spends: &[Spend], spender: Spender, now: Timestamp) -> Result<(), Exhausted> {
        Bookings::default().check(self, spends, spender, now)
    }

    /// Takes one token more at `now`.
    pub fn take(&mut self, spend: &Spend, now: Timestamp) {
        let full = self.full_at.entry(spend.bucket.clone()).or_insert(now);
        *full = after(Some(*full), spend, now);
    }

    /// The time at which `spend.bucket` will be full again once one token more is taken at `now`.
    #[must_use]
    pub fn after(&self, spend: &Spend, now: Timestamp) -> Timestamp {
        after(self.full_at.get(&spend.bucket).copied(), spend, now)
    }

    /// Whether automation may issue for this exact set now, by our own limit of two in a span; `in_flight` attempts for
    /// the same set count as issued.
    ///
    /// # Errors
    /// The time from which it may.
    pub fn check_automatic(
        &self,
        set: &SetKey,
        span: Duration,
        in_flight: usize,
        now: Timestamp,
    ) -> Result<(), Timestamp> {
        let times = self.automatic.get(set).map_or(&[][..], Vec::as_slice);
        let mut recent = times.iter().filter(|t| now.since(**t) < span);
        match recent.clone().count().saturating_add(in_flight).checked_sub(AUTOMATIC_ISSUANCES) {
            // What is in flight counts as of now, after all others.
            Some(index) => Err(recent.nth(index).copied().unwrap_or(now).plus(span)),
            None => Ok(()),
        }
    }

    /// The second in which an automatic issuance for this exact set counts: the first from `now` on in which none does yet,
    /// for the same second twice is one and the same issuance, recorded again.
    #[must_use]
    pub fn counts_at(&self, set: &SetKey, now: Timestamp) -> Timestamp {
        let taken = self.automatic.get(set).map_or(&[][..], Vec::as_slice);
        let mut at = now;
        while taken.contains(&at) {
            at = at.plus(SECOND);
        }
        at
    }

    /// The time at which a bucket is full again once a token that was taken for nothing is given back. Certificates per
    /// domain and per exact set count at the CA only when they are issued. What came back by itself since `taken` is not
    /// given back once more.
    #[must_use]
    pub fn refunded(&self, spend: &Spend, taken: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let counts_at_issuance = matches!(spend.limit.kind, LimitKind::RegisteredDomain | LimitKind::ExactSet);
        let full = self.full_at.get(&spend.bucket).filter(|_| counts_at_issuance)?;
        Some(full.minus(spend.limit.refill.saturating_sub(now.since(taken))))
    }
}

/// What one new order takes: a token of the account, of each registered domain and of the exact set. A renewal inside
/// its ARI window that names what it replaces is exempt at Let's Encrypt; `exempt` says so, and then only our own limits
/// count.
#[must_use]
pub fn order_spends(issuer: &IssuerId, limits: &[Limit], names: &NameSet) -> Vec<Spend> {
    let mut spends = Vec::with_capacity(limits.len());
    for limit in limits {
        let mut add = |key: Arc<str>| {
            spends.push(Spend { bucket: BucketKey::new(issuer.clone(), limit.kind, key), limit: *limit });
        };
        match limit.kind {
            LimitKind::Orders => add(Arc::default()),
            LimitKind::ExactSet => add(names.key().clone()),
            LimitKind::RegisteredDomain => names.registered_domains().iter().cloned().for_each(add),
            LimitKind::FailedAuthorizations => {}
        }
    }
    spends
}

/// What failed authorizations for `names` take.
pub fn failure_spends<'a>(
    issuer: &IssuerId,
    limits: &[Limit],
    names: impl Iterator<Item = &'a Name>,
) -> impl Iterator<Item = Spend> {
    let limit = limits.iter().find(|l| l.kind == LimitKind::FailedAuthorizations);
    let bucket = |name: &Name, limit: &Limit| BucketKey::new(issuer.clone(), limit.kind, name.authorized().text());
    names.filter_map(move |name| limit.map(|limit| Spend { bucket: bucket(name, limit), limit: *limit }))
}

/// The default backoff floor of the ledger when a limit is disabled: nothing waits longer than this for a token that
/// never comes.
pub const LONGEST_WAIT: Duration = Duration::from_secs(HOUR.as_secs() * 24 * 7);

#[cfg(test)]
mod tests {
    use super::*;

    fn spend(capacity: u32, refill: u64, reserve: u32) -> Spend {
        let issuer = IssuerId::parse("le").unwrap_or_else(|_| unreachable!());
        let limit = Limit { kind: LimitKind::Orders, capacity, refill: Duration::from_secs(refill), reserve };
        Spend { bucket: BucketKey::new(issuer, LimitKind::Orders, Arc::from("")), limit }
    }

    fn take(ledger: &mut Ledger, spend: &Spend, spender: Spender, now: Timestamp) -> Result<(), Exhausted> {
        ledger.check(core::slice::from_ref(spend), spender, now)?;
        ledger.take(spend, now);
        Ok(())
    }

    #[test]
    fn automation_stops_at_the_reserve_and_a_human_at_the_limit() {
        let (mut ledger, s, now) = (Ledger::default(), spend(5, 100, 2), Timestamp::from_unix(1_000_000));
        let automatic = (0..10).filter(|_| take(&mut ledger, &s, Spender::Automation, now).is_ok()).count();
        let human = (0..10).filter(|_| take(&mut ledger, &s, Spender::Human, now).is_ok()).count();
        assert_eq!((automatic, human), (3, 2));
    }

    #[test]
    fn a_refusal_names_the_time_at_which_the_same_spend_passes() {
        let (mut ledger, s, now) = (Ledger::default(), spend(3, 100, 1), Timestamp::from_unix(1_000_000));
        while take(&mut ledger, &s, Spender::Automation, now).is_ok() {}
        let until = take(&mut ledger, &s, Spender::Automation, now).err().map(|e| e.until).unwrap_or(now);
        assert!(until > now);
        assert!(take(&mut ledger.clone(), &s, Spender::Automation, until.minus(Duration::from_secs(1))).is_err());
        assert!(take(&mut ledger, &s, Spender::Automation, until).is_ok());
    }

    #[test]
    fn two_automatic_issuances_in_any_24_hours_and_no_third() {
        let t = Timestamp::from_unix(1_000_000);
        let mut ledger = Ledger::default();
        ledger.automatic.insert(SetKey::from("a"), vec![t, t.plus(HOUR)]);
        assert_eq!(ledger.check_automatic(&SetKey::from("a"), DAY, 0, t.plus(HOUR)), Err(t.plus(DAY)));
        assert_eq!(ledger.check_automatic(&SetKey::from("a"), DAY, 0, t.plus(DAY)), Ok(()));
        assert!(ledger.check_automatic(&SetKey::from("a"), DAY, 1, t.plus(DAY)).is_err(), "what is in flight counts");
        assert_eq!(ledger.check_automatic(&SetKey::from("b"), DAY, 0, t), Ok(()));
        assert_eq!(automatic_span(Some(HOUR)), HOUR / 2);
        assert_eq!(automatic_span(Some(DAY * 90)), DAY);
    }

    #[test]
    fn a_refund_gives_back_certificates_but_never_orders() {
        let (mut ledger, s, now) = (Ledger::default(), spend(5, 100, 0), Timestamp::from_unix(1_000_000));
        assert!(take(&mut ledger, &s, Spender::Human, now).is_ok());
        assert_eq!(ledger.refunded(&s, now, now), None);
        let mut set = s.clone();
        set.limit.kind = LimitKind::ExactSet;
        set.bucket.kind = LimitKind::ExactSet;
        assert!(take(&mut ledger, &set, Spender::Human, now).is_ok());
        assert_eq!(ledger.refunded(&set, now, now), Some(now));
        let later = now.plus(Duration::from_secs(250));
        let full = ledger.after(&set, later);
        ledger.full_at.insert(set.bucket.clone(), full);
        assert_eq!(ledger.refunded(&set, now, later), Some(full), "the first came back by itself");
    }
}
