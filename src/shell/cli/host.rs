//! What is about files and this machine: `init`, `check`, `config check`, `explain`.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use super::args::{Check as Asked, Init, Output};
use super::audit::args::Place;
use super::client::{self, Daemon};
use super::console::{Exit, Failure, Tone, wall_clock};
use super::{Done, Run};
use crate::domain::id::Ulid;
use crate::shell::config::{self, Check, Level, Overrides, Settings, sample};
use crate::shell::explain;
use crate::shell::files::create;
use crate::shell::http::model::Status;

/// No daemon answers.
const NO_DAEMON: &str = "KW5012";
/// The daemon says that it is in trouble.
const SICK_DAEMON: &str = "KW5013";

/// One line of `keyward check` as JSON.
#[derive(serde::Serialize)]
struct Line<'a> {
    code: &'a str,
    group: &'a str,
    level: &'a str,
    text: &'a str,
    fix: &'a str,
}

/// One line as it is printed.
struct Shown {
    code: &'static str,
    group: &'static str,
    level: Level,
    text: String,
    fix: String,
}

impl From<Check> for Shown {
    fn from(c: Check) -> Self {
        Self { code: c.code, group: c.group.title(), level: c.level, text: c.text, fix: c.fix }
    }
}

impl Run {
    pub(super) fn init(&self, told: &Init) -> Done {
        let dir = std::path::absolute(&told.dir).map_err(|e| usage(format!("{}: {e}", told.dir.display())))?;
        let file = dir.join("keyward.toml");
        let text = sample::render(&told.domain, &told.email, &dir);
        if let Err(error) = config::parse("what would be written", &text, Overrides::default()) {
            self.console.note(error.report(self.console.report_colour()));
            return Err(usage("--domain or --email cannot be used"));
        }
        if told.plan {
            self.console.note(format!("would make {} and write {}:", dir.display(), file.display()));
            self.console.out(text);
            return Ok(Exit::Ok);
        }
        let taken =
            |what: String| Failure::new(Exit::Failed, what, "choose another directory; nothing was overwritten");
        let existed = dir.is_dir();
        if !existed {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&dir)
                .map_err(|e| taken(format!("{} cannot be made: {e}", dir.display())))?;
        }
        let written = create(&file, 0o600, text.as_bytes());
        written.map_err(|e| taken(format!("{} cannot be written: {e}", file.display())))?;
        let console = self.console;
        let (shown_dir, shown) = (quoted(&dir), quoted(&file));
        console.out(format!("made   {}", file.display()));
        console.out(format!("undo   {}", if existed { format!("rm {shown}") } else { format!("rm -r {shown_dir}") }));
        console.out("next   read it: it asks for http-01 on port 80, and agrees to the CA's terms in your name");
        console.out(format!("       keyward check --pre -c {shown}"));
        console.out(format!("       keyward run --staging -c {shown}"));
        Ok(Exit::Ok)
    }

    /// The configuration, or its whole report on standard error.
    pub(super) fn settings(&self) -> Result<Settings, Failure> {
        let path = client::config_path(&self.common)?;
        client::settings(&path, &self.common).map_err(|error| {
            self.console.note(error.report(self.console.report_colour()));
            let count = counted(error.problems().len(), "problem");
            let text = format!("{} cannot be used: {count}", path.display());
            Failure::new(Exit::BadConfig, text, "mend it at the marked places; `keyward explain CODE` says more")
        })
    }

    pub(super) fn config_check(&self) -> Done {
        let settings = self.settings()?;
        let estate = &settings.estate;
        let shown = settings.path.as_deref().unwrap_or(Path::new("")).display().to_string();
        match self.output {
            Output::Json => self.console.json(&serde_json::json!({
                "file": shown,
                "sha256": settings.digest.to_string(),
                "environment": estate.environment.as_str(),
                "credentials": estate.credentials.len(),
                "watches": estate.watches.len(),
                "paths": estate.paths.len(),
                "issuers": estate.issuers.len(),
            }))?,
            Output::Name => self.console.out(shown),
            Output::Table => self.console.out(format!(
                "{shown}: ok ({}; {}, {}, {}, {})",
                environment(&settings),
                counted(estate.credentials.len(), "credential"),
                counted(estate.watches.len(), "watch pattern"),
                counted(estate.paths.len(), "approval path"),
                counted(estate.issuers.len(), "issuer"),
            )),
        }
        Ok(Exit::Ok)
    }

    pub(super) fn check(&self, asked: &Asked) -> Done {
        let settings = self.settings()?;
        let socket = self.common.socket.clone().unwrap_or_else(|| settings.listen.admin_socket.clone());
        let start = settings.path.as_ref().map(|p| format!("keyward run -c {}", p.display())).unwrap_or_default();
        let status = Daemon::at(socket, start.clone())?.get::<Status>("/v1/status");
        let mut lines: Vec<Shown> = config::verify_host(&settings, wall_clock()).into_iter().map(Shown::from).collect();
        if status.is_ok() {
            forgive_own_listener(&mut lines, &settings);
        }
        if !asked.pre {
            lines.push(daemon_line(&status, start));
        }
        match self.output {
            Output::Json => {
                let lines: Vec<Line<'_>> = lines
                    .iter()
                    .map(|l| Line { code: l.code, group: l.group, level: word(l.level), text: &l.text, fix: &l.fix })
                    .collect();
                self.console.json(
                    &serde_json::json!({ "environment": settings.estate.environment.as_str(), "checks": lines }),
                )?;
            }
            Output::Name => lines.iter().filter(|l| l.level != Level::Ok).for_each(|l| self.console.out(l.code)),
            Output::Table => self.print_checks(&settings, &lines),
        }
        Ok(match lines.iter().map(|l| l.level).max() {
            None | Some(Level::Ok) => Exit::Ok,
            Some(Level::Warning) => Exit::Warning,
            Some(Level::Error) => Exit::Failed,
        })
    }

    fn print_checks(&self, settings: &Settings, lines: &[Shown]) {
        let console = self.console;
        console.out(environment(settings));
        let mut group = "";
        for line in lines {
            if line.group != group {
                group = line.group;
                console.out(format!("\n{}", console.paint(group, Tone::Strong)));
            }
            let (sign, tone) = match line.level {
                Level::Ok => ("✓", Tone::Good),
                Level::Warning => ("⚠", Tone::Warn),
                Level::Error => ("✗", Tone::Bad),
            };
            console.out(format!(
                "  {} {} {}",
                console.paint(sign, tone),
                console.paint(line.code, Tone::Quiet),
                line.text
            ));
            if !line.fix.is_empty() {
                console.out(format!("      fix: {}", line.fix));
            }
        }
        let count = |level| lines.iter().filter(|l| l.level == level).count();
        let (errors, warnings) = (count(Level::Error), count(Level::Warning));
        console.out(match (errors, warnings) {
            (0, 0) => "\nall is well".to_owned(),
            _ => format!(
                "\n{}, {}; `keyward explain CODE` says more",
                counted(errors, "error"),
                counted(warnings, "warning")
            ),
        });
    }

    pub(super) fn explain(&self, code: Option<&str>, place: &Place) -> Done {
        let Some(code) = code else {
            self.console.out(explain::markdown().trim_end());
            return Ok(Exit::Ok);
        };
        let digits = code.strip_prefix('#').unwrap_or(code);
        if Ulid::parse(code).is_some() || (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())) {
            return self.story(code, place);
        }
        let entry = explain::explain(code).ok_or_else(|| {
            let shown: String = code.chars().filter(|c| !c.is_control()).take(40).collect();
            let hint =
                "a code is KW and four digits (see them all: keyward explain --all), an entry's id 26 characters";
            Failure::new(Exit::Failed, format!("there is no code {shown:?}"), hint)
        })?;
        match self.output {
            Output::Json => self.console.json(&serde_json::json!({
                "code": entry.code, "title": entry.title, "meaning": entry.meaning, "action": entry.action,
            }))?,
            Output::Name => self.console.out(entry.code),
            Output::Table => {
                self.console.out(format!("{} {}", entry.code, self.console.paint(entry.title, Tone::Strong)));
                self.console.out(format!("\n{}\n\nWhat to do: {}", entry.meaning, entry.action));
            }
        }
        Ok(Exit::Ok)
    }
}

