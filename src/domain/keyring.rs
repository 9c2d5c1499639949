//! What is wrong with keys: each by itself, and all of them side by side.
//!
//! One key has one user. The index is over everything that is guarded: certificates, the CAs' own keys, account keys, and
//! tracked keys. Refuses to act: a finding is a sentence.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::assessment::{Finding, Severity};
use crate::domain::id::{CredentialId, IssuerId, KeyId};
use crate::domain::key::Digest;
use crate::domain::register::GenerationId;
use crate::domain::time::{DAY, Timestamp, human_span};
use crate::domain::tracked::{KeySight, KeyState, TrackedKey};
use crate::domain::upkeep::{KeyRecord, STUCK, Step};

/// A rotation does not get on.
pub const ROTATION_STUCK: &str = "KW4889";
/// It will be overdue soon.
pub const DUE_SOON: &str = "KW4890";
/// Its cryptoperiod is over.
pub const OVERDUE: &str = "KW4891";
/// Its hard limit is near.
pub const LIMIT_NEAR: &str = "KW4892";
/// Its hard limit is over.
pub const PAST_LIMIT: &str = "KW4893";
/// It cannot be looked at.
pub const NOT_SEEN: &str = "KW4894";
/// Something is wrong with the key itself.
pub const WEAK: &str = "KW4895";
/// One key has several users.
pub const REUSED: &str = "KW4896";
/// One key has users that must never share one, or is blocked.
pub const FORBIDDEN: &str = "KW4897";
/// A signature over a digest that was broken.
pub const OLD_DIGEST: &str = "KW4898";
/// The live system uses another key.
pub const NOT_LIVE: &str = "KW4899";
/// It is not in a state to be used.
pub const UNFIT: &str = "KW4888";

/// What is wrong with one tracked key now, by ordered checks.
#[must_use]
pub fn findings(key: &TrackedKey, record: &KeyRecord, sight: &KeySight, now: Timestamp) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut add = |code, severity, text| found.push(Finding { code, severity, text });
    let id = &key.id;
    if let Some(current) = &record.current {
        match (current.compromised, current.state) {
            (Some(since), _) => {
                add(UNFIT, Severity::Critical, format!("key {id}: others may have it since {since}"));
            }
            (None, KeyState::Active) => {}
            (None, state) => {
                let text = format!("key {id} is {} since {}", state.as_str(), current.since);
                add(UNFIT, Severity::Critical, text);
            }
        }
        if current.state == KeyState::Active {
            let (due, end) = (key.overdue_at(current.created), key.ends_at(current.created));
            let near = end.minus((key.hard_limit.saturating_sub(key.cryptoperiod) / 4).min(DAY.saturating_mul(30)));
            let made = current.created;
            if now >= end {
                let text = format!(
                    "key {id} was made {made}; its hard limit of {} is over since {end}, and what stands on it is closed",
                    human_span(key.hard_limit)
                );
                add(PAST_LIMIT, Severity::Critical, text);
            } else if now >= near {
                let text = format!(
                    "key {id} is overdue since {due}, and what stands on it closes {end}, in {}",
                    human_span(now.until(end))
                );
                add(LIMIT_NEAR, Severity::Critical, text);
            } else if now >= due {
                let text = format!("key {id} was made {made} and is overdue since {due}; it is used on until {end}");
                add(OVERDUE, Severity::Warning, text);
            } else if now >= key.soon_at(made) {
                add(DUE_SOON, Severity::Note, format!("key {id} is overdue from {due} on"));
            }
        }
    }
    for (code, what, trouble) in
        [(NOT_SEEN, "cannot be looked at", &sight.failing), (NOT_LIVE, "is not the one in use", &sight.not_live)]
    {
        if let Some((since, why)) = trouble {
            let severity = if now >= since.plus(key.grace) { Severity::Critical } else { Severity::Warning };
            add(code, severity, format!("key {id} {what} since {since}: {why}"));
        }
    }
    if let Some(why) = &sight.weak {
        add(WEAK, Severity::Warning, format!("key {id} {why}"));
    }
    if let Some(rotation) = record.rotation.as_ref().filter(|r| r.failures >= STUCK) {
        let so = match rotation.step {
            Step::Retire => "the new key is in use, and the OLD key is still accepted",
            Step::Create | Step::Set | Step::Test | Step::Finish => "the key in use is the one before it",
        };
        let (step, failures) = (rotation.step.as_str(), rotation.failures);
        let text = format!("key {id}: the step {step} of its rotation failed {failures} times; {so}");
        add(ROTATION_STUCK, Severity::Critical, text);
    }
    if let Some(old) = record.unretired(now) {
        let text = format!(
            "key {id}: its rotation was stopped, and the OLD key, version {}, is still accepted; have it accepted no more by \
             hand, and then say `keyward key destroy {id} --previous`",
            old.number
        );
        add(ROTATION_STUCK, Severity::Critical, text);
    }
    found
}

