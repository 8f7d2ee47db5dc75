//! Trajectories as the program finds them: a planted change comes out in its layer and step and nowhere else, checkpoints that are the
//! same have none, and what must be 1 at the last step is 1.

use crate::support::weights::edit_tensors;
use crate::support::{Bench, assert_curves_are_means_of_prompts, copy_files, one_token_prompts, words};
use serde_json::Value;

const FACTORS: &str = "adapter_model.safetensors";

/// Makes checkpoints of the adapter `lora`: at each step, B of every tensor is multiplied by a factor.
fn checkpoints(bench: &Bench, folder: &str, steps: &[u64], factor: impl Fn(u64, &str) -> f32) {
    for &step in steps {
        let to = bench.path(folder).join(format!("checkpoint-{step}"));
        copy_files(&bench.path("lora"), &to);
        edit_tensors(&to.join(FACTORS), |tensors| {
            for (name, tensor) in tensors.iter_mut().filter(|(name, _)| name.contains("lora_B")) {
                let factor = factor(step, name);
                let numbers: Vec<f32> =
                    tensor.data.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
                numbers.iter().enumerate().for_each(|(i, v)| tensor.set(i, v * factor));
            }
        });
    }
}

fn bench(n_prompts: usize) -> Option<Bench> {
    let bench = Bench::new()?;
    bench.json("prompts.json", &one_token_prompts(n_prompts));
    Some(bench)
}

fn trajectory(bench: &Bench, rest: &str, out: &str) {
    bench.must(&words(&format!("trajectory --base ./base --prompts prompts.json {rest} --out {out}")));
}

const STEPS: [u64; 12] = [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110];

#[test]
fn a_planted_change_is_found_in_its_layer_at_its_step_and_nowhere_else() {
    let Some(bench) = bench(12) else { return };
    let planted = |name: &str| name.contains("layers.2.") && name.contains("down_proj");
    checkpoints(&bench, "way", &STEPS, |step, name| if planted(name) && step >= 60 { 1.0 } else { 0.0 });
    trajectory(&bench, "--checkpoints s=./way", "out");
    let changes = bench.table("out", "trajectory_changes");
    let mut with = Vec::new();
    for row in 0..changes.rows.len() {
        let get = |column: &str| changes.get(row, column).to_owned();
        if get("n_changes") == "0" {
            assert_eq!(get("p"), "", "a flat curve is not tested: {:?}", changes.rows[row]);
            continue;
        }
        with.push((get("curve"), get("layer"), get("module")));
        assert_eq!(
            (get("n_changes"), get("after_step"), get("at_step")),
            ("1".into(), "50".into(), "60".into())
        );
        assert_eq!((get("lo_step"), get("hi_step")), ("50".into(), "60".into()), "{:?}", changes.rows[row]);
        assert!((changes.number(row, "jump") - 1.0).abs() < 1e-9 && changes.number(row, "q") <= 0.05);
        if get("curve") == "norm" {
            // It comes with the behaviour, so neither before nor after.
            assert_eq!(get("order"), "unresolved");
        }
    }
    let norm = |layer: &str, module: &str| ("norm".to_owned(), layer.to_owned(), module.to_owned());
    let behaviour = vec![("behaviour".to_owned(), String::new(), String::new()); 3];
    let norms = vec![norm("", "all"), norm("2", "all"), norm("2", "mlp.down_proj")];
    assert_eq!(
        with,
        [behaviour, norms].concat(),
        "both scenarios and all prompts, one block with its layer and the whole"
    );
    let rows = bench.table("out", "trajectory_behaviour");
    for row in rows.rows_where(&[("scenario", "all prompts")]) {
        let step: u64 = rows.get(row, "step").parse().unwrap_or(0);
        let recovery = rows.number(row, "recovery");
        assert!((recovery - if step >= 60 { 1.0 } else { 0.0 }).abs() < 1e-12, "{step}: {recovery}");
        let previous = rows.get(row, "from_previous");
        assert_eq!(!previous.is_empty() && previous.parse::<f64>().unwrap() != 0.0, step == 60, "{step}");
    }
}

