//! What must hold of the code itself, and cannot be told to the compiler: sizes, arrows of import, a pure core, rules
//! with tests, documents that name what there is. Every check returns what it found; its unit test makes it find something.

mod items;
mod lexer;
mod texts;
mod tree;

use std::collections::BTreeSet;

use items::{functions, line_of, paths, without_tests};
use tree::{SourceFile, crate_files};

const FILE_LINES_MAX: usize = 700;
const PRODUCTION_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

/// The modules in the order of the pipeline, each with those it may know. Arrows not listed here must not be.
const ARROWS: &[(&str, &[&str])] = &[
    ("kafka", &[]),
    ("source", &["event", "kafka"]),
    ("normalize", &["event"]),
    ("event", &[]),
    ("rules", &["event"]),
    ("engine", &["event", "rules"]),
    ("worker", &["normalize", "event", "rules", "engine", "source"]),
    ("alert", &["event", "rules", "engine"]),
    ("journal", &["event", "rules", "engine", "alert"]),
    ("distributed", &["event", "rules", "engine", "worker", "alert", "journal"]),
    ("sink", &["event", "rules", "engine", "alert", "kafka"]),
    ("metrics", &["rules", "engine", "worker", "sink"]),
    ("admin", &["metrics"]),
    (
        "pipeline",
        &[
            "kafka",
            "source",
            "normalize",
            "event",
            "rules",
            "engine",
            "worker",
            "alert",
            "journal",
            "distributed",
            "sink",
            "metrics",
            "admin",
            "config",
        ],
    ),
    ("ruletest", &["source", "event", "rules", "engine", "worker", "alert", "config"]),
    ("config", &["rules", "sink"]),
    (
        "cli",
        &[
            "kafka",
            "source",
            "normalize",
            "event",
            "rules",
            "engine",
            "worker",
            "alert",
            "journal",
            "sink",
            "metrics",
            "admin",
            "pipeline",
            "ruletest",
            "config",
        ],
    ),
];

/// Modules that take bytes and give values.
const CORE: &[&str] = &["normalize", "event", "rules", "engine", "worker", "alert", "distributed"];

/// What no module of the core may name.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::time",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "tokio",
    "crossbeam_channel",
    "rdkafka",
    "rusqlite",
    "log",
    "tracing",
    "prometheus",
    "clap",
    "indicatif",
];

/// Fails with everything that was found.
fn nothing(found: Vec<String>) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn files_are_short() {
    let files = crate_files().into_iter();
    nothing(files.flat_map(|file| long_files(&file)).collect());
}

fn long_files(file: &SourceFile) -> Option<String> {
    let lines = file.source.lines().count();
    let production = match file.is_test || !file.name.starts_with("src/") {
        true => 0,
        // Blank lines that tests leave behind are not counted, those of the code are.
        false => without_tests(&file.code)
            .lines()
            .zip(file.code.lines())
            .filter(|(kept, all)| !kept.trim().is_empty() || all.trim().is_empty())
            .count(),
    };
    (lines > FILE_LINES_MAX || production > PRODUCTION_LINES_MAX)
        .then(|| format!("{}: {lines} lines, {production} without tests", file.name))
}

#[test]
fn functions_are_short() {
    nothing(crate_files().iter().flat_map(long_functions).collect());
}

fn long_functions(file: &SourceFile) -> Vec<String> {
    let long = functions(&file.code).into_iter().filter(|function| function.lines > FUNCTION_LINES_MAX);
    long.map(|function| format!("{}:{}: fn {}: {} lines", file.name, function.line, function.name, function.lines))
        .collect()
}

#[test]
fn production_code_does_not_unwrap() {
    nothing(crate_files().iter().flat_map(unwraps).collect());
}

fn unwraps(file: &SourceFile) -> Vec<String> {
    if file.is_test || !file.name.starts_with("src/") {
        return Vec::new();
    }
    let code = without_tests(&file.code);
    code.match_indices(".unwrap()").map(|(at, _)| format!("{}:{}: unwrap", file.name, line_of(&code, at))).collect()
}

#[test]
fn the_core_is_pure() {
    nothing(crate_files().iter().flat_map(impurities).collect());
}

fn impurities(file: &SourceFile) -> Vec<String> {
    let core = file.top_module().is_some_and(|module| CORE.contains(&module));
    if file.is_test || !core {
        return Vec::new();
    }
    let mut found = Vec::new();
    for named in paths(&without_tests(&file.code)) {
        let path = named.path.join("::");
        let below =
            |impure: &str| path.strip_prefix(impure).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        if IMPURE.iter().any(|impure| below(impure)) {
            found.push(format!("{}:{}: {path}", file.name, named.line));
        }
    }
    found
}

