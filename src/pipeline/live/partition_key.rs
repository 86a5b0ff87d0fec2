//! What a journal calls a partition of Kafka, and what it keeps of its position.

/// How the keys of partitions begin.
const KEY: &str = "kafka:";

/// Reads what [`Feed::position`](super::feed::Feed::position) wrote.
pub(super) fn position(text: &str) -> (Option<i64>, bool) {
    let (next, lost) = text.split_once(' ').map_or((text, false), |(next, _)| (next, true));
    (next.parse().ok(), lost)
}

/// A topic's name holds no `@`, and a group's no `#` (the configuration refuses it).
pub(super) fn key(group: &str, topic: &str, partition: i32) -> String {
    format!("{KEY}{topic}/{partition}@{group}")
}

/// What alerts call the partition of this key: topic and number.
pub(super) fn name_of(key: &str) -> Option<&str> {
    key.strip_prefix(KEY)?.split('@').next()
}

/// The group of this key.
pub(super) fn group_of(key: &str) -> Option<&str> {
    key.strip_prefix(KEY)?.split_once('@')?.1.split('#').next()
}
