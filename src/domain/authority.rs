//! Private CAs: what they may issue, to whom, and for how long (RFC 5280).
//!
//! [`decide`] turns a wish into what is to be signed, or refuses it; nothing is copied out of a request but the public key
//! and names that the profile covers. Refuses to know keys, bytes and who asks.

mod template;

use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::certificate::Purposes;
use crate::domain::id::{CaId, ProfileId};
use crate::domain::key::KeyAlgorithm;
use crate::domain::name::{Name, NameSet};
use crate::domain::spiffe::{PathPattern, SpiffeId, TrustDomain};
use crate::domain::time::{HOUR, MINUTE, Timestamp, Validity};

pub use self::template::{CaCertificate, Leaf, RevocationList, RevocationReason, Revoked, SerialNumber};

/// A private CA as the configuration asks for it. Its generations come and go; this stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ca {
    /// Its id.
    pub id: CaId,
    /// What the common names of its certificates begin with.
    pub name: Arc<str>,
    /// The organization in its certificates.
    pub organization: Option<Arc<str>>,
    /// Of the keys that it makes: P-256, P-384 or Ed25519.
    pub algorithm: KeyAlgorithm,
    /// Whether its root is in a place that no network reaches; otherwise the key holder has it.
    pub offline_root: bool,
    /// How long a root lives.
    pub root_lifetime: Duration,
    /// How long an issuing CA lives.
    pub issuing_lifetime: Duration,
    /// Whose SPIFFE IDs it issues.
    pub trust_domain: Option<TrustDomain>,
    /// What stands in its certificates as name constraints.
    pub constraints: Constraints,
    /// How long a revocation list is good.
    pub crl_lifetime: Duration,
    /// Where its lists are found: goes into the certificates that it issues (RFC 5280 section 4.2.1.13).
    pub crl_urls: Vec<Arc<str>>,
    /// Where its certificate is found (RFC 5280 section 4.2.2.1, caIssuers).
    pub issuer_urls: Vec<Arc<str>>,
    /// What it issues.
    pub profiles: BTreeMap<ProfileId, Profile>,
}

/// Name constraints (RFC 5280 section 4.2.1.10): subtrees of DNS names and networks. URIs are not among them: the library
/// that peers verify with refuses every certificate below such a constraint, so SPIFFE IDs are held by [`decide`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Constraints {
    /// `example.com` permits it and everything below it.
    pub permitted_dns: Vec<Arc<str>>,
    /// The same, excluded.
    pub excluded_dns: Vec<Arc<str>>,
    /// Networks: address and the length of its prefix in bits.
    pub permitted_ip: Vec<(IpAddr, u8)>,
    /// The same, excluded.
    pub excluded_ip: Vec<(IpAddr, u8)>,
}

impl Constraints {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.permitted_dns.is_empty()
            && self.excluded_dns.is_empty()
            && self.permitted_ip.is_empty()
            && self.excluded_ip.is_empty()
    }

    /// Whether a certificate below them may have this name.
    #[must_use]
    pub fn allow(&self, name: &Name) -> bool {
        match name {
            Name::Dns(host) => {
                let host = host.strip_prefix("*.").unwrap_or(host);
                let within = |tree: &Arc<str>| host == &**tree || is_below(host, tree);
                // A wildcard stands for names below it, and an excluded tree may be one of them.
                let touches = |tree: &Arc<str>| within(tree) || (name.is_wildcard() && is_below(tree, host));
                (self.permitted_dns.is_empty() || self.permitted_dns.iter().any(within))
                    && !self.excluded_dns.iter().any(touches)
            }
            Name::Ip(ip) => {
                let within = |(net, bits): &(IpAddr, u8)| in_network(*ip, *net, *bits);
                (self.permitted_ip.is_empty() || self.permitted_ip.iter().any(within))
                    && !self.excluded_ip.iter().any(within)
            }
        }
    }
}

fn is_below(host: &str, tree: &str) -> bool {
    host.strip_suffix(tree).is_some_and(|head| head.len() > 1 && head.ends_with('.'))
}

