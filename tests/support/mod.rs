//! What the tests of the command line share: running it, and logs made up for it.

pub mod daemon;
pub mod kafka;
pub mod logs;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// What a run of the program gave.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// The alerts of `--format json`.
    pub fn alerts(&self) -> Vec<Value> {
        assert_eq!(self.code, Some(0), "{}", self.err);
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The alerts without the one field that may differ between replays of the same events.
    pub fn alerts_but_source(&self) -> Vec<Value> {
        let mut alerts = self.alerts();
        alerts.iter_mut().for_each(|alert| drop(alert.as_object_mut().unwrap().remove("source")));
        alerts
    }
}

/// The program, in the repository's root, without settings of the environment.
pub fn auditwatch() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auditwatch"));
    command.current_dir(root()).stdin(Stdio::null());
    let ours = |name: &OsStr| name.to_string_lossy().starts_with("AUDITWATCH_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
    command.env_remove("COLUMNS").env_remove("NO_COLOR");
    command
}

/// Runs a command to its end.
pub fn ran(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Replays files and returns the alerts but their source.
pub fn replay<S: AsRef<OsStr>>(args: &[&str], files: impl IntoIterator<Item = S>) -> Vec<Value> {
    let ran = ran(auditwatch().args(["replay", "-q", "--format", "json"]).args(args).args(files));
    ran.alerts_but_source()
}

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// Holds `got` against a file of the repository, or writes it there if `UPDATE_EXPECTED` is set.
pub fn expect_file(path: &str, got: &str) {
    let file = root().join(path);
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(file, got).unwrap();
        return;
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    let line = expected.lines().zip(got.lines()).position(|(a, b)| a != b);
    let line = line.unwrap_or(expected.lines().count().min(got.lines().count()));
    let at = |text: &str| text.lines().nth(line).unwrap_or("(no line)").to_owned();
    assert!(
        expected == got,
        "{path}:{}: expected\n{}\nbut got\n{}\nIf this is right: UPDATE_EXPECTED=1 cargo test --test all samples",
        line + 1,
        at(&expected),
        at(got)
    );
}