#[test]
fn a_block_that_changes_first_comes_before_behaviour() {
    let Some(bench) = bench(12) else { return };
    // What the first layer writes early is too little for the decision, and so is what the last writes late.
    let factor = |step: u64, name: &str| match () {
        () if name.contains("layers.0.") && name.contains("q_proj") && step >= 40 => 1e-6,
        () if name.contains("layers.2.") && name.contains("down_proj") && step >= 80 => 1.0,
        () if name.contains("layers.3.") && name.contains("up_proj") && step >= 100 => 1e-6,
        () => 0.0,
    };
    let steps: Vec<u64> = (0..=14).map(|i| 10 * i).collect();
    checkpoints(&bench, "way", &steps, factor);
    trajectory(&bench, "--checkpoints s=./way", "out");
    let changes = bench.table("out", "trajectory_changes");
    let order = |layer: &str, module: &str| {
        let row = changes.row(&[("curve", "norm"), ("layer", layer), ("module", module)]);
        (changes.get(row, "at_step").to_owned(), changes.get(row, "order").to_owned())
    };
    assert_eq!(order("0", "attn.q_proj"), ("40".into(), "before".into()));
    assert_eq!(order("2", "mlp.down_proj"), ("80".into(), "unresolved".into()));
    assert_eq!(order("3", "mlp.up_proj"), ("100".into(), "after".into()));
}

#[test]
fn checkpoints_that_are_the_same_have_no_change_and_no_difference() {
    let Some(bench) = bench(8) else { return };
    checkpoints(&bench, "way", &[5, 10, 15, 20], |_, _| 1.0);
    trajectory(&bench, "--checkpoints s=./way", "out");
    let changes = bench.table("out", "trajectory_changes");
    for row in 0..changes.rows.len() {
        assert_eq!(
            (changes.get(row, "n_changes"), changes.get(row, "p")),
            ("0", ""),
            "{:?}",
            changes.rows[row]
        );
    }
    let blocks = bench.table("out", "trajectory_blocks");
    for row in blocks.rows_where(&[]) {
        let increment = blocks.get(row, "increment_norm");
        assert!(increment.is_empty() || increment.parse::<f64>().unwrap() == 0.0);
        assert_eq!(blocks.get(row, "cosine_increment"), "");
        assert!((blocks.number(row, "cosine_final") - 1.0).abs() < 1e-12);
    }
    let rows = bench.table("out", "trajectory_behaviour");
    for row in (0..rows.rows.len()).filter(|&r| !rows.get(r, "from_previous").is_empty()) {
        assert_eq!((rows.number(row, "from_previous"), rows.number(row, "from_previous_p")), (0.0, 1.0));
        assert_eq!(rows.number(row, "recovery"), 1.0);
    }
}

/// Norms are those of `weights`; sizes, cosines and increments are those of the matrices multiplied out.
#[test]
fn numbers_are_those_of_weights_and_of_dense_matrices() {
    let Some(bench) = bench(4) else { return };
    let grown = [0.0f32, 0.5, 0.75, 1.0];
    checkpoints(&bench, "way", &[0, 1, 2, 3], |step, name| {
        grown[step as usize] * if name.contains("layers.1.") && step == 1 { -1.0 } else { 1.0 }
    });
    trajectory(&bench, "--checkpoints s=./way", "out");
    bench.must(&words(
        "weights --base ./base --checkpoints s=./way --prompts prompts.json --set intruders=0 --out weights",
    ));
    let (blocks, weights) = (bench.table("out", "trajectory_blocks"), bench.table("weights", "weights"));
    let mut compared = 0;
    for row in 0..blocks.rows.len() {
        let get = |column: &str| blocks.get(row, column);
        let (step, layer, module) = (get("step"), get("layer"), get("module"));
        let norm = blocks.number(row, "norm");
        if !layer.is_empty() && module != "all" {
            let model = format!("s@{step}");
            let own = weights.row(&[("model", &model), ("layer", layer), ("module", module)]);
            let pairs = [
                ("norm", "factor_norm"),
                ("ratio", "ratio"),
                ("stable_rank", "stable_rank"),
                ("effective_rank", "effective_rank"),
            ];
            for (ours, theirs) in pairs {
                assert_eq!(get(ours), weights.get(own, theirs), "{model} {layer} {module} {ours}");
            }
            compared += 1;
        }
        // B is the last one's times a factor, so all of this is known without matrices.
        let number = |column: &str| get(column).parse::<f64>().ok();
        let sign = |step: usize| if layer == "1" && step == 1 { -1.0 } else { 1.0 };
        let at: usize = step.parse().unwrap();
        if layer.is_empty() {
            continue;
        }
        let last = blocks.number(blocks.row(&[("step", "3"), ("layer", layer), ("module", module)]), "norm");
        let factor = |step: usize| sign(step) * f64::from(grown[step]);
        assert!((norm - factor(at).abs() * last).abs() < 1e-6 * last);
        assert_eq!(number("cosine_final").map(f64::round), (at > 0).then(|| sign(at)));
        let moved = |at: usize| factor(at) - factor(at - 1);
        let increment = (at > 0).then(|| moved(at).abs() * last);
        assert!(increment.is_none_or(|i| (number("increment_norm").unwrap() - i).abs() < 1e-6 * last));
        let turn = (at > 1).then(|| (moved(at) * moved(at - 1)).signum());
        assert!(turn.is_none_or(|t| (number("cosine_increment").unwrap() - t).abs() < 1e-6), "{turn:?}");
    }
    assert_eq!(compared, 4 * 28);
    let end = bench.table("out", "trajectory_behaviour");
    for row in end.rows_where(&[("step", "3")]) {
        assert_eq!(["recovery", "recovery_lo", "recovery_hi"].map(|c| end.number(row, c)), [1.0; 3]);
    }
}

