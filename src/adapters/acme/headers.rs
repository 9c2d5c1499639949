//! The headers of an answer that matter: parsed once, bounded, never trusted.

use core::time::Duration;

use reqwest::header::{HeaderMap, HeaderName};

use super::text::clean;
use crate::domain::time::Timestamp;

/// What was found in the headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Headers {
    /// The fresh nonce, if well formed.
    pub(super) nonce: Option<String>,
    /// The `Location`, as it came.
    pub(super) location: Option<String>,
    /// Links as (relation, URL), as they came.
    pub(super) links: Vec<(String, String)>,
    /// How long to wait, not clamped.
    pub(super) retry_after: Option<Duration>,
    /// The CA's name for this exchange.
    pub(super) request_id: Option<String>,
}

/// Where CAs put the name of an exchange: Boulder, then what proxies and other CAs use.
const REQUEST_IDS: [&str; 4] = ["boulder-request-id", "x-request-id", "request-id", "x-trace-id"];
/// An index, a directory, terms and an alternate chain or two: sixteen is plenty.
const MOST_LINKS: usize = 16;

impl Headers {
    /// Reads the headers of an answer that came at `now`.
    pub(super) fn of(map: &HeaderMap, now: Timestamp) -> Self {
        let text = |name: &str| {
            let value = map.get(HeaderName::from_lowercase(name.as_bytes()).ok()?)?;
            value.to_str().ok().map(str::trim).filter(|v| !v.is_empty())
        };
        Self {
            nonce: text("replay-nonce").filter(|n| is_nonce(n)).map(str::to_owned),
            location: text("location").map(str::to_owned),
            links: map
                .get_all("link")
                .iter()
                .filter_map(|v| v.to_str().ok())
                .flat_map(links)
                .take(MOST_LINKS)
                .collect(),
            retry_after: text("retry-after").and_then(|v| retry_after(v, now)),
            request_id: REQUEST_IDS.iter().find_map(|n| text(n)).map(|v| clean(v, 128)),
        }
    }

    /// The first link of a relation.
    pub(super) fn link(&self, relation: &str) -> Option<&str> {
        self.links.iter().find(|(r, _)| r == relation).map(|(_, url)| url.as_str())
    }
}

/// RFC 8555 section 6.5.1: base64url; no CA's nonce comes near 256 characters.
fn is_nonce(text: &str) -> bool {
    text.len() <= 256 && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// `Retry-After` in either form (RFC 9110 section 10.2.3). A date in the past is zero; seconds beyond 64 bits saturate.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    http_date(text).map(|at| now.until(at))
}

/// The three forms of a date that a recipient must take (RFC 9110 section 5.6.7).
fn http_date(text: &str) -> Option<Timestamp> {
    // The weekday says nothing that the date does not say; jiff would refuse a wrong one.
    const FIXDATE: jiff::fmt::rfc2822::DateTimeParser = jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true);
    if let Ok(at) = FIXDATE.parse_timestamp(text) {
        return Some(Timestamp::from_unix(at.as_second()));
    }
    let civil = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"]
        .iter()
        .find_map(|form| jiff::civil::DateTime::strptime(form, text).ok())?;
    let at = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Timestamp::from_unix(at.timestamp().as_second()))
}

/// The links of one `Link` field (RFC 8288 section 3): `<url>;rel="next", <url>;rel=up`.
fn links(value: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = value;
    while let Some((url, after)) = rest.split_once('<').and_then(|(_, r)| r.split_once('>')) {
        if found.len() >= MOST_LINKS {
            break;
        }
        // The parameters reach to the next link.
        let (parameters, next) = match after.find('<') {
            Some(at) => after.split_at(at),
            None => (after, ""),
        };
        let relation = parameters.split([';', ',']).find_map(|p| {
            let (name, value) = p.split_once('=')?;
            name.trim().eq_ignore_ascii_case("rel").then(|| value.trim().trim_matches('"').to_ascii_lowercase())
        });
        if let Some(relations) = relation {
            found.extend(relations.split_ascii_whitespace().map(|r| (r.to_owned(), url.trim().to_owned())));
        }
        rest = next;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    fn now() -> Timestamp {
        Timestamp::parse("1994-11-06T08:49:00Z").expect("time")
    }

    #[test]
    fn retry_after_is_seconds_or_any_form_of_date_and_saturates() {
        for (text, seconds) in [
            ("0", Some(0)),
            ("120", Some(120)),
            ("1000000000", Some(1_000_000_000)),
            ("99999999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
            ("Mon, 06 Nov 1994 08:49:37 GMT", Some(37)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(37)),
            ("Sun Nov  6 08:49:37 1994", Some(37)),
            ("Sun, 06 Nov 1994 08:48:37 GMT", Some(0)),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
            ("2026-11-22T06:10:00Z", None),
        ] {
            assert_eq!(retry_after(text, now()), seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn links_are_read_from_one_field_or_many() {
        let mut map = HeaderMap::new();
        map.append("link", HeaderValue::from_static("<https://a/dir>;rel=\"index\", <https://a/o?cursor=2>; rel=next"));
        map.append("link", HeaderValue::from_static("<https://a/tos>;title=\"x\";rel=\"terms-of-service\""));
        map.append("link", HeaderValue::from_static("<broken; rel=up"));
        let headers = Headers::of(&map, now());
        assert_eq!(headers.link("next"), Some("https://a/o?cursor=2"));
        assert_eq!(headers.link("terms-of-service"), Some("https://a/tos"));
        assert_eq!((headers.link("index"), headers.link("up")), (Some("https://a/dir"), None));
    }

    #[test]
    fn endless_links_and_odd_nonces_are_cut_or_dropped() {
        let mut map = HeaderMap::new();
        let many = "<https://a/>;rel=up,".repeat(1_000);
        map.append("link", HeaderValue::from_str(&many).expect("header"));
        map.append("replay-nonce", HeaderValue::from_static("a b"));
        map.append("boulder-request-id", HeaderValue::from_str(&"r".repeat(4_000)).expect("header"));
        let headers = Headers::of(&map, now());
        assert_eq!((headers.links.len(), headers.nonce), (MOST_LINKS, None));
        assert!(headers.request_id.is_some_and(|id| id.len() <= 131));
        map.insert("replay-nonce", HeaderValue::from_static("oFvnlFP1wIhRlYS2jTaXbA"));
        assert_eq!(Headers::of(&map, now()).nonce.as_deref(), Some("oFvnlFP1wIhRlYS2jTaXbA"));
    }
}
