//! Shows our own log to its witnesses, and keeps what they sign.
//!
//! ```text
//! commits ─► newest checkpoint ─► a round: every witness is shown that one ─► cosignatures checked ─► kept ─► quorum?
//!                 ▲                     │ does not answer: again later, ever more rarely
//!                 └── at most every few seconds, at once when somebody waits for the quorum
//! ```
//! Nothing here is in the way of a commit. All witnesses of a round are shown the same checkpoint, or no quorum of several
//! would ever come together while the log grows.

use core::fmt;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use url::Url;

use super::client::{Client, ClientConfig, Reply, endpoint};
use crate::codec::ParseError;
use crate::codec::add_checkpoint::Request;
use crate::codec::checkpoint::Checkpoint;
use crate::codec::note::{Note, Signature, VerifierKey};
use crate::codec::tlog_policy::Policy;
use crate::domain::key::Digest;
use crate::domain::time::{Boottime, Timestamp, human_span};
use crate::domain::tree::TreeHead;
use crate::domain::witness::{Standing, Witnessed, Word};
use crate::ports::{Clock, Doing, HostError, Notice, Notifier, OwnLog, StoreError, Urgency, Witnesses};

/// A witness that says where it stands is asked once more with the right proof; one that then says something else again
/// is left for the next round.
const TRIES: usize = 3;
/// After a failure a witness is left alone for this long, then twice as long, up to [`LONGEST_REST`].
const REST: Duration = Duration::from_secs(5);
/// See [`REST`].
const LONGEST_REST: Duration = Duration::from_secs(300);
/// Whoever waits for the quorum waits no longer: an action of tier 0 stands behind it.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How our log is witnessed.
#[derive(Clone, Debug)]
pub struct PublisherConfig {
    /// Witnesses with their URLs, and the quorum.
    pub policy: Policy,
    /// A round begins at most this often.
    pub every: Duration,
    /// People are told when a witness is behind for this long.
    pub lag: Duration,
    /// An action of this tier and above waits for the quorum; `None`: none does.
    pub demand_tier: Option<u8>,
    /// How witnesses are reached.
    pub client: ClientConfig,
}

/// Shows our log.
pub struct Publisher {
    policy: Policy,
    every: Duration,
    lag: Duration,
    demand: Option<u8>,
    peers: Vec<Peer>,
    client: Client,
    log: Arc<dyn OwnLog>,
    clock: Arc<dyn Clock>,
    notifier: Arc<dyn Notifier>,
    book: Mutex<Book>,
    hurry: Notify,
    /// The size that the quorum cosigned.
    reached: watch::Sender<u64>,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Publisher({} witnesses)", self.peers.len())
    }
}

struct Peer {
    name: String,
    key: VerifierKey,
    url: Url,
}

#[derive(Default)]
struct Book {
    peers: BTreeMap<String, State>,
    round: Option<Round>,
    quorum: Option<TreeHead>,
}

/// What is known of a witness.
#[derive(Clone, Default)]
struct State {
    size: u64,
    at: Option<Timestamp>,
    fault: Option<String>,
    failures: u32,
    not_before: Option<Boottime>,
    behind_since: Option<Boottime>,
    /// What people were told of it last.
    told: Option<&'static str>,
}

/// A checkpoint that is being shown.
#[derive(Clone)]
struct Round {
    head: TreeHead,
    /// With our own signatures.
    note: Note,
    /// Those of the witnesses so far.
    cosignatures: Vec<Signature>,
    /// Whether all of them are in the store.
    kept: bool,
}

impl Round {
    fn new(head: TreeHead, note: Note) -> Self {
        Self { head, note, cosignatures: Vec::new(), kept: true }
    }

    fn has(&self, key: &VerifierKey) -> bool {
        self.cosignatures.iter().any(|s| s.name == key.name() && s.key_id == key.id())
    }

    fn cosigned(&self) -> Note {
        let mut note = self.note.clone();
        note.signatures.extend(self.cosignatures.iter().cloned());
        note
    }
}

