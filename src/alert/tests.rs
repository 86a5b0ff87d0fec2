use std::sync::Arc;

use super::*;
use crate::engine::matches::Trace;
use crate::engine::matches::Value;
use crate::rules::expr::{Expr, Span};
use crate::rules::{Correlation, Input, Rule};

fn meta_of(id: &str, title: &str, level: Level) -> Arc<Meta> {
    Arc::new(Meta {
        id: id.into(),
        reference: Some("SEC-002".into()),
        name: None,
        title: title.into(),
        description: String::new(),
        level,
        tags: vec!["attack.credential-access".into(), "attack.t1552.007".into()],
        false_positives: vec![],
        references: vec![],
        file: "x.yml".into(),
        span: Span { line: 1, column: 1 },
    })
}

/// One rule and one correlation over it.
pub(crate) fn rules() -> RuleSet {
    let rule = Rule {
        meta: meta_of("6f1c0c6e-0000-4000-8000-000000000001", "Secrets listed", Level::High),
        condition: Expr::Const(true),
        names_stage: false,
        alerts: true,
    };
    let correlation = Correlation {
        meta: meta_of("6f1c0c6e-0000-4000-8000-000000000002", "Secrets harvested", Level::Critical),
        inputs: vec![Input::Rule(0)],
        kind: CorrelationKind::ValueCount(vec![], vec!["objectRef.namespace".into(), "objectRef.name".into()]),
        group_by: vec!["k8s.actor.username".into()],
        aliases: Default::default(),
        timespan_us: 600_000_000,
        realert_us: 3_600_000_000,
        suppress_us: 0,
        across_clusters: false,
        alerts: true,
    };
    RuleSet { rules: vec![rule], correlations: vec![correlation] }
}

fn trace(excerpt: Excerpt<'_>) -> Trace {
    excerpt.into()
}

fn excerpt() -> Excerpt<'static> {
    Excerpt {
        audit_id: "a-1".into(),
        time: 1_795_462_229_041_592,
        verb: "list".into(),
        resource: "secrets".into(),
        namespace: Some("kube-system".into()),
        uri: "/api/v1/namespaces/kube-system/secrets".into(),
        username: "alice".into(),
        groups: vec!["dev".into(), "system:authenticated".into()],
        client_ip: Some("10.0.0.7".into()),
        user_agent: Some("kubectl/v1.31".into()),
        code: Some(200),
        decision: Some("allow".into()),
        offset: 1234,
        ..Default::default()
    }
}

pub(crate) fn firing_of_rule() -> Firing {
    Firing {
        origin: Origin::Rule(0),
        time: 1_795_462_229_041_592,
        identity: [7; 16],
        cluster: 0,
        trace: trace(excerpt()),
        group: vec![],
        count: 1,
        window: None,
        events: vec![trace(excerpt())],
        evidence_truncated: false,
        late: false,
    }
}

fn firing_of_correlation() -> Firing {
    Firing {
        origin: Origin::Correlation(0),
        group: vec![("k8s.actor.username".into(), Value { hash: 42, text: "alice".into() })],
        count: 8,
        window: Some((1_795_462_200_000_000, 1_795_462_229_041_592)),
        evidence_truncated: true,
        ..firing_of_rule()
    }
}

fn alert(firing: &Firing, cluster: &str) -> Alert {
    let sources = [SourceName { kind: "file", name: "audit.log".into() }];
    Alert::new(firing, &Names { rules: &rules(), clusters: &[cluster.to_owned()], sources: &sources })
}

pub(crate) fn alert_of_rule() -> Alert {
    alert(&firing_of_rule(), "prod")
}

pub(crate) fn alert_of_correlation() -> Alert {
    alert(&firing_of_correlation(), "prod")
}

