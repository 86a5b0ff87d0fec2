//! Tables for the derived fields.

use std::ops::ControlFlow;

use super::super::path::{Field, Root};
use super::super::site::Site;
use super::super::walk::testing::{show, with_site};
use super::uuid;

fn values(event: &str, field: &str) -> (Vec<String>, bool) {
    let site = Site { trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()] };
    with_site(event, &site, |event| {
        let parsed = Field::parse(field);
        let Root::Derived(derived) = parsed.root else { panic!("{field} is not derived") };
        let mut found = Vec::new();
        let missing = event.derived(derived, &parsed.path, &mut |node| {
            found.push(show(event, node));
            ControlFlow::Continue(())
        });
        (found, missing.any())
    })
}

fn check(event: &str, field: &str, expected: &[&str]) {
    assert_eq!(values(event, field), (expected.iter().map(|s| s.to_string()).collect(), false), "{field} of {event}");
}

#[test]
fn actors() {
    let user = |name: &str| format!(r#"{{"user":{{"username":"{name}","groups":["g1","g2"]}}}}"#);
    for (name, kind) in [
        ("alice", "human"),
        ("system:anonymous", "anonymous"),
        ("", "unauthenticated"),
        ("system:node:w1", "node"),
        ("system:serviceaccount:ci:deployer", "serviceaccount"),
        ("system:kube-scheduler", "control-plane"),
        ("eks:addon-manager", "managed"),
        ("eks:somebody", "human"),
    ] {
        check(&user(name), "k8s.actor.kind", &[kind]);
    }
    check(r#"{"user":{}}"#, "k8s.actor.kind", &["unauthenticated"]);
    check(r#"{"user":{}}"#, "k8s.actor.username", &[]);
    check(&user("alice"), "k8s.actor.subjects", &["alice", "\"g1\"", "\"g2\""]);
    let impersonated = r#"{"user":{"username":"alice","groups":["g1"]},"impersonatedUser":{"username":"root","groups":["system:masters"]}}"#;
    check(impersonated, "k8s.actor.username", &["root"]);
    check(impersonated, "k8s.actor.groups", &["\"system:masters\""]);
    let key = r#"{"user":{"username":"a","extra":{"authentication.kubernetes.io/credential-id":["JTI=1"]}}}"#;
    check(key, "k8s.credentialID", &["\"JTI=1\""]);
    // A second `user` is merged into the first, as Go's decoder does.
    check(
        r#"{"user":{"username":"alice","groups":["g1"]},"user":{"username":"bob"}}"#,
        "k8s.actor.subjects",
        &["bob", "\"g1\""],
    );
}

#[test]
fn addresses_are_read_from_the_right() {
    check(r#"{"sourceIPs":["1.2.3.4","192.0.2.1"]}"#, "k8s.clientIP", &["192.0.2.1"]);
    check(r#"{"sourceIPs":["1.2.3.4","192.0.2.1","10.1.1.1"]}"#, "k8s.clientIP", &["192.0.2.1"]);
    check(r#"{"sourceIPs":["10.1.1.1"]}"#, "k8s.clientIP", &["10.1.1.1"]);
    check(r#"{"sourceIPs":[]}"#, "k8s.clientIP", &[]);
    check(r#"{}"#, "k8s.clientIP", &[]);
}

#[test]
fn outcomes() {
    let event = |code: i64, decision: &str, message: &str| {
        format!(
            r#"{{"responseStatus":{{"code":{code},"message":"{message}"}},"annotations":{{"authorization.k8s.io/decision":"{decision}"}}}}"#
        )
    };
    for (code, decision, message, outcome) in [
        (200, "allow", "", "success"),
        (101, "allow", "", "success"),
        (401, "", "Unauthorized", "unauthenticated"),
        (403, "forbid", "", "forbidden"),
        (403, "allow", "violates PodSecurity", "refused"),
        (422, "allow", "ValidatingAdmissionPolicy 'x' denied request", "refused"),
        (422, "allow", "spec.replicas: Invalid value", "error"),
        (500, "allow", "failed calling webhook", "refused"),
        (404, "allow", "", "error"),
        (302, "allow", "", "none"),
    ] {
        check(&event(code, decision, message), "k8s.outcome", &[outcome]);
    }
    check(r#"{"responseStatus":{"code":403}}"#, "k8s.outcome", &["forbidden"]);
    check("{}", "k8s.outcome", &["none"]);
}

#[test]
fn pod_specs_wherever_they_are() {
    let spec = r#"{"hostPID":true,"containers":[{"image":"a"}],"initContainers":[{"image":"b"}],"ephemeralContainers":[{"image":"c"}]}"#;
    for (resource, body) in [
        ("pods", format!(r#"{{"spec":{spec}}}"#)),
        ("podtemplates", format!(r#"{{"template":{{"spec":{spec}}}}}"#)),
        ("deployments", format!(r#"{{"spec":{{"template":{{"spec":{spec}}}}}}}"#)),
        ("cronjobs", format!(r#"{{"spec":{{"jobTemplate":{{"spec":{{"template":{{"spec":{spec}}}}}}}}}}}"#)),
    ] {
        let event = format!(
            r#"{{"verb":"create","level":"Request","objectRef":{{"resource":"{resource}"}},"requestObject":{body}}}"#
        );
        check(&event, "k8s.podSpec.hostPID", &["true"]);
        check(&event, "k8s.containers.image", &["\"a\"", "\"b\"", "\"c\""]);
        let annotated =
            event.replacen(r#"{"spec":{""#, r#"{"metadata":{"annotations":{"a.b/c":"x","n":1}},"spec":{""#, 9);
        check(&annotated, "k8s.podAnnotations", &["a.b/c=x"]);
    }
    let response = r#"{"verb":"patch","level":"RequestResponse","objectRef":{"resource":"pods"},"requestObject":[],"responseObject":{"kind":"Pod","spec":{"hostPID":true}}}"#;
    check(response, "k8s.podSpec.hostPID", &["true"]);
    let refused = r#"{"verb":"create","level":"RequestResponse","objectRef":{"resource":"pods"},"requestObject":{"spec":{"hostPID":true}},"responseObject":{"kind":"Status"}}"#;
    check(refused, "k8s.podSpec.hostPID", &["true"]);
    let status = r#"{"verb":"update","level":"Request","objectRef":{"resource":"pods","subresource":"status"},"requestObject":{"spec":{"hostPID":true}}}"#;
    check(status, "k8s.podSpec.hostPID", &[]);
}

#[test]
fn patches_are_partial() {
    let patch = |body: &str| {
        format!(
            r#"{{"verb":"patch","level":"Request","objectRef":{{"resource":"deployments"}},"requestObject":{body}}}"#
        )
    };
    let by_pointer = patch(
        r#"[{"op":"add","path":"/spec/template/spec/containers/0/securityContext/privileged","value":true},{"op":"remove","path":"/spec/template/spec/hostPID"}]"#,
    );
    assert_eq!(values(&by_pointer, "k8s.containers.securityContext.privileged"), (vec!["=true".to_string()], true));
    assert_eq!(values(&by_pointer, "k8s.podSpec.hostPID"), (vec![], true));
    let annotation = patch(r#"[{"op":"add","path":"/spec/template/metadata/annotations/a.b~1c","value":"x"}]"#);
    assert_eq!(values(&annotation, "k8s.podAnnotations"), (vec!["a.b/c=x".to_string()], true));
    // a pointer that ends with an index is a member of the list
    for index in ["0", "-"] {
        let member = patch(&format!(
            r#"[{{"op":"add","path":"/spec/template/spec/volumes/{index}","value":{{"name":"h","hostPath":{{"path":"/etc"}}}}}}]"#
        ));
        assert_eq!(values(&member, "k8s.podSpec.volumes.hostPath.path").0, ["\"/etc\""], "{index}");
    }
    let whole = patch(r#"[{"op":"replace","path":"/spec/template","value":{"spec":{"containers":[{"image":"x"}]}}}]"#);
    assert_eq!(values(&whole, "k8s.containers.image").0, ["\"x\""]);
    let merge = patch(r#"{"spec":{"template":{"spec":{"hostPID":true}}}}"#);
    assert_eq!(values(&merge, "k8s.podSpec.hostPID"), (vec!["true".to_string()], true));
    let elsewhere = patch(r#"{"metadata":{"labels":{"a":"b"}}}"#);
    assert_eq!(values(&elsewhere, "k8s.podSpec.hostPID"), (vec![], false));
}

#[test]
fn dropped_bodies_are_known_to_be_missing() {
    for (event, dropped) in [
        (r#"{"verb":"create","level":"Metadata","objectRef":{"resource":"pods"}}"#, true),
        (r#"{"verb":"create","level":"Request","objectRef":{"resource":"pods"}}"#, false),
        (
            r#"{"verb":"create","level":"Request","objectRef":{"resource":"pods"},"annotations":{"audit.k8s.io/truncated":"true"}}"#,
            true,
        ),
        (r#"{"verb":"delete","level":"Metadata","objectRef":{"resource":"pods"}}"#, false),
        (r#"{"verb":"create","level":"Metadata","objectRef":{"resource":"pods","subresource":"exec"}}"#, false),
    ] {
        assert_eq!(values(event, "k8s.podSpec.hostPID"), (vec![], dropped), "{event}");
    }
}

#[test]
fn subjects_of_bindings() {
    let binding = r#"{"verb":"create","objectRef":{"resource":"rolebindings","namespace":"dev"},"requestObject":{"subjects":[{"kind":"User","name":"bob"},{"kind":"Group","name":"ops"},{"kind":"ServiceAccount","name":"sa","namespace":"ns"},{"kind":"ServiceAccount","name":"here"}]}}"#;
    check(
        binding,
        "k8s.grantedSubjects",
        &["bob", "ops", "system:serviceaccount:ns:sa", "system:serviceaccount:dev:here"],
    );
}

#[test]
fn requests_by_uri() {
    let exec = r#"{"verb":"get","objectRef":{"resource":"pods","subresource":"exec"},"requestURI":"/api/v1/namespaces/a/pods/b/exec?command=sh\u0026command=-c\u0026command=cat+%2Fetc%2Fshadow\u0026container=app"}"#;
    check(exec, "k8s.exec.command", &["sh", "-c", "cat /etc/shadow"]);
    check(exec, "k8s.exec.container", &["app"]);
    check(exec, "k8s.commandLine", &["sh -c cat /etc/shadow"]);
    check(exec, "k8s.longRunning", &["true"]);
    check(r#"{"verb":"list","requestURI":"/x?a=1"}"#, "k8s.longRunning", &["false"]);
    check(r#"{"requestURI":"/x?a=1\u0026dryRun=All"}"#, "k8s.dryRun", &["true"]);
    check(r#"{"requestURI":"/x?dryRun=None"}"#, "k8s.dryRun", &["false"]);
    check(r#"{"verb":"delete","requestObject":{"dryRun":["All"]}}"#, "k8s.dryRun", &["true"]);
    check(r#"{"userAgent":"kubectl/v1.36 (linux)"}"#, "k8s.userAgent.product", &["kubectl"]);
    check(r#"{"objectRef":{},"requestObject":{"metadata":{"name":"x"}}}"#, "k8s.objectName", &["x"]);
    check("{}", "k8s.cluster", &["prod"]);
}

proptest::proptest! {
    /// All digits at once are what one after the other is.
    #[test]
    fn a_uuid_is_the_number_of_its_digits(id: u128, wrong: Option<(usize, u8)>) {
        let mut text = format!("{id:032x}");
        [8, 13, 18, 23].into_iter().for_each(|dash| text.insert(dash, '-'));
        let mut text = text.into_bytes();
        if let Some((at, byte)) = wrong {
            text[at % 36] = byte;
        }
        let is_sound = text.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        });
        let digits: String = text.iter().filter(|byte| **byte != b'-').map(|byte| char::from(*byte)).collect();
        let expected = is_sound.then(|| u128::from_str_radix(&digits, 16).unwrap());
        proptest::prop_assert_eq!(uuid(&text), expected);
        proptest::prop_assert_eq!(uuid(&text[1..]), None);
    }
}
