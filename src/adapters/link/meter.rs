//! Counters of links for Prometheus, with the link's id as their only name.

use core::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Error, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::domain::id::LinkId;
use crate::domain::link::Reason;

/// The series of all links.
#[derive(Clone, Debug)]
pub struct LinkMeter {
    connections: IntGaugeVec,
    open: IntGaugeVec,
    ready: IntGaugeVec,
    ends: IntGaugeVec,
    accepted: IntCounterVec,
    refused: IntCounterVec,
    cut: IntCounterVec,
    bytes: IntCounterVec,
    swaps: HistogramVec,
}

const RECEIVED: &str = "received";
const SENT: &str = "sent";

impl LinkMeter {
    /// Makes and registers every family.
    ///
    /// # Errors
    /// If a family of the same name is there.
    pub fn new(registry: &Registry) -> Result<Self, Error> {
        let gauge = |name: &str, help: &str| register(registry, IntGaugeVec::new(Opts::new(name, help), &["link"])?);
        let counter = |name: &str, help: &str, labels: &[&str]| {
            register(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        Ok(Self {
            connections: gauge("keyward_link_connections", "Connections of a link, those that shake hands included.")?,
            open: gauge("keyward_link_open", "1 while the path that guards the link is open.")?,
            ready: gauge("keyward_link_ready", "1 while the link's certificate, roots and lists can be used.")?,
            ends: gauge(
                "keyward_link_not_after_timestamp_seconds",
                "End of the certificate that the link proves itself with; 0 if it has none.",
            )?,
            accepted: counter("keyward_link_accepted_total", "Connections that were let through.", &["link"])?,
            refused: counter("keyward_link_refused_total", "Connections that were not.", &["link", "reason"])?,
            cut: counter("keyward_link_cut_total", "Live connections that were cut.", &["link"])?,
            swaps: register(
                registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "keyward_link_trust_effect_seconds",
                        "From a change of roots, lists or peers until every live peer was judged by it.",
                    )
                    .buckets(vec![0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0]),
                    &["link"],
                )?,
            )?,
            bytes: counter(
                "keyward_link_bytes_total",
                "Bytes from whoever connected (received) and to them (sent), without TLS.",
                &["link", "direction"],
            )?,
        })
    }

    /// The series of one link, all there from the start.
    pub(super) fn of(&self, link: &LinkId) -> Series {
        let id = link.as_str();
        let refused =
            Reason::ALL.iter().map(|(r, name, _)| (*r, self.refused.with_label_values(&[id, name]))).collect();
        Series {
            connections: self.connections.with_label_values(&[id]),
            open: self.open.with_label_values(&[id]),
            ready: self.ready.with_label_values(&[id]),
            ends: self.ends.with_label_values(&[id]),
            accepted: self.accepted.with_label_values(&[id]),
            cut: self.cut.with_label_values(&[id]),
            received: self.bytes.with_label_values(&[id, RECEIVED]),
            sent: self.bytes.with_label_values(&[id, SENT]),
            swaps: self.swaps.with_label_values(&[id]),
            refused,
        }
    }

    /// A link that is gone leaves no series behind.
    pub(super) fn forget(&self, link: &LinkId) {
        let id = link.as_str();
        for family in [&self.connections, &self.open, &self.ready, &self.ends] {
            // What is not there need not go.
            drop(family.remove_label_values(&[id]));
        }
        for family in [&self.accepted, &self.cut] {
            drop(family.remove_label_values(&[id]));
        }
        drop(self.swaps.remove_label_values(&[id]));
        for direction in [RECEIVED, SENT] {
            drop(self.bytes.remove_label_values(&[id, direction]));
        }
        for (_, name, _) in Reason::ALL {
            drop(self.refused.remove_label_values(&[id, name]));
        }
    }
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C, Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

/// The series of one link.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) connections: IntGauge,
    pub(super) open: IntGauge,
    pub(super) ready: IntGauge,
    pub(super) ends: IntGauge,
    pub(super) accepted: IntCounter,
    pub(super) cut: IntCounter,
    pub(super) received: IntCounter,
    pub(super) sent: IntCounter,
    swaps: Histogram,
    refused: Vec<(Reason, IntCounter)>,
}

impl Series {
    pub(super) fn refused(&self) -> impl Iterator<Item = (Reason, &IntCounter)> {
        self.refused.iter().map(|(reason, counter)| (*reason, counter))
    }

    /// A change of trust is in force, so long after it was made.
    pub(super) fn swapped(&self, took: Duration) {
        self.swaps.observe(took.as_secs_f64());
    }

    pub(super) fn refuse(&self, reason: Reason) {
        self.refused().filter(|(r, _)| *r == reason).for_each(|(_, counter)| counter.inc());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::TextEncoder;

    #[test]
    fn every_reason_is_a_series_from_the_start_and_none_is_left_at_the_end() {
        let registry = Registry::new();
        let meter = LinkMeter::new(&registry).unwrap();
        let id = LinkId::parse("portal").unwrap();
        let series = meter.of(&id);
        series.refuse(Reason::Name);
        let text = || TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert!(text().contains("keyward_link_refused_total{link=\"portal\",reason=\"name\"} 1\n"), "{}", text());
        assert!(text().contains("keyward_link_refused_total{link=\"portal\",reason=\"revoked\"} 0\n"));
        meter.forget(&id);
        assert!(!text().contains("portal"), "{}", text());
    }
}
