//! Rules and events made up from the same few values, so that they meet often.

use serde_json::{Map, Value, json};

/// A small generator: the same numbers on every machine (splitmix64).
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }
}

/// A rule.
pub struct Rule {
    detection: Value,
}

impl Rule {
    /// The rule file, with `n` in the title.
    pub fn text(&self, n: usize) -> String {
        let head = json!({
            "title": format!("rule {n}"), "sigma-version": 3, "level": "low",
            "logsource": {"product": "kubernetes", "service": "audit"}, "detection": self.detection,
        });
        format!("{head}\n")
    }
}

const TEXTS: &[&str] = &[
    "a",
    "A",
    "b",
    "ab",
    "aB",
    "abc",
    "ba",
    "a b",
    "a-b",
    "-a",
    "/a",
    "x -a",
    "x /a y",
    "é",
    "É",
    "aé",
    "a.b",
    "a*b",
    "a?b",
    "a\\b",
    "a\\\\b",
    "system:node:a",
    "System:Node:B",
    "1",
    "10",
    "true",
    "",
    "YWI=",
    "ab,",
    "a\nb",
];
const PATTERNS: &[&str] = &[
    "a",
    "A",
    "ab",
    "b",
    "a*",
    "*a",
    "*b*",
    "a?",
    "?",
    "?b",
    "a\\*b",
    "a\\?b",
    "a\\\\b",
    "a\\b",
    "a*b",
    "*",
    "é",
    "É",
    "a é",
    "system:node:*",
    "*:b",
    "a-b",
    "true",
    "abc",
    "a\\",
    "**",
    "a**b",
    "-a",
    " -a",
];
/// Without wildcards: what they mean beside these modifiers is a difference of its own.
const PLAIN: &[&str] =
    &["a", "A", "ab", "b", "é", "É", "system:node:", "a-b", "true", "abc", "-a", " -a", "a\\b", ":b", "1"];
const REGEXES: &[&str] = &["^a", "b$", "a.b", "^[A-Z]", "a+b?", "^$", "node:(a|b)", "\\d+", "^a\\\\", "é", "(?i)AB"];
const TEXT_FIELDS: &[&str] = &[
    "userAgent",
    "user.username",
    "user.groups",
    "objectRef.name",
    "objectRef.namespace",
    "objectRef.resource",
    "requestURI",
    "requestObject.metadata.labels.app",
    "requestObject.spec.containers.image",
    "annotations.a.b/c",
    "requestObject.none",
];
const NUMBER_FIELDS: &[&str] = &["responseStatus.code", "requestObject.spec.replicas", "requestObject.spec.port"];
const CODES: [i64; 5] = [200, 201, 403, 404, 500];
const ADDRESSES: &[&str] = &["10.0.0.1", "10.1.2.3", "192.0.2.1", "2001:db8::1", "::1", "no address"];
const NETWORKS: &[&str] = &["10.0.0.0/8", "10.0.0.0/16", "192.0.2.1/32", "2001:db8::/32", "::/0"];

/// An event with the number `n`.
pub fn event(random: &mut Random, n: usize) -> Value {
    let mut text = || random.pick(TEXTS).to_owned();
    let (agent, user, name, uri, label) = (text(), text(), text(), text(), text());
    let (namespace, resource, note) = (text(), text(), text());
    let images: Vec<Value> = (0..random.below(3))
        .map(|_| {
            let mut container =
                json!({"name": random.pick(TEXTS), "image": random.pick(TEXTS), "port": random.below(5)});
            if random.one_in(3) {
                container["privileged"] = json!(random.one_in(2));
            }
            container
        })
        .collect();
    let groups: Vec<&str> = (0..random.below(3)).map(|_| random.pick(TEXTS)).collect();
    let addresses: Vec<&str> = (0..random.below(3)).map(|_| random.pick(ADDRESSES)).collect();
    let mut event = json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse", "auditID": format!("event-{n}"),
        "stage": "ResponseComplete", "requestURI": uri, "verb": random.pick(&["get", "list", "create"]),
        "user": {"username": user, "groups": groups}, "sourceIPs": addresses, "userAgent": agent,
        "objectRef": {"resource": resource, "name": name, "namespace": namespace, "apiVersion": "v1"},
        "responseStatus": {"metadata": {}, "code": CODES[random.below(5)]},
        "requestObject": {
            "kind": "Thing", "metadata": {"labels": {"app": label}},
            "spec": {"containers": images, "replicas": random.below(12) as i64 - 2, "port": 1.5 * random.below(4) as f64},
        },
        "responseObject": {"kind": "Thing"},
        "requestReceivedTimestamp": "2026-11-23T12:00:00.000000Z", "stageTimestamp": "2026-11-23T12:00:00.100000Z",
        "annotations": {"a.b/c": note},
    });
    for (object, member) in
        [("objectRef", "namespace"), ("objectRef", "name"), ("user", "groups"), ("annotations", "a.b/c")]
    {
        if random.one_in(4) {
            event[object].as_object_mut().unwrap().remove(member);
        }
    }
    event
}

/// A rule of one to three selections.
pub fn rule(random: &mut Random) -> Rule {
    let mut detection = Map::new();
    let names: Vec<&str> = ["sel_a", "sel_b", "flt_c"][..1 + random.below(3)].to_vec();
    for name in &names {
        let selection = match random.below(12) {
            1 => json!([random.pick(PLAIN), random.pick(PATTERNS)]),
            0 => {
                let count = 1 + random.below(2);
                Value::from((0..count).map(|_| map(random)).collect::<Vec<_>>())
            }
            _ => map(random),
        };
        detection.insert((*name).to_owned(), selection);
    }
    detection.insert("condition".to_owned(), condition(random, &names, 3).into());
    Rule { detection: detection.into() }
}

