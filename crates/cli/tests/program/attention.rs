//! Attention as the program measures it, on a tiny model with adapters: masses that add up, writes that are those of direct logit
//! attribution, a planted change found where it was put and through its factor, and nothing where nothing changed.

use crate::support::{Bench, Csv, copy_files, snapshot, weights};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const D_HEAD: usize = 16;
const SMALL: &str = "--set repeat=20 --set sequences=2";

/// Eight prompts in two scenarios and four templates, with named spans of which one is inside another.
fn spanned() -> Value {
    let item = |i: usize| {
        let text = format!("Game {}: you may keep or give {} coins. You", i / 2, i * 7 % 10);
        let at = |part: &str| text.find(part).unwrap();
        let span = |name: &str, from: &str, to: &str| json!({"name": name, "start": at(from), "end": at(to) + to.len()});
        json!({
            "id": format!("p{i}"), "prompt": text, "answer_a": "k", "answer_b": "g",
            "scenario": format!("s{}", i % 2), "template": format!("t{}", i / 2),
            "spans": [span("rule", "you may", "coins"), span("choice", "keep", "give"), span("game", "Game", "Game")],
        })
    };
    Value::Array((0..8).map(item).collect())
}

/// A copy of the bench's `lora` in which only some outputs of one module do anything; of none where there is no module.
fn plant(bench: &Bench, name: &str, module: Option<(&str, std::ops::Range<usize>)>) {
    copy_files(&bench.path("lora"), &bench.path(name));
    weights::edit_tensors(&bench.path(name).join("adapter_model.safetensors"), |tensors| {
        for (tensor, values) in tensors.iter_mut().filter(|(t, _)| t.contains("lora_B")) {
            let kept =
                module.as_ref().filter(|(m, _)| tensor.contains(&format!(".{m}."))).map(|(_, rows)| rows);
            let rank = values.shape[1];
            for i in 0..values.shape[0] * rank {
                if !kept.is_some_and(|rows| rows.contains(&(i / rank))) {
                    values.set(i, 0.0);
                }
            }
        }
    });
}

fn at<'c>(table: &'c Csv, row: usize, columns: &[&str]) -> Vec<&'c str> {
    columns.iter().map(|c| table.get(row, c)).collect()
}

#[test]
fn masses_add_up_and_writes_are_contributions() {
    let Some(bench) = Bench::new() else { return };
    bench.json("spans.json", &spanned());
    bench.analyse(
        "attention",
        &["lora", "dora"],
        "spans.json",
        &format!("{SMALL} --set each_prompt=true --set pairs=true"),
        "out",
    );
    bench.analyse("dla", &["lora", "dora"], "spans.json", "", "dla");
    let each = bench.table("out", "attention");
    let mut sums: BTreeMap<Vec<&str>, [f64; 3]> = BTreeMap::new();
    for row in 0..each.rows.len() {
        let sum = sums.entry(at(&each, row, &["model", "prompt_id", "layer", "head"])).or_default();
        for (sum, column) in sum.iter_mut().zip(["mass", "norm_share", "write"]) {
            *sum += each.number(row, column);
        }
        let is_named = !["other", "first_token"].contains(&each.get(row, "span"));
        assert_eq!(each.get(row, "copying").is_empty(), !is_named);
    }
    assert_eq!(sums.len(), 3 * 8 * 4 * 4);
    let dla = bench.table("dla", "dla");
    for row in dla.rows_where(&[("kind", "head")]) {
        let [mass, norm, write] = sums[&at(&dla, row, &["model", "prompt_id", "layer", "head"])];
        assert!((mass - 1.0).abs() < 1e-5 && (norm - 1.0).abs() < 1e-5, "{:?}", dla.rows[row]);
        let contribution = dla.number(row, "contribution");
        assert!(
            (write - contribution).abs() < 1e-5 * contribution.abs().max(1.0),
            "{:?}: {write}",
            dla.rows[row]
        );
    }
    let check = bench.table("out", "attention_check");
    assert_eq!(check.rows.len(), 3 * 8);
    for row in 0..check.rows.len() {
        assert!(check.number(row, "mass_error") < 1e-5);
        assert!(check.get(row, "model") == "base" || check.number(row, "change_error") < 1e-4);
    }
    means_follow(&bench, &each);
}

/// Means and differences of one head and span, computed a second time.
fn means_follow(bench: &Bench, each: &Csv) {
    let mean = |model: &str, scenario: &str, column: &str| {
        let wanted = [("model", model), ("layer", "2"), ("head", "1"), ("span", "choice")];
        let rows = each.rows_where(&wanted);
        let of: Vec<f64> = rows
            .into_iter()
            .filter(|&r| scenario == "all prompts" || each.get(r, "scenario") == scenario)
            .map(|r| each.number(r, column))
            .collect();
        of.iter().sum::<f64>() / of.len() as f64
    };
    let (means, differences) =
        (bench.table("out", "attention_means"), bench.table("out", "attention_differences"));
    let cases =
        [("all prompts", "mass"), ("all prompts", "norm_share"), ("all prompts", "write"), ("s1", "mass")];
    for (scenario, measure) in cases {
        let place =
            [("scenario", scenario), ("layer", "2"), ("head", "1"), ("span", "choice"), ("measure", measure)];
        for (model, minus) in [("lora", "base"), ("dora", "base"), ("dora", "lora")] {
            let row = means.row(&[&[("model", model)], &place[..]].concat());
            assert!((means.number(row, "mean") - mean(model, scenario, measure)).abs() < 1e-12);
            let row = differences.row(&[&[("model", model), ("minus", minus)], &place[..]].concat());
            let expected = mean(model, scenario, measure) - mean(minus, scenario, measure);
            assert!((differences.number(row, "mean") - expected).abs() < 1e-12);
            // Sixteen heads and five spans in three comparisons.
            assert_eq!(differences.number(row, "family"), 3.0 * 16.0 * 5.0);
        }
    }
}

