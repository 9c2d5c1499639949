//! From a certificate request to a certificate (RFC 8555 section 7.4), and what faults make of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use http::StatusCode;
use http::header::{LOCATION, RETRY_AFTER};
use serde::Deserialize;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;

use super::CaError;
use super::answer::{Answer, Content};
use super::book::{Certificate, Stage};
use super::fault::{Fault, Strike};
use super::pki::{Issued, Leaf, stray_spki};
use super::problem::Problem;
use super::server::{Ca, Signed, lock};
use super::stats::CertificateRecord;
use crate::domain::name::{Name, NameSet};
use crate::domain::time::{DAY, HOUR, Validity};
use crate::ports::OrderStatus;

#[derive(Deserialize)]
struct Finalize {
    csr: String,
}

impl Ca {
    pub(super) fn finalize(self: &Arc<Self>, id: &str, signed: &Signed) -> Result<Answer, Problem> {
        let asked: Finalize = signed.payload()?;
        let now = self.clock.now();
        let (number, names) = {
            let mut book = self.book();
            let number = self.own_order(&book, id, signed)?;
            if signed.strike.has(&Fault::OrderInvalid)
                && let Some(order) = book.orders.get_mut(&number)
            {
                let why = Problem::unauthorized("the order is invalid because the scenario says so");
                order.stage = Stage::Invalid(Some(why));
            }
            let order = book.orders.get(&number).ok_or_else(|| Problem::not_found("the order is gone"))?;
            let status = book.status(order, now);
            if status != OrderStatus::Ready {
                let text = format!("the order is {status:?}, finalize needs it to be ready");
                return Err(Problem::new(StatusCode::FORBIDDEN, "orderNotReady", text));
            }
            (number, order.names.clone())
        };
        // Outside of the lock: this is where the time goes.
        let der = B64.decode(&asked.csr).map_err(|e| Problem::malformed(format!("the csr is no base64url: {e}")))?;
        let spki = check_csr(&der, &names)?;
        let delayed = !self.config.issue_delay.is_zero();
        let stuck = signed.strike.has(&Fault::StuckProcessing);
        {
            let mut book = self.book();
            let order = book.orders.get_mut(&number).ok_or_else(|| Problem::not_found("the order is gone"))?;
            if !matches!(order.stage, Stage::Open) {
                let text = "the order was finalized by another request";
                return Err(Problem::new(StatusCode::FORBIDDEN, "orderNotReady", text));
            }
            order.stage = Stage::Processing { spki, stuck };
        }
        if delayed && !stuck {
            let (ca, strike) = (self.clone(), signed.strike.clone());
            let mut tasks = lock(&self.tasks);
            while tasks.try_join_next().is_some() {}
            tasks.spawn(async move {
                ca.clock.sleep(ca.config.issue_delay).await;
                ca.issue(number, &strike);
            });
        } else if !stuck {
            self.issue(number, &signed.strike);
        }
        let book = self.book();
        let order = book.orders.get(&number).ok_or_else(|| Problem::not_found("the order is gone"))?;
        let answer = Answer::json(self.order_json(&book, order, now)).with(LOCATION, self.url("order", number));
        let busy = book.status(order, now) == OrderStatus::Processing;
        Ok(if busy { answer.with(RETRY_AFTER, "1") } else { answer })
    }

    /// Signs for an order in processing; afterwards it is valid, or invalid with the reason.
    pub(super) fn issue(&self, number: u64, strike: &Strike) {
        let now = self.clock.now();
        let found =
            self.book().orders.get(&number).map(|o| (o.account, o.names.clone(), o.profile.clone(), o.stage.clone()));
        let Some((account, names, profile, Stage::Processing { spki, .. })) = found else { return };
        let issued = self.sign(&spki, &names, profile.as_deref(), strike);
        let mut book = self.book();
        let stage = match issued {
            Ok(issued) => {
                let record = CertificateRecord {
                    account: self.url("account", account),
                    order: self.url("order", number),
                    names: issued.names.clone(),
                    spki: issued.spki,
                    serial: issued.serial.clone(),
                    cert_id: issued.cert_id.clone(),
                    validity: issued.validity,
                    at: now,
                };
                let certificate = Certificate { account, issued, revoked: None, replaced_by: None, ari: None };
                let certificate = book.add_certificate(certificate);
                self.stats().certificates.push(record);
                Stage::Valid { certificate }
            }
            Err(why) => Stage::Invalid(Some(Problem::internal(why.to_string()))),
        };
        if let Some(order) = book.orders.get_mut(&number) {
            order.stage = stage;
        }
    }

