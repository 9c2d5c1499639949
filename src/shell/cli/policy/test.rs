//! `keyward policy test`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::super::args::Output;
use super::super::console::{Cell, Exit, Tone};
use super::super::{Done, Run};
use super::Test;
use crate::domain::policy::{Decision, Policy, decide};
use crate::shell::config::{self, Case};

/// A case came out otherwise.
const FAILED: &str = "KW5035";
/// A rule decides no case.
const NOT_COVERED: &str = "KW5036";

/// How the default is called in cases.
const DEFAULT: &str = "default";

struct Ran {
    file: String,
    case: Case,
    decision: Decision,
    /// What is not as expected.
    wrong: Vec<String>,
}

impl Run {
    pub(super) fn policy_test(&self, told: &Test) -> Done {
        let mut ran = Vec::new();
        // By digest: several files of cases may be about one policy.
        let mut covered: BTreeMap<String, (Policy, BTreeSet<String>)> = BTreeMap::new();
        for path in &told.cases {
            let cases = config::load_cases(path).map_err(|error| self.unusable(path, &error))?;
            let policy = self.policy_of(told.policy.as_deref().or(cases.policy.as_deref()))?;
            let (policy, hit) =
                covered.entry(policy.version().to_string()).or_insert_with(|| (policy, BTreeSet::new()));
            for case in cases.cases {
                let decision = decide(&case.subject(policy), policy);
                hit.insert(decision.rule.to_string());
                let wrong = wrong(&case, &decision);
                ran.push(Ran { file: shown(path), case, decision, wrong });
            }
        }
        let idle: Vec<(String, String)> = covered
            .iter()
            .flat_map(|(digest, (policy, hit))| {
                let left = policy.rules().iter().filter(|rule| !hit.contains(&*rule.id));
                left.map(|rule| (digest.clone(), rule.id.to_string()))
            })
            .collect();
        let rules: usize = covered.values().map(|(policy, _)| policy.rules().len()).sum();
        let failed = ran.iter().filter(|ran| !ran.wrong.is_empty()).count();
        match self.output {
            Output::Json => self.console.json(&serde_json::json!({
                "policies": covered.keys().collect::<Vec<_>>(),
                "cases": ran.iter().map(as_json).collect::<Vec<_>>(),
                "failed": failed,
                "rules": rules,
                "uncovered": idle.iter().map(|(policy, rule)| serde_json::json!({ "policy": policy, "rule": rule }))
                    .collect::<Vec<_>>(),
            }))?,
            Output::Name => {
                ran.iter().filter(|ran| !ran.wrong.is_empty()).for_each(|ran| self.console.out(&ran.case.name));
            }
            Output::Table => {
                self.console.table(&["RESULT", "CASE", "SAID"], &ran.iter().map(row).collect::<Vec<_>>());
                for one in ran.iter().filter(|ran| !ran.wrong.is_empty()) {
                    let place = format!("{}:{}", one.file, one.case.line);
                    self.console.out(format!("{FAILED} {place}: {}: {}", one.case.name, one.wrong.join("; ")));
                }
                let hit = rules.saturating_sub(idle.len());
                self.console.out(format!(
                    "{} of {} cases as expected; {hit} of {rules} rules decide one",
                    ran.len().saturating_sub(failed),
                    ran.len()
                ));
                if told.coverage {
                    idle.iter()
                        .for_each(|(_, rule)| self.console.out(format!("{NOT_COVERED} no case is decided by {rule}")));
                }
            }
        }
        Ok(if failed > 0 || (told.coverage && !idle.is_empty()) { Exit::Failed } else { Exit::Ok })
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// What is not as expected, in words.
fn wrong(case: &Case, decision: &Decision) -> Vec<String> {
    let mut out = Vec::new();
    let mut differ = |what: &str, expected: Option<String>, seen: String| {
        if let Some(expected) = expected.filter(|expected| *expected != seen) {
            out.push(format!("{what} is {seen}, expected {expected}"));
        }
    };
    let expect = &case.expect;
    differ("the lane", expect.lane.map(|l| l.as_str().to_owned()), decision.verdict.lane().as_str().to_owned());
    differ("the rule", expect.rule.clone(), rule_name(decision).to_owned());
    differ("the tier", expect.tier.map(|t| t.to_string()), decision.tier.to_string());
    differ("the number of persons", expect.persons.map(|n| n.to_string()), decision.quorum.persons().to_string());
    differ("the quorum", expect.quorum.clone(), decision.quorum.to_string());
    out
}

/// The rule; defaults are called by one name.
pub(super) fn rule_name(decision: &Decision) -> &str {
    if decision.rule.contains(": ") { DEFAULT } else { &decision.rule }
}

fn row(ran: &Ran) -> Vec<Cell> {
    let result = if ran.wrong.is_empty() { Cell("ok".into(), Tone::Good) } else { Cell("FAILED".into(), Tone::Bad) };
    let said =
        format!("{} (tier {}, {})", ran.decision.verdict.lane().as_str(), ran.decision.tier, rule_name(&ran.decision));
    vec![result, ran.case.name.clone().into(), said.into()]
}

fn as_json(ran: &Ran) -> serde_json::Value {
    serde_json::json!({
        "file": ran.file,
        "line": ran.case.line,
        "name": ran.case.name,
        "ok": ran.wrong.is_empty(),
        "wrong": ran.wrong,
        "lane": ran.decision.verdict.lane().as_str(),
        "rule": rule_name(&ran.decision),
        "tier": ran.decision.tier.level(),
        "persons": ran.decision.quorum.persons(),
        "inputs": ran.decision.inputs.to_string(),
    })
}
