//! Writes an audit log, or rules, made up from a seed: `cargo run --example generate -- 500MiB 42 > big.log`.
#![allow(clippy::disallowed_methods, clippy::print_stderr, reason = "a program of its own")]

#[path = "../benches/support/generate.rs"]
#[allow(dead_code, reason = "benches use the rest of it")]
mod generate;

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use auditwatch::config::size_bytes;

const USAGE: &str = "usage: generate SIZE|COUNT SEED [metadata|rules]   (SIZE as in 500MiB; COUNT of rules)";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (Some(size), Some(seed)) = (args.first(), args.get(1).and_then(|seed| seed.parse().ok())) else {
        eprintln!("{USAGE}");
        return ExitCode::from(3);
    };
    let Ok(size) = size_bytes(size) else {
        eprintln!("{USAGE}");
        return ExitCode::from(3);
    };
    let what = args.get(2).map(String::as_str);
    match write(size, seed, what) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("generate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(size: usize, seed: u64, what: Option<&str>) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    if what == Some("rules") {
        out.write_all(generate::rules(size, seed).as_bytes())?;
        return out.flush();
    }
    let mut generator = generate::Generator::new(seed, what == Some("metadata"));
    let (mut line, mut written) = (String::new(), 0);
    while written < size {
        line.clear();
        generator.line(&mut line);
        out.write_all(line.as_bytes())?;
        written += line.len();
    }
    out.flush()
}
