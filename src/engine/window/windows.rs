//! The correlations of one lane: matches in event order in, firings out.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::absence::{Absences, Wait};
use super::evidence::Evidence;
use super::fan::{Found, Hits, Signal, Values, key, lasting_key, several, sole, sole_values};
use super::groups::Groups;
use super::learning::{Scopes, Times};
use super::plan::{Hop, Kind, Plan, Plans, Reader};
use super::reorder::Item;
use super::repeats::{Repeats, Told};
use super::state::{Fed, Verdict};
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Task {
    correlation: u32,
    /// 0 for a rule, else the index of the feeding correlation and one.
    rank: u32,
    /// Number of the match: its place in the run, or behind it for what fired.
    serial: u32,
    /// Index of the reader in its list.
    reader: u32,
    /// Index of the match in the run.
    item: u32,
}

impl Task {
    fn of(entry: &Reader, reader: u32, from: Origin, item: u32, serial: u32) -> Task {
        let rank = match from {
            Origin::Rule(_) => 0,
            Origin::Correlation(index) => index + 1,
        };
        Task { correlation: entry.correlation, rank, serial, reader, item }
    }
}

/// What a run is: nothing of it changes while it is fed.
#[derive(Debug, Clone, Copy)]
struct Scene<'r> {
    plans: &'r Plans,
    settings: &'r Settings,
    run: &'r [Item],
}

