//! What CAs send, as they send it (RFC 8555 section 7.1): read leniently, believed only after the checks of the callers.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use crate::domain::name::Name;
use crate::ports::{ChallengeKind, OrderStatus};

/// What a request is about; its name in metrics and evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Endpoint {
    Directory,
    NewNonce,
    NewAccount,
    Account,
    KeyChange,
    NewOrder,
    Orders,
    Order,
    Authorization,
    Challenge,
    Finalize,
    Certificate,
    RenewalInfo,
}

impl Endpoint {
    /// Its stable name.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::NewNonce => "new-nonce",
            Self::NewAccount => "new-account",
            Self::Account => "account",
            Self::KeyChange => "key-change",
            Self::NewOrder => "new-order",
            Self::Orders => "orders",
            Self::Order => "order",
            Self::Authorization => "authorization",
            Self::Challenge => "challenge",
            Self::Finalize => "finalize",
            Self::Certificate => "certificate",
            Self::RenewalInfo => "renewal-info",
        }
    }

    /// Whether the thing asked for is part of an order, so that "not found" means that the order is gone.
    pub(super) fn is_of_an_order(self) -> bool {
        matches!(self, Self::Order | Self::Authorization | Self::Challenge | Self::Finalize | Self::Certificate)
    }
}

/// RFC 8555 section 7.1.1.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Directory {
    pub(super) new_nonce: String,
    pub(super) new_account: String,
    pub(super) new_order: String,
    pub(super) key_change: Option<String>,
    pub(super) renewal_info: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) meta: Meta,
}

/// What the directory says about the CA.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Meta {
    pub(super) terms_of_service: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) external_account_required: bool,
    /// Name to description (draft-ietf-acme-profiles).
    #[serde(deserialize_with = "or_default")]
    pub(super) profiles: BTreeMap<String, serde_json::Value>,
}

/// RFC 8555 section 7.1.2.
#[derive(Debug, Deserialize)]
pub(super) struct AccountObject {
    pub(super) status: Option<String>,
    pub(super) orders: Option<String>,
}

/// RFC 8555 section 7.1.2.1.
#[derive(Debug, Deserialize)]
pub(super) struct OrdersObject {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) orders: Vec<String>,
}

/// RFC 8555 section 7.1.3.
#[derive(Debug, Deserialize)]
pub(super) struct OrderObject {
    pub(super) status: Status,
    pub(super) expires: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) identifiers: Vec<Identifier>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) authorizations: Vec<String>,
    pub(super) finalize: Option<String>,
    pub(super) certificate: Option<String>,
    pub(super) error: Option<Problem>,
    pub(super) profile: Option<String>,
    pub(super) replaces: Option<String>,
}

/// RFC 8555 section 7.1.4.
#[derive(Debug, Deserialize)]
pub(super) struct AuthorizationObject {
    pub(super) status: Status,
    pub(super) identifier: Identifier,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) challenges: Vec<ChallengeObject>,
}

/// RFC 8555 section 8.
#[derive(Debug, Deserialize)]
pub(super) struct ChallengeObject {
    #[serde(rename = "type", default)]
    pub(super) kind: String,
    pub(super) url: Option<String>,
    /// As text: a kind of challenge that we do not know may have a status that we do not know.
    pub(super) status: Option<String>,
    pub(super) token: Option<String>,
    pub(super) error: Option<Problem>,
}

impl ChallengeObject {
    /// Which of the kinds that we know it is.
    pub(super) fn known_kind(&self) -> Option<ChallengeKind> {
        [ChallengeKind::Http01, ChallengeKind::TlsAlpn01, ChallengeKind::Dns01]
            .into_iter()
            .find(|k| k.as_str() == self.kind)
    }
}

/// Every status that an order or authorization can have (RFC 8555 section 7.1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Pending,
    Ready,
    Processing,
    Valid,
    Invalid,
    Deactivated,
    Expired,
    Revoked,
}

impl Status {
    /// As the status of an order; what no order can be is dead.
    pub(super) fn of_order(self) -> OrderStatus {
        match self {
            Self::Pending => OrderStatus::Pending,
            Self::Ready => OrderStatus::Ready,
            Self::Processing => OrderStatus::Processing,
            Self::Valid => OrderStatus::Valid,
            Self::Invalid | Self::Deactivated | Self::Expired | Self::Revoked => OrderStatus::Invalid,
        }
    }

