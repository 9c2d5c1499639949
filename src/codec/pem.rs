//! PEM (RFC 7468) for certificates and private keys.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use zeroize::Zeroizing;

use crate::codec::ParseError;

/// Base64 digits on a line (RFC 7468 section 2).
const LINE: usize = 64;

/// Certificates as PEM, in the order given.
#[must_use]
pub fn certificates<C: AsRef<[u8]>>(ders: &[C]) -> String {
    ders.iter().map(|der| encode("CERTIFICATE", der.as_ref()).to_string()).collect()
}

/// The revocation lists of a PEM text, in order, with anything around them; at most `most`, and maybe none.
///
/// # Errors
/// A block that does not end or does not decode, or more than `most`.
pub fn lists_in(text: &[u8], most: usize) -> Result<Vec<CertificateRevocationListDer<'static>>, ParseError> {
    use rustls::pki_types::pem::PemObject as _;
    let mut found = Vec::new();
    for list in CertificateRevocationListDer::pem_slice_iter(text) {
        let list = list.map_err(|_| ParseError::new("has a PEM block that is torn or not base64"))?;
        if found.len() >= most {
            return Err(ParseError(format!("holds more than {most} revocation lists")));
        }
        found.push(list);
    }
    Ok(found)
}

/// Revocation lists as PEM (RFC 7468 section 6), in the order given.
#[must_use]
pub fn lists<C: AsRef<[u8]>>(ders: &[C]) -> String {
    ders.iter().map(|der| encode("X509 CRL", der.as_ref()).to_string()).collect()
}

/// A PKCS#8 private key as PEM, wiped when dropped.
#[must_use]
pub fn private_key(pkcs8: &[u8]) -> Zeroizing<String> {
    encode("PRIVATE KEY", pkcs8)
}

/// An EncryptedPrivateKeyInfo (RFC 5958) as PEM.
#[must_use]
pub fn encrypted_key(der: &[u8]) -> Zeroizing<String> {
    encode("ENCRYPTED PRIVATE KEY", der)
}

/// One block. The buffers have their final size from the start, so that no copy of a key stays behind in freed memory.
fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    let digits = der.len().div_ceil(3).saturating_mul(4);
    let mut body = Zeroizing::new(vec![0_u8; digits]);
    let written = STANDARD.encode_slice(der, &mut body).unwrap_or(0);
    let framing = label.len().saturating_add(24).saturating_mul(2);
    let capacity = digits.saturating_add(digits.div_ceil(LINE)).saturating_add(framing);
    let mut out = Zeroizing::new(String::with_capacity(capacity));
    out.push_str("-----BEGIN ");
    out.push_str(label);
    out.push_str("-----\n");
    for line in body.get(..written).unwrap_or_default().chunks(LINE) {
        out.push_str(core::str::from_utf8(line).unwrap_or_default());
        out.push('\n');
    }
    out.push_str("-----END ");
    out.push_str(label);
    out.push_str("-----\n");
    out
}

/// The certificates of a PEM text, in order, with anything around them; at most `most`.
///
/// # Errors
/// A block that does not end or does not decode (a torn file), none at all, or more than `most`.
pub fn certificates_in(text: &[u8], most: usize) -> Result<Vec<CertificateDer<'static>>, ParseError> {
    use rustls::pki_types::pem::{Error, PemObject as _};
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(text) {
        match certificate {
            Ok(_) if found.len() >= most => {
                return Err(ParseError(format!("holds more than {most} certificates")));
            }
            Ok(der) => found.push(der),
            Err(Error::MissingSectionEnd { .. }) => {
                return Err(ParseError::new("has a PEM block without its END line: the file is torn"));
            }
            Err(Error::IllegalSectionStart { .. }) => {
                return Err(ParseError::new("has a damaged PEM BEGIN line"));
            }
            Err(_) => return Err(ParseError::new("has a PEM block that is not base64")),
        }
    }
    if found.is_empty() {
        return Err(ParseError::new("holds no certificate: expected a PEM block CERTIFICATE"));
    }
    Ok(found)
}

