//! Data on standard output, everything else on standard error.

use std::io::{self, IsTerminal as _, Write as _};

use crate::domain::time::{Timestamp, human_span};
use crate::shell::config::Colour;

/// How a run ends: one table for all commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// As asked.
    Ok,
    /// Not done.
    Failed,
    /// The command line is not understood.
    Usage,
    /// Done, and something should be mended.
    Warning,
    /// A person has to decide.
    Waiting,
    /// A gate is closed.
    GateClosed,
    /// What verifying a log came to: a table of its own (`keyward audit verify --help`).
    Verdict(u8),
    /// Policy forbids it.
    Refused,
    /// The configuration cannot be used.
    BadConfig,
}

impl Exit {
    /// The one that matters more: a failure, then what is not known.
    pub(super) fn worse(self, other: Self) -> Self {
        let rank = |exit: Self| match exit {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Failed
            | Self::Usage
            | Self::Waiting
            | Self::GateClosed
            | Self::Verdict(_)
            | Self::Refused
            | Self::BadConfig => 2,
        };
        if rank(other) > rank(self) { other } else { self }
    }

    pub(super) fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Warning => 3,
            Self::Waiting => 4,
            Self::GateClosed => 5,
            Self::Verdict(code) => code,
            Self::Refused => 6,
            Self::BadConfig => 64,
        }
    }
}

/// Why a command was not done; always with a hint.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    pub(super) text: String,
    pub(super) hint: String,
}

impl Failure {
    pub(super) fn new(exit: Exit, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit, text: text.into(), hint: hint.into() }
    }
}

/// What a word means, for its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Bad,
    Warn,
    Quiet,
    Plain,
    Strong,
}

/// One cell of a table.
#[derive(Clone, Debug)]
pub(super) struct Cell(pub(super) String, pub(super) Tone);

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self(text.into(), Tone::Plain)
    }
}

/// The terminal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Console {
    colour: bool,
    error_colour: bool,
}

impl Console {
    pub(super) fn new() -> Self {
        #[allow(clippy::disallowed_methods, reason = "NO_COLOR (no-color.org) is a setting of the terminal, not ours")]
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Self { colour: wanted && io::stdout().is_terminal(), error_colour: wanted && io::stderr().is_terminal() }
    }

    /// For reports on standard error.
    pub(super) fn report_colour(self) -> Colour {
        if self.error_colour { Colour::Ansi } else { Colour::Plain }
    }

    /// One line of data. A reader that went away (`| head`) is no failure.
    pub(super) fn out(self, line: impl AsRef<str>) {
        writeln!(io::stdout().lock(), "{}", line.as_ref()).ok();
    }

    /// One line of many; says whether anybody still reads.
    pub(super) fn try_out(self, line: impl AsRef<str>) -> bool {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", line.as_ref()).and_then(|()| out.flush()).is_ok()
    }

    /// One line for people.
    pub(super) fn note(self, line: impl AsRef<str>) {
        writeln!(io::stderr().lock(), "{}", line.as_ref()).ok();
    }

    /// Data for programs.
    /// Bytes as they are.
    pub(super) fn raw(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        let written = out.write_all(bytes).and_then(|()| out.flush());
        written.map_err(|e| Failure::new(Exit::Failed, format!("cannot be written: {e}"), "is the disk full?"))
    }

    pub(super) fn json(self, value: &impl serde::Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|e| Failure::new(Exit::Failed, format!("cannot be written as JSON: {e}"), "use -o table"))?;
        self.out(text);
        Ok(())
    }

    pub(super) fn fail(self, failure: &Failure) {
        let (word, hint) =
            if self.error_colour { ("\x1b[1;31merror:\x1b[0m", "\x1b[1mhint:\x1b[0m") } else { ("error:", "hint:") };
        self.note(format!("{word} {}\n{hint} {}", failure.text, failure.hint));
    }

    pub(super) fn paint(self, text: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "1;31",
            Tone::Warn => "33",
            Tone::Quiet => "2",
            Tone::Strong => "1",
            Tone::Plain => "",
        };
        if self.colour && !code.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A table with a heading; the last column may be as long as it likes.
    pub(super) fn table(self, heads: &[&str], rows: &[Vec<Cell>]) {
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|r| r.get(column)).map(|c| c.0.chars().count());
            cells.chain(heads.get(column).map(|h| h.chars().count())).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..heads.len()).map(width).collect();
        let line = |cells: Vec<Cell>| {
            let last = cells.len().saturating_sub(1);
            let parts = cells.iter().zip(&widths).enumerate().map(|(i, (cell, width))| {
                let pad = if i == last { 0 } else { width.saturating_sub(cell.0.chars().count()) };
                format!("{}{}", self.paint(&cell.0, cell.1), " ".repeat(pad))
            });
            parts.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.out(line(heads.iter().map(|h| Cell((*h).to_owned(), Tone::Quiet)).collect()));
        rows.iter().for_each(|row| self.out(line(row.clone())));
    }

    /// `key: value` lines, aligned; empty values are left out.
    pub(super) fn pairs(self, pairs: &[(&str, String)]) {
        let width = pairs.iter().map(|(k, _)| k.chars().count()).max().unwrap_or(0);
        for (key, value) in pairs.iter().filter(|(_, v)| !v.is_empty()) {
            let mut lines = value.lines();
            let head = format!("{key}{}", " ".repeat(width.saturating_sub(key.chars().count())));
            self.out(format!("{}  {}", self.paint(&head, Tone::Quiet), lines.next().unwrap_or_default()));
            lines.for_each(|l| self.out(format!("{}  {l}", " ".repeat(width))));
        }
    }
}

/// The wall clock of the command line: it has no guardian, and so no clock of its own.
pub(super) fn wall_clock() -> Timestamp {
    Timestamp::from_unix(jiff::Timestamp::now().as_second())
}

/// `in 12 d 4 h`, `3 h ago`, or the text itself if it is no time.
pub(super) fn relative(text: &str) -> String {
    let now = wall_clock();
    match Timestamp::parse(text) {
        None => text.to_owned(),
        Some(at) if at > now => format!("in {}", human_span(now.until(at))),
        Some(at) => format!("{} ago", human_span(now.since(at))),
    }
}

/// Absolute, with how far away it is.
pub(super) fn moment(text: &str) -> String {
    format!("{text} ({})", relative(text))
}
