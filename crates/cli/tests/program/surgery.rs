//! Surgery as the program carries it out: all blocks are the adapter and none the base, one left out is the adapter without it, a planted
//! block is found, what is written does what the table says.

use crate::support::weights::edit_tensors;
use crate::support::{Bench, Csv, by_hand, copy_files, prompts, words};
use serde_json::json;
use std::collections::BTreeMap;

/// Every set as cheap as it can be.
const FEW: &str = "--set prompts=4 --set orders=3 --set points=2 --set candidates=3";

/// delta by prompt id.
fn deltas(table: &Csv, wanted: &[(&str, &str)]) -> BTreeMap<String, f64> {
    let rows = table.rows_where(wanted);
    rows.iter().map(|&r| (table.get(r, "prompt_id").to_owned(), table.number(r, "delta"))).collect()
}

/// `Σ (set − base)·sign(d) / Σ |d|` by hand.
fn recovery(base: &BTreeMap<String, f64>, all: &BTreeMap<String, f64>, set: &BTreeMap<String, f64>) -> f64 {
    let d = |id: &String| all[id] - base[id];
    let over: f64 = set.iter().map(|(id, delta)| (delta - base[id]) * d(id).signum()).sum();
    over / set.keys().map(|id| d(id).abs()).sum::<f64>()
}

/// The prompts on which sets were chosen, of some values.
fn of(values: &BTreeMap<String, f64>, like: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    like.keys().map(|id| (id.clone(), values[id])).collect()
}

/// Sets every B of an adapter to zero but that of the modules named.
fn keep_only(bench: &Bench, adapter: &str, modules: &[&str]) {
    edit_tensors(&bench.path(&format!("{adapter}/adapter_model.safetensors")), |tensors| {
        for (name, tensor) in tensors.iter_mut() {
            if name.contains("lora_B") && !modules.iter().any(|m| name.contains(m)) {
                tensor.data.fill(0);
            }
        }
    });
}

#[test]
fn all_blocks_are_the_adapter_and_none_the_base() {
    let Some(bench) = Bench::new() else { return };
    bench.json("p.json", &prompts(8));
    bench.analyse("decide", &["lora"], "p.json", "", "decide");
    let decisions = bench.table("decide", "decisions");
    let rest = "--set prompts=4 --set orders=4 --set shapley=true --set blocks=layer";
    bench.analyse("surgery", &["lora"], "p.json", rest, "out");
    let runs = bench.table("out", "surgery_runs");
    for set in ["chosen", "held out"] {
        for (mask, model, allowed) in [("all", "lora", 0.0), ("none", "base", 1e-6)] {
            let masked = deltas(&runs, &[("prompts", set), ("mask", mask)]);
            assert_eq!(masked.len(), 4);
            let plain = of(&deltas(&decisions, &[("model", model)]), &masked);
            for (id, delta) in &masked {
                assert!((delta - plain[id]).abs() <= allowed, "{mask} on {id}: {delta} and {}", plain[id]);
            }
        }
    }
    let blocks = bench.table("out", "surgery_blocks");
    assert_eq!(blocks.rows.len(), 4);
    let shapley: f64 = (0..4).map(|row| blocks.number(row, "shapley")).sum();
    assert!((shapley - 1.0).abs() < 1e-12, "{shapley}");
    let doses = bench.table("out", "surgery_doses");
    let dose = |scale: &str| doses.number(doses.row(&[("scale", scale)]), "recovery");
    assert_eq!((doses.rows.len(), dose("0.0"), dose("1.0")), (6, 0.0, 1.0));
    let curves = bench.table("out", "surgery_curves");
    for order in ["alone", "gradient", "norm", "random"] {
        let row = curves.row(&[("order", order), ("n_blocks", "4")]);
        assert_eq!((curves.number(row, "recovery"), curves.number(row, "parameter_share")), (1.0, 1.0));
    }
    bench.analyse("surgery", &["lora"], "p.json", &format!("{rest} --threads 3 --memory 100KiB"), "again");
    for table in ["blocks", "curves", "sets", "doses", "runs"] {
        let name = |out: &str| format!("{out}/tables/surgery_{table}.csv");
        assert!(bench.read(&name("out")) == bench.read(&name("again")), "{table}");
    }
}

