//! Kafka for tests: librdkafka's mock cluster in this process, or a broker that runs; and a producer.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// Brokers to talk to.
pub struct Kafka {
    pub brokers: String,
    producer: BaseProducer,
    /// Lives as long as this.
    _mock: Option<MockCluster<'static, DefaultProducerContext>>,
}

/// A record as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Came {
    pub key: String,
    pub value: Vec<u8>,
    pub headers: Vec<(String, String)>,
}

impl Kafka {
    /// A mock cluster with these topics, each with so many partitions.
    pub fn mock(topics: &[(&str, i32)]) -> Kafka {
        let mock = MockCluster::new(1).unwrap();
        for (topic, partitions) in topics {
            mock.create_topic(topic, *partitions, 1).unwrap();
        }
        let brokers = mock.bootstrap_servers();
        Kafka { producer: producer(&brokers), brokers, _mock: Some(mock) }
    }

    /// Brokers that run already.
    pub fn at(brokers: &str) -> Kafka {
        Kafka { producer: producer(brokers), brokers: brokers.to_owned(), _mock: None }
    }

    /// A source of the daemon's configuration, in flow style.
    pub fn source(&self, topics: &str, more: &str) -> String {
        format!(
            "{{type: kafka, brokers: [\"{}\"], topics: {topics}, group: aw{more}}}",
            self.brokers.replace(',', "\", \"")
        )
    }

    pub fn send(&self, topic: &str, partition: i32, value: &[u8]) {
        self.send_with(topic, partition, value, &[]);
    }

    pub fn send_with(&self, topic: &str, partition: i32, value: &[u8], headers: &[(&str, &str)]) {
        let all = headers
            .iter()
            .fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: Some(*value) }));
        let mut record = BaseRecord::<(), [u8]>::to(topic).partition(partition).payload(value).headers(all);
        loop {
            match self.producer.send(record) {
                Ok(()) => return,
                Err((error, back)) => {
                    assert!(error.to_string().contains("Queue full"), "{error}");
                    self.producer.poll(Duration::from_millis(10));
                    record = back;
                }
            }
        }
    }

    /// Waits until everything that was sent is there.
    pub fn flush(&self) {
        self.producer.flush(Duration::from_secs(60)).unwrap();
        assert_eq!(self.producer.in_flight_count(), 0);
    }

    /// Everything in a topic, read committed.
    pub fn read(&self, topic: &str) -> Vec<Came> {
        self.read_partitions(topic).into_values().flatten().collect()
    }

    /// The same, by partition.
    pub fn read_partitions(&self, topic: &str) -> BTreeMap<i32, Vec<Came>> {
        let (consumer, partitions) = self.reader("reader", topic);
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&list).unwrap();
        let (mut ended, mut all) = (std::collections::BTreeSet::new(), BTreeMap::<i32, Vec<Came>>::new());
        while ended.len() < partitions as usize {
            match consumer.poll(Duration::from_secs(30)) {
                None => panic!("{topic}: nothing comes"),
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(partition))) => drop(ended.insert(partition)),
                // A broker that goes and comes.
                Some(Err(_)) => {}
                Some(Ok(message)) => all.entry(message.partition()).or_default().push(came(&message)),
            }
        }
        all
    }

    /// Where a group stands in a topic, and where its partitions end, read committed.
    pub fn positions(&self, topic: &str, group: &str) -> String {
        let (consumer, partitions) = self.reader(group, topic);
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, partitions - 1);
        let committed = consumer.committed_offsets(list, Duration::from_secs(10));
        let ends = |partition| consumer.fetch_watermarks(topic, partition, Duration::from_secs(10));
        let ends: Vec<_> = (0..partitions).map(ends).collect();
        format!("{topic}: {group} at {committed:?}, ends {ends:?}\n")
    }

    /// In which state a group is, and which member has which partitions.
    pub fn members(&self, group: &str) -> String {
        let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &self.brokers).create().unwrap();
        let Ok(groups) = consumer.fetch_group_list(Some(group), Duration::from_secs(10)) else { return String::new() };
        let mut all = String::new();
        for group in groups.groups() {
            all += &format!("{}: {}\n", group.name(), group.state());
            for member in group.members() {
                let has = member.assignment().map(assigned).unwrap_or_default();
                all += &format!("  {}: {has:?}\n", member.id());
            }
        }
        all
    }

    /// Where a group stands in each partition; 0 where nothing was ever committed.
    pub fn committed(&self, topic: &str, group: &str) -> Vec<i64> {
        let (consumer, partitions) = self.reader(group, topic);
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, partitions - 1);
        let committed = consumer.committed_offsets(list, Duration::from_secs(30)).unwrap();
        let mut all: Vec<_> = committed.elements().iter().map(|one| (one.partition(), one.offset().to_raw())).collect();
        all.sort_unstable();
        all.iter().map(|(_, offset)| offset.filter(|offset| *offset > 0).unwrap_or(0)).collect()
    }

    fn reader(&self, group: &str, topic: &str) -> (BaseConsumer, i32) {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "earliest")
            .create()
            .unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(30)).unwrap();
        let partitions = metadata.topics()[0].partitions().len() as i32;
        (consumer, partitions)
    }
}

/// Topics and partitions, as the group's protocol writes them: version, topics (name, partitions), and more.
fn assigned(bytes: &[u8]) -> Vec<(String, Vec<i32>)> {
    fn take<'b>(bytes: &mut &'b [u8], n: usize) -> &'b [u8] {
        let (taken, rest) = bytes.split_at(n.min(bytes.len()));
        *bytes = rest;
        taken
    }
    fn number(bytes: &mut &[u8]) -> i32 {
        take(bytes, 4).iter().fold(0, |number, byte| number << 8 | i32::from(*byte))
    }
    let mut rest = bytes.get(2..).unwrap_or_default();
    let topics = number(&mut rest);
    let topic = |_| {
        let length = take(&mut rest, 2).iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        let name = String::from_utf8_lossy(take(&mut rest, length)).into_owned();
        let partitions = number(&mut rest);
        (name, (0..partitions).map(|_| number(&mut rest)).collect())
    };
    (0..topics).map(topic).collect()
}

fn came(message: &impl Message) -> Came {
    use rdkafka::message::Headers;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = message.headers().into_iter().flat_map(|headers| {
        headers.iter().map(|header| (header.key.to_owned(), text(header.value.unwrap_or_default()))).collect::<Vec<_>>()
    });
    Came {
        key: message.key().map(text).unwrap_or_default(),
        value: message.payload().unwrap_or_default().to_vec(),
        headers: headers.collect(),
    }
}

fn producer(brokers: &str) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("linger.ms", "1").set("message.max.bytes", "60000000");
    config.create().unwrap()
}
