//! What is latched and what is frozen, as patches.

use super::Patch;
use crate::domain::freeze::Freeze;
use crate::domain::state::Latch;

pub(super) fn latch(p: &mut Patch<'_, '_>, old: Option<&Latch>, new: &Latch) {
    let Latch { at, code, text, by } = new;
    p.time("at", old.map(|o| o.at), Some(*at));
    p.text("by", old.and_then(|o| o.by.as_deref()), by.as_deref());
    p.text("code", old.map(|o| &*o.code), Some(code));
    p.text("text", old.map(|o| &*o.text), Some(text));
}

pub(super) fn freeze(p: &mut Patch<'_, '_>, old: Option<&Freeze>, new: &Freeze) {
    let Freeze { scope, reason, by, since, until } = new;
    p.text("by", old.map(|o| &*o.by), Some(by));
    p.private("reason", old.map(|o| &o.reason), Some(reason));
    p.text("scope", old.map(|o| o.scope.to_string()).as_deref(), Some(&scope.to_string()));
    p.time("since", old.map(|o| o.since), Some(*since));
    p.time("until", old.map(|o| o.until), Some(*until));
}
