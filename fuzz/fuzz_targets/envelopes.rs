#![no_main]

#[path = "../properties.rs"]
#[allow(dead_code, reason = "other targets use the rest of it")]
mod properties;

fn root() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::envelopes(data));
