//! Everything has a limit: connections, handshakes, silence, buffers.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use keyward::domain::link::{Address, Reason};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::life::PATIENCE;
use crate::harness::link::{Rig, echo, end};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_are_served_and_no_more() {
    // Each has four descriptors in this process.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let wanted = rustix::process::Rlimit { current: limit.maximum.map(|m| m.min(16_384)), ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, wanted).unwrap();
    let rig = Rig::with(|link, _| link.max_connections = 1_000).await;
    let config = crate::harness::link::client(&rig.ca, Some(&rig.engine()), &rustls::version::TLS13);
    let mut live = Vec::new();
    for _ in 0..1_000 {
        live.push(crate::harness::link::connect(rig.address, &config).await.unwrap());
    }
    echo(&mut live[999], b"the last").await.unwrap();
    rig.wait("all are there", |s| s.connections == 1_000 && s.accepted == 1_000).await;
    let mut more = TcpStream::connect(rig.address).await.unwrap();
    end(&mut more).await;
    rig.wait("a refusal", |s| s.refused[&Reason::Full] == 1).await;
    echo(&mut live[0], b"undisturbed").await.unwrap();
    drop(live.pop());
    rig.wait("a place is free", |s| s.connections == 999).await;
    rig.speak(Some(&rig.engine())).await.unwrap();
    let closed = Instant::now();
    rig.lever.close();
    for tls in &mut live {
        end(tls).await;
    }
    assert!(closed.elapsed() < Duration::from_secs(1), "{:?}", closed.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_handshake_is_given_up() {
    let rig = Rig::with(|link, _| link.handshake_timeout = Duration::from_secs(1)).await;
    let mut silent = TcpStream::connect(rig.address).await.unwrap();
    let mut dripping = TcpStream::connect(rig.address).await.unwrap();
    let drip = async {
        // The head of a record that never comes.
        for byte in [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3] {
            if dripping.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        end(&mut dripping).await
    };
    let began = Instant::now();
    let (ended, _) = tokio::join!(end(&mut silent), drip);
    assert!(ended >= Duration::from_millis(900) && began.elapsed() < Duration::from_secs(8), "{ended:?}");
    rig.wait("both are counted", |s| s.refused[&Reason::Timeout] == 2 && s.connections == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_ends_a_connection_and_traffic_in_one_direction_does_not() {
    let rig = Rig::with(|link, _| link.idle_timeout = Duration::from_secs(1)).await;
    let mut tls = rig.speak(Some(&rig.engine())).await.unwrap();
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        echo(&mut tls, b"here").await.unwrap();
    }
    let silent = end(&mut tls).await;
    assert!((Duration::from_millis(950)..Duration::from_secs(4)).contains(&silent), "{silent:?}");
    rig.wait("it is gone", |s| s.connections == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_closed_connection_goes_on_in_the_other_direction() {
    let rig = Rig::new().await;
    let mut tls = rig.speak(Some(&rig.engine())).await.unwrap();
    tls.write_all(b"the last words").await.unwrap();
    tls.shutdown().await.unwrap();
    let mut rest = String::new();
    tokio::time::timeout(PATIENCE, tls.read_to_string(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, "the last wordsbye", "the end was passed on, and what came after it came back");
    rig.wait("it is gone", |s| s.connections == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_does_not_read_holds_up_the_writer_and_fills_no_memory() {
    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = service.local_addr().unwrap().port();
    let rig = Rig::with(|link, _| link.forward = Address::Tcp { host: "127.0.0.1".into(), port }).await;
    let mut tls = rig.connect(Some(&rig.engine())).await.unwrap();
    let (_never_read, _) = service.accept().await.unwrap();
    let chunk = vec![7; 64 * 1_024];
    let mut written = 0_usize;
    while let Ok(done) = tokio::time::timeout(Duration::from_millis(500), tls.write_all(&chunk)).await {
        done.unwrap();
        written += chunk.len();
        assert!(written < 64 << 20, "nothing holds it up");
    }
    // Kernel buffers of both connections, and a record or two.
    let received = rig.proxy.status().received;
    assert!(received <= written as u64 + 65_536 && written < 48 << 20, "{written} written, {received} received");
    // Waiting is not silence: it is not cut for it, and the path still cuts it.
    rig.lever.close();
    let began = Instant::now();
    rig.wait("it is gone", |s| s.connections == 0).await;
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_not_there_is_said_so() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let rig = Rig::with(|link, _| link.forward = Address::Tcp { host: "127.0.0.1".into(), port: gone }).await;
    assert!(rig.speak(Some(&rig.engine())).await.is_err());
    rig.wait("it is counted", |s| s.refused[&Reason::Forward] == 1).await;
    assert_eq!(rig.echo.ever.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_ends_cuts_everybody_and_leaves_no_series() {
    let mut rig = Rig::new().await;
    let mut tls = rig.speak(Some(&rig.engine())).await.unwrap();
    let text = |rig: &Rig| prometheus::TextEncoder::new().encode_to_string(&rig.registry.gather()).unwrap();
    assert!(text(&rig).contains("keyward_link_connections{link=\"portal-in\"} 1"), "{}", text(&rig));
    rig.stop();
    end(&mut tls).await;
    assert!(TcpStream::connect(rig.address).await.is_err(), "the port is free");
    let began = Instant::now();
    while text(&rig).contains("portal-in") {
        assert!(began.elapsed() < PATIENCE, "{}", text(&rig));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
