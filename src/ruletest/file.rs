//! Reads a test file: YAML in, complete events and expectations out.

use serde_json::{Map, Value};

use super::events::{Clock, merge, numbered};
use super::verdict::Expect;
use super::{Test, TestError, TestFile};
use crate::config::duration_us;
use crate::rules::Placeholders;
use crate::rules::yaml::{self, Entry, Node, Value as Yaml};

/// Between two events unless `step` says otherwise, in microseconds.
const STEP_US: i64 = 1_000_000;
/// More events than this in one test are a slip of the pen.
const EVENTS_MAX: usize = 100_000;

/// Reads a test file.
///
/// # Errors
/// The first thing that cannot be understood, with its place.
pub fn parse(name: &str, text: &str) -> Result<TestFile, TestError> {
    let (documents, errors) = yaml::parse(text);
    if let Some(error) = errors.into_iter().next() {
        return Err(TestError { line: error.span.line, column: error.span.column, message: error.message });
    }
    let [document] = documents.as_slice() else {
        let message = format!("a test file has one YAML document, not {}", documents.len());
        return Err(TestError { line: 0, column: 0, message });
    };
    known(document, "a test file", &["base", "site", "tests"])?;
    let base = document.get("base").map_or(Value::Null, json);
    if !matches!(base, Value::Null | Value::Object(_)) {
        return Err(wrong(document, "`base` is an event: a map"));
    }
    let site = document.get("site").map(lists).transpose()?.unwrap_or_default();
    let Some(tests) = document.get("tests").and_then(list) else {
        return Err(wrong(document, "there is no list `tests`"));
    };
    let tests = tests.iter().map(|node| test(node, &base, &site)).collect::<Result<_, _>>()?;
    Ok(TestFile { name: name.to_owned(), tests })
}

fn test(node: &Node, base: &Value, site: &Placeholders) -> Result<Test, TestError> {
    known(node, "a test", &["name", "site", "events", "expect"])?;
    let Some(name) = node.get("name").and_then(Node::as_text) else {
        return Err(wrong(node, "the test has no `name`"));
    };
    let Some(written) = node.get("events").and_then(list) else {
        return Err(wrong(node, "the test has no list `events`"));
    };
    let Some(expect) = node.get("expect") else {
        return Err(wrong(node, "the test has no `expect`: fires, silent or {count, level, ref, group}"));
    };
    let mut events = Vec::new();
    let mut clock = Clock::default();
    for one in written {
        event(one, base, &mut clock, &mut events)?;
    }
    let mut site = site.clone();
    site.extend(node.get("site").map(lists).transpose()?.unwrap_or_default());
    Ok(Test { name: name.to_owned(), line: node.span.line, site, events, expect: expectation(expect)? })
}

/// Adds the events that one entry stands for.
fn event(node: &Node, base: &Value, clock: &mut Clock, out: &mut Vec<Value>) -> Result<(), TestError> {
    if node.as_map().is_none() {
        return Err(wrong(node, "an event is a map"));
    }
    let (mut body, mut repeat, mut step, mut after) = (node, 1, STEP_US, 0);
    if let Some(long) = node.get("event") {
        known(node, "an event in its long form", &["event", "repeat", "step", "after"])?;
        body = long;
        if let Some(n) = node.get("repeat") {
            let number = n.as_text().and_then(|text| text.parse().ok());
            repeat = number.ok_or_else(|| wrong(n, "`repeat` is a number"))?;
        }
        let duration = |key: &str, default: i64| match node.get(key) {
            None => Ok(default),
            Some(n) => duration_us(n.as_text().unwrap_or_default()).map_err(|error| wrong(n, &error.to_string())),
        };
        (step, after) = (duration("step", STEP_US)?, duration("after", 0)?);
    }
    if out.len() + repeat > EVENTS_MAX {
        return Err(wrong(node, &format!("a test has at most {EVENTS_MAX} events")));
    }
    let written = json(body);
    clock.pass(after);
    for n in 0..repeat {
        let event = merge(base.clone(), &numbered(&written, n));
        let Value::Object(event) = event else { return Err(wrong(body, "an event is a map")) };
        // The first event of an entry comes one second after the one before it, whatever its own step is.
        let step = if n == 0 { STEP_US } else { step };
        out.push(clock.fill(event, step));
    }
    Ok(())
}

