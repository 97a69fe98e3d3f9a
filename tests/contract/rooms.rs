//! [`rookery::storage::RoomStore`]: changes of groups are whole or not at all, whoever else changes them meanwhile.

use rookery::protocol::v1::Message;
use rookery::protocol::{JoinPolicy, MemberRole, MessageKind};
use rookery::storage::{
    BanRecord, Condition, ConversationRecord, InviteRecord, JoinRequestRecord, Listed, MemberRecord,
    RoomChange, RoomWrite, SAYS_CREATED, Saying, SettingsChange, StoreError, Stores, Unmet,
};

use crate::fixture::{change, group, member};

async fn record(stores: &Stores, id: u64) -> ConversationRecord {
    stores.conversations.conversation(id).await.expect("it is read").expect("there is one")
}

async fn row(stores: &Stores, id: u64, user_id: u64) -> MemberRecord {
    stores.conversations.member(id, user_id).await.expect("it is read").expect("there is a row")
}

async fn user_ids(stores: &Stores, id: u64) -> Vec<u64> {
    let members = stores.conversations.members(id).await.expect("they are read");
    members.into_iter().map(|member| member.user_id).collect()
}

/// What a change comes to.
async fn outcome(
    stores: &Stores,
    conversation_id: u64,
    conditions: Vec<Condition>,
    writes: Vec<RoomWrite>,
) -> Option<Unmet> {
    let change = RoomChange { conversation_id, now_ms: 100, conditions, writes };
    stores.rooms.change_room(&change).await.expect("the store answers")
}

fn request(user_id: u64, message: &str) -> JoinRequestRecord {
    JoinRequestRecord { conversation_id: 0, user_id, message: message.to_owned(), created_at_ms: 100 }
}

fn ban(user_id: u64) -> BanRecord {
    BanRecord {
        user_id,
        banned_by: 1,
        reason: "cawing".to_owned(),
        created_at_ms: 100,
        ..BanRecord::default()
    }
}

fn invite(code: &str, uses_max: u64, expires_at_ms: u64) -> InviteRecord {
    InviteRecord {
        code: code.to_owned(),
        created_by: 1,
        created_at_ms: 100,
        uses_max,
        expires_at_ms,
        ..InviteRecord::default()
    }
}

/// A code that no other case has: the databases of cases may be the same.
fn code(conversation_id: u64, name: &str) -> String {
    format!("{name}-{conversation_id}")
}

pub async fn settings_change_where_told_to(stores: &Stores) {
    let rooks = group(stores, &[2], 10).await;
    let all = SettingsChange {
        name: Some("Crows ✨".to_owned()),
        description: Some("We croak.".to_owned()),
        avatar_file_id: Some(7),
        join_policy: Some(JoinPolicy::Open),
        announcement: Some("é".repeat(2048)),
        read_only: Some(true),
        slow_mode_seconds: Some(30),
        silence_all: Some(true),
        history_open: Some(true),
        retention_seconds: Some(3600),
    };
    change(stores, rooks.id, 20, vec![RoomWrite::Settings(all.clone())]).await;
    let mut expected = rooks.clone();
    expected.change(&all);
    expected.updated_at_ms = 20;
    assert_eq!(record(stores, rooks.id).await, expected);
    let one = SettingsChange { read_only: Some(false), ..SettingsChange::default() };
    change(stores, rooks.id, 15, vec![RoomWrite::Settings(one.clone())]).await;
    expected.change(&one);
    assert_eq!(record(stores, rooks.id).await, expected, "what is not named stays, and no time moves back");
    change(stores, rooks.id, 30, vec![RoomWrite::Settings(SettingsChange::default())]).await;
    assert_eq!(record(stores, rooks.id).await.name, "Crows ✨");
    let list = stores.conversations.conversation_of(2, rooks.id).await.expect("it is read").expect("there");
    assert_eq!(list.conversation, record(stores, rooks.id).await);
}

