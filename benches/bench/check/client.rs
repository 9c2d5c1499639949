//! A closed loop: each connection has one question on its way, and the next follows the answer.
//!
//! One thread and blocking sockets, two system calls for a question. With several connections it takes turns: the answer
//! of the first, its next question, the answer of the second, and so on, so that all but one are always with the server.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Nothing answers later than this.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where somebody answers.
#[derive(Clone, Debug)]
pub enum Door {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn connect(door: &Door) -> std::io::Result<Self> {
        match door {
            Door::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Ok(Self::Tcp(stream))
            }
            Door::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Ok(Self::Unix(stream))
            }
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes),
            Self::Unix(stream) => stream.write_all(bytes),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

/// What came of one run.
pub struct Run {
    /// Answers a second.
    pub rate: f64,
    /// How many questions there were, those before it counted too.
    pub asked: usize,
    /// Nanoseconds of each, in order.
    spans: Vec<u32>,
}

impl Run {
    /// Microseconds within which so many of a thousand were answered.
    pub fn within(&self, per_mille: usize) -> f64 {
        let at = (self.spans.len() * per_mille / 1_000).min(self.spans.len() - 1);
        f64::from(self.spans[at]) / 1e3
    }
}

/// Asks for `span`, after a tenth of it that does not count. Every answer must be a 200.
pub fn ask(door: &Door, target: &str, connections: usize, span: Duration) -> Run {
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes();
    let mut all: Vec<Connection> = (0..connections).map(|_| Connection::new(door)).collect();
    for connection in &mut all {
        connection.put(&request);
    }
    let before = round(&mut all, &request, span / 10).len();
    let began = Instant::now();
    let mut spans = round(&mut all, &request, span);
    let took = began.elapsed().as_secs_f64();
    spans.sort_unstable();
    Run { rate: spans.len() as f64 / took, asked: before + spans.len() + connections, spans }
}

fn round(all: &mut [Connection], request: &[u8], span: Duration) -> Vec<u32> {
    let began = Instant::now();
    // 400,000 a second at the very most.
    let mut spans = Vec::with_capacity((span.as_secs_f64() * 4e5) as usize);
    while began.elapsed() < span {
        for connection in all.iter_mut() {
            spans.push(connection.take());
            connection.put(request);
        }
    }
    spans
}

struct Connection {
    stream: Stream,
    asked: Instant,
    buffer: Vec<u8>,
    /// Head and whole of the last answer: the next one is mostly as long.
    last: (usize, usize),
}

impl Connection {
    fn new(door: &Door) -> Self {
        let stream = Stream::connect(door).unwrap_or_else(|e| panic!("{door:?}: {e}"));
        Self { stream, asked: Instant::now(), buffer: vec![0; 16_384], last: (0, 0) }
    }

    fn put(&mut self, request: &[u8]) {
        self.asked = Instant::now();
        self.stream.write_all(request).expect("a server that reads");
    }

    /// The whole answer; nanoseconds since the question.
    fn take(&mut self) -> u32 {
        let mut filled = 0;
        loop {
            filled += match self.stream.read(&mut self.buffer[filled..]) {
                Ok(0) => panic!("closed: {}", String::from_utf8_lossy(&self.buffer[..filled])),
                Ok(read) => read,
                Err(error) => panic!("no answer: {error}"),
            };
            if self.is_whole(filled) {
                break;
            }
        }
        let took = self.asked.elapsed().as_nanos() as u32;
        let text = &self.buffer[..filled];
        assert!(text.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(text));
        took
    }

    fn is_whole(&mut self, filled: usize) -> bool {
        let text = &self.buffer[..filled];
        let (head, whole) = self.last;
        if filled == whole && text[..head].ends_with(b"\r\n\r\n") {
            return true;
        }
        let Some(head) = text.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4) else { return false };
        let fields = std::str::from_utf8(&text[..head]).expect("a head").to_ascii_lowercase();
        let length = fields.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.unwrap_or_else(|| panic!("no length: {fields}")).trim().parse().expect("a length");
        self.last = (head, head + length);
        assert!(filled <= head + length, "two answers to one question");
        filled == head + length
    }
}
