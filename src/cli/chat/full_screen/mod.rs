//! `rookery chat --tui`: the same client on the whole screen.
//!
//! `model` knows, `draw` shows, `line` is the line being typed, `work` does what waits for the network. This file joins
//! them: keys, events and answers come in one at a time, and the screen is drawn after them, at most thirty times a
//! second.

mod draw;
mod line;
mod model;
mod work;

use std::time::{Duration, Instant};

use anyhow::Context as _;
use crossterm::event::{
    DisableBracketedPaste, EnableBracketedPaste, Event as TerminalEvent, EventStream, KeyCode, KeyEvent,
    KeyEventKind, KeyModifiers,
};
use futures_util::StreamExt as _;
use ratatui::DefaultTerminal;
use tokio::time::{MissedTickBehavior, interval};

use self::line::Line;
use self::model::{Effect, Model, Pending};
use self::work::{Outgoing, SENDS_MAX, Told, Worker};
use crate::client::reconnecting::new_client_id;
use crate::client::{Client, ClientEvents, ClientOptions, Event, Rest, Start};
use crate::protocol::v1::{self, client_frame::Request};

/// The least time between two drawings.
const FRAME: Duration = Duration::from_millis(33);
/// Typing is told again this often while it goes on.
const TYPING_INTERVAL: Duration = Duration::from_secs(3);
/// Lines that PageUp scrolls.
const SCROLL: usize = 10;
/// How long closing may take at the end.
const CLOSE_PATIENCE: Duration = Duration::from_secs(3);
/// How long what was written may take to be stored at the end.
const STORE_PATIENCE: Duration = Duration::from_secs(5);

/// What Enter will do with the line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Intent {
    #[default]
    Write,
    /// Change an own message.
    Edit {
        /// Where it stands.
        conversation_id: u64,
        /// Which one it is.
        target_seq: u64,
    },
}

impl Intent {
    fn title(&self) -> &'static str {
        match self {
            Self::Write => " Message ",
            Self::Edit { .. } => " Edit (Esc leaves it as it was) ",
        }
    }
}

/// Everything that is drawn.
struct Screen {
    model: Model,
    line: Line,
    intent: Intent,
    help: bool,
}

impl Screen {
    /// Ends an edit whose conversation is not the one shown any more: its text belongs nowhere else.
    fn leave_edit_elsewhere(&mut self) {
        if let Intent::Edit { conversation_id, .. } = self.intent
            && self.model.open != Some(conversation_id)
        {
            self.intent = Intent::Write;
            self.line.set("");
        }
    }
}

/// Runs until the user quits or the server signs the device out.
pub(super) async fn run(
    rest: Rest,
    servers: Vec<String>,
    username: &str,
    password: &str,
    platform: &str,
) -> anyhow::Result<()> {
    let signed_in = rest.sign_in_on(username, password, "rookery chat", platform).await?;
    let rest = rest.with_token(&signed_in.token);
    let mut options = ClientOptions::new(servers, &signed_in.token);
    options.start = Start::Unread;
    let (client, events) = Client::start(options);
    let (worker, mut told) = Worker::new(rest, client.clone());
    let screen = Screen {
        model: Model::new(signed_in.user_id),
        line: Line::default(),
        intent: Intent::default(),
        help: false,
    };
    let mut terminal = ratatui::try_init().context("the terminal can't be taken; run without --tui")?;
    // A terminal that can't tell a paste from keys gives keys.
    let _ = crossterm::execute!(std::io::stdout(), EnableBracketedPaste);
    let mut chat = Chat { screen, worker, typing_told: None, quit: false };
    let outcome = chat.main_loop(&mut terminal, events, &mut told).await;
    chat.wait_for_stored(&mut terminal, &mut told).await;
    let _ = crossterm::execute!(std::io::stdout(), DisableBracketedPaste);
    ratatui::restore();
    chat.tell_what_is_not_stored();
    let closed = async {
        chat.worker.sign_out().await;
        client.close().await;
    };
    // A server that is away must not hold the user's terminal.
    let _ = tokio::time::timeout(CLOSE_PATIENCE, closed).await;
    outcome
}

struct Chat {
    screen: Screen,
    worker: Worker,
    /// In which conversation typing was told, and when.
    typing_told: Option<(u64, Instant)>,
    quit: bool,
}

