//! What documents say about each other: names, filters, and which rules keep their own alerts.

use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::chain;
use super::correlation::{CorrelationDraft, Generate};
use super::diagnostic::{Diagnostic, Severity, did_you_mean};
use super::expr::Span;
use super::filter::{FilterDraft, Scope};
use super::load::Draft;
use super::selections::{and, size};
use super::sigma::{RuleDraft, uuid_of};
use super::{Input, Meta, Rule, RuleSet};
use crate::event::derived::is_uuid;

/// The most operators that filters may add to all rules together; what they hold is copied into every rule.
const MAX_FILTERED: usize = 4_000_000;
/// How many unknown names get a suggestion; each costs a look at every known name.
const MAX_SUGGESTIONS: usize = 50;

/// What a name or an id stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A rule, by its place among the sorted rules.
    Rule(usize),
    /// A correlation, by its place among the drafts.
    Correlation(usize),
    /// A filter, which nothing can refer to.
    Filter,
    /// A document that was left out, and why.
    Missing(&'static str),
}

/// Puts the documents together. What cannot be put together is left out and told.
pub fn link(drafts: Vec<Draft>, diagnostics: &mut Vec<Diagnostic>) -> RuleSet {
    let (mut drafts, missing) = unique(drafts, diagnostics);
    // Sorted before anything takes an index.
    drafts.rules.sort_by(|a, b| a.meta.id.cmp(&b.meta.id));
    drafts.filters.sort_by(|a, b| a.meta.id.cmp(&b.meta.id));
    let mut linker = Linker { names: names(&drafts, missing), diagnostics, suggestions: 0 };
    linker.filter(&drafts.filters, &mut drafts.rules);
    let chained = chain::correlations(&drafts.correlations, &mut linker);

    let mut kept: HashMap<Input, bool> = HashMap::new();
    for (correlation, draft) in &chained {
        for (position, input) in correlation.inputs.iter().enumerate() {
            let keeps = match &drafts.correlations[*draft].generate {
                Generate::None => false,
                Generate::All => true,
                Generate::Only(names) => {
                    let target = linker.target(&drafts.correlations[*draft].rules[position].0);
                    names.iter().any(|(name, _)| linker.target(name) == target)
                }
            };
            *kept.entry(*input).or_default() |= keeps;
        }
    }
    let alerts = |input: Input| kept.get(&input).copied().unwrap_or(true);
    let rules = drafts.rules.into_iter().enumerate().map(|(index, draft)| Rule {
        meta: Arc::new(draft.meta),
        condition: draft.condition,
        names_stage: draft.names_stage,
        alerts: alerts(Input::Rule(index)),
    });
    let correlations = chained.into_iter().enumerate().map(|(index, (mut correlation, _))| {
        correlation.alerts = alerts(Input::Correlation(index));
        correlation
    });
    RuleSet { rules: rules.collect(), correlations: correlations.collect() }
}

#[derive(Default)]
struct Drafts {
    rules: Vec<RuleDraft>,
    correlations: Vec<CorrelationDraft>,
    filters: Vec<FilterDraft>,
}

