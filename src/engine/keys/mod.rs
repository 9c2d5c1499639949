//! Keys that are no certificate's: looks at them, keeps their states, and has them rotated by their hooks.
//!
//! A controller of its own beside the cycle, with its own loop; it shares with that nothing but the state and its audit log.
//! Refuses to know any value: the probe tells prints.
//!
//! The crash order of one step of a rotation, the same in a normal run and after a restart:
//! 1. one commit: the intent, and the rotation with it;
//! 2. the hook, which is told the rotation's id and does nothing twice;
//! 3. for `finish`: the new key is seen where the key lies, and the live system uses it;
//! 4. one commit: the outcome, the labels as they are from then on, and the next step.

mod change;
mod look;
mod status;
mod turn;
mod uses;

use core::fmt;
use core::future::Future;
use core::pin::pin;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as Short, PoisonError};

use futures_util::future::{join, select};
use futures_util::lock::Mutex;

use crate::domain::audit::{Draft, Target, TargetKind};
use crate::domain::id::KeyId;
use crate::domain::json::Json;
use crate::domain::state::Change;
use crate::domain::time::{Boottime, Timestamp};
use crate::domain::tracked::{KeyPlace, Print, TrackedKey};
use crate::domain::upkeep::{KeyRecord, NotMoved};
use crate::engine::{Engine, Seal};
use crate::ports::{Batch, KeyProbe, Prints, StoreError};

pub use self::change::{Changed, Which, WishedChange};
pub use self::status::{KeyView, Outlook};
pub use self::turn::Planned;

/// How often it is seen what is due: a suspected time or a hard limit is met within this and one evaluation.
const EVERY: Duration = Duration::from_secs(1);
/// A reason has at most so many characters: a sentence or two, and where to read more.
pub const LONGEST_REASON: usize = 500;

/// The tracked keys of a guardian. Cheap to share; [`Tracker::run`] is called once.
pub struct Tracker {
    engine: Arc<Engine>,
    probe: Arc<dyn KeyProbe>,
    /// Records are read and written by one at a time. Never held while a hook works.
    book: Mutex<()>,
    /// When each key was looked at last.
    looked: Short<BTreeMap<KeyId, Boottime>>,
    /// What was told to whom, and when.
    told: Short<BTreeMap<(String, &'static str), Timestamp>>,
    /// Records that hold and could not be written yet, with the entry about each.
    unsaved: Short<BTreeMap<KeyId, Draft>>,
    /// Keys of which the outcome of a step could not be written: how often in a row, and when last. The step is done again
    /// later, not at once.
    unwritten: Short<BTreeMap<KeyId, (u32, Boottime)>>,
    /// When uses of keys were compared last.
    compared: Short<Option<Boottime>>,
}

impl fmt::Debug for Tracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tracker")
    }
}

/// Why nothing was done to a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// There is no such key in the configuration.
    #[error("no key {0} is configured")]
    Unknown(KeyId),
    /// Nobody has seen it yet.
    #[error("nothing is known of key {0} yet: {1}")]
    Unseen(KeyId, String),
    /// There is no such version.
    #[error("key {0} has no such version")]
    NoVersion(KeyId),
    /// There is no such transition.
    #[error(transparent)]
    NotMoved(#[from] NotMoved),
    /// No reason, or more than one that anybody reads.
    #[error("a reason of 1 to {LONGEST_REASON} characters on one line was expected")]
    Reason,
    /// It cannot be rotated, or not by these means.
    #[error("key {0} is not rotated: {1}")]
    NotRotated(KeyId, String),
    /// The clock is not believed, so no age can be.
    #[error("nothing is changed while the clock is not believed: {0}")]
    Clock(String),
    /// The guardian runs sealed.
    #[error("the guardian is sealed and changes nothing: {0}")]
    Sealed(Seal),
    /// It cannot be recorded, so it is not done.
    #[error("nothing was done, because it could not be recorded: {0}")]
    Store(#[from] StoreError),
    /// It holds already, and is written as soon as it can be.
    #[error("it holds from now on, and could not be recorded yet: {0}")]
    Unrecorded(StoreError),
}

impl Denied {
    /// Its stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "KW4920",
            Self::Unseen(..) | Self::NoVersion(_) => "KW4921",
            Self::NotMoved(_) => "KW4922",
            Self::Reason => "KW4923",
            Self::NotRotated(..) => "KW4924",
            Self::Clock(_) => "KW4925",
            Self::Sealed(seal) => seal.code,
            Self::Store(_) => "KW4926",
            Self::Unrecorded(_) => "KW4927",
        }
    }
}

