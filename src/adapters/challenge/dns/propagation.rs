//! Waits until every authoritative server of a zone shows a value: a CA asks any of them, from several places.

use core::time::Duration;
use std::collections::BTreeSet;
use std::net::SocketAddr;

use futures_util::future::join_all;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name as DnsName, RData, RecordType};

use super::wire::{Recursion, Wire, rcode_text};
use super::{LOOKUP_TIME, Placed, zone_of};
use crate::adapters::challenge::{excerpt, failed};
use crate::domain::execution::Fault;
use crate::ports::{Clock, SolverError};

/// The first pause between two looks: an update is on the primary at once, on notified secondaries within milliseconds.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest: whoever needs a minute does not mind five seconds.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// What a deadline is if nothing is said.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(60);
/// The longest deadline: the slowest DNS hosters publish every ten minutes.
const LONGEST_DEADLINE: Duration = Duration::from_secs(600);
/// Name servers of one zone: the root has 13, other zones seldom more than 8.
const MOST_SERVERS: usize = 16;
/// Addresses of one name server.
const MOST_ADDRESSES: usize = 4;

/// How to see that a value is there.
#[derive(Clone, Debug)]
pub struct Propagation {
    /// Whether to look at all; without it a response counts as presented once it is written.
    pub check: bool,
    /// When to give up, at most ten minutes.
    pub deadline: Duration,
    /// The servers to look at, instead of the zone's own.
    pub servers: Option<Vec<SocketAddr>>,
    /// The resolver for aliases, zones and name servers, instead of the system's.
    pub resolver: Option<SocketAddr>,
    /// The port of name servers that are found by name: 53 everywhere but in a laboratory.
    pub port: u16,
}

impl Default for Propagation {
    fn default() -> Self {
        Self { check: true, deadline: DEFAULT_DEADLINE, servers: None, resolver: None, port: 53 }
    }
}

/// The checked settings.
pub(super) struct Watch(Propagation);

/// One name server with its addresses.
struct Server {
    name: String,
    addresses: Vec<SocketAddr>,
}

/// What one address showed.
enum Look {
    There,
    Missing(String),
    Silent(String),
}

impl Watch {
    pub(super) fn start(propagation: Propagation) -> Result<Self, String> {
        if propagation.deadline.is_zero() || propagation.deadline > LONGEST_DEADLINE {
            let (seen, most) = (propagation.deadline.as_secs(), LONGEST_DEADLINE.as_secs());
            return Err(format!("the propagation deadline is {seen} s; expected 1 to {most} s"));
        }
        if let Some(servers) = &propagation.servers
            && !(1..=MOST_SERVERS).contains(&servers.len())
        {
            return Err(format!("{} propagation servers; expected 1 to {MOST_SERVERS}, or none to ask", servers.len()));
        }
        Ok(Self(propagation))
    }

