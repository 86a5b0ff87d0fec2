use serde_json::{Value, json};

use super::*;

const RULES: &str = "
title: Secrets listed
id: 11111111-0000-4000-8000-000000000001
ref: T-001
name: secrets_listed
logsource: {product: kubernetes, service: audit}
level: high
detection:
  selection: {verb: list, objectRef.resource: secrets, responseStatus.code: 200}
  condition: selection
---
title: Secrets listed again and again
id: 11111111-0000-4000-8000-000000000002
ref: T-002
level: critical
correlation:
  type: event_count
  rules: [secrets_listed]
  group-by: [user.username]
  timespan: 1m
  condition: {gte: 3}
  generate: [secrets_listed]
---
title: From the bad network
id: 11111111-0000-4000-8000-000000000003
logsource: {product: kubernetes, service: audit}
level: low
detection:
  selection: {verb: get, userAgent|expand: '%bad_agents%'}
  condition: selection
";

const OTHER: &str = "
title: Anything listed
id: 22222222-0000-4000-8000-000000000001
logsource: {product: kubernetes, service: audit}
level: low
detection:
  selection: {verb: list}
  condition: selection
";

fn run(tests: &str) -> Vec<Verdict> {
    let file = |name: &str, text: &str| SourceFile::new(name, text);
    let files = [file("a.yml", RULES), file("b.yml", OTHER)];
    Runner::new(&files).unwrap().run("a.yml", &parse("a.test.yml", tests).unwrap()).unwrap()
}

fn events(tests: &str) -> Vec<Value> {
    parse("a.test.yml", tests).unwrap().tests.remove(0).events
}

#[test]
fn expectations_hold_or_say_what_came_instead() {
    for (events, expect, failure) in [
        ("[{verb: list}]", "fires", None),
        ("[{verb: list}]", "silent", Some("expected no alert, got 1")),
        ("[{verb: list}]", "{count: 1, level: high, ref: T-001}", None),
        ("[{verb: list}]", "{level: low}", Some("expected an alert of level low, got 0")),
        ("[{verb: list}]", "{ref: T-009}", Some("high T-001 Secrets listed: alice list secrets")),
        ("[{verb: get}]", "silent", None),
        ("[{verb: get}]", "fires", Some("fired of this file: nothing\nfired of other files: nothing")),
        // The other file's rule fires as well, and is no business of this test.
        ("[{verb: list, objectRef: {resource: pods}}]", "silent", None),
        ("[{verb: list, objectRef: {resource: pods}}]", "fires", Some("low - Anything listed")),
        ("[{verb: list, responseStatus: {code: 403}}]", "silent", None),
        ("[{event: {verb: list}, repeat: 3}]", "{count: 4}", None),
        ("[{event: {verb: list}, repeat: 3}]", "{count: 3, level: high}", None),
        ("[{event: {verb: list}, repeat: 3}]", "{count: 1, group: {user.username: alice}}", None),
        ("[{event: {verb: list}, repeat: 3}]", "{group: {user.username: bob}}", Some("with user.username=bob, got 0")),
        ("[{event: {verb: list}, repeat: 3, step: 31s}]", "{count: 0, ref: T-002}", None),
        ("[{event: {verb: list}, repeat: 2}, {event: {verb: list}, after: 2m}]", "{count: 0, ref: T-002}", None),
        ("[{event: {verb: list}, repeat: 2}, {event: {verb: list}, after: 30s}]", "{count: 1, ref: T-002}", None),
        ("[{event: {verb: list, user: {username: 'u{n}'}}, repeat: 3}]", "{count: 0, ref: T-002}", None),
    ] {
        let base = "base: {objectRef: {resource: secrets}}";
        let text = format!("{base}\ntests:\n  - {{name: x, events: {events}, expect: {expect}}}\n");
        let verdict = run(&text).remove(0);
        match (verdict.failure, failure) {
            (None, None) => {}
            (Some(got), Some(wanted)) => assert!(got.contains(wanted), "{events} {expect}: {got}"),
            (got, _) => panic!("{events} {expect}: {got:?}"),
        }
    }
}

#[test]
fn a_file_or_a_test_has_its_own_site_lists() {
    let test = "tests: [{name: x, events: [{verb: get, userAgent: evil}], expect: {count: 1, level: low}}]";
    assert!(run(test)[0].failure.is_some());
    assert_eq!(run(&format!("site: {{bad_agents: [evil]}}\n{test}"))[0].failure, None);
    assert_eq!(run(&test.replace("expect", "site: {bad_agents: [evil]}, expect"))[0].failure, None);
}

