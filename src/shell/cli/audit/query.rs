//! `keyward audit query`.

use super::args::Query;
use crate::domain::question::LARGEST_PAGE;
use crate::shell::audit::model::{Entries, Row};
use crate::shell::audit::{csv, plain};
use crate::shell::cli::args::Format;
use crate::shell::cli::console::{Cell, Exit, Failure, Tone};
use crate::shell::cli::{Done, Run};

/// The longest text of a row in a table; `show` has it whole.
const LONGEST_LINE: usize = 120;

impl Run {
    pub(super) fn audit_query(&self, told: &Query) -> Done {
        let source = self.source(&told.place)?;
        let wanted = usize::try_from(told.limit).unwrap_or(usize::MAX);
        let mut pairs = told.filter.pairs();
        if told.oldest_first {
            pairs.push(("order".into(), "oldest".into()));
        }
        let mut cursor = told.cursor.clone();
        let mut all = Entries::default();
        let mut given = 0_usize;
        if self.common.format == Format::Csv {
            self.console.out(csv::HEAD);
        }
        loop {
            let mut asked = pairs.clone();
            // A cursor knows its order.
            asked.retain(|(name, _)| cursor.is_none() || name != "order");
            asked.extend(cursor.take().map(|c| ("cursor".to_owned(), c)));
            asked.push(("limit".into(), wanted.saturating_sub(given).clamp(1, LARGEST_PAGE).to_string()));
            let page = source.entries(&asked)?;
            given = given.saturating_add(page.entries.len());
            match self.common.format {
                // Written as they come: there may be many.
                Format::Csv | Format::Jsonl | Format::Name => {
                    for row in &page.entries {
                        if !self.line(row)? {
                            return Ok(Exit::Ok);
                        }
                    }
                }
                Format::Table | Format::Json => all.entries.extend(page.entries),
            }
            let go_on = page.more && given < wanted;
            (all.next, all.more, all.size, all.begins) = (page.next, page.more, page.size, page.begins);
            if !go_on {
                break;
            }
            cursor = all.next.clone();
        }
        self.source_banner(&source);
        match self.common.format {
            Format::Json => self.console.json(&all)?,
            Format::Table if all.entries.is_empty() => self.console.note("no entry is like that"),
            Format::Table => self.rows(&all.entries),
            Format::Csv | Format::Jsonl | Format::Name => {}
        }
        if let Some(begins) = &all.begins {
            self.console.note(format!("entries before {begins} are frozen and were not searched"));
        }
        if let (true, Some(next)) = (all.more, &all.next) {
            self.console.note(format!("there is more: --cursor {next}"));
        }
        Ok(Exit::Ok)
    }

    /// One entry on one line. Says whether anybody still reads.
    pub(super) fn line(&self, row: &Row) -> Result<bool, Failure> {
        let text = match self.common.format {
            Format::Csv => csv::line(row),
            Format::Json | Format::Jsonl => serde_json::to_string(row)
                .map_err(|e| Failure::new(Exit::Failed, format!("cannot be written as JSON: {e}"), "use -o table"))?,
            Format::Name => row.id.clone(),
            Format::Table => {
                let outcome = row.outcome.as_deref().unwrap_or(&row.phase);
                let (word, tone) = (format!("{outcome:7}"), tone(outcome));
                let said = plain(&row.text);
                let fault = row.fault.as_ref().map(|f| format!(" ✕ {}", plain(f))).unwrap_or_default();
                format!(
                    "{} {:>6} {} {} {} ({}) {} {said}{fault}",
                    plain(&row.time),
                    format!("#{}", row.sequence),
                    plain(&row.code),
                    self.console.paint(&word, tone),
                    plain(&row.target),
                    plain(&row.actor),
                    row.title
                )
            }
        };
        Ok(self.console.try_out(text))
    }

    fn rows(&self, rows: &[Row]) {
        let cells = |row: &Row| {
            let outcome = row.outcome.as_deref().unwrap_or(&row.phase);
            let mut text: String = plain(&row.text).chars().take(LONGEST_LINE).collect();
            if let Some(fault) = &row.fault {
                text = format!("✕ {}; {text}", plain(fault));
            }
            let cell = |text: &str| Cell(plain(text), Tone::Plain);
            vec![
                cell(&format!("#{}", row.sequence)),
                cell(&row.time),
                cell(&row.code),
                Cell(plain(outcome), tone(outcome)),
                cell(&row.target),
                cell(&row.actor),
                cell(&format!("{}: {text}", row.title)),
            ]
        };
        let heads = ["PLACE", "TIME", "CODE", "OUTCOME", "ABOUT", "BY", "WHAT"];
        self.console.table(&heads, &rows.iter().map(cells).collect::<Vec<_>>());
    }
}

fn tone(outcome: &str) -> Tone {
    match outcome {
        "success" => Tone::Good,
        "failure" => Tone::Bad,
        "denied" | "unknown" => Tone::Warn,
        _ => Tone::Quiet,
    }
}
