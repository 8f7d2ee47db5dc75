//! The run folder: resuming after a kill, refusing another run, noticing damage.

#![allow(clippy::unwrap_used, reason = "a helper of these tests may fail them")]

use std::fs;
use std::path::Path;

use lorascope_record::{
    ColumnKind, ColumnSpec, Cost, Error, InputFile, Manifest, Opened, RunFolder, RunKey, Table, TableSpec,
    row, sha256_hex,
};
use serde_json::json;

const SPEC: TableSpec = TableSpec {
    name: "decisions",
    doc: "One row per unit.",
    columns: &[
        ColumnSpec { name: "unit", kind: ColumnKind::Int, unit: "", doc: "Unit of work." },
        ColumnSpec { name: "delta", kind: ColumnKind::Float, unit: "nat", doc: "Its result." },
    ],
};

fn key(folder: &Path, seed: u64, layers: u32, prompts: &str) -> RunKey {
    let path = folder.join("prompts.json");
    fs::write(&path, prompts).unwrap();
    RunKey {
        command: "decide".to_owned(),
        settings: json!({"lens": {"layers": layers, "site": "resid_post"}, "answers": ["1", "2"]}),
        seed,
        inputs: vec![InputFile::read("prompts", &path).unwrap()],
        command_line: vec!["lorascope".to_owned(), "decide".to_owned()],
        threads: 2,
    }
}

fn plain_key(folder: &Path) -> RunKey {
    key(folder, 7, 30, "[]")
}

/// Works on five units; `Err(unit)` where it was killed. Returns which units were computed.
fn work(run: &RunFolder, killed_before: Option<i64>) -> Result<Vec<i64>, i64> {
    let (mut computed, mut table) = (Vec::new(), Table::new(&SPEC));
    for unit in 0..5 {
        let name = format!("decide/unit {unit}");
        if killed_before == Some(unit) {
            return Err(unit);
        }
        let part = run.part(&name).unwrap();
        let value = part.map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap())).unwrap_or_else(|| {
            computed.push(unit);
            1.0 / (unit as f64 + 3.0)
        });
        run.save_part(&name, &value.to_le_bytes()).unwrap();
        table.push(&row![unit, value]).unwrap();
    }
    run.write_table(&table).unwrap();
    run.write_figure("heatmap", &[("svg", b"<svg/>".to_vec()), ("png", b"png".to_vec())]).unwrap();
    run.write_text("report.html", "<html>").unwrap();
    let cost = Cost { analysis: "decide".into(), seconds: 1.5, processor_seconds: None, peak_bytes: Some(7) };
    run.mark_done(cost).unwrap();
    Ok(computed)
}

fn results(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let names = ["tables/decisions.csv", "tables/decisions.parquet", "figures/heatmap.svg", "report.html"];
    names.iter().map(|name| ((*name).to_owned(), fs::read(dir.join(name)).unwrap())).collect()
}

fn manifest(dir: &Path) -> Manifest {
    serde_json::from_slice(&fs::read(dir.join("manifest.json")).unwrap()).unwrap()
}

#[test]
fn a_killed_run_goes_on_and_gives_the_same_bytes() {
    let root = tempfile::tempdir().unwrap();
    let (whole, killed) = (root.path().join("whole"), root.path().join("killed"));
    let key = plain_key(root.path());

    let run = RunFolder::open(&whole, &key).unwrap();
    assert_eq!(*run.opened(), Opened::Created);
    assert_eq!(work(&run, None), Ok(vec![0, 1, 2, 3, 4]));
    run.finish().unwrap();

    let run = RunFolder::open(&killed, &key).unwrap();
    assert_eq!(work(&run, Some(3)), Err(3));
    drop(run);
    // What a kill in the middle of a write leaves.
    fs::write(killed.join("tables/.lorascope-tmp-1-decisions.csv"), b"half").unwrap();
    let other_threads = RunKey { threads: 1, command_line: Vec::new(), ..key.clone() };
    let run = RunFolder::open(&killed, &other_threads).unwrap();
    assert_eq!(*run.opened(), Opened::Resumed { parts: 3 });
    assert_eq!(work(&run, None), Ok(vec![3, 4]));
    run.finish().unwrap();

    assert_eq!(results(&whole), results(&killed));
    assert!(!killed.join(".parts").exists());
    assert!(!killed.join("tables/.lorascope-tmp-1-decisions.csv").exists());
    let (a, b) = (manifest(&whole), manifest(&killed));
    assert_eq!(b.sessions.len(), 2);
    assert_eq!(b.sessions[0].finished, None);
    assert_eq!(b.sessions[1].costs[0].seconds, 1.5);
    assert!(b.sessions[1].finished.is_some());
    assert_eq!(Manifest { sessions: Vec::new(), ..a }, Manifest { sessions: Vec::new(), ..b });
}

