//! Sinks are told from the journal: what is committed and not yet taken, in the order in which it was stored.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{Live, LiveError, Log};
use crate::journal::{Journal, JournalError};
use crate::sink::http;

/// How many alerts a sink is given at once.
const ALERTS_AT_ONCE: u32 = 500;
/// How long a sink that failed is left alone: first, and at most.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Where alerts go.
pub trait Sink: Send {
    /// What it is called, in messages and in the journal.
    fn name(&self) -> String;
    /// Takes alerts, each a line of JSON. When it returns they are where they should be; after an error all of them are
    /// given again.
    ///
    /// # Errors
    /// They could not be written. A closed pipe ends the run.
    fn send(&mut self, alerts: &[(i64, String)]) -> io::Result<()>;
}

/// Alerts with their numbers.
type Alerts = Vec<(i64, String)>;

/// A sink and how far it has got. It works in a thread of its own, on one lot of alerts at a time: whatever it waits for,
/// nobody else does.
pub(super) struct Delivery {
    name: String,
    to: Sender<Alerts>,
    from: Receiver<io::Result<()>>,
    /// The last alert of those it works on.
    working_on: Option<i64>,
    /// The number of the last alert taken.
    taken: i64,
    /// Whether there may be more to take.
    behind: bool,
    /// Alerts in the lot it works on, alerts it took, and lots it refused since the start.
    lot: u64,
    took: u64,
    refused: u64,
    failure: Option<Failure>,
}

/// Why a sink did not take what it was given.
struct Failure {
    what: String,
    /// How long it is left alone after this failure, before chance takes from it and the receiver adds to it.
    wait: Duration,
    until: Instant,
}

impl Delivery {
    fn start(mut sink: Box<dyn Sink>, taken: i64) -> io::Result<Delivery> {
        let name = sink.name();
        let (to, lots) = bounded::<Alerts>(1);
        let (done, from) = bounded(1);
        let work = move || {
            for alerts in lots {
                if done.send(sink.send(&alerts)).is_err() {
                    return;
                }
            }
        };
        // Nobody waits for it at the end: it may wait for a reader for ever.
        thread::Builder::new().name(format!("sink {name}")).spawn(work)?;
        Ok(Delivery {
            name,
            to,
            from,
            working_on: None,
            taken,
            behind: true,
            lot: 0,
            took: 0,
            refused: 0,
            failure: None,
        })
    }

    /// What it has not taken, and why.
    pub(super) fn failure(&self) -> Option<String> {
        let slow = || self.behind.then(|| format!("sink {}: is too slow", self.name));
        self.failure.as_ref().map(|failure| failure.what.clone()).or_else(slow)
    }

    /// Its name, the alerts it took, the lots it refused, and whether there is more to take.
    pub(super) fn state(&self) -> (&str, u64, u64, bool) {
        (&self.name, self.took, self.refused, self.behind)
    }

    fn is_waiting(&self) -> bool {
        self.failure.as_ref().is_some_and(|failure| Instant::now() < failure.until)
    }

    /// Gives it what it has not taken, if it is free. False if there is nothing.
    fn give(&mut self, journal: &Journal) -> Result<bool, JournalError> {
        if self.working_on.is_none() && self.behind && !self.is_waiting() {
            let alerts = journal.alerts_after(self.taken, ALERTS_AT_ONCE)?;
            self.working_on = alerts.last().map(|(last, _)| *last);
            self.behind = self.working_on.is_some();
            self.lot = alerts.len() as u64;
            if self.behind {
                // It is free, so there is room.
                let _ = self.to.try_send(alerts);
            }
        }
        Ok(self.working_on.is_some())
    }

    /// What came of the last lot.
    fn settle(&mut self, result: io::Result<()>, log: Log<'_>) -> Result<bool, LiveError> {
        let last = self.working_on.take();
        let error = match result {
            Ok(()) => {
                self.taken = last.unwrap_or(self.taken);
                self.took += self.lot;
                if self.failure.take().is_some() {
                    log(&format!("sink {}: takes alerts again", self.name));
                }
                return Ok(true);
            }
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(LiveError::Output(error)),
            Err(error) => error,
        };
        self.refused += 1;
        let what = format!("sink {}: {error}", self.name);
        let wait = match &self.failure {
            Some(failure) => (failure.wait * 2).min(RETRY_MAX),
            None => {
                log(&format!("{what}; trying again, alerts are stored meanwhile"));
                RETRY_FIRST
            }
        };
        // Sinks that failed together do not come back together.
        let spread = RandomState::new().hash_one(&self.name) % 250;
        let pause = wait - wait.mul_f64(spread as f64 / 1000.0);
        let pause = pause.max(http::wanted_wait(&error).unwrap_or_default());
        self.failure = Some(Failure { what, wait, until: Instant::now() + pause });
        Ok(false)
    }
}

pub(super) fn open(journal: &mut Journal, sinks: Vec<Box<dyn Sink>>) -> Result<Vec<Delivery>, LiveError> {
    let names: Vec<String> = sinks.iter().map(|sink| sink.name()).collect();
    journal.keep_sinks(&names)?;
    let deliveries = sinks.into_iter().map(|sink| {
        let taken = journal.sink(&sink.name())?;
        Delivery::start(sink, taken).map_err(LiveError::Thread)
    });
    deliveries.collect()
}

impl Live<'_> {
    /// Gives every sink what it has not taken yet. A sink that fails is tried again later.
    pub(super) fn deliver(&mut self) -> Result<(), LiveError> {
        self.deliver_within(Duration::ZERO)
    }

    /// The same until all have taken all, or one has failed, or nothing was taken for so long.
    pub(super) fn deliver_within(&mut self, patience: Duration) -> Result<(), LiveError> {
        let new = self.report.alerts != self.delivered;
        self.delivered = self.report.alerts;
        for delivery in &mut self.sinks {
            delivery.behind |= new;
            while delivery.give(&self.journal)? {
                let Ok(result) = delivery.from.recv_timeout(patience) else { break };
                if delivery.settle(result, self.log)? {
                    self.pending.delivered.retain(|(known, _)| *known != delivery.name);
                    self.pending.delivered.push((delivery.name.clone(), delivery.taken));
                }
            }
        }
        Ok(())
    }
}
