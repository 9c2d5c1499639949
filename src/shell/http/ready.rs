//! Answers of the gate that are made once for each verdict: most questions get the same one as those before.
//!
//! Refuses to know how long an answer holds. Every single question is put to the engine; only if that gives the very verdict
//! that an answer was made of, the answer is given again.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::body::{Body, Bytes};
use axum::http::Response;

use super::gate::{Detail, made};
use super::{Web, views};
use crate::domain::gate::Verdict;
use crate::domain::id::PathId;
use crate::domain::time::Timestamp;
use crate::engine::Told;

/// The answers to what was asked last, by path: as many as are configured.
#[derive(Debug, Default)]
pub(super) struct Ready(ArcSwap<BTreeMap<PathId, Arc<Answer>>>);

#[derive(Debug)]
struct Answer {
    /// As long as it is here nothing else has its address.
    verdict: Arc<Verdict>,
    since: Option<Timestamp>,
    codes: Response<Bytes>,
    full: Response<Bytes>,
}

impl Answer {
    fn new(web: &Web, told: &Told) -> Self {
        let answer = views::gate(&told.verdict, told.since, web.environment);
        let codes = made(answer.clone(), web.environment, Detail::Codes);
        let full = made(answer, web.environment, Detail::Full);
        Self { verdict: told.verdict.clone(), since: told.since, codes, full }
    }

    fn response(&self, detail: Detail) -> Response<Body> {
        let made = match detail {
            Detail::Codes => &self.codes,
            Detail::Full => &self.full,
        };
        made.clone().map(Body::from)
    }
}

impl Ready {
    /// The answer about a configured path.
    pub(super) fn answer(&self, web: &Web, told: &Told, detail: Detail) -> Response<Body> {
        let path = &told.verdict.path;
        if let Some(answer) = self.0.load().get(path) {
            if Arc::ptr_eq(&answer.verdict, &told.verdict) && answer.since == told.since {
                return answer.response(detail);
            }
        }
        let answer = Arc::new(Answer::new(web, told));
        // What was added to a verdict on the way is made anew with every question.
        if told.as_published {
            let estate = web.engine.estate();
            self.0.rcu(|answers| {
                let mut answers = BTreeMap::clone(answers);
                answers.retain(|path, _| estate.paths.contains_key(path));
                answers.insert(path.clone(), answer.clone());
                answers
            });
        }
        answer.response(detail)
    }
}
