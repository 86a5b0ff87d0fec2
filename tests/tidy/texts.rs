//! What must hold of everything that is not code: rules, documents, data.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::nothing;
use super::tree::root;

/// Spelled in pieces, so that this file does not hold what it looks for.
const MACHINE_PATHS: &[&str] =
    &[concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/"), concat!("/wo", "rk/")];
const REGISTRY_HOSTS: &[&str] = &[
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("registry.npm", "js.org"),
    concat!("proxy.golang", ".org"),
    concat!("rubygems", ".org"),
];

/// All files but those that `.gitignore` keeps out, from the crate's folder, with slashes.
pub fn tracked() -> Vec<String> {
    let ignore = fs::read_to_string(root().join(".gitignore")).unwrap();
    let ignored: Vec<&str> = ignore.lines().filter_map(|line| line.strip_prefix('/')).collect();
    let mut files = Vec::new();
    let mut todo = vec![String::new()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{folder}{}", entry.file_name().to_string_lossy());
            if name == ".git" || ignored.contains(&name.as_str()) {
                continue;
            }
            match entry.file_type().unwrap().is_dir() {
                true => todo.push(format!("{name}/")),
                false => files.push(name),
            }
        }
    }
    files.sort();
    files
}

fn read(name: &str) -> String {
    String::from_utf8_lossy(&fs::read(root().join(name)).unwrap()).into_owned()
}

#[test]
fn every_detection_has_a_test() {
    nothing(untested(&tracked()));
}

/// Rules without a test beside them, and tests without a rule. Exemptions are tested by the rules they exempt from.
fn untested(files: &[String]) -> Vec<String> {
    let rules = || files.iter().filter(|name| name.starts_with("detections/") && name.ends_with(".yml"));
    let has = |name: String| files.binary_search(&name).is_ok();
    let mut found = Vec::new();
    for name in rules() {
        match name.strip_suffix(".test.yml") {
            Some(stem) if !has(format!("{stem}.yml")) => found.push(format!("{name}: no rule beside it")),
            None if !name.starts_with("detections/exemptions/") && !has(name.replace(".yml", ".test.yml")) => {
                found.push(format!("{name}: no test beside it"));
            }
            _ => {}
        }
    }
    found
}

#[test]
fn ids_of_detections_are_unique() {
    let rules = tracked().into_iter().filter(|name| name.starts_with("detections/") && !name.contains(".test."));
    nothing(repeated_ids(rules.map(|name| (read(&name), name))));
}

fn repeated_ids(rules: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (text, name) in rules {
        for (at, line) in text.lines().enumerate() {
            if let Some(id) = line.strip_prefix("id:") {
                places.entry(id.trim().to_owned()).or_default().push(format!("{name}:{}", at + 1));
            }
        }
    }
    let repeated = places.into_iter().filter(|(_, places)| places.len() > 1);
    repeated.map(|(id, places)| format!("{id}: {}", places.join(", "))).collect()
}

#[test]
fn nothing_names_a_machine_or_a_registry() {
    nothing(tracked().iter().flat_map(|name| betrayals(name, &read(name))).collect());
}

fn betrayals(name: &str, text: &str) -> Vec<String> {
    // Rules and logs name paths on nodes; the lock file names the registry as Cargo writes it.
    let is_data = name.starts_with("detections/") || name.starts_with("sample-logs/");
    let paths = if is_data { &[][..] } else { MACHINE_PATHS };
    let hosts = if name.ends_with("Cargo.lock") { &[][..] } else { REGISTRY_HOSTS };
    let named = paths.iter().chain(hosts).filter(|needle| text.contains(**needle));
    named.map(|needle| format!("{name}: names {needle}")).collect()
}

/// The text of README and of everything in `docs`.
fn documents() -> String {
    let documents = tracked().into_iter().filter(|name| name == "README.md" || name.starts_with("docs/"));
    documents.map(|name| read(&name)).collect()
}

