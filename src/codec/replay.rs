//! The state from the log: applies the merge patches of the entries (see [`crate::domain::changes`]) one after the other,
//! and reads the state out of the document that they make.
//!
//! A reader that finds anything unknown says so and gives no state: nothing is guessed.

mod authority;
mod directory;
mod upkeep;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::ParseError;
use super::entry::Entry;
use crate::domain::certificate::CertId;
use crate::domain::directory::RowId;
use crate::domain::execution::{Attempt, Failure, Fault, Generation, Stage, Trigger};
use crate::domain::freeze::{Freeze, Scope};
use crate::domain::id::{AttemptId, CredentialId, EntryId, FreezeId, IssuerId, KeyId, Ulid};
use crate::domain::key::Digest;
use crate::domain::limits::{BucketKey, LimitKind};
use crate::domain::name::NameSet;
use crate::domain::private::FORGOTTEN;
use crate::domain::register::GenerationId;
use crate::domain::rotation::PieceId;
use crate::domain::state::{AriRecord, CredentialRecord, IssuerRecord, Latch, LatchOn, Request, State};
use crate::domain::time::{Timestamp, Validity};

/// The state's document as the entries so far have made it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    document: Map<String, Value>,
}

impl Replay {
    /// Before the first entry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies the next entry's changes.
    ///
    /// # Errors
    /// If its body is no entry.
    pub fn entry(&mut self, body: &[u8]) -> Result<(), ParseError> {
        match Entry::parse(body)?.more.remove("changes") {
            None => Ok(()),
            Some(Value::Object(patch)) => {
                merge(&mut self.document, patch);
                Ok(())
            }
            Some(other) => Err(bad("changes", &other)),
        }
    }

    /// The document itself.
    #[must_use]
    pub fn document(&self) -> &Map<String, Value> {
        &self.document
    }

