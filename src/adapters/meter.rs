//! Counts of events for Prometheus. State (what is there, until when) is not kept here: it is read at each scrape.
//!
//! Every label value comes from a bounded set: what a CA writes into a problem document never becomes a series.

use std::sync::Arc;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{Error, Histogram, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use crate::domain::id::PathId;
use crate::ports::{Count, Meter, Tick};

/// The problem types of RFC 8555 section 6.7, RFC 9773 section 7.4, RFC 8739 and the profiles draft.
const PROBLEMS: [&str; 28] = [
    "accountDoesNotExist",
    "alreadyReplaced",
    "alreadyRevoked",
    "autoRenewalCanceled",
    "autoRenewalExpired",
    "autoRenewalRevocationNotSupported",
    "badCSR",
    "badNonce",
    "badPublicKey",
    "badRevocationReason",
    "badSignatureAlgorithm",
    "caa",
    "compound",
    "connection",
    "dns",
    "externalAccountRequired",
    "incorrectResponse",
    "invalidContact",
    "invalidProfile",
    "malformed",
    "orderNotReady",
    "rateLimited",
    "rejectedIdentifier",
    "serverInternal",
    "tls",
    "unauthorized",
    "unsupportedContact",
    "userActionRequired",
];

/// A renewal takes seconds where nothing waits, and hours where DNS or a window does.
const RENEWAL_BUCKETS: [f64; 10] = [1.0, 3.0, 10.0, 30.0, 60.0, 180.0, 600.0, 1_800.0, 7_200.0, 86_400.0];
/// A turn of the loop takes well under a millisecond for a few credentials; the gate closes at fifteen seconds.
const CYCLE_BUCKETS: [f64; 9] = [0.0001, 0.0005, 0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 15.0];
/// A flush takes 0.1 ms to some 10 ms; a commit that takes two seconds counts as failed.
const COMMIT_BUCKETS: [f64; 9] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 2.0];

/// Counters and histograms in a registry of their own.
#[derive(Clone, Debug)]
pub struct PrometheusMeter {
    registry: Registry,
    renewals: IntCounterVec,
    requests: IntCounterVec,
    errors: IntCounterVec,
    renewal: HistogramVec,
    cycle: Histogram,
    commit: Histogram,
    gate: IntCounterVec,
}

impl PrometheusMeter {
    /// Makes and registers every series.
    ///
    /// # Errors
    /// None that a caller could cause: names and labels are fixed here.
    pub fn new() -> Result<Self, Error> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        Ok(Self {
            renewals: counter(
                "keyward_renewals_total",
                "Ended attempts to issue and install, by result: success or the failure's code.",
                &["ca", "trigger", "result"],
            )?,
            requests: counter(
                "keyward_acme_requests_total",
                "Exchanges with a CA by endpoint and HTTP status; 0 means no answer.",
                &["ca", "endpoint", "code"],
            )?,
            errors: counter("keyward_acme_errors_total", "Problem documents from a CA by type.", &["ca", "type"])?,
            gate: counter("keyward_gate_decisions_total", "Answers of the gate.", &["path", "decision"])?,
            renewal: register(
                &registry,
                HistogramVec::new(
                    HistogramOpts::new("keyward_renewal_duration_seconds", "From the intent to the end of an attempt.")
                        .buckets(RENEWAL_BUCKETS.to_vec()),
                    &["ca"],
                )?,
            )?,
            cycle: histogram(
                &registry,
                "keyward_cycle_duration_seconds",
                "One turn of the guardian's loop.",
                &CYCLE_BUCKETS,
            )?,
            commit: histogram(
                &registry,
                "keyward_audit_commit_duration_seconds",
                "One durable commit of state and audit entries.",
                &COMMIT_BUCKETS,
            )?,
            registry,
        })
    }

    /// What the scrape reads.
    #[must_use]
    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C, Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, Error> {
    register(registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?)
}

