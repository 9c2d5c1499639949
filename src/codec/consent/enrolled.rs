//! The SSH keys that are enrolled, as people keep them: a line of `authorized_keys` (the key alone) or of `allowed_signers`
//! (`ssh-keygen(1)`: principals, options, the key). What a line says and we do not know is an error, never read over.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Refused;
use super::key::{Curve, PublicKey};
use super::wire::Wire;
use crate::codec::ParseError;
use crate::domain::key::{Digest, KeyAlgorithm};
use crate::domain::time::Timestamp;

/// A file with keys is at most this long, and a line of it at most [`LONGEST_LINE`].
pub const LONGEST_FILE: usize = 256 * 1_024;
/// A key has some 250 digits, options and principals take the rest.
pub const LONGEST_LINE: usize = 2 * 1_024;
/// A file has at most so many keys.
pub const MOST_KEYS: usize = 1_000;

const KEY: &str = "the SSH key";
const KINDS: &str = "ssh-ed25519, ecdsa-sha2-nistp256, ecdsa-sha2-nistp384, sk-ssh-ed25519@openssh.com or \
                     sk-ecdsa-sha2-nistp256@openssh.com";

/// A public key as OpenSSH writes it (RFC 4253 section 6.6, RFC 5656, RFC 8709, `PROTOCOL.u2f`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshKey {
    kind: &'static str,
    blob: Vec<u8>,
    key: PublicKey,
    family: Family,
}

/// Where the private half is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// In a file, an agent, a token.
    File,
    /// In a FIDO authenticator, for this application.
    Fido { application: Vec<u8> },
}

impl SshKey {
    /// Reads a key's blob.
    ///
    /// # Errors
    /// If it is of a kind that is not taken, damaged, or no key that anybody should have.
    pub fn read(blob: &[u8]) -> Result<Self, Refused> {
        let malformed = || Refused::malformed(KEY, "it is cut off, or not in the form of its kind");
        let mut wire = Wire(blob);
        let named = wire.string().ok_or_else(malformed)?;
        let (kind, curve) = match named {
            b"ssh-ed25519" => ("ssh-ed25519", Curve::Ed25519),
            b"ecdsa-sha2-nistp256" => ("ecdsa-sha2-nistp256", Curve::P256),
            b"ecdsa-sha2-nistp384" => ("ecdsa-sha2-nistp384", Curve::P384),
            b"sk-ssh-ed25519@openssh.com" => ("sk-ssh-ed25519@openssh.com", Curve::Ed25519),
            b"sk-ecdsa-sha2-nistp256@openssh.com" => ("sk-ecdsa-sha2-nistp256@openssh.com", Curve::P256),
            other => {
                let seen = String::from_utf8_lossy(other).chars().take(64).collect();
                return Err(Refused::Unsupported { what: KEY, seen, expected: KINDS });
            }
        };
        let name: Option<&[u8]> = match curve {
            Curve::Ed25519 => None,
            Curve::P256 => Some(b"nistp256"),
            Curve::P384 => Some(b"nistp384"),
        };
        if let Some(name) = name {
            wire.string().filter(|seen| *seen == name).ok_or_else(malformed)?;
        }
        let bits = wire.string().ok_or_else(malformed)?.to_vec();
        let family = match kind.starts_with("sk-") {
            false => Family::File,
            true => {
                let application = wire.string().ok_or_else(malformed)?;
                if !application.starts_with(b"ssh:") {
                    // Sites on the web could have it sign for them what reads as a consent here.
                    let seen = format!("{:?}", String::from_utf8_lossy(application));
                    return Err(Refused::Unsupported { what: "the key's application", seen, expected: "ssh:…" });
                }
                Family::Fido { application: application.to_vec() }
            }
        };
        wire.end().ok_or_else(malformed)?;
        Ok(Self { kind, blob: blob.to_vec(), key: PublicKey::new(curve, bits)?, family })
    }

    /// Its kind, as OpenSSH calls it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Its bytes: two keys are the same if these are.
    #[must_use]
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// SHA-256 of these; OpenSSH shows it in base64.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.blob)
    }

    /// The algorithm that signs.
    #[must_use]
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.key.curve().algorithm()
    }

    /// `KIND BASE64`, the line of `authorized_keys`.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{} {}", self.kind, STANDARD.encode(&self.blob))
    }

    pub(super) fn public(&self) -> &PublicKey {
        &self.key
    }

    pub(super) fn family(&self) -> &Family {
        &self.family
    }
}

