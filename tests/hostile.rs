//! Whatever stands in a log is understood, or counted and located; none of it hides an event, and nothing makes the
//! program fall over.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::support::logs::{Random, secrets_listed};
use crate::support::{Ran, auditwatch, ran};

/// What a hostile line is to be taken for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Taken {
    /// An event that is told like the good ones.
    Told,
    /// An event that no rule tells.
    Event,
    /// So many documents of which one could not be read, for a reason with this text.
    Unreadable(&'static str),
    /// Too large a line.
    TooLarge,
    /// Something else.
    NotAudit,
    /// Nothing at all.
    Nothing,
}

use Taken::{Event, NotAudit, Nothing, Told, TooLarge, Unreadable};

/// An event that is told, with a part of its text replaced.
fn with(from: &str, to: &str) -> Vec<u8> {
    let text = secrets_listed("hostile", 1).to_string();
    assert!(text.contains(from), "{from} is not in {text}");
    text.replacen(from, to, 1).into_bytes()
}

/// An event that is told, with one more member.
fn plus(member: &str) -> Vec<u8> {
    with("{\"kind\"", &format!("{{{member},\"kind\""))
}

fn bytes(from: &str, to: &[u8]) -> Vec<u8> {
    let text = secrets_listed("hostile", 1).to_string();
    let at = text.find(from).unwrap();
    [&text.as_bytes()[..at], to, &text.as_bytes()[at + from.len()..]].concat()
}

fn body(text: &str) -> Vec<u8> {
    plus(&format!("\"requestObject\":{text}"))
}

