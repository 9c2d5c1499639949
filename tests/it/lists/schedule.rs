//! When lists are fetched and what follows, in a simulated world.

use std::sync::Arc;
use std::time::Duration;

use keyward::domain::inventory::{Credential, Estate, ListSource};
use keyward::domain::limits::LETS_ENCRYPT;
use keyward::domain::time::{DAY, HOUR, MINUTE, Timestamp};
use keyward::engine::{Command, Engine};
use keyward::ports::{Clock as _, Lists as _, Notice, Urgency};
use keyward::sim::host::SimList;
use keyward::sim::world::{Life, World};

use crate::harness::estate::{add, cid, credential, estate, iid, managed, path, pid, served, start};

const URL: &str = "http://lists.sim/0.crl";
const OTHER: &str = "http://lists.sim/1.crl";

fn fetching(id: &str, name: &str) -> Credential {
    Credential { crls: vec![ListSource::DistributionPoints], ..served(id, managed(&[name], &["le"])) }
}

fn world(urls: &[&str], estate: Estate) -> World {
    let world = World::new(1, start(), estate);
    world.ca.behave(&iid("le"), |b| b.lists = urls.iter().map(|url| Arc::from(*url)).collect());
    world
}

fn one() -> Estate {
    let mut estate = estate(&[("le", &LETS_ENCRYPT)]);
    add(&mut estate, fetching("portal", "a.example.com"));
    path(&mut estate, "approve", &["portal"], HOUR);
    estate
}

fn list(from: Timestamp, lives: Duration, revoked: &[&Arc<str>]) -> Option<SimList> {
    let revoked = revoked.iter().map(ToString::to_string).collect();
    Some(SimList::Good { this_update: from, next_update: from.plus(lives), revoked })
}

fn codes(engine: &Engine) -> Vec<&'static str> {
    engine.gate(&pid("approve")).reasons.iter().map(|r| r.code).collect()
}

fn findings(engine: &Engine) -> Vec<&'static str> {
    engine.credential(&cid("portal")).unwrap().findings.iter().map(|f| f.code).collect()
}

