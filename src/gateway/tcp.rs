//! TCP frames: a u32 big-endian length, then one protobuf frame. One task a connection, which reads and writes at once.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Edge;
use super::connection::{BadFrame, BadFrames, Closing, LiveSession, Peer, SignIn, Step};
use super::error::{CLOSE_GOING_AWAY, CLOSE_NORMAL, CLOSE_TOO_BIG, CLOSE_TOO_SLOW};
use super::home::{Home, waker};
use super::listener::{Accepted, Bound, linger, start as listen, stopped};
use crate::actors::session::{Outbox, Socket, Transport};
use crate::protocol::codec::{Format, PREFIX_BYTES, decode_client, encode};
use crate::protocol::v1::{ClientFrame, ServerFrame};

/// The format of this edge.
const FORMAT: Format = Format::ProtoPrefixed;
/// Room made before a read when nothing is begun: enough for a short frame, and all that an idle connection holds.
const FIRST_READ_BYTES: usize = 256;
/// Room made before the next read where that was not enough.
const READ_BYTES: usize = 8 * 1024;
/// Reading stops while a session has too much to do; should nothing wake it (frames without an id have no answers),
/// it looks again after this.
pub(super) const RESUME_AFTER: Duration = Duration::from_millis(50);
/// How long the last frames of a connection may take to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Listens on `gateway.tcp_listen`.
pub fn start(edge: Edge) -> std::io::Result<Bound> {
    let address = edge.config.gateway.tcp_listen.clone();
    listen(edge, &address, serve)
}

async fn serve(edge: Arc<Edge>, accepted: Accepted) {
    let Accepted { stream, address, permit, mut stopping } = accepted;
    let Some(_permit) = permit else { return };
    let (mut read, mut write) = stream.into_split();
    let peer = Peer { transport: Transport::Tcp, format: FORMAT, address: address.to_string() };
    let mut frames = FrameReader::new(edge.config.gateway.frame_bytes_max);
    let closing = tokio::select! {
        closing = talk(&edge, peer, &mut frames, &mut read, &mut write) => closing,
        () = stopped(&mut stopping) => Closing::new(CLOSE_GOING_AWAY, "the node stops"),
    };
    tracing::debug!(target: "rookery::gateway", %address, code = closing.code, reason = closing.reason, "TCP connection closed");
    if write.shutdown().await.is_ok() {
        linger(&mut read).await;
    }
}

