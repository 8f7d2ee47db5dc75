//! Runs that are killed, at any instant, and go on: the results are those of an undisturbed run, byte for byte.
//!
//! `LORASCOPE_KILLS=150` asks for so many kills of the study and of the training; `scripts/faults` does.

use crate::support::{Bench, command, prompts, snapshot, words};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Everything in a run folder but the manifest, whose list of sessions differs.
pub fn results(bench: &Bench, folder: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = snapshot(&bench.path(folder));
    let differ = ["manifest.json", "report.html", "report.json"];
    files.retain(|path, _| !differ.iter().any(|name| path.ends_with(name)));
    files
}

/// The manifest without what may differ between runs of one identity: who worked when, and the report, which shows the
/// command line.
pub fn manifest(bench: &Bench, folder: &str) -> serde_json::Value {
    let mut manifest: serde_json::Value =
        serde_json::from_slice(&bench.read(&format!("{folder}/manifest.json"))).unwrap();
    manifest.as_object_mut().unwrap().remove("sessions");
    for report in ["report.html", "report.json"] {
        manifest["files"].as_object_mut().unwrap().remove(report);
    }
    manifest
}

/// A study of two cheap analyses.
pub const STUDY: &str = "study study.toml";

/// A training by the settings below.
pub const TRAINING: &str = "train --base ./base --settings train.toml --reward hybrid";

/// Short prompts, for a model of 128 tokens that reads one byte a token, with answers of one token.
pub const TRAINING_SETTINGS: &str = "\
rank = 4
steps = 40
keep_every = 7
checkpoint_every = 1
[optimizer]
learning_rate = 0.01
[prompts]
symbols = ['x/y']
wording = [{ name = 'short', text = 'I {own_last_move}, he {opponent_last_move}. {symbols_first}? ' }]
";

/// Whether a folder holds all of its run.
pub fn is_finished(bench: &Bench, folder: &str) -> bool {
    let manifest = fs::read(bench.path(folder).join("manifest.json"));
    manifest
        .is_ok_and(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()["finished"] == true)
}

