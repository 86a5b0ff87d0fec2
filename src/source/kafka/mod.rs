//! Topics of Kafka: a member of a consumer group, which is given partitions and gives them back. Where a partition goes on
//! is its owner's matter; what is committed to the group is for others to see, and for those who come after.
//!
//! Each partition has a queue of its own, so that one that is ahead of the others can be left to wait without losing what
//! was fetched of it: librdkafka stops fetching what nobody takes.

mod partition;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use crate::kafka::{ANSWER_TIMEOUT, ClientError, Connection, Context, KafkaError, Lag, Notes, Rebalance};
pub use partition::{Block, Partition};

/// How often lags are told.
const LAGS_EVERY_MS: &str = "5000";
/// What is fetched of a partition and not taken, in KiB, at most, unless the options say otherwise: one more record may
/// come on top.
const PREFETCH_KIB: &str = "1024";
/// How soon it is fetched again where enough was fetched and then taken. librdkafka's own second leaves a partition empty for most
/// of it.
const FETCH_AGAIN_MS: &str = "5";
/// How long it takes until the partitions of a member that is dead go to others, unless the options say otherwise.
const SESSION_TIMEOUT_MS: &str = "10000";
/// How often the same complaint is told.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Complaints remembered, so that they are not told again.
const TOLD_MAX: usize = 16;
/// How long brokers are waited for that are asked where partitions end.
const END_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a client is waited for that may ask for its token.
const TOKEN_TIMEOUT: Duration = Duration::from_millis(10);
/// Things done in one poll, at most.
const POLLS_MAX: usize = 1000;

/// How often a group without a coordinator is asked for.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Whether the answer will be another one in a moment.
fn has_no_coordinator(error: &ClientError) -> bool {
    use rdkafka::types::RDKafkaErrorCode as Code;
    let code = error.rdkafka_error_code();
    matches!(code, Some(Code::NotCoordinator | Code::CoordinatorNotAvailable | Code::CoordinatorLoadInProgress))
}

/// Where a partition begins of which nothing is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// With the oldest record there is.
    Beginning,
    /// With what is produced from now on.
    End,
}

/// What to read.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where.
    pub connection: Connection,
    /// Names of topics, and regular expressions that begin with `^`.
    pub topics: Vec<String>,
    /// The consumer group.
    pub group: String,
    /// Where a partition without any position begins.
    pub start: StartAt,
    /// Longest record that is kept, bytes.
    pub record_bytes: usize,
    /// A topic of our own, of which every record is kept.
    pub whole: Option<String>,
    /// A header that names the cluster of a record.
    pub cluster_header: Option<String>,
}

/// Where a partition goes on, and what there is of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The offset of the next record to read.
    pub next: i64,
    /// The offset of the first record there is.
    pub low: i64,
    /// The offset behind the last record there was when this was asked.
    pub end: i64,
    /// Records that are gone before they were read: their number.
    pub gone: i64,
}

/// A member of a consumer group.
pub struct Consumer {
    consumer: Arc<BaseConsumer<Context>>,
    notes: Notes,
    settings: Settings,
    /// What was told lately, and when.
    told: Vec<(String, Instant)>,
    /// What is to be told.
    fresh: Vec<String>,
}

impl Consumer {
    /// Makes a member; it joins its group with [`Consumer::subscribe`].
    ///
    /// # Errors
    /// The options are not understood.
    pub fn new(settings: Settings) -> Result<Consumer, KafkaError> {
        let reset = match settings.start {
            StartAt::Beginning => "earliest",
            StartAt::End => "latest",
        };
        let mut config = settings.connection.config(&[
            ("group.id", &settings.group),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("enable.partition.eof", "true"),
            ("auto.offset.reset", reset),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("isolation.level", "read_committed"),
            ("statistics.interval.ms", LAGS_EVERY_MS),
        ]);
        for (name, value) in [
            ("queued.max.messages.kbytes", PREFETCH_KIB),
            ("fetch.queue.backoff.ms", FETCH_AGAIN_MS),
            ("session.timeout.ms", SESSION_TIMEOUT_MS),
        ] {
            if config.get(name).is_none() {
                config.set(name, value);
            }
        }
        let (context, notes) = Context::new(settings.connection.token_file.clone());
        let consumer: BaseConsumer<Context> =
            config.create_with_context(context).map_err(|error| settings.connection.no_client(error))?;
        // A client that needs a token asks for it here, and talks to nobody before it has one. Nothing else can be there yet.
        let _ = consumer.poll(TOKEN_TIMEOUT);
        Ok(Consumer { consumer: Arc::new(consumer), notes, settings, told: Vec::new(), fresh: Vec::new() })
    }