#[test]
fn the_json_of_alerts() {
    let lines = [alert_of_rule(), alert_of_correlation()].map(|a| serde_json::to_string(&a).unwrap());
    insta::assert_snapshot!(lines.join("\n"), @r#"
{"id":"623b0bdfdeb97b04d0915609c6498053","time":"2026-11-23T19:30:29.041592Z","kind":"rule","rule":{"id":"6f1c0c6e-0000-4000-8000-000000000001","ref":"SEC-002","title":"Secrets listed","level":"high","tags":["attack.credential-access","attack.t1552.007"]},"message":"Secrets listed: alice list secrets in kube-system (200)","cluster":"prod","actor":{"username":"alice","groups":["dev","system:authenticated"],"impersonated_by":null,"client_ip":"10.0.0.7","user_agent":"kubectl/v1.31"},"target":{"verb":"list","resource":"secrets","subresource":null,"namespace":"kube-system","name":null,"uri":"/api/v1/namespaces/kube-system/secrets"},"outcome":{"code":200,"decision":"allow"},"group":null,"count":1,"window":null,"events":[{"audit_id":"a-1","time":"2026-11-23T19:30:29.041592Z","verb":"list","resource":"secrets","namespace":"kube-system","name":null,"code":200}],"source":{"kind":"file","name":"audit.log","position":"1234"}}
{"id":"8b2f5be26e1433c6e50293846dd89664","time":"2026-11-23T19:30:29.041592Z","kind":"correlation","rule":{"id":"6f1c0c6e-0000-4000-8000-000000000002","ref":"SEC-002","title":"Secrets harvested","level":"critical","tags":["attack.credential-access","attack.t1552.007"]},"message":"Secrets harvested: 8 distinct objectRef.namespace + objectRef.name within 29 s for k8s.actor.username=alice; last: alice list secrets in kube-system (200)","cluster":"prod","actor":{"username":"alice","groups":["dev","system:authenticated"],"impersonated_by":null,"client_ip":"10.0.0.7","user_agent":"kubectl/v1.31"},"target":{"verb":"list","resource":"secrets","subresource":null,"namespace":"kube-system","name":null,"uri":"/api/v1/namespaces/kube-system/secrets"},"outcome":{"code":200,"decision":"allow"},"group":{"k8s.actor.username":"alice"},"count":8,"window":{"from":"2026-11-23T19:30:00.000000Z","to":"2026-11-23T19:30:29.041592Z"},"events":[{"audit_id":"a-1","time":"2026-11-23T19:30:29.041592Z","verb":"list","resource":"secrets","namespace":"kube-system","name":null,"code":200}],"source":{"kind":"file","name":"audit.log","position":"1234"},"evidence_truncated":true}
"#);
}

#[test]
fn an_id_depends_on_what_was_found_and_nothing_else() {
    let id = |firing: &Firing| alert(firing, "prod").id;
    let rule = firing_of_rule();
    let mut elsewhere = rule.clone();
    elsewhere.time += 1;
    elsewhere.count = 9;
    elsewhere.trace = trace(Excerpt { source: 3, offset: 99, ..excerpt() });
    assert_eq!(id(&rule), id(&elsewhere));
    assert_eq!(id(&rule).len(), 32);
    assert_ne!(id(&rule), alert(&rule, "test").id);
    assert_ne!(id(&rule), id(&Firing { identity: [8; 16], ..rule.clone() }));
    let correlation = firing_of_correlation();
    let mut other_group = correlation.clone();
    other_group.group[0].1.hash = 43;
    assert_ne!(id(&correlation), id(&other_group));
    assert_ne!(id(&correlation), id(&rule));
}

#[test]
fn messages_are_one_readable_line() {
    assert_eq!(alert_of_rule().message, "Secrets listed: alice list secrets in kube-system (200)");
    assert_eq!(
        alert_of_correlation().message,
        "Secrets harvested: 8 distinct objectRef.namespace + objectRef.name within 29 s for k8s.actor.username=alice; \
         last: alice list secrets in kube-system (200)"
    );
    let mut firing = firing_of_rule();
    firing.trace = trace(Excerpt { verb: "get".into(), uri: "/healthz".into(), ..Default::default() });
    assert_eq!(alert(&firing, "").message, "Secrets listed: (nobody) get /healthz");
    firing.trace = trace(Excerpt {
        username: "alice".into(),
        impersonated_by: Some("bob".into()),
        verb: "create".into(),
        resource: "pods".into(),
        subresource: Some("exec".into()),
        name: Some("web-0".into()),
        namespace: Some("shop".into()),
        code: Some(101),
        ..Default::default()
    });
    assert_eq!(
        alert(&firing, "").message,
        "Secrets listed: alice (impersonated by bob) create pods/exec web-0 in shop (101)"
    );
}

#[test]
fn spans_read_well() {
    for (seconds, text) in [(0, "0 ms"), (59, "59 s"), (61, "1 min 1 s"), (3_660, "1 h 1 min"), (90_000, "1 d 1 h")] {
        assert_eq!(span(seconds * 1_000_000), text);
    }
}

#[test]
fn what_was_stored_is_read_again() {
    for alert in [alert_of_rule(), alert_of_correlation()] {
        let line = serde_json::to_string(&alert).unwrap();
        let again = Alert::parse(&line).unwrap();
        assert_eq!(again.time_us, alert.time_us);
        assert_eq!(serde_json::to_string(&again).unwrap(), line);
    }
    assert!(Alert::parse("{}").is_err());
}
