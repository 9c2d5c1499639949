//! `keyward audit stats`.

use std::collections::BTreeMap;

use super::args::Stats;
use crate::shell::audit::model;
use crate::shell::cli::args::Format;
use crate::shell::cli::console::{Exit, Tone, moment};
use crate::shell::cli::{Done, Run, no_lines};
use crate::shell::explain;

impl Run {
    pub(super) fn audit_stats(&self, told: &Stats) -> Done {
        no_lines(self.common.format)?;
        let source = self.source(&told.place)?;
        let stats = source.statistics()?;
        self.source_banner(&source);
        match self.common.format {
            Format::Json => self.console.json(&stats)?,
            Format::Name => stats.codes.keys().for_each(|code| self.console.out(code)),
            Format::Table | Format::Csv | Format::Jsonl => self.print_stats(&stats),
        }
        Ok(Exit::Ok)
    }

    fn print_stats(&self, stats: &model::Stats) {
        let open = match stats.unresolved_intents.as_str() {
            "0" => "none".to_owned(),
            n => self.console.paint(&format!("{n} (what came of them is not recorded)"), Tone::Warn),
        };
        let time = |at: &Option<String>| at.as_deref().map(moment).unwrap_or_default();
        self.console.pairs(&[
            ("entries", stats.size.clone()),
            (
                "frozen",
                stats.begins.as_ref().map_or_else(String::new, |n| format!("the first {n}: they lie in shards")),
            ),
            ("oldest", time(&stats.oldest)),
            ("newest", time(&stats.newest)),
            ("on disk", stats.bytes.parse().map_or_else(|_| stats.bytes.clone(), sized)),
            ("checkpoints", format!("{} kept", stats.checkpoints)),
            (
                "witnessed",
                stats.witnessed.clone().unwrap_or_else(|| "see keyward_audit_witnessed_tree_size in /metrics".into()),
            ),
            ("intents without outcome", open),
            ("by outcome", counts(&stats.outcomes, |_| "")),
            ("by code", counts(&stats.codes, |code| explain::explain(code).map_or("", |e| e.title))),
        ]);
    }
}

fn counts(all: &BTreeMap<String, u64>, meaning: impl Fn(&str) -> &'static str) -> String {
    let width = all.values().map(|n| n.to_string().len()).max().unwrap_or(0);
    all.iter()
        .map(|(name, n)| format!("{n:>width$}  {name} {}", meaning(name)).trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

/// As people say it.
fn sized(bytes: u64) -> String {
    let (kib, mib) = (bytes / 1_024, bytes / (1_024 * 1_024));
    if mib >= 10 { format!("{mib} MiB") } else { format!("{kib} KiB") }
}