type MissingNames = Vec<(String, &'static str)>;

/// Takes out documents whose id or name is taken. Also the names and ids of all documents that are left out.
fn unique(drafts: Vec<Draft>, diagnostics: &mut Vec<Diagnostic>) -> (Drafts, MissingNames) {
    let mut missing = Vec::new();
    let mut seen: HashMap<String, &Meta> = HashMap::with_capacity(drafts.len());
    let new = drafts.iter().map(|draft| {
        let meta = match draft {
            Draft::Rule(draft) => &draft.meta,
            Draft::Correlation(draft) => &draft.meta,
            Draft::Filter(draft) => &draft.meta,
            Draft::Missing(left_out) => {
                let texts = left_out.name.iter().chain(&left_out.id);
                missing.extend(texts.map(|text| (key(text), left_out.why)));
                return false;
            }
        };
        let texts: SmallVec<[String; 2]> = std::iter::once(&meta.id).chain(&meta.name).map(|text| key(text)).collect();
        if let Some(taken) = texts.iter().find(|text| seen.contains_key(*text)) {
            diagnostics.push(duplicate(meta, taken, seen[taken]));
            missing.extend(texts.into_iter().map(|text| (text, "has errors")));
            return false;
        }
        seen.extend(texts.into_iter().map(|text| (text, meta)));
        true
    });
    let new: Vec<bool> = new.collect();
    drop(seen);
    let mut out = Drafts::default();
    for (draft, _) in drafts.into_iter().zip(new).filter(|(_, new)| *new) {
        match draft {
            Draft::Rule(draft) => out.rules.push(draft),
            Draft::Correlation(draft) => out.correlations.push(draft),
            Draft::Filter(draft) => out.filters.push(draft),
            Draft::Missing(_) => {}
        }
    }
    (out, missing)
}

fn duplicate(meta: &Meta, taken: &str, first: &Meta) -> Diagnostic {
    let what = if taken == key(&meta.id) { "id" } else { "name" };
    let derived = what == "id" && meta.id == uuid_of(&meta.title);
    Diagnostic {
        severity: Severity::Error,
        code: if what == "id" { "duplicate-id" } else { "duplicate-name" },
        message: format!("the {what} `{taken}` is taken by {}:{}:{}", first.file, first.span.line, first.span.column),
        file: meta.file.clone(),
        span: meta.span,
        help: derived.then(|| "two documents without `id` have the same title; give them ids".to_owned()),
    }
}

fn names(drafts: &Drafts, missing: MissingNames) -> HashMap<String, Target> {
    let mut names: HashMap<String, Target> =
        missing.into_iter().map(|(text, why)| (text, Target::Missing(why))).collect();
    let mut add = |meta: &Meta, target: Target| {
        for text in std::iter::once(&meta.id).chain(&meta.name) {
            names.insert(key(text), target);
        }
    };
    for (index, draft) in drafts.rules.iter().enumerate() {
        add(&draft.meta, Target::Rule(index));
    }
    for (index, draft) in drafts.correlations.iter().enumerate() {
        add(&draft.meta, Target::Correlation(index));
    }
    for draft in &drafts.filters {
        add(&draft.meta, Target::Filter);
    }
    names
}

/// Names are compared as written, UUIDs without regard to case.
fn key(text: &str) -> String {
    if is_uuid(text) { text.to_ascii_lowercase() } else { text.to_owned() }
}

/// Resolves names and notes what does not resolve.
pub struct Linker<'a> {
    names: HashMap<String, Target>,
    diagnostics: &'a mut Vec<Diagnostic>,
    suggestions: usize,
}

