//! Leases and permits: what is vouched for, until when at the latest, and when whoever relies on one may believe it.
//!
//! ```text
//! guardian:  verdict open ─► end = min(now + 15 s, what it stands on − skew) ─► signed     closed, or no time left: nothing
//! consumer:  signature ─► audience, path ─► epoch not lower ─► sequence not lower ─► this boot ─► both clocks inside
//! ```
//! A lease ends before anything that it vouches for, so a guardian that is dead, stopped or cut off closes in time by
//! saying nothing. Refuses to know keys, signatures and transport.

use core::time::Duration;

use crate::domain::gate::{CLOCK_TOLERANCE, Verdict};
use crate::domain::id::{AudienceId, PathId};
use crate::domain::inventory::Environment;
use crate::domain::json::Json;
use crate::domain::key::Digest;
use crate::domain::time::{Boottime, Timestamp};

/// A lease lives at most this long: three refreshes may be lost.
pub const LIFE: Duration = Duration::from_secs(15);
/// It is given anew this often.
pub const REFRESH: Duration = Duration::from_secs(5);
/// A lease ends this much before what it vouches for: the clocks may part by two seconds before that is a fault, the
/// comparison is of whole seconds (one more), and the time of the evaluation was cut to whole seconds (one more).
pub const SKEW: Duration = Duration::from_secs(CLOCK_TOLERANCE.as_secs() + 2);
/// A statement begins to hold this much before it was made, for a consumer whose clock is slow by as much as ours may be
/// off.
pub const EARLY: Duration = CLOCK_TOLERANCE;
/// The form of the payload.
pub const VERSION: i64 = 1;
/// A nonce has at most this many characters: 256 bits in base64 are 43.
pub const LONGEST_NONCE: usize = 64;

/// No lease is given, because the audience is not listed.
pub const NO_AUDIENCE: &str = "KW4101";
/// No lease is given, because it would end at once.
pub const NO_TIME: &str = "KW4102";
/// No lease is given, because nothing can be signed.
pub const NO_KEY: &str = "KW4103";
/// No stream of leases is given, because too many are open.
pub const TOO_MANY_STREAMS: &str = "KW4104";
/// The question is none.
pub const NO_QUESTION: &str = "KW4105";
/// No permit is given, because too many wait.
pub const TOO_MANY_PERMITS: &str = "KW4202";
/// No permit is given, because its entry could not be written.
pub const NOT_RECORDED: &str = "KW4203";

/// Whether a text may be a nonce: 1–64 characters that need no escape in a URL.
#[must_use]
pub fn is_nonce(text: &str) -> bool {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~');
    !text.is_empty() && text.len() <= LONGEST_NONCE && text.chars().all(safe)
}

/// What lease and permit have in common: who says what to whom, in which order, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who says it: the origin of the guardian's audit log.
    pub issuer: String,
    /// For whom: nobody else may rely on it.
    pub audience: AudienceId,
    /// Which path is open.
    pub path: PathId,
    /// What is open in staging is open nowhere else.
    pub environment: Environment,
    /// Size of the audit log when this run of the guardian began: higher with every start.
    pub epoch: u64,
    /// Counts what was given in this epoch, from 1.
    pub sequence: u64,
    /// Identity of the boot that the two boot times are of.
    pub boot_id: String,
    /// When it was made, in whole milliseconds since boot.
    pub boot_now: Boottime,
    /// From then on it is over, in whole milliseconds since boot.
    pub boot_expires: Boottime,
    /// It does not hold before this.
    pub not_before: Timestamp,
    /// From then on it is over.
    pub expires: Timestamp,
}

/// A path is open for an audience until a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who, whom, until when.
    pub grant: Grant,
    /// Digest of what the verdict was computed from.
    pub inputs: Digest,
    /// Size and root (base64, as in the checkpoint) of the audit log some seconds ago at most.
    pub log: Option<(u64, String)>,
    /// What the asker sent.
    pub nonce: Option<String>,
}

/// One decision may be committed until a time, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    /// Who, whom, until when; epoch and sequence together are the permit's name.
    pub grant: Grant,
    /// SHA-256 of the decision.
    pub decision: Digest,
}

