//! A line client on a bare socket, as a person with netcat would be.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::world::within;

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// A signed-in or fresh line connection.
pub struct LineClient {
    stream: BufReader<TcpStream>,
}

/// A `MSG` or `GMSG` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// From the id: its upper bits.
    pub conversation_id: u64,
    /// From the id: its lower 24 bits.
    pub seq: u64,
    /// Unescaped.
    pub text: String,
}

impl LineClient {
    /// Connects and reads the greeting.
    pub async fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("the node takes line connections");
        let mut client = Self { stream: BufReader::new(stream) };
        let greeting = client.read().await;
        assert!(greeting.starts_with("+OK welcome"), "{greeting}");
        client
    }

    /// Signs in.
    pub async fn login(&mut self, username: &str, password: &str) {
        self.write(&format!("LOGIN {username} {password}")).await;
        let answer = self.read().await;
        assert!(answer.starts_with("+OK uid="), "{answer}");
    }

    /// All that has not been given.
    pub async fn pull(&mut self) -> Vec<Pulled> {
        self.write("PULL").await;
        let mut pulled = Vec::new();
        loop {
            let line = self.read().await;
            if line == "+OK pull_done" {
                return pulled;
            }
            pulled.push(parse(&line).unwrap_or_else(|| panic!("not a message line: {line}")));
        }
    }

    /// Says goodbye and waits for the end.
    pub async fn quit(mut self) {
        self.write("QUIT").await;
        let mut rest = String::new();
        let ended = within(ANSWER_TIMEOUT, "the end after QUIT", self.stream.read_line(&mut rest)).await;
        assert_eq!(ended.ok(), Some(0), "{rest}");
    }

    async fn write(&mut self, line: &str) {
        let line = format!("{line}\r\n");
        self.stream.get_mut().write_all(line.as_bytes()).await.expect("the connection stands");
    }

    async fn read(&mut self) -> String {
        let mut line = String::new();
        let read = within(ANSWER_TIMEOUT, "a line", self.stream.read_line(&mut line)).await;
        assert!(
            read.expect("the connection stands and the line is UTF-8") > 0,
            "the node closed the connection"
        );
        line.trim_end_matches(['\r', '\n']).to_owned()
    }
}

/// Reads `MSG id=… from=… ts=… text=…` and `GMSG id=… group=… from=… ts=… text=…`.
fn parse(line: &str) -> Option<Pulled> {
    let (head, text) = line.split_once(" text=")?;
    let id: u64 = head.split(' ').find_map(|word| word.strip_prefix("id="))?.parse().ok()?;
    let (conversation_id, seq) = (id >> 24, id & 0xff_ffff);
    if let Some(rest) = head.strip_prefix("GMSG ") {
        let group: u64 = rest.split(' ').find_map(|word| word.strip_prefix("group="))?.parse().ok()?;
        assert_eq!(group, conversation_id, "{line}");
    } else if !head.starts_with("MSG ") {
        return None;
    }
    Some(Pulled { conversation_id, seq, text: unescape(text) })
}

fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, letter == '\\') {
            (_, true) => match letters.next() {
                Some('n') => plain.push('\n'),
                Some('r') => plain.push('\r'),
                Some('\\') => plain.push('\\'),
                other => panic!("the server escapes nothing else: {other:?} in {text}"),
            },
            (letter, false) => plain.push(letter),
        }
    }
    plain
}
