//! What a document says about itself, against the specification (v2.1.0) and its appendix of tags.

use super::super::diagnostic::{Report, did_you_mean};
use super::super::sigma::spanned_texts;
use super::super::yaml::{Node, Value};

const STATUS: &[&str] = &["stable", "test", "experimental", "deprecated", "unsupported"];
const RELATIONS: &[&str] = &["derived", "obsolete", "merged", "renamed", "similar", "correlation"];
/// Attributes of documents; anything else is the author's own.
const ATTRIBUTES: &[&str] = &[
    "title",
    "id",
    "ref",
    "name",
    "description",
    "related",
    "taxonomy",
    "status",
    "author",
    "references",
    "date",
    "modified",
    "license",
    "logsource",
    "detection",
    "correlation",
    "filter",
    "fields",
    "falsepositives",
    "level",
    "tags",
    "scope",
    "sigma-version",
    "generate",
];
const TITLE_MAX: usize = 256;

/// Checks the attributes of a document.
pub fn check(document: &Node, report: &mut Report) {
    for entry in document.as_map().unwrap_or_default() {
        match entry.key.as_str() {
            "title" => title(&entry.value, report),
            "status" => word(&entry.value, "unknown-status", "status", STATUS, report),
            "date" | "modified" => date(&entry.key, &entry.value, report),
            "taxonomy" => taxonomy(&entry.value, report),
            "related" => related(&entry.value, report),
            "tags" => tags(document, report),
            key if ATTRIBUTES.contains(&key) => {}
            key => {
                // Authors may add attributes of their own, but hardly ones that look like these.
                if let Some(help) = did_you_mean(key, ATTRIBUTES.iter().copied()) {
                    let message = format!("`{key}` is no attribute of the specification and has no effect");
                    report.warning_help("unknown-attribute", entry.key_span, message, Some(help));
                }
            }
        }
    }
}

fn title(node: &Node, report: &mut Report) {
    let length = node.as_text().map_or(0, |text| text.chars().count());
    if length > TITLE_MAX {
        let message = format!("the title has {length} characters; the specification allows {TITLE_MAX}");
        report.warning("long-title", node.span, message);
    }
}

fn word(node: &Node, code: &'static str, what: &str, words: &[&'static str], report: &mut Report) {
    let text = node.as_text().unwrap_or_default();
    if node.value != Value::Null && !words.contains(&text) {
        let message = format!("unknown {what} `{text}`; there are {}", words.join(", "));
        report.warning_help(code, node.span, message, did_you_mean(text, words.iter().copied()));
    }
}

fn date(key: &str, node: &Node, report: &mut Report) {
    let text = node.as_text().unwrap_or_default();
    if chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok() && text.len() == 10 {
        return;
    }
    // The form of the specification's first version.
    let swapped = text.replace('/', "-");
    let old = chrono::NaiveDate::parse_from_str(&swapped, "%Y-%m-%d").ok();
    let help = old.map(|date| format!("write {}", date.format("%Y-%m-%d")));
    report.warning_help("bad-date", node.span, format!("`{key}: {text}` is no date such as 2026-11-23"), help);
}

fn taxonomy(node: &Node, report: &mut Report) {
    let text = node.as_text().unwrap_or_default();
    if !text.is_empty() && !text.eq_ignore_ascii_case("sigma") {
        let message = format!("the fields are named as in `{text}`; audit events are searched by their own names");
        report.warning("foreign-taxonomy", node.span, message);
    }
}

fn related(node: &Node, report: &mut Report) {
    let Value::List(items) = &node.value else {
        if node.value != Value::Null {
            let message = format!("`related` is a list of `{{id, type}}`, not {}", node.kind());
            report.warning("bad-relation", node.span, message);
        }
        return;
    };
    for item in items {
        let id = item.get("id").and_then(Node::as_text);
        if !id.is_some_and(crate::event::derived::is_uuid) {
            report.warning("bad-relation", item.span, "`related` names another rule by its `id`, a UUID");
        }
        match item.get("type") {
            Some(kind) => word(kind, "bad-relation", "relation", RELATIONS, report),
            None => report.warning("bad-relation", item.span, "the relation has no `type`"),
        }
    }
}

fn tags(document: &Node, report: &mut Report) {
    // What is no list of texts is an error elsewhere.
    let mut unheard = Report::new("");
    for (tag, span) in spanned_texts(document, "tags", &mut unheard) {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
        let fits = tag.chars().all(allowed)
            && tag.split_once('.').is_some_and(|(space, rest)| !space.is_empty() && !rest.is_empty());
        if !fits {
            let message = format!("the tag `{tag}` is not of the form `namespace.name`, in lower case");
            report.warning("bad-tag", span, message);
        }
    }
}