impl Grant {
    fn pairs(&self) -> Vec<(&'static str, Json)> {
        vec![
            ("audience", Json::show(&self.audience)),
            ("boot_expires_ms", millis(self.boot_expires)),
            ("boot_id", Json::str(self.boot_id.clone())),
            ("boot_now_ms", millis(self.boot_now)),
            ("environment", Json::str(self.environment.as_str())),
            ("epoch", number(self.epoch)),
            ("expires", Json::Int(self.expires.unix())),
            ("issuer", Json::str(self.issuer.clone())),
            ("not_before", Json::Int(self.not_before.unix())),
            ("path", Json::show(&self.path)),
            ("sequence", number(self.sequence)),
            ("version", Json::Int(VERSION)),
        ]
    }

    /// How long it lives by the guardian's own clock.
    #[must_use]
    pub fn life(&self) -> Duration {
        self.boot_expires.since(self.boot_now)
    }
}

impl Lease {
    /// The payload.
    #[must_use]
    pub fn json(&self) -> Json {
        let mut pairs = self.grant.pairs();
        pairs.push(("inputs", Json::show(&self.inputs)));
        pairs.extend(
            self.log
                .as_ref()
                .map(|(size, root)| ("log", Json::obj([("root", Json::str(root.clone())), ("size", number(*size))]))),
        );
        pairs.extend(self.nonce.as_ref().map(|nonce| ("nonce", Json::str(nonce.clone()))));
        sorted(pairs)
    }
}

impl Permit {
    /// The payload.
    #[must_use]
    pub fn json(&self) -> Json {
        let mut pairs = self.grant.pairs();
        pairs.push(("decision", Json::show(&self.decision)));
        sorted(pairs)
    }
}

/// What a gate answered, as it is signed: with a nonce it proves that the answer is new and is the guardian's.
#[must_use]
pub fn check(verdict: &Verdict, issuer: &str, nonce: Option<&str>, now: Timestamp, boot: (&str, Boottime)) -> Json {
    let mut codes: Vec<&str> = verdict.reasons.iter().map(|r| r.code).collect();
    codes.sort_unstable();
    codes.dedup();
    let mut pairs = vec![
        ("at", Json::Int(now.unix())),
        ("boot_id", Json::str(boot.0.to_owned())),
        ("boot_now_ms", millis(boot.1)),
        ("issuer", Json::str(issuer.to_owned())),
        ("open", Json::Bool(verdict.is_open())),
        ("path", Json::show(&verdict.path)),
        ("reasons", Json::arr(codes.into_iter().map(|c| Json::str(c.to_owned())))),
        ("version", Json::Int(VERSION)),
    ];
    pairs.extend(nonce.map(|nonce| ("nonce", Json::str(nonce.to_owned()))));
    sorted(pairs)
}

fn sorted(mut pairs: Vec<(&'static str, Json)>) -> Json {
    pairs.sort_unstable_by_key(|(key, _)| *key);
    Json::Obj(pairs)
}

fn number(n: u64) -> Json {
    Json::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

fn millis(at: Boottime) -> Json {
    Json::Int(i64::try_from(at.as_duration().as_millis()).unwrap_or(i64::MAX))
}

/// A moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The wall clock.
    pub wall: Timestamp,
    /// The clock that does not step.
    pub boot: Boottime,
}

/// From when and until when something holds, on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// When it was made: whole milliseconds.
    pub boot_now: Boottime,
    /// The end by the clock that does not step: whole milliseconds.
    pub boot_expires: Boottime,
    /// The beginning.
    pub not_before: Timestamp,
    /// The end.
    pub expires: Timestamp,
}

/// How long a lease or a permit over this verdict may hold; `None` if there must be none. `now` was read before the
/// verdict was taken.
#[must_use]
pub fn span(verdict: &Verdict, now: Moment) -> Option<Span> {
    if !verdict.is_open() {
        return None;
    }
    // By the wall clock as it is, and by the time that really passed since the verdict was computed: a clock that was set
    // back in between must not lengthen anything.
    let by_wall = now.wall.until(verdict.until.minus(SKEW));
    let by_boot = verdict.at.until(verdict.until.minus(SKEW)).saturating_sub(now.boot.since(verdict.at_boot));
    let life = Duration::from_secs(LIFE.min(by_wall).min(by_boot).as_secs());
    let boot_now = whole_millis(now.boot);
    (!life.is_zero()).then(|| Span {
        boot_now,
        boot_expires: boot_now.plus(life),
        not_before: now.wall.minus(EARLY),
        expires: now.wall.plus(life),
    })
}

