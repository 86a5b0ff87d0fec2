//! `auditwatch fields`: what rules may ask for.

use std::io::{self, IsTerminal, Write};

use clap::Args;
use serde_json::{Value, json};

use super::exit::Exit;
use crate::event::catalogue::{FIELDS, FieldInfo, Type, VERBS};
use crate::rules::suggest;

/// List the fields that rules may ask for: what they hold, and which audit level logs them.
///
/// Besides the event's own fields there are derived ones, under k8s., which hold what Kubernetes means by an event. Below
/// a body (requestObject, responseObject, k8s.object, k8s.podSpec, k8s.containers) any path may follow.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  auditwatch fields
  auditwatch fields 'k8s.*'
  auditwatch fields address
  auditwatch fields --format json | jq -r '.[] | select(.level != \"Metadata\").name'")]
pub struct FieldsArgs {
    /// A part of the name or of the meaning, or a pattern of the name with *.
    pattern: Option<String>,

    /// Shape of the output.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: FieldsFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FieldsFormat {
    /// A line per field; with values and an example if there are only a few.
    Text,
    /// One JSON array.
    Json,
    /// A Markdown table.
    Markdown,
}

/// So few fields are shown with everything there is to say.
const IN_FULL: usize = 5;
/// Names longer than this have their line to themselves.
const NAME_COLUMNS: usize = 32;

/// Runs the subcommand.
pub fn run(args: &FieldsArgs) -> anyhow::Result<Exit> {
    let found = select(args.pattern.as_deref());
    let mut out = io::stdout().lock();
    match args.format {
        FieldsFormat::Text => text(&mut out, &found)?,
        FieldsFormat::Json => writeln!(out, "{:#}", found.iter().map(|field| as_json(field)).collect::<Value>())?,
        FieldsFormat::Markdown => markdown(&mut out, &found)?,
    }
    out.flush()?;
    if found.is_empty() || io::stdout().is_terminal() {
        let _ = writeln!(io::stderr().lock(), "{}", told(&found, args.pattern.as_deref()));
    }
    Ok(Exit::Done)
}

fn told(found: &[&FieldInfo], pattern: Option<&str>) -> String {
    match (found.len(), pattern) {
        (0, Some(pattern)) => match suggest(pattern, FIELDS.iter().map(|field| field.name)) {
            Some(name) => format!("no field fits; did you mean {name}?"),
            None => "no field fits".to_owned(),
        },
        (1, _) => "1 field".to_owned(),
        (n, _) => format!("{n} fields"),
    }
}

/// The fields that fit: an exact name alone, else those whose name fits, else those whose meaning does.
fn select(pattern: Option<&str>) -> Vec<&'static FieldInfo> {
    let Some(pattern) = pattern else { return FIELDS.iter().collect() };
    let pattern = pattern.to_lowercase();
    let by = |fits: &dyn Fn(&FieldInfo) -> bool| -> Vec<&'static FieldInfo> {
        FIELDS.iter().filter(|field| fits(field)).collect()
    };
    let exact = by(&|field| field.name.to_lowercase() == pattern);
    if !exact.is_empty() {
        return exact;
    }
    if pattern.contains('*') {
        return by(&|field| crate::rules::condition::name_fits(&pattern, &field.name.to_lowercase()));
    }
    let named = by(&|field| field.name.to_lowercase().contains(&pattern));
    if !named.is_empty() {
        return named;
    }
    by(&|field| field.meaning.to_lowercase().contains(&pattern) || field.type_name().contains(&pattern))
}

/// The values that are possible, if they are few.
fn values(field: &FieldInfo) -> Option<Vec<&'static str>> {
    match field.kind {
        Type::Words(words) if words == VERBS => Some(words.iter().copied().filter(|word| !word.is_empty()).collect()),
        Type::Words(words) => Some(words.to_vec()),
        Type::Bool => Some(vec!["true", "false"]),
        _ => None,
    }
}

/// How a rule would ask for it.
fn example(field: &FieldInfo) -> String {
    match field.kind {
        Type::Struct | Type::Map | Type::ListMap | Type::Object => field.example.to_owned(),
        Type::Text | Type::Name | Type::Time if field.example.contains([' ', ':', '"', '=']) => {
            format!("{}: '{}'", field.name, field.example)
        }
        _ => format!("{}: {}", field.name, field.example),
    }
}