#[test]
fn a_body_that_was_not_logged_is_told() {
    let rule = RULES.replace("responseStatus.code: 200", "requestObject.x: 1").replace("verb: list", "verb: create");
    let files = [SourceFile::new("a.yml", rule)];
    let test =
        "tests: [{name: x, events: [{verb: create, level: Metadata, objectRef: {resource: secrets}}], expect: fires}]";
    let verdict = Runner::new(&files).unwrap().run("a.yml", &parse("a.test.yml", test).unwrap()).unwrap().remove(0);
    let failure = verdict.failure.unwrap();
    assert!(failure.contains("unknown for 1 events, whose bodies were not logged: Secrets listed"), "{failure}");
}

#[test]
fn rules_that_are_not_there_or_not_right() {
    let files = [SourceFile::new("a.yml", RULES)];
    let tests = parse("c.test.yml", "tests: [{name: x, events: [{}], expect: silent}]").unwrap();
    let verdict = Runner::new(&files).unwrap().run("c.yml", &tests).unwrap().remove(0);
    assert_eq!(verdict.failure.as_deref(), Some("there are no rules in c.yml"));
    let bad = [SourceFile::new("a.yml", RULES.replace("condition: selection", "condition: nothing"))];
    assert!(matches!(Runner::new(&bad), Err(RulesError::Load(all)) if !all.is_empty()));
}

#[test]
fn events_are_made_whole() {
    let text = "
base: {user: {username: bob, groups: [dev]}, objectRef: {resource: pods, namespace: shop, name: web}}
tests:
  - name: x
    expect: silent
    events:
      - {verb: get}
      - {verb: create, objectRef: {subresource: exec}, user: {groups: [ops]}}
      - {verb: create, objectRef: {apiGroup: apps, resource: deployments}, responseStatus: {reason: Created}}
      - {verb: watch, objectRef: {namespace: null, name: null}, user: null}
      - {verb: get, objectRef: {resource: namespaces, name: shop}, responseStatus: null}
      - {objectRef: null, responseStatus: {code: 401}, user: null, requestObject: {a: null, b: {c: null}}}
      - {stage: RequestReceived}
";
    let got = events(text);
    let uris: Vec<&str> = got.iter().map(|event| event["requestURI"].as_str().unwrap()).collect();
    assert_eq!(
        uris,
        [
            "/api/v1/namespaces/shop/pods/web",
            "/api/v1/namespaces/shop/pods/web/exec",
            "/apis/apps/v1/namespaces/shop/deployments",
            "/api/v1/pods?watch=true",
            "/api/v1/namespaces/shop",
            "/",
            "/api/v1/namespaces/shop/pods/web",
        ]
    );
    let times: Vec<&str> = got.iter().map(|event| &event["stageTimestamp"].as_str().unwrap()[11..]).collect();
    assert_eq!(times[..3], ["12:00:00.000000Z", "12:00:01.000000Z", "12:00:02.000000Z"]);
    assert_eq!(got[0]["auditID"], "7e57ab1e-0000-4000-8000-000000000001");
    assert_eq!(got[0]["responseStatus"]["code"], 200);
    assert_eq!(got[1]["user"], json!({"username": "bob", "groups": ["ops"]}));
    assert_eq!(got[2]["responseStatus"], json!({"reason": "Created", "code": 200}));
    assert_eq!((got[3].get("user"), got[3]["objectRef"].get("name")), (None, None));
    assert_eq!((got[4].get("responseStatus"), got[6].get("responseStatus")), (None, None));
    assert_eq!(got[5]["requestObject"], json!({"a": null, "b": {"c": null}}));
    assert_eq!(got[5].get("user"), None);
    let alone = events("tests: [{name: x, events: [{}, {responseStatus: {code: 401}}], expect: fires}]");
    assert_eq!((&alone[0]["user"]["username"], &alone[1]["user"]), (&json!("alice"), &json!({})));
    assert_eq!((&alone[0]["level"], &alone[0]["sourceIPs"]), (&json!("RequestResponse"), &json!(["192.0.2.10"])));
}

