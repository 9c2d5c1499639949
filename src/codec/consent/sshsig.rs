//! Consent by an SSH key: a detached signature of `ssh-keygen -Y sign` over the decision's text (OpenSSH `PROTOCOL.sshsig`),
//! also by FIDO keys (OpenSSH `PROTOCOL.u2f`). It can be carried by hand and needs nothing that may be what is broken.
//!
//! ```text
//! signature = "SSHSIG" ‖ u32 1 ‖ string key ‖ string namespace ‖ string "" ‖ string hash ‖ string by
//! signed    = "SSHSIG" ‖ string namespace ‖ string "" ‖ string hash ‖ string HASH(decision's text)
//! ```

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::decision::CONTEXT;
use super::enrolled::{Enrolled, Family, SshKey};
use super::key::{Curve, fixed};
use super::wire::{Wire, put};
use super::{Authenticator, Consent, Decision, Flags, Refused};
use crate::domain::exception::Channel;
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;

/// A signature is at most this long in bytes: a key and a signature of some 200 bytes each, and the namespace.
pub const LONGEST_SIGNATURE: usize = 1_024;
/// With armour: base64, its lines, and the two around it.
pub const LONGEST_ARMOURED: usize = 2 * LONGEST_SIGNATURE;

const MAGIC: &[u8] = b"SSHSIG";
const VERSION: u32 = 1;
const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
/// Digits on a line: OpenSSH writes 70, the specification says 76.
const LINE: usize = 70;
const WIDEST: usize = 76;

const SIGNATURE: &str = "the SSH signature";

/// What is kept of a consent by SSH: the signature without its armour. It holds the public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept(Vec<u8>);

impl Kept {
    /// Reads the text that `ssh-keygen -Y sign` writes. Lines may end as mail and other systems end them.
    ///
    /// # Errors
    /// If there is anything besides, or it is no signature of the one version.
    pub fn read(armoured: &[u8]) -> Result<Self, Refused> {
        Refused::bounded(SIGNATURE, armoured, LONGEST_ARMOURED)?;
        let malformed = |why: &'static str| Refused::malformed(SIGNATURE, why);
        let text = core::str::from_utf8(armoured).map_err(|_| malformed("it is no text"))?;
        let mut lines = text.lines();
        if lines.next() != Some(BEGIN) {
            return Err(malformed("it does not begin with -----BEGIN SSH SIGNATURE-----"));
        }
        let mut digits = String::with_capacity(text.len());
        for line in lines.by_ref().take_while(|line| *line != END) {
            if line.is_empty() || line.len() > WIDEST {
                return Err(malformed("it has an empty line, or one of more than 76 digits"));
            }
            digits.push_str(line);
        }
        // The lines were read through to the end, and there was one: else the last of them would not be it.
        if lines.next().is_some() || !text.trim_end_matches(['\r', '\n']).ends_with(END) {
            return Err(malformed("it does not end with -----END SSH SIGNATURE-----"));
        }
        let blob = STANDARD.decode(digits).map_err(|_| malformed("it is not base64 inside"))?;
        Self::from_blob(blob)
    }

    /// From the bytes without the armour.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn from_blob(blob: Vec<u8>) -> Result<Self, Refused> {
        Parts::read(&blob)?;
        Ok(Self(blob))
    }

    /// The bytes.
    #[must_use]
    pub fn blob(&self) -> &[u8] {
        &self.0
    }

    /// The text as OpenSSH writes it, for `ssh-keygen -Y verify`.
    #[must_use]
    pub fn armoured(&self) -> String {
        let digits = STANDARD.encode(&self.0);
        let mut out = format!("{BEGIN}\n");
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && place % LINE == 0 {
                out.push('\n');
            }
            out.push(digit);
        }
        out.push('\n');
        out.push_str(END);
        out.push('\n');
        out
    }
}

/// Whether a person has to be verified by the authenticator, by PIN or biometrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// Only FIDO keys will do that say so (`ssh-keygen -t ed25519-sk -O verify-required`).
    Required,
    /// A touch will do, and so will a key in a file.
    NotRequired,
}

/// Verifies that the holder of the enrolled key consented to exactly this decision, at a time before it was over.
///
/// # Errors
/// [`Refused`] says which check does not hold.
pub fn verify(
    kept: &Kept,
    decision: &Decision,
    enrolled: &Enrolled,
    verification: Verification,
    at: Timestamp,
) -> Result<Consent, Refused> {
    let text = decision.open(at)?;
    enrolled.covers(CONTEXT, at)?;
    let parts = Parts::read(&kept.0)?;
    if parts.key != enrolled.key().blob() {
        return Err(Refused::OtherKey { seen: Digest::of(parts.key), expected: enrolled.key().digest() });
    }
    if parts.namespace != CONTEXT.as_bytes() {
        let seen = String::from_utf8_lossy(parts.namespace).into_owned();
        return Err(Refused::Namespace { what: "it is signed for the namespace", seen, expected: CONTEXT });
    }
    let says = by(enrolled.key(), parts.by, &parts.signed(&text))?;
    if verification == Verification::Required && !says.is_some_and(|says| says.flags.user_verified()) {
        return Err(Refused::NotVerified);
    }
    Ok(Consent { channel: Channel::SshSignature, key: enrolled.key().digest(), authenticator: says })
}

