//! Other rules and other sinks, while it runs. The journal is folded into new windows as after a start: a reload equals a
//! restart, without its gap.

use super::outlet::Outlet;
use super::recover::reach_us;
use super::{Core, Grade, Live, LiveError};

/// What takes the place of rules and sinks.
pub struct Reload {
    /// Makes the engine: a worker belongs to one thread.
    pub core: Box<dyn FnOnce() -> Core + Send>,
    /// The sinks; those that are as they were go on.
    pub sinks: Vec<Outlet>,
    /// What is said when it is done.
    pub said: String,
}

impl Live<'_> {
    /// Takes what was read again, if there is something. Everything read so far is stored first, so that nothing is lost
    /// between the old windows and the new.
    pub(super) fn reload(&mut self) -> Result<(), LiveError> {
        let Some(reloads) = self.plan.reloads.as_ref().filter(|reloads| !reloads.is_empty()) else { return Ok(()) };
        let reloads = reloads.clone();
        if !self.commit() {
            return Ok(());
        }
        let Ok(next) = reloads.try_recv() else { return Ok(()) };
        self.observe_now();
        self.report.late += self.core.windows.stats().late;
        self.core = (next.core)();
        self.reach_us = reach_us(&self.core.rules);
        self.core.worker.settings_mut().clusters = self.clusters.clone().into();
        for stream in &self.streams {
            self.core.windows.set_lateness(stream.id, stream.lateness_us);
        }
        self.tick();
        self.recover()?;
        // Logs of which nothing was read yet hold their cluster's watermark, as when they were found.
        for stream in self.streams.iter().filter(|stream| stream.front.is_none()) {
            self.core.windows.add_source(stream.id, stream.cluster, stream.first);
        }
        let stats = self.core.windows.stats().clone();
        self.report.late = self.report.late.saturating_sub(stats.late);
        self.watch.reloaded(&self.core.rules, &stats);
        self.replace_sinks(next.sinks)?;
        self.watch.metrics.reload(true);
        (self.log)(Grade::Info, &next.said);
        Ok(())
    }
}
