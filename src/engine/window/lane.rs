//! A lane: everything that belongs to one cluster. And the lane behind them all, for correlations across clusters.

use std::sync::Arc;

use super::output::Output;
use super::plan::Plans;
use super::reorder::{Item, Reorder};
use super::seen::{Key, Seen, Sight};
use super::watermark::{Elsewhere, Watermark};
use super::windows::{Fired, Windows};
use super::{Late, Settings, WindowStats};
use crate::engine::matches::{Firing, Match, Origin};
use crate::rules::RuleSet;

/// How many matches are let go together, so that what is looked up for one need not be waited for before the next is.
const TOGETHER: usize = 256;

/// What all lanes share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) set: Arc<RuleSet>,
    pub(super) plans: Plans,
    pub(super) settings: Settings,
    pub(super) stats: WindowStats,
    pub(super) across: Across,
    pub(super) output: Output,
    /// No cluster will bring anything earlier.
    limit: Option<i64>,
    /// Room to work in, kept for its memory.
    due: Vec<Item>,
    run: Vec<Item>,
    fired: Vec<Fired>,
    firings: Vec<Firing>,
}

impl Shared {
    pub(super) fn new(set: Arc<RuleSet>, plans: Plans, settings: Settings) -> Self {
        let correlations = plans.correlations.len();
        let zeros = || vec![0; correlations];
        Shared {
            stats: WindowStats {
                missing_group: zeros(),
                keys_saturated: zeros(),
                live_keys: zeros(),
                ..WindowStats::default()
            },
            across: Across::new(&plans, &settings),
            output: Output::new(settings.ordered_output, settings.reorder_matches_max),
            limit: None,
            set,
            plans,
            settings,
            due: Vec::new(),
            run: Vec::new(),
            fired: Vec::new(),
            firings: Vec::new(),
        }
    }

    /// No cluster will bring anything earlier than `limit`: lets go what waited for it.
    pub(super) fn advance(&mut self, limit: Option<i64>, out: &mut Vec<Firing>) {
        if limit > self.limit {
            self.limit = limit;
            self.across.published = self.across.published.max(self.limit);
            self.release_across(out);
        }
        self.output.flush(self.limit, out);
    }

    /// Everything that waits is due; `end` is just past the newest event of all clusters.
    pub(super) fn finish(&mut self, end: Option<i64>, out: &mut Vec<Firing>) {
        let end = end.max(self.across.reorder.newest().map(|t| t.saturating_add(1)));
        self.limit = self.limit.max(end);
        self.across.published = self.across.published.max(end);
        self.release_across(out);
        self.output.finish(out);
    }

    /// Lets go the oldest matches that wait for other clusters, if there are too many.
    fn force_across(&mut self, out: &mut Vec<Firing>) {
        while self.across.reorder.len() > self.settings.reorder_matches_max
            && let Some(oldest) = self.across.reorder.oldest()
        {
            let before = self.across.reorder.len();
            self.across.published = self.across.published.max(Some(oldest.saturating_add(1)));
            self.release_across(out);
            self.stats.reorder_forced += (before - self.across.reorder.len()) as u64;
        }
    }

    fn release_across(&mut self, out: &mut Vec<Firing>) {
        let Some(limit) = self.across.published else { return };
        while let Some(next) = self.next_across().filter(|next| next.time() < limit) {
            // As if the limit had come here step by step, so that no more is held than there must be.
            self.output.flush(self.limit.min(Some(next.time())), out);
            let Shared { plans, settings, run, stats, fired, across, .. } = self;
            match next {
                Next::Event(_) => {
                    across.reorder.pop_run(run);
                    stats.buffered -= run.len() as u64;
                    across.windows.run(plans, settings, run, stats, fired);
                }
                Next::End(_) => across.windows.end_next(plans, settings, run, stats, fired),
            }
            self.tell_fired();
            self.output.take(&mut self.firings, &mut self.stats, out);
        }
    }

    fn next_across(&mut self) -> Option<Next> {
        let event = self.across.reorder.oldest();
        Next::of(event, self.across.windows.next_end(&self.plans, &mut self.stats))
    }

    /// Hands what fired on to `firings`.
    fn tell_fired(&mut self) {
        for fired in self.fired.drain(..) {
            let Origin::Correlation(index) = fired.firing.origin else { continue };
            if self.plans.correlations[index as usize].alerts {
                self.firings.push(fired.firing);
            }
        }
    }

    fn alerts(&self, rule: u32) -> bool {
        self.set.rules.get(rule as usize).is_some_and(|r| r.alerts)
    }
}

/// What a lane has to do next, and when.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// To let the earliest event go.
    Event(i64),
    /// To end a wait.
    End(i64),
}

