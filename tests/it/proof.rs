//! Proof at the proxy: holds, probes of real proxies, lints, and the graph of what stands on what.

mod envoy;
mod graph;
mod hold;
mod lint;
mod live;
mod mended;
