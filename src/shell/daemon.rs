//! `keyward run`: the daemon's life from its configuration to its end.
//!
//! ```text
//! configuration ─► wiring ─► engine ─► listeners ─► ready ─► (reload | beat | watch)* ─► drain ─► end
//! ```
//! Nothing is bound and nothing is looked at before the configuration is whole. A reload is all or nothing.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, TryLockError};

use core::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::domain::inventory::Estate;
use crate::domain::key::Digest;
use crate::engine::authority::Authority;
use crate::engine::{Command, EVALUATE_EVERY, EVALUATION_DEADLINE, Engine, Refusal, Seal, SealedStore};
use crate::ports::{Clock, Ports};
use crate::shell::acme_server::Directories;
use crate::shell::config::{self, ConfigError, Overrides, Settings};
use crate::shell::http::{NotReloaded, Web, bind, serve};
use crate::shell::keyhold;
use crate::shell::leases;
use crate::shell::link::Links;
use crate::shell::relying::Parties;
use crate::shell::wire::{self, FileWatch, Wired};
use crate::shell::witness;
use crate::shell::workload::{self, Workloads};

/// What `keyward run` was told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// Run as a dry run whatever the file says.
    pub staging: bool,
}

impl Options {
    fn overrides(&self) -> Overrides {
        Overrides { staging: self.staging, state_dir: None }
    }
}

/// Worker threads: a sidecar has two cores at most, and each thread costs memory.
const WORKERS: usize = 2;
/// Threads for files and keys; what needs more waits.
const BLOCKING_THREADS: usize = 16;
/// After a stop the listeners may take this long to end what they are answering.
const DRAIN: Duration = Duration::from_secs(5);

/// Runs the daemon until it is told to stop; the exit code is 64 for a bad configuration and 1 for any other failure.
#[must_use]
pub fn run(options: &Options) -> ExitCode {
    // Colours are for people; a log file or the journal gets none.
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(colours).with_target(false).init();
    let settings = match config::load(&options.config, options.overrides()) {
        Ok(settings) => settings,
        Err(error) => {
            say(&error.to_string());
            return ExitCode::from(64);
        }
    };
    match runtime().map_err(|e| e.to_string()).and_then(|rt| rt.block_on(live(options, settings))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!(
                "keyward stops: {error}\nhint: `keyward check -c {}` looks for the cause",
                options.config.display()
            ));
            ExitCode::FAILURE
        }
    }
}

/// The runtime of daemon and demo.
///
/// # Errors
/// If threads cannot be started.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(Duration::from_secs(5))
        .enable_all()
        .build()
}

#[allow(clippy::print_stderr, reason = "the last words of a process that has no log any more")]
pub(super) fn say(text: &str) {
    eprintln!("{text}");
}

/// The guardian with its doors open.
#[derive(Debug)]
pub struct Running {
    /// The engine.
    pub engine: Arc<Engine>,
    /// Everything put together.
    pub wired: Arc<Wired>,
    /// What a reload changes.
    pub parts: Parts,
    /// The private CAs, if there are any.
    pub authority: Option<Arc<Authority>>,
    stop: watch::Sender<bool>,
    tasks: Vec<tokio::task::JoinHandle<Result<(), String>>>,
}

impl Running {
    /// Tells everything to end and waits for it, within bounds.
    ///
    /// # Errors
    /// The first failure of engine or listeners.
    pub async fn stop(mut self) -> Result<(), String> {
        self.stop.send_replace(true);
        self.joined().await
    }

    /// Waits until a part ends by itself: always a failure unless everything was told to stop.
    async fn joined(&mut self) -> Result<(), String> {
        let mut outcome = Ok(());
        for task in self.tasks.drain(..) {
            let ended = tokio::time::timeout(DRAIN, task).await;
            let ended = ended.unwrap_or(Ok(Ok(()))).unwrap_or_else(|e| Err(format!("a part of the daemon broke: {e}")));
            outcome = outcome.and(ended);
        }
        outcome
    }

    fn ended(&self) -> bool {
        self.tasks.iter().any(tokio::task::JoinHandle::is_finished)
    }
}

/// What a reload through the API does: what was adopted, or why nothing was.
pub type Reload = Arc<dyn Fn(&Parts) -> Result<String, NotReloaded> + Send + Sync>;

/// What a reload changes.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The engine.
    pub engine: Arc<Engine>,
    /// The enforcing proxies.
    pub links: Arc<Links>,
    /// The ACME directories.
    pub directories: Arc<Directories>,
    /// Whoever gives SPIFFE IDs to programs, if anybody does.
    pub workloads: Option<Workloads>,
    /// Who relies on private CAs.
    pub parties: Arc<Parties>,
}

