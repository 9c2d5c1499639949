//! Answers of the gate that are made once for each verdict: most questions get the same one as those before.
//!
//! Each connection keeps its own, so that no two threads write to the same place for a question. Refuses to know how long an
//! answer holds: every single question is put to the engine, and only if that tells the very verdict that an answer was made
//! of, the answer is given again.

use core::cell::Cell;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::Response;

use super::gate::{Detail, made};
use super::{Web, views};
use crate::domain::gate::Verdict;
use crate::domain::time::Timestamp;
use crate::engine::Told;

/// A connection keeps so many, the newest: proxies ask about one path or a few. One has some 500 bytes, so a thousand
/// connections keep 2 MiB.
const MOST: usize = 4;

/// What was answered on a connection lately.
#[derive(Default)]
pub(super) struct Ready(Cell<Vec<Answer>>);

struct Answer {
    /// As long as it is kept here no other verdict has its address.
    verdict: Arc<Verdict>,
    since: Option<Timestamp>,
    detail: Detail,
    response: Response<Bytes>,
}

impl Ready {
    /// The answer about a configured path.
    pub(super) fn answer(&self, web: &Web, told: &Told<'_>, detail: Detail) -> Response<Body> {
        let make = || made(views::gate(told.verdict, told.since, web.environment), web.environment, detail);
        // What was added to a verdict on the way is another one with every question.
        let Some(verdict) = told.published else { return make().map(Body::from) };
        let is_it = |a: &&Answer| Arc::ptr_eq(&a.verdict, verdict) && a.since == told.since && a.detail == detail;
        let mut kept = self.0.take();
        let found = kept.iter().find(is_it).map(|answer| answer.response.clone());
        let response = found.unwrap_or_else(|| {
            let response = make();
            let verdict = verdict.clone();
            kept.retain(|a| a.verdict.path != verdict.path || a.detail != detail);
            kept.truncate(MOST.saturating_sub(1));
            kept.insert(0, Answer { verdict, since: told.since, detail, response: response.clone() });
            response
        });
        self.0.set(kept);
        response.map(Body::from)
    }
}
