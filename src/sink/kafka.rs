//! Topics of Kafka that are written to: alerts, and records that could not be read.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use rdkafka::error::KafkaError as ClientError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::types::RDKafkaErrorCode;
use serde::Deserialize;

use crate::kafka::{Connection, Context, KafkaError, Notes};

/// How long a lot of alerts may take to be written.
const LOT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long librdkafka itself tries; shorter, so that it has an answer for each record of a lot.
const MESSAGE_TIMEOUT_MS: &str = "20000";
/// How long dead letters are waited for at the end.
const LAST_TIMEOUT: Duration = Duration::from_secs(5);
/// What is kept of a dead record, bytes: less than a broker takes without being told to take more.
pub const DEAD_BYTES_MAX: usize = 900_000;

/// What a record's key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// The alert's id.
    Id,
    /// The alert's cluster.
    Cluster,
}

/// A producer of ours, and what it says.
struct Client {
    producer: BaseProducer<Context>,
    notes: Notes,
}

impl Client {
    fn new(connection: &Connection) -> Result<Client, KafkaError> {
        let (context, notes) = Context::new(connection.token_file.clone());
        let ours = [("enable.idempotence", "true"), ("acks", "all"), ("message.timeout.ms", MESSAGE_TIMEOUT_MS)];
        let producer = connection.config(&ours).create_with_context(context);
        Ok(Client { producer: producer.map_err(|error| connection.no_client(error))?, notes })
    }
}

/// Writes alerts to a topic. A repeat of a lot writes again only what was not written.
pub struct AlertTopic {
    client: Client,
    topic: String,
    key: Key,
    /// Numbers of alerts, in a lot that failed, that are written.
    written: BTreeSet<i64>,
}

/// The parts of an alert that may be its key.
#[derive(Deserialize)]
struct Parts<'a> {
    #[serde(borrow)]
    id: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    cluster: std::borrow::Cow<'a, str>,
}

impl AlertTopic {
    /// A producer for this topic. Nothing is connected yet.
    ///
    /// # Errors
    /// The options are not understood.
    pub fn new(connection: &Connection, topic: &str, key: Key) -> Result<AlertTopic, KafkaError> {
        Ok(AlertTopic { client: Client::new(connection)?, topic: topic.to_owned(), key, written: BTreeSet::new() })
    }

    /// Writes those of a lot that are not written yet, and waits until all replicas in sync have them. `give_up` is told
    /// of an alert that the brokers will never take, and why.
    ///
    /// # Errors
    /// Some could not be written; the lot is to be given again.
    pub fn send(&mut self, lot: &[(i64, String)], give_up: &mut dyn FnMut(&str, &str)) -> io::Result<()> {
        for (number, line) in lot.iter().filter(|(number, _)| !self.written.contains(number)) {
            // What is no alert of ours is written all the same.
            let parts = serde_json::from_str::<Parts<'_>>(line).ok();
            let key = parts.map(|parts| if self.key == Key::Id { parts.id } else { parts.cluster }.into_owned());
            let record = BaseRecord::with_opaque_to(&self.topic, Box::new(*number)).payload(line.as_str());
            let key = key.unwrap_or_default();
            let queued = self.client.producer.send(record.key(&key));
            queued.map_err(|(error, _)| io::Error::other(format!("topic {}: {error}", self.topic)))?;
        }
        let flushed = self.client.producer.flush(LOT_TIMEOUT);
        let mut failed = flushed.err();
        for (number, error) in self.client.notes.deliveries.try_iter() {
            match error {
                None => drop(self.written.insert(number)),
                Some(ClientError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge)) => {
                    if let Some((_, line)) = lot.iter().find(|(of, _)| *of == number) {
                        give_up(line, "it is larger than the brokers take");
                    }
                    self.written.insert(number);
                }
                Some(error) => failed = Some(error),
            }
        }
        let said = self.client.notes.said.try_iter().last();
        if let Some(error) = failed {
            let why = said.map(|said| format!(" ({said})")).unwrap_or_default();
            return Err(io::Error::other(format!("topic {}: {error}{why}", self.topic)));
        }
        self.written.clear();
        Ok(())
    }
}

/// A record that could not be read.
#[derive(Debug, Clone, Copy)]
pub struct Letter<'l> {
    /// Where it stands: its topic.
    pub topic: &'l str,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: u64,
    /// What is wrong with it.
    pub why: &'l str,
    /// What there is of it, raw.
    pub raw: &'l [u8],
}

/// The headers of a letter: where its record stands, and what is wrong with it.
pub fn headers(topic: &str, partition: i32, offset: u64, why: &str) -> Vec<(&'static str, String)> {
    vec![
        ("auditwatch-topic", topic.to_owned()),
        ("auditwatch-partition", partition.to_string()),
        ("auditwatch-offset", offset.to_string()),
        ("auditwatch-why", why.to_owned()),
    ]
}

/// A topic for records that could not be read. That it cannot be written must not stop what can be read: letters that
/// find no room, or no broker, are counted.
pub struct DeadTopic {
    client: Client,
    topic: String,
    kept: u64,
    lost: u64,
    failing: bool,
    told: Vec<String>,
}

impl DeadTopic {
    /// A producer for this topic. Nothing is connected yet.
    ///
    /// # Errors
    /// The options are not understood.
    pub fn new(connection: &Connection, topic: &str) -> Result<DeadTopic, KafkaError> {
        let client = Client::new(connection)?;
        Ok(DeadTopic { client, topic: topic.to_owned(), kept: 0, lost: 0, failing: false, told: Vec::new() })
    }

    /// Sends a letter on its way.
    pub fn send(&mut self, letter: &Letter<'_>) {
        let raw = &letter.raw[..letter.raw.len().min(DEAD_BYTES_MAX)];
        let headers = headers(letter.topic, letter.partition, letter.offset, letter.why);
        let headers = headers
            .iter()
            .fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: Some(value) }));
        let key = format!("{}/{}", letter.topic, letter.partition);
        let record = BaseRecord::with_opaque_to(&self.topic, Box::new(0)).payload(raw).key(&key).headers(headers);
        if let Err((error, _)) = self.client.producer.send(record) {
            self.fails(&error);
        }
    }

    fn fails(&mut self, error: &ClientError) {
        self.lost += 1;
        if !std::mem::replace(&mut self.failing, true) {
            let topic = &self.topic;
            self.told.push(format!("dead_letter_topic {topic}: {error}; what cannot be read is counted, but not kept"));
        }
    }

    /// Looks at what became of letters. Gives how many were kept and lost since this was asked last.
    pub fn settle(&mut self) -> (u64, u64) {
        self.client.producer.poll(Duration::ZERO);
        for (_, error) in self.client.notes.deliveries.try_iter().collect::<Vec<_>>() {
            match error {
                None => {
                    self.kept += 1;
                    self.failing = false;
                }
                Some(error) => self.fails(&error),
            }
        }
        (std::mem::take(&mut self.kept), std::mem::take(&mut self.lost))
    }

    /// What people should know.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    /// Waits for letters on their way.
    pub fn finish(&mut self) {
        // What is not written by then is lost, and was said to be possible.
        let _ = self.client.producer.flush(LAST_TIMEOUT);
    }
}
