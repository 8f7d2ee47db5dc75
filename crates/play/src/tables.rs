//! The tables of play: their columns, and their rows.

use crate::contrasts::Contrast;
use crate::engine::Played;
use crate::metrics::{Clusters, Measured, payoff};
use crate::policies::{Policy, level};
use crate::regret::Judgement;
use crate::tournament::Tournament;
use lorascope_analyses::{Interval, Result};
use lorascope_games::{Action, Reward};
use lorascope_prompts::Item;
use lorascope_record::ColumnKind::{Float, FloatOrNull, Int, Text};
use lorascope_record::{Cell, ColumnKind, ColumnSpec, Table, TableSpec};

const fn column(name: &'static str, kind: ColumnKind, unit: &'static str, doc: &'static str) -> ColumnSpec {
    ColumnSpec { name, kind, unit, doc }
}

const MODEL: ColumnSpec =
    column("model", Text, "", "The model that plays the rows: `base`, or the adapter's name.");
const GAME: ColumnSpec = column("game", Text, "", "The game's name.");
const OPPONENT: ColumnSpec = column("opponent", Text, "", "The strategy, or `model:` and the model's name.");
const N_CLUSTERS: ColumnSpec = column(
    "n_clusters",
    Int,
    "",
    "Clusters that intervals resample: surfaces, or repetitions where there is one surface only.",
);
const LO: ColumnSpec =
    column("lo", FloatOrNull, "", "Lower end of the 95% bootstrap interval over clusters.");
const HI: ColumnSpec = column("hi", FloatOrNull, "", "Upper end.");

/// One row a match.
pub(crate) static MATCHES: TableSpec = TableSpec {
    name: "matches",
    doc: "One match, with every move. `C` cooperates, `D` defects, `x` is an illegal answer; a letter a round.",
    columns: &[
        MODEL,
        GAME,
        OPPONENT,
        column("surface", Text, "", "Wording, symbols, labels and orders of its prompts."),
        column("repetition", Int, "", "Which of the matches of this kind, from 0."),
        column("start", Text, "", "The round before the first: own move, opponent's move."),
        column("own_moves", Text, "", "The model's moves."),
        column("opponent_moves", Text, "", "The opponent's moves."),
        column(
            "own_payoff",
            FloatOrNull,
            "point",
            "Mean own points of a round; rounds with an illegal answer have none.",
        ),
        column("opponent_payoff", FloatOrNull, "point", "Mean points of the opponent."),
    ],
};

/// One row a metric.
pub(crate) static PLAY: TableSpec = TableSpec {
    name: "play",
    doc: "One metric of one model in one game against one opponent.",
    columns: &[
        MODEL,
        GAME,
        OPPONENT,
        column(
            "metric",
            Text,
            "",
            "`cooperation`: share of legal answers that cooperate, after the last moves in `given`. `reciprocity`: \
             cooperation after a cooperating opponent minus that after a defecting one. `action`: share of all rounds with \
             the action in `given`. `illegal_mass`: mean probability of an answer that is neither action. Payoffs: mean \
             points of a round. `joint_efficiency`: the points of both, from 0 (the least that the game has) to 1 (the most).",
        ),
        column(
            "given",
            Text,
            "",
            "For `cooperation`: own and opponent's last move (`*` either); for `action`: the action, after the \
             opponent's last move (`D|C` defects on a cooperator). Empty: all rounds.",
        ),
        column("unit", Text, "", "Unit of the value; empty for shares."),
        N_CLUSTERS,
        column("n_rounds", Int, "", "Rounds that count."),
        column("value", FloatOrNull, "", "The metric; null where no round counts."),
        LO,
        HI,
    ],
};

/// One row a framework.
pub(crate) static REGRETS: TableSpec = TableSpec {
    name: "regrets",
    doc: "How one moral framework judges one model in one game against one opponent. Regret is the most that any outcome \
          of a round would have given, after the opponent's last move, minus what it gave.",
    columns: &[
        MODEL,
        GAME,
        OPPONENT,
        column("framework", Text, "", "The reward by which rounds are judged."),
        N_CLUSTERS,
        column("n_rounds", Int, "", "Rounds that were judged."),
        column(
            "reward",
            FloatOrNull,
            "point",
            "Mean reward of a round; an illegal answer gives the framework's penalty.",
        ),
        column("reward_lo", FloatOrNull, "point", "Lower end of its 95% interval."),
        column("reward_hi", FloatOrNull, "point", "Upper end."),
        column("regret", FloatOrNull, "point", "Mean regret."),
        column("regret_lo", FloatOrNull, "point", "Lower end of its 95% interval."),
        column("regret_hi", FloatOrNull, "point", "Upper end."),
        column(
            "avoidable",
            FloatOrNull,
            "point",
            "Mean of what the better action would have given against the opponent's actual move, minus what the round gave.",
        ),
        column("avoidable_lo", FloatOrNull, "point", "Lower end of its 95% interval."),
        column("avoidable_hi", FloatOrNull, "point", "Upper end."),
        column(
            "regret_share",
            FloatOrNull,
            "",
            "Mean regret as a share of that of an illegal answer: comparable between games.",
        ),
        column("regret_share_lo", FloatOrNull, "", "Lower end of its 95% interval."),
        column("regret_share_hi", FloatOrNull, "", "Upper end."),
    ],
};

