//! `rookery chat`: an interactive client for the terminal, and for scripts on a pipe.
//!
//! `command` reads lines, `terminal` is the keyboard and the screen, `account` does what the commands say, and
//! `view` puts what happens into words. This file joins them.

use std::collections::HashMap;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::client::{Client, ClientEvents, ClientOptions, Event, Rest, Start};

mod account;
mod acts;
mod clean;
pub mod command;
mod deeds;
mod full_screen;
mod terminal;
mod view;

use account::{Account, Done};
use command::Command;
use terminal::{Input, Screen};
use view::Names;

/// How often what was shown is confirmed as read.
const READ_INTERVAL: Duration = Duration::from_millis(500);
/// How long confirming what was read and closing may take at the end.
const CLOSE_PATIENCE: Duration = Duration::from_secs(3);
/// What stands before the cursor.
const PROMPT: &str = "> ";

/// Chat from the terminal.
#[derive(Debug, clap::Args)]
pub struct ChatArgs {
    /// HTTP address (host:port) of a node; repeat it for others to fall back on.
    #[arg(long = "server", value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    pub servers: Vec<String>,
    /// Sign in as this user at once.
    #[arg(long)]
    pub user: Option<String>,
    /// With this password.
    #[arg(long, requires = "user")]
    pub password: Option<String>,
    /// Sign in as a device of this platform, such as `desktop`. With accounts.device_policy one_per_platform it replaces the
    /// user's device of the same platform
    #[arg(long, default_value = "")]
    pub platform: String,
    /// On the whole screen: conversations at the left, messages at the right. Needs --user and --password
    #[arg(long, requires = "password")]
    pub tui: bool,
}

/// Runs until `quit` or the end of the input.
pub async fn run(args: ChatArgs) -> anyhow::Result<()> {
    if let (true, Some(username), Some(password)) = (args.tui, &args.user, &args.password) {
        let rest = Rest::new(args.servers.clone());
        return full_screen::run(rest, args.servers, username, password, &args.platform).await;
    }
    let (mut input, screen) = terminal::open(PROMPT)?;
    let rest = Rest::new(args.servers.clone());
    let mut chat = Chat { rest, servers: args.servers, platform: args.platform, screen, signed_in: None };
    chat.screen.print("Rookery chat. 'help' lists the commands, 'quit' ends.");
    if let (Some(username), Some(password)) = (args.user, args.password) {
        chat.execute(Command::Login { username, password }).await;
    } else {
        chat.screen
            .print("sign in with 'login NAME PASSWORD', or 'register NAME PASSWORD' for a new account");
    }
    chat.main_loop(&mut input).await;
    chat.sign_off().await;
    Ok(())
}

/// The whole client.
struct Chat {
    rest: Rest,
    servers: Vec<String>,
    /// What its devices say that they run on.
    platform: String,
    screen: Screen,
    signed_in: Option<SignedIn>,
}

/// What there is once somebody has signed in.
struct SignedIn {
    account: Account,
    client: Client,
    events: ClientEvents,
    names: Names,
    /// Shown and not yet confirmed as read: conversation and seq.
    unconfirmed: HashMap<u64, u64>,
    connected_before: bool,
    /// The number of the last sync whose messages are all shown.
    synced: u64,
    /// After a reconnect: say so when everything is there.
    announce_synced: bool,
}

