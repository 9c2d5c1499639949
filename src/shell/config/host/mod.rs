//! What can only be told on the machine: `keyward check` prints these, each with a fix that can be copied.
//!
//! Nothing is changed and nothing is left behind; listeners are bound for a moment and closed again. Each kind of check
//! gives one `Ok` line, or a line for every problem. Refuses to know how it is printed.

mod accounts;
mod files;
mod listeners;

use crate::domain::graph::Graph;
use crate::domain::time::{DAY, Timestamp};
use crate::shell::config::settings::Settings;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and should still be mended.
    Warning,
    /// It does not work.
    Error,
}

/// What a check is about, for the headings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// State directory and disk.
    State,
    /// Files with roots and secrets.
    Secrets,
    /// Hooks and what reloads servers.
    Programs,
    /// Where files are installed and watched.
    Files,
    /// Approval paths.
    Paths,
    /// Addresses and sockets.
    Listeners,
    /// The clock.
    Clock,
}

impl Group {
    /// The heading.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Secrets => "secrets and roots",
            Self::Programs => "programs",
            Self::Files => "files",
            Self::Paths => "paths",
            Self::Listeners => "listeners",
            Self::Clock => "clock",
        }
    }
}

/// One line of `keyward check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Stable code, `KW01xx`.
    pub code: &'static str,
    /// Heading.
    pub group: Group,
    /// How bad it is.
    pub level: Level,
    /// What was seen.
    pub text: String,
    /// A command that mends it, or a sentence if no command can; empty for `Ok`.
    pub fix: String,
}

/// Looks at the machine; `now` is the wall clock. Does file I/O and binds sockets: not for an async task.
#[must_use]
pub fn verify_host(settings: &Settings, now: Timestamp) -> Vec<Check> {
    let mut report = Report::default();
    files::state(&mut report, settings);
    files::secrets(&mut report, settings);
    files::programs(&mut report, settings);
    files::installs(&mut report, settings);
    if settings.sandbox_dir.is_none() {
        accounts::known(&mut report, settings);
    }
    files::watched(&mut report, settings);
    rings(&mut report, settings);
    listeners::addresses(&mut report, settings);
    listeners::gate_socket(&mut report, settings);
    clock(&mut report, now);
    report.checks
}

/// Approvals that stand on what they repair, where the configuration bears them.
fn rings(report: &mut Report, settings: &Settings) {
    let mut found = Found::default();
    let graph = Graph::of(&settings.estate);
    for cycle in &graph.cycles {
        let text = format!("once it has expired nobody can approve its repair: {cycle}");
        found.warning(text, "add repair = \"cli\" to it; keyward gate graph shows all of it");
    }
    report.put_counted("KW4472", Group::Paths, found, graph.cycles.len(), "");
}

/// 2026-11-01: no true clock is earlier than this release.
const RELEASED: Timestamp = Timestamp::from_unix(1_793_491_200);

fn clock(report: &mut Report, now: Timestamp) {
    let mut found = Found::default();
    let fix = "sudo timedatectl set-ntp true && timedatectl timesync-status";
    if now < RELEASED {
        found.error(format!("the clock says {now}, and this release is of {RELEASED}"), fix);
    } else if now > RELEASED.plus(DAY.saturating_mul(3_652)) {
        found.warning(format!("the clock says {now}, ten years after this release: clock or release is wrong"), fix);
    }
    report.put("KW0112", Group::Clock, found, format!("the clock says {now}"));
}

/// The lines so far.
#[derive(Default)]
struct Report {
    checks: Vec<Check>,
}

impl Report {
    /// Adds one kind of check: its problems, or else one line that says all is well.
    fn put(&mut self, code: &'static str, group: Group, found: Found, ok: impl Into<String>) {
        self.put_counted(code, group, found, 1, ok);
    }

    /// The same; says nothing where there was nothing to look at.
    fn put_counted(&mut self, code: &'static str, group: Group, found: Found, looked_at: usize, ok: impl Into<String>) {
        if found.0.is_empty() && looked_at > 0 {
            self.checks.push(Check { code, group, level: Level::Ok, text: ok.into(), fix: String::new() });
        }
        self.checks.extend(found.0.into_iter().map(|(level, text, fix)| Check { code, group, level, text, fix }));
    }
}

/// The problems of one kind.
#[derive(Default)]
struct Found(Vec<(Level, String, String)>);

impl Found {
    fn error(&mut self, text: impl Into<String>, fix: impl Into<String>) {
        self.0.push((Level::Error, text.into(), fix.into()));
    }

    fn warning(&mut self, text: impl Into<String>, fix: impl Into<String>) {
        self.0.push((Level::Warning, text.into(), fix.into()));
    }
}

/// A word as a shell takes it.
fn sh(word: impl AsRef<std::path::Path>) -> String {
    let word = word.as_ref().to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:=@,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_for_the_shell_cannot_run_anything() {
        assert_eq!(sh("/etc/a b"), "'/etc/a b'");
        assert_eq!(sh("$(id)'"), r"'$(id)'\'''");
        assert_eq!(sh("/var/lib/keyward"), "/var/lib/keyward");
        assert_eq!(sh(""), "''");
    }

    #[test]
    fn a_clock_before_the_release_is_an_error() {
        for (at, level) in [(0, Level::Error), (1_800_000_000, Level::Ok), (4_000_000_000, Level::Warning)] {
            let mut report = Report::default();
            clock(&mut report, Timestamp::from_unix(at));
            assert_eq!(report.checks.first().map(|c| c.level), Some(level), "{at}");
        }
    }
}
