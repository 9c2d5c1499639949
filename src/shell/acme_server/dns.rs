//! Lookups at one name server: UDP first, TCP for truncated answers (RFC 1035, RFC 7766).

use core::str::FromStr as _;
use core::time::Duration;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::ports::Entropy;

/// Over UDP a question is asked this often, each time with this patience: within the deadline of a validation.
const ATTEMPTS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(2);
/// What fits through any network without fragments (DNS flag day 2020).
const PAYLOAD: u16 = 1_232;
/// How many other datagrams may arrive before the answer.
const MOST_STRAYS: usize = 16;

/// What a name holds.
pub(super) struct Records {
    /// TXT records, their strings joined.
    pub(super) texts: Vec<String>,
    /// Where a CNAME leads, without a final dot, if no TXT record came with it.
    pub(super) alias: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum DnsError {
    #[error("no name: {0}")]
    Name(String),
    #[error("the name server {0} cannot be asked: {1}")]
    Io(SocketAddr, io::Error),
    #[error("the name server {0} sent no answer")]
    Silent(SocketAddr),
    #[error("the name server answered {0}")]
    Refused(ResponseCode),
    #[error("the name server's answer cannot be read: {0}")]
    Unreadable(String),
}

/// Asks `server` for the TXT records of `name`. That there are none is an empty answer; a failure of the server is an
/// error.
pub(super) async fn lookup(server: SocketAddr, name: &str, entropy: &dyn Entropy) -> Result<Records, DnsError> {
    let (name, answer) = ask(server, name, RecordType::TXT, entropy).await?;
    Ok(follow(&answer, name))
}

/// Asks `server` for the addresses of `name`, IPv6 first, as a resolver gives them with the CNAMEs that lead there.
pub(super) async fn addresses(server: SocketAddr, name: &str, entropy: &dyn Entropy) -> Result<Vec<IpAddr>, DnsError> {
    let mut found = Vec::new();
    for kind in [RecordType::AAAA, RecordType::A] {
        let (_, answer) = ask(server, name, kind, entropy).await?;
        for record in &answer.answers {
            if let RData::A(a) = &record.data {
                found.push(IpAddr::V4(a.0));
            } else if let RData::AAAA(aaaa) = &record.data {
                found.push(IpAddr::V6(aaaa.0));
            }
        }
    }
    Ok(found)
}

async fn ask(
    server: SocketAddr,
    name: &str,
    kind: RecordType,
    entropy: &dyn Entropy,
) -> Result<(Name, Message), DnsError> {
    let mut name = Name::from_str(name).map_err(|e| DnsError::Name(e.to_string()))?;
    name.set_fqdn(true);
    let mut id = [0_u8; 2];
    entropy.fill(&mut id);
    let mut question = Message::new(u16::from_be_bytes(id), MessageType::Query, OpCode::Query);
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.clone(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    question.set_edns(edns);
    let mut answer = udp(server, &question).await?;
    if answer.metadata.truncation {
        let exchange = timeout(PATIENCE, tcp(server, &question)).await;
        answer = exchange.map_err(|_| DnsError::Silent(server))??;
    }
    let code = answer.metadata.response_code;
    if code == ResponseCode::NoError || code == ResponseCode::NXDomain {
        Ok((name, answer))
    } else {
        Err(DnsError::Refused(code))
    }
}

/// Follows the CNAMEs that came with the answer, as far as they go.
fn follow(answer: &Message, mut name: Name) -> Records {
    let asked = name.clone();
    for _ in 0..=answer.answers.len() {
        let here = || answer.answers.iter().filter(|r| r.name == name);
        let texts: Vec<String> = here()
            .filter_map(|r| if let RData::TXT(txt) = &r.data { Some(txt.txt_data.concat()) } else { None })
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .collect();
        if !texts.is_empty() {
            return Records { texts, alias: None };
        }
        match here().find_map(|r| if let RData::CNAME(to) = &r.data { Some(to.0.clone()) } else { None }) {
            Some(to) => name = to,
            None => break,
        }
    }
    let text = name.to_ascii().to_ascii_lowercase();
    let alias = (name != asked).then(|| text.trim_end_matches('.').to_owned());
    Records { texts: Vec::new(), alias }
}

/// Whether `answer` is one to `question`: same id, same question.
fn fits(answer: &Message, question: &Message) -> bool {
    answer.metadata.id == question.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.queries == question.queries
}

async fn udp(server: SocketAddr, question: &Message) -> Result<Message, DnsError> {
    let failed = |e| DnsError::Io(server, e);
    let bytes = question.to_vec().map_err(|e| DnsError::Name(e.to_string()))?;
    let any = if server.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    for _ in 0..ATTEMPTS {
        // A fresh port each time: a forger must guess it together with the id.
        let socket = UdpSocket::bind((any, 0)).await.map_err(failed)?;
        socket.connect(server).await.map_err(failed)?;
        socket.send(&bytes).await.map_err(failed)?;
        let listen = async {
            let mut buffer = vec![0_u8; usize::from(u16::MAX)];
            for _ in 0..MOST_STRAYS {
                let length = socket.recv(&mut buffer).await.map_err(failed)?;
                let message = Message::from_vec(buffer.get(..length).unwrap_or_default());
                if let Ok(answer) = message
                    && fits(&answer, question)
                {
                    return Ok(answer);
                }
            }
            Err(DnsError::Silent(server))
        };
        if let Ok(answer) = timeout(PATIENCE, listen).await {
            return answer;
        }
    }
    Err(DnsError::Silent(server))
}

async fn tcp(server: SocketAddr, question: &Message) -> Result<Message, DnsError> {
    let failed = |e| DnsError::Io(server, e);
    let bytes = question.to_vec().map_err(|e| DnsError::Name(e.to_string()))?;
    let length = u16::try_from(bytes.len()).map_err(|e| DnsError::Name(e.to_string()))?;
    let mut stream = TcpStream::connect(server).await.map_err(failed)?;
    stream.write_all(&[&length.to_be_bytes(), &*bytes].concat()).await.map_err(failed)?;
    let mut buffer = vec![0_u8; usize::from(stream.read_u16().await.map_err(failed)?)];
    stream.read_exact(&mut buffer).await.map_err(failed)?;
    let answer = Message::from_vec(&buffer).map_err(|e| DnsError::Unreadable(e.to_string()))?;
    if fits(&answer, question) {
        Ok(answer)
    } else {
        Err(DnsError::Unreadable("it answers another question".to_owned()))
    }
}
