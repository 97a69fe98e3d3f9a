//! What two nodes say on a new stream before `ractor_cluster` gets it, so that a wrong cookie, version, setting or
//! name is refused with words instead of a closed socket.
//!
//! 1. The dialer says hello: who it is, what it runs, a nonce. The acceptor answers with its own hello.
//! 2. Each side checks the other's hello ([`check`]) and refuses in words what does not fit.
//! 3. The dialer proves that it knows the cookie: HMAC-SHA-256 over both hellos, with a word for its role.
//! 4. The acceptor checks that, decides ([`super::manager`]), and answers `welcome`, `knock_taken` or a refusal, the
//!    first two with its own proof.
//!
//! Of two nodes the one whose name sorts first dials: only so can there never be two links between them. The other
//! one's dial is a knock, which says "dial me". A frame is 4 bytes of magic, a u16 version and a u32 length, both
//! big-endian, and a `LinkFrame`. Nothing beyond a frame is read, so what follows is left for `ractor_cluster`.

use std::io;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::protocol::cluster::{
    LinkFrame, LinkHello, LinkProof, LinkRefusal, link_frame::Frame, link_refusal::Code,
};
use crate::protocol::codec;

/// Begins every frame of the preamble.
const MAGIC: [u8; 4] = *b"RKRY";
/// Grows when nodes of two versions can't understand each other's envelopes.
pub const LINK_VERSION: u16 = 3;
/// What a record of TLS begins with, by RFC 8446.
const TLS_ALERT: u8 = 21;
const TLS_HANDSHAKE: u8 = 22;
/// No frame of the preamble is longer, in bytes.
const FRAME_BYTES_MAX: u32 = 16 * 1024;

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 32;

/// Why there will be no link.
#[derive(Debug, thiserror::Error)]
pub enum PreambleError {
    /// The stream ended, or could not be used.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The other side does not speak this protocol.
    #[error("{0}")]
    Foreign(String),
    /// The other side speaks TLS.
    #[error(
        "the other node speaks TLS, but this one does not; set cluster.tls_ca, cluster.tls_certificate and \
         cluster.tls_key on all nodes, or on none"
    )]
    Encrypted,
    /// The other side refused, with its words.
    #[error("refused by the other node: {}", .0.message)]
    RefusedByPeer(LinkRefusal),
    /// This side refuses; the other has been told.
    #[error("{}", .0.message)]
    Refused(LinkRefusal),
}

/// Which side of the stream a proof comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The side that connected.
    Dialer,
    /// The side that listened.
    Acceptor,
}

/// A refusal in words.
pub fn refusal(code: Code, message: impl Into<String>) -> LinkRefusal {
    LinkRefusal { code: code as i32, message: message.into() }
}

/// Writes one frame, and returns its body as it was written.
pub async fn write(stream: &mut (impl AsyncWrite + Unpin), frame: Frame) -> io::Result<Vec<u8>> {
    let body = codec::encode_cluster(&LinkFrame { frame: Some(frame) });
    let mut bytes = Vec::with_capacity(10 + body.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&LINK_VERSION.to_be_bytes());
    bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&body);
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    Ok(body)
}

/// Reads one frame. A frame of another version is refused here, unless it is itself a refusal.
pub async fn read<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> Result<Frame, PreambleError> {
    Ok(read_with_body(stream).await?.0)
}

async fn read_with_body<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
) -> Result<(Frame, Vec<u8>), PreambleError> {
    let mut head = [0; 10];
    // An alert of TLS is shorter than a head, and tells by its first byte what it is.
    stream.read_exact(&mut head[..1]).await?;
    if head[0] != TLS_ALERT {
        stream.read_exact(&mut head[1..]).await?;
    }
    if head[0] == TLS_ALERT || head[0] == TLS_HANDSHAKE {
        return Err(PreambleError::Encrypted);
    }
    if head[..4] != MAGIC {
        return Err(PreambleError::Foreign(
            "the other side does not speak Rookery's cluster protocol; check that the address is a node's \
             cluster.listen"
                .to_owned(),
        ));
    }
    let version = u16::from_be_bytes([head[4], head[5]]);
    let length = u32::from_be_bytes([head[6], head[7], head[8], head[9]]);
    if length > FRAME_BYTES_MAX {
        return Err(PreambleError::Foreign(format!("a preamble frame of {length} bytes is too long")));
    }
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).await?;
    let frame = codec::decode_cluster::<LinkFrame>(&body).ok().and_then(|frame| frame.frame);
    match frame {
        Some(Frame::Refusal(refusal)) => Err(PreambleError::RefusedByPeer(refusal)),
        _ if version != LINK_VERSION => {
            let refusal = refusal(
                Code::Version,
                format!(
                    "one node speaks link version {LINK_VERSION}, the other {version}; run releases that agree \
                     on all nodes"
                ),
            );
            refuse(stream, &refusal).await;
            Err(PreambleError::Refused(refusal))
        }
        Some(frame) => Ok((frame, body)),
        None => Err(PreambleError::Foreign("a preamble frame can't be read".to_owned())),
    }
}

