//! Suppression as the program measures it, on a tiny model with adapters: shares that are those of attribution and patching and add up
//! to the whole difference, a planted change found where it was put, and nothing where nothing differs.

use crate::support::{Bench, Csv, copy_files, one_token_prompts, snapshot, weights};
use std::collections::BTreeMap;

/// Of the adapter's update, only the down projection of the last MLP is kept, or nothing.
fn plant(bench: &Bench, name: &str, kept: &str) {
    copy_files(&bench.path("lora"), &bench.path(name));
    weights::edit_tensors(&bench.path(name).join("adapter_model.safetensors"), |tensors| {
        for (tensor, values) in tensors.iter_mut().filter(|(t, _)| t.contains("lora_B")) {
            if !tensor.contains(kept) {
                *values = weights::Tensor::zeros(&values.shape);
            }
        }
    });
}

/// Sums over prompts of a column, each prompt with a factor.
fn weighted(table: &Csv, rows: &[usize], column: &str, factor: &BTreeMap<String, f64>) -> f64 {
    rows.iter().map(|&r| table.number(r, column) * factor[table.get(r, "prompt_id")]).sum()
}

#[test]
fn shares_are_those_of_attribution_and_patching() {
    let Some(bench) = Bench::new() else { return };
    bench.json("one.json", &one_token_prompts(8));
    let adapters = ["lora", "dora"];
    bench.analyse("suppression", &adapters, "one.json", "--reference dora", "out");
    bench.analyse("dla", &adapters, "one.json", "--set pairs=true", "dla");
    let flags = "--site result --site mlp_out --source dora --target lora";
    bench.analyse("patch", &adapters, "one.json", flags, "to");
    let flags = "--site result --site mlp_out --source lora --target dora";
    bench.analyse("patch", &adapters, "one.json", flags, "back");
    let (to, back, dla) =
        (bench.table("to", "patches"), bench.table("back", "patches"), bench.table("dla", "dla"));
    let first = to.rows_where(&[("site", "mlp_out"), ("layer", "0")]);
    let d: BTreeMap<String, f64> = first
        .iter()
        .map(|&r| {
            (to.get(r, "prompt_id").to_owned(), to.number(r, "delta_source") - to.number(r, "delta_target"))
        })
        .collect();
    let size: f64 = d.values().map(|d| d.abs()).sum();
    let sign: BTreeMap<String, f64> = d.iter().map(|(p, d)| (p.clone(), d.signum())).collect();
    let table = bench.table("out", "suppression");
    assert_eq!(table.rows.len(), 4 * 5, "one model, four heads and an MLP in each layer");
    for row in 0..table.rows.len() {
        let (layer, head) = (table.get(row, "layer"), table.get(row, "head"));
        let kind = if head.is_empty() { "mlp" } else { "head" };
        let push = |model: &str| {
            let rows = dla.rows_where(&[("model", model), ("kind", kind), ("layer", layer), ("head", head)]);
            weighted(&dla, &rows, "contribution", &sign) / size
        };
        let site = if head.is_empty() { "mlp_out" } else { "result" };
        let patched = |patches: &Csv| {
            let rows = patches.rows_where(&[("site", site), ("layer", layer), ("head", head)]);
            weighted(patches, &rows, "change", &sign) / size
        };
        let close = |column: &str, want: f64| {
            let found = table.number(row, column);
            assert!((found - want).abs() < 1e-9, "{:?}: {column} {want}", table.rows[row]);
        };
        close("push", push("dora"));
        close("push_model", push("lora"));
        close("direct", push("dora") - push("lora"));
        close("restored", patched(&to));
        close("removed", -patched(&back));
    }
    let totals = bench.table("out", "suppression_totals");
    let sum: f64 = (0..totals.rows.len()).map(|r| totals.number(r, "direct")).sum();
    // Contributions are f32 sums: complete to 1e-4 of a logit (methods), here of 1e-2 and more.
    assert!((sum - 1.0).abs() < 1e-3, "everything written adds up to the difference: {sum}");
}

#[test]
fn a_planted_change_is_found_at_its_place_alone() {
    let Some(bench) = Bench::new() else { return };
    // Twenty templates: few sign patterns would leave no p small enough for twenty components.
    bench.json("one.json", &one_token_prompts(40));
    plant(&bench, "selfish", ".layers.3.mlp.down_proj.");
    plant(&bench, "moral", "nothing");
    bench.analyse("suppression", &["selfish", "moral"], "one.json", "", "out");
    let table = bench.table("out", "suppression");
    for row in 0..table.rows.len() {
        let is_planted = table.get(row, "component") == "mlp_out:3";
        for column in ["restored", "removed"] {
            // In f32, of a logit difference: what is put in is all that differs.
            let want = f64::from(u8::from(is_planted));
            assert!((table.number(row, column) - want).abs() < 1e-4, "{:?}", table.rows[row]);
        }
        let class = table.get(row, "class");
        let of_change = ["suppressed", "inverted", "counteracting"];
        assert_eq!(of_change.contains(&class), is_planted, "{:?}", table.rows[row]);
    }
    // The other way round it is the reference that does less.
    bench.analyse("suppression", &["selfish", "moral"], "one.json", "--reference moral", "back");
    let back = bench.table("back", "suppression");
    let row = back.row(&[("component", "mlp_out:3")]);
    assert!(
        (back.number(row, "direct") - table.number(table.row(&[("component", "mlp_out:3")]), "direct")).abs()
            < 1e-9
    );
}

#[test]
fn models_that_do_not_differ_have_nothing_to_explain() {
    let Some(bench) = Bench::new() else { return };
    copy_files(&bench.path("lora"), &bench.path("again"));
    bench.analyse("suppression", &["lora", "again"], "prompts.json", "--threads 1", "out");
    let table = bench.table("out", "suppression");
    for row in 0..table.rows.len() {
        assert_eq!(table.get(row, "class"), "not resolved");
        for column in ["push", "direct", "restored", "removed", "index", "q_equivalence"] {
            assert_eq!(table.get(row, column), "", "{column}");
        }
        assert_eq!(table.number(row, "direct_q"), 1.0);
    }
    bench.analyse("suppression", &["lora", "again"], "prompts.json", "--threads 2 --memory 1MiB", "more");
    assert_eq!(snapshot(&bench.path("out/tables")), snapshot(&bench.path("more/tables")));
}

#[test]
fn bad_settings_are_refused() {
    let Some(bench) = Bench::new() else { return };
    let refuse = |adapters: &[&str], rest: &str, what: &str| {
        let adapters: String = adapters.iter().map(|a| format!(" --adapter {a}=./{a}")).collect();
        let line = format!("suppression --base ./base{adapters} --prompts prompts.json {rest} --out bad");
        let said = bench.run(&crate::support::words(&line));
        assert!(!said.ok && said.stderr.contains(what), "{rest}: {}", said.stderr);
        assert!(!bench.path("bad").exists());
    };
    refuse(&["lora"], "--reference nobody", "`nobody` is not a model of this run");
    refuse(&["lora"], "--reference lora --model lora", "no model is left to be held against `lora`");
    refuse(&["lora"], "--set margin=0", "margin is 0");
    refuse(&[], "", "there is no adapter to compare");
}
