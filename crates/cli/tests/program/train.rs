//! `lorascope train` as a program: its files, cuts, and what it refuses.

use crate::support::{Bench, command, snapshot, words};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Short prompts, for a model of 128 tokens that reads one byte a token, with answers of one token.
const SETTINGS: &str = "\
rank = 4
steps = 12
checkpoint_every = 1
[optimizer]
learning_rate = 0.01
[prompts]
symbols = ['x/y']
wording = [{ name = 'short', text = 'I {own_last_move}, he {opponent_last_move}. {symbols_first}? ' }]
";

const LINE: &str = "train --base ./base --settings train.toml --reward hybrid";

fn bench(settings: &str) -> Option<Bench> {
    let bench = Bench::new()?;
    bench.text("train.toml", settings);
    Some(bench)
}

/// Everything in a run folder that must be equal in equal runs.
fn results(bench: &Bench, folder: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = snapshot(&bench.path(folder));
    let differ = ["manifest.json", "report.html", "report.json"];
    files.retain(|path, _| !differ.iter().any(|name| path.ends_with(name)));
    files
}

#[test]
fn a_training_writes_an_adapter_that_other_commands_take() {
    let Some(bench) = bench(SETTINGS) else { return };
    let said = bench.must(&words(&format!("{LINE} --out out"))).stdout;
    assert!(said.ends_with("out/adapter\nout/report.html\n"), "{said}");
    assert!(said.contains("  CC  p(defect) "), "{said}");
    let files: Vec<String> = snapshot(&bench.path("out")).keys().map(|p| p.display().to_string()).collect();
    let mut expected = vec![".lock", "adapter/adapter_config.json", "adapter/adapter_model.safetensors"];
    let figures = ["training_kl", "training_policy", "training_reward", "training_states"];
    let forms = |f: &&str| ["csv", "pdf", "png", "svg"].map(|ending| format!("figures/{f}.{ending}"));
    let figures: Vec<String> = figures.iter().flat_map(forms).collect();
    expected.extend(figures.iter().map(String::as_str));
    expected.extend(["manifest.json", "prompts.json", "report.html", "report.json"]);
    expected.extend(["tables/training.csv", "tables/training.parquet"]);
    expected.extend(["tables/training_states.csv", "tables/training_states.parquet"]);
    assert_eq!(files, expected);
    let manifest: Value = serde_json::from_slice(&bench.read("out/manifest.json")).unwrap();
    assert_eq!(manifest["finished"], json!(true));
    assert_eq!(manifest["settings"]["training"]["reward"], json!("hybrid"));
    let again = bench.must(&words(&format!("{LINE} --out out"))).stdout;
    assert!(again.ends_with("out is finished already; nothing to do\n"), "{again}");
    // The training's prompts are prompts like any other, and the reward went up.
    bench.must(&words(
        "decide --base ./base --adapter moral=./out/adapter --prompts out/prompts.json --out decide",
    ));
    let steps = bench.table("out", "training");
    let objective = |step: usize| steps.number(step, "objective");
    assert!(objective(11) > objective(0), "{} to {}", objective(0), objective(11));
}

/// Adapters of the way are as they were left, whatever happens to the run in between; the last one is the adapter itself.
#[test]
fn adapters_of_the_way_are_kept() {
    let Some(bench) = bench(SETTINGS) else { return };
    bench.must(&words(&format!("{LINE} --out plain")));
    let said = bench.must(&words(&format!("{LINE} --keep-every 5 --out out"))).stdout;
    assert!(said.ends_with("out/checkpoints\nout/adapter\nout/report.html\n"), "{said}");
    let kept: Vec<String> =
        snapshot(&bench.path("out/checkpoints")).keys().map(|p| p.display().to_string()).collect();
    let file = |step: usize, name: &str| format!("step-{step:06}/adapter_{name}");
    let both = |step| [file(step, "config.json"), file(step, "model.safetensors")];
    assert_eq!(kept, [0, 5, 10, 12].map(both).concat());
    for name in ["config.json", "model.safetensors"] {
        let end = bench.read(&format!("out/checkpoints/{}", file(12, name)));
        assert!(end == bench.read(&format!("out/adapter/adapter_{name}")), "{name}");
        assert!(end == bench.read(&format!("plain/adapter/adapter_{name}")), "what is kept changes nothing");
    }
    let manifest: Value = serde_json::from_slice(&bench.read("out/manifest.json")).unwrap();
    assert_eq!(
        manifest["files"].as_object().unwrap().keys().filter(|k| k.starts_with("checkpoints/")).count(),
        8
    );
    // A file that is lost is made again.
    let whole = results(&bench, "out");
    std::fs::remove_file(bench.path(&format!("out/checkpoints/{}", file(5, "model.safetensors")))).unwrap();
    let again = bench.must(&words(&format!("{LINE} --keep-every 5 --out out"))).stdout;
    assert!(again.contains("changed or missing, made again: checkpoints/step-000005"), "{again}");
    assert_eq!(results(&bench, "out"), whole);
    bench.must(&words(
        "trajectory --base ./base --checkpoints s=./out/checkpoints --prompts out/prompts.json --out way",
    ));
    // The folder above is not it.
    let line = "trajectory --base ./base --checkpoints s=./out --prompts out/prompts.json --out no";
    let said = bench.run(&words(line)).stderr;
    assert!(
        said.contains("./out holds no checkpoints") && said.contains("; is it ./out/checkpoints?"),
        "{said}"
    );
}