/// Starts engine and listeners for these settings; `reload` is what the API's reload does.
///
/// # Errors
/// One sentence: what cannot be opened, bound or read, and how to mend it.
pub async fn start(settings: &Settings, clock: Arc<dyn Clock>, reload: Reload) -> Result<Running, String> {
    let wired = Arc::new(wire::wire_or_seal(settings, clock).map_err(|e| e.to_string())?);
    let engine = Arc::new(begin(settings, &wired).await?);
    let pki = wire::pki_of(&settings.state_dir);
    let parties = Arc::new(Parties::new(&settings.parties, &settings.links, pki));
    // A sealed guardian issues nothing.
    let authority = match engine.seal() {
        None => wired.authority(settings, &engine, parties.clone()).map_err(|e| e.to_string())?,
        Some(_) => None,
    };
    let keys = engine.seal().is_none().then(|| wired.tracker(settings, &engine));
    let listeners = bind(&settings.listen).await.map_err(|e| e.to_string())?;
    let doors = wire::link::doors(&wired.ports, &engine, authority.as_ref(), &wired.meter.registry())
        .map_err(|e| e.to_string())?;
    let links = Arc::new(Links::new(doors));
    parties.serve(&links);
    let prepared = links.prepare(&settings.links).await?;
    let directories = Arc::new(match &authority {
        Some(authority) => {
            let ports = &wired.ports;
            Directories::start(&settings.directories, authority, &ports.clock, &ports.entropy).await?
        }
        None => Directories::none(),
    });
    let workloads = match &settings.workload_api {
        Some(api) => {
            let (ports, registry) = (&wired.ports, wired.meter.registry());
            let bound = workload::bind(api)?;
            let own = Workloads::new(api, &settings.workloads, ports, &engine, authority.clone(), &registry)?;
            Some((own, bound))
        }
        None => None,
    };
    let own = workloads.as_ref().map(|(own, _)| own.clone());
    let parts = Parts {
        engine: engine.clone(),
        links: links.clone(),
        directories: directories.clone(),
        workloads: own,
        parties,
    };
    let (notices, reloading) = (wired.clone(), parts.clone());
    let (showing_links, showing) = (links.clone(), parts.workloads.clone());
    let web = Arc::new(Web {
        engine: engine.clone(),
        store: engine.store(),
        witnesses: wired.ports.witnesses.clone(),
        authority: authority.clone(),
        keys: keys.clone(),
        directories: directories.clone(),
        clock: wired.ports.clock.clone(),
        meter: wired.ports.meter.clone(),
        solver: wired.ports.solver.clone(),
        registry: wired.meter.registry(),
        notices: Arc::new(move || notices.notices().into_iter().map(|(_, notice)| notice).collect()),
        links: Arc::new(move || showing_links.statuses()),
        workloads: Arc::new(move || showing.as_ref().map(Workloads::standings).unwrap_or_default()),
        reload: Arc::new(move || reload(&reloading)),
        environment: settings.estate.environment,
        compat_x509: false,
        hosts: Vec::new(),
    });
    let (stop, stopped) = watch::channel(false);
    let until = |mut stopped: watch::Receiver<bool>| async move {
        // An error means that the sender is gone, which is a stop too.
        drop(stopped.wait_for(|stop| *stop).await);
    };
    let mut tasks = Vec::new();
    // A sealed guardian has no loop: it tries nothing by itself.
    if engine.seal().is_none() {
        let working = engine.clone();
        let end = until(stopped.clone());
        tasks.push(tokio::spawn(async move { working.run(end).await.map_err(|e| e.to_string()) }));
    }
    if let Some(authority) = authority.clone() {
        if let Some(holder) = settings.keyholder.as_ref().filter(|holder| holder.start) {
            let keys = wire::log_keys(&settings.state_dir).map_err(|e| e.to_string())?;
            let (clock, entropy) = (wired.ports.clock.clone(), wired.ports.entropy.clone());
            let starting = keyhold::Start::new(holder, &settings.state_dir, &keys, clock, &*entropy)?;
            let end = until(stopped.clone());
            tasks.push(tokio::spawn(async move {
                starting.keep(end).await;
                Ok(())
            }));
        }
        let end = until(stopped.clone());
        tasks.push(tokio::spawn(async move {
            authority.run(end).await;
            Ok(())
        }));
    }
    if let Some(keys) = keys {
        let end = until(stopped.clone());
        tasks.push(tokio::spawn(async move {
            keys.run(end).await;
            Ok(())
        }));
    }
    // Nor is one who may have been rolled back a witness of others.
    if let Some(witness) = settings.witness.as_ref().filter(|_| engine.seal().is_none()) {
        let end = until(stopped.clone());
        let witnessing = witness::start(witness, &settings.state_dir, &wired.ports, end).await?;
        tasks.push(tokio::spawn(async move {
            witnessing.await;
            Ok(())
        }));
    }
    let (showing, end) = (wired.clone(), until(stopped.clone()));
    tasks.push(tokio::spawn(async move {
        tokio::select! {
            () = end => {}
            () = async { showing.show_to_witnesses().await; core::future::pending().await } => {}
        }
        Ok(())
    }));
    links.adopt(prepared).await;
    let (ending, end) = (links.clone(), until(stopped.clone()));
    tasks.push(tokio::spawn(async move {
        end.await;
        ending.stop().await;
        Ok(())
    }));
    let (ending, end) = (directories.clone(), until(stopped.clone()));
    tasks.push(tokio::spawn(async move {
        end.await;
        ending.stop().await;
        Ok(())
    }));
    if let Some((workloads, bound)) = workloads {
        let end = until(stopped.clone());
        tasks.push(tokio::spawn(async move {
            workloads.run(bound, end).await;
            Ok(())
        }));
    }
    let (leasing, doors, end) = (engine.clone(), wired.ports.clone(), until(stopped.clone()));
    tasks.push(tokio::spawn(async move {
        leases::keep(&leasing, &doors, end).await;
        Ok(())
    }));
    let end = until(stopped);
    let web_task = tokio::spawn(async move {
        serve(web, listeners, end).await;
        Ok(())
    });
    tasks.push(web_task);
    Ok(Running { engine, wired, parts, authority, stop, tasks })
}