    /// The commitments whose texts the state needs.
    #[must_use]
    pub fn commitments(&self) -> Vec<Digest> {
        let mut found = Vec::new();
        // Without any text the shape is checked all the same; what is wrong is said by `state`.
        drop(self.read(&mut |commitment| {
            found.push(commitment);
            None
        }));
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The state. `text` gives the texts behind commitments; where there is none any more stands [`FORGOTTEN`].
    ///
    /// # Errors
    /// If the document holds anything that no state can hold, or that this version does not know.
    pub fn state(&self, text: impl Fn(&Digest) -> Option<Arc<str>>) -> Result<State, ParseError> {
        self.read(&mut |commitment| text(&commitment))
    }

    fn read(&self, text: &mut dyn FnMut(Digest) -> Option<Arc<str>>) -> Result<State, ParseError> {
        let mut state = State::default();
        let mut top = Object::new("the state", self.document.clone());
        top.each("account", |id, fields| {
            let id = RowId::parse(id).ok_or_else(|| bad("account", &Value::String(id.to_owned())))?;
            state.accounts.insert(id, Arc::new(directory::account(fields, text)?));
            Ok(())
        })?;
        top.each("attempt", |id, fields| {
            let attempt = attempt(id, fields)?;
            state.attempts.insert(attempt.id, Arc::new(attempt));
            Ok(())
        })?;
        for (names, times) in top.map("automatic")? {
            let place = format!("automatic {names}");
            let Value::Array(times) = times else { return Err(bad(&place, &times)) };
            let times = times.iter().map(|t| seconds(t).ok_or_else(|| bad(&place, t))).collect::<Result<_, _>>()?;
            state.ledger.automatic.insert(names.into(), times);
        }
        for (issuer, kinds) in top.map("bucket")? {
            let issuer = IssuerId::parse(&issuer).map_err(|e| ParseError::new(format!("issuer {issuer:?} {e}")))?;
            let mut kinds = Object::of(format!("bucket {issuer}"), kinds)?;
            for (kind, name) in LimitKind::ALL {
                for (key, full_at) in kinds.map(name)? {
                    let full_at = seconds(&full_at).ok_or_else(|| bad(&format!("bucket {issuer} {name}"), &full_at))?;
                    let key = BucketKey::new(issuer.clone(), kind, Arc::from(key));
                    state.ledger.full_at.insert(key, full_at);
                }
            }
            kinds.end()?;
        }
        top.each("credential", |id, fields| {
            let id = CredentialId::parse(id).map_err(|e| ParseError::new(format!("credential {id:?} {e}")))?;
            state.credentials.insert(id, Arc::new(credential(fields, text)?));
            Ok(())
        })?;
        top.each("freeze", |id, fields| {
            let id = FreezeId::parse(id).ok_or_else(|| bad("freeze", &Value::String(id.to_owned())))?;
            let freeze = Freeze {
                scope: fields.must("scope", |t| Scope::parse(t).ok())?,
                reason: fields
                    .private("reason", text)?
                    .ok_or_else(|| ParseError::new(format!("freeze {id} has no reason")))?,
                by: fields.must("by", |t| Some(Arc::from(t)))?,
                since: fields.must_time("since")?,
                until: fields.must_time("until")?,
            };
            state.freezes.insert(id, freeze);
            Ok(())
        })?;
        top.each("generation", |id, fields| {
            let id = GenerationId::parse(id).ok_or_else(|| bad("generation", &Value::String(id.to_owned())))?;
            state.generations.insert(id, Arc::new(authority::generation(fields)?));
            Ok(())
        })?;
        top.each("issued", |serial, fields| {
            state.issued.insert(Arc::from(serial), Arc::new(authority::issued(fields)?));
            Ok(())
        })?;
        top.each("issuer", |id, fields| {
            let id = IssuerId::parse(id).map_err(|e| ParseError::new(format!("issuer {id:?} {e}")))?;
            let record = IssuerRecord {
                failures: fields.count("failures")?,
                open_until: fields.time("open_until")?,
                last_success: fields.time("last_success")?,
                terms: fields.private("terms", text)?,
            };
            state.issuers.insert(id, record);
            Ok(())
        })?;
        top.each("key", |id, fields| {
            let id = KeyId::parse(id).map_err(|e| ParseError::new(format!("key {id:?} {e}")))?;
            state.keys.insert(id, Arc::new(upkeep::record(fields, text)?));
            Ok(())
        })?;
        top.each("latch", |on, fields| {
            let on = LatchOn::parse(on).ok_or_else(|| bad("latch", &Value::String(on.to_owned())))?;
            let latch = Latch {
                at: fields.must_time("at")?,
                code: fields.must("code", |t| Some(Arc::from(t)))?,
                text: fields.must("text", |t| Some(Arc::from(t)))?,
                by: fields.text("by")?,
            };
            state.latches.insert(on, latch);
            Ok(())
        })?;
        top.each("order", |id, fields| {
            let id = RowId::parse(id).ok_or_else(|| bad("order", &Value::String(id.to_owned())))?;
            state.orders.insert(id, Arc::new(directory::order(fields, text)?));
            Ok(())
        })?;
        top.each("rotation", |id, fields| {
            let id = PieceId::parse(id).ok_or_else(|| bad("rotation", &Value::String(id.to_owned())))?;
            state.pieces.insert(id, Arc::new(authority::piece(fields, text)?));
            Ok(())
        })?;
        top.end()?;
        Ok(state)
    }
}

/// RFC 7396 section 2.
fn merge(target: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (key, value) in patch {
        match value {
            Value::Null => {
                target.remove(&key);
            }
            Value::Object(inner) => {
                let slot = target.entry(key).or_insert(Value::Null);
                if !slot.is_object() {
                    *slot = Value::Object(Map::new());
                }
                if let Value::Object(slot) = slot {
                    merge(slot, inner);
                }
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                target.insert(key, value);
            }
        }
    }
}

fn attempt(id: &str, fields: &mut Object) -> Result<Attempt, ParseError> {
    let id = Ulid::parse(id).map(AttemptId).ok_or_else(|| bad("attempt", &Value::String(id.to_owned())))?;
    let url = fields.text("url")?;
    Ok(Attempt {
        id,
        credential: fields.must("credential", |t| CredentialId::parse(t).ok())?,
        issuer: fields.must("issuer", |t| IssuerId::parse(t).ok())?,
        names: fields.must("names", |t| NameSet::parse_key(t).ok())?,
        trigger: trigger(fields)?,
        replaces: fields.text("replaces")?.map(CertId),
        began: fields.must_time("began")?,
        intent: fields.must("intent", |t| Ulid::parse(t).map(EntryId))?,
        stage: fields.must("stage", |t| Stage::parse(t, url.as_deref()))?,
        failures: fields.count("failures")?,
        not_before: fields.time("not_before")?,
    })
}

fn credential(
    fields: &mut Object,
    text: &mut dyn FnMut(Digest) -> Option<Arc<str>>,
) -> Result<CredentialRecord, ParseError> {
    let mut generations = BTreeMap::new();
    fields.each("generation", |name, fields| {
        generations.insert(name.to_owned(), generation(name, fields)?);
        Ok(())
    })?;
    let mut generation = |name: Option<Arc<str>>| match name {
        None => Ok(None),
        Some(name) => match generations.remove(&*name) {
            Some(found) => Ok(Some(found)),
            None => Err(ParseError::new(format!("generation {name} is named and not there"))),
        },
    };
    let record = CredentialRecord {
        current: generation(fields.text("current")?)?,
        previous: generation(fields.text("previous")?)?,
        ari: fields.inside("ari", |f| {
            Ok(AriRecord {
                cert_id: CertId(f.must("cert_id", |t| Some(Arc::from(t)))?),
                window: f.time("from")?.zip(f.time("until")?),
                picked: f.time("picked")?,
                next_poll: f.must_time("next_poll")?,
                explanation: f.private("explanation", text)?,
            })
        })?,
        failures: fields.count("failures")?,
        last_failure: fields.inside("last_failure", |f| {
            Ok(Failure {
                at: f.must_time("at")?,
                code: f.must("code", |t| Some(Arc::from(t)))?,
                text: f.private("text", text)?.ok_or_else(|| ParseError::new("a failure has no text"))?,
                fault: f.must("fault", Fault::parse)?,
                issuer: f.maybe("issuer", |t| IssuerId::parse(t).ok())?,
            })
        })?,
        next_attempt: fields.time("next_attempt")?,
        last_success: fields.time("last_success")?,
        requested: fields.inside("requested", |f| {
            Ok(Request { by: f.must("by", |t| Some(Arc::from(t)))?, at: f.must_time("at")? })
        })?,
        rolled_back: fields.maybe("rolled_back", |t| Ulid::parse(t).map(AttemptId))?,
    };
    match generations.keys().next() {
        None => Ok(record),
        Some(name) => Err(ParseError::new(format!("generation {name} is there and nothing names it"))),
    }
}

fn generation(name: &str, f: &mut Object) -> Result<Generation, ParseError> {
    let slot = Ulid::parse(name.strip_suffix('-').unwrap_or(name)).map(AttemptId);
    let installed_at = f.must_time("installed_at")?;
    Ok(Generation {
        slot: slot.ok_or_else(|| bad(&f.place, &Value::String(name.to_owned())))?,
        issuer: f.must("issuer", |t| IssuerId::parse(t).ok())?,
        fingerprint: f.must("fingerprint", Digest::parse)?,
        spki: f.must("spki", Digest::parse)?,
        serial: f.must("serial", |t| Some(Arc::from(t)))?,
        cert_id: f.text("cert_id")?.map(CertId),
        validity: Validity { not_before: f.must_time("not_before")?, not_after: f.must_time("not_after")? },
        names: f.must("names", |t| NameSet::parse_key(t).ok())?,
        trigger: trigger(f)?,
        installed_at,
        verified_at: f.time("verified_at")?,
        key_since: f.time("key_since")?.unwrap_or(installed_at),
    })
}

fn trigger(f: &mut Object) -> Result<Trigger, ParseError> {
    let detail = f.text("detail")?;
    f.must("trigger", |name| Trigger::parse(name, detail.as_deref().unwrap_or_default()))
}

fn seconds(value: &Value) -> Option<Timestamp> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).map(Timestamp::from_unix)
}

