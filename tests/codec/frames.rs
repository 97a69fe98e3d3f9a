//! Arbitrary frames: every request, answer and event, with fields of every size.

use proptest::prelude::*;
use rookery::protocol::v1::client_frame::Request;
use rookery::protocol::v1::server_frame::Body;
use rookery::protocol::v1::*;

/// Ids and seqs as the wire has them, small and large.
fn id() -> BoxedStrategy<u64> {
    prop_oneof![Just(0), 1u64..100, 0..1u64 << 53, any::<u64>()].boxed()
}

fn text() -> BoxedStrategy<String> {
    prop_oneof![Just(String::new()), any::<String>(), "\\PC{0,40}"].boxed()
}

fn ids() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(id(), 0..4)
}

fn cursor() -> impl Strategy<Value = Cursor> {
    (id(), id()).prop_map(|(conversation_id, seq)| Cursor { conversation_id, seq })
}

fn attachments() -> BoxedStrategy<Vec<Attachment>> {
    let one = (id(), text(), text(), id(), any::<u32>(), any::<u32>()).prop_map(
        |(file_id, name, mime, size, width, height)| Attachment { file_id, name, mime, size, width, height },
    );
    prop::collection::vec(one, 0..3).boxed()
}

/// Any client frame.
pub fn client() -> BoxedStrategy<ClientFrame> {
    let send = (id(), id(), text(), 0..10i32, text(), attachments(), id(), ids()).prop_map(
        |(conversation_id, to_user_id, client_id, kind, text, attachments, reply_to_seq, mentions)| Send {
            conversation_id,
            to_user_id,
            client_id,
            kind,
            text,
            attachments,
            reply_to_seq,
            mentions,
            ..Send::default()
        },
    );
    let send = (send, id(), id()).prop_map(|(send, expires_in_seconds, send_at_ms)| Send {
        expires_in_seconds,
        send_at_ms,
        ..send
    });
    let about = || (id(), id(), text(), text(), any::<bool>());
    let request =
        prop_oneof![
            text().prop_map(|token| Request::Hello(Hello { token })),
            (text(), text(), text(), text()).prop_map(|(username, password, device_name, platform)| {
                Request::Login(Login { username, password, device_name, platform })
            }),
            send.prop_map(Request::Send),
            about().prop_map(|(conversation_id, target_seq, client_id, text, _)| Request::Edit(Edit {
                conversation_id,
                target_seq,
                client_id,
                text
            })),
            about().prop_map(|(conversation_id, target_seq, client_id, ..)| Request::Recall(Recall {
                conversation_id,
                target_seq,
                client_id
            })),
            about().prop_map(|(conversation_id, target_seq, client_id, emoji, remove)| Request::React(
                React { conversation_id, target_seq, client_id, emoji, remove }
            )),
            cursor().prop_map(Request::Delivered),
            cursor().prop_map(Request::Read),
            (id(), any::<bool>()).prop_map(|(conversation_id, active)| Request::Typing(TypingState {
                conversation_id,
                active
            })),
            (prop::collection::vec(cursor(), 0..4), text(), text(), any::<u32>()).prop_map(
                |(cursors, since, page, limit)| Request::Sync(SyncRequest { cursors, since, page, limit })
            ),
            (id(), id(), id(), any::<u32>()).prop_map(|(conversation_id, before_seq, after_seq, limit)| {
                Request::History(HistoryRequest {
                    conversation_id,
                    before_seq,
                    after_seq,
                    limit,
                    ..HistoryRequest::default()
                })
            }),
            ids().prop_map(|user_ids| Request::WatchPresence(WatchPresence { user_ids })),
            (0..5i32, text()).prop_map(|(status, text)| Request::SetPresence(SetPresence { status, text })),
            Just(Request::Ping(Ping {})),
        ];
    (id(), prop::option::weighted(0.95, request))
        .prop_map(|(id, request)| ClientFrame { id, request })
        .boxed()
}

fn message() -> BoxedStrategy<Message> {
    let reactions = prop::collection::vec(
        (text(), ids(), id()).prop_map(|(emoji, user_ids, count)| Reaction { emoji, user_ids, count }),
        0..3,
    );
    let head = (id(), id(), id(), text(), 0..10i32, text(), attachments());
    let tail = (id(), ids(), id(), text(), id(), id(), any::<bool>(), reactions);
    let from = (id(), id(), id(), id()).prop_map(|(conversation_id, seq, sender_id, created_at_ms)| {
        ForwardedFrom { conversation_id, seq, sender_id, created_at_ms }
    });
    let marks = (id(), any::<bool>(), prop::option::of(from), any::<bool>()).prop_map(
        |(expires_at_ms, hidden, forwarded_from, scheduled)| {
            Box::new(Marks { expires_at_ms, hidden, forwarded_from, scheduled })
        },
    );
    (head, tail, prop::option::of(marks)).prop_map(|(head, tail, marks)| {
        let (conversation_id, seq, sender_id, client_id, kind, text, attachments) = head;
        let (reply_to_seq, mentions, target_seq, emoji, created_at_ms, edited_at_ms, recalled, reactions) =
            tail;
        Message {
            conversation_id,
            seq,
            sender_id,
            client_id,
            kind,
            text,
            attachments,
            reply_to_seq,
            mentions,
            target_seq,
            emoji,
            created_at_ms,
            edited_at_ms,
            recalled,
            reactions,
            marks,
        }
    }).boxed()
}

