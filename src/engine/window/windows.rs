//! The correlations of one lane: matches in event order in, firings out.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::absence::{Absences, Wait};
use super::evidence::Evidence;
use super::fan::{Hit, Signal, hits, key, lasting_key};
use super::groups::{Fed, Groups};
use super::learning::{Scopes, Times};
use super::plan::{Hop, Kind, Plan, Plans, Reader};
use super::reorder::Item;
use super::state::Verdict;
use super::{Settings, WindowStats};
use crate::engine::matches::{ClusterId, Firing, Origin, Stage, Trace};

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
    /// Per correlation, of those that tell what is new.
    scopes: Vec<Scopes>,
    absences: Absences,
    evidence: Evidence,
    /// What the run feeds, kept for its memory.
    ready: Vec<Task>,
    /// What is fed by what fired in this run.
    tasks: BinaryHeap<Reverse<Task>>,
    /// Per item of the run: its evidence number, once it has one.
    numbers: Vec<Option<u64>>,
}

impl Windows {
    pub(super) fn new(plans: &Plans, settings: &Settings, across: bool) -> Self {
        Windows {
            across,
            groups: plans.correlations.iter().map(|_| Groups::new()).collect(),
            scopes: plans.correlations.iter().map(|_| Scopes::new()).collect(),
            absences: Absences::default(),
            evidence: Evidence::new(settings.evidence_bytes_max),
            ready: Vec::new(),
            tasks: BinaryHeap::new(),
            numbers: Vec::new(),
        }
    }

    /// What the evidence takes, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.evidence.memory()
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
        let mut ready = std::mem::take(&mut self.ready);
        for (index, item) in run.iter().enumerate() {
            let from = item.origin();
            let readers = (0u32..).zip(self.readers(plans, from));
            ready.extend(readers.map(|(reader, entry)| Task::of(entry, reader, from, index, None, index as u32)));
        }
        // The readers of one match stand in their order already.
        if run.len() > 1 {
            ready.sort_unstable();
        }
        for task in ready.drain(..) {
            // What one of them feeds by firing comes behind it, but perhaps before the next.
            while self.tasks.peek().is_some_and(|Reverse(earlier)| *earlier < task)
                && let Some(Reverse(earlier)) = self.tasks.pop()
            {
                self.feed(plans, settings, run, &earlier, stats, fired);
            }
            self.feed(plans, settings, run, &task, stats, fired);
        }
        self.ready = ready;
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

    /// What a correlation that fired feeds.
    fn enqueue(&mut self, plans: &Plans, from: Origin, item: usize, fired: usize) {
        let serial = (self.numbers.len() + fired) as u32;
        for (reader, entry) in (0u32..).zip(self.readers(plans, from)) {
            self.tasks.push(Reverse(Task::of(entry, reader, from, item, Some(fired), serial)));
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
        if let Kind::Absence { .. } = plan.kind {
            for hit in &hits {
                let group = || hit.values.iter().map(|value| value.to_value()).collect();
                let wait = || Wait::new(item.time, item.matched.clone(), hop.clone(), group());
                // Waits that end together end in the order of their keys.
                let key = (task.correlation, lasting_key(&hit.values, signal.cluster));
                self.absences.feed(plan, key, &hit.positions, wait, settings, stats);
            }
            return;
        }
        // What comes up is told at once, by its own match: nothing of it is needed later.
        let number = match plan.kind {
            Kind::New { .. } => 0,
            _ => self.number(run, task.item, stats),
        };
        for hit in &hits {
            let fed = Fed { time: item.time, number };
            let verdict = self.groups[index].feed(plan, index, settings, fed, hit, stats);
            let learned = self.learned(plans, index, settings, fed, hit, signal.cluster, stats);
            let Some(verdict) = verdict.filter(|_| learned) else { continue };
            let hop = Hop {
                correlation: task.correlation,
                group: hit.values.iter().map(|value| value.to_value()).collect(),
                below: hop.clone(),
            };
            let firing = self.firing(plan, settings, item, number, &hop, verdict);
            fired.push(Fired { firing, hop: Arc::new(hop), item: task.item });
            self.enqueue(plans, Origin::Correlation(task.correlation), task.item, fired.len() - 1);
        }
    }

    /// Whether the scope of a match has learned what is usual in it. What tells nothing new needs no learning.
    #[inline]
    #[allow(clippy::too_many_arguments)]
    fn learned(
        &mut self,
        plans: &Plans,
        index: usize,
        settings: &Settings,
        fed: Fed,
        hit: &Hit<'_>,
        cluster: Option<ClusterId>,
        stats: &mut WindowStats,
    ) -> bool {
        let plan = &plans.correlations[index];
        let Kind::New { learning, scope } = plan.kind else { return true };
        let scope = key(plans, &hit.values[..scope], cluster);
        let times = Times { learning, timespan: plan.timespan, quantum: plan.quantum };
        let learned = self.scopes[index].feed(scope, fed.time, times, settings.keys_max);
        stats.keys_saturated[index] += u64::from(learned.is_none());
        learned.unwrap_or(false)
    }

    /// When the next wait for something that does not come is over.
    pub(super) fn next_end(&mut self, plans: &Plans, stats: &mut WindowStats) -> Option<i64> {
        self.absences.next(plans, stats)
    }

    /// Ends the wait that is over next: what it tells, and what fires because of it, is put into `fired` (emptied before),
    /// and the match that had begun it into `run`.
    pub(super) fn end_next(
        &mut self,
        plans: &Plans,
        settings: &Settings,
        run: &mut Vec<Item>,
        stats: &mut WindowStats,
        fired: &mut Vec<Fired>,
    ) {
        run.clear();
        fired.clear();
        let Some((correlation, time, wait)) = self.absences.pop(plans, stats) else { return };
        let Wait { since, matched, below, group, .. } = wait;
        let plan = &plans.correlations[correlation as usize];
        let firing = Firing {
            origin: Origin::Correlation(correlation),
            time,
            identity: matched.identity,
            cluster: matched.cluster,
            trace: matched.trace.clone(),
            group: plan.group_by.iter().cloned().zip(group.iter().cloned()).collect(),
            count: 0,
            window: Some((since, time)),
            events: vec![matched.trace.clone()],
            evidence_truncated: false,
            late: false,
        };
        let hop = Arc::new(Hop { correlation, group, below });
        run.push(Item::of_correlation(time, matched, Arc::clone(&hop)));
        self.run(plans, settings, run, stats, fired);
        fired.push(Fired { firing, hop, item: 0 });
    }

    /// The evidence number of a match. Matches of the same event share one; all of a run get theirs together, so that
    /// numbers grow in event order.
    fn number(&mut self, run: &[Item], index: usize, stats: &mut WindowStats) -> u64 {
        if let Some(number) = self.numbers[index] {
            return number;
        }
        if let [item] = run {
            let number = self.evidence.push(&item.matched.trace, stats);
            self.numbers[index] = Some(number);
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
