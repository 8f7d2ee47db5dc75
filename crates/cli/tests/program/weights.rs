//! The analysis of weights as the program does it, and control adapters as further models: planted changes are found where they
//! were put, and controls are what they promise.

use crate::support::weights::{Tensors, edit_tensors};
use crate::support::{Bench, copy_files, one_token_prompts, snapshot, tokenizer, words};
use serde_json::Value;
use std::path::Path;

const FACTORS: &str = "adapter_model.safetensors";

/// The numbers of a tensor of a safetensors file.
fn numbers(path: &Path, name: &str) -> Vec<f64> {
    let stored = lorascope_checkpoint::read_safetensors(path).unwrap();
    let tensor = stored.iter().find(|t| t.name() == name).unwrap_or_else(|| panic!("no {name}"));
    tensor.to_f32().unwrap().into_iter().map(f64::from).collect()
}

/// A bench whose base is of another family, with its adapter as `lora`.
fn bench_of(family: &str) -> Option<Bench> {
    let bench = Bench::new()?;
    if family != "llama" {
        for (from, to) in [("model", "base"), ("adapter", "lora")] {
            std::fs::remove_dir_all(bench.path(to)).unwrap();
            copy_files(&bench.shared.join("tiny").join(family).join(from), &bench.path(to));
        }
        bench.json("base/tokenizer.json", &tokenizer::byte_level());
        bench.json("base/tokenizer_config.json", &tokenizer::config());
    }
    bench.json("prompts.json", &one_token_prompts(4));
    Some(bench)
}

#[test]
fn an_adapter_is_like_itself_and_unlike_its_controls() {
    let Some(bench) = bench_of("llama") else { return };
    copy_files(&bench.path("lora"), &bench.path("twin"));
    let controls = "--control sign_flipped:lora --control random:lora --control random:lora@9";
    bench.analyse("weights", &["lora", "twin"], "prompts.json", &format!("--seed 4 {controls}"), "out");
    let alike = bench.table("out", "weights_similarity");
    let summary = bench.table("out", "weights_similarity_summary");
    for (other, cosine) in [("twin", 1.0), ("lora.sign_flipped", -1.0)] {
        let rows = alike.rows_where(&[("model", "lora"), ("other", other), ("control", "")]);
        assert_eq!(rows.len(), 28);
        for row in rows {
            assert!((alike.number(row, "cosine") - cosine).abs() < 1e-12, "{other}");
            for overlap in ["overlap_out", "overlap_in"] {
                assert!((alike.number(row, overlap) - 1.0).abs() < 1e-12, "{other}");
            }
        }
        let keys = [("model", "lora"), ("other", other), ("control", ""), ("module", "all")];
        let whole = summary.row(&[&keys[..], &[("measure", "cosine_whole")]].concat());
        for end in ["mean", "lo", "hi"] {
            assert!((summary.number(whole, end) - cosine).abs() < 1e-12, "{other} {end}");
        }
    }
    // Controls have none of their own, and adapters have two.
    assert!(alike.rows_where(&[("other", "lora.random"), ("control", "random")]).is_empty());
    assert_eq!(alike.rows_where(&[("model", "lora"), ("other", "lora"), ("control", "shuffled")]).len(), 28);
    // Same singular values, other directions; another seed, others again.
    let keys = ["layer", "module", "component", "model"];
    let spectrum = bench.table("out", "weights_spectrum").numbers(&keys, "singular_value");
    let mut compared = 0;
    for (key, value) in spectrum.iter().filter(|(key, _)| key[3] == "lora") {
        for control in ["lora.sign_flipped", "lora.random", "lora.random.9"] {
            let at = [&key[..3], &[control.to_owned()]].concat();
            assert!((spectrum[&at] - value).abs() < 1e-5 * value, "{control} {key:?}");
            compared += 1;
        }
    }
    assert_eq!(compared, 3 * 28 * 4);
    for (one, other) in [("lora", "lora.random"), ("lora.random", "lora.random.9")] {
        for row in alike.rows_where(&[("model", one), ("other", other), ("control", "")]) {
            let (cosine, sd) = (alike.number(row, "cosine"), alike.number(row, "cosine_sd"));
            assert!(cosine.abs() < 5.0 * sd, "{one} {other}: {cosine} of {sd}");
        }
    }
    let manifest: Value = serde_json::from_slice(&bench.read("out/manifest.json")).unwrap();
    let made = serde_json::json!([
        {"name": "lora.sign_flipped", "of": "lora", "kind": "sign_flipped", "seed": 4},
        {"name": "lora.random", "of": "lora", "kind": "random", "seed": 4},
        {"name": "lora.random.9", "of": "lora", "kind": "random", "seed": 9},
    ]);
    assert_eq!(manifest["settings"]["controls"], made);
}