/// Whether an address lies in a network of the same family.
#[must_use]
pub fn in_network(ip: IpAddr, net: IpAddr, bits: u8) -> bool {
    let wide = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32_u8),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let ((ip_bits, ip_size), (net_bits, net_size)) = (wide(ip), wide(net));
    let drop = 128_u32.saturating_sub(u32::from(bits));
    let shift = |all: u128| all.checked_shr(drop).unwrap_or(0);
    ip_size == net_size && bits <= net_size && shift(ip_bits) == shift(net_bits)
}

/// A profile by which a CA issues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its id.
    pub id: ProfileId,
    /// The longest life of what it issues, and what it gets unless less is asked for.
    pub lifetime: Duration,
    /// What the certificates are for.
    pub purposes: Purposes,
    /// Host names and addresses that it covers.
    pub names: Vec<NamePattern>,
    /// Paths of SPIFFE IDs that it covers, in the CA's trust domain.
    pub ids: Vec<PathPattern>,
}

/// Host names or addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamePattern {
    /// This one; a wildcard stands for the wildcard certificate.
    Exact(Name),
    /// `*.example`: one label more, no wildcard.
    Child(Arc<str>),
    /// `**.example`: any number of labels more, no wildcard.
    Below(Arc<str>),
    /// `10.0.0.0/8`.
    Network(IpAddr, u8),
}

impl NamePattern {
    /// Parses `web.example`, `*.example`, `**.example`, `=*.example` (the wildcard itself), an address, or a network.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let name = |text: &str| Name::parse(text).map_err(|e| e.to_string());
        if let Some(wildcard) = text.strip_prefix('=') {
            return name(wildcard).map(Self::Exact);
        }
        if let Some(tree) = text.strip_prefix("**.") {
            return name(&format!("a.{tree}")).and_then(|_| no_star(tree)).map(|()| Self::Below(Arc::from(tree)));
        }
        if let Some(tree) = text.strip_prefix("*.") {
            return name(&format!("a.{tree}")).and_then(|_| no_star(tree)).map(|()| Self::Child(Arc::from(tree)));
        }
        if let Some((address, bits)) = text.split_once('/') {
            return network(address, bits).map(|(net, bits)| Self::Network(net, bits));
        }
        name(text).map(Self::Exact)
    }

    /// Whether a name is one of those that it stands for.
    #[must_use]
    pub fn covers(&self, name: &Name) -> bool {
        match (self, name) {
            (Self::Exact(own), name) => own == name,
            (Self::Child(_) | Self::Below(_), name) if name.is_wildcard() => false,
            (Self::Child(tree), Name::Dns(host)) => {
                host.split_once('.').is_some_and(|(first, rest)| !first.is_empty() && rest == &**tree)
            }
            (Self::Below(tree), Name::Dns(host)) => is_below(host, tree),
            (Self::Network(net, bits), Name::Ip(ip)) => in_network(*ip, *net, *bits),
            (Self::Child(_) | Self::Below(_), Name::Ip(_)) | (Self::Network(..), Name::Dns(_)) => false,
        }
    }
}

fn no_star(tree: &str) -> Result<(), String> {
    let lower = tree.bytes().all(|b| !b.is_ascii_uppercase()) && !tree.ends_with('.');
    if lower && !tree.contains('*') { Ok(()) } else { Err("is no name in lower case below one '*'".to_owned()) }
}

/// Parses the halves of `ADDRESS/BITS`; bits after the prefix must be zero, so that nobody is surprised.
///
/// # Errors
/// Says what is wrong with it.
pub fn network(address: &str, bits: &str) -> Result<(IpAddr, u8), String> {
    let net: IpAddr = address.parse().map_err(|_| format!("{address:?} is no address"))?;
    let most = if net.is_ipv4() { 32 } else { 128 };
    let bits: u8 = bits
        .parse()
        .ok()
        .filter(|bits| *bits <= most)
        .ok_or_else(|| format!("{bits:?} is no length of a prefix (0 to {most})"))?;
    let first = match net {
        IpAddr::V4(v4) => {
            IpAddr::from((v4.to_bits() & !u32::MAX.checked_shr(u32::from(bits)).unwrap_or(0)).to_be_bytes())
        }
        IpAddr::V6(v6) => {
            IpAddr::from((v6.to_bits() & !u128::MAX.checked_shr(u32::from(bits)).unwrap_or(0)).to_be_bytes())
        }
    };
    if first == net {
        Ok((net, bits))
    } else {
        Err(format!("{net}/{bits} has bits beyond its prefix; write {first}/{bits}"))
    }
}

