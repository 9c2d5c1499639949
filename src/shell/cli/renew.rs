//! `keyward cert renew`: what would run, having it run, and following it to its end.

use core::time::Duration;

use super::args::{Output, Renew};
use super::cert::segment;
use super::client::Daemon;
use super::console::{Exit, Failure, relative};
use super::{Done, Run};
use crate::shell::http::model::{self, Accepted, Detail, Preview};

/// How often the daemon is asked while following.
const LOOK_EVERY: Duration = Duration::from_millis(400);

impl Run {
    pub(super) fn cert_renew(&self, told: &Renew) -> Done {
        let daemon = self.daemon()?;
        let path = format!("/v1/credentials/{}", segment(&told.name));
        if told.plan {
            let preview: Preview = daemon.post(&format!("{path}/renew"), &model::Renew { plan: true })?;
            self.banner(&daemon);
            match self.output {
                Output::Json => self.console.json(&preview)?,
                Output::Name => self.console.out(&preview.credential),
                Output::Table => self.print_plan(&preview),
            }
            return Ok(exit_of(&preview));
        }
        let before: Detail = daemon.get(&path)?;
        let accepted: Accepted = daemon.post(&format!("{path}/renew"), &model::Renew { plan: false })?;
        self.banner(&daemon);
        self.console.note(format!("{}: {}", told.name, accepted.text));
        let expected = accepted.preview.as_ref().map_or(Exit::Ok, exit_of);
        match self.output {
            Output::Json if !told.wait => self.console.json(&accepted)?,
            Output::Json | Output::Table | Output::Name => {}
        }
        if !told.wait || expected == Exit::Waiting {
            if expected != Exit::Ok {
                self.console.note(format!("hint: keyward cert why {} says what it waits for", told.name));
            }
            return Ok(expected);
        }
        self.follow(&daemon, &path, &before, told)
    }

    /// Looks until the attempt ended, or the time is up.
    fn follow(&self, daemon: &Daemon, path: &str, before: &Detail, told: &Renew) -> Done {
        let looks = told.timeout.as_millis().checked_div(LOOK_EVERY.as_millis()).unwrap_or(0);
        let mut said = String::new();
        for _ in 0..=looks {
            let now: Detail = daemon.get(path)?;
            match state(before, &now) {
                Following::Goes(line) => {
                    if line != said {
                        self.console.note(format!("{}: {line}", told.name));
                        said = line;
                    }
                }
                Following::Done(line) => {
                    self.console.note(format!("{}: {line}", told.name));
                    match self.output {
                        Output::Json => self.console.json(&now)?,
                        Output::Name => self.console.out(&now.credential.id),
                        Output::Table => {}
                    }
                    return Ok(Exit::Ok);
                }
                Following::Held(line) => {
                    self.console.note(format!("{}: {line}", told.name));
                    return Ok(Exit::Warning);
                }
                Following::Failed(line) => {
                    let hint = format!("keyward cert why {0}; keyward cert history {0}", told.name);
                    return Err(Failure::new(Exit::Failed, format!("{}: {line}", told.name), hint));
                }
            }
            daemon.pause(LOOK_EVERY);
        }
        let text = format!("{}: not over within {} s; it goes on in the daemon", told.name, told.timeout.as_secs());
        Err(Failure::new(Exit::Failed, text, format!("keyward cert why {}", told.name)))
    }

    fn print_plan(&self, p: &Preview) {
        let lines = |items: &[String], none: &str| if items.is_empty() { none.to_owned() } else { items.join("\n") };
        let verdict = match (&p.held, &p.attempt) {
            (Some(held), _) => format!("is held: {held}"),
            (None, Some(attempt)) => format!("the attempt {} goes on ({})", attempt.id, attempt.stage),
            (None, None) if p.goes => "begins at once".to_owned(),
            (None, None) => "does not begin".to_owned(),
        };
        self.console.pairs(&[
            ("credential", p.credential.clone()),
            ("policy", format!("{} (tier {}, rule {})", p.decision, p.tier, p.rule)),
            ("then", verdict),
            ("issuer", p.issuer.clone().unwrap_or_default()),
            ("directory", p.directory.clone().unwrap_or_default()),
            ("why", p.trigger.clone().unwrap_or_default()),
            ("replaces", p.replaces.clone().unwrap_or_default()),
            ("names", lines(&p.names, "")),
            ("key", p.key.clone()),
            ("proof by", lines(&p.solvers, "no solver")),
            ("takes", lines(&p.limits, "nothing from the CA's limits")),
            ("writes", lines(&p.files, "no files; only the key store holds it")),
            ("window", if p.windows { "installs in its deployment window".to_owned() } else { String::new() }),
            ("reload", p.reload.clone().unwrap_or_else(|| "nothing".to_owned())),
            ("must serve it", lines(&p.endpoints, "no endpoint is looked at")),
            ("replaces serial", p.serial.clone().unwrap_or_default()),
        ]);
        self.console.note("nothing was done: this is only the plan");
    }
}

