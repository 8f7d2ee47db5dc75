//! Validation as the program carries it out on a tiny model: draws agree with decisions, nothing differs from itself, failures
//! stand at the head of the report, and wrong settings are refused.

use crate::support::{Bench, one_token_prompts, snapshot, weights, words};

/// `lora` with updates of zero.
fn idle(bench: &Bench) {
    crate::support::copy_files(&bench.path("lora"), &bench.path("idle"));
    weights::edit_tensors(&bench.path("idle/adapter_model.safetensors"), |tensors| {
        tensors.iter_mut().filter(|(path, _)| path.contains("lora_B")).for_each(|(_, t)| t.data.fill(0));
    });
}

#[test]
fn draws_agree_with_decisions_and_what_fails_is_said_first() {
    let Some(bench) = Bench::new() else { return };
    bench.json("one.json", &one_token_prompts(8));
    bench.analyse("validate", &["lora", "dora"], "one.json", "--draws 4000 --set legal=[0.5,0.1]", "out");
    bench.analyse("decide", &["lora", "dora"], "one.json", "", "decide");
    let (samples, decisions) = (bench.table("out", "samples"), bench.table("decide", "decisions"));
    assert_eq!(samples.rows.len(), 3 * 8);
    for row in 0..samples.rows.len() {
        let (model, prompt) = (samples.get(row, "model"), samples.get(row, "prompt_id"));
        let decision = decisions.row(&[("model", model), ("prompt_id", prompt)]);
        for column in ["delta", "p_b", "legal_mass", "pair_share"] {
            assert_eq!(
                samples.get(row, column),
                decisions.get(decision, column),
                "{model}, {prompt}: {column}"
            );
        }
        let off = samples.number(row, "delta") - samples.number(row, "delta_by_token");
        assert!(off.abs() < 1e-5, "{model}, {prompt}: token by token it is off by {off}");
        let outcomes = ["a", "b", "a_unscored", "b_unscored", "neither"];
        assert_eq!(outcomes.iter().map(|c| samples.number(row, c)).sum::<f64>(), 4000.0);
    }
    let tests = bench.table("out", "calibration_tests");
    assert_eq!(tests.rows.len(), 3 * 2);
    for row in 0..tests.rows.len() {
        assert!(tests.number(row, "q") > 0.01, "{:?}", tests.rows[row]);
    }
    let bins = bench.table("out", "calibration");
    let drawn = |table: &crate::support::Csv, of: &[(&str, &str)]| -> f64 {
        table.rows_where(of).iter().map(|&r| table.number(r, "draws")).sum()
    };
    let of_lora = [("model", "lora")];
    assert_eq!(drawn(&bins, &of_lora), drawn(&tests, &[("model", "lora"), ("of", "p_b")]));
    let checks = bench.table("out", "validation");
    let verdict =
        |model: &str, check: &str| checks.get(checks.row(&[("model", model), ("check", check)]), "verdict");
    for (model, check, expected) in [
        ("lora", "calibration", "ok"),
        ("base", "legal_calibration", "ok"),
        ("dora", "token_by_token", "ok"),
        ("base", "legal_mass", "fail"),
        ("", "templates", "warn"),
        ("", "both_labellings", "warn"),
        ("", "duplicates", "ok"),
        ("", "context", "ok"),
    ] {
        assert_eq!(verdict(model, check), expected, "{model}: {check}");
    }
    let page = String::from_utf8(bench.read("out/report.html")).unwrap();
    let warning = page.find("Validation failed (legal mass of base and dora and lora)").unwrap();
    assert!(warning < page.find("<section").unwrap_or(page.len()), "the warning stands at the head");
}

#[test]
fn an_idle_adapter_moves_nothing() {
    let Some(bench) = Bench::new() else { return };
    idle(&bench);
    bench.json("one.json", &one_token_prompts(16));
    bench.analyse("validate", &["idle", "lora"], "one.json", "--draws 10", "out");
    let table = bench.table("out", "prompt_sensitivity");
    let row = table.row(&[("model", "idle")]);
    for column in ["change", "change_of_scenarios", "ratio", "ratio_lo", "ratio_hi"] {
        assert_eq!(table.number(row, column), 0.0, "{column}");
    }
    assert_eq!(table.get(row, "verdict"), "wording moves more");
    // The definition, in plain sums.
    let samples = bench.table("out", "samples");
    let of = |model: &str, i: usize| {
        samples.number(samples.row(&[("model", model), ("prompt_id", &format!("p{i}"))]), "delta")
    };
    let squares: f64 = (0..16).map(|i| (of("lora", i) - of("base", i)).powi(2)).sum();
    let mean = |s: usize| (0..8).map(|i| of("base", 2 * i + s)).sum::<f64>() / 8.0;
    let within: f64 = (0..16).map(|i| (of("base", i) - mean(i % 2)).powi(2)).sum::<f64>() / 14.0;
    let row = table.row(&[("model", "lora")]);
    assert!((table.number(row, "change") - (squares / 16.0).sqrt()).abs() < 1e-12);
    assert!((table.number(row, "ratio") - (squares / 16.0 / (2.0 * within)).sqrt()).abs() < 1e-9);
}

#[test]
fn threads_and_memory_change_nothing_and_a_seed_does() {
    let Some(bench) = Bench::new() else { return };
    // Answers of one letter: those of four are next to impossible in a random model, and no seed would draw one.
    bench.json("one.json", &one_token_prompts(5));
    let tables = |rest: &str, out: &str| {
        bench.analyse("validate", &["lora"], "one.json", rest, out);
        snapshot(&bench.path(&format!("{out}/tables")))
    };
    let one = tables("--draws 200 --threads 1 --memory 64MiB", "one");
    assert_eq!(one, tables("--draws 200 --threads 3", "three"));
    assert_ne!(one, tables("--draws 200 --seed 1", "seed"));
}

#[test]
fn a_study_that_fails_validation_says_so_first() {
    let Some(bench) = Bench::new() else { return };
    let study = crate::support::STUDY.replace("'decide', 'lens'", "'decide', 'validate'");
    bench.text("study.toml", &study);
    bench.must(&words("study study.toml --out out"));
    let page = String::from_utf8(bench.read("out/report.html")).unwrap();
    assert!(page.contains("before drawing any conclusion from the rest"));
    let checks = bench.table("out", "validation");
    // Answers of four letters are next to impossible in a random model: none is drawn, and that is no success.
    assert_eq!(checks.get(checks.row(&[("model", "lora"), ("check", "calibration")]), "verdict"), "warn");
}

#[test]
fn impossible_settings_are_refused_before_anything_is_written() {
    let Some(bench) = Bench::new() else { return };
    let asked = |setting: &str| {
        let line = format!("validate --base ./base --prompts prompts.json {setting} --out out");
        let outcome = bench.run(&words(&line));
        assert!(!outcome.ok && !bench.path("out").exists(), "{setting}");
        outcome.stderr
    };
    assert!(asked("--draws 0").contains("draws is 0; it must be from 1 to 100000"));
    let short = asked("--set tokens=3");
    assert!(short.contains("tokens is 3, but an answer of prompt `p0` has 5"), "{short}");
    assert!(asked("--set legal=[0.1,0.5]").contains("it would fail before it warns"));
    assert!(asked("--set level=2").contains("2 is not between 0 and 1"));
    assert!(asked("--set drawn=2").contains("unknown field"));
}
