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
use crossterm::event::{Event as TerminalEvent, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use futures_util::StreamExt as _;
use ratatui::DefaultTerminal;
use tokio::time::{MissedTickBehavior, interval};

use self::line::Line;
use self::model::{Effect, Model};
use self::work::{Told, Worker};
use crate::client::{Client, ClientEvents, ClientOptions, Event, Rest, Start};
use crate::protocol::v1;

/// The least time between two drawings.
const FRAME: Duration = Duration::from_millis(33);
/// Typing is told again this often while it goes on.
const TYPING_INTERVAL: Duration = Duration::from_secs(3);
/// Lines that PageUp scrolls.
const SCROLL: usize = 10;
/// How long closing may take at the end.
const CLOSE_PATIENCE: Duration = Duration::from_secs(3);

/// What Enter will do with the line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Intent {
    #[default]
    Write,
    /// Change the own message of this seq.
    Edit(u64),
}

impl Intent {
    fn title(&self) -> &'static str {
        match self {
            Self::Write => " Message ",
            Self::Edit(_) => " Edit (Esc leaves it as it was) ",
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

/// Runs until the user quits or the server signs the device out.
pub(super) async fn run(
    rest: Rest,
    servers: Vec<String>,
    username: &str,
    password: &str,
) -> anyhow::Result<()> {
    let signed_in = rest.sign_in(username, password, "rookery chat").await?;
    let rest = rest.with_token(&signed_in.token);
    let mut options = ClientOptions::new(servers, &signed_in.token);
    options.start = Start::Unread;
    let (client, events) = Client::start(options);
    let (worker, told) = Worker::new(rest, client.clone());
    let screen = Screen {
        model: Model::new(signed_in.user_id),
        line: Line::default(),
        intent: Intent::default(),
        help: false,
    };
    let mut terminal = ratatui::try_init().context("the terminal can't be taken; run without --tui")?;
    let mut chat = Chat { screen, worker, typing_told: None, quit: false };
    let outcome = chat.main_loop(&mut terminal, events, told).await;
    ratatui::restore();
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
        mut told: work::Tellings,
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
        }
        Ok(())
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
            Told::Open(conversation_id) => model.show(conversation_id),
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
            TerminalEvent::Paste(text) => self.screen.line.insert(&text.replace('\r', "\n")),
            _ => {}
        }
    }

    fn key(&mut self, key: KeyEvent) {
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
        let last = self.screen.model.last_own().map(|message| (message.seq, message.text.clone()));
        if let Some((seq, text)) = last {
            self.screen.intent = Intent::Edit(seq);
            self.screen.line.set(&text);
        }
    }

    /// What was typed is done.
    fn enter(&mut self) {
        let text = self.screen.line.take();
        let intent = std::mem::take(&mut self.screen.intent);
        if text.trim().is_empty() {
            return;
        }
        match text.strip_prefix('/') {
            Some(command) if !command.starts_with('/') => self.command(command),
            // Two slashes stand for one at the beginning of a text.
            escaped => self.write(escaped.map_or(text.as_str(), |_| &text[1..]), intent),
        }
    }

    fn write(&mut self, text: &str, intent: Intent) {
        let Some(conversation_id) = self.screen.model.open else {
            "choose a conversation first: Alt-Down, or /to NAME TEXT".clone_into(&mut self.screen.model.note);
            self.screen.line.set(text);
            return;
        };
        self.typing_told = None;
        self.screen.model.scrolled = 0;
        let text = text.to_owned();
        match intent {
            Intent::Write => {
                self.worker.send(v1::Send { conversation_id, text, ..v1::Send::default() });
            }
            Intent::Edit(target_seq) => {
                self.worker.edit(v1::Edit { conversation_id, target_seq, text, ..v1::Edit::default() });
            }
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
                    self.worker.write_to(name, text.trim());
                    None
                }
                None => Some("/to NAME TEXT: both are needed".to_owned()),
            },
            ("group", _) if !rest.is_empty() => {
                self.worker.make_group(rest);
                None
            }
            ("join", _) => match rest.parse() {
                Ok(id) => {
                    self.worker.join(id);
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
                    self.worker.send(v1::Send { conversation_id, reply_to_seq, text, ..v1::Send::default() });
                    None
                }
                _ => Some("/reply TEXT: answers the last message of somebody else".to_owned()),
            },
            ("react", Some(conversation_id)) => match others {
                Some(target_seq) if !rest.is_empty() => {
                    let emoji = rest.to_owned();
                    self.worker.react(v1::React {
                        conversation_id,
                        target_seq,
                        emoji,
                        ..v1::React::default()
                    });
                    None
                }
                _ => Some("/react EMOJI: to the last message of somebody else".to_owned()),
            },
            ("edit", Some(conversation_id)) => match own {
                Some(target_seq) if !rest.is_empty() => {
                    let text = rest.to_owned();
                    self.worker.edit(v1::Edit { conversation_id, target_seq, text, ..v1::Edit::default() });
                    None
                }
                _ => Some("/edit TEXT: changes your last message".to_owned()),
            },
            ("recall", Some(conversation_id)) => match own {
                Some(target_seq) => {
                    self.worker.recall(v1::Recall { conversation_id, target_seq, ..v1::Recall::default() });
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
