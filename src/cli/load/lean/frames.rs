//! Where one frame ends and the next begins, and how a frame is wrapped to be sent. Pure.

use std::fmt::Write as _;

use super::Framing;
use crate::client::Close;

/// Largest frame taken, in bytes; the server's own limit is far below.
pub(super) const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most bytes of an answer to the WebSocket upgrade request.
pub(super) const UPGRADE_BYTES_MAX: usize = 8 * 1024;
/// What precedes a TCP frame, in bytes.
const PREFIX: usize = 4;

/// What stood at the front of the bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A whole frame, or a line without its end.
    Frame(&'a [u8]),
    /// A part of one, and whether it is the last.
    Part(&'a [u8], bool),
    /// A WebSocket ping, to be answered.
    Ping(&'a [u8]),
    /// A sign of life.
    Pong,
    /// The server says goodbye.
    Close(Close),
}

/// The first piece of `bytes`, and how many it takes. `None`: more bytes are needed.
pub(super) fn split(bytes: &[u8], framing: Framing) -> Result<Option<(usize, Piece<'_>)>, Close> {
    match framing {
        Framing::Tcp => {
            let Some(prefix) = bytes.first_chunk::<PREFIX>() else { return Ok(None) };
            let length = within_limit(u64::from(u32::from_be_bytes(*prefix)))?;
            Ok(bytes.get(PREFIX..PREFIX + length).map(|frame| (PREFIX + length, Piece::Frame(frame))))
        }
        Framing::Line => match bytes.iter().position(|byte| *byte == b'\n') {
            Some(end) => Ok(Some((end + 1, Piece::Frame(bytes[..end].trim_ascii_end())))),
            None if bytes.len() > FRAME_BYTES_MAX => Err(too_large(bytes.len() as u64)),
            None => Ok(None),
        },
        Framing::WsJson | Framing::WsProto => split_web_socket(bytes),
    }
}

/// RFC 6455, section 5.2. What a server sends is not masked.
fn split_web_socket(bytes: &[u8]) -> Result<Option<(usize, Piece<'_>)>, Close> {
    let [first, second, ..] = bytes else { return Ok(None) };
    if second & 0x80 != 0 || first & 0x70 != 0 {
        return Err(Close::broken("the server sent a WebSocket frame that no server may send"));
    }
    let (head, length) = match second & 0x7f {
        126 => match bytes.get(2..4) {
            Some(&[a, b]) => (4, u64::from(u16::from_be_bytes([a, b]))),
            _ => return Ok(None),
        },
        127 => match bytes.get(2..10).and_then(|length| length.first_chunk::<8>()) {
            Some(length) => (10, u64::from_be_bytes(*length)),
            None => return Ok(None),
        },
        short => (2, u64::from(short)),
    };
    let length = within_limit(length)?;
    let Some(body) = bytes.get(head..head + length) else { return Ok(None) };
    let last = first & 0x80 != 0;
    let piece = match first & 0x0f {
        1 | 2 if last => Piece::Frame(body),
        0..=2 => Piece::Part(body, last),
        8 => Piece::Close(close_of(body)),
        9 => Piece::Ping(body),
        10 => Piece::Pong,
        _ => return Err(Close::broken("the server sent a WebSocket frame of a kind unknown")),
    };
    Ok(Some((head + length, piece)))
}

fn close_of(body: &[u8]) -> Close {
    match body.split_first_chunk::<2>() {
        None => Close::broken("the server closed the connection"),
        Some((code, reason)) => {
            let reason = match String::from_utf8_lossy(reason) {
                reason if reason.is_empty() => "the server closed the connection".to_owned(),
                reason => reason.into_owned(),
            };
            Close { code: Some(u16::from_be_bytes(*code)), reason }
        }
    }
}

fn within_limit(length: u64) -> Result<usize, Close> {
    match usize::try_from(length) {
        Ok(length) if length <= FRAME_BYTES_MAX => Ok(length),
        _ => Err(too_large(length)),
    }
}

fn too_large(length: u64) -> Close {
    Close::broken(format!("the server announced a frame of {length} bytes"))
}

/// WebSocket opcodes that a client sends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Opcode {
    Text = 1,
    Binary = 2,
    Close = 8,
    Pong = 10,
}

/// Appends `payload` as one frame of `framing`. `mask` is this frame's mask, on WebSocket.
pub(super) fn wrap(payload: &[u8], framing: Framing, mask: u32, out: &mut Vec<u8>) {
    match framing {
        Framing::Tcp => {
            let length = u32::try_from(payload.len()).expect("what we send is far below 4 GiB");
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(payload);
        }
        Framing::Line => {
            out.extend_from_slice(payload);
            out.push(b'\n');
        }
        Framing::WsJson => wrap_web_socket(Opcode::Text, payload, mask, out),
        Framing::WsProto => wrap_web_socket(Opcode::Binary, payload, mask, out),
    }
}

/// Appends one whole masked frame.
pub(super) fn wrap_web_socket(opcode: Opcode, payload: &[u8], mask: u32, out: &mut Vec<u8>) {
    out.push(0x80 | opcode as u8);
    match payload.len() {
        short @ 0..=125 => out.push(0x80 | short as u8),
        middle @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(middle as u16).to_be_bytes());
        }
        long => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    let mask = mask.to_ne_bytes();
    out.extend_from_slice(&mask);
    // Eight bytes at a time: a message is masked in some tens of steps.
    let wide = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let (words, rest) = payload.as_chunks::<8>();
    for word in words {
        out.extend_from_slice(&(u64::from_ne_bytes(*word) ^ wide).to_ne_bytes());
    }
    out.extend(rest.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// The request that turns an HTTP connection into a WebSocket.
pub(super) fn upgrade_request(endpoint: &str, framing: Framing, key: [u8; 16]) -> String {
    let protocol = if framing == Framing::WsJson { "rookery.v1+json" } else { "rookery.v1+proto" };
    format!(
        "GET /ws HTTP/1.1\r\nHost: {endpoint}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n",
        base64(&key)
    )
}

/// Where the answer to the upgrade request ends; `None`: not yet. The error says why there is no WebSocket.
pub(super) fn upgraded(bytes: &[u8]) -> Result<Option<usize>, String> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        if bytes.len() > UPGRADE_BYTES_MAX {
            return Err(format!("the answer to the upgrade is longer than {UPGRADE_BYTES_MAX} bytes"));
        }
        return Ok(None);
    };
    let status = bytes.get(9..12).unwrap_or_default();
    if !bytes.starts_with(b"HTTP/1.1 101") {
        let status = String::from_utf8_lossy(status);
        return Err(format!("the server refused the WebSocket with HTTP status {status}"));
    }
    Ok(Some(end + 4))
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for letter in 0..4 {
            let shown = letter <= three.len();
            let letter = char::from(LETTERS[(bits >> (18 - 6 * letter) & 63) as usize]);
            text.write_char(if shown { letter } else { '=' }).expect("writing to a String can't fail");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_split_wherever_the_bytes_end() {
        let mut tcp = Vec::new();
        wrap(b"hello", Framing::Tcp, 0, &mut tcp);
        let line = b"+OK msg_id=1\r\n".to_vec();
        let web_socket = [&[0x82, 126, 0, 200][..], &[7; 200]].concat();
        let seven = [7; 200];
        for (bytes, framing, wanted) in [
            (tcp, Framing::Tcp, &b"hello"[..]),
            (line, Framing::Line, &b"+OK msg_id=1"[..]),
            (web_socket, Framing::WsProto, &seven[..]),
        ] {
            for cut in 0..bytes.len() {
                assert_eq!(split(&bytes[..cut], framing), Ok(None), "{framing:?} after {cut}");
            }
            assert_eq!(split(&bytes, framing), Ok(Some((bytes.len(), Piece::Frame(wanted)))));
        }
    }

    #[test]
    fn a_close_says_why() {
        let bytes = [&[0x88, 6][..], &4429_u16.to_be_bytes(), b"slow"].concat();
        let close = Close { code: Some(4429), reason: "slow".to_owned() };
        assert_eq!(split(&bytes, Framing::WsJson), Ok(Some((8, Piece::Close(close)))));
        assert!(split(&[0x82, 0x81], Framing::WsProto).is_err(), "a server does not mask");
    }

    #[test]
    fn what_is_masked_can_be_unmasked() {
        for length in [0, 1, 7, 8, 125, 126, 1000, 70_000] {
            let payload: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let mut out = Vec::new();
            wrap_web_socket(Opcode::Binary, &payload, 0x1234_5678, &mut out);
            let head = out.len() - length;
            let mask: [u8; 4] = *out[head - 4..].first_chunk().expect("four bytes of mask");
            let plain: Vec<u8> =
                out[head..].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
            assert_eq!(plain, payload);
        }
    }

    #[test]
    fn the_upgrade_is_read() {
        assert_eq!(base64(b"the sample nonce"), "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(upgraded(b"HTTP/1.1 101 Switching Protocols\r\n\r\nxy"), Ok(Some(36)));
        assert_eq!(upgraded(b"HTTP/1.1 101 Switching"), Ok(None));
        let refusal = upgraded(b"HTTP/1.1 503 Busy\r\n\r\n").expect_err("it is refused");
        assert!(refusal.contains("503"), "{refusal}");
    }
}
