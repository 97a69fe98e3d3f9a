//! What is drawn, looked at as text.

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::super::Intent;
use super::super::line::Line;
use super::*;
use crate::client::Event;

const ALICE: u64 = 1;
const BOB: u64 = 2;

/// Alice looks at her conversation with Bob, beside a group with something unread.
fn screen() -> Screen {
    let (mut model, now) = (Model::new(ALICE), Instant::now());
    let direct = v1::Conversation {
        conversation_id: 8,
        peer_user_id: BOB,
        peer_read_seq: 2,
        ..v1::Conversation::default()
    };
    let mut group =
        v1::Conversation { conversation_id: 9, name: "rust".into(), ..v1::Conversation::default() };
    group.set_kind(ConversationKind::Group);
    group.unread = 3;
    model.take(Event::Conversation(direct), now);
    model.take(Event::Conversation(group), now);
    model.learn_name(BOB, "Bob".into());
    let message = |seq, sender_id, text: &str| v1::Message {
        conversation_id: 8,
        seq,
        sender_id,
        text: text.into(),
        created_at_ms: 1_700_000_000_000 + seq,
        ..v1::Message::default()
    };
    let asked = message(1, BOB, "lunch?");
    let answered = v1::Message { reply_to_seq: 1, ..message(2, ALICE, "yes 世界") };
    let mut taken_back = message(3, BOB, "");
    taken_back.recalled = true;
    let reactions = vec![v1::Reaction { emoji: "👍".into(), user_ids: vec![ALICE], count: 1 }];
    let liked = v1::Message { reactions, edited_at_ms: 5, ..message(4, BOB, "see\u{1b}[2J you") };
    for message in [asked, answered, taken_back, liked] {
        model.take(Event::Message(message), now);
    }
    model.show(8);
    model.take(Event::Typing(v1::Typing { conversation_id: 8, user_id: BOB, active: true }), now);
    Screen { model, line: Line::default(), intent: Intent::Write, help: false }
}

/// The screen's letters, a row a line.
fn drawn(screen: &Screen, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen in memory");
    terminal.draw(|frame| draw(frame, screen, Instant::now())).expect("drawn");
    let buffer = terminal.backend().buffer();
    let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(|y| row(y).trim_end().to_owned() + "\n").collect()
}

#[test]
fn the_list_the_messages_and_the_line_are_there() {
    let mut screen = screen();
    screen.line.insert("hello");
    let (client_id, text) = ("c".to_owned(), "on its way\u{1b}c".to_owned());
    screen.model.pending.push(Pending { client_id, conversation_id: Some(8), text });
    let drawn = drawn(&screen, 90, 24);
    for wanted in [
        "Conversations",
        "# rust",
        " 3",
        "Bob types …",
        "lunch?",
        "┃ Bob: lunch?",
        "✓✓ read",
        "taken back",
        "(edited)",
        "see[2J you",
        "👍",
        "… on its wayc",
        "1 not stored yet",
        "│hello",
        "3 unread (Tab)",
    ] {
        assert!(drawn.contains(wanted), "{wanted:?} is not in\n{drawn}");
    }
    assert!(!drawn.contains('\u{1b}'), "nothing that a terminal would obey");
}

#[test]
fn a_narrow_screen_shows_the_list_or_the_messages() {
    let mut screen = screen();
    let shown = drawn(&screen, 40, 20);
    assert!(shown.contains("lunch?") && !shown.contains("# rust"), "{shown}");
    screen.model.open = None;
    let shown = drawn(&screen, 40, 20);
    assert!(shown.contains("# rust") && !shown.contains("lunch?"), "{shown}");
}

#[test]
fn no_size_is_too_small_and_no_scroll_too_far() {
    let mut screen = screen();
    screen.help = true;
    screen.model.scrolled = 10_000;
    for (width, height) in [(1, 1), (2, 5), (10, 3), (64, 4), (200, 60)] {
        drawn(&screen, width, height);
    }
    screen.help = false;
    assert!(drawn(&screen, 90, 12).contains("lunch?"), "the top is the oldest message");
}
