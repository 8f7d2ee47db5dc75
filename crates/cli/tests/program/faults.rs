//! Faults of the world around a run: a full disk, files that can't be read or change, a byte that flips, two runs on one folder, an
//! impatient user. Afterwards the results are those of an undisturbed run, byte for byte, or it was said what is wrong. Kills are in
//! `resume`.

use crate::resume::{STUDY, TRAINING, TRAINING_SETTINGS, is_finished, manifest, random, results, start};
use crate::support::{Bench, Outcome, prompts, run_in, snapshot, words};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

fn bench(n_prompts: usize) -> Option<Bench> {
    let bench = Bench::new()?;
    bench.json("prompts.json", &prompts(n_prompts));
    bench.text("train.toml", TRAINING_SETTINGS);
    Some(bench)
}

/// Every file that the manifest lists is as it says.
fn assert_whole(folder: &Path) {
    let Ok(text) = fs::read(folder.join("manifest.json")) else { return };
    let manifest: serde_json::Value = serde_json::from_slice(&text).expect("a whole manifest");
    let mut files: Vec<(String, String)> = Vec::new();
    let hash = |entry: &serde_json::Value| entry["sha256"].as_str().unwrap().to_owned();
    for (path, entry) in manifest["files"].as_object().unwrap() {
        files.push((path.clone(), hash(entry)));
    }
    for (name, table) in manifest["tables"].as_object().unwrap() {
        for form in ["csv", "parquet"] {
            files.push((format!("tables/{name}.{form}"), hash(&table[form])));
        }
    }
    for (path, hash) in files {
        let there = lorascope_record::sha256_file(&folder.join(&path)).unwrap().0;
        assert_eq!(there, hash, "{path}");
    }
}

