//! The overview: a tile for each approval path, what needs a human, the CAs, and the inventory with what comes next.
//!
//! One page, made on the server, without script: it works in any browser and under the strictest content policy. Text
//! from certificates is hostile until escaped, which maud does wherever a value is put in.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Response, header};
use axum::response::IntoResponse;
use axum::routing::get;
use maud::{DOCTYPE, Markup, html};

use super::model::{Credential, Gate, Status};
use super::server::App;
use super::{Web, heavy, views};
use crate::domain::time::{Timestamp, human_span};

/// The inventory on the page is cut here, the worst first: a longer one is read with the command line or as JSON.
const MOST_ROWS: usize = 200;
/// The list of what needs a human is cut here: nobody works off more at once.
const MOST_TROUBLES: usize = 20;
/// Only so many messages are shown; the log has them all.
const MOST_NOTICES: usize = 5;
/// Of many names the first few are shown.
const MOST_NAMES: usize = 3;
/// Nothing but our own style sheet: no script, no frame, no form, no image.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/", get(overview)).route("/style.css", get(style)).route("/icon.svg", get(icon))
}

async fn overview(State(app): State<Arc<App>>) -> Response<Body> {
    let turn = app.turn().await;
    answer(turn, document(&Everything::of(&app.web)))
}

/// A page under the content policy.
pub(super) fn answer(turn: heavy::Turn, page: Markup) -> Response<Body> {
    let mut response = heavy::answer(turn, "text/html; charset=utf-8", page.into_string());
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response.headers_mut().insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    response
}

async fn style() -> Response<Body> {
    asset("text/css; charset=utf-8", include_str!("style.css"))
}

async fn icon() -> Response<Body> {
    asset("image/svg+xml", include_str!("icon.svg"))
}

fn asset(kind: &'static str, text: &'static str) -> Response<Body> {
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "max-age=300")];
    (headers, text).into_response()
}

/// What one page shows.
struct Everything {
    status: Status,
    gates: Vec<Gate>,
    credentials: Vec<Credential>,
    now: Timestamp,
}

impl Everything {
    fn of(web: &Web) -> Self {
        let mut gates = views::gates(web);
        gates.sort_by_key(|g| g.open);
        let mut credentials = views::credentials(web);
        credentials.sort_by(|a, b| rank(&b.severity).cmp(&rank(&a.severity)).then(a.not_after.cmp(&b.not_after)));
        Self { status: views::status(web), gates, credentials, now: web.clock.now() }
    }

    fn staging(&self) -> bool {
        self.status.environment == "staging"
    }
}

fn rank(severity: &str) -> u8 {
    match severity {
        "critical" => 3,
        "warning" => 2,
        "note" => 1,
        _ => 0,
    }
}

/// The head of every page; one that shows what is now is read again after so many seconds.
pub(super) fn head(title: &Markup, refresh: Option<u32>) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            @if let Some(seconds) = refresh { meta http-equiv="refresh" content=(seconds); }
            meta name="color-scheme" content="light dark";
            title { (title) }
            link rel="stylesheet" href="/style.css";
            link rel="icon" href="/icon.svg" type="image/svg+xml";
        }
    }
}

fn document(all: &Everything) -> Markup {
    let closed = all.status.gates_closed;
    let title = html! { @if closed > 0 { "(" (closed) " closed) " } "Keyward · " (all.status.environment) };
    html! {
        (DOCTYPE)
        html lang="en" {
            (head(&title, Some(15)))
            body {
                a class="skip" href="#inventory" { "Skip to the inventory" }
                (top(all))
                (frozen(all))
                main {
                    (faults(all))
                    (gates(all))
                    (troubles(all))
                    (inventory(all))
                    (issuers(all))
                    (notices(all))
                }
                footer {
                    a href="/audit" { "The audit log" } " · Keyward " (all.status.version) " · running since " (moment(&all.status.started, all.now))
                    " · this page again every 15 s · the same on the command line: "
                    code { "keyward status" } ", " code { "keyward cert list" }
                }
            }
        }
    }
}

