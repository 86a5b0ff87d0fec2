//! One search for many words, whatever the case of their letters.
//!
//! The text is written in lower case, a piece at a time, and searched for all words at once with vector instructions, where
//! the machine has them: an automaton would take each byte in turn.

use std::ops::Range;

use aho_corasick::{AhoCorasick, packed};

/// How much of a text is looked at in one go, bytes.
const PIECE: usize = 1024;

/// The same of texts that are no longer: most are a name, and more room would take longer to clear than to search.
const SHORT: usize = 64;

/// Words to search for.
#[derive(Debug)]
pub(super) struct Words {
    search: Search,
    /// How long the longest is, bytes.
    longest: usize,
}

#[derive(Debug)]
enum Search {
    Packed(Box<packed::Searcher>),
    Automaton(AhoCorasick),
}

impl Words {
    /// These words; `None` if one of them is empty, or there are more than an automaton can tell apart.
    pub(super) fn new(words: &[String]) -> Option<Words> {
        let lower: Vec<String> = words.iter().map(|word| word.to_ascii_lowercase()).collect();
        let longest = lower.iter().map(String::len).max().unwrap_or(0);
        if lower.iter().any(String::is_empty) {
            return None;
        }
        let packed = if longest < PIECE / 2 { packed::Searcher::new(&lower) } else { None };
        let search = match packed {
            Some(packed) => Search::Packed(Box::new(packed)),
            None => Search::Automaton(AhoCorasick::builder().ascii_case_insensitive(true).build(&lower).ok()?),
        };
        Some(Words { search, longest })
    }

    /// Whether any of them stands in the text.
    pub(super) fn are_in(&self, text: &[u8]) -> bool {
        self.find(text).is_some()
    }

    /// Where one of them stands first.
    pub(super) fn find(&self, text: &[u8]) -> Option<Range<usize>> {
        match &self.search {
            Search::Packed(packed) if text.len() <= SHORT => self.find_packed::<SHORT>(packed, text),
            Search::Packed(packed) => self.find_packed::<PIECE>(packed, text),
            Search::Automaton(automaton) => automaton.find(text).map(|found| found.range()),
        }
    }

    fn find_packed<const N: usize>(&self, packed: &packed::Searcher, text: &[u8]) -> Option<Range<usize>> {
        let (mut at, mut lower) = (0, [0; N]);
        loop {
            let piece = &text[at..text.len().min(at + N)];
            let lower = &mut lower[..piece.len()];
            lower.copy_from_slice(piece);
            lower.make_ascii_lowercase();
            if let Some(found) = packed.find(&*lower) {
                return Some(at + found.start()..at + found.end());
            }
            if at + piece.len() == text.len() {
                return None;
            }
            // A word may begin in one piece and end in the next.
            at += N - self.longest.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The first place where a word stands, and whether any does, one word at a time.
        #[test]
        fn finds_the_first_word(
            words in prop::collection::vec("[aB:]{1,6}", 0..90),
            text in "[aAbB: k\u{212a}]{0,90}",
            before in prop::sample::select(vec![0, 1, 60, PIECE - 40, PIECE - 3, PIECE, 2 * PIECE - 20]),
        ) {
            let found = Words::new(&words).unwrap();
            let text = format!("{}{text}", "-".repeat(before));
            let lower = text.to_ascii_lowercase();
            let first = words.iter().filter_map(|word| lower.find(&word.to_ascii_lowercase())).min();
            let range = found.find(text.as_bytes());
            prop_assert_eq!(found.are_in(text.as_bytes()), first.is_some());
            match found.search {
                Search::Packed(_) => prop_assert_eq!(range.as_ref().map(|range| range.start), first),
                Search::Automaton(_) => prop_assert_eq!(range.is_some(), first.is_some()),
            }
            if let Some(range) = range {
                prop_assert!(words.iter().any(|word| lower[range.clone()] == word.to_ascii_lowercase()));
            }
        }
    }

    #[test]
    fn an_empty_word_is_none_and_no_words_are_nowhere() {
        assert!(Words::new(&["a".into(), String::new()]).is_none());
        assert!(!Words::new(&[]).unwrap().are_in(b"a"));
        let long = "x".repeat(PIECE);
        assert!(Words::new(std::slice::from_ref(&long)).unwrap().are_in(format!("ab{long}").as_bytes()));
    }
}
