//! Steering as the program carries it out, held against whole runs by hand: vectors are the differences of means that they say, no
//! prompt is steered by its own, strength 0 is nothing, one prompt's vector is its patch, and a planted direction is found.

use crate::support::naive::{Change, Naive};
use crate::support::weights::{Tensors, edit_tensors};
use crate::support::{Bench, Csv, by_hand, copy_files, one_token_prompts, snapshot, words};
use lorascope_engine::{Batch, Edit, EditOp, HookPoint, Hooks, Site};
use lorascope_text::{PromptInput, Tokenizer, Wrapping};
use serde_json::json;

/// Few controls and texts.
const FEW: &str = "--set random=3 --set shuffled=2 --set texts=2 --set text_controls=1";

fn tensors(bench: &Bench, file: &str) -> Tensors {
    let mut found = Tensors::new();
    edit_tensors(&bench.path(file), |tensors| found.clone_from(tensors));
    found
}

fn numbers(tensors: &Tensors, name: &str) -> Vec<f32> {
    tensors[name].data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Mean over prompts of one model's activations at decision points minus the mean over prompts of another's.
fn difference(naive: &Naive, point: HookPoint, minus: &[(usize, &str)], plus: &[(usize, &str)]) -> Vec<f32> {
    let mean = |which: &[(usize, &str)]| -> Vec<f64> {
        let mut sum = vec![0.0; naive.model.spec().d_model];
        for (model, id) in which {
            let question = naive.question(id);
            let values = naive.values(*model, question, point)[question.decision()].clone();
            sum.iter_mut().zip(values).for_each(|(s, v)| *s += f64::from(v) / which.len() as f64);
        }
        sum
    };
    mean(plus).iter().zip(mean(minus)).map(|(p, m)| (p - m) as f32).collect()
}

fn assert_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let size = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    for (f, e) in found.iter().zip(expected) {
        // Sums in another order: rounding of activations some hundred times as large as their mean difference.
        assert!((f - e).abs() <= 1e-5 + 1e-4 * size, "{f} and {e}");
    }
}

/// The ids of prompts of one half, or of the other.
fn of_half<'c>(runs: &'c Csv, half: &str, is_in: bool) -> Vec<&'c str> {
    let mut ids: Vec<&str> = (0..runs.rows.len())
        .filter(|&r| (runs.get(r, "half") == half) == is_in)
        .map(|r| runs.get(r, "prompt_id"))
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[test]
fn every_prompt_is_steered_by_the_other_half_as_whole_runs_say() {
    let Some(bench) = Bench::new() else { return };
    let items = crate::support::prompts(6);
    bench.json("p.json", &items);
    let naive = Naive::new(&bench, &["lora"], "p.json");
    for position in ["decision", "all"] {
        let rest =
            format!("--site resid_post --site attn_out --layer 1 --layer 3 --set position={position} {FEW}");
        bench.analyse("steer", &["lora"], "p.json", &rest, position);
        let runs = bench.table(position, "steer_runs");
        assert_eq!(runs.rows.len(), 2 * 2 * 6 * 7);
        let file = tensors(&bench, &format!("{position}/vectors/lora.models.safetensors"));
        assert_eq!(file.len(), 4);
        let all: Vec<&str> = naive.questions.iter().map(|q| q.id.as_str()).collect();
        for (layer, site, name) in [(1, Site::ResidPost, "resid_post"), (3, Site::AttnOut, "attn_out")] {
            let point = HookPoint::Layer(layer, site);
            let made = |ids: &[&str]| {
                let of = |model: usize| -> Vec<(usize, &str)> { ids.iter().map(|id| (model, *id)).collect() };
                difference(&naive, point, &of(0), &of(1))
            };
            assert_close(&numbers(&file, &format!("blocks.{layer}.hook_{name}")), &made(&all));
            for half in ["0", "1"] {
                let (own, other) = (of_half(&runs, half, true), of_half(&runs, half, false));
                assert!(!own.is_empty() && !other.is_empty());
                // Templates are pairs of prompts: no pair is torn.
                for id in &own {
                    let twin = format!("p{}", id[1..].parse::<usize>().unwrap() ^ 1);
                    assert!(own.contains(&twin.as_str()), "{own:?}");
                }
                let vector = made(&other);
                for (dose, strength) in [("1", -1.0f32), ("6", 2.0)] {
                    let question = naive.question(own[0]);
                    let positions = match position {
                        "all" => 0..question.decision() + 1,
                        _ => question.decision()..question.decision() + 1,
                    };
                    let add: Vec<f32> = vector.iter().map(|v| strength * v).collect();
                    let change = |p| (point, p, 0..add.len(), EditOp::Add(add.clone()));
                    let changes: Vec<Change> = positions.map(change).collect();
                    let expected = naive.delta(0, question, &changes);
                    let row = runs.row(&[
                        ("site", name),
                        ("layer", &layer.to_string()),
                        ("prompt_id", own[0]),
                        ("dose", dose),
                    ]);
                    let found = runs.number(row, "delta_patched");
                    assert!((found - expected).abs() < 1e-4, "{position} {name}: {found} and {expected}");
                    let plain = naive.delta(0, question, &[]);
                    assert!((runs.number(row, "delta_target") - plain).abs() < 1e-5);
                    let source = naive.delta(1, question, &[]);
                    assert!((runs.number(row, "delta_source") - source).abs() < 1e-5);
                }
            }
        }
    }
}

