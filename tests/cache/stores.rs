//! Every write of the stores, and every read that may be cached: what one node writes, the other reads at once.

use std::sync::Arc;

use rookery::config::CacheConfig;
use rookery::protocol::{ContactState, JoinPolicy, MemberRole};
use rookery::storage::cache::{Cache, CachedStores};
use rookery::storage::memory::{Fault, MemoryStores};
use rookery::storage::{
    ContactRecord, MemberRecord, NewGroup, ProfileChange, RoomChange, RoomWrite, SettingsChange, StoreError,
    Stores, UserRecord,
};

/// Two nodes over one database in memory, each with its cache.
struct Nodes {
    memory: MemoryStores,
    a: Stores,
    b: Stores,
    a_decides: Stores,
    b_cache: Cache,
}

fn nodes() -> Nodes {
    // A lifetime so long that nothing here is seen because it expired.
    let config = CacheConfig { local_ttl: std::time::Duration::from_secs(600), ..CacheConfig::default() };
    let memory = MemoryStores::default();
    let cache = || Cache::start(&config).expect("no Redis is named");
    let (a_cache, b_cache) = (cache(), cache());
    let told = b_cache.clone();
    a_cache.connect(Arc::new(move |keys, _| {
        keys.iter().for_each(|key| told.forget(key));
        Box::pin(async { true })
    }));
    let a = CachedStores::over(memory.stores(), a_cache);
    let b = CachedStores::over(memory.stores(), b_cache.clone());
    Nodes { memory, a: a.readers(), a_decides: a.arbiters(), b: b.readers(), b_cache }
}

impl Nodes {
    async fn user(&self, name: &str) -> UserRecord {
        let user =
            UserRecord { username: name.into(), password_hash: "secret".into(), ..UserRecord::default() };
        self.a.accounts.create_user(user).await.expect("it is created")
    }

    async fn group(&self, owner_id: u64, member_ids: Vec<u64>) -> u64 {
        let group = NewGroup {
            owner_id,
            name: "rooks".to_owned(),
            description: String::new(),
            join_policy: JoinPolicy::Open,
            member_ids,
            client_id: String::new(),
            now_ms: 5,
        };
        self.a.conversations.create_group(group).await.expect("it is created").id
    }

    async fn roster(&self, id: u64) -> Vec<(u64, MemberRole)> {
        let roster = self.b.conversations.roster(id).await.expect("it is read");
        roster.iter().map(|row| (row.user_id, row.role)).collect()
    }

    fn loads(&self) -> u64 {
        self.b_cache.json()["database_reads"]["cached_kinds"].as_u64().expect("a counter")
    }
}

#[tokio::test]
async fn profiles_are_read_once_and_seen_changed_at_once() {
    let nodes = nodes();
    // Both say that there is nobody, before there is.
    assert_eq!(nodes.b.accounts.user_exists("ADA").await, Ok(false));
    assert_eq!(nodes.b.accounts.user_by_name("ada").await, Ok(None));
    assert_eq!(nodes.b.accounts.user(1).await, Ok(None));
    let ada = nodes.user("Ada").await;
    let bob = nodes.user("Bob").await;
    assert_eq!(nodes.b.accounts.user_exists("ADA").await, Ok(true));
    let shown = UserRecord { password_hash: String::new(), ..ada.clone() };
    assert_eq!(nodes.b.accounts.user(ada.id).await, Ok(Some(shown.clone())));
    assert_eq!(nodes.b.accounts.user_by_name("ada").await, Ok(Some(shown.clone())));
    let ids = [bob.id, 99, ada.id, ada.id];
    let names = |users: Vec<UserRecord>| users.into_iter().map(|user| user.username).collect::<Vec<_>>();
    assert_eq!(names(nodes.b.accounts.users(&ids).await.expect("they are read")), ["Ada", "Bob"]);
    let loads = nodes.loads();
    for _ in 0..3 {
        assert_eq!(names(nodes.b.accounts.users(&ids).await.expect("they are read")), ["Ada", "Bob"]);
        assert_eq!(nodes.b.accounts.user(ada.id).await, Ok(Some(shown.clone())));
    }
    assert_eq!(nodes.loads(), loads, "what was read is remembered, absence too");

    let change = ProfileChange { bio: Some("numbers".into()), ..ProfileChange::default() };
    nodes.a.accounts.change_profile(ada.id, change).await.expect("it is stored");
    let seen = nodes.b.accounts.user(ada.id).await.expect("it is read").expect("there");
    assert_eq!(seen.bio, "numbers");
    let by_name = nodes.b.accounts.user_by_name("ada").await.expect("it is read").expect("there");
    assert_eq!(by_name.bio, "numbers");
    nodes.a_decides.accounts.set_disabled(ada.id, true).await.expect("it is stored");
    assert!(nodes.b.accounts.user(ada.id).await.expect("it is read").expect("there").disabled);
}

