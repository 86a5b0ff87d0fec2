//! The regular expressions of one test, behind a quick look for the words without which none of them can match.

use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use regex_syntax::hir::{Class, Hir, HirKind};

use super::words::Words;
use crate::rules::expr::RegexOp;

/// Shorter words are everywhere.
const WORD_MIN: usize = 2;

/// Most words that one part of a pattern may be written out to.
const WORDS_MAX: usize = 64;

/// Most letters of a class that is written out.
const LETTERS_MAX: usize = 8;

/// Letters beyond ASCII that are cases of ASCII's `s` and `k` (Unicode's simple case folding), which the words do not know.
const BEYOND: [char; 2] = ['\u{17f}', '\u{212a}'];

/// Regular expressions, any of which may match.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    /// Found when the first text is looked at: most rules of a large set never see one. None if some expression needs no
    /// word.
    words: OnceLock<Option<OfAll>>,
    ops: Vec<RegexOp>,
}

/// The words of several expressions.
#[derive(Debug)]
struct OfAll {
    search: Words,
    /// Which of them stand in a text: made when one does.
    each: OnceLock<Option<AhoCorasick>>,
    words: Vec<String>,
    /// Per word, whose it is.
    of: Box<[u32]>,
}

impl Patterns {
    /// Of these expressions; what is not compiled yet stays so until a text asks for it.
    pub(super) fn new<'o>(ops: impl Iterator<Item = &'o RegexOp>) -> Patterns {
        Patterns { words: OnceLock::new(), ops: ops.cloned().collect() }
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Whether any of them matches.
    pub(super) fn is_match(&self, text: &str) -> bool {
        if self.ops.is_empty() {
            return false;
        }
        match self.words.get_or_init(|| OfAll::new(&self.ops)) {
            Some(words) if text.is_ascii() || !text.contains(BEYOND) => words.may_match(&self.ops, text),
            _ => self.ops.iter().any(|op| op.is_match(text)),
        }
    }
}

impl OfAll {
    /// The words of all expressions, if each has some.
    fn new(ops: &[RegexOp]) -> Option<OfAll> {
        let (mut words, mut of) = (Vec::new(), Vec::new());
        for (number, op) in (0u32..).zip(ops) {
            words.extend(words_of_op(op)?);
            of.resize(words.len(), number);
        }
        Some(OfAll { search: Words::new(&words)?, each: OnceLock::new(), words, of: of.into() })
    }

    fn each(&self) -> Option<&AhoCorasick> {
        let mut automaton = AhoCorasick::builder();
        automaton.ascii_case_insensitive(true).kind(Some(AhoCorasickKind::ContiguousNFA));
        self.each.get_or_init(|| automaton.build(&self.words).ok()).as_ref()
    }

    /// Whether one of the expressions matches; only those are asked whose words stand in the text.
    fn may_match(&self, ops: &[RegexOp], text: &str) -> bool {
        // Most texts hold no word, and this is the fastest way to know.
        if !self.search.are_in(text.as_bytes()) {
            return false;
        }
        let [_, _, ..] = ops else { return ops.iter().any(|op| op.is_match(text)) };
        let Some(each) = self.each() else { return ops.iter().any(|op| op.is_match(text)) };
        let mut asked = 0u64;
        each.find_overlapping_iter(text).any(|found| {
            let number = self.of[found.pattern().as_usize()];
            // Beyond 64 expressions one may be asked again, which changes nothing.
            let bit = 1u64.checked_shl(number).unwrap_or(0);
            let known = asked & bit != 0;
            asked |= bit;
            !known && ops[number as usize].is_match(text)
        })
    }
}

/// Words in lower case, one of which stands in every text that the expression matches, but for letters [beyond](BEYOND).
pub(super) fn words_of_op(op: &RegexOp) -> Option<Vec<String>> {
    let words = words_of(&parse(op)?)?;
    let holds_another = |word: &String| words.iter().any(|other| other.len() < word.len() && word.contains(&**other));
    // Where the longer one stands, so does the other.
    Some(words.iter().filter(|word| !holds_another(word)).cloned().collect())
}