/// Sets all factors B to zero but for one column of one down projection.
fn plant(tensors: &mut Tensors, layer: usize, column: &[f64]) {
    for (name, tensor) in tensors.iter_mut().filter(|(name, _)| name.contains("lora_B")) {
        tensor.data.fill(0);
        if name.contains(&format!("layers.{layer}.mlp.down_proj")) {
            let rank = tensor.shape[1];
            column.iter().enumerate().for_each(|(i, v)| tensor.set(i * rank, *v as f32));
        }
    }
}

#[test]
fn a_change_along_the_decision_is_found_where_it_was_put() {
    for (family, offset, head) in [("llama", 0.0, "lm_head"), ("gemma2", 1.0, "model.embed_tokens")] {
        let Some(bench) = bench_of(family) else { return };
        let base = bench.path("base/model.safetensors");
        let table = numbers(&base, &format!("{head}.weight"));
        let d = table.len() / 512;
        let row = |byte: u8| {
            // A byte's id comes after those of three special tokens.
            let id = 3 + usize::from(byte);
            table[id * d..(id + 1) * d].to_vec()
        };
        let mut w: Vec<f64> = row(b'g').iter().zip(row(b'k')).map(|(g, k)| g - k).collect();
        let mut through = |name: &str| {
            let gamma = numbers(&base, &format!("{name}.weight"));
            w.iter_mut().zip(gamma).for_each(|(w, g)| *w *= offset + g);
        };
        through("model.norm");
        if family == "gemma2" {
            through("model.layers.2.post_feedforward_layernorm");
        }
        copy_files(&bench.path("lora"), &bench.path("planted"));
        edit_tensors(&bench.path("planted").join(FACTORS), |tensors| plant(tensors, 2, &w));
        bench.analyse("weights", &["planted", "lora"], "prompts.json", "", "out");

        let alignment = bench.table("out", "weights_alignment");
        let own = [("model", "planted"), ("control", ""), ("layer", "2"), ("module", "mlp.down_proj")];
        let found = alignment.row(&own);
        assert!((alignment.number(found, "alignment") - 1.0).abs() < 1e-6, "{family}");
        assert!((alignment.number(found, "ratio") - d as f64).abs() < 1e-4, "{family}");
        assert_eq!(alignment.number(found, "p"), 0.001, "{family}");
        assert_eq!(
            (alignment.get(found, "token_a"), alignment.get(found, "token_b")),
            ("k", "g"),
            "{family}"
        );
        let elsewhere = alignment.rows_where(&[("model", "planted"), ("control", "")]);
        assert_eq!(elsewhere.iter().filter(|&&r| !alignment.get(r, "alignment").is_empty()).count(), 1);
        let unplanted =
            alignment.row(&[("model", "lora"), ("control", ""), ("layer", "2"), ("module", "mlp.down_proj")]);
        assert!(alignment.number(unplanted, "alignment") < 0.5, "{family}");

        let components = bench.table("out", "weights_components");
        let row = components.row(&[("model", "planted")]);
        assert_eq!((components.get(row, "layer"), components.get(row, "component")), ("2", "0"));
        let cosine = components.number(row, "cosine_w");
        assert!((cosine.abs() - 1.0).abs() < 1e-6, "{family}");
        assert!((components.number(row, "total_share") - 1.0).abs() < 1e-9, "{family}");
        if family == "llama" {
            let first = |column: &str| -> Value {
                serde_json::from_str::<Value>(components.get(row, column)).unwrap()[0][0].clone()
            };
            let (up, down) = if cosine > 0.0 { ("g", "k") } else { ("k", "g") };
            assert_eq!((first("promotes"), first("suppresses")), (up.into(), down.into()));
        }

        let weights = bench.table("out", "weights");
        let share = weights.numbers(&["model", "layer", "module"], "share");
        for ((model, layer, module), value) in share.iter().map(|(k, v)| ((&k[0], &k[1], &k[2]), v)) {
            if model == "planted" {
                let there = layer == "2" && module == "mlp.down_proj";
                assert_eq!(*value, f64::from(u8::from(there)), "{family} {layer} {module}");
            }
        }
    }
}

