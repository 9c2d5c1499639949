//! dns-01 (RFC 8555 section 8.4): finds the record's place, has it written, and waits until every authoritative server
//! shows it.
//!
//! Several values stand under one name (a wildcard beside its base name, two orders at once): values are added to and
//! taken from the set, never put in its place.

pub mod propagation;
pub mod rfc2136;
mod wire;

use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;

use hickory_proto::rr::{Name as DnsName, RData, RecordType};

pub use self::propagation::Propagation;
use self::propagation::Watch;
pub use self::rfc2136::{Rfc2136, Tsig, TsigAlgorithm};
use self::wire::{Recursion, Wire, rcode_text};
use super::exec::{Exec, Hook};
use super::webhook::{Webhook, WebhookConfig};
use super::{Presented, failed, txt_value};
use crate::domain::execution::Fault;
use crate::ports::{ChallengeTask, Clock, Entropy, SolverError};

/// Aliases followed from one name. Delegations have one, seldom two; resolvers stop at about this many, so a CA would too.
const MOST_ALIASES: usize = 8;

/// Finding the place of a record (aliases, zone) may ask several servers several times; more than this is a broken
/// resolver, and is told as such.
const LOOKUP_TIME: Duration = Duration::from_secs(30);

/// Who writes the record.
#[derive(Clone, Debug)]
pub enum Provider {
    /// DNS UPDATE to a server (RFC 2136).
    Rfc2136(Rfc2136),
    /// A command.
    Exec(Exec),
    /// A signed HTTP request.
    Webhook(WebhookConfig),
}

/// Whether `_acme-challenge.NAME` may be an alias (CNAME) into a zone that we may write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delegation {
    /// Write where the aliases end, as a CA follows them.
    #[default]
    Follow,
    /// Write at `_acme-challenge.NAME` itself, without asking.
    Ignore,
}

/// One value at one place.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    /// Where: fully qualified, after delegation.
    pub(super) record: DnsName,
    /// The value.
    pub(super) value: String,
}

enum Writer {
    Rfc2136(Rfc2136),
    Hook(Hook),
    Webhook(Box<Webhook>),
}

/// The solver.
pub(super) struct Dns01 {
    writer: Writer,
    watch: Watch,
    delegation: Delegation,
    wire: Wire,
    clock: Arc<dyn Clock>,
    table: Presented<Option<Placed>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Present,
    Cleanup,
}

impl Action {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Cleanup => "cleanup",
        }
    }
}

