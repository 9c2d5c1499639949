//! An ACME directory over a private CA: everything that it promised is in the state of the guardian and in its audit log
//! before anybody hears of it, and a person decides where policy says so.
//!
//! Refuses to know the protocol, which is the same as the hostile CA's of the tests, and the CA's keys.

mod rows;
mod run;
mod tend;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use http::StatusCode;
use http::header::RETRY_AFTER;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

pub use run::{Directories, NotRuled, Ruling, WaitingOrder};

use super::authz::MOST_RUNNING;
use super::book::{AccountStatus, Book, Certificate, ChallengeStatus, Stage};
use super::config::{Addresses, Demand};
use super::fault::{Endpoint, Strike};
use super::house::{Admission, Ask, Event, House, Offer, Proof, Revoker, ToIssue, Touched, Try, Unissued};
use super::pki::Issued;
use super::problem::Problem;
use super::renewal::{Suggestion, already_revoked};
use super::server::lock;
use crate::domain::audit::{Draft, bounded_text};
use crate::domain::authority::{RevocationReason, Wish};
use crate::domain::directory::{Grant, Judgement, RowId, Unfit, Uses, judge};
use crate::domain::id::{CaId, DirectoryId, ProfileId};
use crate::domain::json::Json;
use crate::domain::name::Name;
use crate::domain::time::{DAY, HOUR, Timestamp, human_span};
use crate::engine::authority::{Authority, Denied, Known, Remedy, cert_id};
use crate::ports::{Doing, OrderStatus, Urgency};
use crate::shell::config::{Binding, DirectorySettings};

/// Most names in an order: with their proofs they take 25 KiB of an entry, whose limit is 60.
const MOST_NAMES: usize = 50;
/// Addresses whose new accounts are counted; the one that came first makes room.
const MOST_ADDRESSES: usize = 10_000;
/// A validation ends within so long, mostly.
const RUNNING: Duration = Duration::from_secs(5);
/// Notes that may wait while nothing can be recorded: a batch of a commit is four times as large.
const MOST_NOTES: usize = 2_000;
/// Somebody has to decide.
const WAITS: &str = "KW4820";

/// What a reload changes.
pub(super) struct Rules {
    pub(super) settings: DirectorySettings,
    pub(super) macs: BTreeMap<Arc<str>, Zeroizing<Vec<u8>>>,
}

/// The house of a directory.
pub(super) struct Directory {
    pub(super) id: DirectoryId,
    pub(super) ca: CaId,
    pub(super) authority: Arc<Authority>,
    pub(super) rules: ArcSwap<Rules>,
    /// What happened and is not recorded yet.
    notes: Mutex<Vec<Draft>>,
    /// Waiting orders that somebody was told of in this life.
    pub(super) announced: Mutex<BTreeSet<u64>>,
    /// When each address made accounts, within the last hour.
    newcomers: Mutex<BTreeMap<IpAddr, Vec<Timestamp>>>,
}

impl Directory {
    pub(super) fn new(authority: Arc<Authority>, rules: Rules) -> Self {
        let (id, ca) = (rules.settings.id.clone(), rules.settings.place.ca.clone());
        let rules = ArcSwap::from_pointee(rules);
        let (notes, announced, newcomers) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { id, ca, authority, rules, notes, announced, newcomers }
    }

    /// How people call a row: `corp/1f`.
    pub(super) fn row(&self, number: u64) -> String {
        RowId { directory: self.id.clone(), number }.to_string()
    }

    /// An entry that goes with the next rows.
    pub(super) fn note(&self, draft: Draft) {
        lock(&self.notes).push(draft);
    }

    pub(super) fn draft(&self, action: &'static str, code: &'static str, by: Option<&str>) -> Draft {
        self.authority.note(&self.id, action, code, by)
    }

