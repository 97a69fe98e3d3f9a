//! A bot for groups and direct messages: `!help`, `!roll [SIDES]`, `!poll QUESTION`, `!remind SECONDS TEXT`, `!who`.
//!
//! `cargo run --example bot -- NAME PASSWORD [HOST:PORT …]`: signs up where the name is free, and signs in. Add it to a
//! group, or write to it. Shows typed events, replies, reactions, typing and REST calls beside the connection.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use std::time::Duration;

use anyhow::Context as _;
use rookery::client::{Client, ClientError, ClientOptions, Event, Rest, Start};
use rookery::protocol::v1::client_frame::Request;
use rookery::protocol::{ErrorCode, MessageKind, v1};

/// The longest time that a reminder may lie ahead: this bot keeps them in memory only.
const REMIND_MAX: Duration = Duration::from_secs(24 * 3600);
const HELP: &str = "!roll [SIDES] throws a die\n!poll QUESTION asks for 👍 or 👎\n!remind SECONDS TEXT\n!who lists the members";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: bot NAME PASSWORD [HOST:PORT …]";
    let (name, password) = (arguments.next().context(usage)?, arguments.next().context(usage)?);
    let mut servers: Vec<String> = arguments.collect();
    if servers.is_empty() {
        servers.push("127.0.0.1:8080".to_owned());
    }

    let rest = Rest::new(&servers);
    match rest.sign_up(&name, &password, "Bot").await {
        Err(error) if error.code() != ErrorCode::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    let device = rest.sign_in(&name, &password, "bot").await?;
    let rest = rest.with_token(&device.token);
    let mut options = ClientOptions::new(&servers, device.token);
    options.start = Start::Unread;
    let (client, mut events) = Client::start(options);
    let bot = Bot { client, rest, own_id: device.user_id };
    println!("{name} (user {}) listens; Ctrl-C ends", bot.own_id);

    loop {
        let event = tokio::select! {
            event = events.next() => event,
            _ = tokio::signal::ctrl_c() => None,
        };
        match event {
            Some(Event::Message(message)) => {
                if let Err(error) = bot.hear(&message).await {
                    eprintln!("message {}: {error}", message.seq);
                }
            }
            Some(Event::Contact(contact)) => {
                // Whoever asks is a friend.
                if contact.state() == rookery::protocol::ContactState::Invited
                    && let Err(error) = bot.rest.accept_contact(contact.user_id).await
                {
                    eprintln!("user {}: {error}", contact.user_id);
                }
            }
            Some(Event::Connected { endpoint, welcome }) => {
                println!("connected to {} at {endpoint}", welcome.node);
            }
            Some(Event::Disconnected { endpoint, close }) => println!("lost {endpoint}: {close}"),
            Some(Event::Ended(error)) => anyhow::bail!("signed out by the server: {error}"),
            Some(_) => {}
            None => break,
        }
    }
    bot.client.close().await;
    Ok(())
}

/// What a bot needs. Cheap to clone.
#[derive(Clone)]
struct Bot {
    client: Client,
    rest: Rest,
    own_id: u64,
}

impl Bot {
    async fn hear(&self, message: &v1::Message) -> Result<(), ClientError> {
        let Some(command) = message.text.strip_prefix('!') else { return Ok(()) };
        if message.sender_id == self.own_id || message.kind() != MessageKind::Text {
            return Ok(());
        }
        let conversation_id = message.conversation_id;
        let (word, rest) = command.split_once(' ').unwrap_or((command, ""));
        let answer = match word {
            "help" => HELP.to_owned(),
            "roll" => {
                let sides = rest.trim().parse().ok().filter(|sides| *sides > 1).unwrap_or(6u32);
                format!("{} of {sides}", rand::random_range(1..=sides))
            }
            "poll" => return self.poll(message, rest).await,
            "remind" => return self.remind(message, rest).await,
            "who" => {
                let members = self.rest.members(conversation_id, "").await?;
                let mut names = Vec::new();
                for member in members.items {
                    names.push(format!(
                        "{} ({})",
                        self.rest.user(member.user_id).await?.username,
                        member.role
                    ));
                }
                names.join(", ")
            }
            _ => format!("I don't know !{word}; !help lists what I do"),
        };
        self.answer(message, "answer", answer).await.map(drop)
    }

    /// Repeats the question and puts the first two reactions under it.
    async fn poll(&self, message: &v1::Message, question: &str) -> Result<(), ClientError> {
        let sent = self.answer(message, "poll", format!("{question} (react with 👍 or 👎)")).await?;
        for emoji in ["👍", "👎"] {
            let react = v1::React {
                conversation_id: message.conversation_id,
                target_seq: sent.seq,
                emoji: emoji.to_owned(),
                ..v1::React::default()
            };
            self.client.react(react).await?;
        }
        Ok(())
    }

    async fn remind(&self, message: &v1::Message, rest: &str) -> Result<(), ClientError> {
        let (seconds, text) = rest.split_once(' ').unwrap_or((rest, ""));
        let after = seconds.parse().ok().map(Duration::from_secs).filter(|after| *after <= REMIND_MAX);
        let Some(after) = after else {
            let advice = "!remind SECONDS TEXT: at most a day ahead".to_owned();
            return self.answer(message, "answer", advice).await.map(drop);
        };
        let (bot, message, text) = (self.clone(), message.clone(), text.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let typing = v1::TypingState { conversation_id: message.conversation_id, active: true };
            // A courtesy; nobody minds if it is lost.
            let _ = bot.client.request(Request::Typing(typing)).await;
            if let Err(error) = bot.answer(&message, "reminder", format!("⏰ {text}")).await {
                eprintln!("a reminder was lost: {error}");
            }
        });
        Ok(())
    }

    /// Answers a message, once for each `purpose` however often it is tried.
    async fn answer(&self, to: &v1::Message, purpose: &str, text: String) -> Result<v1::Sent, ClientError> {
        let answer = v1::Send {
            conversation_id: to.conversation_id,
            client_id: format!("{purpose}-{}", to.seq),
            reply_to_seq: to.seq,
            text,
            ..v1::Send::default()
        };
        self.client.send(answer).await
    }
}
