//! Writes a TXT value by DNS UPDATE (RFC 2136), signed with TSIG (RFC 8945).

use core::time::Duration;
use std::net::SocketAddr;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::tsig::{TsigAlgorithm as Algorithm, TsigError};
use hickory_proto::rr::{DNSClass, Name as DnsName, RData, Record, RecordType, TSigner};

use super::wire::{Wire, io_text, over_tcp, rcode_text};
use super::{Action, LOOKUP_TIME, Placed, zone_of};
use crate::adapters::challenge::{Secret, failed};
use crate::domain::execution::Fault;
use crate::ports::{Clock, SolverError};

/// One update, connection included. The server writes its journal before it answers, so more than for a question.
const UPDATE_TIME: Duration = Duration::from_secs(10);

/// How far the clocks may be apart, in seconds: what RFC 8945 section 10 recommends.
const FUDGE: u16 = 300;

/// Of a TSIG key: 128 bits is the least that RFC 8945 section 8 leaves room for in good conscience.
const LEAST_SECRET: usize = 16;

/// DNS UPDATE to a server.
#[derive(Clone, Debug)]
pub struct Rfc2136 {
    /// The primary server.
    pub server: SocketAddr,
    /// The zone to update; looked for if not given.
    pub zone: Option<String>,
    /// The key that signs; without one the server must trust our address.
    pub tsig: Option<Tsig>,
    /// Time to live of the record in seconds, 1 to 86,400.
    pub ttl: u32,
}

/// A TSIG key.
#[derive(Clone, Debug)]
pub struct Tsig {
    /// Its name, as the server knows it.
    pub name: String,
    /// Its algorithm.
    pub algorithm: TsigAlgorithm,
    /// Its secret, decoded.
    pub secret: Secret,
}

/// The algorithms that RFC 8945 section 6 recommends, and SHA-384 between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TsigAlgorithm {
    /// hmac-sha256.
    HmacSha256,
    /// hmac-sha384.
    HmacSha384,
    /// hmac-sha512.
    HmacSha512,
}

impl Rfc2136 {
    /// Checks the settings.
    pub(super) fn check(&self) -> Result<(), String> {
        if !(1..=86_400).contains(&self.ttl) {
            return Err(format!("ttl is {}; expected 1 to 86400 seconds", self.ttl));
        }
        if let Some(zone) = &self.zone {
            parse(zone).map_err(|e| format!("zone {zone:?} is no DNS name: {e}"))?;
        }
        self.signer().map(drop)
    }

    fn signer(&self) -> Result<Option<TSigner>, String> {
        let Some(tsig) = &self.tsig else { return Ok(None) };
        if tsig.secret.bytes().len() < LEAST_SECRET {
            return Err(format!("the TSIG secret has {} bytes; expected {LEAST_SECRET}", tsig.secret.bytes().len()));
        }
        let name = parse(&tsig.name).map_err(|e| format!("TSIG key name {:?} is no DNS name: {e}", tsig.name))?;
        let algorithm = match tsig.algorithm {
            TsigAlgorithm::HmacSha256 => Algorithm::HmacSha256,
            TsigAlgorithm::HmacSha384 => Algorithm::HmacSha384,
            TsigAlgorithm::HmacSha512 => Algorithm::HmacSha512,
        };
        TSigner::new(tsig.secret.bytes().to_vec(), algorithm, name, FUDGE)
            .map(Some)
            .map_err(|e| format!("the TSIG key cannot be used: {e}"))
    }