fn condition(random: &mut Random, names: &[&str], depth: usize) -> String {
    if depth == 0 || random.one_in(3) {
        return match random.below(6) {
            0 => "1 of sel_*".to_owned(),
            1 => "all of them".to_owned(),
            2 => "1 of them".to_owned(),
            _ => random.pick(names).to_owned(),
        };
    }
    let (a, b) = (condition(random, names, depth - 1), condition(random, names, depth - 1));
    match random.below(5) {
        0 => format!("not {a}"),
        1 => format!("not ({a} and {b})"),
        2 => format!("{a} or {b}"),
        3 => format!("({a} or {b})"),
        _ => format!("{a} and {b}"),
    }
}

fn map(random: &mut Random) -> Value {
    let mut out = Map::new();
    for _ in 0..1 + random.below(2) {
        let (key, value) = match random.below(20) {
            0..=7 => text_test(random),
            8 => {
                let field = random.pick(TEXT_FIELDS);
                (format!("{field}|re{}", random.pick(&["", "|i", "|s", "|m"])), json!(random.pick(REGEXES)))
            }
            9 => ("sourceIPs|cidr".to_owned(), list(random, NETWORKS)),
            10 | 11 => number_test(random),
            12 => (format!("{}|exists", random.pick(TEXT_FIELDS)), json!(random.one_in(2))),
            13 => (random.pick(TEXT_FIELDS).to_owned(), Value::Null),
            14 => encoded(random),
            15 => (format!("{}|neq", random.pick(TEXT_FIELDS)), json!(random.pick(PATTERNS))),
            16 => {
                let how = random.pick(&[
                    "fieldref",
                    "fieldref|neq",
                    "fieldref|startswith",
                    "fieldref|endswith",
                    "fieldref|contains",
                ]);
                (format!("{}|{how}", random.pick(TEXT_FIELDS)), json!(random.pick(TEXT_FIELDS)))
            }
            17 => mixed(random),
            _ => array_test(random),
        };
        out.insert(key, value);
    }
    out.into()
}

fn list(random: &mut Random, items: &[&str]) -> Value {
    match random.below(3) {
        0 => json!([random.pick(items), random.pick(items)]),
        _ => json!(random.pick(items)),
    }
}

fn text_test(random: &mut Random) -> (String, Value) {
    let field = random.pick(TEXT_FIELDS);
    let place = random.pick(&["", "", "|contains", "|startswith", "|endswith", "|windash|contains"]);
    let all = if random.one_in(5) { "|all" } else { "" };
    let cased = if random.one_in(4) { "|cased" } else { "" };
    let placed = place.contains("with") || place.contains("windash");
    let texts = if placed && !random.one_in(8) { PLAIN } else { PATTERNS };
    let value = match all {
        "" => list(random, texts),
        _ => json!([random.pick(texts), random.pick(texts)]),
    };
    (format!("{field}{place}{all}{cased}"), value)
}

fn number_test(random: &mut Random) -> (String, Value) {
    let field = random.pick(NUMBER_FIELDS);
    let number = match random.below(3) {
        0 => json!(CODES[random.below(5)]),
        1 => json!(random.below(12) as i64 - 2),
        _ => json!(1.5 * random.below(4) as f64),
    };
    match random.pick(&["", "|lt", "|lte", "|gt", "|gte"]) {
        "" if number.is_f64() => (format!("{field}|gte"), number),
        how => (format!("{field}{how}"), number),
    }
}

/// Text where a number is, and numbers where text is.
fn mixed(random: &mut Random) -> (String, Value) {
    let (number, text) = (random.pick(NUMBER_FIELDS), random.pick(TEXT_FIELDS));
    match random.below(5) {
        0 => (number.to_owned(), json!(random.pick(&["403", "200", "4", "a"]))),
        1 => (format!("{number}|startswith"), json!(random.pick(&["4", "2", "40"]))),
        2 => (number.to_owned(), json!(random.pick(&["4*", "?0?", "*"]))),
        3 => (text.to_owned(), json!(random.below(12))),
        _ => (text.to_owned(), json!(random.one_in(2))),
    }
}

fn encoded(random: &mut Random) -> (String, Value) {
    let field = random.pick(TEXT_FIELDS);
    let how = random.pick(&[
        "base64",
        "base64offset|contains",
        "wide|base64offset|contains",
        "utf16le|base64",
        "utf16be|base64",
    ]);
    (format!("{field}|{how}"), json!(random.pick(&["ab", "a", "abc", "a b"])))
}

fn array_test(random: &mut Random) -> (String, Value) {
    let quantifier = random.pick(&["any", "all", "all_or_empty", "none", "0", "1"]);
    let mut member = Map::new();
    member.insert(
        random.pick(&["image", "image|contains", "name", "name|startswith"]).to_owned(),
        list(random, PATTERNS),
    );
    if random.one_in(2) {
        member.insert("privileged".to_owned(), json!(random.one_in(2)));
    }
    if random.one_in(2) {
        member.insert("port|gte".to_owned(), json!(random.below(5)));
    }
    (format!("requestObject.spec.containers[{quantifier}]"), member.into())
}
