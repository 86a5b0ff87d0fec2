//! The schema of the daemon's configuration, made of the types that are read; and a look at a configuration along it, which
//! finds every key that is not known and every value that is none, where serde would stop at the first.

use serde_json::{Map, Value};

use super::run::RunConfig;
use super::values;
use crate::rules::suggest;

/// How deep a schema is followed: it may refer to itself.
const DEPTH_MAX: usize = 16;

/// Something that is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: keys, and numbers of items.
    pub path: Vec<String>,
    /// Whether the key itself is at fault.
    pub at_key: bool,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl Problem {
    /// A problem of the value at a path.
    pub fn at<'p>(path: impl IntoIterator<Item = &'p str>, message: &str) -> Problem {
        let path = path.into_iter().map(str::to_owned).collect();
        Problem { path, at_key: false, message: message.to_owned(), help: None }
    }

    /// A problem of the whole.
    pub fn of_all(message: String) -> Problem {
        Problem { path: Vec::new(), at_key: false, message, help: None }
    }
}

/// The JSON schema.
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(RunConfig).to_value();
    let parts = variants(&schema);
    if let Some(definitions) = schema.get_mut("$defs").and_then(Value::as_object_mut) {
        definitions.iter_mut().filter(|(name, _)| !parts.contains(name)).for_each(|(_, node)| close(node));
    }
    close(&mut schema);
    schema
}

/// Names of definitions that are one of several kinds: they are closed by what they are part of, which knows `type`.
fn variants(schema: &Value) -> Vec<String> {
    let definitions = schema.get("$defs").and_then(Value::as_object).into_iter().flatten();
    let branches = definitions.filter_map(|(_, node)| node.get("oneOf")?.as_array()).flatten();
    let named = branches.filter_map(|branch| branch.get("$ref")?.as_str()?.strip_prefix("#/$defs/").map(str::to_owned));
    named.collect()
}

/// Says of an object whose keys are known that it has no others.
fn close(node: &mut Value) {
    let kinds = node.pointer("/oneOf/0/properties/type").is_some();
    if let Value::Object(map) = node
        && (kinds || map.contains_key("properties"))
    {
        map.insert("unevaluatedProperties".to_owned(), Value::Bool(false));
    }
}

/// A schema at hand, with what it refers to.
#[derive(Debug, Clone)]
pub struct Looked<'s> {
    root: &'s Value,
    node: &'s Value,
}

impl<'s> Looked<'s> {
    /// The whole.
    pub fn new(root: &'s Value) -> Looked<'s> {
        Looked { root, node: root }
    }

    /// What a reference refers to; of an optional value, what it is if it is there.
    fn resolved(&self) -> Looked<'s> {
        let mut node = self.node;
        for _ in 0..DEPTH_MAX {
            let named = node.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix('#'));
            let optional = node.get("anyOf").and_then(Value::as_array).filter(|list| list.len() == 2);
            let inner = match (named, optional) {
                (Some(pointer), _) => self.root.pointer(pointer),
                (None, Some(list)) if list[1].get("type").is_some_and(|is| is == "null") => Some(&list[0]),
                _ => None,
            };
            match inner {
                Some(inner) => node = inner,
                None => break,
            }
        }
        Looked { root: self.root, node }
    }

    /// The kinds of which the value is one, if a `type` key decides: the branches, each with its word.
    pub fn kinds(&self) -> Vec<(&'s str, Looked<'s>)> {
        let node = self.resolved().node;
        let branches = node.get("oneOf").and_then(Value::as_array).into_iter().flatten();
        let tagged = branches.filter_map(|branch| {
            let word = branch.pointer("/properties/type/const").and_then(Value::as_str)?;
            Some((word, Looked { root: self.root, node: branch }))
        });
        tagged.collect()
    }

    /// The keys that an object may have, in their order, of all kinds; and whether each must be there.
    pub fn keys(&self, kind: Option<&str>) -> Vec<(&'s str, Looked<'s>, bool)> {
        let mut found = Vec::new();
        self.resolved().own_keys(&mut found);
        for (word, branch) in self.kinds() {
            if kind.is_none_or(|kind| kind == word) {
                branch.own_keys(&mut found);
                // A variant's own struct stands beside its word.
                branch.resolved().own_keys(&mut found);
            }
        }
        let mut known = std::collections::BTreeSet::new();
        found.retain(|(name, ..)| known.insert(*name));
        found
    }

    fn own_keys(&self, found: &mut Vec<(&'s str, Looked<'s>, bool)>) {
        let required = self.node.get("required").and_then(Value::as_array);
        let needed = |name: &str| required.is_some_and(|list| list.iter().any(|one| one == name));
        let properties = self.node.get("properties").and_then(Value::as_object).into_iter().flatten();
        found.extend(properties.map(|(name, node)| (name.as_str(), Looked { root: self.root, node }, needed(name))));
    }

    /// The items of a list.
    pub fn items(&self) -> Option<Looked<'s>> {
        let node = self.resolved().node.get("items")?;
        Some(Looked { root: self.root, node })
    }

    /// What a map without fixed keys holds.
    fn anything(&self) -> Option<Looked<'s>> {
        let node = self.resolved().node.get("additionalProperties").filter(|node| node.is_object())?;
        Some(Looked { root: self.root, node })
    }

    /// The words of which the value is one, each with its meaning.
    pub fn words(&self) -> Vec<(&'s str, &'s str)> {
        let node = self.resolved().node;
        let plain = node.get("enum").and_then(Value::as_array).into_iter().flatten();
        let plain = plain.filter_map(|word| Some((word.as_str()?, "")));
        let branches = node.get("oneOf").and_then(Value::as_array).into_iter().flatten();
        let told = branches.flat_map(|branch| {
            let meaning = branch.get("description").and_then(Value::as_str).unwrap_or_default();
            let list = branch.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
            list.chain(branch.get("const").and_then(Value::as_str)).map(move |word| (word, meaning))
        });
        plain.chain(told).collect()
    }

    /// What it is for people; text of the type itself if the key has none.
    pub fn description(&self) -> &'s str {
        self.node.get("description").and_then(Value::as_str).unwrap_or_default()
    }

    /// Its default.
    pub fn default(&self) -> Option<&'s Value> {
        self.node.get("default").filter(|value| !value.is_null())
    }

    /// The types a value may have, and the format of a text.
    pub fn types(&self) -> (Vec<&'s str>, &'s str) {
        let own = |node: &'s Value| match node.get("type") {
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(some)) => some.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let node = self.resolved().node;
        (own(node), node.get("format").and_then(Value::as_str).unwrap_or_default())
    }

    fn is_optional(&self) -> bool {
        self.node.get("anyOf").is_some() || self.types().0.contains(&"null")
    }
}

