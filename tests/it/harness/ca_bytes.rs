//! A private CA of two generations' depth, made with the product's own bytes and keys of aws-lc-rs.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature as sig;
use keyward::codec::ca::{self, Above, ToSign};
use keyward::codec::keys;
use keyward::domain::authority::{CaCertificate, Constraints, Leaf, RevocationList, Revoked, SerialNumber};
use keyward::domain::certificate::Purposes;
use keyward::domain::key::KeyAlgorithm;
use keyward::domain::name::{Name, NameSet};
use keyward::domain::spiffe::{SpiffeId, TrustDomain};
use keyward::domain::time::{Timestamp, Validity};
use rcgen::PublicKeyData as _;

pub const CRL_URL: &str = "http://pki.example/mesh/1.crl";
pub const ISSUER_URL: &str = "http://pki.example/mesh/1.cer";

pub fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

pub fn validity(from: &str, to: &str) -> Validity {
    Validity { not_before: at(from), not_after: at(to) }
}

pub fn serial() -> SerialNumber {
    let mut bytes = [0_u8; 20];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    SerialNumber::new(bytes)
}

pub fn names(all: &[&str]) -> NameSet {
    NameSet::new(all.iter().map(|n| Name::parse(n).unwrap()))
}

pub fn urls(all: &[&str]) -> Vec<Arc<str>> {
    all.iter().map(|url| Arc::from(*url)).collect()
}

/// A private key that signs as the key holder does.
pub struct Key {
    pub pkcs8: Vec<u8>,
    pub spki: Arc<[u8]>,
    pub algorithm: KeyAlgorithm,
}

impl Key {
    pub fn new(algorithm: KeyAlgorithm) -> Self {
        let pkcs8 = keys::generate(algorithm).unwrap().to_vec();
        let pair = rcgen::KeyPair::try_from(pkcs8.as_slice()).unwrap();
        Self { pkcs8, spki: Arc::from(pair.subject_public_key_info()), algorithm }
    }

    /// The certificate or list.
    pub fn sign(&self, to_sign: &ToSign) -> Vec<u8> {
        assert_eq!(to_sign.algorithm, self.algorithm);
        ca::assemble(to_sign, &self.signature(&to_sign.bytes))
    }

    /// As the key holder gives it.
    pub fn signature(&self, bytes: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let ec = |curve| sig::EcdsaKeyPair::from_pkcs8(curve, &self.pkcs8).unwrap();
        match self.algorithm {
            KeyAlgorithm::P256 => {
                ec(&sig::ECDSA_P256_SHA256_ASN1_SIGNING).sign(&random, bytes).unwrap().as_ref().to_vec()
            }
            KeyAlgorithm::P384 => {
                ec(&sig::ECDSA_P384_SHA384_ASN1_SIGNING).sign(&random, bytes).unwrap().as_ref().to_vec()
            }
            KeyAlgorithm::Ed25519 => {
                sig::Ed25519KeyPair::from_pkcs8(&self.pkcs8).unwrap().sign(bytes).as_ref().to_vec()
            }
            rsa @ (KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096) => {
                panic!("a CA has no {rsa} key here")
            }
        }
    }
}

/// A root and an issuing CA.
pub struct Pki {
    pub root: Above,
    pub root_key: Key,
    pub issuing: Above,
    pub issuing_key: Key,
}

pub const ROOT_LIFE: (&str, &str) = ("2026-01-01T00:00:00Z", "2046-01-01T00:00:00Z");
pub const ISSUING_LIFE: (&str, &str) = ("2026-02-01T00:00:00Z", "2036-02-01T00:00:00Z");
pub const LEAF_LIFE: (&str, &str) = ("2030-06-01T00:00:00Z", "2030-06-02T00:00:00Z");
/// Inside all of them.
pub const NOW: &str = "2030-06-01T12:00:00Z";

pub fn ca_certificate(name: &str, key: &Key, life: (&str, &str), path_length: u8) -> CaCertificate {
    CaCertificate {
        serial: serial(),
        validity: validity(life.0, life.1),
        common_name: name.to_owned(),
        organization: Some(Arc::from("Zürich & Söhne")),
        trust_domain: TrustDomain::parse("mesh.example"),
        path_length: Some(path_length),
        constraints: Constraints::default(),
        spki: key.spki.clone(),
    }
}

impl Pki {
    pub fn new(algorithm: KeyAlgorithm) -> Self {
        Self::with(algorithm, algorithm, |_| {})
    }

    /// The root's algorithm, the issuing CA's, and what is other than usual in the latter's certificate.
    pub fn with(root: KeyAlgorithm, issuing: KeyAlgorithm, edit: impl FnOnce(&mut CaCertificate)) -> Self {
        let (root_key, issuing_key) = (Key::new(root), Key::new(issuing));
        let certificate = ca_certificate("Mesh root 1", &root_key, ROOT_LIFE, 1);
        let root = root_key.sign(&ca::ca_certificate(&certificate, None, &[], &[]).unwrap());
        let root = Above::new(&root).unwrap();
        let mut certificate = ca_certificate("Mesh issuing 1", &issuing_key, ISSUING_LIFE, 0);
        edit(&mut certificate);
        let to_sign = ca::ca_certificate(&certificate, Some(&root), &urls(&[CRL_URL]), &urls(&[ISSUER_URL])).unwrap();
        let issuing = Above::new(&root_key.sign(&to_sign)).unwrap();
        Self { root, root_key, issuing, issuing_key }
    }

    /// Everything above a leaf.
    pub fn above(&self) -> Vec<&[u8]> {
        vec![self.issuing.der(), self.root.der()]
    }

    pub fn to_sign(&self, leaf: &Leaf) -> ToSign {
        ca::leaf(leaf, &self.issuing, &urls(&[CRL_URL]), &urls(&[ISSUER_URL])).unwrap()
    }

    pub fn issue(&self, leaf: &Leaf) -> Vec<u8> {
        self.issuing_key.sign(&self.to_sign(leaf))
    }

    /// A list of the root and one of the issuing CA.
    pub fn lists(&self, root: &[Revoked], issuing: &[Revoked]) -> [Vec<u8>; 2] {
        let list =
            |revoked: &[Revoked], above, key: &Key| key.sign(&ca::revocation_list(&list_of(revoked), above).unwrap());
        [list(root, &self.root, &self.root_key), list(issuing, &self.issuing, &self.issuing_key)]
    }
}

pub fn list_of(revoked: &[Revoked]) -> RevocationList {
    RevocationList {
        number: 300,
        this_update: at("2030-06-01T11:00:00Z"),
        next_update: at("2030-06-02T12:00:00Z"),
        revoked: revoked.to_vec(),
    }
}

/// A leaf with names of every kind.
pub fn leaf(spki: &Arc<[u8]>) -> Leaf {
    Leaf {
        serial: serial(),
        validity: validity(LEAF_LIFE.0, LEAF_LIFE.1),
        names: names(&["web.svc.example", "*.api.svc.example", "10.1.2.3", "2001:db8::7"]),
        spiffe: SpiffeId::parse("spiffe://mesh.example/ns/prod/sa/web"),
        purposes: Purposes::ALL,
        spki: spki.clone(),
    }
}
