//! Whole runs on a tiny model with two adapters: the files that are promised, what is in them, and that nothing but the
//! inputs decides about it.

use crate::support::{Bench, Csv, prompts, snapshot, words};
use lorascope_analyses::ANALYSES;
use lorascope_record::Table;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The words of an analysis on the bench with both adapters.
fn line(verb: &str, rest: &str) -> Vec<String> {
    words(&format!(
        "{verb} --base ./base --adapter lora=./lora --adapter dora=./dora --prompts prompts.json {rest}"
    ))
}

fn manifest(bench: &Bench, folder: &str) -> Value {
    serde_json::from_slice(&bench.read(&format!("{folder}/manifest.json"))).unwrap()
}

/// Tables and figures of a run.
fn results(bench: &Bench, folder: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = snapshot(&bench.path(folder));
    files.retain(|path, _| path.starts_with("tables") || path.starts_with("figures"));
    assert!(!files.is_empty());
    files
}

#[test]
fn a_study_writes_the_files_that_are_promised() {
    let Some(bench) = Bench::new() else { return };
    let said = bench.must(&words("study study.toml --out out")).stdout;
    assert_eq!(said, "out/report.html\n");
    let files: Vec<String> = snapshot(&bench.path("out")).keys().map(|p| p.display().to_string()).collect();
    let mut expected: Vec<String> =
        [".lock", "manifest.json", "prompts.json", "report.html", "report.json"].map(str::to_owned).into();
    for table in ["decision_parts", "decisions", "lens", "lens_decisions"] {
        expected.extend([format!("tables/{table}.csv"), format!("tables/{table}.parquet")]);
    }
    let manifest = manifest(&bench, "out");
    let listed = manifest["files"].as_object().unwrap();
    for figure in ["decisions", "legal_mass", "lens_trajectories"] {
        for ending in ["csv", "pdf", "png", "svg"] {
            expected.push(format!("figures/{figure}.{ending}"));
            assert!(listed.contains_key(expected.last().unwrap()), "{figure} is not in the manifest");
        }
    }
    for file in &expected {
        assert!(files.contains(file), "{file} is missing; there are {files:?}");
    }
    assert_eq!(manifest["finished"], json!(true));
    assert_eq!(manifest["analyses"], json!(["decide", "lens"]));
    let again = bench.must(&words("study study.toml --out out")).stdout;
    assert_eq!(again, "out is finished already; nothing to do\n");
}

/// A study that names no analyses carries out those that have something to do.
#[test]
fn a_study_of_a_base_alone_compares_nothing() {
    let Some(bench) = Bench::new() else { return };
    bench.text("study.toml", "base = './base'\nprompts = 'prompts.json'\n");
    let done = |rest: &str, folder: &str| -> Vec<String> {
        bench.must(&words(&format!("study study.toml {rest} --out {folder}")));
        serde_json::from_value(manifest(&bench, folder)["analyses"].clone()).unwrap()
    };
    let (alone, both) = (done("", "alone"), done("--adapter lora=./lora", "both"));
    for analysis in ANALYSES.iter().filter(|a| a.by_default()) {
        let name = analysis.name().to_owned();
        assert!(both.contains(&name), "{name}: {both:?}");
        let alone_too = ["decide", "validate", "lens", "dla", "attention", "probe"];
        let compares = !alone_too.contains(&analysis.name());
        assert_eq!(alone.contains(&name), !compares, "{name}: {alone:?}");
    }
}

#[test]
fn the_report_needs_no_other_file() {
    let Some(bench) = Bench::new() else { return };
    bench.must(&words("study study.toml --out out"));
    let page = String::from_utf8(bench.read("out/report.html")).unwrap();
    for outside in
        ["src=\"http", "href=\"http", "<link", "src=\"figures", "@import", "url(http", "<script src"]
    {
        assert!(!page.contains(outside), "the page holds `{outside}`");
    }
    for needed in ["<svg", "Decisions", "Logit lens", "sha256", "lora", "dora"] {
        assert!(page.contains(needed), "the page lacks `{needed}`");
    }
}

#[test]
fn csv_and_parquet_hold_the_same() {
    let Some(bench) = Bench::new() else { return };
    bench.must(&words("study study.toml --out out"));
    let mut compared = 0;
    for spec in ANALYSES.iter().flat_map(|a| a.tables()) {
        let path = format!("out/tables/{}", spec.name);
        if !bench.path(&format!("{path}.parquet")).exists() {
            continue;
        }
        let table = Table::from_parquet(spec, &bench.read(&format!("{path}.parquet"))).unwrap();
        let csv = bench.read(&format!("{path}.csv"));
        assert_eq!(table.to_csv().unwrap(), csv, "{}", spec.name);
        assert_eq!(Csv::parse(&csv).rows.len(), table.n_rows());
        compared += 1;
    }
    assert_eq!(compared, 4);
}