impl Publisher {
    /// Asks nobody yet.
    ///
    /// # Errors
    /// A sentence: a witness has no URL, or one that must not be used.
    pub fn new(
        config: PublisherConfig,
        log: Arc<dyn OwnLog>,
        clock: Arc<dyn Clock>,
        notifier: Arc<dyn Notifier>,
    ) -> Result<Self, String> {
        let PublisherConfig { policy, every, lag, demand_tier: demand, client } = config;
        let mut peers = Vec::with_capacity(policy.witnesses().len());
        for witness in policy.witnesses() {
            let name = witness.shown();
            let url = witness.url.as_deref().ok_or_else(|| {
                format!("witness {name} has no URL in the policy; append its submission prefix to its line")
            })?;
            peers.push(Peer { name, key: witness.key.clone(), url: endpoint(url)? });
        }
        let client = Client::new(&client)?;
        let (book, hurry, reached) = (Mutex::default(), Notify::new(), watch::Sender::new(0));
        Ok(Self { policy, every, lag, demand, peers, client, log, clock, notifier, book, hurry, reached })
    }

    /// Shows the log until the future is dropped.
    pub async fn run(&self) {
        loop {
            self.round().await;
            tokio::select! {
                () = self.clock.sleep(self.every) => {}
                () = self.hurry.notified() => {}
            }
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One round with the newest checkpoint, to everybody who has not cosigned it and is not resting.
    async fn round(&self) {
        let Ok(Some((note, checkpoint))) = self.newest().await else { return };
        let now = self.clock.boottime();
        let (round, due) = self.begin(note, checkpoint, now);
        let size = round.head.size;
        self.show_all(round, due).await;
        self.look_for_laggards(size);
    }

    async fn newest(&self) -> Result<Option<(Note, Checkpoint)>, StoreError> {
        let Some(text) = self.log.checkpoint().await? else { return Ok(None) };
        let read = |text: &str| {
            let mut note: Note = text.parse()?;
            let checkpoint = Checkpoint::of(&note)?;
            // What witnesses have signed already they sign again: their newest word is what is asked for.
            note.signatures.retain(|signature| signature.name == checkpoint.origin);
            Ok::<_, ParseError>((note, checkpoint))
        };
        read(&text).map(Some).map_err(|e| StoreError::Damaged(format!("our own checkpoint {e}")))
    }

    /// Goes on with the present round if the log did not grow, else begins another.
    fn begin(&self, note: Note, checkpoint: Checkpoint, now: Boottime) -> (Round, Vec<(&Peer, u64)>) {
        let mut book = self.book();
        let same =
            book.round.as_ref().is_some_and(|round| round.head == checkpoint.head && round.note.text == note.text);
        if !same {
            book.round = Some(Round::new(checkpoint.head, note.clone()));
        }
        let round = book.round.clone().unwrap_or_else(|| Round::new(checkpoint.head, note));
        let due = |peer: &&Peer| {
            let state = book.peers.get(&peer.name);
            let rests = state.and_then(|s| s.not_before).is_some_and(|until| now < until);
            !rests && !round.has(&peer.key)
        };
        let from = |peer: &Peer| book.peers.get(&peer.name).map_or(0, |s| s.size);
        let due = self.peers.iter().filter(due).map(|peer| (peer, from(peer))).collect();
        (round, due)
    }

    /// Shows one witness a checkpoint, beginning with what it is thought to have seen.
    async fn show<'a>(&'a self, peer: &'a Peer, from: u64, round: &Round) -> (&'a Peer, Word, Option<Signature>) {
        let size = round.head.size;
        let mut old = from.min(size);
        for _ in 0..TRIES {
            let proof = match self.proof(old, size).await {
                Ok(proof) => proof,
                Err(why) => return (peer, Word::Silent(why), None),
            };
            let request = Request { old, proof, note: round.note.clone() };
            let word = match self.client.submit(&peer.url, &request).await {
                Ok(Reply::Lines(lines)) => return self.believe(peer, round, lines),
                Ok(Reply::Recorded(recorded)) if recorded > size => Word::SawMore { size: recorded },
                // It agrees with us on the size and still objects: that is its word for another root.
                Ok(Reply::Recorded(recorded)) if recorded == old && old == size => Word::SawAnother { size },
                Ok(Reply::Recorded(recorded)) if recorded == old => {
                    Word::Silent(format!("it says that it saw {recorded}, as we do, and refuses all the same"))
                }
                Ok(Reply::Recorded(recorded)) => {
                    old = recorded;
                    continue;
                }
                // The proof is right by our own log: so it saw something else.
                Ok(Reply::NoProof(_)) => Word::SawAnother { size },
                Ok(Reply::Refused(why)) | Err(why) => Word::Silent(why),
            };
            return (peer, word, None);
        }
        (peer, Word::Silent(format!("it named another size each of {TRIES} times")), None)
    }

    async fn proof(&self, old: u64, new: u64) -> Result<Vec<Digest>, String> {
        if old == 0 || old == new {
            return Ok(Vec::new());
        }
        let found = self.log.consistency(old, new).await.map_err(|e| e.to_string())?;
        found.ok_or_else(|| format!("our log has no proof from size {old} to {new} any more"))
    }

    fn believe<'a>(&self, peer: &'a Peer, round: &Round, lines: Vec<Signature>) -> (&'a Peer, Word, Option<Signature>) {
        let own: Vec<Signature> =
            lines.into_iter().filter(|s| s.name == peer.key.name() && s.key_id == peer.key.id()).collect();
        let answer = Note { text: round.note.text.clone(), signatures: own };
        match peer.key.verify(&answer) {
            Ok(_) => (peer, Word::Agrees { size: round.head.size }, answer.signatures.into_iter().next()),
            Err(e) => (peer, Word::Silent(format!("its answer is not signed with the key of the policy: {e}")), None),
        }
    }

