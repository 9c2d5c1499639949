//! Telling people through the log, and remembering the last notices for the status page ([`crate::ports::Notifier`]).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::time::Timestamp;
use crate::ports::{Clock, Notice, Notifier, Urgency};

/// Some days of a large estate; with the limit on texts at most half a megabyte.
const REMEMBERED: usize = 256;
/// A notice is one or two sentences; what a CA or a hook added to it may be longer and is cut.
const TEXT_MAX: usize = 2_000;

/// Writes notices to the log: `warn` if somebody has to act, else `info`.
pub struct LogNotifier {
    clock: Arc<dyn Clock>,
    recent: Mutex<VecDeque<(Timestamp, Notice)>>,
}

impl core::fmt::Debug for LogNotifier {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("LogNotifier")
    }
}

impl LogNotifier {
    /// With an empty memory.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, recent: Mutex::new(VecDeque::with_capacity(REMEMBERED)) }
    }

    /// The last 256 notices with their times, oldest first.
    #[must_use]
    pub fn recent(&self) -> Vec<(Timestamp, Notice)> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl Notifier for LogNotifier {
    fn notify(&self, mut notice: Notice) {
        if let Some((at, _)) = notice.text.char_indices().nth(TEXT_MAX) {
            notice.text.truncate(at);
            notice.text.push('…');
        }
        let Notice { about, owner, code, text, urgent } = &notice;
        match urgent {
            Urgency::Act => tracing::warn!(about, owner, code, text, "notice"),
            Urgency::Routine => tracing::info!(about, owner, code, text, "notice"),
        }
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() >= REMEMBERED {
            recent.pop_front();
        }
        recent.push_back((self.clock.now(), notice));
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::domain::time::Boottime;
    use crate::ports::Doing;

    struct Still;

    impl Clock for Still {
        fn now(&self) -> Timestamp {
            Timestamp::from_unix(7)
        }
        fn boottime(&self) -> Boottime {
            Boottime::from_boot(Duration::ZERO)
        }
        fn boot_id(&self) -> Arc<str> {
            Arc::from("")
        }
        fn sleep(&self, _: Duration) -> Doing<'_, ()> {
            Box::pin(core::future::ready(()))
        }
    }

    fn notice(text: String) -> Notice {
        Notice { about: "portal".to_owned(), owner: None, code: "TEST", text, urgent: Urgency::Act }
    }

    #[test]
    fn the_memory_holds_the_last_256_notices_and_no_endless_text() {
        let notifier = LogNotifier::new(Arc::new(Still));
        (0..300).for_each(|n| notifier.notify(notice(n.to_string())));
        let recent = notifier.recent();
        assert_eq!(recent.len(), 256);
        assert_eq!(recent.first().map(|(_, n)| n.text.as_str()), Some("44"));
        assert_eq!(recent.last().map(|(at, n)| (*at, n.text.as_str())), Some((Timestamp::from_unix(7), "299")));
        notifier.notify(notice("ä".repeat(100_000)));
        assert_eq!(notifier.recent().last().map(|(_, n)| n.text.chars().count()), Some(2_001));
    }
}
