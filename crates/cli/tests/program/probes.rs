//! Probes and the comparison of representations as the program does them, on a tiny model: what is planted is found where it is,
//! what is equal is equal exactly, and wrong words are refused.

use crate::support::{Bench, Csv, assert_curves_are_means_of_prompts, snapshot, weights};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Forty prompts of ten templates. The last word shows `mood`, nothing shows `coin`, and `points` is what the mood is worth.
fn labelled() -> Value {
    let item = |i: usize| {
        let (template, mood) = (i / 4, if i % 4 < 2 { "glad" } else { "sore" });
        let points = if mood == "glad" { 3.0 } else { 1.0 } + if i % 4 == 1 { 0.5 } else { 0.0 };
        let text = format!("Game {template}, {}: keep or give? I am {mood}", i * 7 % 10);
        json!({
            "id": format!("p{i:02}"), "prompt": text,
            "answer_a": "k", "answer_b": "g", "template": format!("t{template}"), "scenario": mood,
            "mood": mood, "coin": (i * i / 3).is_multiple_of(2), "points": points, "game": format!("g{template}"),
            "spans": [
                {"name": "game", "start": 0, "end": 4},
                {"name": "mood", "start": text.len() - 4, "end": text.len()},
            ],
        })
    };
    json!((0..40).map(item).collect::<Vec<_>>())
}

/// An adapter like `lora` whose updates are zero but in these layers.
fn only(bench: &Bench, name: &str, layers: &[usize]) {
    crate::support::copy_files(&bench.path("lora"), &bench.path(name));
    weights::edit_tensors(&bench.path(name).join("adapter_model.safetensors"), |tensors| {
        for (path, tensor) in tensors.iter_mut().filter(|(path, _)| path.contains("lora_B")) {
            if layers.iter().all(|l| !path.contains(&format!("layers.{l}."))) {
                tensor.data.fill(0);
            }
        }
    });
}

fn scores(table: &Csv) -> BTreeMap<Vec<String>, f64> {
    let rows = table.rows_where(&[("status", "ok")]);
    let text = |row: usize, column: &str| table.get(row, column).to_owned();
    let key = |row: usize| {
        ["model", "target", "site", "layer", "position", "metric"].map(|c| text(row, c)).to_vec()
    };
    rows.into_iter()
        .filter(|&r| !table.get(r, "value").is_empty())
        .map(|r| (key(r), table.number(r, "value")))
        .collect()
}

#[test]
fn labels_are_read_where_they_are_and_by_every_model() {
    let Some(bench) = Bench::new() else { return };
    bench.json("prompts.json", &labelled());
    let rest = "--site resid_pre --site resid_post --position decision --position mood --position game --set folds=4 --set controls=3";
    bench.analyse("probe", &["lora", "dora"], "prompts.json", rest, "out");
    let table = bench.table("out", "probe_scores");
    let found = scores(&table);
    let of = |model: &str, target: &str, site: &str, position: &str, metric: &str| {
        found[&[model, target, site, "0", position, metric].map(str::to_owned).to_vec()]
    };
    for model in ["base", "lora", "dora"] {
        // The last letters of the two words are other tokens; the first word is the same everywhere.
        assert_eq!(of(model, "mood", "resid_pre", "mood", "accuracy"), 1.0);
        assert_eq!(of(model, "mood", "resid_pre", "mood", "auc"), 1.0);
        assert_eq!(
            of(model, "mood", "resid_pre", "game", "accuracy"),
            of(model, "mood", "resid_pre", "game", "majority")
        );
        assert_eq!(of(model, "mood", "resid_pre", "game", "auc"), 0.5);
        assert!(of(model, "points", "resid_pre", "mood", "r2") > 0.8);
        assert!(of(model, "points", "resid_pre", "game", "r2").abs() < 0.2);
        assert!(of(model, "mood", "resid_pre", "mood", "selectivity") > 0.3);
    }
    let targets: std::collections::BTreeSet<&str> =
        (0..table.rows.len()).map(|r| table.get(r, "target")).collect();
    assert_eq!(
        targets.into_iter().collect::<Vec<_>>(),
        ["coin", "decision", "mood", "points"],
        "no game: a template settles it"
    );
    // Accuracies are those of the predictions, and differences those of the accuracies.
    let predictions = bench.table("out", "probe_predictions");
    let rows = predictions.rows_where(&[
        ("model", "lora"),
        ("target", "coin"),
        ("site", "resid_post"),
        ("layer", "2"),
        ("position", "decision"),
    ]);
    assert_eq!(rows.len(), 40);
    let right: f64 = rows.iter().map(|&r| predictions.number(r, "result")).sum();
    let key =
        |model: &str| [model, "coin", "resid_post", "2", "decision", "accuracy"].map(str::to_owned).to_vec();
    assert_eq!(found[&key("lora")], right / 40.0);
    for &row in &rows {
        let (truth, score) = (predictions.number(row, "truth"), predictions.number(row, "score"));
        assert_eq!(predictions.number(row, "result") == 1.0, (score > 0.0) == (truth == 1.0));
    }
    let differences = bench.table("out", "probe_differences");
    let row = differences.row(&[
        ("model", "lora"),
        ("minus", "base"),
        ("target", "coin"),
        ("site", "resid_post"),
        ("layer", "2"),
        ("position", "decision"),
    ]);
    assert!((differences.number(row, "mean") - (found[&key("lora")] - found[&key("base")])).abs() < 1e-12);
    // The report has them of single prompts, with what they are held against.
    let page = serde_json::from_slice(&bench.read("out/report.json")).unwrap();
    assert!(assert_curves_are_means_of_prompts(&page, "probe_accuracy") > 100);
}

