//! `keyward gate probe`: the live proxy, through everything that a gate may do, and `keyward gate hold`.
//!
//! ```text
//! open ─► closed ─► open ─► (socket aside: dead, stand-in …) ─► socket back ─► open ─► … ─► open again
//! ```
//! What is guarded must be reached before and after every case: a refusal says something about the gate only then.
//! Whatever happens to this process, the daemon ends the hold and puts the socket back by itself.

use core::future::Future;
use core::time::Duration;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::args::{Hold, Probe};
use super::ask::{Asker, Mark, Told};
use super::cases::{Case, INTERRUPTED, Line, Rules, Sample, Verdict, exit, judge, untried};
use super::standin::StandIn;
use crate::domain::id::PathId;
use crate::shell::cli::args::Output;
use crate::shell::cli::client::Daemon;
use crate::shell::cli::console::{Cell, Exit, Failure, Tone, moment};
use crate::shell::cli::{Done, Run};
use crate::shell::http::model::{self, Accepted, Gate, Held, Interrupted};

/// So often what is guarded is asked for in a case: a proxy with two upstreams or two caches has more than one opinion.
const TRIES: u32 = 4;
/// Between two of these, and while it is waited for the proxy to open again.
const PAUSE: Duration = Duration::from_millis(150);
/// What a hold or an interruption has beyond the requests that are made under it, in seconds.
const SLACK: u64 = 5;

/// The whole report.
#[derive(Debug, Serialize)]
struct Report {
    path: String,
    url: String,
    /// `proven`, `failed-open` or `unknown`.
    result: &'static str,
    cases: Vec<Line>,
    /// What the proxy's configuration says.
    lint: Vec<crate::codec::lint::Finding>,
}

impl Run {
    pub(in crate::shell::cli) fn gate_hold(&self, told: &Hold) -> Done {
        let usage = |e: &dyn core::fmt::Display| {
            Failure::new(Exit::Usage, format!("{:?} {e}", told.path), "see them all: keyward gate status")
        };
        let path = PathId::parse(&told.path).map_err(|e| usage(&e))?.to_string();
        let seconds = told.span.as_secs();
        if told.plan {
            let what = if told.release { "end the hold over".to_owned() } else { format!("close for {seconds} s") };
            self.console.note(format!("would {what} {path}; nothing was done: this is only the plan"));
            return Ok(Exit::Ok);
        }
        let daemon = self.daemon()?;
        if told.release {
            let accepted: Accepted = daemon.post("/v1/holds/release", &model::Release { path })?;
            self.console.note(accepted.text);
            return Ok(Exit::Ok);
        }
        let held: Held = daemon.post("/v1/holds", &model::Hold { path, seconds })?;
        match self.output {
            Output::Json => self.console.json(&held)?,
            Output::Name => self.console.out(&held.path),
            Output::Table => self.console.out(format!("{} is held closed until {}", held.path, moment(&held.until))),
        }
        Ok(Exit::Ok)
    }

    pub(in crate::shell::cli) fn gate_probe(&self, told: &Probe) -> Done {
        let usage = |text: String| Failure::new(Exit::Usage, text, "keyward gate probe --help shows examples");
        let path = PathId::parse(&told.path).map_err(|e| usage(format!("{:?} {e}", told.path)))?;
        let mark = Mark { text: told.expect_open.clone(), status: told.open_status };
        if mark.text.as_deref() == Some("") {
            return Err(usage("--expect-open is empty, and an empty text stands in every answer".to_owned()));
        }
        let asker = Asker::new(&told.url, &told.method, mark, told.ca.as_deref(), told.timeout).map_err(usage)?;
        // Before anything is touched: a file that cannot be read ends it here.
        let lint = self.lint_files(&told.lint, None)?;
        let daemon = self.daemon()?;
        let drive = Drive { run: self, daemon: &daemon, asker: &asker, told, path: path.to_string() };
        let mut cases = Vec::new();
        let ended = daemon.wait(async {
            let stopped = stop_signals()?;
            let ended = tokio::select! {
                ended = drive.all(&mut cases) => ended,
                name = stopped => Err(format!("stopped by {name}")),
            };
            // Also after a signal, and whatever it was: both are no harm if there is nothing to end.
            drive.end_all().await;
            Ok::<_, Failure>(ended)
        })?;
        if let Err(why) = ended {
            self.console.note(format!("the probe broke off: {why}"));
            cases.push(untried(Case::Again, &why));
        }
        let proven = exit(&cases).worse(if lint.iter().any(|f| f.fails_open()) { Exit::Failed } else { Exit::Ok });
        let failed = if proven == Exit::Failed { "failed-open" } else { "unknown" };
        let result = if proven == Exit::Ok { "proven" } else { failed };
        let report = Report { path: drive.path.clone(), url: told.url.clone(), result, cases, lint };
        self.print_probe(&report)?;
        Ok(proven)
    }