fn text(out: &mut dyn Write, found: &[&FieldInfo]) -> io::Result<()> {
    let width = found.iter().map(|field| field.name.len()).filter(|len| *len <= NAME_COLUMNS).max().unwrap_or(0);
    let types = found.iter().map(|field| field.type_name().len()).max().unwrap_or(0);
    for field in found {
        let (name, kind, level) = (field.name, field.type_name(), field.level.as_str());
        if name.len() > width {
            write!(out, "{name}\n{:width$}", "")?;
        } else {
            write!(out, "{name:width$}")?;
        }
        writeln!(out, "  {kind:types$}  {level:15}  {}", field.meaning)?;
        if found.len() <= IN_FULL {
            if let Some(values) = values(field) {
                writeln!(out, "  values: {}", values.join(", "))?;
            }
            writeln!(out, "  example: {}", example(field))?;
        }
    }
    Ok(())
}

fn as_json(field: &FieldInfo) -> Value {
    json!({
        "name": field.name,
        "type": field.kind.as_str(),
        "list": field.many,
        "open": field.kind.is_open(),
        "values": values(field),
        "level": field.level.as_str(),
        "derived": field.derived().is_some(),
        "meaning": field.meaning,
        "example": example(field),
    })
}

fn markdown(out: &mut dyn Write, found: &[&FieldInfo]) -> io::Result<()> {
    writeln!(out, "| field | type | audit level | meaning | example |\n|---|---|---|---|---|")?;
    let cell = |text: &str| text.replace('|', "\\|");
    for field in found {
        let mut meaning = field.meaning.to_owned();
        if let Some(values) = values(field).filter(|_| field.kind != Type::Bool) {
            let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
            meaning += &format!(": {}", values.join(", "));
        }
        let (name, kind, level, example) = (field.name, field.type_name(), field.level.as_str(), example(field));
        writeln!(out, "| `{name}` | {kind} | {level} | {} | `{}` |", cell(&meaning), cell(&example))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_by_name_pattern_and_meaning() {
        let names = |pattern: &str| select(Some(pattern)).iter().map(|field| field.name).collect::<Vec<_>>();
        assert_eq!(names("verb"), ["verb"]);
        assert_eq!(names("USER.username"), ["user.username"]);
        assert!(names("username").len() == 3);
        assert!(names("k8s.*").len() == crate::event::path::DERIVED.len());
        assert!(names("boolean").contains(&"k8s.dryRun"));
        assert!(names("proxy").contains(&"k8s.clientIP"));
        assert_eq!(names("nothing of the kind"), [""; 0]);
        assert_eq!(select(None).len(), FIELDS.len());
        assert!(told(&[], Some("user.name")).contains("user.username"));
    }

    /// Every example is a test of the field that a rule may hold, and that can match.
    #[test]
    fn examples_are_rules() {
        for field in FIELDS {
            let text = format!(
                "title: T\nlogsource: {{product: kubernetes, service: audit}}\ndetection:\n  s:\n    {}\n  condition: s\n",
                example(field)
            );
            let file = crate::rules::SourceFile::new("a.yml", text);
            let (set, problems) = crate::rules::check(std::slice::from_ref(&file), &Default::default());
            assert!(set.rules.len() == 1 && problems.is_empty(), "{}\n{problems:#?}", file.text);
        }
    }

    #[test]
    fn shapes() {
        let write = |write: &dyn Fn(&mut Vec<u8>) -> io::Result<()>| {
            let mut out = Vec::new();
            write(&mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let one = select(Some("k8s.dryRun"));
        let shown = write(&|out| text(out, &one));
        assert!(shown.ends_with("  values: true, false\n  example: k8s.dryRun: false\n"), "{shown}");
        let table = write(&|out| markdown(out, &one));
        assert!(table.lines().count() == 3 && table.contains("| `k8s.dryRun` | boolean | Metadata |"), "{table}");
        assert_eq!(as_json(one[0])["values"], json!(["true", "false"]));
        assert_eq!(write(&|out| text(out, &select(None))).lines().filter(|line| line.contains("example")).count(), 0);
    }
}
