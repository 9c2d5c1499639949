//! Certificates over time: revoked, withheld, after a restart, after a reload.

use std::time::{Duration, Instant};

use super::{DB, House, WEB, workload};

fn serial(answer: &serde_json::Value) -> String {
    answer["svids"][0]["serial"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

#[test]
fn a_revoked_certificate_is_replaced_on_the_open_stream_at_once() {
    let house = House::new(&workload(WEB, &["unix:uid:0"], ""));
    let watch = house.watch(&["watch"]);
    let first = serial(&watch.answer());
    house.mesh.ok(&["ca", "revoke", &first, "--reason", "key-compromise"]);
    let revoked = Instant::now();
    let second = loop {
        // A new list may be pushed before the new certificate.
        let next = serial(&watch.answer());
        if next != first {
            break next;
        }
    };
    assert!(revoked.elapsed() < Duration::from_secs(3), "{:?}", revoked.elapsed());
    assert_eq!(serial(&house.fetch(&["fetch"])), second);
}

#[test]
fn a_closed_path_withholds_and_ends_what_is_open() {
    let path = "[[certificate]]\nid = \"own\"\nnames = [\"own.svc.example\"]\nissuers = [\"private\"]\n\
        [[certificate.install]]\ndir = \"@/own\"\n[[path]]\nid = \"approve\"\nneeds = [\"own\"]\n";
    let house = House::new(&(workload(WEB, &["unix:uid:0"], "path = \"approve\"") + path));
    let (code, text) = house.call("/SpiffeWorkloadAPI/FetchX509SVID", &[]);
    assert!(
        code == "PERMISSION_DENIED" && text.contains("KW4852") && text.contains("approve is closed"),
        "{code} {text}"
    );
    house.mesh.ok(&["cert", "renew", "own"]);
    house.mesh.wait("an open path", |mesh| (mesh.run(&["gate", "check", "approve"]).0 == 0).then_some(()));
    let watch = house.watch(&["watch"]);
    let first = serial(&watch.answer());
    house.mesh.ok(&["gate", "hold", "approve", "--for", "4s"]);
    let (code, text) = house.call("/SpiffeWorkloadAPI/FetchX509SVID", &[]);
    assert!(code == "PERMISSION_DENIED" && text.contains("KW4852"), "{code} {text}");
    // The client was cut off, comes back by itself, and is told no until the path opens; the certificate is as good as it was.
    assert_eq!(serial(&watch.answer()), first);
}

#[test]
fn after_a_restart_clients_come_back_and_get_new_keys() {
    let mut house = House::new(&workload(WEB, &["unix:uid:0"], ""));
    let watch = house.watch(&["watch"]);
    let first = serial(&watch.answer());
    house.mesh.restart();
    let second = serial(&watch.answer());
    assert_ne!(first, second, "keys do not survive the process");
}

#[test]
fn a_reload_gives_and_takes_workloads_on_open_streams() {
    let house = House::new(&workload(WEB, &["unix:uid:0"], ""));
    let watch = house.watch(&["watch"]);
    let first = watch.answer();
    let file = house.mesh.dir.path().join("keyward.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.clone() + &workload(DB, &["unix:uid:0"], "")).unwrap();
    house.mesh.ok(&["config", "reload"]);
    let both = watch.answer();
    assert_eq!(both["svids"][1]["id"], DB, "{both}");
    assert_eq!(serial(&both), serial(&first), "what did not change stays");
    std::fs::write(&file, text).unwrap();
    house.mesh.ok(&["config", "reload"]);
    assert_eq!(watch.answer()["svids"].as_array().unwrap().len(), 1);
}

#[test]
fn a_rotation_of_the_ca_is_pushed_bundle_first_and_then_certificates() {
    let house = House::new(&workload(WEB, &["unix:uid:0"], ""));
    let made = Instant::now();
    let watch = house.watch(&["watch"]);
    let first = watch.answer();
    // Times are whole seconds, and an order as old as the CA itself is none about what came of it.
    house.mesh.wait("another second", |_| (made.elapsed() > Duration::from_secs(2)).then_some(()));
    assert_eq!(first["bundles"]["mesh.example"], 1, "{first}");
    house.mesh.run(&["ca", "rotate", "mesh", "--reason", "a drill"]);
    let mut bundles = 1;
    let last = loop {
        let next = watch.answer();
        let now = next["bundles"]["mesh.example"].as_u64().unwrap();
        assert!(now >= bundles, "trust does not shrink on the way: {next}");
        bundles = now;
        if serial(&next) != serial(&first) {
            break next;
        }
    };
    assert_eq!(last["bundles"]["mesh.example"], 2, "both are trusted when the new one signs: {last}");
    let status = house.mesh.status();
    let phase = |n: usize| status["cas"][0]["generations"][n]["phase"].as_str().unwrap().to_owned();
    assert_eq!((phase(0).as_str(), phase(1).as_str()), ("draining", "signing"), "{status}");
}

/// A private CA and a Workload API in this process, and a clock that the test moves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_renewed_around_half_of_its_life_and_pushed_while_somebody_listens() {
    use keyward::domain::time::HOUR;
    use keyward::ports::{Clock as _, Ports};
    use keyward::shell::config::{UnixSocket, WorkloadApi};
    use keyward::shell::workload::{Workloads, bind};
    use std::sync::Arc;
    let (realm, _) = crate::harness::rotation::Realm::new(&[]).await;
    realm.made().await;
    let ports = Ports { clock: realm.clock.clone(), ..realm.world.ports() };
    let engine = keyward::engine::Engine::start(ports.clone(), Arc::default()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.sock");
    let socket = UnixSocket { path: path.clone(), mode: 0o600, group: None };
    let api = WorkloadApi { socket, max_connections: 10, max_streams_per_user: 10 };
    let own = keyward::domain::workload::Workload {
        spiffe: keyward::domain::spiffe::SpiffeId::parse(WEB).unwrap(),
        ca: crate::harness::rotation::ca_id(),
        profile: keyward::domain::id::ProfileId::parse("workload").unwrap(),
        names: keyward::domain::name::NameSet::default(),
        lifetime: Some(HOUR * 10),
        selectors: vec![keyward::domain::workload::Selector::Uid(0)],
        path: None,
    };
    let registry = prometheus::Registry::new();
    let authority = Some(realm.authority.clone());
    let workloads = Workloads::new(&api, &[own], &ports, &Arc::new(engine), authority, &registry).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (running, bound) = (workloads.clone(), bind(&api).unwrap());
    let task = tokio::spawn(async move { running.run(bound, async { drop(stopped.await) }).await });
    let mut command = std::process::Command::new(super::python());
    command.arg(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/workload/client.py"));
    command.arg("watch").arg(&path).env("GRPC_VERBOSITY", "NONE");
    let watch = super::Watch::of(command);
    let first = tokio::task::block_in_place(|| serial(&watch.answer()));
    let standing = |at: &str| workloads.standings()[0].certificate.clone().unwrap_or_else(|| panic!("{at}"));
    let (_, validity, renew_at) = standing("the first");
    assert!(renew_at >= validity.at_permille(450) && renew_at <= validity.at_permille(550), "{renew_at} {validity:?}");
    realm.clock.advance(realm.clock.now().until(renew_at) + HOUR / 60);
    let second = tokio::task::block_in_place(|| serial(&watch.answer()));
    assert_ne!(first, second);
    // Nobody listens any more: it is thrown away when it would be renewed.
    drop(watch);
    let began = Instant::now();
    while workloads.standings()[0].callers > 0 {
        assert!(began.elapsed() < Duration::from_secs(30), "the call does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (.., renew_at) = standing("the second");
    realm.clock.advance(realm.clock.now().until(renew_at) + HOUR / 60);
    while workloads.standings()[0].certificate.is_some() {
        assert!(began.elapsed() < Duration::from_secs(30), "it is kept for nobody");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(stop);
    task.await.unwrap();
}
