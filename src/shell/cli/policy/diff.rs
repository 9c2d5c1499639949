//! `keyward policy diff`: what changes, not which lines.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::super::args::Output;
use super::super::console::{Cell, Exit, Failure, Tone, wall_clock};
use super::super::{Done, Run};
use super::explain::paths_on;
use crate::domain::inventory::Estate;
use crate::domain::policy::{Act, Change, Course, Judged, Policy, Subject, compare, judge};
use crate::domain::time::Timestamp;
use crate::shell::config;

/// One line of the answer.
struct Line {
    about: String,
    before: Judged,
    after: Judged,
    course: Course,
    /// So many kinds of subject; 1 for a case and a credential.
    kinds: usize,
}

impl Run {
    pub(super) fn policy_diff(&self, old: &Path, new: &Path, cases: &[PathBuf]) -> Done {
        let (before, after) = (self.policy_of(Some(old))?, self.policy_of(Some(new))?);
        let changes = compare(&before, &after).map_err(|many| {
            let text =
                format!("{} kinds of {} are told apart, too many to compare (KW5031)", many.count, many.act.as_str());
            Failure::new(Exit::Failed, text, "use fewer different labels, owners and counts in the rules")
        })?;
        let kinds: Vec<Line> = changes.into_iter().filter_map(kind).collect();
        let mut of_cases = Vec::new();
        for path in cases {
            let read = config::load_cases(path).map_err(|error| self.unusable(path, &error))?;
            for case in &read.cases {
                let (was, is) = (judge(&case.subject(&before), &before), judge(&case.subject(&after), &after));
                of_cases.extend(line(case.name.clone(), was, is));
            }
        }
        let settings = self.settings_if_any()?;
        let now = wall_clock();
        let of_estate = settings.map_or_else(Vec::new, |settings| credentials(&settings.estate, &before, &after, now));
        let all = [("kinds of subject", &kinds), ("cases", &of_cases), ("credentials", &of_estate)];
        let same = before.version() == after.version();
        let zone =
            |policy: &Policy| policy.setting().calendar.as_ref().and_then(|c| c.zone.iana_name().map(str::to_owned));
        let zones = (zone(&before), zone(&after));
        match self.output {
            Output::Json => self.console.json(&json!({
                "old": before.version().to_string(),
                "new": after.version().to_string(),
                "zones": [zones.0, zones.1],
                "kinds": kinds.iter().map(as_json).collect::<Vec<_>>(),
                "cases": of_cases.iter().map(as_json).collect::<Vec<_>>(),
                "credentials": of_estate.iter().map(as_json).collect::<Vec<_>>(),
            }))?,
            Output::Name => kinds.iter().for_each(|line| self.console.out(&line.about)),
            Output::Table => {
                self.console.out(format!("old {}\nnew {}", before.version(), after.version()));
                if let (Some(was), Some(is)) = &zones
                    && was != is
                {
                    self.console
                        .out(format!("the zone was {was} and is {is}: the same local times come at other moments"));
                }
                for (what, lines) in all.iter().filter(|(_, lines)| !lines.is_empty()) {
                    self.console.out(format!("\n{what} that change:"));
                    self.console.table(&["", "BEFORE", "AFTER", "ABOUT"], &lines.iter().map(row).collect::<Vec<_>>());
                }
                if kinds.is_empty() {
                    let more = if same { "" } else { ", although they say it differently" };
                    self.console.out(format!("no decision changes{more}"));
                }
            }
        }
        Ok(if zones.0 == zones.1 && all.iter().all(|(_, lines)| lines.is_empty()) { Exit::Ok } else { Exit::Warning })
    }
}

fn kind(change: Change) -> Option<Line> {
    let about = change.example.subject(change.act).to_string();
    Some(Line { kinds: change.kinds, ..line(about, change.before, change.after)? })
}

fn line(about: String, before: Judged, after: Judged) -> Option<Line> {
    let course = before.course(&after)?;
    Some(Line { about, before, after, course, kinds: 1 })
}

/// Every credential with every act, as things are now if nothing has failed.
fn credentials(estate: &Estate, before: &Policy, after: &Policy, now: Timestamp) -> Vec<Line> {
    let mut lines = Vec::new();
    for credential in estate.credentials.values() {
        let paths = paths_on(estate, &credential.id);
        for (act, name) in Act::ALL {
            let subject = |policy: &Policy| Subject {
                services: credential.endpoints.len(),
                owner: credential.owner.as_deref(),
                local: policy.local(now),
                ..Subject::new(act, &credential.labels, paths).quiet()
            };
            let (was, is) = (judge(&subject(before), before), judge(&subject(after), after));
            lines.extend(line(format!("{name} {}", credential.id), was, is));
        }
    }
    lines
}

fn said(judged: &Judged) -> String {
    if judged.quorum.persons() == 0 {
        return judged.lane.as_str().to_owned();
    }
    format!("{} by {}", judged.lane.as_str(), judged.quorum)
}

fn row(line: &Line) -> Vec<Cell> {
    let (word, tone) = match line.course {
        Course::Easier => ("easier", Tone::Bad),
        Course::Harder => ("harder", Tone::Warn),
    };
    let more = match line.kinds.saturating_sub(1) {
        0 => String::new(),
        1 => ", and 1 more kind".to_owned(),
        n => format!(", and {n} more kinds"),
    };
    vec![
        Cell(word.into(), tone),
        said(&line.before).into(),
        said(&line.after).into(),
        format!("{}{more}", line.about).into(),
    ]
}

fn as_json(line: &Line) -> Value {
    let side = |judged: &Judged| {
        json!({
            "lane": judged.lane.as_str(),
            "rule": &*judged.rule,
            "tier": judged.tier.level(),
            "quorum": judged.quorum.to_string(),
        })
    };
    json!({
        "about": line.about,
        "course": if line.course == Course::Easier { "easier" } else { "harder" },
        "before": side(&line.before),
        "after": side(&line.after),
        "kinds": line.kinds,
    })
}
