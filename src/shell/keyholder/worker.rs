//! The one thread that decides, signs and records. Whatever waits is taken together: one flush for all, then the answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

use zeroize::Zeroizing;

use crate::codec::holder::{Answer, Key, MOST_KEYS as MOST_LISTED, Status};
use crate::domain::key::Digest;
use crate::ports::{Clock, Entropy, HeldKey, Operation, ToBeSigned};

use super::book::{Book, MOST_KEYS};
use super::chain::{Draft, OwnLog};
use super::files::Directory;
use super::vault::Vault;
use super::warrant::{Allowed, Bytes};

/// At most so many share a flush: as many as there may be connections.
const MOST_TOGETHER: usize = super::serve::MOST_CONNECTIONS;

/// What is asked of the worker.
pub(super) enum Ask {
    Status,
    Keys,
    Records(u64),
    /// An operation that the log allows, with what it is about.
    Do(Box<(Operation, Allowed, Matter)>),
}

/// What an operation is about.
pub(super) enum Matter {
    /// To be signed, and read.
    Bytes(Vec<u8>, Bytes),
    /// To be imported.
    Key(Zeroizing<Vec<u8>>),
    Nothing,
}

/// A question with the way back.
pub(super) struct Job {
    pub(super) ask: Ask,
    pub(super) reply: SyncSender<Answer>,
}

/// See the module.
pub(super) struct Worker {
    pub(super) dir: Directory,
    pub(super) vault: Vault,
    pub(super) log: OwnLog,
    pub(super) book: Book,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) confinement: Vec<String>,
}

/// What is decided and not yet durable.
#[derive(Default)]
struct Batch {
    answers: Vec<(SyncSender<Answer>, Answer)>,
    /// Entries that are spent in this batch.
    fresh: BTreeMap<u64, (Digest, Answer)>,
    /// Keys to destroy once that is recorded.
    doomed: Vec<Digest>,
}

