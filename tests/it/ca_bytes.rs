//! The bytes of a private CA, read and verified by everybody who will have to: openssl, webpki, rustls, our own verifier.

mod bundle;
mod by_others;
mod lint;
mod pkilint;
mod property;
mod request;
