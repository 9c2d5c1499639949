//! Problems in a configuration, and the report that shows each of them in its place.
//!
//! Refuses to know TOML and rules: it is told a span, a code, what is wrong and how to mend it.

use core::fmt;
use core::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// A report shows at most this many problems in full: more than a person mends at once.
const MOST_SHOWN: usize = 50;
/// Problems after this many are only counted; bounds the time for "did you mean" in a hopeless file.
const MOST_KEPT: usize = 200;
/// Lines longer than this in bytes are not printed.
const LONGEST_EXCERPT: usize = 4_096;
/// Two places at most this many lines apart share one excerpt.
const NEAR_LINES: usize = 20;

/// Byte offsets in the text.
pub(super) type Span = Range<usize>;

/// Why a configuration was refused: every problem that was found. Shown as the whole report.
#[derive(Clone, Debug)]
pub struct ConfigError {
    source_name: String,
    text: String,
    problems: Vec<Problem>,
    total: usize,
    /// The same of other files.
    more: Vec<ConfigError>,
}

/// Whether a report may use terminal colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// For files, pipes and NO_COLOR.
    Plain,
    /// For terminals.
    Ansi,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Stable code.
    pub code: &'static str,
    /// What is wrong.
    pub what: String,
    /// How to mend it.
    pub mend: String,
    /// Line from 1; 0 if it is about the file as a whole.
    pub line: usize,
    /// Column in characters from 1; 0 if it is about the file as a whole.
    pub column: usize,
    at: Option<Span>,
    label: String,
    also: Option<(Span, String)>,
}

impl ConfigError {
    /// A file that could not even be read.
    pub(super) fn about_file(source_name: &str, what: String) -> Self {
        Self::unread("KW0001", source_name, what, "name a readable file; `keyward init DIR` writes one")
    }

    /// The same with its own code, and the way to mend it.
    pub(super) fn unread(code: &'static str, source_name: &str, what: String, mend: &str) -> Self {
        let mend = mend.to_owned();
        let problem = Problem {
            code,
            what: format!("{source_name}: {what}"),
            mend,
            line: 0,
            column: 0,
            at: None,
            label: String::new(),
            also: None,
        };
        Self {
            source_name: source_name.to_owned(),
            text: String::new(),
            problems: vec![problem],
            total: 1,
            more: Vec::new(),
        }
    }

    /// One error of several files, in their order.
    pub(super) fn all(errors: impl IntoIterator<Item = Self>) -> Result<(), Self> {
        let mut errors = errors.into_iter();
        let Some(mut first) = errors.next() else { return Ok(()) };
        first.more.extend(errors);
        Err(first)
    }

    /// The problems, in the order of the file; at most 200.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The whole report.
    #[must_use]
    pub fn report(&self, colour: Colour) -> String {
        let renderer = match colour {
            Colour::Plain => Renderer::plain(),
            Colour::Ansi => Renderer::styled(),
        };
        let mut out = String::new();
        for problem in self.problems.iter().take(MOST_SHOWN) {
            out.push_str(&renderer.render(&[self.group(problem)]));
            out.push_str("\n\n");
        }
        let plural = if self.total == 1 { "problem" } else { "problems" };
        let left_out = match self.total.saturating_sub(MOST_SHOWN) {
            0 => String::new(),
            n => format!(" ({n} more not shown)"),
        };
        let code = self.problems.first().map_or("KW0001", |p| p.code);
        out.push_str(&format!(
            "{} {plural} in {}{left_out}; nothing was changed. `keyward explain {code}` says more",
            self.total, self.source_name
        ));
        for other in &self.more {
            out.push_str("\n\n");
            out.push_str(&other.report(colour));
        }
        out
    }

    fn group<'a>(&'a self, problem: &'a Problem) -> Group<'a> {
        let mut group = Group::with_title(Level::ERROR.primary_title(problem.what.as_str()).id(problem.code));
        if let Some(at) = &problem.at {
            let near = problem.also.as_ref().filter(|(also, _)| self.lines_between(at, also) <= NEAR_LINES);
            group = group.element(self.snippet(at, &problem.label, near));
            if let Some((also, label)) = problem.also.as_ref().filter(|_| near.is_none()) {
                group = group.element(self.snippet(also, label, None));
            }
        }
        group.element(Level::HELP.message(problem.mend.as_str()))
    }

    fn snippet<'a>(
        &'a self,
        at: &Span,
        label: &'a str,
        also: Option<&'a (Span, String)>,
    ) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
        let (first, last) = match also {
            Some((other, _)) => (at.start.min(other.start), at.end.max(other.end)),
            None => (at.start, at.end),
        };
        let start = self.text.get(..first).and_then(|t| t.rfind('\n')).map_or(0, |n| n.saturating_add(1));
        let rest = self.text.get(last..).and_then(|t| t.find('\n'));
        let end = rest.map_or(self.text.len(), |n| last.saturating_add(n));
        let line = self.place(start).0;
        let excerpt = self.text.get(start..end).filter(|t| t.len() <= LONGEST_EXCERPT).unwrap_or("");
        let local = |span: &Span| {
            let clamp = |n: usize| n.saturating_sub(start).min(excerpt.len());
            clamp(span.start)..clamp(span.end)
        };
        // C1 controls (U+009B begins a terminal command) pass the renderer; they take two bytes, and so does what stands
        // for them.
        let mut snippet = Snippet::source(excerpt.replace(|c| matches!(c, '\u{80}'..='\u{9f}'), "¿"))
            .line_start(line)
            .path(self.source_name.as_str())
            .annotation(AnnotationKind::Primary.span(local(at)).label(label));
        if let Some((other, text)) = also {
            snippet = snippet.annotation(AnnotationKind::Context.span(local(other)).label(text.as_str()));
        }
        snippet
    }

    fn lines_between(&self, a: &Span, b: &Span) -> usize {
        let (from, to) = (a.start.min(b.start), a.start.max(b.start));
        self.text.get(from..to).map_or(usize::MAX, |t| t.bytes().filter(|b| *b == b'\n').count())
    }

    fn place(&self, offset: usize) -> (usize, usize) {
        place(&self.text, offset)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.report(Colour::Plain))
    }
}