#[test]
fn every_family_and_dora_go_through_whatever_the_threads() {
    for family in ["llama", "gpt2", "gemma3", "qwen3"] {
        let Some(bench) = bench_of(family) else { return };
        let adapters: &[&str] = if family == "llama" { &["lora", "dora"] } else { &["lora"] };
        bench.analyse("weights", adapters, "prompts.json", "--threads 1", "one");
        bench.analyse("weights", adapters, "prompts.json", "--threads 3 --memory 100KiB", "three");
        assert_eq!(snapshot(&bench.path("one/tables")), snapshot(&bench.path("three/tables")), "{family}");
        let table = bench.table("one", "weights_intruders");
        assert!(!table.rows_where(&[("model", "lora"), ("control", "")]).is_empty(), "{family}");
        assert!(!table.rows_where(&[("model", "lora"), ("control", "random")]).is_empty(), "{family}");
        let report = String::from_utf8(bench.read("one/report.html")).unwrap();
        assert_eq!(report.contains("is not a low-rank change, so it has no control"), family == "llama");
        if family != "llama" {
            continue;
        }
        assert!(table.rows_where(&[("model", "dora")]).is_empty());
        let weights = bench.table("one", "weights");
        let rows = weights.rows_where(&[("model", "dora")]);
        assert_eq!(rows.len(), 28);
        for row in rows {
            assert_eq!(weights.get(row, "kind"), "DoRA");
            let (whole, factors) = (weights.number(row, "delta_norm"), weights.number(row, "factor_norm"));
            assert!((whole - factors).abs() > 1e-4 * factors, "the gain changes more than the factors do");
        }
    }
}

/// A study carries a control of the first adapter that can have one, and says so where there is none.
#[test]
fn a_study_that_says_nothing_of_controls_has_a_random_one() {
    let Some(bench) = Bench::new() else { return };
    let models_and_warnings = |controls: &str, adapters: &[&str], folder: &str| {
        let adapters: String = adapters
            .iter()
            .map(|name| format!("[[adapter]]\nname = '{name}'\npath = './{name}'\n"))
            .collect();
        let text = format!(
            "base = './base'\nanalyses = ['decide']\nprompts = 'prompts.json'\n{controls}\n{adapters}"
        );
        bench.text("study.toml", &text);
        bench.must(&words(&format!("study study.toml --out {folder}")));
        let read = |file: &str| -> serde_json::Value {
            serde_json::from_slice(&bench.read(&format!("{folder}/{file}"))).unwrap()
        };
        let models: Vec<String> =
            serde_json::from_value(read("manifest.json")["settings"]["models"].clone()).unwrap();
        (models, read("report.json")["warnings"].to_string())
    };
    // DoRA is no low-rank change.
    let (models, warnings) = models_and_warnings("", &["dora", "lora"], "plain");
    assert_eq!(models, ["base", "dora", "lora", "lora.random"]);
    assert!(!warnings.contains("No control"), "{warnings}");
    let (models, warnings) = models_and_warnings("controls = []", &["lora"], "without");
    assert_eq!(models, ["base", "lora"]);
    assert!(warnings.contains("No control adapter is among the models"), "{warnings}");
    let (models, warnings) = models_and_warnings("", &["dora"], "impossible");
    assert_eq!(models, ["base", "dora"]);
    assert!(warnings.contains("No control adapter is among the models"), "{warnings}");
    let (models, warnings) = models_and_warnings("", &[], "alone");
    assert_eq!((models.len(), warnings.contains("No control")), (1, false));
}

