//! `[[key]]`: keys that are no certificate's.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Ids, scalar};
use crate::domain::id::{KeyId, PathId};
use crate::domain::inventory::ApprovalPath;
use crate::domain::time::{DAY, HOUR, MINUTE, Timestamp, human_span};
use crate::domain::tracked::{Begins, GRACE, Holds, KeyClass, KeyPlace, LOOK_EVERY, TrackedKey, Turnover};
use crate::shell::config::diagnostic::{Problems, quoted};
use crate::shell::config::raw::{At, Section, Wrong};

/// Keys of one guardian; each is looked at every few minutes.
const MOST_KEYS: usize = 1_000;
const MOST_PATHS: usize = 1_000;
/// Words of a command.
const MOST_WORDS: usize = 32;

/// A period of seconds is a test's; the longest of NIST's table is three years, and ten are nobody's.
const PERIOD: core::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=DAY.saturating_mul(3_660);
const EVERY: core::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=DAY;
const GRACES: core::ops::RangeInclusive<Duration> = Duration::ZERO..=DAY.saturating_mul(7);
/// A probe is a look at something near; a hook may have to wait for a service to start again.
const TIMEOUT: core::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=MINUTE;
const HOOK_TIMEOUT: core::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=HOUR;
const OVERLAP: core::ops::RangeInclusive<Duration> = Duration::ZERO..=DAY.saturating_mul(366);

const PROBE_TAKES: Duration = Duration::from_secs(10);
const HOOK_TAKES: Duration = MINUTE.saturating_mul(5);
/// The old key stays valid for a day: what holds it in memory starts again, or reads it again, within that.
const USUAL_OVERLAP: Duration = DAY;

/// A path's id, and a key that its `keys` names.
pub(super) type Named<'a> = Vec<(PathId, At<&'a str>)>;

pub(super) fn read_all<'a>(
    p: &mut Problems,
    root: &mut Section<'a>,
    paths: &BTreeMap<PathId, Arc<ApprovalPath>>,
    named: &Named<'a>,
) -> BTreeMap<KeyId, Arc<TrackedKey>> {
    let mut ids = Ids::default();
    let mut keys = BTreeMap::new();
    for section in root.sections(p, "key", "[[key]]", MOST_KEYS) {
        if let Some(key) = read(p, section, &mut ids, paths) {
            keys.insert(key.id.clone(), key);
        }
    }
    for (path, name) in named {
        if !ids.contains(name.value) {
            ids.unknown(p, "key", name);
        } else if let Some(key) = KeyId::parse(name.value).ok().and_then(|id| keys.get_mut(&id)) {
            key.paths.insert(path.clone());
        }
    }
    keys.into_iter().map(|(id, key)| (id, Arc::new(key))).collect()
}

fn read<'a>(
    p: &mut Problems,
    mut s: Section<'a>,
    ids: &mut Ids<'a>,
    paths: &BTreeMap<PathId, Arc<ApprovalPath>>,
) -> Option<TrackedKey> {
    let id = ids.read(p, &mut s, "\"portal-api\"", KeyId::parse);
    if !s.has("class") {
        s.missing(p, "class", "\"symmetric-authentication\"");
    }
    let class = s.word(p, "class", &KeyClass::ALL);
    let owner = s.parsed(p, "owner", "\"platform\"", scalar::short_text);
    let environment = s.parsed(p, "environment", "\"prod\"", scalar::short_text);
    let stands = standing_on_it(p, &mut s, paths);
    let created = s.parsed(p, "created", "\"2026-03-01\"", moment);
    let facts = class.as_ref().map(|c| c.value.facts());
    let period = s.parsed(p, "cryptoperiod", "\"365d\"", |t| scalar::duration(t, PERIOD));
    let limit = s.parsed(p, "hard_limit", "\"730d\"", |t| scalar::duration(t, PERIOD));
    let cryptoperiod = period.as_ref().map(|s| s.value).or(facts.map(|f| f.cryptoperiod)).unwrap_or_default();
    let hard_limit = limit.as_ref().map(|s| s.value).or(facts.map(|f| f.hard_limit)).unwrap_or_default();
    if facts.is_some() && hard_limit <= cryptoperiod {
        let at = limit.as_ref().or(period.as_ref()).map_or_else(|| s.at.clone(), |s| s.span.clone());
        let what = format!(
            "the hard limit of {} is not after the cryptoperiod of {}",
            human_span(hard_limit),
            human_span(cryptoperiod)
        );
        let mend = "leave time between them: a key that is overdue is used on, and its paths close at the hard limit";
        p.add("KW0076", &at, what, "here", mend);
    }
    let place = place(p, &mut s);
    if let (Some(KeyPlace::Manual), None) = (&place, &created) {
        let mend = "say when it was made: created = \"2026-03-01\"; later `keyward key rotated ID` says so";
        p.add("KW0076", &s.at, "nobody can look at a manual key, and nothing says how old it is", "this one", mend);
    }
    let manual = matches!(place, Some(KeyPlace::Manual));
    let live = argv(p, &mut s, "live");
    if let Some(at) = live.as_ref().filter(|_| manual) {
        let mend = "remove `live`, or name the `file` or `exec` that it is compared with";
        p.add("KW0076", &at.span, "there is nothing that a live key could be compared with", "here", mend);
    }
    let every = s.parsed(p, "every", "\"5m\"", |t| scalar::duration(t, EVERY));
    let grace = s.parsed(p, "grace", "\"30m\"", |t| scalar::duration(t, GRACES));
    let timeout = s.parsed(p, "timeout", "\"10s\"", |t| scalar::duration(t, TIMEOUT));
    let turnover = s.section(p, "rotation", "[key.rotation]").and_then(|r| rotation(p, r, manual));
    s.close(p);
    Some(TrackedKey {
        id: id?.value,
        class: class?.value,
        owner: owner.map(|o| o.value),
        environment: environment.map(|e| e.value),
        paths: stands,
        created: created.map(|c| c.value),
        cryptoperiod,
        hard_limit,
        place: place?,
        live: live.map(|l| l.value),
        every: every.map_or(LOOK_EVERY, |s| s.value),
        grace: grace.map_or(GRACE, |s| s.value),
        timeout: timeout.map_or(PROBE_TAKES, |s| s.value),
        turnover,
    })
}

