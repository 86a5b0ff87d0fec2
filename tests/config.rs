//! The configuration: its documents are made of what is read, layers win in their order, and a reload loses nothing.

use std::fmt::Write as _;

use auditwatch::config::layers;
use auditwatch::config::schema::{Looked, schema};
use auditwatch::metrics::Metrics;
use serde_json::Value;

use crate::support::daemon::{Daemon, by_id, ids};
use crate::support::logs::{self, synthetic};
use crate::support::{auditwatch, expect_file, ran, replay};

const INTRODUCTION: &str = "# Configuration of `auditwatch run`

One YAML file (`-c FILE`, or `AUDITWATCH_CONFIG`). Every key can also be said in the environment and by a flag; a flag wins
over the environment, the environment over the file, the file over the default:

```sh
auditwatch run -c auditwatch.yaml --set lateness=30s --set sinks.0.url=https://hooks.example/audit
AUDITWATCH_STORE_PATH=/var/lib/auditwatch/state.db AUDITWATCH_SINKS_0_TYPE=stdout auditwatch run -c auditwatch.yaml
```

`auditwatch check -c FILE` tells everything that is wrong with a configuration, each with its place; `auditwatch check
--schema` prints its JSON schema. Unknown keys are refused. Durations are written `500ms`, `10s`, `5m`, `1h`, `2d`; sizes
`4096`, `512KiB`, `32MiB`; rates `10/s`, `60/m`, `1000/h`. Secrets stand in files (`…_file`) or in variables of the
environment (`…_env`), never in the configuration, and are never printed.

SIGHUP, and a change of one of the files, has rules, site, sinks, routes, silences and overrides read again; nothing
is lost meanwhile, and correlations keep their state: the store is folded into the new windows as after a start. A
configuration that is wrong changes nothing; that is said on standard error and in `auditwatch_reloads_total`. The other keys
hold from the next start on.

An alert that is told with others bears `grouped`: in what they agree (`by`), how many they are (`count`), and the event times
of the first and the last; the alert itself is the first. What a sink is told is routed in the order of its `routes`.

This page is made of the code (`UPDATE_EXPECTED=1 cargo test --test all the_page_of_the_configuration`).
";

/// A cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn kind(at: &Looked<'_>) -> String {
    let words: Vec<String> = at.words().iter().map(|(word, _)| format!("`{word}`")).collect();
    if !words.is_empty() {
        return words.join(", ");
    }
    if let Some(items) = at.items() {
        return format!("list of: {}", kind(&items));
    }
    let (types, format) = at.types();
    let named = match (format, types.iter().find(|name| **name != "null")) {
        ("duration-text", _) => "duration",
        ("size-text", _) => "size",
        ("rate-text", _) => "rate",
        ("date-time", _) => "time",
        ("address", _) => "IP:port",
        ("cluster-from", _) => "`path:REGEX`",
        (_, Some(&"integer")) => "number",
        (_, Some(&"boolean")) => "`true`, `false`",
        (_, Some(&"string")) => "text",
        _ if at.keys(None).is_empty() => "texts by name",
        _ => "keys, below",
    };
    named.to_owned()
}