    /// Joins the group.
    ///
    /// # Errors
    /// A regular expression among the topics is wrong.
    pub fn subscribe(&self) -> Result<(), KafkaError> {
        let topics: Vec<&str> = self.settings.topics.iter().map(String::as_str).collect();
        self.consumer.subscribe(&topics).map_err(|error| self.no_answer("the topics cannot be subscribed to", error))
    }

    /// What it was made from.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Does what is due, without waiting. Gives the partitions of which a record came past their queues: they are to be
    /// read again from where they stand.
    pub fn poll(&mut self) -> Vec<(String, i32)> {
        let mut strays = Vec::new();
        for _ in 0..POLLS_MAX {
            match self.consumer.poll(Duration::ZERO) {
                Some(Ok(message)) => strays.push((message.topic().to_owned(), message.partition())),
                // The context was told, with the reason.
                Some(Err(_)) => {}
                None => break,
            }
        }
        let complaints: Vec<String> = self.notes.said.try_iter().collect();
        complaints.into_iter().for_each(|complaint| self.complain(complaint));
        strays.dedup();
        strays
    }

    /// A change of the group that is not taken up yet.
    pub fn rebalance(&self) -> Option<Rebalance> {
        self.notes.rebalances.try_recv().ok()
    }

    /// How many records are not read, if that was counted since it was asked last.
    pub fn lags(&self) -> Option<Vec<Lag>> {
        self.notes.lags.try_iter().last()
    }

