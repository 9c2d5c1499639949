//! Keys in a PKCS#11 token: made in it, never out of it. P-256 and P-384; what is signed is hashed here, because not every
//! token hashes by itself (SoftHSM2 2.6 has ECDSA and no ECDSA-SHA256).
//!
//! A key is found by its public half, which lies beside it in the token under the same random CKA_ID.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, SHA384, digest};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;

use crate::codec::tbs;
use crate::domain::key::{Digest, KeyAlgorithm};
use crate::ports::Entropy;

/// Which token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenOptions {
    /// The module: a shared library.
    pub module: PathBuf,
    /// The token's label.
    pub label: String,
    /// Where its PIN is.
    pub pin: super::Source,
    /// Files and directories that the module needs when it is at work.
    pub paths: Vec<PathBuf>,
}

/// What the objects are called in the token.
const LABEL: &[u8] = b"keyward";
/// OBJECT IDENTIFIER of secp256r1 and secp384r1 (RFC 5480), as CKA_EC_PARAMS.
const CURVES: [(KeyAlgorithm, &[u8]); 2] = [
    (KeyAlgorithm::P256, &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]),
    (KeyAlgorithm::P384, &[0x06, 5, 0x2b, 0x81, 4, 0, 34]),
];

fn curve(algorithm: KeyAlgorithm) -> Result<&'static [u8], String> {
    let found = CURVES.iter().find(|(known, _)| *known == algorithm).map(|(_, curve)| *curve);
    found.ok_or_else(|| format!("the token makes p256 and p384 keys, and asked for is {algorithm}"))
}

/// A token that is logged in.
pub(super) struct Token {
    session: Session,
    keys: BTreeMap<Digest, InToken>,
}

/// Kind, CKA_ID and SubjectPublicKeyInfo.
type PublicHalf = (KeyAlgorithm, Vec<u8>, Vec<u8>);

#[derive(Clone, Debug)]
struct InToken {
    algorithm: KeyAlgorithm,
    id: Vec<u8>,
    private: ObjectHandle,
}

impl core::fmt::Debug for Token {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Token({} keys)", self.keys.len())
    }
}

impl Token {
    /// Loads the module, logs in, and looks for keys.
    pub(super) fn open(module: &Path, label: &str, pin: &[u8]) -> Result<Self, String> {
        let said =
            |what: &str, e: &dyn core::fmt::Display| format!("the PKCS#11 module {} {what}: {e}", module.display());
        let library = Pkcs11::new(module).map_err(|e| said("cannot be loaded", &e))?;
        // It must not start threads: they would have what this one gives up afterwards.
        let flags = CInitializeFlags::OS_LOCKING_OK | CInitializeFlags::LIBRARY_CANT_CREATE_OS_THREADS;
        library.initialize(CInitializeArgs::new(flags)).map_err(|e| said("cannot be initialized", &e))?;
        let slots = library.get_slots_with_token().map_err(|e| said("has no slots", &e))?;
        let mut found = slots.into_iter().filter(|slot| {
            library.get_token_info(*slot).is_ok_and(|info| info.token_initialized() && info.label() == label)
        });
        let (Some(slot), None) = (found.next(), found.next()) else {
            return Err(said("does not have exactly one token", &format!("with the label {label:?}")));
        };
        let session = library.open_rw_session(slot).map_err(|e| said("opens no session", &e))?;
        let pin = core::str::from_utf8(pin).map_err(|_| "the PIN is no text".to_owned())?;
        session
            .login(UserType::User, Some(&AuthPin::from(pin.to_owned())))
            .map_err(|e| said("does not take the PIN", &e))?;
        let mut own = Self { session, keys: BTreeMap::new() };
        own.look().map_err(|e| said("cannot be searched", &e))?;
        Ok(own)
    }

    fn look(&mut self) -> Result<(), cryptoki::error::Error> {
        let of = [
            Attribute::Class(ObjectClass::PUBLIC_KEY),
            Attribute::KeyType(KeyType::EC),
            Attribute::Label(LABEL.to_vec()),
        ];
        for public in self.session.find_objects(&of)? {
            let Some((algorithm, id, spki)) = self.public(public)? else { continue };
            if let Some(private) = self.private(&id)? {
                self.keys.insert(Digest::of(&spki), InToken { algorithm, id, private });
            }
        }
        Ok(())
    }