    fn grant<'r>(rules: &'r Rules, kid: Option<&str>) -> Option<&'r Grant> {
        rules.settings.policy.grants.get(kid?)
    }

    /// Who is told of what an account does.
    pub(super) fn owner(&self, kid: Option<&str>) -> Option<String> {
        let rules = self.rules.load();
        let own = Self::grant(&rules, kid).and_then(|grant| grant.owner.clone());
        own.or_else(|| rules.settings.owner.clone()).map(|owner| owner.to_string())
    }

    pub(super) fn judge(&self, book: &Book, ask: &Ask<'_>, now: Timestamp) -> Result<Judgement, Problem> {
        let rules = self.rules.load();
        let cas = self.authority.cas();
        let ca = cas.get(&self.ca).ok_or_else(|| Problem::internal("the CA of this directory is not configured"))?;
        let account = book.accounts.get(&ask.account).ok_or_else(|| Problem::not_found("the account is gone"))?;
        let profile = ask.profile.and_then(|p| ProfileId::parse(p).ok());
        let profile = profile.ok_or_else(|| Problem::internal("an order has no profile"))?;
        if account.status != AccountStatus::Valid {
            return Err(Problem::unauthorized("the account is deactivated"));
        }
        if account.external.is_none() && rules.settings.binding == Binding::Required {
            let text = "this account was made without an external account key, which this directory asks for by now; make \
                        a new account with one";
            return Err(Problem::unauthorized(text));
        }
        // What counts is what anybody with the same external account key got; without one, what this account got.
        let same = |other: u64| match &account.external {
            None => other == ask.account,
            Some(kid) => book.accounts.get(&other).is_some_and(|a| a.external.as_ref() == Some(kid)),
        };
        let known = |name: &Name| {
            let valid = |order: &&super::book::Order| matches!(order.stage, Stage::Valid { .. });
            book.orders.values().filter(valid).any(|o| same(o.account) && o.names.iter().any(|n| n == name))
        };
        let judged = judge(&rules.settings.policy, ca, account.external.as_deref(), &profile, ask.names, known);
        let holds = rules.settings.waiting.holds;
        let ruled = || {
            book.orders.values().any(|o| {
                o.account == ask.account
                    && o.names == *ask.names
                    && o.profile.as_deref() == ask.profile
                    && o.ruled.is_some_and(|at| at.plus(holds) > now)
            })
        };
        Ok(if matches!(judged, Judgement::Wait(_)) && ruled() { Judgement::Allow } else { judged })
    }
}

/// What the protocol knows of a certificate, from the register.
pub(super) fn issued_of(authority: &Authority, (serial, issued): &Known) -> Option<Issued> {
    let above = authority.above(issued)?;
    let (_, above) = X509Certificate::from_der(&above).ok()?;
    let key_id = above.extensions().iter().find_map(|extension| {
        let ParsedExtension::SubjectKeyIdentifier(id) = extension.parsed_extension() else { return None };
        Some(id.0.to_vec())
    })?;
    Some(Issued {
        chain_pem: String::new(),
        fingerprint: issued.fingerprint?,
        cert_id: cert_id(&key_id, serial)?,
        serial: serial.to_string(),
        spki: issued.spki,
        names: issued.names.clone(),
        validity: issued.validity,
    })
}

fn refused(unfit: Unfit, offered: &[ProfileId]) -> Problem {
    match unfit {
        Unfit::Withdrawn(kid) => Problem::unauthorized(format!(
            "the external account key {kid} of this account was withdrawn; ask the operator for another one and make a \
             new account with it"
        )),
        Unfit::NoProfile(profile) => {
            let known: Vec<String> = offered.iter().map(ToString::to_string).collect();
            Problem::no_profile(profile.as_str(), known.iter())
        }
        Unfit::ProfileNotGranted(profile) => Problem::new(
            StatusCode::FORBIDDEN,
            "unauthorized",
            format!("the external account key of this account is not for profile {profile}; ask the operator"),
        ),
        Unfit::Names(names) => {
            let part = |(name, why): (Name, String)| {
                let why = format!("{name}: {why}");
                Problem::new(StatusCode::FORBIDDEN, "rejectedIdentifier", why).about(&name)
            };
            let parts: Vec<Problem> = names.into_iter().map(part).collect();
            let text =
                "several names may not be had by this account; each has its reason, and the operator can change that";
            Problem::of_parts(parts, text).unwrap_or_else(|| Problem::internal("nothing was refused"))
        }
    }
}

fn limited(text: String, wait: Duration) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "rateLimited", text)
        .with(RETRY_AFTER, wait.as_secs().max(1).to_string())
}

fn unavailable(text: impl Into<String>) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "serverInternal", text).with(RETRY_AFTER, "30")
}

