//! The examples of `docs/prompts.md` work as they stand.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use lorascope_games::{Design, Part};
use lorascope_prompts::PromptSet;

const PAGE: &str = include_str!("../../../docs/prompts.md");

/// The fenced blocks of a language.
fn blocks(language: &str) -> Vec<&'static str> {
    let open = format!("```{language}\n");
    PAGE.split(&open).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn the_file_format_example() {
    let [example] = blocks("json")[..] else { panic!("one JSON block") };
    let set = PromptSet::parse(example).unwrap();
    let umbrella = &set.items[0];
    assert_eq!(umbrella.span_text(&umbrella.spans[0]), Some("It rains."));
}

#[test]
fn the_design_examples() {
    let [study, wording] = blocks("toml")[..] else { panic!("two TOML blocks") };
    let study: toml::Table = study.parse().unwrap();
    let design = Design::from_table(study["prompts"].as_table().unwrap()).unwrap();
    assert_eq!(design.build().unwrap().items.len(), 2 * 2 * 16);
    let own =
        Design::from_toml(&format!("{wording}\nmoral = 'none'\nper_scenario = 'all'\nfirst_mention = 'cd'"))
            .unwrap();
    let set = own.build().unwrap();
    assert_eq!(set.items.len(), 5 * 2 * 2 * 4);
    assert!(set.items.iter().all(|i| i.spans_named("plea").count() == 1));
}

#[test]
fn every_key_span_and_placeholder_is_on_the_page() {
    for key in Design::KEYS {
        assert!(PAGE.contains(&format!("`{key}`")), "{key}");
    }
    for part in Part::ALL {
        assert!(PAGE.contains(&format!("`{{{part}}}`")), "{part}");
    }
    let design =
        Design::from_toml("wording = ['structured', 'unstructured', 'explicit']\nmoral = 'utilitarian'")
            .unwrap();
    for item in &design.build().unwrap().items {
        for name in item.spans.iter().map(|s| s.name.as_str()).filter(|n| !n.starts_with("payoff_")) {
            assert!(PAGE.contains(&format!("`{name}`")), "{name}");
        }
        for key in item.rest.keys() {
            assert!(PAGE.contains(&format!("`{key}`")), "{key}");
        }
    }
}
