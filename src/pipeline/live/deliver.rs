//! Sinks are told from the journal: what is committed and not yet taken, in the order in which it was stored.

use std::io;
use std::time::{Duration, Instant};

use super::{Live, LiveError};
use crate::journal::{Journal, JournalError};

/// How many alerts a sink is given at once.
const ALERTS_AT_ONCE: u32 = 500;
/// How long a sink that failed is left alone: first, and at most.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Where alerts go.
pub trait Sink {
    /// What it is called, in messages and in the journal.
    fn name(&self) -> String;
    /// Takes alerts, each a line of JSON. When it returns they are where they should be; after an error all of them are
    /// given again.
    ///
    /// # Errors
    /// They could not be written. A closed pipe ends the run.
    fn send(&mut self, alerts: &[(i64, String)]) -> io::Result<()>;
}

/// A sink and how far it has got.
pub(super) struct Delivery {
    sink: Box<dyn Sink>,
    /// The number of the last alert taken.
    taken: i64,
    /// Whether there may be more to take.
    behind: bool,
    failure: Option<(String, Duration, Instant)>,
}

impl Delivery {
    pub(super) fn is_behind(&self) -> bool {
        self.failure.is_some()
    }

    pub(super) fn failure(&self) -> String {
        self.failure.as_ref().map(|(what, ..)| what.clone()).unwrap_or_default()
    }

    fn is_waiting(&self) -> bool {
        self.failure.as_ref().is_some_and(|(_, wait, since)| since.elapsed() < *wait)
    }
}

pub(super) fn open(journal: &mut Journal, sinks: Vec<Box<dyn Sink>>) -> Result<Vec<Delivery>, JournalError> {
    let names: Vec<String> = sinks.iter().map(|sink| sink.name()).collect();
    journal.keep_sinks(&names)?;
    let deliveries = sinks.into_iter().map(|sink| {
        let taken = journal.sink(&sink.name())?;
        Ok(Delivery { sink, taken, behind: true, failure: None })
    });
    deliveries.collect()
}

impl Live<'_> {
    /// Gives every sink what it has not taken yet. A sink that fails is tried again later, and holds up no other.
    pub(super) fn deliver(&mut self) -> Result<(), LiveError> {
        let new = self.report.alerts != self.delivered;
        self.delivered = self.report.alerts;
        for delivery in &mut self.sinks {
            delivery.behind |= new;
            while delivery.behind && !delivery.is_waiting() {
                let alerts = self.journal.alerts_after(delivery.taken, ALERTS_AT_ONCE)?;
                let Some((last, _)) = alerts.last() else {
                    delivery.behind = false;
                    break;
                };
                match delivery.sink.send(&alerts) {
                    Ok(()) => {
                        delivery.taken = *last;
                        let name = delivery.sink.name();
                        self.pending.delivered.retain(|(known, _)| *known != name);
                        self.pending.delivered.push((name.clone(), *last));
                        if delivery.failure.take().is_some() {
                            (self.log)(&format!("sink {name}: takes alerts again"));
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(LiveError::Output(error)),
                    Err(error) => {
                        let what = format!("sink {}: {error}", delivery.sink.name());
                        let wait = match &delivery.failure {
                            Some((_, wait, _)) => (*wait * 2).min(RETRY_MAX),
                            None => {
                                (self.log)(&format!("{what}; trying again, alerts are stored meanwhile"));
                                RETRY_FIRST
                            }
                        };
                        delivery.failure = Some((what, wait, Instant::now()));
                    }
                }
            }
        }
        Ok(())
    }
}
