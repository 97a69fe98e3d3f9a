//! The commands about groups and messages, apart from those that MPIM's clients know: how they are written, and what they
//! ask for. [`super::deeds`] does them.

use super::command::Words;

/// What a line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Who is in a group.
    Members { group: u64 },
    /// Add a user, given by id or name.
    Add { group: u64, user: String },
    /// Remove a member.
    Remove { group: u64, user: String },
    /// Keep a user out for good.
    Ban { group: u64, user: String, reason: String },
    /// Take that back.
    Unban { group: u64, user: String },
    /// Give a member a role.
    Role { group: u64, user: String, role: String },
    /// A member may not write for so many minutes; 0: it may again.
    Silence { group: u64, user: String, minutes: u64 },
    /// All members may not write, or may again.
    SilenceAll { group: u64, on: bool },
    /// Change the name.
    Rename { group: u64, name: String },
    /// Change what it is about.
    Topic { group: u64, text: String },
    /// Show a text above the group; an empty one takes it back.
    Announce { group: u64, text: String },
    /// Keep messages for so many seconds; 0: as long as all are kept.
    Keep { group: u64, seconds: u64 },
    /// Make a code that lets in, so many times; 0: any number of times.
    Invite { group: u64, uses: u64 },
    /// Join by such a code.
    UseCode { code: String },
    /// Who wants to join.
    Requests { group: u64 },
    /// Let one in who has asked, or not.
    Answer { group: u64, user: String, accept: bool },
    /// End a group for all.
    Dissolve { group: u64 },
    /// No notices of a conversation for so many hours; 0: ends it.
    Mute { conversation: u64, hours: u64 },
    /// Find messages, in all conversations or in one.
    Search { conversation: u64, text: String },
    /// Write to a conversation, in so many minutes.
    Schedule { conversation: u64, minutes: u64, text: String },
    /// What is scheduled.
    Scheduled,
    /// Take one of these back.
    Unschedule { number: u64 },
    /// Copy a message to another conversation.
    Forward { conversation: u64, seq: u64, to: u64 },
    /// Pin a message for all, or take the pin off.
    Pin { conversation: u64, seq: u64, remove: bool },
    /// What is pinned.
    Pins { conversation: u64 },
    /// Change a message of one's own.
    Edit { conversation: u64, seq: u64, text: String },
    /// Take a message back.
    Recall { conversation: u64, seq: u64 },
    /// React to a message.
    React { conversation: u64, seq: u64, emoji: String },
    /// Hide a message from oneself.
    Hide { conversation: u64, seq: u64 },
}

/// Every command: its word, how it is written, and what it does.
pub const USAGES: [(&str, &str, &str); 33] = [
    ("members", "members ID", "who is in a group"),
    ("addmember", "addmember ID USER", "add a user to a group"),
    ("removemember", "removemember ID USER", "remove a member"),
    ("ban", "ban ID USER [REASON]", "remove a user for good"),
    ("unban", "unban ID USER", "let a banned user come back"),
    ("role", "role ID USER ROLE", "owner, admin or member"),
    ("silence", "silence ID USER MINUTES", "a member may not write (0 ends it)"),
    ("silenceall", "silenceall ID on|off", "only the owner and admins write"),
    ("rename", "rename ID NAME", "the group's name"),
    ("topic", "topic ID [TEXT]", "what the group is about"),
    ("announce", "announce ID [TEXT]", "a text above the group"),
    ("keep", "keep ID SECONDS", "older messages are removed (0: as all are kept)"),
    ("invite", "invite ID [USES]", "make a code that lets in"),
    ("joincode", "joincode CODE", "join by a code"),
    ("requests", "requests ID", "who wants to join"),
    ("accept", "accept ID USER", "let one in who has asked"),
    ("decline", "decline ID USER", "or not"),
    ("dissolve", "dissolve ID", "end a group for all"),
    ("mute", "mute ID [HOURS]", "no notices of a conversation (8; 0 ends it)"),
    ("search", "search TEXT", "find messages"),
    ("searchin", "searchin ID TEXT", "find them in one conversation"),
    ("schedule", "schedule ID MINUTES TEXT", "write later"),
    ("scheduled", "scheduled", "what is to be written later"),
    ("unschedule", "unschedule NUMBER", "take one of these back"),
    ("forward", "forward ID SEQ TO_ID", "copy a message to another conversation"),
    ("pin", "pin ID SEQ", "pin a message for all"),
    ("unpin", "unpin ID SEQ", "take the pin off"),
    ("pins", "pins ID", "what is pinned"),
    ("edit", "edit ID SEQ TEXT", "change a message of yours"),
    ("recall", "recall ID SEQ", "take a message back"),
    ("react", "react ID SEQ EMOJI", "react to a message"),
    ("hide", "hide ID SEQ", "hide a message from yourself"),
    ("leave", "leave ID", "leave a group"),
];

