//! Any interleaving of live pushes with loss, doubles and reorder, of sync pages and of lost connections gives every
//! message once and in order. The server here is a plain log that answers sync by the rules of the protocol.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Messages in one page of this server, so that paging is exercised.
const PAGE: usize = 4;
/// Conversations in one page of its list.
const LIST_PAGE: usize = 2;

fn message(conversation_id: u64, seq: u64) -> Message {
    Message { conversation_id, seq, ..Message::default() }
}

/// The server: per conversation the first seq that the user may see, the last one, and the clock of its last change.
#[derive(Default)]
struct Server {
    rooms: BTreeMap<u64, (u64, u64, u64)>,
    clock: u64,
}

impl Server {
    fn append(&mut self, id: u64, first_seq: u64) -> Message {
        self.clock += 1;
        let room = self.rooms.entry(id).or_insert((first_seq, first_seq - 1, 0));
        room.1 += 1;
        room.2 = self.clock;
        message(id, room.1)
    }

    fn conversation(&self, id: u64) -> Conversation {
        let (first_seq, last_seq, _) = self.rooms[&id];
        Conversation { conversation_id: id, first_seq, last_seq, ..Conversation::default() }
    }

    fn answer(&self, request: &SyncRequest) -> SyncPage {
        let since: u64 = request.since.parse().unwrap_or(0);
        let named = |id: &u64| request.cursors.iter().any(|cursor| cursor.conversation_id == *id);
        let from: usize = request.page.parse().unwrap_or(0);
        let listed: Vec<u64> = self
            .rooms
            .iter()
            .filter(|(id, room)| room.2 > since && !named(id))
            .map(|(id, _)| *id)
            .skip(from)
            .collect();
        let mut page = SyncPage { sync_token: self.clock.to_string(), ..SyncPage::default() };
        if listed.len() > LIST_PAGE {
            page.next_page = (from + LIST_PAGE).to_string();
        }
        page.conversations = listed.into_iter().take(LIST_PAGE).map(|id| self.conversation(id)).collect();
        for cursor in &request.cursors {
            let (first, last, _) = self.rooms[&cursor.conversation_id];
            for seq in (cursor.seq + 1).max(first)..=last {
                if page.messages.len() == PAGE {
                    page.more = true;
                    return page;
                }
                page.messages.push(message(cursor.conversation_id, seq));
            }
        }
        page
    }
}

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// Somebody writes; the push arrives now, later or never, and perhaps again later.
    Write {
        room: u64,
        arrives: Arrival,
    },
    /// We write: `sent` comes at once.
    WriteOurselves {
        room: u64,
    },
    /// The nth of what is on the way arrives.
    Arrive(usize),
    /// The server sees the request under way and answers; the answer arrives with the next `SyncArrives`.
    SyncAnswered,
    SyncArrives,
    SyncRefused,
    Event {
        room: u64,
    },
    HintsConfirmed,
    Reconnect,
}

#[derive(Clone, Copy, Debug)]
enum Arrival {
    Now,
    Later,
    TwiceLater,
    Never,
}

fn step() -> impl Strategy<Value = Step> {
    let room = 1_u64..=5;
    let arrival = prop_oneof![
        4 => Just(Arrival::Now), 3 => Just(Arrival::Later), 1 => Just(Arrival::TwiceLater), 2 => Just(Arrival::Never)
    ];
    prop_oneof![
        8 => (room.clone(), arrival).prop_map(|(room, arrives)| Step::Write { room, arrives }),
        2 => room.clone().prop_map(|room| Step::WriteOurselves { room }),
        6 => any::<usize>().prop_map(Step::Arrive),
        4 => Just(Step::SyncAnswered),
        4 => Just(Step::SyncArrives),
        1 => Just(Step::SyncRefused),
        1 => room.prop_map(|room| Step::Event { room }),
        1 => Just(Step::HintsConfirmed),
        1 => Just(Step::Reconnect),
    ]
}

/// The client under test with its surroundings.
struct World {
    server: Server,
    state: SyncState,
    request: Option<SyncRequest>,
    answer: Option<SyncPage>,
    on_the_way: Vec<Message>,
    given: BTreeMap<u64, Vec<u64>>,
}

impl World {
    fn take(&mut self, messages: Vec<Message>) {
        for message in messages {
            self.given.entry(message.conversation_id).or_default().push(message.seq);
        }
    }

    fn ask(&mut self) {
        if let Some(request) = self.state.next_request() {
            assert!(self.request.is_none(), "one sync at a time");
            self.request = Some(request);
        }
    }

    fn sync_arrives(&mut self) {
        if let Some(page) = self.answer.take() {
            self.request = None;
            let outcome = self.state.page(page);
            self.take(outcome.messages);
        }
    }

