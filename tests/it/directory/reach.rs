//! Validation goes where it may, and nowhere else.

use serde_json::json;

use super::corp::{Corp, thumbprint};

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

#[tokio::test]
async fn a_redirect_to_https_is_followed_whatever_certificate_is_there() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let corp = Corp::made("");
    let raw = corp.account("web").await;
    let order = raw.order(&["web.svc.example"]).await;
    let authorization = raw.get(order.body["authorizations"][0].as_str().unwrap()).await;
    let challenges = authorization.body["challenges"].as_array().unwrap();
    let challenge = challenges.iter().find(|c| c["type"] == "http-01").unwrap();
    let token = challenge["token"].as_str().unwrap();
    let proof = format!("{token}.{}", thumbprint(&raw.signer.jwk()));
    let to = format!("https://web.svc.example/.well-known/acme-challenge/{token}");
    let app = axum::Router::new().fallback(move || {
        let to = to.clone();
        async move { (http::StatusCode::MOVED_PERMANENTLY, [(http::header::LOCATION, to)]) }
    });
    let listener = tokio::net::TcpListener::bind(corp.web).await.unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let own = rcgen::generate_simple_self_signed(["elsewhere.example".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind(corp.tls).await.unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut tls = acceptor.accept(stream).await.unwrap();
        let mut asked = vec![0; 4_096];
        let length = tls.read(&mut asked).await.unwrap();
        assert!(asked[..length].starts_with(b"GET /.well-known/acme-challenge/"));
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{proof}", proof.len());
        tls.write_all(answer.as_bytes()).await.unwrap();
        tls.shutdown().await.unwrap();
    });
    assert_eq!(raw.post(challenge["url"].as_str().unwrap(), &json!({})).await.status, 200);
    corp.until(&raw, &order, "ready").await;
}

#[tokio::test]
async fn what_is_said_behind_a_redirect_is_not_repeated() {
    let corp = Corp::made("");
    let raw = corp.account("web").await;
    let long = "http://web.svc.example/".to_owned() + &"x".repeat(3_000);
    for (location, said) in [("/secret-door", "not the expected response"), (long.as_str(), "more than 2048 bytes")] {
        let location = location.to_owned();
        let app = axum::Router::new()
            .route("/secret-door", axum::routing::get(|| async { (http::StatusCode::OK, "the-secret-inside") }))
            .fallback(move || {
                let location = location.clone();
                async move { (http::StatusCode::FOUND, [(http::header::LOCATION, location)]) }
            });
        let listener = tokio::net::TcpListener::bind(corp.web).await.unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let order = raw.order(&["web.svc.example"]).await;
        let authorization = raw.get(order.body["authorizations"][0].as_str().unwrap()).await;
        let challenges = authorization.body["challenges"].as_array().unwrap();
        let challenge = challenges.iter().find(|c| c["type"] == "http-01").unwrap();
        assert_eq!(raw.post(challenge["url"].as_str().unwrap(), &json!({})).await.status, 200);
        let invalid = corp.until(&raw, &order, "invalid").await;
        let detail = invalid.body["error"]["detail"].as_str().unwrap();
        assert!(detail.contains(said) && !detail.contains("secret"), "{detail}");
        server.abort();
        drop(server.await);
    }
}
