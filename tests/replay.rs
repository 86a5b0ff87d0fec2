//! Replays of the same events give the same alerts (every field but `source`, in the same order), however the events are
//! cut, shuffled, packed and worked on.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::logs::{self, Random, sample, synthetic, three_servers, time_of};
use crate::support::{auditwatch, ran, replay, root};

/// A log, its alerts, and a folder for its variants.
struct Case {
    name: String,
    lines: Vec<String>,
    alerts: Vec<Value>,
    dir: TempDir,
}

impl Case {
    fn new(name: &str, lines: Vec<String>) -> Case {
        let dir = tempfile::tempdir().unwrap();
        logs::write(&dir.path().join("whole.log"), &lines);
        let alerts = replay(&["--workers", "1"], [dir.path().join("whole.log")]);
        assert!(!alerts.is_empty(), "{name} shows nothing");
        Case { name: name.to_owned(), lines, alerts, dir }
    }

    /// The lines in the order of event time.
    fn sorted(name: &str, mut lines: Vec<String>) -> Case {
        lines.sort_by_key(|line| time_of(line));
        Case::new(name, lines)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    /// Writes each part to a file and returns the files in any order.
    fn parts(&self, what: &str, parts: &[Vec<String>], random: &mut Random) -> Vec<PathBuf> {
        let paths = parts.iter().enumerate();
        let mut paths: Vec<_> =
            paths.map(|(n, lines)| self.write(&format!("{what}-{n}.log"), lines.concat())).collect();
        random.shuffle(&mut paths);
        paths
    }

    fn same(&self, what: &str, args: &[&str], files: &[PathBuf]) {
        let got = replay(args, files);
        if let Some(n) = (0..got.len().max(self.alerts.len())).find(|n| got.get(*n) != self.alerts.get(*n)) {
            let at = |alerts: &[Value]| alerts.get(n).map_or("nothing".to_owned(), Value::to_string);
            let (wanted, got) = (at(&self.alerts), at(&got));
            // Left behind to be looked at.
            let kept = std::env::temp_dir().join(format!("auditwatch-{}-{what}", self.name.replace(['/', ' '], "-")));
            let _ = fs::create_dir_all(&kept);
            files.iter().for_each(|file| drop(fs::copy(file, kept.join(file.file_name().unwrap()))));
            panic!("{}: {what}: alert {n} is\n{got}\nnot\n{wanted}\nsee {}", self.name, kept.display());
        }
    }
}

/// Logs on which order and layout are tried.
fn cases() -> Vec<Case> {
    vec![
        Case::new("failed-logins", sample("failed-logins.log")),
        Case::new("full-attack", sample("full-attack.log.gz")),
        Case::sorted("three-servers", three_servers()),
        Case::new("synthetic", synthetic(7, 3_000)),
    ]
}

#[test]
fn for_any_number_of_workers() {
    let mut cases = cases();
    // More than one block, so that several workers have something to do.
    cases.push(Case::new("long", synthetic(11, 12_000)));
    for case in cases {
        for workers in ["1", "2", "8"] {
            case.same(&format!("{workers}-workers"), &["--workers", workers], &[case.path("whole.log")]);
        }
    }
}

#[test]
fn for_a_log_cut_into_files_in_any_order() {
    let mut random = Random(1);
    for case in cases() {
        for cuts in [2, 3, 7] {
            let mut at: Vec<usize> = (1..cuts).map(|_| random.below(case.lines.len() + 1)).collect();
            at.extend([0, case.lines.len()]);
            at.sort_unstable();
            let parts: Vec<Vec<String>> = at.windows(2).map(|cut| case.lines[cut[0]..cut[1]].to_vec()).collect();
            let files = case.parts(&format!("cut{cuts}"), &parts, &mut random);
            case.same(&format!("cut into {cuts}"), &["--workers", "2"], &files);
        }
    }
}

#[test]
fn for_a_log_split_over_three_servers() {
    let mut random = Random(2);
    for case in cases() {
        for by in ["turns", "chance"] {
            let mut parts = vec![Vec::new(); 3];
            for (n, line) in case.lines.iter().enumerate() {
                parts[if by == "turns" { n % 3 } else { random.below(3) }].push(line.clone());
            }
            let files = case.parts(by, &parts, &mut random);
            case.same(&format!("split by {by}"), &["--workers", "2"], &files);
        }
    }
    let folder = Case::sorted("three-servers", three_servers());
    folder.same("as it is", &[], &[root().join("sample-logs/three-servers")]);
}

#[test]
fn for_lines_shuffled_within_five_seconds() {
    let mut random = Random(3);
    for case in cases() {
        for round in 0..2 {
            let late = |line: &String, random: &mut Random| time_of(line) + random.below(5_000_000) as i64;
            let mut lines: Vec<(i64, &String)> =
                case.lines.iter().map(|line| (late(line, &mut random), line)).collect();
            lines.sort_by_key(|(time, _)| *time);
            let shuffled: Vec<String> = lines.into_iter().map(|(_, line)| line.clone()).collect();
            let file = case.write(&format!("shuffled{round}.log"), shuffled.concat());
            case.same(&format!("shuffled {round}"), &["--workers", "2"], &[file]);
        }
    }
}

#[test]
fn for_compressed_copies_whatever_their_name() {
    for case in cases() {
        let whole = case.lines.concat();
        let gzip = |text: &str| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(text.as_bytes()).unwrap();
            encoder.finish().unwrap()
        };
        let zst = |text: &str| zstd::encode_all(text.as_bytes(), 1).unwrap();
        let middle = case.lines[..case.lines.len() / 2].concat().len();
        // Members and frames may end within a line.
        let (head, tail) = whole.split_at(middle + 10);
        for (name, bytes) in [
            ("a.log.gz", gzip(&whole)),
            ("b.log", gzip(&whole)),
            ("c.log.zst", zst(&whole)),
            ("d.log.gz", zst(&whole)),
            ("e.log.gz", [gzip(head), gzip(tail)].concat()),
            ("f.log.zst", [zst(head), zst(tail)].concat()),
        ] {
            let file = case.write(name, bytes);
            case.same(name, &[], &[file]);
        }
    }
}