#[test]
fn targets_of_flags_are_what_the_adapter_has() {
    let Some(bench) = bench(SETTINGS) else { return };
    bench.must(&words(&format!("{LINE} --steps 2 --heads 1.0,2.3 --modules v,o --seed 3 --out out")));
    let config: Value = serde_json::from_slice(&bench.read("out/adapter/adapter_config.json")).unwrap();
    assert_eq!(config["target_modules"], json!(["v_proj", "o_proj"]));
    assert_eq!(config["layers_to_transform"], json!([1, 2]));
    assert_eq!(config["peft_type"], json!("LORA"));
    assert_eq!(config["r"], json!(4));
    bench.must(&words("info --base ./base --adapter few=./out/adapter"));
}

fn start(bench: &Bench, folder: &str) -> Child {
    let mut command = command(bench.dir(), &words(&format!("{LINE} --out {folder}")));
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Waits until the run has left a checkpoint.
fn wait_for_checkpoint(bench: &Bench, folder: &str) {
    let began = Instant::now();
    let parts = bench.path(folder).join(".parts");
    let whole = |name: &str| !name.starts_with(".lorascope-tmp-");
    loop {
        let names = std::fs::read_dir(&parts).into_iter().flatten().flatten().map(|e| e.file_name());
        if names.into_iter().any(|n| whole(&n.to_string_lossy())) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(120), "no checkpoint appeared");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_killed_training_ends_like_an_undisturbed_one() {
    let Some(bench) = bench(&SETTINGS.replace("steps = 12", "steps = 40\nkeep_every = 7")) else { return };
    bench.must(&words(&format!("{LINE} --out whole")));
    let whole = results(&bench, "whole");
    let mut cut = 0;
    for (round, wait) in [0, 40, 90].into_iter().enumerate() {
        let folder = format!("killed{round}");
        let mut child = start(&bench, &folder);
        wait_for_checkpoint(&bench, &folder);
        std::thread::sleep(Duration::from_millis(wait));
        cut += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        bench.must(&words(&format!("{LINE} --out {folder}")));
        assert_eq!(results(&bench, &folder), whole, "round {round}");
    }
    assert!(cut > 0, "every run had ended before it was killed");
}

#[cfg(unix)]
#[test]
fn an_interrupted_training_says_where_it_stopped() {
    let Some(bench) = bench(&SETTINGS.replace("steps = 12", "steps = 400")) else { return };
    let child = start(&bench, "out");
    wait_for_checkpoint(&bench, "out");
    let signal = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(signal.success());
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stdout).unwrap();
    assert_eq!(ended.status.code(), Some(130), "{said}");
    assert!(said.contains("stopped after step "), "{said}");
    assert!(!bench.path("out/adapter").exists());
    let again = bench.must(&words(&format!("{LINE} --out out"))).stdout;
    assert!(again.contains("going on with out\n"), "{again}");
}

#[test]
fn what_can_not_be_trained_is_refused_before_anything_is_written() {
    let Some(bench) = bench(SETTINGS) else { return };
    bench.text("unclear.toml", "name = 'unclear'\nown = 1\nothr = 2");
    bench.text("dora.toml", "use_dora = true");
    let cases = [
        ("--reward strategick", "unknown reward `strategick`; did you mean `strategic`?"),
        ("--reward unclear.toml", "unknown key `othr` in a reward; did you mean `other`?"),
        ("--reward nowhere.toml", "reward nowhere.toml"),
        ("--layers 7", "there is no layer 7; the model's layers are 0 to 3"),
        ("--heads 9", "there is no head 9; the model's heads are 0 to 3"),
        ("--modules up --heads 1", "`mlp.up_proj` has no heads"),
        ("--layers 3-1", "`3-1` is no layer and no range of layers"),
        ("--rank 0", "setting `rank`: `0` can't be; it must be 1 or more"),
        ("--set optimizer.clipp=3", "clipp"),
        ("--set steps.more=3", "setting `steps.more`: `steps` is no table"),
        ("--set prompts.wording=structured", "but the model's context is 128; shorten the prompt"),
        ("--set optimizer.learning_rate=-1", "setting `optimizer.learning_rate`: `-1` can't be"),
    ];
    for (flags, expected) in cases {
        let outcome =
            bench.run(&words(&format!("train --base ./base --settings train.toml {flags} --out out")));
        assert!(!outcome.ok && outcome.stderr.contains(expected), "{flags}: {}", outcome.stderr);
        assert!(!bench.path("out").exists(), "{flags}");
    }
    let outcome = bench.run(&words("train --base ./base --settings dora.toml --out out"));
    assert!(outcome.stderr.contains("unknown field `use_dora`"), "{}", outcome.stderr);
}

#[test]
fn answers_that_the_base_never_gives_are_said() {
    let Some(bench) = bench(&SETTINGS.replace("x/y", "action1/action2")) else { return };
    let outcome = bench.run(&words(&format!("{LINE} --out out")));
    assert!(!outcome.ok);
    assert!(
        outcome.stderr.contains("the base gives the two answers together a probability of"),
        "{}",
        outcome.stderr
    );
    assert!(outcome.stderr.contains("below 1e-12"), "{}", outcome.stderr);
}
