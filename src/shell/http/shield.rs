//! A stream on which nothing but our own answers leaves.
//!
//! The HTTP library answers by itself what it cannot parse: 400, 414 or 431. A proxy that asked a gate would get a third
//! answer then, and proxies differ in what they make of it. Such an answer is replaced by a plain 403 here; our own are
//! told apart by a header that every one of them has. And a peer that takes nothing for long is given up: it would keep
//! a connection, and an answer in memory, for ever.

use core::future::Future as _;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::io;

use core::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::pulse::Pulse;

/// Stands in every answer of ours: browsers must not guess types, and [`Shield`] knows it by that.
pub(super) const MARK: (&str, &str) = ("x-content-type-options", "nosniff");

/// What goes out instead of the library's own answer. KW4010: a question that cannot be read is about no known path.
const REFUSAL: &[u8] = b"HTTP/1.1 403 Forbidden\r\ncache-control: no-store\r\nkeyward-reasons: KW4010\r\n\
    x-content-type-options: nosniff\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// A peer that takes not a single byte of its answer for so long is gone.
const STALL: Duration = Duration::from_secs(20);

/// A stream that replaces foreign answers, and ends when its peer stalls.
#[derive(Debug)]
pub(super) struct Shield<S> {
    inner: S,
    /// How much of the refusal is out, while one is being written.
    refusing: Option<usize>,
    /// Runs while the peer takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    /// For how long it may.
    patience: Duration,
    /// Beats when the peer takes something.
    pulse: Pulse,
}

impl<S> Shield<S> {
    pub(super) fn new(inner: S, pulse: Pulse) -> Self {
        Self { inner, refusing: None, stalled: None, patience: STALL, pulse }
    }
}

#[allow(clippy::disallowed_methods, reason = "a peer's patience is about this socket, not about the guardian's time")]
fn stall(patience: Duration) -> Pin<Box<Sleep>> {
    Box::pin(tokio::time::sleep(patience))
}

fn foreign(bytes: &[u8]) -> bool {
    let head = bytes.starts_with(b"HTTP/1.1 ") || bytes.starts_with(b"HTTP/1.0 ");
    let success = bytes.get(9).is_some_and(|class| matches!(class, b'1'..=b'3'));
    let ours = || bytes.windows(MARK.0.len()).any(|w| w.eq_ignore_ascii_case(MARK.0.as_bytes()));
    head && !success && !ours()
}

impl<S: AsyncWrite + Unpin> Shield<S> {
    fn poll_inner(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Poll::Ready(wrote) = Pin::new(&mut self.inner).poll_write(cx, bytes) {
            self.stalled = None;
            self.pulse.beat();
            return Poll::Ready(wrote);
        }
        let patience = self.patience;
        ready!(self.stalled.get_or_insert_with(|| stall(patience)).as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_refuse(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(done) = self.refusing {
            let rest = REFUSAL.get(done..).unwrap_or_default();
            if rest.is_empty() {
                self.refusing = None;
                break;
            }
            let wrote = ready!(self.poll_inner(cx, rest))?;
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.refusing = Some(done.saturating_add(wrote));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Shield<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.refusing.is_none() && foreign(bytes) {
            self.refusing = Some(0);
        }
        if self.refusing.is_some() {
            ready!(self.poll_refuse(cx))?;
            return Poll::Ready(Ok(bytes.len()));
        }
        self.poll_inner(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Shield<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_error_without_our_mark_is_foreign() {
        for (bytes, expected) in [
            (&b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n"[..], true),
            (b"HTTP/1.1 431 Request Header Fields Too Large\r\n\r\n", true),
            (b"HTTP/1.0 505 x\r\n\r\n", true),
            (b"HTTP/1.1 404 Not Found\r\nX-Content-Type-Options: nosniff\r\n\r\n", false),
            (b"HTTP/1.1 200 OK\r\n\r\n", false),
            (b"HTTP/1.1 100 Continue\r\n\r\n", false),
            (b"{\"text\":\"HTTP/1.1 400\"}", false),
        ] {
            assert_eq!(foreign(bytes), expected, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_peer_that_takes_nothing_is_given_up_and_a_slow_one_is_not() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let patience = Duration::from_millis(200);
            let (near, _far) = tokio::io::duplex(16);
            let mut shield = Shield { patience, ..Shield::new(near, Pulse::default()) };
            let error = shield.write_all(&[b'x'; 64]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            let (near, mut far) = tokio::io::duplex(16);
            let mut shield = Shield { patience, ..Shield::new(near, Pulse::default()) };
            let mut taken = [0; 64];
            let (wrote, read) = tokio::join!(shield.write_all(&[b'x'; 64]), far.read_exact(&mut taken));
            assert!(wrote.is_ok() && read.is_ok());
        });
    }

    #[test]
    fn a_refusal_goes_out_whole_however_small_the_pieces() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (near, mut far) = tokio::io::duplex(7);
            let mut shield = Shield::new(near, Pulse::default());
            let mut read = Vec::new();
            let (wrote, _) = tokio::join!(
                async {
                    let wrote = shield.write_all(b"HTTP/1.1 431 Too Large\r\n\r\n").await;
                    drop(shield);
                    wrote
                },
                far.read_to_end(&mut read)
            );
            assert!(wrote.is_ok());
            assert_eq!(read, REFUSAL);
        });
    }
}