fn standing_on_it(
    p: &mut Problems,
    s: &mut Section<'_>,
    paths: &BTreeMap<PathId, Arc<ApprovalPath>>,
) -> BTreeSet<PathId> {
    let mut found = BTreeSet::new();
    for text in s.texts(p, "paths", MOST_PATHS, "[\"approve\"]").map_or(Vec::new(), |l| l.value) {
        match PathId::parse(text.value).ok().filter(|id| paths.contains_key(id)) {
            Some(id) => drop(found.insert(id)),
            None => {
                let mend = match p.did_you_mean(text.value, paths.keys().map(PathId::as_str)) {
                    Some(meant) => format!("did you mean \"{meant}\"?"),
                    None => "name the id of a [[path]]".to_owned(),
                };
                p.add("KW0012", &text.span, format!("there is no path {}", quoted(text.value)), "unknown", mend);
            }
        }
    }
    found
}

fn place(p: &mut Problems, s: &mut Section<'_>) -> Option<KeyPlace> {
    let file = s.parsed(p, "file", "\"/etc/portal/api.key\"", scalar::path);
    let exec = argv(p, s, "exec");
    let manual = s.flag(p, "manual");
    let holds = s.word(p, "holds", &Holds::ALL);
    let many = [s.has("file"), s.has("exec"), manual.as_ref().is_some_and(|m| m.value)];
    if many.iter().filter(|there| **there).count() != 1 {
        let mend = "keep one of `file = \"/…\"`, `exec = [\"/…\"]` and `manual = true`";
        p.add("KW0076", &s.at, "a key is found in exactly one place", "this one", mend);
        return None;
    }
    let what = holds.as_ref().map_or(Holds::Secret, |h| h.value);
    if let Some(at) = holds.as_ref().filter(|h| h.value == Holds::Facts && file.is_some()) {
        let mend = "choose \"secret\" or \"public\"; only a command prints facts";
        p.add("KW0076", &at.span, "a file holds no facts", "here", mend);
    }
    match (file, exec, manual) {
        (Some(file), ..) => Some(KeyPlace::File { path: file.value, holds: what }),
        (_, Some(exec), _) => Some(KeyPlace::Exec { argv: exec.value, holds: what }),
        (_, _, Some(manual)) if manual.value => Some(KeyPlace::Manual),
        _ => None,
    }
}

fn rotation(p: &mut Problems, mut s: Section<'_>, manual: bool) -> Option<Turnover> {
    let at = s.at.clone();
    if !s.has("hook") {
        s.missing(p, "hook", "[\"/usr/local/bin/rotate-portal-api\"]");
    }
    let hook = argv(p, &mut s, "hook");
    let timeout = s.parsed(p, "timeout", "\"5m\"", |t| scalar::duration(t, HOOK_TIMEOUT));
    let overlap = s.parsed(p, "overlap", "\"24h\"", |t| scalar::duration(t, OVERLAP));
    let automatic = s.flag(p, "automatic").is_some_and(|f| f.value);
    s.close(p);
    if manual {
        let mend = "name a `file` or `exec`: a rotation is over only when another key is seen in its place";
        p.add("KW0076", &at, "nobody could see whether a manual key was rotated", "this rotation", mend);
        return None;
    }
    Some(Turnover {
        hook: hook?.value,
        timeout: timeout.map_or(HOOK_TAKES, |s| s.value),
        overlap: overlap.map_or(USUAL_OVERLAP, |s| s.value),
        begins: if automatic { Begins::Overdue } else { Begins::Asked },
    })
}

/// A command: the program by its absolute path, then its arguments.
fn argv(p: &mut Problems, s: &mut Section<'_>, key: &'static str) -> Option<At<Vec<String>>> {
    let list = s.texts(p, key, MOST_WORDS, "[\"/usr/local/bin/which-key\"]")?;
    let wrong = match list.value.first() {
        Some(program) => scalar::path(program.value).err(),
        None => Some(Wrong::new("KW0017", "is empty", "write it as [\"/path/to/program\", …]")),
    };
    if let Some(wrong) = wrong {
        p.add(wrong.code, &list.span, format!("`{key}` {}", wrong.what), "here", wrong.mend);
        return None;
    }
    Some(At { value: list.value.into_iter().map(|word| word.value.to_owned()).collect(), span: list.span })
}

/// A day, or a moment.
fn moment(text: &str) -> Result<Timestamp, Wrong> {
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    Timestamp::parse(&whole).ok_or_else(|| {
        Wrong::new("KW0076", format!("is no day: {}", quoted(text)), "write \"2026-03-01\" or \"2026-03-01T12:00:00Z\"")
    })
}
