//! Tests of one field in many rules: one search for the words of all of them.
//!
//! Large collections ask the same fields for a thousand names. Where a test cannot hold without one of its words, one
//! automaton over the words of all tests of its field says which of them are worth a look.
//!
//! Invariant: what is ruled out would not have held. A text whose letters might fold to others is left to each test.

use std::ops::ControlFlow;

use aho_corasick::AhoCorasick;
use hashbrown::HashMap;

use super::condition::{Condition, Verdict};
use super::facets::Facet;
use super::index::{Bits, has, set, unset};
use super::keywords::words_of;
use super::lookup::{look_up, scalar_text, sole_text};
use crate::event::path::{Field, Root};
use crate::event::view::Event;
use crate::event::walk::Missing;
use crate::rules::expr::{Expr, Op};

/// From how many tests of a field on a search for all is cheaper than those that are judged one by one.
const TESTS_MIN: usize = 32;

/// The fields that many parts of conditions test.
#[derive(Debug, Default)]
pub struct Needles {
    groups: Vec<Group>,
    /// Per part: its group.
    of_part: Vec<Option<u32>>,
    /// Per part of a group: its rules.
    rules_of: Vec<Vec<u32>>,
}

/// The parts that test one field.
#[derive(Debug)]
struct Group {
    field: Field,
    search: AhoCorasick,
    /// Per word: the part that it is of.
    part_of: Box<[u32]>,
    /// The rules with a part that tests the field.
    rules: Bits,
    /// Those of them that ask nothing else of a body.
    alone: Bits,
}

/// What was found in the fields of the event at hand; kept for its memory.
#[derive(Debug, Default)]
pub struct Found(Vec<InField>);

/// What was found in one field.
#[derive(Debug, Default)]
struct InField {
    /// Of which event.
    event: u64,
    /// The parts with a word in it, as a set and one by one.
    parts: Bits,
    hits: Vec<u32>,
    /// Candidates of these parts, while all are narrowed down; kept for its memory.
    kept: Vec<u32>,
    missing: Missing,
    /// Whether the parts have to look for themselves.
    unsure: bool,
}

impl Needles {
    /// The fields that these parts test, if there are many that test the same. `rules_of` has the rules of each part, of which
    /// bitsets have so many words.
    pub fn new(said: &[&Expr], parts: &[Condition], rules_of: &[Vec<u32>], words: usize) -> Needles {
        let mut by_field: HashMap<_, Vec<(usize, &Field, Vec<String>)>> = HashMap::new();
        for (number, (said, part)) in said.iter().zip(parts).enumerate() {
            if let Some((field, facet, words)) = words_of_part(said, part) {
                by_field.entry((&field.name, facet)).or_default().push((number, field, words));
            }
        }
        let (mut groups, mut of_part, mut rules_of_part) = (Vec::new(), vec![None; parts.len()], Vec::new());
        rules_of_part.resize(parts.len(), Vec::new());
        for tests in by_field.into_values().filter(|tests| tests.len() >= TESTS_MIN) {
            let of_word = tests.iter().flat_map(|(part, _, words)| words.iter().map(|word| (word, *part as u32)));
            let (all, part_of): (Vec<&String>, Vec<u32>) = of_word.unzip();
            let Ok(search) = AhoCorasick::builder().ascii_case_insensitive(true).build(all) else { continue };
            let (mut rules, field) = (vec![0; words], tests[0].1.clone());
            for (part, ..) in &tests {
                of_part[*part] = Some(groups.len() as u32);
                rules_of[*part].iter().for_each(|rule| set(&mut rules, *rule as usize));
                rules_of_part[*part].clone_from(&rules_of[*part]);
            }
            groups.push(Group { field, search, part_of: part_of.into(), alone: rules.clone(), rules });
        }
        for (number, _) in parts.iter().enumerate().filter(|(_, part)| !is_certain(part)) {
            let others = (0u32..).zip(&mut groups).filter(|(place, _)| of_part[number] != Some(*place));
            others.for_each(|(_, group)| {
                rules_of[number].iter().for_each(|rule| unset(&mut group.alone, *rule as usize))
            });
        }
        Needles { groups, of_part, rules_of: rules_of_part }
    }

    /// Whether words may rule the part out.
    pub fn concern(&self, part: usize) -> bool {
        self.of_part[part].is_some()
    }

    /// The verdict of a part that no word speaks for, and why it is unknown; `None` if it has to be judged. `number` is
    /// the event's. When its field is looked at first, all rules that this rules out are taken from `candidates`.
    #[inline]
    pub fn rule_out(
        &self,
        part: usize,
        event: &Event<'_>,
        number: u64,
        found: &mut Found,
        candidates: &mut [u64],
    ) -> Option<(Verdict, Missing)> {
        let place = self.of_part[part]? as usize;
        if found.0.len() < self.groups.len() {
            found.0.resize_with(self.groups.len(), InField::default);
        }
        let found = &mut found.0[place];
        if found.event != number {
            found.event = number;
            self.groups[place].search(event, self.of_part.len(), found);
            if !found.unsure {
                self.narrow(&self.groups[place], found, candidates);
            }
        }
        if found.unsure || has(&found.parts, part) {
            return None;
        }
        let verdict = if found.missing.any() { Verdict::Unknown } else { Verdict::False };
        Some((verdict, found.missing))
    }
}

