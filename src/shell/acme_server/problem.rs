//! Problem documents (RFC 7807) with ACME's types (RFC 8555 section 6.7, RFC 9773 section 5).

use core::ops::{Deref, DerefMut};

use http::StatusCode;
use serde_json::{Value, json};

use crate::domain::audit::bounded_to;
use crate::domain::name::Name;

/// The URN under which ACME's problem types are registered.
const URN: &str = "urn:ietf:params:acme:error:";
/// What somebody else may make us say and keep, per text: a sentence around an ordinary URL. An order of 50 names with three
/// challenges each keeps at most one failure per name: 25 KiB, of which its row takes 16.
const LONGEST_FAILURE: usize = 512;
/// Names of an order, each with its reason.
const MOST_PARTS: usize = 100;

/// Why a request was refused or an object went invalid; boxed, because it is the error of every handler.
#[derive(Clone, Debug)]
pub(super) struct Problem(Box<Document>);

#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) status: StatusCode,
    pub(super) kind: String,
    pub(super) detail: String,
    pub(super) identifier: Option<Name>,
    pub(super) subproblems: Vec<Problem>,
    /// Further members: `algorithms`, `instance`.
    pub(super) more: Option<(&'static str, Value)>,
    /// Headers that go with it: `Retry-After`, `Location`, `Link`.
    pub(super) headers: Vec<(http::HeaderName, String)>,
}

impl Deref for Problem {
    type Target = Document;

    fn deref(&self) -> &Document {
        &self.0
    }
}

impl DerefMut for Problem {
    fn deref_mut(&mut self) -> &mut Document {
        &mut self.0
    }
}

impl Problem {
    pub(super) fn new(status: StatusCode, kind: &str, detail: impl Into<String>) -> Self {
        Self(Box::new(Document {
            status,
            kind: kind.to_owned(),
            detail: detail.into(),
            identifier: None,
            subproblems: Vec::new(),
            more: None,
            headers: Vec::new(),
        }))
    }

    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    pub(super) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "unauthorized", detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "malformed", detail)
    }

    pub(super) fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "serverInternal", detail)
    }

    pub(super) fn bad_csr(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "badCSR", detail)
    }

    pub(super) fn bad_nonce(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "badNonce", detail)
    }

    pub(super) fn no_profile<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> Self {
        let known: Vec<&str> = known.map(|k| &**k).collect();
        let text = format!("there is no profile {name:?}; there are {}", known.join(", "));
        Self::new(StatusCode::BAD_REQUEST, "invalidProfile", text)
    }

    pub(super) fn about(mut self, name: &Name) -> Self {
        self.identifier = Some(name.clone());
        self
    }

    pub(super) fn with(mut self, header: http::HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((header, value.into()));
        self
    }

    /// With texts that are short enough to be kept, whoever wrote them.
    pub(super) fn bounded(mut self) -> Self {
        self.detail = bounded_to(&self.detail, LONGEST_FAILURE);
        self.subproblems.truncate(MOST_PARTS);
        self.subproblems = core::mem::take(&mut self.subproblems).into_iter().map(Self::bounded).collect();
        self
    }

    /// One problem with each of `parts` as a subproblem (RFC 8555 section 6.7.1), if there are any; of a single part it
    /// has type and text, of several the type of the first and `text`.
    pub(super) fn of_parts(parts: Vec<Self>, text: &str) -> Option<Self> {
        let first = parts.first()?;
        let detail = if parts.len() == 1 { &first.detail } else { text };
        let mut whole = Self::new(first.status, &first.kind, detail);
        whole.subproblems = parts;
        Some(whole)
    }

    /// Reads what [`Self::json`] wrote, without headers.
    pub(super) fn from_json(value: &Value) -> Option<Self> {
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        let status = value.get("status").and_then(Value::as_u64).and_then(|s| u16::try_from(s).ok());
        let kind = text("type")?;
        let mut problem = Self::new(
            StatusCode::from_u16(status?).ok()?,
            kind.strip_prefix(URN).unwrap_or(kind),
            text("detail").unwrap_or_default(),
        );
        let about = value.get("identifier").and_then(|i| i.get("value")).and_then(Value::as_str);
        problem.identifier = about.and_then(|name| Name::parse(name).ok());
        let parts = value.get("subproblems").and_then(Value::as_array);
        problem.subproblems = parts.into_iter().flatten().filter_map(Self::from_json).collect();
        Some(problem)
    }

    /// The document as it stands in a body or in an object's `error`.
    pub(super) fn json(&self) -> Value {
        let mut document = json!({
            "type": if self.kind.contains(':') { self.kind.clone() } else { format!("{URN}{}", self.kind) },
            "detail": self.detail,
            "status": self.status.as_u16(),
        });
        if let Some(map) = document.as_object_mut() {
            if let Some(name) = &self.identifier {
                map.insert("identifier".to_owned(), identifier(name));
            }
            if !self.subproblems.is_empty() {
                map.insert("subproblems".to_owned(), self.subproblems.iter().map(Self::json).collect());
            }
            if let Some((key, value)) = &self.more {
                map.insert((*key).to_owned(), value.clone());
            }
        }
        document
    }
}

/// An identifier object (RFC 8555 section 9.7.7, RFC 8738 section 3).
pub(super) fn identifier(name: &Name) -> Value {
    match name {
        Name::Dns(dns) => json!({ "type": "dns", "value": &**dns }),
        Name::Ip(ip) => json!({ "type": "ip", "value": ip.to_string() }),
    }
}
