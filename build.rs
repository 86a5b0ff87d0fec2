//! Reads the detections when the program is built, so that it need not at every start; and tells cargo what is compiled
//! in besides the sources.
#![allow(clippy::disallowed_methods, reason = "a build script reads and writes files")]

#[path = "src/rules/span.rs"]
mod span;
#[allow(dead_code, reason = "the program uses the rest of it")]
#[path = "src/rules/yaml/mod.rs"]
mod yaml;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=detections");
    println!("cargo:rerun-if-changed=src/rules/span.rs");
    println!("cargo:rerun-if-changed=src/rules/yaml");
    let mut documents = Vec::new();
    read(Path::new("detections"), &mut documents)?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("detections.postcard");
    fs::write(out, postcard::to_stdvec(&documents)?)?;
    Ok(())
}

/// The documents of all rule files below a folder. What is wrong with a file is told when the program loads it.
fn read(folder: &Path, documents: &mut Vec<(String, Vec<yaml::Node>)>) -> Result<(), Box<dyn Error>> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    entries.sort();
    for path in entries {
        let name = path.to_string_lossy().into_owned();
        if path.is_dir() {
            read(&path, documents)?;
        } else if name.ends_with(".yml") && !name.ends_with(".test.yml") {
            let (found, errors) = yaml::parse(&fs::read_to_string(&path)?);
            if errors.is_empty() {
                documents.push((name, found));
            }
        }
    }
    Ok(())
}
