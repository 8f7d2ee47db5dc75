//! Writes every kind of figure, for light and dark screens, and a page with all of them, from invented data,
//! to look at:
//! `cargo run -p lorascope-report --example sample_report -- FOLDER`

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test or example may panic

#[path = "../tests/common/mod.rs"]
mod common;

use std::error::Error;
use std::path::PathBuf;

use common::{MODELS, SCENARIOS, circuits};
use lorascope_report::{
    ByPrompt, Figure, Page, Section, Theme, render_html, render_pdf, render_png, render_svg,
};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("name a folder to write into")?);
    std::fs::create_dir_all(&folder)?;
    let long =
        ["base", "gemma-2-2b-it-deontological-seed-17-lr-1e-5", "b", "c", "d", "e", "f", "g", "h", "i"];
    let named = |name: &str, figure: Figure| Figure { name: name.to_owned(), ..figure };
    let figures = [
        common::trajectories(&MODELS, &SCENARIOS, 30),
        common::decisions(&MODELS, &SCENARIOS),
        common::heads(30, 9),
        common::bars(&MODELS, &SCENARIOS),
        named("one-panel", common::trajectories(&MODELS[..1], &SCENARIOS[..1], 30)),
        named("ten-series", common::trajectories(&long, &SCENARIOS[..2], 26)),
        circuits::small_circuit(),
        circuits::circuit_difference(),
        circuits::graph(
            "circuit-large",
            "A circuit of sixty components",
            vec![circuits::circuit("", 3, (60, 150), (26, 8))],
        ),
        circuits::graph(
            "circuit-panels",
            "The circuits of four models",
            (1..5).map(|model| circuits::circuit(MODELS[model], model, (16, 30), (12, 6))).collect(),
        ),
        circuits::sweep("sweep-30x11", 1, 30, &circuits::components(9, &["attn", "MLP"]), None),
        circuits::sweep("sweep-26x10", 4, 26, &circuits::components(8, &["attn", "MLP"]), Some(0.6)),
        circuits::sweep("sweep-42x18", 4, 42, &circuits::components(16, &["attn", "MLP"]), Some(0.6)),
        circuits::ranked("ranked", &[""], 40, &["strategic"]),
        circuits::ranked("ranked-panels", &["CC_continue", "DD_trapped"], 40, &MODELS[..2]),
        named("long-names", common::decisions(&long, &long)),
        common::prompts::large_map(100),
        common::prompts::attention(),
    ];
    for figure in &figures {
        let svg = render_svg(figure, &Theme::default())?;
        std::fs::write(folder.join(format!("{}.png", figure.name)), render_png(&svg)?)?;
        std::fs::write(folder.join(format!("{}.pdf", figure.name)), render_pdf(&svg, &figure.title)?)?;
        let dark = render_png(&render_svg(figure, &Theme::dark())?)?;
        std::fs::write(folder.join(format!("{}-dark.png", figure.name)), dark)?;
        std::fs::write(folder.join(format!("{}.svg", figure.name)), svg)?;
        std::fs::write(folder.join(format!("{}.json", figure.name)), serde_json::to_string(figure)?)?;
    }
    let mut page = common::page();
    let shown: Vec<_> =
        page.sections.iter().flat_map(|section| &section.figures).map(|f| f.name.clone()).collect();
    page.sections.push(Section {
        id: "more".to_owned(),
        title: "More figures".to_owned(),
        question: "Is every kind legible at every size?".to_owned(),
        figures: figures.into_iter().filter(|figure| !shown.contains(&figure.name)).collect(),
        ..Section::default()
    });
    std::fs::write(folder.join("report.html"), render_html(&page)?)?;
    std::fs::write(folder.join("hostile.html"), render_html(&hostile())?)?;
    Ok(())
}

/// A page all of whose names and texts try to be markup.
fn hostile() -> Page {
    let bad = |i: usize| {
        format!("{i}</script><script>window.hacked=1</script><img src=x onerror=\"window.hacked=1\">'\"")
    };
    let names: Vec<String> = (0..3).map(bad).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut page = common::page();
    page.title = bad(9);
    page.models = names.iter().map(|name| (*name).to_owned()).collect();
    for prompt in &mut page.prompts {
        (prompt.text, prompt.answer_a) = (bad(8), bad(8));
        (prompt.id, prompt.scenario) = (format!("{}{}", prompt.id, bad(7)), bad(6));
    }
    for verdict in &mut page.verdicts {
        verdict.statement = bad(5);
    }
    let figures = [
        common::decisions(&names, &names),
        common::trajectories(&names, &names, 5),
        common::bars(&names, &names),
    ];
    let sliced = |figure: Figure| {
        let ids = page.prompts.iter().map(|prompt| prompt.id.clone()).collect();
        let by_prompt = Some(ByPrompt::new(&figure.kind, ids, |_, cell| Some(cell.col as f64)));
        Figure { title: bad(4), caption: bad(3), by_prompt, ..figure }
    };
    let figures = figures.map(sliced).into();
    page.sections = vec![Section { id: "hostile".to_owned(), title: bad(2), figures, ..Section::default() }];
    page
}
