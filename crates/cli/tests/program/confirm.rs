//! `lorascope confirm` as the program carries it out: the prediction comes first and stays, the same blocks are the same training, random
//! sets are others of the same size.

use crate::support::{Bench, prompts, snapshot, words};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Short prompts, for a model of 128 tokens that reads one byte a token, with answers of one token.
const SETTINGS: &str = "\
rank = 2
steps = 6
checkpoint_every = 2
[optimizer]
learning_rate = 0.02
[prompts]
symbols = ['x/y']
wording = [{ name = 'short', text = 'I {own_last_move}, he {opponent_last_move}. {symbols_first}? ' }]
";

/// Every set as cheap as it can be.
const FEW: &str = "--set prompts=4 --set orders=3 --set points=2 --set candidates=3";

fn bench(settings: &str) -> Option<Bench> {
    let bench = Bench::new()?;
    bench.text("train.toml", settings);
    bench.json("p.json", &prompts(8));
    Some(bench)
}

fn line(rest: &str) -> Vec<String> {
    words(&format!("confirm surgery --base ./base --settings train.toml --reward hybrid {rest}"))
}

fn manifest(bench: &Bench, folder: &str) -> Value {
    serde_json::from_slice(&bench.read(&format!("{folder}/manifest.json"))).unwrap()
}

#[test]
fn random_sets_are_others_of_the_same_size_and_everything_is_written() {
    let Some(bench) = bench(SETTINGS) else { return };
    bench.analyse(
        "surgery",
        &["lora"],
        "p.json",
        &format!("{FEW} --set blocks=layer --set share=0.5"),
        "surgery",
    );
    let said = bench.must(&line("--random 2 --out out")).stdout;
    assert!(
        said.contains("confirmed if the set's training recovers ") && said.contains("5 of 5: random_2"),
        "{said}"
    );
    // Four prompts in two templates decide nothing.
    assert!(said.contains("\nNot resolved: surgery on lora predicted that "), "{said}");
    let found = bench.table("out", "confirm_trainings");
    let names: Vec<&str> = (0..found.rows.len()).map(|r| found.get(r, "training")).collect();
    assert_eq!(names, ["full", "full_again", "set", "random_1", "random_2"]);
    let blocks = |row: usize| found.get(row, "blocks").split(", ").collect::<BTreeSet<_>>();
    let set = blocks(2);
    assert!(set.len() < 4 && blocks(0).len() == 4 && blocks(1) == blocks(0));
    for row in [3, 4] {
        assert_ne!(blocks(row), set);
        for column in ["parameters", "n_layers", "n_blocks"] {
            assert_eq!(found.get(row, column), found.get(2, column), "layers are of one size");
        }
        let shared = blocks(row).intersection(&set).count() as f64 / set.len() as f64;
        assert!((found.number(row, "overlap") - shared).abs() < 1e-12);
    }
    assert_ne!(blocks(3), blocks(4));
    assert_eq!((found.number(0, "recovery"), found.number(0, "p_recovery")), (1.0, 1.0));
    assert!(found.number(1, "recovery") != 1.0, "another seed");
    assert!((0..5).all(|row| found.number(row, "text_kl") > 0.0));
    // Of what training did to the decisions, by hand.
    let decisions = bench.table("out", "confirm_decisions");
    let deltas = |name: &str| -> Vec<f64> {
        decisions.rows_where(&[("training", name)]).iter().map(|&r| decisions.number(r, "delta")).collect()
    };
    let (base, full, set) = (deltas("base"), deltas("full"), deltas("set"));
    assert_eq!(base.len(), 4);
    let over: f64 = (0..4).map(|i| (set[i] - base[i]) * (full[i] - base[i]).signum()).sum();
    let under: f64 = (0..4).map(|i| (full[i] - base[i]).abs()).sum();
    assert!((found.number(2, "recovery") - over / under).abs() < 1e-12);
    // The adapters are adapters like any other, and the set's is trained in its layers alone.
    let config: Value =
        serde_json::from_slice(&bench.read("out/trainings/set/adapter/adapter_config.json")).unwrap();
    assert_eq!(config["layers_to_transform"].as_array().unwrap().len(), blocks(2).len());
    bench.must(&words("info --base ./base --adapter set=./out/trainings/set/adapter"));
    let again = bench.must(&line("--random 2 --out out")).stdout;
    assert!(again.ends_with("out is finished already; nothing to do\n"), "{again}");
}

#[test]
fn a_set_of_all_blocks_is_the_full_training_bit_for_bit() {
    let Some(bench) = bench(SETTINGS) else { return };
    let one = "train --base ./base --settings train.toml --reward hybrid --blocks";
    let mut train = words(&format!("{one} BLOCKS --seed 5 --out one"));
    let at = train.iter().position(|w| w == "BLOCKS").unwrap();
    train[at] = "L2 mlp.up_proj, L3 v".to_owned();
    bench.must(&train);
    let config: Value = serde_json::from_slice(&bench.read("one/adapter/adapter_config.json")).unwrap();
    let paths = ["model.layers.2.mlp.up_proj", "model.layers.3.self_attn.v_proj"];
    assert_eq!(config["target_modules"], json!(paths));
    // Surgery takes an adapter of one block apart: whatever the share, the set is all of it.
    train[at] = "L2 mlp.up_proj".to_owned();
    *train.last_mut().unwrap() = "lone".to_owned();
    bench.must(&train);
    bench.must(&words(&format!(
        "surgery --base ./base --adapter lone=./lone/adapter --prompts p.json {FEW} --out surgery"
    )));
    let said = bench.must(&line("--modules up --layers 2 --out out")).stdout;
    assert!(said.contains("\nNot resolved: "), "there is no other set: {said}");
    let weights = |name: &str| bench.read(&format!("out/trainings/{name}/adapter/adapter_model.safetensors"));
    assert!(weights("full") == weights("set") && weights("full") != weights("full_again"));
    let config = |name: &str| bench.read(&format!("out/trainings/{name}/adapter/adapter_config.json"));
    assert!(config("full") == config("set"), "the same places have the same names");
    let found = bench.table("out", "confirm_trainings");
    assert_eq!(found.rows.len(), 3, "no random set");
    for column in ["recovery", "recovery_lo", "recovery_hi", "p_recovery", "overlap", "parameter_share"] {
        assert_eq!(found.number(2, column), 1.0, "{column}");
    }
    let against = bench.table("out", "confirm_comparisons");
    let row = against.row(&[("against", "full")]);
    assert_eq!((against.number(row, "difference"), against.number(row, "p")), (0.0, 1.0));
}

