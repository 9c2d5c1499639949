//! The known ways in which a proxy fails open, found in its configuration: nginx, Envoy, Caddy, HAProxy.
//!
//! Each file is parsed as far as the rules need it, includes and nesting among that. What is not understood is a finding
//! ([`Level::Unread`]), never silence: a file is clean only if all of it was read. Refuses to know where files lie: a
//! [`Source`] hands them over.

mod caddy_json;
mod caddyfile;
mod envoy;
mod haproxy;
mod nginx;
mod nginx_rules;
mod yaml;

use core::fmt;

use serde::Serialize;

/// A configuration with all that it includes has at most so many files, and each at most so many bytes: a hundred times
/// what is usual.
pub const MOST_FILES: usize = 512;
/// See [`MOST_FILES`].
pub const LONGEST_FILE: usize = 4 * 1_024 * 1_024;
/// Blocks and includes are nested at most so deep.
const DEEPEST: usize = 64;
/// Who has more findings than this has a file of another kind.
const MOST_FINDINGS: usize = 1_000;
/// Where gates are asked.
const GATE: &str = "/v1/gate/";
/// A comment with these words on the line of a finding, or on the line before it, says that it is meant so.
const MEANT: &str = "keyward: meant";

/// Whose configuration it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// nginx.
    Nginx,
    /// Envoy, YAML or JSON.
    Envoy,
    /// Caddy, a Caddyfile or JSON.
    Caddy,
    /// HAProxy.
    Haproxy,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
            Self::Caddy => "caddy",
            Self::Haproxy => "haproxy",
        })
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Said to be meant so by a comment.
    Meant,
    /// It holds, but worse than it could.
    Warning,
    /// It could not be understood, so nothing is said about it.
    Unread,
    /// What is guarded can be reached without an open gate.
    FailsOpen,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable code.
    pub code: &'static str,
    /// How bad it is.
    pub level: Level,
    /// Where.
    pub file: String,
    /// Where in it, from 1.
    pub line: usize,
    /// What is there, and what follows from it.
    pub text: String,
    /// How to mend it.
    pub mend: String,
}

impl Finding {
    /// Whether it means that the proxy fails open.
    #[must_use]
    pub fn fails_open(&self) -> bool {
        self.level == Level::FailsOpen
    }
}

/// Hands files over.
pub trait Source {
    /// The text of a file.
    ///
    /// # Errors
    /// One sentence.
    fn read(&self, path: &str) -> Result<String, String>;
    /// The files that match a shell pattern, in order.
    ///
    /// # Errors
    /// One sentence.
    fn matches(&self, pattern: &str) -> Result<Vec<String>, String>;
}

/// Nothing understandable is there.
pub(crate) const UNREAD: &str = "KW4420";
/// Nothing asks the gate.
const UNGUARDED: &str = "KW4421";
/// The gate is asked over TCP.
const OVER_TCP: &str = "KW4422";
/// The gate is waited for too long.
const NO_TIMEOUT: &str = "KW4423";
/// Every 2xx opens.
const ANY_SUCCESS: &str = "KW4424";
/// The gate's answers are kept.
const CACHED: &str = "KW4425";
/// More than one is asked.
const SECOND_GATE: &str = "KW4426";
/// What is guarded has an unguarded way in.
const SIDE_DOOR: &str = "KW4427";
/// A refusal becomes a success.
const TURNED: &str = "KW4428";
/// Something answers before the gate is asked.
const BEFORE: &str = "KW4429";
/// Another check is enough.
const ANY_CHECK: &str = "KW4430";
/// The gate's own location can be asked from outside.
const NOT_INTERNAL: &str = "KW4431";
/// The proxy answers for the gate.
const OWN_ANSWER: &str = "KW4432";
/// A gate that cannot be asked opens.
const ALLOWS_FAILURE: &str = "KW4433";
/// The check is switched off for some requests.
const PARTIAL: &str = "KW4434";
/// A route is exempt.
const EXEMPT: &str = "KW4435";
/// Nothing is done with a refusal.
const NO_DENY: &str = "KW4436";
/// A server counts as good without being checked.
const NO_CHECK: &str = "KW4437";
/// It closes late.
const LATE: &str = "KW4438";

/// Whose configuration a file probably is, by its name, else by its content.
#[must_use]
pub fn guess(name: &str, text: &str) -> Option<Kind> {
    let file = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    for (part, kind) in
        [("nginx", Kind::Nginx), ("envoy", Kind::Envoy), ("caddy", Kind::Caddy), ("haproxy", Kind::Haproxy)]
    {
        if file.contains(part) {
            return Some(kind);
        }
    }
    for (mark, kind) in [
        ("auth_request", Kind::Nginx),
        ("ext_authz", Kind::Envoy),
        ("static_resources", Kind::Envoy),
        ("forward_auth", Kind::Caddy),
        ("\"handle_response\"", Kind::Caddy),
        ("http-check", Kind::Haproxy),
        ("http-request", Kind::Haproxy),
    ] {
        if text.contains(mark) {
            return Some(kind);
        }
    }
    None
}

/// Looks through a configuration, from its first file on. An empty answer means that all of it was read and nothing was
/// found.
#[must_use]
pub fn lint(kind: Kind, file: &str, source: &dyn Source) -> Vec<Finding> {
    let mut desk = Desk { source, files: Vec::new(), found: Vec::new() };
    match desk.read(file) {
        Err(why) => desk.unread(&Place::start(file), &why),
        Ok(text) => match kind {
            Kind::Nginx => nginx_rules::lint(&mut desk, file, &text),
            Kind::Envoy => envoy::lint(&mut desk, file, &text),
            Kind::Caddy if text.trim_start().starts_with('{') && looks_like_json(&text) => {
                caddy_json::lint(&mut desk, file, &text);
            }
            Kind::Caddy => caddyfile::lint(&mut desk, file, &text),
            Kind::Haproxy => haproxy::lint(&mut desk, file, &text),
        },
    }
    desk.finish()
}