/// Who uses a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum User {
    /// A certificate that is guarded.
    Certificate(CredentialId),
    /// A generation of a private CA, its root or its issuing CA.
    Generation(GenerationId, &'static str),
    /// A CA above a certificate that is guarded, by its name.
    Above(String),
    /// Our account at an issuer.
    Account(IssuerId),
    /// A tracked key.
    Key(KeyId),
}

impl core::fmt::Display for User {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Certificate(id) => write!(f, "certificate {id}"),
            Self::Generation(id, place) => write!(f, "the {place} of CA generation {id}"),
            Self::Above(name) => write!(f, "the CA {name}"),
            Self::Account(id) => write!(f, "the account at {id}"),
            Self::Key(id) => write!(f, "key {id}"),
        }
    }
}

impl User {
    fn is_ca(&self) -> bool {
        matches!(self, Self::Generation(..) | Self::Above(_))
    }
}

/// One use of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// Digest of the key: of its SubjectPublicKeyInfo, or the HMAC of a secret.
    pub key: Digest,
    /// Who uses it.
    pub by: User,
    /// SHA-256 of the certificate, if it is used in one: the same certificate in two places is one use.
    pub certificate: Option<Digest>,
    /// Whose it is.
    pub owner: Option<String>,
    /// Where it is used.
    pub environment: Option<String>,
    /// Who certified it.
    pub ca: Option<String>,
}

/// What is wrong with how keys are used, by user. Pure, and the order of the uses does not matter.
#[must_use]
pub fn reuses(uses: &[Use], is_blocked: impl Fn(&Digest) -> bool) -> BTreeMap<User, Vec<Finding>> {
    let mut index: BTreeMap<Digest, Vec<&Use>> = BTreeMap::new();
    for one in uses {
        index.entry(one.key).or_default().push(one);
    }
    let mut found: BTreeMap<User, Vec<Finding>> = BTreeMap::new();
    for (key, uses) in index {
        let mut users: Vec<&User> = uses.iter().map(|one| &one.by).collect();
        users.sort();
        users.dedup();
        if is_blocked(&key) {
            for user in &users {
                let text = format!("{user} uses the key {}, which is blocked: others may have it", key.short());
                found.entry((*user).clone()).or_default().push(Finding {
                    code: FORBIDDEN,
                    severity: Severity::Critical,
                    text,
                });
            }
        }
        let Some((code, severity, why)) = shared(&uses, &users) else { continue };
        for user in &users {
            let others = users.iter().filter(|other| *other != user).map(ToString::to_string);
            let others: Vec<String> = others.take(MOST_NAMED).collect();
            let text = format!("{user} has the same key as {}: {why}", others.join(", "));
            found.entry((*user).clone()).or_default().push(Finding { code, severity, text });
        }
    }
    found
}

/// So many others are named in a finding.
const MOST_NAMED: usize = 8;

