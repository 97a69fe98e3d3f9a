//! What keys and pastes lead to: what goes out, and where to.

use tokio::sync::mpsc::Receiver;

use super::*;

/// Someone with two conversations, the first of them shown, and what would go out.
struct Desk {
    chat: Chat,
    outgoing: Receiver<Outgoing>,
}

impl Desk {
    fn new() -> Self {
        // Nobody listens at this address.
        let address = ["127.0.0.1:1"];
        let (client, _events) = Client::start(ClientOptions::new(address, "token"));
        let (worker, _tellings, outgoing) = Worker::idle(Rest::new(address), client);
        let (mut model, now) = (Model::new(1), Instant::now());
        for (id, text) in [(8, "hello"), (9, "/usr/bin is a folder")] {
            model.take(
                Event::Conversation(v1::Conversation { conversation_id: id, ..Default::default() }),
                now,
            );
            let message = v1::Message {
                conversation_id: id,
                seq: 5,
                sender_id: 1,
                text: text.into(),
                ..Default::default()
            };
            model.take(Event::Message(message), now);
        }
        model.show(8);
        let screen = Screen { model, line: Line::default(), intent: Intent::Write, help: false };
        Self { chat: Chat { screen, worker, typing_told: None, quit: false }, outgoing }
    }

    fn press(&mut self, code: KeyCode) {
        self.chat.key(KeyEvent::new(code, KeyModifiers::NONE));
    }

    fn write(&mut self, text: &str) {
        for letter in text.chars() {
            self.press(KeyCode::Char(letter));
        }
    }

    fn paste(&mut self, text: &str) {
        self.chat.terminal_event(&TerminalEvent::Paste(text.to_owned()));
    }

    /// What went out: texts with their conversations, and the seq of an edit's target.
    fn sent(&mut self) -> Vec<(u64, u64, String)> {
        let mut all = Vec::new();
        while let Ok(outgoing) = self.outgoing.try_recv() {
            all.push(match outgoing {
                Outgoing::Request(Request::Send(send)) => (send.conversation_id, 0, send.text),
                Outgoing::Request(Request::Edit(edit)) => (edit.conversation_id, edit.target_seq, edit.text),
                Outgoing::WriteTo { name, text, .. } => (0, 0, format!("{name}: {text}")),
                other => panic!("{other:?}"),
            });
        }
        all
    }
}

#[tokio::test]
async fn an_edit_ends_where_another_conversation_is_shown() {
    let mut desk = Desk::new();
    desk.press(KeyCode::Up);
    desk.write("!");
    desk.press(KeyCode::Enter);
    assert_eq!(desk.sent(), [(8, 5, "hello!".to_owned())]);
    desk.press(KeyCode::Up);
    desk.chat.key(KeyEvent::new(KeyCode::Down, KeyModifiers::ALT));
    assert_eq!(desk.chat.screen.model.open, Some(9));
    desk.press(KeyCode::Enter);
    assert_eq!(desk.sent(), [], "the text of one conversation is nothing for another");
    desk.write("new");
    desk.press(KeyCode::Enter);
    assert_eq!(desk.sent(), [(9, 0, "new".to_owned())]);
}

#[tokio::test]
async fn an_edit_is_never_a_command() {
    let mut desk = Desk::new();
    desk.chat.screen.model.show(9);
    desk.press(KeyCode::Up);
    desk.write("!");
    desk.press(KeyCode::Enter);
    assert_eq!(desk.sent(), [(9, 5, "/usr/bin is a folder!".to_owned())]);
    desk.write("//two");
    desk.press(KeyCode::Enter);
    desk.write("/to bob hi");
    desk.press(KeyCode::Enter);
    assert_eq!(desk.sent(), [(9, 0, "/two".to_owned()), (0, 0, "bob: hi".to_owned())]);
}

#[tokio::test]
async fn a_paste_is_one_text_and_no_command() {
    let mut desk = Desk::new();
    desk.paste("/leave\r\n/quit\r");
    assert_eq!((desk.sent(), desk.chat.quit), (vec![], false));
    desk.press(KeyCode::Enter);
    assert_eq!(desk.sent(), [(8, 0, "/leave\n/quit\n".to_owned())]);
}

#[tokio::test]
async fn nobody_is_led_away_from_what_is_being_written() {
    let mut desk = Desk::new();
    desk.write("for eight");
    desk.chat.told(Told::Open { conversation_id: 9, from: Some(8) });
    assert_eq!(desk.chat.screen.model.open, Some(8));
    desk.press(KeyCode::Enter);
    assert_eq!(desk.sent(), [(8, 0, "for eight".to_owned())]);
    desk.chat.told(Told::Open { conversation_id: 9, from: None });
    assert_eq!(desk.chat.screen.model.open, Some(8), "another one was shown since");
    desk.chat.told(Told::Open { conversation_id: 9, from: Some(8) });
    assert_eq!(desk.chat.screen.model.open, Some(9));
}

#[tokio::test]
async fn what_is_not_stored_yet_is_shown_bounded_and_told_at_the_end() {
    let mut desk = Desk::new();
    for number in 0..SENDS_MAX + 1 {
        desk.write(&format!("text {number}"));
        desk.press(KeyCode::Enter);
    }
    let model = &mut desk.chat.screen.model;
    assert_eq!(model.pending.len(), SENDS_MAX);
    assert!(model.note.contains(&format!("text {SENDS_MAX}")), "{}", model.note);
    let ids: Vec<String> = model.pending.iter().map(|pending| pending.client_id.clone()).collect();
    // Stored as its message says, as its answer says, and refused.
    let own = v1::Message {
        conversation_id: 8,
        seq: 6,
        sender_id: 1,
        client_id: ids[0].clone(),
        ..Default::default()
    };
    model.take(Event::Message(own), Instant::now());
    desk.chat.told(Told::Stored(ids[1].clone()));
    let refusal = crate::domain::Error::denied("you are silenced");
    desk.chat.told(Told::NotStored(ids[2].clone(), refusal.into()));
    let model = &desk.chat.screen.model;
    assert_eq!(model.pending.len(), SENDS_MAX - 3);
    assert!(model.note.contains("silenced") && model.note.contains("text 2"), "{}", model.note);
}
