//! The CA's own keys and certificates, and what it signs: a root, an intermediate and leaves.
//!
//! Refuses to know accounts and orders: it signs a public key and names that somebody else approved.

use core::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::CaError;
use crate::domain::certificate::CertId;
use crate::domain::key::Digest;
use crate::domain::name::{Name, NameSet};
use crate::domain::time::{Timestamp, Validity};
use crate::ports::Entropy;

/// A root with an intermediate below it.
pub(super) struct Pki {
    pub(super) root_pem: String,
    intermediate_pem: String,
    root: Issuer<'static, KeyPair>,
    intermediate: Issuer<'static, KeyPair>,
    intermediate_key_id: Vec<u8>,
    root_validity: Validity,
    intermediate_validity: Validity,
}

/// What was issued.
#[derive(Clone, Debug)]
pub(super) struct Issued {
    /// Empty where it is kept elsewhere.
    pub(super) chain_pem: String,
    pub(super) fingerprint: Digest,
    pub(super) cert_id: CertId,
    pub(super) serial: String,
    pub(super) spki: Digest,
    pub(super) names: NameSet,
    pub(super) validity: Validity,
}

/// What to sign.
pub(super) struct Leaf<'a> {
    /// DER of the SubjectPublicKeyInfo.
    pub(super) spki: &'a [u8],
    pub(super) names: &'a NameSet,
    pub(super) validity: Validity,
}

fn failed(what: &'static str) -> impl Fn(rcgen::Error) -> CaError {
    move |e| CaError::Pki(format!("{what}: {e}"))
}

impl Pki {
    /// Makes the keys and certificates of a new CA, valid from `now` less `backdate`.
    pub(super) fn new(
        name: &str,
        now: Timestamp,
        backdate: Duration,
        lifetime: Duration,
        entropy: &dyn Entropy,
    ) -> Result<Self, CaError> {
        let not_before = now.minus(backdate);
        let root_validity = Validity { not_before, not_after: now.plus(lifetime) };
        let intermediate_validity = Validity { not_before, not_after: now.plus(lifetime / 2) };
        // A name of its own for every generation: webpki finds issuers by name, so two CAs of one name are mixed up.
        let mut generation = [0_u8; 4];
        entropy.fill(&mut generation);
        let generation = u32::from_be_bytes(generation);
        let ca = |role: &str, validity: &Validity, constraint| {
            let mut params = base(validity, entropy);
            params.distinguished_name.push(DnType::OrganizationName, "Keyward");
            params.distinguished_name.push(DnType::CommonName, format!("{name} {role} {generation:08x}"));
            params.is_ca = IsCa::Ca(constraint);
            params.key_usages =
                vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
            params
        };
        let key = || KeyPair::generate().map_err(failed("a CA key cannot be made"));

        let (root_key, params) = (key()?, ca("Root", &root_validity, BasicConstraints::Unconstrained));
        let root_pem = params.self_signed(&root_key).map_err(failed("the root cannot be signed"))?.pem();
        let root = Issuer::new(params, root_key);

        let (key, params) = (key()?, ca("Intermediate", &intermediate_validity, BasicConstraints::Constrained(0)));
        let intermediate_key_id = params.key_identifier(&key);
        let signed = params.signed_by(&key, &root).map_err(failed("the intermediate cannot be signed"))?;
        let intermediate_pem = signed.pem();
        let intermediate = Issuer::new(params, key);
        Ok(Self {
            root_pem,
            intermediate_pem,
            root,
            intermediate,
            intermediate_key_id,
            root_validity,
            intermediate_validity,
        })
    }

    /// A key and a certificate from the root for the CA's own listener.
    pub(super) fn server_identity(
        &self,
        hosts: &[Name],
        entropy: &dyn Entropy,
    ) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), CaError> {
        let mut params = base(&self.root_validity, entropy);
        params.subject_alt_names = sans(hosts.iter())?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().map_err(failed("the listener's key cannot be made"))?;
        let signed =
            params.signed_by(&key, &self.root).map_err(failed("the listener's certificate cannot be signed"))?;
        Ok((signed.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into()))
    }

    /// Signs a leaf; it never outlives the CAs above it.
    pub(super) fn issue(&self, leaf: &Leaf<'_>, entropy: &dyn Entropy) -> Result<Issued, CaError> {
        let key = SubjectPublicKeyInfo::from_der(leaf.spki).map_err(failed("the public key cannot be read"))?;
        let above = self.root_validity.not_after.min(self.intermediate_validity.not_after);
        let validity = Validity { not_before: leaf.validity.not_before, not_after: leaf.validity.not_after.min(above) };
        let mut params = base(&validity, entropy);
        params.subject_alt_names = sans(leaf.names.iter())?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if *key.algorithm() == rcgen::PKCS_RSA_SHA256 {
            params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let serial = params.serial_number.as_ref().map(SerialNumber::to_bytes).unwrap_or_default();
        let signed = params.signed_by(&key, &self.intermediate).map_err(failed("the leaf cannot be signed"))?;
        Ok(Issued {
            chain_pem: format!("{}{}", signed.pem(), self.intermediate_pem),
            fingerprint: Digest::of(signed.der()),
            cert_id: cert_id(&self.intermediate_key_id, &serial),
            serial: serial.iter().map(|b| format!("{b:02x}")).collect(),
            spki: Digest::of(leaf.spki),
            names: leaf.names.clone(),
            validity,
        })
    }
}

fn sans<'a>(names: impl Iterator<Item = &'a Name>) -> Result<Vec<SanType>, CaError> {
    let san = |name: &Name| match name {
        Name::Dns(dns) => Ok(SanType::DnsName(dns.to_string().try_into()?)),
        Name::Ip(ip) => Ok(SanType::IpAddress(*ip)),
    };
    names.map(san).collect::<Result<_, rcgen::Error>>().map_err(failed("a name cannot be encoded"))
}

/// base64url(AKI) `.` base64url(serial) (RFC 9773 section 4.1).
fn cert_id(key_id: &[u8], serial: &[u8]) -> CertId {
    CertId(format!("{}.{}", B64.encode(key_id), B64.encode(serial)).into())
}

/// What all certificates share: dates, a random serial number, key identifiers.
pub(in crate::shell) fn base(validity: &Validity, entropy: &dyn Entropy) -> CertificateParams {
    let mut serial = [0_u8; 20];
    entropy.fill(&mut serial);
    // Positive, and without a leading zero byte that DER would drop: 158 random bits (RFC 5280 section 4.1.2.2).
    if let Some(first) = serial.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    // Times before 1970 do not occur in what this CA signs; they count as 1970.
    let date =
        |at: Timestamp| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(at.unix()).unwrap_or(0));
    let mut params = CertificateParams::default();
    params.not_before = date(validity.not_before);
    params.not_after = date(validity.not_after);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = DistinguishedName::new();
    params.use_authority_key_identifier_extension = true;
    params
}

/// A public key of its own, of which nobody has the private half: for [`super::Fault::WrongKey`].
pub(super) fn stray_spki() -> Result<Vec<u8>, CaError> {
    let key = KeyPair::generate().map_err(failed("a key cannot be made"))?;
    Ok(key.subject_public_key_info())
}
