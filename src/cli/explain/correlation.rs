//! Why a correlation fired or did not: the matches it reads, in event order and by group, and what fired.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::engine::CaptureTable;
use crate::engine::captures::fields_of;
use crate::engine::matches::{Firing, Match, Origin};
use crate::event::site::Site;
use crate::event::time::format_micros;
use crate::rules::{Correlation, Input, RuleSet};
use crate::ruletest::Bench;
use crate::sink::text::printable;

/// Most visits told.
const TOLD_MAX: usize = 200;

/// What a correlation saw, and made of it.
pub(super) struct Told {
    set: Arc<RuleSet>,
    index: usize,
    visits: Vec<Visit>,
    firings: Vec<Firing>,
    /// Per input: how often it came.
    inputs: Vec<(String, usize)>,
}

/// A match, or a correlation's firing, that the correlation reads.
struct Visit {
    time: i64,
    what: String,
    /// Values of the group, by name; `None` if a field was missing, so that it was not counted.
    group: Option<Vec<(String, String)>>,
    /// Visits of the same group within the timespan, this one included.
    within: usize,
}

/// Runs the log and gathers what the correlation reads of it.
pub(super) fn tell(set: Arc<RuleSet>, index: usize, log: Vec<u8>, site: Site) -> anyhow::Result<Told> {
    let bench = Bench::new(Arc::clone(&set), site)?;
    let captures = CaptureTable::new(&set);
    let correlation = &set.correlations[index];
    let mut visits: Vec<Visit> = Vec::new();
    // Another stage or delivery of a request counts once.
    let mut known = HashSet::new();
    for found in bench.plain().matches(log.clone()).matches {
        if !known.insert((found.rule, found.identity())) {
            continue;
        }
        for (position, input) in correlation.inputs.iter().enumerate() {
            if *input == Input::Rule(found.rule as usize) {
                visits.push(of_match(&set, correlation, position, &captures, &found));
                break;
            }
        }
    }
    let run = bench.run(log);
    for firing in &run.firings {
        let Origin::Correlation(origin) = firing.origin else { continue };
        if correlation.inputs.contains(&Input::Correlation(origin as usize)) {
            let what = set.correlations[origin as usize].meta.title.clone();
            let shown = firing.group.iter().map(|(name, value)| (name.clone(), value.text.to_string())).collect();
            visits.push(Visit { time: firing.time, what, group: Some(shown), within: 0 });
        }
    }
    visits.sort_by_key(|visit| visit.time);
    count(&mut visits, correlation.timespan_us);
    let inputs = correlation.inputs.iter().map(|input| {
        let title = match input {
            Input::Rule(rule) => set.rules[*rule].meta.title.clone(),
            Input::Correlation(other) => set.correlations[*other].meta.title.clone(),
        };
        let times = visits.iter().filter(|visit| visit.what == title).count();
        (title, times)
    });
    let inputs = inputs.collect();
    let own = Origin::Correlation(index as u32);
    let firings = run.firings.into_iter().filter(|firing| firing.origin == own).collect();
    Ok(Told { index, visits, firings, inputs, set: Arc::clone(&set) })
}

fn of_match(
    set: &RuleSet,
    correlation: &Correlation,
    position: usize,
    captures: &CaptureTable,
    found: &Match,
) -> Visit {
    let fields = fields_of(correlation, position);
    let names = correlation.group_by.iter().chain(correlation.kind.counted());
    let group = names.zip(&fields).map(|(name, field)| {
        let values: Vec<String> =
            captures.id(field).into_iter().flat_map(|id| found.trace.values(id)).map(|v| v.shown().into()).collect();
        (!values.is_empty()).then(|| (name.clone(), values.join(", ")))
    });
    Visit {
        time: found.time.unwrap_or(0),
        what: set.rules[found.rule as usize].meta.title.clone(),
        group: group.collect(),
        within: 0,
    }
}

/// Counts what each group has within the timespan; `visits` are in order of time.
fn count(visits: &mut [Visit], timespan_us: i64) {
    let mut recent: BTreeMap<Vec<(String, String)>, std::collections::VecDeque<i64>> = BTreeMap::new();
    for visit in visits {
        let Some(group) = visit.group.clone() else { continue };
        let times = recent.entry(group).or_default();
        times.push_back(visit.time);
        while times.front().is_some_and(|oldest| visit.time - oldest > timespan_us) {
            times.pop_front();
        }
        visit.within = times.len();
    }
}

impl Told {
    /// Whether it fired at all.
    pub(super) fn fired(&self) -> bool {
        !self.firings.is_empty()
    }

    /// For people.
    pub(super) fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let meta = &self.set.correlations[self.index].meta;
        writeln!(out, "{} ({}:{})", printable(&meta.title), printable(&meta.file), meta.span.line)?;
        writeln!(out, "reads:")?;
        for (title, times) in &self.inputs {
            writeln!(out, "  {times} × {}", printable(title))?;
        }
        writeln!(out, "matches in event order, with how many of the same values came within the timespan:")?;
        for visit in self.visits.iter().take(TOLD_MAX) {
            let group = match &visit.group {
                Some(group) => {
                    group.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
                }
                None => "a field to group by or to count is missing: not counted".to_owned(),
            };
            let (time, what) = (format_micros(visit.time), printable(&visit.what));
            writeln!(out, "  {time} {what}: {} [{}]", printable(&group), visit.within)?;
        }
        if self.visits.len() > TOLD_MAX {
            writeln!(out, "  … and {} more", self.visits.len() - TOLD_MAX)?;
        }
        writeln!(out, "fired {} times", self.firings.len())?;
        for firing in self.firings.iter().take(TOLD_MAX) {
            let group: Vec<String> =
                firing.group.iter().map(|(name, value)| format!("{name}={}", value.text)).collect();
            writeln!(out, "  {} {} counted {}", format_micros(firing.time), firing.count, printable(&group.join(" ")))?;
        }
        Ok(())
    }

    /// As JSON.
    pub(super) fn json(&self) -> Value {
        let meta = &self.set.correlations[self.index].meta;
        let map = |group: &[(String, String)]| -> Value {
            group.iter().map(|(name, value)| (name.clone(), Value::from(value.clone()))).collect()
        };
        let visits: Vec<Value> = self
            .visits
            .iter()
            .take(TOLD_MAX)
            .map(|visit| {
                let group = visit.group.as_deref().map(map);
                json!({"time": format_micros(visit.time), "what": visit.what, "group": group, "within": visit.within})
            })
            .collect();
        let firings: Vec<Value> = self
            .firings
            .iter()
            .take(TOLD_MAX)
            .map(|firing| {
                let group: Vec<(String, String)> =
                    firing.group.iter().map(|(name, value)| (name.clone(), value.text.to_string())).collect();
                json!({"time": format_micros(firing.time), "count": firing.count, "group": map(&group)})
            })
            .collect();
        let inputs: Vec<Value> =
            self.inputs.iter().map(|(title, times)| json!({"title": title, "matches": times})).collect();
        json!({
            "correlation": {"id": meta.id, "title": meta.title, "file": meta.file, "line": meta.span.line},
            "inputs": inputs, "visits": self.visits.len(), "told": visits,
            "fired": self.firings.len(), "firings": firings,
        })
    }
}
