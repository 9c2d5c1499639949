//! `keyward gate explain`, `replay`, `watch` and what people do to gates.

use core::time::Duration;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::args::{Output, Planned};
use super::cert::segment;
use super::console::{Cell, Exit, Failure, Tone, moment, relative, wall_clock};
use super::gate_args::State;
use super::{Done, Run};
use crate::codec::explanation::{Explanation, LONGEST, ReasonText};
use crate::codec::statement::Keys;
use crate::domain::inventory::Seen;
use crate::domain::key::Digest;
use crate::domain::snapshot::{PartKind, Snapshot};
use crate::domain::time::Timestamp;
use crate::shell::http::model::{Detail, Gate, Reopen};

/// How often `watch` asks: a path that closes is told within this and the daemon's own five seconds.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// A page of the audit log, as far as it is needed here.
#[derive(serde::Deserialize, serde::Serialize)]
struct Entries {
    entries: Vec<serde_json::Value>,
}

impl Run {
    pub(super) fn gate_explain(&self, path: &str, at: Option<&str>) -> Done {
        let daemon = self.daemon()?;
        let time = at.map(|text| Timestamp::parse(text).ok_or_else(|| no_time(text))).transpose()?;
        if let Some(time) = time.filter(|time| *time < wall_clock()) {
            return self.gate_then(path, time);
        }
        let query = time.map(|time| format!("?at={time}")).unwrap_or_default();
        let told: Explanation = daemon.get(&format!("/v1/explanations/{}{query}", segment(path)))?;
        self.banner(&daemon);
        match self.output {
            Output::Json => self.console.json(&told)?,
            Output::Name => self.console.out(path),
            Output::Table => {
                let snapshot = told.snapshot.read().map_err(|e| not_understood(&e.to_string()))?;
                self.print_explanation(&told, &snapshot);
                let published: Option<Gate> =
                    daemon.get::<Vec<Gate>>("/v1/gates")?.into_iter().find(|g| g.path == path);
                if let Some(gate) = published.filter(|gate| time.is_none() && gate.open != told.verdict.open) {
                    let codes: Vec<&str> = gate.reasons.iter().map(|r| r.code.as_str()).collect();
                    let word = if gate.open { "open" } else { "closed" };
                    self.console.out(format!("Published is {word} still: {}", codes.join(", ")));
                }
            }
        }
        Ok(if told.verdict.open { Exit::Ok } else { Exit::GateClosed })
    }

    fn print_explanation(&self, told: &Explanation, snapshot: &Snapshot) {
        let console = self.console;
        let verdict = &told.verdict;
        let (word, tone) = if verdict.open { ("open", Tone::Good) } else { ("closed", Tone::Bad) };
        let path = &snapshot.path;
        if verdict.open {
            let weakest = verdict.weakest.as_deref().unwrap_or("nothing that ends");
            let until = moment(&verdict.until);
            console.out(format!("{path} is {} until {until}, by {weakest}", console.paint(word, tone)));
            for warning in &verdict.warnings {
                console.out(format!("  {} {} {}", console.paint("warning", Tone::Bad), warning.code, warning.text));
            }
        } else {
            console.out(format!("{path} is {} at {}", console.paint(word, tone), moment(&snapshot.at.to_string())));
            verdict.reasons.iter().for_each(|reason| self.print_reason(reason));
        }
        console.out("");
        let rows: Vec<Vec<Cell>> = snapshot.parts.iter().map(|part| row(part, snapshot.at)).collect();
        if !rows.is_empty() {
            console.table(&["STANDS ON", "KIND", "STORED", "ENDS", "SERVED", "KEY SINCE"], &rows);
        }
        for dependency in &snapshot.depends {
            let state = if dependency.reasons.is_empty() { "open".to_owned() } else { dependency.reasons.join(", ") };
            console.out(format!("path {}: {state}", dependency.path));
        }
        console.out(format!("margin {} s, inputs {}", snapshot.rules.margin.as_secs(), verdict.inputs));
    }

    fn print_reason(&self, reason: &ReasonText) {
        self.console.out(format!("  {} {}", reason.code, reason.text));
        self.console.out(format!("         opens when {}", reason.reopens));
    }

    /// How it was: what the audit log says of it.
    fn gate_then(&self, path: &str, time: Timestamp) -> Done {
        let daemon = self.daemon()?;
        let asked = format!("/v1/audit/entries?path={}&until={time}&limit=50", segment(path));
        let page: Entries = daemon.get(&asked)?;
        self.banner(&daemon);
        let field = |entry: &serde_json::Value, key: &str| {
            entry.get(key).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
        };
        let told = page.entries.iter().find(|e| matches!(field(e, "code").as_str(), "KW2301" | "KW2302"));
        let Some(entry) = told else {
            let text = format!("the audit log says nothing of {path} before {time}");
            return Err(Failure::new(Exit::Failed, text, "see all of it: keyward audit query --path PATH"));
        };
        let open = field(entry, "code") == "KW2301";
        match self.output {
            Output::Json => self.console.json(entry)?,
            Output::Name => self.console.out(path),
            Output::Table => {
                let (word, tone) = if open { ("open", Tone::Good) } else { ("closed", Tone::Bad) };
                let since = moment(&field(entry, "time"));
                self.console.out(format!("{path} was {} since {since}", self.console.paint(word, tone)));
                self.console.out(format!("  {}", field(entry, "text")));
                self.console.out(format!(
                    "  entry {}: keyward explain {}",
                    field(entry, "sequence"),
                    field(entry, "id")
                ));
            }
        }
        Ok(if open { Exit::Ok } else { Exit::GateClosed })
    }

