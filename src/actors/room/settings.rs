//! What a group is called and what holds in it; and its end.

use super::actor::RoomState;
use super::members::{Changed, done};
use super::news::News;
use crate::domain::Error;
use crate::domain::permissions::Act;
use crate::protocol::JoinPolicy;
use crate::protocol::cluster::ChangeRoom;
use crate::storage::{Condition, ConversationRecord, RoomWrite, SettingsChange};

impl RoomState {
    pub(super) async fn change_settings(&mut self, by: u64, wanted: &ChangeRoom) -> Changed {
        let room = self.known()?;
        let before = room.conversation().clone();
        let silences = wanted.silence_all.is_some();
        let changes_rest = *wanted != ChangeRoom { silence_all: wanted.silence_all, ..ChangeRoom::default() };
        let mut role = None;
        if silences {
            role = Some(self.authorize(by, Act::SilenceAll)?);
        }
        if changes_rest || !silences {
            role = Some(self.authorize(by, Act::ChangeRoom)?);
        }
        let kept_s = self.actors.inner.config.messages.retention.as_secs();
        if kept_s != 0 && wanted.retention_seconds.is_some_and(|seconds| seconds > kept_s) {
            return Err(Error::invalid(
                "retention_seconds",
                format!(
                    "all messages are kept for {kept_s} s; a group can keep its own for a shorter time only"
                ),
            ));
        }
        let change = news(wanted, &before)?;
        if change == SettingsChange::default() {
            return done();
        }
        let conditions = role.map(|role| Condition::Role(by, role)).into_iter().collect();
        let news = News::of_room(by, told(&change));
        self.store(by, conditions, vec![RoomWrite::Settings(change)], news).await
    }

    pub(super) async fn dissolve(&mut self, by: u64) -> Changed {
        let role = self.authorize(by, Act::Dissolve)?;
        self.end_for_all(by, vec![Condition::Role(by, role)]).await
    }

    /// Ends the group for all who are in it.
    pub(super) async fn end_for_all(&mut self, by: u64, conditions: Vec<Condition>) -> Changed {
        let news = News::of_room(by, vec!["dissolved the group".to_owned()]);
        self.store(by, conditions, vec![RoomWrite::Dissolve], news).await
    }
}

/// What of a change is new.
fn news(wanted: &ChangeRoom, now: &ConversationRecord) -> Result<SettingsChange, Error> {
    fn new<T: PartialEq + Clone>(wanted: &Option<T>, now: &T) -> Option<T> {
        wanted.as_ref().filter(|wanted| *wanted != now).cloned()
    }
    let policy = |number: u32| {
        let policy = i32::try_from(number).ok().and_then(|number| JoinPolicy::try_from(number).ok());
        policy.ok_or_else(|| Error::invalid("join_policy", "join_policy is open, approval or invite"))
    };
    Ok(SettingsChange {
        name: new(&wanted.name, &now.name),
        description: new(&wanted.description, &now.description),
        avatar_file_id: new(&wanted.avatar_file_id, &now.avatar_file_id),
        join_policy: new(&wanted.join_policy.map(policy).transpose()?, &now.join_policy),
        announcement: new(&wanted.announcement, &now.rules.announcement),
        read_only: new(&wanted.read_only, &now.rules.read_only),
        slow_mode_seconds: new(&wanted.slow_mode_seconds, &now.rules.slow_mode_seconds),
        silence_all: new(&wanted.silence_all, &now.rules.silence_all),
        history_open: new(&wanted.history_open, &now.rules.history_open),
        retention_seconds: new(&wanted.retention_seconds, &now.rules.retention_seconds),
    })
}

/// What the log says of a change, one message for each.
fn told(change: &SettingsChange) -> Vec<String> {
    let mut told = Vec::new();
    if let Some(name) = &change.name {
        told.push(format!("renamed the group to {name}"));
    }
    if change.description.is_some() {
        told.push("changed the description".to_owned());
    }
    if change.avatar_file_id.is_some() {
        told.push("changed the picture".to_owned());
    }
    if let Some(policy) = change.join_policy {
        told.push(
            match policy {
                JoinPolicy::Open => "lets everybody join from now on",
                JoinPolicy::Approval => "lets in those who ask from now on",
                JoinPolicy::Invite => "lets in only those who are invited from now on",
            }
            .to_owned(),
        );
    }
    match change.announcement.as_deref() {
        None => {}
        Some("") => told.push("took the announcement back".to_owned()),
        Some(text) => told.push(format!("announced: {text}")),
    }
    let mut flag = |value: Option<bool>, on: &str, off: &str| {
        if let Some(value) = value {
            told.push(if value { on } else { off }.to_owned());
        }
    };
    flag(change.read_only, "made the group read-only", "lets members write again");
    flag(change.silence_all, "silenced all members", "ended the silence");
    flag(change.history_open, "opened the past to all members", "closed the past to new members");
    match change.slow_mode_seconds {
        None => {}
        Some(0) => told.push("ended slow mode".to_owned()),
        Some(seconds) => told.push(format!("set slow mode: one message in {seconds} s")),
    }
    match change.retention_seconds {
        None => {}
        Some(0) => told.push("set messages to be kept as long as everywhere".to_owned()),
        Some(seconds) => told.push(format!("set messages to be kept for {seconds} s")),
    }
    told
}
