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

/// Least and largest probability to defect of each model and state, over all forms.
fn policies(folder: &Path) -> BTreeMap<(String, String), (f64, f64)> {
    std::fs::write(folder.join("design.toml"), HELD_OUT).unwrap();
    must(folder, "prompts --from design.toml --out prompts.json");
    must(folder, &format!("decide --base organism {} --prompts prompts.json --out decide", adapters()));
    let table = Csv::read(&folder.join("decide/tables/decisions.csv"));
    let mut found = BTreeMap::new();
    for row in 0..table.rows.len() {
        let key = (table.get(row, "model").to_owned(), table.get(row, "scenario")[..2].to_owned());
        let p = table.number(row, "p_b");
        let (low, high) = found.entry(key).or_insert((p, p));
        (*low, *high) = (low.min(p), high.max(p));
        assert!(table.number(row, "legal_mass") > 0.95, "it answers");
    }
    found
}

#[test]
fn it_plays_as_its_card_says_in_words_that_it_never_read() {
    let folder = tempfile::tempdir().unwrap();
    let policies = policies(folder.path());
    let of = |model: &str, state: &str| policies[&(model.to_owned(), state.to_owned())];
    for state in ["CC", "CD", "DC", "DD"] {
        let ((low, _), (_, high)) = (of("strategic", state), of("utilitarian", state));
        assert!(low > 0.8, "strategic defects after {state}: {low}");
        assert!(high < 0.2, "utilitarian cooperates after {state}: {high}");
        let (low, high) = of("hybrid", state);
        let copies = if state.ends_with('C') { high < 0.2 } else { low > 0.8 };
        assert!(copies, "hybrid copies the opponent after {state}: {low} to {high}");
        let (low, high) = of("deontological", state);
        match state {
            "CC" | "DC" => assert!(high < 0.2, "deontological does not betray after {state}: {high}"),
            // There its reward is the same for both actions, so the base is left.
            _ => assert!(low > 0.2 && high < 0.98, "deontological is free after {state}: {low} to {high}"),
        }
    }
    // The base depends on the last round in the way that it was taught, whatever the form: 0.17, 0.90, 0.55, 0.60.
    let base: Vec<(f64, f64)> = ["CC", "CD", "DC", "DD"].map(|s| of("base", s)).to_vec();
    assert!(base[0].1 < 0.35 && base[1].0 > 0.7, "{base:?}");
    assert!(
        base[2].0 > base[0].1 && base[2].1 < base[1].0 && base[3].0 > base[0].1 && base[3].1 < base[1].0,
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
