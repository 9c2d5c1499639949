//! `keyward link`.

use clap::Subcommand;

use super::args::Output;
use super::console::{Cell, Exit, Tone, relative};
use super::{Done, Run};
use crate::shell::http::Link as View;

#[derive(Debug, Subcommand)]
pub(super) enum Link {
    /// Whether each link lets peers through, who is connected, and who was refused why
    #[command(after_help = "\
Examples:
  keyward link status
  keyward link status -o json

A link lets nobody through while its path is closed: keyward gate status says why.
Exits with 0 if every link can be used, 3 if one cannot read its certificate, roots or revocation lists.")]
    Status,
}

impl Run {
    pub(super) fn link_status(&self) -> Done {
        let daemon = self.daemon()?;
        let links: Vec<View> = daemon.get("/v1/links")?;
        self.banner(&daemon);
        match self.output {
            Output::Json => self.console.json(&links)?,
            Output::Name => links.iter().for_each(|l| self.console.out(&l.id)),
            Output::Table if links.is_empty() => {
                self.console.note("no link runs: add a [[link]] to the configuration; staging has none");
            }
            Output::Table => self.print_links(&links),
        }
        let is_sick = |l: &View| l.problem.is_some() || l.closed.as_ref().is_some_and(|c| c.reason == "unready");
        Ok(if links.iter().any(is_sick) { Exit::Warning } else { Exit::Ok })
    }

    fn print_links(&self, links: &[View]) {
        let heads =
            ["LINK", "SIDE", "LISTENS", "FORWARDS TO", "STATE", "NOW", "LET IN", "REFUSED", "CUT", "CERTIFICATE ENDS"];
        self.console.table(&heads, &links.iter().map(row).collect::<Vec<_>>());
        for link in links {
            if let Some(closed) = &link.closed {
                self.console.out(format!("{}: {} {}", link.id, closed.code, closed.text));
            }
            if let Some(problem) = &link.problem {
                self.console.out(format!("{}: {}", link.id, self.console.paint(problem, Tone::Warn)));
            }
            if let Some(swap) = link.swap.as_ref().filter(|swap| swap.cut > 0) {
                let (cut, took) = (swap.cut, swap.took_ms);
                self.console
                    .out(format!("{}: {cut} connections were distrusted and cut {took} ms after the change", link.id));
            }
            let refused: Vec<String> =
                link.refused.iter().filter(|(_, n)| **n > 0).map(|(why, n)| format!("{why} {n}")).collect();
            if !refused.is_empty() {
                self.console.out(format!("{}: refused: {}", link.id, refused.join(", ")));
            }
        }
    }
}

fn row(link: &View) -> Vec<Cell> {
    let (word, tone) = if link.open { ("open", Tone::Good) } else { ("closed", Tone::Bad) };
    let refused = link.refused.values().fold(0_u64, |sum, n| sum.saturating_add(*n));
    let ends = link.certificate.as_ref().map_or_else(|| "-".to_owned(), |c| relative(&c.not_after));
    vec![
        Cell(link.id.clone(), Tone::Strong),
        link.side.clone().into(),
        link.listen.clone().into(),
        link.forward.clone().into(),
        Cell(word.to_owned(), tone),
        format!("{}/{}", link.connections, link.max_connections).into(),
        link.accepted.to_string().into(),
        refused.to_string().into(),
        link.cut.to_string().into(),
        ends.into(),
    ]
}
