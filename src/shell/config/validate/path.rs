//! `[[path]]`: what stands on the credentials.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::certificate::Credentials;
use super::{Ids, scalar};
use crate::domain::id::{AudienceId, CredentialId, PathId};
use crate::domain::inventory::{ApprovalPath, Environment, LeaseFile, Leases, MOST_MISSES, USUAL_MISSES};
use crate::domain::time::{DAY, HOUR, human_span};
use crate::shell::config::diagnostic::{Problems, Span, quoted};
use crate::shell::config::raw::{self, Section, Wrong};

const MOST_PATHS: usize = 1_000;
const MOST_NEEDS: usize = 1_000;
/// Each is a program that acts on a path; more than these would be a mistake.
const MOST_AUDIENCES: usize = 64;
/// A margin of a whole CA/B lifetime (398 days, Baseline Requirements 6.3.2 of before 2026) would never be open.
const MARGIN: core::ops::RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(DAY.as_secs() * 397);

/// A key of minutes is a test's; cryptoperiods are at most some years (NIST SP 800-57 part 1, section 5.3.6).
const LIMIT: core::ops::RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(DAY.as_secs() * 3_660);

pub(super) fn read_paths<'a>(
    p: &mut Problems,
    root: &mut Section<'a>,
    credentials: &Credentials<'a>,
    environment: Environment,
) -> (BTreeMap<PathId, Arc<ApprovalPath>>, super::key::Named<'a>) {
    let mut ids = Ids::default();
    let mut files = BTreeMap::new();
    let mut paths = BTreeMap::new();
    // Named before they are known.
    let (mut others, mut named) = (Vec::new(), Vec::new());
    for mut s in root.sections(p, "path", "[[path]]", MOST_PATHS) {
        let id = ids.read(p, &mut s, "\"approve\"", PathId::parse);
        let margin = s.parsed(p, "margin", "\"2h\"", |t| scalar::duration(t, MARGIN));
        if !s.has("needs") {
            s.missing(p, "needs", "[\"portal\"]");
        }
        let list = s.texts(p, "needs", MOST_NEEDS, "[\"portal\"]");
        if let Some(list) = list.as_ref().filter(|l| l.value.is_empty()) {
            let mend = "name the certificates that it stands on: a path that stands on nothing would be open for ever";
            p.add("KW0047", &list.span, "a path needs a credential", "empty", mend);
        }
        // Two hours by default: time for a person to see the alarm before approvals stop.
        let span = margin.as_ref().map_or(HOUR.saturating_mul(2), |m| m.value);
        let mut needs = BTreeSet::new();
        for need in list.map_or(Vec::new(), |l| l.value) {
            if !credentials.ids.contains(need.value) {
                credentials.ids.unknown(p, "certificate or observed credential", &need);
                continue;
            }
            let Ok(id) = CredentialId::parse(need.value) else { continue };
            if let Some((lifetime, left)) = credentials.lifetimes.get(&id).filter(|(_, left)| span >= *left) {
                let at = margin.as_ref().map_or(&need.span, |m| &m.span);
                let what = format!(
                    "the margin of {} is too long for {}: it lives {}, and {} are left when its renewal is due",
                    human_span(span),
                    quoted(need.value),
                    human_span(*lifetime),
                    human_span(*left)
                );
                let mend =
                    format!("choose a margin well below {}, or the path closes before each renewal", human_span(*left));
                p.add_with("KW0049", at, what, "too long", mend, (&need.span, "this one"));
            }
            if !needs.insert(id) {
                let what = format!("{} stands twice", quoted(need.value));
                p.add("KW0011", &need.span, what, "second time", "remove one of them");
            }
        }
        let depends = s.texts(p, "depends_on", MOST_PATHS, "[\"sign-in\"]").map_or(Vec::new(), |l| l.value);
        let keys = s.texts(p, "keys", MOST_NEEDS, "[\"portal-api\"]").map_or(Vec::new(), |l| l.value);
        let key_limit = s.parsed(p, "key_limit", "\"400d\"", |t| scalar::duration(t, LIMIT));
        let issuer_silence = s.parsed(p, "issuer_silence", "\"45d\"", |t| scalar::duration(t, LIMIT));
        let misses = s.number(p, "misses", 1..=MOST_MISSES);
        let guard = super::guard::read(p, &mut s);
        let when_frozen = super::freeze::when_frozen(p, &mut s);
        let mut leases = read_leases(p, &mut s, &mut files);
        // A dry run touches nothing that production reads.
        leases.file = leases.file.filter(|_| environment == Environment::Production);
        s.close(p);
        if let Some(id) = id {
            let path = ApprovalPath {
                id: id.value.clone(),
                needs,
                margin: span,
                depends_on: depends.iter().filter_map(|d| PathId::parse(d.value).ok()).collect(),
                key_limit: key_limit.map(|l| l.value),
                issuer_silence: issuer_silence.map(|l| l.value),
                misses: misses.map_or(USUAL_MISSES, |n| n.value),
                guard,
                when_frozen,
                leases,
            };
            named.extend(keys.into_iter().map(|k| (id.value.clone(), k)));
            others.extend(depends.into_iter().map(|d| (id.value.clone(), d)));
            paths.insert(id.value, Arc::new(path));
        }
    }
    for (path, depends) in &others {
        if !ids.seen.contains_key(depends.value) {
            ids.unknown(p, "path", depends);
        } else if let Some(circle) = PathId::parse(depends.value).ok().and_then(|to| circle(&paths, &to, path)) {
            let what = format!("{} stands on itself: {circle}", quoted(path.as_str()));
            let mend = "remove one of these: a path that waits for itself would never open";
            p.add("KW0063", &depends.span, what, "closes the circle", mend);
            break;
        }
    }
    (paths, named)
}