/// How a private key is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyForm {
    /// `PRIVATE KEY` (RFC 5958).
    Pkcs8,
    /// `EC PRIVATE KEY` (RFC 5915).
    Sec1,
    /// `RSA PRIVATE KEY` (RFC 8017).
    Pkcs1,
    /// `ENCRYPTED PRIVATE KEY`: cannot be looked into.
    Encrypted,
}

const KEY_LABELS: [(&str, KeyForm); 4] = [
    ("PRIVATE KEY", KeyForm::Pkcs8),
    ("EC PRIVATE KEY", KeyForm::Sec1),
    ("RSA PRIVATE KEY", KeyForm::Pkcs1),
    ("ENCRYPTED PRIVATE KEY", KeyForm::Encrypted),
];

/// A private key's form and DER, wiped when dropped; the DER of an encrypted key is left out.
pub type FoundKey = (KeyForm, Zeroizing<Vec<u8>>);

/// The first private key of a PEM text; `None` if there is none.
///
/// # Errors
/// A key's block that does not end or is not base64. The text never holds any of it.
pub fn private_key_in(text: &[u8]) -> Result<Option<FoundKey>, ParseError> {
    let mut lines = text.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
    let Some((label, form)) = lines.find_map(|line| {
        let label = line.strip_prefix(b"-----BEGIN ")?.strip_suffix(b"-----")?;
        KEY_LABELS.iter().find(|(name, _)| name.as_bytes() == label)
    }) else {
        return Ok(None);
    };
    let mut digits = Zeroizing::new(Vec::with_capacity(text.len()));
    // The old headers of an encrypted block (RFC 1421).
    let mut encrypted = *form == KeyForm::Encrypted;
    for line in lines {
        if let Some(end) = line.strip_prefix(b"-----END ") {
            if end.strip_suffix(b"-----") != Some(label.as_bytes()) {
                return Err(ParseError::new("has a private key whose END line does not match its BEGIN line"));
            }
            if encrypted {
                return Ok(Some((KeyForm::Encrypted, Zeroizing::new(Vec::new()))));
            }
            let mut der = Zeroizing::new(vec![0_u8; base64::decoded_len_estimate(digits.len())]);
            let written = STANDARD
                .decode_slice(digits.as_slice(), &mut der)
                .map_err(|_| ParseError::new("has a private key that is not base64"))?;
            der.truncate(written);
            return Ok(Some((*form, der)));
        }
        encrypted |= line.contains(&b':');
        digits.extend_from_slice(line);
    }
    Err(ParseError::new("has a private key without its END line: the file is torn"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_survives_its_text_whatever_its_length() {
        for length in [0, 1, 47, 48, 49, 96, 1_000] {
            let der = vec![0xa5_u8; length];
            let text = private_key(&der);
            assert!(text.lines().all(|l| l.len() <= LINE));
            assert_eq!(private_key_in(text.as_bytes()), Ok(Some((KeyForm::Pkcs8, Zeroizing::new(der)))));
        }
    }

    #[test]
    fn a_buffer_for_a_key_never_grows() {
        let text = private_key(&[1; 1_193]);
        assert!(text.capacity() >= text.len() && text.capacity() < text.len() + 64);
    }

    #[test]
    fn a_torn_key_is_an_error_that_holds_nothing_of_it() {
        let text = private_key(&[0x5a; 64]);
        let torn = text.replace("-----END PRIVATE KEY-----\n", "");
        let error = private_key_in(torn.as_bytes()).expect_err("torn").0;
        assert!(error.contains("torn") && !error.contains("Wlpa"), "{error}");
        assert!(private_key_in(text.replace("Wlpa", "W!pa").as_bytes()).is_err());
        assert!(private_key_in(text.replace("END PRIVATE", "END EC PRIVATE").as_bytes()).is_err());
    }

    #[test]
    fn an_encrypted_key_is_told_from_a_plain_one() {
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        assert!(matches!(private_key_in(old.as_bytes()), Ok(Some((KeyForm::Encrypted, _)))));
        assert_eq!(private_key_in(b"no key here"), Ok(None));
    }
}