fn top(all: &Everything) -> Markup {
    let count = |severity: &str| all.status.credentials.get(severity).copied().unwrap_or(0);
    let total: usize = all.status.credentials.values().sum();
    html! {
        header {
            div class="brand" {
                h1 { "Keyward" }
                span class={ "env " (all.status.environment) } { (all.status.environment.to_uppercase()) }
                a href="/audit" { "Audit log" }
            }
            ul class="counts" {
                li { b { (total) } " " (plural(total, "credential", "credentials")) }
                li class=[(count("critical") > 0).then_some("bad")] { b { (count("critical")) } " critical" }
                li class=[(count("warning") > 0).then_some("warn")] { b { (count("warning")) } " " (plural(count("warning"), "warning", "warnings")) }
                li { b { (all.status.in_flight) } " in flight" }
            }
        }
        @if all.staging() {
            p class="banner staging" role="status" {
                b { "STAGING." } " A dry run: own state, the CAs' staging directories, nothing in production is touched. A gate that is open here opens nothing."
            }
        }
    }
}

/// Freezes are few; what is more than a screen of them is in the list.
const MOST_FREEZES: usize = 8;

/// Stands on top: whoever wonders why nothing happens sees it first.
fn frozen(all: &Everything) -> Markup {
    html! {
        @for freeze in all.status.freezes.iter().take(MOST_FREEZES) {
            p class="banner warn" role="status" {
                b { span aria-hidden="true" { "❄ " } "Frozen: " (freeze.scope) } " until " (moment(&freeze.until, all.now))
                " by " (freeze.by) ": " (freeze.reason) ". "
                @if !freeze.holds.is_empty() { "It holds " (freeze.holds.len()) " of " (freeze.covers) ". " }
                code { "keyward freeze thaw " (freeze.id) }
            }
        }
        @if all.status.freezes.len() > MOST_FREEZES {
            p class="banner warn" role="status" { "and " (all.status.freezes.len().saturating_sub(MOST_FREEZES)) " more freezes: " code { "keyward freeze list" } }
        }
    }
}

fn faults(all: &Everything) -> Markup {
    html! {
        @if !all.status.alive {
            p class="banner bad" role="alert" { b { "✕ The loop does not turn." } " Nothing is renewed and every gate closes." }
        }
        @if let Some(why) = &all.status.clock_fault {
            p class="banner bad" role="alert" { b { "✕ The clock is not believed: " } (why) ". If the present time is right: " code { "keyward clock accept" } }
        }
        @if let Some(seal) = &all.status.sealed {
            p class="banner bad" role="alert" { b { "✕ Sealed, " (seal.code) ": " } (seal.text) ". Every gate is closed, nothing is issued or installed until the state is recovered and keyward restarted: " code { "keyward explain " (seal.code) } }
        } @else if let Some(why) = &all.status.store_fault {
            p class="banner bad" role="alert" { b { "✕ Nothing can be recorded: " } (why) ". Renewals are stopped and every gate is closed." }
        }
    }
}

fn gates(all: &Everything) -> Markup {
    html! {
        section aria-labelledby="gates" {
            h2 id="gates" { "Approval paths" }
            @if all.gates.is_empty() {
                p class="empty" { "None is configured. Add a " code { "[[path]]" } " to keyward.toml, then " code { "keyward config check" } "." }
            }
            div class="tiles" {
                @for gate in &all.gates { (tile(gate, all.now)) }
            }
        }
    }
}

fn tile(gate: &Gate, now: Timestamp) -> Markup {
    html! {
        article class={ "tile " (if gate.open { "open" } else { "closed" }) } {
            h3 { (gate.path) }
            p class="verdict" {
                span class="sign" aria-hidden="true" { (if gate.open { "✓" } else { "✕" }) }
                (if gate.open { "OPEN" } else { "CLOSED" })
            }
            @if !gate.freezes.is_empty() { p class="warn" { span aria-hidden="true" { "❄ " } "frozen" } }
            @if let Some(since) = &gate.since { p class="quiet" { "since " (moment(since, now)) } }
            @for reason in &gate.reasons {
                p class="reason" { code { (reason.code) } " " (reason.text) "."
                    span class="quiet" { " Reopens when " (reason.reopens) "." } }
            }
            @for warning in &gate.warnings {
                p class="reason" { code { (warning.code) } " " (warning.text) "." }
            }
            dl {
                @if let Some(until) = &gate.until { dt { "Holds until" } dd { (moment(until, now)) } }
                @if let Some(weakest) = &gate.weakest { dt { "Weakest link" } dd { (weakest) } }
            }
        }
    }
}

