//! What a client says of itself, brought to whoever polls it.

use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use crossbeam_channel::{Receiver, Sender, bounded};
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka::{Statistics, TopicPartitionList};

/// What waits to be read from a client at most; further notes are dropped.
const NOTES_MAX: usize = 64;
/// Rebalances come one at a time, and each is answered before the next poll.
const REBALANCES_MAX: usize = 16;
/// Deliveries that wait to be looked at: more than a producer is ever given at once.
const DELIVERIES_MAX: usize = 4096;

/// Partitions of topics.
pub type Partitions = Vec<(String, i32)>;

/// A group has changed; it waits until the change is taken up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rebalance {
    /// These are ours from now on.
    Assigned(Partitions),
    /// These are to be given back. With `lost`, somebody else may have them already.
    Revoked {
        /// Which.
        partitions: Partitions,
        /// Whether the group went on without us.
        lost: bool,
    },
}

/// How many records of a partition are not read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    /// The topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Records between what was committed to the group, or, in transactions, was read, and the end.
    pub records: i64,
}

/// The other end of a [`Context`].
#[derive(Debug)]
pub struct Notes {
    /// What people should know; a line each.
    pub said: Receiver<String>,
    /// Changes of the group.
    pub rebalances: Receiver<Rebalance>,
    /// Lags, as often as the statistics are made.
    pub lags: Receiver<Vec<Lag>>,
    /// What became of records that were produced: the number each was given, and why it failed.
    pub deliveries: Receiver<(i64, Option<KafkaError>)>,
}

/// Takes the callbacks of one client; all of them come from the thread that polls it.
#[derive(Debug)]
pub struct Context {
    said: Sender<String>,
    rebalances: Sender<Rebalance>,
    lags: Sender<Vec<Lag>>,
    deliveries: Sender<(i64, Option<KafkaError>)>,
    token_file: Option<PathBuf>,
    /// Whether the client is being closed: then nobody takes rebalances up any more.
    closing: AtomicBool,
}

impl Context {
    /// A context, and where to read what it is told.
    pub fn new(token_file: Option<PathBuf>) -> (Context, Notes) {
        let (said, said_to) = bounded(NOTES_MAX);
        let (rebalances, rebalances_to) = bounded(REBALANCES_MAX);
        let (lags, lags_to) = bounded(1);
        let (deliveries, deliveries_to) = bounded(DELIVERIES_MAX);
        let notes = Notes { said: said_to, rebalances: rebalances_to, lags: lags_to, deliveries: deliveries_to };
        (Context { said, rebalances, lags, deliveries, token_file, closing: AtomicBool::new(false) }, notes)
    }

    /// From now on partitions are given back at once.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    fn say(&self, text: String) {
        let _ = self.said.try_send(text);
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, _: &str, message: &str) {
        use RDKafkaLogLevel::{Alert, Critical, Emerg, Error};
        if matches!(level, Emerg | Alert | Critical | Error) {
            self.say(message.to_owned());
        }
    }

    fn stats(&self, statistics: Statistics) {
        let mut lags = Vec::new();
        for (topic, of_topic) in statistics.topics {
            for (partition, of) in of_topic.partitions {
                // Who commits in transactions is not known by its client to have committed.
                let end = if of.ls_offset >= 0 { of.ls_offset } else { of.hi_offset };
                let at = if of.app_offset >= 0 { of.app_offset } else { of.next_offset };
                let read = if end >= 0 && at >= 0 { (end - at).max(0) } else { -1 };
                let records = if of.consumer_lag >= 0 { of.consumer_lag } else { read };
                if records >= 0 {
                    lags.push(Lag { topic: topic.clone(), partition, records });
                }
            }
        }
        let _ = self.lags.try_send(lags);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error {
            // That a partition is read to its end comes this way, too.
            KafkaError::Global(RDKafkaErrorCode::PartitionEOF) => {}
            KafkaError::Global(code) => self.say(format!("{code}: {reason}")),
            error => self.say(format!("{error}: {reason}")),
        }
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        let file = self.token_file.as_ref().ok_or("SASL OAUTHBEARER needs token_file")?;
        let token = std::fs::read_to_string(file).map_err(|error| format!("token_file {}: {error}", file.display()))?;
        let token = token.trim();
        let (principal_name, lifetime_ms) =
            claims(token).ok_or_else(|| format!("token_file {}: is no JWT with exp", file.display()))?;
        Ok(OAuthToken { token: token.to_owned(), principal_name, lifetime_ms })
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions: Partitions =
            list.elements().iter().map(|one| (one.topic().to_owned(), one.partition())).collect();
        let assigned = what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Relaxed) {
            let answered = if assigned { consumer.unassign() } else { consumer.incremental_unassign(list) };
            if let Err(error) = answered {
                self.say(format!("partitions could not be given back: {error}"));
            }
            return;
        }
        let lost = consumer.assignment_lost();
        let change = if assigned { Rebalance::Assigned(partitions) } else { Rebalance::Revoked { partitions, lost } };
        let _ = self.rebalances.try_send(change);
    }

    fn commit_callback(&self, result: rdkafka::error::KafkaResult<()>, _: &TopicPartitionList) {
        // What others see of our progress; where we go on stands in the store. Nothing was new: no matter.
        if let Err(KafkaError::ConsumerCommit(code)) = result
            && code != RDKafkaErrorCode::NoOffset
        {
            self.say(format!("offsets were not committed to the group: {code}"));
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<i64>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<i64>) {
        let error = result.as_ref().err().map(|(error, _)| error.clone());
        let _ = self.deliveries.try_send((*number, error));
    }
}

/// Whose a token is, and when it ends, in milliseconds since 1970.
fn claims(token: &str) -> Option<(String, i64)> {
    #[derive(serde::Deserialize)]
    struct Claims {
        #[serde(default)]
        sub: String,
        exp: f64,
    }
    let payload = token.split('.').nth(1)?.trim_end_matches('=');
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: Claims = serde_json::from_slice(&payload).ok()?;
    Some((claims.sub, (claims.exp * 1000.0) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_tells_whose_it_is_and_for_how_long() {
        let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"sub":"reader","exp":1795435200}"#);
        assert_eq!(claims(&format!("e30.{payload}.sig")), Some(("reader".to_owned(), 1_795_435_200_000)));
        for token in ["", "a.b.c", "opaque", "e30.e30.x"] {
            assert_eq!(claims(token), None, "{token}");
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let (context, _notes) = Context::new(Some(file.clone()));
        assert!(context.generate_oauth_token(None).err().unwrap().to_string().contains("token"));
        std::fs::write(&file, format!("e30.{payload}.sig\n")).unwrap();
        assert_eq!(context.generate_oauth_token(None).unwrap().principal_name, "reader");
        assert!(Context::new(None).0.generate_oauth_token(None).is_err());
    }
}