pub async fn the_past_is_opened_to_those_who_are_there(stores: &Stores) {
    let rooks = group(stores, &[2], 10).await;
    let later = vec![member(rooks.id, 3, 9, 20), member(rooks.id, 4, 9, 20)];
    change(stores, rooks.id, 20, vec![RoomWrite::Add(later)]).await;
    change(stores, rooks.id, 21, vec![RoomWrite::Remove(4)]).await;
    let open = SettingsChange { history_open: Some(true), ..SettingsChange::default() };
    change(stores, rooks.id, 30, vec![RoomWrite::Settings(open)]).await;
    assert_eq!(row(stores, rooks.id, 3).await.first_seq, 1);
    assert_eq!(row(stores, rooks.id, 4).await.first_seq, 9, "not to those who have left");
}

pub async fn roles_are_set_and_an_owner_leaves_to_an_heir(stores: &Stores) {
    let rooks = group(stores, &[2, 3], 10).await;
    change(stores, rooks.id, 20, vec![RoomWrite::Role(2, MemberRole::Admin)]).await;
    let admin = row(stores, rooks.id, 2).await;
    assert_eq!((admin.role, admin.updated_at_ms), (MemberRole::Admin, 20));
    let conditions = vec![Condition::Role(1, MemberRole::Owner), Condition::Role(2, MemberRole::Admin)];
    let pass_on = vec![RoomWrite::Role(2, MemberRole::Owner), RoomWrite::Remove(1)];
    assert_eq!(outcome(stores, rooks.id, conditions.clone(), pass_on.clone()).await, None);
    let (gone, heir) = (row(stores, rooks.id, 1).await, row(stores, rooks.id, 2).await);
    assert_eq!((gone.removed_at_ms, heir.role), (100, MemberRole::Owner));
    assert_eq!(record(stores, rooks.id).await.owner_id, 2);
    assert_eq!(outcome(stores, rooks.id, conditions, pass_on).await, Some(Unmet::Membership(1)));
    // Rows of those who are not there stay as they are.
    change(stores, rooks.id, 200, vec![RoomWrite::Role(1, MemberRole::Admin), RoomWrite::Silence(1, 9)])
        .await;
    assert_eq!(row(stores, rooks.id, 1).await, gone);
}

pub async fn one_who_was_silenced_is_so_when_back(stores: &Stores) {
    let rooks = group(stores, &[2], 10).await;
    change(stores, rooks.id, 20, vec![RoomWrite::Silence(2, 5000)]).await;
    change(stores, rooks.id, 30, vec![RoomWrite::Remove(2)]).await;
    change(stores, rooks.id, 40, vec![RoomWrite::Add(vec![member(rooks.id, 2, 3, 40)])]).await;
    let back = row(stores, rooks.id, 2).await;
    assert_eq!((back.silenced_until_ms, back.first_seq, back.removed_at_ms), (5000, 3, 0));
    change(stores, rooks.id, 50, vec![RoomWrite::Silence(2, 0)]).await;
    assert_eq!(row(stores, rooks.id, 2).await.silenced_until_ms, 0);
}

