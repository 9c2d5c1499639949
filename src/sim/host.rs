//! The simulated machine: key store, files, servers with their endpoints, challenge responses.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::certificate::{Certificate, Chain, Trust};
use crate::domain::id::{AttemptId, CredentialId, IssuerId, SolverId};
use crate::domain::inventory::{
    Credential, CrlFacts, CrlSeen, Endpoint, Estate, Install, KeyReuse, Reload, Seen, Source,
};
use crate::domain::key::{Digest, KeyAlgorithm};
use crate::domain::name::{Name, NameSet};
use crate::domain::time::{Timestamp, Validity};
use crate::ports::{
    Accepted, ChallengeKind, ChallengeTask, Clock, Deployer, Doing, Expected, HostError, KeyStore, PrivateKey, Prober,
    Solver, SolverError,
};
use crate::sim::ca::{ISSUED_BY, Issued, SimCa};
use crate::sim::clock::SimClock;
use crate::sim::world::Steps;

/// The machine. Everything in it outlasts a crash of the guardian.
#[derive(Debug)]
pub struct SimHost {
    clock: Arc<SimClock>,
    steps: Arc<Steps>,
    ca: Arc<SimCa>,
    root: Arc<Certificate>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    slots: BTreeMap<AttemptId, Slot>,
    /// What is installed.
    installed: BTreeMap<CredentialId, Installed>,
    /// What the server took at its last reload.
    loaded: BTreeMap<CredentialId, AttemptId>,
    endpoints: BTreeMap<Arc<Endpoint>, CredentialId>,
    reload_ignored: BTreeSet<CredentialId>,
    reload_fails: BTreeSet<CredentialId>,
    installs: u64,
    /// Sets that had ended when their successors were installed.
    lapses: u64,
    /// Revocation lists by file.
    lists: BTreeMap<String, SimList>,
}

/// A revocation list of the simulated root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SimList {
    /// One that covers whatever the root signed.
    Good {
        /// When it was made.
        this_update: Timestamp,
        /// When the next one is due.
        next_update: Timestamp,
        /// The serials on it.
        revoked: BTreeSet<String>,
    },
    /// A file that is no such list; the text says why.
    Bad(String),
}

/// The files of a credential.
#[derive(Clone, Debug)]
struct Installed {
    slot: AttemptId,
    chain: Option<Arc<Chain>>,
}

#[derive(Clone, Debug)]
struct Slot {
    csr: Vec<u8>,
    spki: Digest,
    chain: Option<(Arc<Chain>, Arc<str>)>,
}

impl SimHost {
    pub(super) fn new(clock: Arc<SimClock>, steps: Arc<Steps>, ca: Arc<SimCa>, estate: &Estate) -> Self {
        let root = Certificate {
            fingerprint: Digest::of(b"sim root"),
            spki: Digest::of(b"sim root key"),
            serial: "01".into(),
            subject: ISSUED_BY.to_owned(),
            issuer: ISSUED_BY.to_owned(),
            names: NameSet::default(),
            validity: Validity { not_before: Timestamp::from_unix(0), not_after: Timestamp::MAX },
            cert_id: None,
            may_issue: true,
            purposes: crate::domain::certificate::Purposes::ALL,
            listing: crate::domain::certificate::Listing::default(),
            faults: crate::domain::certificate::Faults::default(),
        };
        let host = Self { clock, steps, ca, root: Arc::new(root), inner: Mutex::default() };
        host.know(estate);
        host
    }

