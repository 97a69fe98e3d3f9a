//! What an entry of a log does to an earlier one. Its current state is this, applied in the log's order; storage does it in
//! the transaction that stores the entry, rooms to what they remember.

use crate::protocol::MessageKind;
use crate::protocol::v1::{Message, Reaction};

/// Whether a message is an entry about another one: an edit, a recall or a reaction.
pub fn is_change(message: &Message) -> bool {
    message.kind > MessageKind::System as i32
}

/// Whether a message is one that a user wrote, which others may reply to, react to and take back.
pub fn is_written(message: &Message) -> bool {
    message.kind < MessageKind::System as i32
}

/// Whether its sender has, with it, read up to it: not with what the room says in its name, nor with what was sent for it.
pub fn counts_as_read(message: &Message) -> bool {
    is_written(message) && !message.marks.as_ref().is_some_and(|marks| marks.scheduled)
}

/// Makes a message as one that was taken back stays: nothing of what it said is left.
pub fn empty(message: &mut Message) {
    message.text.clear();
    message.attachments.clear();
    message.mentions.clear();
    message.reactions.clear();
    message.edited_at_ms = 0;
    message.marks = None;
    message.recalled = true;
}

/// Applies an entry to the message that it names. A message that was taken back stays so.
pub fn apply(target: &mut Message, entry: &Message) {
    if target.recalled {
        return;
    }
    match entry.kind() {
        MessageKind::Edit => {
            target.text.clone_from(&entry.text);
            target.edited_at_ms = entry.created_at_ms;
        }
        MessageKind::Recall => empty(target),
        MessageKind::Reaction => react(target, entry),
        _ => {}
    }
}

/// Puts a reaction on a message, or takes it off.
pub fn react(target: &mut Message, entry: &Message) {
    if entry.recalled {
        take_off(target, &entry.emoji, entry.sender_id);
    } else {
        put_on(target, &entry.emoji, entry.sender_id);
    }
}

fn put_on(target: &mut Message, emoji: &str, user_id: u64) {
    if let Some(at) = target.reactions.iter().position(|reaction| reaction.emoji == emoji) {
        let reaction = &mut target.reactions[at];
        if !reaction.user_ids.contains(&user_id) {
            reaction.user_ids.push(user_id);
            reaction.count += 1;
        }
    } else {
        let reaction = Reaction { emoji: emoji.to_owned(), user_ids: vec![user_id], count: 1 };
        target.reactions.push(reaction);
    }
}

fn take_off(target: &mut Message, emoji: &str, user_id: u64) {
    for reaction in target.reactions.iter_mut().filter(|reaction| reaction.emoji == emoji) {
        let before = reaction.user_ids.len();
        reaction.user_ids.retain(|id| *id != user_id);
        reaction.count = reaction.count.saturating_sub((before - reaction.user_ids.len()) as u64);
    }
    target.reactions.retain(|reaction| reaction.count > 0 || !reaction.user_ids.is_empty());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: MessageKind, sender_id: u64, what: &str) -> Message {
        let (text, emoji) = match kind {
            MessageKind::Reaction => (String::new(), what.to_owned()),
            _ => (what.to_owned(), String::new()),
        };
        Message { kind: kind as i32, sender_id, text, emoji, created_at_ms: 9, ..Message::default() }
    }

    #[test]
    fn what_is_applied_in_order_is_the_current_state() {
        let mut target = Message { text: "one".into(), mentions: vec![3], ..Message::default() };
        apply(&mut target, &entry(MessageKind::Edit, 1, "two"));
        assert_eq!((target.text.as_str(), target.edited_at_ms), ("two", 9));
        for user_id in [1, 2, 1] {
            apply(&mut target, &entry(MessageKind::Reaction, user_id, "👍"));
        }
        apply(&mut target, &entry(MessageKind::Reaction, 1, "🐦"));
        let off = Message { recalled: true, ..entry(MessageKind::Reaction, 1, "👍") };
        for _ in 0..2 {
            apply(&mut target, &off);
        }
        let counts: Vec<_> = target.reactions.iter().map(|r| (r.emoji.as_str(), r.count)).collect();
        assert_eq!(counts, [("👍", 1), ("🐦", 1)]);
        assert_eq!(target.reactions[0].user_ids, [2]);
        apply(&mut target, &entry(MessageKind::Recall, 1, ""));
        assert!(target.recalled && target.text.is_empty() && target.reactions.is_empty());
        let recalled = target.clone();
        apply(&mut target, &entry(MessageKind::Edit, 1, "three"));
        apply(&mut target, &entry(MessageKind::Reaction, 1, "🐦"));
        assert_eq!(target, recalled, "what was taken back stays so");
    }
}