/// Rounded down, as it is written.
fn whole_millis(at: Boottime) -> Boottime {
    let millis = u64::try_from(at.as_duration().as_millis()).unwrap_or(u64::MAX);
    Boottime::from_boot(Duration::from_millis(millis))
}

/// What a consumer relies on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Who it is.
    pub audience: AudienceId,
    /// Which path it guards.
    pub path: PathId,
    /// What it is part of.
    pub environment: Environment,
    /// Where it runs.
    pub machine: Machine,
}

impl Expected {
    /// A consumer in production, on the guardian's machine.
    #[must_use]
    pub fn here(audience: AudienceId, path: PathId, boot_id: impl Into<String>) -> Self {
        let machine = Machine::Same { boot_id: boot_id.into() };
        Self { audience, path, environment: Environment::Production, machine }
    }
}

/// Where a consumer runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Machine {
    /// Where the guardian does: both clocks are the same, and count.
    Same {
        /// Identity of this boot (`/proc/sys/kernel/random/boot_id`).
        boot_id: String,
    },
    /// Elsewhere: boot times of two machines cannot be compared. The wall clock counts, and the consumer must have asked
    /// by a nonce: from that moment on its own boot clock measures how long the answer may live.
    Other {
        /// What was sent.
        nonce: String,
        /// When, on the consumer's own clock.
        asked: Boottime,
    },
}

/// Why a lease or a permit is not to be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// For somebody else.
    #[error("it is for the audience {seen}, expected {expected}")]
    Audience {
        /// What it says.
        seen: AudienceId,
        /// Who relies on it.
        expected: AudienceId,
    },
    /// About another path.
    #[error("it is about the path {seen}, expected {expected}")]
    Path {
        /// What it says.
        seen: PathId,
        /// What is guarded.
        expected: PathId,
    },
    /// Of a dry run, or for one.
    #[error("it is of {}, expected {}", seen.as_str(), expected.as_str())]
    Environment {
        /// What it says.
        seen: Environment,
        /// What is expected.
        expected: Environment,
    },
    /// Of an earlier run of the guardian.
    #[error("its epoch is {seen}, and {highest} was seen before: it is of an earlier run of the guardian")]
    Epoch {
        /// What it says.
        seen: u64,
        /// The highest that was seen.
        highest: u64,
    },
    /// An older one than the newest.
    #[error("its sequence is {seen}, and {highest} was seen before in this epoch: it is an older one")]
    Sequence {
        /// What it says.
        seen: u64,
        /// The highest that was seen.
        highest: u64,
    },
    /// Of another boot or machine.
    #[error("it is of another boot or machine; a consumer on another machine has to say so, and to ask with a nonce")]
    Boot,
    /// The answer to another question.
    #[error("it does not answer the nonce that was sent")]
    Nonce,
    /// It does not hold yet.
    #[error("it holds from {not_before} on, and it is {now}: the clocks of guardian and consumer differ")]
    NotYet {
        /// What it says.
        not_before: Timestamp,
        /// The consumer's time.
        now: Timestamp,
    },
    /// Over by the wall clock.
    #[error("it ended at {expires}, and it is {now}")]
    Expired {
        /// What it says.
        expires: Timestamp,
        /// The consumer's time.
        now: Timestamp,
    },
    /// Over by the clock that does not step.
    #[error("it is {} ms too old by the clock that does not step", over.as_millis())]
    TooOld {
        /// By how much.
        over: Duration,
    },
    /// It lives longer than any may.
    #[error("it says that it lives longer than {} s, which no guardian says", LIFE.as_secs())]
    TooLong,
    /// For another decision.
    #[error("it permits the decision {seen}, expected {expected}")]
    Decision {
        /// What it says.
        seen: Digest,
        /// What is to be committed.
        expected: Digest,
    },
}