/// Tells the other side why; it may be gone already, which changes nothing.
pub async fn refuse(stream: &mut (impl AsyncWrite + Unpin), refusal: &LinkRefusal) {
    let _ = write(stream, Frame::Refusal(refusal.clone())).await;
}

/// Lets the last word, which says what is wrong, reach the other side: closing a socket in which something lies unread
/// would take it back.
pub async fn part(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    /// More than a peer that behaves has sent by then.
    const UNREAD_MAX: usize = 64 * 1024;
    let mut scrap = [0; 1024];
    let mut left = UNREAD_MAX;
    // It may be gone already.
    let _ = stream.shutdown().await;
    while left > 0 {
        match stream.read(&mut scrap).await {
            Ok(count @ 1..) => left = left.saturating_sub(count),
            _ => return,
        }
    }
}

/// Reads a hello, and its bytes as they came: the proofs are made over those, so that a field which this release does
/// not know does not break them.
pub async fn read_hello<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
) -> Result<(LinkHello, Vec<u8>), PreambleError> {
    match read_with_body(stream).await? {
        (Frame::Hello(hello), body) if hello.member.is_some() && hello.nonce.len() == NONCE_BYTES => {
            Ok((hello, body))
        }
        _ => Err(PreambleError::Foreign("the other side did not say hello first".to_owned())),
    }
}

/// Compares the other side's hello with our own: the settings that must agree, and the name.
pub fn check(mine: &LinkHello, theirs: &LinkHello) -> Result<(), LinkRefusal> {
    let (me, them) = (mine.member.clone().unwrap_or_default(), theirs.member.clone().unwrap_or_default());
    if me.name == them.name {
        return Err(if me.incarnation == them.incarnation {
            refusal(Code::Itself, "the node has dialled itself")
        } else {
            refusal(
                Code::DuplicateName,
                format!(
                    "two nodes are named '{}', at {} and {}; give one of them another node.name",
                    me.name, me.cluster_address, them.cluster_address
                ),
            )
        });
    }
    for setting in &mine.settings {
        let other = theirs.settings.iter().find(|other| other.key == setting.key).map(|other| other.value);
        if other != Some(setting.value) {
            let other = other.map_or_else(|| "nothing".to_owned(), |value| value.to_string());
            return Err(refusal(
                Code::Setting,
                format!(
                    "{} is {} on '{}' and {other} on '{}'; configure all nodes alike",
                    setting.key, setting.value, me.name, them.name
                ),
            ));
        }
    }
    Ok(())
}

/// The proof that a side knows the cookie, over the bytes of both hellos.
pub fn proof(cookie: &str, role: Role, dialer: &[u8], acceptor: &[u8]) -> LinkProof {
    let mut text: Vec<u8> = match role {
        Role::Dialer => b"rookery link dialer".to_vec(),
        Role::Acceptor => b"rookery link acceptor".to_vec(),
    };
    for hello in [dialer, acceptor] {
        text.extend_from_slice(&(hello.len() as u64).to_be_bytes());
        text.extend_from_slice(hello);
    }
    LinkProof { proof: hmac_sha256(cookie.as_bytes(), &text).to_vec(), seen_epoch: 0 }
}

/// Checks the other side's proof, in a time that does not depend on where it differs.
pub fn verify(expected: &LinkProof, given: &LinkProof) -> Result<(), LinkRefusal> {
    let differing = expected.proof.iter().zip(&given.proof).fold(0, |sum, (a, b)| sum | (a ^ b));
    if expected.proof.len() == given.proof.len() && differing == 0 {
        return Ok(());
    }
    Err(refusal(Code::Cookie, "the nodes have different cookies; set the same cluster.cookie on both"))
}

