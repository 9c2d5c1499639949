//! A guardian's lease key in the hand of a test, and statements made with it.

use std::time::Duration;

use keyward::codec::note::{SignerKey, Signs};
use keyward::codec::statement::sign;
use keyward::domain::id::{AudienceId, PathId};
use keyward::domain::inventory::Environment;
use keyward::domain::key::Digest;
use keyward::domain::lease::{Expected, Grant, Lease, Moment, Permit};
use keyward::domain::statement::Context;
use keyward::domain::time::{Boottime, Timestamp};
use keyward::lease::Keys;
use zeroize::Zeroizing;

/// 2026-11-22T06:00:00Z.
pub const MADE: i64 = 1_795_327_200;
pub const BOOT: &str = "3f1c6b3e-6f0e-4d2c-9a57-0d9f3c1f7a10";
pub const ISSUER: &str = "keyward/0123456789abcdef";

/// The key of this seed.
pub fn key(seed: u8) -> SignerKey {
    SignerKey::from_seed(&format!("{ISSUER}/lease"), Signs::Notes, Zeroizing::new([seed; 32])).unwrap()
}

pub fn pinned() -> Keys {
    Keys::new(vec![key(1).verifier().clone()]).unwrap()
}

pub fn audience(text: &str) -> AudienceId {
    AudienceId::parse(text).unwrap()
}

pub fn path(text: &str) -> PathId {
    PathId::parse(text).unwrap()
}

pub fn boot(millis: u64) -> Boottime {
    Boottime::from_boot(Duration::from_millis(millis))
}

/// Made an hour after boot.
pub fn grant() -> Grant {
    Grant {
        issuer: ISSUER.into(),
        audience: audience("portal"),
        path: path("approve"),
        environment: Environment::Production,
        epoch: 41,
        sequence: 7,
        boot_id: BOOT.into(),
        boot_now: boot(3_600_000),
        boot_expires: boot(3_615_000),
        not_before: Timestamp::from_unix(MADE - 2),
        expires: Timestamp::from_unix(MADE + 15),
    }
}

pub fn lease() -> Lease {
    let root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=".to_owned();
    Lease { grant: grant(), inputs: Digest::of(b"inputs"), log: Some((44, root)), nonce: None }
}

pub fn decision() -> Digest {
    Digest::of(b"approve request 7F3K-9Q2M")
}

pub fn permit() -> Permit {
    Permit { grant: grant(), decision: decision() }
}

pub fn signed(lease: &Lease) -> String {
    sign(&key(1), Context::Lease, &lease.json().canonical()).unwrap()
}

pub fn signed_permit(permit: &Permit) -> String {
    sign(&key(1), Context::Permit, &permit.json().canonical()).unwrap()
}

pub fn here() -> Expected {
    Expected::here(audience("portal"), path("approve"), BOOT)
}

/// So many milliseconds after the lease was made, on both clocks.
pub fn after(millis: u64) -> Moment {
    Moment { wall: Timestamp::from_unix(MADE + i64::try_from(millis / 1_000).unwrap()), boot: boot(3_600_000 + millis) }
}

/// Waits until something is so; fails after a while.
pub fn until(what: &str, mut met: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !met() {
        assert!(began.elapsed() < super::life::PATIENCE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}