/// The engine; sealed where the state is there and is not to be believed.
async fn begin(settings: &Settings, wired: &Wired) -> Result<Engine, String> {
    let estate = Arc::new(settings.estate.clone());
    let (ports, seal) = match &wired.seal {
        Some(seal) => (wired.ports.clone(), seal.clone()),
        None => match Engine::start(wired.ports.clone(), estate.clone()).await {
            Ok(engine) => return Ok(engine),
            Err(error) => {
                let Some(seal) = Seal::of(&error) else { return Err(error.to_string()) };
                (Ports { store: Arc::new(SealedStore(error)), ..wired.ports.clone() }, seal)
            }
        },
    };
    tracing::error!(code = seal.code, why = seal.text, "sealed: every gate is closed, nothing is issued or installed");
    Ok(Engine::sealed(ports, estate, seal))
}

async fn live(options: &Options, settings: Settings) -> Result<(), String> {
    let reload = reloading(options, &settings);
    let mut running = start(&settings, wire::clock(), reload.clone()).await?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| e.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| e.to_string())?;
    let mut hangup = signal(SignalKind::hangup()).map_err(|e| e.to_string())?;
    let looked = running.engine.clone();
    let mut files = FileWatch::new(move |id| ask(&looked, Command::Look(id)));
    let mut followed = follow(&mut files, &running.engine);
    tracing::info!(
        environment = settings.estate.environment.as_str(),
        http = %settings.listen.http,
        admin = %settings.listen.admin_socket.display(),
        credentials = settings.estate.credentials.len(),
        "ready"
    );
    let state = running.engine.seal().map_or_else(|| "guarding".to_owned(), |seal| format!("sealed: {}", seal.code));
    tell_systemd(&[NotifyState::Ready, NotifyState::Status(&state)]);
    let mut beat = tokio::time::interval(EVALUATE_EVERY);
    let mut configuration = Configuration::default();
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                let (reload, parts) = (reload.clone(), running.parts.clone());
                // It reads files and waits for the engine, and the beat must go on meanwhile.
                drop(tokio::task::spawn_blocking(move || match reload(&parts) {
                    Ok(text) => tracing::info!("{text}"),
                    Err(text) => tracing::error!("the old configuration stays in force: {text}"),
                }));
            }
            _ = beat.tick() => {
                if running.ended() {
                    break;
                }
                beat_once(&running.engine, &*running.wired.ports.clock);
                running.engine.set_configuration_fault(configuration.look(&options.config));
                // Only now the engine has taken in what was reloaded, through a signal or the API.
                if !Arc::ptr_eq(&followed, &running.engine.estate()) {
                    followed = follow(&mut files, &running.engine);
                }
            }
        }
    }
    tell_systemd(&[NotifyState::Stopping]);
    tracing::info!("stopping");
    running.stop.send_replace(true);
    running.joined().await
}

