//! Fetching a list over HTTP from wherever a certificate says: no further than a configured network or the Internet, not
//! for longer than half a minute, and no more than a list can have.

use core::time::Duration;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::Response;
use http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, HOST, LOCATION, USER_AGENT};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use url::{Host, Url};

use crate::codec::crl::LARGEST_FETCHED;
use crate::codec::network::{Network, is_public};
use crate::ports::HostError;

/// For one address: a third of what a list may take, so that a second address has its turn.
const CONNECT: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried.
const MOST_ADDRESSES: usize = 4;
/// CAs redirect to their distributors, rarely twice.
const MOST_REDIRECTS: usize = 3;

/// Fetches lists.
#[derive(Debug)]
pub(super) struct Fetcher {
    allow: Vec<Network>,
}

/// What a server answered.
enum Answer {
    List(Vec<u8>),
    Elsewhere(String),
}

fn failed(what: impl Into<String>) -> HostError {
    HostError(what.into())
}

impl Fetcher {
    pub(super) fn new(allow: Vec<Network>) -> Self {
        Self { allow }
    }

    /// What lies at the URL. Whoever calls sets the deadline.
    pub(super) async fn fetch(&self, url: &str) -> Result<Vec<u8>, HostError> {
        let mut url = Url::parse(url).map_err(|e| failed(format!("is no URL: {e}")))?;
        for _ in 0..=MOST_REDIRECTS {
            match self.ask(&url).await? {
                Answer::List(bytes) => return Ok(bytes),
                Answer::Elsewhere(to) => {
                    url = url.join(&to).map_err(|e| failed(format!("redirects to {to:?}, which is no URL: {e}")))?;
                }
            }
        }
        Err(failed(format!("redirects more than {MOST_REDIRECTS} times")))
    }

    async fn ask(&self, url: &Url) -> Result<Answer, HostError> {
        if url.scheme() != "http" || !url.username().is_empty() || url.password().is_some() {
            return Err(failed(format!("leads to {url}; expected plain http without a password")));
        }
        let stream = self.connect(url).await?;
        let broken = |e: hyper::Error| failed(format!("broke off: {e}"));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let host = url.host_str().unwrap_or_default();
        let request = http::Request::get(&url[url::Position::BeforePath..url::Position::AfterQuery])
            .header(HOST, url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
            .header(USER_AGENT, concat!("keyward/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT_ENCODING, "identity")
            .header(CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|e| failed(format!("makes no request: {e}")))?;
        let answer = async { read(sender.send_request(request).await.map_err(broken)?).await };
        tokio::pin!(answer, connection);
        // The connection is driven only as long as its answer is wanted.
        tokio::select! {
            biased;
            answered = &mut answer => answered,
            ended = &mut connection => match ended {
                Ok(()) => answer.await,
                Err(error) => Err(broken(error)),
            },
        }
    }

    /// Connects to an address that was checked: the name is not looked up again.
    async fn connect(&self, url: &Url) -> Result<TcpStream, HostError> {
        let port = url.port_or_known_default().unwrap_or(80);
        let found: Vec<IpAddr> = match url.host() {
            Some(Host::Ipv4(v4)) => vec![v4.into()],
            Some(Host::Ipv6(v6)) => vec![v6.into()],
            Some(Host::Domain(name)) => {
                let unknown = |e: std::io::Error| failed(format!("cannot be fetched: {name} is not found: {e}"));
                tokio::net::lookup_host((name, port)).await.map_err(unknown)?.map(|at| at.ip()).collect()
            }
            None => Vec::new(),
        };
        let good: Vec<IpAddr> = found.iter().filter(|address| self.may_reach(**address)).copied().collect();
        if let Some(refused) = found.first().filter(|_| good.is_empty()) {
            return Err(failed(format!(
                "leads to {refused}, which is no public address; if that is meant, name its network under `crl.allow`"
            )));
        }
        let mut why = failed(format!("leads to no address: {}", url.host_str().unwrap_or_default()));
        for address in good.into_iter().take(MOST_ADDRESSES) {
            let address = SocketAddr::new(address, port);
            match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => why = failed(format!("cannot be reached at {address}: {error}")),
                Err(_) => why = failed(format!("was not reached at {address} within {} s", CONNECT.as_secs())),
            }
        }
        Err(why)
    }

    fn may_reach(&self, address: IpAddr) -> bool {
        is_public(address) || self.allow.iter().any(|network| network.contains(address))
    }
}

async fn read(response: Response<Incoming>) -> Result<Answer, HostError> {
    let (head, mut body) = response.into_parts();
    let header = |name| head.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    if let Some(to) = header(LOCATION).filter(|_| head.status.is_redirection()) {
        return Ok(Answer::Elsewhere(to));
    }
    if head.status.as_u16() != 200 {
        return Err(failed(format!("was answered with {}, expected 200", head.status)));
    }
    if let Some(encoding) = header(CONTENT_ENCODING).filter(|e| e != "identity") {
        return Err(failed(format!("came in the encoding {encoding:?}, which was not asked for")));
    }
    let huge = || failed(format!("is larger than {LARGEST_FETCHED} bytes"));
    let length = header(CONTENT_LENGTH).and_then(|text| text.parse::<usize>().ok());
    if length.is_some_and(|length| length > LARGEST_FETCHED) {
        return Err(huge());
    }
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| failed(format!("broke off after {} bytes: {e}", bytes.len())))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len().saturating_add(data.len()) > LARGEST_FETCHED {
            return Err(huge());
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Answer::List(bytes))
}
