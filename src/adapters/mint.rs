//! Makes and reads the bytes of certificates behind [`Mint`].

use std::sync::Arc;

use crate::codec::ca::{self, Above, Bundle, ToSign};
use crate::codec::{ParseError, pem, x509};
use crate::domain::authority::{Ca, CaCertificate, Leaf, RevocationList};
use crate::domain::key::Digest;
use crate::ports::{Asked, Blank, Mint, MintError, ToBeSigned};

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
        let made = ca::leaf(leaf, &Above::new(signer)?, &ca.crl_urls, &ca.issuer_urls)?;
        linted(made, above, &[], ToBeSigned::Leaf, key_of(signer)?)
    }

    fn ca(&self, certificate: &CaCertificate, above: &[Arc<[u8]>], others: &[Arc<[u8]>]) -> Result<Blank, MintError> {
        let signer = above.first().map(|der| Above::new(der)).transpose()?;
        let made = ca::ca_certificate(certificate, signer.as_ref(), &[], &[])?;
        let key = match above.first() {
            Some(der) => key_of(der)?,
            None => Digest::of(&certificate.spki),
        };
        // The root itself is above, and no other.
        let others: Vec<Arc<[u8]>> = others.iter().filter(|other| !above.contains(other)).cloned().collect();
        linted(made, above, &others, ToBeSigned::Ca, key)
    }

    fn list(&self, list: &RevocationList, issuer: &[u8]) -> Result<Blank, MintError> {
        let made = ca::revocation_list(list, &Above::new(issuer)?)?;
        Ok(blank(made, ToBeSigned::RevocationList, key_of(issuer)?))
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

fn key_of(certificate: &[u8]) -> Result<Digest, MintError> {
    Ok(Digest::of(&x509::public_key(certificate)?))
}
