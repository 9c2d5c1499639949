//! What was said to and by each CA, kept until the engine takes it into the audit trail.
//!
//! Bounded at 256 orders × 64 lines × 2 KiB, and at 4 MiB in all. Never holds a JWS, a signature, a key, a nonce or a key authorization.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use super::messages::{Endpoint, Problem};
use super::text::{clean, without_secrets};
use super::transport::Method;
use crate::domain::id::IssuerId;
use crate::domain::time::Timestamp;
use crate::ports::Evidence;

/// The longest line: 2 KiB holds a URL, a problem and some subproblems.
const LONGEST_LINE: usize = 2 * 1024;
/// An issuance of three names takes about 20 exchanges, polling included.
const MOST_LINES: usize = 64;
/// More orders than run at once by far; the least recently written goes first.
const MOST_ORDERS: usize = 256;
/// 64 lines usually have 400 bytes each; this holds 160 such orders, and a CA that fills every line pushes out its own.
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// Challenges whose order is remembered: 256 orders of a few names each.
const MOST_CHALLENGES: usize = 2_048;

/// One exchange as it is kept.
pub(super) struct Exchange<'a> {
    pub(super) at: Timestamp,
    pub(super) method: Method,
    pub(super) endpoint: Endpoint,
    pub(super) url: &'a str,
    /// 0 if there was no answer.
    pub(super) status: u16,
    pub(super) request_id: Option<&'a str>,
    pub(super) retry_after: Option<u64>,
    pub(super) problem: Option<&'a Problem>,
    /// Why there was no usable answer.
    pub(super) failure: Option<String>,
}

impl Exchange<'_> {
    /// One line of JSON of at most 2 KiB.
    fn line(&self) -> String {
        // Details are left out step by step until the line fits; the last form is far below the limit.
        let forms = [(Some(512), 8), (Some(256), 2), (Some(128), 0), (None, 0)];
        let mut line = String::new();
        for (detail, subproblems) in forms {
            line = self.form(detail, subproblems).to_string();
            if line.len() <= LONGEST_LINE {
                break;
            }
        }
        line
    }

    fn form(&self, detail: Option<usize>, subproblems: usize) -> Value {
        let mut out = json!({
            "time": self.at.to_string(),
            "method": self.method.as_str(),
            "endpoint": self.endpoint.as_str(),
            "url": clean(self.url, 512),
            "status": self.status,
        });
        let mut put = |key: &str, value: Option<Value>| {
            if let (Some(map), Some(value)) = (out.as_object_mut(), value) {
                map.insert(key.to_owned(), value);
            }
        };
        put("request_id", self.request_id.map(|id| Value::from(clean(&without_secrets(id), 128))));
        put("retry_after", self.retry_after.map(Value::from));
        put("failure", self.failure.as_deref().map(|f| Value::from(clean(&without_secrets(f), 256))));
        put("problem", self.problem.map(|p| problem(p, detail, subproblems)));
        out
    }
}

fn problem(problem: &Problem, detail: Option<usize>, subproblems: usize) -> Value {
    let kind = problem.short_kind();
    let mut out = json!({ "type": clean(&without_secrets(kind), 64) });
    let Some(map) = out.as_object_mut() else { return out };
    // A badNonce's detail repeats the nonce, in whatever form the CA uses.
    if let Some(most) = detail.filter(|_| kind != "badNonce" && !problem.said().is_empty()) {
        map.insert("detail".to_owned(), Value::from(clean(&without_secrets(problem.said()), most)));
    }
    if let Some(id) = &problem.identifier {
        map.insert("identifier".to_owned(), Value::from(clean(&id.value, 253)));
    }
    if subproblems > 0 && !problem.subproblems.is_empty() {
        let inner =
            problem.subproblems.iter().take(subproblems).map(|p| self::problem(p, detail.map(|d| d.min(128)), 0));
        map.insert("subproblems".to_owned(), Value::Array(inner.collect()));
    }
    out
}

/// The kept exchanges of all issuers.
#[derive(Default)]
pub(super) struct Book(Mutex<Pages>);

#[derive(Default)]
struct Pages {
    lines: BTreeMap<(IssuerId, String), VecDeque<String>>,
    /// Keys of `lines`, the least recently written first.
    order: VecDeque<(IssuerId, String)>,
    /// Sum of the lengths of all lines.
    bytes: usize,
    /// Challenge URL → order URL, and the URLs, oldest first.
    challenges: BTreeMap<(IssuerId, String), String>,
    seen: VecDeque<(IssuerId, String)>,
}

impl Pages {
    fn drop_lines(&mut self, key: &(IssuerId, String)) -> VecDeque<String> {
        let lines = self.lines.remove(key).unwrap_or_default();
        self.bytes = self.bytes.saturating_sub(lines.iter().map(String::len).sum());
        lines
    }
}

impl Book {
    /// Keeps an exchange under an order's URL, or under the empty text.
    pub(super) fn record(&self, issuer: &IssuerId, order: &str, exchange: &Exchange<'_>) {
        let line = exchange.line();
        let key = (issuer.clone(), order.to_owned());
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pages.order.retain(|k| *k != key);
        pages.order.push_back(key.clone());
        pages.bytes = pages.bytes.saturating_add(line.len());
        let lines = pages.lines.entry(key).or_default();
        lines.push_back(line);
        let dropped = if lines.len() > MOST_LINES { lines.pop_front() } else { None };
        pages.bytes = pages.bytes.saturating_sub(dropped.map_or(0, |l| l.len()));
        // One order alone is far below the bound in bytes, so what was just written always stays.
        while pages.order.len() > MOST_ORDERS || pages.bytes > MOST_BYTES {
            let Some(oldest) = pages.order.pop_front() else { break };
            pages.drop_lines(&oldest);
        }
    }

