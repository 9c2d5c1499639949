//! `keyward acme`: orders at the ACME directories that wait for a person.

use clap::{Args, Subcommand};

use super::args::Output;
use super::console::{Cell, Exit, Tone, relative};
use super::{Done, Run};
use crate::shell::http::acme::model::{Order, Reason, Ruled};

#[derive(Debug, Subcommand)]
pub(super) enum Acme {
    /// Orders that wait for a person
    #[command(after_help = "\
Exits with 0 if none waits, and 4 if one does.")]
    Orders,
    /// Let an order have its certificate
    #[command(after_help = "\
Example:
  keyward acme allow corp/6a1f03 --reason \"the web team asked for it, ticket 4711\"

The certificate is made at once. A client that has given up meanwhile may order the same again for a while (allow_holds)
without waiting. You are named in the audit log.")]
    Allow(Decision),
    /// Refuse an order that waits
    #[command(after_help = "\
Example:
  keyward acme deny corp/6a1f03 --reason \"nobody knows this host\"

The order becomes invalid, and its client is told the reason. You are named in the audit log.")]
    Deny(Decision),
}

#[derive(Debug, Args)]
pub(super) struct Decision {
    /// The order's id, as `keyward acme orders` shows it
    order: String,
    /// Why, in a sentence
    #[arg(long)]
    reason: String,
}

impl Run {
    pub(super) fn acme(&self, command: Acme) -> Done {
        match command {
            Acme::Orders => self.acme_orders(),
            Acme::Allow(decision) => self.acme_rule(decision, "allow", "gets its certificate"),
            Acme::Deny(decision) => self.acme_rule(decision, "deny", "is invalid"),
        }
    }

    fn acme_orders(&self) -> Done {
        let daemon = self.daemon()?;
        let all: Vec<Order> = daemon.get("/v1/acme/orders")?;
        self.banner(&daemon);
        match self.output {
            Output::Json => self.console.json(&all)?,
            Output::Name => all.iter().for_each(|order| self.console.out(&order.id)),
            Output::Table if all.is_empty() => self.console.note("no order waits for anybody"),
            Output::Table => {
                let heads = ["ORDER", "NAMES", "PROFILE", "ACCOUNT", "KEY", "OWNER", "SINCE", "ENDS"];
                self.console.table(&heads, &all.iter().map(row).collect::<Vec<_>>());
            }
        }
        Ok(if all.is_empty() { Exit::Ok } else { Exit::Waiting })
    }

    fn acme_rule(&self, decision: Decision, verb: &str, what: &str) -> Done {
        let daemon = self.daemon()?;
        let asked = Reason { reason: decision.reason };
        let ruled: Ruled = daemon.post(&format!("/v1/acme/orders/{}/{verb}", decision.order), &asked)?;
        self.banner(&daemon);
        match self.output {
            Output::Json => self.console.json(&ruled)?,
            Output::Name => self.console.out(&ruled.id),
            Output::Table => self.console.out(format!("{} {what}", ruled.id)),
        }
        Ok(Exit::Ok)
    }
}

fn row(order: &Order) -> Vec<Cell> {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    vec![
        Cell(order.id.clone(), Tone::Strong),
        order.names.join(", ").into(),
        order.profile.clone().into(),
        order.account.clone().into(),
        or_none(&order.external_account_key).into(),
        or_none(&order.owner).into(),
        relative(&order.since).into(),
        relative(&order.until).into(),
    ]
}