#[test]
fn every_flag_of_replay_is_documented() {
    let output = assert_cmd::Command::cargo_bin("auditwatch").unwrap().args(["replay", "--help"]).output().unwrap();
    let flags = flags(&String::from_utf8_lossy(&output.stdout));
    assert!(flags.len() > 10, "{flags:?}");
    nothing(undocumented(&flags, &documents()));
}

/// The long flags in a help text, `--help` aside.
fn flags(help: &str) -> Vec<String> {
    let starts = help.lines().filter_map(|line| {
        let line = line.trim_start();
        let line =
            line.strip_prefix('-').filter(|rest| rest.as_bytes().get(1) == Some(&b',')).map_or(line, |rest| &rest[3..]);
        let name = line.strip_prefix("--")?;
        Some(name.split(|c: char| c != '-' && !c.is_ascii_alphanumeric()).next().unwrap_or_default().to_owned())
    });
    starts.filter(|name| !matches!(name.as_str(), "" | "help" | "version")).map(|name| format!("--{name}")).collect()
}

fn undocumented(names: &[String], documents: &str) -> Vec<String> {
    let is_word = |c: char| c == '-' || c.is_ascii_alphanumeric();
    let told = |name: &String| {
        documents.match_indices(name.as_str()).any(|(at, _)| !documents[at + name.len()..].starts_with(is_word))
    };
    names.iter().filter(|name| !told(name)).map(|name| format!("{name}: not in README.md or docs")).collect()
}

#[test]
fn every_derived_field_is_documented() {
    let names: Vec<String> = auditwatch::event::path::DERIVED.iter().map(|(name, _)| (*name).to_owned()).collect();
    nothing(undocumented(&names, &documents()));
}

#[test]
fn links_between_documents_lead_somewhere() {
    let documents = tracked().into_iter().filter(|name| name.ends_with(".md"));
    nothing(documents.flat_map(|name| dead_links(&name, &read(&name))).collect());
}

fn dead_links(name: &str, text: &str) -> Vec<String> {
    let folder = Path::new(name).parent().unwrap_or(Path::new(""));
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let local = targets.map(|target| target.split('#').next().unwrap_or_default());
    let dead = local.filter(|target| !target.contains("://") && !root().join(folder).join(target).exists());
    dead.map(|target| format!("{name}: {target} is not there")).collect()
}

#[test]
fn the_checks_find_what_they_look_for() {
    let files =
        ["a.test.yml", "a.yml", "b.test.yml", "c.yml", "exemptions/d.yml"].map(|name| format!("detections/{name}"));
    assert_eq!(untested(&files), ["detections/b.test.yml: no rule beside it", "detections/c.yml: no test beside it"]);

    let rules = [("id: 1\n---\nid: 2\n", "a"), ("related:\n  - id: 1\n", "b"), ("title: x\nid: 2\n", "c")];
    let rules = rules.map(|(text, name)| (text.to_owned(), name.to_owned()));
    assert_eq!(repeated_ids(rules.into_iter()), ["2: a:3, c:2"]);

    let secret = format!("see {}me and {}", MACHINE_PATHS[0], REGISTRY_HOSTS[0]);
    assert_eq!(betrayals("docs/x.md", &secret).len(), 2);
    assert_eq!(betrayals("detections/x.yml", &secret).len(), 1);
    assert_eq!(betrayals("Cargo.lock", REGISTRY_HOSTS[0]).len(), 0);

    let found =
        flags("Options:\n      --lateness <DURATION>\n          as --strict says\n  -v, --verbose\n  -h, --help\n");
    assert_eq!(found, ["--lateness", "--verbose"]);
    assert_eq!(undocumented(&found, "`--lateness-max` and `--verbose`"), ["--lateness: not in README.md or docs"]);

    assert_eq!(
        dead_links("src/x.md", "[a](lib.rs#l1) [b](https://x.example) [c](nowhere.md)"),
        ["src/x.md: nowhere.md is not there"]
    );
}