    /// Shows one checkpoint to all of these at once. Each word is taken in as it comes: a quorum does not wait for a witness
    /// that is away.
    async fn show_all(&self, mut round: Round, due: Vec<(&Peer, u64)>) -> Vec<(String, Word)> {
        let shown = round.clone();
        let mut asked: FuturesUnordered<_> =
            due.into_iter().map(|(peer, from)| self.show(peer, from, &shown)).collect();
        let mut words = Vec::with_capacity(asked.len());
        while let Some((peer, word, signature)) = asked.next().await {
            self.take(&mut round, peer, &word, signature);
            words.push((peer.name.clone(), word));
        }
        drop(asked);
        if !round.kept {
            // If that fails it is tried again with the next round; what was cosigned counts all the same.
            round.kept = self.log.keep(round.cosigned().to_string()).await.is_ok();
        }
        self.book().round = Some(round);
        words
    }

    /// Takes in what a witness said, and wakes whoever waits for the quorum.
    fn take(&self, round: &mut Round, peer: &Peer, word: &Word, signature: Option<Signature>) {
        let answer = Note { text: round.note.text.clone(), signatures: signature.iter().cloned().collect() };
        if let Some(signature) = signature {
            round.cosignatures.push(signature);
            round.kept = false;
        }
        self.note_word(peer, word, peer.key.verify(&answer).ok().and_then(|verified| verified.at));
        if self.policy.quorum(&round.cosigned()).is_err() {
            return;
        }
        let head = round.head;
        let mut book = self.book();
        if book.quorum.is_none_or(|q| q.size < head.size) {
            book.quorum = Some(head);
        }
        drop(book);
        self.reached.send_if_modified(|size| {
            let more = head.size > *size;
            *size = head.size.max(*size);
            more
        });
    }

    fn note_word(&self, peer: &Peer, word: &Word, at: Option<Timestamp>) {
        let now = self.clock.boottime();
        let mut book = self.book();
        let state = book.peers.entry(peer.name.clone()).or_default();
        let alarm = match word {
            Word::Agrees { size } => {
                let back = state.told.take().filter(|_| state.fault.is_some());
                *state = State { size: *size, at, ..State::default() };
                back.map(|_| ("KW6412", Urgency::Routine, format!("the witness {} cosigns again", peer.name)))
            }
            Word::Silent(why) => {
                state.fail(why.clone(), now);
                None
            }
            Word::SawMore { size } => {
                let text = format!("it has seen {size} entries of our log, which are more than there are");
                state.fail(text.clone(), now);
                Some((
                    "KW6401",
                    Urgency::Act,
                    format!("the log was rolled back, says the witness {}: {text}", peer.name),
                ))
            }
            Word::SawAnother { size } => {
                let text = format!("it has seen another log than ours at size {size}");
                state.fail(text.clone(), now);
                Some(("KW6402", Urgency::Act, format!("the log was forked, says the witness {}: {text}", peer.name)))
            }
        };
        let fresh = alarm.filter(|(code, ..)| state.told != Some(code));
        state.told = fresh.as_ref().filter(|(code, ..)| *code != "KW6412").map(|(code, ..)| *code).or(state.told);
        drop(book);
        fresh.into_iter().for_each(|(code, urgent, text)| self.tell(&peer.name, code, urgent, text));
    }