/// Verifies the inner signature; what a FIDO key says beside it.
fn by(key: &SshKey, signature: &[u8], message: &[u8]) -> Result<Option<Authenticator>, Refused> {
    let malformed = || Refused::malformed(SIGNATURE, "what the key made is not in the form of its kind");
    let mut wire = Wire(signature);
    if wire.string().ok_or_else(malformed)? != key.kind().as_bytes() {
        return Err(Refused::malformed(SIGNATURE, "it is of another kind than its key"));
    }
    let raw = wire.string().ok_or_else(malformed)?;
    let numbers = match key.public().curve() {
        Curve::Ed25519 => raw.to_vec(),
        curve @ (Curve::P256 | Curve::P384) => two(raw, curve.width()).ok_or_else(malformed)?,
    };
    match key.family() {
        Family::File => {
            wire.end().ok_or_else(malformed)?;
            key.public().verify(message, &numbers)?;
            Ok(None)
        }
        Family::Fido { application } => {
            let (flags, counter) = (wire.byte().ok_or_else(malformed)?, wire.number().ok_or_else(malformed)?);
            wire.end().ok_or_else(malformed)?;
            let says = Authenticator { flags: Flags(flags), counter };
            if says.flags.has_credential() || says.flags.has_extensions() {
                return Err(Refused::malformed(SIGNATURE, "its flags announce data that OpenSSH does not carry"));
            }
            if !says.flags.user_present() {
                return Err(Refused::NotPresent(says.flags));
            }
            let counter = counter.to_be_bytes();
            let hash = |bytes: &[u8]| Digest::of(bytes).0;
            let signed = [&hash(application)[..], &[flags], &counter, &hash(message)].concat();
            key.public().verify(&signed, &numbers)?;
            Ok(Some(says))
        }
    }
}

fn two(raw: &[u8], width: usize) -> Option<Vec<u8>> {
    let mut wire = Wire(raw);
    let numbers = [wire.string()?, wire.string()?];
    wire.end()?;
    fixed(numbers, width)
}

/// A signature taken apart.
#[derive(Debug)]
struct Parts<'a> {
    key: &'a [u8],
    namespace: &'a [u8],
    hash: Hash,
    by: &'a [u8],
}

/// How the text was hashed before it was signed: what OpenSSH knows.
#[derive(Clone, Copy, Debug)]
enum Hash {
    Sha256,
    Sha512,
}

impl<'a> Parts<'a> {
    fn read(blob: &'a [u8]) -> Result<Self, Refused> {
        Refused::bounded(SIGNATURE, blob, LONGEST_SIGNATURE)?;
        let cut = || Refused::malformed(SIGNATURE, "it is cut off, or has something after its end");
        let mut wire = Wire(blob);
        wire.expect(MAGIC).ok_or_else(|| Refused::malformed(SIGNATURE, "it does not begin with SSHSIG"))?;
        let version = wire.number().ok_or_else(cut)?;
        if version != VERSION {
            let seen = version.to_string();
            return Err(Refused::Unsupported { what: "the version of the SSH signature", seen, expected: "1" });
        }
        let (key, namespace) = (wire.string().ok_or_else(cut)?, wire.string().ok_or_else(cut)?);
        if !wire.string().ok_or_else(cut)?.is_empty() {
            return Err(Refused::malformed(SIGNATURE, "something stands where nothing is defined yet"));
        }
        let hash = match wire.string().ok_or_else(cut)? {
            b"sha256" => Hash::Sha256,
            b"sha512" => Hash::Sha512,
            other => {
                let seen = format!("{:?}", String::from_utf8_lossy(other));
                let what = "the hash of the SSH signature";
                return Err(Refused::Unsupported { what, seen, expected: "sha256 or sha512" });
            }
        };
        let by = wire.string().ok_or_else(cut)?;
        wire.end().ok_or_else(cut)?;
        Ok(Self { key, namespace, hash, by })
    }

    /// What the key signed, if it signed this text.
    fn signed(&self, text: &[u8]) -> Vec<u8> {
        let (name, algorithm) = match self.hash {
            Hash::Sha256 => ("sha256", &digest::SHA256),
            Hash::Sha512 => ("sha512", &digest::SHA512),
        };
        let hashed = digest::digest(algorithm, text);
        let mut out = MAGIC.to_vec();
        [self.namespace, b"", name.as_bytes(), hashed.as_ref()].iter().for_each(|part| put(&mut out, part));
        out
    }
}