    pub(super) fn gate_replay(&self, file: &Path, key: Option<&Path>) -> Done {
        let bad = |text: String| {
            let hint = "write one with: keyward gate explain PATH -o json > FILE";
            Failure::new(Exit::Failed, format!("{}: {text}", file.display()), hint)
        };
        let mut bytes = Vec::new();
        let most = u64::try_from(LONGEST).unwrap_or(u64::MAX).saturating_add(1);
        File::open(file)
            .and_then(|file| file.take(most).read_to_end(&mut bytes))
            .map_err(|e| bad(format!("cannot be read: {e}")))?;
        let told = Explanation::parse(&bytes).map_err(|e| bad(e.to_string()))?;
        let mut replayed = told.replay().map_err(|e| bad(e.to_string()))?;
        let said = key.map(|key| said_by(&told, key)).transpose()?;
        if let Some(Err(why)) = &said {
            replayed.differs.push(format!("signature: {why}"));
        }
        let said = said.and_then(Result::ok);
        let same = replayed.differs.is_empty();
        match self.output {
            Output::Json => self.console.json(&serde_json::json!({
                "path": replayed.verdict.path.to_string(),
                "open": replayed.verdict.is_open(),
                "same": same,
                "said_by": said,
                "differs": replayed.differs,
            }))?,
            Output::Name => self.console.out(replayed.verdict.path.as_str()),
            Output::Table => {
                let word = if replayed.verdict.is_open() { "open" } else { "closed" };
                let (path, at) = (&replayed.verdict.path, replayed.verdict.at);
                if same {
                    self.console.out(format!("{path} was {word} at {at}: judged again, the same comes of it"));
                    match &said {
                        Some(issuer) => self.console.out(format!("  said by {issuer}, under a key that was given")),
                        None => self.console.note("who said so was not checked: name its keys with --key FILE"),
                    }
                } else {
                    self.console.out(format!("{path} at {at}: judged again, something else comes of it"));
                    replayed.differs.iter().for_each(|what| self.console.out(format!("  {what}")));
                }
            }
        }
        Ok(if same { Exit::Ok } else { Exit::Failed })
    }

    pub(super) fn gate_watch(&self, path: Option<&str>, until: Option<State>, span: Option<Duration>) -> Done {
        let daemon = self.daemon()?;
        let mut known: BTreeMap<String, (bool, Vec<String>)> = BTreeMap::new();
        let began = wall_clock();
        loop {
            let gates: Vec<Gate> = daemon.get("/v1/gates")?;
            if known.is_empty() {
                self.banner(&daemon);
            }
            let own: Vec<&Gate> = gates.iter().filter(|gate| path.is_none_or(|path| gate.path == path)).collect();
            if let (Some(path), true) = (path, own.is_empty()) {
                let text = format!("there is no approval path {path:?}");
                return Err(Failure::new(Exit::Failed, text, "see them all: keyward gate status"));
            }
            for gate in own {
                let codes: Vec<String> = gate.reasons.iter().map(|r| r.code.clone()).collect();
                let state = (gate.open, codes);
                if known.get(&gate.path) != Some(&state) {
                    if !self.tell(gate)? {
                        return Ok(Exit::Ok);
                    }
                    known.insert(gate.path.clone(), state);
                }
                let wanted = until.is_some_and(|state| (state == State::Open) == gate.open);
                if wanted {
                    return Ok(Exit::Ok);
                }
            }
            if span.is_some_and(|span| wall_clock().since(began) >= span) {
                return Ok(if until.is_some() { Exit::GateClosed } else { Exit::Ok });
            }
            daemon.pause(WATCH_EVERY);
        }
    }

    /// Whether anybody still reads.
    fn tell(&self, gate: &Gate) -> Result<bool, Failure> {
        Ok(match self.output {
            Output::Json => {
                let line = serde_json::to_string(gate).map_err(|e| not_understood(&e.to_string()))?;
                self.console.try_out(line)
            }
            Output::Name => self.console.try_out(&gate.path),
            Output::Table => {
                let (word, tone) = if gate.open { ("open", Tone::Good) } else { ("closed", Tone::Bad) };
                let reasons: Vec<String> = gate.reasons.iter().map(|r| format!("{} {}", r.code, r.text)).collect();
                let more = match &gate.until {
                    Some(until) => format!("until {}{}", moment(until), super::gate::warned(gate)),
                    None => reasons.join("; "),
                };
                let word = self.console.paint(word, tone);
                self.console.try_out(format!("{} {} {word} {more}", gate.evaluated_at, gate.path))
            }
        })
    }