#[tokio::test]
async fn who_decides_gets_the_database_itself() {
    let nodes = nodes();
    let ada = nodes.user("ada").await;
    assert_eq!(nodes.a_decides.accounts.user(ada.id).await, Ok(Some(ada.clone())), "with the hash");
    assert_eq!(nodes.a_decides.accounts.user_by_name("ada").await, Ok(Some(ada.clone())));
    // Somebody changed the database without telling anybody.
    nodes.memory.stores().accounts.set_disabled(ada.id, true).await.expect("it is stored");
    assert!(nodes.a_decides.accounts.user(ada.id).await.expect("it is read").expect("there").disabled);
    let id = nodes.group(ada.id, vec![2]).await;
    assert_eq!(nodes.roster(id).await.len(), 2);
    change(&nodes.memory.stores(), id, 9, vec![RoomWrite::Remove(2)]).await;
    assert_eq!(nodes.roster(id).await.len(), 2, "the roster is from memory");
    let member = nodes.b.conversations.member(id, 2).await.expect("it is read").expect("there");
    assert_eq!(member.removed_at_ms, 9, "whoever asks for permission is told the truth, also by the readers");
    assert_eq!(nodes.b.conversations.members_among(id, &[2]).await, Ok(Vec::new()));
}

#[tokio::test]
async fn contact_lists_are_seen_changed_by_both_sides() {
    let nodes = nodes();
    let row = |user_id, contact_id, state| ContactRecord {
        user_id,
        contact_id,
        state,
        message: String::new(),
        updated_at_ms: 1,
    };
    let list = async |of: u64| nodes.b.contacts.contacts(of, 0, 10).await.expect("it is read");
    assert!(list(1).await.is_empty() && list(2).await.is_empty());
    let rows = [row(1, 2, ContactState::Requested), row(2, 1, ContactState::Invited)];
    nodes.a.contacts.put_contacts(&rows).await.expect("they are stored");
    assert_eq!((list(1).await, list(2).await), (vec![rows[0].clone()], vec![rows[1].clone()]));
    let third = [row(1, 3, ContactState::Friend), row(3, 1, ContactState::Friend)];
    nodes.a.contacts.put_contacts(&third).await.expect("they are stored");
    assert_eq!(nodes.b.contacts.contacts(1, 2, 10).await, Ok(vec![third[0].clone()]));
    assert_eq!(nodes.b.contacts.contacts(1, 0, 1).await, Ok(vec![rows[0].clone()]));
    nodes.a.contacts.delete_contacts(1, 2).await.expect("they are removed");
    assert_eq!((list(1).await, list(2).await), (vec![third[0].clone()], Vec::new()));
}

#[tokio::test]
async fn a_list_too_long_to_be_cached_is_read_whole() {
    let nodes = nodes();
    for contact in 2..1204 {
        let row = |user_id, contact_id| ContactRecord {
            user_id,
            contact_id,
            state: ContactState::Friend,
            message: String::new(),
            updated_at_ms: 1,
        };
        let rows = [row(1, contact), row(contact, 1)];
        nodes.memory.stores().contacts.put_contacts(&rows).await.expect("they are stored");
    }
    let page = nodes.b.contacts.contacts(1, 1000, 500).await.expect("it is read");
    assert_eq!((page.len(), page[0].contact_id, page[202].contact_id), (203, 1001, 1203));
}

