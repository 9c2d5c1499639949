//! A process that is stopped, and a machine that sleeps: leases end by themselves, and nothing opens on what was seen before.

use std::time::{Duration, Instant};

use keyward::domain::time::Timestamp;
use serde_json::Value;

use crate::harness::clocks::{Answered, Scene, Suspend, codes, script, wall};
use crate::harness::fault::{Daemon, Under};
use crate::harness::lease::until;
use crate::harness::proxies::{signal, stop};

/// Stops it until every lease that it gave has ended, with those who ask from before it goes on; gives their answers from
/// then on, and when that was.
fn sleeps(scene: &Scene, daemon: &Daemon, before_it_goes_on: impl FnOnce(Duration)) -> (Vec<Answered>, Timestamp) {
    let portal = scene.consumer(daemon);
    let (pinned, keys) = scene.keys(daemon);
    daemon.wait("a lease", |_| portal.take(scene.lease()?.as_bytes()).ok());
    assert!(portal.is_open() && script(&keys, &scene.place.at("approve.lease"), 0).0);
    let stopped = Instant::now();
    stop(daemon.id());
    // The newest that it gave.
    drop(portal.take(scene.lease().unwrap().as_bytes()));
    until("the end of the last lease", || !portal.is_open());
    let left = scene.lease().expect("the file stays: nobody is there to take it away");
    assert!(portal.take(left.as_bytes()).is_err());
    let newest = keyward::lease::read(left.as_bytes(), &pinned).unwrap().grant;
    assert!(newest.life() <= Duration::from_secs(15), "{newest:?}");
    let (believed, said) = script(&keys, &scene.place.at("approve.lease"), 0);
    assert!(!believed && said.contains("refused: over"), "{said}");
    let asking = scene.asking();
    until("no verdict is fresh", || stopped.elapsed() > Duration::from_millis(15_500));
    before_it_goes_on(stopped.elapsed());
    let went_on = wall();
    signal(daemon.id(), "CONT");
    daemon.opens();
    daemon.wait("a lease", |_| portal.take(scene.lease()?.as_bytes()).ok());
    assert!(portal.is_open());
    (asking.end(), went_on)
}

/// Nobody was let through by what was found before.
fn nothing_stale(answers: &[Answered], went_on: Timestamp) {
    let first = answers.iter().find(|a| a.open).unwrap().asked;
    for Answered { open, body, asked } in answers {
        let time = |key: &str| Timestamp::parse(body[key].as_str().unwrap()).unwrap();
        if *open {
            assert!(time("evaluated_at") >= went_on && time("since") >= went_on, "{went_on}: {body}");
        } else if *asked < first {
            assert!(codes(body).iter().all(|c| matches!(*c, "KW4008" | "KW4003")), "{body}");
        }
    }
}

fn told(scene: &Scene, daemon: &Daemon, orders: usize) {
    let (_, body) = daemon.get("/v1/audit/entries?limit=1000").unwrap();
    for word in ["\"daemon.standstill\"", "KW4090", "\"gate.close\"", "KW4003"] {
        assert!(body.contains(word), "{word} is not in {body}");
    }
    let (_, status) = daemon.get("/v1/status").unwrap();
    let status: Value = serde_json::from_str(&status).unwrap();
    let notices = status["notices"].as_array().unwrap();
    let notice = notices.iter().find(|n| n["code"] == "KW4090").unwrap_or_else(|| panic!("{status}"));
    assert!(notice["text"].as_str().unwrap().contains("nothing was evaluated for"), "{notice}");
    assert_eq!((scene.orders(), &status["clock_fault"]), (orders, &Value::Null));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_daemon_closes_its_consumers_and_opens_on_nothing_that_it_saw_before() {
    let scene = Scene::new().await;
    let daemon = scene.open(&Under::Nothing);
    let orders = scene.orders();
    let (answers, went_on) = sleeps(&scene, &daemon, |_| ());
    nothing_stale(&answers, went_on);
    told(&scene, &daemon, orders);
    assert_eq!(daemon.terminate(), 0);
}

/// As a process sees a suspend: the time since boot and the wall clock have gone on, `CLOCK_MONOTONIC` has not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_suspend_no_timer_knows_of_it_and_the_gate_is_closed_all_the_same() {
    let scene = Scene::new().await;
    let suspend = Suspend::new(scene.place.dir.path());
    let daemon = scene.open(&suspend.under());
    let (orders, before) = (scene.orders(), suspend.clocks());
    let mut slept = Duration::ZERO;
    let (answers, went_on) = sleeps(&scene, &daemon, |stopped| {
        suspend.lose(stopped);
        slept = stopped;
    });
    let after = suspend.clocks();
    let lost = (after.1 - before.1) - (after.0 - before.0);
    assert!((lost - slept.as_secs_f64().floor()).abs() < 0.01, "{lost} s were lost of {slept:?}");
    nothing_stale(&answers, went_on);
    told(&scene, &daemon, orders);
    assert_eq!(daemon.terminate(), 0);
}
