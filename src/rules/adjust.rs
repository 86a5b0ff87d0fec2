//! What a site changes about rules without editing them: whether they give alerts, their level, thresholds, timespans.

use std::sync::Arc;

use super::expr::Cmp;
use super::{CorrelationKind, Level, Meta, Needed, RuleSet, suggest};

/// A change to some rules.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Adjustment {
    /// Patterns of ids, short ids, names and titles, in which `*` stands for any text.
    pub rules: Vec<String>,
    /// Whether they give alerts. One that does not still feeds correlations.
    pub enabled: Option<bool>,
    /// Their level.
    pub level: Option<Level>,
    /// What a correlation's count has to reach.
    pub threshold: Option<i64>,
    /// The length of a correlation's window, microseconds.
    pub timespan_us: Option<i64>,
}

impl Adjustment {
    fn concerns(&self, meta: &Meta, pattern: &str) -> bool {
        let names = [Some(&meta.id), meta.reference.as_ref(), meta.name.as_ref(), Some(&meta.title)];
        names.into_iter().flatten().any(|name| fits(pattern, name))
    }

    fn apply(&self, meta: &mut Arc<Meta>, alerts: &mut bool) {
        *alerts = self.enabled.unwrap_or(*alerts);
        if let Some(level) = self.level {
            Arc::make_mut(meta).level = level;
        }
    }
}

/// Whether a text fits a pattern; case does not matter.
fn fits(pattern: &str, text: &str) -> bool {
    let pattern = regex::escape(pattern).replace("\\*", ".*");
    // What was escaped is a pattern.
    regex::Regex::new(&format!("(?is)^{pattern}$")).is_ok_and(|pattern| pattern.is_match(text))
}

impl RuleSet {
    /// Makes the changes, in their order: a later one wins.
    ///
    /// # Errors
    /// All that cannot be changed: a pattern that fits no rule, a threshold of what counts nothing.
    pub fn adjust(&mut self, adjustments: &[Adjustment]) -> Result<(), Vec<String>> {
        let mut wrong = Vec::new();
        for adjustment in adjustments {
            for pattern in &adjustment.rules {
                let mut found = false;
                for rule in self.rules.iter_mut().filter(|rule| adjustment.concerns(&rule.meta, pattern)) {
                    found = true;
                    adjustment.apply(&mut rule.meta, &mut rule.alerts);
                    if adjustment.threshold.is_some() || adjustment.timespan_us.is_some() {
                        wrong.push(format!(
                            "{pattern:?}: `{}` is no correlation: it has no threshold and no timespan",
                            rule.meta.title
                        ));
                    }
                }
                for correlation in self.correlations.iter_mut().filter(|one| adjustment.concerns(&one.meta, pattern)) {
                    found = true;
                    adjustment.apply(&mut correlation.meta, &mut correlation.alerts);
                    if let Some(threshold) = adjustment.threshold
                        && !raise(&mut correlation.kind, threshold)
                    {
                        let title = &correlation.meta.title;
                        wrong.push(format!("{pattern:?}: `{title}` has no count that could be a threshold's"));
                    }
                    correlation.timespan_us = adjustment.timespan_us.unwrap_or(correlation.timespan_us);
                }
                if !found {
                    wrong.push(self.unknown(pattern));
                }
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    fn unknown(&self, pattern: &str) -> String {
        let metas = self.rules.iter().map(|rule| &rule.meta).chain(self.correlations.iter().map(|one| &one.meta));
        let names: Vec<&str> = metas
            .flat_map(|meta| [meta.reference.as_deref(), meta.name.as_deref(), Some(meta.title.as_str())])
            .flatten()
            .collect();
        match suggest(pattern, names) {
            Some(name) => format!("{pattern:?} is no rule; did you mean {name:?}?"),
            None => format!("{pattern:?} is no rule: `auditwatch rules list` tells which there are"),
        }
    }
}

/// Puts another lower bound in the place of a count's. False if it has none.
fn raise(kind: &mut CorrelationKind, threshold: i64) -> bool {
    let (bounds, threshold) = match kind {
        CorrelationKind::EventCount(bounds)
        | CorrelationKind::ValueCount(bounds, _)
        | CorrelationKind::Temporal(Needed::Count(bounds)) => (bounds, threshold),
        // Bounds of measures are in thousandths.
        CorrelationKind::Numbers(_, bounds, _) => (bounds, threshold.saturating_mul(1000)),
        _ => return false,
    };
    let Some(bound) = bounds.iter_mut().find(|(cmp, _)| matches!(cmp, Cmp::Ge | Cmp::Gt)) else { return false };
    *bound = (Cmp::Ge, threshold);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{SourceFile, load};

    const RULES: &str = "
title: read
name: read
level: low
logsource: {product: kubernetes, service: audit}
detection: {s: {verb: get}, condition: s}
---
title: many
level: high
correlation: {type: event_count, rules: [read], generate: true, group-by: [user.username], timespan: 1m, condition: {gte: 3}}
";

    fn adjusted(adjustments: &[Adjustment]) -> Result<RuleSet, Vec<String>> {
        let (mut set, problems) = load(&[SourceFile::new("a.yml", RULES)], &Default::default());
        assert!(problems.is_empty(), "{problems:?}");
        set.adjust(adjustments).map(|()| set)
    }

    fn of(rule: &str) -> Adjustment {
        Adjustment { rules: vec![rule.to_owned()], ..Adjustment::default() }
    }

    #[test]
    fn rules_are_changed_and_later_changes_win() {
        let set = adjusted(&[
            Adjustment { level: Some(Level::Critical), enabled: Some(false), ..of("*") },
            Adjustment { enabled: Some(true), threshold: Some(7), timespan_us: Some(5), ..of("MANY") },
        ])
        .unwrap();
        assert_eq!((set.rules[0].meta.level, set.rules[0].alerts), (Level::Critical, false));
        let many = &set.correlations[0];
        assert_eq!((many.meta.level, many.alerts, many.timespan_us), (Level::Critical, true, 5));
        assert_eq!(many.kind, CorrelationKind::EventCount(vec![(Cmp::Ge, 7)]));
    }

    #[test]
    fn what_cannot_be_changed_is_told() {
        for (adjustment, said) in [
            (of("mani"), "did you mean \"many\"?"),
            (of("no such rule"), "is no rule"),
            (of("a.*b("), "is no rule"),
            (Adjustment { threshold: Some(3), ..of("read") }, "is no correlation"),
        ] {
            let wrong = adjusted(&[adjustment]).unwrap_err();
            assert!(wrong[0].contains(said), "{wrong:?}");
        }
    }
}