fn hostile() -> Vec<(&'static str, Vec<u8>, Taken)> {
    let (deep, whole) = (1_000_000, secrets_listed("hostile", 1).to_string());
    vec![
        // Bodies: an event is never hidden by its body.
        ("deep arrays in a body", body(&format!("{}{}", "[".repeat(deep), "]".repeat(deep))), Told),
        ("deep maps in a body", body(&format!("{}1{}", "{\"a\":".repeat(deep), "}".repeat(deep))), Told),
        (
            "deep in an annotation",
            with("\"annotations\":{", &format!("\"annotations\":{{\"x\":{}{},", "[".repeat(deep), "]".repeat(deep))),
            Told,
        ),
        ("a body with a lone surrogate", body(r#"{"a":"\ud800","\udfff":1}"#), Told),
        ("a body with 1e400", body(r#"{"a":1e400,"b":-1e-400,"c":18446744073709551616}"#), Told),
        ("a body with tokens that are none", body(r#"{"a":nul,"b":01,"c":+1,"d":.5,"e":Infinity}"#), Told),
        ("a body with bad escapes", body(r#"{"a":"\x41\u12"}"#), Told),
        ("a 2 MB line", body(&format!("{{\"a\":\"{}\"}}", "x".repeat(2 << 20))), Told),
        ("a 2 MB key", body(&format!("{{\"{}\":1}}", "x".repeat(2 << 20))), Told),
        ("100,000 members", body(&format!("{{{}\"z\":0}}", "\"a\":1,".repeat(100_000))), Told),
        // The header.
        ("a lone surrogate in the header", with("kubectl/v1", r"\ud800\udbff kubectl/v1"), Told),
        ("2^64 in the header", with("\"metadata\":{}", r#""metadata":{},"x":18446744073709551616"#), Told),
        ("1e400 in the header", plus(r#""x":1e400"#), Told),
        ("the code as 2e2", with("\"code\":200", "\"code\":2e2"), Told),
        ("a code of 2^64", with("\"code\":200", "\"code\":18446744073709551616"), Event),
        ("a code of 1e400", with("\"code\":200", "\"code\":1e400"), Event),
        ("escaped keys and values", with("\"verb\":\"list\"", r#""\u0076er\u0062":"l\u0069st""#), Told),
        ("escaped kind", with("\"kind\":\"Event\"", r#""k\u0069nd":"\u0045vent""#), Told),
        ("an escaped resource", with("\"resource\":\"secrets\"", r#""r\u0065source":"\u0073ecrets""#), Told),
        ("the last of two verbs counts", with("\"verb\":\"list\"", r#""verb":"get","verb":"list""#), Told),
        ("the first of two verbs does not", with("\"verb\":\"list\"", r#""verb":"list","verb":"watchlist""#), Event),
        ("the last of two, one escaped", with("\"verb\":\"list\"", r#""verb":"get","\u0076erb":"list""#), Told),
        ("two objectRefs", plus(r#""objectRef":{"resource":"pods"}"#), Told),
        ("spaces everywhere", whole.replace("\":", "\" :\t").replace(",\"", " , \"").into_bytes(), Told),
        (
            "another order",
            {
                let start = whole.find(",\"auditID\"").unwrap();
                format!("{{{},{}}}", &whole[start + 1..whole.len() - 1], &whole[1..start]).into_bytes()
            },
            Told,
        ),
        ("members of a wrong kind", with("\"sourceIPs\":[\"203.0.113.9\"]", r#""sourceIPs":{"a":[]}"#), Told),
        ("no time", with("\"stageTimestamp\"", "\"x\""), Told),
        ("a time that is none", bytes("2026-11-23T12:00:01.000000Z", b"soon"), Told),
        ("a NUL as an escape", with("kubectl/v1", r"\u0000kubectl/v1"), Told),
        ("NULs in front, as copytruncate leaves them", [&[0; 4096][..], whole.as_bytes()].concat(), Told),
        // Lines that cannot be read.
        ("invalid UTF-8 in a body", bytes("kubectl/v1", b"kube\xff\xfectl"), Unreadable("UTF-8")),
        ("overlong UTF-8", bytes("kubectl/v1", b"\xc0\xaf"), Unreadable("UTF-8")),
        ("a surrogate in UTF-8", bytes("kubectl/v1", b"\xed\xa0\x80"), Unreadable("UTF-8")),
        ("a raw tab in a text", bytes("kubectl/v1", b"kube\tctl"), Unreadable("control")),
        ("a raw NUL in a text", bytes("kubectl/v1", b"kube\0ctl"), Unreadable("control")),
        ("cut off in a text", with(&whole[whole.len() / 2..], ""), Unreadable("")),
        ("cut off before its end", whole.as_bytes()[..whole.len() - 1].to_vec(), Unreadable("")),
        ("cut off in a deep body", body(&"[".repeat(deep)), Unreadable("")),
        ("brackets that do not match", body("[}"), Unreadable("")),
        ("a header without a comma", with(",\"verb\"", "\"verb\""), Unreadable("")),
        ("a header without a colon", with("\"verb\":\"list\"", "\"verb\" \"list\""), Unreadable("")),
        ("only an opening bracket", b"{".to_vec(), Unreadable("")),
        ("only a closing bracket", b"}".to_vec(), Unreadable("")),
        ("a text that never ends", b"{\"a\":\"".to_vec(), Unreadable("")),
        ("too large a line", body(&format!("\"{}\"", "x".repeat(9 << 20))), TooLarge),
        // What else may stand there.
        ("a pod", br#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"}}"#.to_vec(), NotAudit),
        ("an empty object", b"{}".to_vec(), NotAudit),
        ("a line of klog", b"I1123 12:00:00.000000       1 server.go:99] \"Starting\"".to_vec(), NotAudit),
        ("an empty line", b"".to_vec(), Nothing),
        ("blanks", b" \t \r".to_vec(), Nothing),
    ]
}

const MAX_RECORD: &str = "8MiB";

/// A run with `--stats`, which are read.
fn with_stats(args: &[&str], log: &[u8]) -> (Ran, Value) {
    let dir = tempfile::tempdir().unwrap();
    let (path, stats) = (dir.path().join("a.log"), dir.path().join("stats.json"));
    fs::write(&path, log).unwrap();
    let mut command = auditwatch();
    command.args(["replay", "-q", "--format", "json", "--max-record", MAX_RECORD, "--stats"]);
    let run = ran(command.arg(&stats).args(args).arg(&path));
    (run, serde_json::from_slice(&fs::read(stats).unwrap()).unwrap())
}

/// The audit ids of the alerts of the rule that tells good events, in their order.
fn told(run: &Ran) -> Vec<String> {
    let alerts = run.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let told = alerts.filter(|alert| alert["rule"]["ref"] == "SEC-001" && alert["kind"] == "rule");
    let mut told: Vec<String> = told.map(|alert| alert["events"][0]["audit_id"].as_str().unwrap().to_owned()).collect();
    told.sort();
    told.dedup();
    told
}

fn counts(stats: &Value) -> [u64; 4] {
    ["events", "unreadable", "too_large", "not_audit"].map(|key| stats[key].as_u64().unwrap())
}

#[test]
fn a_hostile_line_between_two_good_ones() {
    let (first, last) = (secrets_listed("a-good", 0).to_string(), secrets_listed("z-good", 2).to_string());
    for (name, line, taken) in hostile() {
        let log = [first.as_bytes(), b"\n", &line, b"\n", last.as_bytes(), b"\n"].concat();
        let (run, stats) = with_stats(&[], &log);
        assert_eq!(run.code, Some(0), "{name}: {}", run.err);
        let expected = match taken {
            Told | Event => [3, 0, 0, 0],
            Unreadable(_) => [2, 1, 0, 0],
            TooLarge => [2, 0, 1, 0],
            NotAudit => [2, 0, 0, 1],
            Nothing => [2, 0, 0, 0],
        };
        assert_eq!(counts(&stats), expected, "{name}: {}", stats["inputs"]);
        let expected: &[&str] = if taken == Told { &["a-good", "hostile", "z-good"] } else { &["a-good", "z-good"] };
        assert_eq!(told(&run), expected, "{name}");
        let input = &stats["inputs"][0];
        if let Unreadable(why) = taken {
            let at = &input["unreadable"][0];
            assert_eq!((&at["line"], &at["offset"]), (&2.into(), &(first.len() + 1).into()), "{name}: {at}");
            assert!(at["why"].as_str().unwrap().contains(why), "{name}: {at}");
        }
        if taken == TooLarge {
            let at = input["notes"].as_array().unwrap().iter().find(|note| note["kind"] == "too_large").unwrap();
            assert_eq!((&at["line"], &at["offset"]), (&2.into(), &(first.len() + 1).into()), "{name}: {at}");
        }
        assert_eq!((&stats["bytes"], &stats["lines"]), (&log.len().into(), &3.into()), "{name}");
        let strict = with_stats(&["--strict"], &log).0.code;
        let lossy = matches!(taken, Unreadable(_) | TooLarge);
        assert_eq!(strict, Some(if lossy { 4 } else { 0 }), "{name} with --strict");
    }
}

#[test]
fn a_member_that_stands_twice_is_counted() {
    for (line, twice) in [
        (with("\"verb\":\"list\"", r#""verb":"get","verb":"list""#), 1),
        (with("\"verb\":\"list\"", r#""verb":"get","\u0076erb":"list""#), 1),
        (plus(r#""requestObject":{}"#), 0),
    ] {
        let (_, stats) = with_stats(&[], &line);
        assert_eq!(stats["duplicate_keys"], twice, "{}", String::from_utf8_lossy(&line));
    }
}

#[test]
fn every_document_is_in_exactly_one_count() {
    // Large lines would only make it slow.
    let kinds: Vec<_> = hostile().into_iter().filter(|(_, line, _)| line.len() < 10_000).collect();
    let mut random = Random(4);
    let mut log = Vec::new();
    let mut expected = [0u64; 4];
    let mut lines = 0;
    for n in 0..2_000 {
        let (_, line, taken) = random.pick(&kinds);
        let counted = match taken {
            Told | Event => Some(0),
            Unreadable(_) => Some(1),
            TooLarge => Some(2),
            NotAudit => Some(3),
            Nothing => None,
        };
        counted.into_iter().for_each(|at| expected[at] += 1);
        let good = secrets_listed(&format!("good-{n}"), n).to_string();
        for part in [line.as_slice(), b"\n", good.as_bytes(), b"\n"] {
            log.extend_from_slice(part);
        }
        expected[0] += 1;
        lines += 2;
    }
    for workers in ["1", "3"] {
        let (run, stats) = with_stats(&["--workers", workers], &log);
        assert_eq!(counts(&stats), expected, "{workers} workers");
        assert_eq!((&stats["lines"], &stats["bytes"]), (&lines.into(), &log.len().into()));
        assert_eq!(told(&run).iter().filter(|id| id.starts_with("good-")).count(), 2_000);
    }
}

#[test]
fn a_good_event_behind_a_torn_one_on_its_line_is_found() {
    let (torn, good) = (secrets_listed("torn", 0).to_string(), secrets_listed("good", 1).to_string());
    for cut in [1, 10, 40, 90, 200, torn.len() / 2, torn.len() - 20, torn.len() - 1] {
        let log = format!("{}{good}\n{}\n", &torn[..cut], secrets_listed("next", 2));
        let (run, stats) = with_stats(&[], log.as_bytes());
        assert_eq!(told(&run), ["good", "next"], "cut at {cut}: {}", stats["inputs"]);
        assert_eq!(counts(&stats), [2, 1, 0, 0], "cut at {cut}: {}", stats["inputs"]);
    }
}

#[test]
fn an_item_that_cannot_be_read_does_not_hide_its_list() {
    let good = |n: i64| secrets_listed(&format!("good-{n}"), n).to_string();
    let bad = with("\"verb\":\"list\"", "\"verb\":\"li\tst\"");
    let bad = String::from_utf8(bad).unwrap();
    let list = |items: &[String]| {
        format!("{{\"kind\":\"EventList\",\"apiVersion\":\"audit.k8s.io/v1\",\"items\":[{}]}}\n", items.join(","))
    };
    for items in [[good(1), bad.clone(), good(2)], [bad.clone(), good(1), good(2)], [good(1), good(2), bad]] {
        let (run, stats) = with_stats(&[], list(&items).as_bytes());
        // A raw control character makes the line invalid, but what can be told apart in it is.
        assert_eq!(told(&run), ["good-1", "good-2"], "{}", stats["inputs"]);
        assert_eq!(stats["unreadable"], 1, "{}", stats["inputs"]);
    }
    let odd = [good(1), "3".into(), "null".into(), "{}".into(), "{\"kind\":\"Pod\"}".into(), good(2)];
    let (run, stats) = with_stats(&[], list(&odd).as_bytes());
    assert_eq!(told(&run), ["good-1", "good-2"]);
    assert_eq!(counts(&stats).iter().sum::<u64>(), 6, "{stats}");
}

#[test]
fn broken_and_empty_inputs() {
    let dir = tempfile::tempdir().unwrap();
    let lines: String = (0..2_000).map(|n| format!("{}\n", secrets_listed(&format!("{:032x}", n * 7919), n))).collect();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(lines.as_bytes()).unwrap();
    let gz = encoder.finish().unwrap();
    let mut damaged = gz.clone();
    damaged[gz.len() / 2] ^= 0xff;
    for (name, bytes) in [("cut.log.gz", &gz[..gz.len() / 2]), ("damaged.log.gz", &damaged[..])] {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        let stats = dir.path().join("stats.json");
        let run = ran(auditwatch().args(["replay", "--format", "json", "--stats"]).arg(&stats).arg(&path));
        assert_eq!(run.code, Some(0), "{name}: {}", run.err);
        assert!(run.err.contains("broken: "), "{name}: {}", run.err);
        assert!(told(&run).len() > 500, "{name}: {}", told(&run).len());
        let stats: Value = serde_json::from_slice(&fs::read(&stats).unwrap()).unwrap();
        assert!(stats["inputs"][0]["broken"].is_string(), "{name}: {stats}");
        let run = ran(auditwatch().args(["replay", "-q", "--strict"]).arg(&path));
        assert_eq!(run.code, Some(4), "{name}: {}", run.err);
    }
    for name in ["empty.log", "newline.log", "empty.log.gz"] {
        let path = dir.path().join(name);
        fs::write(&path, if name == "newline.log" { "\n" } else { "" }).unwrap();
        let run = ran(auditwatch().args(["replay", "--strict", "--format", "json"]).arg(&path));
        assert_eq!((run.code, run.out.as_str()), (Some(0), ""), "{name}: {}", run.err);
    }
    let bare = tempfile::tempdir().unwrap();
    fs::write(bare.path().join("README.md"), "nothing here").unwrap();
    let run = ran(auditwatch().arg("replay").arg(bare.path()));
    assert_eq!(run.code, Some(3), "{}", run.err);
    assert!(run.err.contains(&bare.path().display().to_string()), "{}", run.err);
}

#[test]
fn exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = path("good.log", &secrets_listed("good", 0).to_string());
    let torn = path("torn.log", &format!("{}\n{{\"kind\":", secrets_listed("good", 0)));
    let bad_rule =
        path("rule.yml", "title: x\nlogsource: {product: kubernetes, service: audit}\ndetection: {condition: y}\n");
    let no_rule = path("rule-2.yml", "{{{");
    for (args, code) in [
        (vec!["replay", &good], 0),
        (vec!["replay", "--strict", &good], 0),
        (vec!["replay", "--fail-on", "high", &good], 1),
        (vec!["replay", "--fail-on", "critical", &good], 0),
        (vec!["replay", "--fail-on", "low", "--min-level", "critical", &good], 1),
        (vec!["replay", &torn], 0),
        (vec!["replay", "--strict", &torn], 4),
        (vec!["replay", "--strict", "--fail-on", "low", &torn], 4),
        (vec!["replay", "--add-rules", &bad_rule, &good], 2),
        (vec!["replay", "--rules", &no_rule, &good], 2),
        (vec!["replay", "--strict", "--add-rules", &bad_rule, &torn], 2),
        (vec!["replay", "--add-rules", &bad_rule, "/nonexistent.log"], 3),
        (vec!["replay", "/nonexistent.log"], 3),
        (vec!["replay", "--rules", "/nonexistent", &good], 3),
        (vec!["replay", "--no-such-flag", &good], 3),
        (vec!["replay", "--lateness", "soon", &good], 3),
        (vec!["replay", "--format", "xml", &good], 3),
        (vec!["replay", "--workers", "0", &good], 3),
        (vec!["replay"], 3),
        (vec!["no-such-command"], 3),
        (vec!["--help"], 0),
        (vec!["replay", "--help"], 0),
        (vec!["--version"], 0),
        (vec!["test", "detections/secrets"], 0),
        (vec!["test", "/nonexistent"], 3),
    ] {
        let run = ran(auditwatch().args(&args));
        assert_eq!(run.code, Some(code), "{args:?}: {}", run.err);
        assert!(code == 0 || !run.err.is_empty(), "{args:?} says nothing");
        assert!(!run.err.contains("panicked"), "{args:?}: {}", run.err);
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("a.log");
    // More than a pipe holds.
    let lines: String = (0..3_000).map(|n| format!("{}\n", secrets_listed(&format!("e{n}"), n))).collect();
    fs::write(&log, lines).unwrap();
    for args in [&["replay", "-q"][..], &["test"], &["completions", "bash"], &["--help"]] {
        let mut command = auditwatch();
        command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        if args[0] == "replay" {
            command.arg(&log);
        }
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
    }
}