    /// Returns once every server shows the value.
    ///
    /// # Errors
    /// At the deadline, with what each server showed.
    pub(super) async fn until_seen(&self, wire: &Wire, clock: &dyn Clock, placed: &Placed) -> Result<(), SolverError> {
        if !self.0.check {
            return Ok(());
        }
        let began = clock.boottime();
        let found = tokio::time::timeout(LOOKUP_TIME, self.servers(wire, placed)).await;
        let servers = found.unwrap_or_else(|_| Err(format!("no answer within {} s", LOOKUP_TIME.as_secs())));
        let servers = servers.map_err(|e| {
            failed(Fault::Subject, format!("the name servers of {} were not found: {e}", placed.record))
        })?;
        let mut pause = FIRST_PAUSE;
        loop {
            let looks = join_all(servers.iter().map(|s| look_at(wire, s, placed))).await;
            if looks.iter().all(|looks| is_seen(looks)) {
                return Ok(());
            }
            let spent = clock.boottime().since(began);
            let Some(left) = self.0.deadline.checked_sub(spent).filter(|left| !left.is_zero()) else {
                return Err(failed(Fault::Subject, report(&servers, &looks, placed, spent)));
            };
            clock.sleep(pause.min(left)).await;
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }

    /// The configured servers, or those that the zone names.
    async fn servers(&self, wire: &Wire, placed: &Placed) -> Result<Vec<Server>, String> {
        if let Some(servers) = &self.0.servers {
            return Ok(servers.iter().map(|s| Server { name: String::new(), addresses: vec![*s] }).collect());
        }
        let zone = zone_of(wire, None, &placed.record).await?;
        let answer = wire.resolve(&zone, RecordType::NS).await?;
        let names: BTreeSet<DnsName> = answer
            .answers
            .iter()
            .filter(|r| r.name == zone)
            .filter_map(|r| if let RData::NS(target) = &r.data { Some(target.0.to_lowercase()) } else { None })
            .collect();
        if !(1..=MOST_SERVERS).contains(&names.len()) {
            return Err(format!("zone {zone} has {} NS records; expected 1 to {MOST_SERVERS}", names.len()));
        }
        let servers = join_all(names.iter().map(|name| self.server(wire, name))).await;
        servers.into_iter().collect()
    }

    async fn server(&self, wire: &Wire, name: &DnsName) -> Result<Server, String> {
        let mut addresses = BTreeSet::new();
        let mut failures = Vec::new();
        for kind in [RecordType::A, RecordType::AAAA] {
            match wire.resolve(name, kind).await {
                Ok(answer) => addresses.extend(answer.answers.iter().filter_map(|r| r.data.ip_addr())),
                Err(e) => failures.push(e),
            }
        }
        if addresses.is_empty() {
            let why = if failures.is_empty() { "it has none".to_owned() } else { failures.join(", ") };
            return Err(format!("name server {name} has no address that could be found: {why}"));
        }
        let addresses = addresses.into_iter().take(MOST_ADDRESSES).map(|ip| SocketAddr::new(ip, self.0.port)).collect();
        Ok(Server { name: name.to_string(), addresses })
    }
}

/// A server shows the value if one of its addresses does, and none answers without it. An address that cannot be
/// reached from here (IPv6 from a host without it) says nothing.
fn is_seen(looks: &[Look]) -> bool {
    looks.iter().any(|l| matches!(l, Look::There)) && !looks.iter().any(|l| matches!(l, Look::Missing(_)))
}

async fn look_at(wire: &Wire, server: &Server, placed: &Placed) -> Vec<Look> {
    join_all(server.addresses.iter().map(|address| look(wire, *address, placed))).await
}

async fn look(wire: &Wire, address: SocketAddr, placed: &Placed) -> Look {
    let answer = match wire.ask(address, &placed.record, RecordType::TXT, Recursion::No).await {
        Ok(answer) => answer,
        Err(e) => return Look::Silent(e),
    };
    let values: BTreeSet<Vec<u8>> = answer
        .answers
        .iter()
        .filter(|r| r.name == placed.record)
        .filter_map(|r| if let RData::TXT(txt) = &r.data { Some(txt.txt_data.concat()) } else { None })
        .collect();
    if values.contains(placed.value.as_bytes()) {
        return Look::There;
    }
    Look::Missing(match (answer.response_code, values.len()) {
        (ResponseCode::NXDomain, _) => "no such name (NXDOMAIN)".to_owned(),
        (ResponseCode::NoError, 0) => "no TXT record".to_owned(),
        (ResponseCode::NoError, count) => {
            let shown: Vec<_> = values.iter().take(3).map(|v| excerpt(&String::from_utf8_lossy(v), 64)).collect();
            format!("{}{}", shown.join(", "), if count > 3 { ", …" } else { "" })
        }
        (code, _) => rcode_text(code),
    })
}

fn report(servers: &[Server], looks: &[Vec<Look>], placed: &Placed, spent: Duration) -> String {
    let mut seen = Vec::new();
    for (server, looks) in servers.iter().zip(looks) {
        for (address, look) in server.addresses.iter().zip(looks) {
            let who = if server.name.is_empty() { address.to_string() } else { format!("{} ({address})", server.name) };
            seen.push(match look {
                Look::There => format!("{who} has it"),
                Look::Missing(what) => format!("{who} has {what}"),
                Look::Silent(why) => format!("{who} gives {why}"),
            });
        }
    }
    let (record, value) = (&placed.record, &placed.value);
    format!(
        "the TXT record {record} with the value \"{value}\" was expected on every authoritative server; after {} s {}; \
         look at the zone transfers to those without it, or raise the deadline",
        spent.as_secs(),
        seen.join(", ")
    )
}