    fn print_probe(&self, report: &Report) -> Result<(), Failure> {
        match self.output {
            Output::Json => return self.console.json(report),
            Output::Name => {
                let bad = report.cases.iter().filter(|l| l.verdict == Verdict::FailedOpen);
                bad.for_each(|l| self.console.out(l.case));
                return Ok(());
            }
            Output::Table => {}
        }
        let rows: Vec<Vec<Cell>> = report.cases.iter().map(row).collect();
        self.console.table(&["THE GATE", "MUST BE", "WAS", "ANSWERS", "SLOWEST", "WHY"], &rows);
        self.print_findings(&report.lint);
        let (text, tone) = match report.result {
            "proven" => ("proven: it was reached only while the gate was open", Tone::Good),
            "failed-open" => ("FAILED OPEN: see the cases above; keyward explain CODE says how to mend it", Tone::Bad),
            _ => ("not proven: something could not be told, and unknown is not proven", Tone::Warn),
        };
        self.console.out(self.console.paint(text, tone));
        Ok(())
    }
}

fn row(line: &Line) -> Vec<Cell> {
    let (word, tone) = match line.verdict {
        Verdict::Held if line.must_be == "reached" => ("reached", Tone::Good),
        Verdict::Held => ("refused", Tone::Good),
        Verdict::FailedOpen => ("REACHED", Tone::Bad),
        Verdict::Noted => ("reached", Tone::Warn),
        Verdict::Unknown => ("unknown", Tone::Warn),
    };
    let code = line.code.map(|c| format!("{c} ")).unwrap_or_default();
    vec![
        Cell(line.case.to_owned(), Tone::Strong),
        line.must_be.into(),
        Cell(word.to_owned(), tone),
        line.answers.join(", ").into(),
        format!("{} ms", line.longest_ms).into(),
        format!("{code}{}", line.note.as_deref().unwrap_or_default()).into(),
    ]
}

/// Ready with the first signal that asks the process to end.
fn stop_signals() -> Result<impl Future<Output = &'static str>, Failure> {
    let failed = |e: std::io::Error| Failure::new(Exit::Failed, format!("signals cannot be heard: {e}"), "try again");
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
            _ = hangup.recv() => "SIGHUP",
        }
    })
}

async fn nap(span: Duration) {
    let mut tick = tokio::time::interval(span);
    tick.tick().await;
    tick.tick().await;
}

#[allow(clippy::disallowed_methods, reason = "a stopwatch over real requests of a command; nothing here is simulated")]
fn stopwatch() -> impl Fn() -> Duration {
    let began = std::time::Instant::now();
    move || began.elapsed()
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// One probe under way.
struct Drive<'a> {
    run: &'a Run,
    daemon: &'a Daemon,
    asker: &'a Asker,
    told: &'a Probe,
    path: String,
}

type Step<T> = Result<T, String>;

