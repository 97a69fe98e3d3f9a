//! `rookery load fill`: a database as a user of many years has it, to measure sync, history and search on. Rows are the
//! real ones, made by the stores, and settled as after ten quiet minutes; no server need run, and none should.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures_util::future::try_join_all;
use serde::Serialize;

use crate::clock;
use crate::config::StorageConfig;
use crate::protocol::v1::Message;
use crate::protocol::{ConversationKind, JoinPolicy, MemberRole};
use crate::storage::sql::fill::Filling;
use crate::storage::sql::{self, SqlStores};
use crate::storage::{ConversationRecord, MemberRecord, RoomRules, UserRecord};

/// Most messages.
const MESSAGES_MAX: u64 = 1_000_000_000;
/// Most conversations of the user.
const CONVERSATIONS_MAX: u64 = 1_000_000;
/// Messages of one transaction.
const ROWS: u64 = 500;
/// Transactions under way at once.
const AT_ONCE: u64 = 4;
/// Records inserted at a time, so that few are in memory.
const RECORDS: u64 = 5000;
/// One conversation of so many is a group of [`GROUP_MEMBERS`].
const GROUP_EACH: u64 = 5;
/// Members of a group, the user included.
const GROUP_MEMBERS: u64 = 5;
/// The user's messages are as many as those of others, who have so many conversations fewer.
const OTHERS_SHARE: u64 = 10;
/// Over how long the messages spread, in milliseconds: 90 days.
const SPREAD_MS: u64 = 90 * 24 * 3600 * 1000;
/// Between two messages of a conversation, in milliseconds, unless they are too many for it.
const STEP_MS: u64 = 1000;
/// How long a conversation stays unsettled: nobody else writes to it, so that it need not be long.
const LEASE: Duration = Duration::from_secs(1);
/// How often what still has a lease is looked at again, at the end.
const SETTLE_AGAIN: Duration = Duration::from_secs(1);
/// How long that may take: the last leases are some seconds old by then.
const SETTLE_WITHIN: Duration = Duration::from_secs(60);

/// How long one statement may take on a machine that is busy with the others.
const PATIENCE: Duration = Duration::from_secs(60);

/// Arguments of the command.
#[derive(Clone, Debug, clap::Args, Serialize)]
pub struct FillArgs {
    /// An account that is there, whose conversations they become; without it one is made that can't sign in
    #[arg(long, value_name = "USER_ID")]
    pub user: Option<u64>,
    /// Conversations of that user
    #[arg(long, default_value_t = 50_000)]
    pub conversations: u64,
    /// Messages: half of them in those, the others in a tenth as many of others
    #[arg(long, default_value_t = 10_000_000)]
    pub messages: u64,
}

/// Who and what is made, by number.
#[derive(Clone, Copy)]
struct Plan {
    user_id: u64,
    first_user: u64,
    first_conversation: u64,
    own: u64,
    others: u64,
    own_length: u64,
    others_length: u64,
    now_ms: u64,
}

/// Fills the database of this `storage.url`, whose tables are made if need be.
#[expect(clippy::print_stdout, reason = "a command line tells its user what it made")]
pub async fn run(args: FillArgs, url: &str) -> anyhow::Result<()> {
    if !(1..=MESSAGES_MAX).contains(&args.messages) || !(1..=CONVERSATIONS_MAX).contains(&args.conversations)
    {
        bail!("--messages must be 1 to {MESSAGES_MAX}, --conversations 1 to {CONVERSATIONS_MAX}");
    }
    let config = StorageConfig { url: url.to_owned(), request_timeout: PATIENCE, ..StorageConfig::default() };
    let stores = sql::open(&config).await.context("the database can't be opened")?.leasing(LEASE);
    let plan = Plan::new(&stores, &args).await?;
    plan.make_people(&stores).await?;
    plan.make_messages(&stores).await?;
    let unsettled =
        settle(&stores, plan.user_id).await.context("the places in lists can't be written down")?;
    if unsettled > 0 {
        println!(
            "{unsettled} conversations of the user are not settled yet; servers settle them as they run"
        );
    }
    println!(
        "user {} has {} conversations of {} messages; {} others have {} each",
        plan.user_id, plan.own, plan.own_length, plan.others, plan.others_length
    );
    stores.close().await;
    Ok(())
}

/// Writes the places in lists down as the leases of what was filled run out. How many of the user's are left: what others have
/// written to lately, and rooms too large to settle.
async fn settle(stores: &SqlStores, user_id: u64) -> anyhow::Result<usize> {
    let until = Instant::now() + SETTLE_WITHIN;
    loop {
        let settled = stores.settle_all().await?;
        let left = stores.unsettled(user_id).await?;
        if (left == 0 && settled == 0) || Instant::now() > until {
            return Ok(left);
        }
        tokio::time::sleep(SETTLE_AGAIN).await;
    }
}

impl Plan {
    async fn new(stores: &SqlStores, args: &FillArgs) -> anyhow::Result<Self> {
        let (first_user, first_conversation) = stores.free_ids().await?;
        if let Some(user_id) = args.user
            && stores.stores().accounts.user(user_id).await?.is_none()
        {
            bail!("there is no user {user_id} in the database; sign one up, or leave --user out");
        }
        let others = args.conversations.div_ceil(OTHERS_SHARE);
        Ok(Self {
            user_id: args.user.unwrap_or(first_user),
            first_user,
            first_conversation,
            own: args.conversations,
            others,
            own_length: (args.messages / 2).div_ceil(args.conversations),
            others_length: (args.messages / 2).div_ceil(others),
            now_ms: clock::now_ms(),
        })
    }

