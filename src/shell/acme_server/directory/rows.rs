//! Between the book of the protocol and the rows that are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::super::book::{Account, Authorization, Book, Certificate, Challenge, Order, Stage};
use super::super::config::Bounds;
use super::super::jws::Jwk;
use super::super::problem::Problem;
use super::issued_of;
use crate::domain::directory as kept;
use crate::domain::id::{DirectoryId, ProfileId};
use crate::domain::limits::Ledger;
use crate::domain::state::Change;
use crate::engine::authority::{Authority, Rows};

/// The order's own problem among its errors; those of challenges stand by the places of authorization and challenge.
const OWN: &str = "order";
/// All errors of an order, as they are kept: 32 of 512 bytes. A batch of a commit holds many orders.
const MOST_ERRORS: usize = 16 * 1_024;

pub(super) fn account(directory: &DirectoryId, id: u64, account: Option<&Account>) -> Change {
    let row = account.map(|a| {
        Arc::new(kept::Account {
            key: Arc::from(a.key.canonical()),
            contacts: (!a.contacts.is_empty()).then(|| Arc::from(a.contacts.join("\n"))),
            standing: a.status,
            grant: a.external.as_deref().map(Arc::from),
            at: a.at,
        })
    });
    Change::Account(kept::RowId { directory: directory.clone(), number: id }, row)
}

/// `serial` is that of the order's certificate, if it has one.
pub(super) fn order(
    directory: &DirectoryId,
    id: u64,
    whole: Option<&(Order, Vec<Authorization>)>,
    serial: Option<Arc<str>>,
) -> Result<Change, Problem> {
    let row = match whole {
        None => None,
        Some((order, authorizations)) => Some(Arc::new(row(order, authorizations, serial)?)),
    };
    Ok(Change::Order(kept::RowId { directory: directory.clone(), number: id }, row))
}

fn row(order: &Order, authorizations: &[Authorization], serial: Option<Arc<str>>) -> Result<kept::Order, Problem> {
    let errors = errors(order, authorizations);
    let stage = match &order.stage {
        Stage::Open => kept::Stage::Open,
        Stage::Waiting { spki, since } => kept::Stage::Waiting { spki: spki.clone(), since: *since },
        Stage::Processing { spki, since, .. } => kept::Stage::Processing { spki: spki.clone(), since: *since },
        Stage::Valid { .. } => {
            let serial = serial.ok_or_else(|| Problem::internal("a valid order has no certificate"))?;
            kept::Stage::Valid { serial }
        }
        Stage::Invalid(_) => kept::Stage::Invalid,
    };
    let names: Vec<_> = order.names.iter().cloned().collect();
    let authorizations = authorizations.iter().zip(names).map(|(authorization, name)| kept::Authorization {
        name,
        status: authorization.status,
        expires: authorization.expires,
        challenges: authorization
            .challenges
            .iter()
            .map(|c| kept::Challenge {
                kind: c.kind,
                token: Arc::from(&*c.token),
                status: c.status,
                validated: c.validated,
            })
            .collect(),
    });
    let profile = order.profile.as_deref().and_then(|p| ProfileId::parse(p).ok());
    Ok(kept::Order {
        account: order.account,
        names: order.names.clone(),
        profile: profile.ok_or_else(|| Problem::internal("an order has no profile"))?,
        replaces: order.replaces.clone(),
        at: order.at,
        expires: order.expires,
        ruled: order.ruled,
        stage,
        authorizations: authorizations.collect(),
        errors: (!errors.is_empty()).then(|| Arc::from(Value::Object(errors).to_string())),
    })
}

/// Those that have room: the order's own first. What has none is in the audit log.
fn errors(order: &Order, authorizations: &[Authorization]) -> Map<String, Value> {
    let own = match &order.stage {
        Stage::Invalid(own) => own.as_ref().map(|own| (OWN.to_owned(), own)),
        Stage::Open | Stage::Waiting { .. } | Stage::Processing { .. } | Stage::Valid { .. } => None,
    };
    let each = authorizations.iter().enumerate().flat_map(|(a, authorization)| {
        let challenges = authorization.challenges.iter().enumerate();
        challenges.filter_map(move |(c, challenge)| Some((format!("{a}.{c}"), challenge.error.as_ref()?)))
    });
    let mut errors = Map::new();
    let mut room = MOST_ERRORS;
    for (place, error) in own.into_iter().chain(each) {
        let mut error = error.clone().bounded();
        let size = |error: &Value| place.len().saturating_add(error.to_string().len()).saturating_add(8);
        let mut json = error.json();
        if size(&json) > room {
            error.subproblems.clear();
            json = error.json();
        }
        let Some(left) = room.checked_sub(size(&json)) else { continue };
        room = left;
        errors.insert(place, json);
    }
    errors
}

