//! A client of the line protocol: bytes on a socket, and nothing that knows the server's own code.

use std::collections::VecDeque;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::world::{PASSWORD, World, unique, within};

/// One line connection.
pub struct LineClient {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
    /// `MSG` and `GMSG` lines that came while an answer was awaited.
    live: VecDeque<String>,
    /// Keeps the node.
    _world: World,
    /// Who is signed in; 0: nobody.
    pub uid: u64,
    pub name: String,
}

/// A `MSG` or `GMSG` line, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub id: u64,
    /// 0: a `MSG`.
    pub group: u64,
    pub from: u64,
    pub ts: u64,
    /// Still escaped.
    pub text: String,
}

impl Line {
    /// Reads `MSG id=41 from=5 ts=1700000000000 text=…` or `GMSG id=12 group=3 from=5 ts=… text=…`, to the letter.
    pub fn of(line: &str) -> Self {
        let (head, text) = line.split_once(" text=").unwrap_or_else(|| panic!("no text in {line}"));
        let words: Vec<&str> = head.split(' ').collect();
        let names: &[&str] = match words[0] {
            "MSG" => &["id", "from", "ts"],
            "GMSG" => &["id", "group", "from", "ts"],
            _ => panic!("neither MSG nor GMSG: {line}"),
        };
        assert_eq!(words.len(), names.len() + 1, "{line}");
        let value = |name: &str| {
            let Some(at) = names.iter().position(|known| *known == name) else { return 0 };
            let value = words[at + 1].strip_prefix(name).and_then(|rest| rest.strip_prefix('='));
            value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {line}"))
        };
        let (id, group, from, ts) = (value("id"), value("group"), value("from"), value("ts"));
        assert!(ts > 1_700_000_000_000, "ts is in milliseconds: {line}");
        Self { id, group, from, ts, text: text.to_owned() }
    }
}

impl World {
    /// Connects and is greeted.
    pub async fn dials_lines(&self) -> LineClient {
        let stream = TcpStream::connect(self.node.address("line")).await.expect("the node takes connections");
        let (read, write) = stream.into_split();
        let mut client = LineClient {
            read: BufReader::new(read),
            write,
            live: VecDeque::new(),
            _world: self.clone(),
            uid: 0,
            name: String::new(),
        };
        let greeting = client.reads().await;
        assert!(greeting.starts_with("+OK welcome. Commands: "), "{greeting}");
        client
    }

    /// A new account, made and signed in over lines.
    pub async fn registers(&self, stem: &str) -> LineClient {
        let mut client = self.dials_lines().await;
        client.name = format!("{stem}{}", unique());
        let answer = client.asks(&format!("REGISTER {} {PASSWORD}", client.name)).await;
        client.uid = value_of(&answer, "+OK uid=");
        client
    }

    /// Another connection of an account.
    pub async fn logs_in(&self, name: &str) -> LineClient {
        let mut client = self.dials_lines().await;
        client.name = name.to_owned();
        let answer = client.asks(&format!("LOGIN {name} {PASSWORD}")).await;
        client.uid = value_of(&answer, "+OK uid=");
        client
    }
}

/// The number behind a prefix, which must be all there is.
#[track_caller]
pub fn value_of(answer: &str, prefix: &str) -> u64 {
    let number = answer.strip_prefix(prefix).and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("{answer:?} is not {prefix:?} and a number"))
}

impl LineClient {
    /// Writes bytes as they are.
    pub async fn writes(&mut self, bytes: &[u8]) {
        self.write.write_all(bytes).await.expect("the connection is open");
    }

    /// The next line, whatever it is, without its end.
    pub async fn reads(&mut self) -> String {
        let line = self.reads_or_ends().await;
        line.unwrap_or_else(|| panic!("{} was closed while a line was awaited", self.name))
    }

    /// The next line; `None` at the end of the connection.
    pub async fn reads_or_ends(&mut self) -> Option<String> {
        let mut line = String::new();
        match within("a line", self.read.read_line(&mut line)).await {
            Ok(read) if read > 0 && line.ends_with('\n') => {
                Some(line.trim_end_matches(['\r', '\n']).to_owned())
            }
            _ => None,
        }
    }

    /// The next answer line; live lines before it are kept.
    pub async fn reads_answer(&mut self) -> String {
        loop {
            let line = self.reads().await;
            if line.starts_with("+OK") || line.starts_with("-ERR") {
                assert!(line == "+OK" || line.starts_with("+OK ") || line.starts_with("-ERR "), "{line}");
                assert_ne!(line.trim(), "-ERR failed", "a refusal says why");
                return line;
            }
            assert!(
                line.starts_with("MSG ") || line.starts_with("GMSG "),
                "neither answer nor message: {line}"
            );
            self.live.push_back(line);
        }
    }

    /// Says a line and reads its answer.
    pub async fn asks(&mut self, line: &str) -> String {
        self.writes(format!("{line}\n").as_bytes()).await;
        self.reads_answer().await
    }

    /// Says a line that must be refused; the reason.
    pub async fn is_refused(&mut self, line: &str) -> String {
        let answer = self.asks(line).await;
        match answer.strip_prefix("-ERR ") {
            Some(reason) => reason.to_owned(),
            None => panic!("{line:?} was not refused: {answer}"),
        }
    }

    /// The next live line.
    pub async fn hears(&mut self) -> Line {
        let line = match self.live.pop_front() {
            Some(line) => line,
            None => self.reads().await,
        };
        Line::of(&line)
    }

    /// Sends to a user; the `msg_id`.
    pub async fn sends(&mut self, uid: u64, text: &str) -> u64 {
        value_of(&self.asks(&format!("SEND {uid} {text}")).await, "+OK msg_id=")
    }

    /// Sends to a group; the `group_msg_id`.
    pub async fn sends_to_group(&mut self, group: u64, text: &str) -> u64 {
        value_of(&self.asks(&format!("SENDGROUP {group} {text}")).await, "+OK group_msg_id=")
    }

    /// Creates a group; its id.
    pub async fn founds(&mut self, name: &str) -> u64 {
        value_of(&self.asks(&format!("CREATEGROUP {name} all about it")).await, "+OK group_id=")
    }

    pub async fn joins(&mut self, group: u64) {
        assert_eq!(self.asks(&format!("JOINGROUP {group}")).await, "+OK joined group");
    }

    /// Pulls: the lines given, live ones that came before the answer included.
    pub async fn pulls(&mut self) -> Vec<Line> {
        assert_eq!(self.asks("PULL").await, "+OK pull_done");
        self.live.drain(..).map(|line| Line::of(&line)).collect()
    }

    /// Hangs up without a word, and waits until the server has noticed.
    pub async fn hangs_up(mut self) {
        self.write.shutdown().await.expect("the connection is open");
        while self.reads_or_ends().await.is_some() {}
    }
}
