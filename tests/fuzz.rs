//! Real logs and rules, changed from a seed, against the properties of the fuzz targets: what a fuzzer does, without its
//! eyes. `FUZZ_SECONDS=900 cargo test --test all fuzz -- --ignored --nocapture` goes on for as long as one likes.
#![allow(clippy::print_stderr, reason = "a long run tells how it goes")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::logs::{Random, sample, synthetic, three_servers};
use crate::support::root;

#[path = "../fuzz/properties.rs"]
mod properties;

use properties::DETECTIONS;

/// What JSON, envelopes, YAML and conditions are made of, and what breaks them.
const WORDS: &[&str] = &[
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\n",
    "\r",
    "\0",
    " ",
    "\t",
    "\\u0065",
    "\\ud800",
    "\\\"",
    "é",
    "\u{7f}",
    "null",
    "true",
    "-1",
    "1e999",
    "{}",
    "[]",
    "\"\"",
    "{\"items\":[",
    "\"kind\":\"EventList\",",
    "\"stage\":\"Panic\",",
    "2026-11-23T19:15:00.000000000Z stdout F ",
    "2026-11-23T19:15:00.000000000Z stdout P ",
    "{\"log\":\"",
    "\"message\":",
    "  ",
    "- ",
    "|",
    "|contains",
    "|re",
    "1 of ",
    "all of them",
    " and not ",
    "(",
    ")",
    "*",
    "?",
    "%x%",
    "&a ",
    "*a",
    "---\n",
];

/// Changes bytes, one to six times.
fn changed(base: &[u8], others: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut out = base.to_vec();
    for _ in 0..1 + random.below(6) {
        let len = out.len();
        let at = random.below(len + 1);
        let end = (at + random.below(40)).min(out.len());
        match random.below(10) {
            0 if at < out.len() => out[at] ^= 1 << random.below(8),
            1 => drop(out.splice(at..end, [])),
            2 => {
                let again = out[at..end].to_vec();
                let times = 1 + random.below(20);
                out.splice(at..at, again.repeat(times));
            }
            3 => out.truncate(at.max(1)),
            4 => {
                let other = random.pick(others);
                let from = random.below(other.len().max(1));
                let to = (from + random.below(400)).min(other.len());
                out.splice(at..end, other[from.min(to)..to].iter().copied());
            }
            5 => out.rotate_left(at.min(len)),
            6 => swap_members(&mut out, random),
            _ => drop(out.splice(at..if random.below(2) == 0 { at } else { end }, random.pick(WORDS).bytes())),
        }
        if out.is_empty() {
            out.push(b'{');
        }
    }
    out
}

/// Exchanges two pieces between commas: often whole members.
fn swap_members(out: &mut Vec<u8>, random: &mut Random) {
    let mut parts: Vec<&[u8]> = out.split(|byte| *byte == b',').collect();
    if parts.len() > 2 {
        let (a, b) = (random.below(parts.len()), random.below(parts.len()));
        parts.swap(a, b);
        *out = parts.join(&b',');
    }
}

fn lines() -> Vec<Vec<u8>> {
    let names =
        ["failed-logins.log", "secret-harvest.log", "cluster-admin.log", "full-attack.log.gz", "quiet-day.log.gz"];
    let mut lines: Vec<String> = names.iter().flat_map(|name| sample(name)).collect();
    lines.extend(three_servers());
    lines.extend(synthetic(11, 300));
    lines.into_iter().map(String::into_bytes).collect()
}

/// One input, out of its number.
fn input(seed: u64, step: u64, lines: &[Vec<u8>], rules: &[Vec<u8>]) -> (Vec<u8>, String) {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9) ^ step.rotate_left(32));
    let mut log = Vec::new();
    for _ in 0..1 + random.below(4) {
        let base = random.pick(lines);
        match random.below(4) {
            0 => log.extend_from_slice(base),
            _ => log.extend(changed(base, lines, &mut random)),
        }
    }
    let rule = changed(random.pick::<Vec<u8>>(rules), rules, &mut random);
    (log, String::from_utf8_lossy(&rule).into_owned())
}

/// Runs all properties on the inputs of a seed; an input that breaks one is kept for who has to look at it.
fn fuzz(seed: u64, more: impl Fn(u64) -> bool) -> u64 {
    let (lines, mut step) = (lines(), 0);
    let rules: Vec<Vec<u8>> = DETECTIONS.iter().map(|file| file.text.clone().into_bytes()).collect();
    while more(step) {
        let (log, rule) = input(seed, step, &lines, &rules);
        let held = catch_unwind(AssertUnwindSafe(|| {
            properties::differential(&log);
            properties::envelopes(&log);
            properties::rules(&rule);
        }));
        if let Err(why) = held {
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{seed}-{step}"));
            fs::write(kept.with_extension("log"), &log).unwrap();
            fs::write(kept.with_extension("yml"), &rule).unwrap();
            eprintln!("seed {seed}, step {step}: {}.log, .yml", kept.display());
            resume_unwind(why);
        }
        step += 1;
    }
    step
}

#[test]
fn changed_logs_and_rules_break_nothing() {
    assert_eq!(fuzz(1, |step| step < 150), 150);
}

#[test]
#[ignore = "takes as long as FUZZ_SECONDS says"]
fn for_long() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (seconds, seed) = (number("FUZZ_SECONDS", 60), number("FUZZ_SEED", 2));
    let end = Instant::now() + Duration::from_secs(seconds);
    let steps = fuzz(seed, |_| Instant::now() < end);
    eprintln!("seed {seed}: {steps} inputs in {seconds} s, nothing found");
}