#[test]
fn strength_0_changes_nothing_bit_for_bit() {
    let Some(bench) = Bench::new() else { return };
    for position in ["decision", "all"] {
        let rest =
            format!("--set position={position} --site mlp_out --site resid_pre --contrast scenario {FEW}");
        bench.analyse("steer", &["lora", "dora"], "prompts.json", &rest, position);
        let runs = bench.table(position, "steer_runs");
        let zero = runs.rows_where(&[("strength", "0.0")]);
        // Two adapters into the base, and three models by themselves; five prompts; two sites of four layers but the first
        // resid_pre: prompts end in the same word, whose embedding no adapter changes.
        assert_eq!(zero.len(), 5 * 5 * (2 * 4 - 1));
        for row in zero {
            let get = |column: &str| runs.get(row, column);
            assert_eq!((get("change"), get("flipped")), ("0.0", "false"));
            assert_eq!(
                (get("delta_patched"), get("mass_patched")),
                (get("delta_target"), get("mass_target"))
            );
        }
        let sides = bench.table(position, "steer_side_effects");
        for row in sides.rows_where(&[("strength", "0.0")]) {
            assert_eq!((sides.get(row, "direction"), sides.get(row, "kl")), ("vector", "0.0"));
        }
        let some = sides.rows_where(&[("strength", "1.0"), ("direction", "vector")]);
        assert!(some.iter().all(|&r| sides.number(r, "kl") > 0.0));
    }
}

#[test]
fn the_vector_of_one_prompt_is_its_patch() {
    let Some(bench) = Bench::new() else { return };
    bench.json("one.json", &one_token_prompts(1));
    let places = "--site resid_post --site mlp_out";
    bench.analyse("steer", &["lora"], "one.json", &format!("{places} --set strengths=[1] {FEW}"), "steer");
    bench.analyse("patch", &["lora"], "one.json", &format!("{places} --source lora --target base"), "patch");
    let (runs, patches) = (bench.table("steer", "steer_runs"), bench.table("patch", "patches"));
    assert_eq!(runs.rows.len(), 8);
    for row in 0..8 {
        let place = ["site", "layer"].map(|column| (column, runs.get(row, column)));
        let patched = patches.number(patches.row(&place), "delta_patched");
        let found = runs.number(row, "delta_patched");
        // base + (lora − base) is lora but for rounding.
        assert!((found - patched).abs() < 1e-5, "{place:?}: {found} and {patched}");
        if place == [("site", "resid_post"), ("layer", "3")] {
            assert!((found - runs.number(row, "delta_source")).abs() < 1e-5);
            assert!((found - runs.number(row, "delta_target")).abs() > 0.01);
        }
    }
    let vectors = bench.table("steer", "steer_vectors");
    assert!((0..8).all(|r| vectors.get(r, "n_halves") == "1" && vectors.get(r, "half_cosine").is_empty()));
    let page = String::from_utf8(bench.read("steer/report.html")).unwrap();
    assert!(page.contains("There is one template only"));
}

