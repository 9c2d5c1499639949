//! A stream whose requests name an authority that the HTTP library takes.
//!
//! gRPC in C and whatever stands on it (C++, Python, Ruby, PHP) writes a Unix socket's path into `:authority`, with `%2F` for
//! each slash. The grammar of URLs allows no percent sign in a host, and the library ends such a call before anybody sees
//! it. Nothing here asks for the authority, so a `%` in it becomes a `-`, in place: lengths stay as they are, and nothing else
//! is touched. Refuses to know anything else of HTTP/2.

use core::ops::Range;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// RFC 9113 section 3.4: so many bytes come before the first frame.
const PREFACE: usize = 24;
/// RFC 9113 section 4.1.
const HEAD: usize = 9;
/// Frames are not longer unless we say that they may (RFC 9113 section 6.5.2); we do not.
const LONGEST: usize = 16_384;
/// HEADERS, with the flags that say what stands before the fields (RFC 9113 section 6.2).
const HEADERS: u8 = 1;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;
/// Its index in the static table (RFC 7541 appendix A).
const AUTHORITY: usize = 1;

/// The stream.
#[derive(Debug)]
pub(super) struct Lenient<S> {
    inner: S,
    filter: Filter,
    ready: Vec<u8>,
    next: usize,
}

impl<S> Lenient<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, filter: Filter { pass: PREFACE, held: Vec::new() }, ready: Vec::new(), next: 0 }
    }
}

/// What is known of the frame that is coming.
#[derive(Debug)]
struct Filter {
    /// So many bytes pass as they are.
    pass: usize,
    /// The beginning of a frame.
    held: Vec<u8>,
}

impl Filter {
    /// Takes bytes in and puts out what can go on.
    fn feed(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        loop {
            if self.pass > 0 {
                let (some, rest) = bytes.split_at(self.pass.min(bytes.len()));
                out.extend_from_slice(some);
                self.pass = self.pass.saturating_sub(some.len());
                bytes = rest;
            }
            if bytes.is_empty() {
                return;
            }
            let wanted = self.wanted();
            let (some, rest) = bytes.split_at(wanted.saturating_sub(self.held.len()).min(bytes.len()));
            self.held.extend_from_slice(some);
            bytes = rest;
            if self.held.len() < self.wanted() {
                // Either nothing is left, or the head is whole now and says that more belongs to it.
                continue;
            }
            if self.is_fields() {
                mend(&mut self.held);
                out.append(&mut self.held);
            } else {
                self.pass = self.length();
                out.append(&mut self.held);
            }
        }
    }

    /// So many bytes have to be held before anything is decided.
    fn wanted(&self) -> usize {
        if self.held.len() >= HEAD && self.is_fields() { HEAD.saturating_add(self.length()) } else { HEAD }
    }

    fn is_fields(&self) -> bool {
        self.held.get(3) == Some(&HEADERS) && self.length() <= LONGEST
    }

    fn length(&self) -> usize {
        self.held.iter().take(3).fold(0, |sum, byte| (sum << 8) | usize::from(*byte))
    }
}

/// Mends the authority in a whole HEADERS frame.
fn mend(frame: &mut [u8]) {
    let Some(value) = authority(frame) else { return };
    let value = frame.get_mut(value).unwrap_or_default();
    value.iter_mut().filter(|byte| **byte == b'%').for_each(|byte| *byte = b'-');
}

/// Where the authority's plain text stands (RFC 7541 section 6); one that is coded by Huffman is left alone.
fn authority(frame: &[u8]) -> Option<Range<usize>> {
    let flags = *frame.get(4)?;
    let padding = usize::from(flags & PADDED != 0);
    let priority = if flags & PRIORITY != 0 { 5 } else { 0 };
    let mut at = HEAD.checked_add(padding)?.checked_add(priority)?;
    while let Some(&first) = frame.get(at) {
        let (index, after) = match first {
            0x80.. => {
                at = integer(frame, at, 7)?.1;
                continue;
            }
            0x20..=0x3f => {
                at = integer(frame, at, 5)?.1;
                continue;
            }
            0x40..=0x7f => integer(frame, at, 6)?,
            _ => integer(frame, at, 4)?,
        };
        let (name, after) =
            if index == 0 { text(frame, after).map(|(name, after)| (Some(name), after))? } else { (None, after) };
        let (value, after) = text(frame, after)?;
        let is_authority = index == AUTHORITY || name.flatten().and_then(|name| frame.get(name)) == Some(b":authority");
        if is_authority {
            return value;
        }
        at = after;
    }
    None
}