impl Chat {
    async fn main_loop(
        &mut self,
        terminal: &mut DefaultTerminal,
        mut events: ClientEvents,
        told: &mut work::Tellings,
    ) -> anyhow::Result<()> {
        let mut keys = EventStream::new();
        let mut frames = interval(FRAME);
        frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Who has stopped typing is seen by the clock alone.
        let mut seconds = interval(Duration::from_secs(1));
        let (mut dirty, mut ended) = (true, false);
        while !self.quit {
            tokio::select! {
                key = keys.next() => {
                    let key = key.context("the terminal is gone")?.context("the terminal can't be read")?;
                    self.terminal_event(&key);
                    dirty = true;
                }
                event = events.next(), if !ended => {
                    match event {
                        None => ended = true,
                        Some(event) => {
                            let effects = self.screen.model.take(event, Instant::now());
                            self.carry_out(effects);
                        }
                    }
                    dirty = true;
                }
                Some(telling) = told.next() => {
                    self.told(telling);
                    dirty = true;
                }
                _ = seconds.tick() => dirty = true,
                _ = frames.tick(), if dirty => {
                    terminal
                        .draw(|frame| draw::draw(frame, &self.screen, Instant::now()))
                        .context("the terminal can't be written to")?;
                    dirty = false;
                }
            }
            self.screen.leave_edit_elsewhere();
        }
        Ok(())
    }

    /// Gives what was written last some time to be stored.
    async fn wait_for_stored(&mut self, terminal: &mut DefaultTerminal, told: &mut work::Tellings) {
        if self.screen.model.pending.is_empty() {
            return;
        }
        "waiting for what you wrote to be stored …".clone_into(&mut self.screen.model.note);
        // The terminal may be the reason for the end.
        let _ = terminal.draw(|frame| draw::draw(frame, &self.screen, Instant::now()));
        let stored = async {
            while !self.screen.model.pending.is_empty() {
                match told.next().await {
                    Some(telling) => self.told(telling),
                    None => return,
                }
            }
        };
        let _ = tokio::time::timeout(STORE_PATIENCE, stored).await;
    }

