//! Real time and randomness for solvers, and what their tests share.

use std::future::Future;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use keyward::adapters::challenge::{SolverConfig, SolverKind, Solvers, StartError};
use keyward::domain::id::SolverId;
use keyward::domain::name::Name;
use keyward::domain::time::{Boottime, Timestamp};
use keyward::ports::{ChallengeKind, ChallengeTask, Clock, Doing, Entropy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub struct RealTime(Instant);

impl RealTime {
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Instant::now()))
    }
}

impl Clock for RealTime {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Timestamp::from_unix(i64::try_from(since.as_secs()).unwrap())
    }
    fn boottime(&self) -> Boottime {
        Boottime::from_boot(self.0.elapsed())
    }
    fn boot_id(&self) -> Arc<str> {
        Arc::from("test")
    }
    fn sleep(&self, span: Duration) -> Doing<'_, ()> {
        Box::pin(tokio::time::sleep(span))
    }
}

pub struct RealChance;

impl Entropy for RealChance {
    fn fill(&self, out: &mut [u8]) {
        aws_lc_rs::rand::fill(out).unwrap();
    }
}

pub fn id(text: &str) -> SolverId {
    SolverId::parse(text).unwrap()
}

/// One solver with the id `s`.
pub async fn start(kind: SolverKind) -> Result<Solvers, StartError> {
    Solvers::start(vec![SolverConfig { id: id("s"), kind }], RealTime::new(), Arc::new(RealChance))
}

pub fn task(kind: ChallengeKind, name: &str, token: &str) -> ChallengeTask {
    ChallengeTask {
        kind,
        name: Name::parse(name).unwrap(),
        token: token.to_owned(),
        key_authorization: format!("{token}.thumbprint-of_the-account"),
    }
}

/// A port of 127.0.0.1 that is free for TCP and UDP now.
pub fn free_port() -> SocketAddr {
    for _ in 0..100 {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port is free for TCP and UDP");
}

/// Polls until `look` gives a value; fails with `what` after `limit`.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, limit: Duration, mut look: impl FnMut() -> F) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = look().await {
            return value;
        }
        assert!(began.elapsed() < limit, "{what} did not come within {limit:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Sends raw bytes and reads until the peer closes.
pub async fn raw(address: SocketAddr, request: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request).await?;
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut answer)).await.expect("an end")?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
