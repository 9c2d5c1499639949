//! From what a CA sent to what the engine may rely on: authorizations that fit the order, tokens that are safe, reasons
//! that people can read.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::classify;
use super::client::Client;
use super::messages::{AuthorizationObject, ChallengeObject, Identifier, OrderObject, Problem, Status};
use super::text::clean;
use crate::domain::execution::Fault;
use crate::domain::name::Name;
use crate::ports::{AuthorizationView, ChallengeKind, ChallengeView, IssuerError, IssuerErrorKind};

/// CAs offer three or four.
const MOST_CHALLENGES: usize = 16;

/// The authorizations of an order that is pending.
///
/// # Errors
/// One is for a name that was not ordered, or has a challenge that is not well formed.
pub(super) async fn authorizations(
    client: &Client,
    order: &str,
    object: &OrderObject,
    found: &[AuthorizationObject],
) -> Result<Vec<AuthorizationView>, IssuerError> {
    let ordered: BTreeSet<Name> =
        object.identifiers.iter().filter_map(Identifier::name).map(|n| n.authorized()).collect();
    let account = client.account().await?;
    let mut views = Vec::with_capacity(found.len());
    for authorization in found {
        let id = &authorization.identifier;
        let name = id.name().map(|n| n.authorized()).filter(|n| ordered.contains(n)).ok_or_else(|| {
            let text = format!("an authorization for {:?}, which the order does not name", clean(&id.value, 253));
            classify::broken(client.id(), text)
        })?;
        let valid = authorization.status == Status::Valid;
        let mut challenges = Vec::new();
        for challenge in authorization.challenges.iter().take(MOST_CHALLENGES) {
            // A valid authorization needs none, and a challenge that failed cannot be answered again.
            let spent = challenge.status.as_deref() == Some("invalid");
            if let Some(kind) = challenge.known_kind().filter(|_| !valid && !spent) {
                let (url, token) = checked(client, &name, challenge)?;
                client.shared.book.link(client.id(), &url, order);
                let key_authorization = account.key.key_authorization(&token);
                challenges.push(ChallengeView { kind, url, token, key_authorization });
            }
        }
        views.push(AuthorizationView { name, valid, challenges });
    }
    Ok(views)
}

/// The authorizations that are not pending any more, with every challenge that is well formed.
pub(super) async fn decided(
    client: &Client,
    found: &[AuthorizationObject],
) -> Result<Vec<AuthorizationView>, IssuerError> {
    let account = client.account().await?;
    let view = |authorization: &AuthorizationObject| {
        let name = authorization.identifier.name()?.authorized();
        let known = authorization.challenges.iter().take(MOST_CHALLENGES);
        let known = known.filter_map(|challenge| Some((challenge.known_kind()?, challenge)));
        let challenges = known.filter_map(|(kind, challenge)| {
            let (url, token) = checked(client, &name, challenge).ok()?;
            let key_authorization = account.key.key_authorization(&token);
            Some(ChallengeView { kind, url, token, key_authorization })
        });
        let challenges = challenges.collect();
        Some(AuthorizationView { valid: authorization.status == Status::Valid, challenges, name })
    };
    Ok(found.iter().filter(|a| a.status != Status::Pending).filter_map(view).collect())
}

fn checked(client: &Client, name: &Name, challenge: &ChallengeObject) -> Result<(Arc<str>, String), IssuerError> {
    let token = challenge.token.as_deref().unwrap_or_default();
    if !is_token(token) {
        let text = format!(
            "the {} challenge for {name} has the token {:?}, expected 1 to 128 characters of A-Z a-z 0-9 - _",
            clean(&challenge.kind, 32),
            clean(token, 64)
        );
        return Err(classify::broken(client.id(), text));
    }
    // The text as the CA wrote it would do too, but one spelling is easier to find again.
    let url = client.url("challenge", challenge.url.as_deref().unwrap_or_default())?;
    Ok((Arc::from(url.as_str()), token.to_owned()))
}

/// RFC 8555 section 8.1, and safe as the name of a file: no dot, no slash, nothing that a shell knows.
pub(super) fn is_token(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// Why an order is dead: what the CA says of the order, and of each challenge what it saw and expected.
pub(super) async fn why_dead(client: &Client, order: &OrderObject, found: &[AuthorizationObject]) -> IssuerError {
    let failed: Vec<Problem> = found.iter().flat_map(failures).collect();
    let said: Vec<String> =
        failed.iter().map(|p| format!("{}: {}", p.identifier.as_ref().map_or("", |i| &i.value), p.said())).collect();
    let mut error = match (&order.error, failed.is_empty()) {
        (Some(problem), _) => {
            let mut problem = problem.clone();
            if problem.subproblems.is_empty() {
                problem.subproblems = failed;
            }
            classify::dead(client.id(), &problem)
        }
        (None, false) => {
            let first = failed.first().and_then(|p| p.kind.clone());
            let alike = failed.iter().all(|p| p.kind == first);
            let kind = if alike { first } else { Some("compound".to_owned()) };
            let detail = Some(said.join("; "));
            classify::dead(client.id(), &Problem { kind, detail, subproblems: failed, ..Problem::default() })
        }
        (None, true) => {
            let gone = found.iter().find(|a| !a.status.is_alive());
            let why = gone.map_or_else(
                || "and it gave no reason".to_owned(),
                |a| format!("because its authorization for {} is {:?}", clean(&a.identifier.value, 253), a.status),
            );
            let text = format!("issuer {} says that the order is invalid {why}", client.id());
            classify::error(IssuerErrorKind::OrderDead, Fault::Issuer, text)
        }
    };
    // CAs repeat the key authorization that they expected; the token tells people as much.
    if let Ok(account) = client.account().await {
        let thumbprint = account.key.thumbprint();
        error.text = error.text.replace(thumbprint, "[…]");
        for (_, _, text) in &mut error.subproblems {
            *text = text.replace(thumbprint, "[…]");
        }
    }
    error
}

/// What went wrong with each challenge of an authorization.
fn failures(authorization: &AuthorizationObject) -> impl Iterator<Item = Problem> {
    authorization.challenges.iter().take(MOST_CHALLENGES).filter_map(|challenge| {
        let problem = challenge.error.as_ref()?;
        let kind = challenge.known_kind().map_or("challenge", ChallengeKind::as_str);
        let identifier = Some(authorization.identifier.clone());
        Some(Problem { identifier, detail: Some(format!("{kind}: {}", problem.said())), ..problem.clone() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tokens_that_are_safe_as_a_file_name_pass() {
        for good in ["a", "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0", &"x".repeat(128)] {
            assert!(is_token(good), "{good}");
        }
        for bad in
            ["", ".", "..", "../../x", "a/b", "$(id)", "a b", "a\0", "a=", "ä", &"x".repeat(129), &"x".repeat(1 << 20)]
        {
            assert!(!is_token(bad), "{}", clean(bad, 40));
        }
    }
}