impl Next {
    /// The earlier of the two. A match in the last moment of a wait is in time, so events come first.
    fn of(event: Option<i64>, end: Option<i64>) -> Option<Next> {
        match (event, end) {
            (Some(event), Some(end)) if end < event => Some(Next::End(end)),
            (Some(event), _) => Some(Next::Event(event)),
            (None, end) => end.map(Next::End),
        }
    }

    fn time(self) -> i64 {
        match self {
            Next::Event(time) | Next::End(time) => time,
        }
    }
}

/// The lane behind all clusters.
#[derive(Debug)]
pub(super) struct Across {
    reorder: Reorder,
    windows: Windows,
    pub(super) published: Option<i64>,
}

impl Across {
    fn new(plans: &Plans, settings: &Settings) -> Self {
        Across { reorder: Reorder::default(), windows: Windows::new(plans, settings, true), published: None }
    }

    fn push(&mut self, mut item: Item, settings: &Settings, stats: &mut WindowStats) {
        if let Some(published) = self.published.filter(|p| item.time < *p) {
            stats.late_across += 1;
            match settings.late {
                Late::Drop => return,
                Late::Count => item.time = published,
            }
        }
        stats.buffered += 1;
        self.reorder.push(item);
    }
}

/// One cluster.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) marks: Watermark,
    reorder: Reorder,
    seen: Seen,
    windows: Windows,
}

impl Lane {
    pub(super) fn new(shared: &Shared) -> Self {
        Lane {
            marks: Watermark::new(shared.settings.lateness_us),
            reorder: Reorder::default(),
            seen: Seen::new(&shared.settings),
            windows: Windows::new(&shared.plans, &shared.settings, false),
        }
    }

    /// What requests and evidence take, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.seen.memory() + self.windows.memory()
    }

    /// Takes a match in, at the watermark of this moment. `before` is the newest time of its source before it.
    pub(super) fn take(
        &mut self,
        mut matched: Match,
        before: Option<i64>,
        elsewhere: Elsewhere,
        shared: &mut Shared,
        out: &mut Vec<Firing>,
    ) {
        let sighting = shared.plans.is_sighting(matched.rule);
        shared.stats.matches += u64::from(!sighting);
        let time = match matched.time {
            Some(time) => time,
            None => {
                shared.stats.untimed += 1;
                before.unwrap_or(0)
            }
        };
        matched.trace.time = time;
        let mut item = Item::of_rule(time, matched);
        if let Some(watermark) = self.marks.published().filter(|w| time < *w) {
            // What was due before it has to be known by now.
            self.release(elsewhere, shared, out);
            if sighting {
                shared.stats.late += 1;
            } else if !self.tell_late(&item, watermark, shared, out) || shared.settings.late == Late::Drop {
                return;
            }
            item.time = watermark;
        }
        shared.stats.buffered += 1;
        self.reorder.push(item);
        if self.reorder.len() > shared.settings.reorder_matches_max {
            self.release(elsewhere, shared, out);
        }
        if self.reorder.len() > shared.settings.reorder_matches_max
            && let Some(oldest) = self.reorder.oldest()
        {
            let before = self.reorder.len();
            self.marks.publish(Some(oldest.saturating_add(1)));
            self.release(elsewhere, shared, out);
            shared.stats.reorder_forced += (before - self.reorder.len()) as u64;
        }
    }

    /// A late match: its rule's alert stands. False if the request is known.
    fn tell_late(&mut self, item: &Item, watermark: i64, shared: &mut Shared, out: &mut Vec<Firing>) -> bool {
        let matched = &item.matched;
        let key = Key::new(matched.rule, matched.who, matched.long_running);
        if !self.seen.tell(key, watermark, &mut shared.stats) {
            shared.stats.duplicate_matches += 1;
            return false;
        }
        shared.stats.late += 1;
        if shared.alerts(matched.rule) {
            shared.firings.push(rule_firing(item, true));
            shared.output.take(&mut shared.firings, &mut shared.stats, out);
        }
        true
    }

    /// Lets go everything that the watermark has passed. What all clusters share moves along, event by event, so that it
    /// does not matter in how many steps the watermark came here.
    pub(super) fn release(&mut self, elsewhere: Elsewhere, shared: &mut Shared, out: &mut Vec<Firing>) {
        let published = self.marks.published();
        while let Some(next) = self.next(shared).filter(|next| Some(next.time()) < published) {
            match (next, published) {
                (Next::Event(_), Some(limit)) => {
                    self.reorder.pop_due(limit, TOGETHER, &mut shared.due);
                    self.judge(Some(elsewhere), shared, out);
                }
                _ => self.end_wait(Some(elsewhere), next.time(), shared, out),
            }
        }
        shared.advance(elsewhere.limit_with(published), out);
    }

    fn next(&mut self, shared: &mut Shared) -> Option<Next> {
        Next::of(self.reorder.oldest(), self.windows.next_end(&shared.plans, &mut shared.stats))
    }

    /// Ends the wait that is over next, at `time`.
    fn end_wait(&mut self, elsewhere: Option<Elsewhere>, time: i64, shared: &mut Shared, out: &mut Vec<Firing>) {
        if let Some(elsewhere) = elsewhere {
            shared.advance(elsewhere.limit_with(Some(time)), out);
        }
        let Shared { plans, settings, run, stats, fired, .. } = shared;
        self.windows.end_next(plans, settings, run, stats, fired);
        let run = std::mem::take(run);
        forward(&run, shared);
        tell(shared, out);
        shared.run = run;
    }

    /// Takes the next step, due or not, as far as it goes before the end of this lane.
    pub(super) fn step_to_end(&mut self, shared: &mut Shared, out: &mut Vec<Firing>) {
        match self.next(shared) {
            Some(Next::Event(_)) => {
                self.reorder.pop_run(&mut shared.due);
                self.judge(None, shared, out);
            }
            Some(Next::End(time)) => self.end_wait(None, time, shared, out),
            None => {}
        }
    }

    /// When the next step before the end of this lane is due.
    pub(super) fn next_time(&mut self, shared: &mut Shared) -> Option<i64> {
        let published = self.marks.published();
        self.next(shared).map(Next::time).filter(|time| Some(*time) < published)
    }

    /// Every source has ended: everything is due, and the watermark goes just past the newest event.
    pub(super) fn end(&mut self) {
        self.marks.end_all();
        let end = self.marks.newest().max(self.reorder.newest());
        self.marks.publish(end.map(|t| t.saturating_add(1)));
    }

    /// Events have come out of the reorder buffer, as the matches of their rules (in `shared.due`). What all clusters share
    /// moves along with `elsewhere`.
    fn judge(&mut self, elsewhere: Option<Elsewhere>, shared: &mut Shared, out: &mut Vec<Firing>) {
        let mut due = std::mem::take(&mut shared.due);
        let Shared { stats, set, plans, .. } = &mut *shared;
        stats.buffered -= due.len() as u64;
        let key = |m: &Match| Key::new(m.rule, m.who, m.long_running);
        self.seen.expect(due.iter().map(|item| key(&item.matched)));
        due.retain_mut(|item| {
            let m = &item.matched;
            if plans.is_sighting(m.rule) {
                return true;
            }
            let sight = self.seen.release(key(m), item.time, stats);
            item.tells = sight == Sight::New && set.rules.get(m.rule as usize).is_some_and(|r| r.alerts);
            stats.duplicate_matches += u64::from(sight == Sight::Known);
            sight != Sight::Known
        });
        for run in due.chunk_by(Item::is_beside) {
            let time = run[0].time;
            while let Some(end) = self.windows.next_end(&shared.plans, &mut shared.stats).filter(|end| *end < time) {
                self.end_wait(elsewhere, end, shared, out);
            }
            if let Some(elsewhere) = elsewhere {
                shared.advance(elsewhere.limit_with(Some(time)), out);
            }
            let told = run.iter().filter(|item| item.tells).map(|item| rule_firing(item, false));
            shared.firings.extend(told);
            let Shared { plans, settings, stats, fired, .. } = &mut *shared;
            self.windows.run(plans, settings, run, stats, fired);
            forward(run, shared);
            tell(shared, out);
        }
        due.clear();
        shared.due = due;
    }
}