    fn sign(&self, spki: &[u8], names: &NameSet, profile: Option<&str>, strike: &Strike) -> Result<Issued, CaError> {
        let now = self.clock.now();
        let profile = self.profile(profile).map_err(|p| CaError::Pki(p.detail.clone()))?;
        let stray = if strike.has(&Fault::WrongKey) { Some(stray_spki()?) } else { None };
        let wrong = strike.has(&Fault::WrongNames).then(|| NameSet::new(Name::parse("wrong-name.example")));
        let validity = if strike.has(&Fault::ExpiredCert) {
            Validity { not_before: now.minus(DAY), not_after: now.minus(HOUR) }
        } else {
            Validity { not_before: now.minus(self.config.backdate), not_after: now.plus(profile.lifetime) }
        };
        let pki = if strike.has(&Fault::ForeignChain) { &self.foreign } else { &self.pki };
        let leaf = Leaf { spki: stray.as_deref().unwrap_or(spki), names: wrong.as_ref().unwrap_or(names), validity };
        pki.issue(&leaf, &*self.entropy)
    }

    pub(super) fn certificate(&self, id: &str, signed: &Signed) -> Result<Answer, Problem> {
        let own = signed.account()?;
        let book = self.book();
        let certificate = self.number(id).and_then(|n| book.certificates.get(&n));
        let certificate = certificate.ok_or_else(|| Problem::not_found(format!("there is no certificate {id:?}")))?;
        if certificate.account != own {
            return Err(Problem::unauthorized("the certificate belongs to another account"));
        }
        Ok(Answer::new(StatusCode::OK, Content::Pem(certificate.issued.chain_pem.clone())))
    }
}

/// Checks that the request is signed with its own key, that the key is one that is taken, and that it names exactly what
/// was ordered; returns the public key (DER). Nothing else of it is used.
fn check_csr(der: &[u8], ordered: &NameSet) -> Result<Vec<u8>, Problem> {
    let (rest, csr) = X509CertificationRequest::from_der(der)
        .map_err(|e| Problem::bad_csr(format!("the certificate request cannot be parsed: {e}")))?;
    if !rest.is_empty() {
        return Err(Problem::bad_csr("bytes follow the certificate request"));
    }
    let info = &csr.certification_request_info;
    check_key(&info.subject_pki)?;
    csr.verify_signature()
        .map_err(|_| Problem::bad_csr("the certificate request is not signed with its own key, or not readably"))?;
    let bad = |text: &str| Problem::bad_csr(format!("the certificate request names {text:?}, which is no name"));
    let mut asked = BTreeSet::new();
    for cn in info.subject.iter_common_name() {
        let text = cn.as_str().map_err(|_| Problem::bad_csr("the common name is no text"))?;
        asked.insert(Name::parse(text).map_err(|_| bad(text))?);
    }
    for extension in csr.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(san) = extension else { continue };
        for general in &san.general_names {
            asked.insert(name(general)?);
        }
    }
    let asked = NameSet::new(asked);
    if asked == *ordered {
        Ok(info.subject_pki.raw.to_vec())
    } else {
        Err(Problem::bad_csr(format!("the certificate request names {asked}, the order {ordered}")))
    }
}

fn name(general: &GeneralName<'_>) -> Result<Name, Problem> {
    if let GeneralName::DNSName(text) = general {
        return match Name::parse(text) {
            Ok(name @ Name::Dns(_)) => Ok(name),
            Ok(Name::Ip(_)) | Err(_) => Err(Problem::bad_csr(format!("{text:?} is no DNS name"))),
        };
    }
    if let GeneralName::IPAddress(bytes) = general {
        let v4 = <[u8; 4]>::try_from(*bytes).map(std::net::IpAddr::from);
        let v6 = <[u8; 16]>::try_from(*bytes).map(std::net::IpAddr::from);
        return v4.or(v6).map(Name::Ip).map_err(|_| Problem::bad_csr("an address has neither 4 nor 16 bytes"));
    }
    Err(Problem::bad_csr("the certificate request has a subject alternative name that is neither DNS name nor address"))
}

/// P-256, P-384, Ed25519 and RSA of 2048 to 4096 bits are taken.
fn check_key(spki: &x509_parser::x509::SubjectPublicKeyInfo<'_>) -> Result<(), Problem> {
    use x509_parser::public_key::PublicKey;
    let refuse = |text: String| Err(Problem::new(StatusCode::BAD_REQUEST, "badPublicKey", text));
    if rcgen::SubjectPublicKeyInfo::from_der(spki.raw).is_err() {
        return refuse("the public key is of a kind or on a curve that is not taken".to_owned());
    }
    match spki.parsed() {
        Ok(PublicKey::RSA(rsa)) if (2_048..=4_096).contains(&rsa.key_size()) => Ok(()),
        Ok(PublicKey::RSA(rsa)) => refuse(format!("an RSA key has 2048 to 4096 bits, not {}", rsa.key_size())),
        Ok(PublicKey::EC(point)) if matches!(point.key_size(), 256 | 384) => Ok(()),
        Ok(PublicKey::EC(point)) => {
            refuse(format!("EC keys on P-256 and P-384 are taken, not of {} bits", point.key_size()))
        }
        Ok(PublicKey::Unknown(_)) if spki.algorithm.algorithm == x509_parser::oid_registry::OID_SIG_ED25519 => Ok(()),
        Ok(_) | Err(_) => refuse("keys of this type are not taken; P-256, P-384, Ed25519 and RSA are".to_owned()),
    }
}
