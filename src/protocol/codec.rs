//! Encoding and decoding of whole frames, in both formats.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

use super::v1::{ClientFrame, ServerFrame};

/// How a connection writes its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// One JSON object a frame: subprotocol `rookery.v1+json`.
    Json,
    /// One protobuf message a frame: subprotocol `rookery.v1+proto`.
    Proto,
    /// Protobuf behind a u32 big-endian length: TCP frames.
    ProtoPrefixed,
    /// The line protocol: see [`super::line`].
    Line,
}

/// Why bytes were not a frame. Nothing was done.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// Not JSON, or not a frame's JSON.
    #[error("the frame is not valid JSON for this protocol: {0}")]
    Json(#[from] super::json::Unreadable),
    /// Not protobuf of the frame's type.
    #[error("the frame is not valid protobuf for this protocol: {0}")]
    Proto(#[from] prost::DecodeError),
}

impl DecodeError {
    /// The name of the field that can't be taken; empty: not known, or the frame itself.
    pub fn field(&self) -> &str {
        match self {
            Self::Json(unreadable) => &unreadable.field,
            Self::Proto(_) => "",
        }
    }
}

/// The bytes of the length prefix of [`Format::ProtoPrefixed`].
pub const PREFIX_BYTES: usize = 4;

/// Encodes `frame`. [`Format::Line`] has no frames and yields JSON, for logs only.
pub fn encode<F: prost::Message + Serialize>(frame: &F, format: Format) -> Bytes {
    match format {
        Format::Json | Format::Line => serde_json::to_vec(frame)
            .expect("generated types have string keys and no failing serialisers")
            .into(),
        Format::Proto => frame.encode_to_vec().into(),
        Format::ProtoPrefixed => {
            let length = frame.encoded_len();
            let mut out = BytesMut::with_capacity(PREFIX_BYTES + length);
            out.put_u32(u32::try_from(length).expect("frames are bounded far below 4 GiB"));
            frame.encode(&mut out).expect("BytesMut grows, so that encoding can't run out of room");
            out.freeze()
        }
    }
}

/// Encodes `frame` behind what `out` holds, without a length prefix: as one protobuf or JSON message.
pub fn encode_behind<F: prost::Message + Serialize>(frame: &F, format: Format, out: &mut Vec<u8>) {
    match format {
        Format::Json | Format::Line => serde_json::to_writer(out, frame)
            .expect("generated types have string keys and no failing serialisers, and a Vec takes all"),
        Format::Proto | Format::ProtoPrefixed => {
            frame.encode(out).expect("a Vec grows, so that encoding can't run out of room");
        }
    }
}

/// Decodes one frame (without its length prefix).
pub fn decode<F: prost::Message + Default + DeserializeOwned>(
    bytes: &[u8],
    format: Format,
) -> Result<F, DecodeError> {
    match format {
        Format::Json | Format::Line => Ok(super::json::from_slice(bytes)?),
        Format::Proto | Format::ProtoPrefixed => Ok(F::decode(bytes)?),
    }
}

/// A client's frame.
pub fn decode_client(bytes: &[u8], format: Format) -> Result<ClientFrame, DecodeError> {
    decode(bytes, format)
}

/// A server's frame.
pub fn decode_server(bytes: &[u8], format: Format) -> Result<ServerFrame, DecodeError> {
    decode(bytes, format)
}

/// Encodes a message that nodes exchange.
pub fn encode_cluster<M: prost::Message>(message: &M) -> Vec<u8> {
    message.encode_to_vec()
}

/// Decodes a message that nodes exchange.
pub fn decode_cluster<M: prost::Message + Default>(bytes: &[u8]) -> Result<M, DecodeError> {
    Ok(M::decode(bytes)?)
}

/// Decodes a message that nodes exchange; its `bytes` fields share the memory of `bytes`.
pub fn decode_cluster_shared<M: prost::Message + Default>(bytes: Bytes) -> Result<M, DecodeError> {
    Ok(M::decode(bytes)?)
}

/// The bytes that [`encode_cluster`] would write.
pub fn cluster_len<M: prost::Message>(message: &M) -> usize {
    message.encoded_len()
}
