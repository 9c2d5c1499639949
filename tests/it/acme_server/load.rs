//! Many at once, and what an issuance costs.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream;
use instant_acme::{ChallengeType, NewOrder};

use super::kit::{Lab, dns};

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
