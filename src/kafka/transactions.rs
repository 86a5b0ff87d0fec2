//! A producer of transactions: what is written and how far was read become visible together, or not at all.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::{ANSWER_TIMEOUT, Connection, Context, KafkaError, Notes};

/// How long brokers are waited for in each step of a transaction, and how often it is tried. Brokers give up a transaction
/// sooner; and as long as we wait, nobody answers the group, which waits for that.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);
const STEP_TRIES: u32 = 2;
/// How long brokers are waited for before anything was done.
const FIRST_TIMEOUT: Duration = Duration::from_secs(60);
/// When brokers give up a transaction whose producer is gone. They look every 10 s; until then nobody reads behind it.
const TRANSACTION_TIMEOUT_MS: &str = "4000";

/// A record to write.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// Its topic.
    pub topic: String,
    /// Its partition; by the key if none.
    pub partition: Option<i32>,
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: Vec<u8>,
    /// Its headers.
    pub headers: Vec<(&'static str, String)>,
}

/// A producer with an id of its own.
pub struct Transactions {
    producer: BaseProducer<Context>,
    notes: Notes,
    connection: Connection,
    id: String,
}

/// What a producer does not take: together with its key and headers it would be more than a broker takes without being told
/// to take more.
pub const RECORD_BYTES_MAX: usize = 900_000;

fn producer(connection: &Connection, id: &str, wait: Duration) -> Result<(BaseProducer<Context>, Notes), KafkaError> {
    let (context, notes) = Context::new(connection.token_file.clone());
    let ours = [
        ("enable.idempotence", "true"),
        ("acks", "all"),
        ("transactional.id", id),
        ("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS),
        // Everything of a transaction is there at once; to wait for more would be to wait for nothing.
        ("linger.ms", "0"),
        ("message.timeout.ms", TRANSACTION_TIMEOUT_MS),
    ];
    let made = connection.config(&ours).create_with_context(context);
    let producer: BaseProducer<Context> = made.map_err(|error| connection.no_client(error))?;
    // It may ask for a token first.
    producer.poll(Duration::from_millis(10));
    let known = producer.init_transactions(wait);
    known.map_err(|error| connection.no_answer("transactions", error))?;
    Ok((producer, notes))
}

/// Does a step again that may still be done.
fn retried(mut step: impl FnMut() -> Result<(), ClientError>) -> Result<(), ClientError> {
    let mut left = STEP_TRIES;
    loop {
        left -= 1;
        match step() {
            Err(ClientError::Transaction(error)) if error.is_retriable() && left > 0 => {}
            done => return done,
        }
    }
}

/// What became of a transaction that was not committed.
#[derive(Debug)]
pub enum Failed {
    /// It was given up; nothing of it can be seen, and the same may be done again.
    Aborted(KafkaError),
    /// So it was, and the producer is of no use any more: [`Transactions::renew`].
    Fatal(KafkaError),
}

impl Transactions {
    /// Makes a producer and waits until brokers know it.
    ///
    /// # Errors
    /// The options are not understood, or the brokers cannot be reached.
    pub fn new(connection: &Connection, id: &str) -> Result<Transactions, KafkaError> {
        let (producer, notes) = producer(connection, id, FIRST_TIMEOUT)?;
        Ok(Transactions { producer, notes, connection: connection.clone(), id: id.to_owned() })
    }

    /// Another producer in place of one that is of no use any more. It has the same id: so brokers give up at once what the
    /// one before had open, and hear no more of it.
    ///
    /// # Errors
    /// The brokers cannot be reached; it may be tried again.
    pub fn renew(&mut self) -> Result<(), KafkaError> {
        (self.producer, self.notes) = producer(&self.connection, &self.id, ANSWER_TIMEOUT)?;
        Ok(())
    }

    /// Writes records and offsets of a group, together.
    ///
    /// # Errors
    /// Nothing was written, as far as anybody sees who reads what is committed.
    pub fn commit(
        &self,
        records: &[Outgoing],
        positions: &[(String, i32, i64)],
        consumer: &BaseConsumer<Context>,
    ) -> Result<(), Failed> {
        self.producer.begin_transaction().map_err(|error| self.failed(error))?;
        let done = self.write(records, positions, consumer);
        for _ in self.notes.deliveries.try_iter() {}
        done.map_err(|error| self.failed(error))
    }

    fn write(
        &self,
        records: &[Outgoing],
        positions: &[(String, i32, i64)],
        consumer: &BaseConsumer<Context>,
    ) -> Result<(), ClientError> {
        for record in records {
            self.send(record)?;
        }
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for (topic, partition, next) in positions {
            list.add_partition_offset(topic, *partition, Offset::Offset(*next))?;
        }
        let group = consumer.group_metadata().ok_or(ClientError::Canceled)?;
        // A member that was thrown out may have neither id nor generation to be known by, and would not be refused.
        if consumer.assignment_lost() {
            return Err(ClientError::ConsumerCommit(RDKafkaErrorCode::AssignmentLost));
        }
        retried(|| self.producer.send_offsets_to_transaction(&list, &group, STEP_TIMEOUT))?;
        retried(|| self.producer.commit_transaction(STEP_TIMEOUT))
    }

    fn send(&self, record: &Outgoing) -> Result<(), ClientError> {
        let headers = record.headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| {
            all.insert(rdkafka::message::Header { key, value: Some(value.as_str()) })
        });
        let mut next = BaseRecord::with_opaque_to(&record.topic, Box::new(0))
            .payload(record.value.as_slice())
            .key(record.key.as_str())
            .headers(headers);
        next.partition = record.partition;
        loop {
            match self.producer.send(next) {
                Ok(()) => return Ok(()),
                Err((ClientError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.producer.poll(Duration::from_millis(10));
                    for _ in self.notes.deliveries.try_iter() {}
                    next = back;
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    /// Gives a transaction up.
    fn failed(&self, error: ClientError) -> Failed {
        let fatal = matches!(&error, ClientError::Transaction(error) if error.is_fatal());
        let told = self.connection.no_answer("a transaction", error);
        if fatal || retried(|| self.producer.abort_transaction(STEP_TIMEOUT)).is_err() {
            return Failed::Fatal(told);
        }
        Failed::Aborted(told)
    }
}
