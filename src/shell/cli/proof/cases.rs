//! The cases of a probe, what was seen in each, and what follows from all of them.

use serde::Serialize;

use super::ask::Told;
use super::standin::Answer;
use crate::shell::cli::console::Exit;

/// What the gate does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    /// It says 200.
    Open,
    /// It says 403.
    Closed,
    /// Nobody is at its socket.
    Dead,
    /// Somebody else is there.
    Wrong(&'static str, Answer),
    /// It is itself again.
    Again,
}

/// A stand-in that says what the gate says when it is open.
const IMPOSTOR: &str = "stand-in 200";
/// An answer that many proxies take for a yes.
const NO_CONTENT: &str = "answers 204";

/// What is tried while the gate's socket is away, in this order. No connection outlives its stand-in, so that none of it is met
/// again once the gate is back.
pub(super) const INTERRUPTED: [Case; 9] = [
    Case::Dead,
    Case::Wrong("slow", Answer::Silence),
    Case::Wrong("hangs up", Answer::HangUp),
    Case::Wrong("garbage", Answer::Garbage),
    Case::Wrong("answers 302", Answer::Status(302)),
    Case::Wrong("answers 500", Answer::Status(500)),
    Case::Wrong("answers 503", Answer::Status(503)),
    Case::Wrong(NO_CONTENT, Answer::Status(204)),
    Case::Wrong(IMPOSTOR, Answer::Status(200)),
];

impl Case {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Dead => "dead",
            Self::Wrong(name, _) => name,
            Self::Again => "open again",
        }
    }

    /// Whether what is guarded must be reached.
    pub(super) fn must_reach(self) -> bool {
        matches!(self, Self::Open | Self::Again)
    }

    /// The code of failing open in this case.
    fn code(self) -> &'static str {
        match self {
            Self::Open | Self::Again => NOT_REACHED,
            Self::Closed => "KW4410",
            Self::Dead => "KW4411",
            Self::Wrong(_, Answer::Silence | Answer::HangUp) => "KW4412",
            Self::Wrong(NO_CONTENT, _) => "KW4414",
            Self::Wrong(IMPOSTOR, _) => "KW4415",
            Self::Wrong(..) => "KW4413",
        }
    }
}

/// It could not be told.
const UNKNOWN: &str = "KW4416";
/// The proxy holds requests for longer than one may wait.
const HELD_LONG: &str = "KW4417";
/// What is guarded was not reached although the gate was open.
const NOT_REACHED: &str = "KW4418";

/// Some requests in one case.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    pub(super) asked: u32,
    pub(super) reached: u32,
    pub(super) refused: u32,
    pub(super) silent: u32,
    pub(super) nobody: u32,
    pub(super) unclear: u32,
    /// Each different answer once.
    pub(super) answers: Vec<String>,
    pub(super) longest_ms: u64,
}

impl Sample {
    pub(super) fn take(&mut self, told: Told, took_ms: u64) {
        let (count, text) = match told {
            Told::Reached(text) => (&mut self.reached, format!("{text} reached")),
            Told::Refused(text) => (&mut self.refused, text),
            Told::Silent(text) => (&mut self.silent, text),
            Told::Nobody(text) => (&mut self.nobody, text),
            Told::Unclear(text) => (&mut self.unclear, text),
        };
        *count = count.saturating_add(1);
        self.asked = self.asked.saturating_add(1);
        self.longest_ms = self.longest_ms.max(took_ms);
        if !self.answers.contains(&text) {
            self.answers.push(text);
        }
    }
}

/// What was found out in a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verdict {
    /// As it must be.
    Held,
    /// Reached when it must not be.
    FailedOpen,
    /// Reached through a stand-in that only the daemon's own user and root can place.
    Noted,
    /// It cannot be told.
    Unknown,
}

/// One line of the report.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Line {
    pub(super) case: &'static str,
    /// `reached` or `refused`.
    pub(super) must_be: &'static str,
    pub(super) verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<&'static str>,
    pub(super) asked: u32,
    pub(super) reached: u32,
    pub(super) answers: Vec<String>,
    /// How many requests came to the stand-in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gate_asked: Option<u64>,
    pub(super) longest_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<String>,
}

/// What else decides.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rules {
    /// A stand-in may not be believed whoever could place it.
    pub(super) strict: bool,
    /// Others than root and the daemon's user can put something into the socket's directory.
    pub(super) exposed: bool,
}

/// What a sample says about its case.
pub(super) fn judge(case: Case, sample: Sample, gate_asked: Option<u64>, rules: Rules) -> Line {
    let (verdict, code, note) = verdict(case, &sample, gate_asked, rules);
    Line {
        case: case.name(),
        must_be: if case.must_reach() { "reached" } else { "refused" },
        verdict,
        code,
        asked: sample.asked,
        reached: sample.reached,
        answers: sample.answers,
        gate_asked,
        longest_ms: sample.longest_ms,
        note,
    }
}

