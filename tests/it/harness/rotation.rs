//! A private CA in one process: real bytes and rules, keys and relying parties in memory, and a clock that a test moves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use keyward::adapters::mint::X509Mint;
use keyward::codec::ca::{ToSign, assemble};
use keyward::codec::verify::{self, Roots};
use keyward::codec::x509::{Limits, certificates_from};
use keyward::domain::authority::{Ca, Constraints, NamePattern, Profile, Wish};
use keyward::domain::certificate::{Purposes, Trust};
use keyward::domain::id::{CaId, ProfileId, RelyingPartyId};
use keyward::domain::inventory::Estate;
use keyward::domain::key::{Digest, KeyAlgorithm};
use keyward::domain::name::{Name, NameSet};
use keyward::domain::rotation::{Party, Phase, Renewal, Setting, Shows};
use keyward::domain::spiffe::{PathPattern, SpiffeId, TrustDomain};
use keyward::domain::time::DAY;
use keyward::engine::Engine;
use keyward::engine::authority::{Authority, Denied, Doors, Given};
use keyward::ports::*;
use keyward::sim::store::MemoryStore;
use keyward::sim::world::World;

use super::acme::TestClock;
use super::ca_bytes::Key;

pub fn ca_id() -> CaId {
    CaId::parse("mesh").unwrap()
}

pub fn party(id: &str) -> RelyingPartyId {
    RelyingPartyId::parse(id).unwrap()
}

/// The keys of a CA, in memory; it believes every warrant that names the operation.
#[derive(Default)]
pub struct MemoryHolder {
    keys: Mutex<BTreeMap<Digest, Held>>,
    /// What was signed with them (DER), once somebody wants to know.
    signed: Mutex<Option<Vec<Signed>>>,
}

type Held = (Arc<str>, Arc<Key>);
pub type Signed = (ToBeSigned, Vec<u8>);

impl MemoryHolder {
    pub fn has(&self, key: &Digest) -> bool {
        self.keys.lock().unwrap().contains_key(key)
    }

    /// Keeps everything that it signs from now on.
    pub fn keep(&self) {
        self.signed.lock().unwrap().get_or_insert_default();
    }

    /// What it kept.
    pub fn kept(&self) -> Vec<Signed> {
        self.signed.lock().unwrap().take().unwrap_or_default()
    }
}

impl KeyHolder for MemoryHolder {
    fn status(&self) -> Doing<'_, Result<HolderStatus, HolderError>> {
        let status =
            HolderStatus { version: "test".into(), process: 1, operations: 0, log_size: 0, confinement: Vec::new() };
        Box::pin(async move { Ok(status) })
    }

    fn keys(&self) -> Doing<'_, Result<Vec<HeldKey>, HolderError>> {
        Box::pin(async { Ok(self.keys.lock().unwrap().values().map(|(label, key)| held(label, key)).collect()) })
    }

    fn generate<'a>(
        &'a self,
        algorithm: KeyAlgorithm,
        label: &'a str,
        _: &'a Warrant,
    ) -> Doing<'a, Result<HeldKey, HolderError>> {
        Box::pin(async move {
            let key = Arc::new(Key::new(algorithm));
            let label: Arc<str> = Arc::from(label);
            let made = held(&label, &key);
            self.keys.lock().unwrap().insert(Digest::of(&key.spki), (label, key));
            Ok(made)
        })
    }

    fn import<'a>(&'a self, _: &'a PrivateKey, _: &'a str, _: &'a Warrant) -> Doing<'a, Result<HeldKey, HolderError>> {
        Box::pin(async { Err(HolderError::Refused("nothing is imported here".into())) })
    }

    fn sign<'a>(
        &'a self,
        key: Digest,
        kind: ToBeSigned,
        tbs: &'a [u8],
        _: &'a Warrant,
    ) -> Doing<'a, Result<Vec<u8>, HolderError>> {
        Box::pin(async move {
            let key = self.keys.lock().unwrap().get(&key).map(|(_, key)| key.clone());
            let key = key.ok_or_else(|| HolderError::Refused("there is no such key".into()))?;
            let signature = key.signature(tbs);
            if let Some(kept) = self.signed.lock().unwrap().as_mut() {
                let to_sign = ToSign { bytes: tbs.to_vec(), algorithm: key.algorithm };
                kept.push((kind, assemble(&to_sign, &signature)));
            }
            Ok(signature)
        })
    }

    fn destroy<'a>(&'a self, key: Digest, _: &'a Warrant) -> Doing<'a, Result<(), HolderError>> {
        Box::pin(async move {
            let gone = self.keys.lock().unwrap().remove(&key);
            gone.map(drop).ok_or_else(|| HolderError::Refused("there is no such key".into()))
        })
    }

    fn records(&self, _: u64) -> Doing<'_, Result<Vec<HolderRecord>, HolderError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