#[test]
fn a_block_left_out_is_the_adapter_without_it() {
    let Some(bench) = Bench::new() else { return };
    bench.json("p.json", &prompts(8));
    bench.analyse("surgery", &["lora"], "p.json", FEW, "out");
    let (blocks, runs) = (bench.table("out", "surgery_blocks"), bench.table("out", "surgery_runs"));
    assert_eq!(blocks.rows.len(), 28, "few modules are blocks by themselves");
    let all = deltas(&runs, &[("prompts", "chosen"), ("mask", "all")]);
    let base = deltas(&runs, &[("prompts", "chosen"), ("mask", "none")]);
    let items = prompts(8);
    let tokenizer = lorascope_text::Tokenizer::from_folder(&bench.path("base")).unwrap();
    for (layer, module, path) in [
        ("1", "attn.v_proj", "model.layers.1.self_attn.v_proj"),
        ("3", "mlp.down_proj", "model.layers.3.mlp.down_proj"),
    ] {
        copy_files(&bench.path("lora"), &bench.path("without"));
        bench.edit("without/adapter_config.json", |c| c["exclude_modules"] = json!([path]));
        edit_tensors(&bench.path("without/adapter_model.safetensors"), |tensors| {
            tensors.retain(|name, _| !name.contains(&format!("{path}.")));
        });
        let model = by_hand::load(&bench.path("base"), &[("without", bench.path("without"))]);
        let row = blocks.row(&[("layer", layer), ("name", module)]);
        let number = blocks.get(row, "block").parse::<usize>().unwrap();
        let mask = match number {
            0 => "1-27".to_owned(),
            27 => "0-26".to_owned(),
            n => [(0, n - 1), (n + 1, 27)]
                .map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") })
                .join(" "),
        };
        let masked = deltas(&runs, &[("prompts", "chosen"), ("mask", &mask)]);
        assert_eq!(masked.len(), 4);
        for (id, delta) in &masked {
            let item = items.as_array().unwrap().iter().find(|i| i["id"] == id.as_str()).unwrap();
            let prompt = item["prompt"].as_str().unwrap();
            let expected = by_hand::delta(&model, 1, &tokenizer, prompt, ("keep", "give"));
            assert!((delta - expected).abs() < 1e-4, "{path}, {id}: {delta} and {expected}");
        }
        let lost = 1.0 - recovery(&base, &all, &masked);
        assert!((blocks.number(row, "left_out") - lost).abs() < 1e-9);
    }
}

#[test]
fn a_planted_block_is_found_and_nothing_else() {
    let Some(bench) = Bench::new() else { return };
    bench.json("p.json", &prompts(8));
    keep_only(&bench, "lora", &["layers.2.mlp.up_proj"]);
    bench.analyse("surgery", &["lora"], "p.json", FEW, "out");
    let blocks = bench.table("out", "surgery_blocks");
    for row in 0..blocks.rows.len() {
        let planted = (blocks.get(row, "layer"), blocks.get(row, "name")) == ("2", "mlp.up_proj");
        let effect = f64::from(u8::from(planted));
        for column in ["left_out", "alone"] {
            assert_eq!(blocks.number(row, column), effect, "{:?}", blocks.rows[row]);
        }
        assert_eq!(blocks.number(row, "norm") > 0.0, planted);
        assert_eq!(blocks.number(row, "gradient") != 0.0, planted);
    }
    let sets = bench.table("out", "surgery_sets");
    let row = sets.row(&[("set", "smallest")]);
    assert_eq!(sets.get(row, "blocks"), "L2 mlp.up_proj");
    assert_eq!((sets.number(row, "recovery"), sets.number(row, "held_out")), (1.0, 1.0));
    let config: serde_json::Value =
        serde_json::from_slice(&bench.read("out/adapters/lora_smallest/adapter_config.json")).unwrap();
    assert_eq!(config["target_modules"], json!(["model.layers.2.mlp.up_proj"]));
    assert_eq!((&config["r"], &config["lora_alpha"]), (&json!(4), &json!(8.0)));
}

