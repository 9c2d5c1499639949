//! Tells what happens as it happens.

use std::sync::Arc;

use crate::domain::id::{AttemptId, CredentialId, PathId};
use crate::domain::time::{Timestamp, human_span};
use crate::engine::Engine;
use crate::ports::{Clock, Urgency};
use crate::shell::daemon::Running;
use crate::shell::wire::Wired;

use super::Break;
use super::mesh::Hop;
use super::stage::Stage;

#[allow(clippy::print_stdout, reason = "the demo's story is its output")]
pub(super) fn say(text: &str) {
    println!("{text}");
}

#[allow(clippy::print_stderr, reason = "what is no part of the story")]
pub(super) fn complain(text: &str) {
    eprintln!("{text}");
}

/// A line of the story.
pub(super) fn line(clock: &dyn Clock, mark: &str, text: &str) {
    say(&format!("{}  {mark:<9} {text}", clock.now()));
}

#[allow(clippy::disallowed_methods, reason = "the demo's own end is by real time, whatever its clock is made to say")]
pub(super) fn instant() -> std::time::Instant {
    std::time::Instant::now()
}

/// Compares what is with what was, and says the difference.
pub(super) struct Teller {
    engine: Arc<Engine>,
    wired: Arc<Wired>,
    clock: Arc<dyn Clock>,
    path: PathId,
    portal: Option<CredentialId>,
    installed: Option<AttemptId>,
    picked: Option<Timestamp>,
    gate: Option<Vec<&'static str>>,
    notices: usize,
}

impl Teller {
    pub(super) fn new(running: &Running, path: PathId) -> Self {
        Self {
            engine: running.engine.clone(),
            wired: running.wired.clone(),
            clock: running.wired.ports.clock.clone(),
            path,
            portal: CredentialId::parse("portal").ok(),
            installed: None,
            picked: None,
            gate: None,
            notices: 0,
        }
    }

    pub(super) fn introduce(&self, stage: &Stage) {
        let dir = stage.dir.display();
        let config = format!("{dir}/keyward.toml");
        let http = stage.settings.listen.http;
        say(&format!(
            "\
Keyward demo: a public CA, a review portal, the guardian and a gate; and a private CA with two mTLS links below it.
All of it is in this process and its key holder's, on loopback.

  directory   {dir}
  CA          {ca}
  portal      https://localhost:{portal}/   (certificate lives {lifetime} s)
  overview    http://{http}/
  metrics     http://{http}/metrics
{hops}

In a second terminal:
  curl --cacert {dir}/demo-ca.pem https://localhost:{portal}/
  curl -i http://{http}/v1/gate/{path}
  keyward -c {config} status
  keyward -c {config} cert why portal
  keyward -c {config} cert renew portal --plan
  keyward -c {config} ca status
  keyward -c {config} ca rotate mesh --status
  keyward -c {config} link status
",
            ca = stage.ca_url,
            portal = stage.portal.port(),
            lifetime = stage.lifetime,
            path = self.path,
            hops = stage.hops.iter().map(Hop::shown).collect::<Vec<_>>().join("\n"),
        ));
    }

    pub(super) fn line(&self, mark: &str, text: &str) {
        line(&*self.clock, mark, text);
    }

    pub(super) fn gate_is_open(&self) -> bool {
        self.gate.as_ref().is_some_and(Vec::is_empty)
    }

    pub(super) fn broke(&self, what: Break) {
        self.line(
            "BREAK",
            match what {
                Break::Ca => {
                    "the CA answers nobody any more; watch the renewal fail and the gate close before the expiry"
                }
                Break::Hook => "the portal's reload hook fails from now on; watch the next installation be rolled back",
                Break::Clock => {
                    "the wall clock steps one hour ahead; watch the gate close at once and nothing be renewed"
                }
                Break::Expiry => "the policy engine's certificate, which nobody here renews, is about to expire",
            },
        );
    }

    pub(super) fn look(&mut self) {
        self.look_at_portal();
        self.look_at_notices();
        self.look_at_gate();
    }

    fn look_at_portal(&mut self) {
        let Some(view) = self.portal.as_ref().and_then(|id| self.engine.credential(id)) else { return };
        if let Some(current) = view.current().filter(|g| Some(g.slot) != self.installed) {
            let verb = if self.installed.is_none() { "issued" } else { "renewed" };
            let why = current.trigger.as_str();
            self.line(
                verb,
                &format!(
                    "serial {} for {} (trigger: {why}), until {}",
                    current.serial, current.names, current.validity.not_after
                ),
            );
            self.line("installed", "files swapped in one rename, portal reloaded by its hook");
            self.line("served", "the portal was asked over TLS and presents exactly this certificate");
            self.installed = Some(current.slot);
        }
        let ari = view.record.ari.as_ref().and_then(|a| a.picked);
        if let Some(at) = ari.filter(|at| Some(*at) != self.picked) {
            let wait = human_span(self.clock.now().until(at));
            self.line("schedule", &format!("the CA suggests a window (RFC 9773); picked {at}, in {wait}"));
            self.picked = Some(at);
        }
    }

    fn look_at_notices(&mut self) {
        let all = self.wired.notices();
        // The list is bounded; should it ever have turned over, the newest is still told.
        for (_, notice) in all.iter().skip(self.notices.min(all.len())) {
            // What waits for a round of the controller is no news here: the rotation is told phase by phase.
            let waits = notice.urgent == Urgency::Routine && notice.about.starts_with("ca/");
            if notice.code != "KW2006" && !waits {
                self.line(notice.code, &format!("{}: {}", notice.about, notice.text));
            }
        }
        self.notices = all.len();
    }

    fn look_at_gate(&mut self) {
        let verdict = self.engine.gate(&self.path);
        let codes: Vec<&'static str> = verdict.reasons.iter().map(|r| r.code).collect();
        if self.gate.as_ref() == Some(&codes) {
            return;
        }
        if verdict.is_open() {
            let weakest = verdict.weakest.as_deref().unwrap_or("nothing");
            self.line(
                "GATE",
                &format!("{} is OPEN, at the latest until {} (weakest: {weakest})", self.path, verdict.until),
            );
        } else {
            self.line("GATE", &format!("{} is CLOSED", self.path));
            for reason in &verdict.reasons {
                self.line("", &format!("{} {}; reopens when {}", reason.code, reason.text, reason.reopens));
            }
        }
        self.gate = Some(codes);
    }
}