/// A kill in the middle of a file may fall into any folder of the run; what lies in a run folder within it is another run's.
#[test]
fn what_a_kill_left_of_a_file_goes_wherever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (key, dir) = (plain_key(folder.path()), folder.path().join("run"));
    let run = RunFolder::open(&dir, &key).unwrap();
    run.write_bytes("checkpoints/step-000007/adapter.safetensors", b"whole").unwrap();
    drop(run);
    let other = RunFolder::open(&dir.join("trainings/one"), &key).unwrap();
    let half = |place: &str| {
        let path = dir.join(place).join(".lorascope-tmp-77-x");
        fs::write(&path, b"ha").unwrap();
        path
    };
    let left = ["", "tables", "checkpoints", "checkpoints/step-000007"].map(half);
    let (others, theirs) = (half("trainings/one"), half("trainings/one/figures"));
    RunFolder::open(&dir, &key).unwrap();
    assert!(left.iter().all(|path| !path.exists()), "{left:?}");
    assert!(others.exists() && theirs.exists());
    assert!(dir.join("checkpoints/step-000007/adapter.safetensors").exists());
    drop(other);
    RunFolder::open(&dir.join("trainings/one"), &key).unwrap();
    assert!(!others.exists() && !theirs.exists());
}

#[test]
fn a_finished_run_is_known_as_such() {
    let root = tempfile::tempdir().unwrap();
    let (dir, key) = (root.path().join("run"), plain_key(root.path()));
    let run = RunFolder::open(&dir, &key).unwrap();
    assert!(!run.is_done("decide"));
    work(&run, None).unwrap();
    assert!(run.is_done("decide") && !run.is_done("lens"));
    run.finish().unwrap();
    let run = RunFolder::open(&dir, &key).unwrap();
    assert_eq!(*run.opened(), Opened::Finished);
    assert!(run.is_done("decide"));
    let entry = &run.manifest().tables["decisions"];
    assert_eq!((entry.rows, entry.columns.join(",")), (5, "unit,delta".to_owned()));
    assert_eq!(entry.csv.bytes, fs::metadata(dir.join("tables/decisions.csv")).unwrap().len());
}

#[test]
fn parts_that_a_kill_left_in_a_finished_run_are_removed() {
    let root = tempfile::tempdir().unwrap();
    let (dir, key) = (root.path().join("run"), plain_key(root.path()));
    let run = RunFolder::open(&dir, &key).unwrap();
    work(&run, None).unwrap();
    run.finish().unwrap();
    let left = dir.join(".parts/47320987f9a49d5b00119b960f247a95");
    fs::create_dir_all(left.parent().unwrap()).unwrap();
    fs::write(&left, "a part").unwrap();
    assert_eq!(*RunFolder::open(&dir, &key).unwrap().opened(), Opened::Finished);
    assert!(!dir.join(".parts").exists());
}

