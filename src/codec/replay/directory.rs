//! What ACME directories remember, out of the document.

use std::sync::Arc;

use super::Object;
use crate::codec::ParseError;
use crate::domain::certificate::CertId;
use crate::domain::directory::{Account, Order, Stage, Standing};
use crate::domain::id::ProfileId;
use crate::domain::key::{Digest, from_hex};
use crate::domain::name::NameSet;

type Texts<'a> = &'a mut dyn FnMut(Digest) -> Option<Arc<str>>;

pub(super) fn account(f: &mut Object, text: Texts<'_>) -> Result<Account, ParseError> {
    Ok(Account {
        key: f.must("key", |t| Some(Arc::from(t)))?,
        contacts: f.private("contacts", text)?,
        standing: f.must("standing", Standing::parse)?,
        grant: f.text("grant")?,
        at: f.must_time("at")?,
    })
}

pub(super) fn order(f: &mut Object, text: Texts<'_>) -> Result<Order, ParseError> {
    let spki = f.maybe("spki", |t| from_hex(t).map(Arc::<[u8]>::from))?;
    let (since, serial) = (f.time("since")?, f.text("serial")?);
    Ok(Order {
        account: f.must("account", |t| t.parse().ok())?,
        names: f.must("names", |t| NameSet::parse_key(t).ok())?,
        profile: f.must("profile", |t| ProfileId::parse(t).ok())?,
        replaces: f.text("replaces")?.map(CertId),
        at: f.must_time("at")?,
        expires: f.must_time("expires")?,
        ruled: f.time("ruled")?,
        stage: f.must("stage", |t| Stage::of(t, spki.clone(), since, serial.clone()))?,
        authorizations: f.must("proofs", Order::parse_proofs)?,
        errors: f.private("errors", text)?,
    })
}
