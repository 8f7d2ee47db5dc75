//! What tests of the program share: a bench with a tiny model, its tokenizer, adapters and prompts, and ways to run the
//! program on it. The models come from the reference data beside the repository; tests skip themselves without it.

#![allow(dead_code, reason = "each test program uses a part")]
pub mod by_hand;
pub mod naive;
pub mod tokenizer;
pub mod weights;

use lorascope_report::{FigureKind, Page};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Whether curves of a report are the means of what it has of single prompts, where it has that; the number of values compared.
pub fn assert_curves_are_means_of_prompts(page: &Page, begins: &str) -> usize {
    let mut compared = 0;
    let figures = page.sections.iter().flat_map(|s| &s.figures).filter(|f| f.name.starts_with(begins));
    for figure in figures {
        let FigureKind::Lines { panels, .. } = &figure.kind else { panic!("{} has no curves", figure.name) };
        let Some(slices) = &figure.by_prompt else { panic!("{} knows no prompts", figure.name) };
        let slices = slices.unpacked(&figure.kind).unwrap();
        let mut cell = 0;
        for series in panels.iter().flat_map(|p| &p.series) {
            for y in &series.y {
                let known: Vec<f64> = slices.iter().filter_map(|of| of[cell]).map(f64::from).collect();
                cell += 1;
                let (Some(y), false) = (y, known.is_empty()) else { continue };
                let mean = known.iter().sum::<f64>() / known.len() as f64;
                assert!(
                    (mean - y).abs() < 1e-5 * y.abs().max(1.0),
                    "{}, {}: {mean} and {y}",
                    figure.name,
                    series.name
                );
                compared += 1;
            }
        }
    }
    compared
}

/// The folder of reference data beside the repository, or `None` (said aloud) where it is absent.
pub fn shared() -> Option<PathBuf> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    if shared.is_dir() {
        return Some(shared.canonicalize().unwrap());
    }
    let required = std::env::var("LORASCOPE_REQUIRE_SHARED").is_ok_and(|v| v == "1");
    assert!(!required, "{} is missing, and LORASCOPE_REQUIRE_SHARED=1 demands it", shared.display());
    println!("skipped: reference data not found at {}", shared.display());
    None
}

/// What the program said and how it ended.
#[derive(Debug)]
pub struct Outcome {
    pub ok: bool,
    pub stdout: String,
    pub stderr: String,
}

/// The program with these words, away from network, cache and terminal.
pub fn command(folder: &Path, args: &[impl AsRef<str>]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lorascope"));
    command.args(args.iter().map(AsRef::as_ref)).current_dir(folder).stdin(Stdio::null());
    command.env("HF_HUB_OFFLINE", "1").env("HF_HOME", folder.join("no-cache"));
    command.env_remove("HF_HUB_CACHE").env_remove("HF_TOKEN");
    command.env("LORASCOPE_CACHE", folder.join("cache"));
    command
}

/// Runs the program in `folder`.
pub fn run_in(folder: &Path, args: &[impl AsRef<str>]) -> Outcome {
    let out = command(folder, args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Outcome { ok: out.status.success(), stdout: text(&out.stdout), stderr: text(&out.stderr) }
}

/// A folder with everything that a run needs: `base/` (tiny Llama, 128 tokens of context, one token a byte), `lora/` and
/// `dora/` (adapters of it), `prompts.json`, `study.toml`.
pub struct Bench {
    dir: tempfile::TempDir,
    pub shared: PathBuf,
}

/// A study of two cheap analyses on the bench.
pub const STUDY: &str = "\
base = './base'
analyses = ['decide', 'lens']
prompts = 'prompts.json'
controls = []
[[adapter]]
name = 'lora'
path = './lora'
[[adapter]]
name = 'dora'
path = './dora'
";

impl Bench {
    /// `None` without reference data.
    pub fn new() -> Option<Self> {
        let shared = shared()?;
        let bench = Self { dir: tempfile::tempdir().unwrap(), shared };
        let llama = bench.shared.join("tiny/llama");
        copy_files(&llama.join("model"), &bench.path("base"));
        copy_files(&llama.join("adapter"), &bench.path("lora"));
        copy_files(&llama.join("edge/dora"), &bench.path("dora"));
        bench.json("base/tokenizer.json", &tokenizer::byte_level());
        bench.json("base/tokenizer_config.json", &tokenizer::config());
        bench.json("prompts.json", &prompts(5));
        bench.text("study.toml", STUDY);
        Some(bench)
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn text(&self, name: &str, text: &str) {
        self.bytes(name, text.as_bytes());
    }

    pub fn bytes(&self, name: &str, bytes: &[u8]) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), bytes).unwrap();
    }

    pub fn json(&self, name: &str, value: &Value) {
        self.bytes(name, &serde_json::to_vec_pretty(value).unwrap());
    }

    /// Changes a JSON file.
    pub fn edit(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut value = serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap();
        change(&mut value);
        self.json(name, &value);
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Runs an analysis with adapters of the bench into the folder `out`, in which nothing may be yet, and insists on success.
    pub fn analyse(&self, verb: &str, adapters: &[&str], prompts: &str, rest: &str, out: &str) {
        assert!(!self.path(out).exists(), "{out} is taken");
        let adapters: String = adapters.iter().map(|a| format!(" --adapter {a}=./{a}")).collect();
        let line = format!("{verb} --base ./base{adapters} --prompts {prompts} {rest} --out {out}");
        self.must(&words(&line));
    }

    /// A table of a run.
    pub fn table(&self, out: &str, name: &str) -> Csv {
        Csv::read(&self.path(out).join(format!("tables/{name}.csv")))
    }

    /// Runs the program in the bench's folder.
    pub fn run(&self, args: &[impl AsRef<str>]) -> Outcome {
        run_in(self.dir(), args)
    }

    /// Runs it and insists on success.
    pub fn must(&self, args: &[impl AsRef<str>]) -> Outcome {
        let outcome = self.run(args);
        assert!(outcome.ok, "{}", outcome.stderr);
        outcome
    }
}

