//! Who may do what in a group: every act of the table against every role and a stranger. What is refused answers
//! `permission_denied` and changes nothing.

use reqwest::Method;
use rookery::client::Transport;
use rookery::domain::permissions::{Act, LOWEST_ROLE, allows};
use rookery::protocol::v1::client_frame::Request;
use rookery::protocol::{ErrorCode, MemberRole};
use serde_json::{Value, json};

use crate::live::a_text;
use crate::world::{Answer, Person, TRANSPORTS, World, number, unique};

/// Acts on messages, which have a table of their own beside the tests of messages.
const ACTS_ON_MESSAGES: [Act; 6] = [
    Act::React,
    Act::ReactAnyway,
    Act::ChangeOwnMessage,
    Act::MentionAll,
    Act::RecallOthers,
    Act::PinMessage,
];

/// The people of all cells.
struct Cast {
    owner: Person,
    admin: Person,
    member: Person,
    stranger: Person,
    /// A member whom things are done to.
    victim: Person,
    /// Who is added.
    newcomer: Person,
    /// Who has asked to join.
    asker: Person,
    /// Who is banned.
    outlaw: Person,
}

impl Cast {
    async fn meets() -> Self {
        let world = World::shared();
        Self {
            owner: world.person("owner").await,
            admin: world.person("admin").await,
            member: world.person("member").await,
            stranger: world.person("stranger").await,
            victim: world.person("victim").await,
            newcomer: world.person("newcomer").await,
            asker: world.person("asker").await,
            outlaw: world.person("outlaw").await,
        }
    }

    fn all(&self) -> [(&Person, Option<MemberRole>); 4] {
        [
            (&self.owner, Some(MemberRole::Owner)),
            (&self.admin, Some(MemberRole::Admin)),
            (&self.member, Some(MemberRole::Member)),
            (&self.stranger, None),
        ]
    }

    /// A new group in which every act of the table has something to act on.
    async fn sets_the_scene(&self, act: Act) -> Scene {
        let members = [self.admin.id, self.member.id, self.victim.id];
        let body = json!({
            "kind": "group", "name": "club", "join_policy": "approval", "member_ids": members,
        });
        let id = number(&self.owner.posts("/conversations", body).await.is(201), "conversation_id");
        let at = format!("/conversations/{id}");
        let path = format!("{at}/members/{}", self.admin.id);
        self.owner.patches(&path, json!({"role": "admin"})).await.is(200);
        self.asker.posts(&format!("{at}/join"), json!({})).await.is(202);
        self.owner.puts(&format!("{at}/bans/{}", self.outlaw.id), json!({})).await.is(204);
        let invite = self.owner.posts(&format!("{at}/invites"), json!({})).await.is(201);
        if act == Act::WriteAnyway {
            self.owner.patches(&at, json!({"read_only": true})).await.is(200);
        }
        // What the room says of all this is stored before what is said next.
        let body = json!({"client_id": "first", "text": "all is set"});
        self.owner.posts(&format!("{at}/messages"), body).await.is(201);
        Scene { id, code: invite["code"].as_str().expect("a code is a string").to_owned() }
    }

    /// Everything that an act might change.
    async fn looks_around(&self, scene: &Scene) -> Vec<Value> {
        let mut seen = Vec::new();
        for path in ["", "/members", "/bans", "/requests", "/invites", "/messages"] {
            seen.push(self.owner.gets(&format!("/conversations/{}{path}", scene.id)).await.is(200));
        }
        seen
    }
}

struct Scene {
    id: u64,
    code: String,
}

/// A call that is an act. `{victim}` and the like stand for ids, in the path and in the body.
struct Call {
    act: Act,
    method: Method,
    path: &'static str,
    body: Value,
}

