//! Consent that anybody can verify later: what a person said yes or no to, and the signature that shows it.
//!
//! A [`Decision`] is one canonical text. A passkey signs its challenge ([`webauthn`]); an SSH key signs the text itself
//! ([`sshsig`]), which needs no page, no TLS and no sign-in. What came in is kept as a [`Proof`], from which an auditor
//! verifies it again without the guardian: `docs/consent.md` says how, `docs/verify_consent.py` does it by another hand.
//!
//! ```text
//! decision ─▶ challenge ─▶ passkey ─▶ client data, authenticator data, signature ─┐
//!    └─────▶ text ──────▶ ssh-keygen -Y sign ─▶ signature ────────────────────────┴─▶ proof ─▶ its digest: the ballot's
//! ```
//!
//! Refuses to know whose key it is and whether a voice counts: whoever calls compares with what is enrolled, and says at
//! which time the proof came in. The decision that is verified against is always made from the guardian's own state, and
//! never read from what a client sent.

mod authenticator;
mod cbor;
pub mod decision;
pub mod enrolled;
mod key;
pub mod sshsig;
pub mod webauthn;
mod wire;

use core::fmt;
use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::ParseError;
use super::canonical::Value;
pub use decision::Decision;

use crate::domain::exception::Channel;
use crate::domain::json::Json;
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;

/// A proof is at most this long in bytes: client data (4 KiB), authenticator data (2 KiB), a key and a signature (half a KiB
/// each) are 10 KiB in base64, and the decision has 1 KiB. It has to fit into an entry of the audit log (60 KiB).
pub const LONGEST_PROOF: usize = 12 * 1_024;

/// The version of what is kept.
const VERSION: i64 = 1;

/// Everything that an auditor needs: what was decided, and what shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// What was said yes or no to.
    pub decision: Decision,
    /// The signature with all that was signed.
    pub kept: Kept,
}

/// What came in, over one channel or the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// An assertion of a passkey.
    Passkey(webauthn::Kept),
    /// A signature by an SSH key.
    Ssh(sshsig::Kept),
}

impl Kept {
    /// Over which channel it came.
    #[must_use]
    pub fn channel(&self) -> Channel {
        match self {
            Self::Passkey(_) => Channel::Passkey,
            Self::Ssh(_) => Channel::SshSignature,
        }
    }
}

impl Proof {
    /// The canonical bytes (RFC 8785), which are what is stored and handed to an auditor.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        let text = |bytes: &[u8]| Json::str(URL_SAFE_NO_PAD.encode(bytes));
        let (decision, channel) = (self.decision.json(), Json::str(self.kept.channel().as_str()));
        let version = Json::Int(VERSION);
        match &self.kept {
            Kept::Passkey(kept) => Json::obj([
                ("authenticator_data", text(&kept.authenticator_data)),
                ("channel", channel),
                ("client_data", text(&kept.client_data)),
                ("decision", decision),
                ("public_key", text(&kept.public_key)),
                ("signature", text(&kept.signature)),
                ("v", version),
            ]),
            Kept::Ssh(kept) => Json::obj([
                ("channel", channel),
                ("decision", decision),
                ("signature", text(kept.blob())),
                ("v", version),
            ]),
        }
        .canonical()
    }

    /// SHA-256 of [`Self::canonical`]: the proof that a ballot names.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.canonical())
    }

    /// Reads what [`Self::canonical`] wrote. Nothing of it is believed before it is verified.
    ///
    /// # Errors
    /// If it is not exactly that, with nothing more and nothing less.
    pub fn read(bytes: &[u8]) -> Result<Self, ParseError> {
        if bytes.len() > LONGEST_PROOF {
            let seen = bytes.len();
            return Err(ParseError(format!("has {seen} bytes, expected a proof of at most {LONGEST_PROOF}")));
        }
        let value = Value::read(bytes).map_err(|e| ParseError(format!("is no canonical JSON: {e}")))?;
        let part = |key: &str| {
            let decoded = value.text(key).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
            decoded.ok_or_else(|| ParseError(format!("has no `{key}` in base64url without padding")))
        };
        let kept = match value.text("channel").and_then(Channel::parse) {
            Some(Channel::Passkey) => Kept::Passkey(webauthn::Kept {
                public_key: part("public_key")?,
                client_data: part("client_data")?,
                authenticator_data: part("authenticator_data")?,
                signature: part("signature")?,
            }),
            Some(Channel::SshSignature) => {
                let read = sshsig::Kept::from_blob(part("signature")?);
                Kept::Ssh(read.map_err(|why| ParseError(why.to_string()))?)
            }
            None => return Err(ParseError::new("has no known `channel`; expected passkey or ssh_signature")),
        };
        let decision = value.at("decision").ok_or_else(|| ParseError::new("has no `decision`"))?;
        let read = Self { decision: Decision::from_value(decision)?, kept };
        // Members that are unknown, another version, and another spelling of a value all end here.
        if read.canonical() == bytes {
            Ok(read)
        } else {
            Err(ParseError::new("has members or values besides those of a proof of version 1"))
        }
    }
}

/// What a verified proof shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consent {
    /// Over which channel.
    pub channel: Channel,
    /// SHA-256 of the key's bytes: the COSE key of a passkey, the key blob of SSH.
    pub key: Digest,
    /// What the authenticator said of itself; `None` for an SSH key in a file.
    pub authenticator: Option<Authenticator>,
}