/// Hours for which `mute` holds when no number is given.
const MUTE_HOURS: u64 = 8;

/// Reads what follows a word of [`USAGES`] but `leave`; `None`: it is written otherwise.
pub fn read(word: &str, mut rest: Words<'_>) -> Option<Act> {
    Some(match word {
        "members" => Act::Members { group: rest.number()? },
        "addmember" => Act::Add { group: rest.number()?, user: rest.tail()? },
        "removemember" => Act::Remove { group: rest.number()?, user: rest.tail()? },
        "ban" => {
            Act::Ban { group: rest.number()?, user: rest.word()?, reason: rest.tail().unwrap_or_default() }
        }
        "unban" => Act::Unban { group: rest.number()?, user: rest.tail()? },
        "role" => Act::Role { group: rest.number()?, user: rest.word()?, role: rest.tail()? },
        "silence" => Act::Silence { group: rest.number()?, user: rest.word()?, minutes: rest.count()? },
        "silenceall" => {
            let group = rest.number()?;
            let on = match rest.word()?.as_str() {
                "on" => true,
                "off" => false,
                _ => return None,
            };
            Act::SilenceAll { group, on }
        }
        "rename" => Act::Rename { group: rest.number()?, name: rest.tail()? },
        "topic" => Act::Topic { group: rest.number()?, text: rest.tail().unwrap_or_default() },
        "announce" => Act::Announce { group: rest.number()?, text: rest.tail().unwrap_or_default() },
        "keep" => Act::Keep { group: rest.number()?, seconds: rest.count()? },
        "invite" => Act::Invite { group: rest.number()?, uses: rest.count_or(0)? },
        "joincode" => Act::UseCode { code: rest.tail()? },
        "requests" => Act::Requests { group: rest.number()? },
        "accept" => Act::Answer { group: rest.number()?, user: rest.tail()?, accept: true },
        "decline" => Act::Answer { group: rest.number()?, user: rest.tail()?, accept: false },
        "dissolve" => Act::Dissolve { group: rest.number()? },
        "mute" => Act::Mute { conversation: rest.number()?, hours: rest.count_or(MUTE_HOURS)? },
        "search" => Act::Search { conversation: 0, text: rest.tail()? },
        "searchin" => Act::Search { conversation: rest.number()?, text: rest.tail()? },
        "schedule" => {
            Act::Schedule { conversation: rest.number()?, minutes: rest.number()?, text: rest.tail()? }
        }
        "scheduled" => Act::Scheduled,
        "unschedule" => Act::Unschedule { number: rest.number()? },
        "forward" => Act::Forward { conversation: rest.number()?, seq: rest.number()?, to: rest.number()? },
        "pin" => Act::Pin { conversation: rest.number()?, seq: rest.number()?, remove: false },
        "unpin" => Act::Pin { conversation: rest.number()?, seq: rest.number()?, remove: true },
        "pins" => Act::Pins { conversation: rest.number()? },
        "edit" => Act::Edit { conversation: rest.number()?, seq: rest.number()?, text: rest.tail()? },
        "recall" => Act::Recall { conversation: rest.number()?, seq: rest.number()? },
        "react" => Act::React { conversation: rest.number()?, seq: rest.number()?, emoji: rest.tail()? },
        "hide" => Act::Hide { conversation: rest.number()?, seq: rest.number()? },
        _ => return None,
    })
}
