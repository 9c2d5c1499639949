//! `keyward audit show`.

use serde_json::Value;

use super::args::Show;
use crate::shell::audit::model::Detail;
use crate::shell::audit::{csv, plain, value_text};
use crate::shell::cli::args::Format;
use crate::shell::cli::console::{Exit, Failure, moment};
use crate::shell::cli::{Done, Run};
use crate::shell::explain;

impl Run {
    pub(super) fn audit_show(&self, told: &Show) -> Done {
        let source = self.source(&told.place)?;
        let detail = source.detail(&told.id)?;
        self.source_banner(&source);
        match self.common.format {
            Format::Json => self.console.json(&detail)?,
            Format::Jsonl => self.console.out(one_line(&detail)?),
            Format::Csv => {
                self.console.out(csv::HEAD);
                self.console.out(csv::line(&detail.row));
            }
            Format::Name => self.console.out(&detail.row.id),
            Format::Table => self.pairs_of(&detail),
        }
        Ok(Exit::Ok)
    }

    fn pairs_of(&self, detail: &Detail) {
        let row = &detail.row;
        let known = explain::explain(&row.code);
        let mut pairs = vec![
            ("place", format!("#{} of {} entries", row.sequence, detail.size)),
            ("fault", row.fault.as_deref().map(plain).unwrap_or_default()),
            ("id", row.id.clone()),
            ("time", moment(&plain(&row.time))),
            ("code", format!("{} {}", plain(&row.code), row.title)),
            ("meaning", known.map(|e| e.meaning.to_owned()).unwrap_or_default()),
            ("what to do", known.map(|e| e.action.to_owned()).unwrap_or_default()),
            ("action", plain(&row.action)),
            ("phase", row.phase.clone()),
            ("outcome", row.outcome.clone().unwrap_or_default()),
        ];
        pairs.extend(detail.partner.iter().map(|p| {
            let outcome = p.outcome.as_ref().map(|o| format!(", {o}")).unwrap_or_default();
            let what = if p.phase == "intent" { "its intent" } else { "its outcome" };
            (what, format!("#{} {} {}{outcome}", p.sequence, p.time, plain(&p.code)))
        }));
        if row.phase == "intent" && detail.partner.is_none() {
            pairs.push(("its outcome", "none is recorded: whether it was done is not known from the log".into()));
        }
        pairs.extend([
            ("about", plain(&row.target)),
            ("by", plain(&row.actor)),
            ("tier", row.tier.map(|t| t.to_string()).unwrap_or_default()),
            ("belongs to", row.correlation.clone().unwrap_or_default()),
        ]);
        let data = row.entry.get("data");
        pairs.extend(["policy", "facts"].map(|name| (name, below(data, name))));
        let private = detail.private.iter().map(|(key, text)| format!("{}: {}", plain(key), plain(text)));
        pairs.push(("private", private.collect::<Vec<_>>().join("\n")));
        pairs.push(("evidence", evidence(detail)));
        pairs.push(("more", rest(data)));
        pairs.extend([("previous", below(data, "previous_of_target")), ("leaf", row.leaf.clone())]);
        self.console.pairs(&pairs);
    }
}

fn one_line(detail: &Detail) -> Result<String, Failure> {
    let refuse = |e| Failure::new(Exit::Failed, format!("cannot be written as JSON: {e}"), "use -o table");
    serde_json::to_string(detail).map_err(refuse)
}

fn evidence(detail: &Detail) -> String {
    let line = |p: &crate::shell::audit::model::Piece| {
        let kept = if p.kept { "" } else { " (its bytes are not kept any more)" };
        format!(
            "{} {} {} bytes, captured {}, SHA-256 {}{kept}",
            plain(&p.name),
            plain(&p.media),
            p.size,
            p.captured_at,
            p.sha256
        )
    };
    detail.evidence.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A field below `data`: an object's values one a line.
fn below(data: Option<&Value>, name: &str) -> String {
    match data.and_then(|d| d.get(name)) {
        None => String::new(),
        Some(Value::Object(fields)) => {
            let lines = fields.iter().map(|(key, value)| format!("{}: {}", plain(key), plain(&value_text(value))));
            lines.collect::<Vec<_>>().join("\n")
        }
        Some(other) => plain(&value_text(other)),
    }
}

/// What stands below `data` and has no line of its own.
fn rest(data: Option<&Value>) -> String {
    const SHOWN: [&str; 13] = [
        "action",
        "actor",
        "code",
        "correlation_id",
        "evidence",
        "facts",
        "intent_ref",
        "outcome",
        "phase",
        "policy",
        "previous_of_target",
        "risk",
        "private",
    ];
    let Some(Value::Object(fields)) = data else { return String::new() };
    let rest = fields.iter().filter(|(key, _)| !SHOWN.contains(&key.as_str()));
    rest.map(|(key, value)| format!("{}: {}", plain(key), plain(&value.to_string()))).collect::<Vec<_>>().join("\n")
}
