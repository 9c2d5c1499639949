//! Orders (RFC 8555 section 7.4): new ones with what they replace (RFC 9773 section 5), and what they look like.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use http::StatusCode;
use http::header::RETRY_AFTER;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::Answer;
use super::book::{Authorization, AuthorizationStatus, Book, Challenge, ChallengeStatus, Order, Stage};
use super::config::{Addresses, Reuse};
use super::fault::Fault;
use super::house::{Ask, Event, Offer};
use super::problem::{Problem, identifier};
use super::renewal::in_window;
use super::server::{Ca, Signed};
use super::stats::OrderRecord;
use crate::domain::certificate::CertId;
use crate::domain::name::{Name, NameSet};
use crate::domain::time::Timestamp;
use crate::ports::{ChallengeKind, OrderStatus};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewOrder {
    identifiers: Vec<Identifier>,
    #[serde(default)]
    not_before: Option<Value>,
    #[serde(default)]
    not_after: Option<Value>,
    #[serde(default)]
    profile: Option<String>,
    #[serde(default)]
    replaces: Option<String>,
}

#[derive(Deserialize)]
struct Identifier {
    r#type: String,
    value: String,
}

impl Ca {
    pub(super) fn new_order(&self, signed: &Signed) -> Result<Answer, Problem> {
        let account = signed.account()?;
        let asked: NewOrder = signed.payload()?;
        if asked.not_before.is_some() || asked.not_after.is_some() {
            return Err(Problem::malformed("notBefore and notAfter are not taken; choose a profile"));
        }
        let offer = self.house.offer(asked.profile.as_deref())?;
        let names = self.names(&asked.identifiers, &offer)?;
        let profile = offer.name;
        let replaces = asked.replaces.map(|id| CertId(Arc::from(id)));
        if let Some(kind) =
            signed.strike.find(|f| if let Fault::ReplacesRefused(k) = f { Some(k.clone()) } else { None })
            && replaces.is_some()
        {
            return Err(Problem::new(StatusCode::CONFLICT, &kind, "the order's replaces field is refused"));
        }
        let now = self.clock.now();
        let mut book = self.book();
        if self.config.reuse_orders == Reuse::SameAccount
            && let Some(order) = same_order(&book, account, &names, profile.as_deref(), replaces.as_ref(), now)
        {
            let (url, json) = (self.url("order", order.id), self.order_json(&book, order, now));
            return Ok(self.created(StatusCode::CREATED, url, json));
        }
        let exempt = match &replaces {
            Some(id) => self.may_replace(&mut book, id, account, &names, now)?,
            None => false,
        };
        let ask = Ask { account, names: &names, profile: profile.as_deref(), renewal: exempt };
        self.house.order(&mut book, &ask, now)?;
        let order = self.open_order(&mut book, account, names, profile, replaces, signed, now)?;
        let json = self.order_json(&book, &order, now);
        let url = self.url("order", order.id);
        let record = OrderRecord {
            url: url.clone(),
            account: self.url("account", account),
            names: order.names.clone(),
            profile: order.profile.clone(),
            replaces: order.replaces.clone(),
            at: now,
        };
        self.house.happened(Event::Ordered { order: &order, record }, now);
        Ok(self.created(StatusCode::CREATED, url, json))
    }

