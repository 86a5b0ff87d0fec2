//! Comparing text: case folding without copies where the text needs none, and wildcards in linear time.

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use bumpalo::Bump;
use hashbrown::HashSet;

use super::keywords::word_of;
use super::words::Words;
use crate::event::fold;
use crate::rules::expr::{GlobPart, Op, StrHow, StrOp};

/// From how many alternatives on a set is faster than looking at one after the other.
const SET_MIN: usize = 6;

/// The text comparisons of one test, by kind. What few tests have is kept apart, so that the others take little room.
#[derive(Debug, Default)]
pub struct Texts {
    /// Whole values, while they are few.
    exact_cased: Box<[Box<str>]>,
    exact_folded: Box<[Box<str>]>,
    other: Box<[StrOp]>,
    many: Option<Box<Many>>,
    /// Whether any comparison wants the folded text.
    folds: bool,
}

/// What is compared with many values at once, or looked for within a text.
#[derive(Debug, Default)]
struct Many {
    exact_cased: Set,
    exact_folded: Set,
    contains_cased: Option<AhoCorasick>,
    contains_folded: Option<AhoCorasick>,
    /// Without one of these in it, no text holds for what is looked for within texts.
    within: Option<Words>,
}

type Set = HashSet<Box<str>, foldhash::fast::RandomState>;

impl Many {
    fn is_empty(&self) -> bool {
        self.exact_cased.is_empty() && self.exact_folded.is_empty() && !self.has_automaton() && self.within.is_none()
    }

    fn has_automaton(&self) -> bool {
        self.contains_cased.is_some() || self.contains_folded.is_some()
    }
}

impl Texts {
    /// Sorts the text comparisons among `ops`; what is no text comparison is left to the caller.
    pub fn new(ops: &[Op]) -> Texts {
        let strings: Vec<&StrOp> =
            ops.iter().filter_map(|op| if let Op::Str(op) = op { Some(op) } else { None }).collect();
        let collect = |cased: bool, pick: fn(&StrHow) -> Option<&String>| -> Vec<Box<str>> {
            strings
                .iter()
                .filter(|op| op.cased == cased)
                .filter_map(|op| pick(&op.how))
                .map(|s| s.as_str().into())
                .collect()
        };
        let exact: fn(&StrHow) -> Option<&String> = |how| if let StrHow::Exact(text) = how { Some(text) } else { None };
        let contains: fn(&StrHow) -> Option<&String> =
            |how| if let StrHow::Contains(text) = how { Some(text) } else { None };
        // An automaton pays from a few needles on; one needle is searched for directly. Most texts are ruled out by their words,
        // so that the kind that is made soonest is the best.
        let automaton = |cased| {
            let needles = collect(cased, contains);
            let mut automaton = AhoCorasick::builder();
            automaton.kind(Some(AhoCorasickKind::ContiguousNFA));
            (needles.len() > 2).then(|| automaton.build(needles.iter().map(|n| n.as_bytes())).ok()).flatten()
        };
        let (contains_cased, contains_folded) = (automaton(true), automaton(false));
        // A list while it is short, else a set.
        let values = |cased| -> (Vec<Box<str>>, Set) {
            let values = collect(cased, exact);
            if values.len() < SET_MIN { (values, Set::default()) } else { (Vec::new(), values.into_iter().collect()) }
        };
        let ((few_cased, exact_cased), (few_folded, exact_folded)) = (values(true), values(false));
        let covered = |op: &StrOp| match op.how {
            StrHow::Exact(_) => true,
            StrHow::Contains(_) => {
                if op.cased {
                    contains_cased.is_some()
                } else {
                    contains_folded.is_some()
                }
            }
            _ => false,
        };
        let other = strings.iter().filter(|op| !covered(op)).map(|op| (*op).clone()).collect();
        let within = words_within(&strings).filter(|words| !words.is_empty()).and_then(|words| Words::new(&words));
        let many = Many { exact_cased, exact_folded, contains_cased, contains_folded, within };
        Texts {
            other,
            exact_cased: few_cased.into(),
            exact_folded: few_folded.into(),
            folds: strings.iter().any(|op| !op.cased),
            many: (!many.is_empty()).then(|| Box::new(many)),
        }
    }

    /// Whether there is nothing to compare.
    pub fn is_empty(&self) -> bool {
        self.exact_cased.is_empty() && self.exact_folded.is_empty() && self.other.is_empty() && self.many.is_none()
    }

