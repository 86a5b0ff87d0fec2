//! Correlations made ready to run: fields resolved to captures, and who reads whom.

use std::sync::Arc;

use smallvec::SmallVec;

use super::fan::Found;
use super::mixer::Mixer;
use crate::engine::CaptureTable;
use crate::engine::captures::fields_of;
use crate::engine::matches::{CaptureId, Captured, Trace, Value};
use crate::engine::sightings;
use crate::rules::expr::Cmp;
use crate::rules::{CorrelationKind, Input, Measure, Needed, RuleSet};

/// A correlation that a match has passed by making it fire: what chained correlations see of it.
#[derive(Debug)]
pub(super) struct Hop {
    /// Index of the correlation.
    pub(super) correlation: u32,
    /// Values of its group, in the order of its `group-by`.
    pub(super) group: Vec<Value>,
    /// How the deciding match came to it, if not from a rule.
    pub(super) below: Option<Arc<Hop>>,
}

/// The values of one field, for a match.
pub(super) type Column<'a> = SmallVec<[Found<'a>; 1]>;

/// A field that a correlation reads from one of its inputs.
#[derive(Debug)]
pub(super) struct Field {
    name: String,
    id: Option<CaptureId>,
}

impl Field {
    /// Its values in an event, as they stand there.
    pub(super) fn captured<'t>(&self, trace: &'t Trace) -> impl Iterator<Item = Captured<'t>> {
        self.id.into_iter().flat_map(|id| trace.values(id))
    }
}

/// What a correlation counts.
#[derive(Debug)]
pub(super) enum Kind {
    /// Matches.
    Events,
    /// Distinct values.
    Values,
    /// Numbers.
    Numbers(Measure),
    /// Inputs, in any order.
    All(Needed),
    /// Inputs, in this order.
    Ordered,
    /// Nothing: a group is told when it comes up, once its scope has learned for so long (microseconds). A scope is a group
    /// by its first so many values.
    New { learning: i64, scope: usize },
    /// Nothing: a group is told when it ends. So many of the last inputs begin the wait for the others; 0: all do both.
    Absence { after: usize },
}

/// Numbers listed as evidence; there may be many more.
const NUMBERS_LISTED: usize = 1000;

/// One correlation.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) kind: Kind,
    /// What the number of matches or values must satisfy.
    conditions: Vec<(Cmp, i64)>,
    /// Up to where the number matters: the greatest threshold and one more.
    pub(super) cap: usize,
    /// Whether the condition counts something, and one is not enough.
    pub(super) one_is_too_few: bool,
    /// How many of the counted are listed: those it takes to satisfy the condition.
    pub(super) need: usize,
    pub(super) timespan: i64,
    /// How finely the time of the last sighting is remembered, microseconds; 0 is exactly.
    pub(super) quantum: i64,
    pub(super) realert: i64,
    pub(super) suppress: i64,
    pub(super) across: bool,
    pub(super) alerts: bool,
    pub(super) group_by: Vec<String>,
    /// Per input: the fields of the group, and the counted fields.
    fields: Vec<(Vec<Field>, Vec<Field>)>,
}

impl Plan {
    /// Whether a number of matches or values satisfies the condition.
    pub(super) fn holds(&self, count: usize) -> bool {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.conditions.iter().all(|(cmp, threshold)| cmp.holds(&count, threshold))
    }

    /// What the number of things, or the measure of numbers in thousandths, must satisfy.
    pub(super) fn bounds(&self) -> &[(Cmp, i64)] {
        &self.conditions
    }

    /// A counted value, if it is one that can be counted.
    pub(super) fn counted(&self, found: &Found<'_>) -> Option<u128> {
        match self.kind {
            Kind::Numbers(_) => found.number().map(|number| number as u128),
            _ => Some(found.hash()),
        }
    }

    pub(super) fn inputs(&self) -> usize {
        self.fields.len()
    }

    /// The fields of the group, and the counted ones, as they are read from the input at this position.
    pub(super) fn fields_at(&self, position: u16) -> (&[Field], &[Field]) {
        let (group, counted) = &self.fields[usize::from(position)];
        (group, counted)
    }
}

/// A correlation that reads an input, and where that input stands in its list (more than once, perhaps).
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) correlation: u32,
    pub(super) positions: Vec<u16>,
}

/// Who reads an input: in the lane of the input's cluster, and in the lane behind all clusters.
#[derive(Debug, Default)]
pub(super) struct Readers {
    pub(super) local: Vec<Reader>,
    pub(super) across: Vec<Reader>,
}

/// All correlations of a rule set.
#[derive(Debug)]
pub(super) struct Plans {
    pub(super) correlations: Vec<Plan>,
    pub(super) of_rule: Vec<Readers>,
    pub(super) of_correlation: Vec<Readers>,
    /// Per rule: whether its matches are [sightings](crate::engine::sightings).
    sighting: Vec<bool>,
    /// Makes one key of several values.
    pub(super) mixer: Mixer,
}

