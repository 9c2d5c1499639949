//! The audit log to look at: the newest entries, narrowed by following what stands in them, and one entry with its story.
//!
//! Without script and without forms, as the overview: every filter is a link.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::Response;
use axum::routing::get;
use maud::{DOCTYPE, Markup, html};

use super::audit::{Pairs, understood};
use super::page::{answer, head, moment};
use super::problem::Problem;
use super::server::App;
use crate::domain::inventory::Environment;
use crate::domain::time::Timestamp;
use crate::shell::audit::model::{Detail, Entries, Row, Story};
use crate::shell::{audit, explain};

/// Entries on a page: some screens on a phone.
const ROWS: &str = "50";
/// What a link on the page can narrow by.
const FILTERS: [&str; 7] = ["credential", "path", "issuer", "code", "outcome", "actor", "correlation"];
/// Words of an entry's text that are shown in the list.
const LONGEST_LINE: usize = 280;

type Parameters = Vec<(String, String)>;
type Answer = Result<Response<Body>, Problem>;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/audit", get(list)).route("/audit/{id}", get(one))
}

async fn list(State(app): State<Arc<App>>, pairs: Pairs) -> Answer {
    let turn = app.turn().await;
    let asked = understood(pairs)?;
    let now = app.web.clock.now();
    // A page is of one size; a limit that was asked for comes first and wins.
    let mut sized = asked.clone();
    if !sized.iter().any(|(name, _)| name == "limit") {
        sized.push(("limit".to_owned(), ROWS.to_owned()));
    }
    let found = audit::entries(&*app.web.store, &sized, now).await?;
    let frame =
        Frame { environment: app.web.environment, frozen: app.web.engine.freezes_in_force(), title: "Audit log" };
    Ok(answer(turn, frame.around(&listing(&asked, &found, now))))
}

