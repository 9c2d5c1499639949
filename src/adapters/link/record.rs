//! What links write into the audit log.
//!
//! Whom to trust is authority: its entry is durable before anybody is let in by it. Refusing and cutting take authority
//! away: they are done first and told afterwards, as one entry for a crowd ([`Tally`](crate::domain::link::Tally)).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Shared;
use super::material::Trusted;
use crate::domain::audit::{Draft, Target, TargetKind, bounded_text};
use crate::domain::id::{EntryId, Ulid};
use crate::domain::json::Json;
use crate::domain::link::{Link, Reason, Swap, Told};
use crate::ports::Batch;

/// Whom a link trusts changed.
const TRUST: &str = "KW4320";
/// Live connections were cut.
const CUT: &str = "KW4321";

/// Writes down by what peers are judged from now on.
pub(super) async fn trust(shared: &Shared, link: &Link, trusted: &Trusted, swap: &Swap) -> Result<(), String> {
    let mut draft = draft(shared, link, "link.trust", TRUST);
    draft.facts.extend([
        ("trust", Json::show(&trusted.digest)),
        ("roots", Json::show(&trusted.roots)),
        ("revocation_lists", Json::show(&trusted.lists)),
        ("peers", Json::show(&link.peers.len())),
        ("ca", Json::opt(link.ca.as_ref().map(|ca| Json::str(ca.as_str().to_owned())))),
        ("bundle", Json::opt(trusted.bundle.as_ref().map(Json::show))),
        ("effect_ms", Json::show(&swap.took.as_millis())),
        ("cut", Json::show(&swap.cut)),
    ]);
    commit(shared, vec![draft]).await
}

/// Writes down who was refused and cut.
pub(super) async fn happened(shared: &Shared, refused: &[Told], cut: &BTreeMap<Reason, u64>) -> Result<(), String> {
    let link = shared.link.load_full();
    let refused = refused.iter().map(|told| {
        let mut draft = draft(shared, &link, "link.refuse", told.reason.code());
        draft.facts.extend([("reason", Json::str(told.reason.as_str())), ("count", Json::show(&told.count))]);
        draft.private.push(("last", Arc::from(bounded_text(&told.text))));
        draft
    });
    let cut = cut.iter().map(|(reason, count)| {
        let mut draft = draft(shared, &link, "link.cut", CUT);
        draft.facts.extend([("reason", Json::str(reason.as_str())), ("count", Json::show(count))]);
        draft
    });
    commit(shared, refused.chain(cut).collect()).await
}

/// An entry about the path that the link enforces.
fn draft(shared: &Shared, link: &Link, action: &'static str, code: &'static str) -> Draft {
    let mut random = [0; 10];
    shared.doors.entropy.fill(&mut random);
    let now = shared.doors.clock.now();
    let target = Target::new(TargetKind::Path, &link.path);
    let mut draft = Draft::new(EntryId(Ulid::new(now, random)), now, action, code, target);
    draft.facts.push(("link", Json::str(link.id.as_str().to_owned())));
    draft
}

async fn commit(shared: &Shared, entries: Vec<Draft>) -> Result<(), String> {
    shared.doors.store.commit(Batch { entries, ..Batch::default() }).await.map_err(|e| e.to_string())
}
