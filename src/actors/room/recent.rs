//! What a room has pushed lately, kept so that it can be pushed again when a link or a node was lost on the way: those
//! pushes are told at most once. The newest few are enough, as a client that sees a gap before them fetches it.

use std::collections::VecDeque;

use crate::domain::changes::empty;
use crate::protocol::MessageKind;
use crate::protocol::v1::Message;

/// Most messages kept.
const MESSAGES_MAX: usize = 64;
/// Most bytes of text kept, but for the newest message.
const BYTES_MAX: usize = 32 * 1024;

/// The newest messages of a room, oldest first.
#[derive(Debug, Default)]
pub struct Recent {
    messages: VecDeque<Message>,
    bytes: usize,
}

impl Recent {
    /// A message is pushed. Those before `young_ms` (Unix milliseconds) are let go, but for the newest.
    pub fn push(&mut self, message: &Message, young_ms: u64) {
        if self.messages.back().is_some_and(|last| last.seq >= message.seq) {
            return;
        }
        self.bytes += size(message);
        self.messages.push_back(message.clone());
        while self.messages.len() > 1
            && (self.messages.len() > MESSAGES_MAX
                || self.bytes > BYTES_MAX
                || self.messages.front().is_some_and(|oldest| oldest.created_at_ms < young_ms))
        {
            if let Some(oldest) = self.messages.pop_front() {
                self.bytes -= size(&oldest);
            }
        }
    }

    /// A message was taken back: nothing of it is pushed again, nor of its edits.
    pub fn take_back(&mut self, seq: u64) {
        let is_of = |message: &Message| {
            message.seq == seq || (message.target_seq == seq && message.kind() == MessageKind::Edit)
        };
        for message in self.messages.iter_mut().filter(|message| is_of(message)) {
            self.bytes -= size(message);
            if message.seq == seq {
                empty(message);
            } else {
                message.text.clear();
            }
            self.bytes += size(message);
        }
    }

    /// Those stored since `since_ms`, oldest first.
    pub fn since(&self, since_ms: u64) -> impl Iterator<Item = &Message> {
        self.messages.iter().filter(move |message| message.created_at_ms >= since_ms)
    }
}

fn size(message: &Message) -> usize {
    message.text.len()
        + message.attachments.iter().map(|file| file.name.len() + file.mime.len()).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(seq: u64, text: &str) -> Message {
        Message { seq, created_at_ms: seq * 10, text: text.to_owned(), ..Message::default() }
    }

    fn seqs(recent: &Recent, since_ms: u64) -> Vec<u64> {
        recent.since(since_ms).map(|message| message.seq).collect()
    }

    #[test]
    fn the_newest_are_kept_within_bounds() {
        let mut recent = Recent::default();
        for seq in 1..=200 {
            recent.push(&message(seq, "hi"), 0);
        }
        assert_eq!(seqs(&recent, 0), (137..=200).collect::<Vec<_>>());
        assert_eq!(seqs(&recent, 1990), [199, 200]);
        recent.push(&message(150, "again"), 0);
        assert_eq!(recent.messages.len(), MESSAGES_MAX, "what is known is not kept twice");
        recent.push(&message(201, &"x".repeat(BYTES_MAX + 1)), 0);
        assert_eq!(seqs(&recent, 0), [201]);
        recent.push(&message(300, "hi"), 3000);
        assert_eq!((seqs(&recent, 0), recent.bytes), (vec![300], 2));
        let kind = MessageKind::Edit as i32;
        recent.push(&Message { target_seq: 300, kind, ..message(301, "hello") }, 0);
        let kind = MessageKind::System as i32;
        recent.push(&Message { target_seq: 300, kind, ..message(302, "pinned a message") }, 0);
        recent.take_back(300);
        let texts: Vec<&str> = recent.since(0).map(|message| message.text.as_str()).collect();
        assert_eq!(texts, ["", "", "pinned a message"], "what others say of it stays");
        assert_eq!((seqs(&recent, 0), recent.bytes), (vec![300, 301, 302], 16));
    }
}