/// The whole life of a connection; what it was closed for.
async fn talk(
    edge: &Edge,
    peer: Peer,
    frames: &mut FrameReader,
    read: &mut OwnedReadHalf,
    write: &mut OwnedWriteHalf,
) -> Closing {
    let wires = Wires::default();
    // In a box, so that what the sign-in needs is not part of the task as long as the connection lives.
    let session = match Box::pin(sign_in(edge, peer, &wires, frames, read, write)).await {
        Ok(session) => session,
        Err(closing) => return closing,
    };
    let batch = edge.config.gateway.write_batch_bytes;
    let closing = tokio::select! {
        closing = receive(edge, &session, &wires, frames, read) => closing,
        closing = send(session.outbox(), &wires, write, batch) => return closing,
        () = wires.cut.notified() => return Closing::new(CLOSE_TOO_SLOW, "cut by its session"),
    };
    // What the reader left to be said last.
    let last_words = async {
        loop {
            let drained = session.outbox().drain(batch);
            if write_frames(&drained.frames, write).await.is_err() || !drained.more {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(FLUSH_TIMEOUT, last_words).await;
    closing
}

/// How a session reaches its connection.
#[derive(Default)]
struct Wires {
    /// The outbox has something.
    wake: Arc<Notify>,
    /// The socket is to be closed at once.
    cut: Arc<Notify>,
    /// The outbox was drained, so that reading may go on.
    resume: Notify,
}

impl Wires {
    fn socket(&self, home: Option<&Home>) -> Socket {
        let (wake, cut) = (self.wake.clone(), self.cut.clone());
        Socket { wake: waker(home, wake), cut: Box::new(move || cut.notify_one()) }
    }
}

/// Reads until somebody is signed in.
async fn sign_in(
    edge: &Edge,
    peer: Peer,
    wires: &Wires,
    frames: &mut FrameReader,
    read: &mut OwnedReadHalf,
    write: &mut OwnedWriteHalf,
) -> Result<LiveSession, Closing> {
    let limit = edge.config.gateway.hello_timeout;
    let deadline = Instant::now() + limit;
    let mut phase = SignIn::new(&edge.config.gateway);
    loop {
        let bytes = tokio::time::timeout_at(deadline, frames.next(read))
            .await
            .map_err(|_| SignIn::timed_out(limit))??;
        let step = match decode_client(&bytes, FORMAT) {
            Ok(frame) => phase.frame(frame),
            Err(error) => phase.bad_frame(BadFrame::undecodable(&bytes, FORMAT, &error)),
        };
        let step = match step {
            Step::Check { id, credentials } => {
                match edge.sign_in(id, credentials, peer.clone(), wires.socket(edge.home.as_ref())).await {
                    Ok(session) => return Ok(session),
                    Err(error) => phase.refused(id, error),
                }
            }
            other => other,
        };
        let (frame, closing) = match step {
            Step::Answer(frame) => (frame, None),
            Step::Close(frame, closing) => (frame, Some(closing)),
            Step::Check { .. } => unreachable!("refused() never asks for a check"),
        };
        if let Some(frame) = frame {
            write_answer(&frame, write).await?;
        }
        if let Some(closing) = closing {
            return Err(closing);
        }
    }
}

async fn write_answer(frame: &ServerFrame, write: &mut OwnedWriteHalf) -> Result<(), Closing> {
    let bytes = encode(frame, FORMAT);
    match tokio::time::timeout(FLUSH_TIMEOUT, write.write_all(&bytes)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(lost(&error)),
        Err(_) => Err(Closing::new(CLOSE_TOO_SLOW, "the client does not read its answers")),
    }
}

/// Hands frames to the session until the connection ends.
async fn receive(
    edge: &Edge,
    session: &LiveSession,
    wires: &Wires,
    frames: &mut FrameReader,
    read: &mut OwnedReadHalf,
) -> Closing {
    let mut bad = BadFrames::new(edge.config.gateway.bad_frames_max);
    loop {
        let bytes = match frames.next(read).await {
            Ok(bytes) => bytes,
            Err(closing) => return closing,
        };
        match decode_client(&bytes, FORMAT) {
            Ok(frame) => {
                bad.good();
                hand_over(session, wires, frame).await;
            }
            Err(error) => {
                session.touch();
                let (answer, closing) = bad.bad(BadFrame::undecodable(&bytes, FORMAT, &error));
                if let Some(answer) = answer {
                    session.outbox().push(encode(&answer, FORMAT));
                }
                if let Some(closing) = closing {
                    return closing;
                }
            }
        }
    }
}

async fn hand_over(session: &LiveSession, wires: &Wires, frame: ClientFrame) {
    let mut has_room = session.receive(frame);
    while !has_room {
        // Where the outbox has nothing to say, nobody notifies.
        let _ = tokio::time::timeout(RESUME_AFTER, wires.resume.notified()).await;
        has_room = session.has_room();
    }
}

/// Writes what the outbox has until it says close.
async fn send(outbox: &Outbox, wires: &Wires, write: &mut OwnedWriteHalf, batch: usize) -> Closing {
    loop {
        let drained = outbox.drain(batch);
        if let Err(error) = write_frames(&drained.frames, write).await {
            return lost(&error);
        }
        if let Some((code, reason)) = drained.close {
            return Closing::new(code, reason);
        }
        wires.resume.notify_one();
        if !drained.more {
            wires.wake.notified().await;
        }
    }
}

/// Writes frames in one go.
async fn write_frames(
    frames: &[crate::actors::session::OutFrame],
    write: &mut OwnedWriteHalf,
) -> std::io::Result<()> {
    match frames {
        [] => Ok(()),
        [one] => write.write_all(&one.bytes).await,
        many => {
            let mut joined = BytesMut::with_capacity(many.iter().map(|frame| frame.bytes.len()).sum());
            for frame in many {
                joined.extend_from_slice(&frame.bytes);
            }
            write.write_all(&joined).await
        }
    }
}

fn lost(error: &std::io::Error) -> Closing {
    Closing::new(CLOSE_NORMAL, format!("the connection was lost: {error}"))
}

/// Cuts what arrives into frames. Dropping the future of [`Self::next`] loses nothing.
struct FrameReader {
    buffer: BytesMut,
    /// The last read filled all the room there was, so that more may wait.
    filled: bool,
    max: usize,
}

impl FrameReader {
    fn new(max: usize) -> Self {
        Self { buffer: BytesMut::new(), filled: false, max }
    }

    /// The next frame without its length.
    async fn next(&mut self, read: &mut (impl AsyncRead + Unpin)) -> Result<Bytes, Closing> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(frame);
            }
            if self.filled || !self.buffer.is_empty() {
                self.buffer.reserve(READ_BYTES);
            } else {
                // What was there is with the frames that were cut from it; an idle connection keeps none of it.
                self.buffer = BytesMut::with_capacity(FIRST_READ_BYTES);
            }
            match read.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(Closing::new(CLOSE_NORMAL, "the client closed")),
                Ok(_) => self.filled = self.buffer.len() == self.buffer.capacity(),
                Err(error) => return Err(lost(&error)),
            }
        }
    }

    /// A frame that has arrived whole.
    fn take(&mut self) -> Result<Option<Bytes>, Closing> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length > self.max {
            return Err(Closing::new(
                CLOSE_TOO_BIG,
                format!("a frame of {length} bytes; {} is the most", self.max),
            ));
        }
        if self.buffer.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX_BYTES);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_are_cut_wherever_the_bytes_were_broken() {
        let bytes = [0, 0, 0, 2, 7, 8, 0, 0, 0, 0, 0, 0, 0, 1, 9];
        // One byte a read.
        let (mut client, mut slow) = tokio::io::duplex(1);
        let writing = tokio::spawn(async move { client.write_all(&bytes).await });
        let mut frames = FrameReader::new(10);
        let mut taken = Vec::new();
        while let Ok(frame) = frames.next(&mut slow).await {
            taken.push(frame.to_vec());
        }
        writing.await.expect("not cancelled").expect("all is read");
        assert_eq!(taken, [vec![7, 8], vec![], vec![9]]);
    }

    #[tokio::test]
    async fn an_idle_connection_holds_a_small_buffer_whatever_it_has_read() {
        let (mut client, mut server) = tokio::io::duplex(1 << 20);
        let mut frames = FrameReader::new(100_000);
        for length in [100_u32, 90_000, 1] {
            let mut bytes = length.to_be_bytes().to_vec();
            bytes.resize(PREFIX_BYTES + length as usize, 7);
            client.write_all(&bytes).await.expect("there is room");
            let frame = frames.next(&mut server).await.expect("a frame");
            assert_eq!(frame.len(), length as usize);
        }
        let idle = tokio::time::timeout(Duration::from_millis(10), frames.next(&mut server)).await;
        assert!(
            idle.is_err() && frames.buffer.capacity() <= FIRST_READ_BYTES,
            "{}",
            frames.buffer.capacity()
        );
    }

    #[tokio::test]
    async fn a_frame_too_long_ends_the_connection_before_it_is_read() {
        let mut bytes: &[u8] = &[0xff, 0xff, 0xff, 0xff];
        let closing = FrameReader::new(10).next(&mut bytes).await.expect_err("4 GiB is too long");
        assert_eq!(closing.code, CLOSE_TOO_BIG);
    }
}
