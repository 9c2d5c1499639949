//! `[[relying_party]]`: who relies on private CAs, and how each shows what it trusts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Ids, ca::Cas, scalar};
use crate::domain::id::{CaId, RelyingPartyId};
use crate::domain::link::Link;
use crate::domain::rotation::{Party, Setting, Shows};
use crate::shell::config::diagnostic::{Problems, quoted};
use crate::shell::config::raw::{Section, Wrong};
use crate::shell::relying::{LINK, PartySettings, party_of, relies};
use crate::shell::wire::canary::ProbeAt;

/// Each is probed and asked for at each change of a bundle.
const MOST_PARTIES: usize = 1_000;
/// CAs that one relies on.
const MOST_CAS: usize = 32;

pub(super) fn read_all(p: &mut Problems, root: &mut Section<'_>, cas: &Cas<'_>) -> Vec<PartySettings> {
    let mut ids = Ids::default();
    let mut all = Vec::new();
    for mut s in root.sections(p, "relying_party", "[[relying_party]]", MOST_PARTIES) {
        all.extend(read(p, &mut s, &mut ids, cas));
        s.close(p);
    }
    all
}

fn read<'a>(p: &mut Problems, s: &mut Section<'a>, ids: &mut Ids<'a>, cas: &Cas<'_>) -> Option<PartySettings> {
    let id = ids.read(p, s, "\"edge\"", RelyingPartyId::parse);
    if let Some(id) = id.as_ref().filter(|id| id.value.as_str().starts_with(LINK)) {
        let mend = "choose another id; a [[link]] is a relying party by itself";
        p.add("KW0073", &id.span, "ids that begin with `link.` are those of links", "taken", mend);
    }
    let owner = s.need(p, "owner", "\"platform\"", scalar::short_text);
    let wanted = s.texts(p, "cas", MOST_CAS, "[\"mesh\"]");
    if !s.has("cas") {
        s.missing(p, "cas", "[\"mesh\"]");
    }
    let mut on = Vec::new();
    for ca in wanted.into_iter().flat_map(|list| list.value) {
        match CaId::parse(ca.value).ok().filter(|id| cas.all.contains_key(id)) {
            Some(id) => on.push(id),
            None => cas.ids.unknown(p, "[[ca]]", &ca),
        }
    }
    let token_file = s.parsed(p, "token_file", "\"/etc/keyward/edge.token\"", scalar::path);
    let probe = s.parsed(p, "probe", "\"edge.example:8443\"", scalar::host_port);
    let server_name = s.parsed(p, "probe_server_name", "\"edge.example\"", |t| {
        scalar::host_name(t).ok_or_else(|| Wrong::new("KW0073", "is no host name", "write for example edge.example"))
    });
    let path = s.parsed(p, "probe_path", "\"/health\"", |t| {
        let plain = t.starts_with('/') && t.bytes().all(|b| b.is_ascii_graphic());
        let mend = "write the path of an HTTP request, for example /health";
        if plain { Ok(t.to_owned()) } else { Err(Wrong::new("KW0073", format!("{} is no path", quoted(t)), mend)) }
    });
    let alone = ["probe_server_name", "probe_path"].into_iter().find(|key| s.has(key) && !s.has("probe"));
    if let Some(key) = alone {
        let mend = "add `probe = \"host:port\"`, or remove it";
        p.add("KW0073", &s.key_span(key), format!("`{key}`, and nothing is probed"), "of what?", mend);
    }
    if !s.has("token_file") && !s.has("probe") {
        let mend = "add `token_file`, by which it acknowledges bundles, or `probe`, where it lets a canary in, or both";
        let what = "a relying party that shows nothing would hold every rotation for ever";
        p.add("KW0073", &s.at.clone(), what, "shows nothing", mend);
    }
    let probe = probe.map(|at| {
        let (host, port) = at.value;
        ProbeAt { host, port, server_name: server_name.map(|n| n.value), path: path.map(|n| n.value) }
    });
    Some(PartySettings {
        id: id?.value,
        cas: on,
        owner: Arc::from(owner?.value),
        token_file: token_file.map(|t| PathBuf::from(t.value)),
        probe,
    })
}

/// Puts them into the settings of the CAs that they rely on.
pub(super) fn assign(rotations: &mut BTreeMap<CaId, Setting>, parties: &[PartySettings]) {
    for party in parties {
        let shows = match (&party.token_file, &party.probe) {
            (Some(_), Some(_)) => Shows::Both,
            (None, Some(_)) => Shows::Canary,
            (Some(_) | None, None) => Shows::Word,
        };
        for ca in &party.cas {
            if let Some(setting) = rotations.get_mut(ca) {
                setting.parties.insert(party.id.clone(), Party { owner: party.owner.clone(), shows });
            }
        }
    }
}

/// A link that goes by a CA's bundle is a relying party by its id, which has to be short enough for that.
pub(super) fn check_links(
    p: &mut Problems,
    at: &core::ops::Range<usize>,
    links: &[Arc<Link>],
    cas: &Cas<'_>,
    pki: &Path,
) {
    for link in links.iter().filter(|link| cas.all.keys().any(|ca| relies(link, pki, ca))) {
        if party_of(link).is_none() {
            let what = format!("the id of link {} is too long for a relying party", link.id);
            let mend = "a link that goes by the bundle of a [[ca]] has an id of at most 58 characters";
            p.add("KW0073", at, what, "too long", mend);
        }
    }
}
