//! What a text is found by: one tokenizer for all databases, since their own full-text parsers differ (MariaDB has none for
//! Chinese, MySQL's has other rules than SQLite's).
//!
//! Scripts that put spaces between words give their words. Those that don't (Chinese, Japanese, Thai …), and emoji, give
//! every two neighbours, and the last of a run alone, so that a single sign is the beginning of some term wherever it
//! stands. Terms only find candidates: [`Query::matches`] decides by the text itself.

use std::collections::BTreeSet;

use unicode_normalization::UnicodeNormalization as _;

/// Longest term, in bytes; longer words are cut.
pub const TERM_BYTES_MAX: usize = 32;
/// Most different terms of a message; what follows in its text is not found.
pub const TERMS_MAX: usize = 2048;
/// Longest query, in characters.
pub const QUERY_CHARS_MAX: usize = 200;
/// Most terms by which a query's candidates are looked up; the text decides about the others.
const LOOKUPS_MAX: usize = 6;

/// What stands for a character of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Of a word that others follow after a space.
    Word,
    /// Of a script without spaces, or an emoji.
    Sign,
    /// Between words.
    Other,
}

fn class(letter: char) -> Class {
    let is_sign = matches!(u32::from(letter),
        0x0E00..=0x0EFF      // Thai, Lao
        | 0x0F00..=0x109F    // Tibetan, Myanmar
        | 0x1100..=0x11FF    // Hangul letters
        | 0x1780..=0x17FF    // Khmer
        | 0x2600..=0x27BF    // symbols
        | 0x2E80..=0x2FDF    // radicals
        | 0x3005..=0x3007 | 0x3021..=0x3029
        | 0x3041..=0x30FF    // kana
        | 0x3105..=0x31FF    // Bopomofo, Hangul, strokes
        | 0x3400..=0x4DBF | 0x4E00..=0x9FFF
        | 0xAC00..=0xD7FF    // Hangul
        | 0xF900..=0xFAFF
        | 0x1F000..=0x1FAFF  // emoji
        | 0x20000..=0x3FFFF);
    if is_sign {
        Class::Sign
    } else if letter.is_alphanumeric() {
        Class::Word
    } else {
        Class::Other
    }
}

/// The form in which texts are compared: regardless of case, width and composition.
fn normal(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    // Letter by letter, as a letter's form at the end of a word must not depend on where a query ends.
    text.nfkc().flat_map(char::to_lowercase).map(|letter| if letter == 'ς' { 'σ' } else { letter }).collect()
}

/// The runs of one class, with where they begin, in bytes.
fn runs(text: &str) -> impl Iterator<Item = (usize, Class, &str)> {
    let mut letters = text.char_indices().map(|(at, letter)| (at, class(letter))).peekable();
    std::iter::from_fn(move || {
        let (from, kind) = letters.next()?;
        while letters.next_if(|(_, next)| *next == kind).is_some() {}
        let to = letters.peek().map_or(text.len(), |(at, _)| *at);
        Some((from, kind, &text[from..to]))
    })
}

/// A word's term.
fn cut(word: &str) -> &str {
    let mut end = word.len().min(TERM_BYTES_MAX);
    while !word.is_char_boundary(end) {
        end -= 1;
    }
    &word[..end]
}

/// Every two neighbours.
fn pairs(run: &str) -> impl Iterator<Item = &str> {
    let starts = run.char_indices().map(|(at, _)| at);
    let ends = run.char_indices().skip(2).map(|(at, _)| at).chain([run.len()]);
    let length = run.chars().count();
    starts.zip(ends).take(length.saturating_sub(1)).map(|(from, to)| &run[from..to])
}

/// The terms by which a text is found, in order, each once; at most [`TERMS_MAX`], those of the text's beginning.
pub fn terms(text: &str) -> Vec<String> {
    let text = normal(text);
    let mut found = BTreeSet::new();
    for (_, kind, run) in runs(&text) {
        match kind {
            Class::Word => {
                found.insert(cut(run));
            }
            Class::Sign => {
                let last = run.char_indices().last().map_or(0, |(at, _)| at);
                for term in pairs(run).chain([&run[last..]]) {
                    found.insert(term);
                    if found.len() == TERMS_MAX {
                        break;
                    }
                }
            }
            Class::Other => {}
        }
        if found.len() == TERMS_MAX {
            break;
        }
    }
    found.into_iter().map(str::to_owned).collect()
}