#[test]
fn controls_are_models_of_a_study() {
    let Some(bench) = Bench::new() else { return };
    let study = "base = './base'\nanalyses = ['decide']\nprompts = 'prompts.json'\ncontrols = ['random', 'sign_flipped', 'shuffled@7']\n\
                 seed = 2\n[[adapter]]\nname = 'lora'\npath = './lora'\n";
    bench.text("study.toml", study);
    bench.must(&words("study study.toml --out out"));
    let deltas = bench.table("out", "decisions").numbers(&["model", "prompt_id"], "delta");
    let of = |model: &str| deltas[&vec![model.to_owned(), "p0".to_owned()]];
    let names = ["base", "lora", "lora.random", "lora.sign_flipped", "lora.shuffled.7"];
    for (i, one) in names.iter().enumerate() {
        for other in &names[..i] {
            assert!((of(one) - of(other)).abs() > 1e-4, "{one} {other}: {deltas:?}");
        }
    }
    let report = String::from_utf8(bench.read("out/report.html")).unwrap();
    assert!(report.contains("made from lora: the same updates, each in another layer; seed 7"));
    // Another seed makes another random control and leaves the others alone.
    bench.must(&words("study study.toml --out other --seed 3"));
    let other = bench.table("other", "decisions").numbers(&["model", "prompt_id"], "delta");
    for name in names {
        let key = vec![name.to_owned(), "p0".to_owned()];
        assert_eq!(deltas[&key] == other[&key], name != "lora.random", "{name}");
    }
    bench.must(&words("study study.toml --out flag --control random"));
    let flag = bench.table("flag", "decisions").numbers(&["model", "prompt_id"], "delta");
    assert_eq!(flag.len(), 3 * 5, "the flag takes the place of the file's controls");
}

#[test]
fn saved_controls_are_the_same_models() {
    let Some(bench) = bench_of("llama") else { return };
    copy_files(&bench.shared.join("tiny/llama/edge/rank_alpha_pattern"), &bench.path("pattern"));
    let kinds = ["random", "sign_flipped", "shuffled"];
    for original in ["lora", "pattern"] {
        let controls: String = kinds.iter().map(|kind| format!(" --control {kind}@5")).collect();
        let saving = format!("{controls} --save-controls saved");
        let out = format!("{original}-made");
        bench.analyse("decide", &[original], "prompts.json", &saving, &out);
        let made = bench.table(&out, "decisions").numbers(&["model", "prompt_id"], "delta");
        let saved: String = kinds
            .iter()
            .map(|kind| format!(" --adapter {original}.{kind}.5=saved/{original}.{kind}.5"))
            .collect();
        bench.must(&words(&format!(
            "decide --base ./base{saved} --prompts prompts.json --out {original}-saved"
        )));
        let read =
            bench.table(&format!("{original}-saved"), "decisions").numbers(&["model", "prompt_id"], "delta");
        assert_eq!(read.len(), 4 * 4);
        assert!(read.iter().all(|(key, delta)| made[key] == *delta), "{original}: {read:?} {made:?}");
    }
}