fn bad(place: &str, found: &Value) -> ParseError {
    ParseError::new(format!("{place}: {found} was not expected there"))
}

/// The members of an object, taken one by one; what is left at the end is unknown.
struct Object {
    place: String,
    members: Map<String, Value>,
}

impl Object {
    fn new(place: impl Into<String>, members: Map<String, Value>) -> Self {
        Self { place: place.into(), members }
    }

    fn of(place: String, value: Value) -> Result<Self, ParseError> {
        if let Value::Object(members) = value { Ok(Self { place, members }) } else { Err(bad(&place, &value)) }
    }

    /// A member that is an object; empty if it is missing.
    fn map(&mut self, key: &str) -> Result<Map<String, Value>, ParseError> {
        match self.members.remove(key) {
            None => Ok(Map::new()),
            Some(Value::Object(map)) => Ok(map),
            Some(other) => Err(bad(&format!("{}, {key}", self.place), &other)),
        }
    }

    /// Every member of a member.
    fn each(
        &mut self,
        key: &str,
        mut read: impl FnMut(&str, &mut Self) -> Result<(), ParseError>,
    ) -> Result<(), ParseError> {
        for (id, value) in self.map(key)? {
            let mut inner = Self::of(format!("{key} {id}"), value)?;
            read(&id, &mut inner)?;
            inner.end()?;
        }
        Ok(())
    }