fn parse(op: &RegexOp) -> Option<Hir> {
    let mut parser = regex_syntax::ParserBuilder::new();
    parser
        .case_insensitive(op.case_insensitive)
        .multi_line(op.multi_line)
        .dot_matches_new_line(op.dot_matches_new_line);
    parser.build().parse(&op.pattern).ok()
}

/// Words in lower case, one of which stands in every text that the expression matches, whatever its case there, but for
/// letters [beyond](BEYOND).
fn words_of(hir: &Hir) -> Option<Vec<String>> {
    if let Some(words) = written_out(hir).filter(|words| shortest(words) >= WORD_MIN) {
        return Some(words);
    }
    match hir.kind() {
        HirKind::Capture(group) => words_of(&group.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => words_of(&repetition.sub),
        HirKind::Alternation(parts) => {
            let mut all = Vec::new();
            for part in parts {
                all.extend(words_of(part)?);
            }
            Some(all)
        }
        HirKind::Concat(parts) => words_of_sequence(parts),
        _ => None,
    }
}

/// The best words of a sequence: of its parts by themselves, and of neighbours that can be written out together.
fn words_of_sequence(parts: &[Hir]) -> Option<Vec<String>> {
    let nothing = || vec![String::new()];
    let (mut best, mut together): (Option<Vec<String>>, Vec<String>) = (None, nothing());
    let better = |best: &mut Option<Vec<String>>, words: Vec<String>| {
        let is_better = best.as_ref().is_none_or(|have| shortest(&words) > shortest(have));
        if shortest(&words) >= WORD_MIN && is_better {
            *best = Some(words);
        }
    };
    for part in parts {
        match written_out(part) {
            Some(words) if words.len() * together.len() <= WORDS_MAX => together = joined(&together, &words),
            Some(words) => better(&mut best, std::mem::replace(&mut together, words)),
            None => {
                better(&mut best, std::mem::replace(&mut together, nothing()));
                better(&mut best, words_of(part).unwrap_or_default());
            }
        }
    }
    better(&mut best, together);
    best
}

fn shortest(words: &[String]) -> usize {
    words.iter().map(String::len).min().unwrap_or(0)
}

fn joined(left: &[String], right: &[String]) -> Vec<String> {
    left.iter().flat_map(|left| right.iter().map(move |right| [left.as_str(), right].concat())).collect()
}

/// All texts that the expression matches, in lower case, if they are few, but for letters [beyond](BEYOND).
fn written_out(hir: &Hir) -> Option<Vec<String>> {
    let words = match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => vec![String::new()],
        HirKind::Literal(literal) => {
            let text = std::str::from_utf8(&literal.0).ok().filter(|text| text.is_ascii())?;
            vec![text.to_ascii_lowercase()]
        }
        HirKind::Class(class) => letters(class)?,
        HirKind::Capture(group) => written_out(&group.sub)?,
        HirKind::Repetition(repetition) if (repetition.min, repetition.max) == (0, Some(1)) => {
            let mut words = written_out(&repetition.sub)?;
            words.push(String::new());
            words
        }
        HirKind::Repetition(_) => return None,
        HirKind::Alternation(parts) => {
            let mut all = Vec::new();
            for part in parts {
                all.extend(written_out(part)?);
            }
            all
        }
        HirKind::Concat(parts) => {
            let mut all = vec![String::new()];
            for part in parts {
                let words = written_out(part)?;
                if all.len() * words.len() > WORDS_MAX {
                    return None;
                }
                all = joined(&all, &words);
            }
            all
        }
    };
    (words.len() <= WORDS_MAX).then_some(words)
}