    /// The user of this number; 0 is the one whose conversations they are.
    fn user(&self, number: u64) -> u64 {
        if number == 0 { self.user_id } else { self.first_user + number }
    }

    fn length(&self, number: u64) -> u64 {
        if number < self.own { self.own_length } else { self.others_length }
    }

    fn is_group(number: u64) -> bool {
        number % GROUP_EACH == GROUP_EACH - 1
    }

    /// Who is in the conversation of this number.
    fn members(&self, number: u64) -> Vec<u64> {
        let all = self.own + self.others;
        let first = if number < self.own { 0 } else { 1 + number % self.own };
        let count = if Self::is_group(number) { GROUP_MEMBERS } else { 2 };
        // Everybody else is in few, and no two are in two direct ones.
        let mut members: Vec<u64> = (1..count).map(|at| 1 + (number + at * 7919) % all).collect();
        members.retain(|member| *member != first);
        members.push(first);
        members.sort_unstable();
        members.dedup();
        members.into_iter().map(|member| self.user(member)).collect()
    }

    /// When the first message of a conversation was sent: in another order than that of their ids.
    fn began_ms(&self, number: u64) -> u64 {
        let all = self.own + self.others;
        self.now_ms - SPREAD_MS + (number * 7919 % all) * (SPREAD_MS / all / 2)
    }

    async fn make_people(&self, stores: &SqlStores) -> anyhow::Result<()> {
        let all = self.own + self.others;
        for from in (0..=all).step_by(RECORDS as usize) {
            let mut filling = Filling::default();
            for number in from..(from + RECORDS).min(all + 1) {
                let id = self.user(number);
                if number > 0 || id == self.first_user {
                    filling.users.push(UserRecord {
                        id,
                        username: format!("filled{id}"),
                        display_name: format!("Filled {id}"),
                        password_hash: "!".to_owned(),
                        created_at_ms: self.now_ms - SPREAD_MS,
                        ..UserRecord::default()
                    });
                }
                if number < all {
                    self.make_conversation(number, &mut filling);
                }
            }
            stores.fill(&filling).await.context("users and conversations can't be stored")?;
        }
        Ok(())
    }

    fn make_conversation(&self, number: u64, filling: &mut Filling) {
        let id = self.first_conversation + number;
        let members = self.members(number);
        let pair = match (Self::is_group(number), members.as_slice()) {
            (false, [a, b]) => Some((*a, *b)),
            _ => None,
        };
        let began_ms = self.began_ms(number);
        let record = ConversationRecord {
            id,
            kind: if pair.is_some() { ConversationKind::Direct } else { ConversationKind::Group },
            name: if pair.is_some() { String::new() } else { format!("Room {id}") },
            description: String::new(),
            avatar_file_id: 0,
            owner_id: if pair.is_some() { 0 } else { members[0] },
            join_policy: JoinPolicy::Invite,
            created_at_ms: began_ms,
            updated_at_ms: began_ms,
            rules: RoomRules::default(),
        };
        let read_seq = self.length(number) * 9 / 10;
        filling.members.extend(members.iter().map(|user_id| MemberRecord {
            conversation_id: id,
            user_id: *user_id,
            role: if *user_id == record.owner_id { MemberRole::Owner } else { MemberRole::Member },
            first_seq: 1,
            delivered_seq: read_seq,
            read_seq,
            joined_at_ms: began_ms,
            updated_at_ms: began_ms,
            ..MemberRecord::default()
        }));
        filling.conversations.push((record, pair));
    }

    /// In the order of the log's key, several runs at once.
    async fn make_messages(&self, stores: &SqlStores) -> anyhow::Result<()> {
        let own = self.own * self.own_length;
        let all = own + self.others * self.others_length;
        let next = Arc::new(AtomicU64::new(0));
        let workers = (0..AT_ONCE).map(|_| {
            let (log, next, plan) = (stores.stores().messages, Arc::clone(&next), *self);
            async move {
                loop {
                    let from = next.fetch_add(ROWS, Ordering::Relaxed);
                    if from >= all {
                        return anyhow::Ok(());
                    }
                    let rows: Vec<Message> =
                        (from..(from + ROWS).min(all)).map(|at| plan.message(at, own)).collect();
                    log.append(&rows).await.context("messages can't be stored")?;
                }
            }
        });
        try_join_all(workers).await.map(drop)
    }

    fn message(&self, at: u64, own: u64) -> Message {
        let (number, seq) = match at.checked_sub(own) {
            None => (at / self.own_length, at % self.own_length + 1),
            Some(at) => (self.own + at / self.others_length, at % self.others_length + 1),
        };
        let members = self.members(number);
        Message {
            conversation_id: self.first_conversation + number,
            seq,
            sender_id: members[seq as usize % members.len()],
            client_id: format!("{at:x}"),
            text: format!("Message {seq}: see you at station {} at ten, 请带上第{seq}号地图", at % 997),
            // The second half of the time is for those that began last.
            created_at_ms: self.began_ms(number) + seq * STEP_MS.min(SPREAD_MS / 2 / self.length(number)),
            ..Message::default()
        }
    }
}
