//! `guards` and `[[path.kind]]`: which requests of a path stay reachable while it is closed.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Ids;
use crate::domain::guard::{Care, Guard, Kind, is_plain};
use crate::domain::id::PathId;
use crate::shell::config::diagnostic::{Problems, quoted};
use crate::shell::config::raw::{Section, Wrong, understood};

const MOST_KINDS: usize = 32;
const MOST_METHODS: usize = 32;
const MOST_PREFIXES: usize = 256;
/// The longest registered method, UPDATEREDIRECTREF, has 17 characters (IANA's list of methods).
const LONGEST_METHOD: usize = 17;

/// Reads both keys; without them the path guards every request.
pub(super) fn read<'a>(p: &mut Problems, path: &mut Section<'a>) -> Guard {
    let mut ids = Ids::default();
    let mut kinds = Vec::new();
    let has_kinds = path.has("kind");
    for mut s in path.sections(p, "kind", "[[path.kind]]", MOST_KINDS) {
        // Kinds share the shape of ids: they stand in headers.
        let id = ids.read(p, &mut s, "\"read\"", |t| PathId::parse(t).map(|id| id.to_string()));
        let methods = list(p, &mut s, "methods", MOST_METHODS, "[\"GET\", \"HEAD\"]", method);
        let prefixes = list(p, &mut s, "prefixes", MOST_PREFIXES, "[\"/reject\"]", prefix);
        if !s.has("methods") && !s.has("prefixes") {
            let mend = "add methods = [\"GET\", \"HEAD\"], or prefixes = [\"/reject\"], or both";
            p.add("KW4502", &s.at, "a kind of request needs `methods` or `prefixes`", "every request?", mend);
        }
        s.close(p);
        if let Some(id) = id {
            kinds.push(Kind { name: Arc::from(id.value), methods, prefixes, care: Care::Reachable });
        }
    }
    let guards = path.texts(p, "guards", MOST_KINDS, "[\"approve\"]");
    let Some(guards) = guards else {
        if has_kinds && !path.has("guards") {
            let mend = "add guards = [\"approve\"] with the kinds that close with the path; the others stay reachable";
            p.add("KW4501", &path.key_span("kind"), "kinds of requests without `guards`", "which close?", mend);
        }
        return Guard::default();
    };
    for name in &guards.value {
        match kinds.iter_mut().find(|kind| &*kind.name == name.value) {
            Some(kind) => kind.care = Care::Guarded,
            None if ids.contains(name.value) => {}
            None => ids.unknown(p, "[[path.kind]]", name),
        }
    }
    if guards.value.is_empty() {
        let mend = "name the kinds that close with the path; what is of no kind is guarded in any case";
        p.add("KW4501", &guards.span, "`guards` names no kind", "empty", mend);
    } else if !kinds.is_empty() && kinds.iter().all(|kind| kind.care == Care::Guarded) {
        let mend = "leave `guards` out, or add a [[path.kind]] that stays reachable, for example id = \"read\" with \
                    methods = [\"GET\", \"HEAD\"]";
        p.add("KW4501", &guards.span, "every kind is guarded, so nothing stays reachable", "all of them", mend);
    }
    Guard::new(kinds)
}

fn list(
    p: &mut Problems,
    s: &mut Section<'_>,
    key: &'static str,
    most: usize,
    example: &str,
    parse: impl Fn(&str) -> Result<String, Wrong>,
) -> BTreeSet<String> {
    let Some(list) = s.texts(p, key, most, example) else { return BTreeSet::new() };
    if list.value.is_empty() {
        let mend = format!("leave it out for any, or write {key} = {example}");
        p.add("KW4502", &list.span, format!("`{key}` is empty"), "none at all?", mend);
    }
    list.value.into_iter().filter_map(|text| understood(p, key, text, &parse)).map(|at| at.value).collect()
}

fn method(text: &str) -> Result<String, Wrong> {
    let sound = !text.is_empty() && text.len() <= LONGEST_METHOD && text.bytes().all(|b| b.is_ascii_uppercase());
    if sound {
        return Ok(text.to_owned());
    }
    let mend = "write methods in capitals, as they are sent: \"GET\", \"POST\"";
    Err(Wrong::new("KW4502", format!("holds {}, which is no method", quoted(text)), mend))
}

fn prefix(text: &str) -> Result<String, Wrong> {
    if is_plain(text) {
        return Ok(text.to_owned());
    }
    let mend = "write the beginning of a URL's path from its '/', without escapes, parameters, '//' and dot segments";
    Err(Wrong::new("KW4502", format!("holds {}, which is no plain beginning of a path", quoted(text)), mend))
}
