//! The commands of the terminal client, in both forms that MPIM's clients know: `chat:5:Hello there` and
//! `chat 5 Hello there`.

use std::fmt::Write as _;

use super::acts::{self, Act};

/// What a line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Make an account and sign in.
    Register { username: String, password: String },
    /// Sign in.
    Login { username: String, password: String },
    /// Write to a user, given by id or name.
    Chat { user: String, text: String },
    /// Sync now.
    Pull,
    /// Ask a user, given by id or name, to be friends; accepts where that user has asked.
    AddFriend { user: String },
    /// List friends and requests.
    GetFriends,
    /// Make a group that anybody may join.
    CreateGroup { name: String, description: String },
    /// Join a group.
    JoinGroup { conversation_id: u64 },
    /// Leave a group.
    LeaveGroup { conversation_id: u64 },
    /// Write to a conversation.
    SendGroup { conversation_id: u64, text: String },
    /// Show the last messages of a conversation.
    History { conversation_id: u64, count: u32 },
    /// List conversations.
    Conversations,
    /// Something with a group or a message.
    Act(Act),
    /// Sign out.
    Logout,
    /// List the commands.
    Help,
    /// End.
    Quit,
}

/// What `help` prints: these, then those of [`acts`].
const HELP: &str = "\
commands (a ':' may stand for the spaces between the words, as in chat:5:Hello there):
  register NAME PASSWORD        make an account and sign in
  login NAME PASSWORD           sign in
  chat USER TEXT                write to a user, by id or by name
  sendgroup ID TEXT             write to a group (or any conversation)
  creategroup NAME DESCRIPTION  make a group that anybody may join
  joingroup ID                  join a group
  leavegroup ID                 leave a group
  addfriend USER                ask a user to be friends, or accept such a request
  getfriends                    friends and requests
  conversations                 all your conversations
  history ID [N]                the last N messages of a conversation (20)
  pull                          fetch now what is new
  logout                        sign out
  help                          this list
  quit                          end";

/// Messages that `history` shows when no number is given.
const HISTORY_DEFAULT: u32 = 20;

/// Every command: its word, how it is written, and its words but the last (whose text goes to the line's end).
const USAGES: [(&str, &str); 15] = [
    ("register", "register NAME PASSWORD"),
    ("login", "login NAME PASSWORD"),
    ("chat", "chat USER TEXT"),
    ("pull", "pull"),
    ("addfriend", "addfriend USER"),
    ("getfriends", "getfriends"),
    ("creategroup", "creategroup NAME DESCRIPTION"),
    ("joingroup", "joingroup ID"),
    ("leavegroup", "leavegroup ID"),
    ("sendgroup", "sendgroup ID TEXT"),
    ("history", "history ID [N]"),
    ("conversations", "conversations"),
    ("logout", "logout"),
    ("help", "help"),
    ("quit", "quit"),
];

/// The command words, for completion.
pub fn words() -> impl Iterator<Item = &'static str> {
    let acts = acts::USAGES.iter().map(|(word, _, _)| *word);
    USAGES.iter().map(|(word, _)| *word).chain(acts)
}

/// What `help` prints: every command, in lines.
pub fn help() -> String {
    let mut help = HELP.to_owned();
    help.push_str("\nin groups, and with messages (ID: of a conversation; SEQ: as 'history' shows it):");
    for (_, usage, what) in acts::USAGES {
        let _ = write!(help, "\n  {usage:<28}  {what}");
    }
    help
}

/// Reads a line. `Ok(None)`: it is empty. `Err`: what to write instead.
pub fn parse(line: &str) -> Result<Option<Command>, String> {
    let line = line.trim();
    if line.is_empty() {
        return Ok(None);
    }
    let split_at = line.find([':', ' ', '\t']).unwrap_or(line.len());
    let word = line[..split_at].to_lowercase();
    let separator = if line[split_at..].starts_with(':') { Separator::Colon } else { Separator::Space };
    // Beside 'leavegroup'.
    let word = if word == "leave" { "leavegroup".to_owned() } else { word };
    let rest = Words { text: line.get(split_at + 1..).unwrap_or_default(), separator };
    if let Some((_, usage, _)) = acts::USAGES.iter().find(|(known, _, _)| *known == word) {
        return acts::read(&word, rest)
            .map(|act| Some(Command::Act(act)))
            .ok_or_else(|| format!("write: {usage}"));
    }
    let Some((_, usage)) = USAGES.iter().find(|(known, _)| *known == word) else {
        return Err(unknown(&word));
    };
    arguments(&word, rest).map(Some).ok_or_else(|| format!("write: {usage}"))
}

fn arguments(word: &str, mut rest: Words<'_>) -> Option<Command> {
    let command = match word {
        "register" => Command::Register { username: rest.word()?, password: rest.tail()? },
        "login" => Command::Login { username: rest.word()?, password: rest.tail()? },
        "chat" => Command::Chat { user: rest.word()?, text: rest.tail()? },
        "addfriend" => Command::AddFriend { user: rest.tail()? },
        "creategroup" => {
            Command::CreateGroup { name: rest.word()?, description: rest.tail().unwrap_or_default() }
        }
        "joingroup" => Command::JoinGroup { conversation_id: rest.number()? },
        "leavegroup" => Command::LeaveGroup { conversation_id: rest.number()? },
        "sendgroup" => Command::SendGroup { conversation_id: rest.number()?, text: rest.tail()? },
        "history" => {
            let conversation_id = rest.number()?;
            let count = match rest.tail() {
                Some(count) => count.parse().ok().filter(|count| *count > 0)?,
                None => HISTORY_DEFAULT,
            };
            Command::History { conversation_id, count }
        }
        "pull" => Command::Pull,
        "getfriends" => Command::GetFriends,
        "conversations" => Command::Conversations,
        "logout" => Command::Logout,
        "help" => Command::Help,
        "quit" => Command::Quit,
        _ => return None,
    };
    Some(command)
}