fn section(out: &mut String, title: &str, path: &str, at: &Looked<'_>, kind_of: Option<&str>, leave: &[&str]) {
    let _ = write!(out, "\n## {title}\n\n| key | values | default | meaning |\n|---|---|---|---|\n");
    let mut below = Vec::new();
    for (name, inner, needed) in at.keys(kind_of) {
        if name == "type" || leave.contains(&name) {
            continue;
        }
        let default = match (inner.default(), needed) {
            (_, true) => "(needed)".to_owned(),
            (Some(Value::String(text)), _) if text.is_empty() => String::new(),
            (Some(Value::Array(list)), _) if list.is_empty() => String::new(),
            (Some(Value::Object(map)), _) if map.is_empty() => String::new(),
            (Some(Value::String(text)), _) => format!("`{text}`"),
            (Some(other), _) => format!("`{other}`"),
            (None, _) => String::new(),
        };
        let (values, meaning) = (kind(&inner), cell(inner.description()));
        let _ = writeln!(out, "| `{name}` | {} | {default} | {meaning} |", cell(&values));
        let node = inner.items().unwrap_or_else(|| inner.clone());
        if !node.keys(None).is_empty() {
            below.push((format!("{path}{name}{}", if inner.items().is_some() { "[]" } else { "" }), node));
        }
    }
    for (path, node) in below {
        let kinds = node.kinds();
        if kinds.is_empty() {
            section(out, &format!("`{path}`"), &format!("{path}."), &node, None, &[]);
            continue;
        }
        // What all kinds have is told once.
        let common: Vec<&str> = node.keys(Some("")).into_iter().map(|(name, ..)| name).collect();
        if !common.is_empty() {
            section(out, &format!("`{path}`, of any type"), &format!("{path}."), &node, Some(""), &[]);
        }
        for (word, branch) in kinds {
            let title = format!("`{path}` with `type: {word}`");
            let mut told = String::new();
            section(&mut told, &title, &format!("{path}."), &node, Some(word), &common);
            let table = told.split_once("\n\n|").map_or("", |(_, table)| table);
            let _ = write!(out, "\n## {title}\n\n{}\n\n|{table}", branch.description());
        }
    }
}

#[test]
fn the_page_of_the_configuration_is_what_is_read() {
    let schema = schema();
    let mut page = INTRODUCTION.to_owned();
    section(&mut page, "Keys", "", &Looked::new(&schema), None, &[]);
    page += "\n## Variables of the environment\n\nNumbers of items stand between: `AUDITWATCH_SINKS_0_URL`.\n\n\
             | variable | key |\n|---|---|\n";
    for (variable, key) in layers::variables(&Looked::new(&schema), "AUDITWATCH_") {
        let _ = writeln!(page, "| `{variable}` | `{key}` |");
    }
    for (_, at, _) in Looked::new(&schema).keys(None) {
        assert!(!at.description().is_empty());
    }
    expect_file("docs/configuration.md", &page);
}

#[test]
fn the_page_of_the_metrics_is_what_is_told() {
    let mut page = "# Metrics\n\n`/metrics` on the admin port (`admin.listen`), in Prometheus' text format. The number of series is \
                    bounded: by the rules that\nare loaded, by what the configuration names, and by 100 sources and 100 clusters; \
                    further ones share the label `other`.\nBesides these there are Prometheus' usual `process_…`.\n\n\
                    | metric | type | labels | meaning |\n|---|---|---|---|\n"
        .to_owned();
    for metric in Metrics::default().declared() {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let _ =
            writeln!(page, "| `{}` | {} | {} | {} |", metric.name, metric.kind, labels.join(", "), cell(&metric.help));
    }
    page += "\nThis page is made of the code (`UPDATE_EXPECTED=1 cargo test --test all the_page_of_the_metrics`).\n";
    expect_file("docs/metrics.md", &page);
}

/// The output of a check of this configuration.
fn check(config: &str, flags: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("run.yaml");
    std::fs::write(&file, config).unwrap();
    let mut command = auditwatch();
    command.arg("check").arg("-c").arg(&file).args(flags).envs(environment.iter().copied());
    let ran = ran(&mut command);
    (ran.code, format!("{}{}", ran.out, ran.err).replace(&file.display().to_string(), "run.yaml"))
}

const SMALL: &str = "sources: [{type: file, paths: [a.log]}]\nstore: {path: s.db}\n";

