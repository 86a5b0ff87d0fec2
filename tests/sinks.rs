//! Sinks that are told by HTTP, against a server that fails, hangs and asks for time.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::Value;

use crate::support::daemon::{Daemon, Running, ids};
use crate::support::logs::{secrets_listed, synthetic};

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
    text: String,
}

impl Came {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }
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
    Some(Came { head, text: String::from_utf8(body).unwrap() })
}

fn sinks(url: &str, more: &str) -> String {
    format!("sinks: [{{type: stdout}}, {{type: webhook, url: \"{url}\"{more}}}]")
}

/// So many alerts from a webhook, in their order.
fn posted(told: &Receiver<Came>, count: usize) -> Vec<Value> {
    let mut alerts = Vec::new();
    while alerts.len() < count {
        alerts.extend(told.recv().unwrap().json()["alerts"].as_array().unwrap().iter().cloned());
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
    let dated = Does::Answer("503 Service Unavailable\r\nRetry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
    let failing = vec![Does::Answer("500 Internal Server Error\r\n"), OK, later, Does::Drop, dated, Does::Hang];
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
fn a_daemon_that_is_stopped_while_a_receiver_is_down_ends_as_asked() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let daemon = Daemon::new(&format!("sinks: [{{type: webhook, name: siem, url: \"http://{free}/\"}}]"));
    let mut running = daemon.start();
    daemon.append(&format!("{}\n", secrets_listed("a-1", 1)));
    running.wait_for("trying again");
    let (code, said) = running.stop();
    assert!(code == Some(0) && said.contains("will be sent at the next start"), "{code:?} {said}");
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

#[test]
fn a_template_that_changes_in_its_file_is_taken_in() {
    let (url, told) = serve(Vec::new());
    let daemon = Daemon::new("");
    let template = daemon.path("body.tmpl");
    std::fs::write(&template, "old {{ alert.events[0].audit_id }}").unwrap();
    // Headers may hold templates without one for the body.
    let sinks = format!(
        "sinks: [{{type: webhook, url: \"{url}\", template_file: {}}}, \
         {{type: webhook, name: plain, url: \"{url}\", headers: {{x-level: '{{{{ alert.rule.level }}}}'}}}}]",
        template.display()
    );
    let source = format!("{{type: file, paths: [\"{}\"]}}", daemon.path("audit*.log").display());
    daemon.configure(&source, &format!("rules: [detections/secrets/secrets-listed.yml]\n{sinks}"));
    let mut running = daemon.start();
    let expect = |text: &str| {
        let mut seen = [false; 2];
        while seen != [true; 2] {
            let came = told.recv().unwrap();
            if came.head.contains("\r\nx-level: high\r\n") {
                assert!(came.json()["alerts"].is_array());
                seen[0] = true;
            } else {
                assert_eq!(came.text, text);
                seen[1] = true;
            }
        }
    };
    daemon.append(&format!("{}\n", secrets_listed("a-1", 1)));
    expect("old a-1");
    std::fs::write(&template, "new {{ alert.events[0].audit_id }}").unwrap();
    running.wait_for("reload: done");
    daemon.append(&format!("{}\n", secrets_listed("a-2", 2)));
    expect("new a-2");
}

/// Every receiver by HTTP, and the ids of the alerts in a request to it.
type Ids = fn(&Came) -> Vec<String>;

fn text_of(value: &Value, pointer: &str) -> Vec<String> {
    value.pointer(pointer).and_then(Value::as_str).map(str::to_owned).into_iter().collect()
}

const RECEIVERS: [(&str, &str, Ids); 6] = [
    ("webhook", "format: ecs", |came| {
        came.json()["alerts"].as_array().unwrap().iter().flat_map(|alert| text_of(alert, "/event/id")).collect()
    }),
    (
        "webhook",
        "template: '{\"n\":{{alerts|length}},\"id\":{{alert.id|tojson}}}', headers: {x-level: '{{ alert.rule.level }}'}",
        |came| {
            assert!(came.head.contains("\r\nx-level: "), "{}", came.head);
            text_of(&came.json(), "/id")
        },
    ),
    ("alertmanager", "", |came| {
        came.json().as_array().unwrap().iter().flat_map(|alert| text_of(alert, "/labels/auditwatch_id")).collect()
    }),
    ("falcosidekick", "", |came| {
        let alert = came.json();
        assert!(
            ["Informational", "Notice", "Warning", "Error", "Critical"].contains(&alert["priority"].as_str().unwrap())
        );
        text_of(&alert, "/output_fields/auditwatch.id")
    }),
    ("elasticsearch", "user: u, password_env: AUDITWATCH_TEST_PASSWORD", |came| {
        assert!(
            came.head.starts_with("post /hook/secret/_bulk?") && came.head.contains("authorization: basic dtpw\r\n")
        );
        let actions = came.text.lines().step_by(2).map(|line| serde_json::from_str::<Value>(line).unwrap());
        actions.flat_map(|action| text_of(&action, "/create/_id")).collect()
    }),
    ("loki", "labels: {env: test}", |came| {
        let streams = came.json()["streams"].as_array().unwrap().clone();
        let entries = streams.iter().flat_map(|stream| stream["values"].as_array().unwrap());
        let lines = entries.map(|entry| serde_json::from_str::<Value>(entry[1].as_str().unwrap()).unwrap());
        lines.flat_map(|alert| text_of(&alert, "/id")).collect()
    }),
];

#[test]
fn every_receiver_gets_every_alert_in_its_own_words() {
    let (log, count) = log();
    let failing = || vec![Does::Answer("503 Service Unavailable\r\n"), Does::Drop];
    let servers: Vec<_> = RECEIVERS.iter().map(|_| serve(failing())).collect();
    let list: Vec<String> = RECEIVERS
        .iter()
        .zip(&servers)
        .enumerate()
        .map(|(at, ((kind, more, _), (url, _)))| format!("{{type: {kind}, name: r{at}, url: \"{url}\", {more}}}"))
        .collect();
    let daemon = Daemon::new(&format!("sinks: [{{type: stdout}}, {}]", list.join(", ")));
    let mut running = daemon.start_with(&[("AUDITWATCH_TEST_PASSWORD", "p")]);
    daemon.append(&log);
    let expected = ids(&printed(&mut running, count));
    for ((kind, _, read), (_, told)) in RECEIVERS.iter().zip(&servers) {
        let mut got = std::collections::BTreeSet::new();
        while !expected.is_subset(&got) {
            got.extend(read(&told.recv().unwrap()));
        }
        assert!(got.is_superset(&expected), "{kind}");
    }
}

#[test]
fn people_and_pagers_are_told() {
    let (log, _) = log();
    let (slack, teams, pager) = (serve(Vec::new()), serve(Vec::new()), serve(Vec::new()));
    let daemon = Daemon::new("");
    std::fs::write(daemon.path("key"), "routing-secret\n").unwrap();
    let config = format!(
        "sinks: [{{type: slack, url: \"{}\"}}, {{type: teams, url: \"{}\"}}, \
         {{type: pagerduty, url: \"{}\", routing_key_file: {}}}]",
        slack.0,
        teams.0,
        pager.0,
        daemon.path("key").display()
    );
    daemon.configure(&format!("{{type: file, paths: [\"{}\"]}}", daemon.path("audit*.log").display()), &config);
    let _running = daemon.start();
    daemon.append(&log);
    assert!(slack.1.recv().unwrap().json()["text"].as_str().unwrap().starts_with('*'));
    let card = teams.1.recv().unwrap().json();
    assert_eq!(card.pointer("/attachments/0/content/type").unwrap(), "AdaptiveCard");
    let event = pager.1.recv().unwrap().json();
    assert_eq!((&event["routing_key"], &event["event_action"]), (&"routing-secret".into(), &"trigger".into()));
    assert_eq!(event["dedup_key"].as_str().unwrap().len(), 32);
}

#[test]
fn a_storm_is_one_message_and_silences_and_routes_hold() {
    let (log, count) = log();
    let (url, told) = serve(Vec::new());
    let (quiet, unheard) = serve(Vec::new());
    let config = format!(
        "sinks: [{{type: stdout}}, \
         {{type: webhook, name: all, url: \"{url}\", routes: [{{rules: [nothing], drop: true}}, {{group_by: [cluster]}}]}}, \
         {{type: webhook, name: quiet, url: \"{quiet}\", routes: [{{users: [nobody]}}]}}, \
         {{type: webhook, name: silenced, url: \"{quiet}\"}}]\n\
         silences: [{{sinks: [silenced], comment: test}}]"
    );
    let daemon = Daemon::new(&config);
    let mut running = daemon.start();
    daemon.append(&log);
    printed(&mut running, count);
    let (mut messages, mut alerts) = (0, 0);
    while alerts < count as u64 {
        for alert in told.recv().unwrap().json()["alerts"].as_array().unwrap() {
            messages += 1;
            alerts += alert.pointer("/grouped/count").map_or(1, |count| count.as_u64().unwrap());
        }
    }
    assert!(messages < count / 4, "{messages} messages for {alerts} alerts");
    assert!(unheard.try_recv().is_err());
}

#[test]
fn a_file_is_turned_over_and_bears_its_format() {
    let (log, count) = log();
    let daemon = Daemon::new("");
    let file = daemon.path("alerts.jsonl");
    let source = format!("{{type: file, paths: [\"{}\"]}}", daemon.path("audit*.log").display());
    let sink =
        format!("{{type: file, path: {}, format: ocsf, max_size: 64KiB, keep: 50, fsync: never}}", file.display());
    daemon.configure(&source, &format!("sinks: [{{type: stdout}}, {sink}]"));
    daemon.append(&log);
    assert!(daemon.once().alerts().len() >= count);
    let mut uids = 0;
    for entry in std::fs::read_dir(daemon.dir.path()).unwrap().flatten() {
        if !entry.file_name().to_string_lossy().starts_with("alerts.jsonl") {
            continue;
        }
        for line in std::fs::read_to_string(entry.path()).unwrap().lines() {
            let finding: Value = serde_json::from_str(line).unwrap();
            assert_eq!(finding["class_uid"], 2004);
            uids += 1;
        }
    }
    assert!(uids >= count && daemon.path("alerts.jsonl.1").exists(), "{uids}");
}

#[test]
fn more_than_may_wait_is_passed_over_and_told() {
    let (log, count) = log();
    let (url, told) = serve((0..5).map(|_| Does::Answer("500 Internal Server Error\r\n")).collect());
    let daemon = Daemon::new(&sinks(&url, ", max_backlog: 3, name: slow"));
    let mut running = daemon.start();
    daemon.append(&log);
    let printed = printed(&mut running, count);
    running.wait_for("sink slow: is more than max_backlog behind");
    // What it is told in the end are newer ones.
    let first = told.recv().unwrap().json()["alerts"][0].clone();
    assert_ne!(first, printed[0]);
}

/// Against Alertmanager itself, where its package is installed, as CI does.
#[test]
fn alertmanager_takes_what_it_is_sent() {
    let found = ["/usr/bin/prometheus-alertmanager", "/usr/bin/alertmanager"];
    let Some(program) = found.iter().find(|path| std::path::Path::new(path).exists()) else {
        eprintln!("SKIPPED: prometheus-alertmanager is not installed");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.yml");
    std::fs::write(&config, "route: {receiver: none}\nreceivers: [{name: none}]\n").unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server = std::process::Command::new(program)
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.path={}", dir.path().join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg("--cluster.listen-address=")
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let (log, count) = log();
    // It may not listen yet: the daemon tries again.
    let url = format!("http://127.0.0.1:{port}/api/v2/alerts");
    let daemon = Daemon::new(&format!("sinks: [{{type: stdout}}, {{type: alertmanager, url: \"{url}\"}}]"));
    let mut running = daemon.start();
    daemon.append(&log);
    let expected = ids(&printed(&mut running, count));
    let known = || -> Option<std::collections::BTreeSet<String>> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        write!(stream, "GET /api/v2/alerts HTTP/1.0\r\nHost: x\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let alerts: Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
        Some(alerts.as_array()?.iter().flat_map(|alert| text_of(alert, "/labels/auditwatch_id")).collect())
    };
    let mut tries = 0;
    while !known().is_some_and(|known| known.is_superset(&expected)) {
        tries += 1;
        assert!(tries < 100_000 && server.try_wait().unwrap().is_none(), "{:?}", known());
    }
    let amtool = std::path::Path::new(program).with_file_name("amtool");
    if amtool.exists() {
        let address = format!("--alertmanager.url=http://127.0.0.1:{port}");
        let told =
            std::process::Command::new(amtool).args([&address, "alert", "query", "-o", "json"]).output().unwrap();
        let alerts: Value = serde_json::from_slice(&told.stdout).unwrap();
        let ids: std::collections::BTreeSet<String> =
            alerts.as_array().unwrap().iter().flat_map(|alert| text_of(alert, "/labels/auditwatch_id")).collect();
        assert!(ids.is_superset(&expected));
    }
    server.kill().unwrap();
    let _ = server.wait();
}