/// The same events, written otherwise.
fn layouts(lines: &[String]) -> Vec<(&'static str, String)> {
    let events: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let list =
        |items: &[Value]| json!({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": items});
    let bare: Vec<Value> = events.iter().cloned().map(without_kind).collect();
    let per_line = |items: &[Value]| items.chunks(7).map(|some| format!("{}\n", list(some))).collect::<String>();
    let whole = lines.concat();
    vec![
        ("lists.log", per_line(&events)),
        ("bare-lists.log", per_line(&bare)),
        ("one-list.json", serde_json::to_string_pretty(&list(&events)).unwrap()),
        ("one-bare-list.json", serde_json::to_string_pretty(&list(&bare)).unwrap()),
        ("one-line-list.json", list(&events).to_string()),
        ("pretty.json", events.iter().map(|event| serde_json::to_string_pretty(event).unwrap() + "\n").collect()),
        ("two-a-line.log", lines.chunks(2).map(|two| two.concat().replace('\n', "") + "\n").collect()),
        ("spaced-two-a-line.log", lines.chunks(2).map(|two| two.concat().replace('\n', "  ") + "\n").collect()),
        ("bom.log", format!("\u{feff}{whole}")),
        ("crlf.log", whole.replace('\n', "\r\n")),
        ("no-last-newline.log", whole.trim_end().to_owned()),
        ("empty-lines.log", whole.replace('\n', "\n\n \t\n")),
        ("spaces.log", lines.iter().map(|line| format!("  {}\t \n", line.trim_end())).collect()),
    ]
}

fn without_kind(mut event: Value) -> Value {
    let members = event.as_object_mut().unwrap();
    members.remove("kind");
    members.remove("apiVersion");
    event
}

#[test]
fn for_events_written_otherwise() {
    for case in cases() {
        for (name, text) in layouts(&case.lines) {
            let file = case.write(name, text);
            case.same(name, &["--workers", "2"], std::slice::from_ref(&file));
            let stats = case.path("stats.json");
            let run = ran(auditwatch().args(["replay", "-q", "--strict", "--stats"]).args([&stats, &file]));
            assert_eq!(run.code, Some(0), "{name}: {}", run.err);
            let stats: Value = serde_json::from_slice(&fs::read(stats).unwrap()).unwrap();
            let counts = ["events", "unreadable", "too_large", "not_audit"].map(|key| stats[key].as_u64().unwrap());
            assert_eq!(counts, [case.lines.len() as u64, 0, 0, 0], "{}: {name}", case.name);
        }
    }
}

#[test]
fn for_standard_input_and_globs() {
    let case = Case::new("failed-logins", sample("failed-logins.log"));
    let whole = fs::File::open(case.path("whole.log")).unwrap();
    let piped = ran(auditwatch().args(["replay", "-q", "--format", "json", "-"]).stdin(whole));
    assert_eq!(piped.alerts_but_source(), case.alerts);
    assert_eq!(piped.alerts()[0]["source"]["kind"], "stdin");
    for (n, lines) in case.lines.chunks(40).enumerate() {
        logs::write(&case.path(&format!("part{n}.log")), lines);
    }
    case.same("glob", &[], &[case.path("part*.log")]);
}

#[test]
fn clusters_do_not_mix() {
    let case = Case::new("failed-logins", sample("failed-logins.log"));
    let (a, b) = (case.path("prod-a"), case.path("prod-b"));
    for (folder, part) in [(&a, 0), (&b, 1)] {
        fs::create_dir(folder).unwrap();
        let lines: Vec<String> = case.lines.iter().skip(part).step_by(2).cloned().collect();
        logs::write(&folder.join("audit.log"), &lines);
    }
    let from = ["--cluster-from", "path:(prod-[ab])"];
    let apart = |folder: &Path| replay(&from, [folder]);
    let together = replay(&from, [&a, &b]);
    let of = |name: &str| -> Vec<Value> { together.iter().filter(|a| a["cluster"] == name).cloned().collect() };
    assert_eq!((of("prod-a"), of("prod-b")), (apart(&a), apart(&b)));
    assert_eq!(together.len(), apart(&a).len() + apart(&b).len());
}

/// A cluster that an envelope names is the cluster of alerts and windows; the same events, by clusters in files of their
/// own, give the same.
#[test]
fn the_cluster_of_an_envelope_is_kept_apart() {
    let loki = |cluster: &str, line: &str| {
        json!({"streams": [{"stream": {"cluster": cluster}, "values": [["1", line.trim_end()]]}]}).to_string() + "\n"
    };
    let dir = tempfile::tempdir().unwrap();
    let lines = synthetic(5, 900);
    let (mut mixed, mut apart) = (Vec::new(), [Vec::new(), Vec::new(), Vec::new()]);
    for (n, line) in lines.iter().enumerate() {
        let cluster = n / 3 % 3;
        mixed.push(if cluster == 2 { line.clone() } else { loki(["a", "b"][cluster], line) });
        apart[cluster].push(line.clone());
    }
    logs::write(&dir.path().join("mixed.log"), &mixed);
    for (cluster, lines) in ["a", "b", "own"].iter().zip(&apart) {
        logs::write(&dir.path().join(format!("{cluster}.log")), lines);
    }
    let got = replay(&["--cluster", "own"], [dir.path().join("mixed.log")]);
    let mut expected: Vec<Value> = ["a", "b", "own"]
        .iter()
        .flat_map(|cluster| replay(&["--cluster", cluster], [dir.path().join(format!("{cluster}.log"))]))
        .collect();
    for cluster in ["a", "b", "own"] {
        let of = |alerts: &[Value]| alerts.iter().filter(|alert| alert["cluster"] == cluster).count();
        assert!(of(&expected) > 0 && of(&got) == of(&expected), "{cluster}: {} of {}", of(&got), of(&expected));
    }
    let id = |alert: &Value| alert["id"].to_string();
    let mut got = got;
    got.sort_by_key(id);
    expected.sort_by_key(id);
    let plain = |alerts: Vec<Value>| -> Vec<Value> {
        let mut alerts = alerts;
        for alert in &mut alerts {
            // Where an event stands differs.
            alert["events"].as_array_mut().unwrap().iter_mut().for_each(|event| {
                event.as_object_mut().unwrap().retain(|key, _| key == "audit_id" || key == "time");
            });
        }
        alerts
    };
    assert_eq!(plain(got), plain(expected));
}