#[test]
fn swapped_answers_flip_the_sign_exactly() {
    let Some(bench) = Bench::new() else { return };
    bench.must(&line("decide", "--out straight"));
    bench.edit("prompts.json", |items| {
        for item in items.as_array_mut().unwrap() {
            let (a, b) = (item["answer_a"].clone(), item["answer_b"].clone());
            (item["answer_a"], item["answer_b"]) = (b, a);
        }
    });
    bench.must(&line("decide", "--out swapped"));
    let deltas = |folder: &str| {
        Csv::read(&bench.path(folder).join("tables/decisions.csv")).numbers(&["model", "prompt_id"], "delta")
    };
    let (straight, swapped) = (deltas("straight"), deltas("swapped"));
    assert_eq!(straight.len(), 15);
    for (key, delta) in &straight {
        assert_eq!(swapped[key], -delta, "{key:?}");
        assert_ne!(*delta, 0.0, "{key:?}");
    }
}

#[test]
fn adapters_differ_from_the_base_and_from_each_other() {
    let Some(bench) = Bench::new() else { return };
    bench.must(&line("decide", "--out out"));
    let deltas = Csv::read(&bench.path("out/tables/decisions.csv")).numbers(&["prompt_id", "model"], "delta");
    let of = |model: &str| deltas[&vec!["p0".to_owned(), model.to_owned()]];
    assert!((of("base") - of("lora")).abs() > 0.01 && (of("lora") - of("dora")).abs() > 0.01, "{deltas:?}");
}

#[test]
fn neither_the_moment_nor_threads_nor_memory_decide() {
    let Some(bench) = Bench::new() else { return };
    bench.json("prompts.json", &prompts(40));
    bench.must(&words("study study.toml --out first --threads 1"));
    for (folder, rest) in
        [("again", "--threads 1"), ("threads", "--threads 3"), ("memory", "--memory 100KiB")]
    {
        bench.must(&words(&format!("study study.toml --out {folder} {rest}")));
        assert_eq!(results(&bench, "first"), results(&bench, folder), "{rest}");
    }
    let (one, other) = (manifest(&bench, "first"), manifest(&bench, "threads"));
    assert_eq!(one["identity"], other["identity"]);
}

/// With one spelling of one-token answers, a decision is the difference of two logits, and the lens at the last layer reads
/// the same two.
#[test]
fn the_last_layer_of_the_lens_is_the_decision() {
    let Some(bench) = Bench::new() else { return };
    bench.edit("base/tokenizer.json", |t| {
        t["normalizer"] = json!({"type": "Strip", "strip_left": true, "strip_right": false});
    });
    bench.edit("prompts.json", |items| {
        for item in items.as_array_mut().unwrap() {
            (item["answer_a"], item["answer_b"]) = (json!("k"), json!("g"));
        }
    });
    bench.must(&words("study study.toml --out out"));
    let keys = ["model", "prompt_id"];
    let decided = Csv::read(&bench.path("out/tables/decisions.csv")).numbers(&keys, "delta");
    let read = Csv::read(&bench.path("out/tables/lens.csv"))
        .numbers(&["site", "layer", "model", "prompt_id"], "delta");
    assert_eq!(decided.len(), 15);
    for (key, delta) in decided {
        let at = [vec!["resid_post".to_owned(), "3".to_owned()], key.clone()].concat();
        assert!((read[&at] - delta).abs() < 1e-9, "{key:?}: {} and {delta}", read[&at]);
    }
}

#[test]
fn every_verb_explains_itself() {
    let folder = tempfile::tempdir().unwrap();
    let verbs = ANALYSES
        .iter()
        .filter(|a| !a.concludes())
        .map(|a| a.name())
        .chain(["info", "check", "prompts", "study"]);
    for verb in verbs {
        let said = crate::support::run_in(folder.path(), &[verb, "--help"]);
        assert!(said.ok, "{verb}: {}", said.stderr);
        assert!(said.stdout.contains("Example"), "{verb} shows no example:\n{}", said.stdout);
        assert!(said.stdout.contains(&format!("lorascope {verb} ")), "{verb}:\n{}", said.stdout);
        assert!(said.stdout.contains("Usage:"), "{verb}");
    }
}

#[test]
fn built_prompts_are_a_prompt_file() {
    let folder = tempfile::tempdir().unwrap();
    let said = crate::support::run_in(folder.path(), &words("prompts --out p.json --design fifteen"));
    assert!(said.ok && said.stdout == "p.json: 15 prompts\n", "{said:?}");
    let set: Value = serde_json::from_slice(&std::fs::read(folder.path().join("p.json")).unwrap()).unwrap();
    let items = set.as_array().or_else(|| set["items"].as_array()).unwrap();
    assert_eq!(items.len(), 15);
}