/// A key with what its enrolment is limited to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolled {
    key: SshKey,
    principals: Vec<String>,
    limits: Limits,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Limits {
    namespaces: Option<Vec<String>>,
    valid_after: Option<Timestamp>,
    valid_before: Option<Timestamp>,
}

impl Enrolled {
    /// A line of `authorized_keys`: kind, key, comment. It has no principals and no limits.
    ///
    /// # Errors
    /// If there is anything before the key, or it is none that is taken.
    pub fn authorized_key(line: &str) -> Result<Self, ParseError> {
        let mut words = Words::of(line)?;
        let key = key(words.next()?, words.next()?)?;
        Ok(Self { key, principals: Vec::new(), limits: Limits::default() })
    }

    /// A line of `allowed_signers`: principals, options, kind, key, comment.
    ///
    /// # Errors
    /// If it has an option besides `namespaces`, `valid-after` and `valid-before`, a pattern in place of a name, a time that
    /// is not in UTC, or a key that is not taken.
    pub fn allowed_signer(line: &str) -> Result<Self, ParseError> {
        let mut words = Words::of(line)?;
        let principals = names("principal", words.next()?)?;
        let (mut kind, mut limits) = (words.next()?, Limits::default());
        if kind.contains('=') || kind == "cert-authority" {
            limits = Limits::read(kind)?;
            kind = words.next()?;
        }
        Ok(Self { key: key(kind, words.next()?)?, principals, limits })
    }

    /// The lines of an `allowed_signers` file; empty lines and those that begin with `#` are left out.
    ///
    /// # Errors
    /// The first line that cannot be read, with its number.
    pub fn allowed_signers(text: &str) -> Result<Vec<Self>, ParseError> {
        if text.len() > LONGEST_FILE {
            return Err(ParseError(format!("has {} bytes, expected at most {LONGEST_FILE}", text.len())));
        }
        let lines = text.lines().zip(1_u32..).filter(|(line, _)| !line.trim().is_empty() && !line.starts_with('#'));
        let mut all = Vec::new();
        for (line, number) in lines {
            if all.len() == MOST_KEYS {
                return Err(ParseError(format!("has more than {MOST_KEYS} keys")));
            }
            let read = Self::allowed_signer(line).map_err(|why| ParseError(format!("has in line {number}: {why}")))?;
            all.push(read);
        }
        Ok(all)
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &SshKey {
        &self.key
    }

    /// For whom it is enrolled; the caller knows who that is.
    #[must_use]
    pub fn principals(&self) -> &[String] {
        &self.principals
    }

    /// That it is enrolled for this purpose and this time.
    pub(super) fn covers(&self, namespace: &'static str, at: Timestamp) -> Result<(), Refused> {
        let Limits { namespaces, valid_after, valid_before } = &self.limits;
        if let Some(others) = namespaces.as_ref().filter(|all| !all.iter().any(|name| name == namespace)) {
            let what = "the key is enrolled for the namespaces";
            return Err(Refused::Namespace { what, seen: others.join(","), expected: namespace });
        }
        if let Some(begin) = valid_after.filter(|begin| at < *begin) {
            return Err(Refused::NotThen { bound: format!("from {begin}"), at });
        }
        match valid_before.filter(|end| at >= *end) {
            Some(end) => Err(Refused::NotThen { bound: format!("until {end}"), at }),
            None => Ok(()),
        }
    }
}

impl Limits {
    fn read(options: &str) -> Result<Self, ParseError> {
        let mut read = Self::default();
        for option in split(options, |c| c == ',')? {
            let unknown = || {
                let known = "namespaces=\"…\", valid-after=\"…\" and valid-before=\"…\", each once";
                ParseError(format!("has the option {option:?}; expected {known}"))
            };
            let (name, value) = option.split_once('=').ok_or_else(unknown)?;
            let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
            match name {
                "namespaces" if read.namespaces.is_none() => read.namespaces = Some(names("namespace", value)?),
                "valid-after" if read.valid_after.is_none() => read.valid_after = Some(time(value)?),
                "valid-before" if read.valid_before.is_none() => read.valid_before = Some(time(value)?),
                _ => return Err(unknown()),
            }
        }
        Ok(read)
    }
}

/// `YYYYMMDDZ`, or with `HHMM` or `HHMMSS` before the Z. Without it OpenSSH means the time of whatever machine it runs on,
/// so that one line would end at several moments.
fn time(text: &str) -> Result<Timestamp, ParseError> {
    let wrong = || ParseError(format!("has the time {text:?}; expected UTC as 20261231Z or 20261231235959Z"));
    let digits = text.strip_suffix('Z').filter(|t| t.bytes().all(|b| b.is_ascii_digit())).ok_or_else(wrong)?;
    let padded = match digits.len() {
        8 => format!("{digits}000000"),
        12 => format!("{digits}00"),
        14 => digits.to_owned(),
        _ => return Err(wrong()),
    };
    let part = |from: usize, to: usize| padded.get(from..to).unwrap_or_default();
    let [year, month, day] = [part(0, 4), part(4, 6), part(6, 8)];
    let [hour, minute, second] = [part(8, 10), part(10, 12), part(12, 14)];
    Timestamp::parse(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z")).ok_or_else(wrong)
}

/// A list of names. OpenSSH takes patterns; whoever may consent is named here one by one.
fn names(what: &str, list: &str) -> Result<Vec<String>, ParseError> {
    let plain = |name: &str| {
        let fits = (1..=255).contains(&name.len());
        fits && name.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'*' | b'?' | b'!' | b'"' | b'='))
    };
    let read = |name: &str| {
        let named = plain(name).then(|| name.to_owned());
        named.ok_or_else(|| ParseError(format!("has the {what} {name:?}; expected a plain name without pattern")))
    };
    list.split(',').map(read).collect()
}