/// An adapter whose only update writes along one direction, in layer 2.
fn plant(bench: &Bench) -> Vec<f32> {
    copy_files(&bench.path("lora"), &bench.path("planted"));
    let mut direction = Vec::new();
    edit_tensors(&bench.path("planted/adapter_model.safetensors"), |tensors| {
        for (name, tensor) in tensors.iter_mut().filter(|(name, _)| name.contains("lora_B")) {
            let rank = tensor.shape[1];
            tensor.data.fill(0);
            if name.contains("layers.2.mlp.down_proj") {
                for output in 0..tensor.shape[0] {
                    let value = ((output * output) as f32 * 0.7).sin();
                    tensor.set(output * rank, value);
                    direction.push(value);
                }
            }
        }
    });
    assert!(!direction.is_empty());
    direction
}

#[test]
fn a_planted_direction_is_found_where_it_is() {
    let Some(bench) = Bench::new() else { return };
    let direction = plant(&bench);
    bench.json("p.json", &one_token_prompts(8));
    bench.analyse("steer", &["planted"], "p.json", &format!("--set strengths=[-1,1] {FEW}"), "out");
    let vectors = bench.table("out", "steer_vectors");
    let status = |layer: &str| vectors.get(vectors.row(&[("layer", layer)]), "status").to_owned();
    assert_eq!(["0", "1", "2", "3"].map(status), ["does nothing", "does nothing", "ok", "ok"]);
    let row = vectors.row(&[("layer", "2")]);
    assert!((vectors.number(row, "half_cosine").abs() - 1.0).abs() < 1e-6);
    let file = tensors(&bench, "out/vectors/planted.models.safetensors");
    assert_eq!(file.keys().collect::<Vec<_>>(), ["blocks.2.hook_resid_post", "blocks.3.hook_resid_post"]);
    let found = numbers(&file, "blocks.2.hook_resid_post");
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    let cosine = dot(&found, &direction) / (dot(&found, &found) * dot(&direction, &direction)).sqrt();
    assert!((cosine.abs() - 1.0).abs() < 1e-6, "{cosine}");
    assert!((vectors.number(row, "norm") - dot(&found, &found).sqrt()).abs() < 1e-5);
    let runs = bench.table("out", "steer_runs");
    assert!((0..runs.rows.len()).all(|r| ["2", "3"].contains(&runs.get(r, "layer"))));
}

#[test]
fn a_model_that_is_the_base_has_no_vector() {
    let Some(bench) = Bench::new() else { return };
    copy_files(&bench.path("lora"), &bench.path("nothing"));
    edit_tensors(&bench.path("nothing/adapter_model.safetensors"), |tensors| {
        tensors.iter_mut().filter(|(n, _)| n.contains("lora_B")).for_each(|(_, t)| t.data.fill(0));
    });
    bench.analyse("steer", &["nothing"], "prompts.json", FEW, "out");
    let vectors = bench.table("out", "steer_vectors");
    assert_eq!(vectors.rows.len(), 4);
    for row in 0..4 {
        let get = |column: &str| vectors.get(row, column);
        assert_eq!((get("status"), get("norm"), get("relative_norm")), ("does nothing", "0.0", "0.0"));
        assert_eq!((get("half_cosine"), get("file"), get("tensor")), ("", "", ""));
    }
    for table in ["runs", "effects", "controls", "against_controls", "side_effects"] {
        assert!(bench.table("out", &format!("steer_{table}")).rows.is_empty(), "{table}");
    }
    assert!(!bench.path("out/vectors").exists());
    let page = String::from_utf8(bench.read("out/report.html")).unwrap();
    assert!(page.contains("is zero at all places: it does nothing"));
}