    /// Takes what is kept under an order's URL.
    pub(super) fn take(&self, issuer: &IssuerId, order: &str) -> Evidence {
        let key = (issuer.clone(), order.to_owned());
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pages.order.retain(|k| *k != key);
        Evidence { exchanges: pages.drop_lines(&key).into() }
    }

    /// Remembers which order a challenge belongs to: the port names only the challenge when its response is ready.
    pub(super) fn link(&self, issuer: &IssuerId, challenge: &str, order: &str) {
        let key = (issuer.clone(), challenge.to_owned());
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pages.challenges.insert(key.clone(), order.to_owned()).is_none() {
            pages.seen.push_back(key);
        }
        if pages.seen.len() > MOST_CHALLENGES
            && let Some(oldest) = pages.seen.pop_front()
        {
            pages.challenges.remove(&oldest);
        }
    }

    /// The order of a challenge, empty if it is not known.
    pub(super) fn order_of(&self, issuer: &IssuerId, challenge: &str) -> String {
        let key = (issuer.clone(), challenge.to_owned());
        let pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pages.challenges.get(&key).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ca() -> IssuerId {
        IssuerId::parse("ca").expect("slug")
    }

    fn exchange<'a>(problem: Option<&'a Problem>) -> Exchange<'a> {
        Exchange {
            at: Timestamp::from_unix(0),
            method: Method::Post,
            endpoint: Endpoint::NewOrder,
            url: "https://ca.example/new-order",
            status: 400,
            request_id: Some("req-1"),
            retry_after: Some(u64::MAX),
            problem,
            failure: None,
        }
    }

    fn said(kind: &str, detail: &str) -> Problem {
        Problem {
            kind: Some(format!("urn:ietf:params:acme:error:{kind}")),
            detail: Some(detail.to_owned()),
            ..Problem::default()
        }
    }

    #[test]
    fn a_line_is_json_of_at_most_two_kib_whatever_the_ca_says() {
        for nasty in ["\"".repeat(5_000), "\\".repeat(5_000), "\u{1}".repeat(5_000), "ä".repeat(5_000)] {
            let mut problem = said(&nasty, &nasty);
            problem.subproblems = vec![said(&nasty, &nasty); 50];
            let line = exchange(Some(&problem)).line();
            assert!(line.len() <= LONGEST_LINE, "{}", line.len());
            let value: Value = serde_json::from_str(&line).expect("json");
            assert_eq!((&value["status"], &value["endpoint"]), (&json!(400), &json!("new-order")));
        }
    }

    #[test]
    fn key_authorizations_signatures_and_nonces_that_a_ca_echoes_are_taken_out() {
        let thumbprint = "LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ";
        let signature = "s".repeat(86);
        for (kind, secret) in [("unauthorized", thumbprint), ("malformed", &*signature), ("badNonce", "shortNonce1")] {
            let mut problem = said(kind, &format!("Expected \"tok.{secret}\""));
            problem.subproblems = vec![problem.clone()];
            let line = exchange(Some(&problem)).line();
            assert!(!line.contains(secret) && line.contains(kind), "{line}");
        }
    }

    #[test]
    fn lines_and_orders_are_bounded_and_taking_drains() {
        let book = Book::default();
        for i in 0..(MOST_ORDERS + 10) {
            for _ in 0..3 {
                book.record(&ca(), &format!("o{i}"), &exchange(None));
            }
        }
        assert!(book.take(&ca(), "o0").exchanges.is_empty(), "the oldest order was dropped");
        assert_eq!(book.take(&ca(), "o200").exchanges.len(), 3);
        assert!(book.take(&ca(), "o200").exchanges.is_empty());
        (0..500).for_each(|_| book.record(&ca(), "busy", &exchange(None)));
        assert_eq!(book.take(&ca(), "busy").exchanges.len(), MOST_LINES);
    }

    #[test]
    fn a_ca_that_fills_every_line_fills_four_mib_and_no_more() {
        let book = Book::default();
        let long = said("malformed", &"word ".repeat(200));
        let full = Exchange { url: &"u".repeat(512), failure: Some("f ".repeat(200)), ..exchange(Some(&long)) };
        for i in 0..(MOST_ORDERS * MOST_LINES) {
            book.record(&ca(), &format!("o{}", i / MOST_LINES), &full);
        }
        let pages = book.0.lock().expect("book");
        let held: usize = pages.lines.values().flatten().map(String::len).sum();
        assert_eq!(held, pages.bytes);
        assert!(held <= MOST_BYTES && held > MOST_BYTES / 2, "{held}");
        assert_eq!(pages.lines.len(), pages.order.len());
    }

    #[test]
    fn a_challenge_leads_to_its_order_and_old_ones_are_forgotten() {
        let book = Book::default();
        (0..=MOST_CHALLENGES).for_each(|i| book.link(&ca(), &format!("c{i}"), "o"));
        assert_eq!((&*book.order_of(&ca(), "c0"), &*book.order_of(&ca(), "c1")), ("", "o"));
    }
}