impl Dns01 {
    pub(super) fn start(
        provider: Provider,
        propagation: Propagation,
        delegation: Delegation,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, String> {
        let wire = Wire::new(propagation.resolver, entropy.clone());
        let writer = match provider {
            Provider::Rfc2136(rfc2136) => {
                rfc2136.check()?;
                Writer::Rfc2136(rfc2136)
            }
            Provider::Exec(exec) => Writer::Hook(Hook::start(exec)?),
            Provider::Webhook(config) => Writer::Webhook(Box::new(Webhook::start(config, clock.clone(), entropy)?)),
        };
        let watch = Watch::start(propagation)?;
        Ok(Self { writer, watch, delegation, wire, clock, table: Presented::new() })
    }

    pub(super) async fn present(&self, task: &ChallengeTask) -> Result<(), SolverError> {
        // The place in the table is taken before anything is written, so that the bound holds.
        self.table.insert(task, None)?;
        let placed = Placed { record: self.place(task).await?, value: txt_value(task) };
        self.table.insert(task, Some(placed.clone()))?;
        self.write(Action::Present, task, &placed).await?;
        self.watch.until_seen(&self.wire, &*self.clock, &placed).await
    }

    pub(super) async fn cleanup(&self, task: &ChallengeTask) -> Result<(), SolverError> {
        // What was presented before a restart is not in the table, and is removed all the same: the value is made of
        // our account's key, so it is nobody else's.
        let placed = match self.table.remove(task).flatten() {
            Some(placed) => placed,
            None => Placed { record: self.place(task).await?, value: txt_value(task) },
        };
        self.write(Action::Cleanup, task, &placed).await
    }

    async fn write(&self, action: Action, task: &ChallengeTask, placed: &Placed) -> Result<(), SolverError> {
        let written = match &self.writer {
            Writer::Rfc2136(rfc2136) => rfc2136.write(action, placed, &self.wire, &*self.clock).await,
            Writer::Hook(hook) => hook.run(action, task, placed).await,
            Writer::Webhook(webhook) => webhook.call(action, task, placed).await,
        };
        written.map_err(|e| {
            let (from, to) = (own_record(task), placed.record.to_ascii());
            if to.eq_ignore_ascii_case(&from) {
                return e;
            }
            // `*.example.com CNAME …` is an alias of _acme-challenge.www.example.com too, and meant for visitors.
            let hint = format!("{to} is where the aliases (CNAME) of {from} end; if a wildcard leads there, turn");
            failed(e.fault, format!("{}; {hint} delegation off for this solver", e.text))
        })
    }

    /// Where the record of a name stands.
    async fn place(&self, task: &ChallengeTask) -> Result<DnsName, SolverError> {
        let text = own_record(task);
        let name = DnsName::from_ascii(&text)
            .map_err(|e| failed(Fault::Ours, format!("{text} cannot be a DNS name: {e}; use http-01 for this name")))?;
        match self.delegation {
            Delegation::Ignore => Ok(name),
            Delegation::Follow => {
                let followed = tokio::time::timeout(LOOKUP_TIME, follow(&self.wire, name)).await;
                followed.unwrap_or_else(|_| {
                    let span = LOOKUP_TIME.as_secs();
                    Err(failed(Fault::Network, format!("the aliases of {text} could not be looked up in {span} s")))
                })
            }
        }
    }
}

/// Where a name's record stands if no alias leads away (RFC 8555 section 8.4).
fn own_record(task: &ChallengeTask) -> String {
    format!("_acme-challenge.{}.", task.name)
}

/// Follows the aliases of a name to their end.
async fn follow(wire: &Wire, name: DnsName) -> Result<DnsName, SolverError> {
    let mut chain = vec![name];
    while let Some(at) = chain.last().cloned() {
        let answer = wire.resolve(&at, RecordType::CNAME).await.map_err(|e| {
            failed(Fault::Network, format!("whether {at} is an alias (CNAME) could not be looked up: {e}"))
        })?;
        let mut own = answer.answers.iter().filter(|r| r.name == at);
        let target = own.find_map(|r| if let RData::CNAME(target) = &r.data { Some(target.0.clone()) } else { None });
        let Some(target) = target else { return Ok(at) };
        let shown = || chain.iter().chain([&target]).map(ToString::to_string).collect::<Vec<_>>().join(" → ");
        if chain.contains(&target) {
            return Err(failed(Fault::Subject, format!("the aliases (CNAME) {} are a loop; break it", shown())));
        }
        if chain.len() > MOST_ALIASES {
            let text = format!("the aliases (CNAME) {} are more than {MOST_ALIASES}; shorten them", shown());
            return Err(failed(Fault::Subject, text));
        }
        chain.push(target);
    }
    Err(failed(Fault::Ours, "there is no name to follow".to_owned()))
}

/// Finds the zone that holds a name, by asking for the SOA of the name and of each name above it.
///
/// # Errors
/// What the server said, and that it is not known which zone holds the name.
async fn zone_of(wire: &Wire, server: Option<SocketAddr>, name: &DnsName) -> Result<DnsName, String> {
    let mut at = name.clone();
    while !at.is_root() {
        let answer = match server {
            Some(server) => wire.ask(server, &at, RecordType::SOA, Recursion::No).await?,
            None => wire.resolve(&at, RecordType::SOA).await?,
        };
        let sections = answer.answers.iter().chain(&answer.authorities);
        let apex = sections.filter(|r| r.record_type() == RecordType::SOA).map(|r| &r.name).find(|n| n.zone_of(name));
        if let Some(apex) = apex.filter(|n| !n.is_root()) {
            return Ok(apex.clone());
        }
        if !wire::is_usable(answer.response_code) {
            return Err(format!("the SOA of {at} was answered with {}", rcode_text(answer.response_code)));
        }
        // A referral: the server knows the parent only, so the zone above, which it has, is not the one.
        if answer.authorities.iter().any(|r| r.record_type() == RecordType::NS) {
            return Err(format!("it refers to other servers for {at}, and holds only a zone above it"));
        }
        at = at.base_name();
    }
    Err(format!("no zone holds {name}: neither it nor a name above it has an SOA record"))
}
