//! The writing half of a connection.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::net::tcp::OwnedWriteHalf;

use super::frames::{self, Opcode};
use super::{Destination, Framing, IDLE_TAG};
use crate::cli::load::checker::{self, Stamp};
use crate::protocol::codec;
use crate::protocol::v1::{self, ClientFrame, client_frame::Request};

/// Unwritten bytes of one connection at which it takes no more.
const UNWRITTEN_MAX: usize = 256 * 1024;

/// The writing half of a connection. When it and the `Inlet` are gone, the connection closes.
#[derive(Debug)]
pub(in crate::cli::load) struct Link {
    write: OwnedWriteHalf,
    framing: Framing,
    out: Mutex<Out>,
    /// Something was sent since the last look of the heartbeat.
    busy: AtomicBool,
}

#[derive(Debug, Default)]
struct Out {
    unwritten: Vec<u8>,
    /// A task waits for the socket to take more.
    flushing: bool,
    /// On lines: the numbers of the questions not yet answered, oldest first.
    asked: VecDeque<u64>,
    mask: u32,
}

thread_local! {
    /// The frame that is written next, whose strings keep their room, and its bytes.
    static PEN: RefCell<(ClientFrame, Vec<u8>)> = RefCell::default();
}

impl Link {
    /// Of a connection that has been greeted.
    pub(in crate::cli::load) fn new(write: OwnedWriteHalf, framing: Framing) -> Self {
        let out = Mutex::new(Out { mask: rand::random(), ..Out::default() });
        Self { write, framing, out, busy: AtomicBool::new(true) }
    }

    pub(in crate::cli::load) fn framing(&self) -> Framing {
        self.framing
    }

    /// Writes a WebSocket control frame. It leaves with [`Self::flush`].
    pub(super) fn control(&self, opcode: Opcode, payload: &[u8]) {
        let mut out = self.out.lock();
        let mask = out.mask;
        frames::wrap_web_socket(opcode, payload, mask, &mut out.unwritten);
    }

    /// Whether more may be written: the server takes what it is sent.
    pub(in crate::cli::load) fn has_room(&self) -> bool {
        self.out.lock().unwritten.len() < UNWRITTEN_MAX
    }

    /// Writes a message; its answer bears `number`. It leaves with [`Self::flush`].
    pub(in crate::cli::load) fn message(&self, to: Destination, from: u64, stamp: Stamp, bytes: usize) {
        self.message_tagged(stamp.number, to, from, stamp, bytes);
    }

    /// [`Self::message`] whose answer bears another number than the message.
    pub(in crate::cli::load) fn message_tagged(
        &self,
        number: u64,
        to: Destination,
        from: u64,
        stamp: Stamp,
        bytes: usize,
    ) {
        if self.framing == Framing::Line {
            PEN.with_borrow_mut(|(frame, payload)| {
                let send = send_of(frame);
                checker::write(stamp, bytes, &mut send.text);
                payload.clear();
                let (command, id) = match to {
                    Destination::User(id) => ("SEND", id),
                    Destination::Conversation(id) => ("SENDGROUP", id),
                };
                // Writing to a Vec can't fail.
                let _ = io::Write::write_fmt(payload, format_args!("{command} {id} {}", send.text));
                self.put(payload, Some(number));
            });
            return;
        }
        PEN.with_borrow_mut(|(frame, payload)| {
            frame.id = number + 1;
            let send = send_of(frame);
            (send.conversation_id, send.to_user_id) = match to {
                Destination::User(id) => (0, id),
                Destination::Conversation(id) => (id, 0),
            };
            checker::write_client_id(stamp, from, &mut send.client_id);
            checker::write(stamp, bytes, &mut send.text);
            payload.clear();
            codec::encode_behind(frame, self.framing.format(), payload);
            self.put(payload, None);
        });
    }

    /// Writes a request; its answer bears `number`. It leaves with [`Self::flush`]. Not for lines.
    pub(in crate::cli::load) fn request(&self, number: u64, request: Request) {
        let frame = ClientFrame { id: number + 1, request: Some(request) };
        PEN.with_borrow_mut(|(_, payload)| {
            payload.clear();
            codec::encode_behind(&frame, self.framing.format(), payload);
            self.put(payload, None);
        });
    }