    fn reconnect(&mut self) {
        self.request = None;
        self.answer = None;
        self.on_the_way.clear();
        self.state.connected();
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Write { room, arrives } => {
                let new = self.server.append(room, room);
                match arrives {
                    Arrival::Now => {
                        let out = self.state.live(new);
                        self.take(out);
                    }
                    Arrival::Later => self.on_the_way.push(new),
                    Arrival::TwiceLater => self.on_the_way.extend([new.clone(), new]),
                    Arrival::Never => {}
                }
            }
            Step::WriteOurselves { room } => {
                let new = self.server.append(room, room);
                let out = self.state.live(new);
                self.take(out);
            }
            Step::Arrive(which) if !self.on_the_way.is_empty() => {
                let which = which % self.on_the_way.len();
                let message = self.on_the_way.swap_remove(which);
                let out = self.state.live(message);
                self.take(out);
            }
            Step::Arrive(_) => {}
            Step::SyncAnswered => {
                self.answer = self.request.as_ref().map(|request| self.server.answer(request));
            }
            Step::SyncArrives => self.sync_arrives(),
            Step::SyncRefused => {
                if self.request.take().is_some() {
                    self.answer = None;
                    self.state.refused();
                }
            }
            Step::Event { room } => {
                if self.server.rooms.contains_key(&room) {
                    let out = self.state.conversation(&self.server.conversation(room));
                    self.take(out);
                }
            }
            Step::HintsConfirmed => self.state.confirm_hints(),
            Step::Reconnect => self.reconnect(),
        }
        self.ask();
    }

    /// A quiet reconnect, after which everything must have come.
    fn settle(&mut self) {
        self.reconnect();
        for _ in 0..10_000 {
            self.ask();
            let Some(request) = self.request.take() else { break };
            self.answer = Some(self.server.answer(&request));
            self.sync_arrives();
        }
        assert!(self.state.is_synced(), "a quiet server leaves nothing to ask for");
    }
}

fn run(start: Start, before: &[u64], steps: Vec<Step>) -> World {
    let mut server = Server::default();
    for room in before {
        server.append(*room, *room);
    }
    let mut world = World {
        server,
        state: SyncState::new(start),
        request: None,
        answer: None,
        on_the_way: Vec::new(),
        given: BTreeMap::new(),
    };
    world.state.connected();
    world.ask();
    for step in steps {
        world.step(step);
    }
    world.settle();
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_message_comes_once_and_in_order(
        before in prop::collection::vec(1_u64..=5, 0..20),
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let world = run(Start::Beginning, &before, steps);
        for (id, (first, last, _)) in &world.server.rooms {
            let wanted: Vec<u64> = (*first..=*last).collect();
            prop_assert_eq!(world.given.get(id).cloned().unwrap_or_default(), wanted);
        }
    }

    #[test]
    fn from_now_on_everything_comes_once_and_in_order(
        before in prop::collection::vec(1_u64..=3, 0..20),
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let world = run(Start::Now, &before, steps);
        for (id, (_, last, _)) in &world.server.rooms {
            let given = world.given.get(id).cloned().unwrap_or_default();
            if let Some(first) = given.first() {
                let wanted: Vec<u64> = (*first..=*last).collect();
                prop_assert_eq!(given, wanted);
            }
        }
    }
}

#[test]
fn a_quiet_start_from_now_gives_nothing_of_the_past() {
    let mut world = run(Start::Now, &[1, 1, 2, 2, 2], vec![Step::SyncAnswered, Step::SyncArrives]);
    assert!(world.given.is_empty(), "{:?}", world.given);
    world.step(Step::Write { room: 2, arrives: Arrival::Now });
    assert_eq!(world.given[&2], [5], "room 2 begins at seq 2 and had three messages");
}

#[test]
fn an_unread_start_begins_behind_what_was_read() {
    let mut state = SyncState::new(Start::Unread);
    state.connected();
    assert!(state.next_request().is_some());
    let conversation = Conversation {
        conversation_id: 7,
        first_seq: 1,
        last_seq: 9,
        read_seq: 6,
        ..Conversation::default()
    };
    let page = SyncPage { conversations: vec![conversation], ..SyncPage::default() };
    assert!(state.page(page).messages.is_empty());
    let request = state.next_request().expect("seqs 7 to 9 are missing");
    assert_eq!(request.cursors, [Cursor { conversation_id: 7, seq: 6 }]);
}