impl Worker {
    /// Works until nobody can ask any more, or until a flush fails.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) -> String {
        while let Ok(first) = jobs.recv() {
            let mut batch = Batch::default();
            self.take(first, &mut batch);
            while batch.answers.len() < MOST_TOGETHER {
                let Ok(next) = jobs.try_recv() else { break };
                self.take(next, &mut batch);
            }
            if let Err(why) = self.settle(batch) {
                return why;
            }
        }
        "nobody asks any more".to_owned()
    }

    fn settle(&mut self, batch: Batch) -> Result<(), String> {
        if self.log.waits() {
            // What of it reached the medium is unknown then, and asking it again may be answered with a lie.
            self.log.commit().map_err(|e| format!("the own log cannot be written: {e}; nothing was answered"))?;
        }
        for key in &batch.doomed {
            // It is recorded as destroyed, so the next start tries again.
            self.vault.destroy(&self.dir, key).map_err(|e| format!("a destroyed key is still there: {e}"))?;
        }
        for (reply, answer) in batch.answers {
            // Who does not wait any more asks again.
            drop(reply.send(answer));
        }
        Ok(())
    }

    fn take(&mut self, job: Job, batch: &mut Batch) {
        let answer = match job.ask {
            Ask::Status => self.status(),
            Ask::Keys => {
                Answer::Keys(self.book.keys().take(MOST_LISTED).map(|(_, known)| travels(&known.held)).collect())
            }
            // Those of this batch are not durable yet, and not shown.
            Ask::Records(from) => self.log.lines(from).map_or_else(Answer::Failed, Answer::Records),
            Ask::Do(asked) => {
                let (operation, allowed, matter) = *asked;
                self.act(&operation, &allowed, matter, batch)
            }
        };
        batch.answers.push((job.reply, answer));
    }

    fn status(&self) -> Answer {
        Answer::Status(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: std::process::id(),
            operations: self.book.operations(),
            log_size: self.book.log_size(),
            confinement: self.confinement.clone(),
        })
    }

    fn act(&mut self, operation: &Operation, allowed: &Allowed, matter: Matter, batch: &mut Batch) -> Answer {
        if let Err(why) = self.book.check(allowed) {
            return Answer::Refused(why);
        }
        if let Some(done) = self.done_before(operation, allowed, batch) {
            return done;
        }
        let answer = match self.perform(operation, matter) {
            Ok(answer) => answer,
            Err(why) => return why,
        };
        let facts = operation.facts().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let draft = Draft {
            at: self.clock.now(),
            facts,
            entry: Some((allowed.sequence, allowed.leaf)),
            head: Some(allowed.head),
            answer,
        };
        let (record, place) = self.log.append(draft);
        if let Err(why) = self.book.note(&record, place) {
            return Answer::Failed(why);
        }
        if let Operation::Destroy { key } = operation {
            batch.doomed.push(*key);
        }
        let answer = self.answer(operation, record.answer);
        batch.fresh.insert(allowed.sequence, (allowed.leaf, answer.clone()));
        answer
    }

    /// The answer that was given to this entry before.
    fn done_before(&self, operation: &Operation, allowed: &Allowed, batch: &Batch) -> Option<Answer> {
        let spent = || {
            Answer::Refused(format!(
                "the entry {} was another one when it was spent: the log was changed or forked; a person has to look",
                allowed.sequence
            ))
        };
        if let Some((leaf, answer)) = batch.fresh.get(&allowed.sequence) {
            return Some(if *leaf == allowed.leaf { answer.clone() } else { spent() });
        }
        let record = match self.log.record(self.book.spent(allowed.sequence)?) {
            Ok(record) => record,
            Err(why) => return Some(Answer::Failed(why)),
        };
        // The entry names the operation, and was compared with it: the same entry is the same operation.
        if record.entry != Some((allowed.sequence, allowed.leaf)) {
            return Some(spent());
        }
        Some(self.answer(operation, record.answer))
    }

    fn answer(&self, operation: &Operation, recorded: Vec<u8>) -> Answer {
        match operation {
            Operation::Sign { .. } => Answer::Signature(recorded),
            Operation::Destroy { .. } => Answer::Destroyed,
            Operation::Generate { label, .. } | Operation::Import { label, .. } => {
                let algorithm = crate::codec::tbs::key_algorithm(&recorded).unwrap_or_default();
                let signatures = self.book.key(&Digest::of(&recorded)).map_or(0, |known| known.held.signatures);
                Answer::Key(Key { spki: recorded, algorithm, label: label.to_string(), signatures })
            }
        }
    }

    /// Does it; gives what is recorded as the answer.
    fn perform(&mut self, operation: &Operation, matter: Matter) -> Result<Vec<u8>, Answer> {
        match (operation, matter) {
            (Operation::Generate { algorithm, .. }, Matter::Nothing) => {
                self.room()?;
                self.vault.may_generate(*algorithm).map_err(Answer::Refused)?;
                self.vault.generate(&self.dir, *algorithm, &*self.entropy).map_err(Answer::Failed)
            }
            (Operation::Import { key, .. }, Matter::Key(pkcs8)) => {
                self.vault.may_import().map_err(Answer::Refused)?;
                if self.book.key(key).is_some() {
                    return Err(Answer::Refused(format!("the key {key} is here already")));
                }
                self.room()?;
                self.vault.import(&self.dir, &pkcs8, *key, &*self.entropy).map_err(Answer::Failed)
            }
            (Operation::Sign { key, .. }, Matter::Bytes(bytes, read)) => {
                let known = self.book.key(key).ok_or_else(|| unknown(key))?;
                read.fit(&known.held, known.made_here).map_err(Answer::Refused)?;
                self.vault
                    .sign(key, &bytes)
                    .map_err(|why| Answer::Failed(format!("the key {key} cannot be used: {why}")))
            }
            (Operation::Destroy { key }, Matter::Nothing) => {
                self.book.key(key).map(|_| Vec::new()).ok_or_else(|| unknown(key))
            }
            _ => Err(Answer::Refused("the request does not fit its operation".to_owned())),
        }
    }

    fn room(&self) -> Result<(), Answer> {
        let full = self.book.keys().count() >= MOST_KEYS;
        let text = || format!("there are {MOST_KEYS} keys already: destroy those of retired CAs");
        if full { Err(Answer::Refused(text())) } else { Ok(()) }
    }
}

fn unknown(key: &Digest) -> Answer {
    Answer::Refused(format!("there is no key {key} here"))
}

fn travels(held: &HeldKey) -> Key {
    Key {
        spki: held.spki.to_vec(),
        algorithm: held.algorithm,
        label: held.label.to_string(),
        signatures: held.signatures,
    }
}

/// What is asked with a request, once its proof holds.
pub(super) fn kind(name: &str) -> Result<ToBeSigned, String> {
    ToBeSigned::parse(name).ok_or_else(|| format!("{name:?} is no kind of bytes that are signed: leaf, ca, crl"))
}