#[test]
fn imports_run_one_way() {
    nothing(crate_files().iter().flat_map(wrong_arrows).collect());
}

fn wrong_arrows(file: &SourceFile) -> Vec<String> {
    let Some(from) = file.top_module().filter(|_| !file.is_test) else { return Vec::new() };
    let Some((_, allowed)) = ARROWS.iter().find(|(module, _)| *module == from) else {
        return vec![format!("{}: module {from} has no place in the table of arrows", file.name)];
    };
    let mut found = Vec::new();
    for named in paths(&without_tests(&file.code)) {
        let Some(path) = file.in_crate(&named.path) else { continue };
        let to = path[0].as_str();
        let batch_only = from == "worker" && to == "source" && path.get(1).is_none_or(|item| item != "Batch");
        if to != from && (!allowed.contains(&to) || batch_only) {
            found.push(format!("{}:{}: {from} names {}", file.name, named.line, path.join("::")));
        }
    }
    found
}

#[test]
fn the_crate_is_told_in_the_order_of_the_pipeline() {
    let files = crate_files();
    let root = files.iter().find(|file| file.name == "src/lib.rs").unwrap();
    let declared: Vec<String> = items::modules(&root.code, &root.source).into_iter().map(|m| m.name).collect();
    let order: Vec<&str> = ARROWS.iter().map(|(module, _)| *module).collect();
    assert_eq!(declared, order);
}

#[test]
fn every_file_is_part_of_the_crate() {
    let reached: BTreeSet<String> = crate_files().into_iter().map(|file| file.name).collect();
    let lost = texts::tracked().into_iter().filter(|name| {
        // One folder is a crate of its own.
        let other = name.starts_with("tests/differential-rsigma/");
        let ours = (name.starts_with("src/") || name.starts_with("tests/")) && !other;
        ours && name.ends_with(".rs") && !reached.contains(name)
    });
    nothing(lost.map(|name| format!("{name}: no mod declaration leads here")).collect());
}

#[test]
fn nothing_is_unbounded() {
    let found = crate_files().into_iter().filter(|file| file.name.starts_with("src/"));
    nothing(found.filter(|file| file.code.contains("unbounded(")).map(|file| file.name).collect());
}

/// Every check above, made to find something.
#[test]
fn the_checks_find_what_they_look_for() {
    let file = |name: &str, source: &str| SourceFile::new(name, source, false);
    let body = |lines: usize| format!("fn f() {{\n{}}}\n", "    x();\n".repeat(lines - 2));
    assert_eq!(long_functions(&file("src/a.rs", &body(70))).len(), 0);
    assert_eq!(long_functions(&file("src/a.rs", &body(71))), ["src/a.rs:1: fn f: 71 lines"]);

    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "use a;\n".repeat(300));
    assert!(long_files(&file("src/a.rs", &"use a;\n".repeat(501))).is_some());
    assert!(long_files(&file("src/a.rs", &format!("{}{tests}", "use a;\n".repeat(390)))).is_none());
    assert!(long_files(&file("src/a.rs", &format!("{}{tests}", "use a;\n".repeat(400)))).is_some());

    assert_eq!(unwraps(&file("src/a.rs", "fn f() {\n  x.unwrap()\n}")), ["src/a.rs:2: unwrap"]);
    assert!(unwraps(&file("src/a.rs", "// x.unwrap()\n#[cfg(test)]\nmod t { fn f() { x.unwrap() } }")).is_empty());

    let clock = "use std::{fmt, time::Instant};";
    assert_eq!(impurities(&file("src/engine/a.rs", clock)), ["src/engine/a.rs:1: std::time::Instant"]);
    assert!(impurities(&file("src/cli/a.rs", clock)).is_empty());
    assert!(impurities(&file("src/event/log.rs", "use super::log; fn f(log: u8) { std::net::IpAddr::V4 }")).is_empty());
    assert_eq!(impurities(&file("src/alert.rs", "fn f() { log::info!(x) }")), ["src/alert.rs:1: log::info"]);

    for (name, source, wrong) in [
        (
            "src/rules/a.rs",
            "use crate::{event::Stage, engine::text};",
            &["src/rules/a.rs:1: rules names engine::text"][..],
        ),
        ("src/rules/a.rs", "use super::b::C; use super::super::event::D; use self::x::y;", &[]),
        ("src/sink/mod.rs", "use super::cli::Exit;", &["src/sink/mod.rs:1: sink names cli::Exit"]),
        ("src/worker.rs", "use crate::source::{Batch, Input};", &["src/worker.rs:1: worker names source::Input"]),
        ("src/extra.rs", "", &["src/extra.rs: module extra has no place in the table of arrows"]),
    ] {
        assert_eq!(wrong_arrows(&file(name, source)), wrong, "{source}");
    }
}