/// What is wrong with all of these having one key.
fn shared(uses: &[&Use], users: &[&User]) -> Option<(&'static str, Severity, String)> {
    let own = users.iter().filter(|user| !matches!(user, User::Above(_))).count();
    let cas = users.iter().filter(|user| user.is_ca()).count();
    let generations = users.iter().filter(|user| matches!(user, User::Generation(..))).count();
    let forbidden = |why: &str| Some((FORBIDDEN, Severity::Critical, why.to_owned()));
    if users.iter().any(|user| matches!(user, User::Account(_))) && users.len() > 1 {
        return forbidden("an account key is for nothing else (RFC 8555 section 11.1)");
    }
    if cas > 0 && cas < users.len() {
        return forbidden("the key of a CA is for nothing else");
    }
    if generations > 1 {
        return forbidden("each generation of a CA has a key of its own");
    }
    let plain: Vec<&&Use> = uses.iter().filter(|one| !one.by.is_ca()).collect();
    // One certificate that is seen in several places has one key.
    let certificates: BTreeSet<Option<Digest>> = plain.iter().map(|one| one.certificate).collect();
    let same = certificates.len() == 1 && certificates.first().is_some_and(Option::is_some);
    if own < 2 || same {
        return None;
    }
    let differs = |what: fn(&Use) -> Option<&str>| {
        let all: BTreeSet<&str> = plain.iter().filter_map(|one| what(one)).collect();
        (all.len() > 1).then(|| all.into_iter().take(MOST_NAMED).collect::<Vec<_>>().join(" and "))
    };
    let across = [
        ("environments", differs(|one| one.environment.as_deref())),
        ("owners", differs(|one| one.owner.as_deref())),
        ("CAs", differs(|one| one.ca.as_deref())),
    ];
    let across: Vec<String> = across.into_iter().filter_map(|(what, all)| Some(format!("{what} {}", all?))).collect();
    match across.is_empty() {
        true => Some((REUSED, Severity::Warning, "whoever has one has both".to_owned())),
        false => Some((REUSED, Severity::Warning, format!("it is shared across {}", across.join(", ")))),
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn one(key: u8, by: User, certificate: Option<u8>) -> Use {
        let certificate = certificate.map(|n| Digest([n; 32]));
        Use { key: Digest([key; 32]), by, certificate, owner: None, environment: None, ca: None }
    }

    fn certificate(n: u8) -> User {
        User::Certificate(CredentialId::parse(&format!("c{n}")).unwrap())
    }

    fn codes(uses: &[Use], blocked: &[u8]) -> BTreeMap<User, Vec<&'static str>> {
        let found = reuses(uses, |key| blocked.iter().any(|n| *key == Digest([*n; 32])));
        found.into_iter().map(|(user, all)| (user, all.into_iter().map(|f| f.code).collect())).collect()
    }

    #[test]
    fn who_may_share_a_key_and_who_may_not() {
        let account = User::Account(IssuerId::parse("le").unwrap());
        let tracked = User::Key(KeyId::parse("ssh-ca").unwrap());
        let generation = |n: u32| User::Generation(GenerationId::parse(&format!("mesh/{n}")).unwrap(), "root");
        let above = |name: &str| User::Above(name.to_owned());
        let rows: [(&[Use], &[u8], Option<&str>); 11] = [
            (&[one(1, certificate(1), Some(1)), one(2, certificate(2), Some(2))], &[], None),
            (&[one(1, certificate(1), Some(1)), one(1, certificate(2), Some(1))], &[], None),
            (&[one(1, certificate(1), Some(1)), one(1, certificate(2), Some(2))], &[], Some(REUSED)),
            (&[one(1, certificate(1), Some(1)), one(1, tracked.clone(), None)], &[], Some(REUSED)),
            (&[one(1, certificate(1), Some(1)), one(1, account.clone(), None)], &[], Some(FORBIDDEN)),
            (&[one(1, tracked.clone(), None), one(1, account, None)], &[], Some(FORBIDDEN)),
            (&[one(1, certificate(1), Some(1)), one(1, generation(1), Some(2))], &[], Some(FORBIDDEN)),
            (&[one(1, certificate(1), Some(1)), one(1, above("Root"), Some(2))], &[], Some(FORBIDDEN)),
            (&[one(1, generation(1), Some(1)), one(1, generation(2), Some(2))], &[], Some(FORBIDDEN)),
            // Cross-signed: one CA, two certificates.
            (&[one(1, above("Root"), Some(1)), one(1, above("Root, by another"), Some(2))], &[], None),
            (&[one(1, tracked, None)], &[1], Some(FORBIDDEN)),
        ];
        for (uses, blocked, expected) in rows {
            let found = codes(uses, blocked);
            let all: BTreeSet<&str> = found.values().flatten().copied().collect();
            assert_eq!(all.into_iter().collect::<Vec<_>>(), expected.into_iter().collect::<Vec<_>>(), "{uses:?}");
            assert!(expected.is_none() || found.len() == uses.len(), "everybody who has it is told: {uses:?}");
        }
    }

    #[test]
    fn what_it_is_shared_across_is_said() {
        let with = |n: u8, environment: &str, owner: &str, ca: &str| Use {
            environment: Some(environment.to_owned()),
            owner: Some(owner.to_owned()),
            ca: Some(ca.to_owned()),
            ..one(1, certificate(n), Some(n))
        };
        let found = reuses(&[with(1, "prod", "a", "X"), with(2, "test", "b", "Y")], |_| false);
        let text = &found[&certificate(1)][0].text;
        assert!(text.contains("environments prod and test, owners a and b, CAs X and Y"), "{text}");
    }

    fn any_use() -> impl Strategy<Value = Use> {
        let by = (0_u8..5, 0_u8..4).prop_map(|(kind, n)| match kind {
            0 | 1 => certificate(n),
            2 => User::Key(KeyId::parse(&format!("k{n}")).unwrap()),
            3 => User::Account(IssuerId::parse(&format!("i{n}")).unwrap()),
            _ => User::Above(format!("CA {n}")),
        });
        (0_u8..4, by, proptest::option::of(0_u8..6)).prop_map(|(key, by, certificate)| one(key, by, certificate))
    }

    proptest! {
        #[test]
        fn the_index_tells_of_exactly_what_is_shared(
            uses in proptest::collection::vec(any_use(), 0..12),
            blocked in proptest::collection::vec(0_u8..4, 0..2),
            seed in any::<usize>(),
        ) {
            let found = codes(&uses, &blocked);
            // The order does not matter.
            let mut turned = uses.clone();
            turned.rotate_left(if uses.is_empty() { 0 } else { seed % uses.len() });
            prop_assert_eq!(&found, &codes(&turned, &blocked));
            for (user, codes) in &found {
                let keys: BTreeSet<Digest> = uses.iter().filter(|u| u.by == *user).map(|u| u.key).collect();
                let is_blocked = keys.iter().any(|k| blocked.iter().any(|n| *k == Digest([*n; 32])));
                let others = uses.iter().any(|u| u.by != *user && keys.contains(&u.key));
                prop_assert!(others || is_blocked, "{user}: {codes:?}");
            }
            // An account key and another user of it are always told of; so is whatever is blocked.
            for one in &uses {
                let beside = uses.iter().any(|u| u.by != one.by && u.key == one.key);
                let must = matches!(one.by, User::Account(_)) && beside
                    || blocked.iter().any(|n| one.key == Digest([*n; 32]));
                prop_assert!(!must || found.get(&one.by).is_some_and(|all| all.contains(&FORBIDDEN)));
            }
        }

        #[test]
        fn a_key_that_nobody_else_has_changes_nothing(uses in proptest::collection::vec(any_use(), 0..8)) {
            let before = codes(&uses, &[]);
            let mut more = uses;
            more.push(one(200, User::Key(KeyId::parse("alone").unwrap()), None));
            prop_assert_eq!(before, codes(&more, &[]));
        }
    }

    #[test]
    fn overdue_is_told_long_before_anything_closes_and_louder_near_the_end() {
        use crate::domain::tracked::{KeyClass, KeyPlace};
        use crate::domain::upkeep::KeyVersion;
        let made = Timestamp::from_unix(1_800_000_000);
        let key = TrackedKey {
            id: KeyId::parse("api").unwrap(),
            class: KeyClass::SymmetricAuthentication,
            owner: None,
            environment: None,
            paths: BTreeSet::new(),
            created: Some(made),
            cryptoperiod: DAY * 100,
            hard_limit: DAY * 200,
            place: KeyPlace::Manual,
            live: None,
            every: Duration::from_secs(1),
            grace: Duration::from_secs(60),
            timeout: Duration::from_secs(1),
            turnover: None,
        };
        let current = Some(KeyVersion::active(1, made, made, "x"));
        let record = KeyRecord { current, ..KeyRecord::default() };
        let at = |days: u32| -> Vec<(&str, Severity)> {
            let all = findings(&key, &record, &KeySight::default(), made.plus(DAY * days));
            all.into_iter().map(|f| (f.code, f.severity)).collect()
        };
        assert_eq!(at(0), []);
        assert_eq!(at(89), []);
        assert_eq!(at(90), [(DUE_SOON, Severity::Note)]);
        assert_eq!(at(100), [(OVERDUE, Severity::Warning)]);
        assert_eq!(at(174), [(OVERDUE, Severity::Warning)]);
        assert_eq!(at(175), [(LIMIT_NEAR, Severity::Critical)]);
        assert_eq!(at(200), [(PAST_LIMIT, Severity::Critical)]);
    }
}
