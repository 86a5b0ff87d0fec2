//! The watermark of one cluster: the event time below which no more matches are expected.

use std::collections::BTreeMap;

use crate::engine::matches::SourceId;

#[derive(Debug, Default)]
struct Progress {
    /// Newest event time read.
    front: Option<i64>,
    /// Time of the first event, known before anything was read.
    first: Option<i64>,
    /// Whether its end was reached; it then holds nothing until it is read again.
    ended: bool,
    /// How far behind its front its matches may be, if not as far as those of others.
    lateness: Option<i64>,
}

/// What a source lets pass while a batch of it is absorbed; see [`Watermark::pace`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    known: Option<i64>,
    lateness: i64,
}

impl Progress {
    fn known(&self) -> Option<i64> {
        self.front.max(self.first)
    }
}

/// Fronts of a cluster's sources and the watermark published so far.
#[derive(Debug)]
pub(super) struct Watermark {
    sources: BTreeMap<SourceId, Progress>,
    lateness: i64,
    published: Option<i64>,
}

impl Watermark {
    pub(super) fn new(lateness: i64) -> Self {
        Watermark { sources: BTreeMap::new(), lateness, published: None }
    }

    pub(super) fn add(&mut self, source: SourceId, first: Option<i64>) {
        let lateness = self.sources.get(&source).and_then(|s| s.lateness);
        self.sources.insert(source, Progress { front: None, first, ended: false, lateness });
    }

    /// The source has a lateness of its own.
    pub(super) fn set_lateness(&mut self, source: SourceId, lateness: i64) {
        self.sources.entry(source).or_default().lateness = Some(lateness);
    }

    /// How far behind their front a source's matches may be.
    fn lateness_of(&self, source: Option<&Progress>) -> i64 {
        source.and_then(|s| s.lateness).unwrap_or(self.lateness)
    }

    /// The least of what the running sources let pass, but for one.
    fn slowest(&self, but: Option<SourceId>) -> Option<i64> {
        let running = self.sources.iter().filter(|(id, s)| Some(**id) != but && !s.ended);
        running.filter_map(|(_, s)| Some(s.known()?.saturating_sub(self.lateness_of(Some(s))))).min()
    }

    /// A batch of this source is there: it counts again, even if it had ended.
    pub(super) fn reopen(&mut self, source: SourceId) {
        self.sources.entry(source).or_default().ended = false;
    }

    /// Newest event time read from the source.
    pub(super) fn front(&self, source: SourceId) -> Option<i64> {
        self.sources.get(&source).and_then(|s| s.front)
    }

    /// What the sources but this one let pass: the least of their fronts less their lateness. It does not change while a
    /// batch is absorbed.
    pub(super) fn others(&self, source: SourceId) -> Option<i64> {
        self.slowest(Some(source))
    }

    /// How far the source has come, and how far behind that its matches may be. Neither changes while a batch is
    /// absorbed.
    pub(super) fn pace(&self, source: SourceId) -> Pace {
        let progress = self.sources.get(&source);
        Pace { known: progress.and_then(Progress::known), lateness: self.lateness_of(progress) }
    }

    /// The watermark as it stands when a source of this pace has come to `front` and the others let pass `others`.
    #[inline]
    pub(super) fn at(&self, pace: Pace, front: Option<i64>, others: Option<i64>) -> Option<i64> {
        let own = front.max(pace.known).map(|known| known.saturating_sub(pace.lateness));
        self.published.max(own.into_iter().chain(others).min())
    }

    /// Raises the watermark; it never goes back.
    pub(super) fn publish(&mut self, to: Option<i64>) {
        self.published = self.published.max(to);
    }

    pub(super) fn published(&self) -> Option<i64> {
        self.published
    }

    pub(super) fn read(&mut self, source: SourceId, newest: Option<i64>) {
        let progress = self.sources.entry(source).or_default();
        progress.front = progress.front.max(newest);
    }

