//! One socket of any transport as a stream of server frames and a sink of bytes, polled by one task.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{
    self, Message, Utf8Bytes,
    client::IntoClientRequest,
    http::HeaderValue,
    protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
};

use super::error::{ClientError, Close};
use crate::protocol::codec::{self, Format, PREFIX_BYTES};
use crate::protocol::v1::ServerFrame;

/// Largest server frame taken, in bytes; the server's own limit is far below.
const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a read asks the kernel for, in bytes. Small, because the load tool holds thousands of sockets.
const READ_BYTES: usize = 4 * 1024;
/// Unwritten bytes at which further frames wait.
const WRITE_BYTES_HIGH: usize = 64 * 1024;

/// How a connection is made and framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Transport {
    /// WebSocket with subprotocol `rookery.v1+json`.
    #[default]
    WebSocketJson,
    /// WebSocket with subprotocol `rookery.v1+proto`.
    WebSocketProto,
    /// TCP frames: a u32 length, then protobuf.
    Tcp,
}

impl Transport {
    /// How frames are written.
    pub fn format(self) -> Format {
        match self {
            Self::WebSocketJson => Format::Json,
            Self::WebSocketProto => Format::Proto,
            Self::Tcp => Format::ProtoPrefixed,
        }
    }

    fn subprotocol(self) -> &'static str {
        match self {
            Self::WebSocketJson => "rookery.v1+json",
            Self::WebSocketProto | Self::Tcp => "rookery.v1+proto",
        }
    }
}

/// A connected socket.
#[derive(Debug)]
pub(crate) enum Wire {
    WebSocket(Box<WebSocketStream<TcpStream>>, Format),
    Tcp(TcpWire),
}

/// TCP frames.
#[derive(Debug)]
pub(crate) struct TcpWire {
    stream: TcpStream,
    read: BytesMut,
    write: BytesMut,
}

/// What a read came to: a frame, or a sign of life without one. `Err` is the end of the connection.
pub(crate) type Read = Result<Option<ServerFrame>, Close>;

impl Wire {
    /// Connects to `endpoint` (host:port). `local` is the source address; `bearer` signs a WebSocket in at once.
    /// No deadline of its own.
    pub(crate) async fn connect(
        endpoint: &str,
        transport: Transport,
        local: Option<IpAddr>,
        bearer: Option<&str>,
    ) -> Result<Self, ClientError> {
        let unreachable = |reason: String| ClientError::Unreachable { endpoint: endpoint.to_owned(), reason };
        let stream = connect_tcp(endpoint, local).await.map_err(|error| unreachable(error.to_string()))?;
        // Frames are small and waited for; the batching is done here, not by the kernel.
        stream.set_nodelay(true).map_err(|error| unreachable(error.to_string()))?;
        if transport == Transport::Tcp {
            return Ok(Self::Tcp(TcpWire { stream, read: BytesMut::new(), write: BytesMut::new() }));
        }
        let mut request = format!("ws://{endpoint}/ws")
            .into_client_request()
            .map_err(|error| unreachable(error.to_string()))?;
        request
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", HeaderValue::from_static(transport.subprotocol()));
        if let Some(token) = bearer {
            let value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| unreachable("the token has characters that no token has".to_owned()))?;
            request.headers_mut().insert("Authorization", value);
        }
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(WRITE_BYTES_HIGH)
            .max_frame_size(Some(FRAME_BYTES_MAX))
            .max_message_size(Some(FRAME_BYTES_MAX));
        let (socket, _) = tokio_tungstenite::client_async_with_config(request, stream, Some(config))
            .await
            .map_err(|error| unreachable(describe(&error)))?;
        Ok(Self::WebSocket(Box::new(socket), transport.format()))
    }

    /// The next frame.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Read> {
        match self {
            Self::WebSocket(socket, format) => {
                let message = match ready!(Pin::new(&mut **socket).poll_next(cx)) {
                    Some(Ok(message)) => message,
                    Some(Err(error)) => return Poll::Ready(Err(Close::broken(describe(&error)))),
                    None => return Poll::Ready(Err(Close::broken("the server closed the connection"))),
                };
                let bytes = match &message {
                    Message::Text(text) => text.as_bytes(),
                    Message::Binary(bytes) => bytes.as_ref(),
                    Message::Close(frame) => return Poll::Ready(Err(close_of(frame.as_ref()))),
                    Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {
                        return Poll::Ready(Ok(None));
                    }
                };
                Poll::Ready(decode(bytes, *format))
            }
            Self::Tcp(tcp) => tcp.poll_read(cx),
        }
    }

    /// Whether [`Self::start_send`] may be called.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Close>> {
        match self {
            Self::WebSocket(socket, _) => Pin::new(&mut **socket).poll_ready(cx).map_err(|e| broken(&e)),
            Self::Tcp(tcp) => {
                if tcp.write.len() < WRITE_BYTES_HIGH {
                    return Poll::Ready(Ok(()));
                }
                tcp.poll_flush(cx)
            }
        }
    }

    /// Takes an encoded frame to write.
    pub(crate) fn start_send(&mut self, bytes: Bytes) -> Result<(), Close> {
        match self {
            Self::WebSocket(socket, Format::Json) => {
                // What isn't UTF-8 can only be a test's deliberate nonsense, and a binary frame is no less so.
                let message =
                    Utf8Bytes::try_from(bytes.clone()).map_or_else(|_| Message::Binary(bytes), Message::Text);
                Pin::new(&mut **socket).start_send(message).map_err(|error| broken(&error))
            }
            Self::WebSocket(socket, _) => {
                Pin::new(&mut **socket).start_send(Message::Binary(bytes)).map_err(|error| broken(&error))
            }
            Self::Tcp(tcp) => {
                tcp.write.extend_from_slice(&bytes);
                Ok(())
            }
        }
    }

    /// Writes out what was taken.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Close>> {
        match self {
            Self::WebSocket(socket, _) => Pin::new(&mut **socket).poll_flush(cx).map_err(|e| broken(&e)),
            Self::Tcp(tcp) => tcp.poll_flush(cx),
        }
    }

    /// Says goodbye, as far as the transport knows how.
    pub(crate) async fn close(&mut self) {
        match self {
            Self::WebSocket(socket, _) => {
                let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
                // The connection ends either way.
                let _ = socket.close(Some(frame)).await;
            }
            Self::Tcp(tcp) => {
                let _ = tokio::io::AsyncWriteExt::shutdown(&mut tcp.stream).await;
            }
        }
    }
}