/// A term to look candidates up by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lookup {
    /// Not empty.
    pub term: String,
    /// Terms that only begin so count too.
    pub is_prefix: bool,
}

impl Lookup {
    /// Whether a text with this term may be meant.
    pub fn admits(&self, term: &str) -> bool {
        if self.is_prefix { term.starts_with(&self.term) } else { term == self.term }
    }
}

/// A part of a query without the marks of a sentence around it, which are seldom meant.
fn bare(part: &str) -> &str {
    part.trim_matches(|mark: char| {
        matches!(mark, '.' | ',' | ';' | ':' | '!' | '?' | '"' | '\'' | '(' | ')' | '[' | ']' | '{' | '}' | '¿' | '¡' | '«' | '»')
            || matches!(u32::from(mark), 0x2010..=0x2027 | 0x2039 | 0x203A | 0x3001..=0x3003 | 0x3008..=0x3011 | 0x3014..=0x301F)
    })
}

/// What is searched for: parts between spaces, all of which a text must have, in any order. A part in words is found at
/// the beginning of a word, one with signs anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    parts: Vec<String>,
    lookups: Vec<Lookup>,
}

impl Query {
    /// `None`: there is nothing to look for in it.
    pub fn parse(text: &str) -> Option<Self> {
        let text = normal(text);
        let parts: Vec<String> =
            text.split_whitespace().map(bare).filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let mut lookups: Vec<Lookup> = parts.iter().flat_map(|part| lookups_of(part)).collect();
        lookups.sort_unstable();
        lookups.dedup();
        // Whole and long ones leave the fewest candidates.
        lookups.sort_by_key(|lookup| (lookup.is_prefix, std::cmp::Reverse(lookup.term.len())));
        lookups.truncate(LOOKUPS_MAX);
        (!lookups.is_empty()).then_some(Self { parts, lookups })
    }

    /// Terms that every text that [`Query::matches`] has, but for one cut off at [`TERMS_MAX`]; the best to begin with
    /// comes first, whole ones before beginnings. Not empty.
    pub fn lookups(&self) -> &[Lookup] {
        &self.lookups
    }

    /// Whether a text is what is searched for.
    pub fn matches(&self, text: &str) -> bool {
        let text = normal(text);
        self.parts.iter().all(|part| holds(&text, part))
    }
}

/// Terms of each text that has this part.
fn lookups_of(part: &str) -> Vec<Lookup> {
    let has_signs = part.chars().any(|letter| class(letter) == Class::Sign);
    let mut lookups = Vec::new();
    for (from, kind, run) in runs(part) {
        let is_last = from + run.len() == part.len();
        match kind {
            // May be the end of a longer word, which no term tells.
            Class::Word if has_signs && from == 0 => {}
            Class::Word => {
                let term = cut(run);
                lookups.push(Lookup { is_prefix: is_last || term.len() < run.len(), term: term.to_owned() });
            }
            Class::Sign if run.chars().nth(1).is_none() => {
                lookups.push(Lookup { term: run.to_owned(), is_prefix: true });
            }
            Class::Sign => {
                lookups.extend(pairs(run).map(|pair| Lookup { term: pair.to_owned(), is_prefix: false }));
            }
            Class::Other => {}
        }
    }
    lookups
}

