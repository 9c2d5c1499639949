//! One DNS question, one believable answer: over UDP, and over TCP if it was cut short.

use core::fmt::Write as _;
use core::time::Duration;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name as DnsName, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use crate::ports::Entropy;

/// One question to one server: on the open Internet an answer takes at most some 300 ms, and a lost packet is asked
/// for again by the next poll.
pub(super) const QUESTION_TIME: Duration = Duration::from_secs(2);

/// What fits a packet on every path (the DNS flag day of 2020): answers above it come over TCP.
const UDP_PAYLOAD: u16 = 1_232;

/// The list of resolvers as the system has it.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Whether the server may ask others for us.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Recursion {
    Yes,
    No,
}

/// The way to DNS servers.
pub(super) struct Wire {
    resolver: Option<SocketAddr>,
    entropy: Arc<dyn Entropy>,
}

impl Wire {
    pub(super) fn new(resolver: Option<SocketAddr>, entropy: Arc<dyn Entropy>) -> Self {
        Self { resolver, entropy }
    }

    /// A random message id, the first half of what an attacker off the path has to guess; the source port is the other.
    pub(super) fn id(&self) -> u16 {
        let mut id = [0_u8; 2];
        self.entropy.fill(&mut id);
        u16::from_be_bytes(id)
    }

    /// Asks the configured resolver, or the system's in their order, each twice; NOERROR and NXDOMAIN are answers.
    pub(super) async fn resolve(&self, name: &DnsName, kind: RecordType) -> Result<Message, String> {
        let servers = match self.resolver {
            Some(server) => vec![server],
            None => system_resolvers().await?,
        };
        let mut failures = String::new();
        for server in servers.iter().chain(&servers) {
            let failure = match self.ask(*server, name, kind, Recursion::Yes).await {
                Ok(answer) if is_usable(answer.response_code) => return Ok(answer),
                Ok(answer) => rcode_text(answer.response_code),
                Err(e) => e,
            };
            let separator = if failures.is_empty() { "" } else { ", then " };
            if write!(failures, "{separator}resolver {server}: {failure}").is_err() {
                break;
            }
        }
        Err(failures)
    }

    /// Asks one server. Every answer to the question is `Ok`, whatever its response code.
    pub(super) async fn ask(
        &self,
        server: SocketAddr,
        name: &DnsName,
        kind: RecordType,
        recursion: Recursion,
    ) -> Result<Message, String> {
        let mut question = Message::new(self.id(), MessageType::Query, OpCode::Query);
        question.metadata.recursion_desired = recursion == Recursion::Yes;
        question.add_query(Query::query(name.clone(), kind));
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_PAYLOAD).set_version(0);
        question.set_edns(edns);
        let bytes = question.to_vec().map_err(|e| format!("the question cannot be written: {e}"))?;
        let answer = match tokio::time::timeout(QUESTION_TIME, over_udp(server, &bytes, &question)).await {
            Ok(Ok(answer)) if !answer.truncation => return Ok(answer),
            Ok(Ok(_)) => tokio::time::timeout(QUESTION_TIME, over_tcp(server, &bytes)).await,
            Ok(Err(e)) => return Err(io_text(&e)),
            Err(_) => return Err(no_answer()),
        };
        let bytes = answer.map_err(|_| no_answer())?.map_err(|e| io_text(&e))?;
        Message::from_vec(&bytes)
            .ok()
            .filter(|a| answers(a, &question))
            .ok_or_else(|| "its answer over TCP is malformed or to another question".to_owned())
    }
}

/// Sends `question` and waits for its answer; what is no answer to it (late, forged, malformed) is passed over.
async fn over_udp(server: SocketAddr, bytes: &[u8], question: &Message) -> io::Result<Message> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // A connected socket takes packets of this server only.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0_u8; 4_096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = buffer.get(..length).and_then(|b| Message::from_vec(b).ok());
        if let Some(answer) = answer.filter(|a| answers(a, question)) {
            return Ok(answer);
        }
    }
}

/// One message out and one in, each with its length before it (RFC 1035 section 4.2.2).
pub(super) async fn over_tcp(server: SocketAddr, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(bytes.len()).map_err(|_| io::Error::other("the message is longer than 65,535 bytes"))?;
    let mut stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let framed = [&length.to_be_bytes(), bytes].concat();
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0_u8; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// Whether a message answers this question: id, kind and the question itself.
fn answers(answer: &Message, question: &Message) -> bool {
    let same = |(a, q): (&Query, &Query)| a.name() == q.name() && a.query_type() == q.query_type();
    answer.id == question.id
        && answer.message_type == MessageType::Response
        && answer.queries.first().zip(question.queries.first()).is_some_and(same)
}

/// Whether a response code says something about the name, not about the server.
pub(super) fn is_usable(code: ResponseCode) -> bool {
    matches!(code, ResponseCode::NoError | ResponseCode::NXDomain)
}

/// A response code as operators know it.
pub(super) fn rcode_text(code: ResponseCode) -> String {
    format!("{code:?}").to_uppercase()
}

pub(super) fn no_answer() -> String {
    format!("no answer within {} s", QUESTION_TIME.as_secs())
}

pub(super) fn io_text(error: &io::Error) -> String {
    error.kind().to_string()
}

/// The name servers of the system's resolver configuration, at most three as resolv.conf(5) has it.
async fn system_resolvers() -> Result<Vec<SocketAddr>, String> {
    let text = tokio::fs::read_to_string(RESOLV_CONF)
        .await
        .map_err(|e| format!("{RESOLV_CONF} cannot be read ({e}); name a resolver in the solver's configuration"))?;
    let servers = name_servers(&text);
    if servers.is_empty() {
        return Err(format!("{RESOLV_CONF} names no server; name a resolver in the solver's configuration"));
    }
    Ok(servers)
}

fn name_servers(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        words.next().filter(|w| *w == "nameserver")?;
        words.next()?.parse::<IpAddr>().ok()
    };
    text.lines().filter_map(address).take(3).map(|ip| SocketAddr::new(ip, 53)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_resolvers_are_the_first_three_addresses() {
        let text = "# nameserver 192.0.2.9\nsearch a.example\nnameserver 192.0.2.1\nnameserver ::1 # here\n\
                    nameserver nonsense\nnameserver 192.0.2.3\nnameserver 192.0.2.4\noptions edns0\n";
        let expected: Vec<SocketAddr> =
            ["192.0.2.1:53", "[::1]:53", "192.0.2.3:53"].iter().map(|t| t.parse().unwrap()).collect();
        assert_eq!(name_servers(text), expected);
        assert_eq!(name_servers(""), []);
    }
}