async fn one(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer {
    let turn = app.turn().await;
    let detail = audit::detail(&*app.web.store, &id).await?;
    // An entry that cannot be believed has no story, but it can be looked at.
    let story = audit::explain(&*app.web.store, &id).await.ok();
    let frame =
        Frame { environment: app.web.environment, frozen: app.web.engine.freezes_in_force(), title: "Audit entry" };
    Ok(answer(turn, frame.around(&entry(&detail, story.as_ref(), app.web.clock.now()))))
}

/// What every page of the log has.
struct Frame {
    environment: Environment,
    /// How many freezes are in force.
    frozen: usize,
    title: &'static str,
}

impl Frame {
    fn around(&self, content: &Markup) -> Markup {
        let environment = self.environment.as_str();
        html! {
            (DOCTYPE)
            html lang="en" {
                (head(&html! { (self.title) " · Keyward · " (environment) }, None))
                body class="log" {
                    header {
                        div class="brand" {
                            h1 { a href="/" { "Keyward" } }
                            span class={ "env " (environment) } { (environment.to_uppercase()) }
                            a href="/audit" { "Audit log" }
                        }
                    }
                    @if self.frozen > 0 {
                        p class="banner warn" role="status" { span aria-hidden="true" { "❄ " } a href="/" { (self.frozen) (if self.frozen == 1 { " freeze is in force" } else { " freezes are in force" }) } }
                    }
                    main { (content) }
                    footer {
                        "Shown as stored. Whether it is genuine says "
                        code { "keyward audit verify" } "; more questions answers " code { "keyward audit query --help" } "."
                    }
                }
            }
        }
    }
}

fn listing(asked: &Parameters, found: &Entries, now: Timestamp) -> Markup {
    let narrowed: Vec<&(String, String)> = asked.iter().filter(|(n, _)| n != "cursor" && n != "limit").collect();
    html! {
        section aria-labelledby="entries" {
            h2 id="entries" { "Audit log: " (found.size) " entries" }
            p class="filters" {
                "Outcome: "
                @for outcome in ["success", "failure", "denied", "unknown"] {
                    a href=(with(asked, "outcome", outcome)) aria-current=[has(asked, "outcome", outcome).then_some("true")] { (outcome) } " "
                }
                @if !narrowed.is_empty() {
                    "· only "
                    @for (name, value) in &narrowed {
                        a class="chosen" href=(without(asked, name, value)) title="do not narrow by this" { (name) " " (value) " ✕" } " "
                    }
                    a href="/audit" { "all" }
                }
            }
            @if found.entries.is_empty() {
                p class="empty" { @if found.more { "Nothing among those that were looked at so far." } @else { "No entry is like that." } }
            } @else {
                table class="entries" {
                    thead { tr {
                        th scope="col" { "When" } th scope="col" { "What" } th scope="col" { "About" }
                        th scope="col" { "Outcome" } th scope="col" { "Says" }
                    } }
                    tbody { @for row in &found.entries { (line(asked, row, now)) } }
                }
            }
            p class="paging" {
                @if has_cursor(asked) { a href=(to_start(asked)) { "← newest" } " " }
                @if let (true, Some(next)) = (found.more, &found.next) { a rel="next" href=(with(asked, "cursor", next)) { "older →" } }
            }
        }
    }
}

fn line(asked: &Parameters, row: &Row, now: Timestamp) -> Markup {
    let (kind, id) = row.target.split_once('/').unwrap_or(("", &row.target));
    let says: String = row.text.chars().take(LONGEST_LINE).collect();
    html! {
        tr {
            th scope="row" {
                a href={ "/audit/" (row.sequence) } { "#" (row.sequence) } " "
                @if row.time.is_empty() { "at an unknown time" } @else { (moment(&row.time, now)) }
            }
            td data-label="What" {
                span { a href=(with(asked, "code", &row.code)) { code { (row.code) } } " " (row.title) }
                span class="small quiet" { (row.action) " · " (row.phase) }
            }
            td data-label="About" {
                span { (kind) " " @if FILTERS.contains(&kind) { a href=(with(asked, kind, id)) { (id) } } @else { (id) } }
                span class="small quiet" { "by " a href=(with(asked, "actor", &row.actor)) { (row.actor) } }
            }
            td data-label="Outcome" { (outcome(asked, row)) }
            td data-label="Says" {
                @if !says.is_empty() { span { (says) @if says.len() < row.text.len() { "…" } } }
                @if let Some(fault) = &row.fault { span class="bad" { "✕ " (fault) } }
            }
        }
    }
}

fn outcome(asked: &Parameters, row: &Row) -> Markup {
    let Some(outcome) = row.outcome.as_deref() else { return html! { span class="quiet" { "–" } } };
    let (class, sign) = match outcome {
        "success" => ("ok", "✓"),
        "failure" => ("critical", "✕"),
        "denied" => ("warning", "⚠"),
        _ => ("note", "?"),
    };
    html! { a class={ "badge " (class) } href=(with(asked, "outcome", outcome)) { span aria-hidden="true" { (sign) } " " (outcome) } }
}

fn entry(detail: &Detail, story: Option<&Story>, now: Timestamp) -> Markup {
    let row = &detail.row;
    let pretty = serde_json::to_string_pretty(&row.entry).unwrap_or_default();
    let known = explain::explain(&row.code);
    html! {
        section aria-labelledby="entry" {
            h2 id="entry" { "#" (row.sequence) " of " (detail.size) ": " (row.code) " " (row.title) }
            @if let Some(fault) = &row.fault { p class="banner bad" role="alert" { b { "✕ " (fault) } } }
            @if let Some(known) = known { p { (known.meaning) } p class="quiet" { "What to do: " (known.action) } }
            dl {
                @if !row.time.is_empty() { dt { "When" } dd { (moment(&row.time, now)) } }
                dt { "Id" } dd { code { (row.id) } }
                dt { "About" } dd { (row.target) }
                dt { "Actor" } dd { (row.actor) }
                dt { "Action" } dd { (row.action) " (" (row.phase) ")" }
                @if let Some(outcome) = &row.outcome { dt { "Outcome" } dd { (outcome) } }
                @if let Some(partner) = &detail.partner {
                    dt { (partner.phase) } dd { a href={ "/audit/" (partner.sequence) } { "#" (partner.sequence) } " " (partner.code) @if let Some(outcome) = &partner.outcome { " " (outcome) } }
                }
                @if let Some(id) = &row.correlation { dt { "Belongs to" } dd { a href=(with(&Vec::new(), "correlation", id)) { (id) } } }
                @for (key, text) in &detail.private { dt { (key.replace('_', " ")) } dd { (audit::plain(text)) } }
                @for piece in &detail.evidence {
                    dt { "Evidence" } dd { (piece.name) ", " (piece.size) " bytes, SHA-256 " code { (piece.sha256) } @if !piece.kept { " (not kept any more)" } }
                }
                dt { "Leaf" } dd { code { (row.leaf) } }
            }
        }
        @if let Some(story) = story {
            section aria-labelledby="story" {
                h2 id="story" { "What happened" }
                ol class="story" { @for sentence in &story.sentences { li { (sentence) } } }
            }
        }
        section aria-labelledby="stored" {
            h2 id="stored" { "As stored" }
            pre { code { (pretty) } }
        }
    }
}

/// The address with one more parameter, from the newest entry on; one of the same name gives way.
fn with(asked: &Parameters, name: &str, value: &str) -> String {
    let kept = asked.iter().filter(|(n, _)| n != name && n != "cursor");
    address(kept.map(|(n, v)| (n.as_str(), v.as_str())).chain([(name, value)]))
}

fn without(asked: &Parameters, name: &str, value: &str) -> String {
    let kept = asked.iter().filter(|(n, v)| (n.as_str(), v.as_str()) != (name, value) && n != "cursor");
    address(kept.map(|(n, v)| (n.as_str(), v.as_str())))
}

fn to_start(asked: &Parameters) -> String {
    address(asked.iter().filter(|(n, _)| n != "cursor").map(|(n, v)| (n.as_str(), v.as_str())))
}

fn address<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    let query = query.extend_pairs(pairs).finish();
    if query.is_empty() { "/audit".to_owned() } else { format!("/audit?{query}") }
}

fn has(asked: &Parameters, name: &str, value: &str) -> bool {
    asked.iter().any(|(n, v)| n == name && v == value)
}

fn has_cursor(asked: &Parameters) -> bool {
    asked.iter().any(|(n, _)| n == "cursor")
}
