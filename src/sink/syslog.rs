//! Alerts by syslog: RFC 5424 over UDP, TCP (with octet counts, RFC 6587) or a local socket.
#![allow(clippy::disallowed_methods, reason = "a sink writes")]

use std::io::{self, Write};
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use super::Format;
use super::shape::shaped;
use crate::alert::Alert;
use crate::rules::Level;

/// A datagram of more does not fit; the message is cut at a character.
const DATAGRAM_BYTES: usize = 60_000;

/// Where messages go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `host:port`.
    Udp(String),
    /// `host:port`.
    Tcp(String),
    /// A socket in the file system, of datagrams or a stream.
    Unix(PathBuf),
}

impl Target {
    /// Reads `udp://HOST:PORT`, `tcp://HOST:PORT` or `unix:///PATH`.
    pub fn parse(address: &str) -> Option<Target> {
        match address.split_once("://")? {
            ("udp", host) => Some(Target::Udp(host.to_owned())),
            ("tcp", host) => Some(Target::Tcp(host.to_owned())),
            ("unix", path) => Some(Target::Unix(path.into())),
            _ => None,
        }
    }
}

#[derive(Debug)]
enum Open {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Datagrams(UnixDatagram),
    Stream(UnixStream),
}

/// Alerts on their way to a syslog server.
#[derive(Debug)]
pub struct Syslog {
    target: Target,
    facility: u8,
    format: Format,
    timeout: Duration,
    open: Option<Open>,
    /// The number of the last alert that was sent.
    settled: i64,
}

impl Syslog {
    /// Nothing is connected yet. `facility` is syslog's number.
    pub fn new(target: Target, facility: u8, format: Format, timeout: Duration) -> Syslog {
        Syslog { target, facility, format, timeout, open: None, settled: i64::MIN }
    }

    /// The number of the last alert that was sent.
    pub fn settled(&self) -> i64 {
        self.settled
    }

    /// Sends those of a lot that were not sent yet.
    ///
    /// # Errors
    /// The server is not to be reached; the lot is to be given again, and the message that failed is sent again.
    pub fn send(&mut self, lot: &[(i64, String)]) -> io::Result<()> {
        let first = lot.partition_point(|(number, _)| *number <= self.settled);
        for (number, line) in &lot[first..] {
            let message = message(line, self.facility, self.format);
            let sent = self.connected().and_then(|mut open| {
                open.write(&message)?;
                Ok(open)
            });
            self.open = Some(sent?);
            self.settled = *number;
        }
        Ok(())
    }

    fn connected(&mut self) -> io::Result<Open> {
        if let Some(open) = self.open.take()
            && !open.is_closed()
        {
            return Ok(open);
        }
        let timeout = Some(self.timeout);
        match &self.target {
            Target::Udp(host) => {
                let to = resolve(host)?;
                let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
                socket.connect(to)?;
                Ok(Open::Udp(socket))
            }
            Target::Tcp(host) => {
                let stream = TcpStream::connect_timeout(&resolve(host)?, self.timeout)?;
                stream.set_write_timeout(timeout)?;
                Ok(Open::Tcp(stream))
            }
            Target::Unix(path) => {
                let datagrams = UnixDatagram::unbound()?;
                if datagrams.connect(path).is_ok() {
                    datagrams.set_write_timeout(timeout)?;
                    return Ok(Open::Datagrams(datagrams));
                }
                let stream = UnixStream::connect(path);
                let stream =
                    stream.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
                stream.set_write_timeout(timeout)?;
                Ok(Open::Stream(stream))
            }
        }
    }
}

fn resolve(host: &str) -> io::Result<std::net::SocketAddr> {
    let found = host.to_socket_addrs().map_err(|error| io::Error::new(error.kind(), format!("{host}: {error}")))?;
    found.into_iter().next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{host}: no address")))
}

