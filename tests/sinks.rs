//! Sinks that are told by HTTP, against a server that fails, hangs and asks for time.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::Value;

use crate::support::daemon::{Daemon, Running, ids};
use crate::support::logs::synthetic;

/// What a server does with a request.
enum Does {
    Answer(&'static str),
    /// Closes the connection without a word.
    Drop,
    /// Keeps it open and never answers.
    Hang,
}

const OK: Does = Does::Answer("200 OK\r\n");

/// A request as it came: its head, and its body.
struct Came {
    head: String,
    body: Value,
}

/// A server that does one thing after the other, and then takes everything. Gives what it took.
fn serve(first: Vec<Does>) -> (String, Receiver<Came>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook/secret", listener.local_addr().unwrap());
    let (tell, told) = channel();
    thread::spawn(move || {
        let mut held = Vec::new();
        let mut first = first.into_iter();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let Some(came) = read(&mut stream) else { continue };
            match first.next().unwrap_or(OK) {
                Does::Drop => {}
                Does::Hang => held.push(stream),
                Does::Answer(what) => {
                    let answer = format!("HTTP/1.1 {what}Content-Length: 0\r\nConnection: close\r\n\r\n");
                    let _ = stream.write_all(answer.as_bytes());
                    if what.starts_with('2') && tell.send(came).is_err() {
                        return;
                    }
                }
            }
        }
    });
    (url, told)
}

fn read(stream: &mut TcpStream) -> Option<Came> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let head = head.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Came { head, body: serde_json::from_slice(&body).unwrap() })
}

fn sinks(url: &str, more: &str) -> String {
    format!("sinks: [{{type: stdout}}, {{type: webhook, url: \"{url}\"{more}}}]")
}

/// So many alerts from a webhook, in their order.
fn posted(told: &Receiver<Came>, count: usize) -> Vec<Value> {
    let mut alerts = Vec::new();
    while alerts.len() < count {
        alerts.extend(told.recv().unwrap().body["alerts"].as_array().unwrap().iter().cloned());
    }
    alerts.truncate(count);
    alerts
}

/// So many alerts from standard output.
fn printed(running: &mut Running, count: usize) -> Vec<Value> {
    (0..count).map(|_| running.next_alert()).collect()
}

/// A log, and how many alerts a daemon tells of it as they come, without waiting for windows; at least.
fn log() -> (String, usize) {
    let log = synthetic(5, 1_500).concat();
    let daemon = Daemon::new("");
    daemon.append(&log);
    let at_once = daemon.once().alerts().iter().filter(|alert| alert["kind"] == "rule").count();
    (log, at_once)
}

#[test]
fn nothing_is_lost_or_reordered_whatever_a_receiver_does() {
    let (log, count) = log();
    assert!(count > 60, "more than one request: {count}");
    let later = Does::Answer("429 Too Many Requests\r\nRetry-After: 0\r\n");
    let failing = vec![Does::Answer("500 Internal Server Error\r\n"), OK, later, Does::Drop, Does::Hang];
    let (url, told) = serve(failing);
    let daemon = Daemon::new(&sinks(&url, ", timeout: 200ms"));
    let mut running = daemon.start();
    daemon.append(&log);
    let printed = printed(&mut running, count);
    assert_eq!(posted(&told, count), printed);
    ids(&printed);
}

#[test]
fn a_receiver_that_hangs_delays_nobody_and_is_told_after_a_restart() {
    let (log, count) = log();
    let (url, told) = serve(vec![Does::Hang]);
    let daemon = Daemon::new(&sinks(&url, ", timeout: 1h, name: siem"));
    let mut running = daemon.start();
    daemon.append(&log);
    let printed = printed(&mut running, count);
    // Killed while the receiver has taken nothing; the second run finds it at another url, by its name.
    drop(running);
    let (elsewhere, told_elsewhere) = serve(Vec::new());
    let file = daemon.path("run.yaml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, config.replace(&url, &elsewhere)).unwrap();
    let _running = daemon.start();
    assert_eq!(posted(&told_elsewhere, count), printed);
    assert!(told.try_recv().is_err());
}

#[test]
fn a_request_bears_its_token_and_signature_and_a_refused_alert_is_put_aside() {
    let (log, count) = log();
    let refused = || Does::Answer("422 Unprocessable Content\r\n");
    let (url, told) = serve(vec![refused(), refused()]);
    let daemon = Daemon::new("");
    for (name, secret) in [("url", url.as_str()), ("token", "bearer-secret\n"), ("key", "key-secret")] {
        std::fs::write(daemon.path(name), secret).unwrap();
    }
    let dead = daemon.path("dead.jsonl");
    let path = |name: &str| daemon.path(name).display().to_string();
    let more = format!(
        "sinks: [{{type: stdout}}, {{type: webhook, url_file: {}, token_file: {}, signing_key_file: {}, dead_letter: {}, \
         headers: {{x-team: blue}}}}]",
        path("url"),
        path("token"),
        path("key"),
        dead.display(),
    );
    let source = format!("{{type: file, paths: [\"{}\"]}}", daemon.path("audit*.log").display());
    daemon.configure(&source, &more);
    let mut running = daemon.start();
    daemon.append(&log);
    let printed = printed(&mut running, count);
    let came = told.recv().unwrap();
    for header in ["authorization: bearer bearer-secret\r\n", "x-team: blue\r\n", "x-auditwatch-signature: sha256="] {
        assert!(came.head.contains(header), "{header}: {}", came.head);
    }
    assert!(came.head.starts_with("post /hook/secret http/1.1"));
    let said = running.wait_for("refused for good");
    assert!(!said.contains("secret"), "{said}");
    let aside: Value = serde_json::from_str(&std::fs::read_to_string(dead).unwrap()).unwrap();
    assert_eq!(aside, printed[0]);
}
