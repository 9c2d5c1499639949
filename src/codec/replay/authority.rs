//! What private CAs made, out of the document.

use std::sync::Arc;

use super::Object;
use crate::codec::ParseError;
use crate::domain::authority::RevocationReason;
use crate::domain::id::ProfileId;
use crate::domain::key::{Digest, KeyAlgorithm, from_hex};
use crate::domain::name::NameSet;
use crate::domain::register::{CaGeneration, CaKey, CaSigned, GenerationId, Issued, Keeper, ListMade, Phase};
use crate::domain::rotation::{Piece, Times};
use crate::domain::spiffe::SpiffeId;
use crate::domain::time::Validity;

pub(super) fn generation(f: &mut Object) -> Result<CaGeneration, ParseError> {
    Ok(CaGeneration {
        phase: f.must("phase", Phase::parse)?,
        times: Times {
            made: f.must_time("made")?,
            staged: f.time("staged")?,
            signing: f.time("signing")?,
            draining: f.time("draining")?,
            retired: f.time("retired")?,
            destroyed: f.time("destroyed")?,
        },
        abandoned: f.time("abandoned")?,
        root: f.inside("root", key)?,
        issuing: f.inside("issuing", key)?,
    })
}

pub(super) fn piece(f: &mut Object, text: &mut dyn FnMut(Digest) -> Option<Arc<str>>) -> Result<Piece, ParseError> {
    Ok(Piece {
        at: f.must_time("at")?,
        by: f.text("by")?,
        why: f.private("why", text)?,
        version: f.maybe("version", |t| t.parse().ok())?,
        digest: f.maybe("digest", Digest::parse)?,
        detail: f.text("detail")?,
        der: f.maybe("der", |t| from_hex(t).map(Arc::from))?,
    })
}

fn key(f: &mut Object) -> Result<CaKey, ParseError> {
    Ok(CaKey {
        key: f.must("key", Digest::parse)?,
        algorithm: f.must("algorithm", KeyAlgorithm::parse)?,
        keeper: f.must("keeper", Keeper::parse)?,
        certificate: f.inside("certificate", |f| {
            Ok(CaSigned {
                der: f.must("der", |t| from_hex(t).map(Arc::from))?,
                common_name: f.must("common_name", |t| Some(Arc::from(t)))?,
                serial: f.must("serial", |t| Some(Arc::from(t)))?,
                validity: validity(f)?,
            })
        })?,
        list: f.inside("list", |f| {
            Ok(ListMade {
                number: f.must("number", |t| t.parse().ok())?,
                this_update: f.must_time("this_update")?,
                next_update: f.must_time("next_update")?,
                digest: f.must("digest", Digest::parse)?,
            })
        })?,
    })
}

fn validity(f: &mut Object) -> Result<Validity, ParseError> {
    Ok(Validity { not_before: f.must_time("not_before")?, not_after: f.must_time("not_after")? })
}

pub(super) fn issued(f: &mut Object) -> Result<Issued, ParseError> {
    let (since, why) = (f.time("revoked")?, f.maybe("reason", RevocationReason::parse)?);
    if since.is_some() != why.is_some() {
        return Err(ParseError::new(format!("{} has half a revocation", f.place)));
    }
    Ok(Issued {
        generation: f.must("generation", GenerationId::parse)?,
        profile: f.must("profile", |t| ProfileId::parse(t).ok())?,
        names: f.must("names", |t| NameSet::parse_key(t).ok())?,
        spiffe: f.maybe("spiffe", SpiffeId::parse)?,
        spki: f.must("spki", Digest::parse)?,
        validity: validity(f)?,
        at: f.must_time("at")?,
        fingerprint: f.maybe("fingerprint", Digest::parse)?,
        revoked: since.zip(why),
    })
}
