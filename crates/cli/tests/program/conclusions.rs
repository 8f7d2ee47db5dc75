//! The answers that a study ends with: every claim leads to a table, rows and a figure of the run, with the number that stands there.

use crate::support::{Bench, Csv, copy_files, one_token_prompts, words};
use std::collections::BTreeMap;

/// Parts of `model=lora, component=mlp_out:3`.
fn keys(rows: &str) -> Vec<(&str, &str)> {
    rows.split(", ").filter_map(|part| part.split_once('=')).collect()
}

fn claims(bench: &Bench, out: &str) -> BTreeMap<String, Vec<usize>> {
    let table = bench.table(out, "conclusions");
    let mut found: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for row in 0..table.rows.len() {
        found.entry(table.get(row, "claim").to_owned()).or_default().push(row);
    }
    found
}

/// A study with these analyses of three adapters, the third of which is a copy of the second.
fn study(bench: &Bench, analyses: &str, settings: &str) -> Csv {
    bench.json("one.json", &one_token_prompts(12));
    copy_files(&bench.path("dora"), &bench.path("again"));
    let adapters: String = ["lora", "dora", "again"]
        .iter()
        .map(|name| format!("[[adapter]]\nname = '{name}'\npath = './{name}'\n"))
        .collect();
    let text = format!(
        "base = './base'\nprompts = 'one.json'\nanalyses = [{analyses}]\ncontrols = []\n{adapters}{settings}"
    );
    bench.text("study.toml", &text);
    bench.must(&words("study study.toml --out out"));
    bench.table("out", "conclusions")
}

#[test]
fn every_claim_leads_to_its_numbers() {
    let Some(bench) = Bench::new() else { return };
    let analyses = "'decide', 'validate', 'weights', 'lens', 'dla', 'attention', 'suppression', 'circuit', 'conclusions'";
    let settings =
        "[settings.attention]\npairs = true\nrepeat = 20\nsequences = 2\n[settings.circuit]\nsamples = 0\n";
    let table = study(&bench, analyses, settings);
    let report = String::from_utf8(bench.read("out/report.html")).unwrap();
    let (answers, decisions) =
        (report.find("id=\"conclusions\"").unwrap(), report.find("id=\"decide\"").unwrap());
    assert!(answers < decisions, "the answers come first");
    for row in 0..table.rows.len() {
        let (source, figure) = (table.get(row, "source_table"), table.get(row, "figure"));
        assert!(!table.get(row, "statement").is_empty());
        if table.get(row, "verdict") == "not asked" {
            continue;
        }
        assert!(figure.is_empty() || bench.path(&format!("out/figures/{figure}.svg")).is_file(), "{figure}");
        assert!(figure.is_empty() || report.contains(&format!("id=\"{figure}\"")), "{figure} is on the page");
        let source = bench.table("out", source);
        assert!(!source.rows.is_empty());
        // Where the rows are a single one that is named by keys, its number stands there.
        let column = match table.get(row, "claim") {
            "one_component_restores" => "restored",
            "exchanged_circuit_serves" => "less",
            "circuits_overlap_beyond_chance" => "jaccard",
            _ => continue,
        };
        let at = source.row(&keys(table.get(row, "source_rows")));
        assert_eq!(table.number(row, "value"), source.number(at, column), "{:?}", table.rows[row]);
    }
    // The page has the rows themselves.
    let page: lorascope_report::Page = serde_json::from_slice(&bench.read("out/report.json")).unwrap();
    assert_eq!(page.verdicts.len(), table.rows.len());
    for verdict in page.verdicts.iter().filter(|v| v.table.is_some()) {
        let excerpt = verdict.excerpt.as_ref().unwrap_or_else(|| panic!("{verdict:?}"));
        assert!(excerpt.n_rows > 0 && !excerpt.rows.is_empty(), "{verdict:?}");
        let source = bench.table("out", verdict.table.as_deref().unwrap());
        assert_eq!(excerpt.columns, source.header(), "{verdict:?}");
        assert!(excerpt.n_rows <= source.rows.len());
    }
    let claims = claims(&bench, "out");
    let verdicts =
        |claim: &str| -> Vec<&str> { claims[claim].iter().map(|&row| table.get(row, "verdict")).collect() };
    // The second and third adapter are the same one.
    assert_eq!(verdicts("decide_differently"), ["no"]);
    assert_eq!(verdicts("exchanged_circuit_serves"), ["yes", "yes"]);
    assert_eq!(verdicts("circuits_overlap_beyond_chance"), ["yes"]);
    assert_eq!(verdicts("attention_is_equivalent"), ["yes"]);
    assert_eq!(verdicts("attributions_add_up"), ["yes"]);
    assert_eq!(verdicts("lens_ends_at_the_decision"), ["yes"]);
    assert_eq!(verdicts("interactions_differ"), ["not asked"]);
    assert_eq!(verdicts("few_blocks_are_enough"), ["not asked"]);
    assert_eq!(verdicts("moves_more_than_its_control").len(), 1);
    assert_eq!(verdicts("heads_suppressed").len(), 2, "both others against the first");
    let same = table.get(claims["weight_changes_are_alike"][0], "value").parse::<f64>().unwrap();
    assert!((same - 1.0).abs() < 1e-6);
}

#[test]
fn what_was_not_asked_is_said_to_be() {
    let Some(bench) = Bench::new() else { return };
    let table = study(&bench, "'decide', 'conclusions'", "");
    let asked: Vec<usize> =
        (0..table.rows.len()).filter(|&row| table.get(row, "verdict") != "not asked").collect();
    assert_eq!(asked.len(), 1, "decisions alone tell whether two models decide alike");
    assert_eq!(table.get(asked[0], "claim"), "decide_differently");
}

#[test]
fn it_has_no_command_and_refuses_a_pair_of_one() {
    let Some(bench) = Bench::new() else { return };
    let alone = bench.run(&words("conclusions --base ./base --prompts prompts.json --out out"));
    assert!(!alone.ok && alone.stderr.contains("unrecognized subcommand"), "{}", alone.stderr);
    bench.text(
        "study.toml",
        "base = './base'\nanalyses = ['decide', 'conclusions']\nprompts = 'prompts.json'\n[[adapter]]\nname = 'lora'\n\
         path = './lora'\n[settings.conclusions]\npair = ['lora', 'lora']\n",
    );
    let said = bench.run(&words("study study.toml --out out"));
    assert!(!said.ok && said.stderr.contains("two different models"), "{}", said.stderr);
}
