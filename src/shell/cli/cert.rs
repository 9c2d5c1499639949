//! `keyward cert`: what there is.

use super::args::Output;
use super::console::{Cell, Exit, Tone, moment, relative};
use super::{Done, Run};
use crate::shell::http::model::{Credential, Detail, Why};
use crate::shell::texts;

/// An entry of the history as the API gives it.
#[derive(Debug, serde::Deserialize, serde::Serialize)]
struct Entry {
    sequence: String,
    leaf: String,
    entry: serde_json::Value,
    texts: texts::Texts,
}

pub(super) fn tone(severity: &str) -> Tone {
    match severity {
        "critical" => Tone::Bad,
        "warning" => Tone::Warn,
        "ok" => Tone::Good,
        _ => Tone::Plain,
    }
}

fn rank(severity: &str) -> u8 {
    match severity {
        "critical" => 0,
        "warning" => 1,
        "note" => 2,
        _ => 3,
    }
}

impl Run {
    pub(super) fn cert_list(&self) -> Done {
        let daemon = self.daemon()?;
        let mut all: Vec<Credential> = daemon.get("/v1/credentials")?;
        all.sort_by(|a, b| rank(&a.severity).cmp(&rank(&b.severity)).then_with(|| a.not_after.cmp(&b.not_after)));
        self.banner(&daemon);
        match self.output {
            Output::Json => self.console.json(&all)?,
            Output::Name => all.iter().for_each(|c| self.console.out(&c.id)),
            Output::Table if all.is_empty() => {
                self.console.note("nothing is guarded yet: add a [[certificate]] to the configuration");
            }
            Output::Table => {
                let heads = ["NAME", "STATE", "OWNER", "ISSUER", "EXPIRES", "LIFE", "SERVED", "NEXT"];
                let rows: Vec<Vec<Cell>> = all.iter().map(row).collect();
                self.console.table(&heads, &rows);
            }
        }
        Ok(Exit::Ok)
    }

    pub(super) fn cert_show(&self, name: &str) -> Done {
        let daemon = self.daemon()?;
        let detail: Detail = daemon.get(&format!("/v1/credentials/{}", segment(name)))?;
        self.banner(&daemon);
        match self.output {
            Output::Json => self.console.json(&detail)?,
            Output::Name => self.console.out(&detail.credential.id),
            Output::Table => self.console.pairs(&pairs(&detail)),
        }
        Ok(Exit::Ok)
    }

    pub(super) fn cert_why(&self, name: &str) -> Done {
        let daemon = self.daemon()?;
        let why: Why = daemon.get(&format!("/v1/credentials/{}/why", segment(name)))?;
        self.banner(&daemon);
        match self.output {
            Output::Json => self.console.json(&why)?,
            Output::Table | Output::Name => why.sentences.iter().for_each(|s| self.console.out(s)),
        }
        Ok(Exit::Ok)
    }

    pub(super) fn cert_history(&self, name: &str, limit: u16) -> Done {
        let daemon = self.daemon()?;
        let path = format!("/v1/credentials/{}/history?limit={limit}", segment(name));
        let entries: Vec<Entry> = daemon.get(&path)?;
        self.banner(&daemon);
        match self.output {
            Output::Json => self.console.json(&entries)?,
            Output::Name => entries.iter().for_each(|e| self.console.out(&e.sequence)),
            Output::Table => {
                let rows: Vec<Vec<Cell>> = entries.iter().map(event).collect();
                self.console.table(&["SEQUENCE", "TIME", "CODE", "WHAT", "OUTCOME", "WHO"], &rows);
            }
        }
        Ok(Exit::Ok)
    }
}

