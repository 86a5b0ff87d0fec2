//! What becomes of every kind of line.

use super::*;
use crate::event::site::Site;

#[derive(Default)]
struct Log(Vec<String>);

impl Sink for Log {
    fn event(&mut self, event: &Event<'_>, place: Place) {
        self.0.push(format!(
            "{}:event {} {}",
            place.line,
            event.audit_id().unwrap_or("-"),
            event.verb().unwrap_or("-")
        ));
    }

    fn problem(&mut self, kind: ProblemKind, place: Place, why: String) {
        self.0.push(format!("{}:{kind:?} {:?} {why}", place.line, place.range));
    }

    fn not_audit(&mut self, place: Place) {
        self.0.push(format!("{}:other", place.line));
    }
}

fn found(block: &[u8]) -> (Vec<String>, u64) {
    let mut log = Log::default();
    let site = Site::default();
    let lines = scan(block, Context { site: &site, cluster: "" }, &mut Scratch::default(), &mut log);
    (log.0, lines)
}

fn check(block: impl AsRef<[u8]>, expected: &[&str], lines: u64) {
    let block = block.as_ref();
    let shown = String::from_utf8_lossy(&block[..block.len().min(200)]).into_owned();
    assert_eq!(found(block), (expected.iter().map(|s| s.to_string()).collect(), lines), "{shown}");
}

fn event(id: &str) -> String {
    format!(
        r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"{id}","stage":"ResponseComplete","verb":"get"}}"#
    )
}

#[test]
fn lines_of_events() {
    let (a, b) = (event("a"), event("b"));
    check(format!("{a}\n{b}\n"), &["0:event a get", "1:event b get"], 2);
    check(format!("{a}\r\n\n  \n{b}"), &["0:event a get", "3:event b get"], 4);
    check(format!("\u{feff}{a}\n"), &["0:event a get"], 1);
    check(format!("\0\0\0{a}\n"), &["0:event a get"], 1);
    check(r#"{"auditID":"x","stage":"Panic"}"#, &["0:event x -"], 1);
    check("", &[], 0);
}

#[test]
fn several_documents_on_a_line_and_one_over_several() {
    let (a, b) = (event("a"), event("b"));
    check(format!("{a}{b}\n"), &["0:event a get", "0:event b get", "0:Layout 0..202 2 documents on one line"], 1);
    check(
        format!("{a} trailing\n{b}"),
        &["0:event a get", "0:Unreadable 102..110 garbage behind a document", "1:event b get"],
        2,
    );
    let pretty = a.replace(',', ",\n  ");
    check(
        format!("{pretty}\n{b}\n"),
        &["0:Layout 0..113 a document over several lines", "0:event a get", "5:event b get"],
        6,
    );
    check(
        format!("{pretty}{b}\n{a}"),
        &["0:Layout 0..113 a document over several lines", "0:event a get", "4:event b get", "5:event a get"],
        6,
    );
}

#[test]
fn lists() {
    let (a, b) = (event("a"), r#"{"auditID":"b","stage":"ResponseComplete","verb":"list"}"#);
    let list = |items: &str| {
        format!(r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{{}},"items":[{items}]}}"#)
    };
    check(list(&format!("{a},{b}")), &["0:event a get", "0:event b list"], 1);
    check(list(""), &[], 1);
    let no_event = |range: &str| format!("0:Unreadable {range} in an EventList: no audit event");
    let odd = list(&format!("{a},7,{{\"odd\":1}},{b}"));
    let at = odd.find(",7,").unwrap() + 1;
    let (number, object) = (no_event(&format!("{at}..{}", at + 1)), no_event(&format!("{}..{}", at + 2, at + 11)));
    check(odd, &["0:event a get", &number, &object, "0:event b list"], 1);
    check(format!("[{a},7,{b}]"), &["0:event a get", "0:other", "0:event b list"], 1);
    let (found, _) = found(list(&format!("{{\"auditID\":tru}},{b}")).as_bytes());
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("Unreadable"), "{found:?}");
    check(format!("[{a},{b}]"), &["0:event a get", "0:event b list"], 1);
    check(
        format!("[\n{a},\n{b}\n]\n"),
        &["0:Layout 0..163 a document over several lines", "1:event a get", "2:event b list"],
        4,
    );
}

