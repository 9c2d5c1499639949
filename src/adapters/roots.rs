//! Reading roots: the operating system's, and bundles named in the configuration.
//!
//! Both the key store and the prober are handed the result, shared.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::codec::verify::Roots;
use crate::codec::x509::Limits;
use crate::ports::HostError;

static SYSTEM: OnceLock<Arc<Roots>> = OnceLock::new();

/// The operating system's roots, read on first use and then shared (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured).
/// What there does not parse is left out: it can then only be missing, never trusted. Blocks for some milliseconds.
#[must_use]
pub fn system() -> Arc<Roots> {
    let load = || {
        let mut roots = Roots::default();
        for der in rustls_native_certs::load_native_certs().certs.iter().take(Limits::ROOTS.certificates) {
            if let Err(error) = roots.add(der) {
                tracing::debug!(%error, "a system root was left out");
            }
        }
        Arc::new(roots)
    };
    Arc::clone(SYSTEM.get_or_init(load))
}

/// Roots from bundle files, all of which must be readable, whole and not empty.
///
/// # Errors
/// Names the first file that is not, and what is wrong with it.
pub fn bundles<P: AsRef<Path>>(paths: &[P]) -> Result<Roots, HostError> {
    use std::io::Read as _;
    let mut roots = Roots::default();
    for path in paths {
        let path: PathBuf = path.as_ref().to_owned();
        let most = u64::try_from(Limits::ROOTS.bytes).unwrap_or(u64::MAX);
        let mut bytes = Vec::new();
        std::fs::File::open(&path)
            .and_then(|file| file.take(most.saturating_add(1)).read_to_end(&mut bytes))
            .map_err(|error| HostError(format!("cannot read the roots in {}: {error}", path.display())))?;
        let own = Roots::from_bundle(&bytes)
            .map_err(|error| HostError(format!("the roots in {} cannot be used: it {error}", path.display())))?;
        roots.extend(&own);
    }
    Ok(roots)
}
