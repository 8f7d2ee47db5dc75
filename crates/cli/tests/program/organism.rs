//! The embedded model: it plays what its card says, also in words that it never read, and a study needs nothing else.

use crate::support::{Csv, run_in, words};
use std::collections::BTreeMap;
use std::path::Path;

const ADAPTERS: [&str; 4] = ["strategic", "deontological", "utilitarian", "hybrid"];

/// Two wordings that neither the base nor the adapters were trained on (`examples/organism/src/wordings.rs`), both labellings.
const HELD_OUT: &str = r#"
games = "ipd"
scenarios = ["CC_continue", "CD_punished", "DC_exploited", "DD_trapped"]
labels = ["straight", "swapped"]
per_scenario = "all"

[[wording]]
name = "tournament"
opponent = "the opponent"
text = """You take part in a tournament. Each player chooses one of two actions, {symbols_first}.

{game_table}

{last_round}

{#instruction}Please choose your action for the next round.{/instruction} {format}

Your answer:"""

[[wording]]
name = "story"
opponent = "your friend"
text = """Every week you play a little game with {opponent}. {payoff_sentences} {last_round}

{#instruction}What do you choose today?{/instruction} {format}"""
"#;

/// The words that name all four adapters.
fn adapters() -> String {
    ADAPTERS.map(|a| format!("--adapter {a}=organism:{a}")).join(" ")
}

fn must(folder: &Path, line: &str) -> String {
    let outcome = run_in(folder, &words(line));
    assert!(outcome.ok, "{line}: {}", outcome.stderr);
    outcome.stdout
}

/// Probabilities to defect of each model, state and form.
fn policies(folder: &Path) -> BTreeMap<(String, String), Vec<f64>> {
    std::fs::write(folder.join("design.toml"), HELD_OUT).unwrap();
    must(folder, "prompts --from design.toml --out prompts.json");
    must(folder, &format!("decide --base organism {} --prompts prompts.json --out decide", adapters()));
    let table = Csv::read(&folder.join("decide/tables/decisions.csv"));
    let mut found: BTreeMap<(String, String), Vec<f64>> = BTreeMap::new();
    for row in 0..table.rows.len() {
        let key = (table.get(row, "model").to_owned(), table.get(row, "scenario")[..2].to_owned());
        found.entry(key).or_default().push(table.number(row, "p_b"));
        assert!(table.number(row, "legal_mass") > 0.95, "it answers");
    }
    found
}

#[test]
fn it_plays_as_its_card_says_in_words_that_it_never_read() {
    let folder = tempfile::tempdir().unwrap();
    let policies = policies(folder.path());
    let mean = |model: &str, state: &str| -> f64 {
        let all = &policies[&(model.to_owned(), state.to_owned())];
        assert_eq!(all.len(), 48, "two wordings, two labellings, and the orders that they show");
        all.iter().sum::<f64>() / all.len() as f64
    };
    // Share of forms on the right side of one half.
    let share = |model: &str, state: &str, defects: bool| -> f64 {
        let all = &policies[&(model.to_owned(), state.to_owned())];
        all.iter().filter(|p| (**p > 0.5) == defects).count() as f64 / all.len() as f64
    };
    for state in ["CC", "CD", "DC", "DD"] {
        let opponent_defected = state.ends_with('D');
        for (model, defects) in [("strategic", true), ("utilitarian", false), ("hybrid", opponent_defected)] {
            let (p, right) = (mean(model, state), share(model, state, defects));
            assert!(if defects { p > 0.75 } else { p < 0.2 }, "{model} after {state}: {p}");
            assert!(right > 0.85, "{model} after {state}: {right} of the forms");
        }
        let p = mean("deontological", state);
        match opponent_defected {
            false => assert!(p < 0.2 && share("deontological", state, false) > 0.85, "after {state}: {p}"),
            // There its reward is the same for both actions, so the base is left.
            true => assert!((p - mean("base", state)).abs() < 0.25, "free after {state}: {p}"),
        }
    }
    // The base depends on the last round in the way that it was taught: 0.17, 0.90, 0.55, 0.60.
    let base = ["CC", "CD", "DC", "DD"].map(|s| mean("base", s));
    assert!(base[0] < 0.3 && base[1] > 0.75, "{base:?}");
    assert!(
        (base[0] + 0.1..base[1] - 0.1).contains(&base[2])
            && (base[0] + 0.1..base[1] - 0.1).contains(&base[3]),
        "{base:?}"
    );
}

#[test]
fn its_names_are_understood_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let said = must(folder.path(), "info --base organism --adapter mine=organism:hybrid");
    assert!(said.contains("mine"), "{said}");
    let outcome = run_in(folder.path(), &words("info --base organism --adapter mine=organism:selfish"));
    let expected =
        "`organism:selfish` does not exist; the model organism has the adapters organism:strategic, ";
    assert!(!outcome.ok && outcome.stderr.contains(expected), "{}", outcome.stderr);
}

/// A folder that can't be written to is named, with what to do.
#[test]
fn a_cache_that_is_a_file_is_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("cache"), "a file").unwrap();
    let outcome = run_in(folder.path(), &words("info --base organism"));
    let said = &outcome.stderr;
    assert!(!outcome.ok && said.contains("unpacking the embedded model into"), "{said}");
    assert!(said.contains("LORASCOPE_CACHE names another folder"), "{said}");
}