pub async fn a_condition_that_does_not_hold_leaves_all_as_it_was(stores: &Stores) {
    let rooks = group(stores, &[2, 3], 10).await;
    let writes = vec![
        RoomWrite::Ban(ban(4)),
        RoomWrite::Ask(request(5, "me")),
        RoomWrite::Invite(invite(&code(rooks.id, "a"), 0, 0)),
    ];
    change(stores, rooks.id, 20, writes).await;
    let before = (record(stores, rooks.id).await, stores.conversations.members(rooks.id).await);
    let table = [
        (Condition::Role(2, MemberRole::Admin), Unmet::Membership(2)),
        (Condition::Role(9, MemberRole::Member), Unmet::Membership(9)),
        (Condition::NoMember(3), Unmet::Membership(3)),
        (Condition::NotBanned(vec![6, 4]), Unmet::Banned(4)),
        (Condition::Banned(6), Unmet::NotBanned(6)),
        (Condition::Requested(6), Unmet::NotRequested(6)),
        (Condition::Below(Listed::Requests, 1), Unmet::Full(Listed::Requests)),
        (Condition::Below(Listed::Bans, 1), Unmet::Full(Listed::Bans)),
        (Condition::Below(Listed::Invites, 1), Unmet::Full(Listed::Invites)),
    ];
    let quiet = SettingsChange { silence_all: Some(true), ..SettingsChange::default() };
    let many = vec![
        RoomWrite::Settings(quiet),
        RoomWrite::Remove(2),
        RoomWrite::Add(vec![member(rooks.id, 8, 1, 100)]),
        RoomWrite::Unban(4),
        RoomWrite::Unask(5),
    ];
    for (condition, unmet) in table {
        let holds = Condition::Role(1, MemberRole::Owner);
        let conditions = vec![holds, condition.clone()];
        assert_eq!(outcome(stores, rooks.id, conditions, many.clone()).await, Some(unmet), "{condition:?}");
    }
    assert!(matches!(
        outcome(stores, rooks.id, vec![Condition::Alone(1)], many.clone()).await,
        Some(Unmet::Membership(2 | 3))
    ));
    // A write in the middle that can't be done takes back those before it.
    let mut half = many.clone();
    half.push(RoomWrite::UseInvite("no such code".to_owned()));
    assert_eq!(outcome(stores, rooks.id, Vec::new(), half).await, Some(Unmet::Invite));
    assert_eq!((record(stores, rooks.id).await, stores.conversations.members(rooks.id).await), before);
    assert_eq!(stores.rooms.bans(rooks.id, 0, 10).await.expect("they are read").len(), 1);
    assert_eq!(stores.rooms.join_requests(rooks.id, 0, 10).await.expect("they are read").len(), 1);
    assert_eq!(outcome(stores, rooks.id, Vec::new(), many).await, None, "and now it is done");
    assert_eq!(user_ids(stores, rooks.id).await, [1, 3, 8]);
    assert_eq!(outcome(stores, rooks.id + 9999, Vec::new(), Vec::new()).await, Some(Unmet::Gone));
}

pub async fn requests_and_bans_are_kept_once_and_paged(stores: &Stores) {
    let rooks = group(stores, &[], 10).await;
    let asks = [5, 3, 4].map(|id| RoomWrite::Ask(request(id, "let me in"))).to_vec();
    change(stores, rooks.id, 20, asks).await;
    let again = JoinRequestRecord { created_at_ms: 300, ..request(4, "please") };
    change(stores, rooks.id, 30, vec![RoomWrite::Ask(again)]).await;
    let page = stores.rooms.join_requests(rooks.id, 3, 2).await.expect("they are read");
    let expected = [request(4, "please"), request(5, "let me in")]
        .map(|request| JoinRequestRecord { conversation_id: rooks.id, ..request });
    assert_eq!(page, expected);
    let waiting = async |user_id| {
        let row = stores.conversations.conversation_of(user_id, rooks.id).await;
        row.expect("it is read").expect("there is one").pending_requests
    };
    assert_eq!(waiting(1).await, 3);
    change(stores, rooks.id, 40, vec![RoomWrite::Add(vec![member(rooks.id, 3, 1, 40)])]).await;
    assert_eq!((waiting(1).await, waiting(3).await), (2, 0), "members are not told");
    change(stores, rooks.id, 50, vec![RoomWrite::Ban(ban(5)), RoomWrite::Ban(ban(6))]).await;
    assert_eq!(waiting(1).await, 1, "who is banned asks for nothing");
    change(stores, rooks.id, 60, vec![RoomWrite::Ban(BanRecord { banned_by: 9, ..ban(6) })]).await;
    let bans = stores.rooms.bans(rooks.id, 5, 10).await.expect("they are read");
    assert_eq!(bans, [BanRecord { conversation_id: rooks.id, ..ban(6) }]);
    change(stores, rooks.id, 70, vec![RoomWrite::Unban(6), RoomWrite::Unask(4)]).await;
    assert_eq!(stores.rooms.bans(rooks.id, 0, 10).await.expect("they are read").len(), 1);
    assert_eq!(waiting(1).await, 0);
    assert_eq!(record(stores, rooks.id).await.updated_at_ms, 40, "members see nothing of all that");
    change(stores, rooks.id, 80, vec![RoomWrite::Touch(vec![1, 77])]).await;
    assert_eq!(row(stores, rooks.id, 1).await.updated_at_ms, 80);
}

