//! Tables of cases: subjects, and what is expected of policy.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{certificate, policy_file, scalar};
use crate::domain::policy::{Act, History, Lane, MOST_PERSONS, Subject, Tier, Undo};
use crate::domain::time::Timestamp;
use crate::shell::config::diagnostic::{Problems, quoted};
use crate::shell::config::policy::{Case, Cases, Expect};
use crate::shell::config::raw::{At, Section, Wrong};

/// More cases than these go into another file.
const MOST_CASES: usize = 10_000;
const MOST: u32 = 1_000;

/// What may be left open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Failures,
    Flaps,
    Incidents,
    Issuer,
}

const OPEN: [(Open, &str); 4] =
    [(Open::Failures, "failures"), (Open::Flaps, "flaps"), (Open::Incidents, "incidents"), (Open::Issuer, "issuer")];

static NONE: BTreeMap<String, String> = BTreeMap::new();

/// Reads the whole file.
pub(in crate::shell::config) fn read(p: &mut Problems, mut root: Section<'_>, text: &str) -> Option<Cases> {
    policy_file::version(p, &mut root);
    let policy = root.text(p, "policy", "\"policy.toml\"").map(|name| PathBuf::from(name.value));
    let mut names = BTreeMap::new();
    let mut cases = Vec::new();
    if !root.has("case") {
        root.missing(p, "case", "[{ name = …, action = …, expect = { lane = … } }]");
    }
    for mut s in root.sections(p, "case", "[[case]]", MOST_CASES) {
        let before = text.get(..s.at.start).unwrap_or_default();
        let line = before.bytes().filter(|b| *b == b'\n').count().saturating_add(1);
        let name = s.need(p, "name", "\"a renewal goes by itself\"", scalar::short_text);
        if let Some(name) = &name
            && let Some(first) = names.insert(name.value.clone(), name.span.clone())
        {
            p.add_with(
                "KW0011",
                &name.span,
                "two cases have this name",
                "second time",
                "rename one",
                (&first, "first time"),
            );
        }
        cases.extend(case(p, &mut s, name.map(|n| n.value), line));
        s.close(p);
    }
    root.close(p);
    Some(Cases { policy, cases })
}

fn case(p: &mut Problems, s: &mut Section<'_>, name: Option<String>, line: usize) -> Option<Case> {
    if !s.has("action") {
        s.missing(p, "action", "\"renew\"");
    }
    let act = s.word(p, "action", &Act::ALL);
    let labels = certificate::labels(p, s);
    let owner = s.parsed(p, "owner", "\"platform\"", scalar::short_text).map(|o| o.value);
    let at = s.parsed(p, "at", "\"2026-12-24T18:00:00Z\"", moment).map(|at| at.value);
    let many = |n: Option<At<u32>>| n.map_or(0, |n| usize::try_from(n.value).unwrap_or(usize::MAX));
    let (paths, services) = (many(s.number(p, "paths", 0..=MOST)), many(s.number(p, "services", 0..=MOST)));
    let tier = s.number(p, "tier", 0..=u32::from(Tier::HIGHEST.level()));
    let counts = ["failures", "flaps", "incidents"].map(|key| s.number(p, key, 0..=MOST).map_or(0, |n| n.value));
    let issuer = s.word(p, "issuer", &History::ALL).map_or(History::Usual, |i| i.value);
    let reversible = s.flag(p, "reversible");
    let open: Vec<Open> =
        s.words(p, "unknown", &OPEN).map_or(Vec::new(), |l| l.value.into_iter().map(|o| o.value).collect());
    let expect = expect(p, s);
    let (act, name) = (act?.value, name?);
    let known = |what: Open| !open.contains(&what);
    let [failures, flaps, incidents] = counts;
    let undo = reversible.map_or(act.undo(), |r| if r.value { Undo::Possible } else { Undo::Never });
    let subject = Subject {
        services,
        failures: Some(failures).filter(|_| known(Open::Failures)),
        flaps: Some(flaps).filter(|_| known(Open::Flaps)),
        incidents: Some(incidents).filter(|_| known(Open::Incidents)),
        issuer: Some(issuer).filter(|_| known(Open::Issuer)),
        undo,
        tier: tier.map(|t| level(t.value)),
        ..Subject::new(act, &NONE, paths)
    };
    Some(Case { name, line, labels, owner, at, subject, expect: expect? })
}

fn level(tier: u32) -> Tier {
    Tier::new(u8::try_from(tier).unwrap_or(u8::MAX))
}

fn expect(p: &mut Problems, s: &mut Section<'_>) -> Option<Expect> {
    if !s.has("expect") {
        s.missing(p, "expect", "{ lane = \"review-required\" }");
    }
    let mut e = s.section(p, "expect", "expect")?;
    let before = p.count();
    let lane = e.word(p, "lane", &Lane::ALL).map(|lane| lane.value);
    let rule = e.parsed(p, "rule", "\"no-reissue-in-prod\"", scalar::short_text).map(|r| r.value);
    let tier = e.number(p, "tier", 0..=u32::from(Tier::HIGHEST.level())).map(|t| level(t.value));
    let persons = e.number(p, "persons", 0..=u32::from(MOST_PERSONS)).map(|n| u8::try_from(n.value).unwrap_or(u8::MAX));
    let quorum = e.parsed(p, "quorum", "\"2 persons of 2 groups\"", scalar::short_text).map(|q| q.value);
    let expect = Expect { lane, rule, tier, persons, quorum };
    if expect == Expect::default() && p.count() == before {
        let mend = "expect a lane, a rule, a tier, persons or a quorum: a case that expects nothing cannot fail";
        p.add("KW5037", &e.at, "nothing is expected", "empty", mend);
    }
    e.close(p);
    Some(expect)
}

fn moment(text: &str) -> Result<Timestamp, Wrong> {
    let mend = "write it with its offset: \"2026-12-24T18:00:00Z\", \"2026-12-24T19:00:00+01:00\"";
    Timestamp::parse(text).ok_or_else(|| Wrong::new("KW0019", format!("is no time: {}", quoted(text)), mend))
}
