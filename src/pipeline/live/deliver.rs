//! Sinks are told from the journal: what is committed and not yet taken, in the order in which it was stored.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use super::outlet::{self, Done, Lot, Outlet};
use super::{Grade, Live, LiveError, Log};
use crate::journal::{Delivered, Journal, JournalError};
use crate::metrics::SinkCounts;
use crate::sink::http;

/// How many alerts a sink is given at once.
const ALERTS_AT_ONCE: u32 = 500;
/// How long a sink that failed is left alone: first, and at most.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// A sink and how far it has got. It works in a thread of its own, on one lot of alerts at a time: whatever it waits for,
/// nobody else does.
pub(super) struct Delivery {
    name: String,
    settings: String,
    to: Sender<Lot>,
    from: Receiver<Done>,
    /// Whether it works on something, and how many alerts that is.
    working_on: Option<u64>,
    /// The number of the last alert taken.
    taken: i64,
    /// Whether there may be more to take.
    behind: bool,
    /// When something is due even if nothing comes.
    due: Option<Instant>,
    /// Until when it must not be given anything.
    pause: Option<Instant>,
    backlog_max: i64,
    counts: SinkCounts,
    /// What a sink of this name did before it.
    earlier: SinkCounts,
    failure: Option<Failure>,
    /// What takes its place when it is free.
    next: Option<Outlet>,
}

/// Why a sink did not take what it was given.
struct Failure {
    what: String,
    /// How long it is left alone after this failure, before chance takes from it and the receiver adds to it.
    wait: Duration,
}

/// What came of a lot.
struct Settled {
    /// How far the sink has got, if it moved.
    delivered: Option<Delivered>,
    /// How long the lot took, if something was sent.
    spent: Option<Duration>,
    /// When it was done.
    at: Instant,
    /// Whether it may be given more at once.
    goes_on: bool,
}

impl Delivery {
    fn start(outlet: Outlet, journal: &mut Journal) -> Result<Delivery, LiveError> {
        let name = outlet.sink.name();
        let (taken, state) = journal.sink(&name)?;
        let (settings, backlog_max) = (outlet.settings.clone(), outlet.backlog_max);
        let (to, from) = outlet::start(outlet, taken, &state).map_err(LiveError::Thread)?;
        // What a group waits for is known by the sink alone: it is asked once.
        let due = (!state.is_empty()).then(Instant::now);
        Ok(Delivery {
            name,
            settings,
            to,
            from,
            working_on: None,
            taken,
            behind: true,
            due,
            pause: None,
            backlog_max,
            counts: SinkCounts::default(),
            earlier: SinkCounts::default(),
            failure: None,
            next: None,
        })
    }

    /// What it has not taken, and why.
    pub(super) fn failure(&self) -> Option<String> {
        let slow = || self.behind.then(|| format!("sink {}: is too slow", self.name));
        self.failure.as_ref().map(|failure| failure.what.clone()).or_else(slow)
    }

    /// Its name, and what it did since the start; `newest` is the number of the newest alert.
    pub(super) fn state(&self, newest: i64) -> (&str, SinkCounts) {
        let queued = if self.behind { (newest - self.taken).max(0) } else { 0 };
        let counts = SinkCounts { queued: queued.unsigned_abs(), behind: self.behind, ..self.counts };
        (&self.name, counts.after(&self.earlier))
    }

    /// Where it says that it is done, if it works on something.
    pub(super) fn done(&self) -> Option<&Receiver<Done>> {
        self.working_on.map(|_| &self.from)
    }

    /// The number of the last alert taken.
    pub(super) fn taken(&self) -> i64 {
        self.taken
    }

    /// Gives it what it has not taken, if it is free. False if there is nothing.
    fn give(&mut self, journal: &Journal, log: Log<'_>) -> Result<bool, JournalError> {
        let now = Instant::now();
        let waits = self.pause.is_some_and(|until| now < until);
        let due = self.due.is_some_and(|due| due <= now);
        if self.working_on.is_none() && !waits && (self.behind || due) {
            self.pass_over(journal, log)?;
            let alerts = journal.alerts_after(self.taken, ALERTS_AT_ONCE)?;
            self.behind = !alerts.is_empty();
            if self.behind || due {
                self.working_on = Some(alerts.len() as u64);
                // It is free, so there is room.
                let _ = self.to.try_send(Lot { alerts, taken: self.taken });
            }
        }
        Ok(self.working_on.is_some())
    }

    /// Passes over what is too much for its backlog: the oldest.
    fn pass_over(&mut self, journal: &Journal, log: Log<'_>) -> Result<(), JournalError> {
        // Only a sink that fails gets so far behind.
        let last = if self.failure.is_some() { journal.newest_alert()? } else { return Ok(()) };
        let first = last - self.backlog_max;
        if first > self.taken {
            if self.counts.passed_over == 0 {
                log(
                    Grade::Problem,
                    &format!(
                        "sink {}: is more than max_backlog behind; the oldest alerts are not sent to it",
                        self.name
                    ),
                );
            }
            self.counts.passed_over += (first - self.taken).unsigned_abs();
            self.taken = first;
        }
        Ok(())
    }

