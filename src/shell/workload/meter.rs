//! Counters of the Workload API for Prometheus.

use prometheus::core::Collector;
use prometheus::{Error, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// The series.
#[derive(Clone, Debug)]
pub(super) struct WorkloadMeter {
    pub(super) connections: IntGauge,
    pub(super) certificates: IntGauge,
    pub(super) nacks: IntCounter,
    pub(super) pushed: IntCounter,
    calls: IntGaugeVec,
    issued: IntCounterVec,
    refused: IntCounterVec,
}

impl WorkloadMeter {
    /// Makes and registers every family.
    pub(super) fn new(registry: &Registry) -> Result<Self, Error> {
        let counters = |name: &str, help: &str, label: &str| {
            register(registry, IntCounterVec::new(Opts::new(name, help), &[label])?)
        };
        let calls = Opts::new("keyward_workload_calls", "Calls of the Workload API that are open, by service.");
        let own = Self {
            connections: register(
                registry,
                IntGauge::new("keyward_workload_connections", "Connections to the Workload API.")?,
            )?,
            certificates: register(
                registry,
                IntGauge::new("keyward_workload_certificates", "Workloads that have a certificate now.")?,
            )?,
            nacks: register(
                registry,
                IntCounter::new("keyward_workload_nacks_total", "Secrets that an Envoy refused.")?,
            )?,
            pushed: register(
                registry,
                IntCounter::new("keyward_workload_answers_total", "Answers with certificates, bundles or secrets.")?,
            )?,
            calls: register(registry, IntGaugeVec::new(calls, &["service"])?)?,
            issued: counters("keyward_workload_issued_total", "Certificates for workloads, by result.", "result")?,
            refused: counters("keyward_workload_refused_total", "Calls that were ended, by code.", "code")?,
        };
        // All there from the start.
        for service in ["spiffe", "envoy"] {
            own.calls.with_label_values(&[service]);
        }
        for result in ["success", "failure"] {
            own.issued.with_label_values(&[result]);
        }
        Ok(own)
    }

    pub(super) fn calls(&self, service: &'static str) -> IntGauge {
        self.calls.with_label_values(&[service])
    }

    pub(super) fn issued(&self, result: &'static str) {
        self.issued.with_label_values(&[result]).inc();
    }

    pub(super) fn refused(&self, code: &'static str) {
        self.refused.with_label_values(&[code]).inc();
    }
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C, Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
