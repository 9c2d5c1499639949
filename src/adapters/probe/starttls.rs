//! What is said before TLS starts, over protocols that begin in clear text.
//!
//! The server's answers are bounded, and nothing may follow the one that starts TLS: bytes that arrive early were
//! injected by somebody on the way (RFC 3207 section 6, CVE-2021-23222).

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::domain::inventory::StartTls;

/// Bytes of all answers before TLS: the longest EHLO answers seen are under 1 KiB.
const MOST_BYTES: usize = 8 << 10;

/// Brings the stream to where TLS starts.
///
/// # Errors
/// What the server said instead, for people.
pub(super) async fn negotiate<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    protocol: StartTls,
) -> Result<(), String> {
    match protocol {
        StartTls::None => Ok(()),
        StartTls::Smtp => smtp(&mut Lines::new(stream)).await,
        StartTls::Imap => imap(&mut Lines::new(stream)).await,
        StartTls::Postgres => postgres(stream).await,
    }
}

/// RFC 3207.
async fn smtp<S: AsyncRead + AsyncWrite + Unpin>(lines: &mut Lines<'_, S>) -> Result<(), String> {
    lines.smtp_reply("220", "the greeting").await?;
    // An address literal (RFC 5321 section 4.1.3): a client without a name of its own.
    lines.send(b"EHLO [127.0.0.1]\r\n").await?;
    let offers = lines.smtp_reply("250", "EHLO").await?;
    if !offers.iter().any(|line| line.get(4..).is_some_and(|rest| rest.trim().eq_ignore_ascii_case("STARTTLS"))) {
        return Err("the SMTP server does not offer STARTTLS".to_owned());
    }
    lines.send(b"STARTTLS\r\n").await?;
    lines.smtp_reply("220", "STARTTLS").await?;
    lines.nothing_left()
}

/// RFC 9051 section 6.2.1.
async fn imap<S: AsyncRead + AsyncWrite + Unpin>(lines: &mut Lines<'_, S>) -> Result<(), String> {
    let greeting = lines.line().await?;
    if !greeting.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("* OK")) {
        return Err(format!("the IMAP server greets with {greeting:?}; expected \"* OK\""));
    }
    lines.send(b"k1 STARTTLS\r\n").await?;
    loop {
        let line = lines.line().await?;
        match line.strip_prefix("k1 ") {
            Some(status) if status.get(..2).is_some_and(|s| s.eq_ignore_ascii_case("OK")) => {
                return lines.nothing_left();
            }
            Some(status) => return Err(format!("the IMAP server answers STARTTLS with {status:?}; expected OK")),
            None => {}
        }
    }
}

/// PostgreSQL's SSLRequest: length 8, code 1234 · 65536 + 5679; the answer is one byte.
async fn postgres<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> Result<(), String> {
    let request = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    stream.write_all(&request).await.map_err(|error| format!("the connection broke: {error}"))?;
    let mut answer = [0_u8; 1];
    stream.read_exact(&mut answer).await.map_err(|error| format!("the connection broke: {error}"))?;
    match answer {
        [b'S'] => Ok(()),
        [b'N'] => Err("the PostgreSQL server does not offer TLS".to_owned()),
        [other] => Err(format!("the PostgreSQL server answers {:?}; expected 'S'", char::from(other))),
    }
}

/// Lines of text, read in pieces.
struct Lines<'a, S> {
    stream: &'a mut S,
    buffer: Vec<u8>,
    read: usize,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Lines<'a, S> {
    fn new(stream: &'a mut S) -> Self {
        Self { stream, buffer: Vec::new(), read: 0 }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).await.map_err(|error| format!("the connection broke: {error}"))
    }

    /// The next line without its end, printable.
    async fn line(&mut self) -> Result<String, String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let text = String::from_utf8_lossy(&line);
                return Ok(text.trim_end().chars().filter(|c| !c.is_control()).take(200).collect());
            }
            if self.read >= MOST_BYTES {
                return Err(format!("the server says more than {MOST_BYTES} bytes before TLS"));
            }
            let mut piece = [0_u8; 1_024];
            let count = self.stream.read(&mut piece).await.map_err(|error| format!("the connection broke: {error}"))?;
            if count == 0 {
                return Err("the server closed the connection before TLS".to_owned());
            }
            self.read = self.read.saturating_add(count);
            self.buffer.extend_from_slice(piece.get(..count).unwrap_or_default());
        }
    }

    /// A reply of one or more lines (RFC 5321 section 4.2.1), which must have this code.
    async fn smtp_reply(&mut self, code: &str, to: &str) -> Result<Vec<String>, String> {
        let mut lines = Vec::new();
        loop {
            let line = self.line().await?;
            if !line.starts_with(code) {
                return Err(format!("the SMTP server answers {to} with {line:?}; expected {code}"));
            }
            let more = line.as_bytes().get(3) == Some(&b'-');
            lines.push(line);
            if !more {
                return Ok(lines);
            }
        }
    }

    fn nothing_left(&self) -> Result<(), String> {
        if self.buffer.is_empty() {
            Ok(())
        } else {
            Err("the server sent more than its answer before TLS: somebody on the way may have added it".to_owned())
        }
    }
}