fn held(label: &Arc<str>, key: &Key) -> HeldKey {
    HeldKey { spki: key.spki.clone(), algorithm: key.algorithm, label: label.clone(), signatures: 0 }
}

#[derive(Default)]
pub struct MemoryShelf(Mutex<BTreeMap<String, Vec<u8>>>);

impl Shelf for MemoryShelf {
    fn put<'a>(&'a self, name: &'a str, bytes: &'a [u8]) -> Doing<'a, Result<(), HostError>> {
        Box::pin(async move {
            self.0.lock().unwrap().insert(name.to_owned(), bytes.to_vec());
            Ok(())
        })
    }

    fn get<'a>(&'a self, name: &'a str) -> Doing<'a, Result<Option<Vec<u8>>, HostError>> {
        Box::pin(async move { Ok(self.0.lock().unwrap().get(name).cloned()) })
    }
}

pub struct NoAnchors;

impl Anchors for NoAnchors {
    fn trust(&self, _: &CaId, _: &[Arc<[u8]>]) {}
}

/// What a relying party trusts: the bundle that it took last.
#[derive(Clone, Default)]
pub struct Trusts {
    roots: Roots,
    /// Refuses every canary, whatever it trusts.
    pub stubborn: bool,
}

impl Trusts {
    pub fn accepts(&self, chain: &[Arc<[u8]>]) -> bool {
        !self.stubborn && matches!(verify::chain(chain, &self.roots), Ok(c) if c.trust == Trust::Anchored)
    }
}

#[derive(Default)]
pub struct Parties(Mutex<BTreeMap<RelyingPartyId, Trusts>>);

impl Parties {
    pub fn lock(&self) -> MutexGuard<'_, BTreeMap<RelyingPartyId, Trusts>> {
        self.0.lock().unwrap()
    }
}

impl RelyingParties for Parties {
    fn here(&self, _: &CaId) -> Vec<Here> {
        Vec::new()
    }

    fn canary_key(&self) -> Result<(PrivateKey, Arc<[u8]>), HostError> {
        keyward::shell::wire::canary::key()
    }

    fn proves(&self, _: &CaId, _: &RelyingPartyId, _: &str) -> bool {
        false
    }

    fn probe<'a>(&'a self, party: &'a RelyingPartyId, canary: &'a CanaryLeaf) -> Doing<'a, Probed> {
        Box::pin(async move {
            match self.lock().get(party) {
                None => Probed::Unreached("it is away".into()),
                Some(own) if own.accepts(&canary.chain) => Probed::Accepted,
                Some(_) => Probed::Refused("it does not lead to our roots".into()),
            }
        })
    }
}

/// A guardian with the CA `mesh`, and those who rely on it.
pub struct Realm {
    pub clock: Arc<TestClock>,
    pub world: World,
    pub store: Arc<MemoryStore>,
    pub holder: Arc<MemoryHolder>,
    pub shelf: Arc<dyn Shelf>,
    pub relying: Arc<dyn RelyingParties>,
    pub ca: Arc<Ca>,
    pub setting: Setting,
    pub authority: Arc<Authority>,
}

pub fn mesh(leaf: Duration) -> Ca {
    let id = ProfileId::parse("workload").unwrap();
    let profile = Profile {
        id: id.clone(),
        lifetime: leaf,
        purposes: Purposes::ALL,
        names: vec![NamePattern::parse("*.svc.example").unwrap(), NamePattern::parse("127.0.0.0/8").unwrap()],
        ids: vec![PathPattern::parse("/**").unwrap()],
    };
    Ca {
        id: ca_id(),
        name: Arc::from("mesh"),
        organization: None,
        algorithm: KeyAlgorithm::P256,
        root_lifetime: DAY * 3_650,
        issuing_lifetime: DAY * 365,
        trust_domain: TrustDomain::parse("mesh.example"),
        constraints: Constraints::default(),
        crl_lifetime: DAY * 7,
        crl_urls: Vec::new(),
        issuer_urls: Vec::new(),
        offline_root: false,
        profiles: BTreeMap::from([(id, profile)]),
    }
}

impl Realm {
    /// With relying parties of these kinds, which live in memory.
    pub async fn new(parties: &[(&str, Shows)]) -> (Self, Arc<Parties>) {
        let relying = Arc::new(Parties::default());
        for (id, _) in parties {
            relying.lock().insert(party(id), Trusts::default());
        }
        let realm = Self::with(mesh(DAY), relying.clone(), Arc::new(MemoryShelf::default()), |setting| {
            for (id, shows) in parties {
                let owner = Arc::from(format!("owner of {id}"));
                setting.parties.insert(party(id), Party { owner, shows: *shows });
            }
        })
        .await;
        (realm, relying)
    }