#[test]
fn a_check_tells_everything_with_its_place() {
    let (code, said) =
        check(&format!("{SMALL}latenes: 3s\nsinks:\n  - {{type: slack}}\n  - {{type: stdout, fromat: x}}\n"), &[], &[]);
    assert_eq!(code, Some(3), "{said}");
    for place in ["run.yaml:3:1: error[unknown-key]", "did you mean `lateness`", "run.yaml:6:20: error[unknown-key]"] {
        assert!(said.contains(place), "{place}: {said}");
    }
    let (code, said) = check(&format!("{SMALL}rules: [detections/secrets/secrets-listed.yml]\n"), &[], &[]);
    assert!(code == Some(0) && said.contains("run.yaml: good: "), "{code:?} {said}");
    let (code, said) = check(&format!("{SMALL}overrides: [{{rules: [no-such-rule], level: high}}]\n"), &[], &[]);
    assert!(code == Some(3) && said.contains("is no rule"), "{code:?} {said}");
    let (code, said) = check(&format!("{SMALL}sinks: [{{type: slack, url_file: nowhere}}]\n"), &[], &[]);
    assert!(code == Some(3) && said.contains("nowhere"), "{code:?} {said}");
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let wrong = |said: &str, whence: &str| assert!(said.contains(whence), "{whence}: {said}");
    let file = format!("{SMALL}lateness: 1s\n");
    // Each layer alone is heard: a wrong value says where it was said.
    wrong(&check(&file.replace("1s", "soon"), &[], &[]).1, "run.yaml:3:11: error[value]: `lateness`");
    let variable = [("AUDITWATCH_LATENESS", "soon")];
    wrong(&check(&file, &[], &variable).1, "AUDITWATCH_LATENESS: error[value]: `lateness`");
    wrong(&check(&file, &["--set", "lateness=soon"], &[]).1, "--set lateness: error[value]: `lateness`");
    // And what is said above hides what is said below.
    for (flags, environment) in [
        (&["--set", "lateness=2s"][..], &variable[..]),
        (&[], &[("AUDITWATCH_LATENESS", "2s")]),
        (&["--set", "lateness=2s"], &[]),
    ] {
        let (code, said) = check(&file.replace("1s", "soon"), flags, environment);
        assert_eq!(code, Some(0), "{said}");
    }
    let nested =
        [("AUDITWATCH_STORE_PATH", "x.db"), ("AUDITWATCH_SINKS_0_TYPE", "slack"), ("AUDITWATCH_SINKS_0_URLS", "y")];
    let (code, said) = check("sources: [{type: file, paths: [a.log]}]\n", &[], &nested);
    assert!(code == Some(3) && said.contains("needs url"), "{said}");
    // A text is one, whatever else it looks like.
    let sinks = "sinks: [{type: webhook, url: 'http://h/'}]\n";
    let template = ["--set", "sinks.0.template={\"text\": {{ alert.message | tojson }}}", "--set", "cluster=[a"];
    let (code, said) = check(&format!("{SMALL}{sinks}"), &template, &[]);
    assert_eq!(code, Some(0), "{said}");
    // What Kubernetes tells of a service of this name is no mistake.
    let service = [("AUDITWATCH_PORT", "tcp://10.0.0.1:9090"), ("AUDITWATCH_PORT_9090_TCP", "tcp://10.0.0.1:9090")];
    let (_, said) = check(&file, &[], &[&[("AUDITWATCH_LATENES", "1s")], &service[..]].concat());
    assert!(said.contains("did you mean AUDITWATCH_LATENESS?") && !said.contains("AUDITWATCH_PORT"), "{said}");
}

#[test]
fn the_schema_is_printed() {
    let ran = ran(auditwatch().args(["check", "--schema"]));
    let schema: Value = serde_json::from_str(&ran.out).unwrap();
    assert!(schema.pointer("/properties/sinks/items").is_some() && ran.code == Some(0));
}

#[test]
fn a_list_of_the_site_that_nobody_asks_for_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let site = dir.path().join("site.yml");
    std::fs::write(&site, "secret_reader: [a]\nzebras: [b]\ntrusted_proxies: [10.0.0.1]\nbreak_glass: [c]\n").unwrap();
    // Those that only rules ask for which are not loaded are nobody's mistake.
    let config = format!("{SMALL}site: {}\nrules: [detections/secrets/secrets-listed.yml]\n", site.display());
    let (code, said) = check(&config, &[], &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("site: secret_reader: no rule asks for this list; did you mean `secret_readers`?"), "{said}");
    assert!(said.contains("site: zebras: no rule asks for this list\n"), "{said}");
    assert!(!said.contains("trusted_proxies") && !said.contains("break_glass"), "{said}");
    let ran =
        ran(auditwatch().args(["replay", "--no-progress", "--site"]).arg(&site).arg("sample-logs/secret-harvest.log"));
    assert!(ran.err.contains("did you mean `secret_readers`?"), "{}", ran.err);
}

