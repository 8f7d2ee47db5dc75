//! Transplants as the program carries them out: an adapter with blocks of another is the folder that is written, all blocks of a source
//! are the source, a planted difference is found where it is, an adapter put into itself changes nothing.

use crate::support::weights::edit_tensors;
use crate::support::{Bench, Csv, copy_files, prompts, shared, words};
use std::collections::BTreeMap;

const FEW: &str = "--set prompts=4";

/// delta by prompt id.
fn deltas(table: &Csv, wanted: &[(&str, &str)]) -> BTreeMap<String, f64> {
    let rows = table.rows_where(wanted);
    rows.iter().map(|&r| (table.get(r, "prompt_id").to_owned(), table.number(r, "delta"))).collect()
}

/// A bench with a second adapter of other modules, ranks and scales.
fn bench() -> Option<Bench> {
    let bench = Bench::new()?;
    bench.json("p.json", &prompts(8));
    copy_files(&shared()?.join("tiny/llama/edge/rank_alpha_pattern"), &bench.path("other"));
    Some(bench)
}

#[test]
fn a_transplant_is_the_written_adapter_loaded_again() {
    let Some(bench) = bench() else { return };
    bench.analyse("transplants", &["lora", "other"], "p.json", &format!("{FEW} --set groups=kind"), "out");
    let (table, runs) = (bench.table("out", "transplants"), bench.table("out", "transplant_runs"));
    assert_eq!(table.rows.len(), 2 * 8, "both directions, attention and MLP of four layers");
    let best =
        (0..16).max_by(|&a, &b| table.number(a, "recovery").total_cmp(&table.number(b, "recovery"))).unwrap();
    let (source, target) = (table.get(best, "source"), table.get(best, "target"));
    copy_files(&bench.path(&format!("out/adapters/{source}_in_{target}_transplant")), &bench.path("made"));
    bench.analyse("decide", &["lora", "other", "made"], "p.json", "", "decide");
    let decisions = bench.table("decide", "decisions");
    let patched =
        deltas(&runs, &[("source", source), ("target", target), ("group", table.get(best, "group"))]);
    let of = |model: &str| deltas(&decisions, &[("model", model)]);
    let (made, x, y) = (of("made"), of(source), of(target));
    assert_eq!(patched.len(), 4);
    let (mut over, mut under, mut ratios) = (0.0, 0.0, 0.0);
    for (id, delta) in &patched {
        assert_eq!(*delta, made[id], "{id}");
        let d = x[id] - y[id];
        over += (delta - y[id]) * d.signum();
        under += d.abs();
        ratios += (delta - y[id]) / d / 4.0;
    }
    assert!((table.number(best, "recovery") - over / under).abs() < 1e-9);
    assert!((table.number(best, "mean_recovery") - ratios).abs() < 1e-9);
    // Once more with other threads and memory, and from its parts.
    let rest = format!("{FEW} --set groups=kind --threads 3 --memory 100KiB");
    bench.analyse("transplants", &["lora", "other"], "p.json", &rest, "again");
    for name in ["transplants", "transplant_runs"] {
        let file = |out: &str| bench.read(&format!("{out}/tables/{name}.csv"));
        assert!(file("out") == file("again"), "{name}");
    }
}

#[test]
fn all_blocks_of_a_source_are_the_source() {
    let Some(bench) = bench() else { return };
    let rest = format!("{FEW} --set groups=span --set spans=1");
    bench.analyse("transplants", &["lora", "other"], "p.json", &rest, "out");
    bench.analyse("decide", &["lora", "other"], "p.json", "", "decide");
    let (table, runs) = (bench.table("out", "transplants"), bench.table("out", "transplant_runs"));
    let decisions = bench.table("decide", "decisions");
    for (source, target) in [("lora", "other"), ("other", "lora")] {
        let row = table.row(&[("source", source), ("target", target), ("name", "layer")]);
        assert_eq!((table.number(row, "recovery"), table.number(row, "mean_recovery")), (1.0, 1.0));
        let plain = deltas(&decisions, &[("model", source)]);
        for (id, delta) in deltas(&runs, &[("source", source), ("target", target), ("label", "L0-3")]) {
            assert_eq!(delta, plain[&id], "{id}");
        }
        let part = |name: &str| {
            table.number(table.row(&[("source", source), ("target", target), ("name", name)]), "recovery")
        };
        assert!(part("attention") != 1.0 && part("mlp") != 1.0);
    }
}

#[test]
fn a_planted_difference_is_found_and_nothing_else() {
    let Some(bench) = bench() else { return };
    copy_files(&bench.path("lora"), &bench.path("less"));
    edit_tensors(&bench.path("less/adapter_model.safetensors"), |tensors| {
        let (_, b) = tensors.iter_mut().find(|(n, _)| n.contains("layers.2.mlp.up_proj.lora_B")).unwrap();
        b.data.fill(0);
    });
    let rest = format!("{FEW} --set groups=module --source lora --target less");
    bench.analyse("transplants", &["lora", "less"], "p.json", &rest, "out");
    let table = bench.table("out", "transplants");
    assert_eq!(table.rows.len(), 28);
    for row in 0..28 {
        let planted = (table.get(row, "first_layer"), table.get(row, "name")) == ("2", "mlp.up_proj");
        assert_eq!(table.number(row, "recovery"), f64::from(u8::from(planted)), "{:?}", table.rows[row]);
        assert_eq!(table.number(row, "change") != 0.0, planted);
    }
    // One layer's MLP from one model into another.
    let rest = format!("{FEW} --set groups=kind --layer 2 --source lora --target less");
    bench.analyse("transplants", &["lora", "less"], "p.json", &rest, "one");
    let table = bench.table("one", "transplants");
    let found: Vec<_> = (0..2).map(|row| (table.get(row, "name"), table.number(row, "recovery"))).collect();
    assert_eq!((table.rows.len(), &found[..]), (2, &[("attention", 0.0), ("mlp", 1.0)][..]));
}

#[test]
fn an_adapter_put_into_itself_changes_nothing() {
    let Some(bench) = bench() else { return };
    copy_files(&bench.path("lora"), &bench.path("same"));
    bench.analyse("transplants", &["lora", "same"], "p.json", &format!("{FEW} --set groups=layer"), "out");
    let table = bench.table("out", "transplants");
    assert_eq!(table.rows.len(), 8);
    for row in 0..8 {
        assert_eq!((table.number(row, "change"), table.get(row, "recovery")), (0.0, ""));
        assert_eq!((table.number(row, "p"), table.number(row, "q")), (1.0, 1.0));
    }
    assert!(!bench.path("out/adapters").exists());
    let page = String::from_utf8(bench.read("out/report.html")).unwrap();
    assert!(page.contains("there is nothing to transplant"));
}

#[test]
fn what_can_not_be_transplanted_is_refused() {
    let Some(bench) = bench() else { return };
    let refused = |rest: &str| {
        let line =
            format!("transplants --base ./base --adapter lora=./lora {rest} --prompts p.json --out no");
        let outcome = bench.run(&words(&line));
        assert!(!outcome.ok && !bench.path("no/tables").exists());
        outcome.stderr
    };
    let two = "--adapter other=./other";
    assert!(refused(&format!("{two} --source base")).contains("the base has no blocks to give"));
    assert!(refused("--target lora").contains("there is no pair of two different adapters"));
    assert!(refused(&format!("{two} --layer 4")).contains("layer has 4; the model has layers 0 to 3"));
    assert!(refused("--adapter dora=./dora --target dora").contains("adapter `dora` rescales weights"));
}