/// Whether it may go by itself, and what the client is told if not.
fn unissued(why: Denied) -> Unissued {
    let text = format!("{}: {why}", why.code());
    let never = |status, kind: &str| Unissued::Never(Problem::new(status, kind, text.clone()));
    match why.remedy() {
        Remedy::Later | Remedy::Made => Unissued::Later(text),
        Remedy::Names => never(StatusCode::FORBIDDEN, "rejectedIdentifier"),
        Remedy::Key => never(StatusCode::BAD_REQUEST, "badPublicKey"),
        Remedy::Request => never(StatusCode::BAD_REQUEST, "badCSR"),
        Remedy::Configured | Remedy::Here => never(StatusCode::INTERNAL_SERVER_ERROR, "serverInternal"),
    }
}

impl House for Directory {
    fn strike(&self, _: Option<Endpoint>) -> Option<Strike> {
        Some(Strike::default())
    }

    fn is_kept(&self) -> bool {
        lock(&self.notes).is_empty()
    }

    fn overloaded(&self) -> bool {
        lock(&self.notes).len() >= MOST_NOTES
    }

    fn terms(&self) -> Option<String> {
        self.rules.load().settings.terms.clone()
    }

    fn demand(&self) -> Demand {
        match self.rules.load().settings.binding {
            Binding::Required => Demand::Required,
            Binding::Optional => Demand::Optional,
        }
    }

    fn mac_key(&self, kid: &str) -> Option<Vec<u8>> {
        self.rules.load().macs.get(kid).map(|mac| mac.to_vec())
    }

    fn profiles(&self) -> BTreeMap<String, String> {
        let rules = self.rules.load();
        let words = |id: &ProfileId| {
            let life = self.authority.lifetime(&self.ca, id).unwrap_or_default();
            (id.to_string(), format!("certificates that live {}", human_span(life)))
        };
        rules.settings.policy.profiles.iter().map(words).collect()
    }

    fn offer(&self, name: Option<&str>) -> Result<Offer, Problem> {
        let rules = self.rules.load();
        let offered = &rules.settings.policy.profiles;
        let known = match name {
            Some(name) => offered.iter().find(|id| id.as_str() == name),
            None => offered.first(),
        };
        let known = known.ok_or_else(|| {
            let all: Vec<String> = offered.iter().map(ToString::to_string).collect();
            Problem::no_profile(name.unwrap_or_default(), all.iter())
        })?;
        Ok(Offer { name: Some(known.to_string()), most_names: MOST_NAMES, addresses: Addresses::Allowed })
    }

    fn welcome(&self, book: &Book, kid: Option<&str>, from: IpAddr, now: Timestamp) -> Result<(), Problem> {
        let rules = self.rules.load();
        let once = Self::grant(&rules, kid).is_some_and(|grant| grant.uses == Uses::Once);
        if once && book.accounts.values().any(|a| a.external.as_deref() == kid) {
            let text = "this external account key is good for one account, which was made already; ask the operator for \
                        another one";
            return Err(Problem::unauthorized(text));
        }
        let most = usize::try_from(rules.settings.limits.accounts_per_hour).unwrap_or(usize::MAX);
        let mut newcomers = lock(&self.newcomers);
        if newcomers.len() >= MOST_ADDRESSES {
            newcomers.retain(|_, times| times.iter().any(|at| now.since(*at) < HOUR));
            if newcomers.len() >= MOST_ADDRESSES {
                drop(newcomers.pop_first());
            }
        }
        let times = newcomers.entry(from).or_default();
        times.retain(|at| now.since(*at) < HOUR);
        if let Some(first) = times.first().filter(|_| times.len() >= most) {
            let text = format!("{most} accounts were made from {from} within an hour; make the next one later");
            return Err(limited(text, now.until(first.plus(HOUR))));
        }
        times.push(now);
        Ok(())
    }