/// Whether a part stands in a text, at the beginning of a word if it is made of words.
fn holds(text: &str, part: &str) -> bool {
    let begins_a_word = part.chars().next().is_some_and(|letter| class(letter) == Class::Word)
        && !part.chars().any(|letter| class(letter) == Class::Sign);
    text.match_indices(part).any(|(at, _)| {
        let before = text[..at].chars().next_back().map(class);
        !begins_a_word || before != Some(Class::Word)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the index and then the text say.
    fn finds(query: &str, text: &str) -> bool {
        let Some(query) = Query::parse(query) else { return false };
        let terms = terms(text);
        let admitted = query.lookups().iter().all(|lookup| terms.iter().any(|term| lookup.admits(term)));
        assert!(admitted || !query.matches(text), "{query:?} would miss {text:?} of {terms:?}");
        admitted && query.matches(text)
    }

    #[test]
    fn texts_are_found_by_what_stands_in_them() {
        for (query, text) in [
            ("北京", "我们明天去北京开会"),
            ("天去北", "我们明天去北京开会"),
            ("会", "我们明天去北京开会"),
            ("我", "我们明天去北京开会"),
            ("单AB", "订单ABC123已发货"),
            ("c123已", "订单ABC123已发货"),
            ("abc", "订单ＡＢＣ123已发货"),
            ("订单 发货", "订单ABC123已发货"),
            ("カタカナ", "ｶﾀｶﾅで書く"),
            ("hel", "Well, HELLO there"),
            ("there hello", "Well, HELLO there"),
            ("don't", "I don't know"),
            ("a.b", "see a.bc"),
            ("@ada", "ask @Ada"),
            ("hello?", "Well, HELLO there"),
            ("“hello” (there)!", "Well, HELLO there"),
            ("北京？", "我们明天去北京开会"),
            ("c++", "in C++ and C#"),
            ("οδος", "ΟΔΟΣ"),
            ("😀", "well done 😀😀"),
            ("straße", "Straßenbahn"),
            ("é", "cafe\u{301} \u{e9}t\u{e9}"),
            ("ไทย", "ภาษาไทยง่าย"),
        ] {
            assert!(finds(query, text), "{query} in {text}");
        }
        for (query, text) in [
            ("ello", "hello"),
            ("京北", "我们明天去北京开会"),
            ("北会", "我们明天去北京开会"),
            ("hello world", "hello there"),
            ("!!", "hello!!"),
            ("", "hello"),
        ] {
            assert!(!finds(query, text), "{query} in {text}");
        }
    }

    #[test]
    fn a_text_has_so_many_terms_at_most_and_none_is_long() {
        let long: String = (0..20_000u32).filter_map(|at| char::from_u32(0x4E00 + at)).collect();
        assert_eq!(terms(&long).len(), TERMS_MAX);
        assert_eq!(terms(&"x".repeat(10_000)), ["x".repeat(TERM_BYTES_MAX)]);
        assert!(finds(&"x".repeat(100), &"x".repeat(10_000)));
        assert!(!finds(&"x".repeat(100), &"x".repeat(99)));
    }

    /// Texts of several scripts, with their limits next to each other.
    fn mixed() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[a-zA-Z0-9]{1,6}",
            "[一-十]{1,6}",
            "[ぁ-お]{1,4}",
            "[ .,!'-]{1,2}",
            "[а-яА-Я]{1,5}",
            any::<char>().prop_map(String::from)
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_part_with_two_signs_is_found(text in mixed(), from in 0usize..40, length in 2usize..12) {
            let text = normal(&text);
            let part: String = text.chars().skip(from).take(length).collect();
            let part = part.trim();
            let signs = part.chars().filter(|letter| class(*letter) == Class::Sign).count();
            // Spaces part a query, and what is left of either side has to be found for itself.
            if signs >= 2 && !part.contains(char::is_whitespace) && normal(part) == part {
                prop_assert!(finds(part, &text), "{part:?} in {text:?}");
            }
        }

        #[test]
        fn any_beginning_of_a_word_is_found(text in mixed(), at in 0usize..20, length in 1usize..9) {
            let text = normal(&text);
            let words: Vec<&str> = runs(&text).filter(|run| run.1 == Class::Word).map(|run| run.2).collect();
            if let Some(word) = words.get(at) {
                let beginning: String = word.chars().take(length).collect();
                if normal(&beginning) == beginning {
                    prop_assert!(finds(&beginning, &text), "{beginning:?} in {text:?}");
                    prop_assert!(finds(&beginning.to_uppercase(), &text) || normal(&beginning.to_uppercase()) != beginning);
                }
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>(), query in any::<String>()) {
            let terms = terms(&text);
            prop_assert!(terms.iter().all(|term| !term.is_empty() && term.len() <= TERM_BYTES_MAX));
            finds(&query, &text);
        }
    }
}
