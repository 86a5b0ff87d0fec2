//! The compiled rule set: conditions, index and captures, shared by all workers.
//!
//! A rule's condition is a conjunction of *parts*. Rules share many of them (that a request succeeded, that an exempt
//! controller did not make it), so each part is compiled once, settled once per value of a facet where its fields follow
//! from one, and otherwise judged once per event.

use std::sync::Arc;

use hashbrown::HashMap;

use super::addresses::Addresses;
use super::bodies::{Bodies, Unknown};
use super::branches::Branches;
use super::captures::CaptureTable;
use super::condition::{Condition, Doubt, Verdict};
use super::facets::{Alike, Cache, FACETS, Facet};
use super::index::{Bits, Index, has, ones, set, unset};
use super::needed::Needed;
use super::needles::{Found, Needles};
use super::pods::Pods;
use super::sightings;
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
    /// Per rule: within how many microseconds its matches repeat each other; 0: each is needed.
    pub quanta: Vec<i64>,
    /// All parts of all rules, each once.
    parts: Vec<Condition>,
    /// What parts are made of, as far as facets rule it out.
    branches: Branches,
    /// Per rule its parts, cheap ones first.
    of_rule: Vec<Box<[u32]>>,
    /// What many parts ask of one field.
    needles: Needles,
    /// Per part: its number among those that follow from the pod and the deed.
    of_pod: Vec<Option<u32>>,
    /// What keys each of these needs.
    pod_parts: Vec<Needed>,
    /// The parts that are judged by themselves: no word, pod or alternative is known of them.
    plain: Bits,
    /// Per facet: the parts that have a test of it, with the rules they belong to.
    of_facet: [Vec<PartOfFacet>; FACETS],
    /// What is settled by the bodies that were not logged.
    bodies: Bodies,
    addresses: Addresses,
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
    /// The parts of conditions that the facets settled: they hold; and their alternatives that do not.
    settled: Bits,
    /// In what the event is like others.
    pub alike: Alike,
    cache: Cache,
    pods: Pods,
    /// Per part.
    judged: Vec<Judged>,
    memory: Memory,
}

/// What is remembered while meanings are worked out.
#[derive(Debug, Default)]
struct Memory {
    /// The number of the event at hand.
    event: u64,
    found: Found,
    /// Rules that are no candidates because deeds leave them unknown.
    unknown: Unknown,
}

impl Picture {
    /// Adds to the counts of rules on how many events deeds left them unknown, because bodies were dropped, and begins
    /// anew.
    pub fn tell_unknown(&mut self, of_rule: &mut [u64]) {
        self.memory.unknown.tell(of_rule);
    }
}

/// How a part was judged last.
#[derive(Debug, Clone)]
struct Judged {
    /// On which event, by the last bits of its number; none is 0.
    event: u32,
    verdict: Verdict,
    missing: Missing,
}

const _: () = assert!(size_of::<Judged>() == 8, "there are thousands, and they are looked up for each event");

impl Program {
    /// Compiles a rule set.
    ///
    /// # Errors
    /// The first rule whose regular expression is none, or larger than 1 MiB compiled.
    pub fn compile(rule_set: Arc<RuleSet>) -> Result<Program, CompileError> {
        let Parts { conditions: parts, said, of_rule, .. } = Parts::of(&rule_set)?;
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
        let rules_of = rules_of(&of_rule, parts.len());
        let needles = Needles::new(&said, &parts, &rules_of, index.words());
        let of_facet = Facet::ALL.map(|facet| of_facet(facet, &parts, &rules_of, index.words()));
        let branches = Branches::new(&parts);
        let bodies = Bodies::new(&parts, &rules_of, &stage_rules);
        let addresses = Addresses::new(&parts, &rules_of, (index.words(), branches.words()));
        let quanta = sightings::quanta(&rule_set);
        let mut pod_parts = Vec::new();
        let mut number_of = |part: &Condition| {
            pod_parts.push(Needed::of(part));
            pod_parts.len() as u32 - 1
        };
        let of_pod: Vec<Option<u32>> = parts.iter().map(|part| part.is_of_pod().then(|| number_of(part))).collect();
        let mut plain = vec![0; parts.len().div_ceil(64)];
        let is_plain = |part: &usize| of_pod[*part].is_none() && !needles.concern(*part) && !branches.concern(*part);
        (0..parts.len()).filter(is_plain).for_each(|part| set(&mut plain, part));
        Ok(Program {
            plain,
            pod_parts,
            of_pod,
            needles,
            set: rule_set,
            captures,
            capture_fields,
            quanta,
            parts,
            of_rule,
            of_facet,
            bodies,
            addresses,
            branches,
            index,
            stage_rules,
            all_rules,
        })
    }

