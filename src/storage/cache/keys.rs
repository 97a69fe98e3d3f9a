//! The names and lifetimes of what is kept, as the specification has them; `user:id` is ours, since nearly everything
//! here is looked up by id. Names follow `cache.key_prefix`.

use std::time::Duration;

use crate::domain::limits::username_key;

/// A key and how long Redis keeps it at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name, without the prefix.
    pub name: String,
    /// The most it lives.
    pub ttl: Duration,
}

/// How long the absence of something is remembered, but for `user:exists`, which says so itself.
pub const NEGATIVE_TTL: Duration = Duration::from_secs(30);
/// How long a route is kept after a node last announced it: three announcements.
pub const ROUTE_TTL: Duration = Duration::from_secs(90);

fn key(name: String, seconds: u64) -> Key {
    Key { name, ttl: Duration::from_secs(seconds) }
}

/// A profile, by user id.
pub fn user(user_id: u64) -> Key {
    key(format!("user:id:{user_id}"), 3600)
}

/// A profile, by user name in any case.
pub fn user_info(username: &str) -> Key {
    key(format!("user:info:{}", username_key(username)), 3600)
}

/// Whether there is a user of this name.
pub fn user_exists(username: &str) -> Key {
    key(format!("user:exists:{}", username_key(username)), 300)
}

/// A user's contact list.
pub fn friends(user_id: u64) -> Key {
    key(format!("user:friends:{user_id}"), 1800)
}

/// A conversation, without its members.
pub fn group_info(conversation_id: u64) -> Key {
    key(format!("group:info:{conversation_id}"), 3600)
}

/// Who is in a conversation.
pub fn group_members(conversation_id: u64) -> Key {
    key(format!("group:members:{conversation_id}"), 1800)
}

/// Whether a user is online: written for other systems, never read here.
pub fn user_status(user_id: u64) -> Key {
    key(format!("user:status:{user_id}"), 3600)
}

/// On which nodes a user's sessions are: written for other systems, never read here.
pub fn presence_route(user_id: u64) -> Key {
    Key { name: format!("presence:route:{user_id}"), ttl: ROUTE_TTL }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_lifetimes_are_the_specifications() {
        let keys = [
            (user_info("Ada"), "user:info:ada", 3600),
            (user_exists("ADA"), "user:exists:ada", 300),
            (friends(7), "user:friends:7", 1800),
            (group_info(7), "group:info:7", 3600),
            (group_members(7), "group:members:7", 1800),
            (user_status(7), "user:status:7", 3600),
        ];
        for (made, name, seconds) in keys {
            assert_eq!(made, key(name.to_owned(), seconds));
        }
    }
}