    /// Whether an authorization in this status can still let its order through.
    pub(super) fn is_alive(self) -> bool {
        self.of_order() != OrderStatus::Invalid
    }
}

/// RFC 8555 section 9.7.7, RFC 8738.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Identifier {
    #[serde(rename = "type", default)]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) value: String,
}

impl Identifier {
    /// As a name of ours; `None` for kinds and values that we do not have.
    pub(super) fn name(&self) -> Option<Name> {
        let name = Name::parse(&self.value).ok()?;
        match (&name, self.kind.as_str()) {
            (Name::Dns(_), "dns") | (Name::Ip(_), "ip") => Some(name),
            _ => None,
        }
    }

    /// For a newOrder.
    pub(super) fn json(name: &Name) -> serde_json::Value {
        let kind = match name {
            Name::Dns(_) => "dns",
            Name::Ip(_) => "ip",
        };
        serde_json::json!({ "type": kind, "value": name.to_string() })
    }
}

/// A problem document (RFC 7807, RFC 8555 section 6.7).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Problem {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) detail: Option<String>,
    pub(super) instance: Option<String>,
    pub(super) identifier: Option<Identifier>,
    #[serde(deserialize_with = "or_default")]
    pub(super) subproblems: Vec<Problem>,
}

impl Problem {
    /// Reads a problem document; `None` if the bytes are none.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let found: Self = serde_json::from_slice(bytes).ok()?;
        (found.kind.is_some() || found.detail.is_some()).then_some(found)
    }

    /// The type without its URN prefix (also that of drafts), empty if there is none.
    pub(super) fn short_kind(&self) -> &str {
        let kind = self.kind.as_deref().unwrap_or_default();
        kind.strip_prefix("urn:ietf:params:acme:error:")
            .or_else(|| kind.strip_prefix("urn:acme:error:"))
            .unwrap_or(kind)
    }

    /// The text, empty if there is none.
    pub(super) fn said(&self) -> &str {
        self.detail.as_deref().unwrap_or_default()
    }
}

/// Servers written in Go send `null` for a list that is empty.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

/// RFC 9773 section 4.2.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RenewalInfoObject {
    pub(super) suggested_window: WindowObject,
    #[serde(rename = "explanationURL")]
    pub(super) explanation_url: Option<String>,
}

/// The suggested window.
#[derive(Debug, Deserialize)]
pub(super) struct WindowObject {
    pub(super) start: String,
    pub(super) end: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_a_name_only_if_its_type_fits() {
        let id = |kind: &str, value: &str| Identifier { kind: kind.to_owned(), value: value.to_owned() };
        assert!(id("dns", "a.example").name().is_some() && id("ip", "192.0.2.1").name().is_some());
        for (kind, value) in [("dns", "192.0.2.1"), ("ip", "a.example"), ("email", "a.example"), ("dns", "$(id)")] {
            assert_eq!(id(kind, value).name(), None, "{kind} {value}");
        }
    }

    #[test]
    fn a_problem_is_recognised_by_type_or_detail_only() {
        let kind = |text: &str| Problem::parse(text.as_bytes()).map(|p| p.short_kind().to_owned());
        assert_eq!(kind(r#"{"type":"urn:ietf:params:acme:error:badNonce"}"#).as_deref(), Some("badNonce"));
        assert_eq!(kind(r#"{"detail":"no"}"#).as_deref(), Some(""));
        for bad in ["{}", "[]", "<html>", "", r#"{"type":7}"#, r#"{"status":"valid"}"#] {
            assert_eq!(kind(bad), None, "{bad}");
        }
    }

    #[test]
    fn null_is_as_good_as_an_empty_list() {
        assert!(serde_json::from_str::<OrdersObject>(r#"{"orders":null}"#).is_ok_and(|o| o.orders.is_empty()));
        let problem = r#"{"type":"dns","detail":null,"identifier":null,"subproblems":null}"#;
        assert!(Problem::parse(problem.as_bytes()).is_some_and(|p| p.short_kind() == "dns"));
        let directory = r#"{"newNonce":"n","newAccount":"a","newOrder":"o","meta":null}"#;
        assert!(serde_json::from_str::<Directory>(directory).is_ok());
    }

    #[test]
    fn deeply_nested_problems_are_an_error_and_not_a_crash() {
        let deep = format!("{}{}", r#"{"detail":"x","subproblems":["#.repeat(100_000), "]}".repeat(100_000));
        assert_eq!(Problem::parse(deep.as_bytes()), None);
    }
}
