//! Broken files and arguments: each is refused with a message that says what is wrong, where, and what to do; nothing is
//! written, and the exit code says so. One table per kind of input.

mod adapters;
mod arguments;
mod base;
mod folders;
mod interventions;
mod prompts;
mod study;
use crate::support::{Bench, snapshot, words};

/// One way to be wrong.
pub struct Case {
    /// What is wrong, in a few words.
    name: &'static str,
    /// The command line, in the folder of a fresh bench.
    line: &'static str,
    /// Breaks the bench.
    spoil: fn(&Bench),
    /// What the program must say, word for word; line breaks count as they are.
    says: &'static str,
}

/// A command line that works on a fresh bench.
pub const RUN: &str = "decide --base ./base --adapter lora=./lora --prompts prompts.json --out out";
/// Another.
pub const STUDY: &str = "study study.toml --out out";

/// A case of the command line alone.
pub const fn words_only(name: &'static str, line: &'static str, says: &'static str) -> Case {
    Case { name, line, spoil: |_| {}, says }
}

/// Runs all cases and reports every one that goes wrong, not only the first. With `may_begin`, a run
/// folder that the same command goes on with may be left.
fn refuses_all(cases: &[Case], may_begin: bool) {
    let mut problems = Vec::new();
    for case in cases {
        let Some(bench) = Bench::new() else { return };
        (case.spoil)(&bench);
        let before = snapshot(bench.dir());
        let outcome = bench.run(&words(case.line));
        let mut complain =
            |what: &str| problems.push(format!("{}: {what}\n--- it said\n{}", case.name, outcome.stderr));
        if outcome.ok {
            complain("it was accepted");
        }
        if !outcome.stderr.starts_with("error: ") {
            complain("no line `error: …`");
        }
        if !unwrapped(&outcome.stderr).contains(case.says) {
            complain(&format!("expected\n{}", case.says));
        }
        if outcome.stderr.contains("panicked") || outcome.stderr.contains("RUST_BACKTRACE") {
            complain("it panicked");
        }
        // A lock is no result, and the next run takes it over.
        let mut after = snapshot(bench.dir());
        after.retain(|path, _| before.contains_key(path) || !path.ends_with(".lock"));
        if after != before && !may_begin {
            complain("it wrote or changed files");
        }
    }
    assert!(problems.is_empty(), "{} of {} cases:\n\n{}", problems.len(), cases.len(), problems.join("\n\n"));
}

/// The parser of arguments breaks lines at the terminal's width and indents the rest.
fn unwrapped(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", line.trim_start())).collect()
}

#[test]
fn the_bench_itself_is_accepted() {
    let Some(bench) = Bench::new() else { return };
    bench.must(&words(RUN));
    let Some(bench) = Bench::new() else { return };
    bench.must(&words(STUDY));
}

#[test]
fn base_models() {
    refuses_all(base::CASES, false);
    refuses_all(base::FOUND_WHILE_RUNNING, true);
}

#[test]
fn adapters_of_a_base() {
    refuses_all(adapters::CASES, false);
}

#[test]
fn prompt_files() {
    refuses_all(prompts::CASES, false);
}

#[test]
fn study_files() {
    refuses_all(study::CASES, false);
}

#[test]
fn arguments_of_the_command_line() {
    refuses_all(arguments::CASES, false);
}

#[test]
fn settings_of_interventions() {
    refuses_all(interventions::CASES, false);
}

#[test]
fn output_folders() {
    refuses_all(folders::CASES, false);
}
