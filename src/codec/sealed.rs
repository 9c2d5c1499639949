//! Private keys under a passphrase: PKCS#8 EncryptedPrivateKeyInfo (RFC 5958) with PBES2 (RFC 8018), scrypt (RFC 7914) and
//! AES-256-CBC, as PEM: `openssl pkcs8 -in FILE` reads them.
//!
//! The cipher does not tell a changed file from the right one: whoever opens a key checks that it is the one that he meant.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::der::Encode as _;
use pkcs8::der::asn1::OctetStringRef;
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::Parameters;
use pkcs8::pkcs5::scrypt::Params;
use zeroize::Zeroizing;

use super::{ParseError, pem};

/// What a sealed file has at most, in bytes: an RSA key of 4,096 bits has some 3,500.
pub const LARGEST: usize = 16 * 1_024;
/// 2^14: with blocks of 1 KiB 16 MiB, as much as OpenSSL takes by default.
const LOG_N: u8 = 14;
/// Blocks of 8 · 128 bytes.
const R: u32 = 8;
/// Five times over: N = 2^14 is too fast to try by itself.
const P: u32 = 5;
const BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";

/// What makes each sealing another one: 32 random bytes, a salt and an initialization vector.
#[derive(Clone, Copy, Debug)]
pub struct Randomness(pub [u8; 32]);

/// Seals a secret; PEM.
///
/// # Errors
/// If the library fails.
pub fn seal(secret: &[u8], passphrase: &[u8], random: Randomness) -> Result<Zeroizing<String>, ParseError> {
    sealed(secret, passphrase, random).ok_or_else(|| ParseError::new("the key could not be encrypted"))
}

fn sealed(secret: &[u8], passphrase: &[u8], random: Randomness) -> Option<Zeroizing<String>> {
    let (salt, rest) = random.0.split_first_chunk::<16>()?;
    let iv = *rest.first_chunk::<16>()?;
    let cost = Params::new(LOG_N, R, P).ok()?;
    let parameters = Parameters::generate_scrypt_aes256cbc(cost, salt, iv).ok()?;
    let encrypted = parameters.encrypt(passphrase, secret).ok()?;
    let encrypted_data = OctetStringRef::new(&encrypted).ok()?;
    let info = EncryptedPrivateKeyInfoRef { encryption_algorithm: EncryptionScheme::from(parameters), encrypted_data };
    Some(pem::encrypted_key(&info.to_der().ok()?))
}

/// Opens what [`seal`] made.
///
/// # Errors
/// If it is damaged, or the passphrase is another; never holds any of either.
pub fn open(text: &str, passphrase: &[u8]) -> Result<Zeroizing<Vec<u8>>, ParseError> {
    let der = body(text).ok_or_else(|| ParseError::new("is no PEM block ENCRYPTED PRIVATE KEY"))?;
    let info = EncryptedPrivateKeyInfoRef::try_from(&*der)
        .map_err(|_| ParseError::new("is no EncryptedPrivateKeyInfo (RFC 5958)"))?;
    check_cost(&info.encryption_algorithm)?;
    let opened = info.encryption_algorithm.decrypt(passphrase, info.encrypted_data.as_bytes());
    opened.map(Zeroizing::new).map_err(|_| ParseError::new("does not open with this passphrase"))
}

/// A file must not ask for more memory and time than [`seal`] does.
fn check_cost(scheme: &EncryptionScheme) -> Result<(), ParseError> {
    let scrypt = scheme.pbes2().and_then(|parameters| parameters.kdf.scrypt());
    let fits = scrypt.is_some_and(|s| {
        let least = 1_u64 << LOG_N;
        s.cost_parameter == least && u32::from(s.block_size) == R && u32::from(s.parallelization) == P
    });
    if fits { Ok(()) } else { Err(ParseError::new("is not encrypted by scrypt with the parameters of this vault")) }
}

fn body(text: &str) -> Option<Vec<u8>> {
    let lines = text.trim_ascii().strip_prefix(BEGIN)?.strip_suffix(END)?;
    if text.len() > LARGEST {
        return None;
    }
    let digits: String = lines.split_ascii_whitespace().collect();
    STANDARD.decode(digits).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_its_passphrase_alone() {
        let sealed = seal(b"a private key", b"correct horse", Randomness([7; 32])).unwrap();
        assert!(sealed.starts_with(BEGIN) && !sealed.contains("private key\n"));
        assert_eq!(&**open(&sealed, b"correct horse").unwrap(), b"a private key");
        // One in 256 wrong passphrases meets a padding that could be one: this one does not.
        let wrong = open(&sealed, b"another horse").unwrap_err();
        assert!(wrong.to_string().contains("does not open"), "{wrong}");
        for bad in ["", "x", &sealed[..90], &sealed.replace("ENCRYPTED ", "")] {
            assert!(open(bad, b"correct horse").is_err(), "{bad}");
        }
    }
}
