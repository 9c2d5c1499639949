//! Answers of the gate that are made once for each verdict: most questions get the same one as those before.
//!
//! Each connection keeps its own, so that no two threads write to the same place for a question. Refuses to know how long an
//! answer holds: every single question is put to the engine, and only if that tells the very verdict that an answer was made
//! of, the answer is given again.

use core::cell::Cell;
use std::sync::Arc;

use axum::body::Bytes;
use axum::http::Response;
use http_body_util::Full;

use super::gate::{Answer as Whole, Decided, Detail, made};
use super::{Web, views};
use crate::domain::gate::Verdict;
use crate::domain::id::PathId;
use crate::domain::time::Timestamp;
use crate::ports::Tick;

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
    /// Counts it.
    tick: Option<Tick>,
}

impl Ready {
    /// The path of that name, if an answer about it is kept.
    pub(super) fn path(&self, name: &str) -> Option<PathId> {
        let kept = self.0.take();
        let path = kept.iter().map(|answer| &answer.verdict.path).find(|path| path.as_str() == name).cloned();
        self.0.set(kept);
        path
    }

    /// The answer about a path to whoever sends no nonce and asks for nothing that is reachable all the same; counted.
    pub(super) fn answer(&self, web: &Web, decided: &Decided<'_>, detail: Detail) -> Response<Whole> {
        let told = &decided.told;
        let make = || made(views::gate(told.verdict, told.since, web.environment), web.environment, detail);
        // What was added to a verdict on the way is another one with every question.
        let Some(verdict) = told.published else {
            decided.count(web);
            return make().map(Full::new);
        };
        let is_it = |a: &&Answer| Arc::ptr_eq(&a.verdict, verdict) && a.since == told.since && a.detail == detail;
        let mut kept = self.0.take();
        let found = kept.iter().find(is_it).map(|answer| (answer.response.clone(), answer.tick.clone()));
        let (response, tick) = found.unwrap_or_else(|| {
            let (response, tick) = (make(), decided.tick(web));
            let verdict = verdict.clone();
            kept.retain(|a| a.verdict.path != verdict.path || a.detail != detail);
            kept.truncate(MOST.saturating_sub(1));
            let (since, kept_tick) = (told.since, tick.clone());
            kept.insert(0, Answer { verdict, since, detail, response: response.clone(), tick: kept_tick });
            (response, tick)
        });
        self.0.set(kept);
        if let Some(tick) = tick {
            tick();
        }
        response.map(Full::new)
    }
}