#[test]
fn what_is_no_event() {
    check(r#"{"kind":"Event","apiVersion":"v1","reason":"Pulled"}"#, &["0:other"], 1);
    check(r#"{"kind":"EventList","apiVersion":"v1","items":[]}"#, &["0:other"], 1);
    check(r#"{"level":"info","msg":"x"}"#, &["0:other"], 1);
    check("I1123 19:30:29.041592 1 a.go:1] x\n", &["0:other"], 1);
    check("what?\n", &["0:Unreadable 0..5 does not start with a JSON object"], 1);
}

#[test]
fn a_list_in_a_list() {
    let list = |items: &str| format!(r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{items}]}}"#);
    let (a, b) = (event("a"), event("b"));
    let inner = list(&format!("{a},{a}"));
    check(list(&format!("{inner},{b}")), &["0:event a get", "0:event a get", "0:event b get"], 1);
    check(format!("[{inner},{b}]"), &["0:event a get", "0:event a get", "0:event b get"], 1);
}

/// A sender that died in the middle of a list, and one whose list has a flaw that hides where items end.
#[test]
fn the_whole_items_of_a_broken_list_are_events() {
    let item = |id: &str| format!(r#"{{"level":"Metadata","auditID":"{id}","stage":"Panic","verb":"get"}}"#);
    let (a, b, c) = (item("a"), item("b"), item("c"));
    let head = r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#;
    let start = head.len() + a.len() + 1;
    let cut = &b[..b.len() - 3];
    check(
        format!("{head}{a},{cut}\n{}\n", event("d")),
        &[
            "0:event a get",
            &format!("0:Unreadable {start}..{} a string is not closed", start + cut.len()),
            "1:event d get",
        ],
        2,
    );
    let open = b.replace("get\"}", "get}");
    check(
        format!("{head}{a},{open},{c}]}}"),
        &[
            "0:event a get",
            &format!("0:Unreadable {start}..{} a string is not closed", start + open.len()),
            "0:event c get",
        ],
        1,
    );
    check(
        format!("{head}{a},{b}"),
        &[&format!("0:Unreadable 0..{} ends before its brackets close", head.len()), "0:event a get", "0:event b get"],
        1,
    );
}

#[test]
fn broken_lines_hide_nothing() {
    let (a, b) = (event("a"), event("b"));
    for cut in 1..a.len() - 1 {
        let (found, lines) = found(format!("{}\n{b}\n", &a[..cut]).as_bytes());
        assert_eq!(lines, 2, "{cut}");
        assert_eq!(found.last().map(String::as_str), Some("1:event b get"), "cut at {cut}: {found:?}");
        assert!(found[0].starts_with("0:Unreadable"), "cut at {cut}: {found:?}");
        assert_eq!(found.len(), 2, "cut at {cut}: {found:?}");
    }
    let (half, whole) = (&a[..60], &b);
    check(format!("{half}{whole}\n"), &["0:Unreadable 0..60 not well-formed JSON", "0:event b get"], 1);
    check(
        format!("{}{whole}{whole}\n", &a[..50]),
        &[
            "0:Unreadable 0..50 a string is not closed",
            "0:event b get",
            "0:event b get",
            "0:Layout 50..252 2 documents on one line",
        ],
        1,
    );
    check(
        [b"{\"auditID\":\"\xff\"}\n".as_slice(), b.as_bytes()].concat(),
        &["0:Unreadable 0..15 not valid UTF-8", "1:event b get"],
        2,
    );
    check(format!("{{\"auditID\":tru}}{b}"), &["0:Unreadable 0..15 not well-formed JSON", "0:event b get"], 1);
}

#[test]
fn hostile_bodies_do_not_hide_their_event() {
    let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    for body in [
        &deep,
        r#"{"a":"\ud800"}"#,
        r#"{"a":1e400,"b":18446744073709551616}"#,
        r#"{"a":1,"a":2}"#,
        r#"{"a":garbage}"#,
        r#"{"a" "b"}"#,
    ] {
        let event = event("a").replace("\"stage\"", &format!("\"requestObject\":{body},\"stage\""));
        check(event, &["0:event a get"], 1);
    }
    check(r#"{"auditID":"a","stage":"x","verb":"get","v\u0065rb":"list"}"#, &["0:event a list"], 1);
}
