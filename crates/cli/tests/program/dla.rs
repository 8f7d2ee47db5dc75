//! Direct logit attribution as the program does it, on a tiny model with two adapters: complete, the same for every neuron
//! added up, and means and differences that follow from the contributions.

use crate::support::{Bench, Csv, snapshot, words};
use serde_json::json;
use std::collections::BTreeMap;

const MODELS: [&str; 3] = ["base", "lora", "dora"];

/// Six prompts in two scenarios: three pairs that differ only in which word stands for which answer.
fn twins() -> serde_json::Value {
    let item = |i: usize| {
        let (pair, swapped) = (i / 2, i % 2 == 1);
        let (a, b) = if swapped { ("give", "keep") } else { ("keep", "give") };
        json!({
            "id": format!("p{i}"), "prompt": format!("Game {pair}: to be kind, {a}; else {b}. You"),
            "answer_a": a, "answer_b": b, "scenario": format!("s{}", pair % 2), "template": format!("t{pair}"),
            "label_twins": format!("k{pair}"),
        })
    };
    json!((0..6).map(item).collect::<Vec<_>>())
}

fn run(bench: &Bench, out: &str, settings: &str) {
    let adapters = "--adapter lora=./lora --adapter dora=./dora";
    bench
        .must(&words(&format!("dla --base ./base {adapters} --prompts prompts.json --out {out} {settings}")));
}

fn table(bench: &Bench, out: &str, name: &str) -> Csv {
    Csv::read(&bench.path(&format!("{out}/tables/{name}.csv")))
}

#[test]
fn contributions_are_complete_and_summaries_follow_from_them() {
    let Some(bench) = Bench::new() else { return };
    bench.json("prompts.json", &twins());
    run(&bench, "out", "--set neurons=\"all\" --set pairs=true");
    let check = table(&bench, "out", "dla_check");
    let (sums, own) =
        (check.numbers(&["model", "prompt_id"], "sum"), check.numbers(&["model", "prompt_id"], "pre_cap"));
    assert_eq!(sums.len(), 18);
    for (key, sum) in &sums {
        assert!((sum - own[key]).abs() < 1e-4 * own[key].abs().max(1.0), "{key:?}");
    }

    let keys = ["model", "prompt_id", "kind", "layer", "head", "neuron"];
    let rows = table(&bench, "out", "dla");
    let contributions = rows.numbers(&keys, "contribution");
    let shares = [rows.numbers(&keys, "base_share"), rows.numbers(&keys, "adapter_share")];
    let mut added: BTreeMap<(&str, &str), f64> = BTreeMap::new();
    let mut neurons: BTreeMap<(&str, &str, &str), (f64, usize)> = BTreeMap::new();
    for (key, value) in &contributions {
        let [model, prompt, kind, layer, ..] = &key[..] else { panic!("{key:?}") };
        assert!((shares[0][key] + shares[1][key] - value).abs() < 1e-12, "{key:?}");
        assert!(model != "base" || shares[1][key] == 0.0, "{key:?}: the base has no adapter");
        if kind == "neuron" {
            let sum = neurons.entry((model, prompt, layer)).or_default();
            *sum = (sum.0 + value, sum.1 + 1);
        } else {
            *added.entry((model, prompt)).or_default() += value;
        }
    }
    for ((model, prompt), sum) in &added {
        let key = vec![(*model).to_owned(), (*prompt).to_owned()];
        assert!((sum - sums[&key]).abs() < 1e-12, "{key:?}");
    }
    assert_eq!(neurons.len(), 3 * 6 * 4);
    for (&(model, prompt, layer), (sum, n)) in &neurons {
        let key = [model, prompt, "mlp", layer, "", ""].map(str::to_owned).to_vec();
        assert!((sum - contributions[&key]).abs() < 1e-12, "{key:?}: {n} neurons are the MLP");
    }
    summaries_follow(&bench, &contributions);
}

