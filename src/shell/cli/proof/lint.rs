//! `keyward gate lint`: what a proxy's configuration says about failing open.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::args::{Lint, Proxy};
use crate::codec::lint::{Finding, Kind, LONGEST_FILE, Level, MOST_FILES, Source, guess, lint};
use crate::shell::cli::args::Output;
use crate::shell::cli::console::{Exit, Failure, Tone};
use crate::shell::cli::{Done, Run};

impl From<Proxy> for Kind {
    fn from(told: Proxy) -> Self {
        match told {
            Proxy::Nginx => Self::Nginx,
            Proxy::Envoy => Self::Envoy,
            Proxy::Caddy => Self::Caddy,
            Proxy::Haproxy => Self::Haproxy,
        }
    }
}

/// Reads what is named, and what that includes, from the disk.
struct Disk;

impl Source for Disk {
    fn read(&self, path: &str) -> Result<String, String> {
        let failed = |e: &dyn core::fmt::Display| format!("{path} cannot be read: {e}");
        let file = std::fs::File::open(path).map_err(|e| failed(&e))?;
        if !file.metadata().is_ok_and(|m| m.is_file()) {
            return Err(failed(&"it is no file"));
        }
        let most = u64::try_from(LONGEST_FILE).unwrap_or(u64::MAX).saturating_add(1);
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes).map_err(|e| failed(&e))?;
        String::from_utf8(bytes).map_err(|_| failed(&"it is no UTF-8"))
    }

    fn matches(&self, pattern: &str) -> Result<Vec<String>, String> {
        let paths = glob::glob(pattern).map_err(|e| format!("{pattern} is no pattern: {e}"))?;
        let mut found = Vec::new();
        for path in paths.take(MOST_FILES.saturating_add(1)) {
            found.push(path.map_err(|e| e.to_string())?.display().to_string());
        }
        Ok(found)
    }
}

impl Run {
    pub(in crate::shell::cli) fn gate_lint(&self, told: &Lint) -> Done {
        let found = self.lint_files(&told.files, told.kind)?;
        match self.output {
            Output::Json => self.console.json(&found)?,
            Output::Name => found.iter().for_each(|f| self.console.out(format!("{}:{}", f.file, f.line))),
            Output::Table => {
                self.print_findings(&found);
                if !found.iter().any(|f| f.level > Level::Meant) {
                    self.console.out("nothing was found; keyward gate probe asks the live proxy");
                }
            }
        }
        Ok(verdict(&found))
    }

    /// Looks through the files; a file that nobody knows the kind of is not understood.
    pub(super) fn lint_files(&self, files: &[PathBuf], kind: Option<Proxy>) -> Result<Vec<Finding>, Failure> {
        let mut found = Vec::new();
        for file in files {
            let name = absolute(file);
            let text = Disk.read(&name).unwrap_or_default();
            let kind = kind.map(Kind::from).or_else(|| guess(&name, &text)).ok_or_else(|| {
                let text = format!("whose configuration {name} is cannot be told");
                Failure::new(Exit::Usage, text, "say it: --kind nginx, envoy, caddy or haproxy")
            })?;
            found.extend(lint(kind, &name, &Disk));
        }
        Ok(found)
    }

    pub(super) fn print_findings(&self, found: &[Finding]) {
        for finding in found {
            let (word, tone) = match finding.level {
                Level::FailsOpen => ("fails open", Tone::Bad),
                Level::Unread => ("not understood", Tone::Bad),
                Level::Warning => ("warning", Tone::Warn),
                Level::Meant => ("meant so", Tone::Quiet),
            };
            let word = self.console.paint(word, tone);
            let Finding { file, line, code, text, mend, .. } = finding;
            self.console.out(format!("{file}:{line}: {word} {code}: {text}\n    mend: {mend}"));
        }
    }
}

/// Includes are relative to their file, wherever the command was started.
fn absolute(file: &Path) -> String {
    std::path::absolute(file).unwrap_or_else(|_| file.to_owned()).display().to_string()
}

/// What the findings come to.
pub(super) fn verdict(found: &[Finding]) -> Exit {
    match found.iter().map(|f| f.level).max() {
        Some(Level::FailsOpen) => Exit::Failed,
        Some(Level::Unread) => Exit::Usage,
        Some(Level::Warning) => Exit::Warning,
        Some(Level::Meant) | None => Exit::Ok,
    }
}