    pub(super) fn know(&self, estate: &Estate) {
        let mut inner = self.lock();
        for credential in estate.credentials.values() {
            for endpoint in &credential.endpoints {
                inner.endpoints.insert(endpoint.clone(), credential.id.clone());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server of this credential takes no new files any more, and says that it did.
    pub fn ignore_reloads(&self, id: &CredentialId, ignored: bool) {
        let mut inner = self.lock();
        if ignored {
            inner.reload_ignored.insert(id.clone())
        } else {
            inner.reload_ignored.remove(id)
        };
    }

    /// The reload hook of this credential fails.
    pub fn fail_reloads(&self, id: &CredentialId, fails: bool) {
        let mut inner = self.lock();
        if fails {
            inner.reload_fails.insert(id.clone())
        } else {
            inner.reload_fails.remove(id)
        };
    }

    /// Somebody deletes the installed files.
    pub fn delete_files(&self, id: &CredentialId) {
        self.lock().installed.remove(id);
    }

    /// Puts a revocation list into a file; without one, the file is deleted.
    pub fn set_list(&self, file: &str, list: Option<SimList>) {
        let mut inner = self.lock();
        match list {
            Some(list) => inner.lists.insert(file.to_owned(), list),
            None => inner.lists.remove(file),
        };
    }

    /// The chain that is installed for a credential, if any.
    #[must_use]
    pub fn installed(&self, id: &CredentialId) -> Option<Arc<Chain>> {
        let inner = self.lock();
        inner.installed.get(id)?.chain.clone()
    }

    /// How many key slots there are.
    #[must_use]
    pub fn slot_count(&self) -> usize {
        self.lock().slots.len()
    }

    /// How many sets were installed so far.
    #[must_use]
    pub fn installs(&self) -> u64 {
        self.lock().installs
    }

    /// How many sets had ended before their successors were installed, so far.
    #[must_use]
    pub fn lapses(&self) -> u64 {
        self.lock().lapses
    }

    fn chain_of(&self, inner: &Inner, slot: Option<&AttemptId>) -> Seen {
        let chain = slot.and_then(|s| inner.slots.get(s)).and_then(|s| s.chain.as_ref());
        chain.map_or(Seen::Missing, |(chain, _)| Seen::Present(chain.clone()))
    }
}

impl KeyStore for SimHost {
    fn prepare<'a>(
        &'a self,
        slot: AttemptId,
        _algorithm: KeyAlgorithm,
        names: &'a NameSet,
        reuse: KeyReuse,
        previous: Option<AttemptId>,
    ) -> Doing<'a, Result<Vec<u8>, HostError>> {
        Box::pin(async move {
            self.steps.step().await;
            let csr = {
                let mut inner = self.lock();
                let kept = previous.filter(|_| reuse == KeyReuse::Keep).and_then(|p| inner.slots.get(&p));
                let csr = kept.map_or_else(
                    || [&slot.0.text(), b" ".as_slice(), names.key().as_bytes()].concat(),
                    |s| s.csr.clone(),
                );
                let fresh = || Slot { spki: Digest::of(&csr), csr, chain: None };
                inner.slots.entry(slot).or_insert_with(fresh).csr.clone()
            };
            self.steps.step().await;
            Ok(csr)
        })
    }

    fn accept<'a>(
        &'a self,
        slot: AttemptId,
        _issuer: &'a IssuerId,
        pem: &'a str,
        expected: Expected<'a>,
        now: Timestamp,
    ) -> Doing<'a, Result<Accepted, HostError>> {
        Box::pin(async move {
            self.steps.step().await;
            let Issued { text, leaf } =
                self.ca.issued(pem).ok_or_else(|| HostError("is no certificate of the simulated CAs".into()))?;
            let chain = {
                let mut inner = self.lock();
                let own = inner.slots.get_mut(&slot).ok_or_else(|| HostError("there is no such slot".into()))?;
                if leaf.spki != own.spki {
                    return Err(HostError("is for another key".into()));
                }
                if leaf.names != *expected.names || !leaf.validity.contains(now) {
                    return Err(HostError("is for other names, or not valid now".into()));
                }
                let above = vec![self.root.clone()];
                let chain = Arc::new(Chain { leaf, above, trust: Trust::Anchored });
                own.chain = Some((chain.clone(), text));
                chain
            };
            self.steps.step().await;
            Ok(Accepted { chain })
        })
    }

    fn chain(&self, slot: AttemptId) -> Doing<'_, Result<(Arc<Chain>, String), HostError>> {
        Box::pin(async move {
            let chain = self.lock().slots.get(&slot).and_then(|s| s.chain.clone());
            let (chain, pem) = chain.ok_or_else(|| HostError("there is no such slot".into()))?;
            Ok((chain, pem.to_string()))
        })
    }

    fn private_key(&self, _slot: AttemptId) -> Doing<'_, Result<PrivateKey, HostError>> {
        Box::pin(async { Err(HostError("the simulation has no private keys".into())) })
    }

    fn destroy(&self, slot: AttemptId) -> Doing<'_, Result<(), HostError>> {
        Box::pin(async move {
            self.steps.step().await;
            self.lock().slots.remove(&slot);
            Ok(())
        })
    }

    fn slots(&self) -> Doing<'_, Result<Vec<AttemptId>, HostError>> {
        Box::pin(async { Ok(self.lock().slots.keys().copied().collect()) })
    }
}