/// Whether the configuration is still there. One look that fails may meet an editor that replaces the file; three in
/// a row say that nobody knows any more what is to be guarded.
#[derive(Default)]
struct Configuration {
    misses: u32,
}

impl Configuration {
    fn look(&mut self, path: &Path) -> Option<String> {
        let mut byte = [0; 1];
        let read = std::fs::File::open(path).and_then(|mut file| std::io::Read::read(&mut file, &mut byte));
        match read {
            Ok(read) if read > 0 => self.misses = 0,
            Ok(_) | Err(_) => self.misses = self.misses.saturating_add(1),
        }
        (self.misses >= 3).then(|| match read {
            Ok(_) => format!("the configuration {} is empty", path.display()),
            Err(error) => format!("the configuration {} cannot be read: {error}", path.display()),
        })
    }
}

/// Makes the loop turn, and pings systemd's watchdog only if it did: the evaluator's own liveness, not this task's.
fn beat_once(engine: &Engine, clock: &dyn Clock) {
    if engine.seal().is_some() {
        // A restart would mend nothing, and the gates must be answered.
        tell_systemd(&[NotifyState::Watchdog]);
        return;
    }
    let last = engine.overview().last_cycle;
    if last.is_some_and(|last| clock.boottime().since(last) < EVALUATION_DEADLINE) {
        tell_systemd(&[NotifyState::Watchdog]);
    }
    ask(engine, Command::Beat);
}

/// What does not fit into the queue now is asked again: looks by the next poll, beats by the next beat.
fn ask(engine: &Engine, command: Command) {
    if engine.seal().is_some() {
        return;
    }
    if let Err(busy) = engine.command(command) {
        tracing::debug!(%busy, "a command was not taken");
    }
}

/// Watches what the estate names now, and gives it back.
fn follow(files: &mut Result<FileWatch, crate::ports::HostError>, engine: &Engine) -> Arc<Estate> {
    let estate = engine.estate();
    match files {
        Ok(files) => {
            let missed = files.follow(&estate);
            if missed > 0 {
                tracing::info!(directories = missed, "not there or too many to watch: polled only");
            }
        }
        Err(error) => tracing::warn!(%error, "files are polled only"),
    }
    estate
}

/// Without systemd there is nobody to tell.
pub(super) fn tell_systemd(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not told");
    }
}

/// What a reload does for whoever started with these settings.
pub(super) fn reloading(options: &Options, started: &Settings) -> Reload {
    let in_force = Mutex::new(Some(started.digest));
    let (options, started) = (options.clone(), started.clone());
    Arc::new(move |parts: &Parts| reload(&options, &started, &in_force, parts))
}

