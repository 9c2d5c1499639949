//! A small world around a rotation: parties, leaves, a publisher, and what remains of all that after a crash. It keeps its
//! own books, and holds every step against them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::authority::{self, Ca, Constraints, Profile, SerialNumber, Wish};
use crate::domain::certificate::Purposes;
use crate::domain::id::{CaId, ProfileId, RelyingPartyId};
use crate::domain::key::{Digest, KeyAlgorithm};
use crate::domain::name::{Name, NameSet};
use crate::domain::rotation::*;
use crate::domain::time::{DAY, HOUR, MINUTE, Timestamp, Validity};
use core::time::Duration;

pub(super) const LEAF: Duration = HOUR;
pub(super) const SKEW: Duration = MINUTE;
pub(super) const START: Timestamp = Timestamp::from_unix(1_800_000_000);

pub(super) fn party(n: usize) -> RelyingPartyId {
    RelyingPartyId::parse(&format!("party-{n}")).unwrap()
}

#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) generation: u32,
    pub(super) validity: Validity,
}

/// What a party really trusts, and whose sessions it really holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Holds {
    pub(super) anchors: Option<BTreeSet<Digest>>,
    pub(super) dropped: BTreeMap<u32, Timestamp>,
}

#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) life: Duration,
    pub(super) standing: Standing,
    pub(super) evidence: Evidence,
    pub(super) setting: Setting,
    pub(super) artefacts: Artefacts,
    pub(super) published: Option<Bundle>,
    pub(super) parties: BTreeMap<RelyingPartyId, Holds>,
    pub(super) leaves: Vec<Leaf>,
    /// Who was let through the gate, by these books.
    pub(super) may_sign: BTreeSet<u32>,
    pub(super) last_signed: BTreeMap<u32, Timestamp>,
    pub(super) bad: BTreeSet<u32>,
    pub(super) remembered: Vec<Step>,
    pub(super) taken: Vec<Kind>,
}

impl World {
    pub(super) fn new(parties: usize, life: Duration, renewal: Renewal) -> Self {
        let ca = CaId::parse("mesh").unwrap();
        let about = |n: usize| (party(n), Party { owner: Arc::from(format!("owner-{n}")), shows: Shows::Both });
        Self {
            now: START,
            life,
            standing: Standing::new(ca.clone(), START),
            evidence: Evidence::default(),
            setting: Setting {
                parties: (0..parties).map(about).collect(),
                leaf_lifetime: LEAF,
                skew: SKEW,
                canary_lifetime: HOUR,
                renewal,
            },
            artefacts: Artefacts { ca, generations: Vec::new(), published: None, crosses: Vec::new() },
            published: None,
            parties: (0..parties).map(|n| (party(n), Holds::default())).collect(),
            leaves: Vec::new(),
            may_sign: BTreeSet::new(),
            last_signed: BTreeMap::new(),
            bad: BTreeSet::new(),
            remembered: Vec::new(),
            taken: Vec::new(),
        }
    }

