//! The correlations of one lane: matches in event order in, firings out.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::evidence::Evidence;
use super::fan::{Signal, hits};
use super::groups::{Fed, Groups};
use super::plan::{Hop, Plan, Plans, Reader};
use super::reorder::Item;
use super::state::Verdict;
use super::{Settings, WindowStats};
use crate::engine::matches::{Firing, Origin, Stage, Trace};

/// A correlation fired.
#[derive(Debug)]
pub(super) struct Fired {
    pub(super) firing: Firing,
    /// What it is for chained correlations.
    pub(super) hop: Arc<Hop>,
    /// Index of the deciding match in its run.
    pub(super) item: usize,
}

/// A match is to be fed to a correlation. Ordered by the correlation, so that all that feeds it has happened, then by
/// what feeds it: rules in event order, then correlations. A correlation thus sees the matches of one event always in
/// the same order, in whatever lane it lives.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Task {
    correlation: u32,
    /// 0 for a rule, else the index of the feeding correlation and one.
    rank: u32,
    /// Number of the match: its place in the run, or behind it for what fired.
    serial: u32,
    from: Origin,
    /// Index of the reader in its list.
    reader: u32,
    item: usize,
    /// Index into the firings of this run, if one of them is what feeds it.
    fired: Option<usize>,
}

impl Task {
    fn of(entry: &Reader, reader: u32, from: Origin, item: usize, fired: Option<usize>, serial: u32) -> Task {
        let rank = match from {
            Origin::Rule(_) => 0,
            Origin::Correlation(index) => index + 1,
        };
        Task { correlation: entry.correlation, rank, serial, from, reader, item, fired }
    }
}

/// All windows of one cluster, or of those across clusters.
#[derive(Debug)]
pub(super) struct Windows {
    across: bool,
    groups: Vec<Groups>,
    evidence: Evidence,
    tasks: BinaryHeap<Reverse<Task>>,
    /// Per item of the run: its evidence number, once it has one.
    numbers: Vec<Option<u64>>,
}

impl Windows {
    pub(super) fn new(plans: &Plans, settings: &Settings, across: bool) -> Self {
        Windows {
            across,
            groups: plans.correlations.iter().map(|_| Groups::new()).collect(),
            evidence: Evidence::new(settings.evidence_bytes_max),
            tasks: BinaryHeap::new(),
            numbers: Vec::new(),
        }
    }

    /// Feeds all matches of one time and identity, in event order. What fires is appended to `fired` (emptied before).
    pub(super) fn run(
        &mut self,
        plans: &Plans,
        settings: &Settings,
        run: &[Item],
        stats: &mut WindowStats,
        fired: &mut Vec<Fired>,
    ) {
        fired.clear();
        self.numbers.clear();
        self.numbers.resize(run.len(), None);
        if let [item] = run {
            // Readers stand in their order already. What one of them feeds by firing comes behind it, but perhaps before
            // the next.
            let from = item.origin();
            for (reader, entry) in (0u32..).zip(self.readers(plans, from)) {
                let task = Task::of(entry, reader, from, 0, None, 0);
                while self.tasks.peek().is_some_and(|Reverse(earlier)| *earlier < task)
                    && let Some(Reverse(earlier)) = self.tasks.pop()
                {
                    self.feed(plans, settings, run, &earlier, stats, fired);
                }
                self.feed(plans, settings, run, &task, stats, fired);
            }
        } else {
            for (index, item) in run.iter().enumerate() {
                self.enqueue(plans, item.origin(), index, None);
            }
        }
        while let Some(Reverse(task)) = self.tasks.pop() {
            self.feed(plans, settings, run, &task, stats, fired);
        }
    }