/// Reads the file again and lets the engine adopt it, all or nothing. What was opened at the start cannot change under
/// way. `in_force` is what the engine said that it adopted; `None` while that is not known. Blocks, on a thread of the
/// runtime that may.
fn reload(
    options: &Options,
    started: &Settings,
    in_force: &Mutex<Option<Digest>>,
    Parts { engine, links, directories, workloads, parties }: &Parts,
) -> Result<String, NotReloaded> {
    if let Some(seal) = engine.seal() {
        return Err(Refusal::Sealed(seal).into());
    }
    // Two at once would only wait for each other in threads that files need.
    let mut in_force = match in_force.try_lock() {
        Ok(in_force) => in_force,
        Err(TryLockError::Poisoned(broken)) => broken.into_inner(),
        Err(TryLockError::WouldBlock) => {
            return Err("another reload is under way; try again in a moment".to_owned().into());
        }
    };
    // Read in turn as well: what was read before another reload must not be adopted after it.
    let new = config::load(&options.config, options.overrides()).map_err(|e: ConfigError| e.to_string())?;
    if *in_force == Some(new.digest) {
        return Ok("the configuration did not change".into());
    }
    let fixed: Vec<&str> = [
        ("state_dir", new.state_dir != started.state_dir),
        ("environment", new.estate.environment != started.estate.environment),
        ("listen", new.listen != started.listen),
        ("audit", new.audit != started.audit),
        ("issuer", new.issuers != started.issuers || new.private_issuers != started.private_issuers),
        ("ca", new.cas != started.cas || new.rotations != started.rotations),
        ("relying_party", new.parties != started.parties),
        ("keyholder", new.keyholder != started.keyholder),
        ("workload_api", new.workload_api != started.workload_api),
        ("solver", new.solvers != started.solvers),
        ("witness", new.witness != started.witness),
        ("allow` of `crl", new.lists_allow != started.lists_allow),
        ("audit.witness", new.audit_witness != started.audit_witness),
        ("listen` or `side` of a `link", links.must_restart(&new.links)),
        ("acme_directory", directories.must_restart(&new.directories)),
    ]
    .into_iter()
    .filter_map(|(name, changed)| changed.then_some(name))
    .collect();
    if !fixed.is_empty() {
        return Err(format!(
            "`{}` changed, which takes a restart; nothing was adopted. Restart the daemon: what is in flight goes on",
            fixed.join("`, `")
        )
        .into());
    }
    let count = new.estate.credentials.len();
    let runtime = tokio::runtime::Handle::current();
    let prepared = runtime.block_on(links.prepare(&new.links))?;
    let rules = directories.prepare(&new.directories)?;
    let asked = runtime.block_on(engine.ask(Command::Estate(Arc::new(new.estate))));
    match asked {
        Ok(()) => {
            *in_force = Some(new.digest);
            parties.adopt(&new.links);
            runtime.block_on(links.adopt(prepared));
            directories.adopt(rules);
            if let Some(workloads) = workloads {
                workloads.adopt(&new.workloads);
            }
        }
        Err(refusal) => {
            // Without an answer nobody knows which one is in force: the same file is news then.
            in_force.take_if(|_| refusal == Refusal::Silent);
            return Err(refusal.into());
        }
    }
    Ok(format!("the configuration was adopted: {count} credentials"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::inventory::{Care, Source};
    use crate::domain::time::Timestamp;
    use crate::ports::Ports;
    use crate::sim::world::World;

    /// A configuration of one watched file.
    fn write(dir: &std::path::Path, watched: &str) -> Options {
        let state = dir.join("state").display().to_string();
        let text = format!("state_dir = \"{state}\"\n[[observe]]\nid = \"peer\"\nfile = \"{watched}\"\n");
        std::fs::write(dir.join("keyward.toml"), text).unwrap();
        Options { config: dir.join("keyward.toml"), staging: false }
    }

    fn watches(engine: &Engine, file: &str) -> bool {
        let is = |source: &Source| matches!(source, Source::File { path, .. } if path == file);
        engine.estate().credentials.values().any(|c| matches!(&c.care, Care::Observed(source) if is(source)))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_reload_that_cannot_be_recorded_is_refused_and_stays_news() {
        let dir = tempfile::tempdir().unwrap();
        let options = write(dir.path(), "/one.pem");
        let started = config::load(&options.config, options.overrides()).unwrap();
        let world = World::new(1, Timestamp::from_unix(1_800_000_000), started.estate.clone());
        let ports = Ports { clock: wire::clock(), ..world.ports() };
        let engine = Arc::new(Engine::start(ports, Arc::new(started.estate.clone())).await.unwrap());
        let doors = wire::link::doors(&world.ports(), &engine, None, &prometheus::Registry::new()).unwrap();
        let links = Arc::new(Links::new(doors));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = engine.clone();
        let run = tokio::spawn(async move { running.run(async { drop(stopped.await) }).await });
        let in_force = Arc::new(Mutex::new(Some(started.digest)));
        let again = || {
            let (options, started, in_force) = (options.clone(), started.clone(), in_force.clone());
            let directories = Arc::new(Directories::none());
            let parties = Arc::new(Parties::new(&[], &[], wire::pki_of(Path::new("/nowhere"))));
            let parts = Parts { engine: engine.clone(), links: links.clone(), directories, workloads: None, parties };
            tokio::task::spawn_blocking(move || reload(&options, &started, &in_force, &parts))
        };
        assert!(again().await.unwrap().unwrap().contains("did not change"));
        write(dir.path(), "/two.pem");
        world.store.fail_next(1);
        let refused = again().await.unwrap().unwrap_err();
        assert!(refused.to_string().contains("could not be recorded"), "{refused}");
        assert!(watches(&engine, "/one.pem"), "the old one is in force");
        assert!(again().await.unwrap().unwrap().contains("was adopted"), "the same file is news still");
        assert!(watches(&engine, "/two.pem"));
        assert!(again().await.unwrap().unwrap().contains("did not change"));
        drop(stop);
        run.await.unwrap().unwrap();
    }
}
