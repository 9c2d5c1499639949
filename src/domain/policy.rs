//! Policy: which lane an action goes, who has to approve it, and what decides so.
//!
//! ```text
//! subject ─► tier (a sum) ─► rules (the first that matches) ─► floor ─► quorum ─► Decision ─► Leave
//! ```
//! Every action of a plan passes [`decide`]. What is not known never makes anything easier; a policy file in which no rule
//! matches lets nothing go by itself. Refuses to know who approves: that is the sign-off's business; here an action only
//! learns whether it may go by itself, has to wait for whom, or is forbidden.

mod act;
mod compare;
mod contract;
mod decide;
mod explain;
pub mod floor;
mod ground;
mod quorum;
mod remark;
mod rule;
mod subject;
mod tier;
mod when;

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

pub use self::act::{Act, Lane, Nature, Tier, Undo};
pub use self::compare::{Change, Course, compare};
pub use self::contract::{Breach, BreachKind, Contract, Promise, WhenNobody, WhileWaiting, Witness};
pub use self::decide::{Decision, Judged, Leave, Verdict, Withheld, decide, judge};
pub use self::explain::{Explanation, Floor, Part, RuleTold, explain};
pub use self::ground::{Example, Ground, MOST_EXAMPLES, TooMany};
pub use self::quorum::{Duties, Duty, MOST_PERSONS, Need, Quorum, Says, Short, Voice, standing};
pub use self::remark::Remark;
pub use self::rule::{Answer, Conditions, Range, Rule};
pub use self::subject::{History, Subject};
pub use self::tier::{PRODUCTION, RESTRICTED, Weight, tier, weights};
pub use self::when::{Calendar, Date, DayKind, Hours, Local, Period, WEEKDAYS, Weekly};

use self::rule::Facts;
use crate::domain::id::{CredentialId, PathId};
use crate::domain::json::Json;
use crate::domain::key::Digest;
use crate::domain::time::{DAY, Timestamp};

/// Over which path actions on a credential are approved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// The path that has to be open for it.
    pub over: PathId,
    /// The way for the day on which it cannot be.
    pub repair: Option<Repair>,
}

/// How something is approved when its usual path is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// On the command line, by signatures that need no TLS and no portal.
    Cli,
    /// Over another path.
    Over(PathId),
}

impl Approval {
    fn to_json(&self) -> Json {
        let repair = self.repair.as_ref().map(|r| match r {
            Repair::Cli => Json::str("cli"),
            Repair::Over(path) => Json::str(format!("path {path}")),
        });
        Json::obj([("over", Json::str(self.over.to_string())), ("repair", Json::opt(repair))])
    }
}

/// What holds where no rule matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Otherwise {
    /// What the configuration asks for by name is routine; the rest waits. Only without a policy file.
    #[default]
    Routine,
    /// It waits.
    Review,
    /// It is refused.
    Prohibit,
}

/// What a policy file says besides its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its own name for this state of it.
    pub revision: Option<Arc<str>>,
    /// Where no rule matches.
    pub otherwise: Otherwise,
    /// When people are at work.
    pub calendar: Option<Calendar>,
    /// What rules may name.
    pub periods: BTreeMap<Arc<str>, Period>,
    /// What counts as recent.
    pub recent: Duration,
    /// More approvals than the tier asks for.
    pub needs: Vec<TierNeed>,
    /// What was promised to those who rely on it.
    pub contract: Option<Arc<Contract>>,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            revision: None,
            otherwise: Otherwise::Routine,
            calendar: None,
            periods: BTreeMap::new(),
            recent: RECENT,
            needs: Vec::new(),
            contract: None,
        }
    }
}

/// What counts as recent unless a policy says otherwise: what failed yesterday was probably seen by the same people.
pub const RECENT: Duration = DAY;

/// More approvals for a tier and all above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierNeed {
    /// From this tier on.
    pub min_tier: Tier,
    /// Only in these hours; unknown hours count too.
    pub hours: Option<Hours>,
    /// What.
    pub need: Need,
}

/// The rules in force, with their digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<Rule>,
    setting: Setting,
    version: Digest,
    /// The name of what holds where no rule does, shared by the decisions.
    default: Arc<str>,
    /// Of single credentials.
    approvals: BTreeMap<CredentialId, Approval>,
    /// Of all others that wait for a person.
    usual: Option<Approval>,
}

impl Default for Policy {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Policy {
    /// From rules in order, and nothing else: what no rule matches is routine.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        Self::with_setting(rules, Setting::default())
    }

    /// From a policy file.
    #[must_use]
    pub fn with_setting(rules: Vec<Rule>, setting: Setting) -> Self {
        let default = match setting.otherwise {
            Otherwise::Routine => DEFAULT_RULE,
            Otherwise::Review => DEFAULT_REVIEW,
            Otherwise::Prohibit => DEFAULT_PROHIBIT,
        };
        let mut made = Self {
            rules,
            setting,
            version: Digest::of(&[]),
            default: Arc::from(default),
            approvals: BTreeMap::new(),
            usual: None,
        };
        made.version = made.digest();
        made
    }

