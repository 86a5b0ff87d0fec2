//! Topics: what they should be, and making them so.

use std::ffi::{CStr, CString};
use std::fmt;

use rdkafka::ClientContext as _;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};

use super::{ANSWER_TIMEOUT, ClientError, Connection, Context, KafkaError};

/// A topic as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub purpose: &'static str,
    /// How many partitions.
    pub partitions: i32,
    /// How many brokers hold each of its records.
    pub replication: i32,
    /// Its settings.
    pub settings: Vec<(&'static str, String)>,
}

impl Topic {
    /// A topic that forgets after `days`. One broker may fail if three hold it.
    pub fn kept_for(name: &str, purpose: &'static str, partitions: i32, replication: i32, days: u64) -> Topic {
        let in_sync = if replication > 2 { replication - 1 } else { 1 };
        let settings = vec![
            ("cleanup.policy", "delete".to_owned()),
            ("retention.ms", (days * 86_400_000).to_string()),
            ("min.insync.replicas", in_sync.to_string()),
        ];
        Topic { name: name.to_owned(), purpose, partitions, replication, settings }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--topic {} --partitions {} --replication-factor {}", self.name, self.partitions, self.replication)?;
        self.settings.iter().try_for_each(|(name, value)| write!(f, " --config {name}={value}"))
    }
}

/// What became of a topic that was to be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// It is there now.
    Created,
    /// It was there, and is as it was.
    Found,
}

/// An admin client is polled by nobody who could be asked for its token: so it is told, once, before it needs it.
#[allow(unsafe_code, reason = "rdkafka gives tokens to those only who poll")]
fn tell_token(connection: &Connection, admin: &AdminClient<Context>) -> Result<(), KafkaError> {
    let refused = |why: String| {
        let config = rdkafka::types::RDKafkaConfRes::RD_KAFKA_CONF_INVALID;
        connection.no_client(ClientError::ClientConfig(
            config,
            why,
            "sasl.mechanism".to_owned(),
            "OAUTHBEARER".to_owned(),
        ))
    };
    let client = admin.inner();
    let given = client.context().generate_oauth_token(None).map_err(|error| refused(error.to_string()))?;
    let text = |text: String| CString::new(text).map_err(|_| refused("the token holds a NUL".to_owned()));
    let (token, principal) = (text(given.token)?, text(given.principal_name)?);
    let mut why = [0u8; 512];
    // SAFETY: the client lives as long as `admin`; both texts end with NUL and live through the call; `why` is as long as is said.
    let code = unsafe {
        rdkafka::bindings::rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            token.as_ptr(),
            given.lifetime_ms,
            principal.as_ptr(),
            std::ptr::null_mut(),
            0,
            why.as_mut_ptr().cast(),
            why.len(),
        )
    };
    if code == rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    let why = CStr::from_bytes_until_nul(&why).map(|why| why.to_string_lossy().into_owned());
    Err(refused(why.unwrap_or_default()))
}

/// Creates topics that are not there; those that are stay as they are.
///
/// # Errors
/// The brokers cannot be reached, or refuse.
pub fn create(connection: &Connection, topics: &[Topic]) -> Result<Vec<Made>, KafkaError> {
    let (context, _notes) = Context::new(connection.token_file.clone());
    let admin: AdminClient<Context> =
        connection.config(&[]).create_with_context(context).map_err(|error| connection.no_client(error))?;
    if connection.token_file.is_some() {
        tell_token(connection, &admin)?;
    }
    let wanted: Vec<NewTopic<'_>> = topics
        .iter()
        .map(|topic| {
            let new = NewTopic::new(&topic.name, topic.partitions, TopicReplication::Fixed(topic.replication));
            topic.settings.iter().fold(new, |new, (name, value)| new.set(name, value))
        })
        .collect();
    let options = AdminOptions::new().operation_timeout(Some(ANSWER_TIMEOUT)).request_timeout(Some(ANSWER_TIMEOUT));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let made = runtime.block_on(admin.create_topics(&wanted, &options));
    let made = made.map_err(|error| connection.no_answer("topics could not be created", error))?;
    let outcome = |result: Result<String, (String, rdkafka::types::RDKafkaErrorCode)>| match result {
        Ok(_) => Ok(Made::Created),
        Err((_, rdkafka::types::RDKafkaErrorCode::TopicAlreadyExists)) => Ok(Made::Found),
        Err((topic, why)) => {
            Err(KafkaError::NotCreated { brokers: connection.brokers.clone(), topic, what: why.to_string() })
        }
    };
    made.into_iter().map(outcome).collect()
}