#[test]
fn a_damaged_part_is_discarded_and_computed_again() {
    let root = tempfile::tempdir().unwrap();
    let (dir, key) = (root.path().join("run"), plain_key(root.path()));
    let run = RunFolder::open(&dir, &key).unwrap();
    work(&run, Some(4)).unwrap_err();
    drop(run);
    let parts: Vec<_> = fs::read_dir(dir.join(".parts")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(parts.len(), 4);
    let mut flipped = fs::read(&parts[0]).unwrap();
    *flipped.last_mut().unwrap() ^= 1;
    fs::write(&parts[0], flipped).unwrap();
    let cut = fs::read(&parts[1]).unwrap();
    fs::write(&parts[1], &cut[..10]).unwrap();
    // A part under another part's name must not be taken for it.
    fs::copy(&parts[2], &parts[3]).unwrap();

    let run = RunFolder::open(&dir, &key).unwrap();
    let computed = work(&run, None).unwrap();
    assert_eq!(computed.len(), 4, "three damaged and one that was never made: {computed:?}");
    assert_eq!(run.discarded_parts(), 3);
    let csv = fs::read_to_string(dir.join("tables/decisions.csv")).unwrap();
    assert!(csv.starts_with("unit,delta\n0,0.3333333333333333\n1,0.25\n"), "{csv}");
}

#[test]
fn another_run_is_refused_with_every_difference() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("run");
    let there = plain_key(root.path());
    drop(RunFolder::open(&dir, &there).unwrap());
    let before = fs::read(dir.join("manifest.json")).unwrap();

    let mut now = key(root.path(), 8, 31, "[1]");
    fs::write(root.path().join("a"), "a").unwrap();
    now.inputs.push(InputFile::read("adapter", &root.path().join("a")).unwrap());
    let error = RunFolder::open(&dir, &now).unwrap_err();
    let Error::AnotherRun { changes, .. } = &error else { panic!("{error:?}") };
    assert_eq!(changes[0], "  seed: `7` -> `8`");
    assert_eq!(changes[1], "  settings.lens.layers: `30` -> `31`");
    assert_eq!(changes[2], format!("  input adapter: `absent` -> `1 bytes, sha256 {}`", sha256_hex(b"a")));
    assert!(changes[3].starts_with("  input prompts: `2 bytes, sha256 4f53cda1"), "{}", changes[3]);
    assert_eq!(changes.len(), 4);
    assert_eq!(fs::read(dir.join("manifest.json")).unwrap(), before, "a refusal changes nothing");
}

/// Weights are read while a run goes on; results of two files must not end up in one folder.
#[test]
fn an_input_that_is_written_to_ends_the_run() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("run");
    let (key, input) = (plain_key(root.path()), root.path().join("prompts.json"));
    let run = RunFolder::open(&dir, &key).unwrap();
    run.save_part("before", b"1").unwrap();
    // Another file under its name is no concern of this run, which has the first one open.
    fs::write(root.path().join("new"), "[0]").unwrap();
    fs::rename(root.path().join("new"), &input).unwrap();
    run.save_part("still", b"2").unwrap();
    drop(run);

    let key = self::key(&root.path().join("."), 7, 30, "[]");
    let run = RunFolder::open(&dir, &key).unwrap();
    assert_eq!(run.part("still").unwrap().unwrap(), b"2");
    fs::write(&input, "[0, 1]").unwrap();
    let mut table = Table::new(&SPEC);
    table.push(&row![1_i64, 0.5]).unwrap();
    for refused in [run.save_part("after", b"3"), run.write_table(&table), run.write_text("a.txt", "a")] {
        let error = refused.unwrap_err();
        assert!(matches!(&error, Error::InputChanged { name, .. } if name == "prompts"), "{error:?}");
        assert!(error.to_string().contains("was written to while the run read it"), "{error}");
    }
    assert_eq!(run.part("after").unwrap(), None);
    assert!(!dir.join("tables/decisions.csv").exists() && !dir.join("a.txt").exists());
}

#[test]
fn a_moved_input_and_reordered_settings_are_the_same_run() {
    let root = tempfile::tempdir().unwrap();
    let (dir, elsewhere) = (root.path().join("run"), root.path().join("elsewhere"));
    drop(RunFolder::open(&dir, &plain_key(root.path())).unwrap());
    fs::create_dir(&elsewhere).unwrap();
    let mut moved = plain_key(&elsewhere);
    moved.settings = json!({"answers": ["1", "2"], "lens": {"site": "resid_post", "layers": 30}});
    let run = RunFolder::open(&dir, &moved).unwrap();
    assert_eq!(*run.opened(), Opened::Resumed { parts: 0 });
    assert_eq!(run.manifest().inputs, moved.inputs);
}

/// A settings value that changed in its last bit on the way through the manifest would be "another run".
#[test]
fn settings_with_any_float_are_still_the_same_run() {
    let root = tempfile::tempdir().unwrap();
    let (dir, mut key) = (root.path().join("run"), plain_key(root.path()));
    let floats: Vec<f64> = (1..500).map(|i| f64::from(i).sin() / 7.0).collect();
    key.settings = json!({ "thresholds": floats });
    drop(RunFolder::open(&dir, &key).unwrap());
    assert_eq!(*RunFolder::open(&dir, &key).unwrap().opened(), Opened::Resumed { parts: 0 });
}

