//! The `id` of a client frame that can't be decoded as a whole, so that its sender can be told which request was bad.

use serde::Deserialize;

use super::codec::Format;

/// What could be read of a bad frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Salvaged {
    /// A frame with this id, something in whose request is wrong. 0: its sender wants no answer.
    Id(u64),
    /// No frame at all.
    Nothing,
}

/// Only the first field of a `ClientFrame`; whatever else there is, is skipped.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct IdOnly {
    #[prost(uint64, tag = "1")]
    id: u64,
}

#[derive(Deserialize)]
struct JsonIdOnly {
    #[serde(default, deserialize_with = "super::json::lenient")]
    id: u64,
}

/// Reads the id of a frame that [`super::codec::decode_client`] refused.
pub fn salvage_id(bytes: &[u8], format: Format) -> Salvaged {
    let id = match format {
        Format::Proto | Format::ProtoPrefixed => {
            <IdOnly as prost::Message>::decode(bytes).ok().map(|frame| frame.id)
        }
        // A derived struct could also be read from a list.
        Format::Json | Format::Line if bytes.trim_ascii().first() != Some(&b'{') => None,
        Format::Json | Format::Line => serde_json::from_slice::<JsonIdOnly>(bytes).ok().map(|frame| frame.id),
    };
    id.map_or(Salvaged::Nothing, Salvaged::Id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::codec::decode_client;

    #[test]
    fn the_id_of_a_frame_with_a_bad_request_is_found() {
        let bad = br#"{"id": "7", "send": {"conversation_id": "x"}}"#;
        assert!(decode_client(bad, Format::Json).is_err());
        assert_eq!(salvage_id(bad, Format::Json), Salvaged::Id(7));
        assert_eq!(salvage_id(br#"{"send": 3}"#, Format::Json), Salvaged::Id(0));
        // id 7, and field 4 (send) of two bytes that are no message.
        let bad = [0x08, 0x07, 0x22, 0x02, 0xff, 0xff];
        assert!(decode_client(&bad, Format::Proto).is_err());
        assert_eq!(salvage_id(&bad, Format::Proto), Salvaged::Id(7));
    }

    #[test]
    fn noise_has_no_id() {
        assert_eq!(salvage_id(b"hello", Format::Json), Salvaged::Nothing);
        for list in [&b"[]"[..], b" [1]", b"[1, {}]"] {
            assert_eq!(salvage_id(list, Format::Json), Salvaged::Nothing);
        }
        assert_eq!(salvage_id(&[0xff; 3], Format::Proto), Salvaged::Nothing);
    }
}
