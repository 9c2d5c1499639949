//! Consent: what our verifiers take and refuse, and what OpenSSH, a browser and another hand say of the same.

mod browser;
mod by_hand;
mod keygen;
mod page;
mod passkey;
mod registration;
mod ssh;