#[test]
fn classes_of_prompts_are_contrasted_within_each_model() {
    let Some(bench) = Bench::new() else { return };
    let mut items = one_token_prompts(8);
    for (i, item) in items.as_array_mut().unwrap().iter_mut().enumerate() {
        item["mood"] = json!(if i % 2 == 0 { "glad" } else { "sore" });
        let mood = item["mood"].as_str().unwrap().to_owned();
        item["prompt"] = json!(format!("{} are {mood}", item["prompt"].as_str().unwrap()));
    }
    bench.json("p.json", &items);
    let rest = format!("--contrast mood --source base --layer 2 {FEW}");
    bench.analyse("steer", &["lora"], "p.json", &rest, "out");
    let vectors = bench.table("out", "steer_vectors");
    let row = vectors.row(&[("source", "base")]);
    assert_eq!(vectors.rows.len(), 1, "the base does not differ from itself");
    let get = |column: &str| vectors.get(row, column);
    assert_eq!((get("minus"), get("plus"), get("n_minus"), get("n_plus")), ("glad", "sore", "4", "4"));
    let naive = Naive::new(&bench, &["lora"], "p.json");
    let of = |odd: usize| -> Vec<(usize, &str)> {
        naive.questions.iter().skip(odd).step_by(2).map(|q| (0, q.id.as_str())).collect()
    };
    let point = HookPoint::Layer(2, Site::ResidPost);
    let file = tensors(&bench, "out/vectors/base.mood.safetensors");
    assert_close(&numbers(&file, "blocks.2.hook_resid_post"), &difference(&naive, point, &of(0), &of(1)));
    let effects = bench.table("out", "steer_effects");
    assert_eq!(effects.rows.len(), 6);
    assert!((0..6).all(|r| effects.get(r, "target") == "base" && effects.get(r, "recovery").is_empty()));
    let against = bench.table("out", "steer_against_controls");
    assert!((0..12).all(|r| against.get(r, "measure") == "change"));
    // Averages of the controls are those of the listed ones.
    let controls = bench.table("out", "steer_controls");
    let wanted = [("strength", "2.0"), ("control", "random")];
    let all: Vec<f64> = controls.rows_where(&wanted).iter().map(|&r| controls.number(r, "change")).collect();
    let row = against.row(&wanted);
    assert_eq!(all.len(), 3);
    assert!((against.number(row, "control_mean") - all.iter().sum::<f64>() / 3.0).abs() < 1e-12);
    let effect = against.number(row, "effect");
    let larger = all.iter().filter(|c| c.abs() >= effect.abs()).count();
    assert_eq!(against.number(row, "p"), (larger + 1) as f64 / 4.0);
}

