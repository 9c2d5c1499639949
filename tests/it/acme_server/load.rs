//! Many at once, and what an issuance costs.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream;
use instant_acme::{ChallengeType, NewOrder};

use keyward::shell::acme_server::Endpoint;
use serde_json::json;

use super::kit::{Lab, Raw, Signer, csr, dns, key};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_orders_with_eight_in_flight_go_through() {
    let lab = Lab::start().await;
    let account = lab.account().await;
    let began = Instant::now();
    stream::iter(0..500)
        .for_each_concurrent(8, |i| {
            let (lab, account) = (&lab, &account);
            async move {
                let names = dns(&[&format!("n{i}.example.com")]);
                lab.issue(account, &NewOrder::new(&names), ChallengeType::Http01).await;
            }
        })
        .await;
    let took = began.elapsed();
    println!("500 issuances with client, validation and responder in {took:?}");
    assert_eq!(lab.control.certificates().len(), 500);
    assert_eq!(lab.control.validations().iter().filter(|v| v.failure.is_none()).count(), 500);
    // A wedged server would take for ever; a machine under load gets its time.
    assert!(took < Duration::from_secs(120), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_finalizes_and_registrations_at_once_one_counts() {
    let lab = Lab::trusting(|_| {}).await;
    let raw = lab.raw().await;
    let order = raw.ready(&["a.example"]).await;
    let request = csr(&["a.example".to_owned()], &key());
    let replies: Vec<_> =
        stream::iter(0..20).map(|_| raw.finalize(&order, &request)).buffer_unordered(20).collect().await;
    assert_eq!(replies.iter().filter(|r| r.status == 200).count(), 1);
    assert!(replies.iter().filter(|r| r.status != 200).all(|r| r.problem() == (403, "orderNotReady")));
    assert_eq!(lab.control.certificates().len(), 1);

    let new = Raw::new(&lab, Signer::p256()).await;
    let (url, payload) = (new.url("newAccount"), json!({}));
    let replies: Vec<_> = stream::iter(0..20).map(|_| new.post(&url, &payload)).buffer_unordered(20).collect().await;
    assert_eq!(replies.iter().filter(|r| r.status == 201).count(), 1);
    assert!(replies.iter().all(|r| r.header("location") == replies[0].header("location")));
    assert_eq!(lab.control.requests(Endpoint::NewAccount), 21);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_under_way_is_answered_when_the_ca_stops() {
    use keyward::shell::acme_server::{Fault, Scope};
    let lab = Lab::trusting(|_| {}).await;
    let delay = lab.control.inject(&[Endpoint::Directory], Scope::Always, Fault::Delay(Duration::from_millis(200)));
    let (http, url) = (lab.http.clone(), lab.ca.directory_url());
    let asked = tokio::spawn(async move { http.get(url).send().await.map(|r| r.status().as_u16()) });
    let control = lab.control.clone();
    super::kit::eventually("the request", || async { (control.struck(delay) == 1).then_some(()) }).await;
    lab.ca.stop().await;
    assert_eq!(asked.await.unwrap().unwrap(), 200);
}

#[tokio::test]
async fn urls_and_the_certificate_follow_the_public_url() {
    let lab = Lab::trusting(|config| config.public_url = Some("https://acme.corp.example:14000/".to_owned())).await;
    assert_eq!(lab.ca.directory_url(), "https://acme.corp.example:14000/directory");
    let client = super::kit::client_of(lab.ca.root_pem()).resolve("acme.corp.example", lab.ca.address());
    let url = format!("https://acme.corp.example:{}/directory", lab.ca.address().port());
    let directory = client.build().unwrap().get(url).send().await.unwrap().text().await.unwrap();
    assert!(directory.contains("https://acme.corp.example:14000/order/new"), "{directory}");
    let refused = keyward::shell::acme_server::ScriptedCa::start(
        keyward::shell::acme_server::CaConfig {
            public_url: Some("nowhere".to_owned()),
            ..keyward::shell::acme_server::CaConfig::default()
        },
        lab.clock.clone(),
        std::sync::Arc::new(super::kit::TestEntropy),
    )
    .await;
    assert!(refused.is_err_and(|e| e.to_string().starts_with("public_url \"nowhere\"")));
}

/// The time that the calling thread has had a CPU.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn an_issuance_costs_the_ca_little() {
    use keyward::shell::acme_server::{CaConfig, ScriptedCa, Validation};
    use std::sync::Arc;

    const ROUNDS: u32 = 100;
    let (started, running) = std::sync::mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    // The CA has a thread of its own, so that its share can be told from the client's.
    let server = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let config = CaConfig { validation: Validation::Off, ..CaConfig::default() };
            let clock = Arc::new(super::kit::TestClock::default());
            let ca = ScriptedCa::start(config, clock, Arc::new(super::kit::TestEntropy)).await.unwrap();
            started.send((ca.directory_url(), ca.root_pem().to_owned())).unwrap();
            let before = cpu_time();
            stopped.await.unwrap();
            cpu_time() - before
        })
    });
    let (url, root) = running.recv().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let http = super::kit::client(&root);
        let account = super::kit::account(&http, &url).await;
        for i in 0..ROUNDS {
            super::kit::issue_trusted(&account, &format!("n{i}.example.com")).await;
        }
    });
    stop.send(()).unwrap();
    let each = server.join().unwrap() / ROUNDS;
    println!("an issuance costs the CA {each:?} of CPU time");
    // 1.2 ms in a debug build on a quiet machine; five times that is more than a busy machine explains.
    assert!(each < Duration::from_millis(6), "{each:?}");
}