    /// Finds the rules that may match the event; `outcome` says whether rules that do not name a stage are judged at all.
    pub fn look_at(&self, event: &Event<'_>, outcome: bool, picture: &mut Picture) {
        // A member that stood there twice has no single place that a facet could be read from.
        if event.has_duplicate_keys() {
            return self.look_at_all(outcome, picture);
        }
        self.begin(picture);
        let Picture { candidates, settled, alike, cache, memory, .. } = picture;
        let (rules, parts) = (self.index.words(), self.branches.words());
        let mut place = |facet| (facet, cache.place(facet, event, |words| self.meaning(facet, event, memory, words)));
        let [deed, actor, place_] = [Facet::Deed, Facet::Actor, Facet::Place].map(&mut place);
        if outcome {
            memory.unknown.count(cache.unknown(deed.1, rules + parts));
        }
        // All facets at once: a bitset is a few words, and each pass over it costs more than what it does.
        let [(one, _), (two, _), (three, _)] = cache.meanings([deed, actor, place_], rules, parts);
        let mut any = 0;
        let narrowed = self.judged_at(outcome).iter().zip(one).zip(two).zip(three);
        for (word, (((stage, one), two), three)) in candidates.iter_mut().zip(narrowed) {
            *word = stage & one & two & three;
            any |= *word;
        }
        if any == 0 {
            return;
        }
        // What rules say of addresses is asked of nearly every event, and leaves little to be asked of most.
        let address = self.addresses.meaning(event);
        if !keep_those_in(candidates, address.0) {
            return;
        }
        let annotations = Facet::Annotations;
        let annotations = cache.place(annotations, event, |words| self.meaning(annotations, event, memory, words));
        *alike = Alike { deed: Some(deed.1.1), actor: Some(actor.1.1), annotations: Some(annotations.1) };
        let all = cache.meanings([deed, actor, place_, (Facet::Annotations, annotations)], rules, parts);
        keep_those_in(candidates, all[3].0);
        let [one, two, three, four] = all.map(|(_, settled)| settled);
        let facets = one.iter().zip(two).zip(three).zip(four).zip(address.1);
        for (word, ((((one, two), three), four), five)) in settled.iter_mut().zip(facets) {
            *word = one | two | three | four | five;
        }
    }

    /// The same without the index: every rule that is judged at all, and nothing settled.
    pub fn look_at_all(&self, outcome: bool, picture: &mut Picture) {
        self.begin(picture);
        picture.alike = Alike::default();
        picture.candidates.copy_from_slice(self.judged_at(outcome));
        picture.settled.fill(0);
    }

    /// The rules that are judged on an event with an outcome, or without.
    fn judged_at(&self, outcome: bool) -> &[u64] {
        if outcome { &self.all_rules } else { &self.stage_rules }
    }

    fn begin(&self, picture: &mut Picture) {
        picture.candidates.resize(self.index.words(), 0);
        picture.settled.resize(self.branches.words(), 0);
        picture.memory.event += 1;
        if picture.memory.event as u32 == 0 {
            // What was judged 2^32 events ago would look like judged now.
            picture.judged.clear();
            picture.memory.event += 1;
        }
        let none = Judged { event: 0, verdict: Verdict::False, missing: Missing::default() };
        picture.judged.resize(self.parts.len(), none);
        picture.pods.begin();
    }

