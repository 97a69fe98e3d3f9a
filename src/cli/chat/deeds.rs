//! What the commands of [`super::acts`] do.

use std::time::{SystemTime, UNIX_EPOCH};

use super::account::Account;
use super::acts::Act;
use super::clean;
use crate::client::ClientError;
use crate::client::rest::{GroupChange, PreferenceChange, Search, Submitted};
use crate::protocol::v1;

/// Pages of a list that are read.
const LIST_PAGES_MAX: usize = 20;
/// Milliseconds of a minute.
const MINUTE_MS: u64 = 60_000;

/// Unix time, milliseconds.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A name that nothing else of this user has.
pub(super) fn new_client_id() -> String {
    hex::encode(rand::random::<[u8; 16]>())
}

fn or_none(lines: Vec<String>, none: &str) -> String {
    if lines.is_empty() { none.to_owned() } else { lines.join("\n") }
}

impl Account {
    /// Does what a command asks for; what to print.
    pub(super) async fn act(&self, act: Act) -> Result<String, ClientError> {
        let rest = &self.rest;
        Ok(match act {
            Act::Members { group } => self.members(group).await?,
            Act::Add { group, user } => {
                let (user_id, name) = self.find(&user).await?;
                rest.add_members(group, &[user_id]).await?;
                format!("{name} is in the group now")
            }
            Act::Remove { group, user } => {
                let (user_id, name) = self.find(&user).await?;
                rest.remove_member(group, user_id).await?;
                format!("{name} was removed")
            }
            Act::Ban { group, user, reason } => {
                let (user_id, name) = self.find(&user).await?;
                rest.ban(group, user_id, &reason).await?;
                format!("{name} can't come back until 'unban {group} {user}'")
            }
            Act::Unban { group, user } => {
                let (user_id, name) = self.find(&user).await?;
                rest.unban(group, user_id).await?;
                format!("{name} may come back")
            }
            Act::Role { group, user, role } => {
                let (user_id, name) = self.find(&user).await?;
                format!("{name} is {} now", rest.set_role(group, user_id, &role).await?.role)
            }
            Act::Silence { group, user, minutes } => {
                let (user_id, name) = self.find(&user).await?;
                let until_ms = if minutes == 0 { 0 } else { now_ms() + minutes.saturating_mul(MINUTE_MS) };
                rest.silence(group, user_id, until_ms).await?;
                match minutes {
                    0 => format!("{name} may write again"),
                    minutes => format!("{name} may not write for {minutes} min"),
                }
            }
            Act::SilenceAll { group, on } => {
                self.change(group, GroupChange { silence_all: Some(on), ..GroupChange::default() }).await?;
                if on { "only the owner and admins write now" } else { "all may write again" }.to_owned()
            }
            Act::Rename { group, name } => {
                let change = GroupChange { name: Some(name.clone()), ..GroupChange::default() };
                self.change(group, change).await?;
                format!("the group is called {name} now")
            }
            Act::Topic { group, text } => {
                self.change(group, GroupChange { description: Some(text), ..GroupChange::default() }).await?;
                "changed".to_owned()
            }
            Act::Announce { group, text } => {
                let word = if text.is_empty() { "taken back" } else { "announced" };
                self.change(group, GroupChange { announcement: Some(text), ..GroupChange::default() })
                    .await?;
                word.to_owned()
            }
            Act::Keep { group, seconds } => {
                let change = GroupChange { retention_seconds: Some(seconds), ..GroupChange::default() };
                self.change(group, change).await?;
                match seconds {
                    0 => "messages are kept as long as those of all groups".to_owned(),
                    seconds => format!("messages are removed after {seconds} s"),
                }
            }
            Act::Invite { group, uses } => {
                let code = rest.make_invite(group, 0, uses).await?.code;
                format!("others join with 'joincode {code}'")
            }
            Act::UseCode { code } => {
                let joined = rest.use_invite(&code).await?;
                let id = joined.conversation_id;
                self.names.learn(joined);
                format!("joined {}: write with 'sendgroup {id} TEXT'", self.names.conversation(id).await)
            }
            Act::Requests { group } => self.requests(group).await?,
            Act::Answer { group, user, accept } => {
                let (user_id, name) = self.find(&user).await?;
                rest.answer_join_request(group, user_id, accept).await?;
                if accept { format!("{name} is in the group now") } else { format!("{name} was declined") }
            }
            Act::Dissolve { group } => {
                rest.dissolve(group).await?;
                "the group was ended for all".to_owned()
            }
            Act::Mute { conversation, hours } => {
                let until_ms = if hours == 0 { 0 } else { now_ms() + hours.saturating_mul(60 * MINUTE_MS) };
                let change =
                    PreferenceChange { muted_until_ms: Some(until_ms), ..PreferenceChange::default() };
                rest.prefer(conversation, &change).await?;
                match hours {
                    0 => "not muted any more".to_owned(),
                    hours => format!("muted for {hours} h"),
                }
            }
            Act::Search { conversation, text } => self.search(conversation, text).await?,
            Act::Schedule { conversation, minutes, text } => {
                self.schedule(conversation, minutes, text).await?
            }
            Act::Scheduled => self.scheduled().await?,
            Act::Unschedule { number } => {
                rest.cancel_scheduled(number).await?;
                "taken back: it will not be sent".to_owned()
            }
            Act::Forward { conversation, seq, to } => {
                let copies = rest.forward(to, conversation, &[seq], &new_client_id()).await?;
                let title = self.names.conversation(to).await;
                let seqs: Vec<String> = copies.iter().map(|sent| sent.seq.to_string()).collect();
                format!("forwarded to {title} (message {})", seqs.join(", "))
            }
            Act::Pin { conversation, seq, remove: false } => {
                rest.pin(conversation, seq).await?;
                "pinned".to_owned()
            }
            Act::Pin { conversation, seq, remove: true } => {
                rest.unpin(conversation, seq).await?;
                "the pin is off".to_owned()
            }
            Act::Pins { conversation } => {
                let mut lines = Vec::new();
                for pin in rest.pins(conversation).await?.items {
                    lines.push(format!("{:>6}  {}", pin.seq, self.names.message(&pin.message).await));
                }
                or_none(lines, "nothing is pinned")
            }
            Act::Edit { conversation, seq, text } => {
                let (conversation_id, client_id) = (conversation, new_client_id());
                rest.edit(&v1::Edit { conversation_id, target_seq: seq, client_id, text }).await?;
                "changed".to_owned()
            }
            Act::Recall { conversation, seq } => {
                let (conversation_id, client_id) = (conversation, new_client_id());
                rest.recall(&v1::Recall { conversation_id, target_seq: seq, client_id }).await?;
                "taken back".to_owned()
            }
            Act::React { conversation, seq, emoji } => {
                let (conversation_id, client_id) = (conversation, new_client_id());
                let react = v1::React { conversation_id, target_seq: seq, client_id, emoji, remove: false };
                rest.react(&react).await?;
                "done".to_owned()
            }
            Act::Hide { conversation, seq } => {
                rest.hide(conversation, &[seq]).await?;
                "hidden from you, on all your devices".to_owned()
            }
        })
    }

