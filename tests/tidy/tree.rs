//! The files of the crate, found as the compiler finds them: along `mod` declarations.

use std::fs;
use std::path::{Path, PathBuf};

use super::items::modules;
use super::lexer::code_of;

/// A file of the crate.
#[derive(Debug)]
pub struct SourceFile {
    /// From the crate's folder, with slashes.
    pub name: String,
    /// As written.
    pub source: String,
    /// Without comments and literals.
    pub code: String,
    /// Whether it is compiled for tests only.
    pub is_test: bool,
}

impl SourceFile {
    pub fn new(name: &str, source: &str, is_test: bool) -> SourceFile {
        SourceFile { name: name.to_owned(), source: source.to_owned(), code: code_of(source), is_test }
    }

    /// The module's path: `src/event/view.rs` is `event::view`.
    fn module(&self) -> Vec<&str> {
        let inside = self.name.strip_prefix("src/").unwrap_or_default();
        let inside = inside.strip_suffix("/mod.rs").or_else(|| inside.strip_suffix(".rs")).unwrap_or_default();
        inside.split('/').filter(|part| !matches!(*part, "" | "lib" | "main")).collect()
    }

    /// The module of the pipeline that the file belongs to; none for `lib.rs`, `main.rs` and integration tests.
    pub fn top_module(&self) -> Option<&str> {
        self.module().first().copied()
    }

    /// Where a path leads within the crate; `None` if it leads elsewhere.
    pub fn in_crate(&self, path: &[String]) -> Option<Vec<String>> {
        let supers = path.iter().take_while(|part| *part == "super").count();
        let rest = match path[0].as_str() {
            "crate" => &path[1..],
            "super" => &path[supers..],
            _ => return None,
        };
        let above = if supers > 0 { self.module() } else { Vec::new() };
        let above = &above[..above.len().saturating_sub(supers)];
        let full: Vec<String> = above.iter().map(|part| (*part).to_owned()).chain(rest.iter().cloned()).collect();
        (!full.is_empty()).then_some(full)
    }
}

/// Every file that the library, the binary and the integration tests are made of.
pub fn crate_files() -> Vec<SourceFile> {
    let mut files = Vec::new();
    for (root, is_test) in [("src/lib.rs", false), ("src/main.rs", false), ("tests/main.rs", true)] {
        visit(Path::new(root), is_test, &mut files);
    }
    files
}

/// The crate's folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn visit(path: &Path, is_test: bool, files: &mut Vec<SourceFile>) {
    let name = path.to_string_lossy().replace('\\', "/");
    let source = fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let file = SourceFile::new(&name, &source, is_test);
    for declared in modules(&file.code, &file.source) {
        visit(&place(path, &declared.name, declared.path.as_deref()), is_test || declared.is_test, files);
    }
    files.push(file);
}

/// The file of a module declared in `path`.
fn place(path: &Path, module: &str, told: Option<&str>) -> PathBuf {
    let beside = path.parent().unwrap_or(Path::new(""));
    if let Some(told) = told {
        return beside.join(told);
    }
    let below = match path.file_stem().and_then(|stem| stem.to_str()) {
        Some("mod" | "lib" | "main") | None => beside.to_owned(),
        Some(stem) => beside.join(stem),
    };
    let file = below.join(format!("{module}.rs"));
    if root().join(&file).exists() { file } else { below.join(module).join("mod.rs") }
}

#[test]
fn paths_lead_where_the_compiler_says() {
    let lead = |name: &str, path: &str| {
        let path: Vec<String> = path.split("::").map(str::to_owned).collect();
        SourceFile::new(name, "", false).in_crate(&path).map(|path| path.join("::"))
    };
    assert_eq!(lead("src/event/view.rs", "super::json::Doc").as_deref(), Some("event::json::Doc"));
    assert_eq!(lead("src/event/mod.rs", "super::rules::Level").as_deref(), Some("rules::Level"));
    assert_eq!(lead("src/worker.rs", "super::cli").as_deref(), Some("cli"));
    assert_eq!(lead("src/engine/window/lane.rs", "super::super::text").as_deref(), Some("engine::text"));
    assert_eq!(lead("src/engine/index.rs", "crate::rules::expr").as_deref(), Some("rules::expr"));
    assert_eq!(lead("src/engine/index.rs", "std::fs"), None);
    assert_eq!(place(Path::new("src/a.rs"), "b", Some("a_tests.rs")), Path::new("src/a_tests.rs"));
    assert_eq!(place(Path::new("src/pipeline.rs"), "summary", None), Path::new("src/pipeline/summary.rs"));
    assert_eq!(place(Path::new("src/lib.rs"), "event", None), Path::new("src/event/mod.rs"));
}
