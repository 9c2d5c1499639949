//! `[policy]`: rules in the configuration, or the files in which they stand.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::policy_file::set;
use super::{Ids, certificate};
use crate::domain::id::PathId;
use crate::domain::key::Digest;
use crate::domain::policy::{Act, Conditions, Lane, Otherwise, Policy, Range, Rule, Setting, Tier};
use crate::shell::config::diagnostic::{ConfigError, Problems, quoted};
use crate::shell::config::policy::{load_contract, load_policy};
use crate::shell::config::raw::{At, Section, Wrong};

/// More rules than these nobody reads.
pub(super) const MOST_RULES: usize = 1_000;

/// The files that a configuration names.
#[derive(Debug)]
pub(super) struct Files<'a> {
    beside: Option<&'a Path>,
    /// What was read of them.
    read: Vec<Digest>,
    /// What is wrong in them.
    pub(super) errors: Vec<ConfigError>,
}

impl<'a> Files<'a> {
    pub(super) fn new(beside: Option<&'a Path>) -> Self {
        Self { beside, read: Vec::new(), errors: Vec::new() }
    }

    /// Digest of everything that was read, so that a change in any file is news.
    pub(super) fn digest(&self, text: &str) -> Digest {
        let own = Digest::of(text.as_bytes());
        if self.read.is_empty() {
            return own;
        }
        let all: Vec<u8> = core::iter::once(&own).chain(&self.read).flat_map(Digest::hex).collect();
        Digest::of(&all)
    }

    /// Reads one of them; its problems are shown in their own places.
    fn read<T>(
        &mut self,
        p: &mut Problems,
        name: &At<String>,
        load: impl FnOnce(&Path) -> Result<T, ConfigError>,
        digest: impl FnOnce(&T) -> Digest,
    ) -> Option<T> {
        let Some(beside) = self.beside else {
            let what = format!("{} cannot be read: this configuration is no file", quoted(&name.value));
            p.add("KW5020", &name.span, what, "beside what?", "write the configuration to a file, and name that");
            return None;
        };
        let path: PathBuf = beside.join(&name.value);
        match load(&path) {
            Ok(made) => {
                self.read.push(digest(&made));
                Some(made)
            }
            Err(error) => {
                self.errors.push(error);
                None
            }
        }
    }
}

/// The rules, and over which path whatever waits for a person is approved.
pub(super) fn read<'a>(
    p: &mut Problems,
    root: &mut Section<'a>,
    files: &mut Files<'_>,
) -> (Policy, Option<super::graph::Written<'a>>) {
    let Some(mut s) = root.section(p, "policy", "[policy]") else { return (Policy::default(), None) };
    let approval = super::graph::read(p, &mut s);
    let file = s.parsed(p, "file", "\"policy.toml\"", file_name);
    let contract = s.parsed(p, "contract", "\"contract.toml\"", file_name);
    if file.is_some() && s.has("rule") {
        let mend = "move the rules into the file, or remove `file`: rules in two places hide each other";
        p.add("KW5021", &s.key_span("rule"), "rules stand here and in a file", "these or those", mend);
    }
    let inline = rules(p, &mut s);
    s.close(p);
    let policy = match &file {
        Some(file) => files.read(p, file, load_policy, Policy::version).unwrap_or_else(nothing),
        None => Policy::new(inline),
    };
    // A promise about a policy that could not be read would only be reported as broken.
    let whole = files.errors.is_empty();
    let contract = contract.filter(|_| whole).and_then(|contract| {
        files.read(p, &contract, |path| load_contract(path, &policy), crate::domain::policy::Contract::digest)
    });
    (policy.with_contract(contract.map(Arc::new)), approval)
}

/// Stands in for a policy that cannot be read; the configuration is refused with it.
fn nothing() -> Policy {
    Policy::with_setting(Vec::new(), Setting { otherwise: Otherwise::Prohibit, ..Setting::default() })
}

fn file_name(text: &str) -> Result<String, Wrong> {
    if text.is_empty() {
        return Err(Wrong::new("KW0017", "is empty", "name a file, from the root or beside this one: \"policy.toml\""));
    }
    Ok(text.to_owned())
}

/// The rules of the configuration itself: acts, labels, a least tier, a lane.
fn rules(p: &mut Problems, policy: &mut Section<'_>) -> Vec<Rule> {
    let mut ids = Ids::default();
    let mut rules = Vec::new();
    for mut s in policy.sections(p, "rule", "[[policy.rule]]", MOST_RULES) {
        // Rules share the shape of ids, so that audit entries and metrics can hold them.
        let id = ids.read(p, &mut s, "\"no-reissue-in-prod\"", |t| PathId::parse(t).map(|id| id.to_string()));
        let acts = set(p, &mut s, "actions", &Act::ALL);
        let labels = certificate::labels(p, &mut s);
        let tier = s.number(p, "min_tier", 0..=u32::from(Tier::HIGHEST.level()));
        if !s.has("lane") {
            s.missing(p, "lane", "\"review-required\"");
        }
        let lane = s.word(p, "lane", &Lane::ALL);
        s.close(p);
        if let (Some(id), Some(lane)) = (id, lane) {
            rules.push(Rule {
                id: Arc::from(id.value),
                acts,
                when: Conditions { labels, tier: Range::from(tier.map_or(0, |t| t.value)), ..Conditions::default() },
                lane: lane.value,
                need: None,
            });
        }
    }
    rules
}
