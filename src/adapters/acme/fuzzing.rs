//! What becomes of a CA's bytes, without a CA: for the fuzz target `acme_json` and nothing else.

use serde::de::DeserializeOwned;

use super::ari;
use super::classify::{self, Carried};
use super::headers::Headers;
use super::messages::{
    AccountObject, AuthorizationObject, Directory, Endpoint, Identifier, OrderObject, OrdersObject, Problem,
    RenewalInfoObject,
};
use super::transport::Answer;
use super::views::is_token;
use crate::domain::id::IssuerId;
use crate::domain::name::Name;
use crate::ports::{IssuerError, OrderStatus, RenewalInfo};

/// Everything that the engine could be handed.
#[derive(Debug, Default)]
pub struct Read {
    /// Names of orders, authorizations and problems.
    pub names: Vec<Name>,
    /// Tokens of challenges.
    pub tokens: Vec<String>,
    /// The status of an order.
    pub status: Option<OrderStatus>,
    /// A renewal window.
    pub window: Option<RenewalInfo>,
    /// Errors, for every status that has a meaning of its own.
    pub errors: Vec<IssuerError>,
}

/// Reads `body` as the answer to every request that there is.
#[must_use]
pub fn read(issuer: &IssuerId, body: &[u8]) -> Read {
    let mut out = Read::default();
    for status in [400, 403, 404, 429, 503] {
        for endpoint in [Endpoint::NewOrder, Endpoint::Order, Endpoint::NewAccount] {
            let answer = Answer { status, headers: Headers::default(), body: Ok(body.to_vec()) };
            out.errors.push(classify::refused(issuer, endpoint, &answer, Carried::Replaces));
        }
    }
    out.errors.extend(Problem::parse(body).map(|problem| classify::dead(issuer, &problem)));
    if let Some(order) = object::<OrderObject>(body) {
        out.status = Some(order.status.of_order());
        out.names.extend(order.identifiers.iter().filter_map(Identifier::name));
        out.errors.extend(order.error.map(|problem| classify::dead(issuer, &problem)));
    }
    if let Some(authorization) = object::<AuthorizationObject>(body) {
        out.names.extend(authorization.identifier.name());
        let known = authorization.challenges.iter().filter(|c| c.known_kind().is_some());
        out.tokens.extend(known.filter_map(|c| c.token.clone()).filter(|token| is_token(token)));
    }
    match object::<RenewalInfoObject>(body).map(|info| ari::window(issuer, info, None)) {
        Some(Ok(window)) => out.window = Some(window),
        Some(Err(error)) => out.errors.push(error),
        None => {}
    }
    // Whose texts are checked before every use.
    drop((object::<Directory>(body), object::<AccountObject>(body), object::<OrdersObject>(body)));
    out
}

fn object<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    serde_json::from_slice(body).ok()
}
