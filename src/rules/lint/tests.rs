use super::super::load::{check, load};
use super::super::{Placeholders, SourceFile};

const HEAD: &str = "title: T\nlogsource: {product: kubernetes, service: audit}\n";

/// The problems of one file, as `line:column code message / help`.
fn problems(text: &str) -> Vec<String> {
    let file = SourceFile::new("a.yml", text);
    let (_, diagnostics) = check(&[file], &Placeholders::from([("list".into(), vec!["pod".into()])]));
    let shown = diagnostics.into_iter().map(|d| {
        let help = d.help.map_or(String::new(), |help| format!(" / {help}"));
        format!("{}:{} {} {}{help}", d.span.line, d.span.column, d.code, d.message)
    });
    shown.collect()
}

/// A selection's body and how its problems start, without their places.
fn selection(body: &str, expected: &[&str]) {
    let got = problems(&format!("{HEAD}detection: {{s: {body}, condition: s}}\n"));
    let got: Vec<&str> = got.iter().filter_map(|line| line.split_once(' ')).map(|(_, rest)| rest).collect();
    let fits = got.len() == expected.len() && got.iter().zip(expected).all(|(got, wanted)| got.starts_with(wanted));
    assert!(fits, "{body}:\n{}", got.join("\n"));
}

#[test]
fn fields_that_no_event_has() {
    let never = |field: &str| format!("the condition can never hold, because of `{field}`");
    let check = |field: &str, help: &str| {
        let got = problems(&format!("{HEAD}detection: {{s: {{{field}: x}}, condition: s}}\n"));
        let unknown =
            format!("3:17 unknown-field unknown field `{field}`: no audit event has it, so it can never match{help}");
        assert_eq!(got.first(), Some(&unknown));
        assert!(got[1].ends_with(&never(field)), "{got:?}");
    };
    check("user.name", " / did you mean `user.username`?");
    check("usr.username", " / did you mean `user.username`?");
    check("responsestatus.code", " / did you mean `responseStatus.code`?");
    check("apiGroup", " / did you mean `objectRef.apiGroup`?");
    check("namespace", " / did you mean `objectRef.namespace`?");
    check("hostPath", " / it stands inside a body: did you mean `k8s.podSpec.volumes.hostPath.path`?");
    check(
        "capabilities",
        " / it stands inside a body: did you mean `k8s.containers.securityContext.capabilities.add`?",
    );
    check("kubernetes.audit.objectRef.resource", " / did you mean `objectRef.resource`?");
    check("ka.user.name", " / did you mean `user.username`?");
    check("target.subresource", " / did you mean `objectRef.subresource`?");
    check("frobnication", " / `auditwatch fields` lists what there is");
    selection(
        "{verb.x: y}",
        &["unknown-field `verb.x` can never match: `verb` has no members / `verb` is text; write", "always-false"],
    );
    selection("{'sourceIPs[any].x': y}", &["array-matching-off"]);
    selection("{verb|fieldref: usr.username}", &["unknown-field unknown field `usr.username`"]);
    selection("{hostPath|exists: false, verb: get}", &["unknown-field"]);
    selection("{requestObject.any.thing: x, 'annotations.a.b/c': y, user.extra.x: z, k8s.podSpec.x: 1}", &[]);
    let arrays = format!("sigma-version: 3\n{HEAD}");
    let got = problems(&format!(
        "{arrays}detection: {{s: {{'k8s.containers[any]': {{x: y}}, 'sourceIPs[any]': 10.0.0.0/8}}, condition: s}}\n"
    ));
    assert_eq!(got.len(), 1, "{got:?}");
    assert!(got[0].contains("never-matches `sourceIPs: 10.0.0.0/8`"), "{got:?}");
}