#[test]
fn a_planted_query_is_found_at_its_head_and_through_its_factor() {
    let Some(bench) = Bench::new() else { return };
    bench.json("spans.json", &spanned());
    plant(&bench, "planted", Some(("layers.2.self_attn.q_proj", D_HEAD..2 * D_HEAD)));
    bench.analyse("attention", &["planted"], "spans.json", SMALL, "out");
    let differences = bench.table("out", "attention_differences");
    let mut moved = 0;
    for row in differences.rows_where(&[("measure", "mass")]) {
        let [layer, head, verdict] = at(&differences, row, &["layer", "head", "verdict"])[..] else {
            panic!()
        };
        let is_planted = (layer, head) == ("2", "1");
        let mean = differences.number(row, "mean");
        if is_planted {
            moved += usize::from(mean.abs() > 1e-4);
        } else if layer != "3" {
            assert_eq!((mean, verdict), (0.0, "equivalent"), "{:?}", differences.rows[row]);
        }
    }
    assert!(moved > 0, "the planted head attends elsewhere");
    let scores = bench.table("out", "attention_scores");
    for row in 0..scores.rows.len() {
        let [layer, head, part] = at(&scores, row, &["layer", "head", "part"])[..] else { panic!() };
        let mean = scores.number(row, "mean");
        let is_planted = (layer, head) == ("2", "1") && ["q_adapter", "total"].contains(&part);
        if layer != "3" && !is_planted {
            // What is left of the query's change is rounding of activations.
            assert!(mean.abs() < 1e-5, "{:?}", scores.rows[row]);
        } else if layer == "3" {
            assert!(!["q_adapter", "k_adapter"].contains(&part) || mean == 0.0, "{:?}", scores.rows[row]);
        }
    }
    let planted = scores.rows_where(&[("layer", "2"), ("head", "1"), ("part", "q_adapter")]);
    assert!(planted.iter().any(|&r| scores.number(r, "mean").abs() > 1e-3));
    let writes = bench.table("out", "attention_writes");
    for row in 0..writes.rows.len() {
        let [layer, head, part] = at(&writes, row, &["layer", "head", "part"])[..] else { panic!() };
        let may = part == "scales"
            || part == "total"
            || layer == "3"
            || ((layer, head) == ("2", "1") && part == "pattern");
        assert!(may || writes.number(row, "mean").abs() < 1e-6, "{:?}", writes.rows[row]);
    }
}

#[test]
fn an_adapter_that_does_nothing_changes_nothing() {
    let Some(bench) = Bench::new() else { return };
    bench.json("spans.json", &spanned());
    plant(&bench, "nothing", None);
    bench.analyse("attention", &["nothing"], "spans.json", SMALL, "out");
    let differences = bench.table("out", "attention_differences");
    assert!(!differences.rows.is_empty());
    for row in 0..differences.rows.len() {
        let numbers = ["mean", "lo", "hi"].map(|c| differences.number(row, c));
        assert_eq!((numbers, differences.number(row, "p")), ([0.0; 3], 1.0), "{:?}", differences.rows[row]);
        let is_share = ["mass", "norm_share"].contains(&differences.get(row, "measure"));
        assert_eq!(differences.get(row, "verdict"), if is_share { "equivalent" } else { "not resolved" });
    }
    for name in ["attention_scores", "attention_writes"] {
        let table = bench.table("out", name);
        for row in 0..table.rows.len() {
            assert!(table.number(row, "mean").abs() < 1e-6, "{:?}", table.rows[row]);
        }
    }
    let heads = bench.table("out", "attention_heads");
    for row in heads.rows_where(&[("model", "nothing")]) {
        assert_eq!(heads.number(row, "change"), 0.0);
    }
}

#[test]
fn threads_and_memory_change_nothing_and_bad_settings_are_refused() {
    let Some(bench) = Bench::new() else { return };
    bench.json("spans.json", &spanned());
    bench.analyse("attention", &["lora"], "spans.json", &format!("{SMALL} --threads 1"), "one");
    bench.analyse(
        "attention",
        &["lora"],
        "spans.json",
        &format!("{SMALL} --threads 3 --memory 1MiB"),
        "three",
    );
    let results = |out: &str| {
        let mut files = snapshot(&bench.path(out));
        files.retain(|path, _| path.starts_with("tables") || path.starts_with("figures"));
        files
    };
    assert_eq!(results("one"), results("three"));
    let refused = |rest: &str| {
        let line = format!("attention --base ./base --prompts spans.json --out no {rest}");
        let outcome = bench.run(&crate::support::words(&line));
        assert!(!outcome.ok && !bench.path("no/tables").exists());
        outcome.stderr
    };
    let said = refused("--span chioce");
    assert!(said.contains("no prompt has a span `chioce`; there are: choice, game, rule"), "{said}");
    assert!(refused("--set margin=0").contains("margin is 0; it must be a share between 0 and 1"));
    let said = refused("--set repeat=100");
    assert!(said.contains("sequences of 201 tokens, but the model's context is 128"), "{said}");
}