    /// Writes a `ping` as a frame of at least `bytes`, filled up by a field that the protocol does not know and so
    /// ignores. Its answer bears `number`. It leaves with [`Self::flush`]. Not for lines.
    pub(in crate::cli::load) fn ping(&self, number: u64, bytes: usize) {
        PEN.with_borrow_mut(|(_, payload)| {
            payload.clear();
            let frame = ClientFrame { id: number + 1, request: Some(Request::Ping(v1::Ping {})) };
            codec::encode_behind(&frame, self.framing.format(), payload);
            let missing = bytes.saturating_sub(payload.len());
            match self.framing {
                Framing::WsJson if missing >= 8 => {
                    payload.pop();
                    payload.extend_from_slice(b",\"x\":\"");
                    payload.resize(payload.len() + missing - 7, b'x');
                    payload.extend_from_slice(b"\"}");
                }
                // Field 100, a string: two bytes of key, one of length.
                Framing::WsProto | Framing::Tcp if (3..=130).contains(&missing) => {
                    payload.extend_from_slice(&[0xa2, 0x06, (missing - 3) as u8]);
                    payload.resize(payload.len() + missing - 3, b'x');
                }
                _ => {}
            }
            self.put(payload, None);
        });
    }

    /// Writes a command line; its answer bears `number`. It leaves with [`Self::flush`].
    pub(in crate::cli::load) fn command(&self, number: u64, line: &str) {
        self.put(line.as_bytes(), Some(number));
    }

    pub(in crate::cli::load) fn put(&self, payload: &[u8], asked: Option<u64>) {
        let mut out = self.out.lock();
        // Any mask will do that a proxy can't foresee; a new one for each frame, by an LCG (Numerical Recipes).
        out.mask = out.mask.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let mask = out.mask;
        frames::wrap(payload, self.framing, mask, &mut out.unwritten);
        out.asked.extend(asked);
    }

    /// Sends what was written. Waits for nothing: what the socket does not take now leaves by a task of its own.
    pub(in crate::cli::load) fn flush(self: &Arc<Self>) {
        if self.flush_now() {
            return;
        }
        let link = Arc::clone(self);
        tokio::spawn(async move { while !link.flush_some() && link.write.writable().await.is_ok() {} });
    }

    /// Whether nothing is left that a new task must see to.
    fn flush_now(&self) -> bool {
        let mut out = self.out.lock();
        if out.unwritten.is_empty() || out.flushing {
            return true;
        }
        self.busy.store(true, Ordering::Relaxed);
        out.flushing = !write_some(&self.write, &mut out.unwritten);
        !out.flushing
    }

    /// For the task: whether all is out, or the connection is.
    fn flush_some(&self) -> bool {
        let mut out = self.out.lock();
        out.flushing = !write_some(&self.write, &mut out.unwritten);
        !out.flushing
    }

    /// Shows the server that we are there, if nothing else did since the last call.
    pub(in crate::cli::load) fn beat(self: &Arc<Self>) {
        if self.framing != Framing::Line && !self.busy.swap(false, Ordering::Relaxed) {
            self.ping(IDLE_TAG, 0);
            self.flush();
            self.busy.store(false, Ordering::Relaxed);
        }
    }

    /// The question that an answer line belongs to.
    pub(in crate::cli::load) fn oldest_asked(&self) -> u64 {
        self.out.lock().asked.pop_front().unwrap_or(IDLE_TAG)
    }
}

/// Whether all is written. An error shows itself to the reader, so that here it ends the writing.
fn write_some(write: &OwnedWriteHalf, unwritten: &mut Vec<u8>) -> bool {
    let mut written = 0;
    while written < unwritten.len() {
        match write.try_write(&unwritten[written..]) {
            Ok(bytes) => written += bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                unwritten.drain(..written);
                return false;
            }
            Err(_) => break,
        }
    }
    unwritten.clear();
    true
}

fn send_of(frame: &mut ClientFrame) -> &mut v1::Send {
    if !matches!(frame.request, Some(Request::Send(_))) {
        frame.request = Some(Request::Send(v1::Send::default()));
    }
    match &mut frame.request {
        Some(Request::Send(send)) => send,
        _ => unreachable!("it was put there above"),
    }
}
