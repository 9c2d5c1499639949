//! What ACME directories remember, as patches.

use super::Patch;
use crate::domain::directory::{Account, Order};
use crate::domain::key::hex;

pub(super) fn account(p: &mut Patch<'_, '_>, old: Option<&Account>, new: &Account) {
    let Account { key, contacts, standing, grant, at } = new;
    p.time("at", old.map(|o| o.at), Some(*at));
    p.private("contacts", old.and_then(|o| o.contacts.as_ref()), contacts.as_ref());
    p.text("grant", old.and_then(|o| o.grant.as_deref()), grant.as_deref());
    p.text("key", old.map(|o| &*o.key), Some(key));
    p.text("standing", old.map(|o| o.standing.as_str()), Some(standing.as_str()));
}

pub(super) fn order(p: &mut Patch<'_, '_>, old: Option<&Order>, new: &Order) {
    let Order { account, names, profile, replaces, at, expires, ruled, stage, authorizations: _, errors } = new;
    let spki = |order: &Order| order.stage.spki().map(|spki| hex(spki));
    p.digits("account", old.map(|o| o.account), *account);
    p.time("at", old.map(|o| o.at), Some(*at));
    p.private("errors", old.and_then(|o| o.errors.as_ref()), errors.as_ref());
    p.time("expires", old.map(|o| o.expires), Some(*expires));
    p.names(old.map(|o| &o.names), names);
    p.text("profile", old.map(|o| o.profile.as_str()), Some(profile.as_str()));
    p.text("proofs", old.map(Order::proofs).as_deref(), Some(&new.proofs()));
    p.text("replaces", old.and_then(|o| o.replaces.as_ref()).map(|c| &*c.0), replaces.as_ref().map(|c| &*c.0));
    p.time("ruled", old.and_then(|o| o.ruled), *ruled);
    p.text("serial", old.and_then(|o| o.stage.serial()).map(|s| &**s), stage.serial().map(|s| &**s));
    p.time("since", old.and_then(|o| o.stage.since()), stage.since());
    p.text("spki", old.and_then(spki).as_deref(), spki(new).as_deref());
    p.text("stage", old.map(|o| o.stage.as_str()), Some(stage.as_str()));
}
