//! What goes to a root that no network reaches, and what comes from outside.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, State};
use rustls::pki_types::CertificateRevocationListDer;
use zeroize::Zeroizing;

use super::{Answer, App, Door, Sent, actor, authority, bad, ca_id, model, read_body, to_its_end, told};
use crate::codec::offline::{Issuing, Request, Root, VERSION};
use crate::codec::pem;
use crate::engine::authority::{Asking, Brought, Import};
use crate::ports::PrivateKey;

/// Certificates in one answer: a root and what is below it.
const MOST: usize = 4;

pub(super) async fn request(
    State(app): State<Arc<App>>,
    Extension(door): Extension<Door>,
    Path(ca): Path<String>,
) -> Answer<Json<Request>> {
    let by = actor(door)?;
    let (authority, ca) = (authority(&app)?.clone(), ca_id(&ca)?);
    let asking = to_its_end(async move { authority.request(&ca, &by).await }).await?;
    let Asking { generation, ca, root, wanted } = asking;
    Ok(Json(Request {
        version: VERSION,
        root: Root {
            sha256: root.map(|digest| digest.to_string()),
            common_name: format!("{} Root G{}", ca.name, generation.number),
            organization: ca.organization.as_deref().map(str::to_owned),
            trust_domain: ca.trust_domain.as_ref().map(|domain| domain.as_str().to_owned()),
            key: ca.algorithm.as_str().to_owned(),
            lifetime_seconds: ca.root_lifetime.as_secs(),
        },
        issuing: Issuing::of(&wanted, ca.issuing_lifetime),
        generation: generation.to_string(),
    }))
}

pub(super) async fn accept(
    State(app): State<Arc<App>>,
    Extension(door): Extension<Door>,
    Path(ca): Path<String>,
    sent: Sent,
) -> Answer<Json<model::Made>> {
    let by = actor(door)?;
    let (authority, ca) = (authority(&app)?.clone(), ca_id(&ca)?);
    let asked: model::Accept = read_body(sent, "{\"pem\": PEM}")?;
    let brought = brought(&asked.pem)?;
    let (accepting, which) = (authority.clone(), ca.clone());
    let made = to_its_end(async move { accepting.accept(&which, &brought, &by).await }).await?;
    told(&authority, &ca, &made)
}

pub(super) async fn import(
    State(app): State<Arc<App>>,
    Extension(door): Extension<Door>,
    Path(ca): Path<String>,
    sent: Sent,
) -> Answer<Json<model::Made>> {
    let by = actor(door)?;
    let (authority, ca) = (authority(&app)?.clone(), ca_id(&ca)?);
    let asked: model::Import = read_body(sent, "{\"pem\": PEM, \"issuing_key\": PEM}")?;
    let import = Import {
        brought: brought(&asked.pem)?,
        issuing: key("the issuing CA's", Zeroizing::new(asked.issuing_key))?,
        root: asked.root_key.map(|text| key("the root's", Zeroizing::new(text))).transpose()?,
        forget: asked.forget_revoked,
    };
    let (importing, which) = (authority.clone(), ca.clone());
    let made = to_its_end(async move { importing.import(&which, import, &by).await }).await?;
    told(&authority, &ca, &made)
}

fn key(whose: &str, text: Zeroizing<String>) -> Answer<PrivateKey> {
    let hint = "openssl pkcs8 -topk8 -nodes -in KEY makes PKCS#8";
    match pem::private_key_in(text.as_bytes()) {
        Ok(Some((pem::KeyForm::Pkcs8, der))) => Ok(PrivateKey(der)),
        Ok(_) => Err(bad(format!("{whose} private key is not there as PKCS#8 without a passphrase"), hint)),
        Err(error) => Err(bad(format!("{whose} key {error}"), hint)),
    }
}

fn brought(text: &str) -> Answer<Brought> {
    let hint = "send what `keyward ca sign-intermediate` wrote";
    let text = text.as_bytes();
    let lists = pem::lists_in(text, MOST).map_err(|e| bad(format!("it {e}"), hint))?;
    let certificates = match pem::certificates_in(text, MOST) {
        Ok(found) => found.into_iter().map(|der| Arc::from(der.as_ref())).collect(),
        // A newer list comes alone.
        Err(_) if !lists.is_empty() && !text.windows(17).any(|w| w == b"BEGIN CERTIFICATE") => Vec::new(),
        Err(error) => return Err(bad(format!("it {error}"), hint)),
    };
    let lists = lists.into_iter().map(|der: CertificateRevocationListDer<'static>| der.as_ref().to_vec()).collect();
    Ok(Brought { certificates, lists })
}
