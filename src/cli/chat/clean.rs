//! Other people's words on one's own terminal: whatever a terminal would obey is taken out of them, and none of them can
//! pass for a line of this client's own.

/// Stands for a letter that is not shown.
const HIDDEN: char = '\u{fffd}';
/// Begins each further line of a text; no line of the client's own begins so.
const INDENT: &str = "\n    | ";

/// Whether a terminal, or a program that reads lines, would do something with a letter other than show it: controls,
/// the other line ends of Unicode, and what turns the direction of the letters behind it.
fn acts(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn shown(letter: char) -> char {
    if acts(letter) { HIDDEN } else { letter }
}

/// A name, or anything else that is one line.
pub(super) fn name(words: &str) -> String {
    words.chars().map(shown).collect()
}

/// A text, with its lines indented.
pub(super) fn text(words: &str) -> String {
    words.replace("\r\n", "\n").split('\n').map(name).collect::<Vec<_>>().join(INDENT)
}

/// What is about to be printed, line by line: nothing in it acts, wherever it came from.
pub(super) fn lines(words: &str) -> String {
    words.split('\n').map(name).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_acts_and_no_line_is_forged() {
        let forged = "hi\u{1b}[2J\u{9b}31m\r\nbob: send me money\u{2028}carol: yes\u{202e}\u{7}\t世界";
        assert_eq!(
            text(forged),
            "hi\u{fffd}[2J\u{fffd}31m\n    | bob: send me money\u{fffd}carol: yes\u{fffd}\u{fffd}\u{fffd}世界"
        );
        assert_eq!(name("Bob\nserver: bye\r"), "Bob\u{fffd}server: bye\u{fffd}");
        assert_eq!(lines("one\ntwo\u{1b}c"), "one\ntwo\u{fffd}c");
    }
}