fn calls() -> Vec<Call> {
    let call = |act, method, path, body| Call { act, method, path, body };
    let mut calls = vec![
        call(Act::Write, Method::POST, "/messages", json!({"client_id": "{unique}", "text": "hey"})),
        call(Act::WriteAnyway, Method::POST, "/messages", json!({"client_id": "{unique}", "text": "hey"})),
        call(Act::Leave, Method::POST, "/leave", json!({})),
        call(Act::ListMembers, Method::GET, "/members", json!({})),
        call(Act::AddMembers, Method::POST, "/members", json!({"user_ids": ["{newcomer}"]})),
        call(Act::DisciplineMembers, Method::DELETE, "/members/{victim}", json!({})),
        call(Act::DisciplineMembers, Method::PATCH, "/members/{victim}", json!({"silenced_until_ms": 9e15})),
        call(Act::DisciplineMembers, Method::PUT, "/bans/{victim}", json!({"reason": "cawing"})),
        call(Act::DisciplineMembers, Method::PUT, "/bans/{newcomer}", json!({})),
        call(Act::DisciplineMembers, Method::DELETE, "/bans/{outlaw}", json!({})),
        call(Act::DisciplineMembers, Method::GET, "/bans", json!({})),
        call(Act::SilenceAll, Method::PATCH, "", json!({"silence_all": true})),
        call(Act::AnswerRequests, Method::GET, "/requests", json!({})),
        call(Act::AnswerRequests, Method::POST, "/requests/{asker}/accept", json!({})),
        call(Act::AnswerRequests, Method::POST, "/requests/{asker}/decline", json!({})),
        call(Act::Invite, Method::POST, "/invites", json!({"uses_max": 1})),
        call(Act::Invite, Method::GET, "/invites", json!({})),
        call(Act::Invite, Method::DELETE, "/invites/{code}", json!({})),
        call(Act::SetRoles, Method::PATCH, "/members/{victim}", json!({"role": "admin"})),
        call(Act::SetRoles, Method::PATCH, "/members/{member}", json!({"role": "member"})),
        call(Act::Transfer, Method::PATCH, "/members/{victim}", json!({"role": "owner"})),
        call(Act::Transfer, Method::POST, "/transfer", json!({"user_id": "{victim}"})),
        call(Act::Dissolve, Method::DELETE, "", json!({})),
    ];
    let changes = [
        json!({"name": "others"}),
        json!({"description": "what we do"}),
        json!({"avatar_file_id": 7}),
        json!({"join_policy": "open"}),
        json!({"announcement": "tonight"}),
        json!({"read_only": true}),
        json!({"slow_mode_seconds": 5}),
        json!({"history_open": true}),
        json!({}),
    ];
    calls.extend(changes.map(|body| call(Act::ChangeRoom, Method::PATCH, "", body)));
    calls
}

async fn tries(cast: &Cast, scene: &Scene, by: &Person, call: &Call) -> Answer {
    let fill = |text: &str| {
        text.replace("{victim}", &cast.victim.id.to_string())
            .replace("{newcomer}", &cast.newcomer.id.to_string())
            .replace("{member}", &cast.member.id.to_string())
            .replace("{asker}", &cast.asker.id.to_string())
            .replace("{outlaw}", &cast.outlaw.id.to_string())
            .replace("{code}", &scene.code)
            .replace("{unique}", &format!("k{}", unique()))
    };
    let path = fill(&format!("/conversations/{}{}", scene.id, call.path));
    let body = serde_json::from_str(&fill(&call.body.to_string())).expect("still JSON");
    let body = if call.method == Method::GET { None } else { Some(body) };
    by.world.asks(call.method.clone(), &path, Some(&by.token), body).await
}

/// All cells of the calls that `of` takes.
async fn goes_through(of: impl Fn(Act) -> bool) {
    let cast = Cast::meets().await;
    for call in calls().into_iter().filter(|call| of(call.act)) {
        for (by, role) in cast.all() {
            let scene = cast.sets_the_scene(call.act).await;
            let before = cast.looks_around(&scene).await;
            let answer = tries(&cast, &scene, by, &call).await;
            let cell = format!("{:?}, {} {} by {role:?}", call.act, call.method, call.path);
            if role.is_some_and(|role| allows(role, call.act)) {
                assert!((200..300).contains(&answer.status), "{cell} answered {}", answer.text);
            } else {
                answer.is_refused(403, "permission_denied");
                assert_eq!(cast.looks_around(&scene).await, before, "{cell} changed something");
            }
        }
    }
}