#[test]
fn the_written_adapter_recovers_what_the_table_promises() {
    let Some(bench) = Bench::new() else { return };
    bench.json("p.json", &prompts(8));
    // Modules of other ranks and scales than the rest.
    bench.edit("lora/adapter_config.json", |c| c["alpha_pattern"] = json!({"layers.1.self_attn.q_proj": 24}));
    bench.analyse("surgery", &["lora"], "p.json", &format!("{FEW} --set blocks=kind"), "out");
    copy_files(&bench.path("out/adapters/lora_smallest"), &bench.path("small"));
    bench.analyse("decide", &["lora", "small"], "p.json", "", "decide");
    let (decisions, runs) = (bench.table("decide", "decisions"), bench.table("out", "surgery_runs"));
    let sets = bench.table("out", "surgery_sets");
    let row = sets.row(&[("set", "smallest")]);
    let n: usize = sets.get(row, "n_blocks").parse().unwrap();
    assert!((1..8).contains(&n) && sets.number(row, "recovery") >= 0.9, "{:?}", sets.rows[row]);
    for (prompts, column) in [("chosen", "recovery"), ("held out", "held_out")] {
        let like = deltas(&runs, &[("prompts", prompts), ("mask", "all")]);
        let [base, all, small] =
            ["base", "lora", "small"].map(|model| of(&deltas(&decisions, &[("model", model)]), &like));
        let found = recovery(&base, &all, &small);
        assert!((found - sets.number(row, column)).abs() < 1e-5, "{column}: {found}");
    }
}

#[test]
fn an_adapter_that_does_nothing_has_nothing_to_recover() {
    let Some(bench) = Bench::new() else { return };
    keep_only(&bench, "lora", &[]);
    bench.analyse("surgery", &["lora"], "prompts.json", FEW, "out");
    let blocks = bench.table("out", "surgery_blocks");
    assert_eq!(blocks.rows.len(), 28);
    for row in 0..28 {
        assert_eq!((blocks.get(row, "left_out"), blocks.get(row, "alone")), ("", ""));
        assert_eq!((blocks.number(row, "left_out_q"), blocks.number(row, "alone_change")), (1.0, 0.0));
    }
    assert!(bench.table("out", "surgery_sets").rows.is_empty() && !bench.path("out/adapters").exists());
    let page = String::from_utf8(bench.read("out/report.html")).unwrap();
    assert!(page.contains("There is nothing to recover"));
}

#[test]
fn what_can_not_be_taken_apart_is_refused() {
    let Some(bench) = Bench::new() else { return };
    let refused = |rest: &str| {
        let line = format!("surgery --base ./base {rest} --prompts prompts.json --out no");
        let outcome = bench.run(&words(&line));
        assert!(!outcome.ok && !bench.path("no/tables").exists());
        outcome.stderr
    };
    let lora = "--adapter lora=./lora";
    assert!(refused("--adapter dora=./dora").contains("adapter `dora` rescales weights (DoRA)"));
    assert!(refused(&format!("{lora} --set share=0")).contains("share is 0"));
    assert!(refused(&format!("{lora} --set adapter=base")).contains("the base has nothing to take apart"));
    assert!(refused(&format!("{lora} --set adapter=loar")).contains("`loar` is not a model of this run"));
    assert!(refused(&format!("{lora} --set points=0")).contains("points is 0"));
}

#[test]
fn the_gradient_is_the_loss_of_a_block_where_blocks_do_little() {
    let Some(bench) = Bench::new() else { return };
    bench.json("p.json", &prompts(8));
    bench.edit("lora/adapter_config.json", |c| {
        c["lora_alpha"] = json!(c["lora_alpha"].as_f64().unwrap() / 40.0)
    });
    let rest = format!("{FEW} --set blocks=kind --set floor=0 --set scales=[0.75,1.25]");
    bench.analyse("surgery", &["lora"], "p.json", &rest, "out");
    let blocks = bench.table("out", "surgery_blocks");
    let mut sum = 0.0;
    for row in 0..8 {
        let (gradient, left_out) = (blocks.number(row, "gradient"), blocks.number(row, "left_out"));
        // A fortieth of the adapter is linear to a few percent.
        assert!((gradient - left_out).abs() < 0.1 * left_out.abs() + 0.02, "{:?}", blocks.rows[row]);
        sum += gradient;
    }
    // All blocks scaled together: the central difference of the dose, in f32.
    let doses = bench.table("out", "surgery_doses");
    let at = |scale: &str| doses.number(doses.row(&[("scale", scale)]), "recovery");
    let slope = (at("1.25") - at("0.75")) / 0.5;
    assert!((sum - slope).abs() < 0.02, "{sum} and {slope}");
}