impl Linker<'_> {
    /// What a name or an id stands for.
    pub fn target(&self, text: &str) -> Option<Target> {
        self.names.get(&key(text)).copied()
    }

    /// Notes a problem of a document.
    pub fn note(
        &mut self,
        severity: Severity,
        code: &'static str,
        (meta, span): (&Meta, Span),
        message: String,
        help: Option<String>,
    ) {
        self.diagnostics.push(Diagnostic { severity, code, message, file: meta.file.clone(), span, help });
    }

    /// Notes an error of a document.
    pub fn error(&mut self, code: &'static str, place: (&Meta, Span), message: String) {
        self.note(Severity::Error, code, place, message, None);
    }

    /// Notes a name that nothing has.
    pub fn unknown(&mut self, severity: Severity, place: (&Meta, Span), text: &str) {
        self.suggestions += 1;
        let help = if self.suggestions > MAX_SUGGESTIONS {
            None
        } else {
            did_you_mean(text, self.names.keys().map(String::as_str))
        };
        self.note(severity, "unknown-rule", place, format!("no rule has the name or id `{text}`"), help);
    }

    /// Adds each filter's condition to the rules it is for.
    fn filter(&mut self, filters: &[FilterDraft], rules: &mut [RuleDraft]) {
        let mut parts: Vec<Vec<usize>> = vec![Vec::new(); rules.len()];
        let mut added = 0;
        for (index, filter) in filters.iter().enumerate() {
            let Some(targets) = self.filtered(filter, rules.len()) else { continue };
            added += size(&filter.condition).saturating_mul(targets.len());
            if added > MAX_FILTERED {
                let message = format!("filters add more than {MAX_FILTERED} tests to all rules together");
                self.error("too-large", (&filter.meta, filter.meta.span), message);
                break;
            }
            for target in targets {
                parts[target].push(index);
            }
        }
        for (rule, indices) in rules.iter_mut().zip(parts) {
            if !indices.is_empty() {
                let own = std::mem::replace(&mut rule.condition, super::expr::Expr::Const(true));
                let added = indices.into_iter().map(|index| filters[index].condition.clone());
                rule.condition = and(std::iter::once(own).chain(added).collect());
            }
        }
    }

    /// The rules that a filter is for; `None` if the filter has errors, which are then told.
    fn filtered(&mut self, filter: &FilterDraft, rules: usize) -> Option<Vec<usize>> {
        let Scope::Named(named) = &filter.rules else { return Some((0..rules).collect()) };
        let mut targets = Vec::with_capacity(named.len());
        let mut unknown = Vec::new();
        let mut failed = false;
        for (text, span) in named {
            let place = (&filter.meta, *span);
            match self.target(text) {
                Some(Target::Rule(index)) => targets.push(index),
                // The rule is out, and its own error or warning says so; there is nothing left to filter.
                Some(Target::Missing(_)) => {}
                Some(Target::Correlation(_)) => {
                    self.error(
                        "filter-on-correlation",
                        place,
                        format!("`{text}` is a correlation; filters are for rules"),
                    );
                    failed = true;
                }
                Some(Target::Filter) => {
                    self.error("unknown-rule", place, format!("`{text}` is a filter, not a rule"));
                    failed = true;
                }
                None => unknown.push((text, *span)),
            }
        }
        // A filter for built-in rules, when the user's rules replaced them, is no mistake.
        let all_unknown = unknown.len() == named.len();
        let severity = if all_unknown { Severity::Warning } else { Severity::Error };
        failed |= !unknown.is_empty();
        for (text, span) in unknown {
            self.unknown(severity, (&filter.meta, span), text);
        }
        targets.sort_unstable();
        targets.dedup();
        (!failed).then_some(targets)
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::load;
    use super::super::show::show;
    use super::super::{Placeholders, SourceFile};
    use super::*;

    const HEAD: &str = "logsource: {product: kubernetes, service: audit}\n";

    fn rule(name: &str) -> String {
        format!("title: {name}\nname: {name}\n{HEAD}detection: {{s: {{v: {name}}}, condition: s}}\n---\n")
    }

    fn id(digit: u32) -> String {
        format!("0000000{digit}-0000-4000-8000-00000000000a")
    }

    fn run(text: &str) -> (RuleSet, Vec<String>) {
        let (set, diagnostics) = load(&[SourceFile::new("a", text)], &Placeholders::new());
        (set, diagnostics.iter().map(|d| format!("{} {} {}", d.severity.as_str(), d.code, d.message)).collect())
    }

    #[test]
    fn filters_are_added_to_the_rules_they_name() {
        let check = |rules: &str, expected: &[&str], problem: Option<&str>| {
            let filter = format!("title: f\n{HEAD}filter: {{rules: {rules}, s: {{u: x}}, condition: not s}}\n");
            let (set, problems) = run(&(rule("a") + &rule("b") + &filter));
            let mut shown: Vec<String> = set.rules.iter().map(|rule| show(&rule.condition)).collect();
            shown.sort();
            assert_eq!(shown, expected, "{rules}");
            assert_eq!(
                problems.first().map(|text| text.starts_with(problem.unwrap_or("-"))),
                problem.map(|_| true),
                "{problems:?}"
            );
        };
        check("[a]", &["(v 'a' & !u 'x')", "v 'b'"], None);
        check("b", &["(v 'b' & !u 'x')", "v 'a'"], None);
        check("any", &["(v 'a' & !u 'x')", "(v 'b' & !u 'x')"], None);
        check("[a, a, b]", &["(v 'a' & !u 'x')", "(v 'b' & !u 'x')"], None);
        check("[a, c]", &["v 'a'", "v 'b'"], Some("error unknown-rule"));
        check("[c, d]", &["v 'a'", "v 'b'"], Some("warning unknown-rule"));
        check("[f]", &["v 'a'", "v 'b'"], Some("warning unknown-rule"));
        check("[]", &["v 'a'", "v 'b'"], Some("error missing-rules"));
        check("[[a]]", &["v 'a'", "v 'b'"], Some("error wrong-value"));
    }

    #[test]
    fn filters_are_not_for_correlations_and_do_not_name_the_stage() {
        let correlation =
            "title: k\nname: k\ncorrelation: {type: event_count, rules: a, timespan: 1m, condition: {gte: 2}}\n---\n";
        let filter =
            |rules: &str| format!("title: f\n{HEAD}filter: {{rules: {rules}, s: {{stage: x}}, condition: not s}}\n");
        let (set, problems) = run(&(rule("a") + correlation + &filter("[a, k]")));
        assert!(problems[0].starts_with("error filter-on-correlation"), "{problems:?}");
        assert_eq!(show(&set.rules[0].condition), "v 'a'");
        let (set, problems) = run(&(rule("a") + &filter("any")));
        assert_eq!((problems.len(), set.rules[0].names_stage), (0, false));
    }

    #[test]
    fn filters_that_add_too_much_are_refused() {
        let values = vec!["x"; 100_000].join(",");
        let rules: String = (0..50).map(|n| rule(&format!("r{n}"))).collect();
        let (_, problems) =
            run(&format!("{rules}title: f\n{HEAD}filter: {{rules: any, s: {{u: [{values}]}}, condition: not s}}\n"));
        assert!(problems[0].starts_with("error too-large"), "{problems:?}");
    }

    #[test]
    fn ids_and_names_are_unique() {
        let with_id = |title: &str, id: &str| format!("id: {id}\n{}", rule(title));
        let check = |text: String, rules: usize, expected: &str| {
            let (set, problems) = run(&text);
            assert_eq!(set.rules.len(), rules);
            assert!(problems.len() == 1 && problems[0].starts_with(expected), "{problems:?}");
        };
        check(with_id("a", &id(1)) + &with_id("b", &id(1).to_uppercase()), 1, "error duplicate-id");
        check(rule("a") + &with_id("a", &id(1)), 1, "error duplicate-name");
        check(rule("a") + &rule("a"), 1, "error duplicate-id");
    }

    #[test]
    fn correlations_silence_what_they_use_unless_one_keeps_it() {
        let check = |correlations: &[(&str, &str)], silent: &[&str]| {
            let text: String = correlations
                .iter()
                .enumerate()
                .map(|(n, (rules, generate))| {
                    format!(
                        "title: c{n}\nname: c{n}\ncorrelation: {{type: temporal, rules: {rules}, timespan: 1m{generate}}}\n---\n"
                    )
                })
                .collect();
            let (set, problems) = run(&(rule("a") + &rule("b") + &text));
            assert_eq!(problems, [""; 0], "{correlations:?}");
            let rules = set.rules.iter().filter(|rule| !rule.alerts).map(|rule| &rule.meta.title);
            let chained = set.correlations.iter().filter(|c| !c.alerts).map(|c| &c.meta.title);
            let mut found: Vec<&String> = rules.chain(chained).collect();
            found.sort();
            assert_eq!(found, silent, "{correlations:?}");
        };
        check(&[], &[]);
        check(&[("[a]", "")], &["a"]);
        check(&[("[a]", ", generate: true")], &[]);
        check(&[("[a, b]", ", generate: [b]")], &["a"]);
        check(&[("[a, b]", ""), ("[b]", ", generate: true")], &["a"]);
        check(&[("[a, b]", ", generate: [a]"), ("[b]", ", generate: false")], &["b"]);
        check(&[("[c1, b]", ""), ("[a]", ", generate: true")], &["b", "c1"]);
    }
}
