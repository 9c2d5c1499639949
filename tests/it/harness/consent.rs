//! Authenticators and SSH keys in software, for consent: they sign whatever a test wants signed, wrong things too.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use keyward::codec::consent::webauthn::{CredentialKey, Kept, RelyingParty};
use keyward::codec::consent::{Decision, enrolled::Enrolled, sshsig};
use keyward::domain::exception::{PersonId, RequestId, Verdict};
use keyward::domain::key::Digest;
use keyward::domain::time::Timestamp;

pub const ORIGIN: &str = "https://keyward.example.com";
pub const PARTY: &str = "keyward.example.com";
pub const NAMESPACE: &str = "keyward-decision-v1";

pub fn decision() -> Decision {
    Decision {
        request: RequestId::parse("7F3K-9Q2M").unwrap(),
        round: 2,
        scope: Digest::of(b"scope"),
        verdict: Verdict::Approve,
        who: PersonId::new("p-4f1c"),
        origin: Arc::from("keyward.example.com/log"),
        expires: Timestamp::parse("2026-12-01T12:00:00Z").unwrap(),
    }
}

/// While the decision can be taken.
pub fn then() -> Timestamp {
    Timestamp::parse("2026-12-01T11:00:00Z").unwrap()
}

pub fn party() -> RelyingParty {
    RelyingParty::new(PARTY, [ORIGIN]).unwrap()
}

pub enum Soft {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Soft {
    pub fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap())
    }

    pub fn p384() -> Self {
        Self::P384(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).unwrap())
    }

    pub fn ed25519(seed: u8) -> Self {
        Self::Ed25519(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }

    pub fn all() -> [Self; 3] {
        [Self::p256(), Self::p384(), Self::ed25519(7)]
    }

    pub fn public(&self) -> &[u8] {
        match self {
            Self::P256(pair) | Self::P384(pair) => pair.public_key().as_ref(),
            Self::Ed25519(pair) => pair.public_key().as_ref(),
        }
    }

    /// ECDSA in DER, as WebAuthn has it.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::P256(pair) | Self::P384(pair) => pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    pub fn cose(&self) -> Vec<u8> {
        let (head, width): (&[u8], u8) = match self {
            Self::P256(_) => (&[0xa5, 1, 2, 3, 0x26, 0x20, 1], 32),
            Self::P384(_) => (&[0xa5, 1, 2, 3, 0x38, 0x22, 0x20, 2], 48),
            Self::Ed25519(_) => (&[0xa4, 1, 1, 3, 0x27, 0x20, 6], 32),
        };
        let mut out = head.to_vec();
        let point = self.public();
        let coordinates = if point.len() == 32 { point } else { &point[1..] };
        for (label, part) in [0x21, 0x22].into_iter().zip(coordinates.chunks(usize::from(width))) {
            out.extend([label, 0x58, width]);
            out.extend_from_slice(part);
        }
        out
    }

    pub fn credential(&self) -> CredentialKey {
        CredentialKey::read(&self.cose()).unwrap()
    }

    /// Signs this client data and authenticator data.
    pub fn kept(&self, client_data: &[u8], authenticator_data: &[u8]) -> Kept {
        let signed = [authenticator_data, digest(&SHA256, client_data).as_ref()].concat();
        Kept {
            public_key: self.cose(),
            client_data: client_data.to_vec(),
            authenticator_data: authenticator_data.to_vec(),
            signature: self.sign(&signed),
        }
    }

    /// What a passkey answers on our page.
    pub fn asserted(&self, decision: &Decision) -> Kept {
        self.kept(client("webauthn.get", &decision.challenge().0).as_bytes(), &data(PARTY, 0x05, 9))
    }

    /// The name of the key's kind in OpenSSH.
    fn kind(&self, fido: bool) -> &'static str {
        match (self, fido) {
            (Self::P256(_), false) => "ecdsa-sha2-nistp256",
            (Self::P384(_), _) => "ecdsa-sha2-nistp384",
            (Self::Ed25519(_), false) => "ssh-ed25519",
            (Self::P256(_), true) => "sk-ecdsa-sha2-nistp256@openssh.com",
            (Self::Ed25519(_), true) => "sk-ssh-ed25519@openssh.com",
        }
    }

    /// The public key as OpenSSH writes it; a FIDO key has an application.
    pub fn ssh_blob(&self, application: Option<&str>) -> Vec<u8> {
        let mut parts = vec![self.kind(application.is_some()).as_bytes()];
        match self {
            Self::P256(_) => parts.push(b"nistp256"),
            Self::P384(_) => parts.push(b"nistp384"),
            Self::Ed25519(_) => {}
        }
        parts.push(self.public());
        parts.extend(application.map(str::as_bytes));
        strings(&parts)
    }

    pub fn ssh_line(&self, application: Option<&str>) -> String {
        format!("{} {}", self.kind(application.is_some()), STANDARD.encode(self.ssh_blob(application)))
    }

    pub fn enrolled(&self, application: Option<&str>) -> Enrolled {
        Enrolled::authorized_key(&self.ssh_line(application)).unwrap()
    }

    /// The bytes of a signature over this text.
    pub fn sshsig(&self, text: &[u8], how: &How<'_>) -> Vec<u8> {
        let hashed = digest(if how.hash == "sha256" { &SHA256 } else { &SHA512 }, text);
        let named = [how.namespace.as_bytes(), how.reserved, how.hash.as_bytes(), hashed.as_ref()];
        let message = [b"SSHSIG", &strings(&named)[..]].concat();
        let application = how.fido.map(|(application, ..)| application);
        let mut tail = Vec::new();
        let signature = match how.fido {
            None => self.sign(&message),
            Some((application, flags, counter)) => {
                tail = [&[flags][..], &counter.to_be_bytes()].concat();
                let hash = |bytes: &[u8]| digest(&SHA256, bytes).as_ref().to_vec();
                self.sign(&[&hash(application.as_bytes())[..], &tail, &hash(&message)].concat())
            }
        };
        let raw = match self {
            Self::Ed25519(_) => signature,
            Self::P256(_) | Self::P384(_) => {
                let [r, s] = numbers(&signature);
                strings(&[r, s])
            }
        };
        let by = [strings(&[self.kind(application.is_some()).as_bytes(), &raw]), tail].concat();
        let key = self.ssh_blob(application);
        let parts = [&key[..], how.namespace.as_bytes(), how.reserved, how.hash.as_bytes(), &by];
        [b"SSHSIG", &how.version.to_be_bytes()[..], &strings(&parts)].concat()
    }

    pub fn signed(&self, decision: &Decision, how: &How<'_>) -> sshsig::Kept {
        sshsig::Kept::from_blob(self.sshsig(&decision.canonical(), how)).unwrap()
    }
}

