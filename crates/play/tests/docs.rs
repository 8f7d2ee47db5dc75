//! `docs/play.md` says what is true: its example works and sets every key, and the tables are those that are declared.
//! `LORASCOPE_WRITE_DOCS=1 cargo test -p lorascope-play --test docs` writes the tables anew.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

use lorascope_analyses::Analysis;
use lorascope_games::{Opponent, Reward};
use lorascope_play::{Play, Settings};
use std::path::Path;

const PAGE: &str = include_str!("../../../docs/play.md");
const HEADING: &str = "\n## Tables\n\n";

#[test]
fn the_example_sets_every_key_and_every_key_is_explained() {
    let example = PAGE.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let settings = Settings::from_toml(example).unwrap();
    settings.prompt_set().unwrap();
    let table: toml::Table = example.parse().unwrap();
    let keys = Play.settings(&serde_json::Value::Null).unwrap();
    for key in keys.as_object().unwrap().keys() {
        assert!(table.contains_key(key), "the example lacks `{key}`");
        assert!(PAGE.contains(&format!("\n| `{key}` | ")), "docs/play.md does not explain `{key}`");
    }
    let rewards = Reward::known().into_iter().map(|reward| reward.name);
    for name in Opponent::ALL.iter().map(ToString::to_string).chain(rewards) {
        assert!(PAGE.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn the_tables_are_those_that_are_declared() {
    let tables: Vec<String> = Play.tables().iter().map(|table| table.markdown()).collect();
    let (text, written) = PAGE.split_once(HEADING).unwrap();
    if std::env::var("LORASCOPE_WRITE_DOCS").is_ok_and(|v| v == "1") {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/play.md");
        std::fs::write(path, format!("{text}{HEADING}{}", tables.join("\n"))).unwrap();
        return;
    }
    assert_eq!(
        written,
        tables.join("\n"),
        "write them anew: LORASCOPE_WRITE_DOCS=1 (see the head of this file)"
    );
}

#[test]
fn the_declarations_are_sound() {
    for table in Play.tables() {
        assert_eq!(table.problems(), Vec::<String>::new());
    }
    let defaults = Play.settings(&serde_json::Value::Null).unwrap();
    assert_eq!(Play.settings(&defaults).unwrap(), defaults);
}
