//! Tracked keys, as patches.

use super::Patch;
use crate::domain::upkeep::{KeyRecord, KeyVersion, Rotation};

pub(super) fn record(p: &mut Patch<'_, '_>, old: Option<&KeyRecord>, new: &KeyRecord) {
    let KeyRecord { current, previous, pending, rotation } = new;
    p.member("current", old.and_then(|o| o.current.as_ref()), current.as_ref(), version);
    p.member("pending", old.and_then(|o| o.pending.as_ref()), pending.as_ref(), version);
    p.member("previous", old.and_then(|o| o.previous.as_ref()), previous.as_ref(), version);
    p.member("rotation", old.and_then(|o| o.rotation.as_ref()), rotation.as_ref(), turning);
}

fn version(p: &mut Patch<'_, '_>, old: Option<&KeyVersion>, new: &KeyVersion) {
    let KeyVersion { number, state, since, reason, by, created, print, wrapped, until, compromised } = new;
    let certificate = |v: &KeyVersion| v.wrapped.map(|w| w.fingerprint.to_string());
    let ends = |v: &KeyVersion| v.wrapped.map(|w| w.ends);
    let text = |v: &KeyVersion| v.print.map(|print| print.to_string());
    p.text("by", old.and_then(|o| o.by.as_deref()), by.as_deref());
    p.text("certificate", old.and_then(certificate).as_deref(), wrapped.map(|w| w.fingerprint.to_string()).as_deref());
    p.time("compromised", old.and_then(|o| o.compromised), *compromised);
    p.time("created", old.map(|o| o.created), Some(*created));
    p.time("ends", old.and_then(ends), wrapped.map(|w| w.ends));
    p.count("number", old.map(|o| o.number), *number);
    p.text("print", old.and_then(text).as_deref(), print.map(|print| print.to_string()).as_deref());
    p.private("reason", old.map(|o| &o.reason), Some(reason));
    p.time("since", old.map(|o| o.since), Some(*since));
    p.text("state", old.map(|o| o.state.as_str()), Some(state.as_str()));
    p.time("until", old.and_then(|o| o.until), *until);
}

fn turning(p: &mut Patch<'_, '_>, old: Option<&Rotation>, new: &Rotation) {
    let Rotation { id, step, intent, began, failures, not_before, by } = new;
    p.time("began", old.map(|o| o.began), Some(*began));
    p.text("by", old.and_then(|o| o.by.as_deref()), by.as_deref());
    p.count("failures", old.map(|o| o.failures), *failures);
    p.plain("id", old.map(|o| &o.id), Some(id), |id| id.0.text());
    p.plain("intent", old.and_then(|o| o.intent.as_ref()), intent.as_ref(), |id| id.0.text());
    p.time("not_before", old.and_then(|o| o.not_before), *not_before);
    p.text("step", old.map(|o| o.step.as_str()), Some(step.as_str()));
}
