//! Tells cargo what is compiled in besides the sources.

fn main() {
    println!("cargo:rerun-if-changed=detections");
}