impl Open {
    /// Whether the other side has closed. What is written after that would be lost, and only the next write would say so.
    fn is_closed(&self) -> bool {
        let Open::Tcp(stream) = self else { return false };
        let _ = stream.set_nonblocking(true);
        let seen = stream.peek(&mut [0]);
        let _ = stream.set_nonblocking(false);
        match seen {
            Ok(bytes) => bytes == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    fn write(&mut self, message: &str) -> io::Result<()> {
        let datagram = &message.as_bytes()[..message.floor_char_boundary(DATAGRAM_BYTES)];
        // A pipe that breaks on the way is the server's, not ours: it must not end the run.
        let later = |error: io::Error| match error.kind() {
            io::ErrorKind::BrokenPipe => io::Error::other(error.to_string()),
            _ => error,
        };
        let framed = || format!("{} {message}", message.len());
        let written = match self {
            Open::Udp(socket) => socket.send(datagram).map(drop),
            Open::Datagrams(socket) => socket.send(datagram).map(drop),
            Open::Tcp(stream) => stream.write_all(framed().as_bytes()),
            Open::Stream(stream) => stream.write_all(framed().as_bytes()),
        };
        written.map_err(later)
    }
}

/// One message: header, structured data with the id, and the alert in its shape.
fn message(line: &str, facility: u8, format: Format) -> String {
    let alert = Alert::parse(line).ok();
    let severity = alert.as_ref().map_or(5, |alert| match alert.rule.level {
        Level::Informational => 6,
        Level::Low => 5,
        Level::Medium => 4,
        Level::High => 3,
        Level::Critical => 2,
    });
    let priority = u16::from(facility) * 8 + severity;
    let time = alert.as_ref().map_or("-", |alert| alert.time.as_str());
    // What it says of itself must not break the header.
    let plain = |text: &str| -> String { text.chars().filter(char::is_ascii_graphic).take(32).collect() };
    let host = alert.as_ref().map(|alert| plain(&alert.cluster)).filter(|host| !host.is_empty());
    let rule = alert.as_ref().and_then(|alert| alert.rule.reference.as_deref()).map(plain);
    let data = alert.as_ref().map_or("-".to_owned(), |alert| {
        // 32473 is the number that RFC 5612 sets aside for examples and those without one.
        format!("[auditwatch@32473 id=\"{}\" level=\"{}\"]", plain(&alert.id), alert.rule.level.name())
    });
    let text = shaped(line, format).map_or_else(|_| line.to_owned(), std::borrow::Cow::into_owned);
    let (host, rule) = (host.unwrap_or_else(|| "-".to_owned()), rule.unwrap_or_else(|| "-".to_owned()));
    format!("<{priority}>1 {time} {host} auditwatch {} {rule} {data} {text}", std::process::id())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;
    use crate::alert::tests::alert_of_rule;

    fn lot(numbers: std::ops::Range<i64>) -> Vec<(i64, String)> {
        let alert = |n: i64| {
            let mut alert = alert_of_rule();
            alert.id = format!("{n:032x}");
            alert.cluster = "eu west\n".into();
            (n, serde_json::to_string(&alert).unwrap())
        };
        numbers.map(alert).collect()
    }

    #[test]
    fn a_message_is_one_of_rfc_5424() {
        let lot = lot(1..2);
        let message = message(&lot[0].1, 13, Format::Json);
        let head = format!(
            "<107>1 2026-11-23T19:30:29.041592Z euwest auditwatch {} SEC-002 [auditwatch@32473 id=\"{:032x}\" level=\"high\"] {{",
            std::process::id(),
            1
        );
        assert!(message.starts_with(&head), "{message}");
        assert!(message.ends_with(&lot[0].1));
        assert!(super::message("odd", 13, Format::Falco).ends_with(" odd"));
    }

    #[test]
    fn datagrams_and_streams_carry_each_message_once() {
        let lot = lot(1..4);
        let timeout = Duration::from_secs(10);
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let unix = UnixDatagram::bind(&path).unwrap();
        let mut buffer = vec![0; 65_536];
        for (target, local) in [(Target::Udp(udp.local_addr().unwrap().to_string()), false), (Target::Unix(path), true)]
        {
            let mut syslog = Syslog::new(target, 13, Format::Json, timeout);
            syslog.send(&lot[..2]).unwrap();
            syslog.send(&lot).unwrap();
            for (_, line) in &lot {
                let length = if local { unix.recv(&mut buffer) } else { udp.recv(&mut buffer) }.unwrap();
                assert!(String::from_utf8_lossy(&buffer[..length]).ends_with(line));
            }
        }
    }

    #[test]
    fn a_server_that_was_restarted_is_found_again() {
        let lot = lot(1..4);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut syslog = Syslog::new(Target::Tcp(address.to_string()), 13, Format::Json, Duration::from_secs(10));
        syslog.send(&lot[..1]).unwrap();
        let (mut first, _) = listener.accept().unwrap();
        let mut digits = Vec::new();
        while digits.last() != Some(&b' ') {
            let mut byte = [0];
            first.read_exact(&mut byte).unwrap();
            digits.extend(byte);
        }
        let mut message = vec![0; String::from_utf8_lossy(&digits).trim().parse().unwrap()];
        first.read_exact(&mut message).unwrap();
        assert!(String::from_utf8_lossy(&message).ends_with(&lot[0].1));
        drop((first, listener));
        // Until nobody is there, it must not be taken for sent.
        let error = syslog.send(&lot[..2]).unwrap_err();
        assert_ne!(error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(syslog.settled(), 1);
        let listener = TcpListener::bind(address).unwrap();
        syslog.send(&lot).unwrap();
        drop(syslog);
        let mut all = String::new();
        listener.accept().unwrap().0.read_to_string(&mut all).unwrap();
        assert!(all.contains(&lot[1].1) && all.contains(&lot[2].1) && !all.contains(&lot[0].1));
    }
}
