//! To come.
use crate::ports::{Count, Meter};
/// Counts.
#[derive(Debug, Default)]
pub struct PrometheusMeter;
impl PrometheusMeter {
    /// New.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}
impl Meter for PrometheusMeter {
    fn count(&self, _count: Count) {}
}
