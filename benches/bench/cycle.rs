//! One whole look over the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use keyward::domain::assessment::{Subject, assess};
use keyward::domain::certificate::{Certificate, Chain, Trust};
use keyward::domain::check::check;
use keyward::domain::execution::{Generation, Trigger};
use keyward::domain::id::{AttemptId, CredentialId, Ulid};
use keyward::domain::inventory::{Environment, Observation, Seen, Sighting};
use keyward::domain::key::Digest;
use keyward::domain::limits::LETS_ENCRYPT;
use keyward::domain::plan::{PlanInput, plan, schedule_of};
use keyward::domain::state::{CredentialRecord, State};
use keyward::domain::time::{Timestamp, Validity};

use crate::estate;
use crate::report::figure;

/// A plan for everything, its check, and every assessment: nine times, with nothing to do.
pub fn idle(count: usize) {
    let now = Timestamp::parse("2026-11-22T00:00:00Z").expect("a time");
    let mut estate = estate::empty(LETS_ENCRYPT.to_vec(), "https://ca.sim/directory");
    let (mut state, mut sightings) = (State::default(), BTreeMap::new());
    for i in 0..count {
        estate::add(&mut estate, i, &format!("c{i}.example.com"), "/sim");
        let id = estate::cid(i);
        let (record, sighting) = healthy(&estate.credentials[&id].managed().expect("managed").names, i, now);
        state.credentials.insert(id.clone(), Arc::new(record));
        sightings.insert(id, sighting);
    }
    let due: Vec<CredentialId> = estate.credentials.keys().cloned().collect();
    let running = BTreeSet::new();
    for _ in 0..9 {
        let began = Instant::now();
        let input = PlanInput {
            estate: &estate,
            state: &state,
            sightings: &sightings,
            running: &running,
            due: &due,
            stopped: None,
            now,
        };
        let made = plan(&input);
        assert!(made.actions.is_empty() && check(&made, &input).is_ok());
        for (id, credential) in &estate.credentials {
            let record = &state.credentials[id];
            let schedule = credential.managed().and_then(|m| schedule_of(m, record));
            let subject = Subject {
                credential,
                sighting: &sightings[id],
                record,
                schedule: schedule.as_ref(),
                lists: &BTreeMap::new(),
                environment: Environment::Production,
                now,
            };
            assert_eq!(assess(&subject), []);
        }
        figure(&format!("an idle cycle over {count}"), "ms", began.elapsed().as_secs_f64() * 1_000.0);
    }
}

fn healthy(names: &keyward::domain::name::NameSet, i: usize, now: Timestamp) -> (CredentialRecord, Sighting) {
    let day = Duration::from_secs(86_400);
    let validity = Validity { not_before: now.minus(day), not_after: now.plus(day * 89) };
    let fingerprint = Digest::of(&i.to_be_bytes());
    let leaf = Certificate {
        fingerprint,
        spki: fingerprint,
        serial: Arc::from(format!("{i:x}")),
        subject: String::new(),
        issuer: "CN=Root".into(),
        names: names.clone(),
        validity,
        cert_id: None,
        may_issue: false,
        purposes: keyward::domain::certificate::Purposes::ALL,
        listing: keyward::domain::certificate::Listing::default(),
        faults: keyward::domain::certificate::Faults::default(),
    };
    let current = Generation {
        slot: AttemptId(Ulid::new(now, [0; 10])),
        issuer: estate::issuer_id(),
        fingerprint,
        spki: fingerprint,
        serial: leaf.serial.clone(),
        cert_id: None,
        validity,
        names: names.clone(),
        trigger: Trigger::First,
        installed_at: now,
        verified_at: Some(now),
        key_since: now,
    };
    let record = CredentialRecord { current: Some(current), ..CredentialRecord::default() };
    let chain = Chain { leaf: Arc::new(leaf), above: Vec::new(), trust: Trust::Anchored };
    let stored = Some(Observation { at: now, seen: Seen::Present(Arc::new(chain)) });
    (record, Sighting { stored, ..Sighting::default() })
}