/// A change that must be carried out.
async fn change(stores: &Stores, conversation_id: u64, now_ms: u64, writes: Vec<RoomWrite>) {
    let change = RoomChange { conversation_id, now_ms, conditions: Vec::new(), writes };
    assert_eq!(stores.rooms.change_room(&change).await, Ok(None), "{change:?}");
}

#[tokio::test]
async fn groups_are_seen_changed_by_every_write_of_their_members() {
    let nodes = nodes();
    let id = nodes.group(1, vec![2]).await;
    let record = async || nodes.b.conversations.conversation(id).await.expect("it is read").expect("there");
    assert_eq!(record().await.owner_id, 1);
    assert_eq!(nodes.roster(id).await, [(1, MemberRole::Owner), (2, MemberRole::Member)]);
    let member =
        MemberRecord { conversation_id: id, user_id: 3, updated_at_ms: 20, ..MemberRecord::default() };
    change(&nodes.a_decides, id, 20, vec![RoomWrite::Add(vec![member])]).await;
    assert_eq!((nodes.roster(id).await.len(), record().await.updated_at_ms), (3, 20));
    change(&nodes.a_decides, id, 30, vec![RoomWrite::Role(2, MemberRole::Owner)]).await;
    assert_eq!((nodes.roster(id).await[1].1, record().await.owner_id), (MemberRole::Owner, 2));
    change(&nodes.a_decides, id, 40, vec![RoomWrite::Remove(3)]).await;
    assert_eq!((nodes.roster(id).await.len(), record().await.updated_at_ms), (2, 40));
    let heir = vec![RoomWrite::Role(1, MemberRole::Owner), RoomWrite::Remove(2)];
    change(&nodes.a_decides, id, 50, heir).await;
    assert_eq!((nodes.roster(id).await, record().await.owner_id), (vec![(1, MemberRole::Owner)], 1));
    let quiet = SettingsChange { read_only: Some(true), ..SettingsChange::default() };
    change(&nodes.a_decides, id, 60, vec![RoomWrite::Settings(quiet)]).await;
    assert!(record().await.rules.read_only);
    change(&nodes.a_decides, id, 70, vec![RoomWrite::Dissolve]).await;
    assert_eq!((nodes.roster(id).await.len(), record().await.rules.dissolved_at_ms), (0, 70));
    let (direct, _) = nodes.a.conversations.direct(7, 8, 50).await.expect("it is made");
    assert_eq!(nodes.roster(direct.id).await.len(), 2);
}

#[tokio::test]
async fn a_write_of_unknown_fate_is_forgotten_like_one_that_was_stored() {
    let nodes = nodes();
    let ada = nodes.user("ada").await;
    assert_eq!(nodes.b.accounts.user(ada.id).await.expect("it is read").expect("there").bio, "");
    let change = ProfileChange { bio: Some("numbers".into()), ..ProfileChange::default() };
    nodes.memory.fail_next(1, Fault::UnsettledStored);
    let outcome = nodes.a.accounts.change_profile(ada.id, change).await;
    assert!(matches!(outcome, Err(StoreError::Unsettled(_))), "{outcome:?}");
    assert_eq!(nodes.b.accounts.user(ada.id).await.expect("it is read").expect("there").bio, "numbers");
}

#[tokio::test]
async fn a_database_that_is_away_is_no_answer_to_be_remembered() {
    let nodes = nodes();
    let ada = nodes.user("ada").await;
    nodes.memory.fail_next(1, Fault::Unavailable);
    assert!(matches!(nodes.b.accounts.user(ada.id).await, Err(StoreError::Unavailable(_))));
    assert!(nodes.b.accounts.user(ada.id).await.expect("it is read").is_some());
    nodes.memory.fail_next(1, Fault::Unavailable);
    assert!(nodes.b.accounts.user(ada.id).await.is_ok(), "what is remembered needs no database");
}
