//! What is to be looked at, and when: one entry a task, the earliest first.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::id::{CredentialId, IssuerId};
use crate::domain::time::Timestamp;

/// Something that is due at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Task {
    /// Compute all verdicts again.
    Evaluate,
    /// Try whether the store can be written again.
    Store,
    /// Say in the log that the guardian is there.
    Heartbeat,
    /// Fetch the revocation lists whose turn it is.
    Lists,
    /// Record the freezes whose time is over.
    Thaw,
    /// Read a part of the log again.
    Inspect,
    /// Look at everything again.
    Scan,
    /// Consider a credential in a plan.
    Plan(CredentialId),
    /// Look at what is stored and served.
    Look(CredentialId),
    /// Ask the CA for its renewal window.
    Ari(CredentialId),
    /// See which files match a watch.
    Expand(CredentialId),
    /// Read what an issuer's directory says about itself: its terms may have changed.
    Meta(IssuerId),
}

/// The looks at one credential that may stand in the agenda, in the order in which they are taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Look,
    Ari,
    Expand,
}

/// A credential, with the times of those of its tasks that stand in the agenda.
#[derive(Debug)]
struct Own {
    id: CredentialId,
    plan: Option<Timestamp>,
    look: Option<Timestamp>,
    ari: Option<Timestamp>,
    expand: Option<Timestamp>,
}

impl Own {
    fn new(id: CredentialId) -> Self {
        Self { id, plan: None, look: None, ari: None, expand: None }
    }

    fn is_idle(&self) -> bool {
        [self.plan, self.look, self.ari, self.expand].iter().all(Option::is_none)
    }

    fn of(&self, kind: Kind) -> Option<Timestamp> {
        match kind {
            Kind::Look => self.look,
            Kind::Ari => self.ari,
            Kind::Expand => self.expand,
        }
    }

    fn of_mut(&mut self, kind: Kind) -> &mut Option<Timestamp> {
        match kind {
            Kind::Look => &mut self.look,
            Kind::Ari => &mut self.ari,
            Kind::Expand => &mut self.expand,
        }
    }

    fn task(&self, kind: Kind) -> Task {
        match kind {
            Kind::Look => Task::Look(self.id.clone()),
            Kind::Ari => Task::Ari(self.id.clone()),
            Kind::Expand => Task::Expand(self.id.clone()),
        }
    }
}

/// Which task a [`Task`] is here.
enum Place<'t> {
    Plan(&'t CredentialId),
    Look(Kind, &'t CredentialId),
    Other,
}

/// Tasks by time, looks apart from the rest. Each task stands in it at most once, so it is as large as the inventory at
/// most. Credentials stand in the queues by their places in a list, which are compared and moved faster than their ids.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    plans: BTreeSet<(Timestamp, usize)>,
    looks: BTreeSet<(Timestamp, Kind, usize)>,
    /// The few tasks that are about no credential.
    others: BTreeMap<Task, Timestamp>,
    places: BTreeMap<CredentialId, usize>,
    /// By place.
    own: Vec<Own>,
    /// The places of credentials that have no task any more.
    free: Vec<usize>,
}

impl Agenda {
    /// The task is due at `at`, whatever was said before.
    pub(crate) fn set(&mut self, task: Task, at: Timestamp) {
        self.put(task, at, |_| true);
    }

    /// The task is due at `at` or before.
    pub(crate) fn by(&mut self, task: Task, at: Timestamp) {
        self.put(task, at, |old| at < old);
    }

    /// The task is due at `at` if it was not due at all, or at a time which that may replace.
    fn put(&mut self, task: Task, at: Timestamp, replaces: impl FnOnce(Timestamp) -> bool) {
        let keeps = |old: Option<Timestamp>| old.is_some_and(|old| old == at || !replaces(old));
        match place(&task) {
            Place::Plan(id) => {
                let place = self.place(id);
                let Some(own) = self.own.get_mut(place) else { return };
                if keeps(own.plan) {
                    return;
                }
                if let Some(old) = own.plan.replace(at) {
                    self.plans.remove(&(old, place));
                }
                self.plans.insert((at, place));
            }
            Place::Look(kind, id) => {
                let place = self.place(id);
                let Some(own) = self.own.get_mut(place) else { return };
                if keeps(own.of(kind)) {
                    return;
                }
                if let Some(old) = own.of_mut(kind).replace(at) {
                    self.looks.remove(&(old, kind, place));
                }
                self.looks.insert((at, kind, place));
            }
            Place::Other if keeps(self.others.get(&task).copied()) => {}
            Place::Other => drop(self.others.insert(task, at)),
        }
    }

    fn place(&mut self, id: &CredentialId) -> usize {
        if let Some(place) = self.places.get(id) {
            return *place;
        }
        let place = self.free.pop().unwrap_or(self.own.len());
        match self.own.get_mut(place) {
            Some(own) => own.id = id.clone(),
            None => self.own.push(Own::new(id.clone())),
        }
        self.places.insert(id.clone(), place);
        place
    }

    /// Forgets a credential with its last task.
    fn leave(&mut self, place: usize) {
        if let Some(own) = self.own.get(place).filter(|own| own.is_idle()) {
            self.places.remove(&own.id);
            self.free.push(place);
        }
    }

    /// Whether the task stands in it.
    pub(crate) fn has(&self, task: &Task) -> bool {
        let own = |id| self.places.get(id).and_then(|place| self.own.get(*place));
        match place(task) {
            Place::Plan(id) => own(id).is_some_and(|own| own.plan.is_some()),
            Place::Look(kind, id) => own(id).is_some_and(|own| own.of(kind).is_some()),
            Place::Other => self.others.contains_key(task),
        }
    }

