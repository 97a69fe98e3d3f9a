//! The line protocol's commands and answers, compatible with MPIM's clients.
pub fn message_line(
    _m: &crate::protocol::v1::Message,
    _k: crate::protocol::ConversationKind,
) -> Option<String> {
    None
}
