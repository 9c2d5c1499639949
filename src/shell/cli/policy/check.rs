//! `keyward policy check`.

use std::path::Path;

use super::super::args::Output;
use super::super::console::{Exit, Tone};
use super::super::{Done, Run};
use crate::domain::policy::{Act, Policy, Remark};
use crate::shell::config;

/// A rule would let an act of the floor go by itself.
const LOWERS_FLOOR: &str = "KW5032";
/// A rule decides nothing.
const IDLE: &str = "KW5033";
/// There is no rule.
const EMPTY: &str = "KW5034";
/// Too much to look at.
const TOO_MANY: &str = "KW5031";

impl Run {
    pub(super) fn policy_check(&self, file: Option<&Path>, contract: Option<&Path>) -> Done {
        let policy = self.policy_of(file)?;
        let contract = match contract {
            Some(path) => {
                let read = config::load_contract(path, &policy).map_err(|error| self.unusable(path, &error))?;
                Some(std::sync::Arc::new(read))
            }
            None => policy.setting().contract.clone(),
        };
        let remarks: Vec<(&str, String)> = policy.remarks().iter().map(|remark| told(remark, &policy)).collect();
        match self.output {
            Output::Json => {
                let warnings = remarks.iter().map(|(code, text)| serde_json::json!({ "code": code, "text": text }));
                self.console.json(&serde_json::json!({
                    "digest": policy.version().to_string(),
                    "revision": policy.setting().revision.as_deref(),
                    "rules": policy.rules().len(),
                    "contract": contract.as_ref().map(|c| c.digest().to_string()),
                    "warnings": warnings.collect::<Vec<_>>(),
                }))?;
            }
            Output::Name => remarks.iter().for_each(|(code, _)| self.console.out(code)),
            Output::Table => {
                let rules = match policy.rules().len() {
                    1 => "1 rule".to_owned(),
                    n => format!("{n} rules"),
                };
                let kept = match &contract {
                    Some(contract) => format!("keeps all {} promises of its contract", contract.promises.len()),
                    None => "has no contract".to_owned(),
                };
                self.console.out(format!("policy {}: {rules}, {kept}", policy.version()));
                for (code, text) in &remarks {
                    self.console.out(format!("{} {code} {text}", self.console.paint("warning", Tone::Warn)));
                }
            }
        }
        Ok(if remarks.is_empty() { Exit::Ok } else { Exit::Warning })
    }
}

fn told(remark: &Remark, policy: &Policy) -> (&'static str, String) {
    match remark {
        Remark::LowersFloor { rule, acts, example } => {
            let names: Vec<&str> = acts.iter().map(|act| act.as_str()).collect();
            let first = acts.first().copied().unwrap_or(Act::Policy);
            let subject = example.subject(first);
            let quorum = crate::domain::policy::decide(&subject, policy).quorum;
            let text = format!(
                "{rule} would let {} go by itself; the floor does not: {subject} waits for {quorum}. Name the actions that it is for",
                names.join(", ")
            );
            (LOWERS_FLOOR, text)
        }
        Remark::Idle { rule } => (
            IDLE,
            format!("{rule} decides nothing: rules before it take everything, or its conditions exclude each other"),
        ),
        Remark::Empty => (EMPTY, "there is no rule, so everything is prohibited".to_owned()),
        Remark::TooMany { act, count } => {
            let text = format!(
                "{} tells {count} kinds of subject apart, too many to look at; it decides all the same",
                act.as_str()
            );
            (TOO_MANY, text)
        }
    }
}