/// One row a question.
pub(crate) static POLICIES: TableSpec = TableSpec {
    name: "policies",
    doc: "What one model answers to one prompt: its policy in one state of one game, told in one way.",
    columns: &[
        column("model", Text, "", "`base`, or the adapter's name."),
        GAME,
        column("state", Text, "", "Own and opponent's last move: `CC`, `CD`, `DC`, `DD`."),
        column("surface", Text, "", "Wording, symbols, labels and orders."),
        column("prompt_id", Text, "", "The prompt, as in `prompts.json`."),
        column("wording", Text, "", "How the situation is told."),
        column("moral", Text, "", "The preamble."),
        column("symbols", Text, "", "The pair of symbols."),
        column("labels", Text, "", "`straight`: the pair's first symbol means cooperate."),
        column("p_cooperate", Float, "", "Probability to cooperate among the two actions."),
        column("p_defect", Float, "", "Probability to defect among the two actions."),
        column("legal_mass", Float, "", "Probability of giving either action at all."),
    ],
};

/// One row a mean policy.
pub(crate) static ROBUSTNESS: TableSpec = TableSpec {
    name: "robustness",
    doc: "One model's mean policy in one state of one game: over all surfaces, and by each level of each factor of the surface \
          that should not matter.",
    columns: &[
        column("model", Text, "", "`base`, or the adapter's name."),
        GAME,
        column("state", Text, "", "Own and opponent's last move."),
        column(
            "factor",
            Text,
            "",
            "`wording`, `moral`, `symbols`, `labels`; `all` for all surfaces together.",
        ),
        column("level", Text, "", "The factor's level."),
        column("n_prompts", Int, "", "Prompts."),
        column("p_cooperate", Float, "", "Mean probability to cooperate among the two actions."),
        column("p_cooperate_lo", Float, "", "Lower end of the 95% bootstrap interval over surfaces."),
        column("p_cooperate_hi", Float, "", "Upper end."),
        column("illegal_mass", Float, "", "Mean probability of an answer that is neither action."),
    ],
};

/// One row a contrast.
pub(crate) static CONTRASTS: TableSpec = TableSpec {
    name: "play_contrasts",
    doc: "How much more one model cooperates than the reference, in one game against one opponent: pairs of matches with the \
          same opponent, surface and luck. Empty where one model plays.",
    columns: &[
        MODEL,
        column(
            "reference",
            Text,
            "",
            "The model that it is compared with: `base` where it plays, else the first player.",
        ),
        GAME,
        OPPONENT,
        column("n_pairs", Int, "", "Pairs of matches."),
        N_CLUSTERS,
        column("family", Int, "", "Contrasts that the correction of p-values counts."),
        column(
            "difference",
            Float,
            "",
            "Share of rounds that cooperate, model minus reference; an illegal answer does not.",
        ),
        column("lo", Float, "", "Lower end of the 95% bootstrap interval over clusters."),
        column("hi", Float, "", "Upper end."),
        column(
            "effect",
            FloatOrNull,
            "",
            "Mean over standard deviation of the differences; null where they do not vary.",
        ),
        column("p", Float, "", "Two-sided p-value of the sign-flip test over clusters."),
        column("q", Float, "", "The same, corrected by Benjamini and Hochberg."),
    ],
};

/// All of them, in the order in which they are written.
pub(crate) static TABLES: &[&TableSpec] = &[&MATCHES, &PLAY, &REGRETS, &CONTRASTS, &POLICIES, &ROBUSTNESS];

/// What identifies a cell: model, game and opponent.
fn cell(t: &Tournament, one: &Played) -> [Cell; 3] {
    [
        t.models[one.which.model].as_str().into(),
        t.games[one.which.game].name.as_str().into(),
        t.opponents[one.which.opponent].name(&t.models).as_str().into(),
    ]
}