/// Who gets leases and permits, and the file in which one lies.
fn read_leases<'a>(p: &mut Problems, s: &mut Section<'a>, files: &mut BTreeMap<String, Span>) -> Leases {
    let example = "[\"portal\"]";
    let list = s.texts(p, "audiences", MOST_AUDIENCES, example);
    let mut audiences = BTreeSet::new();
    for text in list.map_or(Vec::new(), |l| l.value) {
        let span = text.span.clone();
        let Some(audience) = raw::understood(p, "audiences", text, audience) else { continue };
        if !audiences.insert(audience.value) {
            p.add("KW0011", &span, "an audience stands twice", "second time", "remove one of them");
        }
    }
    let Some(mut f) = s.section(p, "lease_file", "lease_file") else { return Leases { audiences, file: None } };
    let path = f.need(p, "path", "\"/run/keyward/approve.lease\"", scalar::path);
    let whom = f.need(p, "audience", "\"portal\"", audience);
    let why = "the guardian must read and write it, and nobody else may write a lease";
    let mode = f.parsed(p, "mode", "\"0640\"", |t| scalar::mode(t, 0o644, 0o600, why));
    let group = f.parsed(p, "group", "\"www-data\"", scalar::account);
    f.close(p);
    if let Some(unlisted) = whom.as_ref().filter(|w| !audiences.contains(&w.value)) {
        let name = &unlisted.value;
        let mend = format!("list it: audiences = [\"{name}\"]");
        p.add(
            "KW0012",
            &unlisted.span,
            format!("{} is no audience of this path", quoted(name.as_str())),
            "unknown",
            mend,
        );
    }
    let (Some(path), Some(whom)) = (path, whom) else { return Leases { audiences, file: None } };
    if let Some(first) = files.insert(path.value.clone(), path.span.clone()) {
        let mend = "give each path its own file";
        p.add_with(
            "KW0011",
            &path.span,
            "two leases cannot lie in one file",
            "second time",
            mend,
            (&first, "first time"),
        );
    }
    // Readable for a group, if one is named, and for the owner alone otherwise.
    let usual = if group.is_some() { 0o640 } else { 0o600 };
    let file = LeaseFile {
        path: path.value,
        audience: whom.value,
        mode: mode.map_or(usual, |m| m.value),
        group: group.map(|g| g.value),
    };
    Leases { audiences, file: Some(file) }
}

fn audience(text: &str) -> Result<AudienceId, Wrong> {
    AudienceId::parse(text)
        .map_err(|e| Wrong::new("KW0010", format!("{} {e}", quoted(text)), "write for example \"portal\""))
}

/// The way from one path over what it depends on to another, if there is one.
fn circle(paths: &BTreeMap<PathId, Arc<ApprovalPath>>, from: &PathId, to: &PathId) -> Option<String> {
    let (mut open, mut seen) = (vec![vec![from.clone()]], BTreeSet::new());
    while let Some(way) = open.pop() {
        let last = way.last()?;
        if last == to {
            let all: Vec<&str> = core::iter::once(to).chain(&way).map(PathId::as_str).collect();
            return Some(all.join(" → "));
        }
        if seen.insert(last.clone()) {
            let next = paths.get(last).into_iter().flat_map(|path| &path.depends_on);
            open.extend(next.map(|next| way.iter().chain([next]).cloned().collect()));
        }
    }
    None
}