    fn order(&self, book: &mut Book, ask: &Ask<'_>, now: Timestamp) -> Result<(), Problem> {
        if !self.authority.is_signing(&self.ca) {
            return Err(unavailable(format!("the CA {} was not made yet: keyward ca init {}", self.ca, self.ca)));
        }
        let limits = self.rules.load().settings.limits;
        let account = book.accounts.get(&ask.account).ok_or_else(|| Problem::not_found("the account is gone"))?;
        let own = || account.orders.iter().rev().filter_map(|id| book.orders.get(id));
        let open = own().filter(|o| !matches!(book.status(o, now), OrderStatus::Valid | OrderStatus::Invalid)).count();
        if open >= limits.open_orders {
            let text = format!("{open} orders of this account are not finished; finish or abandon some of them first");
            return Err(limited(text, HOUR));
        }
        let lately: Vec<Timestamp> = own().map(|o| o.at).filter(|at| now.since(*at) < HOUR).collect();
        let most = usize::try_from(limits.orders_per_hour).unwrap_or(usize::MAX);
        // A renewal in its window is what the directory asked for.
        if let Some(first) = lately.last().filter(|_| lately.len() >= most && !ask.renewal) {
            let text = format!("this account made {} orders within an hour; at most {most} are taken", lately.len());
            return Err(limited(text, now.until(first.plus(HOUR))));
        }
        match self.judge(book, ask, now)? {
            Judgement::Deny(unfit) => Err(refused(unfit, &self.rules.load().settings.policy.profiles)),
            Judgement::Allow | Judgement::Wait(_) => Ok(()),
        }
    }

    fn attempt(&self, book: &Book, account: u64, name: &Name, begun: bool, now: Timestamp) -> Result<(), Problem> {
        let most = usize::try_from(self.rules.load().settings.limits.failures_per_hour).unwrap_or(usize::MAX);
        let own = book.accounts.get(&account).map(|a| &a.orders);
        let lately = own.into_iter().flatten().rev().filter_map(|id| book.orders.get(id));
        // An order is proved within the day that it lives, and may be tried a day after it was made.
        let lately = lately.take_while(|o| now.since(o.at) < DAY.saturating_add(HOUR)).flat_map(|o| &o.authorizations);
        let (mut running, mut failed) = (0_usize, 0_usize);
        // Challenges count, not authorizations: giving one of those up takes nothing back.
        for challenge in lately.filter_map(|id| book.authorizations.get(id)).flat_map(|a| &a.challenges) {
            match challenge.status {
                ChallengeStatus::Processing => running = running.saturating_add(1),
                ChallengeStatus::Invalid if challenge.validated.is_none_or(|at| now.since(at) < HOUR) => {
                    failed = failed.saturating_add(1);
                }
                ChallengeStatus::Invalid | ChallengeStatus::Pending | ChallengeStatus::Valid => {}
            }
        }
        if failed >= most {
            let text = format!(
                "{failed} validations of this account failed within an hour, so {name} is not tried now; mend what the last \
                 problems said, and order again later"
            );
            return Err(limited(text, HOUR));
        }
        // What runs may fail too; what waits for its turn is judged again when that comes.
        if !begun && failed.saturating_add(running.min(MOST_RUNNING)) >= most {
            let text = format!(
                "{running} validations of this account run and {failed} failed within an hour; at most {most} may fail, so \
                 {name} is not tried before some of them end"
            );
            return Err(limited(text, RUNNING));
        }
        Ok(())
    }

    fn request(&self, csr: &[u8]) -> Result<Proof, Problem> {
        let read = self.authority.mint().request(csr);
        read.map(|_| Proof::Verified)
            .map_err(|why| Problem::bad_csr(format!("the certificate request cannot be used: {why}")))
    }

    fn admit(&self, book: &Book, ask: &Ask<'_>, now: Timestamp) -> Result<Admission, Problem> {
        match self.judge(book, ask, now)? {
            Judgement::Allow => Ok(Admission::Now),
            Judgement::Deny(unfit) => Err(refused(unfit, &self.rules.load().settings.policy.profiles)),
            Judgement::Wait(names) => {
                let most = self.rules.load().settings.waiting.most;
                let waiting = book.orders.values().filter(|o| matches!(o.stage, Stage::Waiting { .. })).count();
                if waiting >= most {
                    let text = format!(
                        "a person has to allow this order, and {waiting} others wait for that already; finalize it again \
                         later"
                    );
                    return Err(limited(text, HOUR));
                }
                Ok(Admission::Wait(names))
            }
        }
    }