#[test]
fn a_jump_is_held_until_the_gap_is_filled() {
    let mut state = SyncState::new(Start::Beginning);
    assert_eq!(state.live(message(1, 1)).len(), 1);
    assert!(state.live(message(1, 3)).is_empty());
    let request = state.next_request().expect("2 is missing");
    assert_eq!(request.cursors, [Cursor { conversation_id: 1, seq: 1 }]);
    let page = SyncPage { messages: vec![message(1, 2), message(1, 3)], ..SyncPage::default() };
    let seqs: Vec<u64> = state.page(page).messages.iter().map(|m| m.seq).collect();
    assert_eq!(seqs, [2, 3]);
    assert!(state.is_synced());
}

#[test]
fn a_gap_that_the_server_never_fills_is_given_up() {
    let mut state = SyncState::new(Start::Beginning);
    state.live(message(1, 1));
    state.live(message(1, 9));
    let mut asked = 0;
    while state.next_request().is_some() {
        state.page(SyncPage::default());
        asked += 1;
        assert!(asked <= STALLS_MAX);
    }
    assert!(state.is_synced());
}

#[test]
fn leaving_and_joining_again_goes_on_from_the_new_first_seq() {
    let mut state = SyncState::new(Start::Beginning);
    state.live(message(1, 1));
    state.live(message(1, 3));
    let removed = Conversation { conversation_id: 1, removed: true, last_seq: 8, ..Conversation::default() };
    assert_eq!(state.conversation(&removed).len(), 1, "seq 3 was the user's to see");
    assert!(state.next_request().is_none(), "nothing more can be had");
    let joined = Conversation { conversation_id: 1, first_seq: 12, last_seq: 12, ..Conversation::default() };
    assert!(state.conversation(&joined).is_empty());
    assert_eq!(state.live(message(1, 12)).len(), 1);
    assert!(state.is_synced());
}

#[test]
fn a_new_conversation_begins_where_its_first_page_does() {
    let mut state = SyncState::new(Start::Beginning);
    // Pushed before anything told of the room; its past is not the user's to see.
    assert!(state.live(message(1, 7)).is_empty());
    assert!(state.next_request().is_some());
    let page = SyncPage { messages: vec![message(1, 6), message(1, 7)], ..SyncPage::default() };
    let seqs: Vec<u64> = state.page(page).messages.iter().map(|m| m.seq).collect();
    assert_eq!(seqs, [6, 7]);
    assert!(state.is_synced());
}

/// A conversation whose beginning was removed while we were away is no gap that is waited for.
#[test]
fn what_was_removed_at_the_beginning_of_a_log_is_passed_over() {
    let mut state = SyncState::new(Start::Beginning);
    state.connected();
    state.next_request().expect("the list");
    let row = |first_seq, last_seq| Conversation {
        conversation_id: 7,
        first_seq,
        last_seq,
        ..Conversation::default()
    };
    state.page(SyncPage { conversations: vec![row(1, 3)], sync_token: "t".into(), ..SyncPage::default() });
    let asked = state.next_request().expect("what it lacks");
    assert_eq!(asked.cursors, [Cursor { conversation_id: 7, seq: 0 }]);
    // Meanwhile all but the last one went.
    let page = SyncPage { messages: vec![message(7, 9)], ..SyncPage::default() };
    assert_eq!(state.page(page).messages, [message(7, 9)]);
    assert!(state.is_synced() && state.cursor(7) == Some(9));
    // And once more, told by the conversation itself.
    assert_eq!(state.conversation(&row(20, 20)), []);
    state.confirm_hints();
    assert_eq!(state.next_request().expect("20 is new").cursors, [Cursor { conversation_id: 7, seq: 19 }]);
}

#[test]
fn what_was_hidden_elsewhere_is_told_and_not_shown_later() {
    let mut state = SyncState::new(Start::Beginning);
    state.connected();
    state.next_request().expect("the list");
    state.live(Message { text: "early".into(), ..message(7, 3) });
    let hidden = Hidden { conversation_id: 7, seqs: vec![1, 3] };
    let page = SyncPage {
        hidden: vec![hidden.clone()],
        hidden_more: true,
        sync_token: "t1".into(),
        ..SyncPage::default()
    };
    assert_eq!(state.page(page).hidden, [hidden]);
    let again = state.next_request().expect("there is more");
    assert_eq!((again.since.as_str(), again.cursors.len()), ("t1", 0));
    state.page(SyncPage { sync_token: "t2".into(), ..SyncPage::default() });
    state.next_request().expect("what lies before 3");
    let given = state.page(SyncPage { messages: vec![message(7, 1), message(7, 2)], ..SyncPage::default() });
    let last = given.messages.last().expect("its turn has come");
    assert!(
        last.seq == 3 && last.text.is_empty() && last.marks.as_ref().is_some_and(|marks| marks.hidden),
        "{last:?}"
    );
    assert!(state.is_synced());
}