impl Tracker {
    /// Over the state of `engine`.
    #[must_use]
    pub fn new(engine: Arc<Engine>, probe: Arc<dyn KeyProbe>) -> Self {
        Self {
            engine,
            probe,
            book: Mutex::new(()),
            looked: Short::default(),
            told: Short::default(),
            unsaved: Short::default(),
            unwritten: Short::default(),
            compared: Short::default(),
        }
    }

    /// Runs until `stop` is ready. What is in flight is dropped then: every step of it is durable.
    pub async fn run(&self, stop: impl Future<Output = ()> + Send) {
        let both = join(self.watch(), self.turn());
        let (stop, both) = (pin!(stop), pin!(both));
        select(stop, both).await;
    }

    async fn watch(&self) {
        loop {
            // Only once the engine has told what became of what was cut off.
            if self.engine.read().last_cycle.is_some() {
                self.round().await;
            }
            self.engine.ports.clock.sleep(EVERY).await;
        }
    }

    fn now(&self) -> Timestamp {
        self.engine.ports.clock.now()
    }

    fn key(&self, id: &KeyId) -> Result<Arc<TrackedKey>, Denied> {
        self.engine.read().estate.keys.get(id).cloned().ok_or_else(|| Denied::Unknown(id.clone()))
    }

    fn record(&self, id: &KeyId) -> KeyRecord {
        let desk = self.engine.read();
        desk.state.keys.get(id).map(|record| KeyRecord::clone(record)).unwrap_or_default()
    }

    /// Whether prints of secrets were made before: then their local key must be there.
    fn prints(&self) -> Prints {
        let desk = self.engine.read();
        let mut all = desk.state.keys.values().flat_map(|record| record.versions());
        match all.any(|(_, version)| matches!(version.print, Some(Print::Mac(_)))) {
            true => Prints::Made,
            false => Prints::None,
        }
    }

    fn believe_clock(&self) -> Result<(), Denied> {
        if let Some(why) = self.engine.read().clock.fault() {
            return Err(Denied::Clock(why.to_owned()));
        }
        match self.engine.distrusts_clock() {
            true => Err(Denied::Clock("it stepped a moment ago".to_owned())),
            false => Ok(()),
        }
    }

    /// An entry about a key as it is now known.
    fn draft(&self, action: &'static str, code: &'static str, key: &TrackedKey, record: &KeyRecord) -> Draft {
        let mut draft = self.engine.draft(action, code, Target::new(TargetKind::Key, &key.id));
        draft.facts = vec![("class", Json::str(key.class.as_str()))];
        if let Some(current) = &record.current {
            draft.target.spki = current.print.and_then(Print::spki);
            draft.facts.push(("created", Json::show(&current.created)));
            draft.facts.push(("print", Json::opt(current.print.as_ref().map(Json::show))));
            draft.facts.push(("state", Json::str(current.state.as_str())));
            draft.facts.push(("version", Json::show(&current.number)));
        }
        draft
    }

    /// Makes a record durable with an entry about it, and then has the gates know it.
    async fn keep(&self, key: &KeyId, record: KeyRecord, draft: Draft) -> Result<(), StoreError> {
        let changes = vec![Change::Key(key.clone(), Arc::new(record))];
        self.engine.commit(Batch { changes, entries: vec![draft] }).await?;
        self.engine.evaluate(None).await;
        Ok(())
    }

    fn is_manual(key: &TrackedKey) -> bool {
        key.place == KeyPlace::Manual
    }
}

fn locked<T>(what: &Short<T>) -> std::sync::MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