    /// The source has ended. Returns whether the cluster knows it.
    pub(super) fn end(&mut self, source: SourceId) -> bool {
        self.sources.get_mut(&source).map(|s| s.ended = true).is_some()
    }

    pub(super) fn end_all(&mut self) {
        self.sources.values_mut().for_each(|s| s.ended = true);
    }

    /// Whether every source has ended: then everything is due.
    pub(super) fn all_ended(&self) -> bool {
        self.sources.values().all(|s| s.ended)
    }

    /// Newest event time read from any source.
    pub(super) fn newest(&self) -> Option<i64> {
        self.sources.values().filter_map(|s| s.front).max()
    }

    /// Where the watermark stands by the sources' fronts, published or not. `None` if nothing is known.
    pub(super) fn current(&self) -> Option<i64> {
        self.published.max(self.slowest(None))
    }

    /// What the cluster holds of what all clusters share; `None` if it has ended or nothing is known of it.
    pub(super) fn hold(&self) -> Option<i64> {
        if self.all_ended() { None } else { self.current() }
    }
}

/// What the other clusters hold while one of them moves.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Elsewhere {
    /// The slowest of those that still run.
    hold: Option<i64>,
    /// How far those that have ended came.
    end: Option<i64>,
}

impl Elsewhere {
    pub(super) fn with(self, marks: &Watermark) -> Self {
        Elsewhere { hold: self.hold.into_iter().chain(marks.hold()).min(), end: self.end.max(marks.published()) }
    }

    /// The time below which no cluster will bring anything, when the one that moves has come to `published`: the
    /// slowest of those that run; when none is known to, the last of those that have ended.
    pub(super) fn limit_with(self, published: Option<i64>) -> Option<i64> {
        self.hold.into_iter().chain(published).min().or(self.end)
    }

    /// The same when none moves.
    pub(super) fn limit(self) -> Option<i64> {
        self.limit_with(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_slowest_front_minus_the_lateness() {
        let mut w = Watermark::new(10);
        w.add(1, Some(100));
        w.add(2, None);
        assert_eq!(w.current(), Some(90), "an unread source with a known first time holds, one without does not");
        w.read(1, Some(200));
        assert_eq!(w.current(), Some(190));
        w.read(2, Some(150));
        assert_eq!(w.current(), Some(140));
        w.publish(w.current());
        w.read(2, Some(120));
        assert_eq!(w.current(), Some(140), "a front never goes back");
        w.end(2);
        assert_eq!(w.current(), Some(190));
        w.publish(w.current());
        w.reopen(2);
        assert_eq!(w.current(), Some(190), "neither does what was published");
        w.end_all();
        assert_eq!(w.hold(), None);
        assert_eq!(w.newest(), Some(200));
    }

    #[test]
    fn stands_at_a_match_where_the_events_before_it_put_it() {
        let mut w = Watermark::new(10);
        w.add(1, None);
        assert_eq!(w.at(w.pace(1), None, None), None);
        assert_eq!(w.at(w.pace(1), Some(50), None), Some(40));
        assert_eq!(w.at(w.pace(1), Some(50), Some(20)), Some(20));
        w.publish(Some(25));
        assert_eq!(w.at(w.pace(1), Some(50), Some(20)), Some(25));
    }

    #[test]
    fn a_source_may_have_a_lateness_of_its_own() {
        let mut w = Watermark::new(10);
        w.set_lateness(2, 60);
        w.add(1, None);
        w.add(2, Some(100));
        w.read(1, Some(100));
        assert_eq!((w.current(), w.others(1), w.others(2)), (Some(40), Some(40), Some(90)));
        assert_eq!(w.at(w.pace(2), Some(200), w.others(2)), Some(90));
        assert_eq!(w.at(w.pace(1), Some(120), w.others(1)), Some(40));
        w.end(2);
        assert_eq!(w.current(), Some(90));
    }
}
