//! The rules of leases and permits, each by itself: pure, without signatures.

use std::time::Duration;

use keyward::domain::gate::{MARGIN, Reason, Verdict};
use keyward::domain::id::{AudienceId, PathId};
use keyward::domain::inventory::Environment;
use keyward::domain::key::Digest;
use keyward::domain::lease::{Expected, Grant, Lease, Machine, Moment, Permit, Place, Refused, SKEW, is_nonce, span};
use keyward::domain::time::{Boottime, Timestamp};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(1_790_000_000 + seconds)
}

fn boot(millis: u64) -> Boottime {
    Boottime::from_boot(Duration::from_millis(1_000_000 + millis))
}

fn moment(seconds: i64, millis: u64) -> Moment {
    Moment { wall: at(seconds), boot: boot(millis) }
}

/// Computed at second 0.
fn open_until(seconds: i64) -> Verdict {
    let path = PathId::parse("approve").unwrap();
    let (at, at_boot, until) = (at(0), boot(0), at(seconds));
    let warnings = Vec::new();
    Verdict { path, reasons: Vec::new(), warnings, at, at_boot, until, weakest: None, inputs: Digest([2; 32]) }
}

fn life(verdict: &Verdict, now: Moment) -> Option<u64> {
    span(verdict, now).map(|s| {
        assert_eq!(s.boot_expires.since(s.boot_now), now.wall.until(s.expires), "both clocks end together");
        now.wall.until(s.expires).as_secs()
    })
}

#[test]
fn a_lease_lives_fifteen_seconds_and_ends_before_what_it_vouches_for() {
    let skew = i64::try_from(SKEW.as_secs()).unwrap();
    for (until, expected) in [
        (86_400, Some(15)),
        (15 + skew, Some(15)),
        (14 + skew, Some(14)),
        (1 + skew, Some(1)),
        (skew, None),
        (1, None),
        (-5, None),
    ] {
        assert_eq!(life(&open_until(until), moment(0, 0)), expected, "{until}");
    }
}

#[test]
fn a_clock_that_was_set_back_after_the_evaluation_lengthens_nothing() {
    let skew = i64::try_from(SKEW.as_secs()).unwrap();
    // Ten seconds were left, three of them have really passed, and the wall clock says that none has, or fewer.
    for wall in [-2, 0, 2, 3] {
        assert_eq!(life(&open_until(10 + skew), moment(wall, 3_000)), Some(7), "{wall}");
    }
    // Set ahead: the wall clock decides.
    assert_eq!(life(&open_until(10 + skew), moment(9, 3_000)), Some(1));
}

#[test]
fn a_closed_path_has_no_lease_whatever_its_end() {
    let mut closed = open_until(86_400);
    closed.reasons.push(Reason { code: MARGIN, credential: None, text: String::new(), reopens: "" });
    assert_eq!(span(&closed, moment(0, 0)), None);
}

fn grant() -> Grant {
    Grant {
        issuer: "keyward/1".into(),
        audience: AudienceId::parse("portal").unwrap(),
        path: PathId::parse("approve").unwrap(),
        environment: Environment::Production,
        epoch: 7,
        sequence: 3,
        boot_id: "b".into(),
        boot_now: boot(0),
        boot_expires: boot(15_000),
        not_before: at(-2),
        expires: at(15),
    }
}

fn lease() -> Lease {
    Lease { grant: grant(), inputs: Digest([1; 32]), log: None, nonce: Some("n".into()) }
}

fn here() -> Expected {
    Expected::here(AudienceId::parse("portal").unwrap(), PathId::parse("approve").unwrap(), "b")
}

#[test]
fn every_rule_of_the_consumer_refuses_by_itself() {
    let last = |sequence| Some(Place { epoch: 7, sequence });
    let good = || (lease(), here(), 7_u64, last(3), moment(1, 1_000));
    let admit = |(l, e, h, last, now): (Lease, Expected, u64, Option<Place>, Moment)| l.admit(&e, h, last, now);
    assert_eq!(admit(good()), Ok(()));
    type Case = (Lease, Expected, u64, Option<Place>, Moment);
    type Row = (&'static str, fn(&mut Case));
    let rows: [Row; 16] = [
        ("the audience", |c| c.1.audience = AudienceId::parse("other").unwrap()),
        ("the path", |c| c.1.path = PathId::parse("other").unwrap()),
        ("expected staging", |c| c.1.environment = Environment::Staging),
        ("earlier run", |c| c.2 = 8),
        ("earlier run", |c| c.3 = Some(Place { epoch: 8, sequence: 1 })),
        ("an older one", |c| c.3 = Some(Place { epoch: 7, sequence: 4 })),
        ("another boot", |c| c.1.machine = Machine::Same { boot_id: "c".into() }),
        ("it ended at", |c| c.4.wall = at(15)),
        ("ms too old", |c| c.4.boot = boot(15_000)),
        ("holds from", |c| c.4.wall = at(-3)),
        ("another boot", |c| c.4.boot = Boottime::from_boot(Duration::ZERO)),
        ("lives longer", |c| c.0.grant.boot_expires = boot(15_001)),
        ("lives longer", |c| c.0.grant.expires = at(16)),
        ("nonce", |c| c.1.machine = Machine::Other { nonce: "m".into(), asked: boot(900) }),
        ("nonce", |c| {
            c.0.nonce = None;
            c.1.machine = Machine::Other { nonce: "n".into(), asked: boot(900) };
        }),
        ("ms too old", |c| {
            c.1.machine = Machine::Other { nonce: "n".into(), asked: boot(0) };
            c.4.boot = boot(15_000);
        }),
    ];
    for (said, spoil) in rows {
        let mut case = good();
        spoil(&mut case);
        let refused = admit(case).unwrap_err().to_string();
        assert!(refused.contains(said), "{said}: {refused}");
    }
}

#[test]
fn another_machine_counts_from_the_moment_at_which_it_asked() {
    let mut expected = here();
    // Its boot times have nothing to do with ours.
    let own = |millis: u64| Boottime::from_boot(Duration::from_millis(millis));
    expected.machine = Machine::Other { nonce: "n".into(), asked: own(50) };
    for (boot, good) in [(50, true), (15_049, true), (15_050, false), (49, false)] {
        let now = Moment { wall: at(1), boot: own(boot) };
        assert_eq!(lease().admit(&expected, 7, None, now).is_ok(), good, "{boot}");
    }
}

#[test]
fn a_permit_is_for_one_decision() {
    let permit = Permit { grant: grant(), decision: Digest([5; 32]) };
    assert_eq!(permit.admit(&here(), &Digest([5; 32]), 7, moment(1, 1_000)), Ok(()));
    assert!(matches!(permit.admit(&here(), &Digest([6; 32]), 7, moment(1, 1_000)), Err(Refused::Decision { .. })));
    assert!(matches!(permit.admit(&here(), &Digest([5; 32]), 8, moment(1, 1_000)), Err(Refused::Epoch { .. })));
}

#[test]
fn a_nonce_is_short_and_needs_no_escape() {
    assert!(is_nonce("aB3-_.~") && is_nonce(&"a".repeat(64)));
    for bad in ["", "a b", "a%20", "é", "a\n", &"a".repeat(65)] {
        assert!(!is_nonce(bad), "{bad:?}");
    }
}