/// The cookie that `ractor_cluster` is given: not the cluster's own, which only the preamble uses.
pub fn inner_cookie(cookie: &str) -> String {
    hex::encode(hmac_sha256(cookie.as_bytes(), b"rookery ractor_cluster cookie"))
}

/// HMAC of RFC 2104 with SHA-256.
fn hmac_sha256(key: &[u8], text: &[u8]) -> [u8; 32] {
    const BLOCK_BYTES: usize = 64;
    let mut block = [0; BLOCK_BYTES];
    if key.len() > BLOCK_BYTES {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::cluster::{LinkSetting, Member};

    fn hello(name: &str, incarnation: u64, lanes: u64) -> LinkHello {
        LinkHello {
            member: Some(Member { name: name.to_owned(), incarnation, ..Member::default() }),
            nonce: vec![7; NONCE_BYTES],
            settings: vec![LinkSetting { key: "cluster.lanes".to_owned(), value: lanes }],
            ..LinkHello::default()
        }
    }

    #[test]
    fn hmac_gives_the_published_test_values() {
        // RFC 4231, test cases 2 and 6.
        let short = hmac_sha256(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(hex::encode(short), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let long = hmac_sha256(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(hex::encode(long), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }

    #[test]
    fn only_the_same_cookie_and_role_prove_anything() {
        let expected = proof("secret", Role::Dialer, b"one", b"two");
        assert!(verify(&expected, &proof("secret", Role::Dialer, b"one", b"two")).is_ok());
        assert!(verify(&expected, &proof("other", Role::Dialer, b"one", b"two")).is_err());
        assert!(verify(&expected, &proof("secret", Role::Acceptor, b"one", b"two")).is_err());
        assert!(verify(&expected, &proof("secret", Role::Dialer, b"two", b"one")).is_err());
        assert!(verify(&expected, &LinkProof::default()).is_err());
    }

    #[test]
    fn what_does_not_fit_is_refused_with_words() {
        let me = hello("a", 1, 4);
        assert!(check(&me, &hello("b", 1, 4)).is_ok());
        let code = |theirs: &LinkHello| check(&me, theirs).expect_err("it does not fit").code();
        assert_eq!(code(&hello("a", 1, 4)), Code::Itself);
        assert_eq!(code(&hello("a", 2, 4)), Code::DuplicateName);
        assert_eq!(code(&hello("b", 1, 8)), Code::Setting);
        assert_eq!(code(&LinkHello { settings: Vec::new(), ..hello("b", 1, 4) }), Code::Setting);
    }

    #[tokio::test]
    async fn frames_pass_and_leave_the_rest_of_the_stream_alone() {
        let (mut near, mut far) = tokio::io::duplex(4096);
        write(&mut near, Frame::Hello(hello("a", 1, 4))).await.expect("the buffer has room");
        near.write_all(b"rest").await.expect("the buffer has room");
        assert_eq!(read_hello(&mut far).await.expect("it is a hello").0, hello("a", 1, 4));
        let mut rest = [0; 4];
        far.read_exact(&mut rest).await.expect("the rest is there");
        assert_eq!(&rest, b"rest");
    }

    #[tokio::test]
    async fn another_version_is_refused_on_both_sides() {
        let (mut near, mut far) = tokio::io::duplex(4096);
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&99_u16.to_be_bytes());
        bytes.extend_from_slice(&2_u32.to_be_bytes());
        bytes.extend_from_slice(&[0xff, 0xff]);
        near.write_all(&bytes).await.expect("the buffer has room");
        let error = read(&mut far).await.expect_err("the version differs");
        assert!(matches!(error, PreambleError::Refused(refusal) if refusal.code() == Code::Version));
        let error = read(&mut near).await.expect_err("it is a refusal");
        assert!(matches!(error, PreambleError::RefusedByPeer(refusal) if refusal.code() == Code::Version));
    }

    #[tokio::test]
    async fn a_stranger_is_told_apart() {
        for record in [&[TLS_ALERT, 3, 3, 0, 2, 2, 70][..], &[TLS_HANDSHAKE; 20]] {
            let (mut near, mut far) = tokio::io::duplex(4096);
            near.write_all(record).await.expect("the buffer has room");
            assert!(matches!(read(&mut far).await, Err(PreambleError::Encrypted)));
        }
        let (mut near, mut far) = tokio::io::duplex(4096);
        near.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("the buffer has room");
        assert!(matches!(read(&mut far).await, Err(PreambleError::Foreign(_))));
    }
}
