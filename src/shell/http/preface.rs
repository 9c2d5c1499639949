//! Which HTTP a peer speaks: HTTP/2 with prior knowledge begins with a preface that no request of HTTP/1 does.

use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

/// RFC 9113 section 3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a peer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// HTTP/1.1, or nothing that is known: that is answered there.
    One,
    /// HTTP/2.
    Two,
}

/// Reads until it is clear what the peer speaks, and gives back the stream with all of its bytes.
pub(super) async fn tell<S: AsyncRead + Unpin>(mut inner: S) -> io::Result<(Version, Rewound<S>)> {
    let (mut head, mut filled) = ([0; PREFACE.len()], 0_usize);
    let version = loop {
        let rest = head.get_mut(filled..).unwrap_or_default();
        let read = inner.read(rest).await?;
        filled = filled.saturating_add(read);
        let seen = head.get(..filled).unwrap_or_default();
        if !PREFACE.starts_with(seen) || read == 0 {
            break Version::One;
        }
        if filled == PREFACE.len() {
            break Version::Two;
        }
    };
    Ok((version, Rewound { head, next: 0, filled, inner }))
}

/// A stream whose first bytes were read already.
#[derive(Debug)]
pub(super) struct Rewound<S> {
    head: [u8; PREFACE.len()],
    next: usize,
    filled: usize,
    inner: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match this.head.get(this.next..this.filled) {
            Some(rest) if !rest.is_empty() => {
                let taken = rest.get(..rest.len().min(buffer.remaining())).unwrap_or_default();
                buffer.put_slice(taken);
                this.next = this.next.saturating_add(taken.len());
                Poll::Ready(Ok(()))
            }
            _ => Pin::new(&mut this.inner).poll_read(cx, buffer),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;

    fn told(pieces: &[&[u8]]) -> (Version, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut near, far) = tokio::io::duplex(1_024);
            let telling = tokio::spawn(async move {
                let (version, mut stream) = tell(far).await.unwrap();
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.unwrap();
                (version, all)
            });
            for piece in pieces {
                near.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(near);
            telling.await.unwrap()
        })
    }

    #[test]
    fn only_the_whole_preface_is_http_2_and_no_byte_is_lost() {
        let one: Vec<&[u8]> = PREFACE.chunks(1).collect();
        assert_eq!(told(&one), (Version::Two, PREFACE.to_vec()));
        for text in
            ["GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/1.1\r\nHost: x\r\n\r\n", "POST /", "PRI * HTTP/2.0\r\n", "", "P"]
        {
            assert_eq!(told(&[text.as_bytes()]), (Version::One, text.as_bytes().to_vec()), "{text:?}");
        }
        let more = [&PREFACE[..], b"frames"].concat();
        assert_eq!(told(&[&more]), (Version::Two, more.clone()));
    }
}