/// Fills a book. An account or order that cannot be understood is left out, and said; none of ours is.
pub(super) fn fill(book: &mut Book, rows: Rows, authority: &Authority, bounds: &Bounds) {
    for (id, row) in rows.accounts {
        let key = serde_json::from_str::<Value>(&row.key).ok().and_then(|jwk| Jwk::parse(&jwk).ok());
        let Some(key) = key else {
            tracing::error!(account = id, "the key of an ACME account cannot be read: the account is left out");
            continue;
        };
        book.restore_account(Account {
            id,
            key,
            contacts: row.contacts.as_deref().map(|c| c.lines().map(str::to_owned).collect()).unwrap_or_default(),
            status: row.standing,
            external: row.grant.as_deref().map(str::to_owned),
            orders: BTreeSet::new(),
            at: row.at,
            ledger: Ledger::default(),
        });
    }
    let mut valid = BTreeMap::new();
    for (id, row) in rows.orders {
        book.after(id.saturating_add(u64::try_from(row.authorizations.len()).unwrap_or(u64::MAX)));
        if let kept::Stage::Valid { serial } = &row.stage {
            valid.insert(id, (row.account, serial.clone()));
        }
        restore(book, id, &row);
    }
    for (id, (account, serial)) in valid.into_iter().take(bounds.certificates) {
        // What expired is not in the register any more; nobody asks for it.
        let Some(issued) = authority.issued(&serial).and_then(|known| issued_of(authority, &known)) else { continue };
        let revoked = authority.issued(&serial).and_then(|(_, issued)| issued.revoked).map(|(at, _)| at);
        book.add_certificate(
            id,
            Certificate { account, issued, revoked, compromised: false, replaced_by: None, ari: None },
        );
    }
    book.mark_replaced();
}

fn restore(book: &mut Book, id: u64, row: &kept::Order) {
    let errors: Map<String, Value> =
        row.errors.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let error = |key: &str| errors.get(key).and_then(Problem::from_json);
    let mut numbers = Vec::new();
    let mut authorizations = Vec::new();
    // Numbers of authorizations follow that of their order, as they did when they were made.
    for (place, (number, authorization)) in (id.saturating_add(1)..).zip(&row.authorizations).enumerate() {
        numbers.push(number);
        let challenges = authorization.challenges.iter().enumerate().map(|(c, challenge)| Challenge {
            kind: challenge.kind,
            token: challenge.token.to_string(),
            status: challenge.status,
            validated: challenge.validated,
            error: error(&format!("{place}.{c}")),
        });
        let restored = Authorization {
            account: row.account,
            order: id,
            name: authorization.name.authorized(),
            wildcard: authorization.name.is_wildcard(),
            status: authorization.status,
            expires: authorization.expires,
            challenges: challenges.collect(),
            uses: 1,
        };
        authorizations.push((number, restored));
    }
    let stage = match &row.stage {
        kept::Stage::Open => Stage::Open,
        kept::Stage::Waiting { spki, since } => Stage::Waiting { spki: spki.clone(), since: *since },
        kept::Stage::Processing { spki, since } => {
            Stage::Processing { spki: spki.clone(), since: *since, stuck: false }
        }
        kept::Stage::Valid { .. } => Stage::Valid { certificate: id },
        kept::Stage::Invalid => Stage::Invalid(error(OWN)),
    };
    let order = Order {
        id,
        account: row.account,
        names: row.names.clone(),
        profile: Some(row.profile.to_string()),
        replaces: row.replaces.clone(),
        echo: true,
        authorizations: numbers,
        at: row.at,
        expires: row.expires,
        ruled: row.ruled,
        stage,
    };
    book.restore_order(order, authorizations);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::name::{Name, NameSet};
    use crate::domain::time::Timestamp;
    use crate::ports::ChallengeKind;

    #[test]
    fn errors_of_an_order_are_bounded_whatever_a_responder_says() {
        let at = Timestamp::from_unix(1_790_000_000);
        let name = Name::parse("a.example").unwrap();
        let long = || Problem::malformed("ü\u{1}\"".repeat(100_000)).about(&name);
        let challenge = || Challenge {
            kind: ChallengeKind::Http01,
            token: "t".to_owned(),
            status: super::super::super::book::ChallengeStatus::Invalid,
            validated: None,
            error: Some(long()),
        };
        let authorization = Authorization {
            account: 1,
            order: 2,
            name: name.clone(),
            wildcard: false,
            status: super::super::super::book::AuthorizationStatus::Invalid,
            expires: at,
            challenges: vec![challenge(), challenge()],
            uses: 1,
        };
        let parts = Problem::of_parts((0..1_000).map(|_| long()).collect(), "several");
        let order = Order {
            id: 2,
            account: 1,
            names: NameSet::new([name.clone()]),
            profile: None,
            replaces: None,
            echo: true,
            authorizations: Vec::new(),
            at,
            expires: at,
            ruled: None,
            stage: Stage::Invalid(parts),
        };
        let all = vec![authorization; 50];
        let kept = errors(&order, &all);
        let text = Value::Object(kept.clone()).to_string();
        assert!(text.len() <= MOST_ERRORS && text.len() > MOST_ERRORS / 2, "{}", text.len());
        let own = Problem::from_json(kept.get(OWN).unwrap()).unwrap();
        assert_eq!((own.detail.as_str(), own.subproblems.len()), ("several", 0));
        let first = Problem::from_json(kept.get("0.0").unwrap()).unwrap();
        assert!(first.detail.len() <= 1_536 && first.detail.starts_with("ü\u{fffd}\""), "{}", first.detail.len());
    }
}