    /// The identifiers as names; what is wrong is said for each (RFC 8555 section 6.7.1).
    fn names(&self, identifiers: &[Identifier], profile: &Offer) -> Result<NameSet, Problem> {
        if identifiers.is_empty() || identifiers.len() > profile.most_names {
            let text = format!("{} identifiers are none of 1 to {}", identifiers.len(), profile.most_names);
            return Err(Problem::malformed(text));
        }
        let (mut names, mut refused) = (Vec::new(), Vec::new());
        for Identifier { r#type, value } in identifiers {
            if r#type != "dns" && r#type != "ip" {
                let text = format!("identifiers of type {type:?} are not taken");
                return Err(Problem::new(StatusCode::BAD_REQUEST, "unsupportedIdentifier", text));
            }
            let name = Name::parse(value).map_err(|e| Problem::malformed(format!("{value:?} {e}")))?;
            if matches!(name, Name::Ip(_)) != (r#type == "ip") {
                return Err(Problem::malformed(format!("{value:?} is no identifier of type {type:?}")));
            }
            let about = name.authorized();
            if matches!(name, Name::Ip(_)) && profile.addresses == Addresses::Refused {
                let text = "the profile does not cover IP addresses";
                refused.push(Problem::new(StatusCode::BAD_REQUEST, "rejectedIdentifier", text).about(&about));
            } else if self.config.rejected.iter().any(|r| below(&about, r)) {
                let text = format!("policy forbids issuing for {name}");
                refused.push(Problem::new(StatusCode::BAD_REQUEST, "rejectedIdentifier", text).about(&about));
            }
            names.push(name);
        }
        Problem::of_parts(refused, "some identifiers are refused").map_or_else(|| Ok(NameSet::new(names)), Err)
    }

    /// Whether the order may replace this certificate (RFC 9773 section 5), and whether it is exempt from limits: in
    /// the certificate's window.
    fn may_replace(
        &self,
        book: &mut Book,
        id: &CertId,
        account: u64,
        names: &NameSet,
        now: Timestamp,
    ) -> Result<bool, Problem> {
        let well_formed = |part: &str| !part.is_empty() && B64.decode(part).is_ok();
        if !id.0.split_once('.').is_some_and(|(aki, serial)| well_formed(aki) && well_formed(serial)) {
            return Err(Problem::malformed(format!("replaces: {id} is no certificate id (RFC 9773 section 4.1)")));
        }
        let unknown = || Problem::not_found(format!("replaces: this CA issued no certificate {id}"));
        let certificate = book.certificate_by_id(id).ok_or_else(unknown)?;
        if certificate.account != account {
            return Err(Problem::unauthorized(format!("replaces: {id} belongs to another account")));
        }
        if !certificate.issued.names.shares_one_with(names) {
            return Err(Problem::malformed(format!("replaces: {id} shares no identifier with the order")));
        }
        let window = self.house.window(certificate, now);
        let other = certificate.replaced_by;
        if other.and_then(|o| book.orders.get(&o)).is_some_and(|o| book.status(o, now) != OrderStatus::Invalid) {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                "alreadyReplaced",
                format!("replaces: another order already replaces {id}"),
            ));
        }
        Ok(window.is_some_and(|w| in_window(&w, now)))
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one order, used in one place")]
    fn open_order(
        &self,
        book: &mut Book,
        account: u64,
        names: NameSet,
        profile: Option<String>,
        replaces: Option<CertId>,
        signed: &Signed,
        now: Timestamp,
    ) -> Result<Order, Problem> {
        let strike = &signed.strike;
        let evil = strike.find(|f| if let Fault::EvilToken(token) = f { Some(token.clone()) } else { None });
        let id = book.fresh();
        let expires = now.plus(self.config.order_lifetime);
        let (mut authorizations, mut fresh) = (Vec::new(), Vec::new());
        for name in names.iter() {
            let (about, wildcard) = (name.authorized(), name.is_wildcard());
            let known = match self.config.reuse_authorizations {
                Reuse::SameAccount => {
                    book.accounts.get(&account).and_then(|a| book.valid_authorization(a, &about, wildcard, now))
                }
                Reuse::Never => None,
            };
            if let Some(known) = known {
                authorizations.push(known);
                continue;
            }
            let challenges: Vec<Challenge> = kinds(name)
                .iter()
                .filter(|kind| self.config.challenges.contains(kind))
                .map(|kind| Challenge {
                    kind: *kind,
                    token: evil.clone().unwrap_or_else(|| self.token()),
                    status: ChallengeStatus::Pending,
                    validated: None,
                    error: None,
                })
                .collect();
            if challenges.is_empty() {
                let text = "no way to prove this name is on offer: the operator decides which challenges are";
                let refused = Problem::new(StatusCode::BAD_REQUEST, "rejectedIdentifier", text);
                return Err(refused.about(&about));
            }
            let authorization = Authorization {
                account,
                order: id,
                name: about,
                wildcard,
                status: AuthorizationStatus::Pending,
                expires,
                challenges,
                uses: 0,
            };
            let number = book.fresh();
            authorizations.push(number);
            fresh.push((number, authorization));
        }
        let invalid = Stage::Invalid(Some(Problem::unauthorized("the order is invalid because the scenario says so")));
        let order = Order {
            id,
            account,
            names,
            profile,
            replaces,
            echo: !strike.has(&Fault::NoReplacesEcho),
            authorizations,
            at: now,
            expires,
            ruled: None,
            stage: if strike.has(&Fault::OrderInvalid) { invalid } else { Stage::Open },
        };
        book.add_order(order.clone(), fresh, now)?;
        if let Some(certificate) = order.replaces.as_ref().and_then(|id| book.certificate_by_id(id)) {
            certificate.replaced_by = Some(order.id);
        }
        Ok(order)
    }

    /// 256 bits (RFC 8555 section 8.1 asks for 128).
    fn token(&self) -> String {
        let mut token = [0_u8; 32];
        self.entropy.fill(&mut token);
        B64.encode(token)
    }

    pub(super) fn order(&self, id: &str, signed: &Signed) -> Result<Answer, Problem> {
        let now = self.clock.now();
        let mut book = self.book();
        let id = self.own_order(&book, id, signed)?;
        if signed.strike.has(&Fault::OrderInvalid)
            && let Some(order) = book.orders.get_mut(&id)
        {
            order.stage =
                Stage::Invalid(Some(Problem::unauthorized("the order is invalid because the scenario says so")));
        }
        let order = book.orders.get(&id).ok_or_else(|| Problem::not_found("the order is gone"))?;
        let answer = Answer::json(self.order_json(&book, order, now));
        Ok(answer.maybe(RETRY_AFTER, self.patience(&book, order, now)))
    }

    /// When it is worth asking for an order again, in seconds.
    pub(super) fn patience(&self, book: &Book, order: &Order, now: Timestamp) -> Option<String> {
        match (book.status(order, now), &order.stage) {
            (OrderStatus::Processing, Stage::Waiting { .. }) => {
                Some(self.config.wait_retry.as_secs().max(1).to_string())
            }
            (OrderStatus::Processing, _) => Some("1".to_owned()),
            _ => None,
        }
    }

    /// The number of an order that belongs to the signer.
    pub(super) fn own_order(&self, book: &Book, id: &str, signed: &Signed) -> Result<u64, Problem> {
        let own = signed.account()?;
        let order = self.number(id).and_then(|n| book.orders.get(&n));
        let order = order.ok_or_else(|| Problem::not_found(format!("there is no order {id:?}")))?;
        if order.account == own {
            Ok(order.id)
        } else {
            Err(Problem::unauthorized("the order belongs to another account"))
        }
    }

    pub(super) fn order_json(&self, book: &Book, order: &Order, now: Timestamp) -> Value {
        let status = book.status(order, now);
        let urls: Vec<String> = order.authorizations.iter().map(|a| self.url("authz", *a)).collect();
        let mut json = json!({
            "status": match status {
                OrderStatus::Pending => "pending",
                OrderStatus::Ready => "ready",
                OrderStatus::Processing => "processing",
                OrderStatus::Valid => "valid",
                OrderStatus::Invalid => "invalid",
            },
            "expires": order.expires.to_string(),
            "identifiers": order.names.iter().map(identifier).collect::<Vec<_>>(),
            "authorizations": urls,
            "finalize": format!("{}/finalize", self.url("order", order.id)),
        });
        let Some(map) = json.as_object_mut() else { return json };
        if let Some(profile) = &order.profile {
            map.insert("profile".to_owned(), json!(profile));
        }
        if let Some(replaces) = order.replaces.as_ref().filter(|_| order.echo) {
            map.insert("replaces".to_owned(), json!(&*replaces.0));
        }
        if let Stage::Valid { certificate } = &order.stage {
            map.insert("certificate".to_owned(), json!(self.url("cert", *certificate)));
        }
        if status == OrderStatus::Invalid
            && let Some(error) = order_error(book, order)
        {
            map.insert("error".to_owned(), error.json());
        }
        json
    }
}

