//! What everything that talks to Kafka shares: how a client is made, what it says of itself, and topics.
#![allow(clippy::disallowed_methods, reason = "tokens are files")]

mod context;
pub mod topics;
pub mod transactions;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use rdkafka::ClientConfig;
pub use rdkafka::error::KafkaError as ClientError;

pub use context::{Context, Lag, Notes, Rebalance};

/// How long a broker is waited for when a question must be answered before anything goes on.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What can go wrong with Kafka.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// No client could be made: an option that librdkafka does not know or understand.
    #[error("kafka {brokers}: {source}; options are librdkafka's (CONFIGURATION.md of librdkafka)")]
    Client {
        /// The brokers.
        brokers: String,
        /// Why.
        source: Box<ClientError>,
    },
    /// A broker could not be asked.
    #[error("kafka {brokers}: {what}: {source}; check the brokers, TLS and SASL")]
    Ask {
        /// The brokers.
        brokers: String,
        /// What was asked for.
        what: String,
        /// Why.
        source: Box<ClientError>,
    },
    /// Partitions that were given to us are not ours any more; the group will tell.
    #[error("kafka {brokers}: partitions cannot be taken or given back, the group has gone on: {source}")]
    Moved {
        /// The brokers.
        brokers: String,
        /// Why.
        source: Box<ClientError>,
    },
    /// A topic is not there.
    #[error("kafka {brokers}: topic {topic} is not there; create it (auditwatch kafka topics) or correct its name")]
    NoTopic {
        /// The brokers.
        brokers: String,
        /// Its name.
        topic: String,
    },
    /// Brokers tell of a topic, and not of all its partitions.
    #[error(
        "kafka {brokers}: topic {topic}: partition {partition} is not told of; brokers that just began may do that"
    )]
    Partial {
        /// The brokers.
        brokers: String,
        /// Its name.
        topic: String,
        /// The first that is missing.
        partition: i32,
    },
    /// A topic could not be created.
    #[error("kafka {brokers}: topic {topic} could not be created: {what}")]
    NotCreated {
        /// The brokers.
        brokers: String,
        /// Its name.
        topic: String,
        /// Why.
        what: String,
    },
    /// No thread or runtime.
    #[error("kafka: {0}")]
    Runtime(#[from] std::io::Error),
}

/// Where Kafka is and how it is spoken to.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Connection {
    /// `host:port`, comma-separated.
    pub brokers: String,
    /// librdkafka's own settings, with secrets filled in.
    pub options: BTreeMap<String, String>,
    /// A file with the token of SASL OAUTHBEARER; read again whenever librdkafka asks for a new one.
    pub token_file: Option<PathBuf>,
}

/// Without the options, which may hold secrets.
impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("brokers", &self.brokers).finish_non_exhaustive()
    }
}

impl Connection {
    /// A client's settings: the options, and over them what is ours to decide.
    pub fn config(&self, ours: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in &self.options {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.brokers).set("client.software.name", "auditwatch");
        for (name, value) in ours {
            config.set(*name, *value);
        }
        config
    }

    /// The error of a client that could not be made.
    pub fn no_client(&self, source: ClientError) -> KafkaError {
        KafkaError::Client { brokers: self.brokers.clone(), source: Box::new(source) }
    }

    /// The error of a question that was not answered.
    pub fn no_answer(&self, what: impl Into<String>, source: ClientError) -> KafkaError {
        KafkaError::Ask { brokers: self.brokers.clone(), what: what.into(), source: Box::new(source) }
    }
}

/// Records that are not read, and partitions that are read, by topic.
pub fn by_topic<'l>(lags: impl IntoIterator<Item = &'l Lag>) -> BTreeMap<String, (i64, i64)> {
    let mut by_topic: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for lag in lags {
        let (records, partitions) = by_topic.entry(lag.topic.clone()).or_default();
        *records += lag.records;
        *partitions += 1;
    }
    by_topic
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_printed_and_ours_wins() {
        let options = BTreeMap::from([
            ("sasl.password".to_owned(), "hunter2".to_owned()),
            ("client.id".to_owned(), "theirs".to_owned()),
        ]);
        let connection = Connection { brokers: "a:1".to_owned(), options, token_file: None };
        assert!(!format!("{connection:?}").contains("hunter2"));
        let config = connection.config(&[("client.id", "ours")]);
        assert_eq!(config.get("client.id"), Some("ours"));
        assert_eq!(config.get("bootstrap.servers"), Some("a:1"));
    }
}
