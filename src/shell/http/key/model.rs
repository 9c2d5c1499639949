//! Tracked keys as JSON. Never a value: a print is an HMAC under a key that only the guardian has, or the digest of a public
//! key.

use serde::{Deserialize, Serialize};

use crate::domain::tracked::{Halves, KeyPlace};
use crate::domain::upkeep::KeyVersion;
use crate::engine::keys::{KeyView, Outlook, Planned};
use crate::shell::http::model::Finding;

/// One key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Its id.
    pub id: String,
    /// What it is for.
    pub class: String,
    /// Who is asked about it.
    pub owner: Option<String>,
    /// Where it is used.
    pub environment: Option<String>,
    /// The paths that stand on it.
    pub paths: Vec<String>,
    /// `good`, `overdue`, `past its limit`, `compromised`, `unfit` or `unseen`.
    pub outlook: String,
    /// The state of the version in use (NIST SP 800-57 part 1).
    pub state: Option<String>,
    /// When that was made.
    pub created: Option<String>,
    /// When it is, or was, overdue.
    pub overdue_at: Option<String>,
    /// When what stands on it closes, or closed.
    pub closes_at: Option<String>,
    /// Its cryptoperiod in seconds.
    pub cryptoperiod_seconds: u64,
    /// Its hard limit in seconds.
    pub hard_limit_seconds: u64,
    /// Where it is found.
    pub place: String,
    /// When it was seen last.
    pub seen_at: Option<String>,
    /// Why it cannot be looked at.
    pub problem: Option<String>,
    /// All versions that are known.
    pub versions: Vec<Version>,
    /// The rotation under way.
    pub rotation: Option<Rotation>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// One version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// `CURRENT`, `PREVIOUS` or `PENDING`.
    pub label: String,
    /// Its number.
    pub number: u32,
    /// Its state.
    pub state: String,
    /// The state of its public half, if it has one.
    pub public_half: Option<String>,
    /// Since when.
    pub since: String,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub by: Option<String>,
    /// When it was made.
    pub created: String,
    /// What it is told apart by.
    pub print: Option<String>,
    /// Until when it is valid beside its successor.
    pub until: Option<String>,
    /// Since when others may have it.
    pub compromised_since: Option<String>,
}

/// A rotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// Its id, which hooks are told.
    pub id: String,
    /// The next step.
    pub step: String,
    /// Whether it was begun, and nothing says yet what came of it.
    pub begun: bool,
    /// When the rotation began.
    pub began: String,
    /// How often the step failed in a row.
    pub failures: u32,
    /// The step is not tried before this.
    pub not_before: Option<String>,
    /// Who began it.
    pub by: Option<String>,
}

/// What a person wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// Only say what would be done.
    #[serde(default)]
    pub plan: bool,
    /// Of the version before the one in use.
    #[serde(default)]
    pub previous: bool,
    /// Since when others may have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// What came of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The state now.
    pub state: String,
    /// What a compromised key was used for, as far as is known.
    pub used: Vec<String>,
}

/// What a rotation would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Each step with its command.
    pub steps: Vec<PlannedStep>,
    /// For so long the old key stays valid, in seconds.
    pub overlap_seconds: u64,
    /// What would hold it.
    pub held: Option<String>,
}

/// A step that would be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// Its word.
    pub step: String,
    /// The command, word by word.
    pub command: Vec<String>,
}

impl From<&Planned> for Plan {
    fn from(planned: &Planned) -> Self {
        let step = |(step, command): &(crate::domain::upkeep::Step, Vec<String>)| PlannedStep {
            step: step.as_str().to_owned(),
            command: command.clone(),
        };
        Self {
            steps: planned.steps.iter().map(step).collect(),
            overlap_seconds: planned.overlap.as_secs(),
            held: planned.held.clone(),
        }
    }
}

impl From<&KeyView> for Key {
    fn from(view: &KeyView) -> Self {
        let KeyView { key, record, sight, findings, outlook } = view;
        let current = record.current.as_ref();
        let halves = key.class.facts().halves;
        let problem = sight.failing.as_ref().or(sight.not_live.as_ref()).map(|(_, why)| why.clone());
        Self {
            id: key.id.to_string(),
            class: key.class.as_str().to_owned(),
            owner: key.owner.clone(),
            environment: key.environment.clone(),
            paths: key.paths.iter().map(ToString::to_string).collect(),
            outlook: if problem.is_some() && matches!(outlook, Outlook::Good(_)) {
                "unseen".to_owned()
            } else {
                outlook.as_str().to_owned()
            },
            state: current.map(|v| v.state.as_str().to_owned()),
            created: current.map(|v| v.created.to_string()),
            overdue_at: current.map(|v| key.overdue_at(v.created).to_string()),
            closes_at: current.map(|v| key.ends_at(v.created).to_string()),
            cryptoperiod_seconds: key.cryptoperiod.as_secs(),
            hard_limit_seconds: key.hard_limit.as_secs(),
            place: match &key.place {
                KeyPlace::File { path, .. } => format!("file {path}"),
                KeyPlace::Exec { argv, .. } => format!("exec {}", argv.first().map_or("", String::as_str)),
                KeyPlace::Manual => "manual".to_owned(),
            },
            seen_at: sight.seen_at.map(|at| at.to_string()),
            problem,
            versions: record.versions().map(|(label, v)| version(label, v, halves)).collect(),
            rotation: record.rotation.as_ref().map(|r| Rotation {
                id: r.id.to_string(),
                step: r.step.as_str().to_owned(),
                begun: r.intent.is_some(),
                began: r.began.to_string(),
                failures: r.failures,
                not_before: r.not_before.map(|at| at.to_string()),
                by: r.by.as_ref().map(ToString::to_string),
            }),
            findings: findings.iter().map(crate::shell::http::views::finding).collect(),
        }
    }
}

fn version(label: &str, v: &KeyVersion, halves: Halves) -> Version {
    Version {
        label: label.to_owned(),
        number: v.number,
        state: v.state.as_str().to_owned(),
        public_half: (halves == Halves::Two).then(|| v.public_half().as_str().to_owned()),
        since: v.since.to_string(),
        reason: v.reason.to_string(),
        by: v.by.as_ref().map(ToString::to_string),
        created: v.created.to_string(),
        print: v.print.map(|print| print.to_string()),
        until: v.until.map(|at| at.to_string()),
        compromised_since: v.compromised.map(|at| at.to_string()),
    }
}
