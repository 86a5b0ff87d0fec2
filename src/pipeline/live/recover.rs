//! After a start: the journal's matches are folded into windows again.

use super::follow::lateness_of;
use super::{Grade, Live, LiveError};
use crate::journal::Restorer;
use crate::rules::{Input, RuleSet};

/// How far back a fold goes at most, in microseconds: a day.
const REACH_MAX_US: i64 = 86_400_000_000;
/// And at least: as long as a request is remembered.
const REACH_MIN_US: i64 = 3_600_000_000;

/// How far back matches may still count, in microseconds: for a correlation twice its timespan, and what it is silent
/// for, behind what feeds it.
pub(super) fn reach_us(rules: &RuleSet) -> i64 {
    let all = (0..rules.correlations.len()).map(|at| reach_of(rules, at, rules.correlations.len()));
    all.max().unwrap_or(0).clamp(REACH_MIN_US, REACH_MAX_US)
}

/// `depth` ends what could only be a circle, which linking refuses.
fn reach_of(rules: &RuleSet, at: usize, depth: usize) -> i64 {
    let correlation = &rules.correlations[at];
    let own = correlation.timespan_us.saturating_mul(2).saturating_add(correlation.suppress_us);
    let own = own.max(correlation.realert_us.saturating_add(correlation.timespan_us));
    let inputs = correlation.inputs.iter().filter_map(|input| match input {
        Input::Correlation(inner) if depth > 0 => Some(reach_of(rules, *inner, depth - 1)),
        _ => None,
    });
    own.saturating_add(inputs.max().unwrap_or(0))
}

impl Live<'_> {
    /// Brings windows, watermarks and sources to where the last commit left them.
    pub(super) fn recover(&mut self) -> Result<(), LiveError> {
        let rows = self.journal.streams()?;
        for row in &rows {
            self.name(row);
            self.restored.push(row.id);
            self.core.windows.set_lateness(row.id, lateness_of(&self.plan, &row.key));
        }
        let watermarks = self.journal.watermarks()?;
        // Clusters are numbered first: the journal is borrowed while its entries are read.
        for name in rows.iter().map(|row| &row.cluster).chain(watermarks.iter().map(|(name, _)| name)) {
            self.cluster(name);
        }
        let clusters = &self.clusters;
        let number = |name: &str| clusters.iter().position(|known| known == name).map(|at| at as u32);
        let windows = &mut self.core.windows;
        let mut restorer = Restorer::new(&self.core.rules, &self.core.captures);
        let told = &mut self.firings;
        self.journal.entries(|entry| {
            let Some(cluster) = number(&entry.cluster) else { return };
            for mark in &entry.marks {
                windows.restore_source(mark.source, cluster, mark.front, mark.ended);
            }
            windows.restore_watermark(cluster, entry.watermark, told);
            let matches = entry.matches.into_iter().filter_map(|stored| restorer.restore(stored, cluster)).collect();
            windows.absorb(entry.source, cluster, entry.newest, matches, told);
            // What fires now was told when it fired first.
            told.clear();
        })?;
        self.report.rules_gone = restorer.dropped;
        for row in &rows {
            if let Some(cluster) = number(&row.cluster) {
                windows.restore_source(row.id, cluster, row.front, row.ended);
            }
        }
        for (name, time) in &watermarks {
            if let Some(cluster) = number(name) {
                windows.restore_watermark(cluster, Some(*time), told);
                self.watermarks[cluster as usize] = Some(*time);
            }
        }
        told.clear();
        if self.report.rules_gone > 0 {
            let gone = self.report.rules_gone;
            (self.log)(
                Grade::Problem,
                &format!("store: {gone} matches of rules that are no longer loaded were left out"),
            );
        }
        Ok(())
    }
}
