//! Files in, one rule set and every problem of every file out.

use super::correlation::{CorrelationDraft, correlation};
use super::diagnostic::{Diagnostic, Report, Severity, did_you_mean};
use super::filter::{FilterDraft, filter};
use super::link::link;
use super::lint;
use super::lint::correlation::Names;
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

/// The most problems told of what documents say about each other.
const MAX_LINKED: usize = 10_000;

/// Loads rules, correlations and filters. All problems of all files are told at once; a document with an error is left out,
/// everything else loads. Files whose name ends in `.test.yml` or `.test.yaml` are ignored.
pub fn load(files: &[SourceFile], placeholders: &Placeholders) -> (RuleSet, Vec<Diagnostic>) {
    put_together(files, placeholders, None)
}

/// The same, and what is odd as well: fields that no event has, values that can never match, and the like.
pub fn check(files: &[SourceFile], placeholders: &Placeholders) -> (RuleSet, Vec<Diagnostic>) {
    put_together(files, placeholders, Some(Names::default()))
}

/// Loads files; with `names`, looks for what is odd.
fn put_together(
    files: &[SourceFile],
    placeholders: &Placeholders,
    mut names: Option<Names>,
) -> (RuleSet, Vec<Diagnostic>) {
    let mut drafts = Vec::new();
    let mut diagnostics = Vec::new();
    for file in files.iter().filter(|file| !is_test(&file.name)) {
        let report = if names.is_some() { Report::linting(&file.name) } else { Report::new(&file.name) };
        let mut report = report.of_known(file.documents.is_some() && names.is_none());
        let (read_now, errors) = match file.documents {
            Some(_) => Default::default(),
            None => yaml::parse(&file.text),
        };
        for error in errors {
            report.error("yaml", error.span, error.message);
        }
        for document in file.documents.as_ref().unwrap_or(&read_now) {
            if let Some(names) = &mut names {
                names.collect(document, &file.name);
            }
            drafts.extend(read(document, &file.name, placeholders, &mut report));
        }
        diagnostics.extend(report.into_list());
    }
    diagnostics.extend(names.into_iter().flat_map(Names::check));
    let mut linked = Vec::new();
    let set = link(drafts, &mut linked);
    let more = linked.len().saturating_sub(MAX_LINKED);
    linked.truncate(MAX_LINKED);
    if let Some(last) = linked.last().filter(|_| more > 0).cloned() {
        let message = format!("{more} more problems with what documents say about each other are not shown");
        linked.push(Diagnostic { code: "too-many-problems", message, help: None, severity: Severity::Error, ..last });
    }
    diagnostics.append(&mut linked);
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
    if report.lints() {
        lint::meta::check(document, report);
    }
    let draft = match *kind {
        "detection" => rule(document, meta, placeholders, report).map(Draft::Rule),
        "correlation" => correlation(document, meta, report).map(Draft::Correlation),
        _ => filter(document, meta, placeholders, report).map(Draft::Filter),
    };
    draft.filter(|_| report.errors() == errors).or_else(|| missing("has errors"))
}

#[cfg(test)]
mod tests {
    use super::super::show::show;
    use super::*;

    const HEAD: &str = "logsource: {product: kubernetes, service: audit}\n";

    fn file(name: &str, text: &str) -> SourceFile {
        SourceFile::new(name, text)
    }

    /// Loads one file and gives its problems as `line:column code`.
    fn problems(text: &str) -> (RuleSet, Vec<String>) {
        let (set, diagnostics) = load(&[file("a.yml", text)], &Placeholders::new());
        let shown = diagnostics.iter().map(|d| format!("{}:{} {}", d.span.line, d.span.column, d.code));
        (set, shown.collect())
    }

    #[test]
    fn reads_what_a_rule_says_about_itself() {
        let (set, problems) = problems(&format!(
            "title: T\nid: 7d1c4f5e-2f3a-4b1c-9d8e-0123456789ab\nref: SEC-001\nname: n\ndescription: |\n  D.\nlevel: High\n\
             status: test\ntags: [a.b]\nfalsepositives: none\nreferences: [x, y]\nown: {{anything: 1}}\n{HEAD}\
             detection: {{s: {{verb: get}}, condition: s}}\n"
        ));
        assert_eq!(problems, [""; 0]);
        let (rule, meta) = (&set.rules[0], &set.rules[0].meta);
        assert_eq!(
            (meta.title.as_str(), meta.description.as_str(), meta.level),
            ("T", "D.\n", super::super::Level::High)
        );
        assert_eq!((meta.reference.as_deref(), meta.name.as_deref()), (Some("SEC-001"), Some("n")));
        assert_eq!((meta.tags.len(), meta.false_positives.len(), meta.references.len()), (1, 1, 2));
        assert_eq!((meta.file.as_str(), meta.span.line, rule.alerts, rule.names_stage), ("a.yml", 1, true, false));
        assert_eq!(show(&rule.condition), "verb 'get'");
    }

    #[test]
    fn a_rule_without_id_has_the_same_one_everywhere() {
        let (set, _) = problems(&format!("title: Some title\n{HEAD}detection: {{s: {{verb: get}}, condition: s}}\n"));
        assert_eq!(set.rules[0].meta.id, "3a03fe5d-7259-8fd8-8618-d621e608e422");
    }

