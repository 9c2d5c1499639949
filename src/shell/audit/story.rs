//! A decision told from its entries, in plain sentences: what was intended, what policy said, what was done, what came of
//! it, and what that rests on.
//!
//! Refuses to know more than the entries say; it never guesses.

use super::answer::{actor, facts_of, told_of, value_text};
use super::model::Piece;
use super::plain;
use crate::codec::entry::{Entry, EntryFacts, EntryPolicy};
use crate::domain::audit::Phase;
use crate::domain::id::EntryId;
use crate::domain::time::human_span;
use crate::shell::explain;
use crate::shell::texts::Texts;

/// An entry with its evidence.
pub(super) struct Chapter {
    pub(super) entry: Entry,
    pub(super) evidence: Vec<Piece>,
    pub(super) texts: Texts,
}

/// Tells the story of entries that belong together, in the order of the log. `asked` is the one that was asked for.
pub(super) fn tell(chapters: &[Chapter], asked: Option<EntryId>) -> Vec<String> {
    let mut out: Vec<String> = beginning(chapters).into_iter().collect();
    for chapter in chapters {
        out.extend(happened(chapter, chapters, asked));
        out.extend(chapter.entry.policy.as_ref().map(|policy| ruling(policy, chapter.entry.tier)));
        out.extend(chapter.evidence.iter().map(rests_on));
    }
    let announced = chapters.iter().filter(|c| c.entry.phase == Phase::Intent);
    let open = announced.filter(|intent| !chapters.iter().any(|c| c.entry.intent == Some(intent.entry.id)));
    out.extend(open.map(|intent| {
        format!(
            "Of intent {} no outcome is recorded: whether it was done is not known from the log.",
            place(&intent.entry)
        )
    }));
    out.iter().map(|sentence| plain(sentence)).collect()
}

fn beginning(chapters: &[Chapter]) -> Option<String> {
    let (first, last) = (&chapters.first()?.entry, &chapters.last()?.entry);
    let about = format!("{} {}", first.target.kind, first.target.id);
    Some(match chapters.len() {
        1 => format!("This is one entry about {about}, written {}.", first.at),
        n => format!(
            "These are {n} entries about {about}, from {} on, over {}.",
            first.at,
            human_span(last.at.since(first.at))
        ),
    })
}

fn happened(chapter: &Chapter, chapters: &[Chapter], asked: Option<EntryId>) -> Vec<String> {
    let Chapter { entry, texts, .. } = chapter;
    let known = explain::explain(&entry.code);
    let title = known.map_or("a code that this version does not know", |e| e.title);
    let who = actor(entry, texts);
    let deed = deed(&entry.action);
    let mut said = match (entry.phase, entry.outcome) {
        (Phase::Intent, _) => format!("{who} was about to {deed}"),
        (Phase::Outcome, outcome) => {
            let intent = chapters.iter().find(|c| Some(c.entry.id) == entry.intent).map(|c| &c.entry);
            let after = match (intent, entry.intent) {
                (Some(intent), _) => {
                    format!("of intent {}, after {}", place(intent), human_span(entry.at.since(intent.at)))
                }
                (None, Some(id)) => format!("of intent {id}"),
                (None, None) => "of no intent that is named".to_owned(),
            };
            let how = outcome.map_or("nothing that is named", |o| o.as_str());
            format!("to {deed} came out as {how} ({after})")
        }
        (Phase::Event, Some(outcome)) => format!("to {deed}, for {who}, came out as {outcome}"),
        (Phase::Event, None) => format!("recorded by {who}"),
    };
    said = format!("{} {} {} ({title}): {said}", entry.at, place(entry), entry.code);
    if asked == Some(entry.id) && chapters.len() > 1 {
        said = format!("{said} — the entry asked for");
    }
    let mut out = vec![format!("{said}.")];
    if let Some(serial) = &entry.target.serial {
        out.push(format!("It is about the certificate with serial {serial}."));
    }
    let told = told_of(texts).map(|(key, text)| format!("{key}: {text}"));
    let all: Vec<String> = match &entry.facts {
        EntryFacts::LeftOut => {
            out.push("Its facts were too long to be recorded.".into());
            told.collect()
        }
        EntryFacts::Known(facts) => {
            told.chain(facts_of(facts).map(|(key, value)| format!("{key}: {}", value_text(value)))).collect()
        }
    };
    if !all.is_empty() {
        out.push(format!("It says: {}.", all.join("; ").trim_end_matches('.')));
    }
    out
}

fn ruling(policy: &EntryPolicy, tier: Option<u8>) -> String {
    let verdict = match policy.decision.as_str() {
        "proceed" => "let it go on",
        "await_approval" => "made it wait for a person",
        "refuse" => "forbade it",
        other => other,
    };
    let tier = tier.map_or_else(|| "without a tier".to_owned(), |tier| format!("at tier {tier}"));
    format!(
        "Policy {verdict}: rule {}, {tier} (policy {}, inputs {}).",
        policy.rule,
        policy.version.short(),
        policy.inputs.short()
    )
}

fn rests_on(piece: &Piece) -> String {
    let kept = if piece.kept { "kept here" } else { "its bytes are not kept any more" };
    format!(
        "It rests on {} ({}, {} bytes, captured {}), SHA-256 {}: {kept}.",
        piece.name, piece.media, piece.size, piece.captured_at, piece.sha256
    )
}

fn place(entry: &Entry) -> String {
    format!("#{}", entry.sequence)
}

/// What an action does, to be read after "to".
fn deed(action: &str) -> String {
    match action {
        "certificate.issue" => "issue a certificate",
        "certificate.order" => "order a certificate",
        "certificate.install" => "install a certificate",
        "certificate.postpone" => "put the attempt aside",
        "certificate.resume" => "go on with the attempt",
        "certificate.request" => "ask for a renewal",
        "certificate.schedule" => "plan the renewal",
        "gate.open" => "open the approval path",
        "gate.close" => "close the approval path",
        "gate.latch" => "keep the approval path closed until a person opens it",
        "gate.doubt" => "keep every approval path closed, because the log was not believed",
        "gate.reopen" => "open an approval path that was latched",
        "freeze.begin" => "freeze a part of what is guarded for a while",
        "freeze.thaw" => "end a freeze before its time",
        "freeze.end" => "end a freeze whose time was over",
        "key.compromised" => "report a key as compromised",
        "audit.doubt" => "go on with a log that was not believed before",
        "audit.freeze" => "move the oldest entries of the log into a shard",
        "link.trust" => "judge a link's peers by these roots and lists",
        "link.refuse" => "refuse peers of a link",
        "link.cut" => "cut live connections of a link",
        "gate.permit" => "permit a decision",
        "gate.key.announce" => "make the next lease key",
        "gate.key.use" => "sign with the next lease key",
        "issuer.rollover" => "give the CA's account a new key",
        "issuer.terms" => "take note of the CA's terms of service",
        "clock.accept" => "accept the present time as true",
        "configuration.reload" => "put a new configuration in force",
        "daemon.start" => "start the guardian",
        "daemon.stop" => "stop the guardian",
        "daemon.standstill" => "find that the guardian stood still",
        other => other,
    }
    .to_owned()
}
