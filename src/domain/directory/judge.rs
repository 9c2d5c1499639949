//! Who may have what: allow, deny, or wait for a person. Pure: the same question has the same answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::authority::{Ca, NamePattern, Refusal, covers};
use crate::domain::id::ProfileId;
use crate::domain::name::{Name, NameSet};

/// What the operator said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The profiles on offer; the first is that of orders that name none.
    pub profiles: Vec<ProfileId>,
    /// What each external account key may have.
    pub grants: BTreeMap<Arc<str>, Grant>,
    /// Names that a person decides about each time.
    pub wait: Vec<NamePattern>,
    /// What becomes of names that were never issued before.
    pub first_time: FirstTime,
}

/// What an external account key may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// These names; none at all if there is no pattern.
    pub names: Vec<NamePattern>,
    /// By these profiles; by every one on offer if the set is empty.
    pub profiles: BTreeSet<ProfileId>,
    /// Whose it is.
    pub owner: Option<Arc<str>>,
    /// For how many accounts.
    pub uses: Uses,
}

/// How many accounts an external account key makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uses {
    /// One, ever.
    Once,
    /// As many as there is room for.
    Often,
}

/// What becomes of names that were never issued before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstTime {
    /// They are issued.
    Allow,
    /// A person decides.
    Wait,
}

/// What policy says of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is issued.
    Allow,
    /// A person decides, because of these names.
    Wait(Vec<Name>),
    /// It is not issued.
    Deny(Unfit),
}

/// Why an order is not issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The account's external account key was withdrawn.
    Withdrawn(Arc<str>),
    /// There is no such profile on offer.
    NoProfile(ProfileId),
    /// The account's external account key is not for this profile.
    ProfileNotGranted(ProfileId),
    /// These names may not be had, each with the reason in words.
    Names(Vec<(Name, String)>),
}