    /// The task is not due any more.
    pub(crate) fn drop_task(&mut self, task: &Task) {
        match place(task) {
            Place::Plan(id) => {
                let place = self.place(id);
                if let Some(old) = self.own.get_mut(place).and_then(|own| own.plan.take()) {
                    self.plans.remove(&(old, place));
                }
                self.leave(place);
            }
            Place::Look(kind, id) => {
                let place = self.place(id);
                if let Some(old) = self.own.get_mut(place).and_then(|own| own.of_mut(kind).take()) {
                    self.looks.remove(&(old, kind, place));
                }
                self.leave(place);
            }
            Place::Other => drop(self.others.remove(task)),
        }
    }

    /// Takes what is due at `now`, earliest first: at most `looks` looks, and everything else, since only a plan over all
    /// that waits knows what is the most urgent of it.
    pub(crate) fn take_due(&mut self, now: Timestamp, looks: usize) -> Vec<Task> {
        let mut due = self.take_others(now, looks);
        let metas = due.iter().filter(|task| matches!(task, Task::Meta(_))).count();
        while let Some(&(at, place)) = self.plans.first()
            && at <= now
        {
            self.plans.pop_first();
            if let Some(own) = self.own.get_mut(place) {
                own.plan = None;
                due.push(Task::Plan(own.id.clone()));
            }
            self.leave(place);
        }
        for _ in metas..looks {
            let Some(&(_, kind, place)) = self.looks.first().filter(|(at, ..)| *at <= now) else { break };
            self.looks.pop_first();
            if let Some(own) = self.own.get_mut(place) {
                *own.of_mut(kind) = None;
                due.push(own.task(kind));
            }
            self.leave(place);
        }
        due
    }

    fn take_others(&mut self, now: Timestamp, looks: usize) -> Vec<Task> {
        if self.others.values().all(|at| *at > now) {
            return Vec::new();
        }
        let due = self.others.iter().filter(|(_, at)| **at <= now);
        let mut due: Vec<(Timestamp, Task)> = due.map(|(task, at)| (*at, task.clone())).collect();
        due.sort_unstable();
        let mut metas = 0_usize;
        due.retain(|(_, task)| {
            metas = metas.saturating_add(usize::from(matches!(task, Task::Meta(_))));
            !matches!(task, Task::Meta(_)) || metas <= looks
        });
        let due: Vec<Task> = due.into_iter().map(|(_, task)| task).collect();
        self.others.retain(|task, _| !due.contains(task));
        due
    }

    /// When the next task is due; looks count only if there is room for one.
    pub(crate) fn next(&self, looks: usize) -> Option<Timestamp> {
        let others = self.others.iter().filter(|(task, _)| looks > 0 || !matches!(task, Task::Meta(_)));
        let look = self.looks.first().filter(|_| looks > 0).map(|(at, ..)| *at);
        others.map(|(_, at)| *at).chain(self.plans.first().map(|(at, _)| *at)).chain(look).min()
    }
}

fn place(task: &Task) -> Place<'_> {
    match task {
        Task::Plan(id) => Place::Plan(id),
        Task::Look(id) => Place::Look(Kind::Look, id),
        Task::Ari(id) => Place::Look(Kind::Ari, id),
        Task::Expand(id) => Place::Look(Kind::Expand, id),
        Task::Evaluate
        | Task::Store
        | Task::Heartbeat
        | Task::Lists
        | Task::Thaw
        | Task::Inspect
        | Task::Scan
        | Task::Meta(_) => Place::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_stands_once_and_the_latest_word_counts() {
        let t = Timestamp::from_unix;
        let mut agenda = Agenda::default();
        agenda.set(Task::Scan, t(10));
        agenda.set(Task::Scan, t(20));
        agenda.by(Task::Scan, t(30));
        assert_eq!((agenda.take_due(t(19), 9), agenda.next(9)), (vec![], Some(t(20))));
        agenda.by(Task::Evaluate, t(5));
        assert_eq!(agenda.take_due(t(20), 1), [Task::Evaluate, Task::Scan]);
        assert_eq!(agenda.next(9), None);
    }

    #[test]
    fn a_credential_without_a_task_leaves_its_place_to_another() {
        let t = Timestamp::from_unix;
        let id = |s: &str| CredentialId::parse(s).unwrap();
        let mut agenda = Agenda::default();
        for round in 0..9 {
            agenda.set(Task::Look(id("a")), t(round));
            agenda.set(Task::Plan(id(&format!("b{round}"))), t(round));
            agenda.set(Task::Ari(id("c")), t(round));
            agenda.drop_task(&Task::Ari(id("c")));
            let due = [Task::Plan(id(&format!("b{round}"))), Task::Look(id("a"))];
            assert_eq!(agenda.take_due(t(round), 9), due);
        }
        assert!(agenda.own.len() <= 3 && agenda.places.is_empty(), "{agenda:?}");
    }

    #[test]
    fn looks_without_a_free_slot_stay_due_and_hold_nothing_up() {
        let t = Timestamp::from_unix;
        let id = |s: &str| CredentialId::parse(s).unwrap();
        let mut agenda = Agenda::default();
        agenda.set(Task::Look(id("a")), t(1));
        agenda.set(Task::Look(id("b")), t(1));
        agenda.set(Task::Plan(id("a")), t(2));
        assert_eq!(agenda.take_due(t(5), 1), [Task::Plan(id("a")), Task::Look(id("a"))]);
        assert_eq!((agenda.next(0), agenda.next(1)), (None, Some(t(1))));
    }
}
