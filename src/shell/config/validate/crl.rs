//! `[crl]`: revocation lists that are fetched from where certificates say.

use core::ops::RangeInclusive;
use core::time::Duration;

use super::scalar;
use crate::codec::network::Network;
use crate::domain::inventory::LISTS_EVERY;
use crate::domain::time::DAY;
use crate::shell::config::diagnostic::{Problems, quoted};
use crate::shell::config::raw::{Section, Wrong, understood};

/// More often than each ten seconds no CA has anything new; a list that is older than a day says nothing of today.
const REFRESH: RangeInclusive<Duration> = Duration::from_secs(10)..=DAY;
/// Networks of one's own; a site with more names the block that they are in.
const MOST_NETWORKS: usize = 64;

/// What the table says.
pub(super) struct Crl {
    pub(super) refresh: Duration,
    pub(super) allow: Vec<Network>,
}

pub(super) fn read(p: &mut Problems, root: &mut Section<'_>) -> Crl {
    let mut crl = Crl { refresh: LISTS_EVERY, allow: Vec::new() };
    let Some(mut s) = root.section(p, "crl", "[crl]") else { return crl };
    if let Some(span) = s.parsed(p, "refresh", "\"6h\"", |t| scalar::duration(t, REFRESH)) {
        crl.refresh = span.value;
    }
    if let Some(list) = s.texts(p, "allow", MOST_NETWORKS, "[\"10.20.0.0/16\"]") {
        let networks = list.value.into_iter().filter_map(|text| understood(p, "allow", text, network));
        crl.allow = networks.map(|network| network.value).collect();
    }
    s.close(p);
    crl
}

fn network(text: &str) -> Result<Network, Wrong> {
    let mend = "write a network, or one address: \"10.20.0.0/16\", \"fd12:3456::/32\", \"192.168.1.5\"";
    Network::parse(text).map_err(|why| Wrong::new("KW0020", format!("holds no network: {}: {why}", quoted(text)), mend))
}