impl TcpWire {
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Read> {
        loop {
            if let Some(prefix) = self.read.first_chunk::<PREFIX_BYTES>() {
                let length = u32::from_be_bytes(*prefix) as usize;
                if length > FRAME_BYTES_MAX {
                    let reason = format!("the server announced a frame of {length} bytes");
                    return Poll::Ready(Err(Close::broken(reason)));
                }
                if self.read.len() >= PREFIX_BYTES + length {
                    self.read.advance(PREFIX_BYTES);
                    let frame = self.read.split_to(length);
                    return Poll::Ready(decode(&frame, Format::ProtoPrefixed));
                }
                self.read.reserve(PREFIX_BYTES + length - self.read.len());
            }
            let mut chunk = [0_u8; READ_BYTES];
            let mut buffer = ReadBuf::new(&mut chunk);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
                Ok(()) if buffer.filled().is_empty() => {
                    return Poll::Ready(Err(Close::broken("the server closed the connection")));
                }
                Ok(()) => self.read.extend_from_slice(buffer.filled()),
                Err(error) => return Poll::Ready(Err(Close::broken(error.to_string()))),
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Close>> {
        while !self.write.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.write)) {
                Ok(0) => return Poll::Ready(Err(Close::broken("the server takes no more bytes"))),
                Ok(written) => self.write.advance(written),
                Err(error) => return Poll::Ready(Err(Close::broken(error.to_string()))),
            }
        }
        Poll::Ready(Ok(()))
    }
}

async fn connect_tcp(endpoint: &str, local: Option<IpAddr>) -> io::Result<TcpStream> {
    let Some(local) = local else { return TcpStream::connect(endpoint).await };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host(endpoint).await?.filter(|a| a.is_ipv4() == local.is_ipv4()) {
        let socket = if local.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.bind(SocketAddr::new(local, 0))?;
        match socket.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn decode(bytes: &[u8], format: Format) -> Read {
    codec::decode_server(bytes, format)
        .map(Some)
        .map_err(|error| Close::broken(format!("the server sent no frame: {error}")))
}

fn close_of(frame: Option<&CloseFrame>) -> Close {
    match frame {
        None => Close::broken("the server closed the connection"),
        Some(frame) => {
            let reason = match frame.reason.as_str() {
                "" => "the server closed the connection".to_owned(),
                reason => reason.to_owned(),
            };
            Close { code: Some(frame.code.into()), reason }
        }
    }
}

fn broken(error: &tungstenite::Error) -> Close {
    Close::broken(describe(error))
}

/// The error in words; an HTTP refusal of the upgrade with its status.
fn describe(error: &tungstenite::Error) -> String {
    match error {
        tungstenite::Error::Http(response) => {
            format!("the server refused the WebSocket with HTTP status {}", response.status())
        }
        other => other.to_string(),
    }
}