    fn look_for_laggards(&self, size: u64) {
        let now = self.clock.boottime();
        let mut late = Vec::new();
        let mut book = self.book();
        for peer in &self.peers {
            let state = book.peers.entry(peer.name.clone()).or_default();
            if state.size >= size {
                state.behind_since = None;
                continue;
            }
            let since = *state.behind_since.get_or_insert(now);
            if now.since(since) > self.lag && state.told.is_none() {
                state.told = Some("KW6411");
                let why = state.fault.clone().unwrap_or_else(|| "it was not asked in time".into());
                let text = format!(
                    "the witness {} has not cosigned the log for {}: {why}. What was written since then can be forged by \
                     whoever has this machine",
                    peer.name,
                    human_span(now.since(since)),
                );
                late.push((peer.name.clone(), text));
            }
        }
        drop(book);
        late.into_iter().for_each(|(name, text)| self.tell(&name, "KW6411", Urgency::Act, text));
    }

    fn tell(&self, about: &str, code: &'static str, urgent: Urgency, text: String) {
        self.notifier.notify(Notice { about: format!("witness/{about}"), owner: None, code, text, urgent });
    }

    async fn wait_for(&self, size: u64) -> Result<(), HostError> {
        let mut reached = self.reached.subscribe();
        // Whoever rests is asked again: somebody waits.
        self.book().peers.values_mut().for_each(|state| state.not_before = None);
        self.hurry.notify_one();
        let done = timeout(LONGEST_WAIT, reached.wait_for(|now| *now >= size)).await;
        if matches!(done, Ok(Ok(_))) {
            return Ok(());
        }
        let standing = self.standing();
        let stands = standing.witnesses.iter().map(|w| {
            let why = w.fault.as_deref().map_or_else(String::new, |f| format!(" ({f})"));
            format!("{} at {}{why}", w.name, w.size)
        });
        let stands = stands.collect::<Vec<_>>().join(", ");
        let text = format!(
            "the quorum of witnesses has not cosigned the log at size {size} within {}: {stands}",
            human_span(LONGEST_WAIT)
        );
        Err(HostError(text))
    }
}

impl State {
    fn fail(&mut self, why: String, now: Boottime) {
        let rest = REST.saturating_mul(1 << self.failures.min(6)).min(LONGEST_REST);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now.plus(rest));
        self.fault = Some(why);
    }
}

impl Witnesses for Publisher {
    fn ask(&self) -> Doing<'_, Vec<(String, Word)>> {
        Box::pin(async {
            let (note, checkpoint) = match self.newest().await {
                Ok(Some(newest)) => newest,
                // A log without entries has nothing that could have been rolled back: its key is new.
                Ok(None) => return Vec::new(),
                Err(e) => return self.peers.iter().map(|p| (p.name.clone(), Word::Silent(e.to_string()))).collect(),
            };
            let (round, due) = self.begin(note, checkpoint, self.clock.boottime());
            self.show_all(round, due).await
        })
    }

    fn settled(&self, tier: u8) -> Doing<'_, Result<(), HostError>> {
        Box::pin(async move {
            if self.policy.needs_no_witness() || self.demand.is_none_or(|demand| tier < demand) {
                return Ok(());
            }
            let newest = self.newest().await.map_err(|e| HostError(e.to_string()))?;
            match newest.map(|(_, checkpoint)| checkpoint.head.size) {
                Some(size) if *self.reached.borrow() < size => self.wait_for(size).await,
                Some(_) | None => Ok(()),
            }
        })
    }

    fn standing(&self) -> Witnessed {
        let book = self.book();
        let standing = |peer: &Peer| {
            let state = book.peers.get(&peer.name).cloned().unwrap_or_default();
            Standing { name: peer.name.clone(), size: state.size, at: state.at, fault: state.fault }
        };
        Witnessed {
            witnesses: self.peers.iter().map(standing).collect(),
            quorum_none: self.policy.needs_no_witness(),
            quorum: book.quorum,
        }
    }
}
