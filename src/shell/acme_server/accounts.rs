//! Accounts (RFC 8555 section 7.3): new, changed, deactivated, their orders, their keys.

use http::StatusCode;
use http::header::{LINK, LOCATION};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::Answer;
use super::book::{Account, AccountStatus, Stage};
use super::config::{Demand, OrderList};
use super::house::Event;
use super::jws::{Jwk, Jws};
use super::problem::Problem;
use super::server::{Ca, Signed};
use super::stats::AccountKeyRecord;
use crate::domain::limits::Ledger;
use crate::ports::OrderStatus;

/// An account has at most this many contacts.
const MOST_CONTACTS: usize = 10;
/// Orders in one piece of an account's list: an answer of some 10 kB.
const ORDERS_A_PAGE: usize = 100;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewAccount {
    #[serde(default)]
    contact: Vec<String>,
    #[serde(default)]
    terms_of_service_agreed: bool,
    #[serde(default)]
    only_return_existing: bool,
    #[serde(default)]
    external_account_binding: Option<Value>,
}

#[derive(Deserialize)]
struct Update {
    #[serde(default)]
    contact: Option<Vec<String>>,
    #[serde(default)]
    status: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyChange {
    account: String,
    old_key: Value,
}

impl Ca {
    pub(super) fn new_account(&self, signed: &Signed) -> Result<Answer, Problem> {
        let key = signed.key()?;
        let asked: NewAccount = signed.payload()?;
        if let Some(known) = self.book().account_by_key(key) {
            if known.status != AccountStatus::Valid {
                return Err(deactivated());
            }
            let (url, json) = (self.url("account", known.id), self.account_json(known));
            return Ok(self.created(StatusCode::OK, url, json));
        }
        if asked.only_return_existing {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "accountDoesNotExist",
                "no account of this CA has this key",
            ));
        }
        if let Some(terms) = self.house.terms().filter(|_| !asked.terms_of_service_agreed) {
            let text = format!("the terms of service at {terms} must be agreed to");
            let problem = Problem::new(StatusCode::FORBIDDEN, "userActionRequired", text);
            return Err(problem.with(LINK, format!("<{terms}>;rel=\"terms-of-service\"")));
        }
        check_contacts(&asked.contact)?;
        let external = self.external_binding(asked.external_account_binding.as_ref(), key, &signed.jws.header.url)?;
        let now = self.clock.now();
        let mut book = self.book();
        // Of two requests with one key at the same time the second finds what the first made.
        if let Some(known) = book.account_by_key(key) {
            let (url, json) = (self.url("account", known.id), self.account_json(known));
            return Ok(self.created(StatusCode::OK, url, json));
        }
        self.house.welcome(&book, external.as_deref(), signed.from, now)?;
        let account = Account {
            id: book.fresh(),
            key: key.clone(),
            contacts: asked.contact,
            status: AccountStatus::Valid,
            external,
            orders: std::collections::BTreeSet::new(),
            at: now,
            ledger: Ledger::default(),
        };
        let (id, json) = (account.id, self.account_json(&account));
        book.add_account(account)?;
        self.note_key(id, key, true);
        Ok(self.created(StatusCode::CREATED, self.url("account", id), json))
    }

    /// Checks an external account binding (RFC 8555 section 7.3.4) and returns its key id.
    fn external_binding(&self, binding: Option<&Value>, key: &Jwk, url: &str) -> Result<Option<String>, Problem> {
        let Some(binding) = binding else {
            return match self.house.demand() {
                Demand::Optional => Ok(None),
                Demand::Required => Err(Problem::new(
                    StatusCode::FORBIDDEN,
                    "externalAccountRequired",
                    "new accounts of this CA need an external account binding",
                )),
            };
        };
        let refused = |why: &str| Problem::unauthorized(format!("the external account binding is refused: {why}"));
        let jws = Jws::from_value(binding)?;
        if jws.header.nonce.is_some() || jws.header.jwk.is_some() {
            return Err(Problem::malformed(
                "the external account binding must have neither nonce nor jwk in its header",
            ));
        }
        if jws.header.url != url {
            return Err(refused("it is for another URL"));
        }
        let kid =
            jws.header.kid.clone().ok_or_else(|| Problem::malformed("the external account binding has no kid"))?;
        let mac = self.house.mac_key(&kid).ok_or_else(|| refused("its kid is not known here"))?;
        if !jws.verify_mac(&mac) {
            return Err(refused("its MAC is not HS256 with the key of its kid"));
        }
        let bound: Value = serde_json::from_slice(&jws.payload)
            .map_err(|e| Problem::malformed(format!("the external account binding's payload is no JSON: {e}")))?;
        if Jwk::parse(&bound)? != *key {
            return Err(refused("it binds another account key"));
        }
        Ok(Some(kid))
    }

    pub(super) fn account(&self, id: &str, signed: &Signed) -> Result<Answer, Problem> {
        let id = self.own_account(id, signed)?;
        let update = if signed.is_get() { None } else { Some(signed.payload::<Update>()?) };
        let mut book = self.book();
        let gone = || Problem::not_found("the account is gone");
        if let Some(update) = update {
            let account = book.accounts.get_mut(&id).ok_or_else(gone)?;
            let now = self.clock.now();
            if let Some(contacts) = &update.contact {
                check_contacts(contacts)?;
            }
            match update.status.as_deref() {
                None | Some("valid") => {}
                Some("deactivated") => {
                    account.status = AccountStatus::Deactivated;
                    self.house.happened(Event::Deactivated { account: id }, now);
                }
                Some(other) => {
                    return Err(Problem::malformed(format!("an account's status cannot be set to {other:?}")));
                }
            }
            if let Some(contacts) = update.contact.filter(|contacts| *contacts != account.contacts) {
                account.contacts = contacts;
                self.house.happened(Event::Contacts { account: id }, now);
            }
            book.touch_account(id);
        }
        Ok(Answer::json(self.account_json(book.accounts.get(&id).ok_or_else(gone)?)))
    }

    /// The account's orders, newest last, without the invalid ones (RFC 8555 section 7.1.2.1).
    pub(super) fn order_list(&self, id: &str, query: &str, signed: &Signed) -> Result<Answer, Problem> {
        if self.config.order_list == OrderList::Absent {
            return Err(Problem::not_found("this CA has no lists of orders"));
        }
        let number = self.own_account(id, signed)?;
        let after = query.strip_prefix("cursor=").and_then(|c| u64::from_str_radix(c, 16).ok()).unwrap_or(0);
        let (now, book) = (self.clock.now(), self.book());
        let orders = book.accounts.get(&number).map(|a| &a.orders);
        let mut page: Vec<u64> = orders
            .into_iter()
            .flatten()
            .filter(|o| **o > after)
            .filter_map(|o| book.orders.get(o))
            .filter(|o| book.status(o, now) != OrderStatus::Invalid && !matches!(o.stage, Stage::Invalid(_)))
            .map(|o| o.id)
            .take(ORDERS_A_PAGE.saturating_add(1))
            .collect();
        drop(book);
        let more = page.len() > ORDERS_A_PAGE;
        page.truncate(ORDERS_A_PAGE);
        let urls: Vec<String> = page.iter().map(|o| self.url("order", *o)).collect();
        let answer = Answer::json(json!({ "orders": urls }));
        Ok(match page.last().filter(|_| more) {
            Some(last) => {
                answer.with(LINK, format!("<{}/account/{id}/orders?cursor={last:x}>;rel=\"next\"", self.urls.base))
            }
            None => answer,
        })
    }

    /// Account key rollover (RFC 8555 section 7.3.5).
    pub(super) fn key_change(&self, signed: &Signed, url: &str) -> Result<Answer, Problem> {
        let id = signed.account()?;
        let inner = Jws::from_value(&signed.payload()?)?;
        let (Some(jwk), None) = (&inner.header.jwk, &inner.header.kid) else {
            return Err(Problem::malformed("the inner JWS must have the new key as jwk, and no kid"));
        };
        if inner.header.nonce.is_some() {
            return Err(Problem::malformed("the inner JWS must have no nonce"));
        }
        let new = Jwk::parse(jwk)?;
        inner.verify(&new)?;
        if inner.header.url != url {
            return Err(Problem::malformed("the inner JWS is for another URL than the outer one"));
        }
        let change: KeyChange = serde_json::from_slice(&inner.payload)
            .map_err(|e| Problem::malformed(format!("the inner payload is no keyChange object: {e}")))?;
        if change.account != self.url("account", id) {
            return Err(Problem::malformed("the keyChange object names another account than the outer JWS"));
        }
        let old = Jwk::parse(&change.old_key)?;
        let mut book = self.book();
        if let Some(other) = book.account_by_key(&new) {
            let text = "the new key already belongs to an account";
            return Err(
                Problem::new(StatusCode::CONFLICT, "malformed", text).with(LOCATION, self.url("account", other.id))
            );
        }
        let account = book.accounts.get(&id).ok_or_else(|| Problem::not_found("the account is gone"))?;
        if account.key != old {
            return Err(Problem::malformed("the old key of the keyChange object is not the account's key"));
        }
        let answer = Answer::json(self.account_json(account));
        book.change_key(id, new.clone());
        self.note_key(id, &new, false);
        Ok(answer)
    }

    fn own_account(&self, id: &str, signed: &Signed) -> Result<u64, Problem> {
        let own = signed.account()?;
        if self.number(id) == Some(own) {
            Ok(own)
        } else {
            Err(Problem::unauthorized("the request is signed by another account"))
        }
    }

    fn note_key(&self, id: u64, key: &Jwk, fresh: bool) {
        let now = self.clock.now();
        let record = AccountKeyRecord { account: self.url("account", id), thumbprint: key.thumbprint(), at: now };
        self.house.happened(Event::Key { account: id, record, fresh }, now);
    }

    fn account_json(&self, account: &Account) -> Value {
        let mut json = json!({
            "status": match account.status {
                AccountStatus::Valid => "valid",
                AccountStatus::Deactivated => "deactivated",
            },
            "contact": account.contacts,
            "orders": format!("{}/orders", self.url("account", account.id)),
        });
        if let Some(map) = json.as_object_mut() {
            if self.config.order_list == OrderList::Absent {
                map.remove("orders");
            }
            if let Some(kid) = &account.external {
                map.insert("externalAccountBinding".to_owned(), json!({ "kid": kid }));
            }
        }
        json
    }
}

fn deactivated() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "the account of this key is deactivated")
}

/// One address per `mailto:` URL, no header fields (RFC 8555 section 7.3).
fn check_contacts(contacts: &[String]) -> Result<(), Problem> {
    let refuse = |kind: &str, text: String| Err(Problem::new(StatusCode::BAD_REQUEST, kind, text));
    if contacts.len() > MOST_CONTACTS {
        return refuse("invalidContact", format!("an account has at most {MOST_CONTACTS} contacts"));
    }
    for contact in contacts {
        let Some(address) = contact.strip_prefix("mailto:") else {
            return refuse("unsupportedContact", format!("{contact:?} is no mailto: URL"));
        };
        let well_formed = address.len() <= 254
            && address.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && domain.contains('.'))
            && !address.contains(['?', ',', ' ', '\r', '\n']);
        if !well_formed {
            return refuse("invalidContact", format!("{contact:?} must hold exactly one address and no header fields"));
        }
    }
    Ok(())
}