/// A file system in memory of a few KiB, which goes when it is dropped; `None` (said aloud) where the system does not allow it.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(at: PathBuf, kib: usize) -> Option<Self> {
        fs::create_dir_all(&at).unwrap();
        let size = format!("size={kib}k");
        if mount(&["-t", "tmpfs", "-o", &size, "tmpfs"], &at) {
            return Some(Self(at));
        }
        println!("skipped: no right to mount a small file system here");
        None
    }

    fn resize(&self, kib: usize) {
        assert!(mount(&["-o", &format!("remount,size={kib}k")], &self.0));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What is not unmounted makes the test's folder stay, which the next start of the machine ends.
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn mount(words: &[&str], at: &Path) -> bool {
    Command::new("mount").args(words).arg(at).output().is_ok_and(|out| out.status.success())
}

/// Whether a number of KiB is too little for the run, which then says so, names a file, and leaves nothing that is half.
fn runs_full(bench: &Bench, line: &str) -> bool {
    let said = bench.run(&words(&format!("{line} --out disk/out")));
    assert_whole(&bench.path("disk/out"));
    for path in snapshot(&bench.path("disk/out")).keys() {
        let name = path.file_name().unwrap().to_string_lossy();
        assert!(!name.starts_with(".lorascope-tmp-"), "{} was left", path.display());
    }
    if !said.ok {
        assert!(said.stderr.contains("no space left for disk/out/"), "{}", said.stderr);
        assert!(said.stderr.contains("it goes on where it stopped"), "{}", said.stderr);
    }
    !said.ok
}

#[test]
fn a_full_disk_is_said_and_the_run_goes_on_when_there_is_room() {
    let Some(bench) = bench(40) else { return };
    let Some(disk) = SmallDisk::new(bench.path("disk"), 16) else { return };
    for line in [STUDY, TRAINING] {
        let whole = format!("whole-{}", line.split(' ').next().unwrap());
        bench.must(&words(&format!("{line} --out {whole}")));
        let (mut kib, mut full) = (16, 0);
        disk.resize(kib);
        while runs_full(&bench, line) {
            full += 1;
            kib *= 2;
            disk.resize(kib);
        }
        assert!(full >= 3, "{line}: the disk was full {full} times");
        println!("{line}: the disk was full {full} times, at up to {kib} KiB");
        assert_eq!(results(&bench, "disk/out"), results(&bench, &whole), "{line}");
        assert_eq!(manifest(&bench, "disk/out"), manifest(&bench, &whole), "{line}");
        fs::remove_dir_all(bench.path("disk/out")).unwrap();
    }
}

/// Ways in which a file can't be read. Rights are none of them: tests may run as somebody who may read everything.
fn spoil(path: &Path, how: &str) {
    fs::remove_file(path).unwrap();
    match how {
        "gone" => {}
        "folder" => fs::create_dir(path).unwrap(),
        "empty" => fs::write(path, "").unwrap(),
        // Reading at its beginning is an error of input and output, as a failing disk gives it.
        "failing" => std::os::unix::fs::symlink("/proc/self/mem", path).unwrap(),
        // Without end.
        "endless" => std::os::unix::fs::symlink("/dev/zero", path).unwrap(),
        _ => unreachable!("{how}"),
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_can_not_be_read_is_named_before_anything_is_written() {
    let Some(bench) = bench(5) else { return };
    let inputs = [
        "base/config.json",
        "base/model.safetensors",
        "base/tokenizer.json",
        "base/tokenizer_config.json",
        "lora/adapter_config.json",
        "lora/adapter_model.safetensors",
        "prompts.json",
        "study.toml",
    ];
    for input in inputs {
        let good = bench.read(input);
        for how in ["gone", "folder", "empty", "failing", "endless"] {
            if (input, how) == ("base/tokenizer_config.json", "gone") {
                // A tokenizer needs none.
                continue;
            }
            spoil(&bench.path(input), how);
            let begun = Instant::now();
            let said = bench.run(&words(&format!("{STUDY} --out out")));
            assert!(!said.ok, "{input} {how}: {}", said.stdout);
            let (folder, name) = input.split_once('/').unwrap_or(("", input));
            assert!(
                said.stderr.contains(name) || said.stderr.contains(folder),
                "{input} {how}: {}",
                said.stderr
            );
            assert!(!said.stderr.contains("panicked"), "{input} {how}: {}", said.stderr);
            assert!(begun.elapsed() < Duration::from_secs(20), "{input} {how}: took {:?}", begun.elapsed());
            assert!(!bench.path("out").exists(), "{input} {how}: something was written");
            let _ = fs::remove_file(bench.path(input)).or_else(|_| fs::remove_dir(bench.path(input)));
            bench.bytes(input, &good);
        }
    }
    bench.must(&words(&format!("{STUDY} --out out")));
}

/// Changes one byte at a place that chance chooses.
fn flip(path: &Path, state: &mut u64) {
    let mut bytes = fs::read(path).unwrap();
    let at = ((random(state) * bytes.len() as f64) as usize).min(bytes.len() - 1);
    bytes[at] ^= 1 << ((random(state) * 8.0) as u32).min(7);
    fs::write(path, bytes).unwrap();
}

#[test]
fn one_byte_that_flips_in_a_result_is_noticed_and_made_again() {
    let Some(bench) = bench(20) else { return };
    bench.must(&words(&format!("{STUDY} --out out")));
    let (whole, of_whole) = (results(&bench, "out"), manifest(&bench, "out"));
    let files: Vec<PathBuf> = whole.keys().filter(|p| !p.starts_with(".lock")).cloned().collect();
    let mut state = 11;
    // All at once, and some by themselves.
    let alone = files.iter().filter(|path| path.starts_with("tables")).map(|path| vec![path.clone()]);
    for damaged in std::iter::once(files.clone()).chain(alone.take(6)) {
        damaged.iter().for_each(|path| flip(&bench.path("out").join(path), &mut state));
        let said = bench.must(&words(&format!("{STUDY} --out out"))).stdout;
        assert!(said.starts_with("out: changed or missing, made again: "), "{said}");
        for path in &damaged {
            assert!(said.contains(&path.display().to_string()), "{}: {said}", path.display());
        }
        assert_eq!(results(&bench, "out"), whole);
        assert_eq!(manifest(&bench, "out"), of_whole);
    }
}

#[test]
fn one_byte_that_flips_in_a_manifest_changes_no_result() {
    let Some(bench) = bench(20) else { return };
    bench.must(&words(&format!("{STUDY} --out out")));
    let (whole, good) = (results(&bench, "out"), bench.read("out/manifest.json"));
    let (mut state, mut refused, rounds) = (12, 0, 15);
    for _ in 0..rounds {
        flip(&bench.path("out/manifest.json"), &mut state);
        let said = bench.run(&words(&format!("{STUDY} --out out")));
        if said.ok {
            assert_eq!(results(&bench, "out"), whole, "{}", said.stdout);
        } else {
            refused += 1;
            let told = said.stderr.contains("out/manifest.json can't be read as a run's manifest")
                || said.stderr.contains("out holds another run; what differs");
            assert!(told, "{}", said.stderr);
        }
        bench.bytes("out/manifest.json", &good);
    }
    println!("{rounds} flipped bits in a manifest: {refused} refused, {} gone on with", rounds - refused);
    assert!(refused > 2);
}

#[test]
fn one_byte_that_flips_in_a_part_costs_that_part() {
    let Some(bench) = bench(160) else { return };
    bench.must(&words(&format!("{STUDY} --out whole")));
    let whole = results(&bench, "whole");
    let (mut state, mut flipped) = (13, 0);
    let mut child = start(&bench, STUDY, "out");
    // Files that are being written are there under another name for a moment.
    let kept = || {
        let there = fs::read_dir(bench.path("out/.parts")).into_iter().flatten().flatten();
        there.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')).count()
    };
    while kept() < 2 {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be killed");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    for part in snapshot(&bench.path("out/.parts")).keys() {
        flip(&bench.path("out/.parts").join(part), &mut state);
        flipped += 1;
    }
    assert!(flipped >= 2);
    bench.must(&words(&format!("{STUDY} --out out")));
    assert_eq!(results(&bench, "out"), whole);
}

#[test]
fn a_second_run_on_a_folder_is_refused_and_the_first_is_not_disturbed() {
    let Some(bench) = bench(160) else { return };
    bench.must(&words(&format!("{STUDY} --out whole")));
    let mut first = start(&bench, STUDY, "out");
    while !bench.path("out/manifest.json").exists() {
        assert!(first.try_wait().unwrap().is_none(), "the run ended too soon");
    }
    let mut refused = 0;
    while first.try_wait().unwrap().is_none() && refused < 3 {
        let second = bench.run(&words(&format!("{STUDY} --out out")));
        refused += usize::from(second.stderr.contains("out is in use by another run"));
        assert!(!second.ok || second.stdout.contains("finished already"), "{second:?}");
    }
    assert!(first.wait().unwrap().success() && refused > 0, "{refused} refused");
    assert_eq!(results(&bench, "out"), results(&bench, "whole"));
}

/// The byte of an input changes while it is read: the run ends, and goes on when the file is as it was.
#[test]
fn an_input_that_changes_during_a_run_ends_it_by_name() {
    let Some(bench) = bench(160) else { return };
    let line = format!("{STUDY} --memory 100KiB");
    bench.must(&words(&format!("{line} --out whole")));
    for input in ["base/model.safetensors", "lora/adapter_model.safetensors"] {
        let good = bench.read(input);
        let child = start_told(&bench, &line, "out");
        while snapshot(&bench.path("out/.parts")).is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut bad = good.clone();
        *bad.last_mut().unwrap() ^= 1;
        overwrite(&bench.path(input), &bad);
        let said = ended(child);
        assert!(!said.ok, "the run ended before the file changed");
        assert!(
            said.stderr.contains(&format!("input {}", input.replace("lora/", "adapter/lora/"))),
            "{}",
            said.stderr
        );
        assert!(said.stderr.contains("was written to while the run read it"), "{}", said.stderr);
        let said = bench.run(&words(&format!("{line} --out out")));
        assert!(said.stderr.contains("out holds another run; what differs"), "{}", said.stderr);
        overwrite(&bench.path(input), &good);
        bench.must(&words(&format!("{line} --out out")));
        assert_eq!(results(&bench, "out"), results(&bench, "whole"), "{input}");
        fs::remove_dir_all(bench.path("out")).unwrap();
    }
}

/// Writes into the file that is there, as no program that replaces files does.
fn overwrite(path: &Path, bytes: &[u8]) {
    use std::io::Write;
    let mut file = fs::File::options().write(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

fn start_told(bench: &Bench, line: &str, folder: &str) -> Child {
    let mut command = crate::support::command(bench.dir(), &words(&format!("{line} --out {folder}")));
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
}

fn ended(child: Child) -> Outcome {
    let out = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Outcome { ok: out.status.success(), stdout: text(out.stdout), stderr: text(out.stderr) }
}

/// Presses ctrl-C after a while; how the program ended, and how much of a processor's time it took for that, which other work on the
/// machine does not lengthen.
#[cfg(target_os = "linux")]
fn interrupted(mut child: Child, after: Duration) -> Option<(ExitStatus, Duration)> {
    std::thread::sleep(after);
    if child.try_wait().unwrap().is_some() {
        return None;
    }
    let before = processor_time(child.id());
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let pressed = Instant::now();
    // Who has ended keeps his account until somebody waits for him.
    while !is_over(child.id()) {
        assert!(pressed.elapsed() < Duration::from_secs(60), "it goes on after ctrl-C");
        std::thread::sleep(Duration::from_millis(2));
    }
    let took = processor_time(child.id()).saturating_sub(before);
    Some((child.wait().unwrap(), took))
}

/// The fields of a process's `/proc/PID/stat` after its name: the state first.
#[cfg(target_os = "linux")]
fn account(process: u32) -> Vec<String> {
    let line = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    line.rsplit_once(')').unwrap().1.split_whitespace().map(str::to_owned).collect()
}

#[cfg(target_os = "linux")]
fn is_over(process: u32) -> bool {
    account(process)[0] == "Z"
}

/// In user and system mode, which Linux counts in hundredths of a second.
#[cfg(target_os = "linux")]
fn processor_time(process: u32) -> Duration {
    let account = account(process);
    Duration::from_millis(10 * (account[11].parse::<u64>().unwrap() + account[12].parse::<u64>().unwrap()))
}

#[cfg(target_os = "linux")]
#[test]
fn ctrl_c_ends_any_run_within_a_second_and_it_goes_on() {
    let Some(bench) = bench(160) else { return };
    let patching =
        "patch --base ./base --adapter lora=./lora --prompts prompts.json --site z --position decision";
    let mut state = 14;
    let mut times = Vec::new();
    for (round, line) in [STUDY, TRAINING, patching].into_iter().enumerate() {
        let (whole, out) = (format!("whole{round}"), format!("out{round}"));
        let begun = Instant::now();
        bench.must(&words(&format!("{line} --out {whole}")));
        let mut length = begun.elapsed();
        for share in [0.9, 0.6, 0.3] {
            let (status, took) = loop {
                let child = start(&bench, line, &out);
                if let Some(pressed) = interrupted(child, length.mul_f64(share * random(&mut state))) {
                    break pressed;
                }
                // It ended before: nothing of that folder is left to be done.
                std::fs::remove_dir_all(bench.path(&out)).unwrap();
                length = length.mul_f64(0.7);
            };
            // Pressed in the last moments, it may come after the end.
            assert!(!status.success() || is_finished(&bench, &out), "{line}");
            times.push(took);
            assert_whole(&bench.path(&out));
        }
        bench.must(&words(&format!("{line} --out {out}")));
        assert_eq!(results(&bench, &out), results(&bench, &whole), "{line}");
    }
    times.sort();
    let (middle, longest) = (times[times.len() / 2], times[times.len() - 1]);
    println!("ctrl-C, {} times: {middle:?} of a processor in the middle, {longest:?} at most", times.len());
    assert!(longest < Duration::from_secs(1), "{times:?}");
}

/// What a hostile file puts into a message must not reach a terminal as commands.
#[test]
fn messages_have_no_control_characters() {
    let Some(bench) = bench(2) else { return };
    bench.edit("lora/adapter_config.json", |c| {
        c["target_modules"] = serde_json::json!(["\u{1b}[2J\u{7}evil"])
    });
    let said = run_in(bench.dir(), &words(&format!("{STUDY} --out out")));
    assert!(!said.ok && said.stderr.contains("evil"), "{}", said.stderr);
    assert!(said.stderr.chars().all(|c| !c.is_control() || c == '\n'), "{:?}", said.stderr);
}
