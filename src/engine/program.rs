//! The compiled rule set: conditions, index and captures, shared by all workers.
//!
//! A rule's condition is a conjunction of *parts*. Rules share many of them (that a request succeeded, that an exempt
//! controller did not make it), so each part is compiled once, settled once per value of a facet where its fields follow
//! from one, and otherwise judged once per event.

use std::sync::Arc;

use hashbrown::HashMap;

use super::captures::CaptureTable;
use super::condition::{Condition, Doubt, Verdict};
use super::facets::{Cache, FACETS, Facet, Meaning, Place};
use super::index::{Bits, Index, has, ones, set};
use crate::event::path::Field;
use crate::event::view::Event;
use crate::event::walk::Missing;
use crate::rules::{RuleSet, expr::Expr};

/// Everything a worker needs to match events.
#[derive(Debug)]
pub struct Program {
    /// The rules it was made from.
    pub set: Arc<RuleSet>,
    /// What matches carry along.
    pub captures: Arc<CaptureTable>,
    /// The captured fields, resolved; the index is the capture's number.
    pub capture_fields: Vec<Field>,
    /// All parts of all rules, each once.
    parts: Vec<Condition>,
    /// Per rule its parts, cheap ones first.
    of_rule: Vec<Box<[u32]>>,
    /// Per facet: the parts that have a test of it, with the rules they belong to.
    of_facet: [Vec<(u32, Bits)>; FACETS],
    index: Index,
    /// Rules that are judged at any stage, because they name it.
    stage_rules: Bits,
    /// All rules.
    all_rules: Bits,
}

/// A rule that could not be compiled.
#[derive(Debug, thiserror::Error)]
#[error("{file}:{line}: rule `{title}`: {source}; simplify the regular expression")]
pub struct CompileError {
    /// File of the rule.
    pub file: String,
    /// Line of the rule.
    pub line: u32,
    /// Title of the rule.
    pub title: String,
    /// What the regex crate says.
    pub source: regex::Error,
}

/// What is known of the event at hand: candidates, what its facets settled, and the parts judged so far. One per worker.
#[derive(Debug, Default)]
pub struct Picture {
    /// The rules that may hold.
    pub candidates: Bits,
    cache: Cache,
    places: [Option<Place>; FACETS],
    /// Per part: the event it was judged on last, and how.
    judged: Vec<(u64, Verdict, Missing)>,
    event: u64,
}

impl Program {
    /// Compiles a rule set.
    ///
    /// # Errors
    /// The first rule whose regular expression is none, or larger than 1 MiB compiled.
    pub fn compile(rule_set: Arc<RuleSet>) -> Result<Program, CompileError> {
        let mut parts = Parts::default();
        let mut of_rule = Vec::with_capacity(rule_set.rules.len());
        for rule in &rule_set.rules {
            let numbers = parts.add(&rule.condition).map_err(|source| CompileError {
                file: rule.meta.file.clone(),
                line: rule.meta.span.line,
                title: rule.meta.title.clone(),
                source,
            })?;
            of_rule.push(numbers);
        }
        let exprs: Vec<&Expr> = rule_set.rules.iter().map(|rule| &rule.condition).collect();
        let index = Index::new(&exprs);
        let (mut stage_rules, mut all_rules) = (vec![0u64; index.words()], vec![0u64; index.words()]);
        for (rule, spec) in rule_set.rules.iter().enumerate() {
            set(&mut all_rules, rule);
            if spec.names_stage {
                set(&mut stage_rules, rule);
            }
        }
        let captures = Arc::new(CaptureTable::new(&rule_set));
        let capture_fields = captures.fields.iter().map(|field| Field::parse(field)).collect();
        let of_facet = Facet::ALL.map(|facet| parts.of_facet(facet, &of_rule, index.words()));
        let parts = parts.conditions;
        Ok(Program { set: rule_set, captures, capture_fields, parts, of_rule, of_facet, index, stage_rules, all_rules })
    }

    /// Finds the rules that may match the event; `outcome` says whether rules that do not name a stage are judged at all.
    pub fn look_at(&self, event: &Event<'_>, outcome: bool, picture: &mut Picture) {
        self.begin(outcome, picture);
        // A member that stood there twice has no single place that a facet could be read from.
        if event.has_duplicate_keys() {
            return;
        }
        let mut candidates = std::mem::take(&mut picture.candidates);
        for facet in Facet::ALL {
            let place = picture.cache.place(facet, event, |words| self.meaning(facet, event, words));
            picture.places[facet as usize] = Some(place);
            let rules = self.recall(picture, facet as usize, place).rules;
            candidates.iter_mut().zip(rules).for_each(|(word, rules)| *word &= rules);
            if candidates.iter().all(|word| *word == 0) {
                break;
            }
        }
        picture.candidates = candidates;
    }

