//! What values look like in Redis: `{"epoch": …, "value": …}` with plain JSON inside, which other systems can read.
//! Password hashes and cursors never get there.

use serde::{Deserialize, Serialize};

use crate::protocol::{ContactState, ConversationKind, JoinPolicy, MemberRole};
use crate::storage::{ContactRecord, ConversationRecord, MemberRecord, RoomRules, UserRecord};

/// A profile: an account without its password hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    user_id: u64,
    username: String,
    display_name: String,
    avatar_file_id: u64,
    bio: String,
    disabled: bool,
    created_at_ms: u64,
}

impl From<UserRecord> for User {
    fn from(record: UserRecord) -> Self {
        let UserRecord {
            id,
            username,
            display_name,
            avatar_file_id,
            bio,
            password_hash: _,
            disabled,
            created_at_ms,
        } = record;
        Self { user_id: id, username, display_name, avatar_file_id, bio, disabled, created_at_ms }
    }
}

impl User {
    /// The record, with an empty password hash, which no password fits.
    pub fn record(&self) -> UserRecord {
        UserRecord {
            id: self.user_id,
            username: self.username.clone(),
            display_name: self.display_name.clone(),
            avatar_file_id: self.avatar_file_id,
            bio: self.bio.clone(),
            password_hash: String::new(),
            disabled: self.disabled,
            created_at_ms: self.created_at_ms,
        }
    }
}

/// A row of a contact list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    user_id: u64,
    state: String,
    message: String,
    updated_at_ms: u64,
}

impl From<ContactRecord> for Contact {
    fn from(record: ContactRecord) -> Self {
        let ContactRecord { user_id: _, contact_id, state, message, updated_at_ms } = record;
        Self { user_id: contact_id, state: state.as_str_name().to_owned(), message, updated_at_ms }
    }
}

impl Contact {
    /// Who is listed.
    pub fn contact_id(&self) -> u64 {
        self.user_id
    }

    /// The record in `owner`'s list; `None`: a newer version wrote a state that this one does not know.
    pub fn record(&self, owner: u64) -> Option<ContactRecord> {
        Some(ContactRecord {
            user_id: owner,
            contact_id: self.user_id,
            state: ContactState::from_str_name(&self.state)?,
            message: self.message.clone(),
            updated_at_ms: self.updated_at_ms,
        })
    }
}

/// A conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    conversation_id: u64,
    kind: String,
    name: String,
    description: String,
    avatar_file_id: u64,
    owner_id: u64,
    join_policy: String,
    created_at_ms: u64,
    updated_at_ms: u64,
    #[serde(default)]
    rules: RoomRules,
}

impl From<ConversationRecord> for Group {
    fn from(record: ConversationRecord) -> Self {
        let ConversationRecord {
            id,
            kind,
            name,
            description,
            avatar_file_id,
            owner_id,
            join_policy,
            created_at_ms,
            updated_at_ms,
            rules,
        } = record;
        Self {
            conversation_id: id,
            kind: kind.as_str_name().to_owned(),
            name,
            description,
            avatar_file_id,
            owner_id,
            join_policy: join_policy.as_str_name().to_owned(),
            created_at_ms,
            updated_at_ms,
            rules,
        }
    }
}

impl Group {
    /// The record; `None`: a newer version wrote a word that this one does not know.
    pub fn record(&self) -> Option<ConversationRecord> {
        Some(ConversationRecord {
            id: self.conversation_id,
            kind: ConversationKind::from_str_name(&self.kind)?,
            name: self.name.clone(),
            description: self.description.clone(),
            avatar_file_id: self.avatar_file_id,
            owner_id: self.owner_id,
            join_policy: JoinPolicy::from_str_name(&self.join_policy)?,
            created_at_ms: self.created_at_ms,
            updated_at_ms: self.updated_at_ms,
            rules: self.rules.clone(),
        })
    }
}

/// A row of a roster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    user_id: u64,
    role: String,
    first_seq: u64,
    joined_at_ms: u64,
}

impl From<&MemberRecord> for Member {
    fn from(record: &MemberRecord) -> Self {
        Self {
            user_id: record.user_id,
            role: record.role.as_str_name().to_owned(),
            first_seq: record.first_seq,
            joined_at_ms: record.joined_at_ms,
        }
    }
}

impl Member {
    /// The record; `None`: a newer version wrote a role that this one does not know.
    pub fn record(&self, conversation_id: u64) -> Option<MemberRecord> {
        Some(MemberRecord {
            conversation_id,
            user_id: self.user_id,
            role: MemberRole::from_str_name(&self.role)?,
            first_seq: self.first_seq,
            joined_at_ms: self.joined_at_ms,
            ..MemberRecord::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through_json<T: Serialize + for<'a> Deserialize<'a>>(value: &T) -> T {
        let json = serde_json::to_string(value).expect("plain data");
        assert!(!json.contains("secret"), "{json}");
        serde_json::from_str(&json).expect("as it was written")
    }

    #[test]
    fn records_come_back_as_they_were_but_for_secrets() {
        let user = UserRecord {
            id: 7,
            username: "Ada".into(),
            password_hash: "secret".into(),
            ..Default::default()
        };
        let back = through_json(&User::from(user.clone())).record();
        assert_eq!(back, UserRecord { password_hash: String::new(), ..user });
        let contact = ContactRecord {
            user_id: 1,
            contact_id: 2,
            state: ContactState::Invited,
            message: "hi".into(),
            updated_at_ms: 3,
        };
        assert_eq!(through_json(&Contact::from(contact.clone())).record(1), Some(contact));
        let member = MemberRecord { conversation_id: 5, user_id: 2, first_seq: 3, ..Default::default() };
        assert_eq!(through_json(&Member::from(&member)).record(5), Some(member));
    }
}