/// Means and differences of one head, computed a second time.
fn summaries_follow(bench: &Bench, contributions: &BTreeMap<Vec<String>, f64>) {
    let value = |model: &str, i: usize| {
        contributions[&[model, &format!("p{i}"), "head", "2", "1", ""].map(str::to_owned).to_vec()]
    };
    let means = table(bench, "out", "dla_means")
        .numbers(&["model", "scenario", "part", "kind", "layer", "head"], "mean");
    let differences = table(bench, "out", "dla_differences");
    let keys = ["model", "minus", "scenario", "part", "kind", "layer", "head"];
    let family = differences.numbers(&keys, "family");
    let differences = differences.numbers(&keys, "mean");
    let cases: [(&str, &[usize]); 3] = [("all prompts", &[0, 1, 2]), ("s0", &[0, 2]), ("s1", &[1])];
    for (scenario, pairs) in cases {
        type Part = fn(f64, f64) -> f64;
        let parts: [(&str, Part); 3] = [
            ("all", |one, other| (one + other) / 2.0),
            ("meaning", |one, other| (one + other) / 2.0),
            ("label", |one, other| (one - other) / 2.0),
        ];
        for (part, of) in parts {
            let mean = |model: &str| {
                pairs.iter().map(|p| of(value(model, 2 * p), value(model, 2 * p + 1))).sum::<f64>()
                    / pairs.len() as f64
            };
            for model in MODELS {
                let key = [model, scenario, part, "head", "2", "1"].map(str::to_owned).to_vec();
                assert!((means[&key] - mean(model)).abs() < 1e-12, "{key:?}");
            }
            for (model, minus) in [("lora", "base"), ("dora", "base"), ("dora", "lora")] {
                let key = [model, minus, scenario, part, "head", "2", "1"].map(str::to_owned).to_vec();
                assert!((differences[&key] - (mean(model) - mean(minus))).abs() < 1e-12, "{key:?}");
                // Embedding, four layers of four heads and an MLP, in three comparisons.
                assert_eq!(family[&key], 3.0 * (1.0 + 4.0 * 5.0), "{key:?}");
            }
        }
    }
}

#[test]
fn the_largest_neurons_of_any_model_are_listed_for_all() {
    let Some(bench) = Bench::new() else { return };
    run(&bench, "some", "--set neurons=2");
    run(&bench, "every", "--set neurons=\"all\"");
    let keys = ["model", "prompt_id", "kind", "layer", "head", "neuron"];
    let read = |out: &str| table(&bench, out, "dla").numbers(&keys, "contribution");
    let (some, every) = (read("some"), read("every"));
    let mut chosen: BTreeMap<(String, String), BTreeMap<String, Vec<String>>> = BTreeMap::new();
    for (key, value) in some.iter().filter(|(key, _)| key[2] == "neuron") {
        assert_eq!(every[key], *value);
        let of_prompt = chosen.entry((key[1].clone(), key[3].clone())).or_default();
        of_prompt.entry(key[0].clone()).or_default().push(key[5].clone());
    }
    assert_eq!(chosen.len(), 5 * 4);
    for ((prompt, layer), models) in chosen {
        assert_eq!(models.len(), 3);
        assert!((2..=6).contains(&models["base"].len()) && models["base"] == models["dora"]);
        for model in MODELS {
            let of_layer = every
                .iter()
                .filter(|(k, _)| k[0] == model && k[1] == prompt && k[2] == "neuron" && k[3] == layer);
            let mut sizes: Vec<(f64, &String)> = of_layer.map(|(k, v)| (-v.abs(), &k[5])).collect();
            sizes.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(sizes[..2].iter().all(|(_, n)| models[model].contains(n)), "{model} {prompt} {layer}");
        }
    }
    let refused = bench.run(&words("dla --base ./base --prompts prompts.json --out no --set neurons=-1"));
    assert!(
        refused.stderr.contains("neurons is -1; it must be a whole number from 0, or \"all\""),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_base_alone_and_any_number_of_threads_give_the_same() {
    let Some(bench) = Bench::new() else { return };
    run(&bench, "one", "--threads 1");
    run(&bench, "three", "--threads 3");
    let results = |out: &str| {
        let mut files = snapshot(&bench.path(out));
        files.retain(|path, _| path.starts_with("tables") || path.starts_with("figures"));
        files
    };
    assert_eq!(results("one"), results("three"));
    bench.must(&words("dla --base ./base --prompts prompts.json --out alone"));
    let keys = ["model", "prompt_id", "kind", "layer", "head"];
    let (alone, all) = (table(&bench, "alone", "dla"), table(&bench, "one", "dla"));
    let (alone, all) = (alone.numbers(&keys, "contribution"), all.numbers(&keys, "contribution"));
    assert!(alone.iter().all(|(key, value)| all[key] == *value), "adapters change nothing of the base");
    assert!(table(&bench, "alone", "dla_differences").rows.is_empty());
}
