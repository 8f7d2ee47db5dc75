//! Every named span covers exactly the text that its name promises.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;

use lorascope_games::{Action, Design, Game, Moral, Scenario, Wording};
use lorascope_prompts::Item;

/// The only text that all spans of this name cover.
fn one<'a>(item: &'a Item, name: &str) -> &'a str {
    let texts: BTreeSet<&str> =
        item.spans.iter().filter(|s| s.name == name).map(|s| item.span_text(s).unwrap()).collect();
    assert_eq!(texts.len(), 1, "{name} in {}: {texts:?}", item.id);
    texts.first().copied().unwrap()
}

fn all_wordings() -> Design {
    let mut game = Game::named("chicken").unwrap();
    game.name = "distinct".into();
    // Eight different numbers, so that no span can be right by accident.
    game.payoffs = [[(11.0, 12.0), (13.0, 14.5)], [(15.0, -16.0), (1.0, 18.0)]];
    Design {
        games: vec![game],
        wording: vec![Wording::Structured, Wording::Unstructured, Wording::Explicit],
        moral: vec![Moral::None, Moral::Deontological],
        ..Design::crossed()
    }
}

#[test]
fn moves_and_points_of_the_last_round() {
    let design = all_wordings();
    for item in &design.build().unwrap().items {
        let (a, b) = item.answers_for(None).unwrap();
        let scenario: Scenario = item.scenario.as_deref().unwrap().parse().unwrap();
        let history = scenario.history();
        let symbol = |action| if action == Action::Cooperate { a } else { b };
        let (own, opponent) = design.games[0].payoff(history.own, history.opponent);
        assert_eq!(one(item, "own_last_move"), symbol(history.own));
        assert_eq!(one(item, "opponent_last_move"), symbol(history.opponent));
        assert_eq!(one(item, "own_last_payoff"), own.to_string());
        assert_eq!(one(item, "opponent_last_payoff"), opponent.to_string());
        let round = one(item, "last_round");
        assert!(round.starts_with("In the last round you chose ") && round.ends_with('.'), "{round}");
        let tempted = item.spans.iter().any(|s| s.name == "temptation");
        assert_eq!(tempted, scenario == Scenario::CcTemptation);
        if tempted {
            assert_eq!(one(item, "temptation_move"), b);
            assert_eq!(one(item, "temptation_payoff"), "15");
            let sentence =
                format!("Had you chosen {b} in that round, you would have got 15 points instead of 11.");
            assert_eq!(one(item, "temptation"), sentence);
        }
    }
}

#[test]
fn mentions_instruction_and_preamble() {
    for item in &all_wordings().build().unwrap().items {
        let (a, b) = item.answers_for(None).unwrap();
        for which in ["first", "second"] {
            let (at_a, at_b) = (format!("option_a_{which}_mention"), format!("option_b_{which}_mention"));
            assert_eq!((one(item, &at_a), one(item, &at_b)), (a, b));
            let start = |name: &str| item.spans.iter().find(|s| s.name == name).unwrap().start;
            let order = if start(&at_a) < start(&at_b) { "cd" } else { "dc" };
            assert_eq!(item.rest[&format!("{which}_mention")], order, "{}", item.id);
        }
        let (x, y) = if item.rest["second_mention"] == "cd" { (a, b) } else { (b, a) };
        assert_eq!(
            one(item, "answer_format"),
            format!("Answer with {x} or {y} only and give no explanation.")
        );
        assert!(one(item, "instruction").ends_with(['.', '?']));
        match item.rest["moral"].as_str() {
            Some("none") => assert!(item.spans.iter().all(|s| s.name != "preamble")),
            _ => assert_eq!(one(item, "preamble"), Moral::Deontological.text().unwrap()),
        }
        if item.rest["wording"] == "explicit" {
            assert_eq!(one(item, "title"), "the game of Chicken");
            assert_eq!(one(item, "option_a_meaning"), format!("{a} stands for the choice to swerve"));
            assert_eq!(
                one(item, "option_b_meaning"),
                format!("{b} stands for the choice to drive straight on")
            );
        }
    }
}

#[test]
fn payoff_cells_and_headers() {
    let cells = [("CC", "11", "12"), ("CD", "13", "14.5"), ("DC", "15", "-16"), ("DD", "1", "18")];
    for item in &all_wordings().build().unwrap().items {
        let (a, b) = item.answers_for(None).unwrap();
        let wording = item.rest["wording"].as_str().unwrap();
        if wording == "explicit" {
            assert!(item.spans.iter().all(|s| !s.name.starts_with("payoff_")));
            assert!(!item.rest.contains_key("row_order") && !item.rest.contains_key("column_order"));
            continue;
        }
        for (cell, own, opponent) in cells {
            assert_eq!(one(item, &format!("payoff_{cell}_own")), own);
            assert_eq!(one(item, &format!("payoff_{cell}_opponent")), opponent);
        }
        let start = |name: &str| item.spans.iter().find(|s| s.name == name).unwrap().start;
        let order = |first: &str, second: &str| if start(first) < start(second) { "cd" } else { "dc" };
        assert_eq!(item.rest["row_order"], order("payoff_CC_own", "payoff_DC_own"), "{}", item.id);
        assert_eq!(item.rest["column_order"], order("payoff_CC_own", "payoff_CD_own"), "{}", item.id);
        if wording == "structured" {
            for name in ["row", "column"] {
                assert_eq!(one(item, &format!("{name}_a")), a);
                assert_eq!(one(item, &format!("{name}_b")), b);
            }
            let table = one(item, "payoff_table");
            assert!(table.starts_with("| You \\ the other player | ") && table.ends_with(" |"), "{table}");
            assert_eq!(table.lines().count(), 4);
        } else {
            let sentences = one(item, "payoff_sentences");
            assert!(sentences.starts_with("If you pick ") && sentences.ends_with('.'), "{sentences}");
            assert!(sentences.contains("1 point and your friend gets 18 points"), "{sentences}");
        }
    }
}