/// What somebody asks a CA for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Host names and addresses.
    pub names: NameSet,
    /// A SPIFFE ID.
    pub spiffe: Option<SpiffeId>,
    /// The SubjectPublicKeyInfo (DER); whoever asks has proved that the private key is theirs, and its strength was checked.
    pub spki: Arc<[u8]>,
    /// A life shorter than the profile's.
    pub lifetime: Option<Duration>,
}

/// Why a CA does not issue. Each has a stable code of its own in the shell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Neither a name nor an ID.
    #[error("nothing is asked for: a certificate needs a name or a SPIFFE ID")]
    Nameless,
    /// The profile does not cover it.
    #[error("profile {profile} does not cover {name}")]
    NotCovered {
        /// Which profile.
        profile: ProfileId,
        /// What is not covered.
        name: String,
    },
    /// The CA's name constraints exclude it: every verifier would refuse the certificate.
    #[error("the name constraints of the CA do not allow {0}")]
    Constrained(String),
    /// Another trust domain, or the CA has none.
    #[error("{id} is not in the CA's trust domain{}", .domain.as_ref().map(|d| format!(" {d}")).unwrap_or_default())]
    TrustDomain {
        /// What was asked for.
        id: SpiffeId,
        /// What the CA has.
        domain: Option<TrustDomain>,
    },
    /// Longer than the profile allows.
    #[error("a life of {} s was asked for, and profile {profile} gives at most {} s", .asked.as_secs(), .most.as_secs())]
    TooLong {
        /// Which profile.
        profile: ProfileId,
        /// What was asked for.
        asked: Duration,
        /// What it gives.
        most: Duration,
    },
    /// Too short to be of use.
    #[error("the certificate would live {} s only, because something above it ends at {ends}; it has to live {} s at least", .lives.as_secs(), SHORTEST_LIFE.as_secs())]
    TooShort {
        /// How long it would live.
        lives: Duration,
        /// What cuts it short.
        ends: Timestamp,
    },
    /// The chain above is not valid now.
    #[error("the CA itself is valid from {} to {}, and now it is {now}", .above.not_before, .above.not_after)]
    NotNow {
        /// When all of the chain is valid.
        above: Validity,
        /// Now.
        now: Timestamp,
    },
}

/// What is issued lives at least so long: the clock skew of a peer and one renewal fit in.
pub const SHORTEST_LIFE: Duration = MINUTE.saturating_mul(5);
/// Begins so long before it is issued, for peers whose clocks are behind; a leaf at most by a fourth of its life, so that half
/// of it is not over before it is there.
pub const BACKDATE: Duration = MINUTE;
/// A list begins so long before it is made, for the same reason.
pub const LIST_BACKDATE: Duration = HOUR;

/// Whether a CA issues for these by this profile, at any time.
///
/// # Errors
/// [`Refusal`] says what is not covered.
pub fn covers(ca: &Ca, profile: &Profile, names: &NameSet, spiffe: Option<&SpiffeId>) -> Result<(), Refusal> {
    if names.is_empty() && spiffe.is_none() {
        return Err(Refusal::Nameless);
    }
    for name in names.iter() {
        if !profile.names.iter().any(|pattern| pattern.covers(name)) {
            return Err(Refusal::NotCovered { profile: profile.id.clone(), name: name.to_string() });
        }
        if !ca.constraints.allow(name) {
            return Err(Refusal::Constrained(name.to_string()));
        }
    }
    if let Some(id) = spiffe {
        if ca.trust_domain.as_ref().is_none_or(|domain| domain.as_str() != id.trust_domain()) {
            return Err(Refusal::TrustDomain { id: id.clone(), domain: ca.trust_domain.clone() });
        }
        if !profile.ids.iter().any(|pattern| pattern.covers(id)) {
            return Err(Refusal::NotCovered { profile: profile.id.clone(), name: id.to_string() });
        }
    }
    Ok(())
}