fn exit_of(preview: &Preview) -> Exit {
    match preview.decision.as_str() {
        "refuse" => Exit::Refused,
        "await_approval" => Exit::Waiting,
        _ if preview.goes && preview.held.is_none() => Exit::Ok,
        _ => Exit::Warning,
    }
}

/// What a look shows.
#[derive(Debug, PartialEq, Eq)]
enum Following {
    Goes(String),
    Done(String),
    Held(String),
    Failed(String),
}

fn state(before: &Detail, now: &Detail) -> Following {
    let failed = now.last_failure.as_ref().filter(|f| before.last_failure.as_ref() != Some(*f));
    if let Some(attempt) = &now.attempt {
        if let Some(until) = attempt.not_before.as_deref() {
            return match failed {
                Some(failure) => {
                    Following::Failed(format!("{} {}; tried again {}", failure.code, failure.text, relative(until)))
                }
                None if attempt.stage == "issued" => {
                    Following::Held(format!("issued; is installed {}", relative(until)))
                }
                None => Following::Goes(format!("waits; goes on {}", relative(until))),
            };
        }
        let step = match attempt.stage.as_str() {
            "begun" => "orders",
            "ordered" => "proves its names and fetches the certificate",
            _ => "is issued; installs and looks whether it is served",
        };
        return Following::Goes(format!("{step} ({})", attempt.issuer));
    }
    let renewed = now.installed_serial.is_some() && now.installed_serial != before.installed_serial;
    match (renewed, failed) {
        (true, _) if now.credential.served == "no" => Following::Goes("installed; not served yet".to_owned()),
        (true, _) => {
            let end =
                now.credential.not_after.as_deref().map(|at| format!(", expires {}", relative(at))).unwrap_or_default();
            let served = if now.credential.served == "yes" { " and served" } else { "" };
            let serial = now.installed_serial.as_deref().unwrap_or_default();
            Following::Done(format!("installed{served}: serial {serial}{end}"))
        }
        (false, Some(failure)) => Following::Failed(format!("{} {}", failure.code, failure.text)),
        // Taken up, and held by something; or not taken up yet.
        (false, None) if now.requested.is_some() => Following::Goes(now.credential.next.clone()),
        (false, None) => Following::Goes("waits to be taken up".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::http::model::{Attempt, Failure as Broken};

    fn detail(serial: &str) -> Detail {
        Detail { installed_serial: Some(serial.into()), ..Detail::default() }
    }

    fn attempt(stage: &str, not_before: Option<&str>) -> Option<Attempt> {
        Some(Attempt {
            id: "01".into(),
            issuer: "le".into(),
            trigger: "manual".into(),
            stage: stage.into(),
            began: "2026-11-22T00:00:00Z".into(),
            failures: 0,
            not_before: not_before.map(str::to_owned),
        })
    }

    fn failure() -> Option<Broken> {
        let at = "2026-11-22T00:00:00Z".into();
        Some(Broken { at, code: "KW3005".into(), text: "not seen".into(), fault: "subject".into() })
    }

    #[test]
    fn a_renewal_is_followed_to_its_true_end() {
        let before = detail("01");
        let with = |change: fn(&mut Detail)| {
            let mut now = detail("01");
            change(&mut now);
            state(&before, &now)
        };
        assert!(matches!(with(|_| {}), Following::Goes(_)), "not taken up yet");
        assert!(matches!(with(|d| d.attempt = attempt("begun", None)), Following::Goes(t) if t.starts_with("orders")));
        assert!(matches!(with(|d| d.attempt = attempt("issued", Some("2999-01-01T00:00:00Z"))), Following::Held(_)));
        assert!(matches!(with(|d| d.last_failure = failure()), Following::Failed(t) if t.contains("KW3005")));
        let retried = |d: &mut Detail| {
            (d.attempt, d.last_failure) = (attempt("ordered", Some("2999-01-01T00:00:00Z")), failure())
        };
        assert!(matches!(with(retried), Following::Failed(_)));
        assert!(matches!(with(|d| d.installed_serial = Some("02".into())), Following::Done(t) if t.contains("02")));
        let unserved = |d: &mut Detail| (d.installed_serial, d.credential.served) = (Some("02".into()), "no".into());
        assert!(matches!(with(unserved), Following::Goes(_)), "installed is not done while it is not served");
        let old = Detail { last_failure: failure(), ..detail("01") };
        assert!(matches!(state(&old, &old), Following::Goes(_)), "an old failure is not this one's");
    }
}
