//! Messages of gRPC as they stand in a body (gRPC over HTTP/2, Length-Prefixed-Message), and its status codes.
//!
//! Refuses to know what the messages say and how HTTP carries them.

use zeroize::Zeroizing;

/// A frame begins with a flag for compression and four bytes of length.
const PREFIX: usize = 5;

/// Why a call ended, as far as we say it (google.rpc.Code).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// The request cannot be understood.
    InvalidArgument,
    /// What was to come did not come in time.
    DeadlineExceeded,
    /// Whoever asks may not.
    PermissionDenied,
    /// Too many at once.
    ResourceExhausted,
    /// No such method, or one that is not offered.
    Unimplemented,
    /// Not now; try again.
    Unavailable,
}

impl Code {
    /// Its number in `grpc-status`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArgument => "3",
            Self::DeadlineExceeded => "4",
            Self::PermissionDenied => "7",
            Self::ResourceExhausted => "8",
            Self::Unimplemented => "12",
            Self::Unavailable => "14",
        }
    }
}

/// The value of `grpc-message`: percent-encoded but for printable ASCII.
#[must_use]
pub fn message(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

/// A frame around a message; wiped when dropped, because some messages hold keys.
#[must_use]
pub fn frame(message: &impl prost::Message) -> Zeroizing<Vec<u8>> {
    let length = message.encoded_len();
    // Of its final size from the start, so that no copy stays behind in freed memory.
    let mut out = Zeroizing::new(Vec::with_capacity(PREFIX.saturating_add(length)));
    out.push(0);
    // Ours have a few hundred KiB at most.
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    // There is room, so it cannot fail.
    message.encode(&mut *out).ok();
    out
}

/// Why a body is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It was never agreed.
    #[error("the message is compressed, which was not agreed")]
    Compressed,
    /// Longer than anything that is asked here.
    #[error("the message has {0} bytes; at most {1} are taken")]
    TooLong(usize, usize),
    /// No protobuf.
    #[error("the message is no {0}: {1}")]
    Message(&'static str, String),
}

/// Puts frames together from what comes.
#[derive(Debug, Default)]
pub struct Frames {
    held: Vec<u8>,
}

impl Frames {
    /// Takes in some bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The next whole message, if it is there. What is held is never more than one message of `most` bytes and what one
    /// [`Self::feed`] brought.
    ///
    /// # Errors
    /// [`Malformed`]: nothing that follows can be understood.
    pub fn next(&mut self, most: usize) -> Result<Option<Vec<u8>>, Malformed> {
        let Some((head, rest)) = self.held.split_first_chunk::<PREFIX>() else { return Ok(None) };
        let [compressed, length @ ..] = *head;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if compressed != 0 {
            return Err(Malformed::Compressed);
        }
        if length > most {
            return Err(Malformed::TooLong(length, most));
        }
        let Some(message) = rest.get(..length).map(<[u8]>::to_vec) else { return Ok(None) };
        self.held.drain(..PREFIX.saturating_add(length));
        Ok(Some(message))
    }

    /// Whether a part of a message is left.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        !self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_apart_wherever_they_were_cut() {
        let all = [&[0, 0, 0, 0, 2, 7, 8][..], &[0, 0, 0, 0, 0], &[0, 0, 0, 0, 1, 9]].concat();
        for cut in 0..=all.len() {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for part in [&all[..cut], &all[cut..]] {
                frames.feed(part);
                while let Some(message) = frames.next(2).unwrap() {
                    found.push(message);
                }
            }
            assert_eq!(found, [vec![7, 8], vec![], vec![9]], "{cut}");
            assert!(!frames.is_torn());
        }
    }

    #[test]
    fn what_is_compressed_or_too_long_ends_it() {
        let next = |bytes: &[u8]| {
            let mut frames = Frames::default();
            frames.feed(bytes);
            frames.next(16)
        };
        assert_eq!(next(&[1, 0, 0, 0, 0]), Err(Malformed::Compressed));
        assert_eq!(next(&[0, 0, 0, 0, 17]), Err(Malformed::TooLong(17, 16)));
        assert_eq!(next(&[0, 0xff, 0xff, 0xff, 0xff]), Err(Malformed::TooLong(0xffff_ffff, 16)));
        assert_eq!(next(&[0, 0, 0, 0]), Ok(None));
    }

    #[test]
    fn a_message_for_people_is_one_line_of_ascii() {
        assert_eq!(message("100% „sure“\n"), "100%25 %E2%80%9Esure%E2%80%9C%0A");
    }
}
