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
