//! A public key as people keep it: PEM, an OpenSSH line (RFC 4253 section 6.6), or the certificate around it. All become a
//! SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7), so that one key is the same wherever it is used.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{SubjectPublicKeyInfoDer, alg_id};

use crate::codec::ca::strength;
use crate::codec::write::Writer;
use crate::codec::{ParseError, der, pem, x509};
use crate::domain::key::Digest;
use crate::domain::tracked::{KeyLook, Print, Wrapped};

/// No key's text is longer: RSA keys of 16,384 bits have 3 KiB, a certificate with many names some more.
pub const LONGEST: usize = 64 << 10;

/// What a text with a public key says; [`KeyLook::weak`] tells what is wrong with the key or its certificate.
///
/// # Errors
/// If there is none in it.
pub fn read(text: &[u8]) -> Result<KeyLook, ParseError> {
    if text.len() > LONGEST {
        return Err(ParseError(format!("is longer than {LONGEST} bytes")));
    }
    if let Some(found) = ssh_line(text) {
        return Ok(look(&found?));
    }
    if let Ok(spki) = SubjectPublicKeyInfoDer::from_pem_slice(text) {
        return Ok(look(&spki));
    }
    let first = pem::certificates_in(text, 64).ok().and_then(|all| all.into_iter().next());
    let none = "holds no public key; expected PEM (PUBLIC KEY or CERTIFICATE) or a line of OpenSSH";
    let certificate = first.ok_or_else(|| ParseError::new(none))?;
    let (facts, spki) = (x509::facts(&certificate)?, x509::public_key(&certificate)?);
    let own = look(&spki);
    Ok(KeyLook {
        made: Some(facts.validity.not_before),
        wrapped: Some(Wrapped { fingerprint: facts.fingerprint, ends: facts.validity.not_after }),
        weak: own.weak.or_else(|| x509::old_digest(&certificate).map(|name| format!("is signed with {name}"))),
        ..own
    })
}

fn look(spki: &[u8]) -> KeyLook {
    let weak = strength(spki).err().map(|weakness| weakness.to_string());
    KeyLook { print: Print::Spki(Digest::of(spki)), made: None, wrapped: None, weak }
}

/// The key of the first line that is one; `None` if the text is none of OpenSSH.
fn ssh_line(text: &[u8]) -> Option<Result<Vec<u8>, ParseError>> {
    let text = core::str::from_utf8(text).ok()?;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?;
    let mut words = line.split_ascii_whitespace();
    let kind = words.next().filter(|kind| KINDS.contains(kind))?;
    let blob = words.next().and_then(|blob| STANDARD.decode(blob).ok());
    let spki = blob.and_then(|blob| ssh_key(kind, &blob));
    Some(spki.ok_or_else(|| ParseError(format!("holds a damaged key of the kind {kind}"))))
}

const KINDS: [&str; 4] = ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ssh-rsa"];

fn ssh_key(kind: &str, blob: &[u8]) -> Option<Vec<u8>> {
    let mut left = blob;
    if string(&mut left)? != kind.as_bytes() {
        return None;
    }
    let spki = match kind {
        "ssh-ed25519" => info(alg_id::ED25519.as_ref(), string(&mut left)?),
        "ecdsa-sha2-nistp256" | "ecdsa-sha2-nistp384" => {
            let curve = string(&mut left)?;
            let id = if curve == b"nistp256" { alg_id::ECDSA_P256 } else { alg_id::ECDSA_P384 };
            if !kind.as_bytes().ends_with(curve) {
                return None;
            }
            info(id.as_ref(), string(&mut left)?)
        }
        _ => {
            let (exponent, modulus) = (string(&mut left)?, string(&mut left)?);
            let mut key = Writer::default();
            key.sequence(|w| {
                w.element(der::INTEGER, modulus);
                w.element(der::INTEGER, exponent);
            });
            info(alg_id::RSA_ENCRYPTION.as_ref(), &key.into_bytes())
        }
    };
    left.is_empty().then_some(spki)
}

fn info(kind: &[u8], key: &[u8]) -> Vec<u8> {
    let mut w = Writer::default();
    w.sequence(|w| {
        w.sequence(|w| w.raw(kind));
        w.whole_bits(key);
    });
    w.into_bytes()
}

/// A string with its length before it (RFC 4251 section 5).
fn string<'a>(left: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = left.split_first_chunk::<4>()?;
    let (value, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    *left = rest;
    Some(value)
}

#[cfg(test)]
mod tests {
    use rcgen::PublicKeyData as _;

    use super::*;

    #[test]
    fn one_key_is_the_same_as_pem_as_a_certificate_and_as_an_openssh_line() {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let spki = key.subject_public_key_info();
        let print = Print::Spki(Digest::of(&spki));
        let mut blob = Vec::new();
        for part in [&b"ecdsa-sha2-nistp256"[..], b"nistp256", key.public_key_raw()] {
            blob.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
            blob.extend(part);
        }
        let line = format!("# the CA\necdsa-sha2-nistp256 {} ca@host\n", STANDARD.encode(blob));
        for text in [key.public_key_pem(), certificate.pem(), line] {
            let found = read(text.as_bytes()).unwrap();
            assert_eq!((found.print, found.weak), (print, None), "{text}");
        }
        assert!(read(certificate.pem().as_bytes()).unwrap().wrapped.is_some());
    }

    #[test]
    fn what_is_no_key_is_said_to_be_none() {
        for text in ["", "hello", "ssh-ed25519 AAAA", "ssh-rsa !!", "ssh-dss AAAA", "-----BEGIN PUBLIC KEY-----\n"] {
            assert!(read(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(read(&vec![b'a'; LONGEST + 1]).is_err());
    }
}
