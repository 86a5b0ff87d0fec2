//! Which fields of an event a correlation needs from each rule that feeds it.

use super::matches::CaptureId;
use crate::rules::{Correlation, Input, RuleSet};

/// The fields that matches carry along, numbered once for the whole rule set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaptureTable {
    /// Field paths; the index is the [`CaptureId`].
    pub fields: Vec<String>,
    /// Per rule: what its matches carry, ascending.
    pub per_rule: Vec<Vec<CaptureId>>,
}

impl CaptureTable {
    /// Collects what every correlation asks of the rules below it, through chained correlations as well.
    pub fn new(set: &RuleSet) -> Self {
        let mut table = CaptureTable { fields: Vec::new(), per_rule: vec![Vec::new(); set.rules.len()] };
        for correlation in &set.correlations {
            for (position, input) in correlation.inputs.iter().enumerate() {
                let fields: Vec<String> = fields_of(correlation, position);
                table.require(set, *input, &fields);
            }
        }
        for ids in &mut table.per_rule {
            ids.sort_unstable();
            ids.dedup();
        }
        table
    }

    /// The number of a field, if any match carries it.
    pub fn id(&self, field: &str) -> Option<CaptureId> {
        self.fields.iter().position(|f| f == field).map(|i| i as CaptureId)
    }

    fn require(&mut self, set: &RuleSet, input: Input, fields: &[String]) {
        match input {
            Input::Rule(rule) => {
                for field in fields {
                    let id = self.id(field).unwrap_or_else(|| {
                        self.fields.push(field.clone());
                        (self.fields.len() - 1) as CaptureId
                    });
                    self.per_rule[rule].push(id);
                }
            }
            // A chained correlation hands on its deciding match: the fields are asked of whatever feeds it, too. Names of
            // the inner group (aliases included) resolve there first, so they are harmless if no event has them.
            Input::Correlation(inner) => {
                for below in &set.correlations[inner].inputs {
                    self.require(set, *below, fields);
                }
            }
        }
    }
}

/// The fields that a correlation reads from its input at `position`: group-by with aliases resolved, then counted fields.
pub fn fields_of(correlation: &Correlation, position: usize) -> Vec<String> {
    let resolve = |name: &String| match correlation.aliases.get(name) {
        Some(per_input) => per_input.get(position).cloned().flatten().unwrap_or_else(|| name.clone()),
        None => name.clone(),
    };
    let mut fields: Vec<String> = correlation.group_by.iter().map(resolve).collect();
    fields.extend(correlation.kind.counted().iter().map(resolve));
    fields
}
