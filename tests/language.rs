//! The rule language as `docs/rules.md` tells it, every example run; and what rule files cannot do to whoever reads them.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use auditwatch::rules::{Placeholders, Severity, SourceFile, check};
use auditwatch::ruletest::{Runner, parse};
use serde_json::Value;

use crate::support::{auditwatch, ran, root};

const HEAD: &str = "title: Example\nsigma-version: 3\nlogsource: {product: kubernetes, service: audit}\n";

/// The fenced blocks of a page: line, what is behind the fence, text.
fn blocks(page: &str) -> Vec<(usize, String, String)> {
    let mut out: Vec<(usize, String, String)> = Vec::new();
    let mut open = false;
    for (number, line) in (1..).zip(page.lines()) {
        match line.strip_prefix("```") {
            Some("") if open => open = false,
            Some(kind) => {
                open = true;
                out.push((number, kind.to_owned(), String::new()));
            }
            None if open => {
                let text = &mut out.last_mut().unwrap().2;
                *text += line;
                text.push('\n');
            }
            None => {}
        }
    }
    out
}

/// The tests that an example's comments stand for.
fn remarks(example: &str) -> String {
    let mut out = String::new();
    let mut site = "";
    for line in example.lines() {
        if let Some(lists) = line.strip_prefix("# site: ") {
            site = lists;
        }
        let Some((sign, event)) = line.strip_prefix("# ").and_then(|line| line.split_once(' ')) else { continue };
        let expect = match sign {
            "+" => "fires",
            "-" => "silent",
            _ => continue,
        };
        out += &format!("- name: {event:?}\n  events: [{event}]\n  expect: {expect}\n");
        if !site.is_empty() {
            out += &format!("  site: {site}\n");
        }
    }
    out
}