    /// After the screen is gone: what may be lost is said, so that nothing is lost without a word.
    #[expect(clippy::print_stdout, reason = "the screen of an interactive client")]
    fn tell_what_is_not_stored(&self) {
        for pending in &self.screen.model.pending {
            println!("perhaps not stored: {}", line::wrap(&pending.text, usize::MAX).join(" "));
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::LookUp(user_id) => self.worker.look_up(user_id),
                Effect::Describe(conversation_id) => self.worker.describe(conversation_id),
                Effect::MarkRead(cursor) => self.worker.mark_read(cursor),
                Effect::Older { conversation_id, before_seq } => {
                    self.worker.older(conversation_id, before_seq);
                }
                Effect::Watch(user_ids) => self.worker.watch(user_ids),
                Effect::Ring => ring(),
            }
        }
    }

    fn told(&mut self, told: Told) {
        let model = &mut self.screen.model;
        let effects = match told {
            Told::Name(user_id, name) => {
                model.learn_name(user_id, name);
                Vec::new()
            }
            Told::Conversation(conversation) => {
                model.take(Event::Conversation(*conversation), Instant::now())
            }
            Told::Past(conversation_id, page) => model.past(conversation_id, page),
            Told::Presences(page) => {
                for presence in page {
                    model.learn_presence(presence);
                }
                Vec::new()
            }
            // Whoever has gone on to write elsewhere, or begun to, is not led away from it.
            Told::Open { conversation_id, from } if self.screen.line.is_empty() && model.open == from => {
                model.show(conversation_id)
            }
            Told::Open { .. } => {
                "it is in the list: Alt-Up and Alt-Down, or /open NAME".clone_into(&mut model.note);
                Vec::new()
            }
            Told::Stored(client_id) => {
                model.settle(&client_id);
                Vec::new()
            }
            Told::NotStored(client_id, error) => {
                model.complain(&error);
                if let Some(pending) = model.settle(&client_id) {
                    model.note = format!("not stored: {}: {}", model.note, pending.text);
                }
                Vec::new()
            }
            Told::Note(note) => {
                model.note = note;
                Vec::new()
            }
            Told::Failed(error) => {
                model.complain(&error);
                Vec::new()
            }
        };
        self.carry_out(effects);
    }

    fn terminal_event(&mut self, event: &TerminalEvent) {
        match event {
            TerminalEvent::Key(key) if key.kind != KeyEventKind::Release => self.key(*key),
            TerminalEvent::Paste(text) => {
                self.screen.line.insert(&text.replace("\r\n", "\n").replace('\r', "\n"));
            }
            _ => {}
        }
    }

    fn key(&mut self, key: KeyEvent) {
        self.screen.leave_edit_elsewhere();
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let alt = key.modifiers.contains(KeyModifiers::ALT);
        let model = &mut self.screen.model;
        if self.screen.help && key.code == KeyCode::Esc {
            self.screen.help = false;
            return;
        }
        match key.code {
            KeyCode::Char('c' | 'q') if control => self.quit = true,
            KeyCode::Char('n') if control => self.step(1),
            KeyCode::Char('p') if control => self.step(-1),
            KeyCode::Down if alt => self.step(1),
            KeyCode::Up if alt => self.step(-1),
            KeyCode::Tab => {
                let effects = model.next_unread();
                self.carry_out(effects);
            }
            KeyCode::PageUp => {
                model.scrolled += SCROLL;
                let effects = model.want_past();
                self.carry_out(effects.into_iter().collect());
            }
            KeyCode::PageDown => {
                model.scrolled = model.scrolled.saturating_sub(SCROLL);
                if model.scrolled == 0
                    && let Some(open) = model.open
                {
                    let effects = model.show(open);
                    self.carry_out(effects);
                }
            }
            KeyCode::Esc => {
                if self.screen.intent != Intent::Write {
                    self.screen.line.set("");
                } else if self.screen.line.is_empty() {
                    model.open = None;
                }
                self.screen.intent = Intent::Write;
                model.scrolled = 0;
            }
            KeyCode::Up if self.screen.line.is_empty() => self.edit_last(),
            KeyCode::Enter if alt => self.screen.line.insert("\n"),
            KeyCode::Enter => self.enter(),
            _ => {
                if self.screen.line.key(key) {
                    self.tell_typing();
                }
            }
        }
    }

    fn step(&mut self, places: isize) {
        let effects = self.screen.model.step(places);
        self.carry_out(effects);
    }

    fn edit_last(&mut self) {
        if let Some(message) = self.screen.model.last_own() {
            let (conversation_id, target_seq) = (message.conversation_id, message.seq);
            self.screen.line.set(&message.text.clone());
            self.screen.intent = Intent::Edit { conversation_id, target_seq };
        }
    }

    /// What was typed is done.
    fn enter(&mut self) {
        let text = self.screen.line.take();
        let intent = std::mem::take(&mut self.screen.intent);
        if text.trim().is_empty() {
            return;
        }
        if let Intent::Edit { conversation_id, target_seq } = intent {
            // What it says now is what it is to say, whatever it begins with.
            self.edit(conversation_id, target_seq, text);
            return;
        }
        match text.strip_prefix('/') {
            // A command is one line; what was pasted may begin with anything.
            Some(command) if !command.starts_with('/') && !command.contains('\n') => self.command(command),
            // Two slashes stand for one at the beginning of a text.
            Some(escaped) if escaped.starts_with('/') => self.write(escaped),
            _ => self.write(&text),
        }
    }

    fn write(&mut self, text: &str) {
        let Some(conversation_id) = self.screen.model.open else {
            "choose a conversation first: Alt-Down, or /to NAME TEXT".clone_into(&mut self.screen.model.note);
            self.screen.line.set(text);
            return;
        };
        self.typing_told = None;
        self.screen.model.scrolled = 0;
        self.send(v1::Send { conversation_id, text: text.to_owned(), ..v1::Send::default() });
    }

    fn send(&mut self, send: v1::Send) {
        let (conversation_id, words) = (send.conversation_id, send.text.clone());
        let request = Request::Send(v1::Send { client_id: new_client_id(), ..send });
        self.store(Some(conversation_id), words, Outgoing::Request(request));
    }

    fn edit(&mut self, conversation_id: u64, target_seq: u64, text: String) {
        let words = format!("(edit) {text}");
        let edit = v1::Edit { conversation_id, target_seq, text, client_id: new_client_id() };
        self.store(Some(conversation_id), words, Outgoing::Request(Request::Edit(edit)));
    }

    /// Puts something behind all that is to be stored, and shows it as pending until it is.
    fn store(&mut self, conversation_id: Option<u64>, text: String, outgoing: Outgoing) {
        let client_id = work::client_id_of(&outgoing).to_owned();
        if self.screen.model.pending.len() < SENDS_MAX && self.worker.store(outgoing) {
            self.screen.model.pending.push(Pending { client_id, conversation_id, text });
        } else {
            self.screen.model.note = format!("{SENDS_MAX} are not stored yet; not taken: {text}");
        }
    }

    fn command(&mut self, command: &str) {
        let (word, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let (rest, model) = (rest.trim(), &self.screen.model);
        let open = model.open;
        let others = model.last_of_others().map(|message| message.seq);
        let own = model.last_own().map(|message| message.seq);
        let complaint = match (word, open) {
            ("quit" | "q", _) => {
                self.quit = true;
                None
            }
            ("help" | "h", _) => {
                self.screen.help = true;
                None
            }
            ("open", _) => match model.find(rest) {
                Some(id) => {
                    let effects = self.screen.model.show(id);
                    self.carry_out(effects);
                    None
                }
                None => Some(format!("no conversation begins with '{rest}'; /to NAME TEXT begins one")),
            },
            ("to", _) => match rest.split_once(char::is_whitespace) {
                Some((name, text)) => {
                    let (name, text) = (name.to_owned(), text.trim().to_owned());
                    let (words, client_id) = (format!("to {name}: {text}"), new_client_id());
                    self.store(None, words, Outgoing::WriteTo { client_id, name, text, from: open });
                    None
                }
                None => Some("/to NAME TEXT: both are needed".to_owned()),
            },
            ("group", _) if !rest.is_empty() => {
                self.worker.make_group(rest, open);
                None
            }
            ("join", _) => match rest.parse() {
                Ok(id) => {
                    self.worker.join(id, open);
                    None
                }
                Err(_) => Some("/join ID: the number of a group".to_owned()),
            },
            ("add", _) if !rest.is_empty() => {
                self.worker.befriend(rest);
                None
            }
            ("status", _) => self.worker.set_presence(rest).err(),
            ("invite", Some(id)) if !rest.is_empty() => {
                self.worker.add_member(id, rest);
                None
            }
            ("leave", Some(id)) => {
                self.worker.leave(id);
                None
            }
            ("reply", Some(conversation_id)) => match others {
                Some(reply_to_seq) if !rest.is_empty() => {
                    let text = rest.to_owned();
                    self.send(v1::Send { conversation_id, reply_to_seq, text, ..v1::Send::default() });
                    None
                }
                _ => Some("/reply TEXT: answers the last message of somebody else".to_owned()),
            },
            ("react", Some(conversation_id)) => match others {
                Some(target_seq) if !rest.is_empty() => {
                    let emoji = rest.to_owned();
                    let words = format!("(reaction) {emoji}");
                    let client_id = new_client_id();
                    let react =
                        v1::React { conversation_id, target_seq, client_id, emoji, ..v1::React::default() };
                    self.store(Some(conversation_id), words, Outgoing::Request(Request::React(react)));
                    None
                }
                _ => Some("/react EMOJI: to the last message of somebody else".to_owned()),
            },
            ("edit", Some(conversation_id)) => match own {
                Some(target_seq) if !rest.is_empty() => {
                    self.edit(conversation_id, target_seq, rest.to_owned());
                    None
                }
                _ => Some("/edit TEXT: changes your last message".to_owned()),
            },
            ("recall", Some(conversation_id)) => match own {
                Some(target_seq) => {
                    let recall = v1::Recall { conversation_id, target_seq, client_id: new_client_id() };
                    let words = "(taking a message back)".to_owned();
                    self.store(Some(conversation_id), words, Outgoing::Request(Request::Recall(recall)));
                    None
                }
                None => Some("there is no message of yours here to take back".to_owned()),
            },
            ("invite" | "leave" | "reply" | "react" | "edit" | "recall", None) => {
                Some(format!("/{word} is about the open conversation; open one first"))
            }
            _ => Some(format!("/{word} is no command, or lacks something; /help lists them")),
        };
        if let Some(complaint) = complaint {
            self.screen.model.note = complaint;
        }
    }

    /// Lets the others see that something is being written; commands are nobody's business.
    fn tell_typing(&mut self) {
        let Some(conversation_id) = self.screen.model.open else { return };
        let now = Instant::now();
        let told_lately = self
            .typing_told
            .is_some_and(|(told, at)| told == conversation_id && now.duration_since(at) < TYPING_INTERVAL);
        if told_lately || self.screen.line.is_empty() || self.screen.line.text().starts_with('/') {
            return;
        }
        self.typing_told = Some((conversation_id, now));
        self.worker.tell_typing(conversation_id);
    }
}

/// Sounds the terminal's bell, which many terminals show as a notification.
fn ring() {
    // A terminal that can't is silent.
    let _ = crossterm::execute!(std::io::stdout(), crossterm::style::Print('\u{7}'));
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
