//! Whether a public key is one that anybody should have (as Boulder's goodkey judges): known sizes, points on their curves,
//! and none of the faults by which private keys were found from public ones.
//!
//! Refuses to know the private half, and which keys are blocked.

use aws_lc_rs::signature as sig;
use rustls::pki_types::alg_id;
use x509_parser::num_bigint::BigUint;

use crate::codec::der::{self, Reader};
use crate::domain::key::KeyAlgorithm;

/// Why a key is refused: the end of a sentence that begins with the key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Weakness {
    /// No SubjectPublicKeyInfo.
    #[error("is no well-formed SubjectPublicKeyInfo")]
    Malformed,
    /// Another algorithm or curve, or a compressed point.
    #[error("is of a kind that is not supported; expected p256, p384, ed25519 or RSA")]
    Unsupported,
    /// Another size.
    #[error("has an RSA modulus of {0} bits; expected 2048, 3072 or 4096")]
    Modulus(usize),
    /// Small exponents meet bad padding, large ones only cost time.
    #[error("has another RSA exponent than 65537")]
    Exponent,
    /// A modulus has two large factors.
    #[error("has an RSA modulus that {0} divides; make a new key with another generator")]
    SmallFactor(u32),
    /// CVE-2017-15361: factors of a form that is found in days.
    #[error("was made by a chip whose keys can be factored (ROCA, CVE-2017-15361); make a new key elsewhere")]
    Roca,
    /// Factors so near to each other that a handful of steps finds them (CVE-2022-26320).
    #[error("has RSA factors so close together that Fermat's method finds them; make a new key with another generator")]
    CloseFactors,
    /// Not on the curve.
    #[error("is no point of its curve")]
    OffCurve,
    /// A point that everybody knows the private half of.
    #[error("is a point of small order, for which anybody can sign")]
    SmallOrder,
}

/// The kind of a key (DER SubjectPublicKeyInfo), by its form alone.
///
/// # Errors
/// [`Weakness::Malformed`], [`Weakness::Unsupported`] or [`Weakness::Modulus`].
pub fn algorithm(spki: &[u8]) -> Result<KeyAlgorithm, Weakness> {
    Key::read(spki).map(|(algorithm, _)| algorithm)
}

/// The kind of a key that nothing is wrong with. An RSA key takes some milliseconds.
///
/// # Errors
/// The first [`Weakness`] found.
pub fn strength(spki: &[u8]) -> Result<KeyAlgorithm, Weakness> {
    let (algorithm, key) = Key::read(spki)?;
    match key {
        Key::P256(point) => on_curve(&sig::ECDSA_P256_SHA256_ASN1, point)?,
        Key::P384(point) => on_curve(&sig::ECDSA_P384_SHA384_ASN1, point)?,
        Key::Ed25519(point) => edwards_point(point)?,
        Key::Rsa { modulus, exponent } => rsa(modulus, exponent)?,
    }
    Ok(algorithm)
}

