//! The tuned lens from prompts to tables on a tiny model: what it promises of its readings, and runs that are cut off.

use crate::support::{Bench, Csv, command, words};
use std::process::Stdio;

const STUDY: &str = "\
base = './base'
analyses = ['lens', 'tuned_lens']
prompts = 'prompts.json'
controls = []
[settings.tuned_lens]
rows = 3000
[[adapter]]
name = 'lora'
path = './lora'
";

fn csv(bench: &Bench, table: &str) -> Csv {
    Csv::read(&bench.path(&format!("out/tables/{table}.csv")))
}

#[test]
fn unseen_documents_come_closer_and_the_last_layer_is_the_models_own_decision() {
    let Some(bench) = Bench::new() else { return };
    bench.text("study.toml", STUDY);
    bench.must(&words("study study.toml --out out"));
    let fits = csv(&bench, "tuned_lens_fit");
    let [plain, tuned] = ["kl_plain", "kl_tuned"].map(|c| fits.numbers(&["layer", "place"], c));
    let last = plain.keys().map(|k| k[0].parse::<usize>().unwrap()).max().unwrap();
    for (key, plain) in plain.iter().filter(|(k, _)| k[1] == "heldout") {
        if key[0] == last.to_string() {
            assert_eq!((*plain, tuned[key]), (0.0, 0.0));
        } else {
            assert!(tuned[key] < *plain, "layer {}: {} against {plain}", key[0], tuned[key]);
        }
    }
    // The decision points here are few, and of the base: one for each prompt.
    let n = fits.numbers(&["layer", "place"], "n");
    assert_eq!(n[&vec!["0".to_owned(), "decision".to_owned()]], 5.0);
    let readings = csv(&bench, "tuned_lens");
    let of = |column: &str| readings.numbers(&["model", "prompt_id", "layer"], column);
    let (delta, delta_plain, kl) = (of("delta"), of("delta_plain"), of("kl"));
    assert_eq!(delta.len(), 2 * 5 * (last + 1));
    for (key, delta) in delta.iter().filter(|(k, _)| k[2] == last.to_string()) {
        assert_eq!(delta.to_bits(), delta_plain[key].to_bits(), "{key:?}");
        assert_eq!(kl[key], 0.0, "{key:?}");
    }
    // Without the map it is the plain lens of the analysis `lens`.
    let lens = csv(&bench, "lens").numbers(&["model", "prompt_id", "site", "layer"], "delta");
    for (key, own) in &delta_plain {
        let there = lens[&vec![key[0].clone(), key[1].clone(), "resid_post".to_owned(), key[2].clone()]];
        assert_eq!(own.to_bits(), there.to_bits(), "{key:?}");
    }
}

#[test]
fn a_run_that_was_cut_off_gives_the_same_bytes() {
    let Some(bench) = Bench::new() else { return };
    bench.text("study.toml", STUDY);
    bench.must(&words("study study.toml --out out"));
    // Within the text, and among the layers.
    for parts in [6, 12, 18] {
        let folder = format!("cut{parts}");
        let mut command = command(bench.dir(), &words(&format!("study study.toml --out {folder}")));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let is_far = || {
            let found = std::fs::read_dir(bench.path(&format!("{folder}/.parts")));
            found.into_iter().flatten().count() >= parts
        };
        while !is_far() {
            assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be killed");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        bench.must(&words(&format!("study study.toml --out {folder}")));
        for file in ["tables/tuned_lens.csv", "tables/tuned_lens_fit.csv", "tuned_lens.safetensors"] {
            let [whole, cut] = ["out", &folder].map(|f| bench.read(&format!("{f}/{file}")));
            assert!(whole == cut, "{file} differs after a run that was cut off");
        }
    }
}

#[test]
fn another_text_replaces_the_built_in_one() {
    let Some(bench) = Bench::new() else { return };
    let line = |i: usize| format!("Document {i} says that {} and {} make {}.\n\n", i, i + 1, 2 * i + 1);
    bench.text("mine.txt", &(0..60).map(line).collect::<String>());
    let run = "tuned_lens --base ./base --adapter lora=./lora --prompts prompts.json --set text=";
    bench.must(&words(&format!("{run}mine.txt --out mine")));
    let manifest = String::from_utf8(bench.read("mine/manifest.json")).unwrap();
    assert!(manifest.contains("text_sha256") && manifest.contains("mine.txt"));
    bench.text("mine.txt", &(0..61).map(line).collect::<String>());
    let changed = bench.run(&words(&format!("{run}mine.txt --out mine")));
    assert!(!changed.ok && changed.stderr.contains("text_sha256"), "{}", changed.stderr);
    bench.text("short.txt", "a\n\nb\n\nc\n\nd\n\ne\n\nf\n\ng\n\nh\n\ni\n\nj\n");
    let short = bench.run(&words(&format!("{run}short.txt --out short")));
    assert!(!short.ok && short.stderr.contains("give a longer text"), "{}", short.stderr);
    let missing = bench.run(&words(&format!("{run}nowhere.txt --out missing")));
    assert!(!missing.ok && missing.stderr.contains("`nowhere.txt` can't be read"), "{}", missing.stderr);
    assert!(!bench.path("missing").exists(), "nothing is begun");
}
