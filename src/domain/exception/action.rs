//! Exactly what would be done, with all that whoever does it needs: nothing is chosen afterwards.

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::kind::{Kind, Stakes};
use super::people::PersonId;
use crate::domain::certificate::CertId;
use crate::domain::directory::RowId;
use crate::domain::id::{AttemptId, CaId, CredentialId, IssuerId, KeyId, PathId};
use crate::domain::json::Json;
use crate::domain::key::{Digest, KeyAlgorithm};
use crate::domain::name::NameSet;
use crate::domain::rotation::Step;
use crate::domain::time::Timestamp;

/// A program with its arguments; no shell reads it.
pub type Argv = Vec<Arc<str>>;

/// What would be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A certificate is issued and installed.
    Issue(Issue),
    /// What was issued before is installed.
    Install {
        /// For which credential.
        credential: CredentialId,
        /// What was issued, by the attempt whose slot it lies in.
        slot: AttemptId,
        /// SHA-256 of its certificate.
        certificate: Digest,
        /// How it comes into place.
        placing: Placing,
    },
    /// Automation may try again after its failures locked it.
    Unlock {
        /// For which credential.
        credential: CredentialId,
        /// The failures in a row that locked it.
        failures: u32,
    },
    /// A key that is no certificate's is replaced.
    ReplaceKey {
        /// Which key.
        key: KeyId,
        /// The version that is replaced.
        version: u32,
        /// What makes and sets the new one.
        turnover: Argv,
    },
    /// A key is latched as compromised, and what stands on it is revoked.
    Block {
        /// SHA-256 of its SubjectPublicKeyInfo, or its print.
        key: Digest,
        /// Serial numbers of the certificates that are revoked.
        revoke: BTreeSet<Arc<str>>,
    },
    /// A private CA takes one step.
    Rotate {
        /// Which CA.
        ca: CaId,
        /// Which step of which generation, and from where.
        step: Step,
    },
    /// A compromised generation goes at once.
    Distrust {
        /// Of which CA.
        ca: CaId,
        /// Which one.
        generation: u32,
        /// Digest of what breaks, as it was shown.
        breakage: Digest,
    },
    /// What relying parties trust is replaced.
    Trust {
        /// Whose bundle.
        ca: CaId,
        /// Digest of the bundle before.
        before: Digest,
        /// Digest of the bundle after.
        after: Digest,
    },
    /// A rule does not hold for somebody for a while.
    Waive {
        /// The code of the finding or limit that is waived.
        code: Arc<str>,
        /// For what, as `KIND/ID`.
        target: Arc<str>,
        /// Until when at the latest, exclusive.
        until: Timestamp,
    },
    /// An approval path is opened in spite of its verdict.
    OpenPath {
        /// Which path.
        path: PathId,
        /// Until when at the latest, exclusive.
        until: Timestamp,
    },
    /// The configuration is replaced.
    Configure(Replacement),
    /// The policy is replaced.
    SetPolicy(Replacement),
    /// The key of an account at a CA is changed, or the account is given up.
    Account {
        /// At which issuer.
        issuer: IssuerId,
        /// The account's URL.
        url: Arc<str>,
        /// Digest of the new public key; without one the account is deactivated.
        key: Option<Digest>,
    },
    /// An order at a private ACME directory may be finalized.
    Order {
        /// Which order.
        order: RowId,
        /// Whose it is.
        account: RowId,
        /// For which names.
        names: NameSet,
    },
    /// A program is run.
    Run {
        /// Which one, with its arguments.
        argv: Argv,
        /// The files that it may write.
        writes: BTreeSet<Arc<str>>,
    },
}

/// A certificate to be issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// For which credential.
    pub credential: CredentialId,
    /// At which issuer.
    pub issuer: IssuerId,
    /// The URL of its directory.
    pub directory: Arc<str>,
    /// For which names.
    pub names: NameSet,
    /// With which key.
    pub key: Key,
    /// The CA's profile, if one is asked for.
    pub profile: Option<Arc<str>>,
    /// How long it should live, if that is asked for.
    pub lifetime: Option<Duration>,
    /// What it replaces, if the CA is told.
    pub replaces: Option<CertId>,
    /// How it comes into place.
    pub placing: Placing,
}