    pub(super) fn gate_reopen(&self, path: &str, reason: Option<String>, planned: &Planned) -> Done {
        if !planned.plan {
            let body = Reopen { reason: reason.unwrap_or_default() };
            return self.start_with(&format!("/v1/paths/{}/reopen", segment(path)), &body);
        }
        let daemon = self.daemon()?;
        let told: Explanation = daemon.get(&format!("/v1/explanations/{}", segment(path)))?;
        self.banner(&daemon);
        let snapshot = told.snapshot.read().map_err(|e| not_understood(&e.to_string()))?;
        match &snapshot.latch {
            Some(latch) => self.console.out(format!("forgets  that {} (since {})", latch.text, latch.at)),
            None => self.console.out(format!("forgets  nothing: no person is needed for {path}")),
        }
        self.console.out("records  that you opened it");
        self.console.out("then     evaluates it: it opens if everything that it stands on is good");
        self.console.note("nothing was done: this is only the plan");
        Ok(Exit::Ok)
    }

    pub(super) fn gate_compromised(&self, key: &str, planned: &Planned) -> Done {
        let daemon = self.daemon()?;
        let spki = match Digest::parse(key) {
            Some(spki) => spki.to_string(),
            None => {
                let detail: Detail = daemon.get(&format!("/v1/credentials/{}", segment(key)))?;
                detail.chain.first().map(|c| c.spki_sha256.clone()).ok_or_else(|| {
                    let text = format!("{key} has no certificate, so there is no key to report");
                    Failure::new(Exit::Failed, text, "name the SHA-256 of its SubjectPublicKeyInfo instead")
                })?
            }
        };
        if !planned.plan {
            return self.start(&format!("/v1/keys/{spki}/compromised"));
        }
        self.banner(&daemon);
        self.console.out(format!("records  that you reported the key {spki} as compromised"));
        self.console.out("closes   every path that stands on a certificate with it, or on one below it, for ever");
        self.console.note("nothing was done: this is only the plan");
        Ok(Exit::Ok)
    }
}

fn row(part: &crate::domain::snapshot::Part, at: Timestamp) -> Vec<Cell> {
    let chain = part.stored.as_ref().or_else(|| part.served.iter().find_map(|(_, s)| s.as_ref())).and_then(Seen::chain);
    let (stored, tone) = match &part.stored {
        Some(Seen::Present(chain)) => (format!("serial {}", chain.leaf.serial), Tone::Plain),
        Some(Seen::Missing) => ("missing".to_owned(), Tone::Bad),
        Some(Seen::Unreadable(why) | Seen::Unreachable(why) | Seen::Unparseable(why)) => (why.clone(), Tone::Bad),
        None if matches!(part.kind, PartKind::Endpoints | PartKind::Pattern) => ("-".to_owned(), Tone::Plain),
        None => ("not looked at yet".to_owned(), Tone::Bad),
    };
    let same = |seen: &Option<Seen>| {
        let seen = seen.as_ref().and_then(Seen::chain);
        seen.is_some_and(|seen| chain.is_none_or(|own| own.leaf.fingerprint == seen.leaf.fingerprint))
    };
    let good = part.served.iter().filter(|(_, seen)| same(seen)).count();
    let all = part.served.len();
    let ends = chain.map(|c| c.validity().not_after);
    vec![
        Cell(part.credential.to_string(), Tone::Strong),
        Cell(part.kind.as_str().to_owned(), Tone::Plain),
        Cell(stored, tone),
        match ends {
            Some(end) => Cell(relative(&end.to_string()), if end <= at { Tone::Bad } else { Tone::Plain }),
            None => Cell("-".to_owned(), Tone::Plain),
        },
        if all == 0 {
            Cell("-".to_owned(), Tone::Plain)
        } else {
            Cell(format!("{good} of {all}"), if good == all { Tone::Good } else { Tone::Bad })
        },
        part.key_since.map_or_else(|| "-".to_owned(), |since| relative(&since.to_string())).into(),
    ]
}

/// Who said it, or why that cannot be told.
fn said_by(told: &Explanation, key: &Path) -> Result<Result<String, String>, Failure> {
    let bad = |text: String| {
        let hint = "`keyward gate keys` on the guardian prints them: one a line";
        Failure::new(Exit::Failed, format!("{}: {text}", key.display()), hint)
    };
    // Sixteen keys of a few hundred bytes, with room for comments.
    let mut text = String::new();
    let read = File::open(key).and_then(|file| file.take(64 << 10).read_to_string(&mut text));
    read.map_err(|e| bad(format!("cannot be read: {e}")))?;
    let keys = Keys::parse(&text).map_err(|e| bad(e.to_string()))?;
    Ok(told.said_by(&keys).map_err(|e| e.to_string()))
}

fn no_time(text: &str) -> Failure {
    Failure::new(Exit::Usage, format!("{text:?} is no time"), "write it as 2026-12-24T18:00:00Z")
}

fn not_understood(why: &str) -> Failure {
    Failure::new(Exit::Failed, format!("the daemon's answer is not understood: {why}"), "is it of the same version?")
}
