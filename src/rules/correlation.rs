//! Sigma correlation documents (specification v2.1.0, and our own additions to them).

use super::diagnostic::{Report, did_you_mean};
use super::expr::Span;
use super::sigma::{optional_text, spanned_texts};
use super::yaml::{Node, Value};
use super::{CorrelationKind, Meta, threshold};

/// A correlation before its references are resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct CorrelationDraft {
    /// Identity and texts.
    pub meta: Meta,
    /// What is counted.
    pub kind: CorrelationKind,
    /// Names or ids of what feeds it, with their places.
    pub rules: Vec<(String, Span)>,
    /// Fields or aliases.
    pub group_by: Vec<String>,
    /// Aliases.
    pub aliases: Vec<Alias>,
    /// The window, in microseconds.
    pub timespan_us: i64,
    /// See [`super::Correlation::realert_us`].
    pub realert_us: i64,
    /// See [`super::Correlation::suppress_us`].
    pub suppress_us: i64,
    /// See [`super::Correlation::across_clusters`].
    pub across_clusters: bool,
    /// Which of its rules keep their own alerts.
    pub generate: Generate,
}

/// One name for different fields of different rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The name.
    pub name: String,
    /// Where it is written.
    pub span: Span,
    /// Rule, field, and where that is written.
    pub fields: Vec<(String, String, Span)>,
}

/// Which rules keep their own alerts although a correlation refers to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Generate {
    /// None of them (Sigma's default).
    None,
    /// All of them.
    All,
    /// Those named.
    Only(Vec<(String, Span)>),
}

const KEYS: [&str; 12] = [
    "type",
    "rules",
    "group-by",
    "timespan",
    "condition",
    "aliases",
    "generate",
    "realert",
    "suppress",
    "across-clusters",
    "learning",
    "after",
];
/// The most rules of one correlation.
const MAX_RULES: usize = 1000;
const SECOND: i64 = 1_000_000;

/// Reads a correlation document. `None` if anything was wrong, which is then in the report.
pub fn correlation(document: &Node, meta: Option<Meta>, report: &mut Report) -> Option<CorrelationDraft> {
    let section = document.get("correlation")?;
    let Some(entries) = section.as_map() else {
        report.error("wrong-value", section.span, format!("`correlation` must be a map, not {}", section.kind()));
        return None;
    };
    let errors = report.errors();
    for entry in entries.iter().filter(|entry| !KEYS.contains(&entry.key.as_str())) {
        // Only the top level is open to custom attributes; here an unknown one is a misspelt one.
        let message = format!("unknown correlation attribute `{}`", entry.key);
        report.error_help("unknown-attribute", entry.key_span, message, did_you_mean(&entry.key, KEYS));
    }
    let mut rules = spanned_texts(section, "rules", report);
    if rules.is_empty() {
        report.error("missing-rules", section.span, "the correlation refers to no rules");
    }
    if rules.len() > MAX_RULES {
        report.error("too-large", section.span, format!("a correlation refers to at most {MAX_RULES} rules"));
    }
    let kind = threshold::kind(section, &rules, report);
    // What begins a wait feeds the correlation like the rest of its rules.
    rules.extend(spanned_texts(section, "after", report));
    let aliases = aliases(section, report);
    let group_by = spanned_texts(section, "group-by", report).into_iter().map(|(text, _)| text).collect();
    let timespan_us = match section.get("timespan") {
        Some(_) => duration(section, "timespan", 1, report),
        None => {
            report.error("missing-timespan", section.span, "the correlation has no `timespan`");
            None
        }
    };
    let realert_us = duration(section, "realert", 0, report).unwrap_or(3600 * SECOND);
    let suppress_us = duration(section, "suppress", 0, report).unwrap_or(0);
    let across_clusters = flag(section, "across-clusters", report);
    // The specification's text has `generate` at the top level, its schema and its tools in the section.
    let generate = section.get("generate").or_else(|| document.get("generate"));
    let generate = generate.map_or(Some(Generate::None), |node| self::generate(node, report));
    let draft = CorrelationDraft {
        meta: meta?,
        kind: kind?,
        rules,
        group_by,
        aliases,
        timespan_us: timespan_us?,
        realert_us,
        suppress_us,
        across_clusters,
        generate: generate?,
    };
    (report.errors() == errors).then_some(draft)
}

fn flag(section: &Node, key: &str, report: &mut Report) -> bool {
    match section.get(key).map(|node| (&node.value, node.span)) {
        None | Some((Value::Null, _)) => false,
        Some((Value::Bool(flag), _)) => *flag,
        Some((_, span)) => {
            report.error("wrong-value", span, format!("`{key}` takes `true` or `false`"));
            false
        }
    }
}

