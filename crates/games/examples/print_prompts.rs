//! Prints a prompt set as JSON: `cargo run --example print_prompts -- games=ipd,chicken per_scenario=3`.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test or example may panic

use lorascope_games::Design;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut design = Design::default();
    for argument in std::env::args().skip(1) {
        let (key, levels) = argument.split_once('=').ok_or("expected KEY=LEVEL,LEVEL…")?;
        design.set(key, levels)?;
    }
    print!("{}", design.build()?.to_json());
    Ok(())
}