/// With which key a certificate is issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// A new one of this kind.
    New(KeyAlgorithm),
    /// The one that is there, by SHA-256 of its SubjectPublicKeyInfo.
    Same(Digest),
    /// That of a signing request, by SHA-256 of the whole request.
    Csr(Digest),
}

/// How files come into place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placing {
    /// The files that are written.
    pub paths: BTreeSet<Arc<str>>,
    /// What is run afterwards, in this order.
    pub reload: Vec<Argv>,
    /// Where it has to be served then.
    pub endpoints: BTreeSet<Arc<str>>,
}

/// A text that is replaced as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// Digest of what it replaces.
    pub before: Digest,
    /// Digest of what replaces it.
    pub after: Digest,
    /// Who wrote it: none of them approves it.
    pub authors: BTreeSet<PersonId>,
}

impl Action {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Issue(_) => "issue",
            Self::Install { .. } => "install",
            Self::Unlock { .. } => "unlock",
            Self::ReplaceKey { .. } => "replace_key",
            Self::Block { .. } => "block",
            Self::Rotate { .. } => "rotate",
            Self::Distrust { .. } => "distrust",
            Self::Trust { .. } => "trust",
            Self::Waive { .. } => "waive",
            Self::OpenPath { .. } => "open_path",
            Self::Configure(_) => "configure",
            Self::SetPolicy(_) => "set_policy",
            Self::Account { .. } => "account",
            Self::Order { .. } => "order",
            Self::Run { .. } => "run",
        }
    }

    /// The kinds of request that may ask for it. What lies above the floor is asked for by kinds above the floor only, so
    /// that nothing passes below it under another name.
    #[must_use]
    pub fn kinds(&self) -> &'static [Kind] {
        match self {
            Self::Issue(_) => &[
                Kind::IssueElsewhere,
                Kind::NewName,
                Kind::ChangedProfile,
                Kind::OutOfWindow,
                Kind::RetryLocked,
                Kind::FreezeOverride,
                Kind::BreakGlass,
                Kind::OpenedByPerson,
            ],
            Self::Install { .. } => {
                &[Kind::OutOfWindow, Kind::RetryLocked, Kind::FreezeOverride, Kind::BreakGlass, Kind::OpenedByPerson]
            }
            Self::Unlock { .. } => &[Kind::RetryLocked, Kind::OpenedByPerson],
            Self::ReplaceKey { .. } => &[
                Kind::KeyReplacement,
                Kind::KeyCompromise,
                Kind::FreezeOverride,
                Kind::BreakGlass,
                Kind::OpenedByPerson,
            ],
            Self::Block { .. } => &[Kind::KeyCompromise],
            Self::Rotate { .. } => &[Kind::CaChange],
            Self::Distrust { .. } => &[Kind::KeyCompromise, Kind::CaChange],
            Self::Trust { .. } => &[Kind::TrustChange],
            Self::Waive { .. } => &[Kind::Waiver],
            Self::OpenPath { .. } => &[Kind::BreakGlass],
            Self::Configure(_) => &[Kind::Configuration],
            Self::SetPolicy(_) => &[Kind::Policy],
            Self::Account { .. } => &[Kind::AccountKey],
            Self::Order { .. } => &[Kind::AcmeOrder],
            Self::Run { .. } => &[Kind::FreezeOverride, Kind::BreakGlass, Kind::OpenedByPerson],
        }
    }

    /// The least that is at stake whatever the kind says: a program can do anything.
    #[must_use]
    pub fn floor(&self) -> Stakes {
        match self {
            Self::Issue(_)
            | Self::Install { .. }
            | Self::Unlock { .. }
            | Self::ReplaceKey { .. }
            | Self::Order { .. } => Stakes::T1,
            Self::Block { .. }
            | Self::Rotate { .. }
            | Self::Distrust { .. }
            | Self::Trust { .. }
            | Self::Waive { .. }
            | Self::OpenPath { .. }
            | Self::Configure(_)
            | Self::SetPolicy(_)
            | Self::Account { .. }
            | Self::Run { .. } => Stakes::T3,
        }
    }

    /// The programs that it runs.
    pub fn programs(&self) -> impl Iterator<Item = &Argv> {
        let (one, all): (Option<&Argv>, &[Argv]) = match self {
            Self::Issue(Issue { placing, .. }) | Self::Install { placing, .. } => (None, &placing.reload),
            Self::ReplaceKey { turnover, .. } => (Some(turnover), &[]),
            Self::Run { argv, .. } => (Some(argv), &[]),
            Self::Unlock { .. }
            | Self::Block { .. }
            | Self::Rotate { .. }
            | Self::Distrust { .. }
            | Self::Trust { .. }
            | Self::Waive { .. }
            | Self::OpenPath { .. }
            | Self::Configure(_)
            | Self::SetPolicy(_)
            | Self::Account { .. }
            | Self::Order { .. } => (None, &[]),
        };
        one.into_iter().chain(all)
    }

    /// What is put in force for a while, whatever its end: asking for the same again is a renewal.
    #[must_use]
    pub fn lasting(&self) -> Option<(&'static str, &str, &str)> {
        match self {
            Self::Waive { code, target, until: _ } => Some(("waive", code, target)),
            Self::OpenPath { path, until: _ } => Some(("open_path", path.as_str(), "")),
            Self::Issue(_)
            | Self::Install { .. }
            | Self::Unlock { .. }
            | Self::ReplaceKey { .. }
            | Self::Block { .. }
            | Self::Rotate { .. }
            | Self::Distrust { .. }
            | Self::Trust { .. }
            | Self::Configure(_)
            | Self::SetPolicy(_)
            | Self::Account { .. }
            | Self::Order { .. }
            | Self::Run { .. } => None,
        }
    }

    /// When what it does ends by itself, if it does.
    #[must_use]
    pub fn lasts_until(&self) -> Option<Timestamp> {
        match self {
            Self::Waive { until, .. } | Self::OpenPath { until, .. } => Some(*until),
            Self::Issue(_)
            | Self::Install { .. }
            | Self::Unlock { .. }
            | Self::ReplaceKey { .. }
            | Self::Block { .. }
            | Self::Rotate { .. }
            | Self::Distrust { .. }
            | Self::Trust { .. }
            | Self::Configure(_)
            | Self::SetPolicy(_)
            | Self::Account { .. }
            | Self::Order { .. }
            | Self::Run { .. } => None,
        }
    }

    /// Who wrote what it puts in force.
    #[must_use]
    pub fn authors(&self) -> Option<&BTreeSet<PersonId>> {
        match self {
            Self::Configure(new) | Self::SetPolicy(new) => Some(&new.authors),
            Self::Issue(_)
            | Self::Install { .. }
            | Self::Unlock { .. }
            | Self::ReplaceKey { .. }
            | Self::Block { .. }
            | Self::Rotate { .. }
            | Self::Distrust { .. }
            | Self::Trust { .. }
            | Self::Waive { .. }
            | Self::OpenPath { .. }
            | Self::Account { .. }
            | Self::Order { .. }
            | Self::Run { .. } => None,
        }
    }

    pub(super) fn to_json(&self) -> Json {
        let body = match self {
            Self::Issue(issue) => issue.to_json(),
            Self::Install { credential, slot, certificate, placing } => Json::obj([
                ("certificate", Json::Hash(*certificate)),
                ("credential", Json::shared(credential)),
                ("placing", placing.to_json()),
                ("slot", Json::show(slot)),
            ]),
            Self::Unlock { credential, failures } => {
                Json::obj([("credential", Json::shared(credential)), ("failures", Json::Int(i64::from(*failures)))])
            }
            Self::ReplaceKey { key, version, turnover } => Json::obj([
                ("key", Json::shared(key)),
                ("turnover", texts(turnover)),
                ("version", Json::Int(i64::from(*version))),
            ]),
            Self::Block { key, revoke } => Json::obj([("key", Json::Hash(*key)), ("revoke", texts(revoke))]),
            Self::Rotate { ca, step } => Json::obj([
                ("ca", Json::shared(ca)),
                ("from", Json::str(step.from.as_str())),
                ("generation", Json::Int(i64::from(step.generation))),
                ("step", Json::str(step.kind.as_str())),
            ]),
            Self::Distrust { ca, generation, breakage } => Json::obj([
                ("breakage", Json::Hash(*breakage)),
                ("ca", Json::shared(ca)),
                ("generation", Json::Int(i64::from(*generation))),
            ]),
            Self::Trust { ca, before, after } => {
                Json::obj([("after", Json::Hash(*after)), ("before", Json::Hash(*before)), ("ca", Json::shared(ca))])
            }
            Self::Waive { code, target, until } => Json::obj([
                ("code", Json::Shared(code.clone())),
                ("target", Json::Shared(target.clone())),
                ("until", Json::Time(*until)),
            ]),
            Self::OpenPath { path, until } => Json::obj([("path", Json::shared(path)), ("until", Json::Time(*until))]),
            Self::Configure(new) | Self::SetPolicy(new) => Json::obj([
                ("after", Json::Hash(new.after)),
                ("authors", Json::arr(new.authors.iter().map(PersonId::to_json))),
                ("before", Json::Hash(new.before)),
            ]),
            Self::Account { issuer, url, key } => Json::obj([
                ("issuer", Json::shared(issuer)),
                ("key", Json::opt(key.map(Json::Hash))),
                ("url", Json::Shared(url.clone())),
            ]),
            Self::Order { order, account, names } => {
                Json::obj([("account", Json::show(account)), ("names", named(names)), ("order", Json::show(order))])
            }
            Self::Run { argv, writes } => Json::obj([("argv", texts(argv)), ("writes", texts(writes))]),
        };
        Json::obj([("do", Json::str(self.name())), ("with", body)])
    }
}