    #[test]
    fn tells_what_is_wrong_with_a_document() {
        let check = |text: &str, expected: &[&str]| {
            let (set, problems) = problems(text);
            assert_eq!(problems, expected, "{text}");
            assert!(set.rules.is_empty() && set.correlations.is_empty(), "{text}");
        };
        let detection = "detection: {s: {verb: get}, condition: s}\n";
        check(&format!("{HEAD}{detection}"), &["1:1 missing-title"]);
        check(&format!("title: T\n{detection}"), &["1:1 missing-logsource"]);
        check(&format!("title: T\nid: 5\nlevel: hgh\n{HEAD}{detection}"), &["2:5 invalid-id", "3:8 unknown-level"]);
        check(&format!("title: [T]\ntags: {{a: b}}\n{HEAD}{detection}"), &["1:8 wrong-value", "2:7 wrong-value"]);
        check(&format!("title: T\nsigma-version: 4\n{HEAD}{detection}"), &["2:16 unknown-version"]);
        check(
            &format!("title: T\n{HEAD}detection: {{s: {{'a[any]': x}}, condition: s}}\n"),
            &["3:17 array-matching-off"],
        );
        check(&format!("title: T\n{HEAD}detecton: {{}}"), &["1:1 unknown-document"]);
        check(&format!("title: T\n{HEAD}{detection}filter: {{}}"), &["1:1 unknown-document"]);
        check("action: global\ntitle: T\n", &["1:1 rule-collection"]);
        check("- a\n- b\n", &["1:1 wrong-value"]);
        check("a: [", &["1:4 yaml"]);
        check(&format!("title: T\nlogsource: {{product: windows}}\n{detection}"), &["1:1 other-log-source"]);
        check(&format!("title: T\nlogsource: {{category: process_creation}}\n{detection}"), &["1:1 other-log-source"]);
        check(
            &format!("title: T\nlogsource: {{product: kubernetes, service: x}}\n{detection}"),
            &["1:1 other-log-source"],
        );
    }

    #[test]
    fn all_problems_are_told_and_the_rest_loads() {
        let good = |title: &str| format!("title: {title}\n{HEAD}detection: {{s: {{verb: get}}, condition: s}}\n");
        let files = [
            file(
                "b.yml",
                &format!("{}---\ntitle: bad\n{HEAD}detection: {{s: {{a|x: 1}}, condition: t}}\n", good("one")),
            ),
            file("x.test.yml", "not: [a rule"),
            file("x.test.yaml", "not: [a rule"),
            file("a.yml", &format!("{}---\na: 1\na: 2\n", good("two"))),
            file("broken.yml", "]"),
        ];
        let (set, diagnostics) = load(&files, &Placeholders::new());
        let codes: Vec<(&str, &str)> = diagnostics.iter().map(|d| (d.file.as_str(), d.code)).collect();
        let expected =
            [("b.yml", "unknown-modifier"), ("b.yml", "unknown-selection"), ("a.yml", "yaml"), ("broken.yml", "yaml")];
        assert_eq!(codes, expected);
        assert_eq!(set.rules.len(), 2);
        assert!(set.rules[0].meta.id < set.rules[1].meta.id);
    }

    #[test]
    fn sees_who_names_the_stage() {
        let check = |selection: &str, expected: bool| {
            let text = format!("title: T\nsigma-version: 3\n{HEAD}detection: {{s: {selection}, condition: not s}}\n");
            let (set, problems) = problems(&text);
            assert_eq!(set.rules.first().map(|rule| rule.names_stage), Some(expected), "{selection}: {problems:?}");
        };
        check("{stage: Panic}", true);
        check("[{a: x}, {stage|neq: Panic}]", true);
        check("{a|fieldref: stage}", true);
        check("{'a[any]': {stage: x}}", false);
        check("{'a[any]': {b|fieldref: stage}}", true);
        check("{objectRef.stage: x, a: stage}", false);
    }

    #[test]
    fn takes_what_sigmahq_writes() {
        let text = "title: Container With A hostPath Mount Created\nid: 402b955c-8fe0-4a8c-b635-622b4ac5f902\nrelated:\n    - \
                    id: 225d8b09-e714-479c-a0e4-55e6f29adf35\n      type: derived\nlogsource:\n    category: application\n    \
                    product: kubernetes\n    service: audit\ndetection:\n    selection:\n        verb: 'create'\n        \
                    objectRef.resource:\n            - 'pods'\n            - 'jobs'\n        hostPath: '*' # Note\n    \
                    condition: selection\nlevel: low\n";
        let (set, problems) = problems(text);
        assert_eq!(problems, [""; 0]);
        assert_eq!(
            show(&set.rules[0].condition),
            "(verb 'create' & objectRef.resource 'pods','jobs' & hostPath glob'<*>')"
        );
    }

    #[test]
    fn many_problems_are_cut_short() {
        let items: String = (0..900).map(|n| format!("  s{n}: {{a|x: 1, b|y: 2}}\n")).collect();
        let (_, problems) = problems(&format!("title: T\n{HEAD}detection:\n{items}  condition: 1 of them\n"));
        assert_eq!(problems.len(), 1001);
        assert!(problems[1000].ends_with("too-many-problems"));
    }

    #[test]
    fn many_unknown_names_are_cut_short() {
        let names: Vec<String> = (0..1000).map(|n| format!("unknown{n}")).collect();
        let correlation = |n: u32| {
            format!("title: c{n}\ncorrelation: {{type: temporal, timespan: 1m, rules: [{}]}}\n---\n", names.join(", "))
        };
        let (_, problems) = problems(&(0..11).map(correlation).collect::<String>());
        assert_eq!(problems.len(), MAX_LINKED + 1);
    }
}
