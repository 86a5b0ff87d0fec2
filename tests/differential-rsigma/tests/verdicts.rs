//! Thousands of generated rules, each on many events: auditwatch and rsigma-eval 0.23 say the same, or the difference is one
//! of those in `INTENDED`, each with the clause of the specification it follows from.

mod generate;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use auditwatch::event::site::Site;
use auditwatch::rules::{Placeholders, Severity, SourceFile, load};
use auditwatch::ruletest::Bench;
use generate::{Random, Rule, event, rule};
use rsigma_eval::{Engine, JsonEvent};
use serde_json::Value;

/// Where auditwatch differs on purpose: a name, the clause, and whether a rule can tell the two apart by an event (both as
/// text).
type Intended = (&'static str, &'static str, fn(&str, &str) -> bool);

const INTENDED: &[Intended] = &[
    (
        "keys with dots",
        "no clause; annotation and label keys hold dots and rules write them unquoted: at each object the longest key that is \
         a prefix of the rest of the path is taken",
        |rule, _| rule.contains("\"annotations.a.b/c"),
    ),
    (
        "line ends",
        "rules specification, wildcards: `*` stands for any text and `?` for any character, line ends too",
        |rule, event| event.contains("\\n") && (rule.contains('*') || rule.contains('?')),
    ),
    (
        "wildcards at a start or an end",
        "modifiers appendix, startswith and endswith: the value stands at the start or the end, wildcards and all; they look \
         for it anywhere",
        |rule, _| {
            any_test(rule, &|key, value| wild(value) && (key.contains("|startswith") || key.contains("|endswith")))
        },
    ),
    (
        "wildcards behind windash",
        "modifiers appendix, windash: it spells dashes in all ways and says nothing of wildcards, which they take literally",
        |rule, _| any_test(rule, &|key, value| wild(value) && key.contains("|windash")),
    ),
    (
        "keywords in names of members",
        "rules specification, lists: keywords are looked for in the full log message, of which the names are a part",
        |rule, _| any_test(rule, &|key, _| key.starts_with("sel_") || key.starts_with("flt_")),
    ),
    (
        "neq of what is not there",
        "modifiers appendix, neq: it negates the test, and the test of a field that is not there does not hold",
        |rule, _| any_test(rule, &|key, _| key.ends_with("|neq")),
    ),
    (
        "the text 1 as true",
        "rules specification, detection: a boolean is `true` or `false`; they take the texts 1 and 0 for booleans as well",
        |rule, _| any_test(rule, &|_, value| value == "true" || value == "false"),
    ),
    (
        "fieldref to an array",
        "array matching (proposal 212): a plain path across an array means any member, on either side of a fieldref",
        |rule, _| {
            any_test(rule, &|key, value| {
                key.contains("|fieldref")
                    && [key, value].iter().any(|s| s.starts_with("user.groups") || s.starts_with(IMAGE))
            })
        },
    ),
];

/// A field of the members of an array.
const IMAGE: &str = "requestObject.spec.containers.image";

fn wild(value: &str) -> bool {
    value.contains(['*', '?'])
}

/// Whether any test of a rule, by its field with modifiers and one of its values, is such.
fn any_test(rule: &str, such: &dyn Fn(&str, &str) -> bool) -> bool {
    fn walk(key: &str, value: &Value, such: &dyn Fn(&str, &str) -> bool) -> bool {
        match value {
            Value::Object(map) => map.iter().any(|(key, value)| walk(key, value, such)),
            Value::Array(items) => items.iter().any(|item| walk(key, item, such)),
            Value::String(text) => such(key, text),
            other => such(key, &other.to_string()),
        }
    }
    walk("", &serde_json::from_str(rule).unwrap(), such)
}

/// What only auditwatch refuses, on purpose: a part of the message, and why.
const REFUSED: &[(&str, &str)] = &[(
    "too short to be recognized when encoded",
    "modifiers appendix, base64offset: at two of the three offsets nothing of a text of one byte is left to look for, so \
         the test would hold for every value",
)];

const BATCHES: u64 = 120;
const RULES: usize = 50;
const EVENTS: usize = 40;

/// The rules that hold, as (rule, event).
type Verdicts = BTreeSet<(usize, usize)>;

