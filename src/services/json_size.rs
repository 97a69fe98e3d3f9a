//! How much room messages and conversations take in a frame, at most. Pure.

use crate::protocol::v1::{Conversation, Message, Reaction};

/// What a message's JSON takes beside its texts, names and lists, in bytes: rounded up.
const MESSAGE_JSON_BYTES: usize = 420;
/// The same for an attachment, beside its name.
const ATTACHMENT_JSON_BYTES: usize = 160;
/// The same for a reaction, beside its emoji and users.
const REACTION_JSON_BYTES: usize = 64;
/// The same for a message's marks.
const MARKS_JSON_BYTES: usize = 240;
/// The same for a conversation, beside its texts and last message.
const CONVERSATION_JSON_BYTES: usize = 1000;
/// Room in a frame for what stands around its lists.
pub(super) const FRAME_MARGIN_BYTES: usize = 1024;

/// At least the length of a conversation's JSON.
pub(super) fn conversation_bytes(conversation: &Conversation) -> usize {
    CONVERSATION_JSON_BYTES
        + escaped_bytes(&conversation.name)
        + escaped_bytes(&conversation.description)
        + escaped_bytes(&conversation.announcement)
        + conversation.draft.as_ref().map_or(0, |draft| escaped_bytes(&draft.text))
        + conversation.last_message.as_ref().map_or(0, json_bytes)
}

/// Takes `bytes` out of `room`; whether they fitted.
pub(super) fn takes(room: &mut usize, bytes: usize) -> bool {
    match room.checked_sub(bytes) {
        Some(left) => {
            *room = left;
            true
        }
        None => false,
    }
}

/// At least the length of a message's JSON.
pub(super) fn json_bytes(message: &Message) -> usize {
    let attachments: usize = message
        .attachments
        .iter()
        .map(|file| ATTACHMENT_JSON_BYTES + escaped_bytes(&file.name) + escaped_bytes(&file.mime))
        .sum();
    MESSAGE_JSON_BYTES
        + escaped_bytes(&message.text)
        + escaped_bytes(&message.client_id)
        + escaped_bytes(&message.emoji)
        + attachments
        + message.mentions.len() * 20
        + message.marks.as_ref().map_or(0, |_| MARKS_JSON_BYTES)
        + message.reactions.iter().map(reaction_bytes).sum::<usize>()
}

fn reaction_bytes(reaction: &Reaction) -> usize {
    REACTION_JSON_BYTES + escaped_bytes(&reaction.emoji) + reaction.user_ids.len() * 20
}

/// The length of a string in JSON: control characters take up to six bytes, quotes and backslashes two.
fn escaped_bytes(text: &str) -> usize {
    text.bytes().map(|byte| if byte < 0x20 { 6 } else { 1 + usize::from(matches!(byte, b'"' | b'\\')) }).sum()
}
