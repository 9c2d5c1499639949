//! The published client for Rust (crates.io `spiffe`): it takes its certificate and the bundle, and follows a rotation.

use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use spiffe::{TrustDomain, X509Source};

use super::{House, PATIENCE, WEB, workload};

/// Whether what the source has now leads from its certificate to its bundle, and the key is that of the certificate. Gives the
/// leaf and the number of anchors.
fn taken(source: &X509Source) -> (Vec<u8>, usize) {
    let svid = source.svid().unwrap();
    assert_eq!(svid.spiffe_id().to_string(), WEB);
    let chain: Vec<CertificateDer<'static>> =
        svid.cert_chain().iter().map(|c| CertificateDer::from(c.as_bytes().to_vec())).collect();
    let bundle = source.try_bundle_for_trust_domain(&TrustDomain::new("mesh.example").unwrap()).unwrap();
    let mut roots = RootCertStore::empty();
    bundle.authorities().iter().for_each(|root| roots.add(root.as_bytes().to_vec().into()).unwrap());
    let anchors = roots.len();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    verifier.verify_client_cert(&chain[0], &chain[1..], UnixTime::now()).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(svid.private_key().as_bytes().to_vec()));
    rustls::sign::CertifiedKey::from_der(chain.clone(), key, &provider).unwrap().keys_match().unwrap();
    (chain[0].to_vec(), anchors)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_for_rust_has_its_certificate_and_follows_a_rotation() {
    // It is this program.
    let own = std::env::current_exe().unwrap().canonicalize().unwrap();
    let selector = format!("unix:path:{}", own.display());
    let house = tokio::task::block_in_place(|| House::new(&workload(WEB, &["unix:uid:0", &selector], "")));
    let endpoint = format!("unix://{}", house.socket().display());
    let source = tokio::time::timeout(PATIENCE, X509Source::builder().endpoint(endpoint).build());
    let source = source.await.expect("it is not served").unwrap();
    let (leaf, anchors) = taken(&source);
    assert_eq!(anchors, 1);
    let mut updates = source.updated();
    // Times are whole seconds, and an order as old as the CA itself is none about what came of it.
    tokio::time::sleep(Duration::from_secs(2)).await;
    tokio::task::block_in_place(|| drop(house.mesh.run(&["ca", "rotate", "mesh"])));
    let began = std::time::Instant::now();
    // The bundle with both roots comes first, and then a leaf of the new one.
    while taken(&source).1 != 2 || taken(&source).0 == leaf {
        assert!(began.elapsed() < PATIENCE, "it did not follow: {} anchors", taken(&source).1);
        drop(tokio::time::timeout(Duration::from_millis(500), updates.changed()).await);
    }
    source.shutdown().await;
}
