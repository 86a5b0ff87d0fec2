//! A configuration in layers: flags over the environment over the file. Every value remembers where it was said.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::schema::{self, Looked, Problem};
use crate::rules::expr::Span;
use crate::rules::yaml::{self, Node};
use crate::rules::{Diagnostic, Severity, suggest};

/// How variables of the environment begin.
const PREFIX: &str = "AUDITWATCH_";
/// Items that a list may be given by flags and the environment.
const ITEMS_MAX: usize = 1000;

/// What flags and the environment say.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// `KEY=VALUE` of each `--set`, in their order.
    pub flags: Vec<String>,
    /// Variables of the environment that begin with `AUDITWATCH_`.
    pub environment: Vec<(String, String)>,
}

impl Layers {
    /// Variables that look like a key that is misspelt; each with the one that may have been meant. Others are somebody
    /// else's: Kubernetes gives every container such variables for a service of this name.
    pub fn doubts(&self) -> Vec<(String, String)> {
        let schema = schema::schema();
        let names = variables(&Looked::new(&schema), "");
        let known = |name: &str| resolve(&Looked::new(&schema), name).is_some() || OTHERS.contains(&name);
        let unknown = self.environment.iter().filter_map(|(name, _)| Some((name, name.strip_prefix(PREFIX)?)));
        let unknown = unknown.filter(|(_, rest)| !known(rest));
        // Without the prefix, in which all agree: a service's variables are far from any key then.
        let doubt = unknown.filter_map(|(name, rest)| {
            let meant = suggest(rest, names.iter().map(|(name, _)| name.as_str()))?;
            let near = rest.len().abs_diff(meant.len()) <= 2;
            near.then(|| (name.clone(), format!("{PREFIX}{meant}")))
        });
        doubt.collect()
    }
}

/// Variables of other subcommands, and of `run` itself.
const OTHERS: &[&str] = &["CONFIG", "LOG_FORMAT", "ADD_RULES", "SITE", "STRICT"];

/// The keys outside of lists, by their variables.
pub fn variables(at: &Looked<'_>, prefix: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (name, inner, _) in at.keys(None) {
        let variable = format!("{prefix}{}", name.to_uppercase());
        let below = if inner.items().is_some() { Vec::new() } else { variables(&inner, &format!("{variable}_")) };
        match below.is_empty() {
            true => found.push((variable, name.to_owned())),
            false => found.extend(below.into_iter().map(|(variable, key)| (variable, format!("{name}.{key}")))),
        }
    }
    found
}

/// The path of a variable without its prefix: names may hold the sign that stands between them.
fn resolve(at: &Looked<'_>, rest: &str) -> Option<Vec<String>> {
    if let Some(items) = at.items() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, below) = (rest[..digits].parse::<usize>().ok()?, rest[digits..].strip_prefix('_'));
        let mut path = vec![number.to_string()];
        match below {
            Some(below) => path.extend(resolve(&items, below)?),
            None if digits < rest.len() => return None,
            None => {}
        }
        return Some(path);
    }
    at.keys(None).into_iter().find_map(|(name, inner, _)| {
        let below = rest.strip_prefix(&*name.to_uppercase())?;
        let mut path = vec![name.to_owned()];
        match below.strip_prefix('_') {
            Some(below) => path.extend(resolve(&inner, below)?),
            None if !below.is_empty() => return None,
            None => {}
        }
        Some(path)
    })
}

/// A configuration that was put together.
#[derive(Debug)]
pub(super) struct Tree {
    value: Value,
    file: String,
    /// Places in the file, of keys and of values, by path.
    places: BTreeMap<Vec<String>, (Span, Span)>,
    /// Where else values were said, by path.
    elsewhere: Vec<(Vec<String>, String)>,
}

impl Tree {
    /// Reads the file and lays the others over it. What cannot be read at all is an error; what is odd comes beside it.
    pub(super) fn read(file: &Path, text: &str, layers: &Layers) -> Result<(Tree, Vec<Diagnostic>), Vec<Diagnostic>> {
        let mut tree = Tree {
            value: Value::Object(Map::new()),
            file: file.display().to_string(),
            places: BTreeMap::new(),
            elsewhere: Vec::new(),
        };
        let (documents, errors) = yaml::parse(text);
        if !errors.is_empty() {
            return Err(errors.into_iter().map(|error| tree.diagnostic("syntax", error.span, error.message)).collect());
        }
        match &documents[..] {
            [] => {}
            [one] if one.as_map().is_some() => tree.value = tree.take(one, &mut Vec::new()),
            [one] => {
                return Err(vec![tree.diagnostic("syntax", one.span, format!("it must be a map, not {}", one.kind()))]);
            }
            [_, second, ..] => {
                return Err(vec![tree.diagnostic("syntax", second.span, "there must be one document".to_owned())]);
            }
        }
        let schema = schema::schema();
        let mut problems = Vec::new();
        for (name, said) in &layers.environment {
            let path = name.strip_prefix(PREFIX).and_then(|rest| resolve(&Looked::new(&schema), rest));
            if let Some(path) = path.filter(|path| path != &["log_format"] || name == "AUDITWATCH_LOG_FORMAT") {
                problems.extend(tree.lay(&schema, path, said, name));
            }
        }
        for flag in &layers.flags {
            let (key, said) = flag.split_once('=').unwrap_or((flag, ""));
            let path = key.split('.').map(str::to_owned).collect();
            problems.extend(tree.lay(&schema, path, said, &format!("--set {key}")));
        }
        Ok((tree, problems))
    }

