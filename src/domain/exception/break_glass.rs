//! What break-glass owes: somebody who had no part in it looks at it within a day, or what is grave stops.

use core::time::Duration;

use super::clock::Moment;
use super::kind::Kind;
use super::name::RequestId;
use super::request::Request;
use crate::domain::time::DAY;

/// The review is due this long after break-glass was used: whoever did it at night has slept, and the logs are still there.
pub const REVIEW_WITHIN: Duration = DAY;

/// Whether what a request did at night still waits for its review.
#[must_use]
pub fn owes_review(request: &Request) -> bool {
    request.scope.kind == Kind::BreakGlass && request.execution.is_some() && request.reviewed.is_none()
}

/// The requests whose review is overdue: while there is any, gates of paths at T3 and above are closed and nothing at T3
/// and above is begun, but break-glass. What is reviewed late reopens them at once.
pub fn unreviewed<'r>(
    requests: impl IntoIterator<Item = &'r Request>,
    now: &Moment,
    seen: &Moment,
) -> impl Iterator<Item = RequestId> {
    let owing = requests.into_iter().filter(|request| owes_review(request));
    owing.filter(|request| is_overdue(request, now) || now.is_behind(seen)).map(Request::id)
}

fn is_overdue(request: &Request, now: &Moment) -> bool {
    let due = request.execution.as_ref().and_then(|execution| execution.review_by.as_ref());
    // Without a time by which it is due it is due at once.
    due.is_none_or(|due| due.is_over(now)) || now.is_behind(&request.mark)
}