#[test]
fn two_runs_on_one_folder_refuse() {
    let root = tempfile::tempdir().unwrap();
    let (dir, key) = (root.path().join("run"), plain_key(root.path()));
    let first = RunFolder::open(&dir, &key).unwrap();
    assert!(matches!(RunFolder::open(&dir, &key), Err(Error::InUse { .. })));
    drop(first);
    RunFolder::open(&dir, &key).unwrap();
}

#[test]
fn a_folder_of_other_things_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let key = plain_key(root.path());
    let dir = root.path().join("thesis");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("chapter1.tex"), "x").unwrap();
    let error = RunFolder::open(&dir, &key).unwrap_err();
    assert!(matches!(&error, Error::NotARunFolder { found, .. } if found == "chapter1.tex"), "{error:?}");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    let file = root.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(matches!(RunFolder::open(&file, &key), Err(Error::NotAFolder { dir }) if dir == file));
}

#[test]
fn results_that_were_changed_are_noticed_and_made_again() {
    let root = tempfile::tempdir().unwrap();
    let (dir, key) = (root.path().join("run"), plain_key(root.path()));
    let run = RunFolder::open(&dir, &key).unwrap();
    work(&run, None).unwrap();
    run.finish().unwrap();
    let before = results(&dir);
    fs::write(dir.join("tables/decisions.csv"), "unit,delta\n0,0.0\n").unwrap();
    fs::remove_file(dir.join("report.html")).unwrap();
    let run = RunFolder::open(&dir, &key).unwrap();
    let files = vec!["tables/decisions.csv".to_owned(), "report.html".to_owned()];
    assert_eq!(*run.opened(), Opened::Damaged { files });
    assert!(!run.is_done("decide"));
    work(&run, None).unwrap();
    run.finish().unwrap();
    assert_eq!(results(&dir), before);
}

#[test]
fn a_broken_manifest_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let (dir, key) = (root.path().join("run"), plain_key(root.path()));
    drop(RunFolder::open(&dir, &key).unwrap());
    let path = dir.join("manifest.json");
    let good = fs::read_to_string(&path).unwrap();
    let newer = good.replace("\"schema_version\": 1", "\"schema_version\": 99");
    let forged = good.replace(&manifest(&dir).identity, &"0".repeat(64));
    for (text, problem) in [
        ("", "EOF"),
        ("[]", "`none`"),
        (&good[..good.len() / 2], "EOF"),
        (newer.as_str(), "`99`, this program reads 1"),
        (forged.as_str(), "identity does not follow"),
    ] {
        fs::write(&path, text).unwrap();
        let error = RunFolder::open(&dir, &key).unwrap_err();
        assert!(matches!(error, Error::BadManifest { .. }), "{error:?}");
        assert!(error.to_string().contains(problem), "{error}");
    }
}

#[test]
fn names_that_leave_the_folder_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let run = RunFolder::open(&root.path().join("run"), &plain_key(root.path())).unwrap();
    for path in ["../x", "/x", "a/../../x", ".lock", ".parts/x", "manifest.json", "tables/x.csv", "", "a/"] {
        assert!(matches!(run.write_text(path, "x"), Err(Error::BadName { .. })), "{path}");
    }
    assert!(matches!(run.write_figure("../x", &[("svg", Vec::new())]), Err(Error::BadName { .. })));
    run.write_text("notes/run.txt", "x").unwrap();
}

#[test]
fn two_inputs_of_one_name_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let mut key = plain_key(root.path());
    key.inputs.push(key.inputs[0].clone());
    let error = RunFolder::open(&root.path().join("run"), &key).unwrap_err();
    assert!(matches!(&error, Error::DuplicateInput { name } if name == "prompts"), "{error:?}");
}

#[test]
fn many_threads_may_save_parts_and_files() {
    let root = tempfile::tempdir().unwrap();
    let run = RunFolder::open(&root.path().join("run"), &plain_key(root.path())).unwrap();
    std::thread::scope(|scope| {
        for worker in 0..8_u8 {
            let run = &run;
            scope.spawn(move || {
                run.save_part(&format!("unit {worker}"), &[worker]).unwrap();
                run.write_text(&format!("notes/{worker}.txt"), "x").unwrap();
            });
        }
    });
    assert_eq!(run.part("unit 5").unwrap(), Some(vec![5]));
    assert_eq!(run.manifest().files.len(), 8);
}