/// A Caddyfile may begin with a brace too; in JSON a string follows.
fn looks_like_json(text: &str) -> bool {
    let rest = text.trim_start().trim_start_matches('{').trim_start();
    rest.starts_with('"') || rest.starts_with('}')
}

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    file: std::sync::Arc<str>,
    line: usize,
}

impl Place {
    fn start(file: &str) -> Self {
        Self { file: file.into(), line: 1 }
    }
}

/// What the rules work with.
struct Desk<'a> {
    source: &'a dyn Source,
    /// Every file that was read, for its comments.
    files: Vec<(String, String)>,
    found: Vec<Finding>,
}

impl Desk<'_> {
    fn read(&mut self, path: &str) -> Result<String, String> {
        if let Some((_, text)) = self.files.iter().find(|(name, _)| name == path) {
            return Ok(text.clone());
        }
        if self.files.len() >= MOST_FILES {
            return Err(format!("more than {MOST_FILES} files are included"));
        }
        let text = self.source.read(path)?;
        if text.len() > LONGEST_FILE {
            return Err(format!("{path} has {} bytes; at most {LONGEST_FILE} are read", text.len()));
        }
        self.files.push((path.to_owned(), text.clone()));
        Ok(text)
    }

    fn add(&mut self, code: &'static str, level: Level, at: &Place, text: impl Into<String>, mend: impl Into<String>) {
        let new =
            Finding { code, level, file: at.file.to_string(), line: at.line, text: text.into(), mend: mend.into() };
        if self.found.len() < MOST_FINDINGS && !self.found.contains(&new) {
            self.found.push(new);
        }
    }

    fn open(&mut self, code: &'static str, at: &Place, text: impl Into<String>, mend: impl Into<String>) {
        self.add(code, Level::FailsOpen, at, text, mend);
    }

    fn warn(&mut self, code: &'static str, at: &Place, text: impl Into<String>, mend: impl Into<String>) {
        self.add(code, Level::Warning, at, text, mend);
    }

    fn unread(&mut self, at: &Place, why: &str) {
        let mend =
            "mend it, or have the parts that guard in a file that can be read; what is not understood is not clean";
        self.add(UNREAD, Level::Unread, at, why, mend);
    }

    fn unguarded(&mut self, file: &str, how: &str) {
        let text = format!("nothing in this configuration asks {GATE}PATH, so nothing is guarded");
        self.open(UNGUARDED, &Place::start(file), text, format!("{how}; keyward snippet prints it"));
    }

    fn finish(mut self) -> Vec<Finding> {
        let files = core::mem::take(&mut self.files);
        for finding in &mut self.found {
            let lines = files.iter().find(|(name, _)| *name == finding.file).map(|(_, text)| text.lines());
            let own = finding.line.saturating_sub(2);
            // Of the line before it only a whole comment counts: what stands behind another finding is about that one.
            let meant = lines.into_iter().flatten().enumerate().skip(own).take(2).any(|(n, line)| {
                let comment = line.split_once('#').is_some_and(|(code, words)| {
                    words.contains(MEANT) && (n.saturating_add(1) == finding.line || code.trim().is_empty())
                });
                comment && n.saturating_add(1) <= finding.line
            });
            if meant && finding.level != Level::Unread {
                finding.level = Level::Meant;
            }
        }
        self.found.sort_by(|a, b| (&a.file, a.line, a.code).cmp(&(&b.file, b.line, b.code)));
        self.found
    }
}

/// Whether a status, as proxies write them, is one of success; a word that is no number is not.
fn is_success(status: &str) -> bool {
    status.len() == 3 && status.starts_with('2') && status.bytes().all(|b| b.is_ascii_digit())
}

/// `5s`, `500ms`, `2m`, `1.5s`; a bare number is of `unit` milliseconds.
fn millis(text: &str, unit: u64) -> Option<u64> {
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let scale = match suffix {
        "" => unit,
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let digits: String = part.chars().chain("000".chars()).take(3).collect();
    let thousandths: u64 = digits.parse().ok()?;
    Some(whole.checked_mul(scale)?.saturating_add(thousandths.saturating_mul(scale) / 1_000))
}

/// A gate answers within milliseconds; who waits for longer than this for it holds a client for nothing.
const LONGEST_WAIT_MS: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_proxies_write_them() {
        for (text, unit, expected) in [
            ("5s", 1, Some(5_000)),
            ("500ms", 1_000, Some(500)),
            ("2", 1_000, Some(2_000)),
            ("1.5s", 1, Some(1_500)),
            ("0.25s", 1, Some(250)),
            ("1m", 1, Some(60_000)),
            ("", 1, Some(0)),
            ("5x", 1, None),
            ("99999999999999999999h", 1, None),
        ] {
            assert_eq!(millis(text, unit), expected, "{text}");
        }
    }

    #[test]
    fn a_file_is_known_by_its_name_or_its_content() {
        assert_eq!(guess("/etc/nginx/nginx.conf", ""), Some(Kind::Nginx));
        assert_eq!(guess("Caddyfile", ""), Some(Kind::Caddy));
        assert_eq!(guess("/etc/proxy.yaml", "static_resources:"), Some(Kind::Envoy));
        assert_eq!(guess("/etc/proxy.cfg", "  http-check expect status 200"), Some(Kind::Haproxy));
        assert_eq!(guess("/etc/hosts", "127.0.0.1 localhost"), None);
    }
}