impl Meter for PrometheusMeter {
    fn count(&self, count: Count) {
        match count {
            Count::Renewal { issuer, trigger, result, took } => {
                self.renewals.with_label_values(&[issuer.as_str(), trigger, result_label(result)]).inc();
                self.renewal.with_label_values(&[issuer.as_str()]).observe(seconds(took));
            }
            Count::Cycle { took } => self.cycle.observe(seconds(took)),
            Count::Commit { took } => self.commit.observe(seconds(took)),
            Count::AcmeRequest { issuer, endpoint, status } => {
                let code = if status < 600 { status.to_string() } else { "other".to_owned() };
                self.requests.with_label_values(&[issuer.as_str(), endpoint, &code]).inc();
            }
            Count::AcmeError { issuer, problem } => {
                let known = PROBLEMS.iter().find(|p| **p == problem).copied();
                self.errors.with_label_values(&[issuer.as_str(), known.unwrap_or("other")]).inc();
            }
        }
    }

    fn gate(&self, path: &PathId, decision: &'static str) -> Tick {
        let counter = self.gate.with_label_values(&[path.as_str(), decision]);
        Arc::new(move || counter.inc())
    }
}

fn seconds(span: Duration) -> f64 {
    span.as_secs_f64()
}

/// `success` or a stable code; anything else would be an open set.
fn result_label(result: &str) -> &str {
    let digits = result.strip_prefix("KW").unwrap_or_default();
    let is_code = digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit());
    if result == "success" || is_code { result } else { "other" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{IssuerId, PathId};
    use prometheus::TextEncoder;

    fn text(meter: &PrometheusMeter) -> String {
        TextEncoder::new().encode_to_string(&meter.registry().gather()).unwrap_or_default()
    }

    #[test]
    fn what_a_ca_invents_becomes_no_series() {
        let meter = PrometheusMeter::new().unwrap();
        let le = IssuerId::parse("le").unwrap();
        for problem in ["rateLimited", "x\"} 1\nkeyward_evil 1", "made-up-1", "made-up-2"] {
            meter.count(Count::AcmeError { issuer: le.clone(), problem: problem.to_owned() });
        }
        meter.count(Count::AcmeRequest { issuer: le.clone(), endpoint: "new-order", status: 999 });
        for result in ["success", "KW3001", "KW30", "free text"] {
            let took = Duration::from_secs(2);
            meter.count(Count::Renewal { issuer: le.clone(), trigger: "ari", result, took });
        }
        let text = text(&meter);
        for line in [
            "keyward_acme_errors_total{ca=\"le\",type=\"other\"} 3",
            "keyward_acme_errors_total{ca=\"le\",type=\"rateLimited\"} 1",
            "keyward_acme_requests_total{ca=\"le\",code=\"other\",endpoint=\"new-order\"} 1",
            "keyward_renewals_total{ca=\"le\",result=\"other\",trigger=\"ari\"} 2",
            "keyward_renewals_total{ca=\"le\",result=\"KW3001\",trigger=\"ari\"} 1",
            "keyward_renewal_duration_seconds_count{ca=\"le\"} 4",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("evil") && !text.contains("made-up"));
    }

    #[test]
    fn turns_commits_and_gate_answers_are_counted() {
        let meter = PrometheusMeter::new().unwrap();
        meter.count(Count::Cycle { took: Duration::from_micros(300) });
        meter.count(Count::Commit { took: Duration::from_millis(3) });
        let closed = meter.gate(&PathId::parse("approve").unwrap(), "closed");
        closed();
        closed();
        let text = text(&meter);
        for line in [
            "keyward_cycle_duration_seconds_bucket{le=\"0.0005\"} 1",
            "keyward_audit_commit_duration_seconds_bucket{le=\"0.0025\"} 0",
            "keyward_audit_commit_duration_seconds_bucket{le=\"0.005\"} 1",
            "keyward_gate_decisions_total{decision=\"closed\",path=\"approve\"} 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
