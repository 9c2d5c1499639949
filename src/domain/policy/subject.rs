//! What policy looks at: everything a decision is made from, as data.
//!
//! What is not known is `None`, and a rule that asks for it cannot let anything go by itself.

use core::fmt;
use std::collections::BTreeMap;

use super::act::{Act, Tier, Undo};
use super::when::Local;
use crate::domain::json::{Json, Object};
use crate::domain::key::Digest;

/// What is known of the issuer that would be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum History {
    /// It issued what is in place.
    Usual,
    /// It has issued here before, or is configured for this, but what is in place is another's.
    Known,
    /// It never has, and nothing says that it should.
    New,
}

impl History {
    /// Each with its name in the configuration.
    pub const ALL: [(Self, &'static str); 3] = [(Self::Usual, "usual"), (Self::Known, "known"), (Self::New, "new")];

    /// Its name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(history, _)| *history == self).map_or("", |(_, name)| name)
    }
}

/// What policy looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject<'a> {
    /// What would be done.
    pub act: Act,
    /// The credential's labels.
    pub labels: &'a BTreeMap<String, String>,
    /// How many approval paths stand on the credential.
    pub paths: usize,
    /// At how many places it is served.
    pub services: usize,
    /// Whose it is.
    pub owner: Option<&'a str>,
    /// The local time.
    pub local: Option<Local>,
    /// Attempts that failed, within the time that counts as recent.
    pub failures: Option<u32>,
    /// How often its paths closed and opened again, within that time.
    pub flaps: Option<u32>,
    /// Incidents that are over it, within that time.
    pub incidents: Option<u32>,
    /// What is known of the issuer.
    pub issuer: Option<History>,
    /// Whether it can be undone.
    pub undo: Undo,
    /// Its tier, for tables of cases and what-if questions; else it is computed.
    pub tier: Option<Tier>,
}

impl<'a> Subject<'a> {
    /// Nothing else is known.
    #[must_use]
    pub fn new(act: Act, labels: &'a BTreeMap<String, String>, paths: usize) -> Self {
        Self {
            act,
            labels,
            paths,
            services: 0,
            owner: None,
            local: None,
            failures: None,
            flaps: None,
            incidents: None,
            issuer: None,
            undo: act.undo(),
            tier: None,
        }
    }

    /// The same where nothing failed of late, and the issuer is the usual one.
    #[must_use]
    pub fn quiet(self) -> Self {
        Self { failures: Some(0), flaps: Some(0), incidents: Some(0), issuer: Some(History::Usual), ..self }
    }

    /// Digest of everything in it: the same digest and the same policy give the same decision.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut inputs = Vec::with_capacity(320);
        let mut object = Object::begin(&mut inputs);
        object.plain("act", self.act.as_str().as_bytes());
        let mut count = |key, number: Option<u32>| {
            if let Some(number) = number {
                object.digits(key, u64::from(number));
            }
        };
        count("failures", self.failures);
        count("flaps", self.flaps);
        count("incidents", self.incidents);
        if let Some(history) = self.issuer {
            object.plain("issuer", history.as_str().as_bytes());
        }
        object.value("labels", &Json::arr(self.labels.iter().map(|(k, v)| Json::str(format!("{k}={v}")))));
        if let Some(local) = &self.local {
            object.text("local", &local.to_string());
        }
        if let Some(owner) = self.owner {
            object.text("owner", owner);
        }
        let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        object.digits("paths", number(self.paths));
        object.digits("services", number(self.services));
        if let Some(tier) = self.tier {
            object.digits("tier", u64::from(tier.level()));
        }
        object.plain("undo", if self.undo == Undo::Possible { b"possible" } else { b"never" });
        object.end();
        Digest::of(&inputs)
    }
}

impl fmt::Display for Subject<'_> {
    /// What is unusual about it, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = self.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        parts.extend(self.owner.map(|owner| format!("owner {owner}")));
        let many = |n: usize, one: &str| match n {
            0 => None,
            1 => Some(format!("1 {one}")),
            n => Some(format!("{n} {one}s")),
        };
        parts.extend(many(self.paths, "path"));
        parts.extend(many(self.services, "service"));
        parts.extend(self.local.map(|local| local.to_string()));
        for (what, count) in [("failure", self.failures), ("flap", self.flaps), ("incident", self.incidents)] {
            match count {
                Some(n) => parts.extend(many(usize::try_from(n).unwrap_or(usize::MAX), what)),
                None => parts.push(format!("{what}s not known")),
            }
        }
        match self.issuer {
            Some(History::Usual) => {}
            Some(other) => parts.push(format!("{} issuer", other.as_str())),
            None => parts.push("issuer not known".to_owned()),
        }
        parts.extend(self.tier.map(|tier| format!("tier {tier}")));
        if self.undo != self.act.undo() {
            parts.push(if self.undo == Undo::Never { "cannot be undone" } else { "can be undone" }.to_owned());
        }
        write!(f, "{}", self.act.as_str())?;
        if parts.is_empty() { Ok(()) } else { write!(f, " ({})", parts.join(", ")) }
    }
}