    /// What a public key's object says; `None` for one of another kind.
    fn public(&self, key: ObjectHandle) -> Result<Option<PublicHalf>, cryptoki::error::Error> {
        let wanted = [AttributeType::Id, AttributeType::EcParams, AttributeType::EcPoint];
        let (mut id, mut curve, mut point) = (None, None, None);
        for attribute in self.session.get_attributes(key, &wanted)? {
            if let Attribute::Id(bytes) = attribute {
                id = Some(bytes);
            } else if let Attribute::EcParams(bytes) = attribute {
                curve = Some(bytes);
            } else if let Attribute::EcPoint(bytes) = attribute {
                point = Some(bytes);
            }
        }
        Ok(id.zip(curve).zip(point).and_then(|((id, curve), point)| {
            let (algorithm, _) = CURVES.iter().find(|(_, oid)| **oid == *curve)?;
            Some((*algorithm, id, tbs::spki(*algorithm, tbs::octets(&point)?)?))
        }))
    }

    fn private(&self, id: &[u8]) -> Result<Option<ObjectHandle>, cryptoki::error::Error> {
        let of = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Id(id.to_vec())];
        let mut found = self.session.find_objects(&of)?.into_iter();
        Ok(found.next().filter(|_| found.next().is_none()))
    }

    pub(super) fn has(&self, key: &Digest) -> bool {
        self.keys.contains_key(key)
    }

    pub(super) fn may_generate(&self, algorithm: KeyAlgorithm) -> Result<(), String> {
        curve(algorithm).map(|_| ())
    }

    /// Makes a key in the token; gives its SubjectPublicKeyInfo.
    pub(super) fn generate(&mut self, algorithm: KeyAlgorithm, entropy: &dyn Entropy) -> Result<Vec<u8>, String> {
        let curve = curve(algorithm)?;
        let mut id = vec![0_u8; 16];
        entropy.fill(&mut id);
        let public = [
            Attribute::Token(true),
            Attribute::Verify(true),
            Attribute::EcParams(curve.to_vec()),
            Attribute::Id(id.clone()),
            Attribute::Label(LABEL.to_vec()),
        ];
        let private = [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            Attribute::Id(id.clone()),
            Attribute::Label(LABEL.to_vec()),
        ];
        let said = |e: cryptoki::error::Error| format!("the token makes no key: {e}");
        let (public, private) =
            self.session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private).map_err(said)?;
        let stays = self.stays(private).map_err(said)?;
        let spki = self.public(public).map_err(said)?.map(|(_, _, spki)| spki).filter(|_| stays);
        let Some(spki) = spki else {
            // Nobody knows of it yet.
            self.session.destroy_object(private).and_then(|()| self.session.destroy_object(public)).ok();
            return Err("the token made a key that could leave it, or whose public half cannot be read".to_owned());
        };
        self.keys.insert(Digest::of(&spki), InToken { algorithm, id, private });
        Ok(spki)
    }

    /// Whether a private key was never outside of the token and never can be.
    fn stays(&self, key: ObjectHandle) -> Result<bool, cryptoki::error::Error> {
        let wanted = [AttributeType::AlwaysSensitive, AttributeType::NeverExtractable, AttributeType::Local];
        let found = self.session.get_attributes(key, &wanted)?;
        let expected = [Attribute::AlwaysSensitive(true), Attribute::NeverExtractable(true), Attribute::Local(true)];
        Ok(expected.iter().all(|e| found.contains(e)))
    }

    pub(super) fn sign(&self, key: &Digest, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let found = self.keys.get(key).ok_or("the token does not have it")?;
        let hash = if found.algorithm == KeyAlgorithm::P384 { &SHA384 } else { &SHA256 };
        let hash = digest(hash, bytes);
        let signature = self.session.sign(&Mechanism::Ecdsa, found.private, hash.as_ref());
        let signature = signature.map_err(|e| format!("the token does not sign: {e}"))?;
        tbs::ecdsa_signature(&signature).ok_or_else(|| "the token gave what is no signature".to_owned())
    }

    pub(super) fn destroy(&mut self, key: &Digest) -> Result<(), String> {
        let Some(found) = self.keys.remove(key) else { return Ok(()) };
        let said = |e: cryptoki::error::Error| format!("the token does not destroy it: {e}");
        self.session.destroy_object(found.private).map_err(said)?;
        let of = [Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::Id(found.id)];
        for public in self.session.find_objects(&of).map_err(said)? {
            self.session.destroy_object(public).map_err(said)?;
        }
        Ok(())
    }
}
