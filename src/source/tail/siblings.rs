//! The files that a log leaves behind when it is rotated, by the names that are in use:
//! `audit-2026-11-23T10-00-00.000.log` (lumberjack, so kube-apiserver), `audit.log.1` and `audit.log-20261123` (logrotate),
//! `0.log.20261123-100000` (kubelet), each also compressed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::identity::Node;

/// A file of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) path: PathBuf,
    pub(super) node: Node,
    /// Whether it is the log itself, which grows.
    pub(super) is_base: bool,
}

impl Candidate {
    /// Whether its name still stands for it.
    pub(super) fn is_there(&self) -> bool {
        node(&self.path) == Some(self.node)
    }
}

/// Where a rotated file stands among its siblings; the least is the oldest. Names tell no order between the two kinds: a
/// log that is rotated in both ways at once is read out of order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Age {
    /// By the time or day in its name.
    Time(String),
    /// By its number, the highest of which is the oldest.
    Number(std::cmp::Reverse<u64>),
}

/// How often a folder is read in which files are renamed meanwhile.
const LOOKS_MAX: usize = 8;

/// All files of a log, oldest first, the log itself last.
pub(super) fn list(base: &Path) -> Vec<Candidate> {
    // A file that is renamed while its folder is read may be missed under both names. What is seen twice stood still.
    let mut seen = look(base);
    for _ in 1..LOOKS_MAX {
        let again = look(base);
        if again == seen {
            break;
        }
        seen = again;
    }
    seen
}

fn look(base: &Path) -> Vec<Candidate> {
    let mut found: Vec<(Age, Candidate)> = Vec::new();
    let real = fs::canonicalize(base).ok().filter(|real| real != base);
    for log in [Some(base), real.as_deref()].into_iter().flatten() {
        let folder = log.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            let Some(age) = name(&path).and_then(|sibling| age(name(log)?, sibling)) else { continue };
            let Some(node) = node(&path) else { continue };
            if found.iter().all(|(_, known)| known.node != node) {
                found.push((age, Candidate { path, node, is_base: false }));
            }
        }
    }
    found.sort_by(|(a, x), (b, y)| a.cmp(b).then_with(|| x.path.cmp(&y.path)));
    let mut files: Vec<Candidate> = found.into_iter().map(|(_, candidate)| candidate).collect();
    // While a file is being compressed it is whole, and what it is to become is not.
    let plain: BTreeSet<PathBuf> = files.iter().map(|file| file.path.clone()).collect();
    files.retain(|file| uncompressed_path(&file.path).is_none_or(|path| !plain.contains(&path)));
    if let Some(node) = node(base) {
        files.retain(|file| file.node != node);
        files.push(Candidate { path: base.to_owned(), node, is_base: true });
    }
    files
}

/// The log that a rotated file belongs to, if its name is one of a rotated file's.
pub(super) fn base_of(path: &Path) -> Option<PathBuf> {
    let plain = uncompressed(name(path)?);
    let mut splits = plain.match_indices(['.', '-']).map(|(at, _)| (&plain[..at], &plain[at + 1..]));
    let numbered = splits.find(|(log, suffix)| log.contains('.') && (is_number(suffix) || is_day(suffix)));
    let base = match numbered {
        Some((log, _)) => log.to_owned(),
        None => {
            let (stem, ending) = plain.rsplit_once('.')?;
            let at = stem.len().checked_sub(STAMP.len() + 1)?;
            let stamp = stem.get(at..)?.strip_prefix('-')?;
            if at == 0 || !is_stamp(stamp) {
                return None;
            }
            format!("{}.{ending}", &stem[..at])
        }
    };
    Some(path.with_file_name(base))
}

