//! What an authenticator writes: its data (WebAuthn section 6.1), a credential's key (RFC 9052 section 7, RFC 9053), and
//! the attestation object of a registration (WebAuthn section 6.5).

use super::cbor::Reader;
use super::key::{Curve, PublicKey};
use super::{Authenticator, Flags, Refused};

/// Authenticator data is at most this long: 55 bytes, a credential id of at most 1,023, a key of 103, and extensions.
pub(super) const LONGEST_DATA: usize = 2 * 1_024;
/// A COSE key is at most this long: that of P-384 has 110 bytes.
pub(super) const LONGEST_KEY: usize = 256;
/// An attestation object without attestation is its data with some 30 bytes around it.
pub(super) const LONGEST_ATTESTATION: usize = LONGEST_DATA + 64;
/// A credential id is at most this long (WebAuthn section 6.5.1).
const LONGEST_ID: usize = 1_023;

pub(super) const DATA: &str = "the authenticator data";
const KEY: &str = "the credential's public key";
const ATTESTATION: &str = "the attestation object";

/// Authenticator data, read.
#[derive(Debug)]
pub(super) struct Data<'a> {
    pub(super) rp_id_hash: &'a [u8; 32],
    pub(super) says: Authenticator,
    pub(super) attested: Option<Attested<'a>>,
}

/// A credential, as a registration brings it.
#[derive(Debug)]
pub(super) struct Attested<'a> {
    pub(super) aaguid: [u8; 16],
    pub(super) id: &'a [u8],
    pub(super) key: &'a [u8],
}

pub(super) fn data(bytes: &[u8]) -> Result<Data<'_>, Refused> {
    Refused::bounded(DATA, bytes, LONGEST_DATA)?;
    let malformed = |why: &'static str| Refused::malformed(DATA, why);
    let head = || malformed("it is shorter than the 37 bytes that always stand there");
    let (rp_id_hash, rest) = bytes.split_first_chunk::<32>().ok_or_else(head)?;
    let (flags, rest) = rest.split_first().ok_or_else(head)?;
    let (counter, mut rest) = rest.split_first_chunk::<4>().ok_or_else(head)?;
    let flags = Flags(*flags);
    if flags.backed_up() && !flags.backup_eligible() {
        return Err(malformed("it says that a key is backed up which cannot be"));
    }
    let attested = match flags.has_credential() {
        true => Some(attested(&mut rest).ok_or_else(|| malformed("its credential is cut off or not in its form"))?),
        false => None,
    };
    if flags.has_extensions() {
        let mut reader = Reader(rest);
        // Extensions are read over, but what is signed is whole: a map, and nothing after it.
        let whole = Reader(rest).map().and_then(|_| reader.skip());
        whole.ok_or_else(|| malformed("its extensions are no bounded CBOR map"))?;
        rest = reader.0;
    }
    if !rest.is_empty() {
        return Err(malformed("there is something after its end"));
    }
    Ok(Data { rp_id_hash, says: Authenticator { flags, counter: u32::from_be_bytes(*counter) }, attested })
}

fn attested<'a>(rest: &mut &'a [u8]) -> Option<Attested<'a>> {
    let (aaguid, after) = rest.split_first_chunk::<16>()?;
    let (length, after) = after.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (id, after) = after.split_at_checked(length).filter(|_| (1..=LONGEST_ID).contains(&length))?;
    let mut reader = Reader(after);
    reader.skip()?;
    let key = after.get(..after.len().checked_sub(reader.0.len())?)?;
    *rest = reader.0;
    Some(Attested { aaguid: *aaguid, id, key })
}

/// A COSE key of one of the three algorithms, with nothing besides (WebAuthn section 6.5.1), in its canonical order.
pub(super) fn key(cose: &[u8]) -> Result<PublicKey, Refused> {
    Refused::bounded(KEY, cose, LONGEST_KEY)?;
    let malformed = || Refused::malformed(KEY, "it is no COSE key in canonical CBOR");
    let mut reader = Reader(cose);
    let members = reader.map().ok_or_else(malformed)?;
    // 1 is the kind (1: an octet key pair, 2: two coordinates), 3 the algorithm.
    let kind = reader.number_at(1).ok_or_else(malformed)?;
    let algorithm = reader.number_at(3).ok_or_else(malformed)?;
    let (curve, number) = match (kind, algorithm) {
        (2, -7) => (Curve::P256, 1),
        (2, -35) => (Curve::P384, 2),
        (1, -8) => (Curve::Ed25519, 6),
        _ => {
            let expected = "ES256 (-7), EdDSA (-8) or ES384 (-35)";
            let seen = format!("of the kind {kind} and algorithm {algorithm}");
            return Err(Refused::Unsupported { what: KEY, seen, expected });
        }
    };
    let bits = coordinates(reader, curve, number, members).ok_or_else(malformed)?;
    PublicKey::new(curve, bits)
}

/// The curve (-1) and its one coordinate or two (-2, -3).
fn coordinates(mut reader: Reader<'_>, curve: Curve, number: i64, members: usize) -> Option<Vec<u8>> {
    let right = reader.number_at(-1)? == number;
    let x = reader.bytes_at(-2)?;
    let (bits, expected) = match curve {
        Curve::Ed25519 => (x.to_vec(), 4),
        Curve::P256 | Curve::P384 => ([&[4], x, reader.bytes_at(-3)?].concat(), 5),
    };
    reader.end()?;
    (right && x.len() == curve.width() && members == expected).then_some(bits)
}

/// The authenticator data in an attestation object with the format `none`.
pub(super) fn unattested(object: &[u8]) -> Result<&[u8], Refused> {
    Refused::bounded(ATTESTATION, object, LONGEST_ATTESTATION)?;
    let malformed = || Refused::malformed(ATTESTATION, "it is no CBOR map of `fmt`, `attStmt` and `authData`");
    let mut reader = Reader(object);
    let (mut format, mut statement, mut data) = (None, None, None);
    // Browsers agree on the order, but no specification does.
    for _ in 0..reader.map().filter(|members| *members == 3).ok_or_else(malformed)? {
        match reader.text().ok_or_else(malformed)? {
            "fmt" if format.is_none() => format = Some(reader.text().ok_or_else(malformed)?),
            "attStmt" if statement.is_none() => {
                let members = Reader(reader.0).map().ok_or_else(malformed)?;
                reader.skip().ok_or_else(malformed)?;
                statement = Some(members);
            }
            "authData" if data.is_none() => data = Some(reader.bytes().ok_or_else(malformed)?),
            _ => return Err(malformed()),
        }
    }
    reader.end().ok_or_else(malformed)?;
    match (format, statement, data) {
        (Some("none"), Some(0), Some(data)) => Ok(data),
        (Some("none"), _, _) => {
            Err(Refused::malformed(ATTESTATION, "it has a statement although its format is `none`"))
        }
        (seen, _, _) => {
            let expected = "`none`: ask for a credential with attestation \"none\"";
            let seen = format!("{:?}", seen.unwrap_or_default());
            Err(Refused::Unsupported { what: "the format of the attestation", seen, expected })
        }
    }
}
