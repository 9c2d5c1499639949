//! Policy as files of its own: `policy.toml`, `contract.toml`, and tables of cases. Anybody's CI can read them: nothing else
//! of the configuration is needed.

use std::path::{Path, PathBuf};

use super::validate;
use super::{ConfigError, read};
use crate::domain::policy::{Contract, Lane, Policy, Subject, Tier};

/// A file of policy is at most this long: a thousand rules of 250 bytes each fit four times.
pub const LONGEST_POLICY: usize = 1_024 * 1_024;

/// Cases of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cases {
    /// The policy that they are about, if the file names one.
    pub policy: Option<PathBuf>,
    /// In the order of the file.
    pub cases: Vec<Case>,
}

/// One case: a subject, and what is expected of policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// In which line it begins.
    pub line: usize,
    /// The subject's labels.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Its owner.
    pub owner: Option<String>,
    /// When; in the zone of the policy.
    pub at: Option<crate::domain::time::Timestamp>,
    /// The rest of the subject; labels, owner and time stand above.
    pub subject: Subject<'static>,
    /// What is expected.
    pub expect: Expect,
}

impl Case {
    /// As policy sees it.
    #[must_use]
    pub fn subject(&self, policy: &Policy) -> Subject<'_> {
        let local = self.at.and_then(|at| policy.local(at));
        Subject { labels: &self.labels, owner: self.owner.as_deref(), local, ..self.subject }
    }
}

/// What is expected; what is `None` may be anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// The lane.
    pub lane: Option<Lane>,
    /// The rule; `default` is what holds where no rule matches.
    pub rule: Option<String>,
    /// The tier.
    pub tier: Option<Tier>,
    /// The fewest persons who can approve.
    pub persons: Option<u8>,
    /// The quorum in words.
    pub quorum: Option<String>,
}

/// Reads a policy.
///
/// # Errors
/// Every problem found, as one report.
pub fn load_policy(path: &Path) -> Result<Policy, ConfigError> {
    load(path, parse_policy)
}

/// The same of a text.
///
/// # Errors
/// Every problem found, as one report.
pub fn parse_policy(source_name: &str, text: &str) -> Result<Policy, ConfigError> {
    validate::another(source_name, text, validate::read_policy_file)
}

/// Reads a contract, and holds it against the policy.
///
/// # Errors
/// Every problem found, as one report: also every promise that the policy does not keep.
pub fn load_contract(path: &Path, policy: &Policy) -> Result<Contract, ConfigError> {
    load(path, |name, text| parse_contract(name, text, policy))
}

/// The same of a text.
///
/// # Errors
/// Every problem found, as one report: also every promise that the policy does not keep.
pub fn parse_contract(source_name: &str, text: &str, policy: &Policy) -> Result<Contract, ConfigError> {
    validate::another(source_name, text, |p, root| {
        let written = validate::read_contract(p, root)?;
        validate::judge_contract(p, &written, policy);
        Some(written.contract)
    })
}

/// Reads a table of cases. The policy that it names lies beside it.
///
/// # Errors
/// Every problem found, as one report.
pub fn load_cases(path: &Path) -> Result<Cases, ConfigError> {
    let mut cases = load(path, parse_cases)?;
    let beside = path.parent().unwrap_or(Path::new(""));
    cases.policy = cases.policy.map(|policy| beside.join(policy));
    Ok(cases)
}

/// The same of a text.
///
/// # Errors
/// Every problem found, as one report.
pub fn parse_cases(source_name: &str, text: &str) -> Result<Cases, ConfigError> {
    validate::another(source_name, text, |p, root| validate::read_cases(p, root, text))
}

fn load<T>(path: &Path, parse: impl FnOnce(&str, &str) -> Result<T, ConfigError>) -> Result<T, ConfigError> {
    let name = path.display().to_string();
    let mend = "name a readable file; docs/policy.md shows one of each kind";
    let text = read(path, LONGEST_POLICY).map_err(|what| ConfigError::unread("KW5020", &name, what, mend))?;
    parse(&name, &text)
}
