//! tls-alpn-01 (RFC 8737): the handshake that proves control, and the certificate that it shows.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{Oid, asn1_rs::oid};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::problem::Problem;
use super::validate::{connection, wrong};
use crate::domain::key::Digest;
use crate::domain::name::Name;

const PROTOCOL: &[u8] = b"acme-tls/1";

/// id-pe-acmeIdentifier (RFC 8737 section 6.1).
const ACME_IDENTIFIER: Oid<'static> = oid!(1.3.6.1.5.5.7.1.31);

/// TLS to whoever is there, for redirects to https: like Boulder, it believes any certificate, because what is fetched
/// proves itself.
pub(super) async fn any_tls(stream: TcpStream, host: &str) -> Result<TlsStream<TcpStream>, Problem> {
    let server = ServerName::try_from(host.to_owned()).map_err(|e| connection(format!("{host}: {e}")))?;
    let connecting = TlsConnector::from(Arc::new(any_certificate(b"http/1.1")?)).connect(server, stream);
    connecting.await.map_err(|e| Problem::new(http::StatusCode::BAD_REQUEST, "tls", format!("{host}: {e}")))
}

fn any_certificate(protocol: &[u8]) -> Result<ClientConfig, Problem> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = AnyCertificate(provider.signature_verification_algorithms);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Problem::internal(format!("TLS cannot be set up: {e}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(config)
}

pub(super) async fn tls_alpn(
    (to, stream): (SocketAddr, TcpStream),
    name: &Name,
    key_authorization: &str,
) -> Result<(), Problem> {
    let config = any_certificate(PROTOCOL)?;
    let sni = server_name(name);
    let server = ServerName::try_from(sni.clone()).map_err(|e| connection(format!("{sni}: {e}")))?;
    let tls = TlsConnector::from(Arc::new(config)).connect(server, stream).await;
    let tls = tls.map_err(|e| Problem::new(http::StatusCode::BAD_REQUEST, "tls", format!("{to}: {e}")))?;
    let (_, session) = tls.get_ref();
    if session.alpn_protocol() != Some(PROTOCOL) {
        return Err(wrong(format!("{to} did not agree to the protocol acme-tls/1")));
    }
    match session.peer_certificates() {
        Some([only]) => check(only, name, key_authorization).map_err(|why| wrong(format!("{to} for {name}: {why}"))),
        certificates => {
            let count = certificates.map_or(0, <[_]>::len);
            Err(wrong(format!("{to} for {name}: {count} certificates, expected one")))
        }
    }
}

/// The name that is asked for: for an address its name in the reverse zone (RFC 8738 section 6).
fn server_name(name: &Name) -> String {
    match name {
        Name::Dns(dns) => dns.to_string(),
        Name::Ip(IpAddr::V4(ip)) => {
            let labels: Vec<String> = ip.octets().iter().rev().map(u8::to_string).collect();
            format!("{}.in-addr.arpa", labels.join("."))
        }
        Name::Ip(IpAddr::V6(ip)) => {
            let nibbles = ip.octets().into_iter().rev().flat_map(|b| [b & 15, b >> 4]);
            let labels: Vec<String> = nibbles.map(|n| format!("{n:x}")).collect();
            format!("{}.ip6.arpa", labels.join("."))
        }
    }
}

/// Whether the certificate is for this name alone and holds the digest (RFC 8737 section 3).
fn check(certificate: &CertificateDer<'_>, name: &Name, key_authorization: &str) -> Result<(), String> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|e| format!("no certificate: {e}"))?;
    let mut names = Vec::new();
    let mut digest = None;
    for extension in certificate.extensions() {
        if let ParsedExtension::SubjectAlternativeName(san) = extension.parsed_extension() {
            names.extend(&san.general_names);
        }
        if extension.oid == ACME_IDENTIFIER {
            if !extension.critical {
                return Err("the acmeIdentifier extension is not critical".to_owned());
            }
            digest = Some(extension.value);
        }
    }
    let matches = |san: &GeneralName<'_>| match name {
        Name::Dns(dns) => matches!(san, GeneralName::DNSName(text) if text.eq_ignore_ascii_case(dns)),
        Name::Ip(IpAddr::V4(ip)) => matches!(san, GeneralName::IPAddress(bytes) if **bytes == ip.octets()),
        Name::Ip(IpAddr::V6(ip)) => matches!(san, GeneralName::IPAddress(bytes) if **bytes == ip.octets()),
    };
    if names.len() != 1 || !names.iter().copied().all(matches) {
        return Err(format!("the subject alternative names are {names:?}, expected {name} alone"));
    }
    // An OCTET STRING of 32 bytes in DER.
    let expected = [&[0x04, 0x20], &Digest::of(key_authorization.as_bytes()).0[..]].concat();
    match digest {
        Some(digest) if digest == expected => Ok(()),
        Some(_) => Err("the acmeIdentifier extension holds another digest".to_owned()),
        None => Err("there is no acmeIdentifier extension".to_owned()),
    }
}

/// Takes any certificate, as RFC 8737 wants, but not a handshake that its key did not sign. webpki would refuse the
/// certificate for its critical extension, so the signature is checked with the bare key.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let spki = spki(certificate)?;
        let key = webpki::RawPublicKeyEntity::try_from(&spki).map_err(|_| bad())?;
        let algorithms = self.0.mapping.iter().filter(|(scheme, _)| *scheme == signed.scheme);
        let mut algorithms = algorithms.flat_map(|(_, algorithms)| algorithms.iter());
        if algorithms.any(|a| key.verify_signature(*a, message, signed.signature()).is_ok()) {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::BadSignature))
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature_with_raw_key(message, &spki(certificate)?, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

fn spki(certificate: &CertificateDer<'_>) -> Result<SubjectPublicKeyInfoDer<'static>, Error> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| bad())?;
    Ok(SubjectPublicKeyInfoDer::from(certificate.public_key().raw.to_vec()))
}

fn bad() -> Error {
    Error::InvalidCertificate(CertificateError::BadEncoding)
}
