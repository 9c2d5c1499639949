//! Which requests a path guards: all of them, or all but the kinds that stay reachable while it is closed.
//!
//! Rejecting, reading and repairing must go on when nothing may be approved. A request stays reachable only if it is
//! told for certain to be of such a kind: what no kind matches, and what a server behind might read in another way than
//! we do, is guarded. Refuses to know who told the request.

use std::collections::BTreeSet;
use std::sync::Arc;

/// A target longer than this is not looked at: it counts as guarded.
pub const LONGEST_TARGET: usize = 4_096;

/// What of a path's requests is guarded; everything by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard(Vec<Kind>);

/// A kind of request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its name, for people.
    pub name: Arc<str>,
    /// Its methods; empty means any.
    pub methods: BTreeSet<String>,
    /// What its URL's path begins with, whole segments; empty means any.
    pub prefixes: BTreeSet<String>,
    /// Whether the verdict decides over it.
    pub care: Care,
}

/// Whether the verdict decides over a kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// It does.
    Guarded,
    /// It does not: these stay reachable while the path is closed.
    Reachable,
}

/// The request that somebody wants to make, as a proxy vouches for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its target in origin form (RFC 9112 section 3.2.1): the path, and the query if there is one.
    pub target: &'a str,
}

impl Guard {
    /// Guards all but the reachable ones of these kinds.
    #[must_use]
    pub fn new(kinds: Vec<Kind>) -> Self {
        Self(kinds)
    }

    /// The kinds, in the order of the configuration.
    #[must_use]
    pub fn kinds(&self) -> &[Kind] {
        &self.0
    }

    /// The kind for which the request stays reachable while the path is closed; `None`: it is guarded.
    #[must_use]
    pub fn reachable(&self, asked: &Asked<'_>) -> Option<&Kind> {
        let path = asked.target.split('?').next().filter(|path| is_plain(path))?;
        if self.0.iter().any(|kind| kind.care == Care::Guarded && kind.may_mean(asked.method, path)) {
            return None;
        }
        self.0.iter().find(|kind| kind.care == Care::Reachable && kind.is(asked.method, path))
    }
}

impl Kind {
    /// Whether the request is of this kind for certain: the very method, whole segments.
    fn is(&self, method: &str, path: &str) -> bool {
        let below = |prefix: &String| {
            let rest = path.strip_prefix(prefix.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || prefix.ends_with('/'))
        };
        (self.methods.is_empty() || self.methods.contains(method))
            && (self.prefixes.is_empty() || self.prefixes.iter().any(below))
    }

    /// Whether a careless server might take the request for one of this kind: whatever the case, and begun segments too.
    fn may_mean(&self, method: &str, path: &str) -> bool {
        let begins = |prefix: &String| {
            let prefix = prefix.trim_end_matches('/');
            path.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
        };
        (self.methods.is_empty() || self.methods.iter().any(|m| m.eq_ignore_ascii_case(method)))
            && (self.prefixes.is_empty() || self.prefixes.iter().any(begins))
    }
}

/// Whether a URL's path has one meaning only, whoever reads it: no escapes, parameters, backslashes, empty or dot
/// segments, and nothing but visible ASCII.
#[must_use]
pub fn is_plain(path: &str) -> bool {
    let usual = |b: u8| b.is_ascii_alphanumeric() || b"/-._~!$&'()*+,=:@".contains(&b);
    let Some(rest) = path.strip_prefix('/') else { return false };
    // Only the last segment may be empty.
    let segments = rest.strip_suffix('/').unwrap_or(rest);
    path.len() <= LONGEST_TARGET
        && path.bytes().all(usual)
        && (rest.is_empty() || segments.split('/').all(|segment| !matches!(segment, "" | "." | "..")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: &str, methods: &[&str], prefixes: &[&str], care: Care) -> Kind {
        let set = |all: &[&str]| all.iter().map(|t| (*t).to_owned()).collect();
        Kind { name: name.into(), methods: set(methods), prefixes: set(prefixes), care }
    }

    fn portal() -> Guard {
        Guard::new(vec![
            kind("approve", &["POST", "PUT"], &["/approve"], Care::Guarded),
            kind("read", &["GET", "HEAD"], &[], Care::Reachable),
            kind("reject", &["POST"], &["/reject"], Care::Reachable),
            kind("repair", &[], &["/repair/", "/approve/repair"], Care::Reachable),
        ])
    }

    #[test]
    fn only_what_is_certainly_of_a_reachable_kind_is_reachable() {
        let guard = portal();
        for (method, target, expected) in [
            ("GET", "/", Some("read")),
            ("GET", "/approve", Some("read")),
            ("GET", "/list?next=/approve&x=%2e", Some("read")),
            ("POST", "/reject", Some("reject")),
            ("POST", "/reject/4711", Some("reject")),
            ("DELETE", "/repair/x", Some("repair")),
            ("GET", "/approve/repair", Some("read")),
            // No kind at all.
            ("POST", "/", None),
            ("DELETE", "/reject", None),
            ("POST", "/rejected", None),
            ("POST", "/REJECT", None),
            ("post", "/reject", None),
            ("get", "/", None),
            ("PATCH", "/repair", None),
            // Guarded wins over reachable, and is read widely.
            ("POST", "/approve/repair", None),
            ("POST", "/Approve/repair", None),
            ("post", "/approve/repair", None),
            // Another reader might see another path.
            ("POST", "/reject/../approve", None),
            ("POST", "/reject/./4711", None),
            ("POST", "/reject//approve", None),
            ("POST", "//reject", None),
            ("POST", "/reject/%2e%2e/approve", None),
            ("POST", "/reject;x=/../approve", None),
            ("POST", "/reject\\..\\approve", None),
            ("POST", "/reject#", None),
            ("POST", "/reject/é", None),
            ("POST", "/reject/\u{0}", None),
            ("POST", "http://portal/reject", None),
            ("POST", "reject", None),
            ("OPTIONS", "*", None),
            ("POST", "", None),
        ] {
            let seen = guard.reachable(&Asked { method, target }).map(|kind| &*kind.name);
            assert_eq!(seen, expected, "{method} {target}");
        }
        let long = format!("/reject/{}", "x".repeat(LONGEST_TARGET));
        assert_eq!(guard.reachable(&Asked { method: "POST", target: &long }), None);
    }

    #[test]
    fn a_path_without_kinds_guards_everything() {
        let asked = Asked { method: "GET", target: "/" };
        assert_eq!(Guard::default().reachable(&asked), None);
    }
}
