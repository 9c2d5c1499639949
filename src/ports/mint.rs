//! The door to the bytes of certificates: what a private CA signs, before and after.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Doing, HostError, ToBeSigned};
use crate::domain::authority::{Ca, CaCertificate, Leaf, RevocationList};
use crate::domain::id::CaId;
use crate::domain::key::{Digest, KeyAlgorithm};
use crate::domain::name::NameSet;
use crate::domain::register::{CaSigned, ListMade};
use crate::domain::spiffe::SpiffeId;
use crate::domain::time::Boottime;

/// Bytes that are to be signed. They were linted: the rules that relying parties enforce hold for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blank {
    /// What they are.
    pub kind: ToBeSigned,
    /// A TBSCertificate or TBSCertList (DER).
    pub bytes: Vec<u8>,
    /// Of the key that signs.
    pub algorithm: KeyAlgorithm,
    /// SHA-256 of the SubjectPublicKeyInfo of the key that signs.
    pub key: Digest,
}

/// What a certificate request asks for (RFC 2986): its signature is good, its key is strong enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Host names and addresses.
    pub names: NameSet,
    /// A SPIFFE ID.
    pub spiffe: Option<SpiffeId>,
    /// The SubjectPublicKeyInfo (DER).
    pub spki: Arc<[u8]>,
}

/// Why there are no bytes: what was seen, what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MintError(pub String);

/// A CA's certificate that was signed elsewhere, and that relying parties will take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// What is kept of it.
    pub certificate: CaSigned,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub key: Digest,
    /// The kind of its key.
    pub algorithm: KeyAlgorithm,
    /// What was signed (DER).
    pub tbs: Vec<u8>,
}

/// Encoding: pure, and done in well under a millisecond. Chains begin with whoever signs and end with the root.
pub trait Mint: Send + Sync {
    /// A leaf below `above`.
    ///
    /// # Errors
    /// Says what breaks a rule of RFC 5280 that relying parties enforce.
    fn leaf(&self, leaf: &Leaf, above: &[Arc<[u8]>], ca: &Ca) -> Result<Blank, MintError>;
    /// A CA's certificate below `above`; self-signed if that is empty. It shares neither name nor key with `others`.
    ///
    /// # Errors
    /// As [`Self::leaf`].
    fn ca(&self, certificate: &CaCertificate, above: &[Arc<[u8]>], others: &[Arc<[u8]>]) -> Result<Blank, MintError>;
    /// A revocation list of `issuer` (DER).
    ///
    /// # Errors
    /// As [`Self::leaf`].
    fn list(&self, list: &RevocationList, issuer: &[u8]) -> Result<Blank, MintError>;
    /// The certificate or list (DER) with its signature, which is good under the public key of `signer`
    /// (SubjectPublicKeyInfo, DER).
    ///
    /// # Errors
    /// If the signature is bad.
    fn finish(&self, blank: &Blank, signature: &[u8], signer: &[u8]) -> Result<Vec<u8>, MintError>;
    /// The SubjectPublicKeyInfo of a certificate (DER).
    ///
    /// # Errors
    /// If it is none.
    fn public_key(&self, certificate: &[u8]) -> Result<Arc<[u8]>, MintError>;
    /// A CA's certificate (DER) that was signed elsewhere; otherwise as [`Self::ca`].
    ///
    /// # Errors
    /// Says what relying parties would refuse, or that the signature is not of the one above.
    fn adopt(&self, certificate: &[u8], above: &[Arc<[u8]>], others: &[Arc<[u8]>]) -> Result<Adopted, MintError>;
    /// A revocation list (DER) of `issuer` (DER) that was signed elsewhere, with how many entries it has.
    ///
    /// # Errors
    /// If it is none of this CA's, or its number cannot be counted on.
    fn adopt_list(&self, list: &[u8], issuer: &[u8]) -> Result<(ListMade, usize), MintError>;
    /// Whether a list that [`Self::adopt_list`] took says that a certificate (DER) is revoked.
    ///
    /// # Errors
    /// If one of them is none.
    fn is_revoked(&self, list: &[u8], certificate: &[u8]) -> Result<bool, MintError>;
    /// Reads a request: PEM or DER.
    ///
    /// # Errors
    /// If it is none, its signature is bad, or its key is weak.
    fn request(&self, csr: &[u8]) -> Result<Asked, MintError>;
    /// Certificates (DER) as PEM, one after the other.
    fn pem(&self, certificates: &[Arc<[u8]>]) -> String;
    /// Revocation lists (DER) as PEM, one after the other.
    fn lists(&self, lists: &[Arc<[u8]>]) -> String;
    /// Anchors (DER) as a bundle for relying parties: PEM in a stable order, and its digest.
    ///
    /// # Errors
    /// If there is none, or one is no CA.
    fn bundle(&self, anchors: &[Arc<[u8]>]) -> Result<(String, Digest), MintError>;
}

/// Where what a CA publishes lies: revocation lists by name, for whoever asks over HTTP and for a restart.
pub trait Shelf: Send + Sync {
    /// Puts it there in place of the one before; durable on return.
    fn put<'a>(&'a self, name: &'a str, bytes: &'a [u8]) -> Doing<'a, Result<(), HostError>>;
    /// What lies there.
    fn get<'a>(&'a self, name: &'a str) -> Doing<'a, Result<Option<Vec<u8>>, HostError>>;
}

/// What is trusted of a private CA at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relied {
    /// Anchors (DER), the oldest first; empty if nothing is trusted.
    pub roots: Vec<Arc<[u8]>>,
    /// The digest that relying parties acknowledge; `None` if nothing is trusted.
    pub bundle: Option<Digest>,
    /// The newest revocation lists (DER) of everything that is trusted.
    pub lists: Vec<Arc<[u8]>>,
    /// Whether there is one of every CA.
    pub whole: bool,
    /// Serial numbers of what is revoked, in a list already or not.
    pub revoked: BTreeSet<Box<[u8]>>,
    /// Keys (SHA-256 of the SubjectPublicKeyInfo) that are in other hands.
    pub blocked: BTreeSet<Digest>,
    /// Of all of it.
    pub digest: Digest,
    /// How often trust had moved before this was read ([`Trust::moved`]).
    pub moved: u64,
}

/// What relying parties in this process go by.
pub trait Trust: Send + Sync {
    /// How often trust in private CAs, what they issued, or a key moved since the start. Cheap: asked ten times a second.
    fn moved(&self) -> u64;
    /// When it moved the first time after it had moved so often, as the time since boot; of moves that are long past the
    /// oldest that is remembered.
    fn moved_after(&self, count: u64) -> Option<Boottime>;
    /// What is trusted of a CA now.
    fn relied<'a>(&'a self, ca: &'a CaId) -> Doing<'a, Result<Relied, HostError>>;
}

/// Whoever on this machine verifies chains: what private CAs are trusted for.
pub trait Anchors: Send + Sync {
    /// From now on these roots (DER), and no others, are trusted for what `ca` issues.
    fn trust(&self, ca: &CaId, roots: &[Arc<[u8]>]);
}
