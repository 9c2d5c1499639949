//! The programs behind the links, and what they say to each other: requests over new connections and over one that is kept,
//! all of them counted.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use core::fmt;
use core::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, timeout};

use crate::domain::id::PathId;
use crate::engine::Engine;

use super::mesh::Hop;

/// Each of the two kinds of connection has a request this often: sixteen a second over both links.
const EVERY: Duration = Duration::from_millis(250);
/// A request that is not answered by then has failed.
const PATIENCE: Duration = Duration::from_secs(5);
/// A connection is kept for so many requests, twenty seconds: a link cuts it when the certificate behind it ends, and that
/// may be thirty seconds away.
const KEPT_FOR: u32 = 80;
/// A line, with its end.
const LONGEST_LINE: u64 = 128;
/// Connections that a program answers at a time.
const CONNECTIONS: usize = 64;

/// A program that answers every line with its own word before it.
pub(super) struct Service {
    task: JoinHandle<()>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Service {
    /// Begins to answer there.
    pub(super) fn open(at: &Path, word: &'static str) -> Result<Self, String> {
        let listener = UnixListener::bind(at).map_err(|e| format!("{}: {e}", at.display()))?;
        Ok(Self { task: tokio::spawn(serve(listener, word)) })
    }
}

async fn serve(listener: UnixListener, word: &'static str) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    while let Ok(slot) = slots.clone().acquire_owned().await {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else { continue };
        connections.spawn(async move {
            let mut lines = Lines::new(stream);
            // One that goes away or says nothing for long is no event.
            while let Ok(Ok(line)) = timeout(PATIENCE * 4, lines.read()).await {
                if lines.say(&format!("{word} {line}")).await.is_err() {
                    break;
                }
            }
            drop(slot);
        });
    }
}

/// A connection that carries lines.
struct Lines(BufReader<UnixStream>);

impl Lines {
    fn new(stream: UnixStream) -> Self {
        Self(BufReader::new(stream))
    }

    async fn say(&mut self, line: &str) -> std::io::Result<()> {
        self.0.write_all(format!("{line}\n").as_bytes()).await
    }

    async fn read(&mut self) -> Result<String, String> {
        let mut line = String::new();
        (&mut self.0).take(LONGEST_LINE).read_line(&mut line).await.map_err(|e| e.to_string())?;
        line.strip_suffix('\n').map(str::to_owned).ok_or_else(|| "the connection ended".to_owned())
    }

    /// One request with its answer.
    async fn ask(&mut self, line: &str) -> Result<(), String> {
        self.say(line).await.map_err(|e| e.to_string())?;
        let answer = self.read().await?;
        if answer.ends_with(line) { Ok(()) } else { Err(format!("{line:?} was answered with {answer:?}")) }
    }
}

/// What became of the requests over one link.
#[derive(Debug, Default)]
struct Tally {
    sent: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    /// While the gate was closed, which is what a link is for.
    turned_away: AtomicU64,
    /// What the first failure was.
    first: OnceLock<String>,
}

/// The numbers at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    answered: u64,
    failed: u64,
    turned_away: u64,
}

impl Count {
    fn and(self, other: Self) -> Self {
        Self {
            answered: self.answered.saturating_add(other.answered),
            failed: self.failed.saturating_add(other.failed),
            turned_away: self.turned_away.saturating_add(other.turned_away),
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests answered, {} failed", self.answered, self.failed)?;
        if self.turned_away > 0 {
            write!(f, ", {} turned away while the gate was closed", self.turned_away)?;
        }
        Ok(())
    }
}

/// The traffic over both links.
pub(super) struct Traffic {
    flows: Vec<(Hop, Arc<Tally>)>,
}

/// Traffic that flows until this is dropped.
pub(super) struct Flowing(Vec<JoinHandle<()>>);

impl Drop for Flowing {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Traffic {
    /// None yet.
    pub(super) fn new(hops: &[Hop]) -> Self {
        Self { flows: hops.iter().map(|hop| (hop.clone(), Arc::default())).collect() }
    }

    /// Begins.
    pub(super) fn flow(&self, engine: &Arc<Engine>, path: &PathId) -> Flowing {
        let mut tasks = Vec::new();
        for (hop, tally) in &self.flows {
            let flow =
                || Flow { near: hop.near.clone(), tally: tally.clone(), engine: engine.clone(), path: path.clone() };
            tasks.push(tokio::spawn(flow().over_new_ones()));
            tasks.push(tokio::spawn(flow().over_one_that_is_kept()));
        }
        Flowing(tasks)
    }

    /// Over both links.
    pub(super) fn count(&self) -> Count {
        self.flows.iter().fold(Count::default(), |sum, (_, tally)| sum.and(tally.count()))
    }

    /// Over each.
    pub(super) fn each(&self) -> String {
        let of = |(hop, tally): &(Hop, Arc<Tally>)| format!("{} {}", hop.name, tally.count());
        self.flows.iter().map(of).collect::<Vec<_>>().join("; ")
    }

    /// What the first failure of each link was, if there was any.
    pub(super) fn failures(&self) -> Vec<String> {
        let first = |(hop, tally): &(Hop, Arc<Tally>)| Some(format!("the link {}: {}", hop.name, tally.first.get()?));
        self.flows.iter().filter_map(first).collect()
    }
}

impl Tally {
    fn count(&self) -> Count {
        let of = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Count { answered: of(&self.answered), failed: of(&self.failed), turned_away: of(&self.turned_away) }
    }
}

/// One program's requests to another.
struct Flow {
    near: PathBuf,
    tally: Arc<Tally>,
    engine: Arc<Engine>,
    path: PathId,
}

impl Flow {
    async fn over_new_ones(self) {
        let mut turn = turns();
        loop {
            turn.tick().await;
            self.request(&mut None).await;
        }
    }

    async fn over_one_that_is_kept(self) {
        let mut turn = turns();
        loop {
            let mut kept = None;
            for _ in 0..KEPT_FOR {
                turn.tick().await;
                self.request(&mut kept).await;
            }
        }
    }

    /// One request; over `kept` if that is there, which it is afterwards unless the request failed.
    async fn request(&self, kept: &mut Option<Lines>) {
        let number = self.tally.sent.fetch_add(1, Ordering::Relaxed);
        let open = self.is_open();
        let asked = async {
            let mut lines = match kept.take() {
                Some(lines) => lines,
                None => Lines::new(UnixStream::connect(&self.near).await.map_err(|e| e.to_string())?),
            };
            lines.ask(&format!("request {number}")).await.map(|()| lines)
        };
        let asked = timeout(PATIENCE, asked).await;
        let counter = match asked.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs()))) {
            Ok(lines) => {
                *kept = Some(lines);
                &self.tally.answered
            }
            Err(_) if !(open && self.is_open()) => &self.tally.turned_away,
            Err(why) => {
                self.tally.first.get_or_init(|| format!("request {number}: {why}"));
                &self.tally.failed
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn is_open(&self) -> bool {
        self.engine.gate(&self.path).is_open()
    }
}

/// Late ones are not made up for in a burst.
fn turns() -> tokio::time::Interval {
    let mut turns = tokio::time::interval(EVERY);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    turns
}