/// The place of something in the order of what a guardian gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The epoch.
    pub epoch: u64,
    /// The sequence in it.
    pub sequence: u64,
}

impl Grant {
    /// Its place.
    #[must_use]
    pub fn place(&self) -> Place {
        Place { epoch: self.epoch, sequence: self.sequence }
    }

    /// Whether it is meant for this consumer: who, what, where.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn concerns(&self, expected: &Expected) -> Result<(), Refused> {
        if self.audience != expected.audience {
            return Err(Refused::Audience { seen: self.audience.clone(), expected: expected.audience.clone() });
        }
        if self.path != expected.path {
            return Err(Refused::Path { seen: self.path.clone(), expected: expected.path.clone() });
        }
        if self.environment != expected.environment {
            return Err(Refused::Environment { seen: self.environment, expected: expected.environment });
        }
        // What cannot be told is no machine of ours.
        let other = |boot_id: &str| boot_id.is_empty() || self.boot_id != boot_id;
        match &expected.machine {
            Machine::Same { boot_id } if other(boot_id) => Err(Refused::Boot),
            Machine::Same { .. } | Machine::Other { .. } => Ok(()),
        }
    }

    /// Whether it may follow what was seen: `highest` is the highest epoch of this issuer, `last` the newest of this path
    /// and audience.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn follows(&self, highest: u64, last: Option<Place>) -> Result<(), Refused> {
        let highest = highest.max(last.map_or(0, |l| l.epoch));
        if self.epoch < highest {
            return Err(Refused::Epoch { seen: self.epoch, highest });
        }
        match last {
            Some(last) if last.epoch == self.epoch && self.sequence < last.sequence => {
                Err(Refused::Sequence { seen: self.sequence, highest: last.sequence })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether it holds at this moment, by both clocks.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn holds(&self, machine: &Machine, now: Moment) -> Result<(), Refused> {
        let wall = self.not_before.until(self.expires);
        if self.life() > LIFE || wall > LIFE.saturating_add(EARLY) {
            return Err(Refused::TooLong);
        }
        if now.wall < self.not_before {
            return Err(Refused::NotYet { not_before: self.not_before, now: now.wall });
        }
        if now.wall >= self.expires {
            return Err(Refused::Expired { expires: self.expires, now: now.wall });
        }
        // Before it was made is another boot's time: the caller has another one in mind.
        let (from, until) = match machine {
            Machine::Same { .. } => (self.boot_now, self.boot_expires),
            Machine::Other { asked, .. } => (*asked, asked.plus(self.life())),
        };
        if now.boot < from {
            return Err(Refused::Boot);
        }
        if now.boot >= until {
            return Err(Refused::TooOld { over: now.boot.since(until) });
        }
        Ok(())
    }
}

impl Lease {
    /// All rules but the signature.
    ///
    /// # Errors
    /// [`Refused`] names the first that does not hold.
    pub fn admit(&self, expected: &Expected, highest: u64, last: Option<Place>, now: Moment) -> Result<(), Refused> {
        self.grant.concerns(expected)?;
        self.answers(&expected.machine)?;
        self.grant.follows(highest, last)?;
        self.grant.holds(&expected.machine, now)
    }

    fn answers(&self, machine: &Machine) -> Result<(), Refused> {
        match machine {
            Machine::Other { nonce, .. } if self.nonce.as_ref() != Some(nonce) => Err(Refused::Nonce),
            Machine::Other { .. } | Machine::Same { .. } => Ok(()),
        }
    }
}

impl Permit {
    /// All rules but the signature, and that it is spent once: that is the business of the decision's own transaction. On
    /// another machine the digest of the decision takes the place of the nonce.
    ///
    /// # Errors
    /// [`Refused`] names the first that does not hold.
    pub fn admit(&self, expected: &Expected, decision: &Digest, highest: u64, now: Moment) -> Result<(), Refused> {
        if self.decision != *decision {
            return Err(Refused::Decision { seen: self.decision, expected: *decision });
        }
        self.grant.concerns(expected)?;
        self.grant.follows(highest, None)?;
        self.grant.holds(&expected.machine, now)
    }
}
