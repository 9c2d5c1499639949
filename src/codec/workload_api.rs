//! The SPIFFE Workload API (SPIFFE Workload API specification, `workload.proto`): what is asked, what is answered.
//!
//! Field numbers are those of the published file. Refuses to know how frames travel and who may have what.

use std::collections::BTreeMap;
use std::sync::Arc;

use zeroize::{Zeroize as _, Zeroizing};

use crate::codec::grpc;

/// Where the service's methods are.
pub const SERVICE: &str = "/SpiffeWorkloadAPI/";
/// Requests carry this field with the value `true`, so that no web page or proxy ever makes one by accident (section 6 of
/// the Workload Endpoint specification).
pub const SECURITY_FIELD: &str = "workload.spiffe.io";

/// The methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `FetchX509SVID`: certificates, keys and bundles, again whenever something of it changes.
    Svids,
    /// `FetchX509Bundles`: bundles, again whenever one changes.
    Bundles,
    /// Methods for tokens: not offered.
    Tokens,
}

impl Method {
    /// By the rest of the path after [`SERVICE`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "FetchX509SVID" => Some(Self::Svids),
            "FetchX509Bundles" => Some(Self::Bundles),
            "FetchJWTSVID" | "FetchJWTBundles" | "ValidateJWTSVID" => Some(Self::Tokens),
            _ => None,
        }
    }
}

/// One identity with its key.
#[derive(Clone, Copy, Debug)]
pub struct Svid<'a> {
    /// The SPIFFE ID.
    pub id: &'a str,
    /// The leaf and its issuers without the root (DER).
    pub chain: &'a [Arc<[u8]>],
    /// The private key (PKCS#8, DER).
    pub key: &'a [u8],
    /// The anchors of its own trust domain (DER).
    pub bundle: &'a [Arc<[u8]>],
}

/// The frame of an `X509SVIDResponse`.
#[must_use]
pub fn svids(svids: &[Svid<'_>], lists: &[Arc<[u8]>]) -> Zeroizing<Vec<u8>> {
    let svid = |s: &Svid<'_>| X509Svid {
        spiffe_id: s.id.to_owned(),
        x509_svid: s.chain.concat(),
        x509_svid_key: s.key.to_vec(),
        bundle: s.bundle.concat(),
    };
    let crl = lists.iter().map(|list| list.to_vec()).collect();
    grpc::frame(&X509SvidResponse { svids: svids.iter().map(svid).collect(), crl })
}

/// The frame of an `X509BundlesResponse`; bundles by their trust domains as SPIFFE IDs.
#[must_use]
pub fn bundles(bundles: &BTreeMap<String, Vec<Arc<[u8]>>>, lists: &[Arc<[u8]>]) -> Zeroizing<Vec<u8>> {
    let bundles = bundles.iter().map(|(domain, anchors)| (domain.clone(), anchors.concat())).collect();
    grpc::frame(&X509BundlesResponse { crl: lists.iter().map(|list| list.to_vec()).collect(), bundles })
}

#[derive(Clone, PartialEq, prost::Message)]
struct X509SvidResponse {
    #[prost(message, repeated, tag = "1")]
    svids: Vec<X509Svid>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    crl: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
struct X509Svid {
    #[prost(string, tag = "1")]
    spiffe_id: String,
    #[prost(bytes = "vec", tag = "2")]
    x509_svid: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    x509_svid_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    bundle: Vec<u8>,
}

impl Drop for X509Svid {
    fn drop(&mut self) {
        self.x509_svid_key.zeroize();
    }
}

impl core::fmt::Debug for X509Svid {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "X509Svid({})", self.spiffe_id)
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct X509BundlesResponse {
    #[prost(bytes = "vec", repeated, tag = "1")]
    crl: Vec<Vec<u8>>,
    #[prost(btree_map = "string, bytes", tag = "2")]
    bundles: BTreeMap<String, Vec<u8>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_the_bytes_of_the_published_file() {
        let der = |bytes: &[u8]| Arc::<[u8]>::from(bytes);
        let chain = [der(b"leaf"), der(b"ca")];
        let svid = Svid { id: "spiffe://a/b", chain: &chain, key: b"key", bundle: &[der(b"root")] };
        let inner = [&b"\x0a\x0cspiffe://a/b"[..], b"\x12\x06leafca", b"\x1a\x03key", b"\x22\x04root"].concat();
        let expected = [&[0, 0, 0, 0, 40, 0x0a, 33][..], &inner, b"\x12\x03crl"].concat();
        assert_eq!(*svids(&[svid], &[der(b"crl")]), expected);
        let map = [("spiffe://a".to_owned(), vec![der(b"r1"), der(b"r2")])].into();
        let entry = b"\x0a\x0aspiffe://a\x12\x04r1r2";
        let expected = [&[0, 0, 0, 0, 20, 0x12, 18][..], entry].concat();
        assert_eq!(*bundles(&map, &[]), expected);
    }

    #[test]
    fn methods_are_known_by_their_exact_names() {
        assert_eq!(Method::parse("FetchX509SVID"), Some(Method::Svids));
        assert_eq!(Method::parse("ValidateJWTSVID"), Some(Method::Tokens));
        assert_eq!(Method::parse("fetchx509svid"), None);
    }
}
