//! Files in, one rule set and every problem of every file out.

use super::correlation::{CorrelationDraft, correlation};
use super::diagnostic::{Diagnostic, Report, did_you_mean};
use super::filter::{FilterDraft, filter};
use super::link::link;
use super::sigma::{self, RuleDraft, rule};
use super::yaml::{self, Node};
use super::{Meta, Placeholders, RuleSet, SourceFile};

/// What a document is.
#[derive(Debug, Clone, PartialEq)]
pub enum Draft {
    /// A rule.
    Rule(RuleDraft),
    /// A correlation.
    Correlation(CorrelationDraft),
    /// A filter.
    Filter(FilterDraft),
    /// A document that is left out.
    Missing(Missing),
}

/// A document that is left out but may be referred to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Its `name`.
    pub name: Option<String>,
    /// Its `id`.
    pub id: Option<String>,
    /// Why, as the end of a sentence: "`x` …".
    pub why: &'static str,
}

/// The kinds of documents by the attribute that makes them so.
const KINDS: [&str; 3] = ["detection", "correlation", "filter"];

/// Loads rules, correlations and filters. All problems of all files are told at once; a document with an error is left out,
/// everything else loads. Files whose name ends in `.test.yml` or `.test.yaml` are ignored.
pub fn load(files: &[SourceFile], placeholders: &Placeholders) -> (RuleSet, Vec<Diagnostic>) {
    let mut drafts = Vec::new();
    let mut diagnostics = Vec::new();
    for file in files.iter().filter(|file| !is_test(&file.name)) {
        let mut report = Report::new(&file.name);
        match yaml::parse(&file.text) {
            Ok(documents) => {
                for document in &documents {
                    drafts.extend(read(document, &file.name, placeholders, &mut report));
                }
            }
            Err(error) => report.error("yaml", error.span, error.message),
        }
        diagnostics.extend(report.into_list());
    }
    let set = link(drafts, &mut diagnostics);
    let order: std::collections::HashMap<&str, usize> =
        files.iter().enumerate().map(|(index, file)| (file.name.as_str(), index)).collect();
    diagnostics.sort_by_key(|diagnostic| (order.get(diagnostic.file.as_str()).copied(), diagnostic.span));
    (set, diagnostics)
}

fn is_test(name: &str) -> bool {
    name.ends_with(".test.yml") || name.ends_with(".test.yaml")
}

/// Reads one document.
fn read(document: &Node, file: &str, placeholders: &Placeholders, report: &mut Report) -> Option<Draft> {
    let Some(entries) = document.as_map() else {
        let message = format!("a rule must be a map, not {}", document.kind());
        report.error("wrong-value", document.span, message);
        return None;
    };
    let missing = |why: &'static str| {
        let text = |key: &str| document.get(key).and_then(Node::as_text).map(str::to_owned);
        Some(Draft::Missing(Missing { name: text("name"), id: text("id"), why }))
    };
    if let Some(entry) = entries.iter().find(|entry| entry.key == "action") {
        let help = "write each rule out in a document of its own; YAML anchors can share parts".to_owned();
        let message = "rule collections (`action: global`, `reset`, `repeat`) were removed from Sigma";
        report.error_help("rule-collection", entry.key_span, message, help);
        return missing("has errors");
    }
    let kinds: Vec<&str> = KINDS.into_iter().filter(|kind| document.get(kind).is_some()).collect();
    let [kind] = kinds.as_slice() else {
        let message = "a document has exactly one of `detection`, `correlation` and `filter`";
        let likely = entries.iter().find_map(|entry| did_you_mean(&entry.key, KINDS));
        report.error_help("unknown-document", document.span, message, likely.filter(|_| kinds.is_empty()));
        return missing("has errors");
    };
    if let Some(why) = sigma::foreign(document).filter(|_| *kind != "correlation") {
        let message = format!("not for Kubernetes audit logs, left out: {why}");
        report.warning("other-log-source", document.span, message);
        return missing("is not for Kubernetes audit logs");
    }
    let errors = report.errors();
    if *kind == "detection" && document.get("logsource").is_none() {
        let help = "add `logsource: {product: kubernetes, service: audit}`".to_owned();
        report.error_help("missing-logsource", document.span, "the rule has no `logsource`", help);
    }
    let meta: Option<Meta> = sigma::meta(document, file, report);
    let draft = match *kind {
        "detection" => rule(document, meta, placeholders, report).map(Draft::Rule),
        "correlation" => correlation(document, meta, report).map(Draft::Correlation),
        _ => filter(document, meta, placeholders, report).map(Draft::Filter),
    };
    draft.filter(|_| report.errors() == errors).or_else(|| missing("has errors"))
}
