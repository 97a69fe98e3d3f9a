//! The maps behind the stores, and what is the same for several methods.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::domain::changes::{apply, is_change};
use crate::domain::limits::REACTORS_SHOWN;
use crate::protocol::MessageKind;
use crate::protocol::v1::Message;
use crate::storage::search::{IndexState, IndexedMessage};
use crate::storage::{
    BanRecord, BlockRecord, ClientKey, ContactRecord, ConversationRecord, DeviceRecord, InviteRecord,
    JoinRequestRecord, LateErasure, MemberRecord, PinRecord, PreferenceRecord, PresenceRecord, PrivacyRecord,
    Saying, ScheduledRecord, StoreError, StoreResult, UserRecord,
};

/// All that is stored.
#[derive(Default)]
pub struct State {
    last_id: u64,
    /// By id.
    pub users: BTreeMap<u64, UserRecord>,
    /// Ids by the compared form of the name.
    pub usernames: HashMap<String, u64>,
    /// By id.
    pub devices: BTreeMap<u64, DeviceRecord>,
    /// Device ids by the hash of the token.
    pub tokens: HashMap<String, u64>,
    /// Ranges by user and conversation.
    pub line_given: BTreeMap<(u64, u64), String>,
    /// By user and contact.
    pub contacts: BTreeMap<(u64, u64), ContactRecord>,
    /// By id.
    pub conversations: BTreeMap<u64, ConversationRecord>,
    /// Conversation ids by the lower and the higher user.
    pub directs: HashMap<(u64, u64), u64>,
    /// Groups by the user who created them and the name that it gave.
    pub created_as: HashMap<(u64, String), u64>,
    /// By user.
    pub privacies: BTreeMap<u64, PrivacyRecord>,
    /// By user.
    pub presences: BTreeMap<u64, PresenceRecord>,
    /// By user.
    pub late_erasures: BTreeMap<u64, LateErasure>,
    /// By who has blocked and whom.
    pub blocks: BTreeMap<(u64, u64), BlockRecord>,
    /// By user and conversation.
    pub preferences: BTreeMap<(u64, u64), PreferenceRecord>,
    /// By conversation and user.
    pub members: BTreeMap<(u64, u64), MemberRecord>,
    /// By conversation and user.
    pub join_requests: BTreeMap<(u64, u64), JoinRequestRecord>,
    /// By conversation and user.
    pub bans: BTreeMap<(u64, u64), BanRecord>,
    /// By conversation and name.
    pub sayings: BTreeMap<(u64, String), Saying>,
    /// By code.
    pub invites: BTreeMap<String, InviteRecord>,
    /// By conversation and seq.
    pub messages: BTreeMap<(u64, u64), Message>,
    /// When messages were hidden, by user, conversation and seq.
    pub hidden: BTreeMap<(u64, u64, u64), u64>,
    /// By conversation and seq.
    pub pins: BTreeMap<(u64, u64), PinRecord>,
    /// By id.
    pub scheduled: BTreeMap<u64, ScheduledRecord>,
    /// When messages expire, by conversation and seq.
    pub expiries: BTreeMap<(u64, u64), u64>,
    /// Seqs of the messages that have a `client_id`.
    pub client_keys: HashMap<ClientKey, u64>,
    /// How far the search indexes reach, by conversation.
    pub index_states: HashMap<u64, IndexState>,
    /// By conversation and seq.
    pub indexed: BTreeMap<(u64, u64), IndexedMessage>,
}

/// The key of a message; `None` where it has no `client_id`.
fn client_key(message: &Message) -> Option<ClientKey> {
    (!message.client_id.is_empty()).then(|| ClientKey {
        conversation_id: message.conversation_id,
        sender_id: message.sender_id,
        client_id: message.client_id.clone(),
    })
}

impl State {
    /// An id that nothing has yet.
    pub fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// All of the messages or, where a key is taken, none. What the databases don't keep is not kept here either.
    pub fn append(&mut self, messages: &[Message]) -> StoreResult<()> {
        let mut seqs = HashSet::new();
        let mut keys = HashSet::new();
        for message in messages {
            let at = (message.conversation_id, message.seq);
            let key = client_key(message);
            let is_taken = self.messages.contains_key(&at)
                || key.as_ref().is_some_and(|key| self.client_keys.contains_key(key));
            if is_taken || !seqs.insert(at) || key.is_some_and(|key| !keys.insert(key)) {
                return Err(StoreError::Exists);
            }
        }
        for message in messages {
            if let Some(key) = client_key(message) {
                self.client_keys.insert(key, message.seq);
            }
            if message.kind() == MessageKind::System {
                self.sayings.remove(&(message.conversation_id, message.client_id.clone()));
            }
            let removed = message.recalled && message.kind == MessageKind::Reaction as i32;
            let kept =
                Message { edited_at_ms: 0, recalled: removed, reactions: Vec::new(), ..message.clone() };
            if let Some(marks) = kept.marks.as_ref().filter(|marks| marks.expires_at_ms != 0) {
                self.expiries.insert((message.conversation_id, message.seq), marks.expires_at_ms);
            }
            self.messages.insert((message.conversation_id, message.seq), kept);
        }
        for entry in messages.iter().filter(|message| is_change(message)) {
            self.change(entry);
        }
        Ok(())
    }

    /// Does to the message that an entry names what the entry says.
    fn change(&mut self, entry: &Message) {
        let id = entry.conversation_id;
        if let Some(target) = self.messages.get_mut(&(id, entry.target_seq)) {
            apply(target, entry);
        }
        if entry.kind() == MessageKind::Recall {
            self.pins.remove(&(id, entry.target_seq));
            self.expiries.remove(&(id, entry.target_seq));
            let later = self.messages.range_mut((id, entry.target_seq)..=(id, entry.seq));
            let is_edit =
                |other: &Message| other.target_seq == entry.target_seq && other.kind() == MessageKind::Edit;
            for (_, edit) in later.filter(|(_, other)| is_edit(other)) {
                edit.text.clear();
            }
        }
    }

    /// A message as it is shown: of each emoji, some of the users.
    pub fn shown(message: &Message) -> Message {
        let mut shown = message.clone();
        for reaction in &mut shown.reactions {
            reaction.user_ids.truncate(REACTORS_SHOWN as usize);
        }
        shown
    }

    /// The newest message at or after `first_seq`.
    pub fn newest(&self, conversation_id: u64, first_seq: u64) -> Option<&Message> {
        let range = self.messages.range((conversation_id, first_seq)..=(conversation_id, u64::MAX));
        range.last().map(|(_, message)| message)
    }

    /// All rows of a conversation, those who left included.
    pub fn members_of(&self, conversation_id: u64) -> impl Iterator<Item = &MemberRecord> {
        self.members.range((conversation_id, 0)..=(conversation_id, u64::MAX)).map(|(_, member)| member)
    }
}
