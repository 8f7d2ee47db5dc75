//! Interactions of components as the program measures them: causal ones against full patched runs, nothing between a model and
//! itself, and no claims from few prompts.

use crate::support::{Bench, copy_files, one_token_prompts, words};

const FEW: &str = "--set components=4 --set permutations=199 --set patched=3 --set prompts=6";

#[test]
fn a_causal_interaction_is_both_together_minus_each_alone() {
    let Some(bench) = Bench::new() else { return };
    bench.json("one.json", &one_token_prompts(6));
    bench.analyse("interactions", &["lora"], "one.json", FEW, "out");
    let effects = bench.table("out", "interaction_effects");
    assert_eq!(effects.rows.len(), 3);
    let pairs: Vec<(String, String)> = (0..3)
        .map(|row| (effects.get(row, "one").to_owned(), effects.get(row, "other").to_owned()))
        .collect();
    let joint: String = pairs.iter().map(|(a, b)| format!(" --joint {a}+{b}")).collect();
    let rest = format!("--source lora --target base --site result --site mlp_out{joint}");
    bench.analyse("patch", &["lora"], "one.json", &rest, "patch");
    let patches = bench.table("patch", "patches");
    let mean = |unit: &str| {
        let (site, place) = unit.split_once(':').unwrap_or((unit, ""));
        let (layer, head) = place.split_once('.').unwrap_or((place, ""));
        let joint = unit.contains('+');
        let rows = if joint {
            patches.rows_where(&[("site", unit)])
        } else {
            patches.rows_where(&[("site", site), ("layer", layer), ("head", head)])
        };
        assert_eq!(rows.len(), 6, "{unit}");
        rows.iter().map(|&r| patches.number(r, "change")).sum::<f64>() / 6.0
    };
    for (row, (one, other)) in pairs.iter().enumerate() {
        let expected = [mean(one), mean(other), mean(&format!("{one}+{other}"))];
        for (column, expected) in ["effect_one", "effect_other", "joint"].iter().zip(expected) {
            assert!((effects.number(row, column) - expected).abs() < 1e-12, "{column}");
        }
        let [a, b, both] = expected;
        assert!((effects.number(row, "interaction") - (both - a - b)).abs() < 1e-12);
    }
    let correlations = bench.table("out", "interaction_correlations");
    assert_eq!(correlations.rows.len(), 2 * 6);
    for row in 0..correlations.rows.len() {
        assert_eq!(correlations.get(row, "verdict"), "not resolved", "six prompts show nothing");
    }
    let page = String::from_utf8(bench.read("out/report.html")).unwrap();
    assert!(page.contains("not resolved at this sample size (6 prompts; 300 are asked for)"));
}

#[test]
fn a_model_does_not_differ_from_itself() {
    let Some(bench) = Bench::new() else { return };
    bench.json("one.json", &one_token_prompts(12));
    copy_files(&bench.path("lora"), &bench.path("same"));
    let rest = format!("{FEW} --set pairs=true --set source=lora --set target=same --set enough=1");
    bench.analyse("interactions", &["lora", "same"], "one.json", &rest, "out");
    let differences = bench.table("out", "interaction_differences");
    let rows = differences.rows_where(&[("model", "same"), ("minus", "lora")]);
    assert_eq!(rows.len(), 6);
    for row in rows {
        assert_eq!((differences.number(row, "difference"), differences.number(row, "p")), (0.0, 1.0));
        assert_eq!(differences.get(row, "verdict"), "not resolved");
    }
    let effects = bench.table("out", "interaction_effects");
    assert_eq!(effects.rows.len(), 3);
    for row in 0..3 {
        assert_eq!((effects.number(row, "interaction"), effects.number(row, "p")), (0.0, 1.0));
    }
}

#[test]
fn bad_settings_are_refused() {
    let Some(bench) = Bench::new() else { return };
    let refused = |rest: &str| {
        let line = format!(
            "interactions --base ./base --adapter lora=./lora --prompts prompts.json --out no {rest}"
        );
        let outcome = bench.run(&words(&line));
        assert!(!outcome.ok && !bench.path("no/tables").exists());
        outcome.stderr
    };
    assert!(refused("--set components=1").contains("components is 1; a pair needs two"));
    let said = refused("--set permutations=999");
    assert!(
        said.contains("435 pairs of 30 components a single one can reach q ≤ 0.05 only with 8699 or more"),
        "{said}"
    );
    assert!(refused("--set source=loar").contains("`loar` is not a model of this run"));
}
