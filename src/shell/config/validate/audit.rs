//! `[audit]`: the audit log's name, and where its lock and its spool lie.

use std::path::PathBuf;

use super::place::Place;
use super::{scalar, witness};
use crate::domain::inventory::Environment;
use crate::shell::config::diagnostic::{Problems, quoted};
use crate::shell::config::raw::{Section, Wrong};
use crate::shell::config::settings::{AuditSettings, AuditWitness};

/// A name is at most this long in bytes: it stands twice in every checkpoint, and the lock has 4 KiB for one.
const LONGEST_ORIGIN: usize = 200;

/// In staging the file's words are checked and not used: a dry run has a log, a name and a lock of its own.
pub(super) fn read(p: &mut Problems, root: &mut Section<'_>, place: &Place) -> (AuditSettings, Option<AuditWitness>) {
    let Some(mut s) = root.section(p, "audit", "[audit]") else { return Default::default() };
    let lock = s.parsed(p, "lock", "\"/srv/other-volume/keyward.lock\"", scalar::path);
    let example = "\"example.com/keyward\"";
    let origin = s.parsed(p, "origin", example, origin);
    let spool = s.parsed(p, "spool", "\"/srv/other-volume/keyward.spool\"", scalar::path);
    let witness = witness::of_our_log(p, &mut s);
    s.close(p);
    if let (Some(lock), Some(state)) = (&lock, &place.production_state) {
        let own = PathBuf::from(&lock.value);
        if own.starts_with(state) || state.starts_with(&own) {
            let mend = "name a file outside of `state_dir`, best on another volume, or leave `lock` out: a lock that is \
                        restored together with the state says nothing";
            p.add("KW0040", &lock.span, "the audit lock lies in the state directory", "inside of `state_dir`", mend);
        }
    }
    match place.environment {
        Environment::Production => {
            let own = AuditSettings {
                lock: lock.map(|l| PathBuf::from(l.value)),
                origin: origin.map(|o| o.value),
                spool: spool.map(|s| PathBuf::from(s.value)),
            };
            (own, witness)
        }
        Environment::Staging => Default::default(),
    }
}

/// A name that a signed note takes for its key (C2SP signed-note).
fn origin(text: &str) -> Result<String, Wrong> {
    let length = (1..=LONGEST_ORIGIN).contains(&text.len());
    if length && text.bytes().all(|b| b.is_ascii_graphic() && b != b'+') {
        return Ok(text.to_owned());
    }
    let what = format!("is no name of a log: {}", quoted(text));
    let mend = "choose 1 to 200 printable ASCII characters without spaces and '+', best a name of yours and a path: \
                \"example.com/keyward\"";
    Err(Wrong::new("KW0025", what, mend))
}
