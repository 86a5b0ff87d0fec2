use super::*;

fn alert(id: &str) -> Value {
    json!({
        "id": id, "time": "2026-11-23T19:30:29.041592Z", "cluster": "eu", "message": "<!channel> a & b\nc",
        "rule": {"id": "u", "ref": "SEC-002", "title": "Secrets read", "level": "high", "tags": []},
        "actor": {"username": "mallory"}, "target": {"namespace": null},
    })
}

fn webhook() -> Receiver {
    Receiver::Webhook { format: Format::Json, template: None, content_type: "application/json".into(), batch: 50 }
}

fn all() -> Vec<Receiver> {
    vec![
        webhook(),
        Receiver::Alertmanager,
        Receiver::Slack,
        Receiver::Teams,
        Receiver::Pagerduty { routing_key: "key".into() },
        Receiver::Falcosidekick,
        Receiver::Elasticsearch { index: "alerts".into(), format: Format::Json },
        Receiver::Loki { labels: vec![("env".into(), "prod".into())], format: Format::Json },
    ]
}

fn body(receiver: &Receiver, alerts: &[Value]) -> Result<String, String> {
    let lines: Vec<String> = alerts.iter().map(Value::to_string).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    receiver.request(&lines).map(|body| String::from_utf8(body.bytes).unwrap())
}

fn json_body(receiver: &Receiver, alerts: &[Value]) -> Value {
    serde_json::from_str(&body(receiver, alerts).unwrap()).unwrap()
}

#[test]
fn each_receiver_is_told_in_its_own_words() {
    let line = alert("1").to_string();
    for (receiver, expected) in [
        (webhook(), json!({"alerts": [alert("1")]})),
        (
            Receiver::Alertmanager,
            json!([{
                "labels": {"alertname": "SEC-002", "severity": "high", "cluster": "eu", "username": "mallory",
                    "auditwatch_id": "1"},
                "annotations": {"summary": "Secrets read", "description": "<!channel> a & b\nc",
                    "time": "2026-11-23T19:30:29.041592Z"},
            }]),
        ),
        (
            Receiver::Slack,
            json!({
                "text": "*high* Secrets read in eu: &lt;!channel&gt; a &amp; b c (2026-11-23T19:30:29.041592Z)",
                "unfurl_links": false,
                "unfurl_media": false,
            }),
        ),
        (
            Receiver::Loki { labels: vec![("env".into(), "prod".into())], format: Format::Json },
            json!({"streams": [{
                "stream": {"job": "auditwatch", "level": "high", "cluster": "eu", "env": "prod"},
                "values": [["1795462229041592000", line]],
            }]}),
        ),
    ] {
        assert_eq!(json_body(&receiver, &[alert("1")]), expected, "{receiver:?}");
    }
    let card = json_body(&Receiver::Teams, &[alert("1")]);
    let text = card.pointer("/attachments/0/content/body/0/text").unwrap();
    assert_eq!(text, r"**high** Secrets read in eu: \<\!channel\> a & b c (2026-11-23T19:30:29.041592Z)");
}

#[test]
fn pagerduty_makes_one_incident_of_a_group() {
    let receiver = Receiver::Pagerduty { routing_key: "key".into() };
    let event = json_body(&receiver, &[alert("1")]);
    for (pointer, expected) in [
        ("/routing_key", "key"),
        ("/event_action", "trigger"),
        ("/dedup_key", "1"),
        ("/payload/severity", "error"),
        ("/payload/source", "eu"),
        ("/payload/timestamp", "2026-11-23T19:30:29.041592Z"),
    ] {
        assert_eq!(event.pointer(pointer).unwrap(), expected, "{pointer}");
    }
    let mut grouped = alert("2");
    grouped["grouped"] = json!({"by": {"user": "mallory"}, "count": 3});
    grouped["message"] = json!("m".repeat(5000));
    let event = json_body(&receiver, &[grouped]);
    assert_eq!(event["dedup_key"], r#"{"user":"mallory"}"#);
    assert_eq!(event.pointer("/payload/summary").unwrap().as_str().unwrap().len(), SUMMARY_CHARS);
}

#[test]
fn a_bulk_request_names_ids_and_its_answer_judges_each() {
    let receiver = Receiver::Elasticsearch { index: "alerts".into(), format: Format::Json };
    let sent = body(&receiver, &[alert("1"), alert("2")]).unwrap();
    let lines: Vec<&str> = sent.lines().collect();
    assert_eq!(lines[0], r#"{"create":{"_index":"alerts","_id":"1"}}"#);
    assert_eq!((lines[3], lines.len()), (alert("2").to_string().as_str(), 4));
    let items = json!({"errors": true, "items": [
        {"create": {"status": 201}},
        {"create": {"status": 409, "error": {"reason": "exists"}}},
        {"create": {"status": 429, "error": {"reason": "busy"}}},
        {"create": {"status": 400, "error": {"reason": "mapping"}}},
    ]});
    let reply =
        |status, body: &str| Reply { status, retry_after: None, said: "x".into(), body: body.as_bytes().to_vec() };
    let verdicts = |reply: &Reply| receiver.judge(reply, 4).into_iter().map(|(verdict, _)| verdict).collect::<Vec<_>>();
    use Verdict::{Later, Refused, Taken};
    assert_eq!(verdicts(&reply(200, &items.to_string())), [Taken, Taken, Later, Refused]);
    assert_eq!(verdicts(&reply(200, "?")), [Taken; 4]);
    assert_eq!(verdicts(&reply(503, &items.to_string())), [Later; 4]);
}

#[test]
fn a_storm_is_one_message_with_a_count() {
    let storm: Vec<Value> = (0..150).map(|n| alert(&n.to_string())).collect();
    let told = json_body(&Receiver::Slack, &storm);
    let told = told["text"].as_str().unwrap();
    assert_eq!(told.lines().count(), chat::LINES_IN_CHAT + 1);
    assert!(told.ends_with("\nand 140 more"));
    let card = body(&Receiver::Teams, &storm).unwrap();
    assert!(card.contains("and 140 more") && card.len() < 28_000);
}

#[test]
fn what_is_missing_harms_nobody() {
    for receiver in all() {
        for odd in [json!({}), json!(1), json!({"rule": []})] {
            // Shapes that need a whole alert refuse it; nothing panics.
            let _ = body(&receiver, &[odd]);
        }
        assert!(receiver.request(&["{"]).is_err(), "{receiver:?}");
    }
}