/// A trajectory is found in a study without being named, and a study without checkpoints is as it was.
#[test]
fn a_study_has_trajectories_where_there_are_checkpoints() {
    let Some(bench) = bench(4) else { return };
    checkpoints(&bench, "way", &[0, 1, 2, 3], |step, _| step as f32 / 3.0);
    let done = |study: &str, folder: &str| -> Vec<String> {
        bench.text(
            "study.toml",
            &format!("base = './base'\nprompts = 'prompts.json'\ncontrols = []\n{study}"),
        );
        bench.must(&words(&format!("study study.toml --out {folder}")));
        let manifest: Value =
            serde_json::from_slice(&bench.read(&format!("{folder}/manifest.json"))).unwrap();
        let models: Vec<String> = serde_json::from_value(manifest["settings"]["models"].clone()).unwrap();
        let analyses: Vec<String> = serde_json::from_value(manifest["analyses"].clone()).unwrap();
        [models, analyses].concat()
    };
    // Every analysis by default, on a trajectory that begins with an adapter that does nothing.
    let by_folder = done("[[checkpoints]]\nname = 's'\npath = './way'\nevery = 2\n", "folder");
    assert!(by_folder.starts_with(&["base", "s@0", "s@2", "s@3"].map(str::to_owned)), "{by_folder:?}");
    assert!(by_folder.contains(&"trajectory".to_owned()) && by_folder.contains(&"weights".to_owned()));
    let by_hand: String =
        [0, 2, 3].map(|s| format!("[[adapter]]\nname = 's@{s}'\npath = './way/checkpoint-{s}'\n")).concat();
    let named = format!("analyses = ['decide', 'trajectory']\n{by_hand}");
    let by_hand = done(&named, "hand");
    assert_eq!(by_hand[..4], by_folder[..4]);
    let table = |folder: &str| bench.read(&format!("{folder}/tables/trajectory_behaviour.csv"));
    assert_eq!(table("hand"), table("folder"));
    let page = serde_json::from_slice(&bench.read("hand/report.json")).unwrap();
    assert!(assert_curves_are_means_of_prompts(&page, "trajectory_behaviour") >= 3, "of single prompts, too");
    let without = done("analyses = ['default']\n[[adapter]]\nname = 's@0'\npath = './lora'\n", "without");
    assert!(!without.contains(&"trajectory".to_owned()) && without.contains(&"weights".to_owned()));
    // Named, it says what it lacks; controls of checkpoints can be named.
    bench.text("study.toml", "base = './base'\nprompts = 'prompts.json'\nanalyses = ['trajectory']\n[[adapter]]\nname = 's@0'\npath = './lora'\n");
    let said = bench.run(&words("study study.toml --out no")).stderr;
    assert!(
        said.contains("no adapter is there with 3 checkpoints or more; give --checkpoints NAME=DIR"),
        "{said}"
    );
    assert!(!bench.path("no").exists());
    let control = "decide --base ./base --checkpoints s=./way --control random:s@3 --prompts prompts.json --out control";
    bench.must(&words(control));
    assert!(String::from_utf8(bench.read("control/manifest.json")).unwrap().contains("s@3.random"));
}
