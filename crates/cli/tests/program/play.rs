//! `lorascope play` on a tiny model: the files that are promised, what is refused, and that nothing but the inputs decides.

use crate::support::{Bench, snapshot, words};
use lorascope_analyses::Analysis;
use lorascope_play::Play;
use lorascope_record::Table;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Prompts that fit into the 128 tokens of the tiny model, which reads bytes.
const FILE: &str = "
rounds = 4
repetitions = 3
opponents = ['tit_for_tat', 'random', 'models']
rewards = ['utilitarian', { name = 'fair', own = 1, inequality = -1 }]

[prompts]
games = ['ipd', 'bach_or_stravinsky', { name = 'tax', title = 'Tax', payoffs = { CC = [2, 2], CD = [-1, 5], DC = [5, -1], DD = [0, 0] } }]
wording = { name = 'short', opponent = 'they', text = '{game_table} {own_last_move} {opponent_last_move}?' }
symbols = ['A/B', 'X/Y']
per_scenario = 'all'
";

fn line(rest: &str) -> Vec<String> {
    words(&format!("play --base ./base --adapter lora=./lora --adapter dora=./dora --from play.toml {rest}"))
}

fn bench() -> Option<Bench> {
    let bench = Bench::new()?;
    bench.text("play.toml", FILE);
    Some(bench)
}

/// Tables and figures of a run.
fn results(bench: &Bench, folder: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = snapshot(&bench.path(folder));
    files.retain(|path, _| path.starts_with("tables") || path.starts_with("figures"));
    assert!(!files.is_empty());
    files
}

#[test]
fn a_run_writes_the_files_that_are_promised() {
    let Some(bench) = bench() else { return };
    bench.must(&line("--out out"));
    for spec in Play.tables() {
        let parquet = bench.read(&format!("out/tables/{}.parquet", spec.name));
        let csv = bench.read(&format!("out/tables/{}.csv", spec.name));
        assert_eq!(Table::from_parquet(spec, &parquet).unwrap().to_csv().unwrap(), csv, "{}", spec.name);
    }
    for figure in ["cooperation", "policies", "actions", "regret", "regret_games", "robustness"] {
        for ending in ["svg", "png"] {
            assert!(bench.path(&format!("out/figures/play_{figure}.{ending}")).exists(), "{figure}");
        }
    }
    let rows = |name: &str| bench.table("out", name).rows.len();
    let (models, games, opponents, surfaces) = (3, 3, 2 + 3, 2 * 2 * 4);
    assert_eq!(rows("matches"), models * games * opponents * surfaces * 3);
    assert_eq!(rows("play"), models * games * opponents * 19);
    assert_eq!(rows("play_contrasts"), (models - 1) * games * opponents);
    assert_eq!(rows("regrets"), models * games * opponents * 2);
    // The one asymmetric game reads from the other side as it does under swapped labels.
    assert_eq!(rows("policies"), models * games * 4 * surfaces);
    assert_eq!(rows("robustness"), models * (games + 1) * 4 * (1 + 2 + 2));
    let matches = bench.table("out", "matches");
    assert!((0..matches.rows.len()).all(|row| matches.get(row, "own_moves").len() == 4));
    let again = bench.must(&line("--out out")).stdout;
    assert_eq!(again, "out is finished already; nothing to do\n");
}

#[test]
fn policies_are_the_decisions_of_decide() {
    let Some(bench) = bench() else { return };
    bench.must(&line("--out out"));
    bench.analyse("decide", &["lora", "dora"], "out/prompts.json", "", "decided");
    let decisions = bench.table("decided", "decisions");
    let policies = bench.table("out", "policies");
    for (ours, theirs) in [("p_defect", "p_b"), ("legal_mass", "legal_mass")] {
        let found = policies.numbers(&["model", "prompt_id"], ours);
        assert_eq!(found, decisions.numbers(&["model", "prompt_id"], theirs), "{ours}");
    }
}

/// A match that is played beside fewer others, with other threads and only the policies that it meets, is the same match.
#[test]
fn nothing_but_the_match_decides_about_it() {
    let Some(bench) = bench() else { return };
    bench.must(&line("--threads 1 --out all"));
    bench.must(&line("--threads 2 --out again"));
    assert_eq!(results(&bench, "all"), results(&bench, "again"));
    bench.must(&line("--policies met --player dora --game ipd --opponent model:lora --out few"));
    let keys = ["model", "game", "opponent", "surface", "repetition"];
    let all = bench.table("all", "matches");
    let few = bench.table("few", "matches");
    assert_eq!(few.rows.len(), 16 * 3);
    for row in 0..few.rows.len() {
        let key: Vec<(&str, &str)> = keys.iter().map(|k| (*k, few.get(row, k))).collect();
        assert_eq!(few.rows[row], all.rows[all.row(&key)]);
    }
    bench.must(&line("--seed 1 --out other"));
    assert_ne!(bench.read("all/tables/matches.csv"), bench.read("other/tables/matches.csv"));
    assert_eq!(bench.read("all/tables/policies.csv"), bench.read("other/tables/policies.csv"));
}