#[test]
fn values_that_can_never_match() {
    selection(
        "{verb: [create, replace]}",
        &[
            "never-matches verb `replace` never occurs in audit events / a replacement is an `update`; there are get, list, watch, create, update, patch, delete, deletecollection",
        ],
    );
    selection(
        "{verb: creat}",
        &["never-matches verb `creat` never occurs in audit events / did you mean `create`?", "always-false"],
    );
    selection("{verb: [Get, 'del*', '*']}", &[]);
    selection("{verb|startswith: lis, verb|re: '^(get|list)$'}", &[]);
    selection("{verb|re: '^replace$'}", &["never-matches", "always-false"]);
    selection("{verb|cased: GET}", &["never-matches", "always-false"]);
    selection(
        "{responseStatus.code: ALLOW}",
        &[
            "never-matches `responseStatus.code: ALLOW` can never match: it is a number / the authorizer's decision is `k8s.decision: allow`",
            "always-false",
        ],
    );
    selection(
        "{responseStatus.code: [4030, 403]}",
        &["never-matches `responseStatus.code: 4030` can never match: status codes are 100 to 599"],
    );
    selection("{responseStatus.code: '4*'}", &[]);
    selection("{responseStatus.code|gte: 600}", &["never-matches", "always-false"]);
    selection("{responseStatus.code|gte: 400}", &[]);
    selection(
        "{stage: ResponseCompleted}",
        &[
            "never-matches `stage: ResponseCompleted` can never match: it is one of RequestReceived, ResponseStarted, ResponseComplete and Panic / did you mean `ResponseComplete`?",
            "always-false",
        ],
    );
    selection("{level: None}", &["never-matches", "always-false"]);
    selection(
        "{k8s.decision: deny}",
        &["never-matches `k8s.decision: deny` can never match: it is one of allow and forbid", "always-false"],
    );
    selection(
        "{k8s.longRunning: 'yes'}",
        &["never-matches `k8s.longRunning: yes` can never match: it is true or false", "always-false"],
    );
    selection("{k8s.longRunning: true, 'annotations.audit.k8s.io/truncated': true}", &[]);
    selection(
        "{sourceIPs: 10.0.0.0/8}",
        &[
            "never-matches `sourceIPs: 10.0.0.0/8` can never match: it is an IP address / write `sourceIPs|cidr: 10.0.0.0/8`",
            "always-false",
        ],
    );
    selection("{k8s.clientIP: 10.0.0.1}", &[]);
}

#[test]
fn values_that_do_not_fit_their_field() {
    selection("{stageTimestamp|gt: 5}", &["never-matches", "always-false"]);
    selection("{stageTimestamp|hour|gte: 22}", &[]);
    selection("{userAgent|hour: 3}", &["never-matches", "always-false"]);
    selection(
        "{objectRef.resource: Pod}",
        &[
            "never-matches `objectRef.resource: Pod` can never match: resources are plural / did you mean `pods`?",
            "always-false",
        ],
    );
    selection(
        "{objectRef.resource: pods/exec}",
        &[
            "never-matches `objectRef.resource: pods/exec` can never match: the subresource has a field of its own / write `objectRef.resource: pods` and `objectRef.subresource: exec`",
            "always-false",
        ],
    );
    selection("{objectRef.apiGroup: apps/v1}", &["never-matches", "always-false"]);
    selection(
        "{objectRef.apiGroup: ''}",
        &[
            "never-matches `objectRef.apiGroup: ''` can never match: the field is left out rather than empty / write `null`",
            "always-false",
        ],
    );
    selection("{objectRef.apiGroup: null, 'annotations.authorization.k8s.io/reason': ''}", &[]);
    selection(
        "{user: alice}",
        &[
            "never-matches `user: alice` can never match: it is an object, not a value / name a member, such as `user.username`",
            "always-false",
        ],
    );
    selection("{objectRef|exists: false}", &[]);
    selection("{verb|expand: '%nothing%'}", &[]);
    selection("{objectRef.resource|expand: '%list%'}", &["never-matches", "always-false"]);
}

/// A condition over some selections, and the codes it gives.
fn condition(condition: &str, expected: &[&str]) {
    let selections = "  a: {user.username: alice}\n  b: {user.username: bob}\n  get: {verb: get}\n  write: {verb: [create, update]}\n  \
                      none: {hostPath: x}\n  no: {hostPath: null}\n  _g: {user.groups: x}\n  _h: {user.groups: y}\n";
    let got = problems(&format!("{HEAD}detection:\n{selections}  condition: {condition}\n"));
    let codes: Vec<&str> = got.iter().filter_map(|line| line.split(' ').nth(1)).collect();
    let mut codes: Vec<&str> = codes.into_iter().filter(|code| code.starts_with("always")).collect();
    codes.dedup();
    assert_eq!(codes, expected, "{condition}: {got:#?}");
}