/// Hands on what fired in this run.
fn tell(shared: &mut Shared, out: &mut Vec<Firing>) {
    if !(shared.fired.is_empty() && shared.firings.is_empty()) {
        shared.tell_fired();
        shared.output.take(&mut shared.firings, &mut shared.stats, out);
    }
    shared.force_across(out);
}

/// Hands on to the lane behind what it reads of this run: rules' matches and correlations that fired.
fn forward(run: &[Item], shared: &mut Shared) {
    let Shared { fired, plans, across, settings, stats, .. } = shared;
    for firing in fired.iter() {
        if !plans.of_correlation[firing.hop.correlation as usize].across.is_empty() {
            let from = &run[firing.item];
            let item = Item::of_correlation(from.time, from.matched.clone(), Arc::clone(&firing.hop));
            across.push(item, settings, stats);
        }
    }
    for item in run {
        // With a hop it is what had begun a wait, and has been here.
        let of_rule = item.hop.is_none();
        if of_rule && plans.of_rule.get(item.matched.rule as usize).is_some_and(|r| !r.across.is_empty()) {
            across.push(Item::of_rule(item.time, item.matched.clone()), settings, stats);
        }
    }
}

fn rule_firing(item: &Item, late: bool) -> Firing {
    let m = &item.matched;
    Firing {
        origin: Origin::Rule(m.rule),
        time: item.time,
        identity: m.identity(),
        cluster: m.cluster,
        trace: m.trace.clone(),
        group: Vec::new(),
        count: 1,
        window: None,
        events: vec![m.trace.clone()],
        evidence_truncated: false,
        late,
    }
}