fn verdict(
    case: Case,
    sample: &Sample,
    gate_asked: Option<u64>,
    rules: Rules,
) -> (Verdict, Option<&'static str>, Option<String>) {
    let unknown = |note: &str| (Verdict::Unknown, Some(UNKNOWN), Some(note.to_owned()));
    if case.must_reach() {
        return match sample.reached {
            0 => {
                let note = "it is not reached although the gate is open, so that a refusal says nothing".to_owned();
                (Verdict::Unknown, Some(NOT_REACHED), Some(note))
            }
            _ => (Verdict::Held, None, None),
        };
    }
    if sample.reached > 0 {
        let impostor = matches!(case, Case::Wrong(IMPOSTOR, _)) && gate_asked != Some(0);
        let why = match (case, gate_asked) {
            (_, Some(0)) => "the proxy let it through without asking: a cache, or a location that is not guarded",
            (Case::Wrong(IMPOSTOR, _), _) if rules.exposed => {
                "and others than root and keyward's user may place one: the socket's directory is writable for them"
            }
            (Case::Wrong(IMPOSTOR, _), _) => {
                "a plain 200 is all that a proxy can see; only root and keyward's user can stand there, a lease closes it"
            }
            (Case::Wrong(NO_CONTENT, _), _) => "the proxy takes every 2xx for a yes; have it compare with 200",
            _ => "what is guarded answered",
        };
        if impostor && !rules.strict && !rules.exposed {
            return (Verdict::Noted, Some(case.code()), Some(why.to_owned()));
        }
        return (Verdict::FailedOpen, Some(case.code()), Some(why.to_owned()));
    }
    if sample.asked == 0 {
        return unknown("it was not tried");
    }
    if sample.nobody == sample.asked {
        return unknown("nobody took the request: the proxy itself does not answer");
    }
    if sample.unclear > 0 {
        return unknown("an answer that could be either");
    }
    if gate_asked == Some(0) {
        return unknown("the proxy did not ask at the gate's socket (over TCP, or another socket?)");
    }
    if sample.silent > 0 && matches!(case, Case::Wrong(_, Answer::Silence)) {
        let note =
            "the proxy holds the request for as long: set its timeouts to the gate to a second or two".to_owned();
        return (Verdict::Held, Some(HELD_LONG), Some(note));
    }
    (Verdict::Held, None, None)
}

/// A case that was not tried.
pub(super) fn untried(case: Case, why: &str) -> Line {
    Line { note: Some(why.to_owned()), ..judge(case, Sample::default(), None, Rules::default()) }
}

/// What all of it comes to.
pub(super) fn exit(lines: &[Line]) -> Exit {
    let any = |verdict| lines.iter().any(|l| l.verdict == verdict);
    if any(Verdict::FailedOpen) {
        Exit::Failed
    } else if any(Verdict::Unknown) || lines.is_empty() {
        Exit::Warning
    } else {
        Exit::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(told: &[Told]) -> Sample {
        let mut sample = Sample::default();
        told.iter().for_each(|t| sample.take(t.clone(), 1));
        sample
    }

    fn of(case: Case, told: &[Told], gate_asked: Option<u64>, strict: bool, exposed: bool) -> Verdict {
        judge(case, sample(told), gate_asked, Rules { strict, exposed }).verdict
    }

    #[test]
    fn unknown_is_never_held() {
        let (reached, refused) = (Told::Reached("200".into()), Told::Refused("403".into()));
        let (nobody, unclear) = (Told::Nobody("refused".into()), Told::Unclear("204".into()));
        let impostor = INTERRUPTED[8];
        for (case, told, asked, expected) in [
            (Case::Closed, &[refused.clone()][..], None, Verdict::Held),
            (Case::Closed, &[refused.clone(), reached.clone()], None, Verdict::FailedOpen),
            (Case::Closed, std::slice::from_ref(&nobody), None, Verdict::Unknown),
            (Case::Closed, &[], None, Verdict::Unknown),
            (Case::Dead, &[refused.clone(), unclear], None, Verdict::Unknown),
            (INTERRUPTED[3], std::slice::from_ref(&refused), Some(0), Verdict::Unknown),
            (INTERRUPTED[3], std::slice::from_ref(&refused), Some(1), Verdict::Held),
            (INTERRUPTED[3], std::slice::from_ref(&reached), Some(0), Verdict::FailedOpen),
            (INTERRUPTED[7], std::slice::from_ref(&reached), Some(1), Verdict::FailedOpen),
            (impostor, std::slice::from_ref(&reached), Some(1), Verdict::Noted),
            (impostor, std::slice::from_ref(&reached), Some(0), Verdict::FailedOpen),
            (Case::Open, std::slice::from_ref(&nobody), None, Verdict::Unknown),
            (Case::Open, std::slice::from_ref(&refused), None, Verdict::Unknown),
            (Case::Again, std::slice::from_ref(&reached), None, Verdict::Held),
        ] {
            assert_eq!(of(case, told, asked, false, false), expected, "{case:?} {told:?}");
        }
        let believed = std::slice::from_ref(&reached);
        assert_eq!(of(impostor, believed, Some(1), true, false), Verdict::FailedOpen);
        assert_eq!(of(impostor, believed, Some(1), false, true), Verdict::FailedOpen);
    }

    #[test]
    fn one_failure_is_a_failure_and_what_is_not_known_is_not_proven() {
        let line = |case, told: &[Told]| judge(case, sample(told), Some(1), Rules::default());
        let (held, failed) =
            (line(Case::Closed, &[Told::Refused("403".into())]), line(Case::Dead, &[Told::Reached("200".into())]));
        let unknown = untried(Case::Dead, "not allowed");
        assert_eq!(exit(&[]), Exit::Warning);
        assert_eq!(exit(std::slice::from_ref(&held)), Exit::Ok);
        assert_eq!(exit(&[held.clone(), unknown.clone()]), Exit::Warning);
        assert_eq!(exit(&[held, unknown, failed]), Exit::Failed);
    }
}