    /// What came of the last lot.
    fn settle(&mut self, done: Done, log: Log<'_>) -> Result<Settled, LiveError> {
        let given = self.working_on.take().unwrap_or_default();
        let now = Instant::now();
        let Done { through, state, wait, due, left, error, spent, at, routed, sent, given_up } = done;
        let before = self.taken;
        self.taken = self.taken.max(through.unwrap_or(i64::MIN));
        self.counts.took += (self.taken - before).unsigned_abs().min(given);
        self.counts = SinkCounts { routed, sent, given_up, ..self.counts };
        self.due = due.map(|after| now + after);
        self.pause = Some(now + wait);
        // Nobody else knows whether there is more.
        self.behind |= left;
        let moved = self.taken != before || state.is_some();
        let delivered = moved.then(|| Delivered { sink: self.name.clone(), last: self.taken, state });
        let goes_on = error.is_none() && wait.is_zero();
        match error {
            Some(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(LiveError::Output(error)),
            Some(error) => self.fails(&error, log),
            None if self.failure.take().is_some() => {
                log(Grade::Info, &format!("sink {}: takes alerts again", self.name))
            }
            None => {}
        }
        Ok(Settled { delivered, spent, at: at.unwrap_or(now), goes_on })
    }

    fn fails(&mut self, error: &io::Error, log: Log<'_>) {
        self.counts.refused += 1;
        let what = format!("sink {}: {error}", self.name);
        let wait = match &self.failure {
            Some(failure) => (failure.wait * 2).min(RETRY_MAX),
            None => {
                log(Grade::Problem, &format!("{what}; trying again, alerts are stored meanwhile"));
                RETRY_FIRST
            }
        };
        // Sinks that failed together do not come back together.
        let spread = RandomState::new().hash_one(&self.name) % 250;
        let pause = wait - wait.mul_f64(spread as f64 / 1000.0);
        self.pause = Some(Instant::now() + pause.max(http::wanted_wait(error).unwrap_or_default()));
        self.failure = Some(Failure { what, wait });
    }
}

pub(super) fn open(journal: &mut Journal, outlets: Vec<Outlet>) -> Result<Vec<Delivery>, LiveError> {
    let names: Vec<String> = outlets.iter().map(|outlet| outlet.sink.name()).collect();
    journal.keep_sinks(&names)?;
    outlets.into_iter().map(|outlet| Delivery::start(outlet, journal)).collect()
}

impl Live<'_> {
    /// Puts other sinks in the place of those there are. One that stays as it is goes on; one that changes does when it is
    /// free, so that nothing it was given is told twice.
    pub(super) fn replace_sinks(&mut self, outlets: Vec<Outlet>) -> Result<(), LiveError> {
        let names: Vec<String> = outlets.iter().map(|outlet| outlet.sink.name()).collect();
        self.journal.keep_sinks(&names)?;
        self.pending.delivered.retain(|known| names.contains(&known.sink));
        for gone in self.sinks.iter().filter(|known| !names.contains(&known.name)) {
            self.watch.metrics.forget_sink(&gone.name);
        }
        self.sinks.retain(|known| names.contains(&known.name));
        for outlet in outlets {
            let name = outlet.sink.name();
            match self.sinks.iter_mut().find(|known| known.name == name) {
                Some(known) if known.settings == outlet.settings => known.next = None,
                Some(known) => known.next = Some(outlet),
                None => self.sinks.push(Delivery::start(outlet, &mut self.journal)?),
            }
        }
        self.swap_sinks()
    }

    /// Lets those that are free make room for what takes their place.
    fn swap_sinks(&mut self) -> Result<(), LiveError> {
        if !self.sinks.iter().any(|known| known.next.is_some() && known.working_on.is_none()) {
            return Ok(());
        }
        // What the old ones have taken must be known to the new ones.
        if !self.commit() {
            return Ok(());
        }
        for known in self.sinks.iter_mut().filter(|known| known.working_on.is_none()) {
            if let Some(outlet) = known.next.take() {
                let earlier = known.counts.after(&known.earlier);
                *known = Delivery { earlier, ..Delivery::start(outlet, &mut self.journal)? };
            }
        }
        Ok(())
    }

    /// Gives every sink what it has not taken yet. A sink that fails is tried again later.
    pub(super) fn deliver(&mut self) -> Result<(), LiveError> {
        self.deliver_within(Duration::ZERO)
    }

    /// The same until all have taken all, or one has failed, or nothing was taken for so long.
    pub(super) fn deliver_within(&mut self, patience: Duration) -> Result<(), LiveError> {
        self.swap_sinks()?;
        let new = self.report.alerts != self.delivered;
        self.delivered = self.report.alerts;
        for delivery in &mut self.sinks {
            delivery.behind |= new;
            while delivery.give(&self.journal, self.log)? {
                let Ok(done) = delivery.from.recv_timeout(patience) else { break };
                let before = delivery.taken;
                let Settled { delivered, spent, at, goes_on } = delivery.settle(done, self.log)?;
                self.watch.delivered(&delivery.name, before..delivery.taken, at, spent);
                if let Some(mut delivered) = delivered {
                    let known = &mut self.pending.delivered;
                    let at = known.iter().position(|known| known.sink == delivered.sink);
                    let older = at.map(|at| known.swap_remove(at));
                    delivered.state = delivered.state.or(older.and_then(|older| older.state));
                    known.push(delivered);
                }
                if !goes_on {
                    break;
                }
            }
        }
        let slowest = self.sinks.iter().map(Delivery::taken).min().unwrap_or(i64::MAX);
        self.watch.forget_through(slowest);
        Ok(())
    }
}
