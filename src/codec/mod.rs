//! Encodings: bytes to domain facts and back. Pure: no I/O, no clock, no randomness but what is handed in.

pub mod pkcs12;
pub mod verify;
pub mod x509;
