//! Makes and reads the bytes of certificates behind [`Mint`].

use std::sync::Arc;

use crate::codec::ca::{self, Above, Bundle, ToSign};
use crate::codec::{ParseError, pem, x509};
use crate::domain::authority::{Ca, CaCertificate, Leaf, RevocationList};
use crate::domain::key::{Digest, hex};
use crate::domain::register::{CaSigned, ListMade};
use crate::ports::{Adopted, Asked, Blank, Mint, MintError, ToBeSigned};

/// The encodings of RFC 5280, linted.
#[derive(Clone, Copy, Debug, Default)]
pub struct X509Mint;

impl From<ParseError> for MintError {
    fn from(error: ParseError) -> Self {
        Self(error.0)
    }
}

impl Mint for X509Mint {
    fn leaf(&self, leaf: &Leaf, above: &[Arc<[u8]>], ca: &Ca) -> Result<Blank, MintError> {
        let signer = above.first().ok_or_else(|| MintError("a leaf has an issuer".to_owned()))?;
        let signer = Above::new(signer)?;
        let made = ca::leaf(leaf, &signer, &ca.crl_urls, &ca.issuer_urls)?;
        linted(made, above, &[], ToBeSigned::Leaf, signer.key())
    }

    fn ca(&self, certificate: &CaCertificate, above: &[Arc<[u8]>], others: &[Arc<[u8]>]) -> Result<Blank, MintError> {
        let signer = above.first().map(|der| Above::new(der)).transpose()?;
        let made = ca::ca_certificate(certificate, signer.as_ref(), &[], &[])?;
        let key = signer.map_or_else(|| Digest::of(&certificate.spki), |signer| signer.key());
        linted(made, above, &strangers(others, above), ToBeSigned::Ca, key)
    }

    fn list(&self, list: &RevocationList, issuer: &[u8]) -> Result<Blank, MintError> {
        let issuer = Above::new(issuer)?;
        Ok(blank(ca::revocation_list(list, &issuer)?, ToBeSigned::RevocationList, issuer.key()))
    }

    fn finish(&self, blank: &Blank, signature: &[u8], signer: &[u8]) -> Result<Vec<u8>, MintError> {
        let to_sign = ToSign { bytes: blank.bytes.clone(), algorithm: blank.algorithm };
        if !ca::is_signed(&to_sign, signature, signer) {
            return Err(MintError("the key holder gave a signature that is not good under its key".to_owned()));
        }
        Ok(ca::assemble(&to_sign, signature))
    }

    fn public_key(&self, certificate: &[u8]) -> Result<Arc<[u8]>, MintError> {
        Ok(Arc::from(x509::public_key(certificate)?))
    }

    fn adopt(&self, certificate: &[u8], above: &[Arc<[u8]>], others: &[Arc<[u8]>]) -> Result<Adopted, MintError> {
        let found = ca::adopt(certificate, above, &strangers(others, above))?;
        let certificate = CaSigned {
            der: Arc::from(certificate),
            common_name: Arc::from(found.title),
            serial: Arc::from(hex(&found.serial)),
            validity: found.validity,
        };
        Ok(Adopted { certificate, key: Digest::of(&found.spki), algorithm: found.algorithm, tbs: found.tbs })
    }

    fn adopt_list(&self, list: &[u8], issuer: &[u8]) -> Result<(ListMade, usize), MintError> {
        let ca::AdoptedList { number, this_update, next_update, entries } = ca::adopt_list(list, issuer)?;
        Ok((ListMade { number, this_update, next_update, digest: Digest::of(list) }, entries))
    }

    fn is_revoked(&self, list: &[u8], certificate: &[u8]) -> Result<bool, MintError> {
        Ok(ca::is_revoked(list, certificate)?)
    }

    fn request(&self, csr: &[u8]) -> Result<Asked, MintError> {
        let asked = ca::request(csr).map_err(|e| MintError(format!("the request {e}")))?;
        Ok(Asked { names: asked.names, spiffe: asked.spiffe, spki: asked.spki })
    }

    fn pem(&self, certificates: &[Arc<[u8]>]) -> String {
        pem::certificates(certificates)
    }

    fn lists(&self, lists: &[Arc<[u8]>]) -> String {
        pem::lists(lists)
    }

    fn bundle(&self, anchors: &[Arc<[u8]>]) -> Result<(String, Digest), MintError> {
        let bundle = Bundle::new(anchors)?;
        Ok((bundle.pem(), bundle.digest()))
    }
}

/// Those of them that are not above: the root itself is.
fn strangers(others: &[Arc<[u8]>], above: &[Arc<[u8]>]) -> Vec<Arc<[u8]>> {
    others.iter().filter(|other| !above.contains(other)).cloned().collect()
}

fn linted(
    made: ToSign,
    above: &[Arc<[u8]>],
    others: &[Arc<[u8]>],
    kind: ToBeSigned,
    key: Digest,
) -> Result<Blank, MintError> {
    match ca::lint(&made, above, others) {
        Ok(()) => Ok(blank(made, kind, key)),
        Err(flaws) => {
            let flaws: Vec<String> = flaws.iter().map(ToString::to_string).collect();
            Err(MintError(flaws.join("; ")))
        }
    }
}

fn blank(made: ToSign, kind: ToBeSigned, key: Digest) -> Blank {
    Blank { kind, bytes: made.bytes, algorithm: made.algorithm, key }
}
