//! The payoffs that a reader finds in the text are the payoffs of the game, in every order and under
//! every label assignment. The readers here know nothing of how the text was made.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use lorascope_games::{CATALOGUE, Design, Game, Scenario, Symbols, Wording};
use lorascope_prompts::{Content, Item};
use proptest::prelude::*;

/// Points (own, other's) by the two symbols (own, other's).
type Read = BTreeMap<(String, String), (f64, f64)>;

fn text(item: &Item) -> &str {
    match &item.content {
        Content::Text(text) => text,
        Content::Messages(_) => panic!("{} is a chat", item.id),
    }
}

fn read_table(text: &str) -> Read {
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with('|') && !line.starts_with("|--"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let (header, body) = rows.split_first().expect("a table");
    let mut read = Read::new();
    for row in body {
        for (symbol, cell) in header.iter().zip(row).skip(1) {
            let (own, other) = cell.split_once(", ").expect("two numbers");
            read.insert((row[0].into(), (*symbol).into()), (own.parse().unwrap(), other.parse().unwrap()));
        }
    }
    read
}

fn read_sentences(text: &str) -> Read {
    let number = |s: &str| s.split(' ').next().unwrap().parse().unwrap();
    let mut read = Read::new();
    for sentence in text.split("If you pick ").skip(1) {
        let (own, rest) = sentence.split_once(" and your friend picks ").expect("a move");
        let (other, rest) = rest.split_once(", you get ").expect("the other's move");
        let (points, rest) = rest.split_once(" and your friend gets ").expect("own points");
        read.insert((own.into(), other.into()), (number(points), number(rest)));
    }
    read
}

/// What a reader must find, given the item's answers.
fn expected(game: &Game, item: &Item) -> Read {
    let (a, b) = item.answers_for(None).unwrap();
    let mut read = Read::new();
    for (own, row) in [a, b].into_iter().zip(game.payoffs) {
        for (other, points) in [a, b].into_iter().zip(row) {
            read.insert((own.into(), other.into()), points);
        }
    }
    read
}

fn check(design: &Design) {
    for item in &design.build().unwrap().items {
        let game = design.games.iter().find(|g| item.rest["game"] == g.name.as_str()).unwrap();
        let read = match item.rest["wording"].as_str() {
            Some("structured") => read_table(text(item)),
            Some("unstructured") => read_sentences(text(item)),
            other => panic!("no reader for {other:?}"),
        };
        assert_eq!(read, expected(game, item), "{}\n{}", item.id, text(item));
    }
}

fn both_wordings(games: Vec<Game>, scenarios: Vec<Scenario>) -> Design {
    let wording = vec![Wording::Structured, Wording::Unstructured];
    Design { games, scenarios, wording, ..Design::crossed() }
}

#[test]
fn payoffs_of_every_known_game_are_read_back() {
    let mut design = both_wordings(CATALOGUE.iter().map(|e| e.game()).collect(), Scenario::ALL.to_vec());
    design.symbols.push(Symbols::new("B", "A").unwrap());
    assert_eq!(design.build().unwrap().items.len(), 6 * 5 * 2 * 2 * 32);
    check(&design);
}

#[test]
fn the_catalogue_is_that_of_the_methods_page() {
    let of = |name: &str| Game::named(name).unwrap().payoffs.concat();
    assert_eq!(of("ipd"), [(3., 3.), (0., 4.), (4., 0.), (1., 1.)]);
    assert_eq!(of("stag_hunt"), [(4., 4.), (0., 3.), (3., 0.), (1., 1.)]);
    assert_eq!(of("volunteer"), [(3., 3.), (1., 4.), (4., 1.), (0., 0.)]);
    assert_eq!(of("chicken"), [(2., 2.), (1., 4.), (4., 1.), (0., 0.)]);
    assert_eq!(of("bach_or_stravinsky"), [(3., 2.), (0., 0.), (0., 0.), (2., 3.)]);
    assert_eq!(of("defective_coordination"), [(1., 1.), (0., 0.), (0., 0.), (4., 4.)]);
}

#[test]
fn only_bach_or_stravinsky_looks_different_from_the_other_side() {
    for game in CATALOGUE.iter().map(|e| e.game()) {
        let turned = game.turned();
        assert_eq!(turned == game, game.name != "bach_or_stravinsky");
        assert_eq!(turned.turned().payoffs, game.payoffs);
        turned.check().unwrap();
    }
    let turned = Game::named("bach_or_stravinsky").unwrap().turned();
    assert_eq!(turned.name, "bach_or_stravinsky_column");
    assert_eq!(turned.payoffs.concat(), [(2., 3.), (0., 0.), (0., 0.), (3., 2.)]);
}

/// Payoffs with up to two decimals, some negative, some large.
fn payoff() -> impl Strategy<Value = f64> {
    prop_oneof![(-1000i32..1000).prop_map(f64::from), (-9_999i32..9_999).prop_map(|n| f64::from(n) / 100.0)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn payoffs_of_any_game_are_read_back(cells in prop::array::uniform8(payoff())) {
        let mut game = Game::named("ipd").unwrap();
        game.name = "any".into();
        game.payoffs = [
            [(cells[0], cells[1]), (cells[2], cells[3])],
            [(cells[4], cells[5]), (cells[6], cells[7])],
        ];
        check(&both_wordings(vec![game], vec![Scenario::CcTemptation, Scenario::DcExploited]));
    }
}