    pub async fn with(
        ca: Ca,
        relying: Arc<dyn RelyingParties>,
        shelf: Arc<dyn Shelf>,
        edit: impl FnOnce(&mut Setting),
    ) -> Self {
        let clock = TestClock::new();
        let world = World::new(1, clock.now(), Estate::default());
        let (store, holder) = (Arc::new(MemoryStore::new()), Arc::new(MemoryHolder::default()));
        let mut setting = Setting::usual(&ca);
        edit(&mut setting);
        let ca = Arc::new(ca);
        let authority = begin(&clock, &world, &store, &holder, &shelf, &relying, &ca, &setting).await;
        Self { clock, world, store, holder, shelf, relying, ca, setting, authority }
    }

    /// The process dies and begins anew, with what was committed.
    pub async fn restart(&mut self) {
        self.store = Arc::new(self.store.recovered());
        let (shelf, relying) = (&self.shelf, &self.relying);
        self.authority =
            begin(&self.clock, &self.world, &self.store, &self.holder, shelf, relying, &self.ca, &self.setting).await;
    }

    pub async fn made(&self) {
        self.authority.init(&ca_id(), "somebody").await.unwrap();
        self.authority.round().await;
    }

    pub async fn issue(&self, id: &str) -> Result<Given, Denied> {
        let key = Key::new(KeyAlgorithm::P256);
        self.issue_for(id, &key).await
    }

    pub async fn issue_for(&self, id: &str, key: &Key) -> Result<Given, Denied> {
        let wish = Wish {
            names: NameSet::new([Name::Ip(super::life::own_address())]),
            spiffe: SpiffeId::parse(id),
            spki: key.spki.clone(),
            lifetime: None,
        };
        self.authority.issue(&ca_id(), &ProfileId::parse("workload").unwrap(), &wish, "a test").await
    }

    pub fn phases(&self) -> Vec<(u32, Phase)> {
        let outlook = self.authority.outlook(&ca_id()).unwrap();
        outlook.standing.generations.iter().map(|g| (g.number, g.phase)).collect()
    }

    pub fn phase(&self, number: u32) -> Phase {
        self.phases().into_iter().find(|(n, _)| *n == number).map(|(_, phase)| phase).unwrap()
    }

    pub fn pass(&self, span: Duration) {
        self.clock.advance(span);
    }

    /// A party takes the bundle that is published.
    pub async fn take(&self, parties: &Parties, id: &str) {
        let text = self.shelf.get("mesh.pem").await.unwrap().unwrap_or_default();
        let mut roots = Roots::default();
        for der in certificates_from(&text, &Limits::ROOTS).unwrap_or_default() {
            roots.add(&der).unwrap();
        }
        parties.lock().get_mut(&party(id)).unwrap().roots = roots;
    }

    /// A party takes it and says so.
    pub async fn acknowledge(&self, parties: &Parties, id: &str) {
        self.take(parties, id).await;
        let bundle = self.authority.bundle(&ca_id()).unwrap();
        self.authority.acknowledge(&ca_id(), &party(id), bundle.version, bundle.digest, None).await.unwrap();
    }

    /// Somebody's word about the rotation.
    pub fn told(&self) -> Vec<(Option<String>, &'static str, String)> {
        self.world.notifier.notices().into_iter().map(|n| (n.owner, n.code, n.text)).collect()
    }

    pub fn renew_issuing_only(&mut self) {
        self.setting.renewal = Renewal::Issuing;
    }

    /// SHA-256 of the keys of a generation.
    pub fn keys(&self, number: u32) -> BTreeSet<Digest> {
        let outlook = self.authority.outlook(&ca_id()).unwrap();
        let own = outlook.standing.generation(number).unwrap();
        BTreeSet::from([own.root.key, own.issuing.key])
    }
}

#[allow(clippy::too_many_arguments, reason = "what a process begins with")]
async fn begin(
    clock: &Arc<TestClock>,
    world: &World,
    store: &Arc<MemoryStore>,
    holder: &Arc<MemoryHolder>,
    shelf: &Arc<dyn Shelf>,
    relying: &Arc<dyn RelyingParties>,
    ca: &Arc<Ca>,
    setting: &Setting,
) -> Arc<Authority> {
    let ports = Ports {
        clock: clock.clone(),
        entropy: Arc::new(super::acme::TestEntropy),
        store: store.clone(),
        ..world.ports()
    };
    let engine = Arc::new(Engine::start(ports, Arc::new(Estate::default())).await.unwrap());
    let doors = Doors {
        holder: holder.clone(),
        mint: Arc::new(X509Mint),
        shelf: shelf.clone(),
        anchors: Arc::new(NoAnchors),
        relying: relying.clone(),
    };
    let cas = BTreeMap::from([(ca.id.clone(), ca.clone())]);
    let rotations = BTreeMap::from([(ca.id.clone(), Arc::new(setting.clone()))]);
    Arc::new(Authority::new(engine, doors, cas, rotations))
}