/// Judges an order. `grant` is the key id of the account's external binding; `known` says of a name whether it was issued
/// before under the same binding.
#[must_use]
pub fn judge(
    policy: &Policy,
    ca: &Ca,
    grant: Option<&str>,
    profile: &ProfileId,
    names: &NameSet,
    known: impl Fn(&Name) -> bool,
) -> Judgement {
    let Some(own) = ca.profiles.get(profile).filter(|_| policy.profiles.contains(profile)) else {
        return Judgement::Deny(Unfit::NoProfile(profile.clone()));
    };
    let granted = match grant {
        None => None,
        Some(kid) => match policy.grants.get(kid) {
            Some(grant) => Some(grant),
            None => return Judgement::Deny(Unfit::Withdrawn(Arc::from(kid))),
        },
    };
    if granted.is_some_and(|g| !g.profiles.is_empty() && !g.profiles.contains(profile)) {
        return Judgement::Deny(Unfit::ProfileNotGranted(profile.clone()));
    }
    let refused: Vec<(Name, String)> = names
        .iter()
        .filter_map(|name| {
            let beyond = granted.is_some_and(|g| !g.names.iter().any(|pattern| pattern.covers(name)));
            if beyond {
                return Some((name.clone(), "the account's external account key is not for this name".to_owned()));
            }
            let alone = NameSet::new([name.clone()]);
            covers(ca, own, &alone, None).err().map(|why: Refusal| (name.clone(), why.to_string()))
        })
        .collect();
    if !refused.is_empty() {
        return Judgement::Deny(Unfit::Names(refused));
    }
    let waits = |name: &&Name| {
        policy.wait.iter().any(|pattern| pattern.covers(name)) || (policy.first_time == FirstTime::Wait && !known(name))
    };
    let waiting: Vec<Name> = names.iter().filter(waits).cloned().collect();
    if waiting.is_empty() { Judgement::Allow } else { Judgement::Wait(waiting) }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::domain::authority::{Constraints, Profile};
    use crate::domain::certificate::Purposes;
    use crate::domain::id::CaId;
    use crate::domain::key::KeyAlgorithm;

    fn patterns(all: &[&str]) -> Vec<NamePattern> {
        all.iter().map(|p| NamePattern::parse(p).unwrap()).collect()
    }

    fn id(text: &str) -> ProfileId {
        ProfileId::parse(text).unwrap()
    }

    fn ca() -> Ca {
        let profile = |name: &str| Profile {
            id: id(name),
            lifetime: Duration::from_secs(86_400),
            purposes: Purposes::ALL,
            names: patterns(&["**.svc.example", "=*.svc.example"]),
            ids: Vec::new(),
        };
        Ca {
            id: CaId::parse("mesh").unwrap(),
            name: Arc::from("Mesh"),
            organization: None,
            algorithm: KeyAlgorithm::P256,
            root_lifetime: Duration::from_secs(1),
            issuing_lifetime: Duration::from_secs(1),
            trust_domain: None,
            constraints: Constraints::default(),
            crl_lifetime: Duration::from_secs(1),
            crl_urls: Vec::new(),
            issuer_urls: Vec::new(),
            offline_root: false,
            profiles: ["web", "long", "hidden"].into_iter().map(|p| (id(p), profile(p))).collect(),
        }
    }

    fn policy() -> Policy {
        let grant = |names: &[&str], profiles: &[&str]| Grant {
            names: patterns(names),
            profiles: profiles.iter().map(|p| id(p)).collect(),
            owner: None,
            uses: Uses::Often,
        };
        Policy {
            profiles: vec![id("web"), id("long")],
            grants: BTreeMap::from([
                (Arc::from("web"), grant(&["**.svc.example"], &["web"])),
                (Arc::from("all"), grant(&["**.example", "=*.svc.example"], &[])),
                (Arc::from("none"), grant(&[], &[])),
            ]),
            wait: patterns(&["**.pay.svc.example"]),
            first_time: FirstTime::Allow,
        }
    }

    fn asked(policy: &Policy, grant: Option<&str>, profile: &str, names: &[&str]) -> Judgement {
        let names = NameSet::new(names.iter().map(|n| Name::parse(n).unwrap()));
        judge(policy, &ca(), grant, &id(profile), &names, |name| name.to_string().starts_with("old"))
    }

    #[test]
    fn every_answer_has_its_reason() {
        let policy = policy();
        let refused = |judgement: Judgement| -> Vec<String> {
            let Judgement::Deny(Unfit::Names(names)) = judgement else { return vec![format!("{judgement:?}")] };
            names.into_iter().map(|(name, _)| name.to_string()).collect()
        };
        assert_eq!(asked(&policy, Some("web"), "web", &["a.svc.example"]), Judgement::Allow);
        assert_eq!(asked(&policy, None, "web", &["a.svc.example"]), Judgement::Allow, "where none is needed");
        assert_eq!(asked(&policy, Some("all"), "long", &["*.svc.example"]), Judgement::Allow);
        assert_eq!(
            asked(&policy, Some("gone"), "web", &["a.svc.example"]),
            Judgement::Deny(Unfit::Withdrawn(Arc::from("gone")))
        );
        assert_eq!(
            asked(&policy, Some("web"), "long", &["a.svc.example"]),
            Judgement::Deny(Unfit::ProfileNotGranted(id("long")))
        );
        for profile in ["hidden", "unknown"] {
            assert_eq!(
                asked(&policy, Some("all"), profile, &["a.svc.example"]),
                Judgement::Deny(Unfit::NoProfile(id(profile)))
            );
        }
        assert_eq!(refused(asked(&policy, Some("all"), "web", &["a.svc.example", "b.example"])), ["b.example"]);
        assert_eq!(refused(asked(&policy, Some("web"), "web", &["*.svc.example"])), ["*.svc.example"]);
        assert_eq!(refused(asked(&policy, Some("none"), "web", &["a.svc.example"])), ["a.svc.example"]);
    }

    #[test]
    fn a_person_decides_about_what_policy_says_and_about_what_is_new() {
        let mut policy = policy();
        let waits = |judgement: Judgement| -> Vec<String> {
            let Judgement::Wait(names) = judgement else { return vec![format!("{judgement:?}")] };
            names.iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            waits(asked(&policy, Some("web"), "web", &["a.svc.example", "a.pay.svc.example"])),
            ["a.pay.svc.example"]
        );
        policy.first_time = FirstTime::Wait;
        assert_eq!(
            waits(asked(&policy, Some("web"), "web", &["old.svc.example", "new.svc.example"])),
            ["new.svc.example"]
        );
        assert_eq!(asked(&policy, Some("web"), "web", &["old.svc.example"]), Judgement::Allow);
        assert!(matches!(asked(&policy, Some("web"), "web", &["new.example"]), Judgement::Deny(_)), "no is no");
    }
}
