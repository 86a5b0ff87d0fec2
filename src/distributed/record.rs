//! What stands in the matches topic.

use serde::{Deserialize, Serialize};

use crate::journal::Stored;

/// The version of what is written; a reader refuses what it does not know.
const VERSION: u8 = 1;

/// A partition of a topic with audit events.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Source {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
}

/// How far a partition was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Which.
    pub source: Source,
    /// Newest event time by cluster, microseconds.
    pub fronts: Vec<(String, i64)>,
    /// Whether it is read to its end, and nothing has come for a while: then it holds nobody up who was told of before the
    /// mark before this one.
    pub idle: bool,
}

/// A record of the matches topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// What a block of a partition matched, as far as it belongs to this partition of the matches topic.
    Matches {
        /// Where it was read.
        source: Source,
        /// The cluster.
        cluster: String,
        /// Newest event time of the block, microseconds.
        newest: Option<i64>,
        /// In the order of the block.
        matches: Vec<Stored>,
    },
    /// How far partitions were read; goes to every partition of the matches topic, behind the matches.
    Marks {
        /// All topics with events and how many partitions each has: until a partition has told how far it was read, nothing
        /// is due.
        topics: Vec<(String, i32)>,
        /// Partitions that were read further.
        marks: Vec<Mark>,
    },
}

/// A record that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Written by another version.
    #[error(
        "matches topic: a record of version {0}, this auditwatch knows {VERSION}; run one version, or begin with a new topic"
    )]
    Version(u8),
    /// Not one of ours.
    #[error("matches topic: a record that is not auditwatch's; give auditwatch a topic of its own")]
    Foreign,
}

impl Record {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        // Strings, numbers and sequences of known length can all be written to memory.
        postcard::to_extend(self, vec![VERSION]).unwrap_or_default()
    }

    /// As bytes; matches that are longer than brokers take at once, as several records.
    pub fn encode_parts(self, bytes_max: usize) -> Vec<Vec<u8>> {
        let (mut parts, mut rest) = (Vec::new(), vec![self]);
        while let Some(record) = rest.pop() {
            let bytes = record.encode();
            match record {
                Record::Matches { source, cluster, newest, mut matches }
                    if bytes.len() > bytes_max && matches.len() > 1 =>
                {
                    let behind = matches.split_off(matches.len() / 2);
                    let (before, name) = (source.clone(), cluster.clone());
                    // Until the last of them is told, the block is not read.
                    rest.push(Record::Matches { source, cluster, newest, matches: behind });
                    rest.push(Record::Matches { source: before, cluster: name, newest: None, matches });
                }
                _ => parts.push(bytes),
            }
        }
        parts
    }

    /// From bytes.
    ///
    /// # Errors
    /// It is not a record of this version.
    pub fn decode(bytes: &[u8]) -> Result<Record, RecordError> {
        match bytes.split_first() {
            Some((&VERSION, body)) => postcard::from_bytes(body).map_err(|_| RecordError::Foreign),
            Some((&version, _)) => Err(RecordError::Version(version)),
            None => Err(RecordError::Foreign),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read_and_nothing_else() {
        let source = Source { topic: "audit".to_owned(), partition: 3 };
        let mark = Mark { source: source.clone(), fronts: vec![("eu".to_owned(), 7)], idle: true };
        for record in [
            Record::Marks { topics: vec![("audit".to_owned(), 4)], marks: vec![mark] },
            Record::Matches { source, cluster: "eu".to_owned(), newest: None, matches: Vec::new() },
        ] {
            assert_eq!(Record::decode(&record.encode()).unwrap(), record);
        }
        assert!(matches!(Record::decode(&[9, 9]), Err(RecordError::Version(9))));
        for foreign in [&b""[..], b"\x01", b"\x01\xff"] {
            assert!(matches!(Record::decode(foreign), Err(RecordError::Foreign)), "{foreign:?}");
        }
    }
}
