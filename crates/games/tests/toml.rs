//! Designs, games and wordings from TOML and from flags, and what is said of broken ones.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use lorascope_games::{Design, Game, Scenario, Wording};
use lorascope_prompts::Content;
use serde::Deserialize;

const STUDY: &str = r#"
[prompts]
games = ["ipd", { name = "tax", title = "the Tax Game", cooperate_as = "pay", defect_as = "evade", payoffs = { CC = [2.5, 2], CD = [-1, 5], DC = [5, -1], DD = [0, 0] } }]
scenarios = ["CD_punished", "DC_exploited"]
wording = ["structured", { name = "letter", opponent = "Kim", text = "Dear you, {symbols_first}?{{}}\n{game_table}\n{last_round}\n{#plea}Please {format}{/plea}" }]
moral = ["none", { name = "kant", text = "Do your duty." }]
symbols = [["action3", "action4"], ["X", "Y"]]
labels = "straight"
row_order = ["cd"]
column_order = "cd"
per_scenario = "all"
"#;

#[derive(Deserialize)]
struct Study {
    prompts: Design,
}

#[test]
fn a_table_of_a_study_file() {
    let study: Study = toml::from_str(STUDY).unwrap();
    let design = study.prompts;
    let set = design.build().unwrap();
    assert_eq!(set.items.len(), 2 * 2 * 2 * 2 * 2 * 4);
    assert_eq!(Design::from_table(&design.to_table()).unwrap(), design);
    let written = toml::to_string(&design).unwrap();
    assert_eq!(Design::from_toml(&written).unwrap(), design);

    let item =
        set.items.iter().find(|i| i.id == "tax-CD_punished-letter-kant-XY-straight-m_cd_dc-t_cd_cd").unwrap();
    let expected = "Do your duty.\n\nDear you, X or Y?{}\n| You \\ Kim | X | Y |\n|---|---|---|\n| X | 2.5, 2 | -1, 5 |\n\
        | Y | 5, -1 | 0, 0 |\nIn the last round you chose X and Kim chose Y, so you got -1 point and Kim got 5 points.\n\
        Please Answer with Y or X only and give no explanation.";
    assert_eq!(item.content, Content::Text(expected.into()));
    let plea = item.spans_named("plea").next().unwrap();
    assert_eq!(item.span_text(plea), Some("Please Answer with Y or X only and give no explanation."));
}

#[test]
fn flags_fill_the_same_design() {
    let mut design = Design::default();
    design.set("scenarios", "CD_punished, DD_trapped").unwrap();
    design.set("symbols", "action1/action2,A/B").unwrap();
    design.set("per_scenario", "8").unwrap();
    design.set("games", "chicken").unwrap();
    let table = "games = 'chicken'\nscenarios = ['CD_punished', 'DD_trapped']\nper_scenario = 8\nsymbols = [['action1', 'action2'], ['A', 'B']]";
    assert_eq!(Design::from_toml(table).unwrap(), design);
    assert_eq!(Design::from_toml("symbols = ['a/b', 'c/d']").unwrap().symbols.len(), 2);
    assert_eq!(Design::from_toml("symbols = ['a', 'b']").unwrap().symbols.len(), 1);
    assert_eq!(Design::from_toml("").unwrap(), Design::default());
    assert_eq!(Design::default().scenarios, Scenario::ALL);
}

const PAYOFFS: &str = "payoffs = { CC = [3, 3], CD = [0, 4], DC = [4, 0], DD = [1, 1] }";