fn generate(node: &Node, report: &mut Report) -> Option<Generate> {
    match &node.value {
        Value::Null | Value::Bool(false) => Some(Generate::None),
        Value::Bool(true) => Some(Generate::All),
        Value::List(items) => {
            let names = items.iter().map(|item| Some((item.as_text()?.to_owned(), item.span)));
            let names: Option<Vec<_>> = names.collect();
            if names.is_none() {
                report.error("wrong-value", node.span, "`generate` takes `true`, `false` or a list of names");
            }
            names.map(Generate::Only)
        }
        _ => {
            report.error("wrong-value", node.span, "`generate` takes `true`, `false` or a list of names");
            None
        }
    }
}

fn aliases(section: &Node, report: &mut Report) -> Vec<Alias> {
    let Some(node) = section.get("aliases") else { return Vec::new() };
    let Some(entries) = node.as_map() else {
        report.error("wrong-value", node.span, format!("`aliases` must be a map, not {}", node.kind()));
        return Vec::new();
    };
    let mut out = Vec::with_capacity(entries.len());
    for entry in entries {
        let mut fields = Vec::new();
        for inner in entry.value.as_map().unwrap_or_default() {
            match inner.value.as_text() {
                Some(field) => fields.push((inner.key.clone(), field.to_owned(), inner.key_span)),
                None => report.error("wrong-value", inner.value.span, "an alias stands for the name of a field"),
            }
        }
        if entry.value.as_map().is_none_or(<[_]>::is_empty) {
            let message = format!("the alias `{}` must be a map of rule and field", entry.key);
            report.error("wrong-value", entry.value.span, message);
        }
        out.push(Alias { name: entry.key.clone(), span: entry.key_span, fields });
    }
    out
}

/// A time such as `10m` in microseconds. `None` if the key is absent, or wrong, which is then in the report.
pub(super) fn duration(section: &Node, key: &str, least: i64, report: &mut Report) -> Option<i64> {
    let text = optional_text(section, key, report)?;
    let span = section.get(key).map_or(section.span, |node| node.span);
    let found = parse_duration(&text).filter(|length| *length >= least);
    if found.is_none() {
        let message = format!("`{key}: {text}` is no time such as 30s, 10m, 1h or 7d");
        report.error("wrong-value", span, message);
    }
    found
}

/// A number and `s`, `m`, `h`, `d`, `w` or `M` (30 days), up to ten years, in microseconds.
fn parse_duration(text: &str) -> Option<i64> {
    const DAY: i64 = 24 * 3600;
    let text = text.trim();
    let unit = text.chars().next_back()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => DAY,
        'w' => 7 * DAY,
        'M' => 30 * DAY,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let total = digits.parse::<i64>().ok()?.checked_mul(seconds)?;
    (total <= 3660 * DAY).then(|| total * SECOND)
}

#[cfg(test)]
mod tests {
    use super::super::diagnostic::Severity;
    use super::super::expr::Cmp;
    use super::super::{Measure, Needed, Seen};
    use super::*;

    #[test]
    fn reads_durations() {
        let check = |text: &str, seconds: Option<i64>| {
            assert_eq!(parse_duration(text), seconds.map(|seconds| seconds * SECOND), "{text}");
        };
        check("30s", Some(30));
        check("10m", Some(600));
        check("1h", Some(3600));
        check("7d", Some(604_800));
        check("1w", Some(604_800));
        check("1M", Some(2_592_000));
        check("0s", Some(0));
        check("3660d", Some(316_224_000));
        check("3661d", None);
        // Seconds that fit where their microseconds do not.
        check("244444444444h", None);
        check("9223372036854775807s", None);
        check("9223372036854775807m", None);
        check("10", None);
        check("m", None);
        check("-1m", None);
        check("1.5h", None);
        check("1H", None);
        check("10é", None);
        check("99999999999999999999d", None);
        check("9999999d", None);
        check("", None);
    }

    fn read(section: &str) -> Result<CorrelationDraft, String> {
        let (documents, _) = super::super::yaml::parse(&format!("title: T\ncorrelation: {section}\n"));
        let mut report = Report::new("t");
        let meta = super::super::sigma::meta(&documents[0], "t", &mut report);
        let draft = correlation(&documents[0], meta, &mut report);
        let mut problems = report.into_list().into_iter();
        match problems.next() {
            None => Ok(draft.unwrap()),
            Some(first) => {
                assert_eq!(draft.is_some(), first.severity == Severity::Warning);
                Err(format!("{}:{} {} {}", first.span.line, first.span.column, first.code, first.message))
            }
        }
    }

