//! `approved_over` and `repair`: over which path actions are approved, and whether that can end in a ring.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::graph::Graph;
use crate::domain::id::{CredentialId, PathId};
use crate::domain::inventory::{ApprovalPath, Estate};
use crate::domain::policy::{Approval, Repair};
use crate::shell::config::diagnostic::{Problems, Span, quoted};
use crate::shell::config::raw::{At, Section};

/// The word for the command line, which is no path.
const CLI: &str = "cli";

/// What a section says, before the paths are known.
#[derive(Clone, Debug)]
pub(super) struct Written<'a> {
    over: At<&'a str>,
    repair: Option<At<&'a str>>,
}

/// What sections said, by credential, and what `[policy]` says for the others.
#[derive(Debug, Default)]
pub(super) struct Approvals {
    pub(super) own: BTreeMap<CredentialId, Approval>,
    pub(super) usual: Option<Approval>,
    spans: BTreeMap<CredentialId, Span>,
    usual_span: Option<Span>,
}

/// Reads the two keys of a section.
pub(super) fn read<'a>(p: &mut Problems, s: &mut Section<'a>) -> Option<Written<'a>> {
    let over = s.text(p, "approved_over", "\"approve\"");
    let repair = s.text(p, "repair", "\"cli\"");
    if let (None, Some(repair)) = (&over, repair.as_ref().filter(|_| !s.has("approved_over"))) {
        let mend = "add `approved_over`, the path that is used as long as it is open, or remove `repair`";
        p.add("KW4473", &repair.span, "`repair` without `approved_over`", "the way around what?", mend);
    }
    Some(Written { over: over?, repair })
}

/// Finds the paths that were named.
pub(super) fn resolve(
    p: &mut Problems,
    sections: &[(CredentialId, Written<'_>)],
    usual: Option<&Written<'_>>,
    paths: &BTreeMap<PathId, Arc<ApprovalPath>>,
) -> Approvals {
    let mut all = Approvals::default();
    for (id, written) in sections {
        if let Some(approval) = approval(p, written, paths) {
            all.own.insert(id.clone(), approval);
            all.spans.insert(id.clone(), written.over.span.clone());
        }
    }
    all.usual = usual.and_then(|written| approval(p, written, paths));
    all.usual_span = usual.map(|written| written.over.span.clone());
    all
}

fn approval(p: &mut Problems, written: &Written<'_>, paths: &BTreeMap<PathId, Arc<ApprovalPath>>) -> Option<Approval> {
    let over = known(p, &written.over, paths)?;
    let repair = match &written.repair {
        None => None,
        Some(word) if word.value == CLI => Some(Repair::Cli),
        Some(path) => Some(Repair::Over(known(p, path, paths)?)),
    };
    Some(Approval { over, repair })
}

fn known(p: &mut Problems, text: &At<&str>, paths: &BTreeMap<PathId, Arc<ApprovalPath>>) -> Option<PathId> {
    let found = PathId::parse(text.value).ok().filter(|id| paths.contains_key(id));
    if found.is_none() {
        let mend = match p.did_you_mean(text.value, paths.keys().map(PathId::as_str)) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => "name a [[path]] of this file".to_owned(),
        };
        p.add("KW0012", &text.span, format!("there is no path {}", quoted(text.value)), "unknown", mend);
    }
    found
}

/// Refuses rings where they hurt most; the others are warnings of `keyward check` and `keyward gate graph`.
pub(super) fn judge(p: &mut Problems, estate: &Estate, approvals: &Approvals) {
    if approvals.own.is_empty() && approvals.usual.is_none() {
        return;
    }
    for cycle in Graph::of(estate).cycles.iter().filter(|c| c.is_refused()) {
        let span = cycle.ring.iter().find_map(|(id, _)| approvals.spans.get(id)).or(approvals.usual_span.as_ref());
        let what = format!("once it has expired nobody can approve its repair: {cycle} (tier {})", cycle.tier);
        let mend = "add repair = \"cli\", or repair = \"PATH\" with a path that does not stand on it";
        p.add("KW4471", span.unwrap_or(&(0..0)), what, "this closes a ring", mend);
    }
}