#[test]
fn masses_and_divergences_are_those_of_whole_runs() {
    let Some(bench) = Bench::new() else { return };
    // One spelling: the primary pair has all of the legal mass.
    bench.edit("base/tokenizer.json", |t| {
        t["normalizer"] = json!({"type": "Strip", "strip_left": true, "strip_right": false});
    });
    bench.json("p.json", &one_token_prompts(4));
    bench.analyse("decide", &["lora"], "p.json", "", "decide");
    bench.analyse("steer", &["lora"], "p.json", "--layer 1 --set strengths=[0,1] --set texts=1", "out");
    let (decisions, runs) = (bench.table("decide", "decisions"), bench.table("out", "steer_runs"));
    for row in 0..runs.rows.len() {
        let of = |model: &str, column: &str| {
            let row = decisions.row(&[("model", model), ("prompt_id", runs.get(row, "prompt_id"))]);
            decisions.number(row, column)
        };
        assert!((runs.number(row, "mass_target") - of("base", "legal_mass")).abs() < 1e-9);
        assert!((runs.number(row, "delta_source") - of("lora", "delta")).abs() < 1e-9);
    }
    let model = by_hand::load(&bench.path("base"), &[]);
    let tokenizer = Tokenizer::from_folder(&bench.path("base")).unwrap();
    let stories = include_str!("../../../analyses/data/text/stories.txt");
    let document = stories.trim_start_matches('\u{feff}').split("\n\n").next().unwrap();
    let mut ids = tokenizer.tokens_prompt(PromptInput::Text(document), Wrapping::Raw).unwrap().ids;
    ids.truncate(32);
    let vector = numbers(&tensors(&bench, "out/vectors/lora.models.safetensors"), "blocks.1.hook_resid_post");
    let log_probs = |edits: Vec<Edit<f32>>| -> Vec<f64> {
        let batch = Batch::new(model.spec(), &[(0, &ids)]).unwrap();
        let hooks = Hooks { captures: Vec::new(), edits };
        let state = model.run(&batch, &hooks, &[ids.len() - 1]).unwrap().readout;
        let logits: Vec<f64> =
            model.all_logits(0, &state).unwrap().row(0).iter().map(|&v| f64::from(v)).collect();
        let sum = logits.iter().map(|l| l.exp()).sum::<f64>().ln();
        logits.iter().map(|l| l - sum).collect()
    };
    let edit = Edit {
        point: HookPoint::Layer(1, Site::ResidPost),
        row: ids.len() - 1,
        units: 0..vector.len(),
        op: EditOp::Add(vector),
    };
    let (plain, steered) = (log_probs(Vec::new()), log_probs(vec![edit]));
    let expected: f64 = plain.iter().zip(&steered).map(|(p, s)| p.exp() * (p - s)).sum();
    let sides = bench.table("out", "steer_side_effects");
    let row = sides.row(&[("strength", "1.0"), ("direction", "vector")]);
    let found = sides.number(row, "kl");
    assert!((found - expected).abs() < 1e-6 * expected.max(1.0), "{found} and {expected}");
    let mean: f64 =
        runs.rows_where(&[("strength", "1.0")]).iter().map(|&r| runs.number(r, "mass_patched") / 4.0).sum();
    assert!((sides.number(row, "mass") - mean).abs() < 1e-12);
}

#[test]
fn neither_threads_nor_memory_decide() {
    let Some(bench) = Bench::new() else { return };
    let results = |out: &str| {
        let mut files = snapshot(&bench.path(out));
        files.retain(|p, _| ["tables", "figures", "vectors"].iter().any(|folder| p.starts_with(folder)));
        assert!(files.keys().any(|p| p.starts_with("vectors")));
        files
    };
    let rest = format!("--contrast decision --contrast scenario --layer 0 --layer 3 {FEW}");
    bench.analyse("steer", &["lora", "dora"], "prompts.json", &format!("{rest} --threads 1"), "one");
    for (out, more) in [("three", "--threads 3"), ("little", "--memory 100KiB")] {
        bench.analyse("steer", &["lora", "dora"], "prompts.json", &format!("{rest} {more}"), out);
        assert!(results("one") == results(out), "{more}");
    }
}

#[test]
fn what_can_not_be_steered_is_refused() {
    let Some(bench) = Bench::new() else { return };
    let refused = |rest: &str| {
        let line = format!("steer --base ./base {rest} --prompts prompts.json --out no");
        let outcome = bench.run(&words(&line));
        assert!(!outcome.ok && !bench.path("no/tables").exists(), "{}", outcome.stdout);
        outcome.stderr
    };
    let lora = "--adapter lora=./lora";
    for (rest, said) in [
        ("", "there is no vector to make"),
        ("--source base --adapter lora=./lora", "there is no vector to make"),
        (&*format!("{lora} --source loar"), "`loar` is not a model of this run"),
        (&format!("{lora} --target loar"), "`loar` is not a model of this run"),
        (&format!("{lora} --contrast mood"), "contrast `mood` is no contrast: no prompt has it"),
        (&format!("{lora} --layer 4"), "layer 4 does not exist"),
        (&format!("{lora} --site z"), "`z` is not a site"),
        (&format!("{lora} --set position=last"), "unknown variant `last`"),
        (&format!("{lora} --set strengths=[0]"), "nothing but 0"),
        (&format!("{lora} --set texts=9999"), "texts is 9999; there are"),
    ] {
        let found = refused(rest);
        assert!(found.contains(said), "{rest}: {found}");
    }
}