impl Issue {
    fn to_json(&self) -> Json {
        let Self { credential, issuer, directory, names, key, profile, lifetime, replaces, placing } = self;
        let key = match key {
            Key::New(algorithm) => Json::obj([("new", Json::str(algorithm.as_str()))]),
            Key::Same(spki) => Json::obj([("same", Json::Hash(*spki))]),
            Key::Csr(request) => Json::obj([("csr", Json::Hash(*request))]),
        };
        Json::obj([
            ("credential", Json::shared(credential)),
            ("directory", Json::Shared(directory.clone())),
            ("issuer", Json::shared(issuer)),
            ("key", key),
            // As text: a number beyond 2^53 would be cut.
            ("lifetime_secs", Json::opt(lifetime.map(seconds))),
            ("names", named(names)),
            ("placing", placing.to_json()),
            ("profile", Json::opt(profile.clone().map(Json::Shared))),
            ("replaces", Json::opt(replaces.as_ref().map(Json::show))),
        ])
    }
}

impl Placing {
    fn to_json(&self) -> Json {
        Json::obj([
            ("endpoints", texts(&self.endpoints)),
            ("paths", texts(&self.paths)),
            ("reload", Json::arr(self.reload.iter().map(texts))),
        ])
    }
}

/// With the fraction, if there is one: what differs in anything differs in its bytes.
fn seconds(span: Duration) -> Json {
    let text = match span.subsec_nanos() {
        0 => span.as_secs().to_string(),
        nanos => format!("{}.{nanos:09}", span.as_secs()),
    };
    Json::str(text)
}

fn named(names: &NameSet) -> Json {
    Json::arr(names.iter().map(|name| Json::Shared(name.text())))
}

pub(super) fn texts<'a>(all: impl IntoIterator<Item = &'a Arc<str>>) -> Json {
    Json::arr(all.into_iter().map(|text| Json::Shared(text.clone())))
}