/// A key taken apart.
enum Key<'a> {
    P256(&'a [u8]),
    P384(&'a [u8]),
    Ed25519(&'a [u8; 32]),
    Rsa { modulus: &'a [u8], exponent: &'a [u8] },
}

impl<'a> Key<'a> {
    fn read(spki: &'a [u8]) -> Result<(KeyAlgorithm, Self), Weakness> {
        let (kind, bits) = parts(spki).ok_or(Weakness::Malformed)?;
        let uncompressed = |size: usize| bits.first() == Some(&4) && bits.len() == size;
        if kind == alg_id::ECDSA_P256.as_ref() && uncompressed(65) {
            Ok((KeyAlgorithm::P256, Self::P256(bits)))
        } else if kind == alg_id::ECDSA_P384.as_ref() && uncompressed(97) {
            Ok((KeyAlgorithm::P384, Self::P384(bits)))
        } else if kind == alg_id::ED25519.as_ref() {
            let point = bits.try_into().map_err(|_| Weakness::Malformed)?;
            Ok((KeyAlgorithm::Ed25519, Self::Ed25519(point)))
        } else if kind == alg_id::RSA_ENCRYPTION.as_ref() {
            let (modulus, exponent) = rsa_parts(bits).ok_or(Weakness::Malformed)?;
            let zeros = modulus.first().map_or(0, |first| first.leading_zeros());
            let bits = modulus.len().saturating_mul(8).saturating_sub(usize::try_from(zeros).unwrap_or(0));
            let algorithm = match bits {
                2_048 => KeyAlgorithm::Rsa2048,
                3_072 => KeyAlgorithm::Rsa3072,
                4_096 => KeyAlgorithm::Rsa4096,
                other => return Err(Weakness::Modulus(other)),
            };
            Ok((algorithm, Self::Rsa { modulus, exponent }))
        } else {
            Err(Weakness::Unsupported)
        }
    }
}

/// The contents of the AlgorithmIdentifier, and the key.
pub(super) fn parts(spki: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut info = Reader::inside(spki, der::SEQUENCE)?;
    let kind = info.expect(der::SEQUENCE)?;
    let bits = info.whole_bits()?;
    info.end()?;
    Some((kind, bits))
}

/// Modulus and exponent without their signs (RFC 8017 section A.1.1).
fn rsa_parts(bits: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut key = Reader::inside(bits, der::SEQUENCE)?;
    let modulus = positive(key.expect(der::INTEGER)?)?;
    let exponent = positive(key.expect(der::INTEGER)?)?;
    key.end()?;
    Some((modulus, exponent))
}

fn positive(bytes: &[u8]) -> Option<&[u8]> {
    match bytes {
        [0, rest @ ..] if rest.first().is_some_and(|first| first & 0x80 != 0) => Some(rest),
        [first, ..] if (1..0x80).contains(first) => Some(bytes),
        _ => None,
    }
}

/// The library reads a point only if both its coordinates are below the prime and it lies on the curve.
fn on_curve(curve: &'static sig::EcdsaVerificationAlgorithm, point: &[u8]) -> Result<(), Weakness> {
    sig::ParsedPublicKey::new(curve, point).map(|_| ()).map_err(|_| Weakness::OffCurve)
}

/// A point of edwards25519 (RFC 8032 section 5.1.3): its y is below p, it lies on the curve, and its order is not 1, 2, 4 or 8.
///
/// With d = -121665/121666, x² = (y² - 1)/(d·y² + 1) must be a square: Euler's criterion, over a common denominator.
fn edwards_point(bytes: &[u8; 32]) -> Result<(), Weakness> {
    let number = |n: u32| BigUint::from(n);
    let p = (number(1) << 255_u32) - number(19);
    let mut y = *bytes;
    if let Some(top) = y.last_mut() {
        // The sign of x.
        *top &= 0x7f;
    }
    let y = BigUint::from_bytes_le(&y);
    if y >= p {
        return Err(Weakness::OffCurve);
    }
    let minus = |a: BigUint, b: BigUint| (a + &p - b % &p) % &p;
    let square = &y * &y % &p;
    let u = minus(square.clone(), number(1));
    // The doubled point has y = 0, so it has order 4, where d·y⁴ + 2y² - 1 = 0.
    let fourth = &square * &square % &p;
    let eighth = minus(number(121_666) * (number(2) * &square + &p - number(1)) % &p, number(121_665) * fourth);
    let zero = BigUint::default();
    if y == zero || u == zero || eighth == zero {
        return Err(Weakness::SmallOrder);
    }
    let v = minus(number(121_666), number(121_665) * square);
    let x_square = number(121_666) * u * v % &p;
    let half = (&p - number(1)) / number(2);
    if x_square.modpow(&half, &p) == number(1) { Ok(()) } else { Err(Weakness::OffCurve) }
}

/// 65537.
const EXPONENT: &[u8] = &[1, 0, 1];
/// Small factors are looked for below this, as Boulder does: trial division beyond finds next to nothing.
const SMALL: u32 = 752;
/// ROCA moduli are powers of 65537 modulo each prime up to 167 (the smallest of their generators' products).
const ROCA: u32 = 167;
/// Rounds of Fermat's method, as Boulder does: found keys needed one to four.
const ROUNDS: u32 = 100;

fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<(), Weakness> {
    if exponent != EXPONENT {
        return Err(Weakness::Exponent);
    }
    if let Some(factor) = primes(SMALL).find(|prime| remainder(modulus, *prime) == 0) {
        return Err(Weakness::SmallFactor(factor));
    }
    if primes(ROCA).skip(1).all(|prime| is_power(remainder(modulus, prime), prime)) {
        return Err(Weakness::Roca);
    }
    if is_product_of_close(&BigUint::from_bytes_be(modulus)) { Err(Weakness::CloseFactors) } else { Ok(()) }
}

fn primes(most: u32) -> impl Iterator<Item = u32> {
    (2..=most).filter(|n| (2..*n).take_while(|d| d.saturating_mul(*d) <= *n).all(|d| n % d != 0))
}

fn remainder(number: &[u8], by: u32) -> u32 {
    number.iter().fold(0_u32, |left, byte| ((left << 8) | u32::from(*byte)) % by)
}

/// Whether this is a power of 65537 modulo the prime.
fn is_power(of: u32, prime: u32) -> bool {
    let step = 65_537 % prime;
    // The powers come round to 1 before there are as many as the prime.
    let powers = core::iter::successors(Some(1_u32), |power| Some(power * step % prime));
    powers.take(usize::try_from(prime).unwrap_or(0)).any(|power| power == of)
}

/// Whether n = a² - b² for one of the first a above its root: then (a - b) and (a + b) are its factors.
fn is_product_of_close(n: &BigUint) -> bool {
    let mut a = n.sqrt();
    if &a * &a < *n {
        a += 1_u32;
    }
    let mut b_square = &a * &a - n;
    for _ in 0..ROUNDS {
        if is_square(&b_square) {
            return true;
        }
        // (a + 1)² - n.
        b_square += (&a << 1_u32) + 1_u32;
        a += 1_u32;
    }
    false
}

/// Most numbers are no square modulo one of these already, and the root is dear.
const SIEVES: [u32; 4] = [64, 63, 65, 11];

fn is_square(n: &BigUint) -> bool {
    let small = |n: BigUint| n.iter_u32_digits().next().unwrap_or(0);
    // 64 · 63 · 65 · 11, so that one division is enough.
    let left = small(n % 2_882_880_u32);
    let maybe = SIEVES.iter().all(|sieve| (0..*sieve).any(|root| root * root % sieve == left % sieve));
    maybe && {
        let root = n.sqrt();
        &root * &root == *n
    }
}

#[cfg(test)]
mod tests {
    use rcgen::PublicKeyData as _;

    use super::*;

    fn spki(kind: &[u8], bits: &[u8]) -> Vec<u8> {
        let mut w = super::super::Writer::default();
        w.sequence(|w| {
            w.sequence(|w| w.raw(kind));
            w.whole_bits(bits);
        });
        w.into_bytes()
    }

    fn rsa_key(modulus: &BigUint, exponent: u64) -> Vec<u8> {
        let mut w = super::super::Writer::default();
        w.sequence(|w| {
            let mut bytes = modulus.to_bytes_be();
            if bytes[0] & 0x80 != 0 {
                bytes.insert(0, 0);
            }
            w.element(der::INTEGER, &bytes);
            w.unsigned(exponent);
        });
        spki(alg_id::RSA_ENCRYPTION.as_ref(), &w.into_bytes())
    }

    fn good_modulus(bits: rcgen::RsaKeySize) -> BigUint {
        let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, bits).unwrap();
        let spki = key.subject_public_key_info();
        let (_, bits) = parts(&spki).unwrap();
        BigUint::from_bytes_be(rsa_parts(bits).unwrap().0)
    }

    fn is_prime(n: &BigUint) -> bool {
        // Fermat's little theorem is enough for random numbers of a test.
        primes(SMALL).all(|p| n % p != BigUint::default())
            && [2_u32, 3, 5, 7].iter().all(|base| BigUint::from(*base).modpow(&(n - 1_u32), n) == BigUint::from(1_u32))
    }

    fn next_prime(mut n: BigUint) -> BigUint {
        n |= BigUint::from(1_u32);
        while !is_prime(&n) {
            n += 2_u32;
        }
        n
    }

    fn random(bits: usize, seed: u64) -> BigUint {
        use crate::domain::key::Digest;
        let bytes: Vec<u8> =
            (0_u64..).flat_map(|i| Digest::of(format!("{seed}/{i}").as_bytes()).0).take(bits / 8).collect();
        // The highest two bits are set, so that a product of two has all its bits.
        BigUint::from_bytes_be(&bytes) | (BigUint::from(3_u32) << (bits - 2))
    }

    #[test]
    fn keys_that_are_made_today_are_good() {
        for (alg, expected) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, KeyAlgorithm::P256),
            (&rcgen::PKCS_ECDSA_P384_SHA384, KeyAlgorithm::P384),
            (&rcgen::PKCS_ED25519, KeyAlgorithm::Ed25519),
        ] {
            for _ in 0..8 {
                let key = rcgen::KeyPair::generate_for(alg).unwrap();
                assert_eq!(strength(&key.subject_public_key_info()), Ok(expected));
            }
        }
        for (size, expected) in
            [(rcgen::RsaKeySize::_2048, KeyAlgorithm::Rsa2048), (rcgen::RsaKeySize::_3072, KeyAlgorithm::Rsa3072)]
        {
            let modulus = good_modulus(size);
            assert_eq!(strength(&rsa_key(&modulus, 65_537)), Ok(expected));
            assert_eq!(strength(&rsa_key(&modulus, 3)), Err(Weakness::Exponent));
            assert_eq!(strength(&rsa_key(&modulus, 65_539)), Err(Weakness::Exponent));
        }
        // P-521 is not made and not taken.
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
        assert_eq!(strength(&other.subject_public_key_info()), Err(Weakness::Unsupported));
    }

    #[test]
    fn an_rsa_key_has_one_of_three_sizes() {
        for bits in [512, 1_024, 2_040, 2_056, 3_064, 8_192] {
            assert_eq!(strength(&rsa_key(&random(bits, 1), 65_537)), Err(Weakness::Modulus(bits)));
        }
    }

    #[test]
    fn small_factors_are_found() {
        let good = good_modulus(rcgen::RsaKeySize::_2048);
        for prime in [2_u32, 3, 5, 167, 701, 751] {
            let divisible = &good - (&good % prime);
            let found = strength(&rsa_key(&divisible, 65_537));
            assert!(matches!(found, Err(Weakness::SmallFactor(p)) if p <= prime), "{prime}: {found:?}");
        }
    }

    #[test]
    fn a_modulus_with_the_fingerprint_of_roca_is_refused() {
        // N = k·M + (65537^a mod M), M the product of the primes up to 167, as the chips made them.
        let product: BigUint = primes(ROCA).map(BigUint::from).product();
        let power = BigUint::from(65_537_u32).modpow(&BigUint::from(123_456_789_u32), &product);
        let mut modulus = random(2_048, 7) / &product * &product + power;
        while primes(SMALL).any(|p| &modulus % p == BigUint::default()) {
            modulus += &product;
        }
        assert_eq!(strength(&rsa_key(&modulus, 65_537)), Err(Weakness::Roca));
    }

    #[test]
    fn close_factors_are_found_and_distant_ones_are_not() {
        let p = next_prime(random(1_024, 11));
        let q = next_prime(&p + 2_u32);
        assert_eq!(strength(&rsa_key(&(&p * &q), 65_537)), Err(Weakness::CloseFactors));
        assert_eq!(strength(&rsa_key(&(&p * &p), 65_537)), Err(Weakness::CloseFactors));
        // 500 bits alike, as a generator that counts on from its first prime would make: a few rounds.
        let near = next_prime(&p + (BigUint::from(1_u32) << 500_u32));
        assert_eq!(strength(&rsa_key(&(&p * &near), 65_537)), Err(Weakness::CloseFactors));
        let far = next_prime(random(1_024, 12));
        assert_eq!(strength(&rsa_key(&(&p * &far), 65_537)), Ok(KeyAlgorithm::Rsa2048));
    }

    #[test]
    fn squares_are_told_from_their_neighbours() {
        for root in [0_u64, 1, 2, 3, 63, 64, 65_535, u64::MAX] {
            let square = BigUint::from(root) * BigUint::from(root);
            assert!(is_square(&square), "{root}");
            assert!(!is_square(&(&square + 2_u32)), "{root}");
        }
        // Modulo every sieve a square, and none.
        assert!(!is_square(&BigUint::from(5_765_761_u32 - 1)));
    }

    #[test]
    fn a_point_lies_on_its_curve() {
        for (alg, id) in
            [(&rcgen::PKCS_ECDSA_P256_SHA256, alg_id::ECDSA_P256), (&rcgen::PKCS_ECDSA_P384_SHA384, alg_id::ECDSA_P384)]
        {
            let key = rcgen::KeyPair::generate_for(alg).unwrap();
            let good = key.der_bytes().to_vec();
            let mut off = good.clone();
            *off.last_mut().unwrap() ^= 1;
            assert_eq!(strength(&spki(id.as_ref(), &off)), Err(Weakness::OffCurve));
            let half = (good.len() - 1) / 2;
            let beyond: Vec<u8> = [&[4][..], &vec![0xff; 2 * half]].concat();
            assert_eq!(strength(&spki(id.as_ref(), &beyond)), Err(Weakness::OffCurve));
            let origin: Vec<u8> = [&[4][..], &vec![0; 2 * half]].concat();
            assert_eq!(strength(&spki(id.as_ref(), &origin)), Err(Weakness::OffCurve));
            let compressed = [&[2][..], &good[1..=half]].concat();
            assert_eq!(strength(&spki(id.as_ref(), &compressed)), Err(Weakness::Unsupported));
            assert_eq!(strength(&spki(id.as_ref(), &[0])), Err(Weakness::Unsupported), "infinity");
        }
    }

    #[test]
    fn edwards_points_of_small_order_and_none_at_all_are_refused() {
        let eighth: [u8; 32] = [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
            0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
        ];
        let other: [u8; 32] = [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
            0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
        ];
        let small = |first: u8| [&[first][..], &[0; 31]].concat();
        let below_p = |first: u8| [&[first][..], &[0xff; 30], &[0x7f]].concat();
        for point in [small(0), small(1), below_p(0xec), eighth.to_vec(), other.to_vec()] {
            for sign in [0, 0x80] {
                let mut point = point.clone();
                point[31] |= sign;
                assert_eq!(
                    strength(&spki(alg_id::ED25519.as_ref(), &point)),
                    Err(Weakness::SmallOrder),
                    "{point:02x?}"
                );
            }
        }
        for beyond in [below_p(0xed), below_p(0xee), below_p(0xff)] {
            assert_eq!(strength(&spki(alg_id::ED25519.as_ref(), &beyond)), Err(Weakness::OffCurve));
        }
        assert_eq!(strength(&spki(alg_id::ED25519.as_ref(), &small(2))), Err(Weakness::OffCurve));
        assert_eq!(strength(&spki(alg_id::ED25519.as_ref(), &[1; 31])), Err(Weakness::Malformed));
    }

    #[test]
    fn what_is_no_key_has_no_strength() {
        for bad in [&b""[..], b"\x30\x00", b"\x30\x02\x30\x00"] {
            assert_eq!(algorithm(bad), Err(Weakness::Malformed));
        }
        let negative = [0x30, 6, 2, 1, 0x80, 2, 1, 3];
        assert_eq!(algorithm(&spki(alg_id::RSA_ENCRYPTION.as_ref(), &negative)), Err(Weakness::Malformed));
    }
}