impl Run {
    /// What happened, told from the log.
    fn story(&self, id: &str, place: &Place) -> Done {
        let story = self.source(place)?.story(id)?;
        match self.output {
            Output::Json => self.console.json(&story)?,
            Output::Name => story.entries.iter().for_each(|id| self.console.out(id)),
            Output::Table => story.sentences.iter().for_each(|sentence| self.console.out(sentence)),
        }
        Ok(Exit::Ok)
    }
}

fn usage(text: impl Into<String>) -> Failure {
    Failure::new(Exit::Usage, text, "keyward init ./kw --domain app.example.org --email me@example.org")
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn environment(settings: &Settings) -> String {
    match settings.estate.environment {
        crate::domain::inventory::Environment::Production => "production".to_owned(),
        crate::domain::inventory::Environment::Staging => "STAGING".to_owned(),
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Warning => "warning",
        Level::Error => "error",
    }
}

/// A path for the shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:=@,".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Somebody answers at the admin socket, so the address in use is in use by the daemon itself, even where its process
/// belongs to another user and cannot be looked at.
fn forgive_own_listener(lines: &mut [Shown], settings: &Settings) {
    let own = format!("{} is in use", settings.listen.http);
    for line in lines.iter_mut().filter(|l| l.code == "KW0110" && l.level == Level::Error && l.text.starts_with(&own)) {
        line.level = Level::Ok;
        line.text = format!("{} is held by the running daemon", settings.listen.http);
        line.fix = String::new();
    }
}

fn daemon_line(status: &Result<Status, Failure>, start: String) -> Shown {
    let line = |code, level, text, fix| Shown { code, group: "daemon", level, text, fix };
    match status {
        Err(failure) => line(NO_DAEMON, Level::Warning, failure.text.clone(), start),
        Ok(status) => {
            let loop_ = (!status.alive).then(|| "its loop does not turn".to_owned());
            let faults: Vec<String> =
                [loop_, status.clock_fault.clone(), status.store_fault.clone()].into_iter().flatten().collect();
            if faults.is_empty() {
                line(NO_DAEMON, Level::Ok, format!("runs since {}", status.started), String::new())
            } else {
                line(SICK_DAEMON, Level::Error, faults.join("; "), "keyward status".to_owned())
            }
        }
    }
}
