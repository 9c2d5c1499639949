//! Estates to measure with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use keyward::domain::id::{CredentialId, IssuerId, SolverId};
use keyward::domain::inventory::{
    Care, Credential, Environment, Estate, Format, Install, Issuer, KeyReuse, Layout, Managed, RenewalRules,
};
use keyward::domain::key::KeyAlgorithm;
use keyward::domain::limits::Limit;
use keyward::domain::name::{Name, NameSet};
use keyward::domain::policy::Policy;

/// The id of the only issuer.
pub fn issuer_id() -> IssuerId {
    IssuerId::parse("ca").expect("a slug")
}

/// The id of the only solver.
pub fn solver_id() -> SolverId {
    SolverId::parse("web").expect("a slug")
}

/// The id of the `i`-th credential.
pub fn cid(i: usize) -> CredentialId {
    CredentialId::parse(&format!("c{i:05}")).expect("a slug")
}

/// An estate with one issuer and nothing to guard, at the configuration's own pace.
pub fn empty(limits: Vec<Limit>, directory: &str) -> Estate {
    let issuer =
        Issuer { id: issuer_id(), directory: directory.to_owned(), contacts: Vec::new(), limits: Arc::from(limits) };
    Estate {
        credentials: BTreeMap::new(),
        issuers: BTreeMap::from([(issuer_id(), Arc::new(issuer))]),
        paths: BTreeMap::new(),
        watches: BTreeMap::new(),
        keys: BTreeMap::new(),
        policy: Policy::default(),
        environment: Environment::Production,
        full_scan: Duration::from_secs(3_600),
        probe_every: Duration::from_secs(60),
        lists_every: keyward::domain::inventory::LISTS_EVERY,
        orders_in_flight: 8,
        reopening: keyward::domain::inventory::Reopening::USUAL,
        freezing: Default::default(),
        // Long, so that ten years are not a million entries that say nothing; the daemon's is five minutes.
        heartbeat: Duration::from_secs(7 * 86_400),
    }
}

/// Adds the `i`-th credential: one name, a P-256 key, full chain and key in a versioned directory below `dir`.
pub fn add(estate: &mut Estate, i: usize, name: &str, dir: &str) {
    let managed = Managed {
        spiffe: None,
        names: NameSet::new([Name::parse(name).expect("a name")]),
        key: KeyAlgorithm::P256,
        key_reuse: KeyReuse::Fresh,
        issuers: vec![issuer_id()],
        profile: None,
        solvers: vec![solver_id()],
        renewal: RenewalRules::default(),
        installs: vec![Install {
            layout: Layout::Versioned {
                dir: format!("{dir}/c{i:05}"),
                formats: BTreeSet::from([Format::Fullchain, Format::Key]),
            },
            owner: None,
            group: None,
            key_mode: 0o600,
            cert_mode: 0o644,
            pkcs12_password_file: None,
        }],
        reload: None,
        windows: Vec::new(),
    };
    let credential = Credential {
        id: cid(i),
        owner: Some("platform".to_owned()),
        labels: BTreeMap::new(),
        care: Care::Managed(Box::new(managed)),
        endpoints: Vec::new(),
        purpose: None,
        crls: Vec::new(),
    };
    estate.credentials.insert(credential.id.clone(), Arc::new(credential));
}
