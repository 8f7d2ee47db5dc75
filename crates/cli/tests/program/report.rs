//! The report written again from a finished run, and the values of single prompts that it carries.

use crate::support::{Bench, snapshot, words};
use lorascope_report::{Figure, Page};
use std::fs;

/// A study of two analyses, and its folder's files.
fn study() -> Option<Bench> {
    let bench = Bench::new()?;
    bench.must(&words("study study.toml --out out"));
    Some(bench)
}

fn page(bench: &Bench) -> Page {
    serde_json::from_slice(&bench.read("out/report.json")).unwrap()
}

#[test]
fn the_report_is_written_again_without_models() {
    let Some(bench) = study() else { return };
    let whole = snapshot(&bench.path("out"));
    for model in ["base", "lora", "dora"] {
        fs::remove_dir_all(bench.path(model)).unwrap();
    }
    fs::remove_file(bench.path("out/report.html")).unwrap();
    fs::remove_dir_all(bench.path("out/figures")).unwrap();
    let said = bench.must(&words("report out")).stdout;
    assert_eq!(said, "out/report.html\n");
    assert_eq!(snapshot(&bench.path("out")), whole, "byte for byte, the manifest too");
    fs::remove_dir_all(bench.path("out/figures")).unwrap();
    bench.must(&words("report out --page-only"));
    assert!(!bench.path("out/figures").exists());
}

#[test]
fn what_is_no_finished_run_is_refused() {
    let Some(bench) = study() else { return };
    fs::create_dir(bench.path("empty")).unwrap();
    let refused = bench.run(&words("report empty"));
    assert!(refused.stderr.contains("no finished run lies there"), "{}", refused.stderr);
    bench.edit("out/manifest.json", |manifest| manifest["finished"] = false.into());
    let refused = bench.run(&words("report out"));
    assert!(refused.stderr.contains("no finished run lies there"), "{}", refused.stderr);
    bench.edit("out/manifest.json", |manifest| manifest["finished"] = true.into());
    bench.text("out/report.json", "{}");
    let refused = bench.run(&words("report out"));
    assert!(refused.stderr.contains("is not the data of a report"), "{}", refused.stderr);
    fs::remove_file(bench.path("out/report.json")).unwrap();
    let refused = bench.run(&words("report out"));
    assert!(refused.stderr.contains("there is no such file"), "{}", refused.stderr);
}

/// Slices hold the numbers of the tables: those of one prompt, at the cells that it has a part in.
#[test]
fn values_by_prompt_are_those_of_the_tables() {
    let Some(bench) = study() else { return };
    let page = page(&bench);
    assert_eq!(page.models, ["base", "lora", "dora"]);
    let figure = |name: &str| -> &Figure {
        page.sections.iter().flat_map(|s| &s.figures).find(|f| f.name == name).unwrap()
    };
    let decisions = bench.table("out", "decisions");
    let lens = bench.table("out", "lens");
    let (map, curves) = (figure("decisions"), figure("lens_trajectories"));
    let slices = |figure: &Figure| figure.by_prompt.as_ref().unwrap().unpacked(&figure.kind).unwrap();
    let (of_map, of_curves) = (slices(map), slices(curves));
    for (i, prompt) in page.prompts.iter().enumerate() {
        let shown: Vec<f32> = of_map[i].iter().flatten().copied().collect();
        let p_b = |model: &String| {
            decisions.number(decisions.row(&[("model", model), ("prompt_id", &prompt.id)]), "p_b") as f32
        };
        assert_eq!(shown, page.models.iter().map(p_b).collect::<Vec<_>>(), "{}", prompt.id);
        let shown: Vec<f32> = of_curves[i].iter().flatten().copied().collect();
        let n_layers = shown.len() / page.models.len();
        let delta = |(model, layer): (&String, usize)| {
            let layer = layer.to_string();
            let keys = [
                ("model", model.as_str()),
                ("prompt_id", &prompt.id),
                ("site", "resid_post"),
                ("layer", &layer),
            ];
            lens.number(lens.row(&keys), "delta") as f32
        };
        let cells = page.models.iter().flat_map(|m| (0..n_layers).map(move |l| (m, l)));
        assert_eq!(shown, cells.map(delta).collect::<Vec<_>>(), "{}", prompt.id);
    }
}
