//! The private texts of entries for people to read: joined here, never put into the entries themselves.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::domain::key::Digest;
use crate::domain::private::FORGOTTEN;
use crate::ports::{Log, StoreError};

/// The key under which the actor's name is told.
pub const ACTOR: &str = "actor";

/// The texts of one entry, by their keys in it; who did it stands under [`ACTOR`] if it was a person.
pub type Texts = BTreeMap<String, String>;

/// What an entry commits to, by key.
#[must_use]
pub fn commitments(entry: &Value) -> BTreeMap<String, Digest> {
    let private = entry.pointer("/data/private").and_then(Value::as_object).into_iter().flatten();
    let private = private.map(|(key, value)| (key.as_str(), value));
    let person = entry.pointer("/data/actor/kind").and_then(Value::as_str) == Some("human");
    let subject = entry.pointer("/data/actor/subject").filter(|_| person).map(|subject| (ACTOR, subject));
    let digest = |(key, value): (&str, &Value)| Some((key.to_owned(), Digest::parse(value.as_str()?)?));
    private.chain(subject).filter_map(digest).collect()
}

/// The texts of these entries, in the same order. Where one was forgotten, that is what is told.
///
/// # Errors
/// [`StoreError`] if the store cannot be read.
pub async fn of(store: &dyn Log, entries: &[Value]) -> Result<Vec<Texts>, StoreError> {
    let wanted: Vec<BTreeMap<String, Digest>> = entries.iter().map(commitments).collect();
    let known = store.private(wanted.iter().flat_map(BTreeMap::values).copied().collect()).await?;
    let text = |commitment: &Digest| known.get(commitment).map_or(FORGOTTEN, |p| &*p.text).to_owned();
    Ok(wanted.iter().map(|each| each.iter().map(|(key, c)| (key.clone(), text(c))).collect()).collect())
}
