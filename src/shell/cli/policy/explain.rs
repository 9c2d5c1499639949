//! `keyward policy explain`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::args::Output;
use super::super::console::{Cell, Exit, Failure, Tone, wall_clock};
use super::super::{Done, Run};
use super::{Explain, exit};
use crate::domain::id::CredentialId;
use crate::domain::inventory::{Credential, Estate};
use crate::domain::policy::{
    Answer, Explanation, Floor, Hours, Lane, Part, Policy, RuleTold, Subject, Tier, Weight, explain,
};

impl Run {
    pub(super) fn policy_explain(&self, told: &Explain) -> Done {
        let (policy, estate) = match &told.policy {
            Some(_) => (self.policy_of(told.policy.as_deref())?, None),
            None => {
                let settings = self.settings()?;
                (settings.estate.policy.clone(), Some(settings.estate))
            }
        };
        let credential = match (&told.credential, &estate) {
            (Some(id), Some(estate)) => Some(known(id, estate)?),
            _ => None,
        };
        let mut labels: BTreeMap<String, String> = credential.map_or_else(BTreeMap::new, |c| c.labels.clone());
        labels.extend(told.labels.iter().cloned());
        let paths = credential.zip(estate.as_ref()).map_or(0, |(c, estate)| paths_on(estate, &c.id));
        let subject = Subject {
            services: told.services.unwrap_or_else(|| credential.map_or(0, |c| c.endpoints.len())),
            owner: told.owner.as_deref().or_else(|| credential.and_then(|c| c.owner.as_deref())),
            local: policy.local(told.at.unwrap_or_else(wall_clock)),
            failures: Some(told.failures),
            flaps: Some(told.flaps),
            incidents: Some(told.incidents),
            issuer: Some(told.issuer),
            tier: told.tier.map(Tier::new),
            ..Subject::new(told.action, &labels, told.paths.unwrap_or(paths))
        };
        let why = explain(&subject, &policy);
        let lane = why.decision.verdict.lane();
        match self.output {
            Output::Json => self.console.json(&as_json(&subject, &why))?,
            Output::Name => self.console.out(lane.as_str()),
            Output::Table => self.tell_policy(&subject, &policy, &why),
        }
        Ok(exit(lane))
    }

    fn tell_policy(&self, subject: &Subject<'_>, policy: &Policy, why: &Explanation) {
        let lane = why.decision.verdict.lane();
        let tone = match lane {
            Lane::Autonomous => Tone::Good,
            Lane::ReviewRequired => Tone::Warn,
            Lane::Prohibited => Tone::Bad,
        };
        self.console.out(format!("{subject} {}", self.console.paint(&why.sentence(), tone)));
        self.console.out("");
        let rows: Vec<Vec<Cell>> = why.rules.iter().map(row).collect();
        if rows.is_empty() {
            self.console.out("there are no rules");
        } else {
            self.console.table(&["", "RULE", "SAYS", "BECAUSE"], &rows);
        }
        self.console.out("");
        let sum = why.weights.iter().map(|w: &Weight| format!("{} ({}) {}", w.what, w.seen, w.tier));
        let floor = match why.floor {
            Floor::Free => "this action is not under it".to_owned(),
            Floor::Kept => "this action is under it, and the rules ask for as much".to_owned(),
            Floor::Raised => {
                format!("this action is under it: the rules said {}, which no rule can", why.ruled.as_str())
            }
        };
        let hours = match why.hours {
            Some(Hours::Business) => "business hours",
            Some(Hours::Off) => "out of business hours",
            None => "not known: it counts as out of business hours",
        };
        let contract = policy.setting().contract.as_ref().and_then(|c| c.promises.get(&subject.act));
        let promised = contract.map_or_else(String::new, |promise| {
            promise.lanes.iter().map(|lane| lane.as_str()).collect::<Vec<_>>().join(" or ")
        });
        self.console.pairs(&[
            ("tier", sum.collect::<Vec<_>>().join(" → ")),
            ("floor", floor),
            ("approvals", why.decision.quorum.to_string()),
            ("hours", hours.to_owned()),
            ("promised", promised),
            ("policy", why.decision.version.to_string()),
            ("inputs", why.decision.inputs.to_string()),
        ]);
    }
}