    /// Appends what the event's value of this facet means for every rule.
    fn meaning(&self, facet: Facet, event: &Event<'_>, memory: &mut Memory, words: &mut Vec<u64>) {
        // Whatever is wrong with the text must show when the event is judged, whether its facets were known or not.
        event.of_header(|| self.work_out(facet, event, memory, words));
    }

    fn work_out(&self, facet: Facet, event: &Event<'_>, memory: &mut Memory, words: &mut Vec<u64>) {
        let (mut left, mut settled) = (ones(self.index.words()), vec![0; self.branches.words()]);
        let Memory { event: number, found, unknown } = memory;
        let number = *number;
        self.index.narrow(event, facet, &mut left);
        for PartOfFacet { part, rules } in &self.of_facet[facet as usize] {
            if !rules.any_of(&left) {
                continue;
            }
            let part = *part as usize;
            let ruled_out = self.needles.rule_out(part, event, number, found, &mut left);
            let verdict = match ruled_out {
                Some((verdict, _)) => verdict,
                None => self.branches.settle(part, &self.parts[part], event, facet, &mut settled),
            };
            match verdict {
                Verdict::False => rules.take_from(&mut left),
                Verdict::True => set(&mut settled, part),
                Verdict::Unknown => {}
            }
        }
        let unknown = (facet == Facet::Deed).then(|| {
            let needles = (&self.needles, number, found);
            self.bodies.settle(event, (&self.parts, &self.of_rule), needles, (&mut left, &mut settled), unknown)
        });
        words.extend(left);
        words.extend(settled);
        words.extend(unknown.map(u64::from));
    }