fn life<F>(world: &mut World, span: Duration, act: impl FnOnce(Arc<Engine>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    assert_eq!(world.live_with(span, act), Life::Over);
}

#[test]
fn a_revocation_closes_the_path_with_the_next_fetch_and_a_renewal_opens_it() {
    let mut world = world(&[URL], one());
    let (clock, host, lists) = (world.clock.clone(), world.host.clone(), world.lists.clone());
    lists.serve(URL, list(start(), DAY * 9, &[]));
    life(&mut world, DAY * 2, |engine| async move {
        clock.sleep(MINUTE).await;
        assert_eq!((codes(&engine), lists.asked(URL)), (vec![], 1));
        let serial = host.installed(&cid("portal")).unwrap().leaf.serial.clone();
        lists.serve(URL, list(clock.now(), DAY * 9, &[&serial]));
        clock.sleep(HOUR * 4).await;
        assert_eq!((codes(&engine), lists.asked(URL)), (vec![], 1), "it was not fetched again yet");
        clock.sleep(HOUR * 2).await;
        assert_eq!((codes(&engine), lists.asked(URL)), (vec!["KW4018"], 2));
        World::ask_renewal(&engine, &cid("portal"), "uid:0").unwrap();
        clock.sleep(MINUTE).await;
        assert_eq!(codes(&engine), [""; 0]);
        clock.sleep(DAY).await;
        assert!((5..=8).contains(&lists.asked(URL)), "four to six times a day: {}", lists.asked(URL));
        assert_eq!((codes(&engine), findings(&engine)), (vec![], vec![]));
    });
}

#[test]
fn without_its_server_a_list_serves_until_it_is_over_also_after_a_restart() {
    let mut estate = one();
    estate.probe_every = HOUR;
    let mut world = world(&[URL], estate);
    let (clock, lists) = (world.clock.clone(), world.lists.clone());
    lists.serve(URL, list(start(), DAY * 3, &[]));
    life(&mut world, HOUR, |engine| async move {
        clock.sleep(MINUTE).await;
        assert_eq!(codes(&engine), [""; 0]);
        lists.serve(URL, None);
    });
    let (clock, lists, notifier) = (world.clock.clone(), world.lists.clone(), world.notifier.clone());
    life(&mut world, DAY * 4, |engine| async move {
        clock.sleep(Duration::from_secs(10)).await;
        assert_eq!(
            (codes(&engine), lists.asked(URL)),
            (vec![], 2),
            "what is kept is enough, but a newer one is wanted"
        );
        let told = || {
            let lists = |n: &&Notice| n.code.starts_with("KW406");
            notifier.notices().iter().filter(lists).map(|n| (n.code, n.urgent)).collect::<Vec<_>>()
        };
        clock.sleep(DAY).await;
        assert_eq!((codes(&engine), findings(&engine)), (vec![], vec!["KW4060"]));
        assert_eq!(told(), [("KW4060", Urgency::Routine)], "once, and there is time");
        assert!(lists.asked(URL) < 40, "it is not hammered: {}", lists.asked(URL));
        let end = start().plus(DAY * 3);
        clock.sleep(clock.now().until(end) - Duration::from_secs(1)).await;
        assert_eq!((codes(&engine), findings(&engine)), (vec![], vec!["KW4061"]));
        assert_eq!(told(), [("KW4060", Urgency::Routine), ("KW4061", Urgency::Act)], "before it closes");
        clock.sleep(Duration::from_secs(1)).await;
        // By its own time, whatever the loop does.
        assert!(!engine.gate(&pid("approve")).is_open());
        clock.sleep(MINUTE).await;
        assert_eq!(codes(&engine), ["KW4019"]);
        let text = engine.gate(&pid("approve")).reasons[0].text.clone();
        assert!(text.contains(URL), "{text}");
        lists.serve(URL, list(clock.now(), DAY * 3, &[]));
        clock.sleep(HOUR + MINUTE).await;
        assert_eq!((codes(&engine), findings(&engine)), (vec![], vec![]));
    });
}

#[test]
fn a_list_that_never_came_keeps_the_path_closed_and_is_told() {
    let mut world = world(&[URL], one());
    let (clock, lists, notifier) = (world.clock.clone(), world.lists.clone(), world.notifier.clone());
    life(&mut world, DAY, |engine| async move {
        clock.sleep(Duration::from_secs(30)).await;
        assert_eq!(codes(&engine), ["KW4019"]);
        clock.sleep(HOUR).await;
        assert_eq!((codes(&engine), findings(&engine)), (vec!["KW4019"], vec!["KW4061"]));
        let text = engine.gate(&pid("approve")).reasons[0].text.clone();
        assert!(text.contains("does not answer"), "{text}");
        assert!(notifier.notices().iter().any(|n| n.code == "KW4061" && n.urgent == Urgency::Act));
        lists.serve(URL, Some(SimList::Bad("is a delta list".into())));
        clock.sleep(HOUR * 2).await;
        let text = engine.gate(&pid("approve")).reasons[0].text.clone();
        assert!(text.contains("is a delta list"), "{text}");
        lists.serve(URL, list(start(), DAY * 3, &[]));
        clock.sleep(HOUR + MINUTE).await;
        assert_eq!((codes(&engine), findings(&engine)), (vec![], vec![]));
    });
}

#[test]
fn a_certificate_without_a_point_cannot_be_told_about() {
    let mut world = world(&[], one());
    let clock = world.clock.clone();
    life(&mut world, HOUR, |engine| async move {
        clock.sleep(MINUTE * 30).await;
        assert_eq!(codes(&engine), ["KW4019"]);
        let text = engine.gate(&pid("approve")).reasons[0].text.clone();
        assert!(text.contains("names no distribution point"), "{text}");
    });
}

/// Each renewal names the other list, which nobody asked for before.
#[test]
fn a_renewal_whose_certificate_names_another_list_never_closes_the_path() {
    let mut world = world(&[URL, OTHER], one());
    let (clock, host, lists) = (world.clock.clone(), world.host.clone(), world.lists.clone());
    for url in [URL, OTHER] {
        lists.serve(url, list(start(), DAY * 9, &[]));
    }
    life(&mut world, DAY * 2, |engine| async move {
        clock.sleep(MINUTE).await;
        assert_eq!(codes(&engine), [""; 0]);
        assert_eq!(lists.asked(URL) + lists.asked(OTHER), 1, "only the one that is named");
        let first = host.installed(&cid("portal")).unwrap();
        World::ask_renewal(&engine, &cid("portal"), "uid:0").unwrap();
        for _ in 0..400 {
            clock.sleep(Duration::from_millis(25)).await;
            assert_eq!(codes(&engine), [""; 0], "{:?}", engine.gate(&pid("approve")));
        }
        let second = host.installed(&cid("portal")).unwrap();
        assert_ne!(first.leaf.listing.points, second.leaf.listing.points);
        assert!(lists.kept(URL).is_some() && lists.kept(OTHER).is_some());
        // What nobody names any more is not asked for again.
        let old = first.leaf.listing.points[0].clone();
        clock.sleep(HOUR * 7).await;
        let asked = lists.asked(&old);
        clock.sleep(DAY).await;
        assert!(lists.asked(&old) <= asked, "{} after {asked}", lists.asked(&old));
    });
}

#[test]
fn a_thousand_certificates_on_one_list_ask_for_it_once_and_all_hear_of_it() {
    let mut estate = estate(&[("le", &[])]);
    for n in 0..1_000 {
        let own = managed(&[&format!("n{n}.example.com")], &["le"]);
        add(
            &mut estate,
            Credential { crls: vec![ListSource::DistributionPoints], ..credential(&format!("c{n}"), own) },
        );
    }
    path(&mut estate, "approve", &["c0", "c500", "c999"], HOUR);
    estate.orders_in_flight = 64;
    let mut world = world(&[URL], estate);
    let (clock, host, lists) = (world.clock.clone(), world.host.clone(), world.lists.clone());
    lists.serve(URL, list(start(), DAY * 9, &[]));
    life(&mut world, HOUR * 20, |engine| async move {
        clock.sleep(HOUR).await;
        assert_eq!((codes(&engine), lists.asked(URL)), (vec![], 1));
        let serial = host.installed(&cid("c500")).unwrap().leaf.serial.clone();
        lists.serve(URL, list(clock.now(), DAY * 9, &[&serial]));
        clock.sleep(HOUR * 6).await;
        assert_eq!((codes(&engine), lists.asked(URL)), (vec!["KW4018"], 2));
        let verdict = engine.gate(&pid("approve"));
        assert_eq!(verdict.reasons[0].credential, Some(cid("c500")));
    });
}

#[test]
fn a_clock_that_was_set_back_does_not_put_off_the_next_fetch() {
    let mut world = world(&[URL], one());
    let (clock, lists) = (world.clock.clone(), world.lists.clone());
    lists.serve(URL, list(start(), DAY * 800, &[]));
    life(&mut world, DAY * 2, |engine| async move {
        clock.sleep(MINUTE).await;
        clock.step(-30 * 86_400);
        clock.sleep(MINUTE).await;
        assert_eq!(codes(&engine).first(), Some(&"KW4009"));
        engine.command(Command::AcceptClock { by: "uid:0".into() }).unwrap();
        let before = lists.asked(URL);
        clock.sleep(HOUR * 7).await;
        assert!(lists.asked(URL) > before);
    });
}

#[test]
fn a_configuration_that_no_longer_wants_lists_asks_for_none() {
    let mut estate = one();
    let mut world = world(&[URL], estate.clone());
    let (clock, lists) = (world.clock.clone(), world.lists.clone());
    add(&mut estate, served("portal", managed(&["a.example.com"], &["le"])));
    life(&mut world, DAY * 3, |engine| async move {
        clock.sleep(MINUTE).await;
        assert_eq!(codes(&engine), ["KW4019"]);
        engine.command(Command::Estate(Arc::new(estate))).unwrap();
        clock.sleep(HOUR * 2).await;
        assert_eq!(codes(&engine), [""; 0]);
        let asked = lists.asked(URL);
        clock.sleep(DAY * 2).await;
        assert_eq!(lists.asked(URL), asked);
    });
}

/// Both name a list that nobody knows; one of them fetches it, and the other waits for it.
#[test]
fn two_renewals_at_once_to_another_list_fetch_it_once_and_close_nothing() {
    let mut estate = one();
    add(&mut estate, fetching("engine", "b.example.com"));
    let mut approve = (*estate.paths[&pid("approve")]).clone();
    approve.needs.insert(cid("engine"));
    estate.paths.insert(pid("approve"), Arc::new(approve));
    let mut world = world(&[URL], estate);
    let (clock, ca, lists) = (world.clock.clone(), world.ca.clone(), world.lists.clone());
    for url in [URL, OTHER] {
        lists.serve(url, list(start(), DAY * 9, &[]));
    }
    life(&mut world, HOUR, |engine| async move {
        clock.sleep(MINUTE).await;
        assert_eq!((codes(&engine), lists.asked(URL)), (vec![], 1));
        ca.behave(&iid("le"), |b| b.lists = vec![Arc::from(OTHER)]);
        for id in ["portal", "engine"] {
            World::ask_renewal(&engine, &cid(id), "uid:0").unwrap();
        }
        for _ in 0..400 {
            clock.sleep(Duration::from_millis(25)).await;
            assert_eq!(codes(&engine), [""; 0], "{:?}", engine.gate(&pid("approve")));
        }
        assert_eq!(lists.asked(OTHER), 1);
    });
}
