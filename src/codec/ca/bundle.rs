//! Bundles: the anchors that relying parties are to trust, as one text that is the same wherever it is made.

use rustls::pki_types::CertificateDer;

use crate::codec::ca::Above;
use crate::codec::x509::{Limits, certificates_from};
use crate::codec::{ParseError, pem};
use crate::domain::key::Digest;

/// Anchors in one bundle: a rotation has two or three at once.
pub const MOST_ANCHORS: usize = 64;

/// Anchors, each once, in the order of their fingerprints. There is always one at least: an empty bundle means to trust
/// nobody, and is never made by leaving something out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    anchors: Vec<CertificateDer<'static>>,
    digest: Digest,
}

impl Bundle {
    /// From certificates (DER) in any order.
    ///
    /// # Errors
    /// If there is none, too many, or one that is no CA.
    pub fn new<C: AsRef<[u8]>>(anchors: &[C]) -> Result<Self, ParseError> {
        if anchors.len() > MOST_ANCHORS {
            return Err(ParseError(format!("a bundle of {} anchors has more than {MOST_ANCHORS}", anchors.len())));
        }
        let mut sorted: Vec<(Digest, &[u8])> = anchors.iter().map(|a| (Digest::of(a.as_ref()), a.as_ref())).collect();
        sorted.sort_unstable();
        sorted.dedup();
        for (_, der) in &sorted {
            Above::new(der)?;
        }
        if sorted.is_empty() {
            return Err(ParseError::new(
                "an empty bundle would make everybody distrust everybody: it needs one anchor at least",
            ));
        }
        let prints: Vec<&[u8]> = sorted.iter().map(|(print, _)| print.0.as_slice()).collect();
        Ok(Self {
            digest: Digest::of_parts(&prints),
            anchors: sorted.iter().map(|(_, der)| CertificateDer::from(der.to_vec())).collect(),
        })
    }

    /// Reads a bundle: PEM with anything around the blocks, or one DER certificate.
    ///
    /// # Errors
    /// If it is torn, or as [`Self::new`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        Self::new(&certificates_from(bytes, &Limits::CHAIN)?)
    }

    /// The anchors in order.
    #[must_use]
    pub fn anchors(&self) -> &[CertificateDer<'static>] {
        &self.anchors
    }

    /// SHA-256 over the fingerprints (32 bytes each) in order: what relying parties acknowledge.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The text.
    #[must_use]
    pub fn pem(&self) -> String {
        pem::certificates(&self.anchors)
    }
}