/// What an authenticator says beside its signature; the signature covers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authenticator {
    /// Its flags.
    pub flags: Flags,
    /// How often it signed, as it says; many always say 0.
    pub counter: u32,
}

impl Authenticator {
    /// How its counter goes on after the latest that was seen of the same key (W3C WebAuthn Level 2, section 7.2 step 21).
    #[must_use]
    pub fn counting(&self, latest: u32) -> Counting {
        match (latest, self.counter) {
            (0, 0) => Counting::Unused,
            (latest, now) if now > latest => Counting::Forward,
            _ => Counting::WentBack,
        }
    }
}

/// How a counter goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// It does not count.
    Unused,
    /// Forward, as it should.
    Forward,
    /// It stands still or went back: perhaps there are two of it. A finding for people; the signature is none the worse.
    WentBack,
}

/// The flags of an authenticator (WebAuthn section 6.1; OpenSSH `PROTOCOL.u2f`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// Somebody touched it.
    #[must_use]
    pub fn user_present(self) -> bool {
        self.0 & 0x01 != 0
    }

    /// It made sure who: by a PIN, a finger, a face.
    #[must_use]
    pub fn user_verified(self) -> bool {
        self.0 & 0x04 != 0
    }

    /// Its key may be copied to other devices.
    #[must_use]
    pub fn backup_eligible(self) -> bool {
        self.0 & 0x08 != 0
    }

    /// Its key is on other devices or in a cloud.
    #[must_use]
    pub fn backed_up(self) -> bool {
        self.0 & 0x10 != 0
    }

    fn has_credential(self) -> bool {
        self.0 & 0x40 != 0
    }

    fn has_extensions(self) -> bool {
        self.0 & 0x80 != 0
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#04x}", self.0)
    }
}

/// Why something is no consent to the decision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too late.
    #[error("the decision could be taken until {expires}, and it is {at}: open it again and decide anew")]
    Over {
        /// Until then.
        expires: Timestamp,
        /// Then it came.
        at: Timestamp,
    },
    /// Longer than any.
    #[error("{what} has {seen} bytes, expected at most {most}")]
    TooLong {
        /// What.
        what: &'static str,
        /// How long it is.
        seen: usize,
        /// The limit.
        most: usize,
    },
    /// Not in its form.
    #[error("{what} is malformed: {why}")]
    Malformed {
        /// What.
        what: &'static str,
        /// Why.
        why: Cow<'static, str>,
    },
    /// A kind that is not taken.
    #[error("{what} is {seen}; expected {expected}")]
    Unsupported {
        /// What.
        what: &'static str,
        /// What it is.
        seen: String,
        /// What would do.
        expected: &'static str,
    },
    /// A key that nobody should have.
    #[error("the key {0}: enrol another one")]
    Weak(String),
    /// Somebody else's, or an older one.
    #[error("it was made with the key {seen}, and {expected} is enrolled: use that one, or enrol this one first")]
    OtherKey {
        /// SHA-256 of the key it was made with.
        seen: Digest,
        /// SHA-256 of the one that is enrolled.
        expected: Digest,
    },
    /// The enrolment is not for this time.
    #[error("the key is enrolled {bound}, and it is {at}")]
    NotThen {
        /// From or until when.
        bound: String,
        /// Then it came.
        at: Timestamp,
    },
    /// Signed for another purpose, or the key is enrolled for others only.
    #[error("{what} {seen:?}, expected `{expected}`; sign with `ssh-keygen -Y sign -n {expected}`")]
    Namespace {
        /// Of the signature or of the enrolment.
        what: &'static str,
        /// What was seen.
        seen: String,
        /// What is expected.
        expected: &'static str,
    },
    /// Another ceremony.
    #[error("the client data is of the type {seen:?}, expected {expected:?}")]
    Type {
        /// What was seen.
        seen: String,
        /// What is expected.
        expected: &'static str,
    },
    /// Another decision, or another round, scope or verdict of it.
    #[error("the client data answers the challenge {seen:?}, expected {expected:?}: another decision was signed")]
    Challenge {
        /// What was seen.
        seen: String,
        /// What is expected.
        expected: String,
    },
    /// Another site.
    #[error("the client data comes from {seen:?}, expected one of {expected:?}")]
    Origin {
        /// What was seen.
        seen: String,
        /// The origins that are ours.
        expected: Vec<String>,
    },
    /// In a frame of another site.
    #[error("the client data was made in a frame of another site, expected our own page")]
    CrossOrigin,
    /// A credential of another site.
    #[error("the authenticator signed for another relying party than `{expected}`")]
    RelyingParty {
        /// Our id.
        expected: String,
    },
    /// Nobody was there.
    #[error("the authenticator does not say that somebody was present (flags {0:?})")]
    NotPresent(Flags),
    /// Somebody was there, nobody knows who.
    #[error("nothing shows that the person was verified by PIN or biometrics, and that is required")]
    NotVerified,
    /// The signature is not by this key over these bytes.
    #[error("the signature does not verify: it is by another key or over something else")]
    Signature,
}

impl Refused {
    fn malformed(what: &'static str, why: impl Into<Cow<'static, str>>) -> Self {
        Self::Malformed { what, why: why.into() }
    }

    /// That it is not too long.
    fn bounded(what: &'static str, bytes: &[u8], most: usize) -> Result<(), Self> {
        let seen = bytes.len();
        if seen > most { Err(Self::TooLong { what, seen, most }) } else { Ok(()) }
    }
}