/// The letters of a class, in lower case, if they are few and of ASCII, but for letters [beyond](BEYOND).
fn letters(class: &Class) -> Option<Vec<String>> {
    let mut all: Vec<u8> = Vec::new();
    let mut add = |(start, end): (char, char)| {
        if end.is_ascii() {
            // Two cases of more letters than are written out are enough to know that they are too many.
            let some = (start as u8..=end as u8).take(2 * LETTERS_MAX + 1);
            all.extend(some.map(|byte| byte.to_ascii_lowercase()));
        }
        end.is_ascii() || (start == end && BEYOND.contains(&start))
    };
    let is_ascii = match class {
        Class::Unicode(class) => class.iter().all(|range| add((range.start(), range.end()))),
        Class::Bytes(class) => class.iter().all(|range| add((range.start().into(), range.end().into()))),
    };
    if !is_ascii {
        return None;
    }
    all.sort_unstable();
    all.dedup();
    (1..=LETTERS_MAX).contains(&all.len()).then(|| all.into_iter().map(|byte| char::from(byte).to_string()).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn op(pattern: &str) -> RegexOp {
        RegexOp::new(pattern, false, false, false).unwrap()
    }

    #[test]
    fn the_words_of_a_pattern() {
        for (pattern, expected) in [
            ("(?i)(^|[/_.-])(xmrig|xmr-?stak|monero\\w*)([:@]|$)", Some("monero xmr-stak xmrig xmrstak")),
            ("(^|[^A-Z0-9])(AKIA|ASIA)[A-Z0-9]{16}", Some("akia asia")),
            ("gh[pousr]_[A-Za-z0-9]{36}", Some("gho_ ghp_ ghr_ ghs_ ghu_")),
            ("(?i)kelvin", Some("kelvin")),
            ("(abc)+", Some("abc")),
            ("a.*bc.*def", Some("def")),
            ("a[0-9]+b", None),
            ("(abc|[0-9]+)", None),
            ("(abc)*", None),
            ("", None),
            ("é", None),
            ("[aé]bc", Some("bc")),
            ("(?i)[ké]bc", Some("bc")),
            ("(?i)sk", Some("sk")),
            ("(?i)\"?(password|passwd)\"?\\s*[:=]", Some("passwd password")),
            ("foo|foobar|afoo", Some("foo")),
        ] {
            let mut words = words_of_op(&op(pattern));
            if let Some(words) = &mut words {
                words.sort();
                words.dedup();
            }
            assert_eq!(words.map(|words| words.join(" ")).as_deref(), expected, "{pattern}");
        }
    }

    const PATTERNS: [&str; 8] = [
        "(?i)(^|[/_.-])(xmrig|t-?rex|miner)([:@/_.-]|$)",
        "(^|[^A-Z0-9])(AKIA|ASIA)[A-Z0-9]{3}([^A-Z0-9]|$)",
        "[a-z]+://[^/ :@]+:[^/ @]{3,}@",
        "(?im)^ *[a-z_.-]*(password|passwd)\\s*[:=]",
        "gh[pousr]_[A-Za-z0-9]{3}",
        "(?i)kiss(es)?",
        "x{2,3}yz?",
        "(ab|cd)(ef|gh){1,2}|\\bnc\\b|[né]c",
    ];

    const FRAGMENTS: [&str; 26] = [
        "xmrig",
        "XMRig",
        "t-rex",
        "TREX",
        "miner",
        "/",
        ":",
        "AKIA",
        "asia",
        "ABC",
        "https://",
        "u:pass",
        "@",
        " ",
        "Password",
        "passwd=",
        "ghp_",
        "gho_abc",
        "kiss",
        "\u{212a}i\u{17f}s",
        "es",
        "xxy",
        "xz",
        "abef",
        "nc",
        "é",
    ];

    proptest! {
        /// Behind the words or not, the same texts match.
        #[test]
        fn words_hide_no_match(
            texts in prop::collection::vec(prop::sample::select(&FRAGMENTS[..]), 0..6),
            chosen in prop::sample::subsequence(&PATTERNS[..], 0..4),
        ) {
            let text = texts.concat();
            let ops: Vec<RegexOp> = chosen.iter().map(|pattern| op(pattern)).collect();
            let plain = ops.iter().any(|op| op.is_match(&text));
            prop_assert_eq!(Patterns::new(ops.iter()).is_match(&text), plain, "{}", text);
        }
    }
}
