//! Workloads: programs of this machine that get SPIFFE IDs without files, and by what each is known.
//!
//! What is known of a caller comes from the kernel; every selector of a workload has to match. Refuses to know sockets,
//! processes and keys.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use crate::domain::id::{CaId, PathId, ProfileId};
use crate::domain::key::Digest;
use crate::domain::name::NameSet;
use crate::domain::spiffe::SpiffeId;
use crate::domain::time::{Timestamp, Validity};

/// A workload as the configuration asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Its SPIFFE ID.
    pub spiffe: SpiffeId,
    /// Which private CA issues for it.
    pub ca: CaId,
    /// By which profile.
    pub profile: ProfileId,
    /// DNS names and addresses besides the SPIFFE ID.
    pub names: NameSet,
    /// A life shorter than the profile's.
    pub lifetime: Option<Duration>,
    /// By what its processes are known: one at least, and all of them match.
    pub selectors: Vec<Selector>,
    /// The approval path without which it gets nothing.
    pub path: Option<PathId>,
}

/// Something that the kernel says about a process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Selector {
    /// Its effective user when it connected.
    Uid(u32),
    /// Its effective group when it connected; supplementary groups do not count.
    Gid(u32),
    /// The file that it runs.
    Path(Arc<str>),
    /// SHA-256 of the file that it runs.
    Sha256(Digest),
}

impl Selector {
    /// Parses `unix:uid:1000`, `unix:gid:1000`, `unix:path:/usr/bin/envoy` or `unix:sha256:HEX`.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let number = |text: &str| {
            let plain = text == "0" || !text.starts_with(['0', '+']);
            text.parse::<u32>().ok().filter(|_| plain).ok_or("has no plain number of a user or group")
        };
        match text.strip_prefix("unix:").and_then(|rest| rest.split_once(':')) {
            Some(("uid", id)) => number(id).map(Self::Uid),
            Some(("gid", id)) => number(id).map(Self::Gid),
            Some(("path", path)) => {
                let plain =
                    path.strip_prefix('/').is_some_and(|rest| !rest.split('/').any(|p| matches!(p, "" | "." | "..")));
                let said = "has no absolute path in its one spelling (no '.', '..', '//' and no '/' at the end)";
                plain.then(|| Self::Path(Arc::from(path))).ok_or(said)
            }
            Some(("sha256", hex)) => {
                Digest::parse(hex).map(Self::Sha256).ok_or("has no SHA-256 in 64 lower-case hexadecimal digits")
            }
            _ => Err("begins with none of unix:uid:, unix:gid:, unix:path: and unix:sha256:"),
        }
    }

    fn matches(&self, caller: &Caller) -> bool {
        match self {
            Self::Uid(uid) => caller.uid == *uid,
            Self::Gid(gid) => caller.gid == *gid,
            Self::Path(path) => caller.path.as_ref() == Some(path),
            Self::Sha256(digest) => caller.sha256 == Some(*digest),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uid(uid) => write!(f, "unix:uid:{uid}"),
            Self::Gid(gid) => write!(f, "unix:gid:{gid}"),
            Self::Path(path) => write!(f, "unix:path:{path}"),
            Self::Sha256(digest) => write!(f, "unix:sha256:{digest}"),
        }
    }
}

/// What the kernel says about a process at the other end of a socket. What could not be told is `None` and matches nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its process id.
    pub pid: u32,
    /// Its effective user when it connected.
    pub uid: u32,
    /// Its effective group when it connected.
    pub gid: u32,
    /// The file that it runs, if it is the one that has this path here too.
    pub path: Option<Arc<str>>,
    /// SHA-256 of the file that it runs, if somebody wants to know.
    pub sha256: Option<Digest>,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.as_deref().unwrap_or("a file that cannot be told");
        write!(f, "pid {} (uid {}, gid {}, {path})", self.pid, self.uid, self.gid)
    }
}

impl Workload {
    /// Whether a caller is this workload.
    #[must_use]
    pub fn is(&self, caller: &Caller) -> bool {
        !self.selectors.is_empty() && self.selectors.iter().all(|s| s.matches(caller))
    }

