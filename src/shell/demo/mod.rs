//! `keyward demo`: everything in one process under one directory, on loopback, without root and without a network.
//!
//! A scripted CA with real http-01 validation, a review portal over TLS whose certificate lives two minutes, a second
//! credential that is only watched, and an approval path with its gate. Below a private CA, whose keys are in the key
//! holder's process, two mTLS links carry traffic while the intermediate is rotated and a peer is revoked. It tells what
//! happens as it happens; `--break` shows a refusal and the gate closing.

mod acts;
mod batch;
mod clock;
mod mesh;
mod portal;
mod rotation;
mod stage;
mod tell;
mod traffic;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use core::time::Duration;

use crate::domain::id::PathId;
use crate::shell::daemon::{self, Running};
use acts::Acts;
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
    let reload = daemon::reloading(&stage.daemon(), &stage.settings);
    let running = daemon::start(&stage.settings, clock.clone(), reload.clone()).await;
    let ended = match running {
        Ok(running) => {
            let watched = watch(options, &stage, &clock, &running, reload).await;
            let stopped = running.stop().await;
            watched.and(stopped)
        }
        Err(error) => Err(error),
    };
    stage.strike(options.keep || options.dir.is_some()).await;
    ended
}

async fn watch(
    options: &Options,
    stage: &Stage,
    clock: &DemoClock,
    running: &Running,
    reload: daemon::Reload,
) -> Result<(), String> {
    let path = PathId::parse(PATH).map_err(|e| e.to_string())?;
    // It is there before its first certificate, which is looked for at its door.
    let _portal = portal::open(stage, running.engine.clone(), path.clone()).await?;
    let mut teller = Teller::new(running, path.clone());
    let made = mesh::init(running).await?;
    stage.complete(running, reload).await?;
    if !options.quiet {
        teller.introduce(stage);
    }
    teller.line("CA", &made);
    let acts = Acts::new(running, stage, path, options)?;
    let outcome = until_the_end(options, stage, clock, &mut teller, &acts).await;
    acts.traffic().failures().iter().for_each(|why| tell::complain(why));
    teller.line("traffic", &acts.traffic().each());
    tell::say("stopping: everything that was in flight is durable");
    outcome
}

async fn until_the_end(
    options: &Options,
    stage: &Stage,
    clock: &DemoClock,
    teller: &mut Teller,
    acts: &Acts,
) -> Result<(), String> {
    let began = tokio::time::Instant::from_std(tell::instant());
    let mut broken = false;
    let mut opened = None;
    let mut interrupted = core::pin::pin!(tokio::signal::ctrl_c());
    let mut acts = core::pin::pin!(acts.perform());
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            _ = &mut interrupted => return Ok(()),
            () = &mut acts => return Ok(()),
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
                    return Ok(());
                }
            }
        }
    }
}
