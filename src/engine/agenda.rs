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

impl Task {
    /// Looks wait for a free slot; everything else is taken up at once.
    fn is_look(&self) -> bool {
        matches!(self, Self::Look(_) | Self::Ari(_) | Self::Expand(_) | Self::Meta(_))
    }
}

/// The tasks of one credential that may stand in the agenda, each with its time.
#[derive(Debug, Default)]
struct Own {
    plan: Option<Timestamp>,
    look: Option<Timestamp>,
    ari: Option<Timestamp>,
    expand: Option<Timestamp>,
}

impl Own {
    fn is_empty(&self) -> bool {
        [self.plan, self.look, self.ari, self.expand].iter().all(Option::is_none)
    }
}

/// Tasks by time, looks apart from the rest. Each task stands in it at most once, so it is as large as the inventory at
/// most.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    rest: BTreeSet<(Timestamp, Task)>,
    looks: BTreeSet<(Timestamp, Task)>,
    /// The times of the tasks of each credential, which stay here while these come and go.
    own: BTreeMap<CredentialId, Own>,
    /// The times of all other tasks.
    others: BTreeMap<Task, Option<Timestamp>>,
}

impl Agenda {
    /// The task is due at `at`, whatever was said before.
    pub(crate) fn set(&mut self, task: Task, at: Timestamp) {
        self.put(task, at, |_| true);
    }

    /// The task is due at `at` if it was not due at all, or at a time which that may replace.
    fn put(&mut self, task: Task, at: Timestamp, replaces: impl FnOnce(Timestamp) -> bool) {
        let time = self.time(&task);
        let old = *time;
        if old.is_some_and(|old| old == at || !replaces(old)) {
            return;
        }
        *time = Some(at);
        let queue = self.queue(&task);
        if let Some(old) = old {
            queue.remove(&(old, task.clone()));
        }
        queue.insert((at, task));
    }

    fn time(&mut self, task: &Task) -> &mut Option<Timestamp> {
        match task {
            Task::Plan(id) => &mut self.own.entry(id.clone()).or_default().plan,
            Task::Look(id) => &mut self.own.entry(id.clone()).or_default().look,
            Task::Ari(id) => &mut self.own.entry(id.clone()).or_default().ari,
            Task::Expand(id) => &mut self.own.entry(id.clone()).or_default().expand,
            Task::Evaluate | Task::Store | Task::Heartbeat | Task::Scan | Task::Meta(_) => {
                self.others.entry(task.clone()).or_default()
            }
        }
    }

    /// Forgets the task's time, and the credential with its last one.
    fn clear(&mut self, task: &Task) -> Option<Timestamp> {
        let (Task::Plan(id) | Task::Look(id) | Task::Ari(id) | Task::Expand(id)) = task else {
            return self.others.remove(task).flatten();
        };
        let own = self.own.get_mut(id)?;
        let time = match task {
            Task::Plan(_) => own.plan.take(),
            Task::Look(_) => own.look.take(),
            Task::Ari(_) => own.ari.take(),
            Task::Expand(_) => own.expand.take(),
            Task::Evaluate | Task::Store | Task::Heartbeat | Task::Scan | Task::Meta(_) => None,
        };
        if own.is_empty() {
            self.own.remove(id);
        }
        time
    }

    fn queue(&mut self, task: &Task) -> &mut BTreeSet<(Timestamp, Task)> {
        if task.is_look() { &mut self.looks } else { &mut self.rest }
    }

    /// The task is due at `at` or before.
    pub(crate) fn by(&mut self, task: Task, at: Timestamp) {
        self.put(task, at, |old| at < old);
    }

    /// Whether the task stands in it.
    pub(crate) fn has(&self, task: &Task) -> bool {
        let time = match task {
            Task::Plan(id) => self.own.get(id).and_then(|own| own.plan),
            Task::Look(id) => self.own.get(id).and_then(|own| own.look),
            Task::Ari(id) => self.own.get(id).and_then(|own| own.ari),
            Task::Expand(id) => self.own.get(id).and_then(|own| own.expand),
            Task::Evaluate | Task::Store | Task::Heartbeat | Task::Scan | Task::Meta(_) => {
                self.others.get(task).copied().flatten()
            }
        };
        time.is_some()
    }

    /// The task is not due any more.
    pub(crate) fn drop_task(&mut self, task: &Task) {
        if let Some(old) = self.clear(task) {
            self.queue(task).remove(&(old, task.clone()));
        }
    }

    /// Takes what is due at `now`, earliest first: at most `looks` looks, and everything else, since only a plan over all
    /// that waits knows what is the most urgent of it.
    pub(crate) fn take_due(&mut self, now: Timestamp, looks: usize) -> Vec<Task> {
        let mut due = Vec::new();
        for (queue, most) in [(&mut self.rest, usize::MAX), (&mut self.looks, looks)] {
            let mut taken = 0_usize;
            while taken < most && queue.first().is_some_and(|(at, _)| *at <= now) {
                due.extend(queue.pop_first().map(|(_, task)| task));
                taken = taken.saturating_add(1);
            }
        }
        for task in &due {
            self.clear(task);
        }
        due
    }

    /// When the next task is due; looks count only if there is room for one.
    pub(crate) fn next(&self, looks: usize) -> Option<Timestamp> {
        let look = if looks > 0 { self.looks.first() } else { None };
        [self.rest.first(), look].into_iter().flatten().map(|(at, _)| *at).min()
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