    #[test]
    fn reads_kinds_and_conditions() {
        let check = |text: &str, expected: CorrelationKind| {
            assert_eq!(read(&format!("{{rules: [a, b], timespan: 5m, {text}}}")).unwrap().kind, expected, "{text}");
        };
        use CorrelationKind::*;
        check("type: event_count, condition: {gte: 10}", EventCount(vec![(Cmp::Ge, 10)]));
        check("type: event_count, condition: {gt: 1, lte: 5}", EventCount(vec![(Cmp::Gt, 1), (Cmp::Le, 5)]));
        check("type: event_count, condition: {lt: 3, neq: 0}", EventCount(vec![(Cmp::Lt, 3), (Cmp::Ne, 0)]));
        check("type: value_count, condition: {field: u, eq: 3}", ValueCount(vec![(Cmp::Eq, 3)], vec!["u".into()]));
        check(
            "type: value_count, condition: {gte: 8, field: [u, v]}",
            ValueCount(vec![(Cmp::Ge, 8)], vec!["u".into(), "v".into()]),
        );
        check(
            "type: event_count, condition: {gt: 1, lt: 9, neq: 5}",
            EventCount(vec![(Cmp::Gt, 1), (Cmp::Lt, 9), (Cmp::Ne, 5)]),
        );
        check("type: temporal", Temporal(Needed::All));
        check("type: temporal, condition: {gte: 2}", Temporal(Needed::Count(vec![(Cmp::Ge, 2)])));
        check("type: temporal_ordered, condition: {gt: 1}", TemporalOrdered);
        let u = || vec!["u".to_owned()];
        let more = |cmp, bound| vec![(cmp, bound)];
        check("type: value_sum, condition: {field: u, gt: 1.5}", Numbers(Measure::Sum, more(Cmp::Gt, 1500), u()));
        check("type: value_avg, condition: {field: u, lte: -2}", Numbers(Measure::Avg, more(Cmp::Le, -2000), u()));
        let median = Measure::Percentile(50_000);
        check("type: value_median, condition: {field: u, eq: 0}", Numbers(median, more(Cmp::Eq, 0), u()));
        let percentile = Measure::Percentile(99_900);
        check(
            "type: value_percentile, condition: {field: u, percentile: 99.9, gte: 7}",
            Numbers(percentile, more(Cmp::Ge, 7000), u()),
        );
        let minutes = |minutes: i64| minutes * 60 * SECOND;
        check("type: new_value, condition: {field: u}", NewValue { fields: u(), learning_us: minutes(5) });
        check(
            "type: new_value, condition: {field: u}, learning: 1m",
            NewValue { fields: u(), learning_us: minutes(1) },
        );
        check("type: event_absence", EventAbsence { after: 0 });
        check("type: event_absence, after: [c, d]", EventAbsence { after: 2 });
    }

    #[test]
    fn conditions_over_the_names_of_rules() {
        let check = |condition: &str, expected: Seen| {
            let kind = read(&format!("{{rules: [a, b_1, b_2], timespan: 5m, type: temporal, condition: {condition}}}"))
                .unwrap()
                .kind;
            assert_eq!(kind, CorrelationKind::Temporal(Needed::Seen(expected)), "{condition}");
        };
        use Seen::*;
        check("a", Input(0));
        check("a and not b_1", And(vec![Input(0), Not(Box::new(Input(1)))]));
        check("a and (b_1 or b_2)", And(vec![Input(0), Or(vec![Input(1), Input(2)])]));
        check("1 of b_* and a", And(vec![Or(vec![Input(1), Input(2)]), Input(0)]));
        check("all of them", And(vec![Input(0), Input(1), Input(2)]));
    }

    #[test]
    fn defaults_and_our_own_attributes() {
        let base = "type: temporal, rules: a, timespan: 1h";
        let draft = read(&format!("{{{base}}}")).unwrap();
        let numbers = (draft.timespan_us, draft.realert_us, draft.suppress_us);
        assert_eq!(
            (numbers, draft.across_clusters, draft.generate),
            ((3600 * SECOND, 3600 * SECOND, 0), false, Generate::None)
        );
        let more = "group-by: u, realert: 10m, suppress: 1d, across-clusters: true, generate: true";
        let draft = read(&format!("{{{base}, {more}}}")).unwrap();
        let numbers = (draft.realert_us, draft.suppress_us, draft.across_clusters);
        assert_eq!((numbers, draft.generate), ((600 * SECOND, 86_400 * SECOND, true), Generate::All));
        assert_eq!(draft.group_by, ["u"]);
    }

