//! One lane of a link: items become an envelope's bytes, and bytes become items.

use bytes::Bytes;
use rookery::cluster::Address;
use rookery::cluster::lanes::{Lane, LaneLimits};
use rookery::config::ClusterConfig;
use rookery::protocol::cluster::{Ask, Envelope, Item, Request, RoomRequest, item, request, room_request};
use rookery::protocol::codec;
use tokio::time::Instant;

use crate::frames;

/// An empty lane with the bounds of the defaults.
pub fn lane() -> Lane {
    let config = ClusterConfig::default();
    Lane::new(LaneLimits {
        envelope_items: config.envelope_items,
        envelope_bytes: config.envelope_bytes,
        queue_items: config.lane_queue_items,
        queue_bytes: config.lane_queue_bytes,
    })
}

/// Sends to rooms of another node.
pub fn requests(count: usize) -> Vec<Request> {
    let text = frames::text(frames::TEXT_BYTES);
    let request = |number| {
        let command = room_request::Command::Send(frames::send(number, &text));
        let room = RoomRequest { user_id: 1, session_id: 1, command: Some(command) };
        Request { request: Some(request::Request::Room(room)) }
    };
    (0..count as u64).map(request).collect()
}

/// Encodes the requests, gathers them, and encodes the envelope that leaves; the peer acknowledges it.
pub fn pack(lane: &mut Lane, requests: &[Request], now: Instant) -> Vec<u8> {
    for (number, request) in requests.iter().enumerate() {
        let ask = Ask {
            to: Some(Address::room(number as u64).into()),
            hops: 0,
            ask_id: number as u64 + 1,
            deadline_ms: 5000,
            request: codec::encode_cluster(request).into(),
            attempt: 1,
            heard: 0,
        };
        let item = Item { item: Some(item::Item::Ask(ask)) };
        let bytes = codec::cluster_len(&item);
        lane.push(item, bytes).expect("an acknowledged lane has room for an envelope");
    }
    let envelope = lane.next(now).expect("nothing is unacknowledged, so that items leave at once");
    let bytes = codec::encode_cluster(&envelope);
    lane.on_acked(envelope.lane_seq);
    bytes
}

/// Decodes an envelope and all requests in it.
pub fn unpack(bytes: Bytes) -> Vec<Request> {
    let envelope: Envelope = codec::decode_cluster_shared(bytes).expect("it was just encoded");
    let request = |item: Item| match item.item {
        Some(item::Item::Ask(ask)) => codec::decode_cluster(&ask.request).expect("it was just encoded"),
        other => panic!("{other:?} was never packed"),
    };
    envelope.items.into_iter().map(request).collect()
}
