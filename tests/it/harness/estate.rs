//! Estates for scenarios.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use keyward::domain::id::{CredentialId, IssuerId, PathId, SolverId};
use keyward::domain::inventory::{
    ApprovalPath, Ari, Care, Credential, Endpoint, Environment, Estate, Format, Install, Issuer, KeyReuse, Layout,
    Leases, Managed, Reload, ReloadHow, RenewalRules, Reopening, StartTls,
};
use keyward::domain::key::KeyAlgorithm;
use keyward::domain::limits::Limit;
use keyward::domain::name::{Name, NameSet};
use keyward::domain::policy::Policy;
use keyward::domain::time::Timestamp;

pub fn start() -> Timestamp {
    Timestamp::parse("2026-11-22T00:00:00Z").unwrap()
}

pub fn cid(text: &str) -> CredentialId {
    CredentialId::parse(text).unwrap()
}

pub fn iid(text: &str) -> IssuerId {
    IssuerId::parse(text).unwrap()
}

pub fn pid(text: &str) -> PathId {
    PathId::parse(text).unwrap()
}

pub fn names(list: &[&str]) -> NameSet {
    NameSet::new(list.iter().map(|n| Name::parse(n).unwrap()))
}

/// An estate without credentials and with the named issuers.
pub fn estate(issuers: &[(&str, &[Limit])]) -> Estate {
    let issuers = issuers.iter().map(|(id, limits)| {
        let issuer = Issuer {
            id: iid(id),
            directory: format!("https://{id}.sim/directory"),
            contacts: Vec::new(),
            limits: Arc::from(*limits),
        };
        (iid(id), Arc::new(issuer))
    });
    Estate {
        credentials: BTreeMap::new(),
        issuers: issuers.collect(),
        paths: BTreeMap::new(),
        watches: BTreeMap::new(),
        keys: BTreeMap::new(),
        policy: Policy::default(),
        environment: Environment::Production,
        full_scan: Duration::from_secs(7 * 86_400),
        probe_every: Duration::from_secs(7 * 86_400),
        lists_every: keyward::domain::inventory::LISTS_EVERY,
        orders_in_flight: 8,
        reopening: Reopening::default(),
        freezing: Default::default(),
        // Years of the usual five minutes would be a million entries that no scenario looks at; `heartbeat` scenarios say
        // so for themselves.
        heartbeat: Duration::from_secs(7 * 86_400),
    }
}

pub fn managed(names_: &[&str], issuers: &[&str]) -> Managed {
    Managed {
        spiffe: None,
        names: names(names_),
        key: KeyAlgorithm::P256,
        key_reuse: KeyReuse::Fresh,
        issuers: issuers.iter().map(|i| iid(i)).collect(),
        profile: None,
        solvers: vec![SolverId::parse("web").unwrap()],
        renewal: RenewalRules { ari: Ari::Ask, ..RenewalRules::default() },
        installs: vec![Install {
            layout: Layout::Versioned { dir: "/sim".into(), formats: BTreeSet::from([Format::Fullchain, Format::Key]) },
            owner: None,
            group: None,
            key_mode: 0o600,
            cert_mode: 0o644,
            pkcs12_password_file: None,
        }],
        reload: None,
        windows: Vec::new(),
    }
}

pub fn credential(id: &str, managed: Managed) -> Credential {
    Credential {
        id: cid(id),
        owner: Some("platform".into()),
        labels: BTreeMap::new(),
        care: Care::Managed(Box::new(managed)),
        endpoints: Vec::new(),
        purpose: None,
        crls: Vec::new(),
    }
}

pub fn add(estate: &mut Estate, credential: Credential) {
    estate.credentials.insert(credential.id.clone(), Arc::new(credential));
}

/// A served credential: an endpoint, and a reload hook.
pub fn served(id: &str, mut managed: Managed) -> Credential {
    managed.reload = Some(Reload {
        how: ReloadHow::Exec(vec!["/bin/true".into()]),
        timeout: Duration::from_secs(10),
        tries: 2,
        in_staging: false,
    });
    let mut credential = credential(id, managed);
    credential.endpoints =
        vec![Arc::new(Endpoint { host: format!("{id}.sim"), port: 443, sni: None, starttls: StartTls::None })];
    credential
}

pub fn path(estate: &mut Estate, id: &str, needs: &[&str], margin: Duration) {
    let path = ApprovalPath {
        misses: keyward::domain::inventory::USUAL_MISSES,
        id: pid(id),
        needs: needs.iter().map(|n| cid(n)).collect(),
        margin,
        depends_on: BTreeSet::new(),
        key_limit: None,
        issuer_silence: None,
        guard: Default::default(),
        when_frozen: Default::default(),
        leases: Leases::default(),
    };
    estate.paths.insert(pid(id), Arc::new(path));
}
