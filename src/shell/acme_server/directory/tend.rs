//! What a directory does by itself: goes on where a restart cut it off, ends what waited too long, forgets what is over.

use core::time::Duration;
use std::sync::Arc;

use http::StatusCode;

use super::super::book::{AuthorizationStatus, ChallengeStatus, Stage};
use super::super::fault::Strike;
use super::super::house::{Ask, Event, House as _, Try};
use super::super::problem::Problem;
use super::super::server::{Ca, lock};
use super::Directory;
use crate::domain::directory::Judgement;
use crate::domain::time::{DAY, Timestamp, human_span};
use crate::ports::Urgency;

/// How often it goes round.
pub(super) const EVERY: Duration = Duration::from_secs(2);
/// An order that nobody could certify for so long will not be.
const GIVEN_UP: Duration = DAY;
/// What ended without a certificate stays for people to look at.
const KEPT: Duration = DAY;
/// Rows that are forgotten, and orders that are announced, at once.
const MOST_AT_ONCE: usize = 256;
/// An order waited too long.
const TOO_LONG: &str = "KW4821";
/// An order could not be certified.
const NOT_MADE: &str = "KW4822";

/// Takes up what a restart cut off: validations, and certificates that were about to be made.
pub(super) fn resume(ca: &Arc<Ca>) {
    let looking: Vec<(u64, usize)> = {
        let book = ca.book();
        let pending = book.authorizations.iter().filter(|(_, a)| a.status == AuthorizationStatus::Pending);
        let each = |(id, a): (&u64, &super::super::book::Authorization)| {
            let index = a.challenges.iter().position(|c| c.status == ChallengeStatus::Processing);
            index.map(|index| (*id, index))
        };
        pending.filter_map(each).collect()
    };
    for (id, index) in looking {
        ca.look(&ca.book(), id, index);
    }
    make_all(ca);
}

/// Makes the certificates of all orders in processing; those that are being made already go on.
fn make_all(ca: &Arc<Ca>) {
    let now = ca.clock.now();
    let processing: Vec<u64> = {
        let (book, later) = (ca.book(), lock(&ca.later));
        let due = |id: &u64| later.get(id).is_none_or(|(_, at)| *at <= now);
        let orders = book.orders.values().filter(|o| matches!(o.stage, Stage::Processing { .. }));
        orders.map(|o| o.id).filter(due).collect()
    };
    for id in processing {
        drop(ca.make(id, Try::Again, Strike::default()));
    }
}

/// Goes round until it is dropped.
pub(super) async fn tend(ca: Arc<Ca>, house: Arc<Directory>) {
    loop {
        ca.clock.sleep(EVERY).await;
        let now = ca.clock.now();
        end_waits(&ca, &house, now);
        make_all(&ca);
        forget(&ca, &house, now);
        let waiting = unannounced(&ca, &house);
        // What cannot be recorded now is tried again, and was said.
        match ca.keep().await {
            Ok(()) => announce(&ca, &house, waiting, now),
            Err(why) => tracing::debug!(directory = %house.id, why = why.detail, "recorded later"),
        }
    }
}

/// Waiting orders that nobody was told of: they could not be recorded then, or an earlier life told of them.
fn unannounced(ca: &Ca, house: &Directory) -> Vec<u64> {
    let book = ca.book();
    let mut announced = lock(&house.announced);
    let waits = |id: &u64| book.orders.get(id).is_some_and(|o| matches!(o.stage, Stage::Waiting { .. }));
    announced.retain(waits);
    let all = book.orders.values().filter(|o| matches!(o.stage, Stage::Waiting { .. })).map(|o| o.id);
    all.filter(|id| !announced.contains(id)).take(MOST_AT_ONCE).collect()
}

fn announce(ca: &Ca, house: &Directory, waiting: Vec<u64>, now: Timestamp) {
    let book = ca.book();
    for id in waiting {
        let Some(order) = book.orders.get(&id) else { continue };
        let Stage::Waiting { since, .. } = &order.stage else { continue };
        let profile = order.profile.as_deref();
        let ask = Ask { account: order.account, names: &order.names, profile, renewal: false };
        let names = match house.judge(&book, &ask, now) {
            Ok(Judgement::Wait(names)) => names,
            // It waits although policy changed.
            Ok(Judgement::Allow | Judgement::Deny(_)) | Err(_) => order.names.iter().cloned().collect(),
        };
        house.waits(&book, id, &names, *since);
    }
}

fn end_waits(ca: &Ca, house: &Directory, now: Timestamp) {
    let longest = house.rules.load().settings.waiting.longest;
    let mut book = ca.book();
    let over = |stage: &Stage| match stage {
        Stage::Waiting { since, .. } if since.plus(longest) <= now => Some(true),
        Stage::Processing { since, .. } if since.plus(GIVEN_UP) <= now => Some(false),
        Stage::Waiting { .. } | Stage::Processing { .. } | Stage::Open | Stage::Valid { .. } | Stage::Invalid(_) => {
            None
        }
    };
    let ended: Vec<(u64, u64, bool)> =
        book.orders.values().filter_map(|o| over(&o.stage).map(|waited| (o.id, o.account, waited))).collect();
    for (id, account, waited) in ended {
        let row = house.row(id);
        let (code, problem) = if waited {
            let text = format!(
                "nobody decided about this order within {}; ask the operator, who knows it as {row}, and order again",
                human_span(longest)
            );
            (TOO_LONG, Problem::new(StatusCode::FORBIDDEN, "unauthorized", text))
        } else {
            let text = format!(
                "the certificate could not be made within {}; the operator knows this order as {row}. Order again later",
                human_span(GIVEN_UP)
            );
            (NOT_MADE, Problem::internal(text))
        };
        house.happened(Event::Failed { order: id, problem: &problem }, now);
        let kid = book.accounts.get(&account).and_then(|a| a.external.clone());
        let owner = house.owner(kid.as_deref());
        let text = format!("the order {row} is invalid now: {}", problem.detail);
        house.authority.tell_owner(format!("order {row}"), owner, code, text, Urgency::Act);
        lock(&ca.later).remove(&id);
        if let Some(order) = book.orders.get_mut(&id) {
            order.stage = Stage::Invalid(Some(problem));
        }
        book.touch_order(id);
    }
}

/// Orders whose certificate expired, and those that ended without one a while ago.
fn forget(ca: &Ca, house: &Directory, now: Timestamp) {
    let mut book = ca.book();
    let over = |order: &&super::super::book::Order| match &order.stage {
        Stage::Open | Stage::Invalid(_) => order.expires.plus(KEPT) <= now,
        Stage::Valid { certificate } => {
            book.certificates.get(certificate).is_none_or(|c| c.issued.validity.not_after <= now)
        }
        Stage::Waiting { .. } | Stage::Processing { .. } => false,
    };
    let gone: Vec<u64> = book.orders.values().filter(over).map(|o| o.id).take(MOST_AT_ONCE).collect();
    if gone.is_empty() {
        return;
    }
    gone.iter().for_each(|id| book.forget(*id));
    let mut draft = house.draft("acme.forget", "KW4813", None);
    draft.facts = vec![("orders", crate::domain::json::Json::show(&gone.len()))];
    house.note(draft);
}
