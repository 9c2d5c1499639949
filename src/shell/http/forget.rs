//! Forgetting over the API: the texts that an entry commits to are deleted.

use core::time::Duration;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, State};
use axum::http::{Response, StatusCode};

use super::api::{accepted, actor, command};
use super::problem::{self, Problem};
use super::server::{App, Door};
use crate::domain::id::{EntryId, Ulid};
use crate::domain::key::Digest;
use crate::engine::{Command, Forget};
use crate::shell::{audit, texts};

/// Longer than a commit may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked for.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// The entry, by id or place.
    entry: String,
    /// One text of it; all, if there is none.
    key: Option<String>,
    /// Only say what would be forgotten.
    #[serde(default)]
    plan: bool,
}

pub(super) async fn forget(
    State(app): State<Arc<App>>,
    Extension(door): Extension<Door>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response<Body>, Problem> {
    let by = actor(door)?;
    let bad = |text: String| {
        let hint = "{\"entry\": ID, \"key\": KEY}; keyward audit show ID lists the keys under texts";
        Problem::new(StatusCode::BAD_REQUEST, problem::BAD_REQUEST, text, hint)
    };
    let body = body.map_err(|e| bad(e.body_text()))?;
    let wanted: Wanted = serde_json::from_slice(&body).map_err(|e| bad(e.to_string()))?;
    let detail = audit::detail(&*app.web.store, &wanted.entry).await?;
    let Some(entry) = Ulid::parse(&detail.row.id).map(EntryId) else {
        return Err(bad(format!("entry {} has no id", detail.row.sequence)));
    };
    let all = texts::commitments(&detail.row.entry);
    // Whoever is named by many entries is forgotten only by that key.
    let chosen = |key: &str| wanted.key.as_deref().map_or(key != texts::ACTOR, |wanted| wanted == key);
    let chosen: Vec<(String, Digest)> = all.into_iter().filter(|(key, _)| chosen(key)).collect();
    if chosen.is_empty() {
        let what = wanted.key.map_or_else(|| "no private text".to_owned(), |key| format!("no private text {key:?}"));
        return Err(bad(format!("entry {entry} has {what}")));
    }
    let keys = chosen.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>().join(", ");
    if wanted.plan {
        return Ok(accepted(&format!("of entry {entry} would be forgotten: {keys}; nothing was done")));
    }
    let (answer, answered) = sync_channel(1);
    command(&app, Command::Forget(Forget { entry, texts: chosen, by }, answer)).await?;
    let told = tokio::task::spawn_blocking(move || answered.recv_timeout(PATIENCE)).await;
    let failed = |text: String| {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            problem::BUSY,
            text,
            "keyward audit show says what is left; ask again",
        )
    };
    match told {
        Ok(Ok(Ok(()))) => Ok(accepted(&format!("of entry {entry} was forgotten: {keys}"))),
        Ok(Ok(Err(error))) => Err(failed(format!("nothing was forgotten: {error}"))),
        Ok(Err(_)) | Err(_) => Err(failed(format!("nobody answered within {} s", PATIENCE.as_secs()))),
    }
}
