//! Runs on SmolLM2-135M with four real adapters, against what Hugging Face and PEFT computed, and against the definition.
//!
//! Needs the reference data beside the repository, and `LORASCOPE_SMOLLM2_GGUF`: the path of the model's Q4_1 file.

use crate::support::{Csv, by_hand, run_in, shared, words};
use lorascope_text::Tokenizer;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Names of the adapters in the reference data, and their folders.
const ADAPTERS: [(&str, &str); 4] = [
    ("strategic", "PT2_strategic"),
    ("deontological", "PT3_deontological"),
    ("utilitarian", "PT3_utilitarian"),
    ("hybrid", "PT4_hybrid"),
];

pub struct Data {
    shared: PathBuf,
    pub gguf: PathBuf,
}

impl Data {
    /// `None`, said aloud, where something is absent.
    pub fn find() -> Option<Self> {
        let shared = shared()?;
        let Some(gguf) = std::env::var_os("LORASCOPE_SMOLLM2_GGUF").map(PathBuf::from) else {
            let required = std::env::var("LORASCOPE_REQUIRE_SHARED").is_ok_and(|v| v == "1");
            assert!(
                !required,
                "LORASCOPE_SMOLLM2_GGUF is not set, and LORASCOPE_REQUIRE_SHARED=1 demands it"
            );
            println!("skipped: LORASCOPE_SMOLLM2_GGUF is not set");
            return None;
        };
        Some(Self { shared, gguf })
    }

    pub fn adapter(&self, folder: &str) -> PathBuf {
        self.shared.join("adapters/smollm2").join(folder)
    }

    /// A study of decisions and lens on a prompt file.
    fn study(&self, folder: &Path, prompts: &Path, adapters: &[(&str, &str)], analyses: &str) {
        let mut text = format!("base = '{}'\nprompts = '{}'\n", self.gguf.display(), prompts.display());
        text += &format!("analyses = {analyses}\ncontrols = []\n");
        for (name, dir) in adapters {
            text += &format!("[[adapter]]\nname = '{name}'\npath = '{}'\n", self.adapter(dir).display());
        }
        fs::write(folder.join("study.toml"), text).unwrap();
        let said = run_in(folder, &["study", "study.toml", "--out", "out"]);
        assert!(said.ok, "{}", said.stderr);
    }

