//! Alerts by HTTP: a body per receiver (pure), a client, and between them a [`Poster`], which knows what was taken.

pub mod body;
pub mod client;

use std::fmt;
use std::io;
use std::time::Duration;

use serde_json::Value;

use body::Receiver;

/// Longest wait that a receiver may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// What a receiver answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// `Retry-After`, if it named seconds.
    pub retry_after: Option<Duration>,
    /// The beginning of what it said.
    pub said: String,
}

/// Not now: the same is to be sent again. Travels inside an [`io::Error`].
#[derive(Debug)]
pub struct Later {
    what: String,
    /// How long the receiver wants to be left alone, at least.
    pub after: Option<Duration>,
}

impl fmt::Display for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Later {}

/// How long the receiver behind this error wants to be left alone.
pub fn wanted_wait(error: &io::Error) -> Option<Duration> {
    error.get_ref()?.downcast_ref::<Later>()?.after
}

/// What a status means for what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Taken,
    /// The content is at fault: to send the same again would block everything behind it for ever.
    Refused,
    /// Everything else is a matter of time or of somebody's configuration; nothing is given up for it.
    Later,
}

fn verdict(status: u16) -> Verdict {
    match status {
        200..300 => Verdict::Taken,
        400 | 413 | 415 | 422 => Verdict::Refused,
        _ => Verdict::Later,
    }
}

/// What talks to a receiver: takes a body, gives its answer.
pub type Exchange<'e> = &'e mut dyn FnMut(Vec<u8>) -> io::Result<Reply>;
/// What is told of an alert that a receiver will never take: its line, and why. An error keeps the alert.
pub type GiveUp<'g> = &'g mut dyn FnMut(&str, &str) -> io::Result<()>;

/// Sends alerts in their order, some in one request, and remembers how far it has got within a lot.
#[derive(Debug)]
pub struct Poster {
    receiver: Receiver,
    /// The number of the last alert that was taken or given up.
    settled: i64,
    /// Alerts that the receiver refused for good.
    pub given_up: u64,
}

impl Poster {
    /// Nothing was sent yet.
    pub fn new(receiver: Receiver) -> Poster {
        Poster { receiver, settled: i64::MIN, given_up: 0 }
    }

    /// Sends those of a lot that were not taken yet. Requests whose content is refused are sent again alert by alert, and
    /// only the ones refused alone are given up.
    ///
    /// # Errors
    /// The receiver is not to be reached or asks for time; the lot is to be given again, and nothing is repeated but the
    /// request that failed.
    pub fn send(&mut self, lot: &[(i64, String)], exchange: Exchange<'_>, give_up: GiveUp<'_>) -> io::Result<()> {
        let first = lot.partition_point(|(number, _)| *number <= self.settled);
        for some in lot[first..].chunks(self.receiver.alerts_per_request()) {
            if !self.request(some, exchange)?.is_empty() {
                for one in some.chunks(1) {
                    let why = self.request(one, exchange)?;
                    if !why.is_empty() {
                        give_up(&one[0].1, &why)?;
                        self.given_up += 1;
                        self.settle(one);
                    }
                }
            }
        }
        Ok(())
    }

    /// One request. Gives why its content was refused; nothing if it was taken.
    fn request(&mut self, some: &[(i64, String)], exchange: Exchange<'_>) -> io::Result<String> {
        let alerts: Result<Vec<Value>, _> = some.iter().map(|(_, line)| serde_json::from_str(line)).collect();
        let Ok(alerts) = alerts else { return Ok("the stored alert is no JSON".to_owned()) };
        let reply = exchange(self.receiver.body(&alerts))?;
        match verdict(reply.status) {
            Verdict::Taken => {
                self.settle(some);
                Ok(String::new())
            }
            Verdict::Refused => Ok(format!("{}: {}", reply.status, reply.said)),
            Verdict::Later => Err(io::Error::other(Later {
                what: format!("answered {}: {}", reply.status, reply.said),
                after: reply.retry_after.map(|wait| wait.min(RETRY_AFTER_MAX)),
            })),
        }
    }

    fn settle(&mut self, some: &[(i64, String)]) {
        self.settled = some.last().map_or(self.settled, |(number, _)| *number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lot(numbers: std::ops::Range<i64>) -> Vec<(i64, String)> {
        numbers.map(|n| (n, format!("{{\"id\":\"{n}\",\"rule\":{{\"title\":\"t\"}}}}"))).collect()
    }

    fn reply(status: u16) -> io::Result<Reply> {
        Ok(Reply { status, retry_after: Some(Duration::from_secs(7)), said: "no".to_owned() })
    }

    /// The ids in a webhook's body.
    fn sent(body: &[u8]) -> Vec<i64> {
        let body: Value = serde_json::from_slice(body).unwrap();
        let ids = body["alerts"].as_array().unwrap().iter().map(|alert| alert["id"].as_str().unwrap().parse());
        ids.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn what_was_taken_is_not_sent_again() {
        let mut poster = Poster::new(Receiver::Webhook);
        let per_request = Receiver::Webhook.alerts_per_request() as i64;
        let lot = lot(1..per_request * 2 + 2);
        let mut calls = 0;
        let mut taken = Vec::new();
        let mut exchange = |body: Vec<u8>| {
            calls += 1;
            // The second request fails twice: once asked to wait, once not reached at all.
            match calls {
                2 => reply(429),
                3 => Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
                _ => {
                    taken.extend(sent(&body));
                    reply(202)
                }
            }
        };
        let give_up = &mut |_: &str, _: &str| panic!("given up");
        let error = poster.send(&lot, &mut exchange, give_up).unwrap_err();
        assert_eq!(wanted_wait(&error), Some(Duration::from_secs(7)));
        assert_eq!(error.to_string(), "answered 429: no");
        let error = poster.send(&lot, &mut exchange, give_up).unwrap_err();
        assert_eq!(wanted_wait(&error), None);
        poster.send(&lot, &mut exchange, give_up).unwrap();
        assert_eq!(taken, (1..per_request * 2 + 2).collect::<Vec<_>>());
    }

    #[test]
    fn only_the_alert_at_fault_is_given_up() {
        let mut poster = Poster::new(Receiver::Webhook);
        let mut taken = Vec::new();
        let mut given_up = Vec::new();
        let mut exchange = |body: Vec<u8>| match sent(&body) {
            ids if ids.contains(&3) => reply(422),
            ids => {
                taken.extend(ids);
                reply(200)
            }
        };
        let mut give_up = |line: &str, why: &str| {
            given_up.push(format!("{line} {why}"));
            Ok(())
        };
        poster.send(&lot(1..6), &mut exchange, &mut give_up).unwrap();
        assert_eq!((taken, poster.given_up), (vec![1, 2, 4, 5], 1));
        assert_eq!(given_up, ["{\"id\":\"3\",\"rule\":{\"title\":\"t\"}} 422: no"]);
    }

    #[test]
    fn only_content_is_refused_for_good() {
        for (status, expected) in [
            (200, Verdict::Taken),
            (204, Verdict::Taken),
            (301, Verdict::Later),
            (400, Verdict::Refused),
            (401, Verdict::Later),
            (404, Verdict::Later),
            (413, Verdict::Refused),
            (429, Verdict::Later),
            (500, Verdict::Later),
            (503, Verdict::Later),
        ] {
            assert_eq!(verdict(status), expected, "{status}");
        }
    }
}