/// A name as a path segment: anything but a slug would not be found anyway, but must not become another address.
pub(super) fn segment(name: &str) -> String {
    let safe = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    name.bytes().map(|b| if safe(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn row(c: &Credential) -> Vec<Cell> {
    let dash = |text: Option<&str>| text.unwrap_or("-").to_owned();
    let served_tone = match c.served.as_str() {
        "yes" => Tone::Good,
        "no" => Tone::Bad,
        _ => Tone::Plain,
    };
    let next = match &c.next_at {
        Some(at) => format!("{} {}", c.next, relative(at)),
        None => c.next.clone(),
    };
    vec![
        Cell(c.id.clone(), Tone::Strong),
        Cell(c.severity.clone(), tone(&c.severity)),
        dash(c.owner.as_deref()).into(),
        dash(c.issuer.as_deref()).into(),
        c.not_after.as_deref().map_or_else(|| c.stored.clone(), relative).into(),
        c.life_used_permille.map_or_else(|| "-".to_owned(), |p| format!("{} %", p / 10)).into(),
        Cell(c.served.clone(), served_tone),
        next.into(),
    ]
}

fn event(e: &Entry) -> Vec<Cell> {
    let text = |pointer: &str| e.entry.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or("-").to_owned();
    let outcome = match text("/data/outcome").as_str() {
        "-" => text("/data/phase"),
        outcome => outcome.to_owned(),
    };
    let outcome_tone = match outcome.as_str() {
        "success" => Tone::Good,
        "failure" | "denied" => Tone::Bad,
        _ => Tone::Plain,
    };
    let who = e.texts.get(texts::ACTOR).cloned().unwrap_or_else(|| text("/data/actor/kind"));
    vec![
        e.sequence.clone().into(),
        text("/time").into(),
        text("/data/code").into(),
        text("/data/action").into(),
        Cell(outcome, outcome_tone),
        who.into(),
    ]
}

fn pairs(d: &Detail) -> Vec<(&'static str, String)> {
    let c = &d.credential;
    let optional = |text: &Option<String>| text.clone().unwrap_or_default();
    let when = |text: &Option<String>| text.as_deref().map(moment).unwrap_or_default();
    let lines = |items: Vec<String>| items.join("\n");
    let life = c.life_used_permille.map(|p| format!(", {} % of its life used", p / 10)).unwrap_or_default();
    vec![
        ("name", c.id.clone()),
        ("state", c.severity.clone()),
        ("findings", lines(c.findings.iter().map(|f| format!("{} {}: {}", f.code, f.severity, f.text)).collect())),
        ("kind", c.kind.clone()),
        ("owner", optional(&c.owner)),
        ("labels", d.labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ")),
        ("tier", c.tier.to_string()),
        ("names", lines(c.names.clone())),
        ("issuer", optional(&c.issuer)),
        ("serial", optional(&c.serial)),
        ("sha256", optional(&c.fingerprint)),
        ("valid from", when(&c.not_before)),
        ("expires", c.not_after.as_deref().map(|at| format!("{}{life}", moment(at))).unwrap_or_default()),
        (
            "chain",
            lines(
                d.chain
                    .iter()
                    .map(|e| format!("{} by {}, until {}", blank(&e.subject), e.issuer, e.not_after))
                    .collect(),
            ),
        ),
        ("not trusted", optional(&d.untrusted)),
        ("stored", c.stored.clone()),
        ("served", c.served.clone()),
        ("endpoints", lines(d.endpoints.iter().map(|e| format!("{}: {}", e.endpoint, e.text)).collect())),
        ("files", lines(d.files.clone())),
        ("looked at", when(&d.looked_at)),
        ("installed", when(&d.installed_at)),
        ("seen served", when(&d.verified_at)),
        ("renews", when(&c.renew_at)),
        ("rule", optional(&d.rule)),
        ("CA's window", d.ari_window.as_ref().map(|(from, to)| format!("{from} to {to}")).unwrap_or_default()),
        ("emergency", when(&d.emergency_at)),
        (
            "in flight",
            d.attempt
                .as_ref()
                .map(|a| format!("{} at {}, {} since {}", a.id, a.issuer, a.stage, a.began))
                .unwrap_or_default(),
        ),
        (
            "last failure",
            d.last_failure
                .as_ref()
                .map(|f| format!("{} {} (fault: {}), {}", f.code, f.text, f.fault, moment(&f.at)))
                .unwrap_or_default(),
        ),
        (
            "next",
            match &c.next_at {
                Some(at) => format!("{} {}", c.next, moment(at)),
                None => c.next.clone(),
            },
        ),
        ("paths", c.paths.join(" ")),
    ]
}

fn blank(subject: &str) -> &str {
    if subject.is_empty() { "(no subject)" } else { subject }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_segment() {
        assert_eq!(segment("portal-1.x"), "portal-1.x");
        assert_eq!(segment("../status?x#é"), "..%2Fstatus%3Fx%23%C3%A9");
    }
}
