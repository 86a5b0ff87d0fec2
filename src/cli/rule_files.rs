//! Which rule files are loaded: those compiled in, or those of `--rules`, and those of `--add-rules`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use include_dir::{Dir, include_dir};

use crate::rules::pack::Pack;
use crate::rules::yaml::Node;

static DETECTIONS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/detections");

/// The documents of those files, as the build script has read them: to read them at every start would cost more time
/// than most replays take.
static DOCUMENTS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/detections.postcard"));

/// A rule file: its name, as diagnostics tell it, and its text.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleFile {
    /// The path, or `detections/…` for one that is compiled in.
    pub name: String,
    /// YAML.
    pub text: String,
    /// The documents of the text, if they were read when this program was built.
    pub documents: Option<Vec<Node>>,
}

/// Loads the compiled-in detections unless `rules` replaces them, then what `add` names. Files are sorted by name.
pub fn collect(rules: &[PathBuf], add: &[PathBuf]) -> anyhow::Result<Vec<RuleFile>> {
    let mut files = Vec::new();
    if rules.is_empty() {
        built_in(&DETECTIONS, is_rule, &mut files);
        add_documents(&mut files);
    }
    for path in rules.iter().chain(add) {
        let before = files.len();
        read(path, is_rule, &mut files)?;
        if files.len() == before {
            bail!("rules: {}: no .yml or .yaml file in this folder", path.display());
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    // A file named twice (or a folder and a file in it) is one file.
    files.dedup_by(|a, b| a.name == b.name);
    Ok(files)
}

/// The texts of the compiled-in detections.
pub fn built_in_texts() -> impl Iterator<Item = &'static str> {
    let mut todo = vec![&DETECTIONS];
    let folders = std::iter::from_fn(move || {
        let folder = todo.pop()?;
        todo.extend(folder.dirs());
        Some(folder)
    });
    folders.flat_map(Dir::files).filter(|file| is_rule(file.path())).filter_map(|file| file.contents_utf8())
}

/// The tests of the compiled-in detections, sorted by name.
pub fn built_in_tests() -> Vec<RuleFile> {
    let mut files = Vec::new();
    built_in(&DETECTIONS, is_test, &mut files);
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files
}

/// The test files among these paths; a folder's are found below it, and a rule file stands for the one beside it, if there
/// is one.
pub fn collect_tests(paths: &[PathBuf]) -> anyhow::Result<Vec<RuleFile>> {
    let mut files = Vec::new();
    for path in paths {
        let ending = path.extension().unwrap_or_default().to_string_lossy();
        let beside = path.with_extension(format!("test.{ending}"));
        let rule = is_rule(path) && path.is_file();
        if rule && !beside.exists() {
            continue;
        }
        read(if rule { &beside } else { path }, is_test, &mut files)?;
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files.dedup_by(|a, b| a.name == b.name);
    Ok(files)
}

fn built_in(dir: &Dir<'_>, wanted: fn(&Path) -> bool, files: &mut Vec<RuleFile>) {
    for file in dir.files().filter(|f| wanted(f.path())) {
        let text = file.contents_utf8().unwrap_or_default().to_owned();
        let name = Path::new("detections").join(file.path()).display().to_string();
        files.push(RuleFile { name, text, documents: None });
    }
    dir.dirs().for_each(|sub| built_in(sub, wanted, files));
}

/// Gives the compiled-in files their documents. A file that was not read, because something is wrong with it, is read
/// like any other.
fn add_documents(files: &mut [RuleFile]) {
    let known: Vec<(String, Vec<Node>)> = postcard::from_bytes(DOCUMENTS).unwrap_or_default();
    let mut known: HashMap<String, Vec<Node>> = known.into_iter().collect();
    for file in files {
        file.documents = known.remove(&file.name);
    }
}

/// A file is read whatever its name; a folder's wanted files are found below it.
fn read(path: &Path, wanted: fn(&Path) -> bool, files: &mut Vec<RuleFile>) -> anyhow::Result<()> {
    let found = fs::metadata(path).with_context(|| format!("rules: {}", path.display()))?;
    if !found.is_dir() {
        files.push(read_file(path)?);
        return Ok(());
    }
    let mut todo = vec![path.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("rules: {}", folder.display()))? {
            let path = entry?.path();
            // A symlink to a folder could lead back here; one to a file is fine.
            if path.is_dir() && !path.is_symlink() {
                todo.push(path);
            } else if wanted(&path) {
                files.push(read_file(&path)?);
            }
        }
    }
    Ok(())
}

fn read_file(path: &Path) -> anyhow::Result<RuleFile> {
    let text = fs::read_to_string(path).with_context(|| format!("rules: {}", path.display()))?;
    let name: PathBuf = path.components().collect();
    Ok(RuleFile { name: name.display().to_string(), text, documents: None })
}

/// `.yml` and `.yaml`, but not the tests beside them, and no dot-files.
fn is_rule(path: &Path) -> bool {
    is_yaml(path) == Some(false)
}

/// `.test.yml` and `.test.yaml`, and no dot-files.
pub fn is_test(path: &Path) -> bool {
    is_yaml(path) == Some(true)
}

/// Whether a YAML file is a test file.
fn is_yaml(path: &Path) -> Option<bool> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let yaml = [".yml", ".yaml"].iter().find(|ending| name.ends_with(**ending) && !name.starts_with('.'))?;
    Some(name.ends_with(&format!(".test{yaml}")))
}

/// Reads the name of a pack.
pub fn packs() -> impl TypedValueParser<Value = Pack> {
    // Only names of packs come this far.
    let named = |name: String| Pack::ALL.into_iter().find(|pack| pack.name() == name).unwrap_or(Pack::Extended);
    PossibleValuesParser::new(Pack::ALL.map(Pack::name)).map(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_were_read_as_they_would_be_now() {
        let files = collect(&[], &[]).unwrap();
        assert!(files.len() > 100);
        for file in files {
            assert_eq!((file.documents.unwrap(), Vec::new()), crate::rules::yaml::parse(&file.text), "{}", file.name);
        }
    }

    #[test]
    fn reads_rule_files_and_leaves_their_tests() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("b/c")).unwrap();
        for name in ["a.yml", "a.test.yml", "b/x.yaml", "b/c/y.yml", "b/.z.yml", "b/README.md", "odd.txt"] {
            fs::write(root.join(name), name).unwrap();
        }
        let texts = |paths: &[PathBuf]| -> Vec<String> {
            collect(paths, &[root.join("odd.txt"), root.join("a.yml")]).unwrap().into_iter().map(|f| f.text).collect()
        };
        assert_eq!(texts(&[root.to_owned()]), ["a.yml", "b/c/y.yml", "b/x.yaml", "odd.txt"]);
        assert_eq!(texts(&[root.join("b")]), ["a.yml", "b/c/y.yml", "b/x.yaml", "odd.txt"]);
        fs::create_dir(root.join("empty")).unwrap();
        assert!(collect(&[root.join("empty")], &[]).unwrap_err().to_string().contains("no .yml"));
        assert!(collect(&[root.join("nowhere")], &[]).is_err());
        assert!(collect(&[], &[]).unwrap().iter().all(|f| f.name.starts_with("detections/")));
    }
}
