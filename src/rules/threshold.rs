//! What a correlation counts, and its `condition`: bounds, or for temporal correlations which rules have to be there.

use super::correlation::duration;
use super::diagnostic::{Report, did_you_mean};
use super::expr::{Cmp, Span};
use super::sigma::{optional_text, spanned_texts};
use super::yaml::{Entry, Node, Value};
use super::{CorrelationKind, Measure, Needed, Seen, condition};

const TYPES: [&str; 10] = [
    "event_count",
    "value_count",
    "value_sum",
    "value_avg",
    "value_median",
    "value_percentile",
    "temporal",
    "temporal_ordered",
    "new_value",
    "event_absence",
];
const OPERATORS: [(&str, Cmp); 6] =
    [("gt", Cmp::Gt), ("gte", Cmp::Ge), ("lt", Cmp::Lt), ("lte", Cmp::Le), ("eq", Cmp::Eq), ("neq", Cmp::Ne)];
/// Attributes of one type only.
const OWN: [(&str, &str); 2] = [("learning", "new_value"), ("after", "event_absence")];
/// Attributes that mean nothing to our own types: what is new is told once, and so is a silence.
const TOLD_ONCE: [&str; 2] = ["realert", "suppress"];
/// Bounds of measures, and what they measure, are in thousandths.
const THOUSAND: f64 = 1000.0;
/// The largest number that is exact in thousandths.
const NUMBER_MAX: f64 = 9e12;

/// Reads the type with its condition. `None` if anything was wrong, which is then in the report.
pub fn kind(section: &Node, rules: &[(String, Span)], report: &mut Report) -> Option<CorrelationKind> {
    let Some(name) = optional_text(section, "type", report) else {
        let message = format!("the correlation has no `type`; there are {}", TYPES.join(", "));
        report.error("missing-type", section.span, message);
        return None;
    };
    let span = section.get("type").map_or(section.span, |node| node.span);
    if !TYPES.contains(&name.as_str()) {
        let message = format!("unknown correlation type `{name}`; supported are {}", TYPES.join(", "));
        report.error_help("unknown-correlation-type", span, message, did_you_mean(&name, TYPES));
        return None;
    }
    own_attributes(section, &name, report);
    if let Some(node) = section.get("condition").filter(|node| node.as_text().is_some()) {
        return sequence(&name, node, rules, report);
    }
    let condition = Count::read(section, &name, report)?;
    match name.as_str() {
        "event_count" => {
            let count = condition.without_field(&name, report).required(section, report)?;
            Some(CorrelationKind::EventCount(count.whole(report)?))
        }
        "value_count" => {
            let count = condition.with_field(&name, section, report).required(section, report)?;
            Some(CorrelationKind::ValueCount(count.whole(report)?, count.names()))
        }
        "value_sum" => condition.measured(Measure::Sum, &name, section, report),
        "value_avg" => condition.measured(Measure::Avg, &name, section, report),
        "value_median" => condition.measured(Measure::Percentile(50_000), &name, section, report),
        "value_percentile" => {
            let percentile = percentile(section, report)?;
            condition.measured(Measure::Percentile(percentile), &name, section, report)
        }
        "temporal" => {
            let count = condition.without_field(&name, report);
            let bounds = count.whole(report)?;
            Some(CorrelationKind::Temporal(if bounds.is_empty() { Needed::All } else { Needed::Count(bounds) }))
        }
        "temporal_ordered" => {
            condition.all_of(rules.len() as i64, report);
            Some(CorrelationKind::TemporalOrdered)
        }
        "new_value" => {
            let count = condition.with_field(&name, section, report).without_bounds(&name, report);
            let learning_us = match section.get("learning") {
                Some(_) => duration(section, "learning", 0, report)?,
                None => duration(section, "timespan", 1, report)?,
            };
            Some(CorrelationKind::NewValue { fields: count.names(), learning_us })
        }
        _ => {
            condition.without_field(&name, report).without_bounds(&name, report);
            Some(CorrelationKind::EventAbsence { after: spanned_texts(section, "after", report).len() })
        }
    }
}

/// Refuses attributes that have no effect on this type.
fn own_attributes(section: &Node, name: &str, report: &mut Report) {
    for (key, owner) in OWN {
        if let Some(node) = section.get(key).filter(|_| name != owner) {
            report.error("unknown-attribute", node.span, format!("`{key}` belongs to `{owner}`, not to `{name}`"));
        }
    }
    for key in TOLD_ONCE {
        if let Some(node) = section.get(key).filter(|_| OWN.iter().any(|(_, owner)| *owner == name)) {
            let message = format!("`{key}` has no effect on `{name}`, which tells each thing once");
            report.error("unknown-attribute", node.span, message);
        }
    }
}