    async fn change(&self, group: u64, change: GroupChange) -> Result<(), ClientError> {
        let changed = self.rest.change_group(group, &change).await?;
        self.names.learn(changed);
        Ok(())
    }

    async fn members(&self, group: u64) -> Result<String, ClientError> {
        let (mut lines, mut cursor) = (Vec::new(), String::new());
        for _ in 0..LIST_PAGES_MAX {
            let page = self.rest.members(group, &cursor).await?;
            for member in page.items {
                let name = self.names.user(member.user_id).await;
                let silenced = if member.silenced_until_ms > now_ms() { "  (silenced)" } else { "" };
                lines.push(format!("{:>6}  {name}  {}{silenced}", member.user_id, member.role));
            }
            cursor = page.next_cursor;
            if cursor.is_empty() {
                return Ok(or_none(lines, "nobody"));
            }
        }
        lines.push("… and more".to_owned());
        Ok(lines.join("\n"))
    }

    async fn requests(&self, group: u64) -> Result<String, ClientError> {
        let (mut lines, mut cursor) = (Vec::new(), String::new());
        for _ in 0..LIST_PAGES_MAX {
            let page = self.rest.join_requests(group, &cursor).await?;
            for request in page.items {
                lines.push(format!(
                    "{:>6}  {}  {}",
                    request.user_id,
                    clean::name(&request.username),
                    clean::text(&request.message)
                ));
            }
            cursor = page.next_cursor;
            if cursor.is_empty() {
                return Ok(or_none(lines, "nobody wants to join"));
            }
        }
        lines.push("… and more".to_owned());
        Ok(lines.join("\n"))
    }

    async fn search(&self, conversation_id: u64, query: String) -> Result<String, ClientError> {
        let found = self.rest.search(&Search { query, conversation_id, ..Search::default() }).await?;
        let mut lines = Vec::new();
        for message in &found.items {
            let (id, seq) = (message.conversation_id, message.seq);
            lines.push(format!("{id:>6} {seq:>6}  {}", self.names.message(message).await));
        }
        if !found.complete {
            lines.push("not all was looked at yet; search again".to_owned());
        } else if !found.next_cursor.is_empty() {
            lines.push("… and more; name another word, or a conversation with 'searchin'".to_owned());
        }
        Ok(or_none(lines, "nothing was found"))
    }

    async fn schedule(&self, id: u64, minutes: u64, text: String) -> Result<String, ClientError> {
        let send_at_ms = now_ms().saturating_add(minutes.saturating_mul(MINUTE_MS));
        let client_id = new_client_id();
        let send = v1::Send { conversation_id: id, client_id, text, send_at_ms, ..v1::Send::default() };
        Ok(match self.rest.submit(&send).await? {
            Submitted::Scheduled(kept) => {
                let number = kept.scheduled_id;
                format!("written in {minutes} min; take it back with 'unschedule {number}'")
            }
            // The server's clock is ahead by more than the time named.
            Submitted::Sent(sent) => format!("sent at once (message {})", sent.seq),
        })
    }

    async fn scheduled(&self) -> Result<String, ClientError> {
        let (mut lines, mut cursor) = (Vec::new(), String::new());
        for _ in 0..LIST_PAGES_MAX {
            let page = self.rest.scheduled(&cursor).await?;
            for kept in page.items {
                let when = match (kept.failure.as_str(), kept.send_at_ms.saturating_sub(now_ms())) {
                    ("", left_ms) => format!("in {} min", left_ms.div_ceil(MINUTE_MS)),
                    (failure, _) => format!("refused: {failure}"),
                };
                let title = self.names.conversation(kept.conversation_id).await;
                lines.push(format!(
                    "{:>6}  to {title}, {when}: {}",
                    kept.scheduled_id,
                    clean::text(&kept.message.text)
                ));
            }
            cursor = page.next_cursor;
            if cursor.is_empty() {
                break;
            }
        }
        Ok(or_none(lines, "nothing is scheduled"))
    }
}