#[test]
fn a_model_differs_from_itself_in_no_probe_and_threads_change_nothing() {
    let Some(bench) = Bench::new() else { return };
    bench.json("prompts.json", &labelled());
    only(&bench, "nothing", &[]);
    let rest = "--target coin --target points --set folds=3 --set controls=1";
    bench.analyse("probe", &["nothing"], "prompts.json", &format!("{rest} --threads 1"), "one");
    bench.analyse("probe", &["nothing"], "prompts.json", &format!("{rest} --threads 3"), "three");
    let tables = |out: &str| {
        let mut files = snapshot(&bench.path(out));
        files.retain(|path, _| path.starts_with("tables"));
        files
    };
    assert_eq!(tables("one"), tables("three"));
    let differences = bench.table("one", "probe_differences");
    assert_eq!(differences.rows.len(), 2 * 4);
    for row in 0..differences.rows.len() {
        assert_eq!((differences.number(row, "mean"), differences.number(row, "q")), (0.0, 1.0));
    }
}

/// Too few templates, and a class in one template only, are said in the table and in the report.
#[test]
fn what_can_not_be_judged_says_why() {
    let Some(bench) = Bench::new() else { return };
    let mut items = labelled();
    for (i, item) in items.as_array_mut().unwrap().iter_mut().enumerate() {
        item["rare"] = json!(i < 4);
        item["template"] = json!(format!("t{}", i / 4));
    }
    bench.json("prompts.json", &items);
    bench.analyse("probe", &[], "prompts.json", "--target rare --target mood --layer 1", "out");
    let table = bench.table("out", "probe_scores");
    let rows = table.rows_where(&[("target", "rare")]);
    assert_eq!(rows.len(), 5);
    for row in rows {
        assert!(
            table.get(row, "status").ends_with("would be fitted to one class only"),
            "{}",
            table.get(row, "status")
        );
        assert_eq!((table.get(row, "value"), table.get(row, "q")), ("", ""));
    }
    assert_eq!(table.rows_where(&[("target", "mood"), ("status", "ok")]).len(), 5);
    let page = String::from_utf8(bench.read("out/report.html")).unwrap();
    assert!(page.contains("base: not judged, fold "));
    items.as_array_mut().unwrap().truncate(8);
    bench.json("few.json", &items);
    bench.analyse("probe", &[], "few.json", "--target mood --layer 1", "few");
    let table = bench.table("few", "probe_scores");
    assert_eq!(table.get(0, "status"), "too few templates: 2, and folds inside folds need 3");
}

