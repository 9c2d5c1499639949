//! Issuing and renewing over every kind of challenge.

use std::fs;

use crate::harness::deploy::belong_together;
use crate::harness::life::{Place, certificate};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_certificate_is_issued_and_installed_by_http_01() {
    let place = Place::new().await;
    let life = place.start(&place.toml(&certificate("portal", &["portal.example.test"], ""))).await;
    let first = life.installed("portal").await;
    let read = |name: &str| fs::read_to_string(place.at("live/portal/current").join(name)).unwrap();
    assert!(belong_together(&read("fullchain.pem"), &read("key.pem")));
    assert_eq!(place.control.orders().len(), 1);
    assert_eq!(place.control.certificates()[0].serial, &*first.serial);
    assert_eq!(life.complaints().await, Vec::<String>::new());
    life.stop().await;
}