    /// Whether somebody has to read the caller's program to tell.
    #[must_use]
    pub fn asks_digest(&self) -> bool {
        self.selectors.iter().any(|s| matches!(s, Selector::Sha256(_)))
    }

    /// Whether a caller would be this workload if its program had the right digest.
    #[must_use]
    pub fn may_be(&self, caller: &Caller) -> bool {
        let known = |s: &&Selector| !matches!(s, Selector::Sha256(_));
        !self.selectors.is_empty() && self.selectors.iter().filter(known).all(|s| s.matches(caller))
    }
}

/// When a workload's certificate is renewed: between 45 and 55 hundredths of its life, which of them its own digest says, so
/// that what was issued together is not renewed together, and every look gives the same answer.
#[must_use]
pub fn renew_at(validity: &Validity, fingerprint: &Digest) -> Timestamp {
    let spread = fingerprint.0.iter().take(4).fold(0_u32, |sum, byte| (sum << 8) | u32::from(*byte)) % 101;
    validity.at_permille(u16::try_from(spread).unwrap_or(0).saturating_add(450))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::name::NameSet;
    use crate::domain::time::HOUR;

    fn workload(selectors: &[&str]) -> Workload {
        Workload {
            spiffe: SpiffeId::parse("spiffe://mesh.example/a").unwrap(),
            ca: CaId::parse("mesh").unwrap(),
            profile: ProfileId::parse("workload").unwrap(),
            names: NameSet::default(),
            lifetime: None,
            selectors: selectors.iter().map(|s| Selector::parse(s).unwrap()).collect(),
            path: None,
        }
    }

    fn caller() -> Caller {
        Caller { pid: 7, uid: 1_000, gid: 100, path: Some(Arc::from("/usr/bin/a")), sha256: Some(Digest([1; 32])) }
    }

    #[test]
    fn every_selector_has_to_match_and_none_matches_nobody() {
        let hash = format!("unix:sha256:{}", Digest([1; 32]));
        for (selectors, is) in [
            (&["unix:uid:1000"][..], true),
            (&["unix:uid:1000", "unix:gid:100", "unix:path:/usr/bin/a", &hash], true),
            (&["unix:uid:1000", "unix:gid:101"], false),
            (&["unix:uid:0"], false),
            (&["unix:path:/usr/bin/a"], true),
            (&["unix:path:/usr/bin/ab"], false),
            (&["unix:path:/usr/bin"], false),
            (&[], false),
        ] {
            assert_eq!(workload(selectors).is(&caller()), is, "{selectors:?}");
        }
        let unknown = Caller { path: None, sha256: None, ..caller() };
        assert!(!workload(&["unix:path:/usr/bin/a"]).is(&unknown));
        let both = workload(&["unix:uid:1000", &hash]);
        assert!(!both.is(&unknown) && both.may_be(&unknown) && both.asks_digest());
    }

    #[test]
    fn a_selector_has_one_spelling() {
        for good in ["unix:uid:0", "unix:gid:4294967295", "unix:path:/a b/c:d"] {
            assert_eq!(Selector::parse(good).unwrap().to_string(), good);
        }
        for bad in [
            "",
            "uid:1",
            "unix:uid:",
            "unix:uid:-1",
            "unix:uid:+1",
            "unix:uid:01",
            "unix:uid:root",
            "unix:path:a",
            "unix:path:/a/../b",
            "unix:path:/",
            "unix:path:/a/",
            "unix:sha256:ab",
            "unix:user:x",
            "k8s:ns:a",
        ] {
            assert!(Selector::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn renewals_spread_around_half_of_the_life_and_stay() {
        let start = Timestamp::from_unix(1_800_000_000);
        let validity = Validity { not_before: start, not_after: start.plus(HOUR * 10) };
        let (mut first, mut last) = (Timestamp::MAX, Timestamp::MIN);
        for byte in 0..=255 {
            let at = renew_at(&validity, &Digest::of(&[byte]));
            assert_eq!(at, renew_at(&validity, &Digest::of(&[byte])));
            (first, last) = (first.min(at), last.max(at));
        }
        assert!(first >= validity.at_permille(450) && last <= validity.at_permille(550));
        assert!(last.since(first) > HOUR / 2, "{first} {last}");
    }
}
