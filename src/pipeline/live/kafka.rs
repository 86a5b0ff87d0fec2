//! Topics of Kafka: partitions come and go as the group says. Each is a stream; where it goes on stands in the journal,
//! and the group is told afterwards.

use std::time::{Duration, Instant};

use super::feed::Feed;
use super::follow::Stream;
pub(super) use super::partition_key::name_of;
use super::partition_key::{group_of, key, position};
use super::{Grade, Live, LiveError};
use crate::journal::StreamRow;
use crate::kafka::{KafkaError, Lag, Rebalance, by_topic};
use crate::sink::kafka::DeadTopic;
use crate::source::kafka::{Consumer, Partition, Place, Wanted};
use crate::source::replay::first_time;

/// Partitions read at once, at most: each has a queue of what was fetched.
const PARTITIONS_MAX: usize = 4096;
/// How often the group is told how far its partitions are stored.
const TELL_GROUP_EVERY: Duration = Duration::from_secs(1);
/// How long brokers that do not answer are left alone.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// The same, where they are asked for the ends of partitions that are silent.
const ASK_ENDS_AGAIN_AFTER: Duration = Duration::from_secs(3);
/// How long a run that is to end waits for brokers that bring nothing.
const ONCE_PATIENCE: Duration = Duration::from_secs(60);

/// A group that is read with, and what it is told.
pub struct Group {
    /// Our membership.
    pub consumer: Consumer,
    /// The cluster of what tells none.
    pub cluster: String,
    /// How far behind its newest event a match may be, microseconds.
    pub lateness_us: i64,
    /// Whether a topic's name is the name of its cluster.
    pub cluster_is_topic: bool,
    /// Where records go that could not be read.
    pub dead: Option<DeadTopic>,
}

/// A group at work.
pub(super) struct Membership {
    pub(super) group: Group,
    /// Partitions that are ours and wait for the brokers to tell where they go on.
    waiting: Vec<(String, i32)>,
    asked_at: Option<Instant>,
    told_at: Instant,
    /// When something was read last.
    read_at: Instant,
    /// Whether partitions were given to us in this run.
    joined: bool,
    /// As they were told last.
    lags: Vec<Lag>,
    /// When brokers are asked again where partitions end.
    ask_ends_at: Instant,
}

