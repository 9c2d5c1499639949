//! `keyward gate` and `keyward status`.

use hyper::body::Bytes;

use super::args::Output;
use super::cert::{segment, tone};
use super::console::{Cell, Exit, Failure, Tone, moment, relative};
use super::{Done, Run};
use crate::shell::http::model::{Gate, StatementKey, Status};

impl Run {
    pub(super) fn gate_status(&self) -> Done {
        let daemon = self.daemon()?;
        let gates: Vec<Gate> = daemon.get("/v1/gates")?;
        self.banner(&daemon);
        match self.output {
            Output::Json => self.console.json(&gates)?,
            Output::Name => gates.iter().for_each(|g| self.console.out(&g.path)),
            Output::Table if gates.is_empty() => {
                self.console.note("no approval path is configured: add a [[path]] to the configuration");
            }
            Output::Table => {
                let rows: Vec<Vec<Cell>> = gates.iter().map(row).collect();
                self.console.table(&["PATH", "STATE", "SINCE", "HOLDS UNTIL", "WEAKEST LINK OR REASON"], &rows);
                for gate in gates.iter().filter(|gate| !gate.freezes.is_empty()) {
                    self.console.out(format!("{} is frozen by {}", gate.path, gate.freezes.join(", ")));
                }
            }
        }
        Ok(Exit::Ok)
    }

    pub(super) fn gate_check(&self, path: &str) -> Done {
        // What nobody can tell is closed.
        let closed = |failure: Failure| Failure { exit: Exit::GateClosed, ..failure };
        let daemon = self.daemon()?;
        let (open, body) = daemon.ask("GET", &format!("/v1/gate/{}", segment(path)), Bytes::new()).map_err(closed)?;
        let gate: Gate = serde_json::from_slice(&body).map_err(|e| {
            let text = format!("the gate's answer is not understood: {e}");
            Failure::new(Exit::GateClosed, text, "is the daemon of the same version?")
        })?;
        self.banner(&daemon);
        match self.output {
            Output::Json => self.console.json(&gate)?,
            Output::Name => self.console.out(&gate.path),
            Output::Table => {
                let (word, tone) = if gate.open { ("open", Tone::Good) } else { ("closed", Tone::Bad) };
                let until = gate.until.as_deref().map(|u| format!(" until {}", moment(u))).unwrap_or_default();
                self.console.out(format!("{} is {}{until}", gate.path, self.console.paint(word, tone)));
                for reason in &gate.reasons {
                    self.console.out(format!("  {} {}; reopens when {}", reason.code, reason.text, reason.reopens));
                }
            }
        }
        Ok(if open && gate.open { Exit::Ok } else { Exit::GateClosed })
    }

    pub(super) fn gate_keys(&self) -> Done {
        let daemon = self.daemon()?;
        let keys: Vec<StatementKey> = daemon.get("/v1/keys")?;
        self.banner(&daemon);
        match self.output {
            Output::Json => self.console.json(&keys)?,
            Output::Name => keys.iter().for_each(|k| self.console.out(&k.key)),
            Output::Table => {
                let rows: Vec<Vec<Cell>> =
                    keys.iter().map(|k| vec![k.standing.clone().into(), k.key.clone().into()]).collect();
                self.console.table(&["STANDING", "KEY"], &rows);
            }
        }
        Ok(Exit::Ok)
    }

    pub(super) fn gate_rotate_key(&self, finish: bool) -> Done {
        let daemon = self.daemon()?;
        let step = if finish { "/v1/keys/advance" } else { "/v1/keys/announce" };
        let key: StatementKey = daemon.post(step, &serde_json::json!({}))?;
        self.banner(&daemon);
        match self.output {
            Output::Json => self.console.json(&key)?,
            Output::Name | Output::Table => {
                self.console.note(if finish {
                    "this key signs from now on, and the one before it is destroyed; consumers may drop that one"
                } else {
                    "give the line below to every consumer, beside the key in use; then: keyward gate rotate-key --finish"
                });
                self.console.out(&key.key);
            }
        }
        Ok(Exit::Ok)
    }