#[test]
fn every_act_has_a_call() {
    let calls = calls();
    for (act, _) in LOWEST_ROLE {
        let tried = calls.iter().any(|call| call.act == act);
        assert_ne!(tried, ACTS_ON_MESSAGES.contains(&act), "{act:?} is tried here or listed, not both");
    }
}

#[tokio::test]
async fn only_those_who_may_change_the_room() {
    goes_through(|act| matches!(act, Act::ChangeRoom | Act::SilenceAll)).await;
}

#[tokio::test]
async fn only_those_who_may_act_on_members() {
    goes_through(|act| matches!(act, Act::AddMembers | Act::DisciplineMembers | Act::SetRoles)).await;
}

#[tokio::test]
async fn only_those_who_may_decide_who_comes_in() {
    goes_through(|act| matches!(act, Act::AnswerRequests | Act::Invite)).await;
}

#[tokio::test]
async fn only_those_who_may_do_all_else() {
    goes_through(|act| {
        matches!(
            act,
            Act::Write | Act::WriteAnyway | Act::Leave | Act::ListMembers | Act::Transfer | Act::Dissolve
        )
    })
    .await;
}

#[tokio::test]
async fn only_those_who_may_write_on_every_transport() {
    let cast = Cast::meets().await;
    for act in [Act::Write, Act::WriteAnyway] {
        let scene = cast.sets_the_scene(act).await;
        for transport in TRANSPORTS {
            for (by, role) in cast.all() {
                let live = by.opens(transport).await;
                if role.is_some_and(|role| allows(role, act)) {
                    live.says(scene.id, "hey").await;
                    continue;
                }
                let before = cast.looks_around(&scene).await;
                let error = live.is_refused(Request::Send(a_text(scene.id, "hey"))).await;
                assert_eq!(error.code, ErrorCode::PermissionDenied, "{act:?} by {role:?}: {error:?}");
                assert_eq!(cast.looks_around(&scene).await, before, "{act:?} by {role:?}");
            }
        }
    }
}

/// Beside the act itself it takes a higher role than the other's.
#[tokio::test]
async fn nobody_acts_on_an_equal_or_a_higher_one() {
    let cast = Cast::meets().await;
    let second = cast.newcomer.clone();
    let table = [(&cast.admin, &cast.owner), (&cast.admin, &second), (&cast.admin, &cast.admin)];
    for (by, on) in table {
        let scene = cast.sets_the_scene(Act::DisciplineMembers).await;
        let at = format!("/conversations/{}", scene.id);
        cast.owner.posts(&format!("{at}/members"), json!({"user_id": second.id})).await.is(204);
        let path = format!("{at}/members/{}", second.id);
        cast.owner.patches(&path, json!({"role": "admin"})).await.is(200);
        let body = json!({"client_id": "second", "text": "all is set"});
        cast.owner.posts(&format!("{at}/messages"), body).await.is(201);
        let before = cast.looks_around(&scene).await;
        let (member, ban) = (format!("{at}/members/{}", on.id), format!("{at}/bans/{}", on.id));
        by.patches(&member, json!({"silenced_until_ms": 9e15})).await.is_refused(403, "permission_denied");
        by.puts(&ban, json!({})).await.is_refused(403, "permission_denied");
        if by.id != on.id {
            by.deletes(&member).await.is_refused(403, "permission_denied");
        }
        assert_eq!(cast.looks_around(&scene).await, before, "{} on {}", by.name, on.name);
    }
    // The owner acts on admins.
    let scene = cast.sets_the_scene(Act::DisciplineMembers).await;
    let path = format!("/conversations/{}/members/{}", scene.id, cast.admin.id);
    let member = cast.owner.patches(&path, json!({"silenced_until_ms": 9e15})).await.is(200);
    assert_eq!(number(&member, "silenced_until_ms"), 9_000_000_000_000_000);
    let live = cast.admin.opens(Transport::Tcp).await;
    let error = live.is_refused(Request::Send(a_text(scene.id, "hey"))).await;
    assert_eq!(error.code, ErrorCode::PermissionDenied);
    cast.owner.deletes(&path).await.is(204);
}