/// Decides a wish. `above` is the intersection of the validities of everything above the leaf, the root included: a leaf
/// never outlives anything above it.
///
/// # Errors
/// [`Refusal`] says which rule is broken.
pub fn decide(
    ca: &Ca,
    profile: &Profile,
    wish: &Wish,
    above: Validity,
    serial: SerialNumber,
    now: Timestamp,
) -> Result<Leaf, Refusal> {
    covers(ca, profile, &wish.names, wish.spiffe.as_ref())?;
    if !above.contains(now) {
        return Err(Refusal::NotNow { above, now });
    }
    let lifetime = wish.lifetime.unwrap_or(profile.lifetime);
    if lifetime > profile.lifetime {
        return Err(Refusal::TooLong { profile: profile.id.clone(), asked: lifetime, most: profile.lifetime });
    }
    // The life is counted from now; what lies before is for clocks that are behind, and never before the CA itself.
    let not_after = now.plus(lifetime).min(above.not_after);
    let lives = now.until(not_after);
    let validity = Validity { not_before: now.minus(BACKDATE.min(lives / 4)).max(above.not_before), not_after };
    // What is short-lived by its profile may be shorter.
    if lives < SHORTEST_LIFE.min(profile.lifetime / 2) {
        return Err(Refusal::TooShort { lives, ends: validity.not_after });
    }
    Ok(Leaf {
        serial,
        validity,
        names: wish.names.clone(),
        spiffe: wish.spiffe.clone(),
        purposes: profile.purposes,
        spki: wish.spki.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ca() -> Ca {
        let id = ProfileId::parse("workload").unwrap();
        let profile = Profile {
            id: id.clone(),
            lifetime: HOUR.saturating_mul(24),
            purposes: Purposes::ALL,
            names: ["*.svc.example", "10.1.0.0/16"].iter().map(|p| NamePattern::parse(p).unwrap()).collect(),
            ids: vec![PathPattern::parse("/ns/*/sa/*").unwrap()],
        };
        Ca {
            offline_root: false,
            id: CaId::parse("mesh").unwrap(),
            name: Arc::from("Mesh"),
            organization: None,
            algorithm: KeyAlgorithm::P256,
            root_lifetime: HOUR.saturating_mul(24 * 3_650),
            issuing_lifetime: HOUR.saturating_mul(24 * 365),
            trust_domain: TrustDomain::parse("mesh.example"),
            constraints: Constraints { excluded_dns: vec![Arc::from("db.svc.example")], ..Constraints::default() },
            crl_lifetime: HOUR.saturating_mul(24),
            crl_urls: Vec::new(),
            issuer_urls: Vec::new(),
            profiles: [(id, profile)].into(),
        }
    }

    fn wish(names: &[&str], id: Option<&str>, lifetime: Option<Duration>) -> Wish {
        Wish {
            names: NameSet::new(names.iter().map(|n| Name::parse(n).unwrap())),
            spiffe: id.map(|id| SpiffeId::parse(id).unwrap()),
            spki: Arc::from([1_u8].as_slice()),
            lifetime,
        }
    }

    fn asked(wish: &Wish, above: Validity) -> Result<Leaf, Refusal> {
        let ca = ca();
        let profile = ca.profiles.values().next().unwrap();
        decide(&ca, profile, wish, above, SerialNumber::new([0; 20]), Timestamp::from_unix(1_000_000))
    }

    const ABOVE: Validity =
        Validity { not_before: Timestamp::from_unix(0), not_after: Timestamp::from_unix(10_000_000) };

    #[test]
    fn what_the_profile_covers_is_given_and_nothing_else_is() {
        assert!(asked(&wish(&["a.svc.example"], Some("spiffe://mesh.example/ns/a/sa/b"), None), ABOVE).is_ok());
        assert!(asked(&wish(&["10.1.2.3"], None, None), ABOVE).is_ok());
        for names in
            [&["b.example"][..], &["a.b.svc.example"], &["svc.example"], &["*.svc.example"], &["10.2.0.1"], &["::1"]]
        {
            assert!(matches!(asked(&wish(names, None, None), ABOVE), Err(Refusal::NotCovered { .. })), "{names:?}");
        }
        assert!(matches!(asked(&wish(&["db.svc.example"], None, None), ABOVE), Err(Refusal::Constrained(_))));
        assert_eq!(asked(&wish(&[], None, None), ABOVE), Err(Refusal::Nameless));
        let other = asked(&wish(&[], Some("spiffe://other.example/ns/a/sa/b"), None), ABOVE);
        assert!(matches!(other, Err(Refusal::TrustDomain { .. })));
        let path = asked(&wish(&[], Some("spiffe://mesh.example/admin"), None), ABOVE);
        assert!(matches!(path, Err(Refusal::NotCovered { .. })));
    }

    #[test]
    fn nothing_outlives_what_is_above_it_nor_its_profile() {
        let now = Timestamp::from_unix(1_000_000);
        let short = Validity { not_after: now.plus(HOUR), ..ABOVE };
        let leaf = asked(&wish(&["a.svc.example"], None, None), short).unwrap();
        assert_eq!(leaf.validity, Validity { not_before: now.minus(BACKDATE), not_after: now.plus(HOUR) });
        let ending = Validity { not_after: now.plus(MINUTE), ..ABOVE };
        assert!(matches!(asked(&wish(&["a.svc.example"], None, None), ending), Err(Refusal::TooShort { .. })));
        let over = Validity { not_after: now.minus(MINUTE), ..ABOVE };
        assert!(matches!(asked(&wish(&["a.svc.example"], None, None), over), Err(Refusal::NotNow { .. })));
        let long = Some(HOUR.saturating_mul(25));
        assert!(matches!(asked(&wish(&["a.svc.example"], None, long), ABOVE), Err(Refusal::TooLong { .. })));
    }

    #[test]
    fn patterns_and_networks_are_strict() {
        for bad in [
            "*.Example.com",
            "*.*.example",
            "**.**.example",
            "a*.example",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "::/129",
            "*.",
            "",
        ] {
            assert!(NamePattern::parse(bad).is_err(), "{bad:?}");
        }
        let below = NamePattern::parse("**.svc.example").unwrap();
        assert!(below.covers(&Name::parse("a.b.svc.example").unwrap()));
        assert!(!below.covers(&Name::parse("svc.example").unwrap()));
        assert!(!below.covers(&Name::parse("xsvc.example").unwrap()));
        let star = NamePattern::parse("=*.svc.example").unwrap();
        assert!(star.covers(&Name::parse("*.svc.example").unwrap()));
        assert!(!star.covers(&Name::parse("a.svc.example").unwrap()));
        assert_eq!(NamePattern::parse("0.0.0.0/0"), Ok(NamePattern::Network("0.0.0.0".parse().unwrap(), 0)));
    }

    #[test]
    fn a_wildcard_above_an_excluded_tree_is_not_allowed() {
        let constraints = Constraints { excluded_dns: vec![Arc::from("db.svc.example")], ..Constraints::default() };
        assert!(!constraints.allow(&Name::parse("*.svc.example").unwrap()));
        assert!(constraints.allow(&Name::parse("*.web.svc.example").unwrap()));
    }

    #[test]
    fn a_serial_number_has_twenty_bytes_and_is_positive() {
        for random in [[0; 20], [0xff; 20]] {
            let serial = SerialNumber::new(random);
            assert!((0x40..0x80).contains(&serial.bytes()[0]));
            assert_eq!(serial.to_string().len(), 40);
        }
    }
}