/// Names the nearest command, where one is near.
fn unknown(word: &str) -> String {
    let nearest = words()
        .map(|known| (strsim::damerau_levenshtein(known, word), known))
        .min()
        .filter(|(distance, _)| *distance <= 3);
    match nearest {
        Some((_, known)) => format!("'{word}' is not a command; did you mean '{known}'? 'help' lists them"),
        None => format!("'{word}' is not a command; 'help' lists them"),
    }
}

/// What separates the words of a line: decided by what stands behind the first.
#[derive(Clone, Copy)]
enum Separator {
    Colon,
    Space,
}

/// What is left of a line.
pub(super) struct Words<'a> {
    text: &'a str,
    separator: Separator,
}

impl Words<'_> {
    /// The next word; `None` if there is none.
    pub(super) fn word(&mut self) -> Option<String> {
        let (word, rest) = match self.separator {
            Separator::Colon => self.text.split_once(':').unwrap_or((self.text, "")),
            Separator::Space => {
                let text = self.text.trim_start();
                text.split_once(char::is_whitespace).unwrap_or((text, ""))
            }
        };
        self.text = rest;
        let word = word.trim();
        (!word.is_empty()).then(|| word.to_owned())
    }

    /// A number from 1 on.
    pub(super) fn number(&mut self) -> Option<u64> {
        self.count().filter(|number| *number > 0)
    }

    /// A number from 0 on.
    pub(super) fn count(&mut self) -> Option<u64> {
        self.word()?.parse().ok()
    }

    /// The same, which may be left out; `None`: it is none.
    pub(super) fn count_or(&mut self, otherwise: u64) -> Option<u64> {
        match self.word() {
            Some(word) => word.parse().ok(),
            None => Some(otherwise),
        }
    }

    /// All that is left, separators included.
    pub(super) fn tail(&mut self) -> Option<String> {
        let tail = std::mem::take(&mut self.text).trim();
        (!tail.is_empty()).then(|| tail.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Command {
        parse(line).expect("it is a command").expect("it is not empty")
    }

    #[test]
    fn both_forms_mean_the_same() {
        for (colons, spaces) in [
            ("register:alice:123456", "register alice 123456"),
            ("LOGIN:alice:123456", "Login  alice   123456"),
            ("chat:5:Hello there", "chat 5 Hello there"),
            ("pull", "  PULL "),
            ("addfriend:7", "addfriend 7"),
            ("creategroup:rust:all about it", "creategroup rust all about it"),
            ("creategroup:rust", "creategroup rust"),
            ("joingroup:3", "joingroup 3"),
            ("sendgroup:3:text: with colons", "sendgroup 3 text: with colons"),
            ("history:3:50", "history 3 50"),
        ] {
            assert_eq!(read(colons), read(spaces), "{colons}");
        }
    }

    #[test]
    fn texts_are_kept_whole() {
        let text = "a: b  c".to_owned();
        assert_eq!(read("chat:bob:a: b  c"), Command::Chat { user: "bob".into(), text: text.clone() });
        assert_eq!(read("chat bob a: b  c"), Command::Chat { user: "bob".into(), text });
        assert_eq!(
            read("creategroup:the rust room:for us"),
            Command::CreateGroup { name: "the rust room".into(), description: "for us".into() }
        );
        assert_eq!(read("history 3"), Command::History { conversation_id: 3, count: HISTORY_DEFAULT });
    }

    #[test]
    fn every_command_is_in_the_help_and_is_read_as_it_is_written() {
        let help = help();
        for word in words() {
            assert!(help.lines().any(|line| line.trim_start().starts_with(word)), "{word}");
        }
        for (word, usage, _) in acts::USAGES {
            let line = usage
                .replace("USER ROLE", "bob admin")
                .replace("USER", "bob")
                .replace("on|off", "on")
                .replace(['[', ']'], "");
            let line: Vec<&str> = line
                .split(' ')
                .map(|part| match part {
                    "ID" | "TO_ID" | "SEQ" | "MINUTES" | "NUMBER" | "SECONDS" | "HOURS" | "USES" => "7",
                    part => part,
                })
                .collect();
            let (spaces, colons) = (line.join(" "), line.join(":"));
            assert_eq!(read(&spaces), read(&colons), "{word}");
            // What may be left out may.
            if usage.contains('[') {
                let short = line[..line.len() - 1].join(" ");
                assert!(matches!(read(&short), Command::Act(_)), "{short}");
            }
        }
        assert_eq!(read("leave 7"), Command::LeaveGroup { conversation_id: 7 });
        let silence = Act::Silence { group: 7, user: "bob".into(), minutes: 0 };
        assert_eq!(read("silence 7 bob 0"), Command::Act(silence));
        assert_eq!(parse("pin 7"), Err("write: pin ID SEQ".to_owned()));
        assert_eq!(parse("mute 7 long"), Err("write: mute ID [HOURS]".to_owned()));
    }

    #[test]
    fn mistakes_are_told_with_the_way_out() {
        assert_eq!(parse(" "), Ok(None));
        assert_eq!(parse("chat 5"), Err("write: chat USER TEXT".to_owned()));
        assert_eq!(parse("joingroup:x"), Err("write: joingroup ID".to_owned()));
        assert_eq!(parse("history 3 none"), Err("write: history ID [N]".to_owned()));
        assert!(parse("caht 5 hi").is_err_and(|text| text.contains("did you mean 'chat'")));
        assert!(parse("what is this").is_err_and(|text| text.contains("'help'")));
    }
}
