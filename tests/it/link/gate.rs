//! A closed path lets nobody through, and nobody stay.

use std::time::{Duration, Instant};

use keyward::domain::link::Reason;
use tokio::net::TcpStream;

use crate::harness::link::{Rig, echo, end};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_cuts_live_connections_within_a_second_on_both_sides() {
    let rig = Rig::new().await;
    let engine = rig.engine();
    let mut live = Vec::new();
    for _ in 0..20 {
        live.push(rig.speak(Some(&engine)).await.unwrap());
    }
    // One that is in the middle of its handshake.
    let mut slow = TcpStream::connect(rig.address).await.unwrap();
    rig.wait("all are there", |s| s.connections == 21).await;
    assert_eq!(rig.echo.live(), 20);
    let closed = Instant::now();
    rig.lever.close();
    for tls in &mut live {
        end(tls).await;
    }
    end(&mut slow).await;
    assert!(closed.elapsed() < SECOND, "peers: {:?}", closed.elapsed());
    while rig.echo.live() > 0 {
        assert!(closed.elapsed() < SECOND, "service: {} are left", rig.echo.live());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let status = rig.proxy.status();
    assert_eq!((status.connections, status.cut, status.refused[&Reason::Gate]), (0, 20, 1));
    rig.wait("it is told", |_| rig.entries().contains(&("link.cut", "KW4321"))).await;
    assert!(status.closed.is_some_and(|r| r.text.contains("KW4004")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_path_is_closed_a_connection_ends_at_once_and_is_counted() {
    let rig = Rig::new().await;
    let engine = rig.engine();
    rig.lever.close();
    for n in 1..=5 {
        let mut tcp = TcpStream::connect(rig.address).await.unwrap();
        assert!(end(&mut tcp).await < SECOND);
        rig.wait("it is counted", |s| s.refused[&Reason::Gate] == n).await;
    }
    assert!(rig.speak(Some(&engine)).await.is_err());
    rig.lever.open();
    rig.speak(Some(&engine)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_path_whose_time_has_come_is_closed() {
    let rig = Rig::new().await;
    let mut tls = rig.speak(Some(&rig.engine())).await.unwrap();
    rig.lever.until(rig.proxy_now().plus(Duration::from_secs(60)));
    echo(&mut tls, b"still").await.unwrap();
    rig.clock.advance(Duration::from_secs(61));
    assert!(end(&mut tls).await < SECOND);
    assert!(rig.speak(Some(&rig.engine())).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_closes_during_the_handshake_lets_nobody_through() {
    let rig = Rig::new().await;
    let engine = rig.engine();
    let mut passed = 0;
    for round in 0..40_u64 {
        let lever = rig.lever.clone();
        if round == 0 {
            // However slow the machine is, one comes too late.
            lever.close();
        }
        let closing = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_micros(round * 100)).await;
            lever.close();
        });
        let spoken = rig.speak(Some(&engine)).await;
        closing.await.unwrap();
        let closed = Instant::now();
        if let Ok(mut tls) = spoken {
            passed += 1;
            end(&mut tls).await;
            assert!(closed.elapsed() < SECOND);
        }
        while rig.echo.live() > 0 {
            assert!(closed.elapsed() < SECOND);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        rig.lever.open();
    }
    assert!(passed < 40, "none was ever late enough");
}
