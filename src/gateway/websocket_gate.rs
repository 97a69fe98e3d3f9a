//! What stands between a WebSocket's bytes and its decoder: it can be shut for a while (backpressure), it follows the
//! frames' headers, and it lets nothing through that the decoder would choke on or hold in memory.
//!
//! The decoder of actix gathers a frame whole before it finds it too large, reports a malformed header again and
//! again, and reads as long as there is something to read; so the first two are found here, and nothing is read while
//! it holds a whole frame.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use actix_web::error::PayloadError;
use bytes::Bytes;
use futures_util::Stream;

/// Why nothing comes through any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A frame declares more bytes than one may have.
    TooBig,
    /// Bytes that are no WebSocket frame.
    NotAFrame,
}

/// The socket actor's side.
#[derive(Clone, Default)]
pub struct Gate(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    shut: bool,
    waker: Option<Waker>,
    fault: Option<Fault>,
    /// Whole frames that the decoder holds.
    frames: usize,
}

impl Gate {
    /// Nothing is read until [`Self::open`]. What was read already still comes.
    pub fn shut(&self) {
        self.0.borrow_mut().shut = true;
    }

    /// Reading goes on.
    pub fn open(&self) {
        let mut state = self.0.borrow_mut();
        state.shut = false;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// A frame has come out of the decoder.
    pub fn took(&self) {
        let mut state = self.0.borrow_mut();
        state.frames = state.frames.saturating_sub(1);
    }

    /// What was found wrong, if anything: then the rest is read and dropped.
    pub fn fault(&self) -> Option<Fault> {
        self.0.borrow().fault
    }
}

/// The decoder's side: the bytes of `inner`, checked.
pub struct Gated<S> {
    inner: S,
    gate: Gate,
    headers: Headers,
}

impl<S> Gated<S> {
    /// For frames of at most `frame_bytes_max` payload bytes.
    pub fn new(inner: S, gate: Gate, frame_bytes_max: usize) -> Self {
        Self { inner, gate, headers: Headers::new(frame_bytes_max) }
    }
}

impl<S> Stream for Gated<S>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
{
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            {
                let mut state = self.gate.0.borrow_mut();
                if state.shut && state.fault.is_none() {
                    state.waker = Some(context.waker().clone());
                    return Poll::Pending;
                }
                if state.frames > 0 && state.fault.is_none() {
                    // No waker: the decoder has something to give, and asks again after it.
                    return Poll::Pending;
                }
            }
            let chunk = match Pin::new(&mut self.inner).poll_next(context) {
                Poll::Ready(Some(Ok(chunk))) => chunk,
                other => return other,
            };
            if self.gate.fault().is_some() {
                // Read and dropped, so that the close frame is not destroyed by a reset.
                continue;
            }
            return match self.headers.follow(&chunk) {
                Ok(frames) => {
                    self.gate.0.borrow_mut().frames += frames;
                    Poll::Ready(Some(Ok(chunk)))
                }
                Err(fault) => {
                    self.gate.0.borrow_mut().fault = Some(fault);
                    Poll::Ready(Some(Err(PayloadError::EncodingCorrupted)))
                }
            };
        }
    }
}

/// Follows the headers of the frames in a stream of bytes (RFC 6455, section 5.2).
struct Headers {
    /// Bytes of a header that has not come whole.
    partial: Vec<u8>,
    /// Payload bytes still to come of the frame begun.
    payload_left: usize,
    max: usize,
}

/// The longest header: two bytes, a length of eight, a mask of four.
const HEADER_MAX: usize = 14;

impl Headers {
    fn new(max: usize) -> Self {
        Self { partial: Vec::with_capacity(HEADER_MAX), payload_left: 0, max }
    }

    /// How many frames have become whole with these bytes.
    fn follow(&mut self, mut bytes: &[u8]) -> Result<usize, Fault> {
        let mut whole = 0;
        while !bytes.is_empty() {
            let skipped = self.payload_left.min(bytes.len());
            self.payload_left -= skipped;
            bytes = &bytes[skipped..];
            whole += usize::from(skipped > 0 && self.payload_left == 0);
            while let [next, rest @ ..] = bytes {
                self.partial.push(*next);
                bytes = rest;
                if let Some(length) = self.header()? {
                    self.partial.clear();
                    self.payload_left = length;
                    whole += usize::from(length == 0);
                    break;
                }
            }
        }
        Ok(whole)
    }

    /// The payload's length, once the header has come whole.
    fn header(&self) -> Result<Option<usize>, Fault> {
        let [first, second, rest @ ..] = self.partial.as_slice() else { return Ok(None) };
        let reserved = first & 0x70 != 0;
        let opcode = first & 0x0f;
        let is_control = opcode & 0x08 != 0;
        let masked = second & 0x80 != 0;
        if reserved || !matches!(opcode, 0..=2 | 8..=10) || !masked {
            return Err(Fault::NotAFrame);
        }
        let (length, length_bytes) = match second & 0x7f {
            126 => match rest.first_chunk::<2>() {
                Some(bytes) => (u64::from(u16::from_be_bytes(*bytes)), 2),
                None => return Ok(None),
            },
            127 => match rest.first_chunk::<8>() {
                Some(bytes) => (u64::from_be_bytes(*bytes), 8),
                None => return Ok(None),
            },
            short => (u64::from(short), 0),
        };
        if is_control && length > 125 {
            return Err(Fault::NotAFrame);
        }
        let length =
            usize::try_from(length).ok().filter(|length| *length <= self.max).ok_or(Fault::TooBig)?;
        // Behind the length comes the mask.
        Ok((rest.len() >= length_bytes + 4).then_some(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![0x80 | opcode];
        match length {
            0..=125 => bytes.push(0x80 | length as u8),
            126..=65_535 => {
                bytes.push(0x80 | 126);
                bytes.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(0x80 | 127);
                bytes.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        bytes.extend_from_slice(&[1, 2, 3, 4]);
        bytes.resize(bytes.len() + length, 0xff);
        bytes
    }

    #[test]
    fn frames_are_followed_however_they_are_broken() {
        let mut bytes = Vec::new();
        for length in [0, 1, 125, 126, 70_000, 3] {
            bytes.extend(frame(2, length));
        }
        for size in [1, 2, 3, 7, 100, bytes.len()] {
            let mut headers = Headers::new(70_000);
            let whole: Result<usize, Fault> = bytes.chunks(size).map(|chunk| headers.follow(chunk)).sum();
            assert_eq!(whole, Ok(6), "chunks of {size}");
            assert_eq!((headers.payload_left, headers.partial.len()), (0, 0));
        }
    }

    #[test]
    fn a_frame_too_big_is_found_by_its_header() {
        let mut headers = Headers::new(1000);
        assert_eq!(headers.follow(&frame(2, 1000)), Ok(1));
        assert_eq!(headers.follow(&frame(2, 1001)[..4]), Err(Fault::TooBig));
        assert_eq!(Headers::new(1000).follow(&[0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0]), Err(Fault::TooBig));
    }

    #[test]
    fn what_is_no_frame_is_found() {
        let follow = |bytes: &[u8]| Headers::new(1000).follow(bytes);
        assert_eq!(follow(&[0x82, 0x00]), Err(Fault::NotAFrame), "not masked");
        assert_eq!(follow(&[0xc2, 0x80]), Err(Fault::NotAFrame), "a reserved bit");
        assert_eq!(follow(&[0x83, 0x80]), Err(Fault::NotAFrame), "an unknown opcode");
        assert_eq!(follow(&frame(9, 126)), Err(Fault::NotAFrame), "a ping too long");
    }
}
