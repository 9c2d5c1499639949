//! Tracked keys, out of the document.

use std::sync::Arc;

use super::Object;
use crate::codec::ParseError;
use crate::domain::id::{AttemptId, EntryId, Ulid};
use crate::domain::key::Digest;
use crate::domain::tracked::{KeyState, Print, Wrapped};
use crate::domain::upkeep::{KeyRecord, KeyVersion, Rotation, Step};

type Text<'a> = &'a mut dyn FnMut(Digest) -> Option<Arc<str>>;

pub(super) fn record(f: &mut Object, text: Text<'_>) -> Result<KeyRecord, ParseError> {
    Ok(KeyRecord {
        current: f.inside("current", |f| version(f, text))?,
        previous: f.inside("previous", |f| version(f, text))?,
        pending: f.inside("pending", |f| version(f, text))?,
        rotation: f.inside("rotation", rotation)?,
    })
}

fn version(f: &mut Object, text: Text<'_>) -> Result<KeyVersion, ParseError> {
    let (certificate, ends) = (f.maybe("certificate", Digest::parse)?, f.time("ends")?);
    if certificate.is_some() != ends.is_some() {
        return Err(ParseError::new(format!("{} has half a certificate", f.place)));
    }
    Ok(KeyVersion {
        number: f.count("number")?,
        state: f.must("state", KeyState::parse)?,
        since: f.must_time("since")?,
        reason: f.private("reason", text)?.ok_or_else(|| ParseError::new("a key is in a state without a reason"))?,
        by: f.text("by")?,
        created: f.must_time("created")?,
        print: f.maybe("print", Print::parse)?,
        wrapped: certificate.zip(ends).map(|(fingerprint, ends)| Wrapped { fingerprint, ends }),
        until: f.time("until")?,
        compromised: f.time("compromised")?,
    })
}

fn rotation(f: &mut Object) -> Result<Rotation, ParseError> {
    Ok(Rotation {
        id: f.must("id", |t| Ulid::parse(t).map(AttemptId))?,
        step: f.must("step", Step::parse)?,
        intent: f.maybe("intent", |t| Ulid::parse(t).map(EntryId))?,
        began: f.must_time("began")?,
        failures: f.count("failures")?,
        not_before: f.time("not_before")?,
        by: f.text("by")?,
    })
}
