//! Attribution patching by the program: estimates become exact as changes become small, integrated ones add up, exact values are
//! those of `patch`.

use crate::support::{Bench, one_token_prompts, prompts, words};
use serde_json::json;

/// Σ|estimate − exact| / Σ|exact| over the patched places, with the size of the exact ones.
fn error_of(bench: &Bench, out: &str, estimator: &str) -> (f64, f64) {
    let table = bench.table(out, "attributions");
    let (mut error, mut size, mut n) = (0.0, 0.0, 0);
    for row in 0..table.rows.len() {
        if !table.get(row, "exact").is_empty() {
            let (estimate, exact) = (table.number(row, estimator), table.number(row, "exact"));
            error += (estimate - exact).abs();
            size += exact.abs();
            n += 1;
        }
    }
    assert!(n > 100, "{n} places were patched");
    (error / size, size / f64::from(n))
}

#[test]
fn estimates_become_exact_as_the_change_becomes_small() {
    let Some(bench) = Bench::new() else { return };
    bench.json("prompts.json", &prompts(3));
    let sites = ["z", "attn_out", "mlp_out", "resid_pre", "q", "k", "v", "pattern", "mlp_post", "adapter"];
    let sites: String = sites.iter().map(|s| format!(" --site {s}")).collect();
    let rest = format!(
        "{sites} --position decision --position all --estimator gradient --set top=200 --set sample=0"
    );
    let mut found = Vec::new();
    for (name, alpha) in [("whole", 0.16), ("half", 0.08)] {
        bench.edit("lora/adapter_config.json", |c| c["lora_alpha"] = json!(alpha));
        bench.analyse("attribution", &["lora"], "prompts.json", &rest, name);
        found.push(error_of(&bench, name, "gradient"));
    }
    let [(whole, size), (half, half_size)] = found[..] else { unreachable!() };
    println!("relative error {whole:.4} at effects of {size:.4}, {half:.4} at {half_size:.4}");
    assert!(whole < 0.1, "{whole}");
    // The error is of second order: relative to the effect it halves with the change.
    assert!(half < 0.65 * whole, "{half} against {whole}");
    assert!((half_size / size - 0.5).abs() < 0.1);
}

#[test]
fn integrated_over_its_scale_the_blocks_of_an_adapter_add_up_to_what_it_does() {
    let Some(bench) = Bench::new() else { return };
    // Of answers of several tokens the later ones have blocks of their own, at positions after the decision point.
    bench.json("one.json", &one_token_prompts(3));
    // This adapter bends the model strongly: twelve nodes are off by 5%.
    let rest = "--source base --target lora --source lora --target base --site adapter --position all \
                --estimator integrated --set nodes=48 --set top=1 --set sample=0";
    bench.analyse("attribution", &["lora"], "one.json", rest, "out");
    let table = bench.table("out", "attributions");
    bench.analyse("patch", &["lora"], "one.json", "--site mlp_out", "patched");
    let deltas = bench.table("patched", "patches");
    for prompt in ["p0", "p1", "p2"] {
        for (source, target) in [("base", "lora"), ("lora", "base")] {
            let at = [("source", source), ("target", target), ("prompt_id", prompt)];
            let sum: f64 = table.rows_where(&at).into_iter().map(|row| table.number(row, "integrated")).sum();
            let row = deltas.rows_where(&at)[0];
            let whole = deltas.number(row, "delta_source") - deltas.number(row, "delta_target");
            assert!(whole.abs() > 0.01, "the adapter does something: {whole}");
            assert!(
                (sum - whole).abs() < 1e-3 * whole.abs().max(1.0),
                "{prompt} {source} {target}: {sum} {whole}"
            );
        }
    }
}

#[test]
fn exact_values_are_those_of_patching() {
    let Some(bench) = Bench::new() else { return };
    bench.analyse(
        "attribution",
        &["lora", "dora"],
        "prompts.json",
        "--set top=3 --set sample=2",
        "estimated",
    );
    bench.analyse("patch", &["lora", "dora"], "prompts.json", "", "patched");
    let keys = ["source", "target", "prompt_id", "site", "layer", "head", "position"];
    let changes = bench.table("patched", "patches").numbers(&keys, "change");
    let table = bench.table("estimated", "attributions");
    let mut n = 0;
    for row in (0..table.rows.len()).filter(|&row| !table.get(row, "exact").is_empty()) {
        let key: Vec<String> = keys.iter().map(|k| table.get(row, k).to_owned()).collect();
        assert!((table.number(row, "exact") - changes[&key]).abs() < 1e-12, "{key:?}");
        n += 1;
    }
    // At least the largest three and two others of four pairs on five prompts.
    assert!(n >= 4 * 5 * 5, "{n}");
    let accuracy = bench.table("estimated", "attribution_accuracy");
    assert_eq!(accuracy.rows.len(), 4 * 3, "a row for each pair and estimator");
    let places = bench.table("estimated", "attribution_places");
    for row in 0..places.rows.len() {
        assert_eq!(places.get(row, "exact").is_empty(), places.get(row, "verified").is_empty());
    }
}

