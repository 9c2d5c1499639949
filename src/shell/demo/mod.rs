//! `keyward demo`: everything in one process under one directory, on loopback, without root and without a network.
//!
//! A scripted CA with real http-01 validation, a review portal over TLS whose certificate lives two minutes, a second
//! credential that is only watched, and an approval path with its gate. It tells what happens as it happens; `--break`
//! shows a refusal and the gate closing.

mod clock;
mod portal;
mod stage;
mod tell;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use core::time::Duration;

use crate::domain::id::PathId;
use crate::shell::daemon::{self, Running};
use clock::DemoClock;
use stage::Stage;
use tell::Teller;

/// What `keyward demo` was told.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The directory to use, which stays; a temporary one if `None`.
    pub dir: Option<PathBuf>,
    /// Leave the directory behind.
    pub keep: bool,
    /// What to break once everything runs.
    pub break_: Option<Break>,
    /// End by itself after this long.
    pub seconds: Option<u64>,
    /// Lifetime of the portal's certificate in seconds; two minutes if `None`.
    pub lifetime: Option<u64>,
    /// Say only what happens, not what to try.
    pub quiet: bool,
}

/// What can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// The CA stops answering: no renewal comes, and the gate closes before the expiry.
    Ca,
    /// The reload hook fails: what was issued is not installed, and nothing is issued again.
    Hook,
    /// The wall clock steps an hour ahead: the gate closes at once, and nothing is renewed in a panic.
    Clock,
    /// The watched credential expires: the gate closes although the portal is well.
    Expiry,
}

/// The path of the demo.
const PATH: &str = "approve";
/// A break comes this long after the gate opened, so that there is something to see first.
const BREAK_AFTER: Duration = Duration::from_secs(5);
/// How often the story is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Runs the demo until Ctrl-C or its time is up.
#[must_use]
pub fn run(options: &Options) -> ExitCode {
    let outcome = daemon::runtime().map_err(|e| e.to_string()).and_then(|rt| rt.block_on(play(options)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell::complain(&format!("the demo stops: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// The reload hook of the demo: `keyward demo-hook DIR` tells the portal to take its new files, or fails where `--break
/// hook` wants it to.
#[must_use]
pub fn hook(dir: &std::path::Path) -> ExitCode {
    if dir.join(stage::BROKEN_HOOK).exists() {
        tell::complain("the portal refuses to reload: its configuration is broken (this is `--break hook`)");
        return ExitCode::FAILURE;
    }
    match std::fs::write(dir.join(stage::RELOAD_MARK), b"reload\n") {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell::complain(&format!("{}: {error}", dir.display()));
            ExitCode::FAILURE
        }
    }
}

async fn play(options: &Options) -> Result<(), String> {
    let clock = Arc::new(DemoClock::new(crate::shell::wire::clock()));
    let stage = Stage::build(options, clock.clone()).await?;
    let reload = Arc::new(|_: &daemon::Parts| Err("the demo's configuration stays as it is".to_owned().into()));
    let running = daemon::start(&stage.settings, clock.clone(), reload).await;
    let ended = match running {
        Ok(running) => watch(options, &stage, &clock, running).await,
        Err(error) => Err(error),
    };
    stage.strike(options.keep || options.dir.is_some()).await;
    ended
}

async fn watch(options: &Options, stage: &Stage, clock: &DemoClock, running: Running) -> Result<(), String> {
    let path = PathId::parse(PATH).map_err(|e| e.to_string())?;
    let portal = portal::open(stage, running.engine.clone(), path.clone()).await?;
    let mut teller = Teller::new(&running, path);
    if !options.quiet {
        teller.introduce(stage);
    }
    let began = tokio::time::Instant::from_std(tell::instant());
    let mut broken = false;
    let mut opened = None;
    let interrupted = tokio::signal::ctrl_c();
    let mut interrupted = core::pin::pin!(interrupted);
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            _ = &mut interrupted => break,
            now = look.tick() => {
                teller.look();
                if teller.gate_is_open() {
                    opened.get_or_insert(now);
                }
                if let (Some(what), Some(at), false) = (options.break_, opened, broken)
                    && now.duration_since(at) >= BREAK_AFTER
                {
                    broken = true;
                    stage.break_it(what, clock)?;
                    teller.broke(what);
                }
                if options.seconds.is_some_and(|s| now.duration_since(began) >= Duration::from_secs(s)) {
                    break;
                }
            }
        }
    }
    tell::say("stopping: everything that was in flight is durable");
    drop(portal);
    running.stop().await
}