fn conversation() -> BoxedStrategy<Conversation> {
    let head = (id(), 0..2i32, text(), text(), id(), id(), 0..3i32, id());
    let seqs = (id(), id(), id(), id(), id());
    let peer = (id(), id(), id());
    let own = (0..3i32, id(), any::<bool>(), prop::option::of(message()), id(), any::<bool>());
    let draft = (text(), id(), id()).prop_map(|(text, reply_to_seq, updated_at_ms)| Draft {
        text,
        reply_to_seq,
        updated_at_ms,
    });
    let preferences = (any::<bool>(), any::<bool>(), 0..3i32, prop::option::of(draft), any::<bool>());
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let rules = (text(), id(), id(), id(), flags, id());
    (head, seqs, peer, own, preferences, rules)
        .prop_map(|(head, seqs, peer, own, preferences, rules)| Conversation {
            conversation_id: head.0,
            kind: head.1,
            name: head.2,
            description: head.3,
            avatar_file_id: head.4,
            owner_id: head.5,
            join_policy: head.6,
            member_count: head.7,
            first_seq: seqs.0,
            last_seq: seqs.1,
            read_seq: seqs.2,
            delivered_seq: seqs.3,
            unread: seqs.4,
            peer_user_id: peer.0,
            peer_read_seq: peer.1,
            peer_delivered_seq: peer.2,
            role: own.0,
            muted_until_ms: own.1,
            pinned: own.2,
            last_message: own.3,
            updated_at_ms: own.4,
            removed: own.5,
            archived: preferences.0,
            hidden: preferences.1,
            notifications: preferences.2,
            draft: preferences.3,
            announcement: rules.0,
            slow_mode_seconds: rules.1,
            silenced_until_ms: rules.2,
            pending_requests: rules.3,
            read_only: rules.4.0,
            silence_all: rules.4.1,
            history_open: rules.4.2,
            dissolved: rules.4.3,
            marked_unread: preferences.4,
            retention_seconds: rules.5,
        })
        .boxed()
}

fn presence() -> BoxedStrategy<Presence> {
    (id(), 0..5i32, text(), id())
        .prop_map(|(user_id, status, text, last_seen_ms)| Presence { user_id, status, text, last_seen_ms })
        .boxed()
}

fn answer() -> BoxedStrategy<Body> {
    let messages = || prop::collection::vec(message(), 0..3);
    prop_oneof![
        (id(), id(), id(), text(), text(), id(), text()).prop_map(
            |(user_id, device_id, session_id, token, node, server_time_ms, version)| {
                Body::Welcome(Welcome {
                    user_id,
                    device_id,
                    session_id,
                    token,
                    node,
                    server_time_ms,
                    heartbeat_ms: 30_000,
                    max_frame_bytes: 1 << 20,
                    version,
                })
            }
        ),
        (id(), id(), text(), id(), any::<bool>()).prop_map(
            |(conversation_id, seq, client_id, created_at_ms, duplicate)| {
                Body::Sent(Sent { conversation_id, seq, client_id, created_at_ms, duplicate })
            }
        ),
        (
            prop::collection::vec(conversation(), 0..3),
            messages(),
            any::<bool>(),
            text(),
            text(),
            prop::collection::vec(
                (id(), ids()).prop_map(|(conversation_id, seqs)| Hidden { conversation_id, seqs }),
                0..3
            ),
            any::<bool>()
        )
            .prop_map(
                |(conversations, messages, more, next_page, sync_token, hidden, hidden_more)| {
                    Body::SyncPage(SyncPage {
                        conversations,
                        messages,
                        more,
                        next_page,
                        sync_token,
                        hidden,
                        hidden_more,
                    })
                }
            ),
        (messages(), any::<bool>()).prop_map(|(messages, more)| Body::HistoryPage(HistoryPage {
            messages,
            more,
            more_older: more,
            more_newer: !more
        })),
        prop::collection::vec(presence(), 0..3).prop_map(|users| Body::PresencePage(PresencePage { users })),
        Just(Body::Ok(Ok {})),
        Just(Body::Pong(Pong {})),
        (0..11i32, text(), id(), text()).prop_map(|(code, message, retry_after_ms, field)| {
            Body::Error(Error { code, message, retry_after_ms, field })
        }),
    ]
    .boxed()
}

fn event() -> BoxedStrategy<Body> {
    prop_oneof![
        message().prop_map(Body::Message),
        (id(), id(), id(), id()).prop_map(|(conversation_id, user_id, delivered_seq, read_seq)| {
            Body::Receipt(Receipt { conversation_id, user_id, delivered_seq, read_seq })
        }),
        (id(), id(), any::<bool>()).prop_map(|(conversation_id, user_id, active)| Body::Typing(Typing {
            conversation_id,
            user_id,
            active
        })),
        presence().prop_map(Body::Presence),
        (id(), id(), text(), id()).prop_map(|(scheduled_id, conversation_id, client_id, send_at_ms)| {
            Body::Scheduled(Scheduled { scheduled_id, conversation_id, client_id, send_at_ms })
        }),
        (id(), ids()).prop_map(|(conversation_id, seqs)| Body::Hidden(Hidden { conversation_id, seqs })),
        conversation().prop_map(Body::Conversation),
        (id(), 0..6i32, text()).prop_map(|(user_id, state, message)| Body::Contact(ContactEvent {
            user_id,
            state,
            message
        })),
        (id(), text(), text(), id()).prop_map(|(id, title, text, created_at_ms)| Body::Notice(Notice {
            id,
            title,
            text,
            created_at_ms
        })),
        (text(), id(), text()).prop_map(|(reason, retry_after_ms, address)| Body::GoAway(GoAway {
            reason,
            retry_after_ms,
            address
        })),
    ]
    .boxed()
}

/// Any server frame.
pub fn server() -> BoxedStrategy<ServerFrame> {
    let body = prop_oneof![answer(), event()];
    (id(), prop::option::weighted(0.95, body))
        .prop_map(|(reply_to, body)| ServerFrame { reply_to, body })
        .boxed()
}
