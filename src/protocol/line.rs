//! The line protocol's commands and answers, compatible with MPIM's clients: how lines are read and written.
//!
//! Texts are escaped so that a message stays one line: `\n` for a line feed, `\r` for a carriage return, `\\` for a
//! backslash. Reading undoes that; a backslash before anything else stands for itself, so that what a person types
//! arrives as typed.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::v1::Message;
use super::{ConversationKind, MessageKind};

/// What a client asks by one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `REGISTER user password`: sign up, and in.
    Register {
        /// The name.
        username: String,
        /// All that follows the name, inner spaces included.
        password: String,
    },
    /// `LOGIN user password`.
    Login {
        /// The name.
        username: String,
        /// All that follows the name, inner spaces included.
        password: String,
    },
    /// `SEND 7 text…`: to a user.
    Send {
        /// To whom.
        user_id: u64,
        /// Unescaped.
        text: String,
    },
    /// `PULL`: what has not been given yet.
    Pull,
    /// `ADDFRIEND 7`.
    AddFriend {
        /// Whom.
        user_id: u64,
    },
    /// `GETFRIENDS`.
    GetFriends,
    /// `CREATEGROUP name description…`.
    CreateGroup {
        /// One word.
        name: String,
        /// The rest; may be empty.
        description: String,
    },
    /// `JOINGROUP 3`.
    JoinGroup {
        /// Its conversation id.
        group_id: u64,
    },
    /// `SENDGROUP 3 text…`.
    SendGroup {
        /// Its conversation id.
        group_id: u64,
        /// Unescaped.
        text: String,
    },
    /// `LOGOUT`.
    Logout,
    /// `QUIT`.
    Quit,
    /// `HELP`.
    Help,
}

/// The commands, as the greeting and `HELP` list them.
pub const COMMANDS: &str = "REGISTER user password, LOGIN user password, SEND uid text, PULL, ADDFRIEND uid, GETFRIENDS, \
     CREATEGROUP name description, JOINGROUP gid, SENDGROUP gid text, LOGOUT, HELP, QUIT";

/// Bits of a `msg_id` that hold the seq.
const SEQ_BITS: u32 = 24;

/// The one integer that identifies a message in this protocol: `conversation_id << 24 | seq`. It is below 2^53 and
/// unique as long as conversation ids stay below 2^29 and seqs below 2^24 (16.7 million messages a conversation);
/// beyond that the seq's higher bits are lost, and nothing but this number suffers.
pub fn msg_id(conversation_id: u64, seq: u64) -> u64 {
    (conversation_id << SEQ_BITS) | (seq & ((1 << SEQ_BITS) - 1))
}

/// Reads one line, without its end. The error is what follows `-ERR `.
pub fn parse(line: &str) -> Result<Command, String> {
    let line = line.trim_end_matches(['\r', '\n']).trim_start();
    let (word, rest) = split_word(line);
    let usage = |form: &str| Err(format!("usage: {form}"));
    let no_rest = |command: Command, name: &str| {
        if rest.is_empty() { Ok(command) } else { Err(format!("{name} takes nothing behind it")) }
    };
    match word.to_ascii_uppercase().as_str() {
        name @ ("REGISTER" | "LOGIN") => {
            let (username, password) = split_word(rest);
            if username.is_empty() || password.is_empty() {
                return usage(&format!("{name} user password"));
            }
            let (username, password) = (username.to_owned(), password.to_owned());
            Ok(match name {
                "REGISTER" => Command::Register { username, password },
                _ => Command::Login { username, password },
            })
        }
        "SEND" => match number_and_text(rest) {
            Some((user_id, text)) => Ok(Command::Send { user_id, text: unescape(text).into_owned() }),
            None => usage("SEND uid text, with the user's number"),
        },
        "SENDGROUP" => match number_and_text(rest) {
            Some((group_id, text)) => Ok(Command::SendGroup { group_id, text: unescape(text).into_owned() }),
            None => usage("SENDGROUP gid text, with the group's number"),
        },
        "ADDFRIEND" => match number(rest) {
            Some(user_id) => Ok(Command::AddFriend { user_id }),
            None => usage("ADDFRIEND uid, with the user's number"),
        },
        "JOINGROUP" => match number(rest) {
            Some(group_id) => Ok(Command::JoinGroup { group_id }),
            None => usage("JOINGROUP gid, with the group's number"),
        },
        "CREATEGROUP" => {
            let (name, description) = split_word(rest);
            if name.is_empty() {
                return usage("CREATEGROUP name description");
            }
            Ok(Command::CreateGroup {
                name: name.to_owned(),
                description: unescape(description.trim_end()).into_owned(),
            })
        }
        "PULL" => no_rest(Command::Pull, "PULL"),
        "GETFRIENDS" => no_rest(Command::GetFriends, "GETFRIENDS"),
        "LOGOUT" => no_rest(Command::Logout, "LOGOUT"),
        "QUIT" => no_rest(Command::Quit, "QUIT"),
        "HELP" => Ok(Command::Help),
        "" => Err(format!("the line is empty; commands: {COMMANDS}")),
        _ => Err(format!("unknown command; commands: {COMMANDS}")),
    }
}