    fn confirm(&self, book: &Book, ask: &Ask<'_>, ruled: bool, now: Timestamp) -> Result<Admission, Unissued> {
        match self.judge(book, ask, now) {
            Err(problem) if problem.status.is_server_error() => Err(Unissued::Later(problem.detail.clone())),
            Err(problem) => Err(Unissued::Never(problem)),
            Ok(Judgement::Deny(unfit)) => {
                Err(Unissued::Never(refused(unfit, &self.rules.load().settings.policy.profiles)))
            }
            // Unlike one that asks to be finalized it has its place among those that wait.
            Ok(Judgement::Wait(names)) if !ruled => Ok(Admission::Wait(names)),
            Ok(Judgement::Wait(_) | Judgement::Allow) => Ok(Admission::Now),
        }
    }

    fn happened(&self, event: Event<'_>, now: Timestamp) {
        let row = |number| Json::str(self.row(number));
        let name = |name: &Name| Json::show(name);
        let draft = |action, code, facts| {
            let mut draft = self.draft(action, code, None);
            draft.at = now;
            draft.facts = facts;
            draft
        };
        self.note(match event {
            Event::Key { account, record, fresh } => {
                let (action, code) = if fresh { ("acme.account", "KW4800") } else { ("acme.key", "KW4801") };
                draft(action, code, vec![("account", row(account)), ("thumbprint", Json::str(record.thumbprint))])
            }
            Event::Deactivated { account } => draft("acme.deactivate", "KW4802", vec![("account", row(account))]),
            Event::Contacts { account } => draft("acme.contacts", "KW4803", vec![("account", row(account))]),
            Event::Ordered { order, .. } => {
                let facts = vec![
                    ("account", row(order.account)),
                    ("names", Json::Shared(order.names.key().clone())),
                    ("order", row(order.id)),
                    ("profile", Json::str(order.profile.clone().unwrap_or_default())),
                ];
                draft("acme.order", "KW4804", facts)
            }
            Event::Answered { order, name: about, kind } => {
                let facts = vec![("challenge", Json::str(kind)), ("name", name(about)), ("order", row(order))];
                draft("acme.answer", "KW4805", facts)
            }
            Event::Validated { order, record } => {
                let result = if record.failure.is_some() { "invalid" } else { "valid" };
                let facts = vec![
                    ("challenge", Json::str(record.kind.as_str())),
                    ("name", name(&record.name)),
                    ("order", row(order)),
                    ("result", Json::str(result)),
                ];
                let mut draft = draft("acme.validate", "KW4806", facts);
                draft.private.extend(record.failure.map(|text| ("text", Arc::from(bounded_text(&text)))));
                draft
            }
            Event::Relinquished { order, name: about } => {
                draft("acme.relinquish", "KW4807", vec![("name", name(about)), ("order", row(order))])
            }
            Event::Finalized { order, admission } => {
                let (decision, names) = match admission {
                    Admission::Now => ("allow", Vec::new()),
                    Admission::Wait(names) => ("wait", names.iter().map(ToString::to_string).collect()),
                };
                let facts = vec![
                    ("decision", Json::str(decision)),
                    ("names", Json::str(names.join(","))),
                    ("order", row(order)),
                ];
                draft("acme.finalize", "KW4808", facts)
            }
            Event::Issued { order, account, issued } => {
                let facts = vec![
                    ("account", row(account)),
                    ("order", row(order)),
                    ("serial", Json::str(issued.serial.clone())),
                ];
                draft("acme.issue", "KW4809", facts)
            }
            Event::Failed { order, problem } => {
                let facts = vec![("order", row(order)), ("problem", Json::str(problem.kind.clone()))];
                let mut draft = draft("acme.fail", "KW4810", facts);
                draft.private.push(("text", Arc::from(bounded_text(&problem.detail))));
                draft
            }
        });
    }

    fn waits(&self, book: &Book, order: u64, names: &[Name], now: Timestamp) {
        if !lock(&self.announced).insert(order) {
            return;
        }
        let kid = book.orders.get(&order).and_then(|o| book.accounts.get(&o.account)).map(|a| a.external.clone());
        let owner = self.owner(kid.flatten().as_deref());
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let (row, until) = (self.row(order), now.plus(self.rules.load().settings.waiting.longest));
        let text = format!(
            "the order {row} for {} waits for a person until {until}: keyward acme allow {row} --reason WHY, or keyward \
             acme deny {row} --reason WHY",
            names.join(", ")
        );
        self.authority.tell_owner(format!("order {row}"), owner, WAITS, text, Urgency::Act);
    }