    /// Whether any comparison holds for `text`.
    pub fn hold(&self, text: &str, arena: &Bump) -> bool {
        if self.exact_cased.iter().any(|value| **value == *text) {
            return true;
        }
        if self.many.as_ref().is_some_and(|many| many.exact_cased.contains(text)) {
            return true;
        }
        if let Some(holds) = self.hold_in_place(text) {
            return holds;
        }
        if self.many.as_ref().and_then(|many| many.contains_cased.as_ref()).is_some_and(|words| words.is_match(text)) {
            return true;
        }
        if !self.folds {
            return self.other.iter().any(|op| holds(op, text));
        }
        let folded = folded(text, arena);
        self.exact_folded.iter().any(|value| **value == *folded)
            || self.other.iter().any(|op| holds(op, if op.cased { text } else { folded }))
            || self.many.as_ref().is_some_and(|many| {
                many.exact_folded.contains(folded)
                    || many.contains_folded.as_ref().is_some_and(|words| words.is_match(folded))
            })
    }

    /// The same without folding the text, where letters of ASCII and short lists are all there is to compare. What is looked for
    /// within texts is none of it if no word that it needs stands there.
    fn hold_in_place(&self, text: &str) -> Option<bool> {
        let many = self.many.as_deref();
        if many.is_some_and(|many| !many.exact_folded.is_empty()) || !text.is_ascii() {
            return None;
        }
        let within = many.and_then(|many| many.within.as_ref()).is_none_or(|words| words.are_in(text.as_bytes()));
        if within && many.is_some_and(Many::has_automaton) {
            return None;
        }
        let mut any = self.exact_folded.iter().any(|value| text.eq_ignore_ascii_case(value));
        for op in &self.other {
            any |= match &op.how {
                StrHow::Prefix(_) | StrHow::Suffix(_) => ends_hold(op, text),
                _ if !within => false,
                _ if op.cased => holds(op, text),
                _ => return None,
            };
        }
        Some(any)
    }
}

/// Whether a comparison of a text's start or end holds; `text` is ASCII.
fn ends_hold(op: &StrOp, text: &str) -> bool {
    match &op.how {
        StrHow::Prefix(value) if !op.cased => starts(text.as_bytes(), value.as_bytes()),
        StrHow::Suffix(value) if !op.cased => ends(text.as_bytes(), value.as_bytes()),
        StrHow::Prefix(_) | StrHow::Suffix(_) => holds(op, text),
        _ => false,
    }
}

/// Words without one of which in a text nothing holds that is looked for within texts; `None` if something needs none.
fn words_within(strings: &[&StrOp]) -> Option<Vec<String>> {
    let within = strings.iter().filter(|op| matches!(op.how, StrHow::Contains(_) | StrHow::Glob(_)));
    within.map(|op| word_of(&op.how).map(str::to_owned)).collect()
}

fn starts(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn ends(text: &[u8], suffix: &[u8]) -> bool {
    text.len().checked_sub(suffix.len()).is_some_and(|at| text[at..].eq_ignore_ascii_case(suffix))
}

/// The folded text, copied only if folding changes it.
pub fn folded<'t>(text: &'t str, arena: &'t Bump) -> &'t str {
    match fold(text) {
        std::borrow::Cow::Borrowed(text) => text,
        std::borrow::Cow::Owned(text) => arena.alloc_str(&text),
    }
}

/// Whether one comparison holds; `text` is already folded if the comparison is not cased.
pub fn holds(op: &StrOp, text: &str) -> bool {
    match &op.how {
        StrHow::Exact(value) => text == value,
        StrHow::Prefix(value) => text.starts_with(value.as_str()),
        StrHow::Suffix(value) => text.ends_with(value.as_str()),
        StrHow::Contains(value) => memchr::memmem::find(text.as_bytes(), value.as_bytes()).is_some(),
        StrHow::Glob(parts) => glob(parts, text),
    }
}

/// Matches wildcards over the whole text, greedily from the left: each run between two `*` takes its first place, so
/// that the cost is linear in the text for any pattern without `?`, and bounded by pattern × text with it.
pub fn glob(parts: &[GlobPart], text: &str) -> bool {
    let mut runs = parts.split(|part| *part == GlobPart::Many);
    let Some(first) = runs.next() else { return text.is_empty() };
    let Some(mut rest) = take(first, text) else { return false };
    let mut runs: Vec<&[GlobPart]> = runs.collect();
    let Some(last) = runs.pop() else { return rest.is_empty() };
    for run in runs {
        match find(run, rest) {
            Some(behind) => rest = behind,
            None => return false,
        }
    }
    ends_with(last, rest)
}

/// What is left of `text` behind the run at its start.
fn take<'t>(run: &[GlobPart], text: &'t str) -> Option<&'t str> {
    run.iter().try_fold(text, |rest, part| match part {
        GlobPart::Text(text) => rest.strip_prefix(text.as_str()),
        GlobPart::One => {
            let mut chars = rest.chars();
            chars.next().map(|_| chars.as_str())
        }
        GlobPart::Many => Some(rest),
    })
}