#[test]
fn conditions_that_always_or_never_hold() {
    condition("a", &[]);
    condition("a or b", &[]);
    condition("a and b", &["always-false"]);
    condition("a and not a", &["always-false"]);
    condition("a or not a", &["always-true"]);
    condition("get and write", &["always-false"]);
    condition("get and not (get or a)", &["always-false"]);
    condition("write and not get", &[]);
    condition("not get and not write", &[]);
    condition("not get or not write", &["always-true"]);
    condition("none", &["always-false"]);
    condition("a or none", &[]);
    condition("a and none", &["always-false"]);
    condition("not none", &["always-true"]);
    condition("no", &["always-true"]);
    condition("a and not none", &[]);
    condition("_g and _h", &[]);
    condition("_g and not _h", &[]);
}

#[test]
fn attributes() {
    let check = |attributes: &str, expected: &[&str]| {
        let got = problems(&format!("{attributes}\n{HEAD}detection: {{s: {{verb: get}}, condition: s}}\n"));
        let fits = got.len() == expected.len() && got.iter().zip(expected).all(|(got, wanted)| got.starts_with(wanted));
        assert!(fits, "{attributes}:\n{}", got.join("\n"));
    };
    check("status: test", &[]);
    check(
        "status: stabel",
        &[
            "1:9 unknown-status unknown status `stabel`; there are stable, test, experimental, deprecated, unsupported / did you mean `stable`?",
        ],
    );
    check("date: 2026-11-23", &[]);
    check("date: 2026/11/23", &["1:7 bad-date `date: 2026/11/23` is no date such as 2026-11-23 / write 2026-11-23"]);
    check("modified: soon", &["1:11 bad-date"]);
    check("taxonomy: sigma", &[]);
    check("taxonomy: ecs", &["1:11 foreign-taxonomy"]);
    check(
        "falsepositive: x",
        &[
            "1:1 unknown-attribute `falsepositive` is no attribute of the specification and has no effect / did you mean `falsepositives`?",
        ],
    );
    check("own: x", &[]);
    check("tags: [attack.t1552.007, cis.5.1.2]", &[]);
    check("tags: [Attack]", &["1:8 bad-tag"]);
    check("related: [{id: 7d1c4f5e-2f3a-4b1c-9d8e-0123456789ab, type: derived}]", &[]);
    check("related: [{id: x, type: derive}]", &["1:11 bad-relation", "1:25 bad-relation unknown relation `derive`"]);
    check("related: x", &["1:10 bad-relation"]);
    check(&format!("author: {}", "x".repeat(300)), &[]);
}

#[test]
fn fields_of_correlations() {
    let rule = format!("{HEAD}name: r\ndetection: {{s: {{verb: get}}, condition: s}}\n---\n");
    let correlation = |group: &str, more: &str| {
        format!(
            "title: c{group}\nname: c\ncorrelation:\n  type: event_count\n  rules: [r]\n  timespan: 1m\n  condition: {{gte: 2}}\n  group-by: [{group}]\n{more}"
        )
    };
    assert_eq!(problems(&(rule.clone() + &correlation("user.username", ""))), [""; 0]);
    let got = problems(&(rule.clone() + &correlation("user.name", "")));
    assert_eq!(
        got,
        [
            "13:14 unknown-field unknown field `user.name`: no audit event has it, so it can never match / did you mean `user.username`?"
        ]
    );
    let got = problems(&(rule.clone() + &correlation("who", "  aliases: {who: {r: usr}}\n")));
    assert!(got.len() == 1 && got[0].starts_with("14:22 unknown-field unknown field `usr`"), "{got:?}");
    // What groups a chained correlation may be another's alias.
    let chained = "---\ntitle: d\ncorrelation: {type: event_count, rules: [c], timespan: 1m, condition: {gte: 2}, group-by: [who]}\n";
    assert_eq!(problems(&(rule + &correlation("who", "  aliases: {who: {r: user.username}}\n") + chained)), [""; 0]);
}

/// What is odd is told by `check` alone; `load` tells what matters for running.
#[test]
fn load_tells_only_what_matters() {
    let file = SourceFile::new("a", format!("{HEAD}status: odd\ndetection: {{s: {{hostPath: x}}, condition: s}}\n"));
    let (set, diagnostics) = load(std::slice::from_ref(&file), &Placeholders::new());
    assert_eq!((set.rules.len(), diagnostics.len()), (1, 0));
    let (checked, diagnostics) = check(&[file], &Placeholders::new());
    assert_eq!((checked, diagnostics.len()), (set, 3));
}

#[test]
fn the_place_is_that_of_the_value() {
    let text = format!("{HEAD}detection:\n  s:\n    verb:\n      - create\n      - 'replace'\n  condition: s\n");
    assert!(problems(&text)[0].starts_with("7:9 never-matches"), "{:?}", problems(&text));
}