    fn recall<'m>(&self, picture: &'m Picture, facet: usize, place: Place) -> Meaning<'m> {
        picture.cache.meaning(facet, place, self.index.words(), self.parts.len().div_ceil(64))
    }

    /// The same without the index: every rule that is judged at all, and nothing settled.
    pub fn look_at_all(&self, outcome: bool, picture: &mut Picture) {
        self.begin(outcome, picture);
    }

    fn begin(&self, outcome: bool, picture: &mut Picture) {
        picture.candidates.clear();
        picture.candidates.extend_from_slice(if outcome { &self.all_rules } else { &self.stage_rules });
        picture.places = [None; FACETS];
        picture.event += 1;
        picture.judged.resize(self.parts.len(), (0, Verdict::False, Missing::default()));
    }

    /// Appends what the event's value of this facet means for every rule.
    fn meaning(&self, facet: Facet, event: &Event<'_>, words: &mut Vec<u64>) {
        let (mut left, mut settled) = (ones(self.index.words()), vec![0; self.parts.len().div_ceil(64)]);
        // Whatever is wrong with the text must show when the event is judged, whether its facets were known or not.
        let malformed = event.take_malformed();
        self.index.narrow(event, facet, &mut left);
        for (part, rules) in &self.of_facet[facet as usize] {
            if rules.iter().zip(&left).all(|(rules, left)| rules & left == 0) {
                continue;
            }
            match self.parts[*part as usize].settle(event, facet) {
                Verdict::False => left.iter_mut().zip(rules).for_each(|(left, rules)| *left &= !rules),
                Verdict::True => set(&mut settled, *part as usize),
                Verdict::Unknown => {}
            }
        }
        event.set_malformed(malformed);
        words.extend(left);
        words.extend(settled);
    }

    /// The verdict of one candidate.
    pub fn judge_candidate(&self, rule: usize, event: &Event<'_>, doubt: &Doubt, picture: &mut Picture) -> Verdict {
        let mut verdict = Verdict::True;
        for &part in &self.of_rule[rule] {
            let settled = |(facet, place): (usize, &Option<Place>)| {
                place.is_some_and(|place| has(self.recall(picture, facet, place).settled, part as usize))
            };
            if picture.places.iter().enumerate().any(settled) {
                continue;
            }
            let (at, known, missing) = picture.judged[part as usize];
            let (part_verdict, missing) = if at == picture.event {
                (known, missing)
            } else {
                let fresh = Doubt::default();
                let verdict = self.parts[part as usize].judge(event, &fresh);
                picture.judged[part as usize] = (picture.event, verdict, fresh.get());
                (verdict, fresh.get())
            };
            doubt.set(doubt.get().or(missing));
            match part_verdict {
                Verdict::False => return Verdict::False,
                Verdict::Unknown => verdict = Verdict::Unknown,
                Verdict::True => {}
            }
        }
        verdict
    }

    /// The verdict of one rule, with nothing known.
    pub fn judge(&self, rule: usize, event: &Event<'_>, doubt: &Doubt) -> Verdict {
        let mut verdict = Verdict::True;
        for &part in &self.of_rule[rule] {
            match self.parts[part as usize].judge(event, doubt) {
                Verdict::False => return Verdict::False,
                Verdict::Unknown => verdict = Verdict::Unknown,
                Verdict::True => {}
            }
        }
        verdict
    }
}

/// Parts of conditions while a program is made.
#[derive(Default)]
struct Parts {
    conditions: Vec<Condition>,
    known: HashMap<String, u32>,
}

impl Parts {
    /// The parts of a rule's condition, cheap ones first.
    fn add(&mut self, condition: &Expr) -> Result<Box<[u32]>, regex::Error> {
        let mut flat = Vec::new();
        flatten(condition, &mut flat);
        let mut numbers = Vec::with_capacity(flat.len());
        for part in flat {
            let key = format!("{:?}", part.without_spans());
            let number = match self.known.get(&key) {
                Some(number) => *number,
                None => {
                    self.conditions.push(Condition::compile(part)?);
                    let number = (self.conditions.len() - 1) as u32;
                    self.known.insert(key, number);
                    number
                }
            };
            numbers.push(number);
        }
        numbers.sort_by_key(|number| self.conditions[*number as usize].cost());
        numbers.dedup();
        Ok(numbers.into())
    }

    /// The parts that have a test of the facet, with their rules.
    fn of_facet(&self, facet: Facet, of_rule: &[Box<[u32]>], words: usize) -> Vec<(u32, Bits)> {
        let mut rules_of = vec![vec![0u64; words]; self.conditions.len()];
        for (rule, parts) in of_rule.iter().enumerate() {
            parts.iter().for_each(|part| set(&mut rules_of[*part as usize], rule));
        }
        let all = (0u32..).zip(&self.conditions).zip(rules_of);
        all.filter(|((_, part), _)| part.concerns(facet)).map(|((number, _), rules)| (number, rules)).collect()
    }
}

/// The parts of nested conjunctions.
fn flatten<'e>(expr: &'e Expr, into: &mut Vec<&'e Expr>) {
    match expr {
        Expr::And(parts) => parts.iter().for_each(|part| flatten(part, into)),
        _ => into.push(expr),
    }
}
