//! A web server of a CA with every fault that one can have.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What it does when it is asked.
#[derive(Clone)]
pub enum Reply {
    /// 200 with these bytes.
    List(Vec<u8>),
    /// 200 and these bytes, but the header says that there are so many more.
    Short(Vec<u8>, usize),
    /// 200, no length, and bytes without an end.
    Endless,
    /// 200 with a header that says so many bytes.
    Says(usize),
    /// One byte of it at a time.
    Drips(Vec<u8>),
    /// Nothing at all.
    Silent,
    /// It hangs up.
    HangsUp,
    /// Anything.
    Raw(String),
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self::Raw(format!("HTTP/1.1 {status} No\r\ncontent-length: 2\r\n\r\nno"))
    }

    pub fn redirect(to: &str) -> Self {
        Self::Raw(format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n"))
    }
}

type Replies = Arc<Mutex<BTreeMap<String, Reply>>>;

pub struct ListServer {
    pub address: SocketAddr,
    replies: Replies,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl ListServer {
    pub async fn start() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap()).await
    }

    /// At an address that was another's before.
    pub async fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (replies, asked) = (Replies::default(), Arc::<Mutex<Vec<String>>>::default());
        let (own, heard) = (replies.clone(), asked.clone());
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let (replies, asked) = (own.clone(), heard.clone());
                tokio::spawn(async move { drop(serve(stream, &replies, &asked).await) });
            }
        });
        Self { address, replies, asked, task }
    }

    pub fn url(&self, path: &str) -> Arc<str> {
        Arc::from(format!("http://{}{path}", self.address))
    }

    pub fn set(&self, path: &str, reply: Reply) {
        self.replies.lock().unwrap().insert(path.to_owned(), reply);
    }

    /// The heads of the requests so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// It is gone when this returns.
    pub async fn stop(self) {
        self.task.abort();
        drop(self.task.await);
    }
}

async fn serve(mut stream: TcpStream, replies: &Replies, asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    asked.lock().unwrap().push(head);
    let reply = replies.lock().unwrap().get(&path).cloned().unwrap_or_else(|| Reply::status(404));
    let ok = |length: usize| {
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/pkix-crl\r\ncontent-length: {length}\r\n\r\n")
    };
    match reply {
        Reply::List(list) => {
            stream.write_all(ok(list.len()).as_bytes()).await?;
            stream.write_all(&list).await?;
        }
        Reply::Short(list, missing) => {
            stream.write_all(ok(list.len() + missing).as_bytes()).await?;
            stream.write_all(&list).await?;
        }
        Reply::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            loop {
                stream.write_all(&[0x30; 65_536]).await?;
            }
        }
        Reply::Says(length) => stream.write_all(ok(length).as_bytes()).await?,
        Reply::Drips(list) => {
            stream.write_all(ok(list.len()).as_bytes()).await?;
            for byte in list {
                stream.write_all(&[byte]).await?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Reply::Silent => std::future::pending().await,
        Reply::HangsUp => {}
        Reply::Raw(text) => stream.write_all(text.as_bytes()).await?,
    }
    stream.shutdown().await
}
