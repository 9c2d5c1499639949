//! The time since boot in another time namespace: what no wall clock tells.

use serde_json::Value;

use crate::harness::clocks::{Scene, script};
use crate::harness::fault::{Daemon, Under};

fn fault(daemon: &Daemon) -> Option<String> {
    let (_, body) = daemon.get("/v1/status")?;
    let status: Value = serde_json::from_str(&body).unwrap();
    status["clock_fault"].as_str().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_since_boot_that_differs_between_two_starts_of_one_boot_closes_until_a_person_accepts() {
    let scene = Scene::new().await;
    let daemon = scene.open(&Under::Nothing);
    let orders = scene.orders();
    assert_eq!(daemon.terminate(), 0);
    // Ahead: the wall clock has gone back by as much. Behind: no clock since one boot ever is.
    for (seconds, said) in [(7_200, "it stepped while keyward did not run"), (-60, "it went backwards")] {
        let daemon = scene.start(&Under::Booted(seconds));
        daemon.closes_for("KW4009");
        let why = fault(&daemon).unwrap();
        assert!(why.contains(said), "{seconds}: {why}");
        assert_eq!(daemon.terminate(), 0);
    }
    // The clocks agree again, and the path waits for a person.
    let daemon = scene.start(&Under::Nothing);
    daemon.closes_for("KW4009");
    assert_eq!(fault(&daemon), None);
    assert!(daemon.cli(&["clock", "accept"]).status.success());
    daemon.opens();
    assert_eq!((scene.orders(), daemon.terminate()), (orders, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_whose_time_since_boot_is_past_the_lease_refuses_it_though_the_wall_clock_is_inside() {
    let scene = Scene::new().await;
    let daemon = scene.open(&Under::Nothing);
    let keys = scene.keys(&daemon).1;
    let lease = scene.place.at("approve.lease");
    daemon.wait("a lease", |_| scene.lease());
    for (ahead, refused) in [
        (0, None),
        (20, Some("over by the clock that does not step")),
        (86_400, Some("over by the clock that does not step")),
        (-60, Some("over by the clock that does not step")),
    ] {
        let (believed, said) = script(&keys, &lease, ahead);
        assert_eq!(believed, refused.is_none(), "{ahead}: {said}");
        assert!(refused.is_none_or(|why| said.contains(why)), "{ahead}: {said}");
    }
    // A guardian there is believed by those there, and by nobody here.
    drop(daemon);
    let daemon = scene.start(&Under::Booted(7_200));
    daemon.closes_for("KW4009");
    assert!(daemon.cli(&["clock", "accept"]).status.success());
    daemon.opens();
    daemon.wait("a lease of it", |_| script(&keys, &lease, 7_200).0.then_some(()));
    let (believed, said) = script(&keys, &lease, 0);
    assert!(!believed && said.contains("over by the clock that does not step"), "{said}");
}