fn age(base: &str, sibling: &str) -> Option<Age> {
    let plain = uncompressed(sibling);
    if let Some(suffix) = plain.strip_prefix(base) {
        let number = suffix.strip_prefix('.').filter(|n| n.len() < 8 && is_number(n)).and_then(|n| n.parse().ok());
        let day = suffix.strip_prefix(['-', '.']).filter(|day| is_day(day));
        return number.map(|n| Age::Number(std::cmp::Reverse(n))).or(day.map(|day| Age::Time(day.to_owned())));
    }
    let (stem, ending) = base.rsplit_once('.').unwrap_or((base, ""));
    let stamp = plain.strip_prefix(stem)?.strip_prefix('-')?.strip_suffix(ending)?;
    let stamp = if ending.is_empty() { stamp } else { stamp.strip_suffix('.')? };
    is_stamp(stamp).then(|| Age::Time(stamp.to_owned()))
}

/// How lumberjack writes a time; a zero stands for any digit.
const STAMP: &str = "0000-00-00T00-00-00.000";

fn is_stamp(text: &str) -> bool {
    let fits = |(is, should): (u8, u8)| if should == b'0' { is.is_ascii_digit() } else { is == should };
    text.len() == STAMP.len() && text.bytes().zip(STAMP.bytes()).all(fits)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// A day, as a rule with a time behind it.
fn is_day(text: &str) -> bool {
    text.get(..8).is_some_and(is_number) && text.bytes().all(|b| b.is_ascii_digit() || b == b'-')
}

/// The file that a compressed one was made of, if it is one by its name.
fn uncompressed_path(path: &Path) -> Option<PathBuf> {
    let plain = name(path).map(uncompressed).filter(|plain| Some(*plain) != name(path))?;
    Some(path.with_file_name(plain))
}

fn uncompressed(name: &str) -> &str {
    [".gz", ".zst"].iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name)
}

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

fn node(path: &Path) -> Option<Node> {
    fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|found| Node::of(&found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_rotated_files_by_name() {
        for (file, base) in [
            ("/l/audit-2026-11-23T10-00-00.123.log", Some("/l/audit.log")),
            ("/l/audit-2026-11-23T10-00-00.123.log.gz", Some("/l/audit.log")),
            ("/l/audit.log.1", Some("/l/audit.log")),
            ("/l/audit.log.12.gz", Some("/l/audit.log")),
            ("/l/audit.log-20261123.zst", Some("/l/audit.log")),
            ("/l/0.log.20261123-100000", Some("/l/0.log")),
            ("/l/0.log.20261123-100000.gz", Some("/l/0.log")),
            ("/l/audit.log-20261123-1795430000.gz", Some("/l/audit.log")),
            ("/l/audit.log", None),
            ("/l/audit-1.log", None),
            ("/l/kube-apiserver-10", None),
            ("/l/-2026-11-23T10-00-00.123.log", None),
        ] {
            assert_eq!(base_of(Path::new(file)), base.map(PathBuf::from), "{file}");
        }
    }

    #[test]
    fn lists_them_oldest_first() {
        let dir = tempfile::tempdir().unwrap();
        let names = [
            "audit-2026-11-22T10-00-00.123.log.gz",
            "audit-2026-11-23T09-00-00.000.log",
            "audit.log.20261123-100000",
            "audit.log.10",
            "audit.log.9.gz",
            "audit.log",
        ];
        // What is being compressed is read in one piece.
        fs::write(dir.path().join("audit-2026-11-23T09-00-00.000.log.gz"), "half").unwrap();
        for name in names.iter().rev().chain(&["other.log", "audit-x.log", "audit.log.bak", "audit.log.tmp"]) {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let listed = |base: &Path| -> Vec<String> {
            list(base).into_iter().map(|c| c.path.file_name().unwrap().to_string_lossy().into_owned()).collect()
        };
        assert_eq!(listed(&dir.path().join("audit.log")), names);
        // Along a symlink, the files beside the link and those beside the log itself are one log.
        let links = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(dir.path().join("audit.log"), links.path().join("audit.log")).unwrap();
        assert_eq!(listed(&links.path().join("audit.log")), names);
    }
}
