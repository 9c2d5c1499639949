//! Passing bytes both ways: as many as the slower side takes, half-closed connections included, until nothing comes for
//! too long.

use core::pin::{Pin, pin};
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll};
use core::time::Duration;
use std::io;

use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};

use crate::ports::Clock;

/// Bytes that are held for each direction: one TLS record of the longest kind (RFC 8446 section 5.1).
const BUFFER: usize = 16 * 1_024;

/// How a connection ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// One side closed it, or broke.
    Closed,
    /// Nothing came for too long.
    Idle,
}

/// Passes bytes between whoever connected (`near`) and the other side until both have said all.
pub(super) async fn relay<N, F>(
    near: &mut N,
    far: &mut F,
    idle: Duration,
    clock: &dyn Clock,
    counters: (&IntCounter, &IntCounter),
) -> Ended
where
    N: AsyncRead + AsyncWrite + Unpin,
    F: AsyncRead + AsyncWrite + Unpin,
{
    let moved = AtomicBool::new(false);
    let mut near = Tap { inner: near, read: counters.0, moved: &moved };
    let mut far = Tap { inner: far, read: counters.1, moved: &moved };
    let mut copying = pin!(copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER));
    // Looked at four times in the span, so that the end comes at most a quarter of it late.
    let look = (idle / 4).max(Duration::from_millis(10));
    let mut quiet = Duration::ZERO;
    loop {
        tokio::select! {
            _ = &mut copying => return Ended::Closed,
            () = clock.sleep(look) => {
                quiet = if moved.swap(false, Ordering::Relaxed) { Duration::ZERO } else { quiet.saturating_add(look) };
                if quiet >= idle {
                    return Ended::Idle;
                }
            }
        }
    }
}

/// A stream whose reads are counted.
struct Tap<'a, S> {
    inner: &'a mut S,
    read: &'a IntCounter,
    moved: &'a AtomicBool,
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<'_, S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let tap = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut *tap.inner).poll_read(cx, buf);
        let came = buf.filled().len().saturating_sub(before);
        if came > 0 {
            tap.read.inc_by(u64::try_from(came).unwrap_or(u64::MAX));
            tap.moved.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<'_, S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let tap = self.get_mut();
        let polled = Pin::new(&mut *tap.inner).poll_write(cx, buf);
        if polled.is_ready() {
            // A slow reader is not an idle one.
            tap.moved.store(true, Ordering::Relaxed);
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().inner).poll_shutdown(cx)
    }
}
