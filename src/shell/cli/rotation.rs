//! `keyward ca rotate` and what else belongs to a rotation.

use clap::Args;

use super::args::Output;
use super::console::{Cell, Exit, Failure, Tone, relative};
use super::{Done, Run};
use crate::shell::http::ca::rotation_model::{
    Acknowledge, CrossSign, Crossed, Distrust, Emergency, Order, Plan, Rotation, SignOff,
};

#[derive(Debug, Args)]
pub(super) struct Rotate {
    /// The CA's id
    ca: String,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["plan", "status"])]
    reason: Option<String>,
    /// Play the next rotation through over the inventory, and name who would break; nothing is started
    #[arg(long, conflicts_with = "status")]
    plan: bool,
    /// How the rotation stands, and what waits for whom; nothing is started
    #[arg(long)]
    status: bool,
}

#[derive(Debug, Args)]
pub(super) struct OfGeneration {
    /// The CA's id
    ca: String,
    /// The number of the generation
    generation: u32,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

#[derive(Debug, Args)]
pub(super) struct EmergencyArgs {
    /// The CA's id
    ca: String,
    /// Sign off what breaks: the digest that was shown
    #[arg(long, value_name = "DIGEST")]
    sign_off: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct DistrustArgs {
    /// The CA's id
    ca: String,
    /// All of it
    #[arg(long, required = true)]
    all: bool,
    /// The CA's id, once more: it cannot be taken back
    #[arg(long, value_name = "CA")]
    type_name: String,
}

#[derive(Debug, Args)]
pub(super) struct Cross {
    /// The CA's id
    ca: String,
    /// The generation whose root is certified
    #[arg(long, value_name = "GENERATION")]
    subject: u32,
    /// The generation whose root certifies it
    #[arg(long, value_name = "GENERATION")]
    issuer: u32,
}

#[derive(Debug, Args)]
pub(super) struct Acknowledged {
    /// The CA's id
    ca: String,
    /// The relying party that goes by the bundle
    #[arg(long, value_name = "ID")]
    party: String,
    /// The bundle's version
    #[arg(long)]
    version: u64,
    /// The bundle's digest
    #[arg(long)]
    digest: String,
}

impl Run {
    pub(super) fn ca_rotate(&self, asked: Rotate) -> Done {
        let daemon = self.daemon()?;
        let place = format!("/v1/ca/{}", asked.ca);
        if asked.plan {
            let plan: Plan = daemon.get(&format!("{place}/rotation/plan"))?;
            self.banner(&daemon);
            return self.show_plan(&plan);
        }
        let rotation: Rotation = if asked.status {
            daemon.get(&format!("{place}/rotation"))?
        } else {
            daemon.post(&format!("{place}/rotate"), &Order { generation: None, reason: asked.reason })?
        };
        self.banner(&daemon);
        self.show_rotation(&rotation)
    }

    pub(super) fn ca_rollback(&self, asked: OfGeneration) -> Done {
        self.ca_order("rollback", asked)
    }

    pub(super) fn ca_compromised(&self, asked: OfGeneration) -> Done {
        let ca = asked.ca.clone();
        let done = self.ca_order("compromised", asked)?;
        if self.output == Output::Table {
            self.console.note(format!("a replacement is made first; what breaks: keyward ca emergency {ca}"));
        }
        Ok(done)
    }

    pub(super) fn ca_revoke_generation(&self, ca: String, generation: u32, reason: String) -> Done {
        self.ca_order("revoke", OfGeneration { ca, generation, reason })
    }

    fn ca_order(&self, what: &str, asked: OfGeneration) -> Done {
        let daemon = self.daemon()?;
        let order = Order { generation: Some(asked.generation), reason: Some(asked.reason) };
        let rotation: Rotation = daemon.post(&format!("/v1/ca/{}/{what}", asked.ca), &order)?;
        self.banner(&daemon);
        self.show_rotation(&rotation)
    }

    pub(super) fn ca_emergency(&self, asked: EmergencyArgs) -> Done {
        let daemon = self.daemon()?;
        let place = format!("/v1/ca/{}/emergency", asked.ca);
        let found: Emergency = match &asked.sign_off {
            Some(digest) => daemon.post(&place, &SignOff { digest: digest.clone() })?,
            None => daemon.get(&place)?,
        };
        self.banner(&daemon);
        if self.output == Output::Json {
            self.console.json(&found)?;
            return Ok(Exit::Ok);
        }
        match (found.breaks, found.digest) {
            (Some(breaks), Some(digest)) if asked.sign_off.is_none() => {
                self.console.out(self.console.paint(&breaks, Tone::Bad));
                let ca = &asked.ca;
                self.console.note(format!("to have it so: keyward ca emergency {ca} --sign-off {digest}"));
            }
            (Some(breaks), _) => self.console.out(format!("signed off: {breaks}")),
            (None, _) => self.console.note(
                "nothing waits for a sign-off: nothing that is trusted is compromised, or its replacement is not staged yet",
            ),
        }
        Ok(Exit::Ok)
    }

