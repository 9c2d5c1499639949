//! Comparing the uses of all keys: certificates, CAs, accounts, tracked keys.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::domain::assessment::{Finding, Severity};
use crate::domain::certificate::display_name;
use crate::domain::id::{CredentialId, IssuerId, KeyId};
use crate::domain::key::Digest;
use crate::domain::keyring::{OLD_DIGEST, Use, User, WEAK, reuses};
use crate::engine::Desk;
use crate::engine::keys::change::is_blocked;
use crate::engine::keys::{Tracker, locked};
use crate::ports::{Notice, Urgency};

/// How often: with 10,000 certificates it takes some milliseconds.
const EVERY: Duration = Duration::from_secs(10);

impl Tracker {
    /// Finds out who shares keys, and which are weak.
    pub(super) async fn compare_uses(&self) {
        let boot = self.engine.ports.clock.boottime();
        let recent = locked(&self.compared).is_some_and(|at| boot.since(at) < EVERY);
        if recent || self.believe_clock().is_err() {
            return;
        }
        let accounts = self.probe.accounts().await;
        *locked(&self.compared) = Some(boot);
        let now = self.now();
        let (certificates, keys) = {
            let desk = self.engine.read();
            found(&desk, &accounts)
        };
        let tell = |about: String, owner: Option<String>, found: &[Finding]| {
            self.tell_once(&format!("uses/{about}"), found, now, |finding, urgent: Urgency| {
                let (owner, text) = (owner.clone(), finding.text.clone());
                let notice = Notice { about: about.clone(), owner, code: finding.code, text, urgent };
                self.engine.ports.notifier.notify(notice);
            });
        };
        let old = {
            let desk = self.engine.read();
            (desk.use_findings.clone(), desk.key_uses.clone())
        };
        if old != (certificates.clone(), keys.clone()) {
            let mut desk = self.engine.write();
            desk.use_findings = certificates.clone();
            desk.key_uses = keys.clone();
        }
        let (gone, gone_keys) = (old.0.keys().filter(|id| !certificates.contains_key(*id)), old.1.keys());
        gone.for_each(|id| tell(id.to_string(), None, &[]));
        gone_keys.filter(|id| !keys.contains_key(*id)).for_each(|id| tell(format!("key/{id}"), None, &[]));
        let estate = self.engine.estate();
        for (id, found) in &certificates {
            tell(id.to_string(), estate.credentials.get(id).and_then(|c| c.owner.clone()), found);
        }
        for (id, found) in &keys {
            tell(format!("key/{id}"), estate.keys.get(id).and_then(|k| k.owner.clone()), found);
        }
    }
}

type Found = (BTreeMap<CredentialId, Vec<Finding>>, BTreeMap<KeyId, Vec<Finding>>);

fn found(desk: &Desk, accounts: &BTreeMap<IssuerId, Digest>) -> Found {
    let (mut certificates, mut keys): Found = Default::default();
    for (user, found) in reuses(&uses(desk, accounts), |key| is_blocked(&desk.state, key)) {
        match user {
            User::Certificate(id) => certificates.entry(id).or_default().extend(found),
            User::Key(id) => keys.entry(id).or_default().extend(found),
            // Whoever shares a key with them is told.
            User::Generation(..) | User::Above(_) | User::Account(_) => {}
        }
    }
    for (id, sighting) in &desk.sightings {
        let Some(chain) = sighting.chain() else { continue };
        let mut add = |code, text| {
            let own = certificates.entry(id.clone()).or_default();
            own.push(Finding { code, severity: Severity::Warning, text });
        };
        // Nobody relies on the signature of an anchor.
        for element in chain.below_anchor() {
            if let Some(why) = &element.faults.key {
                add(WEAK, format!("{id}: the key of {} {why}", display_name(element)));
            }
            if let Some(name) = element.faults.signature {
                add(OLD_DIGEST, format!("{id}: {} is signed with {name}", display_name(element)));
            }
        }
    }
    (certificates, keys)
}

/// Every use of every key that is known.
fn uses(desk: &Desk, accounts: &BTreeMap<IssuerId, Digest>) -> Vec<Use> {
    let mut all = Vec::new();
    for (id, sighting) in &desk.sightings {
        let credential = desk.estate.credentials.get(id);
        let chains = sighting.stored.iter().chain(sighting.served.values()).filter_map(|o| o.seen.chain());
        for chain in chains {
            let leaf = &chain.leaf;
            all.push(Use {
                key: leaf.spki,
                by: User::Certificate(id.clone()),
                certificate: Some(leaf.fingerprint),
                owner: credential.and_then(|c| c.owner.clone()),
                environment: credential.and_then(|c| c.labels.get("env").cloned()),
                ca: Some(leaf.issuer.clone()),
            });
            // A certificate that signed itself is above nothing.
            for element in chain.above.iter().filter(|element| element.fingerprint != leaf.fingerprint) {
                let by = User::Above(display_name(element));
                all.push(plain(element.spki, by, Some(element.fingerprint)));
            }
        }
    }
    for (id, generation) in &desk.state.generations {
        let places = [("root", &generation.root), ("issuing CA", &generation.issuing)];
        for (place, key) in places.into_iter().filter_map(|(place, key)| Some((place, key.as_ref()?))) {
            all.push(plain(key.key, User::Generation(id.clone(), place), None));
        }
    }
    all.extend(accounts.iter().map(|(id, key)| plain(*key, User::Account(id.clone()), None)));
    for (id, key) in &desk.estate.keys {
        let record = desk.state.keys.get(id);
        let sight = desk.key_sights.get(id);
        let current = record.and_then(|r| r.current.as_ref());
        let Some(print) = sight.and_then(|s| s.print).or_else(|| current.and_then(|v| v.print)) else { continue };
        all.push(Use {
            key: print.digest(),
            by: User::Key(id.clone()),
            certificate: current.and_then(|v| v.wrapped).map(|w| w.fingerprint),
            owner: key.owner.clone(),
            environment: key.environment.clone(),
            ca: None,
        });
    }
    all
}

fn plain(key: Digest, by: User, certificate: Option<Digest>) -> Use {
    Use { key, by, certificate, owner: None, environment: None, ca: None }
}
