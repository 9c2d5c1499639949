//! Nonces: each is good once (RFC 8555 section 6.5).

use std::collections::{BTreeSet, VecDeque};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;

use crate::ports::Entropy;

/// The unused nonces; beyond `most` the oldest is forgotten, and its holder gets `badNonce`.
pub(super) struct Nonces {
    unused: BTreeSet<[u8; 16]>,
    order: VecDeque<[u8; 16]>,
    most: usize,
}

impl Nonces {
    pub(super) fn new(most: usize) -> Self {
        Self { unused: BTreeSet::new(), order: VecDeque::new(), most: most.max(1) }
    }

    pub(super) fn issue(&mut self, entropy: &dyn Entropy) -> String {
        let mut nonce = [0_u8; 16];
        entropy.fill(&mut nonce);
        while self.order.len() >= self.most {
            if let Some(oldest) = self.order.pop_front() {
                self.unused.remove(&oldest);
            }
        }
        self.order.push_back(nonce);
        self.unused.insert(nonce);
        B64.encode(nonce)
    }

    /// Whether `text` is unused; it is used now.
    pub(super) fn spend(&mut self, text: &str) -> bool {
        let bytes = B64.decode(text).ok().and_then(|b| <[u8; 16]>::try_from(b).ok());
        bytes.is_some_and(|nonce| self.unused.remove(&nonce))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicU8, Ordering};

    struct Counting(AtomicU8);

    impl Entropy for Counting {
        fn fill(&self, out: &mut [u8]) {
            out.fill(self.0.fetch_add(1, Ordering::Relaxed));
        }
    }

    #[test]
    fn a_nonce_is_good_once_and_the_oldest_is_forgotten() {
        let (mut nonces, entropy) = (Nonces::new(2), Counting(AtomicU8::new(0)));
        let first = nonces.issue(&entropy);
        let second = nonces.issue(&entropy);
        assert!(nonces.spend(&second) && !nonces.spend(&second), "good once");
        let third = nonces.issue(&entropy);
        assert!(!nonces.spend(&first), "forgotten");
        assert!(nonces.spend(&third) && !nonces.spend("AA") && !nonces.spend("%"));
    }
}
