//! The report written again from a finished run, and the values of single prompts that it carries.

use crate::support::{Bench, one_token_prompts, snapshot, words};
use lorascope_report::{Figure, FigureKind, Page};
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

/// The same for heat maps of components: contributions, their differences, and effects of patches.
#[test]
fn values_by_prompt_of_components_are_those_of_the_tables() {
    let Some(bench) = Bench::new() else { return };
    bench.json("one.json", &one_token_prompts(4));
    let pages = [("dla", ""), ("patch", "--source lora --target base")].map(|(verb, rest)| {
        bench.analyse(verb, &["lora"], "one.json", rest, verb);
        let json = bench.read(&format!("{verb}/report.json"));
        serde_json::from_slice::<Page>(&json).unwrap()
    });
    let (dla, patches) = (bench.table("dla", "dla"), bench.table("patch", "patches"));
    let number = |label: &str| label[1..].to_owned();
    let contribution = |model: &str, prompt: &str, layer: &str, col: &str| {
        let (kind, head) = if col == "MLP" { ("mlp", String::new()) } else { ("head", number(col)) };
        let layer = number(layer);
        let keys =
            [("model", model), ("prompt_id", prompt), ("kind", kind), ("layer", &layer), ("head", &head)];
        dla.number(dla.row(&keys), "contribution")
    };
    let mut compared = 0;
    for figure in pages.iter().flat_map(|page| &page.sections).flat_map(|section| &section.figures) {
        let FigureKind::Heatmap { panels, unit, .. } = &figure.kind else { continue };
        let slices = figure.by_prompt.as_ref().unwrap();
        let values = slices.unpacked(&figure.kind).unwrap();
        for (prompt, values) in slices.prompts.iter().zip(values) {
            let cells = panels.iter().flat_map(|panel| {
                panel.rows.iter().flat_map(move |row| panel.cols.iter().map(move |col| (panel, row, col)))
            });
            for ((panel, row, col), value) in cells.zip(values) {
                let expected = match panel.title.as_str() {
                    "lora → base" => {
                        let head = if col.starts_with('H') { number(col) } else { String::new() };
                        let mut keys = vec![("prompt_id", prompt.as_str()), ("head", &head)];
                        let layer = number(row);
                        keys.push(("layer", &layer));
                        if head.is_empty() {
                            keys.push(("site", col));
                        }
                        let column = if unit == "recovery" { "recovery" } else { "change" };
                        let at = patches.rows_where(&keys);
                        assert_eq!(at.len(), 1, "{keys:?}");
                        patches.number(at[0], column)
                    }
                    "lora − base" => {
                        contribution("lora", prompt, row, col) - contribution("base", prompt, row, col)
                    }
                    model => contribution(model, prompt, row, col),
                };
                let value = f64::from(value.unwrap());
                assert!(
                    (value - expected).abs() <= 1e-6 * expected.abs().max(1e-3),
                    "{}: {value}",
                    figure.name
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 100, "{compared}");
}
