//! Tracked keys of a path as text.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{maybe, one_of, slug, time};
use crate::codec::ParseError;
use crate::domain::id::KeyId;
use crate::domain::snapshot::KeyPart;
use crate::domain::time::Timestamp;
use crate::domain::tracked::KeyState;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyText {
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    /// When it was made, and when nothing may stand on it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    span: Option<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    compromised: Option<String>,
    seen: bool,
    /// Since when, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failing: Option<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_live: Option<(String, String)>,
    grace_s: u64,
}

impl KeyText {
    pub(super) fn of(part: &KeyPart) -> Self {
        let KeyPart { key, state, span, compromised, seen, failing, not_live, grace } = part;
        let told = |t: &Option<(Timestamp, Arc<str>)>| t.as_ref().map(|(at, why)| (at.to_string(), why.to_string()));
        Self {
            key: key.to_string(),
            state: state.map(|state| state.as_str().to_owned()),
            span: span.map(|(created, ends)| (created.to_string(), ends.to_string())),
            compromised: compromised.map(|at| at.to_string()),
            seen: *seen,
            failing: told(failing),
            not_live: told(not_live),
            grace_s: grace.as_secs(),
        }
    }

    pub(super) fn read(&self) -> Result<KeyPart, ParseError> {
        let told = |t: &Option<(String, String)>| {
            maybe(t.as_ref(), |(at, why)| Ok((time(at)?, Arc::<str>::from(why.as_str()))))
        };
        Ok(KeyPart {
            key: slug("key", &self.key, KeyId::parse)?,
            state: maybe(self.state.as_deref(), |word| one_of("state", word, KeyState::ALL))?,
            span: maybe(self.span.as_ref(), |(created, ends)| Ok((time(created)?, time(ends)?)))?,
            compromised: maybe(self.compromised.as_deref(), time)?,
            seen: self.seen,
            failing: told(&self.failing)?,
            not_live: told(&self.not_live)?,
            grace: core::time::Duration::from_secs(self.grace_s),
        })
    }
}
