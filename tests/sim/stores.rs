//! The shared database as one node has it: the in-memory stores behind delay and faults. A call of a node that crashes
//! in the middle never returns; whether it was carried out depends on how far it had come.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rookery::domain::privacy::Relation;
use rookery::protocol::PresenceStatus;
use rookery::protocol::v1::Message;
use rookery::storage::memory::MemoryStores;
use rookery::storage::{
    AccountStore, BanRecord, BlockRecord, ClientKey, ContactRecord, ContactStore, ConversationRecord,
    ConversationRow, ConversationStore, CursorAdvance, DeviceRecord, Draft, InviteRecord, JoinRequestRecord,
    LateErasure, MarkStore, MemberRecord, MessageStore, NewGroup, PeopleStore, PinRecord, PreferenceChange,
    PresenceRecord, PrivacyChange, PrivacyRecord, ProfileChange, RoomChange, RoomStore, Saying,
    ScheduledRecord, StoreError, StoreResult, Stores, Unmet, UserRecord,
};

use crate::node::Life;
use crate::oracle::Oracle;
use crate::rng::Rng;

/// How long a call to a database that is away takes to fail, in milliseconds, from and to.
const AWAY_MS: (u64, u64) = (50, 1500);
/// How long after its caller was told that it is in doubt a write may still be carried out, in milliseconds.
const LATE_MS: u64 = 1200;

/// How the database does.
pub struct Weather {
    pub rng: Rng,
    /// Half of how long a call takes, in milliseconds, from and to.
    pub delay: (u64, u64),
    /// Of a hundred calls, how many fail for certain.
    pub refused_percent: u64,
    /// Of a hundred writes, how many end in doubt.
    pub unsettled_percent: u64,
    /// Nodes that can't reach it.
    pub away: BTreeSet<usize>,
}

impl Weather {
    pub fn new(rng: Rng, delay: (u64, u64)) -> Self {
        Self { rng, delay, refused_percent: 0, unsettled_percent: 0, away: BTreeSet::new() }
    }
}

/// One node's way to the database.
#[derive(Clone)]
pub struct NodeStores {
    pub memory: MemoryStores,
    pub weather: Arc<Mutex<Weather>>,
    pub oracle: Arc<Oracle>,
    pub life: Arc<Life>,
    pub node: usize,
}

/// What becomes of a write.
enum Fate {
    Done,
    DoneInDoubt,
    LostInDoubt,
    LateInDoubt(Duration),
}

impl NodeStores {
    pub fn stores(&self) -> Stores {
        let this = Arc::new(self.clone());
        Stores {
            accounts: this.clone(),
            contacts: this.clone(),
            conversations: this.clone(),
            people: this.clone(),
            rooms: this.clone(),
            marks: this.clone(),
            // No timers run here.
            retention: Arc::new(self.memory.clone()),
            messages: this,
            // Nothing is indexed here: an index is behind anyway, and its steps exclude each other.
            search: Arc::new(self.memory.clone()),
        }
    }

    /// Half of a call's time.
    async fn travel(&self) {
        let delay = {
            let mut weather = self.weather.lock();
            let (low, high) = weather.delay;
            weather.rng.range(low, high)
        };
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        self.stay_dead().await;
    }

    /// A node that has crashed learns nothing and does nothing any more.
    async fn stay_dead(&self) {
        if self.life.is_over() {
            std::future::pending::<()>().await;
        }
    }

    fn is_away(&self) -> bool {
        self.weather.lock().away.contains(&self.node)
    }

    async fn give_up(&self) {
        let patience = self.weather.lock().rng.range(AWAY_MS.0, AWAY_MS.1);
        tokio::time::sleep(Duration::from_millis(patience)).await;
        self.stay_dead().await;
    }

    /// The way there: an error if the call does not arrive.
    async fn arrive(&self) -> StoreResult<()> {
        if self.is_away() {
            self.give_up().await;
            return Err(StoreError::Unavailable("simulated: away".to_owned()));
        }
        self.travel().await;
        let refused = {
            let mut weather = self.weather.lock();
            let percent = weather.refused_percent;
            percent > 0 && weather.rng.chance(percent)
        };
        if refused {
            return Err(StoreError::Unavailable("simulated: refused".to_owned()));
        }
        Ok(())
    }

    async fn read<T>(&self, call: impl Future<Output = StoreResult<T>> + Send) -> StoreResult<T> {
        self.arrive().await?;
        let answer = call.await;
        self.travel().await;
        if self.is_away() {
            self.give_up().await;
            return Err(StoreError::Unavailable("simulated: away".to_owned()));
        }
        answer
    }

    async fn write<T>(&self, call: impl Future<Output = StoreResult<T>> + Send) -> StoreResult<T> {
        self.arrive().await?;
        match self.fate() {
            Fate::Done => {
                let answer = call.await;
                self.travel().await;
                if self.is_away() {
                    self.give_up().await;
                    return answer.and_then(|_| in_doubt());
                }
                answer
            }
            Fate::DoneInDoubt => {
                call.await?;
                self.travel().await;
                in_doubt()
            }
            Fate::LostInDoubt | Fate::LateInDoubt(_) => {
                self.travel().await;
                in_doubt()
            }
        }
    }