    /// With the paths over which actions are approved. Without any of them the version stays that of the rules.
    #[must_use]
    pub fn with_approvals(self, approvals: BTreeMap<CredentialId, Approval>, usual: Option<Approval>) -> Self {
        let mut made = Self { approvals, usual, ..self };
        made.version = made.digest();
        made
    }

    /// With what was promised.
    #[must_use]
    pub fn with_contract(mut self, contract: Option<Arc<Contract>>) -> Self {
        self.setting.contract = contract;
        self.version = self.digest();
        self
    }

    /// Over what was said, not over how it was written: comments, white space and the order of keys do not matter. What a
    /// file does not say is left out, so that what a later version could say changes no digest.
    fn digest(&self) -> Digest {
        let rules = Json::arr(self.rules.iter().map(Rule::to_json));
        let bare = self.approvals.is_empty() && self.usual.is_none();
        if self.setting == Setting::default() && bare {
            return Digest::of(&rules.canonical());
        }
        let own = self.approvals.iter().map(|(id, a)| Json::arr([Json::str(id.to_string()), a.to_json()]));
        let pairs = [
            ("rules", rules),
            ("approvals", if bare { Json::Null } else { Json::arr(own) }),
            ("usual", Json::opt(self.usual.as_ref().map(Approval::to_json))),
            ("setting", if self.setting == Setting::default() { Json::Null } else { self.setting.to_json() }),
        ];
        Digest::of(&Json::obj(pairs).canonical())
    }

    /// Over which path actions on this credential are approved, if it says so itself.
    #[must_use]
    pub fn approval(&self, id: &CredentialId) -> Option<&Approval> {
        self.approvals.get(id)
    }

    /// The same for every other credential on which an action waits for a person.
    #[must_use]
    pub fn usual_approval(&self) -> Option<&Approval> {
        self.usual.as_ref()
    }

    /// Digest of everything that decides: it stands in every decision.
    #[must_use]
    pub fn version(&self) -> Digest {
        self.version
    }

    /// The rules in order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What it says besides.
    #[must_use]
    pub fn setting(&self) -> &Setting {
        &self.setting
    }

    /// What holds where no rule matches.
    #[must_use]
    pub fn otherwise(&self) -> Otherwise {
        self.setting.otherwise
    }

    /// The local time that it goes by; `None` where it knows no place.
    #[must_use]
    pub fn local(&self, at: Timestamp) -> Option<Local> {
        self.setting.calendar.as_ref().and_then(|calendar| calendar.local(at))
    }

    fn default_name(&self) -> &Arc<str> {
        &self.default
    }

    fn facts<'a>(&'a self, subject: &'a Subject<'a>, tier: Tier) -> Facts<'a> {
        let hours = self.setting.calendar.as_ref().zip(subject.local.as_ref()).map(|(c, local)| c.hours(local));
        Facts { subject, tier, hours, periods: &self.setting.periods }
    }

    fn added_needs(&self, tier: Tier, hours: Option<Hours>) -> impl Iterator<Item = &Need> {
        let applies = move |added: &&TierNeed| {
            tier >= added.min_tier && added.hours.is_none_or(|wanted| hours.is_none_or(|hours| hours == wanted))
        };
        self.setting.needs.iter().filter(applies).map(|added| &added.need)
    }
}

impl Setting {
    fn to_json(&self) -> Json {
        let periods = self.periods.iter().map(|(name, p)| Json::arr([Json::shared(name.clone()), p.to_json()]));
        let needs = self.needs.iter().map(|added| {
            Json::obj([
                ("hours", Json::opt(added.hours.map(|hours| Json::str(hours.as_str())))),
                ("min_tier", Json::Int(i64::from(added.min_tier.level()))),
                ("need", added.need.to_json()),
            ])
        });
        let otherwise = match self.otherwise {
            Otherwise::Routine => "routine",
            Otherwise::Review => "review-required",
            Otherwise::Prohibit => "prohibited",
        };
        Json::obj([
            ("calendar", Json::opt(self.calendar.as_ref().map(Calendar::to_json))),
            ("contract", Json::opt(self.contract.as_ref().map(|c| Json::Hash(c.digest())))),
            ("default", Json::str(otherwise)),
            ("needs", Json::arr(needs)),
            ("periods", Json::arr(periods)),
            ("recent", Json::Int(i64::try_from(self.recent.as_secs()).unwrap_or(i64::MAX))),
            ("revision", Json::opt(self.revision.clone().map(Json::shared))),
        ])
    }
}

/// How the names of defaults begin; no rule's id has a colon.
const DEFAULT: &str = "default: ";
/// The name of the rule that holds where no configured rule matches: what the configuration asks for by name is routine.
pub const DEFAULT_RULE: &str = "default: what the configuration names is routine";
/// The same where a policy file says `default = "review-required"`.
pub const DEFAULT_REVIEW: &str = "default: what no rule matches waits for a person";
/// The same where a policy file says nothing.
pub const DEFAULT_PROHIBIT: &str = "default: what no rule matches is prohibited";

#[cfg(test)]
mod tests;