fn interval(value: Option<Interval>) -> [Cell; 3] {
    let number = |of: fn(&Interval) -> f64| value.as_ref().map_or(Cell::Null, |v| of(v).into());
    [number(|v| v.mean), number(|v| v.lo), number(|v| v.hi)]
}

fn letter(action: Option<Action>) -> char {
    action.map_or('x', Action::letter)
}

/// The row of a match.
pub(crate) fn match_row(t: &Tournament, one: &Played) -> Vec<Cell> {
    let game = &t.games[one.which.game];
    let own: String = one.rounds.iter().map(|round| letter(round.own)).collect();
    let opponent: String = one.rounds.iter().map(|round| letter(round.opponent)).collect();
    let paid: Vec<(f64, f64)> = one.rounds.iter().filter_map(|round| payoff(round, game)).collect();
    let mean = |of: fn(&(f64, f64)) -> f64| match paid.len() {
        0 => Cell::Null,
        n => (paid.iter().map(of).sum::<f64>() / n as f64).into(),
    };
    let mut row = cell(t, one).to_vec();
    row.extend([
        t.board.surfaces[one.which.surface].as_str().into(),
        one.which.repetition.into(),
        one.start.name().into(),
        own.as_str().into(),
        opponent.as_str().into(),
        mean(|p| p.0),
        mean(|p| p.1),
    ]);
    row
}

/// The row of a metric of the cell that `one` is of.
pub(crate) fn play_row(t: &Tournament, clusters: &Clusters, one: &Played, m: &Measured) -> Vec<Cell> {
    let mut row = cell(t, one).to_vec();
    row.extend([m.name.into(), m.given.into(), m.unit.into(), clusters.count().into(), m.rounds.into()]);
    row.extend(interval(m.value));
    row
}

/// The row of a framework's judgement of the cell that `one` is of.
pub(crate) fn regret_row(
    t: &Tournament,
    clusters: &Clusters,
    one: &Played,
    reward: &Reward,
    j: &Judgement,
) -> Vec<Cell> {
    let mut row = cell(t, one).to_vec();
    row.extend([reward.name.as_str().into(), clusters.count().into(), j.rounds.into()]);
    row.extend([j.reward, j.regret, j.avoidable, j.share].into_iter().flat_map(interval));
    row
}

/// The rows of contrasts.
pub(crate) fn contrast_rows(t: &Tournament, clusters: &Clusters, found: &[Contrast]) -> Result<Table> {
    let mut table = Table::new(&CONTRASTS);
    for c in found {
        table.push(&[
            t.models[c.model].as_str().into(),
            t.models[c.reference].as_str().into(),
            t.games[c.game].name.as_str().into(),
            t.opponents[c.opponent].name(&t.models).into(),
            c.pairs.into(),
            clusters.count().into(),
            found.len().into(),
            c.cooperation.mean.mean.into(),
            c.cooperation.mean.lo.into(),
            c.cooperation.mean.hi.into(),
            c.cooperation.effect.into(),
            c.cooperation.p.into(),
            c.q.into(),
        ])?;
    }
    Ok(table)
}

/// The row of an answer.
pub(crate) fn policy_row(model: &str, item: &Item, p_defect: f64, legal: f64) -> Vec<Cell> {
    let key = |key: &str| item.rest.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
    let state = [key("own_last_move"), key("opponent_last_move")].concat();
    let surface = item.variant.as_deref().unwrap_or_default();
    let texts = [model, key("game"), &state, surface, &item.id];
    let mut row: Vec<Cell> = texts.into_iter().map(Into::into).collect();
    row.extend(crate::policies::FACTORS.map(|factor| level(item, factor).as_str().into()));
    row.extend([(1.0 - p_defect).into(), p_defect.into(), legal.into()]);
    row
}

/// The rows of mean policies.
pub(crate) fn robustness(t: &Tournament, policies: &[Policy]) -> Result<Table> {
    let mut table = Table::new(&ROBUSTNESS);
    for p in policies {
        table.push(&[
            t.models[p.model].as_str().into(),
            t.games[p.game].name.as_str().into(),
            p.state.name().into(),
            p.factor.into(),
            p.level.as_str().into(),
            p.prompts.into(),
            p.p_cooperate.mean.into(),
            p.p_cooperate.lo.into(),
            p.p_cooperate.hi.into(),
            p.illegal_mass.into(),
        ])?;
    }
    Ok(table)
}
