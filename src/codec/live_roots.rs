//! Roots that change while others verify with them: those of private CAs come and go.

use core::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::codec::verify::Roots;

/// Shared roots, swapped as a whole: whoever verifies sees those from before or those from after. Cheap to clone.
#[derive(Clone)]
pub struct LiveRoots(Arc<ArcSwap<Roots>>);

impl LiveRoots {
    /// The roots as they are now.
    #[must_use]
    pub fn now(&self) -> Arc<Roots> {
        self.0.load_full()
    }

    /// From now on these.
    pub fn set(&self, roots: Roots) {
        self.0.store(Arc::new(roots));
    }
}

impl From<Arc<Roots>> for LiveRoots {
    fn from(roots: Arc<Roots>) -> Self {
        Self(Arc::new(ArcSwap::new(roots)))
    }
}

impl From<Roots> for LiveRoots {
    fn from(roots: Roots) -> Self {
        Arc::new(roots).into()
    }
}

impl fmt::Debug for LiveRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LiveRoots({})", self.now().len())
    }
}
