//! Who people are: the log and the state know a pseudonym, the names lie beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::execution::{Attempt, Generation, Trigger};
use crate::domain::private::Private;
use crate::domain::state::CredentialRecord;
use crate::engine::Engine;

/// The people who are known, by their pseudonyms.
#[derive(Debug, Default)]
pub(crate) struct People(BTreeMap<Arc<str>, Private>);

impl People {
    pub(crate) fn of(people: Vec<Private>) -> Self {
        Self(people.into_iter().map(|p| (Arc::from(p.commitment().to_string()), p)).collect())
    }

    /// What to call somebody: their name, or that it is not known any more.
    pub(crate) fn name(&self, pseudonym: &str) -> Arc<str> {
        match self.0.get(pseudonym) {
            Some(person) => person.text.clone(),
            None => Arc::from(format!("somebody ({})", pseudonym.get(..12).unwrap_or(pseudonym))),
        }
    }

    /// Forgets these, by their pseudonyms.
    pub(crate) fn forget(&mut self, gone: &BTreeSet<Arc<str>>) {
        self.0.retain(|pseudonym, _| !gone.contains(pseudonym));
    }

    fn trigger(&self, trigger: &mut Trigger) {
        if let Trigger::Manual(by) = trigger {
            *by = self.name(by);
        }
    }

    /// A record with names in the place of pseudonyms, for people to read.
    pub(crate) fn named(&self, mut record: CredentialRecord) -> CredentialRecord {
        let generations = [record.current.as_mut(), record.previous.as_mut()];
        generations.into_iter().flatten().for_each(|Generation { trigger, .. }| self.trigger(trigger));
        if let Some(request) = &mut record.requested {
            request.by = self.name(&request.by);
        }
        record
    }

    /// The same for an attempt.
    pub(crate) fn named_attempt(&self, mut attempt: Attempt) -> Attempt {
        self.trigger(&mut attempt.trigger);
        attempt
    }
}

impl Engine {
    /// Somebody by their name; who was not known yet gets a pseudonym.
    pub(crate) fn person(&self, name: &str) -> Private {
        let mut desk = self.write();
        if let Some(known) = desk.people.0.values().find(|p| &*p.text == name) {
            return known.clone();
        }
        let mut salt = [0; 16];
        self.ports.entropy.fill(&mut salt);
        let person = Private { salt, text: Arc::from(name) };
        desk.people.0.insert(Arc::from(person.commitment().to_string()), person.clone());
        person
    }
}