fn expectation(node: &Node) -> Result<Expect, TestError> {
    match node.as_text() {
        Some("fires") => return Ok(Expect { at_least: 1, ..Expect::default() }),
        Some("silent") => return Ok(Expect { exactly: Some(0), ..Expect::default() }),
        _ => {}
    }
    if node.as_map().is_none() {
        return Err(wrong(node, "`expect` is fires, silent or {count, level, ref, group}"));
    }
    known(node, "`expect`", &["count", "level", "ref", "group"])?;
    let mut expect = Expect { at_least: 1, ..Expect::default() };
    if let Some(n) = node.get("count") {
        let count = n.as_text().and_then(|text| text.parse().ok());
        expect.exactly = Some(count.ok_or_else(|| wrong(n, "`count` is a number"))?);
    }
    let text = |key: &str| node.get(key).and_then(Node::as_text).map(str::to_owned);
    (expect.level, expect.reference) = (text("level"), text("ref"));
    const LEVELS: [&str; 5] = ["informational", "low", "medium", "high", "critical"];
    if expect.level.as_ref().is_some_and(|level| !LEVELS.contains(&level.as_str())) {
        return Err(wrong(node, "`level` is informational, low, medium, high or critical"));
    }
    if let Some(group) = node.get("group") {
        let Some(entries) = group.as_map() else { return Err(wrong(group, "`group` is a map")) };
        let pair = |entry: &Entry| (entry.key.clone(), entry.value.as_text().unwrap_or_default().to_owned());
        expect.group = entries.iter().map(pair).collect();
    }
    Ok(expect)
}

fn lists(node: &Node) -> Result<Placeholders, TestError> {
    let Some(entries) = node.as_map() else { return Err(wrong(node, "`site` is a map of lists")) };
    let one = |entry: &Entry| {
        let items = list(&entry.value).ok_or_else(|| wrong(&entry.value, "a site list is a list of strings"))?;
        let texts = items.iter().filter_map(Node::as_text).map(str::to_owned).collect();
        Ok((entry.key.clone(), texts))
    };
    entries.iter().map(one).collect()
}

/// YAML as the JSON that the API server would have written.
fn json(node: &Node) -> Value {
    match &node.value {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => Value::Bool(*value),
        Yaml::Number(number) => match number.integer {
            Some(integer) => integer.into(),
            None => number.value.into(),
        },
        Yaml::Text(text) => Value::String(text.clone()),
        Yaml::List(items) => items.iter().map(json).collect(),
        Yaml::Map(entries) => {
            let members = entries.iter().map(|entry| (entry.key.clone(), json(&entry.value)));
            Value::Object(members.collect::<Map<_, _>>())
        }
    }
}

fn list(node: &Node) -> Option<&[Node]> {
    match &node.value {
        Yaml::List(items) => Some(items),
        _ => None,
    }
}

/// An unknown key is a slip that would make a test say less than it seems to.
fn known(node: &Node, what: &str, keys: &[&str]) -> Result<(), TestError> {
    let Some(entries) = node.as_map() else { return Err(wrong(node, &format!("{what} is a map"))) };
    match entries.iter().find(|entry| !keys.contains(&entry.key.as_str())) {
        None => Ok(()),
        Some(Entry { key, key_span, .. }) => {
            let message = format!("{what} has no `{key}`; it has {}", keys.join(", "));
            Err(TestError { line: key_span.line, column: key_span.column, message })
        }
    }
}

fn wrong(node: &Node, message: &str) -> TestError {
    TestError { line: node.span.line, column: node.span.column, message: message.to_owned() }
}