impl Needles {
    /// Leaves the rules of the group that have a part with a word, and all rules of no part of it.
    fn narrow(&self, group: &Group, found: &mut InField, candidates: &mut [u64]) {
        let out = match found.missing {
            Missing { dropped: true, .. } | Missing { malformed: true, .. } => return,
            // They may be unknown, but not so that it is told: it is the patch that says nothing of the field.
            Missing { partial: true, .. } => &group.alone,
            _ => &group.rules,
        };
        let with_word = found.hits.iter().flat_map(|part| &self.rules_of[*part as usize]);
        found.kept.clear();
        found.kept.extend(with_word.filter(|rule| has(candidates, **rule as usize)));
        candidates.iter_mut().zip(out).for_each(|(candidates, out)| *candidates &= !out);
        found.kept.iter().for_each(|rule| set(candidates, *rule as usize));
    }
}

impl Group {
    fn search(&self, event: &Event<'_>, parts: usize, found: &mut InField) {
        let InField { parts: with_word, hits, unsure, missing, .. } = found;
        with_word.resize(parts.div_ceil(64), 0);
        hits.drain(..).for_each(|part| unset(with_word, part as usize));
        (*missing, *unsure) = (Missing::default(), false);
        let mut look = |text: &str| {
            *unsure |= !text.is_ascii();
            for word in self.search.find_overlapping_iter(text) {
                let part = self.part_of[word.pattern().as_usize()];
                if !has(with_word, part as usize) {
                    set(with_word, part as usize);
                    hits.push(part);
                }
            }
        };
        if let Some(text) = sole_text(&self.field, event) {
            return text.into_iter().for_each(look);
        }
        *missing = look_up(&self.field, event, None, &mut |node| {
            event.scalars(node, &mut |scalar| {
                scalar_text(event, scalar).into_iter().for_each(&mut look);
                ControlFlow::Continue(())
            })
        });
    }
}

/// Whether a part reads nothing that may be missing or not well-formed.
fn is_certain(part: &Condition) -> bool {
    part.all_tests(&mut |check| check.facet.is_some() || matches!(check.field.root, Root::Fast(_)))
}