impl Chat {
    async fn main_loop(&mut self, input: &mut Input) {
        let mut read_tick = interval(READ_INTERVAL);
        read_tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                line = input.next() => match line {
                    None => return,
                    Some(line) => match command::parse(&line) {
                        Ok(None) => {}
                        Ok(Some(Command::Quit)) => return,
                        Ok(Some(Command::Help)) => self.screen.print(&command::help()),
                        Ok(Some(command)) => self.execute(command).await,
                        Err(advice) => self.screen.print(&advice),
                    },
                },
                event = next_event(&mut self.signed_in) => self.show(event).await,
                _ = read_tick.tick() => self.confirm_read().await,
            }
        }
    }

    /// Carries a command out, and shows what happens meanwhile.
    async fn execute(&mut self, command: Command) {
        match command {
            Command::Register { username, password } => {
                if let Err(error) = self.rest.sign_up(&username, &password, "").await {
                    self.screen.print(&view::complaint(&error));
                    return;
                }
                self.screen.print(&format!("account '{username}' made"));
                self.sign_in(&username, &password).await;
            }
            Command::Login { username, password } => self.sign_in(&username, &password).await,
            Command::Logout => match &self.signed_in {
                None => self.screen.print("nobody is signed in"),
                Some(signed_in) => {
                    let ended = signed_in.account.sign_out().await;
                    self.sign_off().await;
                    match ended {
                        Ok(()) => self.screen.print("signed out"),
                        Err(error) => self.screen.print(&view::complaint(&error)),
                    }
                }
            },
            command => {
                let Some(signed_in) = &self.signed_in else {
                    self.screen.print("sign in first: 'login NAME PASSWORD', or 'register NAME PASSWORD'");
                    return;
                };
                let account = signed_in.account.clone();
                let done = self.meanwhile(Box::pin(account.carry_out(command))).await;
                match done {
                    Some(Ok(Done::Say(text))) => self.screen.print(&text),
                    Some(Ok(Done::Synced(number))) => self.pull(number).await,
                    Some(Err(error)) => self.screen.print(&view::complaint(&error)),
                    // It has said so already.
                    None => {}
                }
            }
        }
    }

    /// Waits for `work` and shows events. `None`: the client has ended meanwhile.
    async fn meanwhile<T>(&mut self, mut work: Pin<Box<dyn Future<Output = T> + '_>>) -> Option<T> {
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                event = next_event(&mut self.signed_in) => self.show(event).await,
            }
            self.signed_in.as_ref()?;
        }
    }

    /// Shows all that the sync of this number brought.
    async fn pull(&mut self, number: u64) {
        while self.signed_in.as_ref().is_some_and(|signed_in| signed_in.synced < number) {
            let event = next_event(&mut self.signed_in).await;
            self.show(event).await;
        }
        self.screen.print("up to date");
    }

    async fn sign_in(&mut self, username: &str, password: &str) {
        let signed_in = self.rest.sign_in_on(username, password, "rookery chat", &self.platform).await;
        let signed_in = match signed_in {
            Ok(signed_in) => signed_in,
            Err(error) => {
                self.screen.print(&view::complaint(&error));
                return;
            }
        };
        self.sign_off().await;
        let rest = self.rest.with_token(&signed_in.token);
        let mut options = ClientOptions::new(self.servers.clone(), &signed_in.token);
        options.start = Start::Unread;
        let (client, events) = Client::start(options);
        let names = Names::new(rest.clone(), signed_in.user_id);
        self.screen.print(&format!("signed in as {username} (user {})", signed_in.user_id));
        self.signed_in = Some(SignedIn {
            account: Account::new(rest, client.clone(), names.clone()),
            client,
            events,
            names,
            unconfirmed: HashMap::new(),
            connected_before: false,
            synced: 0,
            announce_synced: false,
        });
    }

    /// Shows an event; `None`: the client has ended.
    async fn show(&mut self, event: Option<Event>) {
        let Some(signed_in) = &mut self.signed_in else { return };
        let line = match event {
            None => {
                self.signed_in = None;
                return;
            }
            Some(Event::Connected { endpoint, welcome }) => {
                let again = std::mem::replace(&mut signed_in.connected_before, true);
                signed_in.announce_synced = again;
                let word = if again { "connected again" } else { "connected" };
                Some(format!("{word}: node {} at {endpoint}", welcome.node))
            }
            Some(Event::Disconnected { endpoint, close }) => {
                Some(format!("lost the connection to {endpoint}: {close}; reconnecting …"))
            }
            Some(Event::Synced(number)) => {
                signed_in.synced = number;
                std::mem::take(&mut signed_in.announce_synced)
                    .then(|| "everything that came meanwhile is here".to_owned())
            }
            Some(Event::Message(message)) => {
                // Writing counts as having read; only others' words need to be confirmed.
                if !signed_in.names.is_own(message.sender_id) {
                    signed_in.unconfirmed.insert(message.conversation_id, message.seq);
                }
                if signed_in.account.sent_here(&message) {
                    None
                } else {
                    Some(signed_in.names.message(&message).await)
                }
            }
            Some(Event::Conversation(conversation)) => {
                let removed = conversation.removed;
                let title = signed_in.names.learn(conversation);
                removed.then(|| format!("you are no longer a member of {title}"))
            }
            Some(Event::Contact(contact)) => Some(signed_in.names.contact(&contact).await),
            Some(Event::Notice(notice)) => {
                Some(format!("*** {}: {}", clean::name(&notice.title), clean::text(&notice.text)))
            }
            Some(Event::Ended(error)) => {
                Some(format!("signed out by the server: {}", clean::name(&error.to_string())))
            }
            Some(Event::Hidden(hidden)) => {
                let (count, title) =
                    (hidden.seqs.len(), signed_in.names.conversation(hidden.conversation_id).await);
                Some(format!("you have hidden {count} message(s) of {title}"))
            }
            Some(Event::Receipt(_) | Event::Typing(_) | Event::Presence(_)) => None,
        };
        if let Some(line) = line {
            self.screen.print(&line);
        }
    }

    /// Tells the server what has been read.
    async fn confirm_read(&mut self) {
        let Some(signed_in) = &mut self.signed_in else { return };
        for (conversation_id, seq) in signed_in.unconfirmed.drain() {
            let client = signed_in.client.clone();
            // Not waited for: without a connection it would be long, and the next message confirms it as well.
            tokio::spawn(async move { client.mark_read(conversation_id, seq).await });
        }
    }

    /// Ends the connection of whoever is signed in.
    async fn sign_off(&mut self) {
        let Some(mut signed_in) = self.signed_in.take() else { return };
        let confirmed = async {
            for (conversation_id, seq) in signed_in.unconfirmed.drain() {
                // A refusal costs nothing but an unread mark.
                let _ = signed_in.client.mark_read(conversation_id, seq).await;
            }
            drop(signed_in.events);
            signed_in.client.close().await;
        };
        let _ = tokio::time::timeout(CLOSE_PATIENCE, confirmed).await;
    }
}

/// The next event of whoever is signed in; for ever, when nobody is.
async fn next_event(signed_in: &mut Option<SignedIn>) -> Option<Event> {
    match signed_in {
        Some(signed_in) => signed_in.events.next().await,
        None => std::future::pending().await,
    }
}
