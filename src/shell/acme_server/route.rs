//! Paths: which resource a URL names.

use super::fault::Endpoint;

/// A resource with its ids as the URL has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Directory,
    NewNonce,
    NewAccount,
    Account(String),
    OrderList(String),
    KeyChange,
    NewOrder,
    Order(String),
    Finalize(String),
    Authz(String),
    Challenge(String, String),
    Cert(String),
    Revoke,
    RenewalInfo(String),
}

impl Route {
    pub(super) fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        Some(match *parts.as_slice() {
            ["directory"] => Self::Directory,
            ["nonce"] => Self::NewNonce,
            ["account", "new"] => Self::NewAccount,
            ["account", id] => Self::Account(id.to_owned()),
            ["account", id, "orders"] => Self::OrderList(id.to_owned()),
            ["key-change"] => Self::KeyChange,
            ["order", "new"] => Self::NewOrder,
            ["order", id] => Self::Order(id.to_owned()),
            ["order", id, "finalize"] => Self::Finalize(id.to_owned()),
            ["authz", id] => Self::Authz(id.to_owned()),
            ["challenge", authz, index] => Self::Challenge(authz.to_owned(), index.to_owned()),
            ["cert", id] => Self::Cert(id.to_owned()),
            ["revoke"] => Self::Revoke,
            ["renewal", id] => Self::RenewalInfo(id.to_owned()),
            _ => return None,
        })
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        match self {
            Self::Directory => Endpoint::Directory,
            Self::NewNonce => Endpoint::NewNonce,
            Self::NewAccount => Endpoint::NewAccount,
            Self::Account(_) | Self::OrderList(_) => Endpoint::Account,
            Self::KeyChange => Endpoint::KeyChange,
            Self::NewOrder => Endpoint::NewOrder,
            Self::Order(_) => Endpoint::Order,
            Self::Finalize(_) => Endpoint::Finalize,
            Self::Authz(_) => Endpoint::Authz,
            Self::Challenge(..) => Endpoint::Challenge,
            Self::Cert(_) => Endpoint::Cert,
            Self::Revoke => Endpoint::Revoke,
            Self::RenewalInfo(_) => Endpoint::RenewalInfo,
        }
    }
}
