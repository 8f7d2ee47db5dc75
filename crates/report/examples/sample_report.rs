//! Writes every kind of figure, and a page with all of them, from invented data, to look at:
//! `cargo run -p lorascope-report --example sample_report -- FOLDER`

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test or example may panic

#[path = "../tests/common/mod.rs"]
mod common;

use std::error::Error;
use std::path::PathBuf;

use common::{MODELS, SCENARIOS};
use lorascope_report::{Figure, Theme, render_html, render_png, render_svg};

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
        named("long-names", common::decisions(&long, &long)),
    ];
    for figure in &figures {
        let svg = render_svg(figure, &Theme::default())?;
        std::fs::write(folder.join(format!("{}.png", figure.name)), render_png(&svg)?)?;
        std::fs::write(folder.join(format!("{}.svg", figure.name)), svg)?;
    }
    std::fs::write(folder.join("report.html"), render_html(&common::page())?)?;
    Ok(())
}
