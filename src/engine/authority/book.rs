//! Who may change the register of issued certificates at the same time.

use core::sync::atomic::{AtomicUsize, Ordering};

use futures_util::lock::{Mutex, MutexGuard};

/// Issuances that go on side by side; more wait for one another.
const PAGES: usize = 256;

/// The register as a book: whoever issues writes on a page of its own, and whoever revokes takes the whole book, because
/// what is issued meanwhile for the same key must not be missed, nor a revocation be written over.
#[derive(Debug)]
pub(super) struct Book {
    first: Mutex<()>,
    more: [Mutex<()>; PAGES - 1],
    next: AtomicUsize,
}

impl Default for Book {
    fn default() -> Self {
        let (first, more) = (Mutex::new(()), core::array::from_fn(|_| Mutex::new(())));
        Self { first, more, next: AtomicUsize::new(0) }
    }
}

impl Book {
    /// A page for one issuance, to be locked while it reads and writes what it knows of its certificate.
    pub(super) fn page(&self) -> &Mutex<()> {
        // In turn, so that two share one only if as many are under way as there are pages.
        let at = self.next.fetch_add(1, Ordering::Relaxed).checked_rem(PAGES).unwrap_or(0);
        self.more.get(at).unwrap_or(&self.first)
    }

    /// All pages; nobody writes meanwhile.
    pub(super) async fn whole(&self) -> Vec<MutexGuard<'_, ()>> {
        let mut all = Vec::with_capacity(PAGES);
        // Always in this order, so that two who want it never wait for each other.
        for page in core::iter::once(&self.first).chain(&self.more) {
            all.push(page.lock().await);
        }
        all
    }
}