#[test]
fn a_run_that_is_cut_off_goes_on_to_the_same_results() {
    let Some(bench) = bench() else { return };
    bench.must(&line("--out whole"));
    let mut child = crate::support::command(bench.dir(), &line("--out out")).spawn().unwrap();
    let parts = || bench.path("out/.parts").read_dir().map_or(0, |parts| parts.flatten().count());
    while parts() == 0 {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be killed");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let said = bench.must(&line("--out out")).stdout;
    assert!(said.starts_with("going on with out ("), "{said}");
    assert_eq!(results(&bench, "out"), results(&bench, "whole"));
}

#[test]
fn what_cannot_be_played_is_refused_before_anything_is_written() {
    let Some(bench) = bench() else { return };
    let cases = [
        ("--opponent tit_for_tac", "unknown opponent `tit_for_tac`; did you mean `tit_for_tat`?"),
        ("--opponent model:lara", "no model is called `lara`; there are base, lora, dora"),
        ("--player lara", "no model is called `lara`"),
        ("--game poker", "unknown game `poker`"),
        ("--reward kindness", "unknown reward `kindness`"),
        ("--rounds 0", "`rounds` is 0; it must be from 1"),
        ("--repetitions 1000000", "more than the limit of 5000000"),
        ("--start CX", "unknown variant `CX`"),
        ("--actions lazy", "unknown variant `lazy`"),
        ("--set per_scenario=3", "a multiple of 4"),
        ("--set scenarios=CC_temptation", "`prompts.scenarios` is no choice here"),
        ("--set colour=red", "unknown key `colour`"),
        ("--from none.toml", "none.toml"),
    ];
    for (rest, expected) in cases {
        let given = if rest.starts_with("--from") {
            words(&format!("play --base ./base {rest} --out out"))
        } else {
            line(&format!("{rest} --out out"))
        };
        let said = bench.run(&given);
        assert!(!said.ok && said.stderr.contains(expected), "{rest}: {}", said.stderr);
        assert!(!bench.path("out").exists(), "{rest}");
    }
}

/// Rewards in the tables are those of the matches' own moves.
#[test]
fn regrets_follow_from_the_moves() {
    let Some(bench) = bench() else { return };
    bench.must(&line("--opponent tit_for_tat --out out"));
    let (matches, regrets) = (bench.table("out", "matches"), bench.table("out", "regrets"));
    let payoff = |game: &str, own: char, other: char| -> (f64, f64) {
        let at = usize::from(own == 'D') * 2 + usize::from(other == 'D');
        match game {
            "ipd" => [(3., 3.), (0., 4.), (4., 0.), (1., 1.)][at],
            "bach_or_stravinsky" => [(3., 2.), (0., 0.), (0., 0.), (2., 3.)][at],
            _ => [(2., 2.), (-1., 5.), (5., -1.), (0., 0.)][at],
        }
    };
    // The best sum and the best own points without inequality.
    for (game, best_sum, best_fair) in
        [("ipd", 6.0, 3.0), ("bach_or_stravinsky", 5.0, 2.0), ("tax", 4.0, 2.0)]
    {
        let wanted = [("model", "lora"), ("game", game)];
        let rounds: Vec<(f64, f64)> = matches
            .rows_where(&wanted)
            .into_iter()
            .flat_map(|row| {
                let moves = |column: &str| matches.get(row, column).chars().collect::<Vec<_>>();
                moves("own_moves").into_iter().zip(moves("opponent_moves")).collect::<Vec<_>>()
            })
            .map(|(own, other)| payoff(game, own, other))
            .collect();
        let mean = |of: &dyn Fn(f64, f64) -> f64| {
            rounds.iter().map(|(own, other)| of(*own, *other)).sum::<f64>() / rounds.len() as f64
        };
        let sum = mean(&|own, other| own + other);
        let fair = mean(&|own, other| own - (own - other).abs());
        for (framework, reward, best) in [("utilitarian", sum, best_sum), ("fair", fair, best_fair)] {
            let row = regrets.row(&[wanted[0], wanted[1], ("framework", framework)]);
            for (column, expected) in [("reward", reward), ("regret", best - reward)] {
                let found = regrets.number(row, column);
                assert!((found - expected).abs() < 1e-12, "{game} {framework} {column}: {found}, {expected}");
                assert!(regrets.number(row, &format!("{column}_lo")) <= found + 1e-12);
                assert!(regrets.number(row, &format!("{column}_hi")) >= found - 1e-12);
            }
        }
    }
    let cooperation = bench.table("out", "play");
    let row =
        cooperation.row(&[("model", "base"), ("game", "ipd"), ("metric", "cooperation"), ("given", "")]);
    let letters: String = matches
        .rows_where(&[("model", "base"), ("game", "ipd")])
        .into_iter()
        .map(|row| matches.get(row, "own_moves"))
        .collect();
    let share = letters.chars().filter(|c| *c == 'C').count() as f64 / letters.len() as f64;
    assert!((cooperation.number(row, "value") - share).abs() < 1e-12);
}