    /// What people should know; the same is not told again for a minute.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.fresh)
    }

    fn complain(&mut self, what: String) {
        self.told.retain(|(_, at)| at.elapsed() < TELL_EVERY);
        if self.told.len() < TOLD_MAX && !self.told.iter().any(|(told, _)| *told == what) {
            self.fresh.push(format!("kafka {}: {what}", self.settings.connection.brokers));
            self.told.push((what, Instant::now()));
        }
    }

    /// All partitions of the topics that are there, for whoever reads them without a group.
    ///
    /// # Errors
    /// The brokers cannot be asked, a regular expression is wrong, or a topic is not there.
    pub fn all_partitions(&self) -> Result<Vec<(String, i32)>, KafkaError> {
        let metadata = self.consumer.fetch_metadata(None, ANSWER_TIMEOUT);
        let metadata =
            metadata.map_err(|error| self.no_answer(format!("which topics there are{}", self.reasons()), error))?;
        let mut found = Vec::new();
        for wanted in &self.settings.topics {
            let pattern = wanted.starts_with('^').then(|| regex::Regex::new(wanted));
            let pattern = pattern
                .transpose()
                .map_err(|_| self.no_answer(format!("{wanted} is no regular expression"), ClientError::Canceled))?;
            let fits = |name: &str| pattern.as_ref().map_or(name == wanted, |pattern| pattern.is_match(name));
            let topics: Vec<_> = metadata.topics().iter().filter(|topic| fits(topic.name())).collect();
            if topics.is_empty() && pattern.is_none() {
                let brokers = self.settings.connection.brokers.clone();
                return Err(KafkaError::NoTopic { brokers, topic: wanted.clone() });
            }
            for topic in topics {
                found.extend(topic.partitions().iter().map(|one| (topic.name().to_owned(), one.id())));
            }
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// What the client has said of why it has no answer, such as that its name or a certificate is not accepted.
    fn reasons(&self) -> String {
        for _ in 0..TOLD_MAX {
            let _ = self.consumer.poll(Duration::ZERO);
        }
        let mut said: Vec<String> = self.notes.said.try_iter().collect();
        said.dedup();
        said.iter().map(|what| format!(" ({what})")).collect()
    }

    /// How far the group has read. A new group has no coordinator for a moment, nor has one whose broker is gone: it is asked
    /// again for as long as an answer may take.
    fn committed(&self, list: &TopicPartitionList) -> Result<TopicPartitionList, KafkaError> {
        let until = Instant::now() + ANSWER_TIMEOUT;
        loop {
            match self.consumer.committed_offsets(list.clone(), ANSWER_TIMEOUT) {
                Err(error) if has_no_coordinator(&error) && Instant::now() < until => std::thread::sleep(ASK_EVERY),
                answer => return answer.map_err(|error| self.no_answer("how far the group has read", error)),
            }
        }
    }

    /// Where partitions go on: each where it is said, else where the group stands, else at the start that is configured.
    /// What retention took is told in [`Place::gone`]. With `follow_group`, a group that is further wins.
    ///
    /// # Errors
    /// The brokers cannot be asked.
    pub fn places(&self, wanted: &[Wanted]) -> Result<Vec<Place>, KafkaError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let mut list = TopicPartitionList::with_capacity(wanted.len());
        for one in wanted {
            list.add_partition(&one.topic, one.partition);
        }
        let committed = self.committed(&list)?;
        let place = |one: &Wanted| {
            let (low, end) = self.ends(&one.topic, one.partition)?;
            let group = committed.find_partition(&one.topic, one.partition).and_then(|found| match found.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            });
            Ok(place(one, group, self.settings.start, low, end))
        };
        let places: Result<Vec<Place>, KafkaError> = wanted.iter().map(place).collect();
        places.inspect_err(|_| self.refresh(wanted.iter().map(|one| one.topic.as_str())))
    }

    /// The offset of the first record of a partition, and the one behind its last.
    ///
    /// # Errors
    /// The brokers cannot be asked.
    pub fn ends(&self, topic: &str, partition: i32) -> Result<(i64, i64), KafkaError> {
        let ends = self.consumer.fetch_watermarks(topic, partition, ANSWER_TIMEOUT);
        ends.map_err(|error| self.no_answer(format!("the ends of {topic}/{partition}"), error))
    }

    /// Asks brokers for these topics anew, if librdkafka's own picture of them was of no use: it asks by itself after five
    /// minutes, and until then does not know partitions that a broker which had just started did not tell of.
    fn refresh<'t>(&self, topics: impl Iterator<Item = &'t str>) {
        let topics: BTreeSet<&str> = topics.collect();
        for topic in topics {
            // Whether that was of use is seen by the next question.
            let _ = self.consumer.fetch_metadata(Some(topic), END_TIMEOUT);
        }
    }

    /// Takes partitions, each from its place on.
    ///
    /// # Errors
    /// The group has gone on without us; it will tell.
    pub fn take(&self, wanted: &[Wanted], places: &[Place], grouped: bool) -> Result<Vec<Partition>, KafkaError> {
        let refused = |error| self.moved(error);
        let mut list = TopicPartitionList::with_capacity(wanted.len());
        let mut partitions = Vec::new();
        for (one, place) in wanted.iter().zip(places) {
            // Before it is assigned: what comes first must come to its queue.
            let queue = self.consumer.split_partition_queue(&one.topic, one.partition);
            let queue = queue.ok_or(ClientError::Canceled).map_err(refused)?;
            list.add_partition_offset(&one.topic, one.partition, Offset::Offset(place.next)).map_err(refused)?;
            partitions.push(Partition::new(&one.topic, one.partition, queue, *place, &self.settings));
        }
        let taken = if grouped { self.consumer.incremental_assign(&list) } else { self.consumer.assign(&list) };
        taken.map_err(refused)?;
        Ok(partitions)
    }

    /// Gives partitions back. Those that were never taken are none of ours: the group waits for an answer all the same.
    ///
    /// # Errors
    /// The group has gone on without us.
    pub fn give_back(&self, partitions: &[(String, i32)]) -> Result<(), KafkaError> {
        let taken = self.consumer.assignment().map_err(|error| self.moved(error))?;
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for (topic, partition) in partitions.iter().filter(|(t, n)| taken.find_partition(t, *n).is_some()) {
            list.add_partition(topic, *partition);
        }
        self.consumer.incremental_unassign(&list).map_err(|error| self.moved(error))
    }

    /// Asks which of these partitions, each with the offset to go on with, hold nothing that did not come.
    ///
    /// # Errors
    /// One of the brokers does not answer.
    pub fn are_read(&self, partitions: &[(&str, i32, i64)]) -> Result<Vec<bool>, KafkaError> {
        let failed = |error| self.no_answer("where partitions end", error);
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for (topic, partition, _) in partitions {
            list.add_partition_offset(topic, *partition, Offset::End).map_err(failed)?;
        }
        let ends = self.consumer.offsets_for_times(list, END_TIMEOUT);
        let ends = ends.inspect_err(|_| self.refresh(partitions.iter().map(|one| one.0))).map_err(failed)?;
        // What is given out, and records behind it that are not for us: the marks of transactions.
        let positions = self.consumer.position().map_err(failed)?;
        let offset_in = |list: &TopicPartitionList, topic: &str, partition| {
            let found = list.find_partition(topic, partition).filter(|found| found.error().is_ok());
            found.and_then(|found| found.offset().to_raw()).filter(|offset| *offset >= 0)
        };
        let is_read = |(topic, partition, next): &(&str, i32, i64)| {
            let position = offset_in(&positions, topic, *partition).map_or(*next, |position| position.max(*next));
            offset_in(&ends, topic, *partition).is_some_and(|end| end <= position)
        };
        Ok(partitions.iter().map(is_read).collect())
    }

    /// Reads a partition again from this offset on; what was fetched is forgotten.
    ///
    /// # Errors
    /// It could not be done in time. What comes next is not to be used.
    pub fn rewind(&self, topic: &str, partition: i32, next: i64) -> Result<(), KafkaError> {
        let done = self.consumer.seek(topic, partition, Offset::Offset(next), ANSWER_TIMEOUT);
        done.map_err(|error| self.no_answer(format!("{topic}/{partition}: cannot go back to {next}"), error))
    }

    /// The client, for transactions that hold its offsets.
    pub fn client(&self) -> &BaseConsumer<Context> {
        &self.consumer
    }

    /// How many partitions a topic has.
    ///
    /// # Errors
    /// The brokers cannot be asked, or it is not there.
    pub fn partitions_of(&self, topic: &str) -> Result<i32, KafkaError> {
        let found = self.topics()?.into_iter().find(|(name, _)| name == topic);
        let missing =
            || KafkaError::NoTopic { brokers: self.settings.connection.brokers.clone(), topic: topic.to_owned() };
        found.map(|(_, partitions)| partitions).ok_or_else(missing)
    }

    /// The topics that are there, and how many partitions each has.
    ///
    /// # Errors
    /// The brokers cannot be asked, a topic is not there, or not all of its partitions are told.
    pub fn topics(&self) -> Result<Vec<(String, i32)>, KafkaError> {
        let mut topics: Vec<(String, i32)> = Vec::new();
        for (topic, partition) in self.all_partitions()? {
            if topics.last().is_none_or(|(last, _)| *last != topic) {
                topics.push((topic, 0));
            }
            // They are in order. Whoever believed in fewer than there are would not wait for the others.
            if let Some((topic, partitions)) = topics.last_mut() {
                if *partitions != partition {
                    let (brokers, partition) = (self.settings.connection.brokers.clone(), *partitions);
                    return Err(KafkaError::Partial { brokers, topic: topic.clone(), partition });
                }
                *partitions += 1;
            }
        }
        Ok(topics)
    }

    /// Tells the group how far partitions are read. With `wait`, until it has answered.
    pub fn commit(&mut self, positions: &[(&str, i32, i64)], wait: bool) {
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for (topic, partition, next) in positions {
            // An offset can always be represented.
            let _ = list.add_partition_offset(topic, *partition, Offset::Offset(*next));
        }
        if list.count() == 0 {
            return;
        }
        let mode = if wait { CommitMode::Sync } else { CommitMode::Async };
        if let Err(error) = self.consumer.commit(&list, mode) {
            self.complain(error.to_string());
        }
    }

    fn moved(&self, source: ClientError) -> KafkaError {
        KafkaError::Moved { brokers: self.settings.connection.brokers.clone(), source: Box::new(source) }
    }

    fn no_answer(&self, what: impl Into<String>, error: ClientError) -> KafkaError {
        self.settings.connection.no_answer(what, error)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.consumer.context().close();
    }
}