pub async fn the_last_use_of_a_code_is_given_once(stores: &Stores) {
    let rooks = group(stores, &[], 10).await;
    let code = code(rooks.id, "thrice");
    change(stores, rooks.id, 20, vec![RoomWrite::Invite(invite(&code, 3, 0))]).await;
    let tasks: Vec<_> = (100..116)
        .map(|user_id| {
            let (stores, code) = (stores.clone(), code.clone());
            let writes =
                vec![RoomWrite::UseInvite(code), RoomWrite::Add(vec![member(rooks.id, user_id, 1, 100)])];
            tokio::spawn(async move {
                outcome(&stores, rooks.id, vec![Condition::NoMember(user_id)], writes).await
            })
        })
        .collect();
    let mut let_in = 0;
    for task in tasks {
        match task.await.expect("no panic") {
            None => let_in += 1,
            Some(unmet) => assert_eq!(unmet, Unmet::Invite),
        }
    }
    assert_eq!((let_in, user_ids(stores, rooks.id).await.len()), (3, 4));
    let kept = stores.rooms.invite(&code).await.expect("it is read").expect("it is there");
    assert_eq!((kept.uses, kept.uses_max, kept.conversation_id), (3, 3, rooks.id));
}

pub async fn codes_expire_and_open_no_other_room(stores: &Stores) {
    let (rooks, crows) = (group(stores, &[], 10).await, group(stores, &[], 10).await);
    let [old, good, spent] = ["old", "good", "spent"].map(|name| code(rooks.id, name));
    for invite in [invite(&old, 0, 100), invite(&good, 0, 101), invite(&spent, 1, 0)] {
        change(stores, rooks.id, 20, vec![RoomWrite::Invite(invite)]).await;
    }
    let used = async |room: u64, code: &str| {
        outcome(stores, room, Vec::new(), vec![RoomWrite::UseInvite(code.to_owned())]).await
    };
    assert_eq!(used(rooks.id, &old).await, Some(Unmet::Invite), "its time is over at that moment");
    assert_eq!(used(rooks.id, &good).await, None);
    assert_eq!(used(crows.id, &good).await, Some(Unmet::Invite));
    assert_eq!(used(rooks.id, &good.to_uppercase()).await, Some(Unmet::Invite));
    assert_eq!((used(rooks.id, &spent).await, used(rooks.id, &spent).await), (None, Some(Unmet::Invite)));
    let dropped = async |room: u64, code: &str| {
        outcome(stores, room, Vec::new(), vec![RoomWrite::DropInvite(code.to_owned())]).await
    };
    assert_eq!(dropped(crows.id, &good).await, Some(Unmet::Invite));
    assert_eq!(stores.rooms.invites(rooks.id).await.expect("they are read").len(), 3);
    // What is not good any more goes with the next that is made.
    let next = code(rooks.id, "next");
    change(stores, rooks.id, 100, vec![RoomWrite::Invite(invite(&next, 0, 0))]).await;
    let left: Vec<String> = stores
        .rooms
        .invites(rooks.id)
        .await
        .expect("they are read")
        .into_iter()
        .map(|row| row.code)
        .collect();
    assert_eq!(left, [good.clone(), next]);
    assert_eq!(dropped(rooks.id, &good).await, None);
    assert_eq!(stores.rooms.invite(&good).await, Ok(None));
}

pub async fn of_two_admins_who_remove_each_other_one_stays(stores: &Stores) {
    for round in 0..8 {
        let rooks = group(stores, &[2, 3], 10).await;
        let admins = [2, 3].map(|id| RoomWrite::Role(id, MemberRole::Owner)).to_vec();
        change(stores, rooks.id, 20, admins).await;
        let removes = |by: u64, other: u64| {
            let stores = stores.clone();
            let conditions =
                vec![Condition::Role(by, MemberRole::Owner), Condition::Role(other, MemberRole::Owner)];
            tokio::spawn(async move {
                outcome(&stores, rooks.id, conditions, vec![RoomWrite::Remove(other)]).await
            })
        };
        let (one, other) = (removes(2, 3), removes(3, 2));
        let outcomes = [one.await.expect("no panic"), other.await.expect("no panic")];
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_none()).count(), 1, "{round}: {outcomes:?}");
        assert_eq!(user_ids(stores, rooks.id).await.len(), 2);
    }
}

