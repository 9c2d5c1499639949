//! Freezes: what they block and for how long, from the rules to the running daemon. (Freezing the audit log is
//! `freeze.rs`, and something else.)

mod daemon;
mod door;
mod history;
mod meet;
mod planner;
mod rules;
mod spooled;

use std::sync::Arc;

use keyward::domain::freeze::{Freeze, Scope, WhenFrozen};
use keyward::domain::id::{FreezeId, Ulid};
use keyward::domain::inventory::Estate;
use keyward::domain::limits::LETS_ENCRYPT;
use keyward::domain::time::{HOUR, MINUTE, Timestamp};
use serde_json::Value;

use crate::harness::estate::{add, credential, estate, managed, path, pid, served, start};

/// The freeze with this number.
fn fid(n: u8) -> FreezeId {
    FreezeId(Ulid::new(start(), [n; 10]))
}

fn scope(text: &str) -> Scope {
    Scope::parse(text).unwrap()
}

fn freeze(over: &str, until: Timestamp) -> Freeze {
    Freeze { scope: scope(over), reason: Arc::from("why"), by: Arc::from("who"), since: start(), until }
}

/// `approve` stands on `portal` and on the path `sign-in`, which stands on `peer`; `web` stands alone. Each has an owner
/// and a label of its own; `approve` closes when it is frozen.
fn three() -> Estate {
    let mut estate = estate(&[("le", &LETS_ENCRYPT), ("zero", &LETS_ENCRYPT)]);
    for (id, issuers) in [("portal", &["le", "zero"][..]), ("peer", &["zero"]), ("web", &["le"])] {
        let name = format!("{id}.example-{id}.com");
        let mut own = if id == "portal" {
            served(id, managed(&[&name], issuers))
        } else {
            credential(id, managed(&[&name], issuers))
        };
        own.owner = Some(format!("team {id}"));
        own.labels.insert("app".into(), id.into());
        add(&mut estate, own);
    }
    estate.probe_every = MINUTE * 10;
    path(&mut estate, "sign-in", &["peer"], HOUR);
    path(&mut estate, "approve", &["portal"], HOUR * 2);
    let mut approve = (*estate.paths[&pid("approve")]).clone();
    approve.depends_on = [pid("sign-in")].into();
    approve.when_frozen = WhenFrozen::Close;
    estate.paths.insert(pid("approve"), Arc::new(approve));
    estate
}

fn code(entry: &Value) -> &str {
    entry["data"]["code"].as_str().unwrap()
}

fn time(entry: &Value) -> Timestamp {
    Timestamp::parse(entry["time"].as_str().unwrap()).unwrap()
}