    /// Adds the value to the record set, or takes it out; both may be repeated.
    pub(super) async fn write(
        &self,
        action: Action,
        placed: &Placed,
        wire: &Wire,
        clock: &dyn Clock,
    ) -> Result<(), SolverError> {
        let zone = self.zone(placed, wire).await?;
        let mut update = update(wire.id(), &zone, action, placed, self.ttl);
        let ours = |e: String| failed(Fault::Ours, e);
        let now = u64::try_from(clock.now().unix()).unwrap_or(0);
        let verifier = match self.signer().map_err(ours)? {
            Some(signer) => {
                update.finalize(&signer, now).map_err(|e| ours(format!("the update cannot be signed: {e}")))?
            }
            None => None,
        };
        let bytes = update.to_vec().map_err(|e| ours(format!("the update cannot be written: {e}")))?;
        // TCP from the start: an update is neither lost nor doubled on the way.
        let place = format!("DNS server {}", self.server);
        let answer = match tokio::time::timeout(UPDATE_TIME, over_tcp(self.server, &bytes)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(e)) => {
                return Err(failed(Fault::Network, format!("{place} cannot be updated over TCP: {}", io_text(&e))));
            }
            Err(_) => {
                let text = format!("{place} did not answer an update within {} s", UPDATE_TIME.as_secs());
                return Err(failed(Fault::Network, text));
            }
        };
        let parsed = Message::from_vec(&answer)
            .ok()
            .filter(|a| a.id == update.id && a.message_type == MessageType::Response && a.op_code == OpCode::Update)
            .ok_or_else(|| failed(Fault::Network, format!("{place} answered an update with something else")))?;
        // A refusal needs no signature: whoever forges one gains what a dropped packet gains.
        if parsed.response_code != ResponseCode::NoError {
            return Err(self.refusal(&parsed, &zone, placed));
        }
        // The verifier wants a message that parses, and that was seen above.
        if let Some(mut verifier) = verifier
            && let Err(e) = verifier.verify(&answer)
        {
            let text = format!("{place} said yes to an update, but not in the name of the TSIG key: {e}");
            return Err(failed(Fault::Network, text));
        }
        Ok(())
    }

    /// The zone to update.
    async fn zone(&self, placed: &Placed, wire: &Wire) -> Result<DnsName, SolverError> {
        let record = &placed.record;
        if let Some(text) = &self.zone {
            let zone = parse(text).map_err(|e| failed(Fault::Ours, format!("zone {text:?} is no DNS name: {e}")))?;
            if zone.zone_of(record) {
                return Ok(zone);
            }
            let text =
                format!("{record} is not in the configured zone {zone}; use another solver, or leave the zone out");
            return Err(failed(Fault::Ours, text));
        }
        let found = tokio::time::timeout(LOOKUP_TIME, async {
            // The server itself knows best, unless it does not answer plain questions.
            match zone_of(wire, Some(self.server), record).await {
                Ok(zone) => Ok(zone),
                Err(first) => zone_of(wire, None, record).await.map_err(|e| format!("{}: {first}; {e}", self.server)),
            }
        });
        found.await.unwrap_or_else(|_| Err(format!("no answer within {} s", LOOKUP_TIME.as_secs()))).map_err(|e| {
            let text = format!("the zone of {record} was not found: {e}; configure the zone if there is one");
            failed(Fault::Subject, text)
        })
    }

    fn refusal(&self, answer: &Message, zone: &DnsName, placed: &Placed) -> SolverError {
        let key = self.tsig.as_ref().map_or("no key", |t| &*t.name);
        let tsig_error = answer.signature().and_then(|s| s.data.error);
        let (code, hint) = match (answer.response_code, tsig_error) {
            (_, Some(TsigError::BadKey)) => ("BADKEY".to_owned(), "it does not know this key with this algorithm"),
            (_, Some(TsigError::BadSig)) => ("BADSIG".to_owned(), "it has another secret under this name"),
            (_, Some(TsigError::BadTime)) => ("BADTIME".to_owned(), "its clock and ours are more than 300 s apart"),
            (code @ (ResponseCode::NotAuth | ResponseCode::NotZone), _) => {
                (rcode_text(code), "it is not the primary of this zone, or wants another key")
            }
            (code @ ResponseCode::Refused, _) => {
                (rcode_text(code), "allow this key to update TXT records there (update-policy, ACL)")
            }
            (code, _) => (rcode_text(code), "see its log"),
        };
        let fault = if answer.response_code == ResponseCode::ServFail { Fault::Subject } else { Fault::Ours };
        let (server, record) = (self.server, &placed.record);
        let text = format!("DNS server {server} refused to update {record} in zone {zone} with {key}: {code}; {hint}");
        failed(fault, text)
    }
}

/// The update: one value more, or one less (RFC 2136 sections 2.5.1 and 2.5.4).
fn update(id: u16, zone: &DnsName, action: Action, placed: &Placed, ttl: u32) -> Message {
    let mut message = Message::new(id, MessageType::Query, OpCode::Update);
    message.add_query(Query::query(zone.clone(), RecordType::SOA));
    let txt = RData::TXT(TXT::new(vec![placed.value.clone()]));
    let mut record = Record::from_rdata(placed.record.clone(), ttl, txt);
    if action == Action::Cleanup {
        record.dns_class = DNSClass::NONE;
        record.ttl = 0;
    }
    // The update section stands where a query has its authority section.
    message.add_authority(record);
    message
}

/// A fully qualified name, with or without its final dot.
fn parse(text: &str) -> Result<DnsName, String> {
    let mut name = DnsName::from_ascii(text).map_err(|e| e.to_string())?;
    if name.is_root() || name.is_empty() {
        return Err("it is empty".to_owned());
    }
    name.set_fqdn(true);
    Ok(name)
}