/// The same prompts with answers of one token each, which one difference of logits decides.
pub fn one_token_prompts(n: usize) -> Value {
    let mut items = prompts(n);
    for item in items.as_array_mut().unwrap() {
        (item["answer_a"], item["answer_b"]) = ("k".into(), "g".into());
    }
    items
}

/// `n` prompts with one cheap question each, in two scenarios and pairs of templates.
pub fn prompts(n: usize) -> Value {
    let item = |i: usize| {
        json!({
            "id": format!("p{i}"), "prompt": format!("Game {i}: you may keep or give {} coins. You", i * 7 % 10),
            "answer_a": "keep", "answer_b": "give", "scenario": format!("s{}", i % 2), "template": format!("t{}", i / 2),
        })
    };
    Value::Array((0..n).map(item).collect())
}

/// Copies the files of a folder into a new one, writable.
pub fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::write(to.join(path.file_name().unwrap()), fs::read(&path).unwrap()).unwrap();
        }
    }
}

/// Every file under `folder` with its contents, by path relative to it; nothing if there is no such folder.
pub fn snapshot(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn visit(root: &Path, folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(root, &path, found);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    visit(folder, folder, &mut found);
    found
}

/// The words of a command line; no word has a space in it.
pub fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// A CSV file: its header and its rows, as texts.
pub struct Csv {
    header: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl Csv {
    pub fn parse(bytes: &[u8]) -> Self {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(bytes);
        let mut rows = reader
            .records()
            .map(|r| r.unwrap().iter().map(str::to_owned).collect::<Vec<_>>())
            .collect::<Vec<_>>();
        let header = rows.remove(0);
        Self { header, rows }
    }

    pub fn read(path: &Path) -> Self {
        Self::parse(&fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
    }

    /// Names of the columns.
    pub fn header(&self) -> &[String] {
        &self.header
    }

    fn index(&self, column: &str) -> usize {
        self.header.iter().position(|c| c == column).unwrap_or_else(|| panic!("no column {column}"))
    }

    /// A cell as text; a null is empty.
    pub fn get(&self, row: usize, column: &str) -> &str {
        &self.rows[row][self.index(column)]
    }

    /// A cell as a number.
    pub fn number(&self, row: usize, column: &str) -> f64 {
        let text = self.get(row, column);
        text.parse().ok().filter(|v: &f64| v.is_finite()).unwrap_or_else(|| panic!("{column}: `{text}`"))
    }

    /// Rows in which these columns have these values.
    pub fn rows_where(&self, wanted: &[(&str, &str)]) -> Vec<usize> {
        let fits = |&row: &usize| wanted.iter().all(|(column, value)| self.get(row, column) == *value);
        (0..self.rows.len()).filter(fits).collect()
    }

    /// The only row in which these columns have these values.
    pub fn row(&self, wanted: &[(&str, &str)]) -> usize {
        match self.rows_where(wanted)[..] {
            [row] => row,
            ref rows => panic!("{} rows with {wanted:?}", rows.len()),
        }
    }

    /// Value of a number column by the texts of some key columns.
    pub fn numbers(&self, keys: &[&str], column: &str) -> BTreeMap<Vec<String>, f64> {
        let keys: Vec<usize> = keys.iter().map(|k| self.index(k)).collect();
        let column = self.index(column);
        let entry = |row: &Vec<String>| {
            let value: f64 = row[column].parse().unwrap_or_else(|_| panic!("`{}` is no number", row[column]));
            // Maxima of differences pass over a NaN.
            assert!(value.is_finite(), "`{}` is no number", row[column]);
            (keys.iter().map(|&k| row[k].clone()).collect(), value)
        };
        let found: BTreeMap<_, _> = self.rows.iter().map(entry).collect();
        assert_eq!(found.len(), self.rows.len(), "keys are unique");
        found
    }
}