fn ours(rules: &[Rule], events: &[Value]) -> (Verdicts, BTreeMap<usize, String>) {
    let files: Vec<SourceFile> =
        rules.iter().enumerate().map(|(n, rule)| SourceFile::new(format!("{n}"), rule.text(n))).collect();
    let (set, problems) = load(&files, &Placeholders::new());
    let refused = problems.into_iter().filter(|problem| problem.severity == Severity::Error);
    let refused = refused.map(|problem| (problem.file.parse().unwrap(), problem.message)).collect();
    let files: Vec<usize> = set.rules.iter().map(|rule| rule.meta.file.parse().unwrap()).collect();
    let log: String = events.iter().map(|event| format!("{event}\n")).collect();
    let result = Bench::new(Arc::new(set), Site::default()).unwrap().matches(log.into_bytes());
    assert_eq!(result.counts.events, events.len() as u64, "{:?}", result.problems);
    let number = |id: &str| id.trim_start_matches("event-").parse::<usize>().unwrap();
    let held = result.matches.iter().map(|m| (files[m.rule as usize], number(&m.trace.excerpt().audit_id)));
    (held.collect(), refused)
}

fn theirs(rules: &[Rule], events: &[Value]) -> (Verdicts, BTreeMap<usize, String>) {
    let (mut held, mut refused) = (Verdicts::new(), BTreeMap::new());
    for (n, rule) in rules.iter().enumerate() {
        let mut engine = Engine::new();
        let collection = match rsigma_parser::parse_sigma_yaml(&rule.text(n)) {
            Ok(collection) if collection.errors.is_empty() => collection,
            Ok(collection) => {
                refused.insert(n, collection.errors.join("; "));
                continue;
            }
            Err(error) => {
                refused.insert(n, error.to_string());
                continue;
            }
        };
        if let Err(error) = engine.add_collection(&collection) {
            refused.insert(n, error.to_string());
            continue;
        }
        for (place, event) in events.iter().enumerate() {
            if !engine.evaluate(&JsonEvent::borrow(event)).is_empty() {
                held.insert((n, place));
            }
        }
    }
    (held, refused)
}

#[test]
fn verdicts_are_equal() {
    let (mut verdicts, mut positive, mut differences) = (0, 0, Vec::new());
    let mut excused: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..BATCHES {
        let mut random = Random(seed * 7919 + 1);
        let rules: Vec<Rule> = (0..RULES).map(|_| rule(&mut random)).collect();
        let events: Vec<Value> = (0..EVENTS).map(|n| event(&mut random, n)).collect();
        let ((ours, our_refusals), (theirs, their_refusals)) = (ours(&rules, &events), theirs(&rules, &events));
        for (n, rule) in rules.iter().enumerate() {
            if our_refusals.contains_key(&n) != their_refusals.contains_key(&n) {
                let why = our_refusals.get(&n).or(their_refusals.get(&n)).unwrap();
                if our_refusals.contains_key(&n) && REFUSED.iter().any(|(part, _)| why.contains(part)) {
                    continue;
                }
                let who = if our_refusals.contains_key(&n) { "we" } else { "they" };
                differences.push(format!("only {who} refuse: {why}\n{}", rule.text(n)));
                continue;
            }
            verdicts += EVENTS;
            let apart = |event: &usize| ours.contains(&(n, *event)) != theirs.contains(&(n, *event));
            positive += (0..EVENTS).filter(|event| ours.contains(&(n, *event))).count();
            for event in (0..EVENTS).filter(apart) {
                let (text, found) = (rule.text(n), events[event].to_string());
                match INTENDED.iter().find(|(_, _, concerns)| concerns(&text, &found)) {
                    Some((name, _, _)) => *excused.entry(name).or_default() += 1,
                    None => {
                        let said = if ours.contains(&(n, event)) { "we say it holds" } else { "they say it holds" };
                        differences.push(format!("{said}\n{text}{found}"));
                    }
                }
            }
        }
    }
    println!("{verdicts} verdicts, {positive} positive; intended differences: {excused:#?}");
    differences.sort_by_key(String::len);
    let shown: Vec<&String> = differences.iter().take(12).collect();
    assert!(differences.is_empty(), "{} differences, the shortest:\n{shown:#?}", differences.len());
    assert!(verdicts > 200_000 && positive > verdicts / 20, "{verdicts} verdicts, {positive} positive");
}