#[test]
fn every_example_of_the_page_does_what_it_says() {
    let page = fs::read_to_string(root().join("docs/rules.md")).unwrap();
    let blocks = blocks(&page);
    let (mut wrong, mut run) = (Vec::new(), 0);
    for (index, (line, kind, text)) in blocks.iter().enumerate() {
        if kind != "yaml" {
            continue;
        }
        let rule = if text.starts_with("detection:") { format!("{HEAD}{text}") } else { text.clone() };
        let behind = blocks.get(index + 1).filter(|(_, kind, _)| kind == "yaml test");
        let tests = behind.map_or_else(|| remarks(text), |(_, _, tests)| tests.clone());
        let tests: String = tests.lines().map(|line| format!("  {line}\n")).collect();
        let file = parse("page.test.yml", &format!("tests:\n{tests}")).unwrap_or_else(|e| panic!("{line}: {e}"));
        assert!(file.tests.len() >= 2, "docs/rules.md:{line}: an example shows what fires and what does not");
        let files = [SourceFile::new("page.yml", rule.as_str())];
        let lists: Placeholders = file.tests.iter().flat_map(|test| test.site.clone()).collect();
        let (_, problems) = check(&files, &lists);
        wrong.extend(problems.iter().map(|problem| format!("docs/rules.md:{line}: {}", problem.render(Some(&rule)))));
        if problems.iter().any(|problem| problem.severity == Severity::Error) {
            continue;
        }
        for verdict in Runner::new(&files).unwrap().run("page.yml", &file).unwrap() {
            run += 1;
            if let Some(why) = verdict.failure {
                wrong.push(format!("docs/rules.md:{line}: {}: {why}", verdict.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(run > 60, "{run}");
}

/// All modifiers and correlation types there are stand on the page.
#[test]
fn the_page_leaves_nothing_out() {
    let page = fs::read_to_string(root().join("docs/rules.md")).unwrap();
    let names = "contains startswith endswith all cased neq exists re i m s cidr lt lte gt gte fieldref base64 base64offset \
                 utf16 utf16le utf16be wide windash expand minute hour day week month year event_count value_count \
                 value_sum value_avg value_median value_percentile temporal temporal_ordered new_value event_absence \
                 generate aliases group-by timespan across-clusters realert suppress learning after";
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let words: BTreeSet<&str> = page.split(|c| !part(c)).collect();
    let missing: Vec<&str> = names.split_whitespace().filter(|name| !words.contains(name)).collect();
    assert_eq!(missing, [""; 0]);
}

fn rule(name: &str, detection: &str) -> String {
    format!("title: {name}\nname: {name}\nlogsource: {{product: kubernetes}}\ndetection: {detection}\n---\n")
}

/// What a rule file says, and how long that took.
fn problems(text: String) -> (usize, BTreeSet<&'static str>, Duration) {
    let begin = Instant::now();
    let (set, problems) = check(&[SourceFile::new("a.yml", text)], &Placeholders::new());
    let codes = problems.iter().map(|problem| problem.code).collect();
    (set.rules.len(), codes, begin.elapsed())
}

/// Far more than any of these take on the slowest machine, far less than they would if a cost were not linear.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn no_rule_file_makes_the_reader_fall_over() {
    let bomb: String =
        (1..40).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(","))).collect();
    let cycle = |n: usize| {
        let next = (n + 1) % 100;
        format!("title: c{n}\nname: c{n}\ncorrelation: {{type: temporal, rules: [c{next}], timespan: 1m}}\n---\n")
    };
    let deep = |open: &str, close: &str, n: usize| format!("{}a{}", open.repeat(n), close.repeat(n));
    let select = |value: &str| rule("r", &format!("{{s: {{verb: {value}}}, condition: s}}"));
    let table: Vec<(&str, String, usize, &str)> = vec![
        ("aliases of aliases", format!("a0: &a0 x\n{bomb}"), 0, "yaml"),
        ("deep lists", select(&deep("[", "]", 100_000)), 0, "yaml"),
        ("deep maps", select(&deep("{a: ", "}", 100_000)), 0, "yaml"),
        (
            "deep parentheses",
            rule("r", &format!("{{s: {{verb: get}}, condition: '{}'}}", deep("(", ")", 1000))),
            0,
            "bad-condition",
        ),
        (
            "many nots",
            rule("r", &format!("{{s: {{verb: get}}, condition: '{}s'}}", "not ".repeat(10_000))),
            0,
            "bad-condition",
        ),
        (
            "a regular expression that grows",
            rule("r", "{s: {verb|re: '(a{1000}){1000}'}, condition: s}"),
            0,
            "invalid-regex",
        ),
        (
            "a regular expression that nests",
            rule("r", &format!("{{s: {{verb|re: '{}'}}, condition: s}}", deep("(", ")", 10_000))),
            0,
            "invalid-regex",
        ),
        ("wildcards without end", select(&format!("'{}'", "a*".repeat(1000))), 0, "too-many-wildcards"),
        (
            "dashes in every spelling",
            rule("r", &format!("{{s: {{verb|windash: '{}'}}, condition: s}}", " -a".repeat(100))),
            0,
            "too-many-values",
        ),
        ("a file that is too large", " ".repeat(33 << 20), 0, "yaml"),
        ("correlations in a circle", (0..100).map(cycle).collect(), 0, "cycle"),
    ];
    for (name, text, rules, code) in table {
        let (read, codes, took) = problems(text);
        assert!(codes.contains(code), "{name}: {codes:?}");
        assert_eq!(read, rules, "{name}");
        assert!(took < SOON, "{name} took {took:?}");
    }
}

#[test]
fn five_thousand_rules_and_ten_megabytes_are_read_in_linear_time() {
    let many = |count: usize| -> String {
        (0..count)
            .map(|n| rule(&format!("r{n}"), &format!("{{s: {{verb: get, objectRef.name: n{n}}}, condition: s}}")))
            .collect()
    };
    let (read, codes, few) = problems(many(500));
    assert_eq!((read, codes), (500, BTreeSet::new()));
    let (read, codes, all) = problems(many(5000));
    assert_eq!((read, codes), (5000, BTreeSet::new()));
    assert!(all < few * 40 + Duration::from_secs(1), "500 rules: {few:?}, 5000: {all:?}");
    let values: String = (0..100_000).map(|n| format!("      - {n:0>95}\n")).collect();
    let text = rule("r", &format!("\n  s:\n    objectRef.name:\n{values}  condition: s"));
    assert!(text.len() > 10_000_000);
    let (read, codes, took) = problems(text);
    assert_eq!((read, codes), (1, BTreeSet::new()));
    assert!(took < SOON, "{took:?}");
}

/// A pattern that takes other engines for ever takes linear time here.
#[test]
fn a_catastrophic_pattern_is_harmless() {
    let text = rule("r", "{s: {userAgent|re: '^(a+)+$'}, condition: s}");
    let files = [SourceFile::new("a.yml", text)];
    let tests = format!("tests: [{{name: t, events: [{{userAgent: {}b}}], expect: silent}}]", "a".repeat(100_000));
    let begin = Instant::now();
    let verdicts = Runner::new(&files).unwrap().run("a.yml", &parse("a.test.yml", &tests).unwrap()).unwrap();
    assert_eq!(verdicts[0].failure, None);
    assert!(begin.elapsed() < SOON);
}

#[test]
fn explain_says_why_of_rules_and_correlations() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.yml");
    let text = rule(
        "read",
        "{s: {verb: get, objectRef.resource: secrets}, f: {user.username: bob}, condition: s and not f}",
    ) + "title: Often\nname: often\ncorrelation: {type: event_count, rules: [read], group-by: [user.username], timespan: 1m, \
           condition: {gte: 2}}\n";
    fs::write(&rules, text).unwrap();
    let event = |second: u32, verb: &str, user: &str| {
        format!(
            r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"a{second}","stage":"ResponseComplete","requestURI":"/","verb":"{verb}","user":{{"username":"{user}"}},"objectRef":{{"resource":"secrets"}},"responseStatus":{{"code":200}},"requestReceivedTimestamp":"2026-11-23T12:00:{second:02}.000000Z","stageTimestamp":"2026-11-23T12:00:{second:02}.000000Z"}}"#
        )
    };
    let log = folder.path().join("audit.log");
    fs::write(
        &log,
        [event(1, "get", "eve"), event(2, "list", "eve"), event(3, "get", "bob"), event(4, "get", "eve")].join("\n"),
    )
    .unwrap();
    let explain = |rule: &str, place: &str, format: &str| {
        let place = format!("{}{place}", log.display());
        let mut command = auditwatch();
        command.args(["explain", "--rule", rule, "--format", format, &place, "--rules"]).arg(&rules);
        ran(&mut command)
    };
    let told = explain("read", ":2", "text");
    assert_eq!(told.code, Some(1), "{}", told.err);
    assert!(told.out.contains("holds for 0 of 1 events"), "{}", told.out);
    assert!(told.out.contains("- verb 'get'   found: list"), "{}", told.out);
    let told: Value = serde_json::from_str(&explain("read", ":3", "json").out).unwrap();
    let part = &told["explained"][0]["condition"];
    assert_eq!((&part["what"], &part["holds"]), (&"all of".into(), &false.into()));
    assert_eq!(part["parts"][2]["parts"][0]["found"], serde_json::json!(["bob"]), "{told}");
    let told = explain("read", "", "json");
    assert_eq!(told.code, Some(0));
    assert_eq!(serde_json::from_str::<Value>(&told.out).unwrap()["held"], 2);
    let told = explain("often", "", "json");
    assert_eq!(told.code, Some(0), "{}", told.err);
    let told: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!((&told["fired"], &told["told"][1]["within"]), (&1.into(), &2.into()), "{told}");
    let told = explain("raed", "", "text");
    assert_eq!(told.code, Some(3));
    assert!(told.err.contains("did you mean `read`?"), "{}", told.err);
}