/// Writes a command as a line that [`parse`] reads, without its end: for clients.
pub fn command_line(command: &Command) -> String {
    match command {
        Command::Register { username, password } => format!("REGISTER {username} {password}"),
        Command::Login { username, password } => format!("LOGIN {username} {password}"),
        Command::Send { user_id, text } => format!("SEND {user_id} {}", escape(text)),
        Command::Pull => "PULL".to_owned(),
        Command::AddFriend { user_id } => format!("ADDFRIEND {user_id}"),
        Command::GetFriends => "GETFRIENDS".to_owned(),
        Command::CreateGroup { name, description } => {
            format!("CREATEGROUP {name} {}", escape(description)).trim_end().to_owned()
        }
        Command::JoinGroup { group_id } => format!("JOINGROUP {group_id}"),
        Command::SendGroup { group_id, text } => format!("SENDGROUP {group_id} {}", escape(text)),
        Command::Logout => "LOGOUT".to_owned(),
        Command::Quit => "QUIT".to_owned(),
        Command::Help => "HELP".to_owned(),
    }
}

/// The line by which a message is given, without its end: `MSG …`, or `GMSG …` in a group. `None` for a kind that
/// this protocol does not give (system, edit, recall, reaction).
pub fn message_line(message: &Message, kind: ConversationKind) -> Option<String> {
    let text = shown_text(message)?;
    let id = msg_id(message.conversation_id, message.seq);
    let mut line = match kind {
        ConversationKind::Direct => format!("MSG id={id}"),
        ConversationKind::Group => format!("GMSG id={id} group={}", message.conversation_id),
    };
    write!(line, " from={} ts={} text={}", message.sender_id, message.created_at_ms, escape(&text))
        .expect("writing to a String can't fail");
    Some(line)
}

/// The sender named by a line of [`message_line`]; `None`: it is no such line.
pub fn sender_of(line: &[u8]) -> Option<u64> {
    // The text comes last and may hold anything, so only what stands before it is looked at.
    let head = line.split(|byte| *byte == b' ').take_while(|word| !word.starts_with(b"text="));
    let word = head.into_iter().find_map(|word| word.strip_prefix(b"from="))?;
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// An `-ERR` line, without its end: always with a reason, always one line.
pub fn error_line(reason: &str) -> String {
    let reason = reason.trim();
    let reason = match reason {
        "" | "failed" => "the request could not be done; try again",
        reason => reason,
    };
    format!("-ERR {}", escape(reason))
}

/// Writes a text so that it holds no line break.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['\\', '\n', '\r']) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        match letter {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            other => escaped.push(other),
        }
    }
    Cow::Owned(escaped)
}

/// Undoes [`escape`].
pub fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let stands_for = match (letter, letters.peek()) {
            ('\\', Some('n')) => Some('\n'),
            ('\\', Some('r')) => Some('\r'),
            ('\\', Some('\\')) => Some('\\'),
            _ => None,
        };
        if stands_for.is_some() {
            letters.next();
        }
        plain.push(stands_for.unwrap_or(letter));
    }
    Cow::Owned(plain)
}

/// What a line says of a message: its text, or for what is no text a word in brackets.
fn shown_text(message: &Message) -> Option<Cow<'_, str>> {
    let word = match message.kind() {
        MessageKind::Text => "text",
        MessageKind::Image => "image",
        MessageKind::Audio => "audio",
        MessageKind::Video => "video",
        MessageKind::File => "file",
        MessageKind::Custom => "custom",
        MessageKind::System | MessageKind::Edit | MessageKind::Recall | MessageKind::Reaction => return None,
    };
    if message.recalled {
        return Some(Cow::Borrowed("[recalled]"));
    }
    if !message.text.is_empty() || message.kind() == MessageKind::Text {
        return Some(Cow::Borrowed(&message.text));
    }
    Some(match message.attachments.first() {
        Some(attachment) if !attachment.name.is_empty() => {
            Cow::Owned(format!("[{word} {}]", attachment.name))
        }
        _ => Cow::Owned(format!("[{word}]")),
    })
}