    fn golden(&self) -> Value {
        serde_json::from_slice(&fs::read(self.shared.join("golden/smollm2.json")).unwrap()).unwrap()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[test]
fn decisions_and_lens_are_those_of_hugging_face() {
    let Some(data) = Data::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    data.study(folder.path(), &data.shared.join("golden/prompts.json"), &ADAPTERS, "['decide', 'lens']");
    let golden = data.golden();
    let table = |name: &str| Csv::read(&folder.path().join("out/tables").join(name));
    let (mut worst, mut compared) = (0.0f64, 0);
    for column in ["delta", "logp_a", "logp_b", "n_tokens"] {
        let found = table("decisions.csv").numbers(&["model", "prompt_id"], column);
        let key = column.replace("logp_a", "logp1").replace("logp_b", "logp2");
        for expected in golden["decide"].as_array().unwrap() {
            let at = vec![text(&expected["model"]), text(&expected["prompt"])];
            worst = worst.max((found[&at] - expected[&key].as_f64().unwrap()).abs());
            compared += 1;
        }
    }
    println!("decisions: {compared} numbers, off by at most {worst:.1e} nat");
    assert!(compared == 100 && worst < 1e-4, "{compared} numbers, off by {worst:.1e}");
    let lens = table("lens.csv").numbers(&["model", "prompt_id", "site", "layer"], "delta");
    let (mut worst, mut compared) = (0.0f64, 0);
    for expected in golden["lens"].as_array().unwrap() {
        let layers = expected["delta"].as_array().unwrap();
        let last = (layers.len() - 1, &expected["final"]);
        for (layer, value) in layers.iter().enumerate().chain([last]) {
            let (model, prompt) = (text(&expected["model"]), text(&expected["prompt"]));
            let at = vec![model, prompt, "resid_post".to_owned(), layer.to_string()];
            worst = worst.max((lens[&at] - value.as_f64().unwrap()).abs());
            compared += 1;
        }
    }
    println!("lens: {compared} numbers, off by at most {worst:.1e} logits");
    assert!(compared == 20 * 31 && worst < 1e-4, "{compared} numbers, off by {worst:.1e}");
}

/// 55 patches of one model's heads and layers into another, made by hooks of PyTorch on the whole sequence.
#[test]
fn patches_are_those_of_hugging_face() {
    let Some(data) = Data::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let prompts = fs::read(data.shared.join("golden/prompts.json")).unwrap();
    let prompts: Vec<Value> = serde_json::from_slice(&prompts).unwrap();
    let golden = fs::read(data.shared.join("golden/smollm2_patch.json")).unwrap();
    let golden: Value = serde_json::from_slice(&golden).unwrap();
    let golden = golden["patch"].as_array().unwrap();
    let asked: Vec<&Value> =
        prompts.iter().filter(|p| golden.iter().any(|g| g["prompt"] == p["id"])).collect();
    fs::write(folder.path().join("prompts.json"), serde_json::to_vec(&asked).unwrap()).unwrap();
    let mut line = vec!["patch".to_owned(), "--base".into(), data.gguf.display().to_string()];
    for (name, dir) in [ADAPTERS[0], ADAPTERS[3]] {
        line.extend(["--adapter".into(), format!("{name}={}", data.adapter(dir).display())]);
    }
    line.extend(words("--prompts prompts.json --source strategic --target hybrid --out out"));
    line.extend([0, 7, 14, 21, 29].iter().flat_map(|l| ["--layer".to_owned(), l.to_string()]));
    let said = run_in(folder.path(), &line);
    assert!(said.ok, "{}", said.stderr);
    let patches = Csv::read(&folder.path().join("out/tables/patches.csv"));
    let worst = |(mut patched, mut baseline): (f64, f64), g: &Value| {
        let site = match g["kind"].as_str().unwrap() {
            "head" => "z",
            "mlp" => "mlp_out",
            _ => "attn_out",
        };
        let head = g["head"].as_u64().map(|h| h.to_string()).unwrap_or_default();
        let texts = ["source", "target", "prompt"].map(|key| text(&g[key]));
        let row = patches.row(&[
            ("source", &texts[0]),
            ("target", &texts[1]),
            ("prompt_id", &texts[2]),
            ("site", site),
            ("layer", &g["layer"].to_string()),
            ("head", &head),
        ]);
        let off = |column: &str, key: &str| (patches.number(row, column) - g[key].as_f64().unwrap()).abs();
        patched = patched.max(off("delta_patched", "patched"));
        baseline = baseline.max(off("delta_target", "baseline"));
        (patched, baseline)
    };
    let (patched, baseline) = golden.iter().fold((0.0, 0.0), worst);
    println!("{} patches, off by at most {patched:.1e} logits; unpatched {baseline:.1e}", golden.len());
    assert!(golden.len() == 55 && patched < 1e-4 && baseline < 1e-4, "{patched:.1e}, {baseline:.1e}");
}

#[test]
fn contributions_of_heads_and_mlps_are_those_of_hugging_face() {
    let Some(data) = Data::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    data.study(folder.path(), &data.shared.join("golden/prompts.json"), &ADAPTERS, "['dla']");
    let table = |name: &str| Csv::read(&folder.path().join("out/tables").join(name));
    let found = table("dla.csv").numbers(&["model", "prompt_id", "kind", "layer", "head"], "contribution");
    let sums = table("dla_check.csv").numbers(&["model", "prompt_id"], "sum");
    let own = table("dla_check.csv").numbers(&["model", "prompt_id"], "pre_cap");
    let (mut worst, mut incomplete, mut compared) = (0.0f64, 0.0f64, 0);
    for expected in data.golden()["dla"].as_array().unwrap() {
        let key = vec![text(&expected["model"]), text(&expected["prompt"])];
        let mut compare = |got: f64, value: &Value| {
            worst = worst.max((got - value.as_f64().unwrap()).abs());
            compared += 1;
        };
        let at = |kind: &str, layer: &str, head: &str| {
            found[&[key[0].as_str(), key[1].as_str(), kind, layer, head].map(str::to_owned).to_vec()]
        };
        compare(at("embed", "", ""), &expected["embed"]);
        let (heads, mlps) = (expected["heads"].as_array().unwrap(), expected["mlps"].as_array().unwrap());
        for (layer, (heads, mlp)) in heads.iter().zip(mlps).enumerate() {
            let layer = layer.to_string();
            compare(at("mlp", &layer, ""), mlp);
            for (head, value) in heads.as_array().unwrap().iter().enumerate() {
                compare(at("head", &layer, &head.to_string()), value);
            }
        }
        compare(sums[&key], &expected["total"]);
        compare(own[&key], &expected["precap"]);
        incomplete = incomplete.max((sums[&key] - own[&key]).abs());
    }
    println!(
        "contributions: {compared} numbers, off by at most {worst:.1e} logits; sums by {incomplete:.1e}"
    );
    assert!(compared == 20 * (30 * 10 + 3) && worst < 1e-4, "{compared} numbers, off by {worst:.1e}");
    assert!(incomplete < 1e-5, "off by {incomplete:.1e}");
}

#[test]
fn batched_decisions_follow_the_definition() {
    let Some(data) = Data::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let prompts = folder.path().join("prompts.json");
    let said = run_in(folder.path(), &["prompts", "--out", "prompts.json", "--design", "fifteen"]);
    assert!(said.ok, "{}", said.stderr);
    let adapter = ADAPTERS[3];
    data.study(folder.path(), &prompts, &[adapter], "['decide']");
    let told =
        Csv::read(&folder.path().join("out/tables/decisions.csv")).numbers(&["model", "prompt_id"], "delta");
    assert_eq!(told.len(), 30);
    let set: Value = serde_json::from_slice(&fs::read(&prompts).unwrap()).unwrap();
    let item = &set.as_array().or_else(|| set["items"].as_array()).unwrap()[7];
    let model = by_hand::load(&data.gguf, &[(adapter.0, data.adapter(adapter.1))]);
    // The tokenizer of the same model by another way: as transformers saved it.
    let tokenizer = Tokenizer::from_folder(&data.shared.join("golden")).unwrap();
    for (which, name) in model.names().into_iter().enumerate() {
        let answers = (item["answer_a"].as_str().unwrap(), item["answer_b"].as_str().unwrap());
        let delta = by_hand::delta(&model, which, &tokenizer, item["prompt"].as_str().unwrap(), answers);
        let batched = told[&vec![name.to_owned(), text(&item["id"])]];
        println!("{name}: {batched} batched, {delta} token by token");
        assert!((batched - delta).abs() < 1e-5, "{name}: {batched} and {delta}");
    }
}

/// How the agents were told of a round in training, more or less: the table, the two moves, and what to answer with. (Told as
/// `structured` does, the hybrid one is torn after CD: a policy belongs to its wording.)
const TOLD: &str = r#"
rounds = 6
repetitions = 2
actions = "greedy"
opponents = ["random", "tit_for_tat"]
[prompts]
games = "ipd"
labels = "straight"
first_mention = "cd"
second_mention = "cd"
per_scenario = "all"
wording = [
 { name = "brief", opponent = "B", text = """
You are agent A and play a game with agent B. In every round you both choose {symbols_first}. Your points depend on both choices:

{game_table}

In the last round you chose {own_last_move} and B chose {opponent_last_move}. What do you choose in this round? {format} Your answer: """ },
 { name = "points", opponent = "B", text = """
A and B play a game. A must choose {symbols_first}. The points are:

{game_table}

A has played against B before: last time, A played {own_last_move} and B played {opponent_last_move}. A got {own_last_points} and \
B got {opponent_last_points}. Which action should A choose? {format} Your answer: """ },
]
"#;

/// The agents play as their rewards say (`adapters/README.md` of the reference data), under the labels that they were trained
/// with: the strategic one defects and the utilitarian one cooperates in every state, the hybrid copies its opponent, and the
/// deontological one does not defect on a cooperator.
#[test]
fn agents_play_as_their_rewards_say() {
    let Some(data) = Data::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("play.toml"), TOLD).unwrap();
    let mut line = words("play --from play.toml --out out");
    line.extend(["--base".into(), data.gguf.display().to_string()]);
    for (name, dir) in ADAPTERS {
        line.extend(["--adapter".into(), format!("{name}={}", data.adapter(dir).display())]);
    }
    let said = run_in(folder.path(), &line);
    assert!(said.ok, "{}", said.stderr);
    let table = |name: &str| Csv::read(&folder.path().join(format!("out/tables/{name}.csv")));
    let (policies, matches) = (table("policies"), table("matches"));
    for (model, expected) in [
        ("strategic", ["D", "D", "D", "D"]),
        ("utilitarian", ["C", "C", "C", "C"]),
        ("hybrid", ["C", "D", "C", "D"]),
        ("deontological", ["C", "?", "C", "?"]),
    ] {
        for (state, action) in ["CC", "CD", "DC", "DD"].into_iter().zip(expected) {
            let rows = policies.rows_where(&[("model", model), ("state", state)]);
            assert_eq!(rows.len(), 8);
            let p: Vec<f64> = rows.iter().map(|&row| policies.number(row, "p_cooperate")).collect();
            println!("{model} after {state}: cooperates with probability {p:.2?}");
            let fits = |p: &f64| action == "?" || (*p > 0.5) == (action == "C");
            assert!(p.iter().all(fits), "{model} after {state}: {p:?}");
            assert!(rows.iter().all(|&row| policies.number(row, "legal_mass") > 0.99));
        }
        let of_model = matches.rows_where(&[("model", model)]);
        assert_eq!(of_model.len(), 2 * 8 * 2);
        for row in of_model {
            let (start, own) = (matches.get(row, "start"), matches.get(row, "own_moves"));
            // The opponent's last move before each round.
            let before = format!("{}{}", &start[1..], matches.get(row, "opponent_moves"));
            for (own, last) in own.chars().zip(before.chars()) {
                let action = expected[usize::from(last == 'D')];
                assert!(action == "?" || action == own.to_string(), "{model}: {own} after {before}");
            }
        }
    }
    let play = table("play");
    let reciprocity = |model: &str| {
        let row = play.row(&[("model", model), ("opponent", "random"), ("metric", "reciprocity")]);
        play.number(row, "value")
    };
    assert_eq!(["strategic", "utilitarian", "hybrid"].map(reciprocity), [0.0, 0.0, 1.0]);
}