/// A boolean condition over the names of a temporal correlation's rules.
fn sequence(name: &str, node: &Node, rules: &[(String, Span)], report: &mut Report) -> Option<CorrelationKind> {
    let text = node.as_text().unwrap_or_default();
    if name != "temporal" {
        let message = match name {
            "temporal_ordered" => "a sequence needs all of its rules; a condition over their names is for `temporal`",
            _ => "the condition must be a map such as `{gte: 10}`",
        };
        report.error("wrong-value", node.span, message);
        return None;
    }
    let problem = match condition::parse(text) {
        Ok(parsed) => match seen(&parsed, rules) {
            Ok(seen) => return Some(CorrelationKind::Temporal(Needed::Seen(seen))),
            Err(unknown) => {
                let message = format!("the condition names `{unknown}`, which is not among the correlation's `rules`");
                let help = did_you_mean(&unknown, rules.iter().map(|(rule, _)| rule.as_str()));
                report.error_help("unknown-rule", node.span, message, help);
                return None;
            }
        },
        Err(problem) => problem,
    };
    report.error_help("bad-condition", node.span, problem.message, problem.help.map(str::to_owned));
    None
}

/// The condition with places for names; the name that is unknown if there is one.
fn seen(parsed: &condition::Condition, rules: &[(String, Span)]) -> Result<Seen, String> {
    use condition::Condition;
    let all = |parts: &[Condition]| parts.iter().map(|part| seen(part, rules)).collect::<Result<Vec<_>, _>>();
    Ok(match parsed {
        Condition::Name(name, _) => {
            let place = rules.iter().position(|(rule, _)| rule == name);
            Seen::Input(place.ok_or_else(|| name.clone())?)
        }
        Condition::Of { all, pattern, .. } => {
            let fits = |rule: &str| pattern.as_ref().is_none_or(|pattern| condition::name_fits(pattern, rule));
            let places: Vec<Seen> = (0..rules.len()).filter(|place| fits(&rules[*place].0)).map(Seen::Input).collect();
            match (places.is_empty(), all) {
                (true, _) => return Err(pattern.clone().unwrap_or_default()),
                (false, true) => Seen::And(places),
                (false, false) => Seen::Or(places),
            }
        }
        Condition::And(parts) => Seen::And(all(parts)?),
        Condition::Or(parts) => Seen::Or(all(parts)?),
        Condition::Not(part) => Seen::Not(Box::new(seen(part, rules)?)),
    })
}

/// The `percentile` of a condition, in thousandths of a percent.
fn percentile(section: &Node, report: &mut Report) -> Option<u32> {
    let node = section.get("condition").and_then(|condition| condition.get("percentile"));
    match node.map(|node| (&node.value, node.span)) {
        Some((Value::Number(number), _)) if (0.0..=100.0).contains(&number.value) => {
            Some((number.value * THOUSAND).round() as u32)
        }
        found => {
            let span = found.map_or(section.span, |(_, span)| span);
            let message = "`value_percentile` needs a `percentile` from 0 to 100 in its condition";
            report.error("wrong-value", span, message);
            None
        }
    }
}

/// A condition that is a map.
#[derive(Default)]
struct Count {
    bounds: Vec<(Cmp, Bound)>,
    fields: Vec<(String, Span)>,
    span: Span,
}

/// A number that something is compared with.
struct Bound {
    name: String,
    whole: Option<i64>,
    thousandths: i64,
    span: Span,
}

impl Count {
    /// `None` if anything was wrong; without bounds if there is no condition.
    fn read(section: &Node, kind: &str, report: &mut Report) -> Option<Count> {
        let Some(node) = section.get("condition") else { return Some(Count::default()) };
        let Some(entries) = node.as_map() else {
            let message = format!("the condition must be a map such as `{{gte: 10}}`, not {}", node.kind());
            report.error("wrong-value", node.span, message);
            return None;
        };
        let errors = report.errors();
        let mut bounds = Vec::new();
        for entry in entries {
            if entry.key == "field" || (entry.key == "percentile" && kind == "value_percentile") {
                continue;
            }
            match OPERATORS.iter().find(|(name, _)| *name == entry.key) {
                Some((_, compare)) => bounds.extend(bound(entry, report).map(|bound| (*compare, bound))),
                None => {
                    let names = OPERATORS.map(|(name, _)| name).into_iter().chain(["field", "percentile"]);
                    let message = format!("unknown operator `{}` in the condition", entry.key);
                    report.error_help("unknown-operator", entry.key_span, message, did_you_mean(&entry.key, names));
                }
            }
        }
        let fields = spanned_texts(node, "field", report);
        (report.errors() == errors).then_some(Count { bounds, fields, span: node.span })
    }

