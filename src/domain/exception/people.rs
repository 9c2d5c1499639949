//! People as they are at the moment of judging: who somebody is, what they may do, and whether they are there.
//!
//! Refuses to know names, sessions and signatures: a person is a pseudonym here.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::json::Json;
use crate::domain::time::Timestamp;

macro_rules! word {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Of its text.
            #[must_use]
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// Its text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

word!(
    /// Somebody, by the pseudonym that is theirs for good: one human with several accounts is one.
    PersonId
);
word!(
    /// A group of people.
    GroupId
);

impl PersonId {
    pub(super) fn to_json(&self) -> Json {
        Json::Shared(self.0.clone())
    }
}

/// What somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nature {
    /// A human: alone may consent.
    Human,
    /// A program with a key of its own.
    Machine,
    /// A model that acts for somebody.
    Agent,
}

impl Nature {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Machine => "machine",
            Self::Agent => "agent",
        }
    }
}

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Opens requests, submits and withdraws their own.
    Requester,
    /// Approves and rejects, where a rule names a group of theirs.
    Approver,
    /// Carries out, closes and reviews.
    Operator,
    /// Withdraws and revokes what others asked for, in an incident.
    Commander,
}

/// Whether somebody is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// They are.
    Here,
    /// They are not, until this time if that is known.
    Absent(Option<Timestamp>),
}

/// Whether somebody's consent counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consent {
    /// It does: what they said from then on, and nothing that was said in their name before.
    May {
        /// When their means to consent were enrolled, by a clock that never went back.
        since: Timestamp,
    },
    /// It does not, for this reason: suspended, leaving, without anything to sign with.
    MayNot(Arc<str>),
}

/// Somebody, at the moment of judging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// What they are.
    pub nature: Nature,
    /// The groups that they are in.
    pub groups: BTreeSet<GroupId>,
    /// What they may do.
    pub roles: BTreeSet<Role>,
    /// Whether they are there.
    pub presence: Presence,
    /// Whether their consent counts.
    pub consent: Consent,
    /// For whom they act, if they are a machine or an agent of somebody: what they ask for, that person asks for.
    pub acts_for: Option<PersonId>,
}

/// Everybody who is known at the moment of judging. Who is not in it may do nothing.
pub type People = BTreeMap<PersonId, Person>;

impl Person {
    /// Whether they are there: an absence is over when its time is.
    #[must_use]
    pub fn is_here(&self, at: Timestamp) -> bool {
        match self.presence {
            Presence::Here => true,
            Presence::Absent(until) => until.is_some_and(|until| until <= at),
        }
    }
}

/// These, and everybody for whom they act, over however many others.
pub(super) fn principals<'p>(of: impl IntoIterator<Item = &'p PersonId>, people: &'p People) -> BTreeSet<&'p PersonId> {
    let mut all = BTreeSet::new();
    for id in of {
        let mut next = Some(id);
        // Each is followed once: a circle ends where it began.
        while let Some(id) = next.filter(|id| all.insert(*id)) {
            next = people.get(id).and_then(|person| person.acts_for.as_ref());
        }
    }
    all
}

/// Who does something.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// The guardian by its rules.
    Guardian,
    /// Somebody.
    Person(PersonId),
}

impl By {
    /// Who, if it is somebody.
    #[must_use]
    pub fn person(&self) -> Option<&PersonId> {
        match self {
            Self::Guardian => None,
            Self::Person(id) => Some(id),
        }
    }

    pub(super) fn to_json(&self) -> Json {
        Json::opt(self.person().map(PersonId::to_json))
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Guardian => f.write_str("the guardian"),
            Self::Person(id) => id.fmt(f),
        }
    }
}

/// Over what a person consents. A chat message's button is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Channel {
    /// A passkey on the page of the request (WebAuthn, user verification required).
    Passkey,
    /// A signature by an SSH key on the command line: needs no TLS, no portal and no sign-in.
    SshSignature,
}

impl Channel {
    /// All of them with their names.
    pub const ALL: [(Self, &'static str); 2] = [(Self::Passkey, "passkey"), (Self::SshSignature, "ssh_signature")];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(channel, _)| *channel == self).map_or("", |(_, name)| name)
    }

    /// By its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(channel, _)| *channel)
    }

    /// Whether it works without anything that a portal stands on.
    #[must_use]
    pub fn is_out_of_band(self) -> bool {
        self == Self::SshSignature
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether people are expected to be awake and at work. What cannot be told is [`Hours::Out`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hours {
    /// Business hours.
    Business,
    /// Out of them.
    Out,
}

impl Hours {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Business => "business",
            Self::Out => "out",
        }
    }
}
