//! Arguments in (files, folders, globs, `-`), a sorted list of inputs out.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Input, InputKind};

/// What the arguments stand for.
#[derive(Debug, Default)]
pub struct Discovery {
    /// What to read, sorted by path (standard input first), each file once.
    pub inputs: Vec<Input>,
    /// What lay in the folders and is not read, sorted by path.
    pub skipped: Vec<Skipped>,
}

/// Something in a folder that is not read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skipped {
    /// Where it lies.
    pub path: PathBuf,
    /// Why it is not read.
    pub why: String,
}

/// An argument that stands for nothing.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// There were no arguments.
    #[error("nothing to read: name a file, a folder, a glob, or - for standard input")]
    NoArguments,
    /// Neither a file nor a glob.
    #[error("{path}: {source}; name an existing file or folder, a glob, or - for standard input")]
    NotFound {
        /// The argument.
        path: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A glob that cannot be parsed.
    #[error("{pattern}: not a glob: {source}")]
    BadGlob {
        /// The argument.
        pattern: String,
        /// Where it is wrong.
        source: glob::PatternError,
    },
    /// A glob that matches nothing.
    #[error("{pattern}: no file matches this glob")]
    NoMatch {
        /// The argument.
        pattern: String,
    },
    /// Folders without a log.
    #[error("{arguments}: no log found; in a folder, files are read whose names have .log, .jsonl or .json in them")]
    NoLogs {
        /// All arguments.
        arguments: String,
    },
}

/// Finds what the arguments stand for. The order of the arguments does not matter.
pub fn discover(arguments: &[String]) -> Result<Discovery, DiscoverError> {
    if arguments.is_empty() {
        return Err(DiscoverError::NoArguments);
    }
    let mut walk = Walk::default();
    for argument in arguments {
        walk.argument(argument)?;
    }
    let discovery = walk.finish();
    if discovery.inputs.is_empty() {
        return Err(DiscoverError::NoLogs { arguments: arguments.join(" ") });
    }
    Ok(discovery)
}

#[derive(Default)]
struct Walk {
    stdin: bool,
    files: Vec<PathBuf>,
    skipped: Vec<Skipped>,
    /// Canonical paths of folders already read: a symlink may lead back into one of them.
    folders: HashSet<PathBuf>,
}

impl Walk {
    fn argument(&mut self, argument: &str) -> Result<(), DiscoverError> {
        if argument == "-" {
            self.stdin = true;
            return Ok(());
        }
        let path = Path::new(argument);
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => self.folder(path),
            Ok(_) => self.files.push(path.to_owned()),
            Err(_) if argument.contains(['*', '?', '[']) => self.glob(argument)?,
            Err(source) => return Err(DiscoverError::NotFound { path: argument.to_owned(), source }),
        }
        Ok(())
    }

    fn glob(&mut self, pattern: &str) -> Result<(), DiscoverError> {
        let paths =
            glob::glob(pattern).map_err(|source| DiscoverError::BadGlob { pattern: pattern.to_owned(), source })?;
        let mut any = false;
        for found in paths {
            any = true;
            match found {
                Ok(path) if path.is_dir() => self.folder(&path),
                Ok(path) => self.files.push(path),
                Err(error) => self.skip(error.path(), format!("cannot be read: {}", error.error())),
            }
        }
        if any { Ok(()) } else { Err(DiscoverError::NoMatch { pattern: pattern.to_owned() }) }
    }

    /// Reads a folder and those below it. A list of folders to do instead of recursion: depth costs no stack.
    fn folder(&mut self, root: &Path) {
        let mut todo = vec![root.to_owned()];
        while let Some(folder) = todo.pop() {
            let entries = fs::canonicalize(&folder).and_then(|canonical| {
                let new = self.folders.insert(canonical);
                new.then(|| fs::read_dir(&folder)).transpose()
            });
            match entries {
                Ok(None) => {}
                Ok(Some(entries)) => {
                    for entry in entries {
                        match entry {
                            Ok(entry) => self.entry(entry.path(), &mut todo),
                            Err(error) => self.skip(&folder, format!("cannot be read: {error}")),
                        }
                    }
                }
                Err(error) => self.skip(&folder, format!("cannot be read: {error}")),
            }
        }
    }

    fn entry(&mut self, path: PathBuf, todo: &mut Vec<PathBuf>) {
        let name = path.file_name().map(|n| n.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        if name.starts_with('.') {
            return self.skip(&path, "a dot-file".to_owned());
        }
        // Follows symlinks: log folders of Kubernetes nodes are full of them.
        match fs::metadata(&path) {
            Ok(found) if found.is_dir() && name == "expected" => self.skip(&path, "holds expected results".to_owned()),
            Ok(found) if found.is_dir() => todo.push(path),
            Ok(found) if !found.is_file() => self.skip(&path, "not a regular file".to_owned()),
            Ok(_) if name.contains(".log") || name.contains(".json") => self.files.push(path),
            Ok(_) => self.skip(&path, "no .log, .jsonl or .json in its name".to_owned()),
            Err(error) => self.skip(&path, format!("cannot be read: {error}")),
        }
    }

    fn skip(&mut self, path: &Path, why: String) {
        self.skipped.push(Skipped { path: path.to_owned(), why });
    }

    /// Sorts, then drops repeats, so that of two names of one file the same one stays whatever the arguments' order.
    fn finish(mut self) -> Discovery {
        self.files.sort();
        self.skipped.sort();
        self.skipped.dedup();
        let mut seen = HashSet::new();
        let mut inputs: Vec<Input> = Vec::with_capacity(self.files.len() + 1);
        inputs.extend(self.stdin.then(Input::stdin));
        for path in self.files {
            // `a/./b` compares equal to `a/b`: one spelling, whichever was named first.
            let path: PathBuf = path.components().collect();
            let canonical = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
            if seen.insert(canonical) {
                inputs.push(Input::path(path));
            }
        }
        Discovery { inputs, skipped: self.skipped }
    }
}

