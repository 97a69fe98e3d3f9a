//! The line that the user is typing.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use unicode_width::UnicodeWidthChar;

/// Most letters of the line: the longest text that a server takes by default is not longer.
const LETTERS_MAX: usize = 65_536;

/// A line with a place in it.
#[derive(Debug, Default)]
pub(super) struct Line {
    letters: Vec<char>,
    /// Letters before the cursor.
    at: usize,
}

impl Line {
    /// What stands there.
    pub(super) fn text(&self) -> String {
        self.letters.iter().collect()
    }

    /// Whether nothing does.
    pub(super) fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    /// Puts a text in its place.
    pub(super) fn set(&mut self, text: &str) {
        self.letters = text.chars().take(LETTERS_MAX).collect();
        self.at = self.letters.len();
    }

    /// Takes what stands there.
    pub(super) fn take(&mut self) -> String {
        self.at = 0;
        std::mem::take(&mut self.letters).into_iter().collect()
    }

    /// Puts a text in at the cursor.
    pub(super) fn insert(&mut self, text: &str) {
        for letter in text.chars().filter(|letter| *letter == '\n' || !letter.is_control()) {
            if self.letters.len() < LETTERS_MAX {
                self.letters.insert(self.at, letter);
                self.at += 1;
            }
        }
    }

    /// A key that edits; whether it was one.
    pub(super) fn key(&mut self, key: KeyEvent) -> bool {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('a') if control => self.at = 0,
            KeyCode::Char('e') if control => self.at = self.letters.len(),
            KeyCode::Char('u') if control => {
                self.letters.drain(..self.at);
                self.at = 0;
            }
            KeyCode::Char('k') if control => self.letters.truncate(self.at),
            KeyCode::Char('w') if control => self.delete_word(),
            KeyCode::Char(letter) if !control && !key.modifiers.contains(KeyModifiers::ALT) => {
                self.insert(letter.encode_utf8(&mut [0; 4]));
            }
            KeyCode::Backspace if self.at > 0 => {
                self.at -= 1;
                self.letters.remove(self.at);
            }
            KeyCode::Delete if self.at < self.letters.len() => {
                self.letters.remove(self.at);
            }
            KeyCode::Left => self.at = self.at.saturating_sub(1),
            KeyCode::Right => self.at = (self.at + 1).min(self.letters.len()),
            KeyCode::Home => self.at = 0,
            KeyCode::End => self.at = self.letters.len(),
            _ => return false,
        }
        true
    }

    fn delete_word(&mut self) {
        let is_space = |at: usize| self.letters[at].is_whitespace();
        let mut from = self.at;
        while from > 0 && is_space(from - 1) {
            from -= 1;
        }
        while from > 0 && !is_space(from - 1) {
            from -= 1;
        }
        self.letters.drain(from..self.at);
        self.at = from;
    }

    /// The part of the line that fits `width` columns and has the cursor in it, and the cursor's column there.
    pub(super) fn window(&self, width: u16) -> (String, u16) {
        let columns = |letters: &[char]| letters.iter().map(|letter| width_of(*letter)).sum::<usize>();
        let width = usize::from(width).max(2);
        let mut from = 0;
        while columns(&self.letters[from..self.at]) >= width {
            from += 1;
        }
        let mut to = self.at;
        while to < self.letters.len() && columns(&self.letters[from..=to]) <= width {
            to += 1;
        }
        let shown = self.letters[from..to].iter().map(|letter| if *letter == '\n' { '⏎' } else { *letter });
        (shown.collect(), columns(&self.letters[from..self.at]) as u16)
    }
}

fn width_of(letter: char) -> usize {
    letter.width().unwrap_or(1)
}

/// Cuts a text into lines of at most `width` columns, between words where that is possible.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(2);
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let (mut line, mut used) = (String::new(), 0);
        // Where the line can be cut: behind its last space.
        let mut cut = None;
        for letter in paragraph.chars().filter(|letter| !letter.is_control()) {
            let wide = width_of(letter);
            if used + wide > width {
                let rest = match cut.filter(|at| *at < line.len()) {
                    Some(at) if letter != ' ' => line.split_off(at),
                    _ => String::new(),
                };
                lines.push(std::mem::replace(&mut line, rest).trim_end().to_owned());
                used = line.chars().map(width_of).sum();
                cut = None;
                if letter == ' ' && line.is_empty() {
                    continue;
                }
            }
            line.push(letter);
            used += wide;
            if letter == ' ' {
                cut = Some(line.len());
            }
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(line: &mut Line, code: KeyCode) {
        assert!(line.key(KeyEvent::new(code, KeyModifiers::NONE)));
    }

    fn control(line: &mut Line, letter: char) {
        assert!(line.key(KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL)));
    }

    #[test]
    fn letters_go_in_and_out_at_the_cursor() {
        let mut line = Line::default();
        line.insert("hello 世界");
        press(&mut line, KeyCode::Left);
        press(&mut line, KeyCode::Backspace);
        press(&mut line, KeyCode::Char('新'));
        assert_eq!(line.text(), "hello 新界");
        control(&mut line, 'w');
        assert_eq!(line.text(), "hello 界");
        control(&mut line, 'u');
        press(&mut line, KeyCode::Delete);
        assert!(line.is_empty());
        line.insert("a\u{1b}[31mb");
        assert_eq!(line.take(), "a[31mb", "what a terminal would obey stays out");
    }

    #[test]
    fn the_window_follows_the_cursor() {
        let mut line = Line::default();
        line.insert("0123456789");
        assert_eq!(line.window(5), ("6789".into(), 4));
        press(&mut line, KeyCode::Home);
        assert_eq!(line.window(5), ("01234".into(), 0));
        line.set("世界世界");
        assert_eq!(line.window(5), ("世界".into(), 4));
    }

    #[test]
    fn lines_break_between_words_and_in_long_ones() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("世界世界世", 4), ["世界", "世界", "世"]);
        assert_eq!(wrap("a\n\nb", 4), ["a", "", "b"]);
        assert_eq!(wrap("a\u{7}b", 4), ["ab"]);
    }
}