/// How an SSH key signs.
#[derive(Clone)]
pub struct How<'a> {
    pub namespace: &'a str,
    pub reserved: &'a [u8],
    pub hash: &'a str,
    pub version: u32,
    /// Application, flags and counter.
    pub fido: Option<(&'a str, u8, u32)>,
}

impl Default for How<'_> {
    fn default() -> Self {
        Self { namespace: NAMESPACE, reserved: b"", hash: "sha512", version: 1, fido: None }
    }
}

/// Strings with their lengths before them (RFC 4251 section 5).
pub fn strings(parts: &[&[u8]]) -> Vec<u8> {
    let with = |part: &&[u8]| [&u32::try_from(part.len()).unwrap().to_be_bytes()[..], part].concat();
    parts.iter().flat_map(with).collect()
}

/// The two numbers of a short signature in DER.
pub fn numbers(der: &[u8]) -> [&[u8]; 2] {
    let first = usize::from(der[3]);
    let (r, rest) = der[4..].split_at(first);
    [r, &rest[2..]]
}

/// Client data as Chromium and others write it.
pub fn client(kind: &str, challenge: &[u8]) -> String {
    let challenge = URL_SAFE_NO_PAD.encode(challenge);
    format!(r#"{{"type":"{kind}","challenge":"{challenge}","origin":"{ORIGIN}","crossOrigin":false}}"#)
}

/// Authenticator data without a credential.
pub fn data(party: &str, flags: u8, counter: u32) -> Vec<u8> {
    [digest(&SHA256, party.as_bytes()).as_ref(), &[flags], &counter.to_be_bytes()].concat()
}
