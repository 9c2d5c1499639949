//! Validation goes where it may, and nowhere else.

use serde_json::json;

use super::corp::Corp;

#[tokio::test]
async fn validation_does_not_reach_addresses_that_are_not_allowed() {
    let corp = Corp::made("");
    let raw = corp.account("web").await;
    // Metadata services and neighbours: their addresses are never connected to, whatever the DNS says.
    for name in ["far.svc.example", "link.svc.example"] {
        for kind in ["http-01", "tls-alpn-01"] {
            let order = raw.order(&[name]).await;
            let authorization = raw.get(order.body["authorizations"][0].as_str().unwrap()).await;
            let challenges = authorization.body["challenges"].as_array().unwrap();
            let challenge = challenges.iter().find(|c| c["type"] == kind).unwrap();
            assert_eq!(raw.post(challenge["url"].as_str().unwrap(), &json!({})).await.status, 200);
            let invalid = corp.until(&raw, &order, "invalid").await;
            let detail = invalid.body["error"]["detail"].as_str().unwrap();
            assert!(detail.contains("does not connect to"), "{name} {kind}: {detail}");
        }
    }
}

#[tokio::test]
async fn loopback_is_refused_unless_the_configuration_allows_it() {
    let corp = Corp::made("allow = [\"10.0.0.0/8\"]\n");
    let raw = corp.account("web").await;
    let order = raw.order(&["home.svc.example"]).await;
    let authorization = raw.get(order.body["authorizations"][0].as_str().unwrap()).await;
    let challenge = authorization.body["challenges"][0]["url"].as_str().unwrap().to_owned();
    assert_eq!(raw.post(&challenge, &json!({})).await.status, 200);
    let invalid = corp.until(&raw, &order, "invalid").await;
    let detail = invalid.body["error"]["detail"].as_str().unwrap();
    assert!(detail.contains("127.0.0.1") && detail.contains("does not connect to"), "{detail}");
}

#[tokio::test]
async fn a_redirect_is_judged_like_the_first_address() {
    let corp = Corp::made("forbid = [\"127.0.0.1\"]\n");
    let raw = corp.account("web").await;
    let targets =
        ["http://169.254.169.254/latest", "http://home.svc.example/", "http://web.svc.example:22/", "gopher://x/"];
    for target in targets {
        let app = axum::Router::new()
            .fallback(move || async move { (http::StatusCode::FOUND, [(http::header::LOCATION, target)]) });
        let listener = tokio::net::TcpListener::bind(corp.web).await.unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let order = raw.order(&["web.svc.example"]).await;
        let authorization = raw.get(order.body["authorizations"][0].as_str().unwrap()).await;
        let challenges = authorization.body["challenges"].as_array().unwrap();
        let challenge = challenges.iter().find(|c| c["type"] == "http-01").unwrap();
        assert_eq!(raw.post(challenge["url"].as_str().unwrap(), &json!({})).await.status, 200);
        let invalid = corp.until(&raw, &order, "invalid").await;
        let error = &invalid.body["error"];
        assert!(error["type"].as_str().unwrap().ends_with("connection"), "{target}: {error}");
        let detail = error["detail"].as_str().unwrap();
        let said = ["does not connect to", "ports 80 and 443", "only http and https"];
        assert!(said.iter().any(|s| detail.contains(s)), "{target}: {detail}");
        server.abort();
        drop(server.await);
    }
}