fn key(kind: &str, digits: &str) -> Result<SshKey, ParseError> {
    let none = || ParseError(format!("has no key where one is expected: {KINDS} and its base64"));
    let blob = STANDARD.decode(digits).ok().filter(|blob| !blob.is_empty()).ok_or_else(none)?;
    let key = SshKey::read(&blob).map_err(|why| ParseError(why.to_string()))?;
    if key.kind == kind { Ok(key) } else { Err(ParseError(format!("calls a key {kind:?} which is {}", key.kind))) }
}

/// The words of a line; quotes hold them together. A comment may hold whatever it likes, a lonely quote too: it is not
/// looked at.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn of(line: &'a str) -> Result<Self, ParseError> {
        if line.len() > LONGEST_LINE {
            return Err(ParseError(format!("is a line of {} bytes, expected at most {LONGEST_LINE}", line.len())));
        }
        match line.chars().any(|c| c.is_control() && c != '\t') {
            true => Err(ParseError::new("has a control character in a line")),
            false => Ok(Self(line.trim_matches(BLANK))),
        }
    }

    /// The next one, or nothing at the end.
    fn next(&mut self) -> Result<&'a str, ParseError> {
        let (word, rest) = self.0.split_at(end(self.0, |c| BLANK.contains(&c))?);
        self.0 = rest.trim_start_matches(BLANK);
        Ok(word)
    }
}

const BLANK: [char; 2] = [' ', '\t'];

fn split(mut rest: &str, at: impl Fn(char) -> bool + Copy) -> Result<Vec<&str>, ParseError> {
    let mut found = Vec::new();
    loop {
        let (word, after) = rest.split_at(end(rest, at)?);
        found.push(word);
        match after.chars().next() {
            Some(separator) => rest = after.strip_prefix(separator).unwrap_or_default(),
            None => return Ok(found),
        }
    }
}

/// Where the first such character outside quotes stands.
fn end(text: &str, such: impl Fn(char) -> bool) -> Result<usize, ParseError> {
    let mut quoted = false;
    for (place, c) in text.char_indices() {
        if c == '"' {
            quoted = !quoted;
        } else if !quoted && such(c) {
            return Ok(place);
        }
    }
    if quoted { Err(ParseError::new("has a quote that does not end")) } else { Ok(text.len()) }
}
