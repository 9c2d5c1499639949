//! Who relies on the private CAs: the parties of the configuration, and the links of this daemon.
//!
//! A link that has the file with a CA's bundle among its roots relies on that CA, and needs no word in the configuration: it
//! goes by what it has read. It is the relying party `link.ID`.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use zeroize::Zeroizing;

use crate::domain::id::{CaId, RelyingPartyId};
use crate::domain::key::Digest;
use crate::domain::link::{Link, Reason};
use crate::engine::authority::{bundle_file, lists_file};
use crate::ports::{CanaryLeaf, Doing, Here, HostError, PrivateKey, Probed, RelyingParties};
use crate::shell::link::Links;
use crate::shell::wire::canary::{self, ProbeAt};

/// A token is a line of at most so many bytes.
const LONGEST_TOKEN: u64 = 4_096;
/// A shorter one could be guessed: 16 random bytes in base64 are 22 characters.
const SHORTEST_TOKEN: usize = 22;
/// What the ids of links as relying parties begin with.
pub const LINK: &str = "link.";

/// A `[[relying_party]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartySettings {
    /// Its id.
    pub id: RelyingPartyId,
    /// On which CAs it relies.
    pub cas: Vec<CaId>,
    /// Who is told when something of it is missing.
    pub owner: Arc<str>,
    /// The file with the token by which it acknowledges.
    pub token_file: Option<PathBuf>,
    /// Where it is probed.
    pub probe: Option<ProbeAt>,
}

/// All of them.
pub struct Parties {
    configured: BTreeMap<RelyingPartyId, PartySettings>,
    /// As they are configured. One that does not run goes by nothing, and relies all the same.
    wanted: RwLock<Vec<Arc<Link>>>,
    pki: PathBuf,
    links: OnceLock<Arc<Links>>,
}

impl fmt::Debug for Parties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parties")
    }
}

impl Parties {
    /// Those of a configuration; `pki` is where bundles and lists lie.
    #[must_use]
    pub fn new(configured: &[PartySettings], links: &[Arc<Link>], pki: PathBuf) -> Self {
        let configured = configured.iter().map(|p| (p.id.clone(), p.clone())).collect();
        Self { configured, wanted: RwLock::new(links.to_vec()), pki, links: OnceLock::new() }
    }

    /// From now on these links are looked at.
    pub fn serve(&self, links: &Arc<Links>) {
        // There is one set of links in a process.
        drop(self.links.set(links.clone()));
    }

    /// From now on these links are configured.
    pub fn adopt(&self, links: &[Arc<Link>]) {
        links.clone_into(&mut self.wanted.write().unwrap_or_else(PoisonError::into_inner));
    }

    fn links(&self) -> Vec<(Arc<Link>, Option<BTreeSet<Digest>>)> {
        let mut running = self.links.get().map(|links| links.anchors()).unwrap_or_default();
        let wanted = self.wanted.read().unwrap_or_else(PoisonError::into_inner);
        let of = |link: &Arc<Link>| {
            let at = running.iter().position(|(own, _)| own.id == link.id);
            (link.clone(), at.and_then(|at| running.swap_remove(at).1))
        };
        wanted.iter().map(of).collect()
    }
}

/// Whether a link goes by the bundle of a CA: by the CA's name, or by the file.
#[must_use]
pub fn relies(link: &Link, pki: &Path, ca: &CaId) -> bool {
    let file = pki.join(bundle_file(ca));
    link.ca.as_ref() == Some(ca) || link.roots.iter().any(|root| Path::new(root) == file)
}

/// The files that a CA publishes below `pki`: bundle and lists.
#[must_use]
pub fn files(pki: &Path, ca: &CaId) -> (PathBuf, PathBuf) {
    (pki.join(bundle_file(ca)), pki.join(lists_file(ca)))
}

/// A link as a relying party.
#[must_use]
pub fn party_of(link: &Link) -> Option<RelyingPartyId> {
    RelyingPartyId::parse(&format!("{LINK}{}", link.id)).ok()
}

impl RelyingParties for Parties {
    fn here(&self, ca: &CaId) -> Vec<Here> {
        let own = self.links().into_iter().filter(|(link, _)| relies(link, &self.pki, ca));
        own.filter_map(|(link, anchors)| {
            Some(Here { party: party_of(&link)?, owner: Arc::from(format!("link {}", link.id)), anchors })
        })
        .collect()
    }

    fn canary_key(&self) -> Result<(PrivateKey, Arc<[u8]>), HostError> {
        canary::key()
    }

    fn probe<'a>(&'a self, party: &'a RelyingPartyId, leaf: &'a CanaryLeaf) -> Doing<'a, Probed> {
        Box::pin(async move {
            if let Some(id) = party.as_str().strip_prefix(LINK) {
                let Some(judged) = self.links.get().and_then(|links| links.canary(id, &leaf.chain)) else {
                    return Probed::Unreached(format!("the link {id} does not run"));
                };
                return match judged {
                    Ok(()) => Probed::Accepted,
                    // It is nobody on the list of peers; everything else about it was found good before.
                    Err(refusal) if refusal.reason == Reason::Name => Probed::Accepted,
                    Err(refusal) if refusal.reason == Reason::Unready => Probed::Unreached(refusal.text),
                    Err(refusal) => Probed::Refused(refusal.to_string()),
                };
            }
            match self.configured.get(party).and_then(|p| p.probe.as_ref()) {
                Some(at) => canary::probe(at, leaf).await,
                None => Probed::Unreached(format!("{party} has no `probe` in the configuration")),
            }
        })
    }

    fn proves(&self, ca: &CaId, party: &RelyingPartyId, token: &str) -> bool {
        let own = self.configured.get(party).filter(|p| p.cas.contains(ca));
        let Some(kept) = own.and_then(|p| p.token_file.as_ref()).and_then(|file| token_in(file)) else { return false };
        // Digests have one length and no prefix that could be found out byte by byte.
        let (a, b) = (Digest::of(kept.as_bytes()), Digest::of(token.as_bytes()));
        a.0.iter().zip(b.0).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

/// The token in a file, read each time: it can be changed at any time.
fn token_in(file: &Path) -> Option<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    let opened = std::fs::File::open(file).and_then(|f| f.take(LONGEST_TOKEN).read_to_string(&mut text));
    if let Err(error) = opened {
        tracing::error!(file = %file.display(), %error, "the token of a relying party cannot be read");
        return None;
    }
    let token = Zeroizing::new(text.trim().to_owned());
    if token.len() < SHORTEST_TOKEN {
        tracing::error!(file = %file.display(), "the token of a relying party is shorter than {SHORTEST_TOKEN} characters");
        return None;
    }
    Some(token)
}