    /// The verdict of one candidate.
    pub fn judge_candidate(&self, rule: usize, event: &Event<'_>, doubt: &Doubt, picture: &mut Picture) -> Verdict {
        let mut verdict = Verdict::True;
        let number = picture.memory.event as u32;
        for &part in &self.of_rule[rule] {
            if has(&picture.settled, part as usize) {
                continue;
            }
            let known = &picture.judged[part as usize];
            let (part_verdict, missing) = if known.event == number {
                (known.verdict, known.missing)
            } else {
                let (verdict, missing) = self.judge_part(part as usize, event, picture);
                picture.judged[part as usize] = Judged { event: number, verdict, missing };
                (verdict, missing)
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

    /// The verdict of one part, and why it is unknown.
    fn judge_part(&self, part: usize, event: &Event<'_>, picture: &mut Picture) -> (Verdict, Missing) {
        if has(&self.plain, part) {
            let doubt = Doubt::default();
            return (self.parts[part].judge(event, &doubt), doubt.get());
        }
        let Picture { pods, alike, candidates, settled, memory, .. } = picture;
        if let Some(ruled_out) = self.needles.rule_out(part, event, memory.event, &mut memory.found, candidates) {
            return ruled_out;
        }
        if let Some(number) = self.of_pod[part]
            && let Some(verdict) = pods.recall(event, alike.deed, number, &self.pod_parts)
        {
            return verdict;
        }
        let doubt = Doubt::default();
        let verdict = self.branches.judge(part, &self.parts[part], event, settled, &doubt);
        let verdict = (verdict, doubt.get());
        if let Some(number) = self.of_pod[part] {
            pods.note(event, alike.deed, number, &self.pod_parts, verdict);
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
struct Parts<'e> {
    conditions: Vec<Condition>,
    said: Vec<&'e Expr>,
    /// Per rule the numbers of its own.
    of_rule: Vec<Box<[u32]>>,
    /// What they were compiled from, by a rough hash: few parts that differ share one.
    known: HashMap<u64, Vec<(&'e Expr, u32)>>,
    /// The numbers of what several rules share.
    shared: HashMap<*const Expr, u32>,
}

impl<'e> Parts<'e> {
    /// The parts of all rules.
    fn of(rules: &'e RuleSet) -> Result<Parts<'e>, CompileError> {
        let mut parts = Parts::default();
        for rule in &rules.rules {
            let numbers = parts.add(&rule.condition).map_err(|source| CompileError {
                file: rule.meta.file.clone(),
                line: rule.meta.span.line,
                title: rule.meta.title.clone(),
                source,
            })?;
            parts.of_rule.push(numbers);
        }
        Ok(parts)
    }

    /// The parts of a rule's condition, cheap ones first.
    fn add(&mut self, condition: &'e Expr) -> Result<Box<[u32]>, regex::Error> {
        let mut flat = Vec::new();
        flatten(condition, &mut flat);
        let mut numbers = Vec::with_capacity(flat.len());
        for part in flat {
            let shared = if let Expr::Not(part) = part { Some(Arc::as_ptr(part)) } else { None };
            if let Some(number) = shared.and_then(|place| self.shared.get(&place)) {
                numbers.push(*number);
                continue;
            }
            let alike = self.known.entry(part.rough_hash()).or_default();
            if let Some((_, number)) = alike.iter().find(|(known, _)| known.says_the_same(part)) {
                numbers.push(*number);
                continue;
            }
            let compiled = Condition::compile(part)?;
            if let Condition::Const(true) = compiled {
                continue;
            }
            let number = self.conditions.len() as u32;
            self.conditions.push(compiled);
            self.said.push(part);
            alike.push((part, number));
            self.shared.extend(shared.map(|place| (place, number)));
            numbers.push(number);
        }
        numbers.sort_by_key(|number| self.conditions[*number as usize].cost());
        numbers.dedup();
        Ok(numbers.into())
    }
}

/// A part that has a test of a facet.
#[derive(Debug)]
struct PartOfFacet {
    part: u32,
    /// The rules that it is a part of.
    rules: RulesOfPart,
}

/// The rules of a part, as what takes less time to go through.
#[derive(Debug)]
enum RulesOfPart {
    Few(Box<[u32]>),
    Many(Bits),
}

impl RulesOfPart {
    fn new(rules: &[u32], words: usize) -> RulesOfPart {
        if rules.len() < words {
            return RulesOfPart::Few(rules.into());
        }
        let mut bits = vec![0; words];
        rules.iter().for_each(|rule| set(&mut bits, *rule as usize));
        RulesOfPart::Many(bits)
    }

    fn any_of(&self, left: &[u64]) -> bool {
        match self {
            RulesOfPart::Few(rules) => rules.iter().any(|rule| has(left, *rule as usize)),
            RulesOfPart::Many(bits) => bits.iter().zip(left).any(|(rules, left)| rules & left != 0),
        }
    }

    fn take_from(&self, left: &mut [u64]) {
        match self {
            RulesOfPart::Few(rules) => rules.iter().for_each(|rule| unset(left, *rule as usize)),
            RulesOfPart::Many(bits) => left.iter_mut().zip(bits).for_each(|(left, rules)| *left &= !rules),
        }
    }
}

/// Takes all other rules away; whether any is left.
fn keep_those_in(candidates: &mut [u64], rules: &[u64]) -> bool {
    let mut any = 0;
    for (word, rules) in candidates.iter_mut().zip(rules) {
        *word &= rules;
        any |= *word;
    }
    any != 0
}

/// Per part the rules that it is a part of.
fn rules_of(of_rule: &[Box<[u32]>], parts: usize) -> Vec<Vec<u32>> {
    let mut rules_of = vec![Vec::new(); parts];
    for (rule, parts) in (0u32..).zip(of_rule) {
        parts.iter().for_each(|part| rules_of[*part as usize].push(rule));
    }
    rules_of
}

/// The parts that have a test of the facet.
fn of_facet(facet: Facet, parts: &[Condition], rules_of: &[Vec<u32>], words: usize) -> Vec<PartOfFacet> {
    let all = (0u32..).zip(parts).zip(rules_of).filter(|((_, part), _)| part.concerns(facet));
    all.map(|((part, _), rules)| PartOfFacet { part, rules: RulesOfPart::new(rules, words) }).collect()
}

/// The parts of nested conjunctions.
fn flatten<'e>(expr: &'e Expr, into: &mut Vec<&'e Expr>) {
    match expr {
        Expr::And(parts) => parts.iter().for_each(|part| flatten(part, into)),
        _ => into.push(expr),
    }
}
