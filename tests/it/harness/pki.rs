//! A small CA for tests: roots, intermediates and leaves with any fault on request, and openssl beside it.

use std::path::Path;
use std::process::{Command, Output};

use keyward::codec::verify::Roots;
use keyward::domain::time::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SerialNumber, date_time_ymd,
};
use rustls::pki_types::CertificateDer;

pub type Der = CertificateDer<'static>;

/// Inside the validity of everything that is made here without a wish of its own.
pub fn now() -> Timestamp {
    Timestamp::parse("2030-06-01T00:00:00Z").unwrap()
}

pub struct Ca {
    pub params: CertificateParams,
    pub key: KeyPair,
    pub der: Der,
}

pub fn nothing(_: &mut CertificateParams) {}

fn serial() -> SerialNumber {
    let mut bytes = [0_u8; 20];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    bytes[0] = bytes[0] & 0x7f | 1;
    SerialNumber::from_slice(&bytes)
}

fn base(cn: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if let Some(cn) = cn {
        params.distinguished_name.push(DnType::CommonName, cn);
    }
    (params.not_before, params.not_after) = (date_time_ymd(2025, 1, 1), date_time_ymd(2040, 1, 1));
    params.serial_number = Some(serial());
    params.use_authority_key_identifier_extension = true;
    params
}

fn ca_params(cn: &str) -> CertificateParams {
    let mut params = base(Some(cn));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

pub fn leaf_params(names: &[&str]) -> CertificateParams {
    let mut params = base(None);
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    params.subject_alt_names = CertificateParams::new(names).unwrap().subject_alt_names;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

impl Ca {
    pub fn root(cn: &str, edit: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = ca_params(cn);
        edit(&mut params);
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { params, key, der }
    }

    /// An intermediate below this CA.
    pub fn below(&self, cn: &str, edit: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = ca_params(cn);
        edit(&mut params);
        let key = KeyPair::generate().unwrap();
        let der = self.sign(&params, &key);
        Self { params, key, der }
    }

    pub fn sign(&self, params: &CertificateParams, key: &impl PublicKeyData) -> Der {
        params.signed_by(key, &Issuer::from_params(&self.params, &self.key)).unwrap().der().clone()
    }

    pub fn leaf(&self, names: &[&str], edit: impl FnOnce(&mut CertificateParams)) -> (Der, KeyPair) {
        let mut params = leaf_params(names);
        edit(&mut params);
        let key = KeyPair::generate().unwrap();
        (self.sign(&params, &key), key)
    }
}

pub fn roots(ders: &[&Der]) -> Roots {
    let mut roots = Roots::default();
    ders.iter().for_each(|der| roots.add(der).unwrap());
    roots
}

/// Runs openssl in a directory; it must be installed and succeed.
pub fn openssl(dir: &Path, args: &[&str]) -> String {
    let Output { status, stdout, stderr } =
        Command::new("openssl").args(args).current_dir(dir).output().expect("openssl is missing: run tests/run");
    let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "openssl {args:?}: {text}");
    text
}
