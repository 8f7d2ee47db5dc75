//! Devices for large products, by the command line. What they compute is tested in `lorascope-device`; here, that the whole way
//! through a real model gives what the processor gives.

use crate::smollm2::Data;
use crate::support::{Bench, Csv, run_in, words};
use lorascope_study::machine::available;
use std::fs;

#[test]
fn the_processor_is_always_there_and_what_is_not_is_refused() {
    let Some(bench) = Bench::new() else { return };
    assert!(bench.must(&words("devices")).stdout.starts_with("cpu       this processor, "));
    let refused = |device: &str| {
        let said = bench
            .run(&words(&format!("decide --base ./base --prompts prompts.json --device {device} --out out")));
        assert!(!said.ok && !bench.path("out").exists());
        said.stderr
    };
    let said = refused("gpu");
    assert!(said.contains("`gpu` is no device; write one of cpu, cuda, vulkan, metal, dx12"), "{said}");
    let said = refused("vulkan:99");
    assert!(
        said.contains("device vulkan:99: there are") && said.contains("`lorascope devices` lists"),
        "{said}"
    );
}

/// Decisions of two models by a software Vulkan, whose multiply-adds round twice, or by whatever device there is.
#[test]
fn a_real_model_decides_on_a_device_as_on_the_processor() {
    let Some(device) = available().into_iter().next() else {
        println!("skipped: no device can be reached; Debian's mesa-vulkan-drivers bring one in software");
        return;
    };
    let Some(data) = Data::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    // Long enough that products are worth the way, short enough for a device in software.
    let text =
        "In every round two players choose a word each, and the points of both are added to an account. "
            .repeat(4);
    let prompt = format!(
        r#"[{{"id":"p","scenario":"s","variant":"v","prompt":"{text}","answer_a":"left","answer_b":"right"}}]"#
    );
    fs::write(folder.path().join("prompts.json"), prompt).unwrap();
    let decide = |device: &str, out: &str| {
        let adapter = data.adapter("PT4_hybrid");
        let mut line = words("decide --prompts prompts.json --raw");
        line.extend(["--base".to_owned(), data.gguf.display().to_string()]);
        line.extend(["--adapter".to_owned(), format!("hybrid={}", adapter.display())]);
        line.extend(["--device", device, "--out", out].map(str::to_owned));
        let said = run_in(folder.path(), &line);
        assert!(said.ok, "{}", said.stderr);
        let table = Csv::read(&folder.path().join(out).join("tables/decisions.csv"));
        (table.numbers(&["model"], "delta"), said.stderr)
    };
    let (here, _) = decide("cpu", "here");
    let (there, said) = decide(&device.kind.to_string(), "there");
    assert!(said.contains(&format!("large products on {}", device.description)), "{said}");
    let rounds_twice = said.contains("round twice");
    let worst = here.iter().map(|(model, delta)| (there[model] - delta).abs()).fold(0.0, f64::max);
    println!("{}: off by at most {worst:.1e} nat", device.description);
    assert!(worst < 1e-4 && (rounds_twice || worst == 0.0), "{here:?} and {there:?}");
    // Parts of both would not be one run.
    let manifest = |out: &str| fs::read_to_string(folder.path().join(out).join("manifest.json")).unwrap();
    assert_eq!(manifest("there").contains("whose multiply-adds round twice"), rounds_twice);
    assert!(!manifest("here").contains("large products"));
}