    fn readers<'p>(&self, plans: &'p Plans, origin: Origin) -> &'p [Reader] {
        let readers = match origin {
            Origin::Rule(rule) => plans.of_rule.get(rule as usize),
            Origin::Correlation(inner) => plans.of_correlation.get(inner as usize),
        };
        readers.map_or(&[], |r| if self.across { &r.across } else { &r.local })
    }

    fn enqueue(&mut self, plans: &Plans, from: Origin, item: usize, fired: Option<usize>) {
        let serial = fired.map_or(item, |f| self.numbers.len() + f) as u32;
        for (reader, entry) in (0u32..).zip(self.readers(plans, from)) {
            self.tasks.push(Reverse(Task::of(entry, reader, from, item, fired, serial)));
        }
    }

    fn feed(
        &mut self,
        plans: &Plans,
        settings: &Settings,
        run: &[Item],
        task: &Task,
        stats: &mut WindowStats,
        fired: &mut Vec<Fired>,
    ) {
        let index = task.correlation as usize;
        let plan = &plans.correlations[index];
        let item = &run[task.item];
        let hop = match task.fired {
            Some(earlier) => Some(Arc::clone(&fired[earlier].hop)),
            None => item.hop.clone(),
        };
        let signal = Signal {
            trace: &item.matched.trace,
            hop: hop.as_deref(),
            // A cluster's own lane needs no cluster in its keys.
            cluster: (self.across && !plan.across).then_some(item.matched.cluster),
        };
        let positions = &self.readers(plans, task.from)[task.reader as usize].positions;
        let hits = hits(plans, plan, positions, signal, settings.fanout_max, &mut stats.fanout_cut);
        if hits.is_empty() {
            stats.missing_group[index] += 1;
            return;
        }
        let number = self.number(run, task.item, stats);
        for hit in &hits {
            let fed = Fed { time: item.time, number };
            let Some(verdict) = self.groups[index].feed(plan, index, settings, fed, hit, stats) else { continue };
            let hop = Hop {
                correlation: task.correlation,
                group: hit.values.iter().map(|value| value.to_value()).collect(),
                below: hop.clone(),
            };
            let firing = self.firing(plan, settings, item, number, &hop, verdict);
            fired.push(Fired { firing, hop: Arc::new(hop), item: task.item });
            self.enqueue(plans, Origin::Correlation(task.correlation), task.item, Some(fired.len() - 1));
        }
    }

    /// The evidence number of a match. Matches of the same event share one; all of a run get theirs together, so that
    /// numbers grow in event order.
    fn number(&mut self, run: &[Item], index: usize, stats: &mut WindowStats) -> u64 {
        if let Some(number) = self.numbers[index] {
            return number;
        }
        let mut stages: SmallVec<[Stage; 4]> = run.iter().map(|item| item.matched.stage).collect();
        stages.sort_unstable();
        stages.dedup();
        for stage in stages {
            let mut number = None;
            for (item, slot) in run.iter().zip(&mut self.numbers).filter(|(item, _)| item.matched.stage == stage) {
                *slot = Some(*number.get_or_insert_with(|| self.evidence.push(&item.matched.trace, stats)));
            }
        }
        // Each item has a stage, so each has a number by now.
        self.numbers[index].unwrap_or_default()
    }

    #[allow(clippy::too_many_arguments)]
    fn firing(
        &self,
        plan: &Plan,
        settings: &Settings,
        item: &Item,
        number: u64,
        hop: &Hop,
        verdict: Verdict,
    ) -> Firing {
        let mut numbers = verdict.evidence;
        // The deciding event may be none of those that count (a whole chain goes on holding at any match).
        numbers.retain(|n| *n != number);
        numbers.sort_unstable();
        numbers.dedup();
        let excess = (numbers.len() + 1).saturating_sub(settings.events_max.max(1));
        let listed = &numbers[excess..];
        let mut events: Vec<Trace> = listed.iter().filter_map(|n| self.evidence.get(*n)).collect();
        let evidence_truncated = events.len() < listed.len();
        events.push(item.matched.trace.clone());
        Firing {
            origin: Origin::Correlation(hop.correlation),
            time: item.time,
            identity: item.matched.identity,
            cluster: item.matched.cluster,
            trace: item.matched.trace.clone(),
            group: plan.group_by.iter().cloned().zip(hop.group.iter().cloned()).collect(),
            count: verdict.count,
            window: Some((verdict.from, item.time)),
            events,
            evidence_truncated,
            late: false,
        }
    }
}