impl Deployer for SimHost {
    fn install<'a>(
        &'a self,
        credential: &'a CredentialId,
        _installs: &'a [Install],
        slot: AttemptId,
    ) -> Doing<'a, Result<(), HostError>> {
        Box::pin(async move {
            self.steps.step().await;
            {
                let mut inner = self.lock();
                inner.installs = inner.installs.saturating_add(1);
                let chain = inner.slots.get(&slot).and_then(|s| s.chain.as_ref()).map(|(chain, _)| chain.clone());
                let old = inner.installed.insert(credential.clone(), Installed { slot, chain });
                let old = old.and_then(|old| old.chain);
                let lapsed = old.is_some_and(|chain| chain.leaf.validity.not_after < self.clock.now());
                inner.lapses = inner.lapses.saturating_add(u64::from(lapsed));
            }
            self.steps.step().await;
            Ok(())
        })
    }

    fn reload<'a>(
        &'a self,
        credential: &'a CredentialId,
        _reload: &'a Reload,
        _slot: AttemptId,
    ) -> Doing<'a, Result<(), HostError>> {
        Box::pin(async move {
            self.steps.step().await;
            {
                let mut inner = self.lock();
                if inner.reload_fails.contains(credential) {
                    return Err(HostError("the hook ended with exit code 1".into()));
                }
                let installed = inner.installed.get(credential).map(|installed| installed.slot);
                if let Some(slot) = installed.filter(|_| !inner.reload_ignored.contains(credential)) {
                    inner.loaded.insert(credential.clone(), slot);
                }
            }
            self.steps.step().await;
            Ok(())
        })
    }

    fn prune<'a>(
        &'a self,
        _credential: &'a CredentialId,
        _installs: &'a [Install],
        _keep: &'a [AttemptId],
    ) -> Doing<'a, Result<(), HostError>> {
        Box::pin(async { Ok(()) })
    }
}

impl Prober for SimHost {
    fn stored<'a>(&'a self, credential: &'a Credential) -> Doing<'a, Seen> {
        Box::pin(async move {
            let inner = self.lock();
            let chain = inner.installed.get(&credential.id).and_then(|installed| installed.chain.clone());
            chain.map_or(Seen::Missing, Seen::Present)
        })
    }

    fn source<'a>(&'a self, _source: &'a Source) -> Doing<'a, Seen> {
        Box::pin(async { Seen::Missing })
    }

    fn matches<'a>(&'a self, _pattern: &'a str) -> Doing<'a, Result<Vec<String>, HostError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn served<'a>(&'a self, endpoint: &'a Endpoint) -> Doing<'a, Seen> {
        Box::pin(async move {
            self.clock.sleep(Duration::from_millis(1)).await;
            let inner = self.lock();
            let owner = inner.endpoints.iter().find(|(e, _)| ***e == *endpoint).map(|(_, id)| id.clone());
            owner.map_or(Seen::Missing, |id| self.chain_of(&inner, inner.loaded.get(&id)))
        })
    }

    fn crls<'a>(&'a self, credential: &'a Credential, chain: &'a Arc<Chain>) -> Doing<'a, BTreeMap<String, CrlSeen>> {
        Box::pin(async move {
            let inner = self.lock();
            let seen =
                |file: &String| (file.clone(), inner.lists.get(file).map_or(CrlSeen::Missing, |l| l.about(chain)));
            credential.list_files().map(seen).collect()
        })
    }
}

impl SimList {
    pub(super) fn about(&self, chain: &Chain) -> CrlSeen {
        match self {
            Self::Bad(why) => CrlSeen::Unusable(why.clone()),
            Self::Good { this_update, next_update, revoked } => {
                // Everything but the root.
                let below: Vec<_> = chain.elements().take(chain.above.len()).collect();
                CrlSeen::Present(CrlFacts {
                    this_update: *this_update,
                    next_update: Some(*next_update),
                    covers: below.iter().map(|c| c.fingerprint).collect(),
                    revokes: below.iter().filter(|c| revoked.contains(&*c.serial)).map(|c| c.fingerprint).collect(),
                })
            }
        }
    }
}

impl Solver for SimHost {
    fn kinds(&self, _solver: &SolverId, _name: &Name) -> Vec<ChallengeKind> {
        vec![ChallengeKind::Http01, ChallengeKind::Dns01]
    }

    fn present<'a>(&'a self, _solver: &'a SolverId, _task: &'a ChallengeTask) -> Doing<'a, Result<(), SolverError>> {
        Box::pin(async move {
            self.steps.step().await;
            Ok(())
        })
    }

    fn cleanup<'a>(&'a self, _solver: &'a SolverId, _task: &'a ChallengeTask) -> Doing<'a, Result<(), SolverError>> {
        Box::pin(async move {
            self.steps.step().await;
            Ok(())
        })
    }
}