/// The field of a part that is one test and needs a word, the facet that settles it, and its words. What a facet's value
/// rules out must follow from nothing else: so tests of one field that differ in this are kept apart.
fn words_of_part<'p>(said: &Expr, part: &'p Condition) -> Option<(&'p Field, Option<Facet>, Vec<String>)> {
    let (Expr::Test(test), Condition::Test(check)) = (said, part) else { return None };
    if matches!(check.field.root, Root::Anything | Root::Member) {
        return None;
    }
    let mut words = Vec::new();
    for op in test.any_of.iter().filter(|op| **op != Op::Never) {
        words.extend(words_of(op)?);
    }
    words.iter().all(|word| !word.is_empty()).then_some((&check.field, check.facet, words))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::super::condition::Doubt;
    use super::*;
    use crate::event::walk::testing::with_event;
    use crate::rules::expr::{StrHow, StrOp, Test};

    fn part(field: &str, how: StrHow, cased: bool) -> Expr {
        let any_of = vec![Op::Str(StrOp { how, cased })];
        Expr::Test(Test { field: Some(field.into()), any_of, span: Default::default() })
    }

    /// Each part is a rule.
    fn needles(parts: &[Expr]) -> Needles {
        let conditions: Vec<Condition> = parts.iter().map(|part| Condition::compile(part).unwrap()).collect();
        let rules_of: Vec<Vec<u32>> = (0..parts.len() as u32).map(|part| vec![part]).collect();
        Needles::new(&parts.iter().collect::<Vec<_>>(), &conditions, &rules_of, parts.len().div_ceil(64))
    }

    proptest! {
        #[test]
        fn what_is_ruled_out_is_judged_the_same(
            field in select(&["objectRef.name", "requestURI", "requestObject.spec.a", "requestObject.spec.b", "k8s.object.spec.a", "k8s.clientIP"][..]),
            words in prop::collection::vec(("[ab]{1,3}", 0..4usize, any::<bool>()), TESTS_MIN..TESTS_MIN + 20),
            text in select(&["ab", "aBa", "bbb", "\u{212a}ab", "", "x", "b\\u0061b"][..]),
            verb in select(&["create", "patch", "get"][..]),
            level in select(&["Metadata", "Request"][..]),
        ) {
            let how: [fn(String) -> StrHow; 4] = [StrHow::Contains, StrHow::Exact, StrHow::Prefix, StrHow::Suffix];
            let parts: Vec<Expr> = words.into_iter().map(|(word, kind, cased)| part(field, how[kind](word), cased)).collect();
            let (needles, mut candidates) = (needles(&parts), vec![u64::MAX]);
            prop_assert_eq!(needles.groups.len(), 1);
            let body = if level == "Request" { format!(r#","requestObject":{{"spec":{{"a":["{text}",1]}}}}"#) } else { String::new() };
            let json = format!(
                r#"{{"level":"{level}","verb":"{verb}","requestURI":"{text}","sourceIPs":["{text}"],"objectRef":{{"resource":"x","name":"{text}"}}{body}}}"#
            );
            let mut found = Found::default();
            with_event(&json, |event| {
                for (number, part) in parts.iter().enumerate() {
                    let ruled_out = needles.rule_out(number, event, 1, &mut found, &mut candidates);
                    let Some((verdict, missing)) = ruled_out else { continue };
                    // What is left out does not hold, or nobody is told that it is unknown.
                    let silent = verdict == Verdict::False || missing == Missing { partial: true, ..Missing::default() };
                    assert!(has(&candidates, number) || silent);
                    assert!(!has(&candidates, number) || missing.dropped, "one search rules out all");
                    let doubt = Doubt::default();
                    let judged = Condition::compile(part).unwrap().judge(event, &doubt);
                    assert_eq!((verdict, missing), (judged, doubt.get()), "{part:?} {json}");
                }
            });
        }
    }

    #[test]
    fn rules_out_all_but_those_with_a_word() {
        let parts: Vec<Expr> =
            (0..TESTS_MIN).map(|n| part("objectRef.name", StrHow::Prefix(format!("n{n}-")), false)).collect();
        let (needles, mut found) = (needles(&parts), Found::default());
        let all = |event: &Event<'_>, number, found: &mut Found| -> (Vec<usize>, Vec<usize>) {
            let mut candidates = vec![u64::MAX];
            let asked = |part: &usize| needles.rule_out(*part, event, number, found, &mut candidates).is_none();
            let asked = (0..TESTS_MIN).filter(asked).collect();
            (asked, (0..TESTS_MIN).filter(|rule| has(&candidates, *rule)).collect())
        };
        for (number, (name, left)) in (1..).zip([("N7-x", vec![7]), ("x", vec![]), ("n7-n17-", vec![7, 17])]) {
            let json = format!(r#"{{"objectRef":{{"name":"{name}"}}}}"#);
            let (asked, candidates) = with_event(&json, |event| all(event, number, &mut found));
            assert_eq!((&asked, &candidates), (&left, &left), "{name}");
        }
    }

    #[test]
    fn what_may_be_told_to_be_unknown_stays_a_candidate() {
        let mut parts: Vec<Expr> =
            (0..TESTS_MIN).map(|n| part("requestObject.a", StrHow::Prefix(format!("n{n}-")), false)).collect();
        parts.push(part("responseObject.b", StrHow::Exact("x".into()), false));
        parts.push(part("verb", StrHow::Exact("patch".into()), false));
        let conditions: Vec<Condition> = parts.iter().map(|part| Condition::compile(part).unwrap()).collect();
        // Rule 0 asks a response as well, rule 1 the verb.
        let mut rules_of: Vec<Vec<u32>> = (0..TESTS_MIN as u32).map(|part| vec![part]).collect();
        rules_of.extend([vec![0], vec![1]]);
        let needles = Needles::new(&parts.iter().collect::<Vec<_>>(), &conditions, &rules_of, 1);
        let mut candidates = vec![0b111];
        with_event(r#"{"level":"Request","verb":"patch","requestObject":{}}"#, |event| {
            let unknown = needles.rule_out(0, event, 1, &mut Found::default(), &mut candidates);
            assert_eq!(unknown, Some((Verdict::Unknown, Missing { partial: true, ..Missing::default() })));
        });
        assert_eq!(candidates, vec![0b001]);
    }

    #[test]
    fn few_tests_or_others_make_no_group() {
        let named = |n: usize| (0..n).map(|n| part("objectRef.name", StrHow::Prefix(format!("n{n}")), false)).collect();
        let groups = |parts: Vec<Expr>| needles(&parts).groups.len();
        assert_eq!(groups(named(TESTS_MIN)), 1);
        assert_eq!(groups(named(TESTS_MIN - 1)), 0);
        // A credential's kind follows from the actor, its id does not.
        let kind = |n: usize| part("k8s.credentialID", StrHow::Prefix(format!("k{n}=")), false);
        let id = |n: usize| part("k8s.credentialID", StrHow::Exact(format!("JTI={n}")), false);
        assert_eq!(groups((0..TESTS_MIN - 1).flat_map(|n| [id(n), kind(n)]).collect()), 0);
        assert_eq!(groups((0..TESTS_MIN).flat_map(|n| [id(n), kind(n)]).collect()), 2);
        // These need no word.
        assert_eq!(groups((0..99).map(|_| part("objectRef.name", StrHow::Exact(String::new()), false)).collect()), 0);
    }
}