/// Everything that is wrong with a configuration, as far as each value says it by itself.
pub fn check(value: &Value) -> Vec<Problem> {
    let schema = schema();
    let mut found = Vec::new();
    look(&Looked::new(&schema), value, &mut Vec::new(), &mut found);
    found
}

fn look(at: &Looked<'_>, value: &Value, path: &mut Vec<String>, found: &mut Vec<Problem>) {
    let mut wrong = |message: String, help: Option<String>| {
        found.push(Problem { path: path.clone(), at_key: false, message, help });
    };
    if value.is_null() && at.is_optional() || path.len() > DEPTH_MAX {
        return;
    }
    let words: Vec<&str> = at.words().into_iter().map(|(word, _)| word).collect();
    if !words.is_empty() {
        match value.as_str() {
            Some(said) if words.contains(&said) => {}
            said => {
                let help = said.and_then(|said| suggest(said, words.iter().copied()));
                wrong(
                    format!("must be one of {}", words.join(", ")),
                    help.map(|word| format!("did you mean `{word}`?")),
                );
            }
        }
        return;
    }
    let (types, format) = at.types();
    let keys = at.keys(value.get("type").and_then(Value::as_str));
    match value {
        Value::Object(map) if !keys.is_empty() || !at.kinds().is_empty() => object(at, &keys, map, path, found),
        Value::Object(map) if at.anything().is_some() => {
            let inner = at.anything().unwrap_or_else(|| at.clone());
            for (key, value) in map {
                path.push(key.clone());
                look(&inner, value, path, found);
                path.pop();
            }
        }
        Value::Array(list) if types.contains(&"array") => {
            let Some(items) = at.items() else { return };
            for (number, item) in list.iter().enumerate() {
                path.push(number.to_string());
                look(&items, item, path, found);
                path.pop();
            }
        }
        Value::Array(_) | Value::Object(_) | Value::Null if !types.is_empty() || !keys.is_empty() => {
            wrong(format!("must be {}", expected(&types, &keys)), None);
        }
        scalar => {
            let is = match scalar {
                Value::Bool(_) => "boolean",
                Value::Number(number) if number.is_f64() => "number",
                Value::Number(_) => "integer",
                _ => "string",
            };
            if !keys.is_empty() || !types.is_empty() && !types.contains(&is) {
                return wrong(format!("must be {}", expected(&types, &keys)), None);
            }
            let text = scalar.as_str().map_or_else(|| scalar.to_string(), str::to_owned);
            if let Some(Err(error)) = values::check(format, &text) {
                wrong(error.to_string(), None);
            }
        }
    }
}

fn expected(types: &[&str], keys: &[(&str, Looked<'_>, bool)]) -> String {
    let named = types.iter().filter(|name| **name != "null").map(|name| match *name {
        "string" => "a text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        _ => "a map",
    });
    let mut named: Vec<&str> = named.collect();
    if named.is_empty() && !keys.is_empty() {
        named.push("a map");
    }
    named.join(" or ")
}

fn object(
    at: &Looked<'_>,
    keys: &[(&str, Looked<'_>, bool)],
    map: &Map<String, Value>,
    path: &mut Vec<String>,
    found: &mut Vec<Problem>,
) {
    let kinds = at.kinds();
    let kind = map.get("type").and_then(Value::as_str);
    let known_kind = kinds.is_empty() || kinds.iter().any(|(word, _)| Some(*word) == kind);
    for (key, value) in map {
        path.push(key.clone());
        if key == "type" && !kinds.is_empty() {
            if !known_kind {
                let words: Vec<&str> = kinds.iter().map(|(word, _)| *word).collect();
                let nearest = kind.and_then(|kind| suggest(kind, words.iter().copied()));
                let message = format!("must be one of {}", words.join(", "));
                let help = nearest.map(|word| format!("did you mean `{word}`?"));
                found.push(Problem { path: path.clone(), at_key: false, message, help });
            }
        } else if let Some((_, inner, _)) = keys.iter().find(|(name, ..)| name == key) {
            look(inner, value, path, found);
        } else if known_kind {
            let nearest = suggest(key, keys.iter().map(|(name, ..)| *name));
            let help = nearest.map(|name| format!("did you mean `{name}`?"));
            found.push(Problem { path: path.clone(), at_key: true, message: "there is no such key".to_owned(), help });
        }
        path.pop();
    }
    let missing = |name: &str, needed: bool| needed && !map.contains_key(name) && (known_kind || name == "type");
    for (name, ..) in keys.iter().filter(|(name, _, needed)| missing(name, *needed)) {
        path.push((*name).to_owned());
        found.push(Problem { path: path.clone(), at_key: true, message: "is missing".to_owned(), help: None });
        path.pop();
    }
}