    pub(super) fn ca_distrust(&self, asked: DistrustArgs) -> Done {
        let DistrustArgs { ca, all: _, type_name: name } = asked;
        if name != ca {
            let text = format!("--type-name says {name:?}, and the CA is {ca:?}");
            return Err(Failure::new(Exit::Usage, text, "type the id of the CA that nobody is to trust any more"));
        }
        let daemon = self.daemon()?;
        let rotation: Rotation = daemon.post(&format!("/v1/ca/{ca}/distrust"), &Distrust { name })?;
        self.banner(&daemon);
        self.show_rotation(&rotation)
    }

    pub(super) fn ca_cross_sign(&self, asked: &Cross) -> Done {
        let daemon = self.daemon()?;
        let order = CrossSign { subject: asked.subject, issuer: asked.issuer };
        let made: Crossed = daemon.post(&format!("/v1/ca/{}/cross-sign", asked.ca), &order)?;
        self.banner(&daemon);
        match self.output {
            Output::Json => self.console.json(&made)?,
            Output::Name => self.console.out(&made.sha256),
            Output::Table => self.console.out(format!(
                "the root of generation {} is certified by that of generation {}: {}",
                asked.subject, asked.issuer, made.sha256
            )),
        }
        Ok(Exit::Ok)
    }

    pub(super) fn ca_acknowledge(&self, asked: Acknowledged) -> Done {
        let daemon = self.daemon()?;
        let Acknowledged { ca, party, version, digest } = asked;
        let said = Acknowledge { party, version, digest };
        let rotation: Rotation = daemon.post(&format!("/v1/ca/{ca}/acknowledge"), &said)?;
        self.banner(&daemon);
        self.show_rotation(&rotation)
    }

    fn show_rotation(&self, all: &Rotation) -> Done {
        match self.output {
            Output::Json => self.console.json(all)?,
            Output::Name => all.generations.iter().for_each(|g| self.console.out(format!("{}/{}", all.ca, g.number))),
            Output::Table => self.print_rotation(all),
        }
        Ok(if all.findings.is_empty() { Exit::Ok } else { Exit::Warning })
    }

    fn print_rotation(&self, all: &Rotation) {
        let rows: Vec<Vec<Cell>> = all
            .generations
            .iter()
            .map(|g| {
                let tone = if g.phase == "signing" { Tone::Good } else { Tone::Warn };
                vec![
                    Cell(format!("{}/{}", all.ca, g.number), Tone::Strong),
                    Cell(g.phase.clone(), tone),
                    relative(&g.since).into(),
                    relative(&g.ends).into(),
                    g.leaves.to_string().into(),
                    g.last_leaf_ends.as_deref().map_or_else(|| "-".to_owned(), relative).into(),
                ]
            })
            .collect();
        self.console.table(&["GENERATION", "PHASE", "SINCE", "ENDS", "LEAVES", "LAST LEAF ENDS"], &rows);
        let digest = all.bundle.as_deref().unwrap_or("nothing is trusted");
        self.console.out(format!("bundle: version {}, {digest}", all.bundle_version));
        if !all.parties.is_empty() {
            let rows: Vec<Vec<Cell>> = all
                .parties
                .iter()
                .map(|p| {
                    let has = p.acknowledged.map_or_else(|| "-".to_owned(), |v| v.to_string());
                    let tone = if p.acknowledged == Some(all.bundle_version) { Tone::Good } else { Tone::Warn };
                    let canaries = if p.canaries.is_empty() { "-".to_owned() } else { p.canaries.join("; ") };
                    vec![
                        Cell(p.id.clone(), Tone::Strong),
                        p.owner.clone().into(),
                        p.shows.clone().into(),
                        Cell(has, tone),
                        canaries.into(),
                    ]
                })
                .collect();
            self.console.table(&["RELYING PARTY", "OWNER", "SHOWS", "BUNDLE", "CANARIES"], &rows);
        }
        for next in &all.next {
            self.console.out(format!("next: {next}"));
        }
        for held in &all.waits {
            self.console.out(format!("waits: {}: {}", held.what, held.until));
        }
        for finding in &all.findings {
            self.console.out(self.console.paint(&format!("{}: {}", finding.code, finding.text), Tone::Bad));
        }
    }

    fn show_plan(&self, plan: &Plan) -> Done {
        let breaks = plan.phases.iter().any(|p| !p.breaks.is_empty());
        match self.output {
            Output::Json => self.console.json(plan)?,
            Output::Name => plan.phases.iter().for_each(|p| self.console.out(format!("{}/{}", plan.ca, p.generation))),
            Output::Table => {
                for phase in &plan.phases {
                    let what = format!("{}/{} is {}", plan.ca, phase.generation, phase.phase);
                    self.console.out(format!("not before {}: {what}", phase.at));
                    for broken in &phase.breaks {
                        self.console.out(format!("  {}", self.console.paint(broken, Tone::Warn)));
                    }
                }
                self.console.note(match breaks {
                    true => "each phase waits until nobody named at it would break",
                    false => "nobody would break",
                });
            }
        }
        Ok(if breaks { Exit::Warning } else { Exit::Ok })
    }
}