    pub(super) fn value(&self) -> &Value {
        &self.value
    }

    pub(super) fn into_value(self) -> Value {
        self.value
    }

    /// A node of the file as a value, its places remembered.
    fn take(&mut self, node: &Node, path: &mut Vec<String>) -> Value {
        match &node.value {
            yaml::Value::Null => Value::Null,
            yaml::Value::Bool(is) => Value::Bool(*is),
            yaml::Value::Number(number) => match number.integer {
                Some(whole) => Value::from(whole),
                None => Value::from(number.value),
            },
            yaml::Value::Text(text) => Value::String(text.clone()),
            yaml::Value::List(items) => {
                let mut list = Vec::with_capacity(items.len());
                for (number, item) in items.iter().enumerate() {
                    path.push(number.to_string());
                    self.places.insert(path.clone(), (item.span, item.span));
                    list.push(self.take(item, path));
                    path.pop();
                }
                Value::Array(list)
            }
            yaml::Value::Map(entries) => {
                let mut map = Map::new();
                for entry in entries {
                    path.push(entry.key.clone());
                    self.places.insert(path.clone(), (entry.key_span, entry.value.span));
                    map.insert(entry.key.clone(), self.take(&entry.value, path));
                    path.pop();
                }
                Value::Object(map)
            }
        }
    }

    /// Lays one value over the rest.
    fn lay(&mut self, schema: &Value, path: Vec<String>, said: &str, whence: &str) -> Option<Diagnostic> {
        let problem = |message: String| Some(self_made(whence, message));
        // What must be a text is one, whatever else it looks like: a template looks like a map.
        let value = match is_text(&Looked::new(schema), &path) {
            true => Value::String(said.to_owned()),
            false => match parsed(said) {
                Ok(value) => value,
                Err(why) => return problem(why),
            },
        };
        let mut at = &mut self.value;
        for step in &path {
            at = match at {
                Value::Array(list) => {
                    let Some(number) = step.parse::<usize>().ok().filter(|number| *number <= list.len().min(ITEMS_MAX))
                    else {
                        return problem(format!("{step:?} is not one of the {} items, nor the next one", list.len()));
                    };
                    if number == list.len() {
                        list.push(Value::Null);
                    }
                    &mut list[number]
                }
                other => {
                    if !other.is_object() {
                        // A list that is not there yet is begun by its first item.
                        if step == "0" {
                            *other = Value::Array(vec![Value::Null]);
                            at = &mut other[0];
                            continue;
                        }
                        *other = Value::Object(Map::new());
                    }
                    &mut other[step.as_str()]
                }
            };
        }
        *at = value;
        self.elsewhere.push((path, whence.to_owned()));
        None
    }

    /// A problem with its place.
    pub(super) fn locate(&self, problem: Problem) -> Diagnostic {
        let Problem { path, at_key, message, help } = problem;
        let message = match path.is_empty() {
            true => message,
            false => format!("`{}`: {message}", shown(&path)).replace("`: is missing", "` is missing"),
        };
        let code = if at_key { "unknown-key" } else { "value" };
        let code = if message.ends_with("is missing") { "missing-key" } else { code };
        let said = self.elsewhere.iter().rev().find(|(said, _)| path.starts_with(said));
        if let Some((_, whence)) = said {
            return Diagnostic { code, help, ..self_made(whence, message) };
        }
        let span = (0..=path.len()).rev().find_map(|length| {
            let (key, value) = self.places.get(&path[..length])?;
            Some(if length == path.len() && at_key { *key } else { *value })
        });
        Diagnostic { code, help, ..self.diagnostic(code, span.unwrap_or_default(), message) }
    }

    fn diagnostic(&self, code: &'static str, span: Span, message: String) -> Diagnostic {
        Diagnostic { severity: Severity::Error, code, message, file: self.file.clone(), span, help: None }
    }
}

/// What a flag or a variable says, as YAML.
fn parsed(said: &str) -> Result<Value, String> {
    let (documents, errors) = yaml::parse(said);
    if let Some(error) = errors.first() {
        return Err(format!("{said:?} is no YAML: {}", error.message));
    }
    let mut tree = Tree { value: Value::Null, file: String::new(), places: BTreeMap::new(), elsewhere: Vec::new() };
    Ok(documents.first().map_or(Value::String(said.to_owned()), |node| tree.take(node, &mut Vec::new())))
}

fn self_made(whence: &str, message: String) -> Diagnostic {
    let span = Span::default();
    Diagnostic { severity: Severity::Error, code: "value", message, file: whence.to_owned(), span, help: None }
}

/// Whether the schema wants nothing but a text there.
fn is_text(schema: &Looked<'_>, path: &[String]) -> bool {
    let mut at = schema.clone();
    for step in path {
        let next =
            at.items().or_else(|| at.keys(None).into_iter().find(|(name, ..)| name == step).map(|(_, at, _)| at));
        match next {
            Some(next) => at = next,
            None => return false,
        }
    }
    let types = at.types().0;
    types.contains(&"string") && !types.contains(&"integer")
}

/// A path as people write it: `sinks[0].url`.
fn shown(path: &[String]) -> String {
    let mut out = String::new();
    for step in path {
        match step.parse::<usize>() {
            Ok(number) => out += &format!("[{number}]"),
            Err(_) if out.is_empty() => out += step,
            Err(_) => out += &format!(".{step}"),
        }
    }
    out
}
