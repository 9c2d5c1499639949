//! Looking for challenge responses: http-01 (RFC 8555 section 8.3), tls-alpn-01 (RFC 8737), dns-01 (RFC 8555
//! section 8.4), for DNS names and addresses (RFC 8738).

use core::time::Duration;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

use http::StatusCode;
use http::header::{HOST, LOCATION, USER_AGENT};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use url::Url;

use super::authz::txt_value;
use super::config::{Dns, Hosts, Reach, Validation, Validator};
use super::dns::{Records, addresses, lookup};
use super::problem::Problem;
use super::server::{Ca, lock};
use super::tls::{any_tls, tls_alpn};
use crate::codec::network::{is_public, reached};
use crate::domain::name::Name;
use crate::ports::ChallengeKind;

/// A key authorization has at most 172 characters of our own tokens; a hostile one gets no more than this.
const LARGEST_RESPONSE: usize = 4 * 1_024;
/// How often http-01 follows a redirect; Boulder follows ten.
const MOST_REDIRECTS: usize = 5;
/// A longer URL, or `Location` that leads to one, is followed by nobody.
const LONGEST_URL: usize = 2 * 1_024;
/// The head of an answer.
const LARGEST_HEAD: usize = 16 * 1_024;
/// Addresses of a name that are tried.
const MOST_ADDRESSES: usize = 4;
/// Addresses of a name that are heard: among the first ones may be the same twice.
const MOST_FOUND: usize = 64;
/// One of them that does not answer leaves time for the next.
const CONNECT: Duration = Duration::from_secs(4);
/// How many CNAMEs dns-01 follows.
const MOST_ALIASES: usize = 8;

/// What to look for.
pub(super) struct Target {
    pub(super) kind: ChallengeKind,
    /// Never with `*.`.
    pub(super) name: Name,
    pub(super) token: String,
    pub(super) key_authorization: String,
}

/// The embedded zone: names in lower case without a final dot.
#[derive(Default)]
pub(super) struct Zone {
    pub(super) txt: BTreeMap<String, Vec<String>>,
    pub(super) cname: BTreeMap<String, String>,
}

impl Ca {
    /// Looks once.
    pub(super) async fn validate(&self, target: &Target) -> Result<(), Problem> {
        let Validation::On(validator) = &self.config.validation else { return Ok(()) };
        let look = async {
            match target.kind {
                ChallengeKind::Http01 => self.http(validator, target).await,
                ChallengeKind::TlsAlpn01 => {
                    let reached = self.reach(validator, &target.name, validator.tls_port).await?;
                    tls_alpn(reached, &target.name, &target.key_authorization).await
                }
                ChallengeKind::Dns01 => self.dns(validator, target).await,
            }
        };
        let seconds = validator.deadline.as_secs();
        timeout(validator.deadline, look)
            .await
            .unwrap_or_else(|_| Err(connection(format!("no response for {} within {seconds} s", target.name))))
    }

    async fn dns(&self, validator: &Validator, target: &Target) -> Result<(), Problem> {
        let Name::Dns(host) = &target.name else {
            return Err(Problem::malformed("dns-01 cannot prove an address (RFC 8738 section 7)"));
        };
        let expected = txt_value(&target.key_authorization);
        let mut name = format!("_acme-challenge.{host}");
        for _ in 0..=MOST_ALIASES {
            let records = match validator.dns {
                Dns::Embedded => {
                    let zone = lock(&self.zone);
                    Records {
                        texts: zone.txt.get(&name).cloned().unwrap_or_default(),
                        alias: zone.cname.get(&name).cloned(),
                    }
                }
                Dns::Server(server) => lookup(server, &name, &*self.entropy).await.map_err(|e| {
                    Problem::new(StatusCode::BAD_REQUEST, "dns", format!("the TXT records of {name}: {e}"))
                })?,
            };
            match records.alias {
                Some(alias) if records.texts.is_empty() => name = alias,
                _ if records.texts.contains(&expected) => return Ok(()),
                _ if records.texts.is_empty() => {
                    let text = format!("there are no TXT records at {name}");
                    return Err(Problem::new(StatusCode::FORBIDDEN, "dns", text));
                }
                _ => {
                    let seen: Vec<&str> = records.texts.iter().map(|t| shortened(t)).take(5).collect();
                    let text = format!("the TXT records at {name} are {seen:?}, expected {expected:?} among them");
                    return Err(wrong(text));
                }
            }
        }
        Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "dns",
            format!("more than {MOST_ALIASES} CNAMEs lead on from {host}"),
        ))
    }
}

