//! What private CAs made, as patches.

use super::Patch;
use crate::domain::key::Digest;
use crate::domain::register::{CaGeneration, CaKey, CaSigned, Issued, ListMade};
use crate::domain::rotation::{Piece, Times};
use crate::domain::time::Validity;

pub(super) fn generation(p: &mut Patch<'_, '_>, old: Option<&CaGeneration>, new: &CaGeneration) {
    let CaGeneration { phase, times, abandoned, root, issuing } = new;
    let Times { made, staged, signing, draining, retired, destroyed } = *times;
    let old_times = old.map(|o| o.times);
    p.time("abandoned", old.and_then(|o| o.abandoned), *abandoned);
    p.time("destroyed", old_times.and_then(|t| t.destroyed), destroyed);
    p.time("draining", old_times.and_then(|t| t.draining), draining);
    p.member("issuing", old.and_then(|o| o.issuing.as_ref()), issuing.as_ref(), key);
    p.time("made", old_times.map(|t| t.made), Some(made));
    p.text("phase", old.map(|o| o.phase.as_str()), Some(phase.as_str()));
    p.time("retired", old_times.and_then(|t| t.retired), retired);
    p.member("root", old.and_then(|o| o.root.as_ref()), root.as_ref(), key);
    p.time("signing", old_times.and_then(|t| t.signing), signing);
    p.time("staged", old_times.and_then(|t| t.staged), staged);
}

pub(super) fn piece(p: &mut Patch<'_, '_>, old: Option<&Piece>, new: &Piece) {
    let Piece { at, by, why, version, digest, detail, der } = new;
    p.time("at", old.map(|o| o.at), Some(*at));
    p.text("by", old.and_then(|o| o.by.as_deref()), by.as_deref());
    p.maybe_hex("der", old.and_then(|o| o.der.as_deref()), der.as_deref());
    p.text("detail", old.and_then(|o| o.detail.as_deref()), detail.as_deref());
    p.plain("digest", old.and_then(|o| o.digest.as_ref()), digest.as_ref(), Digest::hex);
    let digits = |version: u64| version.to_string();
    p.text("version", old.and_then(|o| o.version).map(digits).as_deref(), version.map(digits).as_deref());
    p.private("why", old.and_then(|o| o.why.as_ref()), why.as_ref());
}

fn key(p: &mut Patch<'_, '_>, old: Option<&CaKey>, new: &CaKey) {
    let CaKey { key, algorithm, keeper, certificate, list } = new;
    p.text("algorithm", old.map(|o| o.algorithm.as_str()), Some(algorithm.as_str()));
    p.member("certificate", old.and_then(|o| o.certificate.as_ref()), certificate.as_ref(), signed);
    p.text("keeper", old.map(|o| o.keeper.as_str()), Some(keeper.as_str()));
    p.plain("key", old.map(|o| &o.key), Some(key), Digest::hex);
    p.member("list", old.and_then(|o| o.list.as_ref()), list.as_ref(), made);
}

fn signed(p: &mut Patch<'_, '_>, old: Option<&CaSigned>, new: &CaSigned) {
    let CaSigned { der, common_name, serial, validity: Validity { not_before, not_after } } = new;
    p.text("common_name", old.map(|o| &*o.common_name), Some(common_name));
    p.hex("der", old.map(|o| &*o.der), der);
    p.time("not_after", old.map(|o| o.validity.not_after), Some(*not_after));
    p.time("not_before", old.map(|o| o.validity.not_before), Some(*not_before));
    p.text("serial", old.map(|o| &*o.serial), Some(serial));
}

fn made(p: &mut Patch<'_, '_>, old: Option<&ListMade>, new: &ListMade) {
    let ListMade { number, this_update, next_update, digest } = new;
    p.plain("digest", old.map(|o| &o.digest), Some(digest), Digest::hex);
    p.time("next_update", old.map(|o| o.next_update), Some(*next_update));
    p.digits("number", old.map(|o| o.number), *number);
    p.time("this_update", old.map(|o| o.this_update), Some(*this_update));
}

pub(super) fn issued(p: &mut Patch<'_, '_>, old: Option<&Issued>, new: &Issued) {
    let Issued {
        generation,
        profile,
        names,
        spiffe,
        spki,
        validity: Validity { not_before, not_after },
        at,
        fingerprint,
        revoked,
    } = new;
    let since = |issued: &Issued| issued.revoked.map(|(at, _)| at);
    let why = |issued: &Issued| issued.revoked.map(|(_, reason)| reason.as_str());
    p.time("at", old.map(|o| o.at), Some(*at));
    p.plain("fingerprint", old.and_then(|o| o.fingerprint.as_ref()), fingerprint.as_ref(), Digest::hex);
    p.text("generation", old.map(|o| o.generation.to_string()).as_deref(), Some(&generation.to_string()));
    p.names(old.map(|o| &o.names), names);
    p.time("not_after", old.map(|o| o.validity.not_after), Some(*not_after));
    p.time("not_before", old.map(|o| o.validity.not_before), Some(*not_before));
    p.text("profile", old.map(|o| o.profile.as_str()), Some(profile.as_str()));
    p.text("reason", old.and_then(why), revoked.map(|(_, reason)| reason.as_str()));
    p.time("revoked", old.and_then(since), revoked.map(|(at, _)| at));
    p.text("spiffe", old.and_then(|o| o.spiffe.as_ref()).map(|id| id.as_str()), spiffe.as_ref().map(|id| id.as_str()));
    p.plain("spki", old.map(|o| &o.spki), Some(spki), Digest::hex);
}