/// The bytes that all inputs hold on disk, if every one of them is a regular file.
pub fn total_bytes(inputs: &[Input]) -> Option<u64> {
    let mut total = 0;
    for input in inputs {
        match &input.kind {
            InputKind::Stdin => return None,
            InputKind::Path(path) => match fs::metadata(path) {
                Ok(found) if found.is_file() => total += found.len(),
                Ok(_) => return None,
                Err(_) => {}
            },
        }
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(root: &Path, found: &Discovery) -> Vec<String> {
        let short = |i: &Input| i.name.replace(&format!("{}/", root.display()), "");
        found.inputs.iter().map(short).collect()
    }

    fn touch(root: &Path, name: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "{}\n").unwrap();
    }

    fn args(root: &Path, names: &[&str]) -> Vec<String> {
        names.iter().map(|n| if *n == "-" { "-".into() } else { root.join(n).to_string_lossy().into_owned() }).collect()
    }

    #[test]
    fn reads_a_folder_recursively_and_says_what_it_skips() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for name in [
            "audit.log",
            "audit.log.1.gz",
            "b/x.jsonl.zst",
            "b/y.JSON",
            "b/README.md",
            ".hidden.log",
            "expected/a.json",
            "b/c/d/audit-2026.log.gz",
        ] {
            touch(root, name);
        }
        std::os::unix::fs::symlink(root, root.join("b/loop")).unwrap();
        std::os::unix::fs::symlink(root.join("nowhere"), root.join("dangling.log")).unwrap();
        let found = discover(&[root.to_string_lossy().into_owned()]).unwrap();
        assert_eq!(
            names(root, &found),
            ["audit.log", "audit.log.1.gz", "b/c/d/audit-2026.log.gz", "b/x.jsonl.zst", "b/y.JSON"]
        );
        let skipped: Vec<_> =
            found.skipped.iter().map(|s| s.path.strip_prefix(root).unwrap().to_str().unwrap().to_owned()).collect();
        assert_eq!(skipped, [".hidden.log", "b/README.md", "dangling.log", "expected"]);
        assert_eq!(total_bytes(&found.inputs), Some(15));
    }

    #[test]
    fn takes_each_file_once_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for name in ["b.log", "a.log", "notes.txt"] {
            touch(root, name);
        }
        let found = discover(&args(root, &["b.log", "*.log", "-", "a.log", "./b.log", "notes.txt", "-"])).unwrap();
        assert_eq!(names(root, &found), ["-", "a.log", "b.log", "notes.txt"]);
        assert_eq!(total_bytes(&found.inputs), None);
    }

    #[test]
    fn says_what_is_wrong_with_an_argument() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert!(matches!(discover(&[]), Err(DiscoverError::NoArguments)));
        assert!(matches!(discover(&args(root, &["no.log"])), Err(DiscoverError::NotFound { .. })));
        assert!(matches!(discover(&args(root, &["*.log"])), Err(DiscoverError::NoMatch { .. })));
        assert!(matches!(discover(&args(root, &["[.log"])), Err(DiscoverError::BadGlob { .. })));
        assert!(matches!(discover(&args(root, &["."])), Err(DiscoverError::NoLogs { .. })));
    }
}