fn find<'t>(run: &[GlobPart], text: &'t str) -> Option<&'t str> {
    if let [GlobPart::Text(needle)] = run {
        return memchr::memmem::find(text.as_bytes(), needle.as_bytes()).map(|at| &text[at + needle.len()..]);
    }
    let starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    starts.filter_map(|at| take(run, &text[at..])).next()
}

fn ends_with(run: &[GlobPart], text: &str) -> bool {
    if let [GlobPart::Text(suffix)] = run {
        return text.ends_with(suffix.as_str());
    }
    let chars: usize =
        run.iter().map(|part| if let GlobPart::Text(text) = part { text.chars().count() } else { 1 }).sum();
    let total = text.chars().count();
    if total < chars {
        return false;
    }
    let at = text.char_indices().nth(total - chars).map_or(text.len(), |(at, _)| at);
    take(run, &text[at..]).is_some_and(str::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(pattern: &str) -> Vec<GlobPart> {
        let mut parts = Vec::new();
        for char in pattern.chars() {
            match (char, parts.last_mut()) {
                ('*', _) => parts.push(GlobPart::Many),
                ('?', _) => parts.push(GlobPart::One),
                (_, Some(GlobPart::Text(text))) => text.push(char),
                _ => parts.push(GlobPart::Text(char.into())),
            }
        }
        parts
    }

    #[test]
    fn wildcards() {
        for (pattern, text, expected) in [
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*c", "acb", false),
            ("*b*", "abc", true),
            ("a?c", "aéc", true),
            ("a?c", "ac", false),
            ("*?", "", false),
            ("*?", "é", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXc", false),
            ("*ab?d", "xxabcd", true),
            ("*a?c*e", "abbaxcde", true),
            ("*a?c*e", "abbacde", false),
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(glob(&parts(pattern), text), expected, "{pattern} on {text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn comparing_in_place_is_comparing_the_folded_text(
            values in proptest::collection::vec(("[abké]{0,3}", 0usize..7, proptest::bool::ANY), 1..9),
            text in "[aAbBkK]{0,5}|[aAbBkKéÉ\u{212a}]{0,5}",
        ) {
            let ops: Vec<Op> = values
                .into_iter()
                .map(|(value, how, cased)| {
                    let how = match how {
                        0 => StrHow::Exact(value),
                        1 => StrHow::Prefix(value),
                        2 => StrHow::Suffix(value),
                        3 => StrHow::Contains(value),
                        4 => StrHow::Glob(vec![GlobPart::One, GlobPart::Text(value), GlobPart::Many]),
                        5 => StrHow::Glob(vec![GlobPart::Many, GlobPart::Text(value), GlobPart::One]),
                        _ => StrHow::Glob(vec![GlobPart::One, GlobPart::One, GlobPart::Many]),
                    };
                    Op::Str(StrOp { how, cased })
                })
                .collect();
            let lower = fold(&text);
            let plain = ops.iter().any(|op| match op {
                Op::Str(op) => holds(op, if op.cased { &text } else { &lower }),
                _ => false,
            });
            proptest::prop_assert_eq!(Texts::new(&ops).hold(&text, &Bump::new()), plain);
        }

        #[test]
        fn wildcards_agree_with_a_regex(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            let regex = format!("^{}$", pattern.replace('*', ".*").replace('?', "."));
            let expected = regex::Regex::new(&regex).unwrap().is_match(&text);
            proptest::prop_assert_eq!(glob(&parts(&pattern), &text), expected);
        }
    }
}