impl Drive<'_> {
    /// Every case; what cannot be gone on with is an error, and what was found so far stands in `lines`.
    async fn all(&self, lines: &mut Vec<Line>) -> Step<()> {
        // What an earlier probe left is mended before anything is believed.
        self.end_interruption().await.ok();
        let opened = self.open_now(Case::Open).await?;
        let reachable = opened.verdict == Verdict::Held;
        self.push(lines, opened);
        let closed = self.closed().await?;
        self.push(lines, closed);
        if !reachable {
            INTERRUPTED.iter().for_each(|case| lines.push(untried(*case, "it is not reached while the gate is open")));
            return Ok(());
        }
        if !self.told.allow_interrupt {
            INTERRUPTED.iter().for_each(|case| lines.push(untried(*case, "not tried without --allow-interrupt")));
        } else {
            for case in INTERRUPTED {
                let before = self.open_now(case).await?;
                if before.verdict != Verdict::Held {
                    let why = "it was not reached before this case although the gate was open";
                    self.push(lines, untried(case, why));
                    continue;
                }
                let line = self.interrupted(case).await?;
                self.push(lines, line);
            }
        }
        let again = self.open_now(Case::Again).await?;
        self.push(lines, again);
        Ok(())
    }

    fn push(&self, lines: &mut Vec<Line>, line: Line) {
        if self.run.output == Output::Table {
            let word = match line.verdict {
                Verdict::Held => "as it must be",
                Verdict::FailedOpen => "FAILED OPEN",
                Verdict::Noted => "noted",
                Verdict::Unknown => "unknown",
            };
            self.run.console.note(format!("{}: {word}", line.case));
        }
        lines.push(line);
    }

    /// Waits until it is reached with the gate open.
    async fn open_now(&self, case: Case) -> Step<Line> {
        let case = if case.must_reach() { case } else { Case::Again };
        let spent = stopwatch();
        loop {
            let gate: Gate = self.daemon.gate(&self.path).await.map_err(|f| f.text)?;
            let mut sample = Sample::default();
            if gate.open {
                sample = self.sample(|| true).await;
            }
            if sample.reached > 0 || spent() >= self.told.settle {
                let mut line = judge(case, sample, None, Rules::default());
                if !gate.open {
                    let codes: Vec<&str> = gate.reasons.iter().map(|r| r.code.as_str()).collect();
                    line.note = Some(format!("the path is closed by itself: {}", codes.join(", ")));
                }
                return Ok(line);
            }
            nap(PAUSE).await;
        }
    }

    /// Some requests, or fewer where one was `enough`.
    async fn sample(&self, enough: impl Fn() -> bool) -> Sample {
        let mut sample = Sample::default();
        for n in 0..TRIES {
            if n > 0 {
                if enough() {
                    break;
                }
                nap(PAUSE).await;
            }
            let took = stopwatch();
            let told = self.asker.ask().await;
            sample.take(told, millis(took()));
        }
        sample
    }

    /// The time that some requests may take, and a little more, in seconds.
    fn budget(&self) -> u64 {
        let each = self.told.timeout.as_secs().saturating_add(1);
        each.saturating_mul(u64::from(TRIES)).saturating_add(SLACK)
    }

    async fn closed(&self) -> Step<Line> {
        let grace = self.told.grace.unwrap_or_default();
        let seconds = self.budget().saturating_add(grace.as_secs());
        let hold = model::Hold { path: self.path.clone(), seconds };
        let _: Held = self.daemon.send("/v1/holds", &hold).await.map_err(|f| f.text)?;
        if self.daemon.gate(&self.path).await.map_err(|f| f.text)?.open {
            return Err("the path stayed open under a hold; is the daemon of the same version?".to_owned());
        }
        let lasted = self.wait_out(grace).await;
        let mut line = judge(Case::Closed, self.sample(|| false).await, None, Rules::default());
        if let Some(lasted) = lasted.filter(|_| line.verdict == Verdict::Held) {
            line.note = Some(format!("it was reached for {} ms after the gate had closed", millis(lasted)));
        }
        self.release().await?;
        Ok(line)
    }

    /// For proxies that ask only now and then: how long it was still reached, within what is granted.
    async fn wait_out(&self, grace: Duration) -> Option<Duration> {
        if grace.is_zero() {
            return None;
        }
        let spent = stopwatch();
        let mut last = None;
        loop {
            match self.asker.ask().await {
                Told::Reached(_) => last = Some(spent()),
                Told::Refused(_) | Told::Silent(_) | Told::Nobody(_) | Told::Unclear(_) => return last,
            }
            if spent() >= grace {
                return last;
            }
            nap(PAUSE).await;
        }
    }

    async fn interrupted(&self, case: Case) -> Step<Line> {
        let grace = self.told.grace.unwrap_or_default();
        let seconds = self.budget().saturating_add(grace.as_secs()).min(120);
        let asked = model::Interrupt { seconds, token: None };
        let place: Interrupted = self.daemon.send("/v1/interruptions", &asked).await.map_err(|f| f.text)?;
        let rules = Rules { strict: self.told.strict, exposed: is_exposed(Path::new(&place.socket)) };
        let standin = match case {
            Case::Wrong(_, answer) => Some(StandIn::take(&place, answer)?),
            Case::Open | Case::Closed | Case::Dead | Case::Again => None,
        };
        self.wait_out(grace).await;
        let asked = || standin.as_ref().map(StandIn::asked);
        // One request is enough to see whether a silent gate is waited for, if it came there: a proxy may have refused it over
        // a connection that it had just lost.
        let enough = || matches!(case, Case::Wrong("slow", _)) && asked().is_some_and(|n| n > 0);
        let sample = self.sample(enough).await;
        let line = judge(case, sample, asked(), rules);
        self.end_interruption().await?;
        drop(standin);
        Ok(line)
    }

    async fn end_interruption(&self) -> Step<()> {
        let ended: Result<Accepted, Failure> = self.daemon.send("/v1/interruptions/end", &serde_json::json!({})).await;
        ended.map(drop).map_err(|f| f.text)
    }

    async fn release(&self) -> Step<()> {
        let wanted = model::Release { path: self.path.clone() };
        let ended: Result<Accepted, Failure> = self.daemon.send("/v1/holds/release", &wanted).await;
        ended.map(drop).map_err(|f| f.text)
    }

    /// What is left over ends by itself, but not as soon.
    async fn end_all(&self) {
        if self.told.allow_interrupt
            && let Err(why) = self.end_interruption().await
        {
            self.run
                .console
                .note(format!("the gate's socket is not back yet ({why}); the daemon puts it back by itself"));
        }
        if let Err(why) = self.release().await {
            self.run.console.note(format!("the hold is not over yet ({why}); it ends by itself"));
        }
    }
}

/// Whether others than its owner may put something into the socket's directory. Who cannot tell says yes.
fn is_exposed(socket: &Path) -> bool {
    socket.parent().and_then(|dir| std::fs::metadata(dir).ok()).is_none_or(|meta| meta.mode() & 0o022 != 0)
}
