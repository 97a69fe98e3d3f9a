//! The smallest client: answers every text with the same text.
//!
//! `cargo run --example echo -- NAME PASSWORD [HOST:PORT …]`: signs up where the name is free, and signs in.
//! The library reconnects, fetches what was missed and repeats sends under their own ids, so that every message is
//! answered once even when a node dies in between.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use anyhow::Context as _;
use rookery::client::{Client, ClientOptions, Event, Rest, Start};
use rookery::protocol::{ErrorCode, MessageKind, v1};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: echo NAME PASSWORD [HOST:PORT …]";
    let (name, password) = (arguments.next().context(usage)?, arguments.next().context(usage)?);
    let mut servers: Vec<String> = arguments.collect();
    if servers.is_empty() {
        servers.push("127.0.0.1:8080".to_owned());
    }

    let rest = Rest::new(&servers);
    match rest.sign_up(&name, &password, "").await {
        Err(error) if error.code() != ErrorCode::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    let device = rest.sign_in(&name, &password, "echo").await?;
    let mut options = ClientOptions::new(&servers, device.token);
    // What came while this program was not running is answered too, and nothing twice: answering counts as reading.
    options.start = Start::Unread;
    let (client, mut events) = Client::start(options);
    println!("{name} (user {}) echoes; Ctrl-C ends", device.user_id);

    loop {
        let event = tokio::select! {
            event = events.next() => event,
            _ = tokio::signal::ctrl_c() => None,
        };
        match event {
            Some(Event::Message(message))
                if message.sender_id != device.user_id && message.kind() == MessageKind::Text =>
            {
                let answer = v1::Send {
                    conversation_id: message.conversation_id,
                    // The same id at every try: an answer that was stored before a crash is not stored again.
                    client_id: format!("echo-{}", message.seq),
                    reply_to_seq: message.seq,
                    text: message.text,
                    ..v1::Send::default()
                };
                if let Err(error) = client.send(answer).await {
                    eprintln!("no answer to message {}: {error}", message.seq);
                }
            }
            Some(Event::Ended(error)) => anyhow::bail!("signed out by the server: {error}"),
            Some(_) => {}
            None => break,
        }
    }
    client.close().await;
    Ok(())
}