    fn place(&self, section: &Node) -> Span {
        if self.span == Span::default() { section.span } else { self.span }
    }

    fn required(self, section: &Node, report: &mut Report) -> Option<Count> {
        if self.bounds.is_empty() {
            let message = "the correlation needs a condition such as `{gte: 10}`";
            report.error("missing-condition", self.place(section), message);
            return None;
        }
        Some(self)
    }

    fn without_field(self, kind: &str, report: &mut Report) -> Count {
        if let Some((_, span)) = self.fields.first() {
            let message =
                format!("`field` belongs to types that look at values, such as `value_count`, not to `{kind}`");
            report.error("wrong-value", *span, message);
        }
        self
    }

    fn with_field(self, kind: &str, section: &Node, report: &mut Report) -> Count {
        if self.fields.is_empty() {
            let message = format!("`{kind}` needs a `field` in its condition");
            report.error("missing-field", self.place(section), message);
        }
        self
    }

    fn without_bounds(self, kind: &str, report: &mut Report) -> Count {
        if let Some((_, bound)) = self.bounds.first() {
            report.error("wrong-value", bound.span, format!("`{kind}` counts nothing; `{}` has no effect", bound.name));
        }
        self
    }

    fn names(&self) -> Vec<String> {
        self.fields.iter().map(|(text, _)| text.clone()).collect()
    }

    /// The bounds of a number of things.
    fn whole(&self, report: &mut Report) -> Option<Vec<(Cmp, i64)>> {
        let mut out = Vec::with_capacity(self.bounds.len());
        for (compare, bound) in &self.bounds {
            match bound.whole.filter(|number| *number >= 0) {
                Some(number) => out.push((*compare, number)),
                None => {
                    report.error("wrong-value", bound.span, format!("`{}` takes a whole number", bound.name));
                    return None;
                }
            }
        }
        // What counts is judged at a match, so there is at least one.
        contradiction(&out, 1, self.span, report);
        Some(out)
    }

    fn measured(self, measure: Measure, kind: &str, section: &Node, report: &mut Report) -> Option<CorrelationKind> {
        let count = self.with_field(kind, section, report).required(section, report)?;
        if let Some((_, span)) = count.fields.get(1) {
            report.error("wrong-value", *span, format!("`{kind}` takes the numbers of one field"));
        }
        let bounds: Vec<(Cmp, i64)> = count.bounds.iter().map(|(cmp, bound)| (*cmp, bound.thousandths)).collect();
        contradiction(&bounds, i64::MIN, count.span, report);
        Some(CorrelationKind::Numbers(measure, bounds, count.names()))
    }

    /// A sequence holds when all of its rules were seen; a condition may only say the same again.
    fn all_of(&self, rules: i64, report: &mut Report) {
        let same = |(compare, bound): &(Cmp, Bound)| match compare {
            Cmp::Ge | Cmp::Eq => bound.whole == Some(rules),
            Cmp::Gt => bound.whole == Some(rules - 1),
            _ => false,
        };
        if !self.bounds.iter().all(same) || !self.fields.is_empty() {
            let help = format!("leave the condition out, or write `{{gte: {rules}}}`");
            let message = "a sequence needs all of its rules; other conditions are not supported";
            report.error_help("unsupported-condition", self.span, message, help);
        }
    }
}

/// Warns of bounds that no number is within.
fn contradiction(bounds: &[(Cmp, i64)], least: i64, span: Span, report: &mut Report) {
    // If any number is within, then one of these is.
    let near = bounds.iter().flat_map(|(_, k)| [k.saturating_sub(1), *k, k.saturating_add(1)]);
    let holds = |number: i64| number >= least && bounds.iter().all(|(compare, k)| compare.holds(&number, k));
    if !bounds.is_empty() && !near.into_iter().any(holds) {
        report.warning("always-false", span, "no number is within these bounds");
    }
}

fn bound(entry: &Entry, report: &mut Report) -> Option<Bound> {
    match &entry.value.value {
        Value::Number(number) if number.value.abs() <= NUMBER_MAX => Some(Bound {
            name: entry.key.clone(),
            whole: number.integer,
            thousandths: (number.value * THOUSAND).round() as i64,
            span: entry.value.span,
        }),
        _ => {
            report.error("wrong-value", entry.value.span, format!("`{}` takes a number", entry.key));
            None
        }
    }
}
