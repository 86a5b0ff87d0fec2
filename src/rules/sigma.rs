//! Sigma rule documents: what they say about themselves, and their detection.

use sha2::{Digest, Sha256};

use super::detection::Reader;
use super::diagnostic::{Report, did_you_mean};
use super::expr::{Expr, Op, Span};
use super::yaml::{Node, Value};
use super::{Level, Meta, Placeholders};
use crate::event::derived::is_uuid;

/// A rule before filters and correlations have had their say.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleDraft {
    /// Identity and texts.
    pub meta: Meta,
    /// The rule's own condition.
    pub condition: Expr,
    /// Whether that condition names `stage`. Filters do not count: an exemption must not change at which stages a rule is
    /// judged.
    pub names_stage: bool,
}

/// Reads a rule document. `None` if anything was wrong, which is then in the report.
pub fn rule(
    document: &Node,
    meta: Option<Meta>,
    placeholders: &Placeholders,
    report: &mut Report,
) -> Option<RuleDraft> {
    let detection = document.get("detection")?;
    let arrays = array_matching(document, report);
    let condition = Reader { placeholders, arrays, report, blocks: Vec::new() }.section(detection, &[]);
    let (meta, condition) = (meta?, condition?);
    let names_stage = names(&condition, "stage", true);
    Some(RuleDraft { meta, condition, names_stage })
}

/// Whether `sigma-version` switches array matching on.
pub fn array_matching(document: &Node, report: &mut Report) -> bool {
    let Some(version) = document.get("sigma-version") else { return false };
    let major = version.as_text().and_then(|text| text.split('.').next()?.trim().parse::<u32>().ok());
    match major {
        Some(major @ 1..=3) => major == 3,
        _ => {
            report.error("unknown-version", version.span, "`sigma-version` must be 1, 2 or 3");
            false
        }
    }
}

/// Whether a test names this field of the event. Inside array blocks fields are relative, only `fieldref` is not.
fn names(expr: &Expr, field: &str, absolute: bool) -> bool {
    match expr {
        Expr::Const(_) => false,
        Expr::And(parts) | Expr::Or(parts) => parts.iter().any(|part| names(part, field, absolute)),
        Expr::Not(part) => names(part, field, absolute),
        Expr::Test(test) => {
            let refers = |op: &Op| matches!(op, Op::FieldRef(other) if other.field == field);
            (absolute && test.field.as_deref() == Some(field)) || test.any_of.iter().any(refers)
        }
        Expr::Each(each) => (absolute && each.field == field) || names(&each.condition, field, false),
    }
}

/// Why a rule is not for Kubernetes audit logs, if it is not.
pub fn foreign(document: &Node) -> Option<String> {
    // SigmaHQ files its Kubernetes audit rules under the category `application`.
    let wanted: [(&str, &[&str]); 3] =
        [("product", &["kubernetes"]), ("service", &["audit"]), ("category", &["application", "audit"])];
    let source = document.get("logsource")?;
    for (key, values) in wanted {
        if let Some(text) = source.get(key).and_then(Node::as_text)
            && !values.iter().any(|value| text.eq_ignore_ascii_case(value))
        {
            return Some(format!("its log source has the {key} `{text}`"));
        }
    }
    None
}

const LEVELS: [(&str, Level); 5] = [
    ("informational", Level::Informational),
    ("low", Level::Low),
    ("medium", Level::Medium),
    ("high", Level::High),
    ("critical", Level::Critical),
];

/// Reads what a document says about itself. `None` if anything was wrong, which is then in the report.
pub fn meta(document: &Node, file: &str, report: &mut Report) -> Option<Meta> {
    let errors = report.errors();
    let text = |key: &str, report: &mut Report| optional_text(document, key, report);
    let title = text("title", report);
    if title.as_deref().is_none_or(|title| title.trim().is_empty()) && report.errors() == errors {
        report.error("missing-title", document.span, "the document has no `title`");
    }
    let title = title.unwrap_or_default();
    let id = match text("id", report) {
        Some(id) if is_uuid(&id) => id,
        Some(id) => {
            let span = document.get("id").map_or(document.span, |node| node.span);
            report.error("invalid-id", span, format!("`{id}` is no UUID"));
            id
        }
        None => uuid_of(&title),
    };
    let level = text("level", report).map_or(Level::Medium, |level| {
        let found = LEVELS.iter().find(|(name, _)| level.eq_ignore_ascii_case(name));
        found.map_or_else(
            || {
                let span = document.get("level").map_or(document.span, |node| node.span);
                let names = LEVELS.map(|(name, _)| name);
                let message = format!("unknown level `{level}`; there are {}", names.join(", "));
                report.error_help("unknown-level", span, message, did_you_mean(&level, names));
                Level::Medium
            },
            |(_, level)| *level,
        )
    });
    let meta = Meta {
        id,
        reference: text("ref", report),
        name: text("name", report),
        title,
        description: text("description", report).unwrap_or_default(),
        level,
        tags: texts(document, "tags", report),
        false_positives: texts(document, "falsepositives", report),
        references: texts(document, "references", report),
        file: file.to_owned(),
        span: document.span,
    };
    (report.errors() == errors).then_some(meta)
}

/// The text under a key; nothing if the key or its value is absent.
pub fn optional_text(document: &Node, key: &str, report: &mut Report) -> Option<String> {
    let node = document.get(key)?;
    match (node.as_text(), &node.value) {
        (Some(text), _) => Some(text.to_owned()),
        (None, Value::Null) => None,
        (None, _) => {
            report.error("wrong-value", node.span, format!("`{key}` must be a text, not {}", node.kind()));
            None
        }
    }
}

/// The texts under a key: a list, or one text for a list of one.
pub fn texts(document: &Node, key: &str, report: &mut Report) -> Vec<String> {
    spanned_texts(document, key, report).into_iter().map(|(text, _)| text).collect()
}

/// The texts under a key with their places.
pub fn spanned_texts(document: &Node, key: &str, report: &mut Report) -> Vec<(String, Span)> {
    let Some(node) = document.get(key) else { return Vec::new() };
    let items = match &node.value {
        Value::Null => return Vec::new(),
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let mut out = Vec::with_capacity(items.len());
    for item in items {
        match item.as_text() {
            Some(text) => out.push((text.to_owned(), item.span)),
            None => {
                let message = format!("`{key}` must be a list of texts; this is {}", item.kind());
                report.error("wrong-value", item.span, message);
            }
        }
    }
    out
}

/// The UUID (version 8) of a rule that brings none: the same title has the same id everywhere and for ever.
pub fn uuid_of(title: &str) -> String {
    let digest = Sha256::digest(title.as_bytes());
    let mut hex = String::with_capacity(36);
    for (index, byte) in digest.iter().take(16).enumerate() {
        let byte = match index {
            6 => byte & 0x0f | 0x80,
            8 => byte & 0x3f | 0x80,
            _ => *byte,
        };
        if matches!(index, 4 | 6 | 8 | 10) {
            hex.push('-');
        }
        hex.extend([byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])));
    }
    hex
}