pub async fn nobody_joins_what_is_dissolved(stores: &Stores) {
    for round in 0..8u64 {
        let rooks = group(stores, &[2], 10).await;
        let code = code(rooks.id, "in");
        let writes = vec![RoomWrite::Invite(invite(&code, 0, 0)), RoomWrite::Ask(request(5, "me"))];
        change(stores, rooks.id, 20, writes).await;
        let ends = {
            let stores = stores.clone();
            tokio::spawn(
                async move { outcome(&stores, rooks.id, Vec::new(), vec![RoomWrite::Dissolve]).await },
            )
        };
        let joins = {
            let (stores, row) = (stores.clone(), member(rooks.id, 7, 1, 100));
            tokio::spawn(async move {
                outcome(&stores, rooks.id, Vec::new(), vec![RoomWrite::Add(vec![row])]).await
            })
        };
        assert_eq!(ends.await.expect("no panic"), None);
        let joined = joins.await.expect("no panic");
        assert!(matches!(joined, None | Some(Unmet::Gone)), "{round}: {joined:?}");
        assert_eq!(user_ids(stores, rooks.id).await, [0u64; 0], "{round}");
        let left = record(stores, rooks.id).await;
        assert_eq!((left.rules.dissolved_at_ms, left.updated_at_ms), (100, 100));
        assert_eq!((row(stores, rooks.id, 2).await.removed_at_ms, left.name.as_str()), (100, "Rooks"));
        assert!(stores.rooms.invites(rooks.id).await.expect("they are read").is_empty());
        assert!(stores.rooms.join_requests(rooks.id, 0, 9).await.expect("they are read").is_empty());
        let again = outcome(stores, rooks.id, Vec::new(), vec![RoomWrite::Dissolve]).await;
        assert_eq!(again, Some(Unmet::Gone));
    }
}

pub async fn settings_that_were_changed_meanwhile_are_noticed(stores: &Stores) {
    let id = group(stores, &[2, 3], 10).await.id;
    let add = || vec![RoomWrite::Add(vec![member(id, 7, 1, 100)])];
    let unmet = async |condition| outcome(stores, id, vec![condition], add()).await;
    assert_eq!(unmet(Condition::JoinPolicy(JoinPolicy::Open)).await, Some(Unmet::Settings));
    assert_eq!(unmet(Condition::HistoryOpen(true)).await, Some(Unmet::Settings));
    let full = Unmet::Full(Listed::Members);
    assert_eq!(unmet(Condition::Below(Listed::Members, 3)).await, Some(full));
    assert_eq!(user_ids(stores, id).await, [1, 2, 3], "nothing was changed");
    let holds = vec![
        Condition::JoinPolicy(JoinPolicy::Approval),
        Condition::HistoryOpen(false),
        Condition::Below(Listed::Members, 4),
    ];
    assert_eq!(outcome(stores, id, holds, add()).await, None);
    assert_eq!(user_ids(stores, id).await, [1, 2, 3, 7]);
}

pub async fn how_many_are_in_it_is_what_members_say(stores: &Stores) {
    let id = group(stores, &(2..=300).collect::<Vec<u64>>(), 10).await.id;
    let members = |ids: &[u64]| ids.iter().map(|user_id| member(id, *user_id, 1, 20)).collect::<Vec<_>>();
    let steps: Vec<(Vec<RoomWrite>, u64)> = vec![
        (vec![RoomWrite::Add(members(&[2, 3, 301, 302]))], 302),
        (vec![RoomWrite::Remove(2)], 301),
        (vec![RoomWrite::Remove(2), RoomWrite::Remove(9000)], 301),
        (vec![RoomWrite::Role(3, MemberRole::Owner), RoomWrite::Remove(4)], 300),
        (vec![RoomWrite::Add(members(&[2])), RoomWrite::Remove(5), RoomWrite::Touch(vec![3])], 300),
    ];
    for (writes, count) in steps {
        change(stores, id, 20, writes.clone()).await;
        let row = stores.conversations.conversation_of(3, id).await.expect("it is read").expect("there");
        assert_eq!((row.member_count, user_ids(stores, id).await.len() as u64), (count, count), "{writes:?}");
    }
    // What was not carried out is not counted either.
    let writes = vec![RoomWrite::Add(members(&[400])), RoomWrite::UseInvite("none such".to_owned())];
    assert_eq!(outcome(stores, id, Vec::new(), writes).await, Some(Unmet::Invite));
    let (direct, _) = stores.conversations.direct(3, 9, 10).await.expect("it is made");
    for (conversation_id, count) in [(id, 300), (direct.id, 2)] {
        let rows = stores.conversations.conversations_of(3, 0, None, 9).await.expect("they are read");
        let row = rows.iter().find(|row| row.conversation.id == conversation_id).expect("it is listed");
        assert_eq!(row.member_count, count);
    }
}

