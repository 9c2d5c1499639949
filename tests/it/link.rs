//! Enforcing proxies with real peers: rustls, openssl and nginx.

mod client;
mod daemon;
mod distrust;
mod gate;
mod limits;
mod managed;
mod peers;
mod revocation;
mod swap;
