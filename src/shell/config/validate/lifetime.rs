//! What is known of a CA's profiles before anything was issued: lifetimes and the most names.

use core::time::Duration;

use crate::domain::time::DAY;

/// A profile of a CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Profile {
    pub(super) name: &'static str,
    pub(super) lifetime: Duration,
    pub(super) most_names: usize,
    /// Whether it takes IP addresses.
    pub(super) addresses: bool,
}

/// Let's Encrypt's profiles. Classic counts with its 64 days from 2027-02-10 on, not with the 90 of before: a schedule
/// that only fits 90 days would break in the middle of its use.
pub(super) const LETS_ENCRYPT: [Profile; 3] = [
    Profile { name: "classic", lifetime: Duration::from_secs(64 * 86_400), most_names: 100, addresses: false },
    Profile { name: "tlsserver", lifetime: Duration::from_secs(45 * 86_400), most_names: 25, addresses: false },
    Profile { name: "shortlived", lifetime: Duration::from_secs(160 * 3_600), most_names: 25, addresses: true },
];

/// What an order without a profile gets.
pub(super) const LETS_ENCRYPT_DEFAULT: &str = "classic";

/// Whether a directory is Let's Encrypt's, production or staging.
pub(super) fn is_lets_encrypt(directory: &url::Url) -> bool {
    directory.host_str().is_some_and(|h| h == "letsencrypt.org" || h.ends_with(".letsencrypt.org"))
}

/// The share of the lifetime after which a renewal is due if neither CA nor configuration says otherwise: 2/3, or 1/2
/// when the lifetime is under 10 days.
pub(super) fn fallback_permille(lifetime: Duration) -> u16 {
    if lifetime < DAY.saturating_mul(10) { 500 } else { 667 }
}

/// What is left of a lifetime when a renewal is due.
pub(super) fn left_at_renewal(lifetime: Duration, renew_at: Option<u16>) -> Duration {
    let spent = renew_at.unwrap_or_else(|| fallback_permille(lifetime));
    share(lifetime, 1_000_u16.saturating_sub(spent))
}

/// So many thousandths of a lifetime.
pub(super) fn share(lifetime: Duration, permille: u16) -> Duration {
    Duration::from_secs(lifetime.as_secs().saturating_mul(u64::from(permille)) / 1_000)
}