    #[test]
    fn refuses_with_a_place() {
        let check = |text: &str, expected: &str| {
            let problem = read(text).unwrap_err();
            assert!(problem.starts_with(expected), "{text}: {problem}");
        };
        let base = "rules: a, timespan: 1m";
        check("[a]", "2:14 wrong-value");
        check("{type: temporal, timespan: 1m}", "2:14 missing-rules");
        check("{type: temporal, rules: a}", "2:14 missing-timespan");
        check("{type: temporal, rules: a, timespan: 0s}", "2:51 wrong-value");
        check("{type: temporal, rules: a, timespan: 5}", "2:51 wrong-value");
        check(&format!("{{{base}}}"), "2:14 missing-type");
        check(
            &format!("{{{base}, type: event_cout}}"),
            "2:45 unknown-correlation-type unknown correlation type `event_cout`; supported are event_count, value_count,",
        );
        check(&format!("{{{base}, type: value_sum}}"), "2:14 missing-field");
        check(&format!("{{{base}, type: value_avg, condition: {{gt: 1, field: [u, v]}}}}"), "2:86 wrong-value");
        check(&format!("{{{base}, type: value_percentile, condition: {{gt: 1, field: u}}}}"), "2:14 wrong-value");
        check(
            &format!("{{{base}, type: value_percentile, condition: {{gt: 1, field: u, percentile: 101}}}}"),
            "2:104 wrong-value",
        );
        check(
            &format!("{{{base}, type: value_sum, condition: {{gt: 1, field: u, percentile: 5}}}}"),
            "2:85 unknown-op",
        );
        check(&format!("{{{base}, type: new_value, condition: {{gt: 1, field: u}}}}"), "2:72 wrong-value");
        check(&format!("{{{base}, type: new_value}}"), "2:14 missing-field");
        check(&format!("{{{base}, type: new_value, condition: {{field: u}}, suppress: 1h}}"), "2:89 unknown-attribute");
        check(&format!("{{{base}, type: event_absence, condition: {{gt: 1}}}}"), "2:76 wrong-value");
        check(&format!("{{{base}, type: event_absence, realert: 1h}}"), "2:69 unknown-attribute");
        check(&format!("{{{base}, type: temporal, learning: 1h}}"), "2:65 unknown-attribute");
        check(&format!("{{{base}, type: temporal, after: [b]}}"), "2:62 unknown-attribute");
        check(&format!("{{{base}, type: event_count, condition: {{gt: 5, lt: 3}}}}"), "2:69 always-false");
        check(&format!("{{{base}, type: temporal, suppres: 1h}}"), "2:55 unknown-attribute");
        check(&format!("{{{base}, type: event_count}}"), "2:14 missing-condition");
        check(&format!("{{{base}, type: event_count, condition: 5}}"), "2:69 wrong-value");
        check(&format!("{{{base}, type: event_count, condition: {{}}}}"), "2:69 missing-condition");
        check(&format!("{{{base}, type: event_count, condition: {{gte: x}}}}"), "2:75 wrong-value");
        check(&format!("{{{base}, type: event_count, condition: {{gte: -1}}}}"), "2:75 wrong-value");
        check(&format!("{{{base}, type: event_count, condition: {{gte: 1.5}}}}"), "2:75 wrong-value");
        check(&format!("{{{base}, type: event_count, condition: {{ge: 1}}}}"), "2:70 unknown-operator");
        check(&format!("{{{base}, type: event_count, condition: {{gt: 1, field: u}}}}"), "2:84 wrong-value");
        check(&format!("{{{base}, type: value_count, condition: {{gt: 1}}}}"), "2:69 missing-field");
        check(&format!("{{{base}, type: temporal_ordered, condition: {{gt: 1}}}}"), "2:74 unsupported-condition");
        check(&format!("{{{base}, type: temporal, condition: a and b}}"), "2:66 unknown-rule");
        check(&format!("{{{base}, type: temporal, condition: 1 of b*}}"), "2:66 unknown-rule");
        check(&format!("{{{base}, type: temporal, condition: a and}}"), "2:66 bad-condition");
        check(&format!("{{{base}, type: temporal_ordered, condition: a}}"), "2:74 wrong-value");
        check(&format!("{{{base}, type: event_count, condition: a}}"), "2:69 wrong-value");
        check(&format!("{{{base}, type: temporal, generate: 1}}"), "2:65 wrong-value");
        check(&format!("{{{base}, type: temporal, across-clusters: x}}"), "2:72 wrong-value");
    }
}