/// A partition to go on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: i32,
    /// The offset to go on with, if one is recorded.
    pub next: Option<i64>,
    /// Whether somebody else may have read on since that was recorded.
    pub follow_group: bool,
}

/// Where a partition goes on that holds the records from `low` to before `end`.
fn place(wanted: &Wanted, group: Option<i64>, start: StartAt, low: i64, end: i64) -> Place {
    let recorded = match (wanted.next, group) {
        (Some(own), Some(group)) if wanted.follow_group => Some(own.max(group)),
        (own, group) => own.or(group),
    };
    match recorded {
        // Behind its end: the topic was deleted and made again.
        Some(next) if next > end => Place { next: low, low, end, gone: 0 },
        Some(next) if next < low => Place { next: low, low, end, gone: low - next },
        Some(next) => Place { next, low, end, gone: 0 },
        None if start == StartAt::End => Place { next: end, low, end, gone: 0 },
        None => Place { next: low, low, end, gone: 0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_goes_on_where_it_is_recorded() {
        use StartAt::{Beginning, End};
        for (own, group, follows, start, expected) in [
            (None, None, false, Beginning, (10, 0)),
            (None, None, false, End, (90, 0)),
            (None, Some(50), false, End, (50, 0)),
            (Some(40), Some(50), false, End, (40, 0)),
            (Some(40), Some(50), true, End, (50, 0)),
            (Some(60), Some(50), true, End, (60, 0)),
            (Some(4), None, false, End, (10, 6)),
            (Some(90), None, false, Beginning, (90, 0)),
            (Some(91), Some(50), false, End, (10, 0)),
        ] {
            let wanted = Wanted { topic: "a".to_owned(), partition: 0, next: own, follow_group: follows };
            let got = place(&wanted, group, start, 10, 90);
            assert_eq!((got.next, got.gone, got.end), (expected.0, expected.1, 90), "{own:?} {group:?} {start:?}");
        }
    }
}