#[test]
fn games_of_the_users_own() {
    let game = Game::from_toml(&format!("name = 'mine'\n{PAYOFFS}")).unwrap();
    assert_eq!(game.payoffs, Game::named("ipd").unwrap().payoffs);
    assert_eq!((game.title.as_str(), game.cooperate_as.as_str()), ("the game called mine", "cooperate"));
    let broken = [
        ("name = ", "not valid TOML"),
        (PAYOFFS, "key `name`: is missing"),
        ("name = 'mine'", "key `payoffs`: expected a table such as"),
        ("name = 'mine'\npayoff = 3", "unknown key `payoff` in a game; did you mean `payoffs`?"),
        ("name = 'mine'\npayoffs = { CC = [3, 3] }", "key `payoffs.CD`: expected two numbers"),
        ("name = 'mine'\npayoffs = { CC = [3, 3], CX = 1 }", "unknown key `CX` in `payoffs`"),
        (
            "name = 'mine'\npayoffs = { CC = [nan, 3], CD = [0, 4], DC = [4, 0], DD = [1, 1] }",
            "payoff `NaN` in CC must be a number",
        ),
        (
            "name = 'mine'\npayoffs = { CC = [3, 3], CD = [0, inf], DC = [4, 0], DD = [1, 1] }",
            "payoff `inf` in CD",
        ),
        (
            "name = 'mine'\npayoffs = { CC = [3, 3, 3], CD = [0, 4], DC = [4, 0], DD = [1, 1] }",
            "key `payoffs.CC`",
        ),
    ];
    for (text, expected) in broken {
        let message = Game::from_toml(text).expect_err(text).to_string();
        assert!(message.contains(expected), "{text}:\n  said     {message}\n  expected {expected}");
    }
    for (name, expected) in
        [("my-game", "letters, digits and `_`"), ("chicken", "belongs to a game of the catalogue")]
    {
        let message = Game::from_toml(&format!("name = '{name}'\n{PAYOFFS}")).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn broken_designs_get_their_message() {
    let broken = [
        ("game = 'ipd'", "unknown key `game` in the design of prompts; did you mean `games`?"),
        ("games = 'idp'", "unknown game `idp`"),
        ("games = 'stag_hnt'", "unknown game `stag_hnt`; did you mean `stag_hunt`?"),
        ("games = 3", "key `games`: a game is a name or a table; found: integer"),
        ("games = []", "key `games` has no level; name at least one"),
        ("games = ['ipd', 'ipd']", "key `games` names `ipd` twice"),
        ("scenarios = 'CC_continued'", "did you mean `CC_continue`?"),
        ("scenarios = [1]", "key `scenarios`: expected names; found: integer"),
        ("wording = 'structure'", "unknown wording `structure`; did you mean `structured`?"),
        ("wording = { name = 'structured', text = 'x' }", "a name of its own is needed"),
        (
            "wording = { name = 'x', text = '{last_rond}' }",
            "unknown placeholder `{last_rond}`; did you mean `last_round`?",
        ),
        ("wording = { name = 'x', text = 'a } b' }", "belongs to no placeholder"),
        ("wording = { name = 'x', text = 'x', opponent = '' }", "`opponent` must be words"),
        ("wording = { name = 'x' }", "key `text`: is missing"),
        ("moral = 'kantian'", "unknown moral preamble `kantian`"),
        ("moral = { name = 'x', text = ' ' }", "its text is empty"),
        ("labels = 'swaped'", "did you mean `swapped`?"),
        ("first_mention = 'ab'", "unknown order `ab`; known are `cd`, `dc`"),
        ("symbols = [['a', 'a']]", "one is the beginning of the other"),
        ("symbols = [['action1', 'action10']]", "one is the beginning of the other"),
        ("symbols = [['a', '']]", "a symbol is not empty"),
        ("symbols = [['a|', 'b']]", "which would break the table"),
        ("symbols = [['a']]", "expected pairs of two strings"),
        ("symbols = 'ab'", "`ab` is not a pair of symbols; write `action1/action2`"),
        ("symbols = [['the other player', 'me']]", "what a wording calls the opponent"),
        ("per_scenario = 0", "key `per_scenario`"),
        ("per_scenario = -1", "is not a whole number of 1 or more"),
        ("per_scenario = 'some'", "nor \"all\""),
    ];
    for (text, expected) in broken {
        let message = Design::from_toml(text).expect_err(text).to_string();
        assert!(message.contains(expected), "{text}:\n  said     {message}\n  expected {expected}");
    }
}

#[test]
fn designs_that_cannot_be_built() {
    let build = |text: &str| Design::from_toml(text).unwrap().build().unwrap_err().to_string();
    let message = build("per_scenario = 33");
    assert!(
        message.contains("`per_scenario` is 33, but the levels of this design give only 32"),
        "{message}"
    );

    let message = build("wording = { name = 'mute', text = '{symbols_first} {game_table} {format}' }");
    assert!(message.contains("have the same prompt") && message.contains("{last_round}"), "{message}");

    let symbols = (0..200).map(|n| format!("x{n:03}/y{n:03}").parse().unwrap()).collect();
    let mut design = Design { symbols, ..Design::crossed() };
    let message = design.build().unwrap_err().to_string();
    assert!(message.contains("32000 prompts, more than the limit of 20000"), "{message}");
    design.per_scenario = Some(4);
    let message = design.build().unwrap_err().to_string();
    assert!(message.contains("3200 surface forms"), "{message}");

    let mut design = Design::default();
    assert!(design.set("colour", "red").is_err());
    design.labels.clear();
    assert!(design.build().unwrap_err().to_string().contains("key `labels` has no level"));
}

#[test]
fn an_own_wording_with_single_placeholders() {
    let text = "{title}: {cooperate}/{defect}; {own_last_move} against {opponent} {opponent_last_move}: \
        {own_last_points}, {opponent_last_points}.{temptation} {symbols_second}?";
    let design = Design { wording: vec![Wording::own("bare", text).unwrap()], ..Design::crossed() };
    let set = design.build().unwrap();
    assert_eq!(set.items.len(), 5 * 2 * 2);
    let item = set.items.iter().find(|i| i.id == "ipd-CC_temptation-bare-action12-swapped-m_x_dc").unwrap();
    let expected = "the Prisoner's Dilemma: action2/action1; action2 against the other player action2: 3 points, \
        3 points. Had you chosen action1 in that round, you would have got 4 points instead of 3. action1 or action2?";
    assert_eq!(item.content, Content::Text(expected.into()));
}
