//! Cuts what arrives into lines, and never holds more than the longest line allowed.

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Room made before each read.
const READ_BYTES: usize = 2 * 1024;

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// A line, without its end.
    Line(String),
    /// A line that is not UTF-8.
    NotText,
    /// More bytes than a line may have came without an end of line. Nothing can be read any more.
    TooLong,
    /// The client closed, or the connection was lost.
    Ended,
}

/// Reads lines. Dropping the future of [`Self::next`] loses nothing.
pub struct LineReader {
    buffer: BytesMut,
    /// Bytes at the front of the buffer that hold no end of line.
    scanned: usize,
    max: usize,
}

impl LineReader {
    /// Lines of at most `max` bytes, their end not counted.
    pub fn new(max: usize) -> Self {
        Self { buffer: BytesMut::new(), scanned: 0, max }
    }

    /// The next line.
    pub async fn next(&mut self, read: &mut (impl AsyncRead + Unpin)) -> Read {
        loop {
            if let Some(taken) = self.take() {
                return taken;
            }
            self.buffer.reserve(READ_BYTES);
            // What a client sends without an end of line before it closes is no line.
            if !matches!(read.read_buf(&mut self.buffer).await, Ok(read) if read > 0) {
                return Read::Ended;
            }
        }
    }

    fn take(&mut self) -> Option<Read> {
        let Some(end) = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n') else {
            self.scanned = self.buffer.len();
            // One more may be the CR of the line's end.
            return (self.buffer.len() > self.max + 1).then_some(Read::TooLong);
        };
        let mut line = self.buffer.split_to(self.scanned + end);
        self.buffer.advance(1);
        self.scanned = 0;
        if self.buffer.is_empty() {
            // An idle connection keeps no buffer.
            self.buffer = BytesMut::new();
        }
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        if line.len() > self.max {
            return Some(Read::TooLong);
        }
        Some(String::from_utf8(line.into()).map_or(Read::NotText, Read::Line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_all(max: usize, mut bytes: &[u8]) -> Vec<Read> {
        let mut reader = LineReader::new(max);
        let mut all = Vec::new();
        loop {
            let read = reader.next(&mut bytes).await;
            let over = matches!(read, Read::Ended | Read::TooLong);
            all.push(read);
            if over {
                return all;
            }
        }
    }

    #[tokio::test]
    async fn lines_end_with_either_end() {
        let line = |text: &str| Read::Line(text.to_owned());
        let all = read_all(8, b"a\r\n\nbc\n\xff\nrest").await;
        assert_eq!(all, [line("a"), line(""), line("bc"), Read::NotText, Read::Ended]);
    }

    #[tokio::test]
    async fn a_line_is_too_long_by_one_byte_and_not_by_its_end() {
        assert_eq!(read_all(3, b"abc\r\n").await, [Read::Line("abc".into()), Read::Ended]);
        assert_eq!(read_all(3, b"abcd\n").await, [Read::TooLong]);
        assert_eq!(read_all(3, b"abcde").await, [Read::TooLong]);
    }

    #[tokio::test]
    async fn a_huge_line_is_never_held() {
        let mut endless = tokio::io::repeat(b'x');
        let mut reader = LineReader::new(64 * 1024);
        assert_eq!(reader.next(&mut endless).await, Read::TooLong);
        assert!(reader.buffer.capacity() < 256 * 1024, "{}", reader.buffer.capacity());
    }
}
