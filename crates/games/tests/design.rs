//! The design: counterbalanced, distinct, label twins that differ in the labels alone.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};

use lorascope_games::{Design, Labels, Moral, Symbols, Wording};
use lorascope_prompts::{Content, Item, PromptSet};
use serde_json::Value;

const FACTORS: [&str; 5] = ["labels", "first_mention", "second_mention", "row_order", "column_order"];

fn text(item: &Item) -> &str {
    match &item.content {
        Content::Text(text) => text,
        Content::Messages(_) => panic!("{} is a chat", item.id),
    }
}

fn by_scenario(set: &PromptSet) -> BTreeMap<String, Vec<&Item>> {
    let mut groups: BTreeMap<String, Vec<&Item>> = BTreeMap::new();
    for item in &set.items {
        groups.entry(item.scenario.clone().unwrap()).or_default().push(item);
    }
    groups
}

/// How often each level of a factor occurs.
fn uses<'a>(items: impl IntoIterator<Item = &'a Item>, factor: &str) -> Vec<usize> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for item in items {
        *counts.entry(item.rest[factor].to_string()).or_default() += 1;
    }
    counts.into_values().collect()
}

#[test]
fn the_default_is_balanced_in_every_scenario() {
    let set = Design::default().build().unwrap();
    let groups = by_scenario(&set);
    assert_eq!(groups.len(), 5);
    for (scenario, items) in &groups {
        assert_eq!(items.len(), 16);
        for (at, f) in FACTORS.iter().enumerate() {
            assert_eq!(uses(items.iter().copied(), f), [8, 8], "{f} in {scenario}");
            for g in &FACTORS[..at] {
                for level in ["straight", "cd"] {
                    let half: Vec<_> = items.iter().copied().filter(|i| i.rest[*g] == level).collect();
                    if !half.is_empty() {
                        assert_eq!(uses(half, f), [4, 4], "{f} where {g} is {level} in {scenario}");
                    }
                }
            }
        }
    }
    // The same surface forms in every scenario: each template has one prompt a scenario.
    let mut templates: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for item in &set.items {
        templates.entry(item.cluster()).or_default().insert(item.scenario.as_deref().unwrap());
    }
    assert_eq!(templates.len(), 16);
    assert!(templates.values().all(|scenarios| scenarios.len() == 5));
}

#[test]
fn fifteen_are_as_balanced_as_three_can_be() {
    let set = Design::fifteen().build().unwrap();
    assert_eq!(set.items.len(), 15);
    for items in by_scenario(&set).values() {
        assert_eq!(items.len(), 3);
    }
    for factor in FACTORS {
        let mut counts = uses(&set.items, factor);
        counts.sort_unstable();
        assert_eq!(counts, [7, 8], "{factor}");
        for items in by_scenario(&set).values() {
            let mut counts = uses(items.iter().copied(), factor);
            counts.sort_unstable();
            assert_eq!(counts, [1, 2], "{factor}");
        }
    }
}

#[test]
fn the_crossed_design_has_every_combination_once() {
    let set = Design::crossed().build().unwrap();
    assert_eq!(set.items.len(), 5 * 32);
    let combinations: BTreeSet<String> = set
        .items
        .iter()
        .map(|i| format!("{:?} {}", i.scenario, FACTORS.map(|f| i.rest[f].to_string()).join(" ")))
        .collect();
    assert_eq!(combinations.len(), 160);
}

#[test]
fn label_twins_differ_in_the_labels_alone() {
    let wording = vec![Wording::Structured, Wording::Unstructured, Wording::Explicit];
    let mut design = Design { wording, ..Design::default() };
    design.symbols.push(Symbols::new("A", "B").unwrap());
    design.per_scenario = Some(48);
    let set = design.build().unwrap();
    let mut twins: BTreeMap<&str, Vec<&Item>> = BTreeMap::new();
    for item in &set.items {
        twins.entry(item.rest["label_twins"].as_str().unwrap()).or_default().push(item);
    }
    for (name, pair) in &twins {
        let [one, other] = pair.as_slice() else { panic!("{name} has {} items", pair.len()) };
        let (a, b) = one.answers_for(None).unwrap();
        assert_eq!(other.answers_for(None).unwrap(), (b, a));
        assert_eq!(text(one).len(), text(other).len());
        assert_eq!(one.spans, other.spans, "{name}");
        if a.len() > 1 {
            let exchanged = text(one).replace(a, "\u{0}").replace(b, a).replace('\u{0}', b);
            assert_eq!(exchanged, text(other), "{name}");
        }
        for (key, value) in &one.rest {
            assert_eq!(key == "labels", *value != other.rest[key], "{key} of {name}");
        }
    }
}

#[test]
fn answer_a_is_always_to_cooperate() {
    let set = Design::crossed().build().unwrap();
    for item in &set.items {
        let straight = item.rest["labels"] == Labels::Straight.name();
        let expected = if straight { ("action1", "action2") } else { ("action2", "action1") };
        assert_eq!(item.answers_for(None).unwrap(), expected);
        let letter = |c: &str| if c == "C" { expected.0 } else { expected.1 };
        let scenario = item.scenario.as_deref().unwrap();
        assert_eq!(item.rest["own_last_move"], scenario[..1]);
        assert_eq!(item.rest["opponent_last_move"], scenario[1..2]);
        let round = format!(
            "you chose {} and the other player chose {},",
            letter(&scenario[..1]),
            letter(&scenario[1..2])
        );
        assert!(text(item).contains(&round), "{}", text(item));
    }
}

#[test]
fn factors_that_do_not_show_are_not_crossed() {
    let mut design = Design::crossed();
    design.wording = vec![Wording::Explicit];
    let set = design.build().unwrap();
    assert_eq!(set.items.len(), 5 * 8);
    assert!(set.items.iter().all(|i| !i.rest.contains_key("row_order")));
    assert_eq!(set.items[0].id, "ipd-CC_continue-explicit-action12-straight-m_cd_cd");
}

#[test]
fn sets_survive_the_file_and_are_the_same_each_time() {
    let mut design = Design::fifteen();
    design.moral.push(Moral::Utilitarian);
    let set = design.build().unwrap();
    let written = set.to_json();
    assert_eq!(PromptSet::parse(&written).unwrap(), set);
    assert_eq!(design.build().unwrap().to_json(), written);
    assert!(serde_json::from_str::<Value>(&written).unwrap().is_array());
    for item in &set.items {
        assert!(item.id.starts_with(&format!("ipd-{}-structured", item.scenario.as_deref().unwrap())));
        assert!(item.id.ends_with(item.variant.as_deref().unwrap()));
    }
}

#[test]
fn any_number_of_prompts_is_given_and_used_evenly() {
    for wanted in 1..=32 {
        let set = Design { per_scenario: Some(wanted), ..Design::crossed() }.build().unwrap();
        assert_eq!(set.items.len(), 5 * wanted);
        let mut variants: BTreeMap<&str, usize> = BTreeMap::new();
        set.items.iter().for_each(|i| *variants.entry(i.variant.as_deref().unwrap()).or_default() += 1);
        let (least, most) = (variants.values().min().unwrap(), variants.values().max().unwrap());
        assert!(most - least <= 1, "{wanted}: {variants:?}");
        for items in by_scenario(&set).values().filter(|_| wanted % 4 == 0) {
            for factor in FACTORS {
                assert_eq!(uses(items.iter().copied(), factor), [wanted / 2; 2], "{wanted}: {factor}");
            }
        }
    }
}