fn troubles(all: &Everything) -> Markup {
    let mut found: Vec<_> = all.credentials.iter().flat_map(|c| c.findings.iter().map(move |f| (c, f))).collect();
    found.retain(|(_, f)| rank(&f.severity) >= 2);
    found.sort_by_key(|(_, f)| core::cmp::Reverse(rank(&f.severity)));
    html! {
        section aria-labelledby="troubles" {
            h2 id="troubles" { "Needs a human" }
            @if found.is_empty() {
                p class="empty" { span class="ok" aria-hidden="true" { "✓ " } "Nothing. All is routine." }
            }
            ul class="troubles" {
                @for (credential, finding) in found.iter().take(MOST_TROUBLES) {
                    li class=(finding.severity) {
                        p { (badge(&finding.severity)) " " b { (credential.id) } @if let Some(owner) = &credential.owner { span class="quiet" { " · " (owner) } } }
                        p { code { (finding.code) } " " (finding.text) "." }
                        p class="quiet" { "more: " code { "keyward cert why " (credential.id) } }
                    }
                }
            }
            @if found.len() > MOST_TROUBLES {
                p class="quiet" { "and " (found.len().saturating_sub(MOST_TROUBLES)) " more: " code { "keyward cert list" } }
            }
        }
    }
}

fn badge(severity: &str) -> Markup {
    let (sign, word) = match severity {
        "critical" => ("✕", "critical"),
        "warning" => ("⚠", "warning"),
        "note" => ("•", "note"),
        _ => ("✓", "ok"),
    };
    html! { span class={ "badge " (word) } { span aria-hidden="true" { (sign) } " " (word) } }
}

fn inventory(all: &Everything) -> Markup {
    html! {
        section aria-labelledby="inventory" {
            h2 id="inventory" { "Inventory" }
            @if all.credentials.is_empty() {
                p class="empty" { "Nothing is guarded yet. Add a " code { "[[certificate]]" } " to keyward.toml, then " code { "keyward check" } "." }
            } @else {
                table {
                    thead { tr {
                        th scope="col" { "Credential" } th scope="col" { "State" } th scope="col" { "Owner" } th scope="col" { "Issuer" }
                        th scope="col" { "Life used" } th scope="col" { "Stored = served?" } th scope="col" { "Next" }
                    } }
                    tbody { @for credential in all.credentials.iter().take(MOST_ROWS) { (row(credential, all.now)) } }
                }
            }
            @if all.credentials.len() > MOST_ROWS {
                p class="quiet" { (all.credentials.len().saturating_sub(MOST_ROWS)) " more are not shown: " code { "keyward cert list" } ", or " a href="/v1/credentials" { "/v1/credentials" } }
            }
        }
    }
}

fn row(credential: &Credential, now: Timestamp) -> Markup {
    let names: Vec<&str> = credential.names.iter().take(MOST_NAMES).map(String::as_str).collect();
    let more = credential.names.len().saturating_sub(MOST_NAMES);
    html! {
        tr {
            th scope="row" {
                b { (credential.id) }
                @if credential.tier >= 2 { span class="tier" title="how much hangs on it, 0 to 4" { "tier " (credential.tier) } }
                span class="names" { (names.join(", ")) @if more > 0 { " and " (more) " more" } }
            }
            td data-label="State" { (badge(&credential.severity)) @if credential.kind == "observed" { span class="quiet small" { "watched only" } } }
            td data-label="Owner" { (credential.owner.as_deref().unwrap_or("–")) }
            td data-label="Issuer" { (credential.issuer.as_deref().unwrap_or("–")) }
            td data-label="Life used" class="life" { (bar(credential, now)) }
            td data-label="Served" { (served(credential)) }
            td data-label="Next" { (credential.next) @if let Some(at) = &credential.next_at { " " (moment(at, now)) } }
        }
    }
}

