//! What names, passwords and texts may be. Lengths are in characters unless the name says bytes.

use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthStr as _;

use super::{Error, Result};

/// Longest `username`.
pub const USERNAME_MAX: usize = 32;
/// Longest `password`.
pub const PASSWORD_MAX: usize = 256;
/// Longest `client_id`.
pub const CLIENT_ID_MAX: usize = 64;
/// Longest display, device and room name.
pub const NAME_MAX: usize = 64;
/// Longest description, bio and request message.
pub const DESCRIPTION_MAX: usize = 1024;
/// Most members named in one call.
pub const MEMBER_IDS_MAX: usize = 1000;
/// Most attachments of a message.
pub const ATTACHMENTS_MAX: usize = 20;
/// Most mentions in a message.
pub const MENTIONS_MAX: usize = 100;
/// What stands for all members among a message's mentions. No user has it.
pub const MENTION_ALL: u64 = 0;
/// Most conversations named by the cursors of one sync.
pub const SYNC_CURSORS_MAX: usize = 1000;
/// Most messages in one page of history.
pub const HISTORY_PAGE_MAX: u32 = 200;

/// Most users named by one `watch_presence`, or asked for by `GET /presence`.
pub const WATCHED_MAX: usize = 1000;
/// Longest text beside a presence status.
pub const PRESENCE_TEXT_MAX: usize = 140;
/// Most rows of a user's contact list, requests either way included.
pub const CONTACTS_MAX: u64 = 10_000;
/// Most users that one has blocked.
pub const BLOCKS_MAX: u64 = 10_000;
/// Longest draft.
pub const DRAFT_MAX: usize = 4096;
/// Longest announcement of a room.
pub const ANNOUNCEMENT_MAX: usize = 2048;
/// Longest pause of slow mode, in seconds.
pub const SLOW_MODE_MAX_S: u64 = 6 * 3600;
/// Longest time for which a room keeps its messages, in seconds: a hundred years.
pub const RETENTION_MAX_S: u64 = 100 * 365 * 24 * 3600;
/// Most requests that wait to join one room.
pub const JOIN_REQUESTS_MAX: u64 = 1000;
/// Most users banned from one room.
pub const BANS_MAX: u64 = 10_000;
/// Most invite codes of one room.
pub const INVITES_MAX: u64 = 100;
/// Largest number on the wire: ids, seqs and times are below 2^53.
pub const NUMBER_MAX: u64 = (1 << 53) - 1;
/// Longest platform of a device.
pub const PLATFORM_MAX: usize = 32;
/// Most messages hidden, or forwarded, in one call.
pub const SEQS_MAX: usize = 100;
/// Longest `client_id` of a forwarding, so that each copy's own can be made of it.
pub const FORWARD_ID_MAX: usize = 58;
/// Longest time after which a message expires, in seconds: a year.
pub const EXPIRES_IN_MAX_S: u64 = 366 * 24 * 3600;
/// Longest emoji of a reaction, in bytes: a family with skin tones takes some forty.
pub const EMOJI_BYTES_MAX: usize = 64;
/// Most users named with each emoji of a message; `count` tells how many there are.
pub const REACTORS_SHOWN: u32 = 100;

/// Checks a username: 1 to 32 letters, digits, `_`, `.` or `-`, the first a letter or digit.
pub fn check_username(username: &str) -> Result<()> {
    let rule = "a username has 1 to 32 letters, digits, '_', '.' or '-', and starts with a letter or digit";
    let mut letters = username.chars();
    let starts_well = letters.next().is_some_and(char::is_alphanumeric);
    let goes_on_well = letters.all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-'));
    if starts_well && goes_on_well && username.chars().count() <= USERNAME_MAX {
        Ok(())
    } else {
        Err(Error::invalid("username", rule))
    }
}

/// Checks a new password.
pub fn check_password(password: &str, min: usize) -> Result<()> {
    let length = password.chars().count();
    if length < min || length > PASSWORD_MAX {
        return Err(Error::invalid(
            "password",
            format!("the password has {length} characters; take {min} to {PASSWORD_MAX}"),
        ));
    }
    Ok(())
}

/// How the names begin under which groups tell of their changes, in the name of who changed them.
pub const SYSTEM_PREFIX: &str = "system-";

/// Checks a `client_id` that a client has chosen.
pub fn check_client_id(client_id: &str) -> Result<()> {
    if client_id.starts_with(SYSTEM_PREFIX) {
        return Err(Error::invalid(
            "client_id",
            format!(
                "client_id begins with {SYSTEM_PREFIX}, as the server's own do; begin with something else"
            ),
        ));
    }
    let length = client_id.chars().count();
    if length == 0 || length > CLIENT_ID_MAX {
        return Err(Error::invalid(
            "client_id",
            format!(
                "client_id has {length} characters; take 1 to {CLIENT_ID_MAX}, a new one for each message"
            ),
        ));
    }
    Ok(())
}

/// Checks the emoji of a reaction: one character as people count them, of at most [`EMOJI_BYTES_MAX`] bytes, which takes up
/// room, is not of ASCII alone, and has no letters, so that no words are said by reactions. Which emoji there are changes
/// every year, so nothing more is asked.
pub fn check_emoji(emoji: &str) -> Result<()> {
    // Letters by Unicode that emoji are made of: ℹ, Ⓜ and the squared ones.
    let is_emoji = |c: char| matches!(c, '\u{2139}' | '\u{24c2}' | '\u{1f130}'..='\u{1f189}');
    // Digits and signs are part of keycaps, and letters of nothing.
    let is_plain = |c: char| {
        // What stands for bytes that were no UTF-8.
        let is_broken = c == char::REPLACEMENT_CHARACTER;
        !c.is_whitespace() && !c.is_control() && !is_broken && (!c.is_alphabetic() || is_emoji(c))
    };
    let is_one = emoji.graphemes(true).count() == 1 && emoji.width() > 0;
    if is_one && !emoji.is_ascii() && emoji.len() <= EMOJI_BYTES_MAX && emoji.chars().all(is_plain) {
        return Ok(());
    }
    let rule =
        format!("a reaction is one emoji, of at most {EMOJI_BYTES_MAX} bytes and without letters or spaces");
    Err(Error::invalid("emoji", rule))
}

/// Checks an optional text of at most `max` characters.
pub fn check_length(field: &'static str, text: &str, max: usize) -> Result<()> {
    let length = text.chars().count();
    if length > max {
        return Err(Error::invalid(field, format!("{field} has {length} characters; {max} is the most")));
    }
    Ok(())
}

/// The form under which usernames are compared: unique regardless of case.
pub fn username_key(username: &str) -> String {
    username.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emoji_is_no_word() {
        for emoji in
            ["👍", "👍🏽", "❤️", "1️⃣", "#️⃣", "🇩🇪", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "👩‍👩‍👧‍👦", "ℹ️", "Ⓜ️", "🅰️", "㊗️", "©️", "™️", "🐦‍⬛"]
        {
            assert!(check_emoji(emoji).is_ok(), "{emoji}");
        }
        for word in [
            "",
            "+1",
            "ok",
            "12",
            ":smile:",
            "да",
            "好",
            "👍ok",
            "👍 👍",
            "é",
            "👍\n",
            &"👍".repeat(3),
            "——",
            "\u{200b}",
            "\u{fffd}",
            "\u{fe0f}",
        ] {
            assert!(check_emoji(word).is_err(), "{word}");
        }
    }
}
