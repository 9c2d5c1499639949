//! A freeze: for a while people want nothing done by itself to some of what is guarded.
//!
//! It is made with a reason and an end, ends by itself, and can be thawed before. What it blocks is
//! [`crate::domain::frozen`]; this file only says what a freeze is. It has nothing to do with the freezing of the audit
//! log's oldest entries. Refuses to know who may freeze, and where freezes are kept.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use crate::domain::id::{IssuerId, PathId};
use crate::domain::time::{DAY, Timestamp};

/// A freeze that was made. It is in force before its end, recorded or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freeze {
    /// Over what.
    pub scope: Scope,
    /// Why, in a person's words.
    pub reason: Arc<str>,
    /// Who froze, by their pseudonym.
    pub by: Arc<str>,
    /// Since when.
    pub since: Timestamp,
    /// Until when at the latest, exclusive.
    pub until: Timestamp,
}

impl Freeze {
    /// Whether it blocks anything now.
    #[must_use]
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        now < self.until
    }
}

/// What a freeze is over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Everything.
    All,
    /// An approval path: all that it stands on.
    Path(PathId),
    /// Whatever has this owner.
    Owner(Arc<str>),
    /// What is issued, or was issued, by this issuer.
    Issuer(IssuerId),
    /// Whatever has this label.
    Label {
        /// Its key, without `=`.
        key: Arc<str>,
        /// Its value.
        value: Arc<str>,
    },
}

/// Why a text is no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadScope {
    /// None of the kinds.
    #[error("is none of all, path:NAME, owner:NAME, issuer:NAME and label:KEY=VALUE")]
    Kind,
    /// What follows the kind cannot be such a name.
    #[error("names no {0} that could be: {1}")]
    Name(&'static str, &'static str),
}

/// An owner, a label's key or its value has at most so many characters, as in the configuration.
const LONGEST_WORD: usize = 128;

impl Scope {
    /// The kinds, by their words: the values of a metric's label.
    pub const KINDS: [&'static str; 5] = ["all", "path", "owner", "issuer", "label"];

    /// From its text: `all`, `path:NAME`, `owner:NAME`, `issuer:NAME`, `label:KEY=VALUE`.
    ///
    /// # Errors
    /// [`BadScope`] says what was expected.
    pub fn parse(text: &str) -> Result<Self, BadScope> {
        if text == "all" {
            return Ok(Self::All);
        }
        let (kind, name) = text.split_once(':').ok_or(BadScope::Kind)?;
        let slug = "ids have 1 to 63 characters of a-z, 0-9, '-', '_' and '.'";
        match kind {
            "path" => PathId::parse(name).map(Self::Path).map_err(|_| BadScope::Name("path", slug)),
            "issuer" => IssuerId::parse(name).map(Self::Issuer).map_err(|_| BadScope::Name("issuer", slug)),
            "owner" => word("owner", name).map(Self::Owner),
            "label" => {
                let expected = BadScope::Name("label", "write KEY=VALUE");
                let (key, value) = name.split_once('=').ok_or(expected)?;
                Ok(Self::Label { key: word("label", key)?, value: word("label", value)? })
            }
            _ => Err(BadScope::Kind),
        }
    }

    /// Its kind, one of [`Scope::KINDS`].
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Path(_) => "path",
            Self::Owner(_) => "owner",
            Self::Issuer(_) => "issuer",
            Self::Label { .. } => "label",
        }
    }
}

fn word(kind: &'static str, text: &str) -> Result<Arc<str>, BadScope> {
    let fits = !text.is_empty() && text.chars().count() <= LONGEST_WORD && !text.chars().any(char::is_control);
    let why = "1 to 128 characters, none of them a control character";
    if fits { Ok(Arc::from(text)) } else { Err(BadScope::Name(kind, why)) }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Path(path) => write!(f, "path:{path}"),
            Self::Owner(owner) => write!(f, "owner:{owner}"),
            Self::Issuer(issuer) => write!(f, "issuer:{issuer}"),
            Self::Label { key, value } => write!(f, "label:{key}={value}"),
        }
    }
}

/// What freezes may do, from the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freezing {
    /// Whether a renewal goes on that nothing but hard limits may hold any longer.
    pub emergency: Emergency,
    /// A freeze lasts this long at most.
    pub longest: Duration,
}

/// Two weeks: longer than the change freezes of holidays, and twice the life of the shortest certificates, which
/// nobody should forget in a freeze.
pub const LONGEST_FREEZE: Duration = Duration::from_secs(14 * DAY.as_secs());

impl Default for Freezing {
    fn default() -> Self {
        Self { emergency: Emergency::Allow, longest: LONGEST_FREEZE }
    }
}

/// Whether emergencies go on in a freeze.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Emergency {
    /// They do.
    #[default]
    Allow,
    /// They are blocked as all else.
    Block,
}

/// What a freeze over a path does to the path itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFrozen {
    /// Nothing: it is as open as what it stands on is good.
    #[default]
    Open,
    /// It is closed until the freeze ends.
    Close,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_its_text() {
        for text in ["all", "path:approve", "owner:team x: on call", "issuer:le", "label:env=prod", "label:a==b=c"] {
            let scope = Scope::parse(text).unwrap();
            assert_eq!(scope.to_string(), text);
            assert!(Scope::KINDS.contains(&scope.kind()));
        }
    }

    #[test]
    fn what_is_no_scope_is_refused_with_what_was_expected() {
        let long = format!("owner:{}", "x".repeat(129));
        for text in [
            "",
            "ALL",
            "path",
            "path:",
            "path:A/b",
            "issuer:../x",
            "owner:",
            "label:env",
            "label:=x",
            "label:x=",
            "x:y",
        ] {
            assert!(Scope::parse(text).is_err(), "{text}");
        }
        for text in ["owner:a\nb", "label:a=\u{1b}[2J", &long] {
            assert!(Scope::parse(text).unwrap_err().to_string().contains("128 characters"), "{text:?}");
        }
    }
}
