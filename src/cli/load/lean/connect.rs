//! How a connection begins: the socket, and what comes before the first frame.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;

use super::{Framing, Inlet, frames};
use crate::client::ClientError;

/// How long connecting may take, the WebSocket handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to `endpoint` (host:port), from `local` if given.
pub(in crate::cli::load) async fn connect(
    endpoint: &str,
    framing: Framing,
    local: Option<Ipv4Addr>,
) -> Result<Inlet, ClientError> {
    let connecting = async {
        let stream = open(endpoint, local).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        greet(stream, endpoint, framing).await
    };
    let late = || format!("no connection within {} ms", CONNECT_TIMEOUT.as_millis());
    timeout(CONNECT_TIMEOUT, connecting)
        .await
        .unwrap_or_else(|_| Err(late()))
        .map_err(|reason| ClientError::Unreachable { endpoint: endpoint.to_owned(), reason })
}

async fn open(endpoint: &str, local: Option<Ipv4Addr>) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = match local {
        Some(_) => lookup_host(endpoint).await?.filter(SocketAddr::is_ipv4).collect(),
        None => Vec::new(),
    };
    // Of IPv6's loopback there is one address only, and so no choice.
    let Some(local) = local.filter(|_| !addresses.is_empty()) else {
        return TcpStream::connect(endpoint).await;
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(local.into(), 0))?;
        match socket.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// What comes before the first frame: the WebSocket handshake, or the line protocol's greeting.
async fn greet(mut stream: TcpStream, endpoint: &str, framing: Framing) -> Result<Inlet, String> {
    let mut rest = Vec::new();
    if matches!(framing, Framing::WsJson | Framing::WsProto) {
        let request = frames::upgrade_request(endpoint, framing, rand::random());
        stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    }
    let greeted = match framing {
        Framing::Tcp => 0,
        Framing::WsJson | Framing::WsProto => read_until(&mut stream, &mut rest, frames::upgraded).await?,
        Framing::Line => {
            read_until(&mut stream, &mut rest, |bytes| {
                if bytes.starts_with(b"-") {
                    return Err(String::from_utf8_lossy(bytes).trim().to_owned());
                }
                Ok(bytes.iter().position(|byte| *byte == b'\n').map(|end| end + 1))
            })
            .await?
        }
    };
    rest.drain(..greeted);
    Ok(Inlet::new(stream, framing, rest))
}

async fn read_until(
    stream: &mut TcpStream,
    bytes: &mut Vec<u8>,
    end: impl Fn(&[u8]) -> Result<Option<usize>, String>,
) -> Result<usize, String> {
    loop {
        if let Some(end) = end(bytes)? {
            return Ok(end);
        }
        match stream.read_buf(bytes).await {
            Ok(0) => return Err("the server closed the connection before it was ready".to_owned()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}