pub async fn members_are_paged_by_id(stores: &Stores) {
    let ids: Vec<u64> = (2..=1200).collect();
    let rooks = group(stores, &ids, 10).await;
    change(stores, rooks.id, 20, vec![RoomWrite::Remove(700)]).await;
    let (mut seen, mut after_id) = (Vec::new(), 0);
    loop {
        let page = stores.rooms.members_page(rooks.id, after_id, 250).await.expect("it is read");
        let Some(last) = page.last() else { break };
        after_id = last.user_id;
        seen.extend(page.iter().map(|row| row.user_id));
    }
    assert_eq!(seen, (1..=1200).filter(|id| *id != 700).collect::<Vec<_>>());
    let roster = stores.conversations.roster(rooks.id).await.expect("it is read");
    assert_eq!(roster.len(), rookery::storage::ROSTER_MAX + 1, "no more than tells that there are more");
}

pub async fn what_a_room_has_to_say_is_kept_until_its_log_has_it(stores: &Stores) {
    let id = group(stores, &[2], 10).await.id;
    let created = stores.rooms.sayings(id).await.expect("they are read");
    assert_eq!(created.len(), 1);
    assert_eq!(
        (created[0].client_id.as_str(), created[0].by, &created[0].about),
        (SAYS_CREATED, 1, &vec![2])
    );
    assert!(
        SAYS_CREATED.starts_with(rookery::domain::limits::SYSTEM_PREFIX),
        "no client may name a message so"
    );
    let saying = |name: &str, created_at_ms| Saying {
        client_id: name.to_owned(),
        by: 1,
        text: "renamed the group to 🐦".to_owned(),
        about: vec![2, 7],
        target_seq: 3,
        created_at_ms,
    };
    let (second, first) = (saying("system-a", 60), saying("system-b", 50));
    let says = |saying: &Saying| vec![RoomWrite::Unask(9), RoomWrite::Say(saying.clone())];
    assert_eq!(outcome(stores, id, Vec::new(), says(&second)).await, None);
    assert_eq!(outcome(stores, id, Vec::new(), says(&first)).await, None);
    // Not of what was not carried out.
    let unmet = outcome(stores, id, vec![Condition::NoMember(2)], says(&saying("system-c", 70))).await;
    assert_eq!(unmet, Some(Unmet::Membership(2)));
    let kept = stores.rooms.sayings(id).await.expect("they are read");
    assert_eq!(kept[1..], [first, second.clone()]);
    let owing = async |before_ms| stores.rooms.owing(before_ms, id - 1, 1).await.expect("they are read");
    assert_eq!((owing(0).await, owing(51).await), (Vec::new(), vec![id]));
    let of_log = |seq, kind: MessageKind, client_id: &str| Message {
        conversation_id: id,
        seq,
        sender_id: 1,
        client_id: client_id.to_owned(),
        kind: kind as i32,
        created_at_ms: 100,
        ..Message::default()
    };
    let append = [
        of_log(1, MessageKind::System, SAYS_CREATED),
        // A client's name for a message of its own.
        of_log(2, MessageKind::Text, "system-a"),
        of_log(3, MessageKind::System, "system-b"),
    ];
    stores.messages.append(&append).await.expect("it is stored");
    assert_eq!(stores.rooms.sayings(id).await, Ok(vec![second]));
    assert_eq!(
        stores.messages.append(&[of_log(3, MessageKind::System, "system-a")]).await,
        Err(StoreError::Exists)
    );
    assert_eq!(
        stores.rooms.sayings(id).await.expect("they are read").len(),
        1,
        "what is not stored is owed still"
    );
}