impl Plans {
    pub(super) fn new(set: &RuleSet, captures: &CaptureTable) -> Self {
        let correlations: Vec<Plan> = set.correlations.iter().map(|c| plan(c, captures)).collect();
        let tuples =
            correlations.iter().flat_map(|plan| plan.fields.iter().flat_map(|(group, counted)| [group, counted]));
        let mut plans = Plans {
            mixer: Mixer::new(tuples.map(Vec::len).max().unwrap_or(0)),
            correlations,
            of_rule: set.rules.iter().map(|_| Readers::default()).collect(),
            of_correlation: set.correlations.iter().map(|_| Readers::default()).collect(),
            sighting: sightings::quanta(set).into_iter().map(|quantum| quantum > 0).collect(),
        };
        // What reads an across-cluster correlation lives where that one lives.
        let mut behind: Vec<bool> = Vec::with_capacity(set.correlations.len());
        for (index, correlation) in set.correlations.iter().enumerate() {
            let fed = correlation.inputs.iter().any(|i| matches!(i, Input::Correlation(c) if behind[*c]));
            behind.push(correlation.across_clusters || fed);
            let mut inputs: Vec<Input> = correlation.inputs.clone();
            inputs.sort_unstable();
            inputs.dedup();
            for input in inputs {
                let positions =
                    (0u16..).zip(&correlation.inputs).filter(|(_, i)| **i == input).map(|(p, _)| p).collect();
                let reader = Reader { correlation: index as u32, positions };
                let readers = match input {
                    Input::Rule(rule) => &mut plans.of_rule[rule],
                    Input::Correlation(inner) => &mut plans.of_correlation[inner],
                };
                if behind[index] { readers.across.push(reader) } else { readers.local.push(reader) }
            }
        }
        plans
    }

    /// Whether the rule's matches only tell what is there. Which of them get here may depend on the workers; a request
    /// may count at each of its stages, and a late one still was seen.
    pub(super) fn is_sighting(&self, rule: u32) -> bool {
        self.sighting.get(rule as usize).is_some_and(|is| *is)
    }

    /// The value of a field that has one only, if that is seen without a look through groups; else [`Plans::values`] tells.
    #[inline]
    pub(super) fn sole_value<'a>(&self, field: &Field, trace: &'a Trace, hop: Option<&'a Hop>) -> Option<Found<'a>> {
        if hop.is_none() {
            return trace.sole_value(field.id?).map(Found::Captured);
        }
        match self.values(field, trace, hop).as_slice() {
            [only] => Some(*only),
            _ => None,
        }
    }

    /// The distinct values of a field, as a correlation sees them: of the groups of the correlations that the match has
    /// passed, the last one first, then of the event.
    pub(super) fn values<'a>(&self, field: &Field, trace: &'a Trace, hop: Option<&'a Hop>) -> Column<'a> {
        let mut above = hop;
        while let Some(hop) = above {
            let names = &self.correlations[hop.correlation as usize].group_by;
            if let Some(value) = names.iter().position(|n| *n == field.name).and_then(|i| hop.group.get(i)) {
                return Column::from_elem(Found::Grouped(value), 1);
            }
            above = hop.below.as_deref();
        }
        let mut column = Column::new();
        for value in field.captured(trace) {
            if !column.iter().any(|have| have.hash() == value.hash) {
                column.push(Found::Captured(value));
            }
        }
        column
    }
}

fn plan(correlation: &crate::rules::Correlation, captures: &CaptureTable) -> Plan {
    let own = correlation.group_by.len();
    let (kind, conditions) = match &correlation.kind {
        CorrelationKind::EventCount(conditions) => (Kind::Events, conditions.clone()),
        CorrelationKind::ValueCount(conditions, _) => (Kind::Values, conditions.clone()),
        CorrelationKind::Numbers(measure, bounds, _) => (Kind::Numbers(*measure), bounds.clone()),
        CorrelationKind::Temporal(needed) => (Kind::All(needed.clone()), Vec::new()),
        CorrelationKind::TemporalOrdered => (Kind::Ordered, Vec::new()),
        CorrelationKind::NewValue { learning_us, .. } => (Kind::New { learning: *learning_us, scope: own }, Vec::new()),
        CorrelationKind::EventAbsence { after } => (Kind::Absence { after: *after }, Vec::new()),
    };
    let mut group_by = correlation.group_by.clone();
    if let CorrelationKind::NewValue { fields, .. } = &correlation.kind {
        // Each value is a group of its own.
        group_by.extend(fields.iter().cloned());
    }
    let fields = |position: usize| -> (Vec<Field>, Vec<Field>) {
        let mut all: Vec<Field> =
            fields_of(correlation, position).into_iter().map(|name| Field { id: captures.id(&name), name }).collect();
        let counted = all.split_off(group_by.len());
        (all, counted)
    };
    let fields = (0..correlation.inputs.len()).map(fields).collect();
    let greatest = conditions.iter().map(|(_, k)| *k).max().unwrap_or(0).max(0);
    let cap = usize::try_from(greatest).unwrap_or(usize::MAX).saturating_add(1);
    let counts = matches!(kind, Kind::Events | Kind::Values);
    let mut plan = Plan {
        one_is_too_few: false,
        need: if matches!(kind, Kind::Numbers(_)) { NUMBERS_LISTED } else { need(&conditions).unwrap_or(cap) },
        kind,
        conditions,
        cap,
        timespan: correlation.timespan_us,
        quantum: match correlation.kind {
            CorrelationKind::NewValue { .. } => sightings::quantum(correlation.timespan_us),
            _ => 0,
        },
        realert: correlation.realert_us,
        suppress: correlation.suppress_us,
        across: correlation.across_clusters,
        alerts: correlation.alerts,
        group_by,
        fields,
    };
    plan.one_is_too_few = counts && !plan.holds(1);
    plan
}

/// The smallest number that reaches every lower bound of the condition; `None` if it has none.
fn need(conditions: &[(Cmp, i64)]) -> Option<usize> {
    let bound = |(cmp, k): &(Cmp, i64)| match cmp {
        Cmp::Ge | Cmp::Eq => Some(*k),
        Cmp::Gt => Some(k.saturating_add(1)),
        Cmp::Ne | Cmp::Lt | Cmp::Le => None,
    };
    let least = conditions.iter().filter_map(bound).max()?;
    Some(usize::try_from(least.max(1)).unwrap_or(usize::MAX))
}