impl Live<'_> {
    /// Joins the groups; with `once`, takes all partitions there are.
    pub(super) fn join(&mut self) -> Result<(), LiveError> {
        let now = Instant::now();
        let (groups, once) = (std::mem::take(&mut self.plan.groups), self.plan.once);
        self.memberships.extend(groups.into_iter().map(|group| Membership {
            group,
            waiting: Vec::new(),
            asked_at: None,
            told_at: now,
            read_at: now,
            joined: false,
            lags: Vec::new(),
            ask_ends_at: now,
        }));
        for at in 0..self.memberships.len() {
            let consumer = &self.memberships[at].group.consumer;
            if once {
                let all = consumer.all_partitions()?;
                self.take_partitions(at, all)?;
            } else {
                consumer.subscribe()?;
            }
        }
        Ok(())
    }

    /// Does what the groups ask for.
    pub(super) fn tend_groups(&mut self) -> Result<(), LiveError> {
        for at in 0..self.memberships.len() {
            let consumer = &mut self.memberships[at].group.consumer;
            for (topic, number) in consumer.poll() {
                let of = |s: &&Stream| s.feed.as_ref().is_some_and(|f| f.topic == topic && f.number == number);
                if let Some(next) = self.streams.iter().find(of).and_then(|s| s.feed.as_ref()?.next()) {
                    consumer.rewind(&topic, number, next)?;
                }
            }
            while let Some(change) = self.memberships[at].group.consumer.rebalance() {
                match change {
                    Rebalance::Assigned(partitions) => {
                        self.watch.metrics.rebalance("assigned");
                        self.memberships[at].waiting.extend(partitions);
                        self.memberships[at].asked_at = None;
                        self.memberships[at].joined = true;
                        self.take_waiting(at)?;
                    }
                    Rebalance::Revoked { partitions, lost } => {
                        self.watch.metrics.rebalance(if lost { "lost" } else { "revoked" });
                        self.give_back(at, &partitions, lost);
                    }
                }
            }
            self.take_waiting(at)?;
            let notes = self.memberships[at].group.consumer.take_notes();
            notes.iter().for_each(|note| (self.log)(Grade::Info, note));
            if let Some(lags) = self.memberships[at].group.consumer.lags() {
                self.memberships[at].lags = lags;
                self.watch_lags();
            }
            if self.memberships[at].told_at.elapsed() >= TELL_GROUP_EVERY {
                self.tell_group(at, false);
            }
        }
        Ok(())
    }

    fn watch_lags(&self) {
        self.watch.metrics.lags(&by_topic(self.memberships.iter().flat_map(|membership| &membership.lags)));
    }

    /// Takes partitions of which the brokers have not told where they go on.
    fn take_waiting(&mut self, at: usize) -> Result<(), LiveError> {
        let membership = &mut self.memberships[at];
        if !membership.joined || membership.asked_at.is_some_and(|asked| asked.elapsed() < ASK_AGAIN_AFTER) {
            return Ok(());
        }
        if membership.waiting.is_empty() && membership.asked_at.is_some() {
            return Ok(());
        }
        let waiting = std::mem::take(&mut membership.waiting);
        match self.take_partitions(at, waiting.clone()) {
            Ok(()) => {}
            Err(LiveError::Kafka(error @ KafkaError::Moved { .. })) => (self.log)(Grade::Problem, &error.to_string()),
            Err(LiveError::Kafka(error)) => {
                (self.log)(Grade::Problem, &format!("{error}; trying again"));
                self.memberships[at].waiting = waiting;
            }
            Err(error) => return Err(error),
        }
        self.memberships[at].asked_at = Some(Instant::now());
        Ok(())
    }

    /// Takes partitions, each from where the journal left it.
    fn take_partitions(&mut self, at: usize, partitions: Vec<(String, i32)>) -> Result<(), LiveError> {
        let places: Result<Vec<usize>, LiveError> =
            partitions.iter().map(|(topic, number)| self.partition_stream(at, topic, *number)).collect();
        let mut streams = places?;
        if let Some(too_many) = streams.len().checked_sub(PARTITIONS_MAX).filter(|n| *n > 0) {
            (self.log)(
                Grade::Problem,
                &format!("{too_many} partitions are not read: one instance reads {PARTITIONS_MAX} at most"),
            );
            streams.truncate(PARTITIONS_MAX);
        }
        let wanted: Vec<Wanted> = streams.iter().filter_map(|at| self.streams[*at].wanted()).collect();
        let once = self.plan.once;
        let consumer = &self.memberships[at].group.consumer;
        let places = consumer.places(&wanted)?;
        let taken = consumer.take(&wanted, &places, !once)?;
        for ((stream, place), partition) in streams.iter().zip(&places).zip(taken) {
            self.begin(*stream, place, partition);
        }
        self.leave_others(at)?;
        Ok(())
    }

    /// Begins to read a partition.
    fn begin(&mut self, at: usize, place: &Place, partition: Partition) {
        let number = self.streams[at].id;
        for stream in self.streams.iter_mut().filter(|s| s.id == number || s.parent == Some(number)) {
            stream.idle_since = Instant::now();
            stream.ended = stream.ended && place.next >= place.end;
            self.core.windows.restore_source(stream.id, stream.cluster, stream.front, stream.ended);
        }
        let stream = &mut self.streams[at];
        stream.moved = true;
        let Some(feed) = &mut stream.feed else { return };
        if place.gone > 0 {
            self.report.broken += 1;
            (self.log)(
                Grade::Problem,
                &format!(
                    "kafka {}/{}: {} records are gone before they were read: retention is too short, or this was down for too \
                 long; going on at offset {}",
                    feed.topic, feed.number, place.gone, place.next
                ),
            );
        }
        feed.partition = Some(partition);
        feed.lost = false;
    }

    /// Partitions of this group that the journal knows and others read now hold nothing.
    fn leave_others(&mut self, at: usize) -> Result<(), LiveError> {
        let group = Some(self.memberships[at].group.consumer.settings().group.as_str());
        for row in self.journal.streams()?.iter().filter(|row| group_of(&row.key) == group) {
            let ours = self.streams.iter().any(|stream| stream.id == row.id);
            if !ours {
                self.core.windows.finish_source(row.id, &mut self.firings);
            }
        }
        self.store_firings();
        Ok(())
    }

    /// The stream of a partition, made if there is none; with it those of the clusters it was seen to tell of.
    fn partition_stream(&mut self, at: usize, topic: &str, number: i32) -> Result<usize, LiveError> {
        let group = &self.memberships[at].group;
        let key = key(&group.consumer.settings().group, topic, number);
        if let Some(known) = self.streams.iter().position(|stream| stream.key() == key) {
            return Ok(known);
        }
        let cluster = if group.cluster_is_topic { topic.to_owned() } else { group.cluster.clone() };
        let lateness_us = group.lateness_us;
        let place = self.stream(&key, &cluster, lateness_us, None)?;
        let row = self.journal.stream(&key, &cluster)?;
        let (next, lost) = position(&row.position);
        self.streams[place].feed = Some(Feed {
            membership: at,
            topic: topic.to_owned(),
            number,
            partition: None,
            next,
            lost,
            gathered: None,
            stored: next,
            told: None,
            announced: false,
        });
        let prefix = format!("{key}#");
        let parts: Vec<StreamRow> =
            self.journal.streams()?.into_iter().filter(|row| row.key.starts_with(&prefix)).collect();
        for part in parts {
            let at = self.stream(&part.key, &part.cluster, lateness_us, None)?;
            self.streams[at].parent = Some(self.streams[place].id);
        }
        Ok(place)
    }

    /// The stream of what a partition tells of this cluster.
    pub(super) fn part_of(&mut self, at: usize, cluster: &str) -> Result<usize, LiveError> {
        let Stream { id, cluster: own, .. } = self.streams[at];
        let Some(number) = self.cluster_of(cluster).filter(|number| *number != own) else { return Ok(at) };
        let of = |stream: &Stream| stream.parent == Some(id) && stream.cluster == number;
        if let Some(known) = self.streams.iter().position(of) {
            return Ok(known);
        }
        let mut found = at;
        // The other partitions may tell of it too: they hold its watermark where they stand.
        for reader in 0..self.streams.len() {
            let stream = &self.streams[reader];
            let (id, reach) = (stream.id, stream.reach());
            let reads = stream.feed.as_ref().is_some_and(|feed| feed.partition.is_some());
            if !reads
                || stream.cluster == number
                || self.streams.iter().any(|s| s.parent == Some(id) && s.cluster == number)
            {
                continue;
            }
            let key = format!("{}#{cluster}", self.streams[reader].key());
            let part = self.stream(&key, cluster, self.streams[reader].lateness_us, None)?;
            self.streams[part].parent = Some(id);
            if reader == at {
                found = part;
            } else {
                self.streams[part].first = reach;
                self.core.windows.add_source(self.streams[part].id, number, reach);
            }
        }
        Ok(found)
    }

    /// Gives partitions back: what was read of them is stored and told to the group first, so that whoever gets them goes
    /// on from there.
    fn give_back(&mut self, at: usize, partitions: &[(String, i32)], lost: bool) {
        self.commit();
        let mut ids = Vec::new();
        for stream in &mut self.streams {
            let Some(feed) = stream.feed.as_mut().filter(|feed| feed.membership == at) else { continue };
            if feed.partition.is_some() && partitions.iter().any(|(t, n)| *t == feed.topic && *n == feed.number) {
                ids.push(stream.id);
            }
        }
        if !lost {
            self.tell_group(at, true);
        }
        for stream in &mut self.streams {
            if !ids.contains(&stream.id) && !stream.parent.is_some_and(|parent| ids.contains(&parent)) {
                continue;
            }
            if let Some(feed) = &mut stream.feed {
                feed.next = feed.next();
                feed.partition = None;
                feed.lost = true;
            }
            stream.ended = true;
            stream.moved = true;
            self.core.windows.finish_source(stream.id, &mut self.firings);
        }
        self.store_firings();
        let membership = &mut self.memberships[at];
        membership.waiting.retain(|waiting| !partitions.contains(waiting));
        if let Err(error) = membership.group.consumer.give_back(partitions) {
            (self.log)(Grade::Problem, &error.to_string());
        }
    }

    /// Tells a group how far the journal has stored its partitions.
    pub(super) fn tell_group(&mut self, at: usize, wait: bool) {
        let membership = &mut self.memberships[at];
        membership.told_at = Instant::now();
        let feeds = self.streams.iter_mut().filter_map(|stream| stream.feed.as_mut());
        let moved = feeds.filter(|f| f.membership == at && f.partition.is_some() && f.stored != f.told);
        let positions: Vec<(&str, i32, i64)> = moved
            .filter_map(|feed| {
                feed.told = feed.stored;
                Some((feed.topic.as_str(), feed.number, feed.stored?))
            })
            .collect();
        membership.group.consumer.commit(&positions, wait);
    }

    /// Whether a stream that has had nothing is known to have nothing.
    pub(super) fn is_silent(&self, at: usize, after: Duration) -> bool {
        let stream = &self.streams[at];
        stream.idle_since.elapsed() >= after && self.reader(stream).feed.as_ref().is_none_or(|feed| feed.is_idle(after))
    }

    /// Whether brokers say that nothing came to the partition that a stream is read from. One whose broker is gone brings
    /// nothing, but may have something.
    pub(super) fn is_read_still(&mut self, at: usize) -> bool {
        let Some(feed) = &self.reader(&self.streams[at]).feed else { return true };
        let Some(partition) = &feed.partition else { return true };
        let asked = [(feed.topic.as_str(), feed.number, partition.next())];
        let at = feed.membership;
        if Instant::now() < self.memberships[at].ask_ends_at {
            return false;
        }
        let answer = self.memberships[at].group.consumer.are_read(&asked);
        let is_read = answer.as_ref().is_ok_and(|read| read == &[true]);
        if answer.is_err() {
            self.memberships[at].ask_ends_at = Instant::now() + ASK_ENDS_AGAIN_AFTER;
        }
        is_read
    }

    /// Whether a partition tells of others and no more of this stream's cluster: it was read further than that by so much.
    pub(super) fn is_left_behind(&self, at: usize, after_us: i64) -> bool {
        let stream = &self.streams[at];
        let left = |(reach, front): (i64, i64)| reach.saturating_sub(front) >= after_us;
        stream.parent.is_some() && self.reader(stream).reach().zip(stream.known_front()).is_some_and(left)
    }

    /// The stream that reads what this one tells.
    fn reader<'s>(&'s self, stream: &'s Stream) -> &'s Stream {
        let reader = stream.parent.and_then(|id| self.streams.iter().find(|stream| stream.id == id));
        reader.unwrap_or(stream)
    }

    /// Tells windows with which times partitions begin that were never read, so that none is late because another was
    /// read first. False while that is not known of one.
    pub(super) fn announce_partitions(&mut self) -> bool {
        let (once, believed) = (self.plan.once, self.clock.now_us + self.plan.max_skew_us);
        let mut all_known = true;
        for stream in self.streams.iter_mut().filter(|stream| stream.reach().is_none()) {
            let Some(feed) = stream.feed.as_mut().filter(|feed| !feed.announced) else { continue };
            match feed.partition.as_mut().and_then(|partition| partition.peek(once)) {
                Some(record) => {
                    feed.announced = true;
                    stream.first = first_time(record).filter(|first| *first <= believed);
                    self.core.windows.add_source(stream.id, stream.cluster, stream.first);
                }
                None => all_known &= !feed.is_awaited(once),
            }
        }
        all_known
    }

    /// At the end of a run.
    pub(super) fn leave_groups(&mut self) {
        for at in 0..self.memberships.len() {
            self.tell_group(at, true);
            if let Some(dead) = &mut self.memberships[at].group.dead {
                dead.finish();
            }
        }
    }

    /// Whether all partitions were read as far as they went when the run began; or nothing comes any more.
    pub(super) fn is_read(&mut self) -> bool {
        let mut waits = false;
        for stream in self.streams.iter().filter(|stream| stream.is_awaited(true)) {
            let Some(feed) = &stream.feed else { continue };
            if self.memberships[feed.membership].read_at.elapsed() >= ONCE_PATIENCE {
                self.report.broken += 1;
                (self.log)(
                    Grade::Problem,
                    &format!("kafka {}/{}: brings nothing more; given up", feed.topic, feed.number),
                );
            } else {
                waits = true;
            }
        }
        !waits
    }

    /// A block of this stream was read.
    pub(super) fn has_read(&mut self, at: usize) {
        if let Some(feed) = &self.streams[at].feed {
            self.memberships[feed.membership].read_at = Instant::now();
        }
    }

    /// The group that a batch of this source came from.
    pub(super) fn dead_topic(&mut self, source: u32) -> Option<(&mut DeadTopic, &str, i32)> {
        let stream = self.streams.iter().find(|stream| stream.id == source)?;
        let reader = stream.parent.unwrap_or(stream.id);
        let feed = self.streams.iter().find(|stream| stream.id == reader)?.feed.as_ref()?;
        let dead = self.memberships[feed.membership].group.dead.as_mut()?;
        Some((dead, &feed.topic, feed.number))
    }
}

impl Stream {
    fn wanted(&self) -> Option<Wanted> {
        let feed = self.feed.as_ref()?;
        Some(Wanted { topic: feed.topic.clone(), partition: feed.number, next: feed.next(), follow_group: feed.lost })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_journal_keeps_can_be_read() {
        assert_eq!(position("17"), (Some(17), false));
        assert_eq!(position("17 lost"), (Some(17), true));
        assert_eq!(position(""), (None, false));
        for key in [key("a@b:c", "audit", 3), format!("{}#eu", key("a@b:c", "audit", 3))] {
            assert_eq!((name_of(&key), group_of(&key)), (Some("audit/3"), Some("a@b:c")), "{key}");
        }
        assert_eq!(name_of("file:x@y"), None);
    }
}
