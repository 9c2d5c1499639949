//! `keyward audit tail`.

use core::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::args::Tail;
use super::source::Source;
use crate::shell::audit::csv;
use crate::shell::audit::model::Entries;
use crate::shell::cli::args::Format;
use crate::shell::cli::console::{Exit, Failure};
use crate::shell::cli::{Done, Run, client};

/// How often it is looked whether there is more.
const EVERY: Duration = Duration::from_secs(1);

type Pairs = Vec<(String, String)>;

impl Run {
    pub(super) fn audit_tail(&self, told: &Tail) -> Done {
        let runtime = client::runtime()?;
        let source = self.source(&told.place)?;
        runtime.block_on(async {
            // Before the first line, so that an interrupt is never the end of the process.
            let mut interrupt = signal(SignalKind::interrupt())
                .map_err(|e| Failure::new(Exit::Failed, format!("cannot wait for signals: {e}"), "see ulimit -a"))?;
            tokio::select! {
                _ = interrupt.recv() => Ok(Exit::Ok),
                done = self.audit_follow(told, &source) => done,
            }
        })
    }

    async fn audit_follow(&self, told: &Tail, source: &Source) -> Done {
        if self.common.format == Format::Csv {
            self.console.out(csv::HEAD);
        }
        let filter = told.filter.pairs();
        let Some(mut place) = self.audit_begin(told, source, &filter).await? else { return Ok(Exit::Ok) };
        if !told.follow {
            return Ok(Exit::Ok);
        }
        let mut away = false;
        loop {
            pause().await;
            let page = match source.next_entries(&and(&filter, "cursor", &place.cursor)).await {
                Ok(page) => page,
                // A restart takes a moment; what is written meanwhile is not lost.
                Err(failure) if failure.exit == Exit::Failed => {
                    if !away {
                        self.console.note(format!("{}; trying on", failure.text));
                    }
                    away = true;
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            if core::mem::take(&mut away) {
                self.console.note("going on");
            }
            let size = size_of(&page);
            if size < place.size {
                let text = format!("the log has become shorter: it had {} entries, and now it has {size}", place.size);
                return Err(Failure::new(Exit::Failed, text, "look at it at once: keyward audit verify"));
            }
            if !self.print(&page)? {
                return Ok(Exit::Ok);
            }
            place.go_on(page);
        }
    }

    /// What there is already; `None` if nobody reads any more.
    async fn audit_begin(&self, told: &Tail, source: &Source, filter: &Pairs) -> Result<Option<Reached>, Failure> {
        let mut asked = filter.clone();
        if told.filter.since.is_some() {
            asked.push(("order".into(), "oldest".into()));
            asked.push(("limit".into(), "1000".into()));
            let mut page = source.next_entries(&asked).await?;
            let mut place = Reached::default();
            loop {
                let more = page.more;
                if !self.print(&page)? {
                    return Ok(None);
                }
                place.go_on(page);
                if !more {
                    return Ok(Some(place));
                }
                page = source.next_entries(&and(filter, "cursor", &place.cursor)).await?;
            }
        }
        asked.push(("limit".into(), told.lines.max(1).to_string()));
        let mut page = source.next_entries(&asked).await?;
        page.entries.truncate(usize::from(told.lines));
        page.entries.reverse();
        if !self.print(&page)? {
            return Ok(None);
        }
        // From the end of the log on, also if nothing in it is like what is looked for.
        let last = size_of(&page).checked_sub(1);
        let cursor = last.map(|place| format!("o{place}")).unwrap_or_default();
        Ok(Some(Reached { cursor, size: size_of(&page) }))
    }

    fn print(&self, page: &Entries) -> Result<bool, Failure> {
        for row in &page.entries {
            if !self.line(row)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// How far it has come.
#[derive(Default)]
struct Reached {
    cursor: String,
    size: u64,
}

impl Reached {
    fn go_on(&mut self, page: Entries) {
        self.size = size_of(&page);
        if let Some(next) = page.next {
            self.cursor = next;
        }
    }
}

/// The question with the place to go on from; at the very beginning there is none yet.
fn and(filter: &Pairs, name: &str, value: &str) -> Pairs {
    let mut asked = filter.clone();
    if value.is_empty() {
        asked.push(("order".into(), "oldest".into()));
    } else {
        asked.push((name.to_owned(), value.to_owned()));
    }
    asked.push(("limit".into(), "1000".into()));
    asked
}

fn size_of(page: &Entries) -> u64 {
    page.size.parse().unwrap_or(0)
}

/// The runtime's own timer, since nothing here is simulated.
async fn pause() {
    let mut tick = tokio::time::interval(EVERY);
    tick.tick().await;
    tick.tick().await;
}
