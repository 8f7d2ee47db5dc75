//! What the fuzzer has found worth keeping, put to every reader again: the corpora, inputs that once broke something, and all of them
//! cut short and with bits flipped.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

use lorascope_hostile::{TARGETS, Target};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Changed versions of each input.
const CUTS: usize = 4;
const FLIPS: usize = 4;

/// Inputs above this are replayed as they are: changing a few of a model's many weights finds little.
const CHANGED_UP_TO: usize = 16 << 10;

/// No input may take longer, on however busy a machine; on a free one the longest are questions that an engine answers, and templates
/// that are given up after five seconds.
const LONGEST: Duration = Duration::from_secs(180);

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn inputs(kind: &str, target: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(fuzz().join(kind).join(target)) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn put(target: Target, input: &[u8], what: impl Fn() -> String) {
    let begun = Instant::now();
    if catch_unwind(AssertUnwindSafe(|| target(input))).is_err() {
        panic!("{} broke it", what());
    }
    assert!(begun.elapsed() < LONGEST, "{} took {:?}", what(), begun.elapsed());
}

/// A number below `n` that depends on a seed (SplitMix64, Steele, Lea and Flood 2014).
fn below(seed: u64, n: usize) -> usize {
    let mixed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((mixed ^ (mixed >> 31)) % n.max(1) as u64) as usize
}

fn changed(input: &[u8], number: usize) -> Vec<u8> {
    let seed = (input.len() * 64 + number) as u64;
    if number < CUTS {
        return input[..below(seed, input.len())].to_vec();
    }
    let mut bytes = input.to_vec();
    bytes[below(seed, input.len())] ^= 1 << below(seed + 1, 8);
    bytes
}

fn replay(name: &str) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    let (corpus, regressions) = (inputs("corpus", name), inputs("regressions", name));
    assert!(corpus.len() >= 5, "{} inputs in the corpus of {name}", corpus.len());
    for path in corpus.iter().chain(&regressions) {
        let input = fs::read(path).unwrap();
        put(*target, &input, || path.display().to_string());
        // A question is answered by a live engine; and what once hung may hang until its time is up.
        let as_it_is = name == "question" || regressions.contains(path);
        if as_it_is || input.is_empty() || input.len() > CHANGED_UP_TO {
            continue;
        }
        for number in 0..CUTS + FLIPS {
            put(*target, &changed(&input, number), || format!("{}, change {number}", path.display()));
        }
    }
    println!("{name}: {} inputs of the corpus, {} regressions", corpus.len(), regressions.len());
}

macro_rules! replayed {
    ($($name:ident),*) => {
        $(#[test] fn $name() { replay(stringify!($name)); })*

        #[test]
        fn every_target_is_replayed_and_fuzzed() {
            let replayed = [$(stringify!($name)),*];
            for (name, _) in TARGETS {
                assert!(replayed.contains(&name), "{name} is not replayed");
                assert!(fuzz().join(format!("fuzz_targets/{name}.rs")).exists(), "{name} is not fuzzed");
            }
        }
    };
}

replayed!(adapter, config, gguf, prompts, question, resume, safetensors, study, template, tokenizer);