/// An integer with a prefix of so many bits, and where it ends (RFC 7541 section 5.1).
fn integer(bytes: &[u8], mut at: usize, prefix: u32) -> Option<(usize, usize)> {
    let most = 1_usize.checked_shl(prefix)?.checked_sub(1)?;
    let mut value = usize::from(*bytes.get(at)?) & most;
    at = at.checked_add(1)?;
    if value < most {
        return Some((value, at));
    }
    for shift in [0, 7, 14, 21] {
        let byte = usize::from(*bytes.get(at)?);
        at = at.checked_add(1)?;
        value = value.checked_add((byte & 0x7f) << shift)?;
        if byte & 0x80 == 0 {
            return Some((value, at));
        }
    }
    None
}

/// A text: where it stands unless it is coded, and where it ends (RFC 7541 section 5.2).
fn text(bytes: &[u8], at: usize) -> Option<(Option<Range<usize>>, usize)> {
    let coded = bytes.get(at)? & 0x80 != 0;
    let (length, start) = integer(bytes, at, 7)?;
    let end = start.checked_add(length).filter(|end| *end <= bytes.len())?;
    Some(((!coded).then_some(start..end), end))
}

impl<S: AsyncRead + Unpin> AsyncRead for Lenient<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if let Some(rest) = this.ready.get(this.next..).filter(|rest| !rest.is_empty()) {
                let taken = rest.get(..rest.len().min(buffer.remaining())).unwrap_or_default();
                buffer.put_slice(taken);
                this.next = this.next.saturating_add(taken.len());
                return Poll::Ready(Ok(()));
            }
            this.ready.clear();
            this.next = 0;
            let mut some = [0; 4_096];
            let mut read = ReadBuf::new(&mut some);
            match Pin::new(&mut this.inner).poll_read(cx, &mut read) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) if read.filled().is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => this.filter.feed(read.filled(), &mut this.ready),
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lenient<S> {
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

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn filtered(bytes: &[u8], cut: usize) -> Vec<u8> {
        let (mut filter, mut out) = (Filter { pass: PREFACE, held: Vec::new() }, Vec::new());
        for part in bytes.chunks(cut) {
            filter.feed(part, &mut out);
        }
        out
    }

    const PRI: &[u8; PREFACE] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    #[test]
    fn only_the_authority_is_mended_wherever_the_stream_is_cut() {
        // As gRPC in C writes it, after an indexed field and a literal one; then as an indexed name, padded, with a priority.
        let fields = b"\x83\x40\x05:path\x06/a%2Fb\x40\x0a:authority\x0etmp%2Fcap.sock\x86\x40\x01x\x03%%%";
        let mended = b"\x83\x40\x05:path\x06/a%2Fb\x40\x0a:authority\x0etmp-2Fcap.sock\x86\x40\x01x\x03%%%";
        let other = b"\x02\0\0\0\0\x10\x3e\x01\x03a%b\0\0";
        let other_mended = b"\x02\0\0\0\0\x10\x3e\x01\x03a-b\0\0";
        let long = vec![b'%'; 70_000];
        let all = |one: &[u8], two: &[u8]| {
            let data = frame(0, 0, b"\x01\x03a%b");
            [&PRI[..], &frame(4, 0, &[]), &frame(1, 4, one), &data, &frame(1, 0x2c, two), &frame(0, 1, &long)].concat()
        };
        let (given, expected) = (all(fields, other), all(mended, other_mended));
        for cut in [1, 2, 7, 9, 10, 4_096, given.len()] {
            assert_eq!(filtered(&given, cut), expected, "{cut}");
        }
    }

    #[test]
    fn what_is_coded_broken_or_torn_passes_as_it_is() {
        for fields in
            [&b"\x41\x83%%%"[..], b"\x41\x09a%b", b"\x7f\xff\xff\xff\xff\xff", b"\x3f", b"", b"\x00", b"\x00\x01"]
        {
            let given = [&PRI[..], &frame(1, 4, fields)].concat();
            assert_eq!(filtered(&given, 3), given, "{fields:?}");
        }
        let long = [&PRI[..], &frame(1, 4, &vec![b'%'; LONGEST + 1])].concat();
        assert_eq!(filtered(&long, 1_000), long);
    }
}