impl core::error::Error for ConfigError {}

/// Line and column (in characters) of a byte offset, both from 1.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.bytes().filter(|b| *b == b'\n').count().saturating_add(1);
    let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()).saturating_add(1);
    (line, column)
}

/// Collects problems while a file is read.
#[derive(Debug, Default)]
pub(super) struct Problems {
    kept: Vec<Problem>,
    total: usize,
}

impl Problems {
    /// How many were noted.
    pub(super) fn count(&self) -> usize {
        self.total
    }

    /// Notes a problem: `label` stands at the caret.
    pub(super) fn add(
        &mut self,
        code: &'static str,
        at: &Span,
        what: impl Into<String>,
        label: impl Into<String>,
        mend: impl Into<String>,
    ) {
        self.push(code, at, what.into(), label.into(), mend.into(), None);
    }

    /// Notes a problem that is about two places.
    pub(super) fn add_with(
        &mut self,
        code: &'static str,
        at: &Span,
        what: impl Into<String>,
        label: impl Into<String>,
        mend: impl Into<String>,
        also: (&Span, &str),
    ) {
        self.push(code, at, what.into(), label.into(), mend.into(), Some((also.0.clone(), also.1.to_owned())));
    }

    fn push(
        &mut self,
        code: &'static str,
        at: &Span,
        what: String,
        label: String,
        mend: String,
        also: Option<(Span, String)>,
    ) {
        self.total = self.total.saturating_add(1);
        if self.kept.len() < MOST_KEPT {
            self.kept.push(Problem { code, what, mend, line: 0, column: 0, at: Some(at.clone()), label, also });
        }
    }

    /// The nearest of `candidates` to `word`, as a question; empty once so many problems were found that no more are
    /// kept.
    pub(super) fn did_you_mean<'a>(
        &self,
        word: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> Option<&'a str> {
        if self.kept.len() < MOST_KEPT { nearest(word, candidates) } else { None }
    }

    /// The error with its text, or nothing to complain of.
    pub(super) fn finish(&mut self, source_name: &str, text: &str) -> Result<(), ConfigError> {
        let mut problems = core::mem::take(&mut self.kept);
        if problems.is_empty() {
            return Ok(());
        }
        for problem in &mut problems {
            (problem.line, problem.column) = place(text, problem.at.as_ref().map_or(0, |s| s.start));
        }
        problems.sort_by_key(|p| (p.line, p.column));
        Err(ConfigError {
            source_name: source_name.to_owned(),
            text: text.to_owned(),
            problems,
            total: self.total,
            more: Vec::new(),
        })
    }
}

/// A piece of the file inside a message: shortened, and without characters that could trick a terminal.
pub(super) fn quoted(text: &str) -> String {
    const MOST: usize = 64;
    let short: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    if text.chars().nth(MOST).is_some() { format!("`{short}…`") } else { format!("`{short}`") }
}

/// The candidate that needs the fewest typing errors (insertion, deletion, replacement, swap of neighbours) to become
/// `word`: at most a third of the letters, and at most three.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.chars().take(64).collect();
    let most = (word.len().saturating_add(1) / 3).clamp(1, 3);
    candidates.into_iter().map(|c| (distance(&word, c), c)).filter(|(d, _)| *d <= most).min().map(|(_, c)| c)
}

fn distance(a: &[char], candidate: &str) -> usize {
    let b: Vec<char> = candidate.chars().take(64).collect();
    if a.len().abs_diff(b.len()) > 3 {
        return usize::MAX;
    }
    let at = |row: &[usize], i: usize| row.get(i).copied().unwrap_or(usize::MAX / 2);
    let (mut before, mut last): (Vec<usize>, Vec<usize>) = (Vec::new(), (0..=b.len()).collect());
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i.saturating_add(1)];
        for (j, y) in b.iter().enumerate() {
            let replaced = at(&last, j).saturating_add(usize::from(x != y));
            let mut best = replaced.min(at(&last, j.saturating_add(1)).min(at(&row, j)).saturating_add(1));
            let swapped = i > 0 && j > 0 && a.get(i.wrapping_sub(1)) == Some(y) && b.get(j.wrapping_sub(1)) == Some(x);
            if swapped {
                best = best.min(at(&before, j.wrapping_sub(1)).saturating_add(1));
            }
            row.push(best);
        }
        before = core::mem::replace(&mut last, row);
    }
    at(&last, b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_its_word_and_another_word_does_not() {
        let words = ["issuers", "solvers", "names", "reload", "letsencrypt"];
        for (typed, meant) in [
            ("isuers", Some("issuers")),
            ("solvres", Some("solvers")),
            ("name", Some("names")),
            ("letsencrpyt", Some("letsencrypt")),
            ("bananas", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(nearest(typed, words), meant, "{typed:?}");
        }
    }

    #[test]
    fn what_a_file_says_cannot_trick_a_terminal() {
        assert_eq!(quoted("a\u{1b}[2Jb\n"), "`a\\u{1b}[2Jb\\n`");
        assert!(quoted(&"x".repeat(1_000)).chars().count() < 70);
    }

    #[test]
    fn a_place_counts_lines_and_characters_from_one() {
        assert_eq!(place("a\nöx", 4), (2, 2));
        assert_eq!(place("", 0), (1, 1));
        assert_eq!(place("abc", 99), (1, 4));
    }
}