#[test]
fn fields_and_coverage_are_told_on_the_command_line() {
    let fields = ran(auditwatch().args(["fields", "k8s.dryRun", "--format", "json"]));
    let fields: Value = serde_json::from_str(&fields.out).unwrap();
    assert_eq!((&fields[0]["name"], &fields[0]["type"]), (&"k8s.dryRun".into(), &"boolean".into()));
    let folder = tempfile::tempdir().unwrap();
    let detection = |verb: &str| format!("{{s: {{verb: {verb}}}, condition: s}}");
    fs::write(folder.path().join("a.yml"), rule("tested", &detection("get")) + &rule("untested", &detection("list")))
        .unwrap();
    let tests = "tests: [{name: t, events: [{verb: get}], expect: {count: 1}}]";
    fs::write(folder.path().join("a.test.yml"), tests).unwrap();
    let report = folder.path().join("report.xml");
    let test = |more: &[&str]| ran(auditwatch().arg("test").arg(folder.path()).arg("--junit").arg(&report).args(more));
    let told = test(&[]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    assert!(told.out.contains("rules that no test makes fire: 1 of 2"), "{}", told.out);
    assert_eq!(test(&["--require-tests"]).code, Some(1));
    let xml = fs::read_to_string(&report).unwrap();
    assert!(xml.contains("tests=\"2\" failures=\"0\" skipped=\"1\""), "{xml}");
}

#[test]
fn a_measure_of_what_is_no_number_is_told() {
    let text = rule("r", "{s: {verb: get}, condition: s}")
        + "title: c\ncorrelation: {type: value_sum, rules: [r], timespan: 1m, condition: {field: FIELD, gte: 1}}\n";
    for (field, code) in
        [("verb", Some("never-matches")), ("responseStatus.code", None), ("requestObject.spec.replicas", None)]
    {
        let (_, codes, _) = problems(text.replace("FIELD", field));
        assert_eq!(codes.into_iter().next(), code, "{field}");
    }
}