#[test]
fn repetitions_are_numbered_and_stages_share_their_request() {
    let text = "
base: {requestObject: {labels: {gone: x, kept: x}}}
tests:
  - name: x
    expect: silent
    events:
      - {event: {objectRef: {name: 'pod-{n}'}, requestObject: {labels: {gone: null, new: null}}}, repeat: 2, step: 1m, after: 1h}
      - {auditID: one, stage: ResponseStarted}
      - {auditID: one, stage: ResponseComplete}
      - {auditID: one, stage: ResponseComplete}
";
    let got = events(text);
    assert_eq!((&got[0]["objectRef"]["name"], &got[1]["objectRef"]["name"]), (&json!("pod-0"), &json!("pod-1")));
    assert_eq!(got[0]["requestObject"]["labels"], json!({"kept": "x", "new": null}));
    let time = |n: usize, key: &str| got[n][key].as_str().unwrap()[11..19].to_owned();
    let times: Vec<String> = (0..5).map(|n| time(n, "stageTimestamp")).collect();
    assert_eq!(times, ["13:00:00", "13:01:00", "13:01:01", "13:01:02", "13:01:03"]);
    assert_eq!(time(3, "requestReceivedTimestamp"), "13:01:01", "the second stage of one request");
    assert_eq!(time(4, "requestReceivedTimestamp"), "13:01:03", "the same stage again: another request");
}

#[test]
fn slips_are_found_with_their_place() {
    for (text, wanted) in [
        ("tests: 3", "there is no list `tests`"),
        ("test: []", "has no `test`"),
        (
            "tests: [{name: x, event: [], expect: fires}]",
            "1:19: a test has no `event`; it has name, site, events, expect",
        ),
        ("tests: [{events: [], expect: fires}]", "no `name`"),
        ("tests: [{name: x, expect: fires}]", "no list `events`"),
        ("tests: [{name: x, events: []}]", "no `expect`"),
        ("tests: [{name: x, events: [3], expect: fires}]", "an event is a map"),
        ("tests: [{name: x, events: [], expect: loud}]", "`expect` is fires, silent or"),
        ("tests: [{name: x, events: [], expect: {levle: high}}]", "has no `levle`"),
        ("tests: [{name: x, events: [], expect: {level: hihg}}]", "`level` is"),
        ("tests: [{name: x, events: [], expect: {count: many}}]", "`count` is a number"),
        ("tests: [{name: x, events: [{event: {}, repeat: -1}], expect: fires}]", "`repeat` is a number"),
        ("tests: [{name: x, events: [{event: {}, repeat: 100001}], expect: fires}]", "at most 100000"),
        ("tests: [{name: x, events: [{event: {}, step: soon}], expect: fires}]", "not a duration"),
        ("tests: [{name: x, events: [{event: {}, every: 3s}], expect: fires}]", "has no `every`"),
        ("tests: []\n---\ntests: []", "one YAML document, not 2"),
        ("tests: [", "1:"),
    ] {
        let error = parse("a.test.yml", text).unwrap_err().to_string();
        assert!(error.contains(wanted), "{text}: {error}");
    }
}

#[test]
fn a_test_file_is_named_after_its_rules() {
    for (test, rules) in
        [("a/b.test.yml", Some("a/b.yml")), ("b.test.yaml", Some("b.yaml")), ("b.yml", None), ("test.yml", None)]
    {
        assert_eq!(rule_file_of(test).as_deref(), rules, "{test}");
    }
}

#[test]
fn rules_that_no_test_made_fire_are_told() {
    let files = [SourceFile::new("a.yml", RULES), SourceFile::new("b.yml", OTHER)];
    let mut runner = Runner::new(&files).unwrap();
    let mut untested = |events: &str, names: &[&str]| {
        let tests = format!("tests: [{{name: x, events: {events}, expect: silent}}]");
        let verdicts = runner.run("a.yml", &parse("a.test.yml", &tests).unwrap()).unwrap();
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let (untested, all) = runner.untested(&names, &verdicts).unwrap();
        (untested.into_iter().map(|one| format!("{}:{} {}", one.file, one.line, one.title)).collect::<Vec<_>>(), all)
    };
    let again = "a.yml:12 Secrets listed again and again".to_owned();
    let network = "a.yml:24 From the bad network".to_owned();
    let secrets = "{verb: list, objectRef: {resource: secrets}}";
    assert_eq!(untested(&format!("[{secrets}]"), &["a.yml"]), (vec![again, network.clone()], 3));
    assert_eq!(untested(&format!("[{{event: {secrets}, repeat: 3}}]"), &["a.yml"]), (vec![network], 3));
    // What fires of another file is not under its own tests.
    assert_eq!(untested(&format!("[{secrets}]"), &["b.yml"]).0, ["b.yml:2 Anything listed"]);
}