    pub(super) fn facts(&self) -> Facts<'_> {
        Facts { evidence: &self.evidence, setting: &self.setting, now: self.now }
    }

    pub(super) fn review(&self) -> Review {
        review(&self.standing, self.facts())
    }

    pub(super) fn phase(&self, number: u32) -> Phase {
        self.standing.generation(number).unwrap().phase
    }

    pub(super) fn pass(&mut self, span: Duration) {
        self.now = self.now.plus(span);
    }

    pub(super) fn order(&self) -> Order {
        Order { by: Arc::from("ada"), at: self.now, why: Arc::from("it has to be"), about: None }
    }

    pub(super) fn member(&self, what: &str, number: u32, life: Duration) -> Member {
        let validity = Validity { not_before: self.now, not_after: self.now.plus(life) };
        let digest = |kind: &str| Digest::of(format!("{kind} {what} {number}").as_bytes());
        Member {
            name: Arc::from(format!("CN={what} {number}")),
            key: digest("key"),
            certificate: digest("crt"),
            validity,
        }
    }

    pub(super) fn made(&self, number: u32, renewal: Renewal) -> New {
        let old = signer(&self.standing).filter(|_| renewal == Renewal::Issuing);
        let root = old.map_or_else(|| self.member("root", number, self.life * 4), |g| g.root.clone());
        New { number, root, issuing: self.member("issuing", number, self.life) }
    }

    pub(super) fn admit(&mut self, new: New) -> Result<(), Refused> {
        let next = admit(&self.standing, new.clone(), self.facts())?;
        self.artefacts.generations.push(Artefact {
            number: new.number,
            root: new.root,
            issuing: new.issuing,
            made: self.now,
            listed: None,
            unlisted: None,
            leaves: None,
            abandoned: None,
            destroyed: None,
        });
        self.standing = next;
        self.one_name_and_key_each();
        Ok(())
    }

    /// (7)
    fn one_name_and_key_each(&self) {
        let mut of: BTreeMap<String, (String, Digest)> = BTreeMap::new();
        for g in &self.standing.generations {
            for (what, member) in [("root", &g.root), ("issuing", &g.issuing)] {
                // A root may come again, but only whole, and only as a root.
                let id = (format!("{what} {:?}", (what == "issuing").then_some(g.number)), member.certificate);
                for key in [format!("key {}", member.key), format!("name {}", member.name)] {
                    let first = of.entry(key).or_insert_with(|| id.clone());
                    assert_eq!(*first, id, "(7) generation {} takes up what was there", g.number);
                }
            }
        }
    }

    pub(super) fn take(&mut self, step: Step) -> Result<(), Refused> {
        let before = self.standing.clone();
        let next = apply(&before, step, self.facts())?;
        self.judge(&before, &next, step);
        let again = apply(&next, step, self.facts());
        assert!(matches!(again, Err(Refused::Moved { .. })), "(5) one step was taken twice: {step}");
        for a in self.artefacts.generations.iter_mut().filter(|a| a.number == step.generation) {
            match step.kind {
                Kind::Abandon => a.abandoned = Some(self.now),
                Kind::Destroy => a.destroyed = Some(self.now),
                Kind::Stage | Kind::Activate | Kind::Drain | Kind::Retire | Kind::Resume => {}
            }
        }
        self.standing = next;
        self.taken.push(step.kind);
        if let Some(s) = signer(&self.standing) {
            self.last_signed.insert(s.number, self.now);
        }
        Ok(())
    }

    fn roots(&self, standing: &Standing) -> BTreeSet<Digest> {
        standing.generations.iter().filter(|g| g.phase.is_trusted()).map(|g| g.root.certificate).collect()
    }

    /// Parties that would refuse a leaf of this generation now, by what they really hold.
    fn refusing(&self, root: Digest) -> BTreeSet<RelyingPartyId> {
        let refuses = |holds: &Holds| holds.anchors.as_ref().is_none_or(|a| !a.contains(&root));
        self.parties.iter().filter(|(_, holds)| refuses(holds)).map(|(party, _)| party.clone()).collect()
    }

    pub(super) fn unexpired(&self, number: u32) -> u64 {
        let is = |l: &&Leaf| l.generation == number && l.validity.not_after.plus(SKEW) >= self.now;
        u64::try_from(self.leaves.iter().filter(is).count()).unwrap()
    }

    pub(super) fn is_bad(&self, number: u32) -> bool {
        let of = |n: u32| self.standing.generation(n);
        let root = of(number).map(|g| g.root.key);
        self.bad.iter().any(|b| *b == number || of(*b).map(|g| g.root.key) == root)
    }

    pub(super) fn distrusts(&self, number: u32) -> bool {
        let made = self.standing.generation(number).unwrap().times.made;
        self.evidence.distrust.as_ref().is_some_and(|d| d.ca == self.standing.ca && made <= d.at)
    }

    /// Holds a step against the books.
    fn judge(&mut self, before: &Standing, after: &Standing, step: Step) {
        let n = step.generation;
        let changed = before.generations.iter().zip(&after.generations).filter(|(b, a)| b != a).count();
        assert_eq!((changed, before.generations.len()), (1, after.generations.len()), "(5) one generation a step");
        let (was, is) = (before.generation(n).unwrap(), after.generation(n).unwrap());
        assert_ne!(was.phase, is.phase, "(5) one phase a step");
        assert_eq!(was.phase, step.from, "(5) compare and set");
        assert!(self.roots(before).is_empty() || !self.roots(after).is_empty() || self.evidence.distrust.is_some());
        match step.kind {
            Kind::Stage => {}
            Kind::Activate => self.judge_activation(before, is),
            Kind::Abandon | Kind::Resume => {
                assert!(self.roots(before).is_subset(&self.roots(after)), "(6) a rollback took trust away");
                if step.kind == Kind::Resume {
                    assert!(self.may_sign.contains(&n) && !self.is_bad(n), "(1) resumed {n}, which may not sign");
                }
            }
            Kind::Drain => {}
            Kind::Retire => self.judge_retirement(after, is),
            Kind::Destroy => {
                let retired = was.times.retired.unwrap();
                let other = after.generations.iter().any(|g| g.phase.is_trusted() && g.root.key == is.root.key);
                for (party, holds) in &self.parties {
                    if was.times.staged.is_some() {
                        let dropped = holds.dropped.get(&n);
                        assert!(dropped.is_some_and(|at| *at >= retired), "(8) {party} still has sessions of {n}");
                        let trusts = holds.anchors.as_ref().is_some_and(|a| a.contains(&is.root.certificate));
                        assert!(other || !trusts, "(8) {party} still trusts {n}");
                    }
                }
            }
        }
        let signs = |s: &Standing| signer(s).map(|g| g.number);
        if signs(before).is_some() && signs(after).is_none() {
            assert!(self.distrusts(n), "nothing signs any more after: {step}");
        }
        if let Some(s) = signs(after) {
            assert!(self.may_sign.contains(&s), "(1) generation {s} signs, and was never let through");
        }
    }

    fn judge_activation(&mut self, before: &Standing, own: &Generation) {
        let n = own.number;
        assert!(!self.is_bad(n), "a compromised generation signs");
        let mut refusing = self.refusing(own.root.certificate);
        for party in self.parties.keys() {
            let canary = self.evidence.canaries.get(&(party.clone(), n));
            let staged = own.times.staged.unwrap();
            if !matches!(canary, Some(Canary::Accepted(at)) if *at >= staged) {
                refusing.insert(party.clone());
            }
        }
        if !self.may_sign.is_empty() && !refusing.is_empty() {
            let old = before.generations.iter().rfind(|g| g.has_signed()).unwrap().number;
            let old = signer(before).map_or(old, |g| g.number);
            assert!(self.is_bad(old), "(1)(4) {n} signs, and these refuse it: {refusing:?}");
            let mut offs = self.evidence.signed_off.iter();
            let seen = offs.any(|s| s.shown.replacement == n && refusing.is_subset(&s.shown.parties));
            assert!(seen, "(9) nobody saw that these refuse generation {n}: {refusing:?}");
        }
        self.may_sign.insert(n);
    }

    fn judge_retirement(&self, after: &Standing, own: &Generation) {
        let n = own.number;
        if self.distrusts(n) {
            return;
        }
        let replacement = signer(after).unwrap_or_else(|| panic!("(9) {n} left, and nothing signs in its place"));
        let quiet = self.last_signed.get(&n).map(|at| self.now.since(*at)).unwrap_or(Duration::MAX);
        let drained = self.unexpired(n) == 0 && quiet >= LEAF * 2 + SKEW;
        if drained {
            return;
        }
        assert!(self.is_bad(n), "(3) {n} left with {} leaves, {quiet:?} after it signed", self.unexpired(n));
        assert!(!self.is_bad(replacement.number), "(9) a compromised generation replaces {n}");
        let refusing = self.refusing(replacement.root.certificate);
        let mut offs = self.evidence.signed_off.iter().filter(|s| s.shown.replacement == replacement.number);
        let seen = offs.any(|s| {
            let shown = &s.shown;
            let counted = self.unexpired(n) <= shown.leaves || shown.uncounted.contains(&n);
            refusing.is_subset(&shown.parties) && shown.generations.contains(&n) && counted
        });
        assert!(seen, "(9) {n} left undrained, and nobody saw what breaks");
    }

    pub(super) fn publish(&mut self) {
        let Ok(made) = bundle(&self.standing, self.evidence.distrust.as_ref()) else { return };
        for a in &mut self.artefacts.generations {
            match (made.generations.contains(&a.number), a.listed) {
                (true, None) => a.listed = Some(self.now),
                (false, Some(_)) if a.unlisted.is_none() => a.unlisted = Some(self.now),
                (true | false, _) => {}
            }
        }
        self.artefacts.published = Some((made.version, self.now));
        self.evidence.published = Some(Published { version: made.version, digest: made.digest });
        self.published = Some(made);
    }

    /// A party takes what is published; whether we hear of it is another matter.
    pub(super) fn party_takes(&mut self, party: &RelyingPartyId, heard: bool) {
        let (Some(bundle), Some(holds)) = (&self.published, self.parties.get_mut(party)) else { return };
        holds.anchors = Some(bundle.anchors.iter().copied().collect());
        if heard {
            let ack = Acknowledgement { version: bundle.version, digest: bundle.digest, at: self.now };
            self.evidence.acknowledged.insert(party.clone(), ack);
        }
    }

    pub(super) fn probe(&mut self, party: &RelyingPartyId, number: u32) {
        let Some(own) = self.standing.generation(number) else { return };
        let good = !self.refusing(own.root.certificate).contains(party);
        let canary = if good { Canary::Accepted(self.now) } else { Canary::Refused(self.now) };
        self.evidence.canaries.insert((party.clone(), number), canary);
    }

    pub(super) fn look(&mut self) {
        for g in &self.standing.generations {
            let of = |l: &&Leaf| l.generation == g.number && l.validity.not_after.plus(SKEW) >= self.now;
            let latest = self.leaves.iter().filter(of).map(|l| l.validity.not_after).max();
            let leaves = Leaves { recorded: self.unexpired(g.number), observed: 0, latest, looked: self.now };
            self.evidence.leaves.insert(g.number, leaves);
        }
    }

    pub(super) fn carry_out(&mut self, effect: &Effect) {
        match effect {
            Effect::Publish(_) => self.publish(),
            Effect::List(n) => _ = self.evidence.lists.insert(*n),
            Effect::Probe(party, n) => self.probe(party, *n),
            Effect::DropSessions(party, n) => {
                self.parties.get_mut(party).unwrap().dropped.insert(*n, self.now);
                self.evidence.dropped.insert((party.clone(), *n), self.now);
            }
            Effect::Revoke(certificate) => _ = self.evidence.revoked.insert(*certificate),
            Effect::DestroyKey(key) => _ = self.evidence.destroyed.insert(*key),
        }
    }

    /// Somebody's leaf is made or renewed.
    pub(super) fn issue(&mut self) -> bool {
        let Some(own) = signer(&self.standing) else { return false };
        let Some(validity) = leaf(own.validity(), self.now) else { return false };
        // (2), and (1) once more: nothing is signed by what was not let through.
        let ends = validity.not_after;
        assert!(ends <= own.root.validity.not_after && ends <= own.issuing.validity.not_after, "(2) a leaf outlives");
        assert!(self.may_sign.contains(&own.number), "(1) {} signs", own.number);
        let number = own.number;
        self.leaves.push(Leaf { generation: number, validity });
        self.last_signed.insert(number, self.now);
        for a in self.artefacts.generations.iter_mut().filter(|a| a.number == number) {
            a.leaves = Some((a.leaves.map_or(self.now, |(first, _)| first), self.now));
        }
        true
    }

    pub(super) fn crash(&mut self) {
        let found = recompute(&self.artefacts);
        let trusted: Vec<u32> = found.generations.iter().filter(|g| g.phase.is_trusted()).map(|g| g.number).collect();
        let published = self.published.as_ref().map(|b| b.generations.clone()).unwrap_or_default();
        assert_eq!(trusted, published, "(6) what was published is what is trusted");
        if let Some(s) = signer(&found) {
            assert!(self.may_sign.contains(&s.number), "(1) generation {} signs after a crash", s.number);
        }
        self.standing = found;
        if let Some(s) = signer(&self.standing) {
            self.last_signed.insert(s.number, self.now);
        }
    }

    /// Everybody does their part: effects, bundles, probes, counts.
    pub(super) fn settle(&mut self) {
        for _ in 0..2 {
            for effect in due(&self.standing, self.facts()) {
                self.carry_out(&effect);
            }
            for party in self.setting.parties.clone().keys() {
                self.party_takes(party, true);
            }
        }
        self.look();
    }

    pub(super) fn propose_and_take(&mut self, nth: usize) -> bool {
        let proposals = self.review().proposals;
        let Some(proposal) = proposals.get(nth.checked_rem(proposals.len()).unwrap_or(0)) else { return false };
        match proposal.what {
            Proposed::Prepare { number, renewal } => {
                let new = self.made(number, renewal);
                self.admit(new).unwrap_or_else(|e| panic!("what is proposed is refused: {e}"));
            }
            Proposed::Step(step) => {
                self.take(step).unwrap_or_else(|e| panic!("what is proposed is refused: {step}: {e}"));
            }
        }
        true
    }

    /// Everybody does their part, again and again.
    pub(super) fn run(&mut self, rounds: usize) {
        for _ in 0..rounds {
            self.settle();
            self.propose_and_take(0);
            self.issue();
        }
    }

    /// No party that took a bundle refuses a peer whose leaf is good, as long as nobody ordered it so.
    pub(super) fn nobody_is_cut_off(&self) {
        for leaf in self.leaves.iter().filter(|l| l.validity.contains(self.now)) {
            let root = self.standing.generation(leaf.generation).unwrap().root.certificate;
            for (party, holds) in &self.parties {
                let Some(anchors) = &holds.anchors else { continue };
                assert!(anchors.contains(&root), "{party} refuses a good leaf of generation {}", leaf.generation);
            }
        }
    }
}

/// The life of a leaf that is issued now below this, as the authority decides it.
fn leaf(above: Validity, now: Timestamp) -> Option<Validity> {
    let id = ProfileId::parse("workload").unwrap();
    let profile = Profile {
        id: id.clone(),
        lifetime: LEAF,
        purposes: Purposes::ALL,
        names: vec![authority::NamePattern::parse("a.example").unwrap()],
        ids: Vec::new(),
    };
    let ca = Ca {
        offline_root: false,
        id: CaId::parse("mesh").unwrap(),
        name: Arc::from("Mesh"),
        organization: None,
        algorithm: KeyAlgorithm::P256,
        root_lifetime: DAY,
        issuing_lifetime: DAY,
        trust_domain: None,
        constraints: Constraints::default(),
        crl_lifetime: DAY,
        crl_urls: Vec::new(),
        issuer_urls: Vec::new(),
        profiles: BTreeMap::new(),
    };
    let wish = Wish {
        names: NameSet::new([Name::parse("a.example").unwrap()]),
        spiffe: None,
        spki: Arc::from([1_u8].as_slice()),
        lifetime: None,
    };
    authority::decide(&ca, &profile, &wish, above, SerialNumber::new([0; 20]), now).ok().map(|leaf| leaf.validity)
}