pub(super) fn connection(text: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "connection", text)
}

pub(super) fn wrong(text: impl Into<String>) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "incorrectResponse", text)
}

/// At most 100 characters of what somebody else wrote.
fn shortened(text: &str) -> &str {
    text.char_indices().nth(100).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

impl Ca {
    /// Where a name is.
    async fn addresses(&self, validator: &Validator, name: &Name) -> Result<Vec<IpAddr>, Problem> {
        let host = match name {
            Name::Ip(ip) => return Ok(vec![validator.hosts.get(&ip.to_string()).copied().unwrap_or(*ip)]),
            Name::Dns(host) => host,
        };
        let unresolved =
            |why: String| Problem::new(StatusCode::BAD_REQUEST, "dns", format!("{host} has no address: {why}"));
        let mut found = match (validator.hosts.get(&**host).copied(), validator.other_hosts) {
            (Some(ip), _) | (None, Hosts::At(ip)) => vec![ip],
            (None, Hosts::System) => {
                // It goes with the thread, which goes on when nobody waits for it any more.
                let permit = self.resolving.clone().acquire_owned().await;
                let permit = permit.map_err(|e| unresolved(e.to_string()))?;
                let asked = host.clone();
                let look = move || {
                    let found =
                        (&*asked, 0).to_socket_addrs().map(|all| all.map(|a| a.ip()).take(MOST_FOUND).collect());
                    drop(permit);
                    found
                };
                let found: std::io::Result<Vec<IpAddr>> =
                    spawn_blocking(look).await.map_err(|e| unresolved(e.to_string()))?;
                found.map_err(|e| unresolved(e.to_string()))?
            }
            (None, Hosts::Server(server)) => {
                addresses(server, host, &*self.entropy).await.map_err(|e| unresolved(e.to_string()))?
            }
        };
        found.dedup();
        found.truncate(MOST_ADDRESSES);
        if found.is_empty() { Err(unresolved("an empty answer".to_owned())) } else { Ok(found) }
    }

    /// Connects to a name, at the first of its addresses that answers. Each address is judged right before it is connected
    /// to, so that no second answer of the DNS leads elsewhere.
    async fn reach(&self, validator: &Validator, name: &Name, port: u16) -> Result<(SocketAddr, TcpStream), Problem> {
        let mut failed = None;
        for address in self.addresses(validator, name).await? {
            let to = SocketAddr::new(address, port);
            match connect(&validator.reach, to).await {
                Ok(stream) => return Ok((to, stream)),
                Err(problem) => failed = failed.or(Some(problem)),
            }
        }
        Err(failed.unwrap_or_else(|| connection(format!("{name} has no address"))))
    }

    async fn http(&self, validator: &Validator, target: &Target) -> Result<(), Problem> {
        let host = match &target.name {
            Name::Ip(IpAddr::V6(ip)) => format!("[{ip}]"),
            name @ (Name::Dns(_) | Name::Ip(IpAddr::V4(_))) => name.to_string(),
        };
        let first = format!("http://{host}/.well-known/acme-challenge/{}", target.token);
        let mut url = Url::parse(&first).map_err(|e| connection(format!("{first}: {e}")))?;
        for hop in 0..=MOST_REDIRECTS {
            // Whoever sends us elsewhere may not learn from us what is said there, nor where that sends us.
            let elsewhere = |problem: Problem| match hop {
                0 => problem,
                1 if problem.kind != "incorrectResponse" => problem,
                _ => {
                    let text = format!("{first} redirects, and what is there is not the expected response");
                    Problem::new(problem.status, &problem.kind, text)
                }
            };
            match self.fetch(validator, &url).await.map_err(elsewhere)? {
                Fetched::Body(body) => {
                    let seen = String::from_utf8_lossy(&body);
                    // White space at the end does not count (RFC 8555 section 8.3).
                    return if seen.trim_end() == target.key_authorization {
                        Ok(())
                    } else {
                        let seen = shortened(&seen);
                        let text = format!("{url} said {seen:?}, expected {:?}", target.key_authorization);
                        Err(elsewhere(wrong(text)))
                    };
                }
                Fetched::Redirect(to) => {
                    let joined = url.join(&to).map_err(|e| format!("{url} redirects to {:?}: {e}", shortened(&to)));
                    url = joined.map_err(|text| elsewhere(wrong(text)))?;
                    if url.as_str().len() > LONGEST_URL {
                        return Err(wrong(format!("{first} redirects to a URL of more than {LONGEST_URL} bytes")));
                    }
                }
            }
        }
        Err(wrong(format!("{first} redirects more than {MOST_REDIRECTS} times")))
    }

    async fn fetch(&self, validator: &Validator, url: &Url) -> Result<Fetched, Problem> {
        let usual = match url.scheme() {
            "http" => validator.http_port,
            "https" => validator.tls_port,
            _ => return Err(connection(format!("{url}: only http and https are followed"))),
        };
        let host = url.host_str().unwrap_or_default();
        let name =
            Name::parse(host.trim_matches(['[', ']'])).map_err(|e| connection(format!("{url}: the host {e}")))?;
        let port = url.port().unwrap_or(usual);
        if validator.reach != Reach::Anywhere && ![80, 443, usual].contains(&port) {
            return Err(connection(format!("{url}: redirects lead to the ports 80 and 443 only")));
        }
        let (_, stream) = self.reach(validator, &name, port).await?;
        let shown = if url.port().is_none() && port == usual && matches!(port, 80 | 443) {
            host.to_owned()
        } else {
            format!("{host}:{port}")
        };
        let request = http::Request::get(&url[url::Position::BeforePath..])
            .header(HOST, shown)
            .header(USER_AGENT, concat!("keyward-ca/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .map_err(|e| connection(format!("{url}: {e}")))?;
        match url.scheme() {
            "https" => exchange(url, any_tls(stream, host.trim_matches(['[', ']'])).await?, request).await,
            _ => exchange(url, stream, request).await,
        }
    }
}

/// Connects where that is allowed.
async fn connect(reach: &Reach, to: SocketAddr) -> Result<TcpStream, Problem> {
    if let Reach::Within { allow, forbid } = reach {
        // What is allowed is allowed where it is; what is forbidden, also as the address by which it is asked for.
        let (asked, ip) = (to.ip(), reached(to.ip()));
        let own = allow.iter().any(|network| network.contains(ip));
        if forbid.iter().any(|network| network.contains(ip) || network.contains(asked)) || !(own || is_public(ip)) {
            let text = format!(
                "{ip} is an address that validation does not connect to; the operator of this directory decides which \
                 networks it does (`allow` and `forbid`)"
            );
            return Err(connection(text));
        }
    }
    let stream = timeout(CONNECT, TcpStream::connect(to)).await;
    let stream = stream.map_err(|_| connection(format!("{to} does not answer")))?;
    let stream = stream.map_err(|e| connection(format!("{to} cannot be reached: {e}")))?;
    stream.set_nodelay(true).map_err(|e| connection(format!("{to}: {e}")))?;
    Ok(stream)
}

enum Fetched {
    Body(Bytes),
    Redirect(String),
}

/// One request over a connection, and its answer.
async fn exchange<S>(url: &Url, stream: S, request: http::Request<Empty<Bytes>>) -> Result<Fetched, Problem>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |e: hyper::Error| connection(format!("{url}: {e}"));
    let mut client = hyper::client::conn::http1::Builder::new();
    client.max_buf_size(LARGEST_HEAD);
    let (mut sender, exchange) = client.handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        let status = response.status();
        if status.is_redirection() {
            let to = response.headers().get(LOCATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
            if to.len() > LONGEST_URL {
                return Err(wrong(format!("{url} redirects to a URL of more than {LONGEST_URL} bytes")));
            }
            return Ok(Fetched::Redirect(to.to_owned()));
        }
        if status != StatusCode::OK {
            return Err(wrong(format!("{url} answered {status}, expected 200 OK")));
        }
        let body = Limited::new(response.into_body(), LARGEST_RESPONSE).collect().await;
        let body = body.map_err(|e| wrong(format!("{url}: more than {LARGEST_RESPONSE} bytes or broken: {e}")))?;
        Ok(Fetched::Body(body.to_bytes()))
    };
    tokio::pin!(answer);
    tokio::pin!(exchange);
    // The connection is driven only as long as its answer is wanted.
    tokio::select! {
        biased;
        fetched = &mut answer => fetched,
        ended = &mut exchange => match ended {
            Ok(()) => answer.await,
            Err(e) => Err(failed(e)),
        },
    }
}
