//! Orders that a person decides about.

use super::corp::Corp;
use crate::acme_server::kit::eventually;

#[tokio::test]
async fn an_order_waits_until_a_person_allows_it_and_then_may_be_ordered_again() {
    let mut corp = Corp::made("first_time = \"wait\"\n");
    let responder = corp.responder().await;
    let raw = corp.account("web").await;
    let order = corp.ready(&raw, &responder, &["a.svc.example"]).await;
    let reply = corp.finalize(&raw, &order, &["a.svc.example"]).await;
    assert_eq!(reply.body["status"], "processing", "{reply:?}");
    assert_eq!(reply.header("retry-after"), "60");
    let waiting = corp.waiting();
    let id = waiting[0]["id"].as_str().unwrap().to_owned();
    assert_eq!((waiting.len(), &waiting[0]["owner"]), (1, &serde_json::json!("web team")));
    assert_eq!(corp.mesh.run(&["acme", "orders"]).0, 4, "a person is waited for");
    assert!(corp.log().contains("KW4820"), "its owner is told");
    // A restart changes nothing.
    corp.mesh.restart();
    drop(corp.stranger().await);
    assert_eq!(raw.get(order.header("location")).await.body["status"], "processing");
    let (code, said) = corp.mesh.run(&["acme", "allow", &id, "--reason", " "]);
    assert_eq!((code, said.contains("KW4826")), (1, true), "{said}");
    corp.mesh.ok(&["acme", "allow", &id, "--reason", "ticket 4711"]);
    corp.until(&raw, &order, "valid").await;
    assert!(corp.waiting().is_empty());
    let (code, said) = corp.mesh.run(&["acme", "allow", &id, "--reason", "again"]);
    assert_eq!((code, said.contains("KW4825")), (1, true), "{said}");
    assert_eq!(corp.entries("acme.allow"), 1);
    // The name is known now.
    corp.issue(&raw, &responder, &["a.svc.example"]).await;
}

#[tokio::test]
async fn what_a_person_denies_is_invalid_and_says_why() {
    let corp = Corp::made("wait = [\"*.svc.example\"]\n");
    let responder = corp.responder().await;
    let raw = corp.account("web").await;
    let order = corp.ready(&raw, &responder, &["a.svc.example"]).await;
    corp.finalize(&raw, &order, &["a.svc.example"]).await;
    let id = corp.waiting()[0]["id"].as_str().unwrap().to_owned();
    corp.mesh.ok(&["acme", "deny", &id, "--reason", "nobody knows this host"]);
    let invalid = corp.until(&raw, &order, "invalid").await;
    let error = &invalid.body["error"];
    assert!(error["detail"].as_str().unwrap().contains("nobody knows this host"), "{error}");
    assert!(error["type"].as_str().unwrap().ends_with("unauthorized"), "{error}");
    assert_eq!((corp.entries("acme.deny"), corp.leaves().0), (1, 0));
    let (code, said) = corp.mesh.run(&["acme", "deny", "corp/fff", "--reason", "x"]);
    assert_eq!((code, said.contains("KW4824")), (1, true), "{said}");
}

#[tokio::test]
async fn what_was_allowed_may_be_ordered_again_for_a_while_and_the_queue_has_an_end() {
    let corp = Corp::made("wait = [\"*.svc.example\"]\nmost_waiting = 1\n");
    let responder = corp.responder().await;
    let raw = corp.account("web").await;
    let order = corp.ready(&raw, &responder, &["a.svc.example"]).await;
    corp.finalize(&raw, &order, &["a.svc.example"]).await;
    let next = corp.ready(&raw, &responder, &["b.svc.example"]).await;
    let refused = corp.finalize(&raw, &next, &["b.svc.example"]).await;
    assert_eq!(refused.problem(), (429, "rateLimited"));
    let id = corp.waiting()[0]["id"].as_str().unwrap().to_owned();
    corp.mesh.ok(&["acme", "allow", &id, "--reason", "ticket 4711"]);
    corp.until(&raw, &order, "valid").await;
    // A client that gave up meanwhile comes again: the same names need no second word, others do.
    corp.issue(&raw, &responder, &["a.svc.example"]).await;
    let waits = corp.finalize(&raw, &next, &["b.svc.example"]).await;
    assert_eq!(waits.body["status"], "processing");
    assert_eq!(corp.waiting().len(), 1);
}

#[tokio::test]
async fn an_order_does_not_wait_for_ever() {
    let corp = Corp::made("wait = [\"*.svc.example\"]\nwait_for = \"10s\"\n");
    let responder = corp.responder().await;
    let raw = corp.account("web").await;
    let order = corp.ready(&raw, &responder, &["a.svc.example"]).await;
    corp.finalize(&raw, &order, &["a.svc.example"]).await;
    let begun = std::time::Instant::now();
    let url = order.header("location").to_owned();
    let invalid = loop {
        let seen = raw.get(&url).await;
        if seen.body["status"] == "invalid" {
            break seen;
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(40), "{seen:?}");
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    };
    assert!(begun.elapsed() > std::time::Duration::from_secs(8));
    assert!(invalid.body["error"]["detail"].as_str().unwrap().contains("nobody decided"), "{invalid:?}");
    eventually("the notice", || async { corp.log().contains("KW4821").then_some(()) }).await;
}