    fn keep<'a>(&'a self, touched: &'a Touched) -> Doing<'a, Result<(), Problem>> {
        Box::pin(async move {
            let notes = core::mem::take(&mut *lock(&self.notes));
            if touched.is_empty() && notes.is_empty() {
                return Ok(());
            }
            let mut changes = Vec::new();
            for (id, account) in &touched.accounts {
                changes.push(rows::account(&self.id, *id, account.as_ref()));
            }
            for (id, (whole, serial)) in &touched.orders {
                changes.push(rows::order(&self.id, *id, whole.as_ref(), serial.clone())?);
            }
            let mut entries = notes.clone();
            if entries.is_empty() {
                entries.push(self.draft("acme.forget", "KW4813", None));
            }
            match self.authority.keep(changes, entries).await {
                Ok(()) => Ok(()),
                Err(why) => {
                    // What came meanwhile stands behind.
                    lock(&self.notes).splice(0..0, notes);
                    tracing::error!(directory = %self.id, %why, "what an ACME client asked for cannot be recorded");
                    Err(unavailable(format!("it cannot be recorded now, so it is not promised; try again: {why}")))
                }
            }
        })
    }

    fn issue<'a>(&'a self, asked: &'a ToIssue) -> Doing<'a, Result<Issued, Unissued>> {
        Box::pin(async move {
            let profile = asked.profile.as_deref().and_then(|p| ProfileId::parse(p).ok());
            let missing = || Unissued::Never(Problem::internal("an order has no profile"));
            let profile = profile.ok_or_else(missing)?;
            let wish = Wish { names: asked.names.clone(), spiffe: None, spki: asked.spki.clone(), lifetime: None };
            let by = format!("acme:{}", self.row(asked.account));
            // All that was issued is looked through only where it can hold something for this order.
            let known = match asked.time {
                Try::First => None,
                Try::Again => self.authority.issued_since(&self.ca, &profile, &wish, asked.since),
            };
            let known = match known {
                Some(known) => known,
                None => self.authority.issue_known(&self.ca, &profile, &wish, &by).await.map_err(unissued)?,
            };
            let unreadable = || Unissued::Never(Problem::internal("the certificate that was made cannot be read"));
            issued_of(&self.authority, &known).ok_or_else(unreadable)
        })
    }

    fn chain<'a>(&'a self, issued: &'a Issued) -> Doing<'a, Result<String, Problem>> {
        Box::pin(async move {
            let chain = self.authority.pem_chain(issued.fingerprint).await;
            chain.map_err(|why| unavailable(format!("the certificate cannot be read now: {why}")))
        })
    }

    fn revoke<'a>(&'a self, issued: &'a Issued, reason: u8, by: Revoker) -> Doing<'a, Result<(), Problem>> {
        Box::pin(async move {
            let known = self.authority.issued(&issued.serial);
            let reason = RevocationReason::ALL.iter().find(|(.., number)| *number == reason);
            let reason = reason.map_or(RevocationReason::Unspecified, |(reason, ..)| *reason);
            let blocks = reason == RevocationReason::KeyCompromise && by.knows_the_key();
            let over = known.is_some_and(|(_, known)| known.revoked.is_some());
            let news = blocks && !self.authority.is_compromised(issued.spki);
            if over && !news {
                return Err(already_revoked());
            }
            let by = match by {
                Revoker::Key => format!("acme:{}/key", self.id),
                Revoker::Owner(account) | Revoker::Prover(account) => format!("acme:{}", self.row(account)),
            };
            let (authority, serial) = (self.authority.clone(), issued.serial.clone());
            // It comes to its end although the client may be gone.
            let revoking = tokio::spawn(async move {
                if blocks {
                    authority.revoke(&serial, reason, &by).await
                } else {
                    authority.revoke_only(&serial, reason, &by).await
                }
            });
            match revoking.await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(Denied::UnknownSerial(_))) => {
                    Err(Problem::not_found("the certificate has expired: there is nothing to revoke any more"))
                }
                Ok(Err(why)) => Err(unavailable(format!("it could not be revoked, or not be published yet: {why}"))),
                Err(broke) => Err(Problem::internal(format!("it broke off: {broke}"))),
            }
        })
    }

    fn window(&self, certificate: &Certificate, _: Timestamp) -> Option<Suggestion> {
        let info = self.authority.suggested(&certificate.issued.cert_id)?;
        Some(Suggestion { start: info.start, end: info.end, explanation: None })
    }
}