#[test]
fn the_prediction_comes_before_training_and_stays() {
    // Answers that the base never gives: the first training fails at its first step.
    let Some(bench) = bench(&SETTINGS.replace("x/y", "action1/action2")) else { return };
    bench.analyse("surgery", &["lora"], "p.json", &format!("{FEW} --set blocks=layer"), "surgery");
    let outcome = bench.run(&line("--random 1 --out out"));
    assert!(!outcome.ok && outcome.stderr.contains("training `full`"), "{}", outcome.stderr);
    let before = manifest(&bench, "out")["settings"]["prediction"].clone();
    assert!(before["needed"].as_f64().unwrap() <= 0.9 && !before["set"].as_array().unwrap().is_empty());
    assert_eq!(before["trainings"].as_array().unwrap().len(), 4);
    let table = bench.read("out/tables/confirm_prediction.csv");
    let sets = bench.table("surgery", "surgery_sets");
    let predicted = bench.table("out", "confirm_prediction");
    let smallest = sets.row(&[("set", "smallest")]);
    assert_eq!(predicted.get(0, "blocks"), sets.get(smallest, "blocks"));
    for (own, theirs) in
        [("predicted", "held_out"), ("predicted_lo", "held_out_lo"), ("predicted_hi", "held_out_hi")]
    {
        assert_eq!(predicted.get(0, own), sets.get(smallest, theirs));
    }
    let adapters =
        snapshot(&bench.path("out")).into_keys().filter(|p| p.ends_with("adapter_model.safetensors"));
    assert_eq!(adapters.count(), 0, "nothing is trained yet");
    // Another criterion or other sets are another run.
    let other = bench.run(&line("--random 2 --out out"));
    assert!(!other.ok && other.stderr.contains("settings.prediction.trainings"), "{}", other.stderr);
    // A prediction changed by hand is not the run's.
    bench.bytes("out/tables/confirm_prediction.csv", b"adapter\nlora\n");
    bench.run(&line("--random 1 --out out"));
    assert!(bench.read("out/tables/confirm_prediction.csv") == table, "it is written as it was");
    bench.edit("out/manifest.json", |m| m["settings"]["prediction"]["needed"] = json!(0.1));
    let changed = bench.run(&line("--random 1 --out out"));
    assert!(!changed.ok && changed.stderr.contains("settings.prediction.needed"), "{}", changed.stderr);
    // So are tables of surgery.
    bench.edit("out/manifest.json", |m| m["settings"]["prediction"] = before.clone());
    bench.bytes("surgery/tables/surgery_sets.parquet", b"nothing");
    let changed = bench.run(&line("--random 1 --out out"));
    assert!(!changed.ok && changed.stderr.contains("is not as surgery wrote it"), "{}", changed.stderr);
}

#[test]
fn what_can_not_be_confirmed_is_refused_before_anything_is_written() {
    let Some(bench) = bench(SETTINGS) else { return };
    bench.analyse("surgery", &["lora"], "p.json", &format!("{FEW} --set blocks=layer"), "surgery");
    bench.analyse("decide", &["lora"], "p.json", "", "decide");
    let refused = |line: &[String], expected: &str| {
        let outcome = bench.run(line);
        assert!(!outcome.ok && outcome.stderr.contains(expected), "{line:?}: {}", outcome.stderr);
        assert!(!bench.path("no").exists(), "{line:?}");
    };
    refused(&line("--heads 1.0 --out no"), "single heads");
    refused(&line("--layers 0,1 --out no"), "has a block `L2` that the recipe does not train");
    refused(&line("--adapter other --out no"), "surgery took no adapter `other` apart; it did lora");
    refused(&line("--set blocks=['L9'] --out no"), "there is no layer 9");
    let with = |run: &str| words(&format!("confirm {run} --base ./base --settings train.toml --out no"));
    refused(&with("decide"), "has no table `surgery_sets`");
    refused(&with("base"), "is no run folder");
    bench.json("chosen.json", &prompts(1));
    let runs = bench.table("surgery", "surgery_runs");
    let chosen = runs.rows_where(&[("prompts", "chosen"), ("mask", "all")]);
    let id = runs.get(chosen[0], "prompt_id").to_owned();
    let items = prompts(8);
    let one: Vec<&Value> = items.as_array().unwrap().iter().filter(|i| i["id"] == id.as_str()).collect();
    bench.json("chosen.json", &json!(one));
    refused(&line("--prompts chosen.json --out no"), "none is left to compare on");
}