#[test]
fn a_difference_begins_where_it_was_planted() {
    let Some(bench) = Bench::new() else { return };
    bench.json("prompts.json", &labelled());
    only(&bench, "nothing", &[]);
    only(&bench, "two", &[2]);
    bench.analyse("compare", &["nothing", "two"], "prompts.json", "--set pairs=true --set top=3", "out");
    let keys = ["model", "reference", "layer", "metric"];
    let found = bench.table("out", "compare_similarity").numbers(&keys, "value");
    let of = |model: &str, reference: &str, layer: usize, metric: &str| {
        found[&[model, reference, &layer.to_string(), metric].map(str::to_owned).to_vec()]
    };
    for layer in 0..4 {
        for metric in ["cosine", "cka", "cka_debiased"] {
            assert_eq!(of("nothing", "base", layer, metric), 1.0, "{metric} {layer}");
        }
        assert_eq!(of("nothing", "base", layer, "relative_norm"), 0.0);
        let (cosine, norm) = (of("two", "base", layer, "cosine"), of("two", "base", layer, "relative_norm"));
        if layer < 2 {
            assert_eq!((cosine, norm), (1.0, 0.0), "layer {layer}");
        } else {
            assert!(
                cosine < 1.0 - 1e-9 && norm > 1e-5 && of("two", "base", layer, "cka") < 1.0,
                "layer {layer}"
            );
        }
        assert_eq!(
            of("two", "nothing", layer, "cosine"),
            cosine,
            "two models that are the same are the same reference"
        );
        assert!(of("two", "base", layer, "cosine_prompts") < 1.0);
    }
    let decision = bench.table("out", "compare_decision");
    let row =
        |model: &str, layer: &str| decision.row(&[("model", model), ("reference", "base"), ("layer", layer)]);
    assert_eq!(decision.number(row("nothing", "3"), "mean"), 0.0);
    assert_eq!(decision.number(row("nothing", "3"), "q"), 1.0);
    assert_ne!(decision.number(row("two", "3"), "mean"), 0.0);
    let tokens = bench.table("out", "compare_tokens");
    assert!(tokens.rows_where(&[("model", "nothing"), ("reference", "base")]).is_empty());
    assert!(tokens.rows_where(&[("model", "two"), ("layer", "1")]).is_empty());
    let promoted = tokens.rows_where(&[
        ("model", "two"),
        ("reference", "base"),
        ("layer", "3"),
        ("direction", "promoted"),
    ]);
    let logits: Vec<f64> = promoted.iter().map(|&r| tokens.number(r, "logit")).collect();
    assert!(logits.len() == 3 && logits.is_sorted_by(|a, b| a >= b) && logits[0] > 0.0, "{logits:?}");
    let page = String::from_utf8(bench.read("out/report.html")).unwrap();
    assert!(page.contains(
        "nothing against base, resid_post, decision point: all activations are the same, bit for bit."
    ));
    assert!(page.contains("the same bit for bit before layer 2;"));
}

/// The component along the decision, from whole runs of both models, one prompt at a time.
#[test]
fn the_component_along_the_decision_is_what_the_output_reads() {
    let Some(bench) = Bench::new() else { return };
    bench.json("prompts.json", &labelled());
    bench.analyse("compare", &["lora"], "prompts.json", "--layer 3", "out");
    let decision = bench.table("out", "compare_decision");
    let found = decision.number(0, "mean");
    // By hand: final states of both models read with the base's scale.
    let naive = crate::support::naive::Naive::new(&bench, &["lora"], "prompts.json");
    let mut sum = 0.0;
    for i in 0..40 {
        let question = naive.question(&format!("p{i:02}"));
        let at = |which: usize| {
            let point = lorascope_engine::HookPoint::Layer(3, lorascope_engine::Site::ResidPost);
            let scale = naive.values(which, question, lorascope_engine::HookPoint::FinalScale)
                [question.decision()][0];
            (naive.values(which, question, point)[question.decision()].clone(), f64::from(scale))
        };
        let ((base, scale), (lora, _)) = (at(0), at(1));
        let read = naive.model.readout_directions(&[(0, question.a[0], question.b[0])]).unwrap();
        let difference = lora.iter().zip(&base).map(|(l, b)| f64::from(*l) - f64::from(*b));
        sum += difference.zip(read.directions.row(0)).map(|(d, w)| d * w).sum::<f64>() / scale;
    }
    assert!((found - sum / 40.0).abs() < 1e-6 * found.abs().max(1e-3), "{found} {}", sum / 40.0);
}