/// The first word and what follows the blanks behind it.
fn split_word(line: &str) -> (&str, &str) {
    match line.split_once([' ', '\t']) {
        Some((word, rest)) => (word, rest.trim_start_matches([' ', '\t'])),
        None => (line, ""),
    }
}

/// A whole number of 1 or more, and nothing else.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok().filter(|number| *number > 0) } else { None }
}

fn number_and_text(rest: &str) -> Option<(u64, &str)> {
    // One blank ends the number; further ones belong to the text.
    let (word, text) = rest.split_once([' ', '\t'])?;
    if text.is_empty() { None } else { Some((number(word)?, text)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::v1::Attachment;

    #[test]
    fn commands_are_read_in_any_case_and_with_either_line_end() {
        let login = Command::Login { username: "ann".into(), password: "secret 1".into() };
        assert_eq!(parse("LOGIN ann secret 1"), Ok(login.clone()));
        assert_eq!(parse("login ann secret 1\r\n"), Ok(login));
        assert_eq!(parse("Pull"), Ok(Command::Pull));
        assert_eq!(parse("send 7 a  b"), Ok(Command::Send { user_id: 7, text: "a  b".into() }));
        assert_eq!(
            parse("CREATEGROUP tea the room for tea"),
            Ok(Command::CreateGroup { name: "tea".into(), description: "the room for tea".into() })
        );
        assert_eq!(
            parse("CREATEGROUP tea"),
            Ok(Command::CreateGroup { name: "tea".into(), description: String::new() })
        );
    }

    #[test]
    fn a_wrong_line_is_answered_with_its_use() {
        for line in [
            "",
            " ",
            "DANCE",
            "SEND",
            "SEND 7",
            "SEND x hello",
            "SEND 0 hello",
            "SEND -7 hello",
            "LOGIN ann",
            "ADDFRIEND",
            "ADDFRIEND 7 8",
            "JOINGROUP +3",
            "PULL 3",
            "CREATEGROUP",
        ] {
            let reason = parse(line).expect_err(line);
            assert!(reason.len() > 10, "{line}: {reason}");
        }
    }

    #[test]
    fn escaping_keeps_a_text_on_one_line_and_is_undone() {
        let text = "a\nb\r\nc\\n \\";
        assert_eq!(escape(text), "a\\nb\\r\\nc\\\\n \\\\");
        assert_eq!(unescape(&escape(text)), text);
        assert_eq!(unescape("C:\\dir"), "C:\\dir");
    }

    #[test]
    fn a_message_is_one_line_that_names_its_sender() {
        let message = Message {
            conversation_id: 3,
            seq: 5,
            sender_id: 7,
            created_at_ms: 1_700_000_000_000,
            text: "hi\nfrom=9 text=x".into(),
            ..Message::default()
        };
        let direct = message_line(&message, ConversationKind::Direct).expect("a text is given");
        assert_eq!(direct, "MSG id=50331653 from=7 ts=1700000000000 text=hi\\nfrom=9 text=x");
        let group = message_line(&message, ConversationKind::Group).expect("a text is given");
        assert_eq!(group, "GMSG id=50331653 group=3 from=7 ts=1700000000000 text=hi\\nfrom=9 text=x");
        assert_eq!(sender_of(group.as_bytes()), Some(7));
        assert_eq!(sender_of(b"+OK text= from=7"), None);
    }

    #[test]
    fn what_is_no_text_is_named_and_what_is_no_content_is_not_given() {
        let line = |kind: MessageKind, name: &str| {
            let attachments = vec![Attachment { name: name.into(), ..Attachment::default() }];
            let message = Message { kind: kind as i32, attachments, ..Message::default() };
            message_line(&message, ConversationKind::Direct)
        };
        let ends = |line: Option<String>, end| line.is_some_and(|line| line.ends_with(end));
        assert!(ends(line(MessageKind::Image, "cat.png"), "text=[image cat.png]"));
        assert!(ends(line(MessageKind::Custom, ""), "text=[custom]"));
        assert_eq!(line(MessageKind::System, ""), None);
        assert_eq!(line(MessageKind::Reaction, ""), None);
    }

    #[test]
    fn an_error_always_says_why() {
        assert_eq!(error_line("exists"), "-ERR exists");
        assert_eq!(error_line("a\nb"), "-ERR a\\nb");
        assert_ne!(error_line("failed"), "-ERR failed");
        assert_ne!(error_line(" "), "-ERR ");
    }
}