/// All windows of one cluster, or of those across clusters.
#[derive(Debug)]
pub(super) struct Windows {
    across: bool,
    groups: Vec<Groups>,
    /// Per correlation, of those that tell what is new.
    scopes: Vec<Scopes>,
    absences: Absences,
    repeats: Repeats,
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
            repeats: Repeats::default(),
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
        let scene = Scene { plans, settings, run };
        if let [item] = run {
            // The readers of one match stand in their order already.
            for (reader, entry) in (0u32..).zip(self.readers(plans, item.origin())) {
                self.feed_in_turn(scene, Task::of(entry, reader, item.origin(), 0, 0), stats, fired);
            }
        } else {
            let mut ready = std::mem::take(&mut self.ready);
            for (index, item) in (0u32..).zip(run) {
                let from = item.origin();
                let readers = (0u32..).zip(self.readers(plans, from));
                ready.extend(readers.map(|(reader, entry)| Task::of(entry, reader, from, index, index)));
            }
            ready.sort_unstable();
            ready.drain(..).for_each(|task| self.feed_in_turn(scene, task, stats, fired));
            self.ready = ready;
        }
        while let Some(Reverse(task)) = self.tasks.pop() {
            self.feed(scene, task, stats, fired);
        }
    }

    /// Feeds a match, after what comes before it of what fired meanwhile.
    #[inline]
    fn feed_in_turn(&mut self, scene: Scene<'_>, task: Task, stats: &mut WindowStats, fired: &mut Vec<Fired>) {
        while self.tasks.peek().is_some_and(|Reverse(earlier)| *earlier < task)
            && let Some(Reverse(earlier)) = self.tasks.pop()
        {
            self.feed(scene, earlier, stats, fired);
        }
        self.feed(scene, task, stats, fired);
    }

    fn readers<'p>(&self, plans: &'p Plans, origin: Origin) -> &'p [Reader] {
        let readers = match origin {
            Origin::Rule(rule) => plans.of_rule.get(rule as usize),
            Origin::Correlation(inner) => plans.of_correlation.get(inner as usize),
        };
        readers.map_or(&[], |r| if self.across { &r.across } else { &r.local })
    }

    /// What a correlation that fired feeds.
    fn enqueue(&mut self, plans: &Plans, from: Origin, item: u32, fired: usize) {
        let serial = (self.numbers.len() + fired) as u32;
        for (reader, entry) in (0u32..).zip(self.readers(plans, from)) {
            self.tasks.push(Reverse(Task::of(entry, reader, from, item, serial)));
        }
    }

    fn feed(&mut self, scene: Scene<'_>, task: Task, stats: &mut WindowStats, fired: &mut Vec<Fired>) {
        let Scene { plans, run, .. } = scene;
        let plan = &plans.correlations[task.correlation as usize];
        let item = &run[task.item as usize];
        // Behind the matches of the run come the firings.
        let (from, hop) = match (task.serial as usize).checked_sub(run.len()) {
            Some(earlier) => (fired[earlier].firing.origin, Some(Arc::clone(&fired[earlier].hop))),
            None => (item.origin(), item.hop.clone()),
        };
        let signal = Signal {
            trace: &item.matched.trace,
            hop: hop.as_deref(),
            // A cluster's own lane needs no cluster in its keys.
            cluster: (self.across && !plan.across).then_some(item.matched.cluster),
        };
        let positions = &self.readers(plans, from)[task.reader as usize].positions;
        // Only what tells what is new has a quantum.
        let may_repeat = hop.is_none() && plan.quantum > 0;
        let told = (may_repeat && !scene.settings.repeats).then(|| {
            let correlation = (task.correlation, plan);
            self.repeats.of(correlation, positions, &item.matched.trace, item.time, signal.cluster)
        });
        if told.is_some_and(|told| self.is_repeat(plan, task.correlation as usize, told, item.time)) {
            return;
        }
        let counted = |stats: &WindowStats| {
            let index = task.correlation as usize;
            (stats.missing_group[index], stats.keys_saturated[index], stats.fanout_cut)
        };
        let before = counted(stats);
        self.feed_groups(scene, task, hop.as_ref(), positions, signal, stats, fired);
        // What was counted is to be counted again.
        if let Some(told) = told.filter(|_| counted(stats) == before) {
            self.repeats.put(told);
        }
    }

    /// Whether the correlation was told just this, and has nothing else to do at `now`.
    fn is_repeat(&self, plan: &Plan, index: usize, told: Told, now: i64) -> bool {
        let learns = matches!(plan.kind, Kind::New { learning: 1.., .. });
        let is_sweep_due = self.groups[index].is_sweep_due(now) || learns && self.scopes[index].is_sweep_due(now);
        !is_sweep_due && self.repeats.has(told)
    }

    /// Feeds a match to all of its groups.
    #[allow(clippy::too_many_arguments)]
    fn feed_groups(
        &mut self,
        scene: Scene<'_>,
        task: Task,
        hop: Option<&Arc<Hop>>,
        positions: &[u16],
        signal: Signal<'_>,
        stats: &mut WindowStats,
        fired: &mut Vec<Fired>,
    ) {
        let Scene { plans, settings, run } = scene;
        let (plan, item) = (&plans.correlations[task.correlation as usize], &run[task.item as usize]);
        let waits = matches!(plan.kind, Kind::Absence { .. });
        if let Some(sole) = sole(plans, plan, positions, signal).filter(|_| !waits) {
            let number = self.number_for(plan, run, task.item, stats);
            let fed = Fed { time: item.time, number, positions, tuples: sole.counted.as_slice() };
            let values = || sole_values(plans, plan, positions, signal);
            self.feed_group(scene, task, hop, sole.key, fed, signal.cluster, values, stats, fired);
            return;
        }
        let hits = several(plans, plan, positions, signal, settings.fanout_max, &mut stats.fanout_cut);
        if hits.is_empty() {
            stats.missing_group[task.correlation as usize] += 1;
            return;
        }
        if waits {
            self.feed_absences(scene, task, hop, &hits, signal.cluster, stats);
            return;
        }
        let number = self.number_for(plan, run, task.item, stats);
        for hit in &hits {
            let fed = Fed { time: item.time, number, positions: &hit.positions, tuples: &hit.tuples };
            let values = || hit.values.clone();
            self.feed_group(scene, task, hop, hit.key, fed, signal.cluster, values, stats, fired);
        }
    }

    /// Feeds a match to one of its groups; `values` are the group's.
    #[inline]
    #[allow(clippy::too_many_arguments)]
    fn feed_group<'a>(
        &mut self,
        scene: Scene<'_>,
        task: Task,
        below: Option<&Arc<Hop>>,
        key: u128,
        fed: Fed<'_>,
        cluster: Option<ClusterId>,
        values: impl Fn() -> Values<'a>,
        stats: &mut WindowStats,
        fired: &mut Vec<Fired>,
    ) {
        let Scene { plans, settings, run } = scene;
        let (index, item) = (task.correlation as usize, task.item as usize);
        let plan = &plans.correlations[index];
        let verdict = self.groups[index].feed(plan, index, settings, key, fed, stats);
        let learned = match plan.kind {
            Kind::New { learning, scope } => {
                self.learned(scene, index, fed.time, learning, &values()[..scope], cluster, stats)
            }
            _ => true,
        };
        let Some(verdict) = verdict.filter(|_| learned) else { return };
        let group = values().iter().map(|value| value.to_value()).collect();
        let hop = Hop { correlation: task.correlation, group, below: below.cloned() };
        let firing = self.firing(plan, settings, &run[item], fed.number, &hop, verdict);
        fired.push(Fired { firing, hop: Arc::new(hop), item });
        self.enqueue(plans, Origin::Correlation(task.correlation), task.item, fired.len() - 1);
    }

    fn feed_absences(
        &mut self,
        scene: Scene<'_>,
        task: Task,
        below: Option<&Arc<Hop>>,
        hits: &Hits<'_>,
        cluster: Option<ClusterId>,
        stats: &mut WindowStats,
    ) {
        let (plan, item) = (&scene.plans.correlations[task.correlation as usize], &scene.run[task.item as usize]);
        for hit in hits {
            let group = || hit.values.iter().map(|value| value.to_value()).collect();
            let wait = || Wait::new(item.time, item.matched.clone(), below.cloned(), group());
            // Waits that end together end in the order of their keys.
            let key = (task.correlation, lasting_key(&hit.values, cluster));
            self.absences.feed(plan, key, &hit.positions, wait, scene.settings, stats);
        }
    }

    /// Whether the scope of a match has learned what is usual in it.
    #[allow(clippy::too_many_arguments)]
    fn learned(
        &mut self,
        scene: Scene<'_>,
        index: usize,
        now: i64,
        learning: i64,
        scope: &[Found<'_>],
        cluster: Option<ClusterId>,
        stats: &mut WindowStats,
    ) -> bool {
        let plan = &scene.plans.correlations[index];
        let times = Times { learning, timespan: plan.timespan, quantum: plan.quantum };
        let scope = key(scene.plans, scope, cluster);
        let learned = self.scopes[index].feed(scope, now, times, scene.settings.keys_max);
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
            identity: matched.identity(),
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

    /// The evidence number of a match for a correlation. What comes up is told at once, by its own match: nothing of it is
    /// needed later.
    fn number_for(&mut self, plan: &Plan, run: &[Item], item: u32, stats: &mut WindowStats) -> u64 {
        match plan.kind {
            Kind::New { .. } => 0,
            _ => self.number(run, item as usize, stats),
        }
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
            identity: item.matched.identity(),
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
