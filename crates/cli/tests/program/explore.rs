//! The explorer as a program: its answers are the command line's to the bit, edits are patched runs, an export is a study that
//! says the same, a run folder opens again, and ctrl-C ends it.

use crate::support::{Csv, command, run_in, words};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const MODELS: &str =
    "--base organism --adapter strategic=organism:strategic --adapter hybrid=organism:hybrid";

/// The program while it serves.
struct Explorer {
    child: Child,
    host: String,
    token: String,
}

impl Explorer {
    fn start(folder: &Path, line: &str) -> Self {
        let mut child = command(folder, &words(&format!("explore {line}")))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let rest = url.trim().strip_prefix("http://").unwrap_or_else(|| {
            let mut said = String::new();
            child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            panic!("{line}: {said}")
        });
        let (host, token) = rest.trim_end_matches('/').split_once('/').unwrap();
        let (host, token) = (host.to_owned(), token.to_owned());
        Self { child, host, token }
    }

    /// Status and JSON of a request.
    fn post(&self, name: &str, body: &Value) -> (u16, Value) {
        let (body, mut stream) = (body.to_string(), TcpStream::connect(&self.host).unwrap());
        write!(
            stream,
            "POST /{}/api/{name} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.token,
            self.host,
            body.len()
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
    }

    fn ask(&self, state: &Value) -> Value {
        let (status, answer) = self.post("ask", &json!({"state": state}));
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// Ctrl-C; how long it took to end.
    fn interrupt(mut self) -> Duration {
        let begun = Instant::now();
        let sent = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        assert!(self.child.wait().unwrap().success(), "ctrl-C is how it is meant to end");
        begun.elapsed()
    }
}

impl Drop for Explorer {
    fn drop(&mut self) {
        // A test that fails leaves no process behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn must(folder: &Path, line: &str) {
    let outcome = run_in(folder, &words(line));
    assert!(outcome.ok, "{line}: {}", outcome.stderr);
}

/// A folder with `all.json` (fifteen prompts) and `one.json` (the first of them); also that one's id.
fn folder() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    must(dir.path(), "prompts --out all.json --design fifteen");
    let all: Value = serde_json::from_slice(&std::fs::read(dir.path().join("all.json")).unwrap()).unwrap();
    let items = all.get("items").unwrap_or(&all).as_array().unwrap();
    let one = Value::Array(items[..1].to_vec());
    std::fs::write(dir.path().join("one.json"), one.to_string()).unwrap();
    let id = items[0]["id"].as_str().unwrap().to_owned();
    (dir, id)
}

/// Whether a table of an answer is the table of a run, cell by cell.
fn assert_same(answer: &Value, analysis: &str, run: &Path) {
    let tables = answer["found"][analysis]["tables"].as_object().unwrap();
    assert!(!tables.is_empty());
    for (name, columns) in tables {
        let csv = Csv::read(&run.join(format!("tables/{name}.csv")));
        for (column, cells) in columns.as_object().unwrap() {
            let cells = cells.as_array().unwrap();
            assert_eq!(cells.len(), csv.rows.len(), "{name}");
            for (row, cell) in cells.iter().enumerate() {
                let text = csv.get(row, column);
                let same = match cell {
                    Value::Null => text.is_empty(),
                    Value::Bool(b) => text == b.to_string(),
                    Value::Number(n) => {
                        text.parse::<f64>().unwrap().to_bits() == n.as_f64().unwrap().to_bits()
                    }
                    other => other.as_str() == Some(text),
                };
                assert!(same, "{name}.{column}, row {row}: {cell} here, {text} there");
            }
        }
    }
}

#[test]
fn answers_are_those_of_the_command_line_to_the_bit() {
    let (dir, id) = folder();
    let explorer = Explorer::start(dir.path(), &format!("{MODELS} --prompts all.json"));
    let answer = explorer.ask(&json!({"prompt": {"id": id}}));
    for verb in ["decide", "lens", "dla"] {
        must(dir.path(), &format!("{verb} {MODELS} --prompts one.json --out {verb}"));
        assert_same(&answer, verb, &dir.path().join(verb));
    }
    let ended = explorer.interrupt();
    assert!(ended < Duration::from_secs(1), "ended after {ended:?}");
}

/// delta of the last layer's lens of a model: its own logit difference.
fn logit_delta(answer: &Value, model: &str) -> f64 {
    let table = &answer["found"]["lens"]["tables"]["lens"];
    let column = |name: &str| table[name].as_array().unwrap();
    let last = column("layer").iter().filter_map(Value::as_i64).max().unwrap();
    let row = (0..column("model").len()).find(|&i| {
        column("model")[i] == model && column("site")[i] == "resid_post" && column("layer")[i] == last
    });
    column("delta")[row.unwrap()].as_f64().unwrap()
}

#[test]
fn edits_are_patched_runs() {
    let (dir, _) = folder();
    // One token decides, so that delta of `patch` is the difference of two logits.
    let one = json!([{"id": "p", "prompt": "You and another player choose A or B. Your answer:", "answer_a": "A", "answer_b": "B"}]);
    std::fs::write(dir.path().join("letters.json"), one.to_string()).unwrap();
    let explorer = Explorer::start(dir.path(), &format!("{MODELS} --prompts letters.json"));
    let of = |edits: Value| explorer.ask(&json!({"prompt": {"id": "p"}, "edits": edits}));
    let plain = of(json!([]));
    for (n, position) in ["decision", "all"].into_iter().enumerate() {
        for (m, (site, unit)) in [("z", "z:2.1"), ("mlp_post", "mlp_post:1")].into_iter().enumerate() {
            for source in ["zero", "base"] {
                let out = format!("patch-{n}{m}{source}");
                let line = format!(
                    "patch {MODELS} --prompts letters.json --source {source} --target hybrid --site {site} --position {position} \
                     --out {out}"
                );
                must(dir.path(), &line);
                let patches = Csv::read(&dir.path().join(&out).join("tables/patches.csv"));
                let (layer, head) = if site == "z" { ("2", "1") } else { ("1", "") };
                let row = patches.row(&[("layer", layer), ("head", head)]);
                let mut edit =
                    json!({"kind": "zero", "unit": unit, "models": ["hybrid"], "position": position});
                if source == "base" {
                    edit["kind"] = "patch".into();
                    edit["source"] = "base".into();
                }
                let edited = of(json!([edit]));
                let (now, then) = (patches.number(row, "delta_patched"), patches.number(row, "delta_target"));
                assert_eq!(logit_delta(&edited, "hybrid").to_bits(), now.to_bits(), "{line}");
                assert_eq!(logit_delta(&plain, "hybrid").to_bits(), then.to_bits(), "{line}");
                assert!(now != then, "{line}: the patch does something");
                assert_eq!(logit_delta(&edited, "base"), logit_delta(&plain, "base"));
            }
        }
    }
}

#[test]
fn a_sweep_is_patch_to_the_bit_with_edits_and_without() {
    let (dir, id) = folder();
    let explorer = Explorer::start(dir.path(), &format!("{MODELS} --prompts all.json"));
    let sweep = json!({"source": "hybrid", "target": "base"});
    let of = |edits: Value| {
        let state = json!({"prompt": {"id": id}, "edits": edits});
        let (status, answer) = explorer.post("ask", &json!({"state": state, "sweep": sweep}));
        assert_eq!(status, 200, "{answer}");
        (answer, state)
    };
    let (answer, _) = of(json!([]));
    assert_eq!(answer["found"].as_object().unwrap().len(), 1, "a sweep alone answers with a sweep alone");
    must(dir.path(), &format!("patch {MODELS} --prompts one.json --source hybrid --target base --out patch"));
    assert_same(&answer, "patch", &dir.path().join("patch"));

    // Under edits: the exported study, with the sweep's settings.
    let (edited, state) = of(
        json!([{"kind": "mean", "unit": "z:2.1"}, {"kind": "zero", "unit": "z:1.0", "models": ["hybrid"]}]),
    );
    assert_ne!(edited["found"], answer["found"]);
    let (_, files) = explorer.post("export", &state);
    let study = files["study"].as_str().unwrap();
    let study = study.replace("analyses = [\"decide\", \"lens\", \"dla\"]", "analyses = [\"patch\"]");
    assert!(study.contains("[\"patch\"]") && study.contains("kind = \"mean\""), "{study}");
    let study = format!("{study}\n[settings.patch]\nsource = \"hybrid\"\ntarget = \"base\"\n");
    std::fs::write(dir.path().join("edited.toml"), study).unwrap();
    std::fs::write(dir.path().join("explored.prompts.json"), files["prompts"].as_str().unwrap()).unwrap();
    must(dir.path(), "study edited.toml --out edited");
    assert_same(&edited, "patch", &dir.path().join("edited"));
}

#[test]
fn an_export_is_a_study_that_says_the_same_and_a_run_folder_opens_again() {
    let (dir, id) = folder();
    let explorer =
        Explorer::start(dir.path(), &format!("{MODELS} --control random:hybrid --prompts all.json"));
    let edits = json!([
        {"kind": "zero", "unit": "z:2.1", "models": ["hybrid"], "position": "decision"},
        {"kind": "patch", "unit": "mlp_post:1", "source": "strategic", "models": ["base"]},
        {"kind": "steer", "layer": 1, "plus": "hybrid", "minus": "base", "strength": 0.5, "models": ["strategic"]},
        {"kind": "mute", "models": ["hybrid"], "layers": [3]},
        {"kind": "mean", "unit": "mlp_post:2", "models": ["strategic"]},
    ]);
    let state = json!({"prompt": {"id": id}, "edits": edits});
    let answer = explorer.ask(&state);
    assert_ne!(answer["found"], explorer.ask(&json!({"prompt": {"id": id}}))["found"]);
    let (status, files) = explorer.post("export", &state);
    assert_eq!(status, 200, "{files}");
    let study = files["study"].as_str().unwrap();
    let put = |name: &str, text: &str| {
        std::fs::write(dir.path().join(files[name].as_str().unwrap()), text).unwrap();
    };
    put("study_name", study);
    put("prompts_name", files["prompts"].as_str().unwrap());
    must(dir.path(), "study explored.toml --out again");
    for analysis in ["decide", "lens", "dla"] {
        assert_same(&answer, analysis, &dir.path().join("again"));
    }
    let report = std::fs::read_to_string(dir.path().join("again/report.html")).unwrap();
    assert!(report.contains("5 edits stand"), "the report says that models are edited");
    drop(explorer);

    // The run's folder brings models, prompt, controls and edits.
    let reopened = Explorer::start(dir.path(), "again");
    assert_eq!(reopened.ask(&state)["found"], answer["found"]);
    drop(reopened);

    // Another answer under other edits is another run.
    let other = study.replace("strength = 0.5", "strength = 0.25");
    assert_ne!(other, study);
    put("study_name", &other);
    let outcome = run_in(dir.path(), &words("study explored.toml --out again"));
    assert!(!outcome.ok && outcome.stderr.contains("settings.edits"), "{}", outcome.stderr);
}

#[test]
fn what_can_not_be_explored_is_refused() {
    let (dir, _) = folder();
    for (line, why) in [
        ("explore", "--base"),
        ("explore nowhere", "manifest.json"),
        ("explore . --base organism", "cannot be used with"),
        ("explore --base organism --prompts nothing.json", "nothing.json"),
        ("explore --base organism --host 203.0.113.7", "listening on `203.0.113.7:0`"),
    ] {
        let outcome = run_in(dir.path(), &words(line));
        assert!(!outcome.ok && outcome.stderr.contains(why), "{line}: {}", outcome.stderr);
    }
    // A run whose models are not what they were.
    std::fs::create_dir(dir.path().join("own")).unwrap();
    let folder = lorascope_organism_folder(dir.path());
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(folder.join(file), dir.path().join("own").join(file)).unwrap();
    }
    must(dir.path(), "decide --base organism --adapter own=./own --prompts one.json --out run");
    let config = dir.path().join("own/adapter_config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}\n")).unwrap();
    let outcome = run_in(dir.path(), &words("explore run"));
    assert!(!outcome.ok && outcome.stderr.contains("is not what it was"), "{}", outcome.stderr);
    // Edits of prompts do not reach an analysis with prompts of its own, and surgery knows no edited models.
    let study = |edit: &str, analysis: &str| {
        let text = format!(
            "base = 'organism'\nprompts = 'one.json'\nanalyses = ['{analysis}']\n[[adapter]]\nname = 'own'\npath = './own'\n\
             [[edits]]\n{edit}\n"
        );
        std::fs::write(dir.path().join("study.toml"), text).unwrap();
        let outcome = run_in(dir.path(), &words("study study.toml --out study"));
        assert!(!outcome.ok);
        outcome.stderr
    };
    let said = study("kind = 'zero'\nunit = 'z:2.1'\nposition = 'decision'", "play");
    assert!(said.contains("prompts of its own"), "{said}");
    let said = study("kind = 'zero'\nunit = 'z:2.1'", "surgery");
    assert!(said.contains("edits stand"), "{said}");
    let said = study("kind = 'zero'\nunit = 'z:2.1'\nstrenght = 1", "decide");
    assert!(said.contains("edit 1") && said.contains("strenght"), "{said}");
}

/// Where the embedded model's adapter was unpacked by the runs before.
fn lorascope_organism_folder(folder: &Path) -> std::path::PathBuf {
    must(folder, "decide --base organism --adapter h=organism:hybrid --prompts one.json --out unpacked");
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(folder.join("unpacked/manifest.json")).unwrap()).unwrap();
    let inputs = manifest["inputs"].as_array().unwrap();
    let config = inputs.iter().find(|i| i["name"] == "adapter/h/adapter_config.json").unwrap();
    Path::new(config["path"].as_str().unwrap()).parent().unwrap().to_owned()
}
