//! What is committed, and when it is tried again.

use std::time::Instant;

use super::feed::Feed;
use super::{Grade, LAST_TRIES, Live, LiveError, PRUNE_EVERY, RETRY_AFTER};
use crate::engine::matches::ClusterId;
use crate::journal::JournalError;

impl Live<'_> {
    /// Commits positions, matches, watermarks and alerts together. False if it could not be done; then nothing is read
    /// until it is, so that memory stays as it is.
    pub(super) fn commit(&mut self) -> bool {
        self.committed_at = Instant::now();
        self.gather();
        if self.pending.is_empty() {
            return true;
        }
        match self.journal.commit(&self.pending, self.clock.now_us) {
            Ok(new) => {
                self.stored(&new);
                self.store_works();
                true
            }
            Err(error) => {
                self.store_fails(&error);
                false
            }
        }
    }

    /// Adds what moved since the last commit.
    fn gather(&mut self) {
        for stream in self.streams.iter_mut().filter(|s| s.moved) {
            stream.moved = false;
            stream.feed.iter_mut().for_each(Feed::gather);
            let row = stream.row(&self.clusters);
            self.pending.streams.retain(|known| known.id != row.id);
            self.pending.streams.push(row);
        }
        for (cluster, known) in (0..).zip(&mut self.watermarks) {
            let now = self.core.windows.watermark(cluster as ClusterId);
            if let Some(time) = now.filter(|_| now != *known) {
                *known = now;
                self.pending.watermarks.push((self.clusters[cluster as usize].clone(), time));
            }
        }
    }

    pub(super) fn commit_at_last(&mut self) -> Result<(), LiveError> {
        for _ in 1..LAST_TRIES {
            if self.commit() {
                return Ok(());
            }
            let _ = crossbeam_channel::never::<()>().recv_timeout(RETRY_AFTER);
        }
        self.gather();
        let new = self.journal.commit(&self.pending, self.clock.now_us)?;
        self.stored(&new);
        Ok(())
    }

    /// The store could not be written; told once.
    pub(super) fn store_fails(&mut self, error: &JournalError) {
        self.report.commit_failures += 1;
        self.watch.metrics.commit(false);
        if !std::mem::replace(&mut self.stuck, true) {
            (self.log)(Grade::Problem, &format!("{error}; nothing is read until it can be written, trying again"));
        }
    }

    /// It was written.
    pub(super) fn store_works(&mut self) {
        if std::mem::take(&mut self.stuck) {
            (self.log)(Grade::Info, "store: can be written again; reading goes on");
        }
    }

    /// What waited is stored; so many of its alerts were not known before.
    fn stored(&mut self, new: &[(usize, i64)]) {
        self.report.alerts += new.len() as u64;
        self.watch.metrics.commit(true);
        self.streams.iter_mut().filter_map(|stream| stream.feed.as_mut()).for_each(Feed::stored);
        for (cluster, time) in &self.pending.watermarks {
            self.watch.watermark(cluster, *time);
        }
        for (at, number) in new {
            let (Some(alert), Some(since)) = (self.pending.alerts.get(*at), self.pending_since.get(*at)) else {
                continue;
            };
            self.watch.alert(&alert.rule, alert.level.name());
            self.watch.stored(*number, alert.correlation, *since);
        }
        self.pending.clear();
        self.pending_since.clear();
    }

    /// Now and then, forgets what is old.
    pub(super) fn prune(&mut self) {
        if self.pruned_at.elapsed() >= PRUNE_EVERY {
            self.pruned_at = Instant::now();
            self.prune_some();
        }
    }

    /// Forgets all that is old, before a run ends that was too short for doing so now and then.
    pub(super) fn prune_at_last(&mut self) {
        for _ in 0..PRUNES_AT_LAST {
            if !self.prune_some() {
                return;
            }
        }
    }

    /// Forgets some of what is old: of each cluster by its own time. False if there was nothing.
    fn prune_some(&mut self) -> bool {
        let (known, reach_us) = (self.clusters.iter().zip(&self.watermarks), self.reach_us);
        let old = known.filter_map(|(name, time)| Some((name.as_str(), (*time)?.saturating_sub(reach_us))));
        match self.journal.prune(old, self.clock.now_us.saturating_sub(self.plan.retention_us)) {
            Ok(gone) => gone > 0,
            Err(error) => {
                (self.log)(Grade::Problem, &format!("{error}; old alerts could not be removed"));
                false
            }
        }
    }
}

/// How often it is done at the end, at most.
const PRUNES_AT_LAST: usize = 100;