pub fn start(bench: &Bench, line: &str, folder: &str) -> Child {
    let mut command = command(bench.dir(), &words(&format!("{line} --out {folder}")));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// SplitMix64 (Steele, Lea and Flood 2014), as a number from 0 to 1.
pub fn random(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (mixed ^ (mixed >> 31)) as f64 / u64::MAX as f64
}

/// How many kills of the study and of the training somebody asks for.
fn wanted_kills() -> usize {
    std::env::var("LORASCOPE_KILLS").map_or(0, |n| n.parse().expect("LORASCOPE_KILLS is a number"))
}

/// Runs a command undisturbed, and several times killed and gone on with: four folders, and as many more as it takes to the wanted kills.
fn kill_and_go_on(bench: &Bench, line: &str, wanted: usize) {
    let began = Instant::now();
    bench.must(&words(&format!("{line} --out whole")));
    let length = began.elapsed().as_secs_f64();
    let (whole, of_whole) = (results(bench, "whole"), manifest(bench, "whole"));
    let (mut state, mut killed, mut resumed, mut round) = (7, 0, 0, 0);
    // On a busy machine a run may end before it is hit.
    while round < 4 || killed < wanted.max(8) || (resumed < 2 && round < 40) {
        assert!(round < 40 + wanted, "only {killed} kills hit a run in {round} rounds");
        round += 1;
        let folder = format!("killed{round}");
        // A run that has got far has little left, so the later kills of a round come sooner.
        for share in [1.0, 0.7, 0.4, 0.4, 0.4, 0.4] {
            let mut child = start(bench, line, &folder);
            std::thread::sleep(Duration::from_secs_f64(random(&mut state) * share * length));
            let alive = child.try_wait().unwrap().is_none();
            child.kill().unwrap();
            child.wait().unwrap();
            // A process that looks at a finished run, or had only its last words to say, is none.
            if is_finished(bench, &folder) {
                break;
            }
            killed += usize::from(alive);
        }
        let said = bench.must(&words(&format!("{line} --out {folder}"))).stdout;
        resumed += usize::from(said.starts_with(&format!("going on with {folder}")));
        let found = results(bench, &folder);
        let other = |path: &&PathBuf| found.get(*path) != whole.get(*path);
        let others: Vec<&PathBuf> = found.keys().chain(whole.keys()).filter(other).collect();
        assert!(others.is_empty(), "round {round}: other bytes in {others:?}");
        assert_eq!(manifest(bench, &folder), of_whole, "round {round}");
        fs::remove_dir_all(bench.path(&folder)).unwrap();
    }
    let verb = line.split(' ').next().unwrap_or_default();
    println!(
        "kills: {killed} of {verb}, a run of {length:.2} s; {resumed} of {round} folders gone on with; 0 bytes differ"
    );
    assert!(killed >= 8 && resumed >= 2, "{killed} kills hit a run and {resumed} folders were gone on with");
}

#[test]
fn killed_runs_end_like_undisturbed_ones() {
    let Some(bench) = Bench::new() else { return };
    bench.json("prompts.json", &prompts(160));
    kill_and_go_on(&bench, STUDY, wanted_kills());
}

#[test]
fn killed_trainings_end_like_undisturbed_ones() {
    let Some(bench) = Bench::new() else { return };
    bench.text("train.toml", TRAINING_SETTINGS);
    kill_and_go_on(&bench, TRAINING, wanted_kills());
}

/// The words of an analysis on the bench with both adapters.
fn line(verb: &str, rest: &str) -> String {
    format!("{verb} --base ./base --adapter lora=./lora --adapter dora=./dora --prompts prompts.json {rest}")
}

#[test]
fn killed_patching_ends_like_an_undisturbed_one() {
    let Some(bench) = Bench::new() else { return };
    bench.json("prompts.json", &prompts(32));
    kill_and_go_on(&bench, &line("patch", "--site z --site adapter --position decision"), 0);
}

#[test]
fn killed_circuits_end_like_undisturbed_ones() {
    let Some(bench) = Bench::new() else { return };
    bench.json("prompts.json", &prompts(20));
    kill_and_go_on(&bench, &line("circuit", "--source lora --target base"), 0);
}

#[test]
fn a_changed_input_between_two_sessions_is_refused_by_name() {
    let Some(bench) = Bench::new() else { return };
    bench.json("prompts.json", &prompts(160));
    let mut child = start(&bench, STUDY, "out");
    while !bench.path("out/manifest.json").exists() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be killed");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let refused = |what: &str| {
        let before = snapshot(&bench.path("out"));
        let said = bench.run(&words("study study.toml --out out"));
        assert!(!said.ok && said.stderr.contains("out holds another run; what differs"), "{said:?}");
        assert!(said.stderr.contains(what), "{}", said.stderr);
        assert_eq!(snapshot(&bench.path("out")), before);
    };
    let set = bench.read("prompts.json");
    bench.edit("prompts.json", |p| p[3]["prompt"] = "Something else. You".into());
    refused("settings.prompts_sha256: ");
    bench.bytes("prompts.json", &set);
    let study = bench.read("study.toml");
    bench.text("study.toml", &format!("seed = 4\n{}", crate::support::STUDY));
    refused("seed: `0` -> `4`");
    bench.bytes("study.toml", &study);
    let config = bench.read("lora/adapter_config.json");
    bench.edit("lora/adapter_config.json", |c| c["lora_alpha"] = 16.into());
    refused("input adapter/lora/adapter_config.json: ");
    bench.bytes("lora/adapter_config.json", &config);
    bench.must(&words("study study.toml --out out"));
}

#[test]
fn a_damaged_result_is_made_again() {
    let Some(bench) = Bench::new() else { return };
    bench.must(&words("study study.toml --out out"));
    let (whole, of_whole) = (results(&bench, "out"), manifest(&bench, "out"));
    bench.text("out/tables/lens.csv", "model\n");
    fs::remove_file(bench.path("out/figures/decisions.svg")).unwrap();
    let said = bench.must(&words("study study.toml --out out")).stdout;
    assert!(said.starts_with("out: changed or missing, made again: "), "{said}");
    assert!(said.contains("tables/lens.csv") && said.contains("figures/decisions.svg"), "{said}");
    assert_eq!(results(&bench, "out"), whole);
    assert_eq!(manifest(&bench, "out"), of_whole);
}
