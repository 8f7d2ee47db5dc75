//! Hostile input: for each reader of files and requests, one function that puts bytes to it as the program would.
//!
//! The fuzzer (`fuzz/`) and the replay tests call the same functions, so that what was found once stays found. A function
//! returns whatever the input is; it panics only where the program would, or where a promise about accepted input breaks.
//!
//! It is not: a judge of messages. What exactly is said about a broken file is tested beside its reader.

#![allow(clippy::expect_used, reason = "only the harness's own files and the embedded model can fail it")]

mod explorer;
mod models;
mod runs;
mod text;

pub use explorer::question;
pub use models::{adapter, config, gguf, safetensors};
pub use runs::{resume, study};
pub use text::{prompts, template, tokenizer};

/// A target: takes any bytes.
pub type Target = fn(&[u8]);

/// All targets by name. `fuzz/fuzz_targets/NAME.rs` and `fuzz/corpus/NAME/` belong to each.
pub const TARGETS: [(&str, Target); 10] = [
    ("adapter", adapter),
    ("config", config),
    ("gguf", gguf),
    ("prompts", prompts),
    ("question", question),
    ("resume", resume),
    ("safetensors", safetensors),
    ("study", study),
    ("template", template),
    ("tokenizer", tokenizer),
];

/// Panics that a reader catches itself (some libraries have no other way to refuse) are no finding: from now on they are not written
/// out, and the fuzzer's hook, which would end the process, is gone. What nobody catches still ends it.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|_| {}));
}

/// Between the files of an input that stands for several. No UTF-8 text has this byte.
pub const SEPARATOR: u8 = 0xff;

/// The first file of an input, and what follows its separator, if there is one.
fn files(data: &[u8]) -> (&[u8], Option<&[u8]>) {
    match data.iter().position(|byte| *byte == SEPARATOR) {
        Some(at) => (&data[..at], Some(&data[at + 1..])),
        None => (data, None),
    }
}

/// A folder with these files, which goes when it is dropped.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).expect("a file in the temporary folder");
    }
    folder
}

/// What is said of refused input is said to a person: never nothing, and never longer than a few screens.
fn assert_is_told(message: &str) {
    assert!(!message.is_empty(), "an error without words");
    assert!(message.len() < 100_000, "an error of {} bytes", message.len());
}