    fn fate(&self) -> Fate {
        let mut weather = self.weather.lock();
        let percent = weather.unsettled_percent;
        if percent == 0 || !weather.rng.chance(percent) {
            return Fate::Done;
        }
        match weather.rng.range(0, 2) {
            0 => Fate::DoneInDoubt,
            1 => Fate::LostInDoubt,
            _ => Fate::LateInDoubt(Duration::from_millis(weather.rng.range(1, LATE_MS))),
        }
    }

    /// Stores in one step, with the oracle looking on.
    async fn append_now(&self, messages: &[Message]) -> StoreResult<()> {
        self.memory.append(messages).await?;
        self.oracle.stored(messages);
        Ok(())
    }
}

fn in_doubt<T>() -> StoreResult<T> {
    Err(StoreError::Unsettled("simulated: not confirmed".to_owned()))
}

/// Passes calls on to the in-memory stores, by `read` or `write`.
macro_rules! pass_on {
    ($store:ident: $($way:ident $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl $store for NodeStores {
            $(async fn $name(&self $(, $argument: $type)*) -> StoreResult<$answer> {
                self.$way($store::$name(&self.memory $(, $argument)*)).await
            })*
        }
    };
}

pass_on! { AccountStore:
    write create_user(user: UserRecord) -> UserRecord;
    read user(user_id: u64) -> Option<UserRecord>;
    read users(user_ids: &[u64]) -> Vec<UserRecord>;
    read user_by_name(username: &str) -> Option<UserRecord>;
    read search_users(query: &str, after_id: u64, limit: u32) -> Vec<UserRecord>;
    write change_profile(user_id: u64, change: ProfileChange) -> Option<UserRecord>;
    write set_password(user_id: u64, old_hash: &str, new_hash: &str) -> bool;
    write set_disabled(user_id: u64, disabled: bool) -> ();
    write create_device(device: DeviceRecord, token_hash: &str) -> DeviceRecord;
    read device_by_token(token_hash: &str) -> Option<DeviceRecord>;
    read devices(user_id: u64) -> Vec<DeviceRecord>;
    write delete_device(user_id: u64, device_id: u64) -> bool;
    write touch_device(device_id: u64, now_ms: u64) -> ();
    read line_given(user_id: u64) -> Vec<(u64, String)>;
    write set_line_given(user_id: u64, given: &[(u64, String)]) -> ();
}

pass_on! { ContactStore:
    read contact(user_id: u64, contact_id: u64) -> Option<ContactRecord>;
    read contacts(user_id: u64, after_id: u64, limit: u32) -> Vec<ContactRecord>;
    write put_contacts(rows: &[ContactRecord; 2]) -> ();
    write accept_contacts(user_id: u64, contact_id: u64, now_ms: u64) -> bool;
    write delete_contacts(user_id: u64, contact_id: u64) -> bool;
}

pass_on! { PeopleStore:
    read privacies(user_ids: &[u64]) -> Vec<PrivacyRecord>;
    write change_privacy(user_id: u64, change: PrivacyChange) -> ();
    read presences(user_ids: &[u64]) -> Vec<PresenceRecord>;
    write set_presence(user_id: u64, status: PresenceStatus, text: &str, now_ms: u64) -> ();
    write note_seen(seen: &[(u64, u64)]) -> ();
    write block(block: BlockRecord) -> bool;
    write unblock(user_id: u64, blocked_id: u64) -> bool;
    read blocks(user_id: u64, after_id: u64, limit: u32) -> Vec<BlockRecord>;
    read list_sizes(user_id: u64) -> (u64, u64);
    read direct_of(a: u64, b: u64) -> Option<u64>;
    read meetings(pairs: &[(u64, u64)]) -> Vec<(Option<u64>, bool)>;
    read relations(user_id: u64, others: &[u64]) -> Vec<Relation>;
    write set_preferences(
        user_id: u64, conversation_id: u64, change: PreferenceChange, now_ms: u64
    ) -> bool;
    write set_draft(user_id: u64, conversation_id: u64, draft: Draft) -> bool;
    write erase_messages(conversation_id: u64, user_id: u64, from_seq: u64, to_seq: u64) -> ();
    write erase_user(
        user_id: u64, username: &str, display_name: &str, later: Option<LateErasure>
    ) -> ();
    read late_erasures(now_ms: u64, limit: u32) -> Vec<LateErasure>;
    write put_off_erasure(erasure: LateErasure, due_at_ms: u64) -> bool;
    write finish_erasure(user_id: u64) -> ();
}

pass_on! { MarkStore:
    write hide(user_id: u64, conversation_id: u64, seqs: &[u64], now_ms: u64) -> ();
    read hidden_since(user_id: u64, since_ms: u64, limit: u32) -> Vec<(u64, u64, u64)>;
    read hidden(user_id: u64, conversation_id: u64, from_seq: u64, limit: u32) -> Vec<u64>;
    read hidden_among(user_id: u64, messages: &[(u64, u64)]) -> Vec<(u64, u64)>;
    read hiders(conversation_id: u64, seq: u64, limit: u32) -> Vec<u64>;
    write pin(pin: PinRecord) -> bool;
    write unpin(conversation_id: u64, seq: u64) -> bool;
    read pins(conversation_id: u64) -> Vec<PinRecord>;
    write schedule(record: ScheduledRecord) -> ScheduledRecord;
    read scheduled(user_id: u64, after_id: u64, limit: u32) -> Vec<ScheduledRecord>;
    read due(now_ms: u64, after: (u64, u64), limit: u32) -> Vec<ScheduledRecord>;
    write unschedule(user_id: u64, id: u64) -> bool;
    write claim(id: u64) -> bool;
    write put_off(id: u64, send_at_ms: u64, claimed: bool) -> ();
    write finish(id: u64) -> ();
    write note_failure(id: u64, failure: &str) -> ();
    read expired(now_ms: u64, after: (u64, u64, u64), limit: u32) -> Vec<(u64, u64, u64)>;
    write forget_expiry(conversation_id: u64, seq: u64) -> ();
}

pass_on! { ConversationStore:
    write create_group(group: NewGroup) -> ConversationRecord;
    read created_as(owner_id: u64, client_id: &str) -> Option<ConversationRecord>;
    write direct(a: u64, b: u64, now_ms: u64) -> (ConversationRecord, bool);
    read conversation(conversation_id: u64) -> Option<ConversationRecord>;
    read members(conversation_id: u64) -> Vec<MemberRecord>;
    read member(conversation_id: u64, user_id: u64) -> Option<MemberRecord>;
    write advance_cursors(cursors: &[CursorAdvance]) -> ();
    read conversations_of(
        user_id: u64, changed_since_ms: u64, before: Option<(u64, u64)>, limit: u32
    ) -> Vec<ConversationRow>;
    read conversation_of(user_id: u64, conversation_id: u64) -> Option<ConversationRow>;
}

pass_on! { RoomStore:
    write change_room(change: &RoomChange) -> Option<Unmet>;
    read members_page(conversation_id: u64, after_id: u64, limit: u32) -> Vec<MemberRecord>;
    read join_requests(conversation_id: u64, after_id: u64, limit: u32) -> Vec<JoinRequestRecord>;
    read bans(conversation_id: u64, after_id: u64, limit: u32) -> Vec<BanRecord>;
    read invites(conversation_id: u64) -> Vec<InviteRecord>;
    read sayings(conversation_id: u64) -> Vec<Saying>;
    read owing(before_ms: u64, after_id: u64, limit: u32) -> Vec<u64>;
    read invite(code: &str) -> Option<InviteRecord>;
}

#[async_trait]
impl MessageStore for NodeStores {
    async fn append(&self, messages: &[Message]) -> StoreResult<()> {
        self.arrive().await?;
        match self.fate() {
            Fate::Done => {
                let answer = self.append_now(messages).await;
                self.travel().await;
                if self.is_away() {
                    self.give_up().await;
                    return answer.and_then(|()| in_doubt());
                }
                answer
            }
            Fate::DoneInDoubt => {
                self.append_now(messages).await?;
                self.travel().await;
                in_doubt()
            }
            Fate::LostInDoubt => {
                self.travel().await;
                in_doubt()
            }
            Fate::LateInDoubt(late) => {
                // The database's own doing: whether the node lives by then makes no difference.
                let (this, messages) = (self.clone(), messages.to_vec());
                tokio::spawn(async move {
                    tokio::time::sleep(late).await;
                    // Its keys may have been taken meanwhile; then it fails, and nobody is there to be told.
                    let _ = this.append_now(&messages).await;
                });
                self.travel().await;
                in_doubt()
            }
        }
    }

    async fn last_seq(&self, conversation_id: u64) -> StoreResult<u64> {
        self.read(self.memory.last_seq(conversation_id)).await
    }

    async fn stored(&self, keys: &[ClientKey]) -> StoreResult<Vec<(ClientKey, u64, u64)>> {
        self.read(self.memory.stored(keys)).await
    }

    async fn after(&self, conversation_id: u64, after_seq: u64, limit: u32) -> StoreResult<Vec<Message>> {
        self.read(self.memory.after(conversation_id, after_seq, limit)).await
    }

    async fn before(
        &self,
        conversation_id: u64,
        before_seq: u64,
        first_seq: u64,
        limit: u32,
    ) -> StoreResult<Vec<Message>> {
        self.read(self.memory.before(conversation_id, before_seq, first_seq, limit)).await
    }
}
