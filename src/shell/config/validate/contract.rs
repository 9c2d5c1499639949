//! `contract.toml`: what is promised of each act, and whether policy keeps it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{policy_file, scalar};
use crate::domain::policy::{
    Act, Breach, BreachKind, Contract, Lane, Policy, Promise, WhenNobody, WhileWaiting, Witness,
};
use crate::shell::config::diagnostic::{Problems, Span};
use crate::shell::config::raw::{At, Section};

/// A contract with the places of its promises.
#[derive(Debug)]
pub(in crate::shell::config) struct Written {
    pub(in crate::shell::config) contract: Contract,
    places: BTreeMap<Act, Span>,
    whole: Span,
}

/// Reads the whole file.
pub(in crate::shell::config) fn read(p: &mut Problems, mut root: Section<'_>) -> Option<Written> {
    policy_file::version(p, &mut root);
    let revision = root.parsed(p, "revision", "\"2026-11-22\"", scalar::short_text).map(|r| Arc::from(r.value));
    if !root.has("actions") {
        root.missing(p, "actions", "{ renew = { lane = \"autonomous\" } }");
    }
    let actions = root.section(p, "actions", "[actions]");
    let (mut promises, mut places) = (BTreeMap::new(), BTreeMap::new());
    let mut whole = root.at.clone();
    if let Some(mut actions) = actions {
        whole = actions.at.clone();
        for (act, name) in Act::ALL {
            let at = actions.key_span(name);
            let Some(section) = actions.section(p, name, "[actions.ACTION]") else { continue };
            places.insert(act, at);
            promises.extend(promise(p, section).map(|promise| (act, promise)));
        }
        actions.close(p);
    }
    root.close(p);
    Some(Written { contract: Contract { promises, revision }, places, whole })
}

fn promise(p: &mut Problems, mut s: Section<'_>) -> Option<Promise> {
    let lane = s.word(p, "lane", &Lane::ALL);
    let lanes = s.words(p, "lanes", &Lane::ALL);
    if s.has("lane") == s.has("lanes") {
        let what = format!("{} needs `lane` or `lanes`, one of the two", s.name);
        let mend =
            "write lane = \"review-required\", or lanes = [\"autonomous\", \"review-required\"] where both happen";
        p.add("KW5030", &s.at, what, "here", mend);
    }
    let lanes: BTreeSet<Lane> = match (lane, lanes) {
        (Some(lane), _) => [lane.value].into(),
        (None, Some(lanes)) => lanes.value.into_iter().map(|lane| lane.value).collect(),
        (None, None) => BTreeSet::new(),
    };
    let waits = lanes.contains(&Lane::ReviewRequired);
    let while_waiting = s.word(p, "while_waiting", &WhileWaiting::ALL);
    let when_nobody = s.word(p, "when_nobody", &WhenNobody::ALL);
    if !lanes.is_empty() {
        said(p, &s, waits, "while_waiting", "\"keep\"");
        said(p, &s, waits, "when_nobody", "\"expire\"");
    }
    s.close(p);
    let value = |word: Option<At<WhileWaiting>>| word.map(|w| w.value);
    (!lanes.is_empty()).then(|| Promise {
        lanes,
        while_waiting: value(while_waiting),
        when_nobody: when_nobody.map(|w| w.value),
    })
}

/// What may wait says what happens then; what never waits must not pretend to.
fn said(p: &mut Problems, s: &Section<'_>, waits: bool, key: &'static str, example: &str) {
    match (waits, s.has(key)) {
        (true, false) => s.missing(p, key, example),
        (false, true) => {
            let what = format!("`{key}` is said of what never waits");
            p.add(
                "KW5030",
                &s.key_span(key),
                what,
                "never happens",
                "remove it, or add \"review-required\" to `lanes`",
            );
        }
        (true, true) | (false, false) => {}
    }
}

/// Says of every promise that the policy does not keep how it does not.
pub(in crate::shell::config) fn judge(p: &mut Problems, written: &Written, policy: &Policy) {
    if p.count() > 0 {
        return;
    }
    for Breach { act, kind } in written.contract.breaches(policy) {
        let at = written.places.get(&act).unwrap_or(&written.whole);
        let promised = written.contract.promises.get(&act).map_or_else(String::new, |promise| {
            let lanes: Vec<&str> = promise.lanes.iter().map(|lane| lane.as_str()).collect();
            lanes.join(" or ")
        });
        let witness = |w: &Witness| {
            let subject = w.example.subject(act).to_string();
            format!("policy says {} by {} for {subject}, and {promised} is promised", w.lane.as_str(), w.rule)
        };
        match kind {
            BreachKind::Laxer(w) => {
                let mend = "add a rule that holds it, or promise less";
                p.add("KW5026", at, format!("policy is easier: {}", witness(&w)), "more is promised", mend);
            }
            BreachKind::Stricter(w) => {
                let mend = "add a rule that lets it go, or say in `lanes` that this happens too";
                p.add("KW5027", at, format!("policy is harder: {}", witness(&w)), "less stands in its way here", mend);
            }
            BreachKind::Never(lane) => {
                let what = format!("{} is promised for {}, and policy never says so", lane.as_str(), act.as_str());
                p.add(
                    "KW5028",
                    at,
                    what,
                    "never happens",
                    "take the lane out of the promise, or add the rule that is missing",
                );
            }
            BreachKind::Silent => {
                let what = format!("nothing is promised for {}", act.as_str());
                let mend = format!("add [actions.{}]", act.as_str());
                p.add("KW5029", at, what, "an action is missing", mend);
            }
            BreachKind::TooMany(count) => {
                let what = format!("{} kinds of {} are told apart, too many to look at", count, act.as_str());
                p.add(
                    "KW5031",
                    at,
                    what,
                    "cannot be judged",
                    "use fewer different labels, owners and counts in the rules",
                );
            }
        }
    }
}