    pub(super) fn status(&self) -> Done {
        let daemon = self.daemon()?;
        let status: Status = daemon.get("/v1/status")?;
        self.banner(&daemon);
        match self.output {
            Output::Json => self.console.json(&status)?,
            Output::Name => self.console.out(&status.environment),
            Output::Table => self.print_status(&status),
        }
        let count = |severity: &str| status.credentials.get(severity).copied().unwrap_or(0);
        let sick = !status.alive || status.clock_fault.is_some() || status.store_fault.is_some();
        Ok(match (sick, count("critical").saturating_add(count("warning"))) {
            (true, _) => Exit::Failed,
            (false, 0) => Exit::Ok,
            (false, _) => Exit::Warning,
        })
    }

    fn print_status(&self, s: &Status) {
        let console = self.console;
        let counts = s.credentials.iter().filter(|(_, n)| **n > 0);
        let counts: Vec<String> = counts.map(|(word, n)| console.paint(&format!("{n} {word}"), tone(word))).collect();
        let loop_ = if s.alive { "turns".to_owned() } else { console.paint("does not turn", Tone::Bad) };
        let bad = |text: &Option<String>| text.as_deref().map(|t| console.paint(t, Tone::Bad)).unwrap_or_default();
        let issuer = |i: &crate::shell::http::model::Issuer| {
            let mut line = i.id.clone();
            if let Some(until) = &i.open_until {
                line.push_str(&format!(", left alone until {}", moment(until)));
            }
            match &i.last_success {
                Some(at) => line.push_str(&format!(", last success {}", relative(at))),
                None => line.push_str(", no success yet"),
            }
            let left: Vec<String> = i.remaining.iter().map(|(k, v)| format!("{k} {v}")).collect();
            if left.is_empty() { line } else { format!("{line}, left: {}", left.join(", ")) }
        };
        console.pairs(&[
            ("environment", s.environment.clone()),
            ("version", s.version.clone()),
            ("running", format!("since {}", moment(&s.started))),
            ("loop", loop_),
            ("clock", bad(&s.clock_fault)),
            ("sealed", s.sealed.as_ref().map(|seal| console.paint(&seal_line(seal), Tone::Bad)).unwrap_or_default()),
            ("audit", bad(&s.store_fault.clone().filter(|_| s.sealed.is_none()))),
            (
                "waiting",
                if s.spooled == 0 { String::new() } else { format!("{} entries for the audit log", s.spooled) },
            ),
            ("frozen", console.paint(&super::freeze::lines(&s.freezes).join("\n"), Tone::Warn)),
            ("credentials", if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }),
            ("in flight", s.in_flight.to_string()),
            ("gates", format!("{} open, {} closed", s.gates_open, s.gates_closed)),
            ("issuers", s.issuers.iter().map(issuer).collect::<Vec<_>>().join("\n")),
            (
                "said lately",
                s.notices
                    .iter()
                    .take(5)
                    .map(|n| format!("{} {}: {}", n.code, n.about, n.text))
                    .collect::<Vec<_>>()
                    .join("\n"),
            ),
        ]);
    }
}

fn row(gate: &Gate) -> Vec<Cell> {
    let (word, tone) = if gate.open { ("open", Tone::Good) } else { ("closed", Tone::Bad) };
    let reasons: Vec<String> = gate.reasons.iter().map(|r| format!("{} {}", r.code, r.text)).collect();
    let when = |text: &Option<String>| text.as_deref().map_or_else(|| "-".to_owned(), relative);
    let last = match gate.open {
        true => format!("{}{}", gate.weakest.as_deref().unwrap_or_default(), warned(gate)),
        false => reasons.join("; "),
    };
    vec![
        Cell(gate.path.clone(), Tone::Strong),
        Cell(word.to_owned(), tone),
        when(&gate.since).into(),
        when(&gate.until).into(),
        last.into(),
    ]
}

/// What is borne, behind what is good.
pub(super) fn warned(gate: &Gate) -> String {
    let all = gate.warnings.iter().map(|w| format!("; warning {} {}", w.code, w.text));
    all.collect()
}

/// The refusal, and the way to recover.
fn seal_line(seal: &crate::shell::http::model::Sealed) -> String {
    let way = crate::shell::explain::explain(&seal.code).map(|e| format!("\n{}", e.action)).unwrap_or_default();
    format!("{} {}{way}", seal.code, seal.text)
}