    fn inside<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Self) -> Result<T, ParseError>,
    ) -> Result<Option<T>, ParseError> {
        let Some(value) = self.members.remove(key) else { return Ok(None) };
        let mut inner = Self::of(format!("{}, {key}", self.place), value)?;
        let read = read(&mut inner)?;
        inner.end()?;
        Ok(Some(read))
    }

    fn maybe<T>(&mut self, key: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, ParseError> {
        let Some(value) = self.members.remove(key) else { return Ok(None) };
        match value.as_str().and_then(parse) {
            Some(parsed) => Ok(Some(parsed)),
            None => Err(bad(&format!("{}, {key}", self.place), &value)),
        }
    }

    fn must<T>(&mut self, key: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, ParseError> {
        self.maybe(key, parse)?.ok_or_else(|| ParseError::new(format!("{} has no {key}", self.place)))
    }

    fn text(&mut self, key: &str) -> Result<Option<Arc<str>>, ParseError> {
        self.maybe(key, |t| Some(Arc::from(t)))
    }

    fn private(
        &mut self,
        key: &str,
        text: &mut dyn FnMut(Digest) -> Option<Arc<str>>,
    ) -> Result<Option<Arc<str>>, ParseError> {
        let commitment = self.maybe(key, Digest::parse)?;
        Ok(commitment.map(|c| text(c).unwrap_or_else(|| Arc::from(FORGOTTEN))))
    }

    fn count(&mut self, key: &str) -> Result<u32, ParseError> {
        let Some(value) = self.members.remove(key) else { return Ok(0) };
        let number = value.as_u64().and_then(|n| u32::try_from(n).ok());
        number.ok_or_else(|| bad(&format!("{}, {key}", self.place), &value))
    }

    fn time(&mut self, key: &str) -> Result<Option<Timestamp>, ParseError> {
        let Some(value) = self.members.remove(key) else { return Ok(None) };
        match seconds(&value) {
            Some(at) => Ok(Some(at)),
            None => Err(bad(&format!("{}, {key}", self.place), &value)),
        }
    }

    fn must_time(&mut self, key: &str) -> Result<Timestamp, ParseError> {
        self.time(key)?.ok_or_else(|| ParseError::new(format!("{} has no {key}", self.place)))
    }

    fn end(&self) -> Result<(), ParseError> {
        match self.members.keys().next() {
            None => Ok(()),
            Some(key) => Err(ParseError::new(format!("{} has {key:?}, which is unknown here", self.place))),
        }
    }
}
