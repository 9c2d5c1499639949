//! Looking for challenge responses: http-01 (RFC 8555 section 8.3), tls-alpn-01 (RFC 8737), dns-01 (RFC 8555
//! section 8.4), for DNS names and addresses (RFC 8738).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use http::StatusCode;
use http::header::{HOST, LOCATION, USER_AGENT};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

use super::authz::txt_value;
use super::config::{Dns, Hosts, Validation, Validator};
use super::dns::{Records, lookup};
use super::problem::Problem;
use super::server::{Ca, lock};
use super::tls::tls_alpn;
use crate::domain::name::Name;
use crate::ports::ChallengeKind;

/// A key authorization has at most 172 characters of our own tokens; a hostile one gets no more than this.
const LARGEST_RESPONSE: usize = 4 * 1_024;
/// How often http-01 follows a redirect; Boulder follows ten.
const MOST_REDIRECTS: usize = 5;
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
                ChallengeKind::Http01 => http(validator, target).await,
                ChallengeKind::TlsAlpn01 => {
                    let address = address(validator, &target.name).await?;
                    tls_alpn(SocketAddr::new(address, validator.tls_port), &target.name, &target.key_authorization)
                        .await
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

async fn address(validator: &Validator, name: &Name) -> Result<IpAddr, Problem> {
    match name {
        Name::Ip(ip) => Ok(validator.hosts.get(&ip.to_string()).copied().unwrap_or(*ip)),
        Name::Dns(host) => match (validator.hosts.get(&**host).copied(), validator.other_hosts) {
            (Some(ip), _) | (None, Hosts::At(ip)) => Ok(ip),
            (None, Hosts::System) => {
                let unresolved =
                    |why: String| Problem::new(StatusCode::BAD_REQUEST, "dns", format!("{host} has no address: {why}"));
                let mut found = tokio::net::lookup_host((&**host, 0)).await.map_err(|e| unresolved(e.to_string()))?;
                found.next().map(|a| a.ip()).ok_or_else(|| unresolved("an empty answer".to_owned()))
            }
        },
    }
}

pub(super) async fn connect(to: SocketAddr) -> Result<TcpStream, Problem> {
    let stream = TcpStream::connect(to).await.map_err(|e| connection(format!("{to} cannot be reached: {e}")))?;
    stream.set_nodelay(true).map_err(|e| connection(format!("{to}: {e}")))?;
    Ok(stream)
}

async fn http(validator: &Validator, target: &Target) -> Result<(), Problem> {
    let host = match &target.name {
        Name::Ip(IpAddr::V6(ip)) => format!("[{ip}]"),
        name @ (Name::Dns(_) | Name::Ip(IpAddr::V4(_))) => name.to_string(),
    };
    let first = format!("http://{host}/.well-known/acme-challenge/{}", target.token);
    let mut url = Url::parse(&first).map_err(|e| connection(format!("{first}: {e}")))?;
    for _ in 0..=MOST_REDIRECTS {
        match fetch(validator, &url).await? {
            Fetched::Body(body) => {
                let seen = String::from_utf8_lossy(&body);
                // White space at the end does not count (RFC 8555 section 8.3).
                return if seen.trim_end() == target.key_authorization {
                    Ok(())
                } else {
                    let seen = shortened(&seen);
                    Err(wrong(format!("{url} said {seen:?}, expected {:?}", target.key_authorization)))
                };
            }
            Fetched::Redirect(to) => {
                url = url.join(&to).map_err(|e| wrong(format!("{url} redirects to {to:?}: {e}")))?;
            }
        }
    }
    Err(wrong(format!("{first} redirects more than {MOST_REDIRECTS} times")))
}

enum Fetched {
    Body(Bytes),
    Redirect(String),
}

async fn fetch(validator: &Validator, url: &Url) -> Result<Fetched, Problem> {
    if url.scheme() != "http" {
        return Err(connection(format!("{url}: this validator follows redirects to http only")));
    }
    let host = url.host_str().unwrap_or_default();
    let name = Name::parse(host.trim_matches(['[', ']'])).map_err(|e| connection(format!("{url}: the host {e}")))?;
    let port = url.port().unwrap_or(validator.http_port);
    let stream = connect(SocketAddr::new(address(validator, &name).await?, port)).await?;
    let failed = |e: hyper::Error| connection(format!("{url}: {e}"));
    let (mut sender, exchange) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let request = http::Request::get(&url[url::Position::BeforePath..])
        .header(HOST, if port == 80 { host.to_owned() } else { format!("{host}:{port}") })
        .header(USER_AGENT, concat!("keyward-ca/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|e| connection(format!("{url}: {e}")))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        let status = response.status();
        if status.is_redirection() {
            let to = response.headers().get(LOCATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
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