pub(super) fn paths_on(estate: &Estate, id: &CredentialId) -> usize {
    estate.paths.values().filter(|path| path.needs.contains(id)).count()
}

fn known<'a>(id: &str, estate: &'a Estate) -> Result<&'a Credential, Failure> {
    let found = CredentialId::parse(id).ok().and_then(|id| estate.credentials.get(&id));
    found.map(|credential| &**credential).ok_or_else(|| {
        let text = format!("the configuration has no credential {:?}", id.chars().take(80).collect::<String>());
        Failure::new(Exit::Failed, text, "see them all: keyward config explain")
    })
}

fn row(rule: &RuleTold) -> Vec<Cell> {
    let (mark, tone) = match rule.part {
        Part::Decided => ("→", Tone::Strong),
        Part::Weighed => ("?", Tone::Warn),
        Part::Passed | Part::After => (" ", Tone::Quiet),
    };
    let because = match (rule.part, rule.matches) {
        (Part::After, _) => "an earlier rule decided".to_owned(),
        (Part::Decided | Part::Weighed, Answer::Yes) => "everything that it asks for holds".to_owned(),
        _ => rule.against.iter().map(against).collect::<Vec<_>>().join("; "),
    };
    vec![
        Cell(mark.into(), tone),
        Cell(rule.id.to_string(), tone),
        Cell(rule.lane.as_str().into(), tone),
        because.into(),
    ]
}

fn against((name, wanted, seen): &(&'static str, String, String)) -> String {
    format!("{name}: wants {wanted}, sees {}", if seen.is_empty() { "none" } else { seen })
}

fn as_json(subject: &Subject<'_>, why: &Explanation) -> Value {
    let rules = why.rules.iter().map(|rule| {
        let against =
            rule.against.iter().map(|(name, wanted, seen)| json!({ "condition": name, "wants": wanted, "sees": seen }));
        json!({
            "id": &*rule.id,
            "lane": rule.lane.as_str(),
            "matches": match rule.matches {
                Answer::Yes => "yes",
                Answer::Unknown => "unknown",
                Answer::No => "no",
            },
            "part": match rule.part {
                Part::Decided => "decided",
                Part::Weighed => "weighed",
                Part::Passed => "passed",
                Part::After => "after",
            },
            "against": against.collect::<Vec<_>>(),
        })
    });
    let needs = why.decision.quorum.needs().iter().map(|need| {
        json!({ "persons": need.persons.max(need.groups), "groups": need.groups, "of": need.of.iter().map(|of| &**of).collect::<Vec<_>>() })
    });
    json!({
        "action": subject.act.as_str(),
        "lane": why.decision.verdict.lane().as_str(),
        "rule": &*why.decision.rule,
        "sentence": why.sentence(),
        "tier": why.decision.tier.level(),
        "weights": why.weights.iter().map(|w| json!({ "what": w.what, "seen": w.seen, "tier": w.tier.level() })).collect::<Vec<_>>(),
        "hours": why.hours.map(Hours::as_str),
        "local": subject.local.map(|local| local.to_string()),
        "floor": match why.floor {
            Floor::Free => "free",
            Floor::Kept => "kept",
            Floor::Raised => "raised",
        },
        "quorum": { "said": why.decision.quorum.to_string(), "persons": why.decision.quorum.persons(), "needs": needs.collect::<Vec<_>>() },
        "rules": rules.collect::<Vec<_>>(),
        "policy": why.decision.version.to_string(),
        "inputs": why.decision.inputs.to_string(),
    })
}