#[test]
fn between_prompts_of_one_length_all_estimators_have_a_say() {
    let Some(bench) = Bench::new() else { return };
    bench.json("prompts.json", &prompts(4));
    let rest = "--set between=s0:s1 --estimator gradient --estimator qk_fix --estimator atp_star --estimator integrated --set nodes=4 \
                --set top=4 --set sample=0";
    bench.edit("prompts.json", |items| {
        for item in items.as_array_mut().unwrap() {
            item["variant"] = json!("v");
        }
    });
    bench.analyse("attribution", &["lora"], "prompts.json", rest, "out");
    let table = bench.table("out", "attributions");
    assert!(!table.rows.is_empty());
    for row in 0..table.rows.len() {
        let (exact_patterns, dropped) = (table.number(row, "qk_fix"), table.number(row, "atp_star"));
        assert!(exact_patterns * dropped >= 0.0, "they agree in sign");
        // Neither queries nor keys are among the places of the default.
        assert_eq!(table.number(row, "gradient"), exact_patterns);
        table.number(row, "integrated");
        assert!(table.get(row, "gim").is_empty());
    }
}

/// In a model whose softmax is saturated the gradient at queries and keys is next to nothing; from the exact pattern it is not. And where
/// it is not saturated, and the change small, all agree.
#[test]
fn queries_and_keys_are_judged_by_their_exact_patterns() {
    let Some(bench) = Bench::new() else { return };
    let rest = "--site q --site k --position each --estimator gradient --estimator qk_fix --set top=400 --set sample=0";
    bench.analyse("attribution", &["lora"], "prompts.json", rest, "out");
    let table = bench.table("out", "attributions");
    let (mut off, mut off_fixed, mut differ) = (0.0, 0.0, 0);
    for row in 0..table.rows.len() {
        let [gradient, fixed, exact] = ["gradient", "qk_fix", "exact"].map(|c| table.number(row, c));
        off += (gradient - exact).abs();
        off_fixed += (fixed - exact).abs();
        differ += usize::from((gradient - fixed).abs() > 1e-9);
    }
    assert!(differ > table.rows.len() / 4, "{differ} of {}", table.rows.len());
    assert!(off_fixed < off, "{off_fixed} against {off}");
}

#[test]
fn what_cannot_be_estimated_is_refused() {
    let Some(bench) = Bench::new() else { return };
    let run = |rest: &str| {
        let line = format!(
            "attribution --base ./base --adapter lora=./lora --adapter dora=./dora --prompts prompts.json {rest} --out out"
        );
        bench.run(&words(&line))
    };
    for (rest, says) in [
        ("--estimator slope", "`slope` is not an estimator"),
        ("--set top=0", "top is 0"),
        ("--set nodes=0", "nodes is 0"),
        ("--source lora --target dora --estimator integrated", "the path leads from the base to an adapter"),
    ] {
        let outcome = run(rest);
        assert!(!outcome.ok && outcome.stderr.contains(says), "{rest}: {}", outcome.stderr);
    }
}

#[test]
fn estimates_of_edges_become_exact_as_the_change_becomes_small() {
    let Some(bench) = Bench::new() else { return };
    bench.json("prompts.json", &prompts(3));
    let rest =
        "--source lora --target base --set span=[] --estimator gradient --estimator integrated --set top=6";
    let rest = rest.replace(
        "--estimator gradient --estimator integrated",
        "--set estimator=[\"gradient\",\"integrated\"]",
    );
    let mut found = Vec::new();
    for (name, alpha) in [("whole", 0.16), ("half", 0.08)] {
        bench.edit("lora/adapter_config.json", |c| c["lora_alpha"] = json!(alpha));
        bench.analyse("paths", &["lora"], "prompts.json", &rest, name);
        let table = bench.table(name, "paths");
        let (mut errors, mut size, mut n) = ([0.0, 0.0], 0.0, 0);
        for row in (0..table.rows.len()).filter(|&row| !table.get(row, "gradient").is_empty()) {
            let exact = table.number(row, "change");
            for (error, column) in errors.iter_mut().zip(["gradient", "integrated"]) {
                *error += (table.number(row, column) - exact).abs();
            }
            size += exact.abs();
            n += 1;
        }
        assert!(n > 50, "{n} edges");
        found.push(errors.map(|e| e / size));
    }
    println!("relative errors {found:?}");
    for (whole, half) in found[0].iter().zip(found[1]) {
        assert!(*whole < 0.15 && half < 0.65 * whole, "{half} against {whole}");
    }
}
