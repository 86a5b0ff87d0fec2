//! Alerts by HTTP: a body per receiver (pure), a client, and between them a [`Poster`], which knows what was taken.

pub mod body;
pub mod client;
mod trust;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::time::Duration;

use body::{Body, Receiver};

/// Longest wait that a receiver may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// What a receiver answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// `Retry-After`, in seconds from now.
    pub retry_after: Option<Duration>,
    /// The beginning of what it said, for people.
    pub said: String,
    /// The same as it came, cut at [`client::ANSWER_BYTES_MAX`].
    pub body: Vec<u8>,
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
pub type Exchange<'e> = &'e mut dyn FnMut(Body) -> io::Result<Reply>;
/// What is told of an alert that a receiver will never take: its line, and why. An error keeps the alert.
pub type GiveUp<'g> = &'g mut dyn FnMut(&str, &str) -> io::Result<()>;

/// Sends alerts in their order, some in one request, and remembers how far it has got within a lot.
#[derive(Debug)]
pub struct Poster {
    receiver: Receiver,
    /// The number of the last alert before which all were taken or given up.
    settled: i64,
    /// Those behind it that were; no more than a request holds.
    ahead: BTreeSet<i64>,
    /// Alerts that the receiver refused for good.
    pub given_up: u64,
}

impl Poster {
    /// Nothing was sent yet.
    pub fn new(receiver: Receiver) -> Poster {
        Poster { receiver, settled: i64::MIN, ahead: BTreeSet::new(), given_up: 0 }
    }

    /// The number of the last alert before which all were taken or given up.
    pub fn settled(&self) -> i64 {
        self.settled
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
            let left: Vec<&(i64, String)> = some.iter().filter(|(number, _)| !self.ahead.contains(number)).collect();
            let refused = self.request(&left, exchange)?;
            for (one, why) in refused {
                // A request of one alert has said it already; of many, one may have spoilt it for all.
                let why = match left.len() {
                    1 => Some(why),
                    _ => self.request(&[one], exchange)?.pop().map(|(_, why)| why),
                };
                if let Some(why) = why {
                    give_up(&one.1, &why)?;
                    self.given_up += 1;
                    self.ahead.insert(one.0);
                }
            }
            self.settled = some.last().map_or(self.settled, |(number, _)| *number);
            self.ahead.clear();
        }
        Ok(())
    }

    /// One request. Gives those whose content was refused, and why.
    fn request<'l>(
        &mut self,
        some: &[&'l (i64, String)],
        exchange: Exchange<'_>,
    ) -> io::Result<Vec<(&'l (i64, String), String)>> {
        if some.is_empty() {
            return Ok(Vec::new());
        }
        let lines: Vec<&str> = some.iter().map(|(_, line)| line.as_str()).collect();
        let body = match self.receiver.request(&lines) {
            Ok(body) => body,
            Err(why) => return Ok(some.iter().map(|one| (*one, why.clone())).collect()),
        };
        let reply = exchange(body)?;
        let (mut refused, mut later) = (Vec::new(), None);
        for (one, (verdict, why)) in some.iter().zip(self.receiver.judge(&reply, some.len())) {
            match verdict {
                Verdict::Taken => drop(self.ahead.insert(one.0)),
                Verdict::Refused => refused.push((*one, why)),
                Verdict::Later => later = Some(why),
            }
        }
        match later {
            // Those refused are found again when the rest is taken.
            Some(why) => Err(io::Error::other(Later {
                what: format!("answered {why}"),
                after: reply.retry_after.map(|wait| wait.min(RETRY_AFTER_MAX)),
            })),
            None => Ok(refused),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::Format;
    use super::*;

    fn webhook() -> Receiver {
        Receiver::Webhook { format: Format::Json, template: None, content_type: "application/json".into(), batch: 50 }
    }

    fn lot(numbers: std::ops::Range<i64>) -> Vec<(i64, String)> {
        numbers.map(|n| (n, format!("{{\"id\":\"{n}\",\"rule\":{{\"title\":\"t\"}}}}"))).collect()
    }

    fn reply(status: u16) -> io::Result<Reply> {
        Ok(Reply { status, retry_after: Some(Duration::from_secs(7)), said: "no".to_owned(), body: Vec::new() })
    }

    /// The ids in a webhook's body.
    fn sent(body: &Body) -> Vec<i64> {
        let body: Value = serde_json::from_slice(&body.bytes).unwrap();
        let ids = body["alerts"].as_array().unwrap().iter().map(|alert| alert["id"].as_str().unwrap().parse());
        ids.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn what_was_taken_is_not_sent_again() {
        let mut poster = Poster::new(webhook());
        let per_request = webhook().alerts_per_request() as i64;
        let lot = lot(1..per_request * 2 + 2);
        let mut calls = 0;
        let mut taken = Vec::new();
        let mut exchange = |body: Body| {
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
        let mut poster = Poster::new(webhook());
        let mut taken = Vec::new();
        let mut given_up = Vec::new();
        let mut exchange = |body: Body| match sent(&body) {
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

    #[test]
    fn of_a_bulk_request_only_what_was_not_taken_is_sent_again() {
        let mut poster = Poster::new(Receiver::Elasticsearch { index: "a".into(), format: Format::Json });
        let mut sent: Vec<Vec<String>> = Vec::new();
        let mut exchange = |body: Body| {
            let text = String::from_utf8(body.bytes).unwrap();
            let ids = text
                .lines()
                .step_by(2)
                .map(|line| serde_json::from_str::<Value>(line).unwrap()["create"]["_id"].to_string());
            sent.push(ids.collect());
            let statuses: &[u16] = if sent.len() == 1 { &[201, 429, 400, 201] } else { &[201, 400] };
            let statuses = if sent.len() == 3 { &[400] } else { statuses };
            let items: Vec<Value> = statuses.iter().map(|s| serde_json::json!({"create": {"status": s}})).collect();
            let body = serde_json::json!({"items": items}).to_string().into_bytes();
            Ok(Reply { status: 200, retry_after: None, said: String::new(), body })
        };
        let mut given_up = Vec::new();
        let mut give_up = |line: &str, _: &str| {
            given_up.push(line.to_owned());
            Ok(())
        };
        let lot = lot(1..5);
        assert!(poster.send(&lot, &mut exchange, &mut give_up).unwrap_err().to_string().contains("answered 429"));
        poster.send(&lot, &mut exchange, &mut give_up).unwrap();
        assert_eq!(poster.settled(), 4);
        assert_eq!(given_up, [lot[2].1.clone()]);
        let ids = |ids: &[&str]| ids.iter().map(|id| format!("\"{id}\"")).collect::<Vec<_>>();
        assert_eq!(sent, [ids(&["1", "2", "3", "4"]), ids(&["2", "3"]), ids(&["3"])]);
    }
}