fn hang_up(id: u32) {
    let sent = std::process::Command::new("kill").args(["-HUP", &id.to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn a_reload_loses_neither_an_event_nor_a_window() {
    let lines = synthetic(11, 3_000);
    let daemon = Daemon::new("reload_on_change: false");
    let mut running = daemon.start();
    // Between any two pieces everything is read again; what counts over pieces must count on.
    for (n, piece) in lines.chunks(lines.len() / 6 + 1).enumerate() {
        daemon.append(&piece.concat());
        hang_up(running.id());
        running.wait_for_times("reload: done", n + 1);
    }
    drop(running);
    daemon.once();
    let stored = daemon.stored(&[]);
    ids(&stored);
    let dir = tempfile::tempdir().unwrap();
    logs::write(&dir.path().join("whole.log"), &lines);
    let expected = replay(&[], [dir.path().join("whole.log")]);
    assert_eq!(by_id(stored), by_id(expected));
}

#[test]
fn what_is_read_again_holds_and_what_is_wrong_changes_nothing() {
    let rules = "rules: [detections/secrets/secrets-listed.yml]";
    let daemon = Daemon::new(rules);
    let mut running = daemon.start();
    daemon.append(&format!("{}\n", logs::secrets_listed("a-1", 1)));
    assert_eq!(running.next_alert()["rule"]["level"], "high");
    let file = daemon.path("run.yaml");
    let config = std::fs::read_to_string(&file).unwrap();
    // Found by itself: the file changes.
    std::fs::write(&file, format!("{config}\nzebra: 1\n")).unwrap();
    assert!(running.wait_for("the old configuration stays").contains("zebra"));
    let id = "overrides: [{rules: ['*'], level: low}]";
    std::fs::write(&file, format!("{config}\n{id}\n")).unwrap();
    running.wait_for("reload: done");
    daemon.append(&format!("{}\n", logs::secrets_listed("a-2", 2)));
    let alert = running.next_alert();
    assert_eq!((&alert["events"][0]["audit_id"], &alert["rule"]["level"]), (&"a-2".into(), &"low".into()));
    // Another sink, while it runs: it begins with what comes.
    let told = daemon.path("told.jsonl");
    std::fs::write(&file, format!("{config}\n{id}\nsinks: [{{type: file, path: {}}}]\n", told.display())).unwrap();
    running.wait_for_times("reload: done", 2);
    daemon.append(&format!("{}\n", logs::secrets_listed("a-3", 3)));
    while !std::fs::read_to_string(&told).is_ok_and(|text| text.contains("a-3")) {}
    assert!(!std::fs::read_to_string(&told).unwrap().contains("a-2"));
}

#[test]
fn what_is_said_can_be_json() {
    let daemon = Daemon::new("");
    let ran = ran(daemon.command().args(["--once", "--log-format", "json"]));
    let said: Vec<Value> = ran.err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(said.iter().any(|line| line["message"] == "ready" && line["level"] == "info"), "{}", ran.err);
}

#[test]
fn what_is_odd_is_said_in_the_same_shape() {
    let daemon = Daemon::new("site: site.yml\nlog_format: json");
    std::fs::write(daemon.path("site.yml"), "secret_reader: [a]\n").unwrap();
    let ran = ran(daemon.command().arg("--once").current_dir(daemon.dir.path()));
    let said: Vec<Value> = ran.err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let odd = |line: &&Value| line["part"] == "site" && line["level"] == "warn";
    assert_eq!(said.iter().filter(odd).count(), 1, "{}", ran.err);
}