/// Why an order is invalid: its own reason, else those of its authorizations.
fn order_error(book: &Book, order: &Order) -> Option<Problem> {
    if let Stage::Invalid(own) = &order.stage {
        return own.clone();
    }
    let authorizations = order.authorizations.iter().filter_map(|id| book.authorizations.get(id));
    let errors = authorizations.flat_map(|a| a.challenges.iter().filter_map(|c| Some(c.error.clone()?.about(&a.name))));
    Problem::of_parts(errors.collect(), "several identifiers could not be validated")
}

/// The account's pending or ready order for the same names and profile that replaces the same.
fn same_order<'a>(
    book: &'a Book,
    account: u64,
    names: &NameSet,
    profile: Option<&str>,
    replaces: Option<&CertId>,
    now: Timestamp,
) -> Option<&'a Order> {
    let orders = book.accounts.get(&account)?.orders.iter().rev().filter_map(|id| book.orders.get(id));
    orders.into_iter().find(|o| {
        o.names == *names
            && o.profile.as_deref() == profile
            && o.replaces.as_ref() == replaces
            && matches!(book.status(o, now), OrderStatus::Pending | OrderStatus::Ready)
    })
}

/// The challenges on offer: a wildcard can only be proved in DNS (RFC 8555 section 7.1.3), an address never
/// (RFC 8738 section 7).
fn kinds(name: &Name) -> &'static [ChallengeKind] {
    match name {
        Name::Dns(_) if name.is_wildcard() => &[ChallengeKind::Dns01],
        Name::Dns(_) => &[ChallengeKind::Http01, ChallengeKind::TlsAlpn01, ChallengeKind::Dns01],
        Name::Ip(_) => &[ChallengeKind::Http01, ChallengeKind::TlsAlpn01],
    }
}

/// Whether `name` is `zone` or lies below it.
fn below(name: &Name, zone: &Name) -> bool {
    match (name, zone) {
        (Name::Dns(name), Name::Dns(zone)) => {
            name.strip_suffix(&**zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        }
        (Name::Ip(name), Name::Ip(zone)) => name == zone,
        (Name::Dns(_), Name::Ip(_)) | (Name::Ip(_), Name::Dns(_)) => false,
    }
}