/// The bar of life used, with a mark where the renewal is due.
fn bar(credential: &Credential, now: Timestamp) -> Markup {
    let (Some(used), Some(end)) = (credential.life_used_permille, credential.not_after.as_deref()) else {
        let class = if credential.stored == "unseen" { "quiet" } else { "bad" };
        return html! { span class=(class) { (credential.stored) } };
    };
    let class = match rank(&credential.severity) {
        3 => "critical",
        2 => "warning",
        _ => "fine",
    };
    let percent = used / 10;
    html! {
        span class="percent" { (percent) " %" }
        svg class={ "bar " (class) } viewBox="0 0 1000 60" preserveAspectRatio="none" role="img" aria-label={ (percent) " percent of the lifetime used" } {
            rect class="track" width="1000" height="60" rx="30" {}
            rect class="used" width=(used.max(30)) height="60" rx="30" {}
            @if let Some(due) = due_permille(credential) { rect class="due" x=(due.saturating_sub(6)) width="12" height="60" {} }
        }
        span class="small quiet" { "ends " (moment(end, now)) }
    }
}

/// Where in the lifetime the renewal is due, in thousandths.
fn due_permille(credential: &Credential) -> Option<u16> {
    let at = |text: &Option<String>| text.as_deref().and_then(Timestamp::parse);
    let (not_before, not_after) = (at(&credential.not_before)?, at(&credential.not_after)?);
    Some(views::life_used(&crate::domain::time::Validity { not_before, not_after }, at(&credential.renew_at)?))
}

fn served(credential: &Credential) -> Markup {
    let (class, sign, words) = match credential.served.as_str() {
        "yes" if credential.stored == "none" => ("ok", "✓", "served; not stored here"),
        "yes" => ("ok", "✓", "yes"),
        "no" => ("bad", "✕", "no"),
        "none" => ("quiet", "–", "no endpoint"),
        "staging" => ("quiet", "–", "not in staging"),
        _ => ("quiet", "?", "not seen yet"),
    };
    html! { span class=(class) { span aria-hidden="true" { (sign) } " " (words) } }
}

fn issuers(all: &Everything) -> Markup {
    html! {
        @if !all.status.issuers.is_empty() {
            section aria-labelledby="issuers" {
                h2 id="issuers" { "Issuers" }
                ul class="issuers" {
                    @for issuer in &all.status.issuers {
                        li {
                            p { b { (issuer.id) }
                                @if let Some(until) = &issuer.open_until { span class="bad" { " ✕ fails; is left alone until " (moment(until, all.now)) } }
                                @else if issuer.failures > 0 { span class="warn" { " ⚠ " (issuer.failures) " failures in a row" } }
                            }
                            p class="quiet" { "last success " @match &issuer.last_success { Some(at) => (moment(at, all.now)), None => "never" } }
                            @if !issuer.remaining.is_empty() {
                                p class="quiet" { "left of its limits: " (issuer.remaining.iter().map(|(k, v)| format!("{v} {}", k.replace('_', " "))).collect::<Vec<_>>().join(", ")) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn notices(all: &Everything) -> Markup {
    html! {
        @if !all.status.notices.is_empty() {
            section aria-labelledby="notices" {
                h2 id="notices" { "Said lately" }
                ul class="notices" {
                    @for notice in all.status.notices.iter().take(MOST_NOTICES) {
                        li { @if notice.urgent { (badge("critical")) " " } code { (notice.code) } " " b { (notice.about) } ": " (notice.text) }
                    }
                }
            }
        }
    }
}

/// How far away, then when exactly.
pub(super) fn moment(text: &str, now: Timestamp) -> Markup {
    let Some(at) = Timestamp::parse(text) else { return html! { (text) } };
    let shown = text.trim_end_matches('Z').replacen('T', " ", 1);
    let shown = shown.get(..16).unwrap_or(&shown);
    html! { time datetime=(text) { (relative(at, now)) " " span class="abs" { "(" (shown) " UTC)" } } }
}

fn relative(at: Timestamp, now: Timestamp) -> String {
    match at.cmp(&now) {
        core::cmp::Ordering::Greater => format!("in {}", human_span(now.until(at))),
        core::cmp::Ordering::Equal => "now".to_owned(),
        core::cmp::Ordering::Less => format!("{} ago", human_span(now.since(at))),
    }
}

fn plural<'a>(count: usize, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}
